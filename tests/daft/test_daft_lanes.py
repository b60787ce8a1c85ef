"""Whether files of older schemas and of other formats read as the table shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from daft import col

from deltacat_sources.daft import read_deltacat
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


@pytest.mark.parametrize("kind", ["feather", "orc", "avro"])
def test_files_of_other_formats_read_beside_parquet(client: Client, kind: str) -> None:
    more = pa.table({"id": [3, 4], "name": ["c", None]}, schema=SCHEMA)
    client.catalog.write(more, namespace="ns", table="t", mode="append", format=kind)
    assert [row["name"] for row in rows(client)] == ["a", "b", "c", None]
    frame = read_deltacat("ns.t", planner=client)
    assert sorted(frame.where(col("id") >= 2).to_pydict()["id"]) == [2, 3, 4]
    assert frame.limit(3).to_arrow().num_rows == 3
    assert frame.count_rows() == 4
