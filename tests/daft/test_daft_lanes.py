"""Whether files of older schemas and of other formats read as the table shows them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daft import col

from deltacat_sources.daft import read_deltacat
from io_core.formats.parquet import entry_of
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    import daft

SCHEMA = pa.schema([("id", pa.int32()), ("name", pa.string())])


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    found.catalog.create_table(namespace="ns", table="t", schema=SCHEMA, auto_create_namespace=True)
    add(found, {"id": [1, 2], "name": ["a", "b"]})
    return found


def add(client: Client, columns: dict[str, list[object]]) -> None:
    client.catalog.write(pa.table(columns), namespace="ns", table="t", mode="append")


def rows(client: Client) -> list[dict[str, object]]:
    return list(read_deltacat("ns.t", planner=client).sort("id").to_pylist())


def test_older_files_show_new_columns_names_and_types(client: Client) -> None:
    client.catalog.alter_table(
        namespace="ns",
        table="t",
        schema_updates={
            "operations": [
                {"op": "update_type", "field_locator": "id", "new_type": "int64"},
                {"op": "rename", "field_locator": "name", "new_name": "title"},
            ]
        },
    )
    add(client, {"id": [3, 2**40], "title": ["c", "d"]})
    expected = [(1, "a"), (2, "b"), (3, "c"), (2**40, "d")]
    assert [(row["id"], row["title"]) for row in rows(client)] == expected
    frame = read_deltacat("ns.t", planner=client)
    assert frame.where(col("title") == "a").to_pydict()["id"] == [1]
    assert sorted(frame.where(col("id") > 1).to_pydict()["title"]) == ["b", "c", "d"]
    assert frame.select("title").count_rows() == 4


@pytest.mark.parametrize("keys", [[], ["id"]], ids=["plain", "keyed"])
@pytest.mark.parametrize(
    ("keep", "wanted"),
    [
        (col("s") == "b", [4]),
        (col("s") != "b", [5]),
        (~(col("s") == "b"), [5]),
        (col("s").is_null(), [1, 2, 3]),
        (col("s").not_null(), [4, 5]),
        ((col("s") == "b") | (col("id") == 1), [1, 4]),
        (col("s").startswith("b"), [4]),
    ],
    ids=str,
)
def test_filters_on_a_column_that_older_files_lack_keep_no_row_of_them(
    tmp_path: Path, keys: list[str], keep: daft.Expression, wanted: list[int]
) -> None:
    client = Client(tmp_path / "catalog")
    schema = pa.schema([("id", pa.int64())])
    client.catalog.create_table(
        namespace="ns", table="t", schema=schema, merge_keys=keys, auto_create_namespace=True
    )
    for columns in ({"id": [1, 2, 3]}, {"id": [4, 5], "s": ["b", "c"]}):
        client.catalog.write(pa.table(columns), namespace="ns", table="t", mode="auto")
    frame = read_deltacat("ns.t", planner=client).where(keep)
    assert frame.count_rows() == len(wanted)
    assert sorted(frame.to_pydict()["id"]) == wanted
    assert sorted(frame.select("id").to_pydict()["id"]) == wanted
    texts = {4: "b", 5: "c"}
    found = frame.select("s").to_pydict()["s"]
    assert sorted(found, key=str) == sorted((texts.get(i) for i in wanted), key=str)


@pytest.mark.parametrize("kind", ["feather", "orc", "avro", "lance"])
def test_files_of_other_formats_read_beside_parquet(client: Client, kind: str) -> None:
    more = pa.table({"id": [3, 4], "name": ["c", None]}, schema=SCHEMA)
    client.catalog.write(more, namespace="ns", table="t", mode="append", format=kind)
    assert [row["name"] for row in rows(client)] == ["a", "b", "c", None]
    frame = read_deltacat("ns.t", planner=client)
    assert sorted(frame.where(col("id") >= 2).to_pydict()["id"]) == [2, 3, 4]
    assert frame.limit(3).to_arrow().num_rows == 3
    assert frame.count_rows() == 4


FOREIGN = pa.schema([("id", pa.int64()), ("s", pa.string()), ("x", pa.float64())])


@pytest.fixture(params=[[], ["id"]], ids=["plain", "keyed"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """Files that another program wrote under the table's schema: one has an id and no more."""
    client = Client(tmp_path / "catalog")
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}  # Any: of any call
    client.catalog.create_table(
        **where, schema=FOREIGN, merge_keys=request.param, auto_create_namespace=True
    )
    session = client.stage(**where, mode="auto")
    os.makedirs(session.data_dir)
    entries = []
    for name, columns in {"a": {"id": [1, 2, 3]}, "b": {"id": [7, 8], "s": ["x", "y"]}}.items():
        pq.write_table(pa.table(columns), f"{session.data_dir}/{name}.parquet")
        entry = entry_of(f"{session.data_dir}/{name}.parquet", FOREIGN)
        # As a program does that believes its files to be whole.
        entries.append(msgspec.structs.replace(entry, schema_id=session.schema_id))
    client.commit(session=session, entries=entries)
    if request.param:
        gone = pa.table({"id": [3, 8]})
        client.catalog.write(gone, **where, mode="delete")
    return client


@pytest.mark.parametrize(
    ("keep", "wanted"),
    [
        (col("id") == 2, [2]),
        (col("id") < 8, [1, 2, 3, 7]),
        (col("s").is_null(), [1, 2, 3]),
        (col("s") == "x", [7]),
        (col("x").is_null() & (col("id") > 1), [2, 3, 7, 8]),
        (col("x").not_null(), []),
    ],
    ids=str,
)
def test_a_file_that_lacks_all_columns_of_an_answer_is_filtered(
    foreign: Client, keep: daft.Expression, wanted: list[int]
) -> None:
    dead = {3, 8} if foreign.catalog.plan(namespace="ns", table="t").requires_merge else set()
    left = [i for i in wanted if i not in dead]
    frame = read_deltacat("ns.t", planner=foreign).where(keep)
    texts = {7: "x", 8: "y"}
    assert frame.select("x").to_pydict() == {"x": [None] * len(left)}
    assert sorted(frame.select("id").to_pydict()["id"]) == left
    found = frame.select("s").to_pydict()["s"]
    assert sorted(map(str, found)) == sorted(str(texts.get(i)) for i in left)
    assert frame.count_rows() == len(left)
    assert frame.limit(10).select("x").count_rows() == len(left)


def test_rows_of_a_file_without_the_columns_of_an_answer_are_counted(foreign: Client) -> None:
    frame = read_deltacat("ns.t", planner=foreign)
    rows = frame.count_rows()
    assert frame.select("x").to_pydict() == {"x": [None] * rows}
    assert rows == len(frame.to_pydict()["id"])
