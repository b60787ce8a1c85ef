"""Do sinks write every typed format, and do reads take a table of all of them?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from io_core.errors import DataFileError, SchemaValidationError
from io_core.execute import read_plan
from io_core.formats import CONTENT_TYPES
from io_core.model import ColumnStats
from io_core.predicate import parse
from io_core.sink import OpenSink
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from io_core.model import WriteEntry, WriteMode

TYPED = [name for name, kind in CONTENT_TYPES.items() if kind.has_types]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("kind", pa.large_string()),
        ("at", pa.timestamp("us", "Europe/Berlin")),
        ("score", pa.float32()),
        ("vector", pa.list_(pa.float32(), 2)),
    ]
)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


def make(client: Client, *keys: str) -> None:
    schema = SCHEMA
    for key in keys:
        field = schema.field(key).with_metadata({b"DELTACAT:merge_key": b"true"})
        schema = schema.set(schema.get_field_index(key), field)
    client.catalog.create_table(
        namespace="ns", table="t", schema=schema, auto_create_namespace=True
    )


def rows(first: int, kind: str) -> pa.Table:
    vectors = [[0.5, None], None]
    return pa.table(
        {
            "id": [first, first + 1],
            "kind": [kind, None],
            "at": pa.array([first, None], pa.timestamp("us", "Europe/Berlin")),
            "score": [float("nan"), 1.5],
            "vector": vectors,
        },
        schema=SCHEMA,
    )


def commit(client: Client, kind: str, table: pa.Table, mode: WriteMode = "add") -> list[WriteEntry]:
    session = client.catalog.stage(namespace="ns", table="t", mode=mode, format=kind)
    sink = OpenSink(client.catalog, session, f"op-{kind}-{mode}-{table['id'][0]}")
    entries = sink.write(table)
    sink.commit(entries)
    return entries


def test_one_table_of_every_typed_format_reads_as_one(client: Client) -> None:
    make(client)
    for number, kind in enumerate(TYPED):
        commit(client, kind, rows(10 * number, kind))
    plan = client.catalog.plan(namespace="ns", table="t")
    assert plan.column("content_type") == TYPED
    found = read_plan(plan)
    assert found.schema.types == SCHEMA.types
    assert found.column("id").to_pylist() == [10 * n + i for n in range(len(TYPED)) for i in (0, 1)]
    assert found.column("kind").to_pylist() == [v for kind in TYPED for v in (kind, None)]
    assert found.column("vector").to_pylist() == [[0.5, None], None] * len(TYPED)
    kept = read_plan(plan, columns=["kind"], predicate=parse({"gte": ["id", 40]}))
    assert kept.column("kind").to_pylist() == [TYPED[-1], None]


@pytest.mark.parametrize("kind", TYPED)
def test_what_a_sink_writes_is_described_and_pruned_by(client: Client, kind: str) -> None:
    make(client)
    (entry,) = commit(client, kind, rows(5, "a"))
    stats = entry.column_stats or {}
    assert stats["id"] == ColumnStats(5, 6, 0)
    assert stats["score"] == ColumnStats(1.5, 1.5, 0, 1)
    far = client.catalog.plan(namespace="ns", table="t", filter_predicate={"gt": ["id", 6]})
    assert far.total_files == 0


@pytest.mark.parametrize("kind", TYPED)
def test_keyed_rows_merge_whatever_their_format(client: Client, kind: str) -> None:
    make(client, "id")
    commit(client, "parquet", rows(1, "old"), "merge")
    commit(client, kind, rows(2, "new"), "merge")
    commit(client, kind, pa.table({"id": [3]}), "delete")
    found = read_plan(client.catalog.plan(namespace="ns", table="t"))
    assert sorted(zip(found["id"].to_pylist(), found["kind"].to_pylist(), strict=True)) == [
        (1, "old"),
        (2, "new"),
    ]


@pytest.mark.parametrize("kind", TYPED)
def test_an_aborted_sink_leaves_no_file_of_any_format(client: Client, kind: str) -> None:
    make(client)
    session = client.catalog.stage(namespace="ns", table="t", mode="add", format=kind)
    sink = OpenSink(client.catalog, session, "op")
    sink.write(rows(1, "a"))
    assert os.listdir(session.data_dir)
    sink.abort("test")
    assert not os.path.exists(session.data_dir)


def test_what_a_format_cannot_hold_is_refused_before_a_file_is_there(client: Client) -> None:
    schema = pa.schema([("id", pa.uint64())])
    client.catalog.create_table(
        namespace="ns", table="t", schema=schema, auto_create_namespace=True
    )
    session = client.catalog.stage(namespace="ns", table="t", mode="add", format="orc")
    with pytest.raises(SchemaValidationError, match="'id': orc has no place for uint64"):
        OpenSink(client.catalog, session, "op").write(
            schema.empty_table().from_pylist([{"id": 1}], schema)
        )
    assert not os.path.exists(session.data_dir) or not os.listdir(session.data_dir)


def test_a_damaged_file_is_named_with_the_plan_that_lists_it(client: Client) -> None:
    make(client)
    (entry,) = commit(client, "avro", rows(1, "a"))
    os.truncate(entry.path, 100)
    with pytest.raises(DataFileError, match=r"ns\.t at snapshot") as caught:
        read_plan(client.catalog.plan(namespace="ns", table="t"))
    assert entry.path in str(caught.value)
