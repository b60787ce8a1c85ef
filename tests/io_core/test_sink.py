"""Does a sink write what the table wants, and nothing where it fails?"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from io_core.errors import (
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.model import TableRef, WriteEntry, WriteSession
from io_core.sink import OpenSink, Sink, write_schema
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAN = float("nan")
# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
TABLE = TableRef("ns", "t")
# A table whose schema no write changes.
FIXED = {"schema_evolution_mode": "manual", "default_schema_consistency_type": "coerce"}
ROWS = pa.table({"id": [3, 1, 2], "v": ["c", None, "b"], "x": [1.0, NAN, None]})


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


# Any: what `create_table` takes.
def make(client: Client, schema: pa.Schema = ROWS.schema, **kwargs: Any) -> None:
    client.catalog.create_table(**WHERE, schema=schema, auto_create_namespace=True, **kwargs)


def files_of(client: Client) -> list[str]:
    root = os.path.join(client.target, "data")
    return [os.path.join(d, f) for d, _, names in os.walk(root) for f in names]


def test_every_file_carries_the_tables_field_ids_and_true_statistics(client: Client) -> None:
    make(client, partition_scheme={"keys": [{"key": ["v"]}]})
    client.catalog.write(ROWS.select(["x", "v", "id"]), **WHERE)
    plan = client.catalog.plan(**WHERE, include_stats=True)
    assert plan.column("partition:0") == ["c", None, "b"]
    for path in plan.paths:
        schema = pq.ParquetFile(path).schema_arrow
        ids = [(f.name, f.metadata[b"PARQUET:field_id"]) for f in schema]
        assert ids == [("id", b"1"), ("v", b"2"), ("x", b"3")]
    assert plan.column("min:id") == plan.column("max:id") == [3, 1, 2]
    assert plan.column("nan_count:x") == [0, 1, 0]
    assert plan.column("null_count:x") == [0, 0, 1]
    assert plan.column("record_count") == [1, 1, 1]
    assert plan.column("content_length") == [os.stat(p).st_size for p in plan.paths]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([{"key": ["a"]}], [1, 1, 2, None]),
        ([{"key": ["a"], "sort_order": "descending"}], [2, 1, 1, None]),
        ([{"key": ["a"], "null_order": "at_start"}], [None, 1, 1, 2]),
        ([{"key": ["a"], "sort_order": "descending", "null_order": "at_start"}], [None, 2, 1, 1]),
    ],
)
def test_rows_are_sorted_with_nulls_where_the_scheme_puts_them(
    client: Client, keys: list[dict[str, Any]], wanted: list[int | None]
) -> None:
    table = pa.table({"a": [1, None, 2, 1], "n": [0, 1, 2, 3]})
    make(client, table.schema, sort_scheme={"keys": keys})
    client.catalog.write(table, **WHERE)
    assert client.catalog.read(**WHERE).column("a").to_pylist() == wanted
    plan = client.catalog.plan(**WHERE)
    assert plan.header.sort_scheme is not None
    assert plan.column("sort_scheme_id") == [plan.header.sort_scheme.id]


def test_sorting_is_stable_and_by_several_keys_each_with_its_own_direction(client: Client) -> None:
    table = pa.table({"a": [1, 2, 1, 1], "b": ["x", "z", None, "y"], "n": [0, 1, 2, 3]})
    keys = [{"key": ["a"], "sort_order": "descending"}, {"key": ["b"], "null_order": "at_start"}]
    make(client, table.schema, sort_scheme={"keys": keys})
    client.catalog.write(table, **WHERE)
    assert client.catalog.read(**WHERE).column("n").to_pylist() == [1, 2, 0, 3]
    client.catalog.write(pa.table({"a": [5, 5, 5], "n": [7, 8, 9]}), **WHERE)
    assert client.catalog.read(**WHERE).column("n").to_pylist()[4:] == [7, 8, 9]


def test_rows_that_the_scheme_leaves_equal_are_sorted_by_the_merge_keys(client: Client) -> None:
    table = pa.table({"k": [3, 1, 2], "a": ["x", "x", "w"]})
    make(client, table.schema, sort_scheme={"keys": [{"key": ["a"]}]}, merge_keys=["k"])
    client.catalog.write(table, **WHERE)
    (path,) = client.catalog.plan(**WHERE).paths
    assert pq.read_table(path).column("k").to_pylist() == [2, 1, 3]


def test_each_file_of_a_sorted_table_is_sorted_by_itself(client: Client) -> None:
    table = pa.table({"a": [4, 3, 2, 1]})
    make(client, table.schema, sort_scheme={"keys": [{"key": ["a"]}]})
    client.catalog.write(table, **WHERE, max_rows_per_file=2)
    found = [pq.read_table(p).column("a").to_pylist() for p in client.catalog.plan(**WHERE).paths]
    assert found == [[3, 4], [1, 2]]


def test_files_roll_within_each_partition(client: Client) -> None:
    table = pa.table({"p": ["a"] * 5 + ["b"] * 2, "n": range(7)})
    make(client, table.schema, partition_scheme={"keys": [{"key": ["p"]}]})
    client.catalog.write(table, **WHERE, max_rows_per_file=2)
    assert client.catalog.plan(**WHERE).column("record_count") == [2, 2, 1, 2]
    assert client.catalog.read(**WHERE).equals(table)


def test_batches_are_written_while_more_of_them_come(client: Client) -> None:
    make(client, partition_scheme={"keys": [{"key": ["v"]}]})
    sink = Sink(TABLE, client, mode="add", rows_per_file=10).open()
    seen: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for at in range(0, 60, 6):
            seen.append(len(files_of(client)))
            part = [("a", "b")[i % 2] for i in range(6)]
            rows = {"id": list(range(at, at + 6)), "v": part, "x": [0.5] * 6}
            yield pa.RecordBatch.from_pydict(rows)

    entries = sink.write_batches(batches())
    assert seen == [0, 0, 0, 0, 2, 2, 2, 4, 4, 4]
    # In the order of partitions, not of when a file was full.
    wanted = [(["a"], 10)] * 3 + [(["b"], 10)] * 3
    assert [(e.partition_values, e.record_count) for e in entries] == wanted
    sink.commit(entries)
    found = client.catalog.read(**WHERE).to_pydict()
    assert found["id"] == [*range(0, 60, 2), *range(1, 60, 2)]


def test_partitions_stand_in_the_order_of_their_first_rows_whichever_file_is_full_first(
    client: Client,
) -> None:
    make(client, partition_scheme={"keys": [{"key": ["v"]}]})
    rows = pa.table({"id": [1, 2, 3], "v": ["a", "b", "b"], "x": [0.5] * 3})
    client.catalog.write(rows, **WHERE, max_rows_per_file=2)
    assert client.catalog.plan(**WHERE).column("partition:0") == ["a", "b"]


def test_nothing_is_visible_before_the_commit_and_everything_after(client: Client) -> None:
    make(client)
    sink = Sink(TABLE, client).open()
    entries = [*sink.write(ROWS), *sink.write(ROWS)]
    assert client.catalog.read(**WHERE).num_rows == 0
    done = sink.commit(entries)
    assert (done.status, done.files_registered, done.total_records) == ("COMMITTED", 2, 6)
    assert client.catalog.read(**WHERE).num_rows == 6


def test_a_retried_write_never_overwrites_the_first_ones_files(client: Client) -> None:
    make(client)
    sink = Sink(TABLE, client).open()
    assert len({e.path for _ in range(3) for e in sink.write(ROWS)}) == 3


def test_an_aborted_sink_leaves_no_row_and_no_file(client: Client) -> None:
    make(client)
    sink = Sink(TABLE, client).open()
    entries = sink.write(ROWS)
    assert files_of(client) == [e.path for e in entries]
    sink.abort("changed my mind")
    assert files_of(client) == []
    assert client.catalog.read(**WHERE).num_rows == 0
    assert client.catalog.get_write_session(sink.session.session_id).status == "ABORTED"
    with pytest.raises(RequestRejectedError, match="is ABORTED"):
        client.commit(session=sink.session, entries=[])
    sink.abort("again")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (pa.table({"id": [1], "w": [1]}), "no column 'w'.*; it has: id, v, x"),
        (pa.table({"id": ["a"]}), "column 'id'"),
        (pa.table({"id": [2**40]}), "column 'id'"),
        (
            pa.table({"id": pa.array([None], pa.int32())}),
            "'id' of ns.t is required and holds nulls",
        ),
        (pa.table({"v": ["a"]}), "the rows lack id, which ns.t requires"),
        (pa.table([[1], [2]], names=["id", "id"]), "several columns 'id': rename one"),
    ],
)
def test_a_write_that_does_not_fit_leaves_nothing(
    client: Client, rows: pa.Table, problem: str
) -> None:
    schema = pa.schema(
        [pa.field("id", pa.int32(), nullable=False), ("v", pa.string()), ("x", pa.float64())]
    )
    make(client, schema, table_version_properties=FIXED)
    with pytest.raises(SchemaValidationError, match=problem):
        client.catalog.write(rows, **WHERE)
    assert files_of(client) == []
    assert client.catalog.read(**WHERE).num_rows == 0


def _inside(rows: list[Any], *, of: str) -> tuple[pa.Schema, pa.Table]:
    """A table with a required part inside of its column, and rows whose types do not say so."""
    part = pa.field({"map": "value", "list": "item"}.get(of, "part"), pa.int8(), nullable=False)
    loose = part.with_nullable(True)
    made = {
        "list": pa.list_,
        "pair": lambda f: pa.list_(f, 2),
        "map": lambda f: pa.map_(pa.string(), f),
        "struct": lambda f: pa.struct([f]),
        "list of struct": lambda f: pa.list_(pa.struct([f])),
    }[of]
    table = pa.schema([("id", pa.int64()), ("c", made(part))])
    return table, pa.table({"c": pa.array(rows, made(loose))})


@pytest.mark.parametrize(
    ("of", "rows", "name"),
    [
        ("list", [[1], [None]], "c.item"),
        ("pair", [[1, None]], "c.part"),
        # Arrow would not read it back.
        ("pair", [None, [1, 2]], "c.part"),
        ("map", [[("k", None)]], "c.value"),
        ("struct", [{"part": None}], "c.part|field 'part'"),
        ("list of struct", [[{"part": 1}, {"part": None}]], "part"),
    ],
)
def test_a_null_where_something_inside_is_required_is_refused(
    client: Client, of: str, rows: list[Any], name: str
) -> None:
    schema, table = _inside(rows, of=of)
    make(client, schema)
    with pytest.raises(SchemaValidationError, match=name):
        client.catalog.write(table, **WHERE)
    assert files_of(client) == []


@pytest.mark.parametrize(
    ("of", "rows"),
    [
        ("list", [None, [], [1]]),
        ("map", [None, [("k", 1)]]),
        ("struct", [None, {"part": 1}]),
        ("list of struct", [None, [None], [{"part": 1}]]),
    ],
)
def test_what_is_required_inside_of_a_null_is_not_missing(
    client: Client, of: str, rows: list[Any]
) -> None:
    schema, table = _inside(rows, of=of)
    make(client, schema)
    client.catalog.write(table, **WHERE)
    client.catalog.write(pa.table({"id": [1]}), **WHERE)
    client.catalog.write(pa.table({"c": [None]}), **WHERE)
    assert client.catalog.read(**WHERE).column("c").to_pylist() == [*rows, None, None]


def test_rows_without_a_partition_value_have_a_partition_of_their_own(client: Client) -> None:
    rows = pa.table({"p": [None, "a", None], "v": [1, 2, 3]})
    client.catalog.write(rows, **WHERE, partition_scheme={"keys": [{"key": ["p"]}]})
    plan = client.catalog.plan(**WHERE)
    assert plan.column("partition:0") == [None, "a"]
    assert client.catalog.read(**WHERE).column("v").to_pylist() == [1, 3, 2]


def test_no_rows_are_no_file_and_no_column(client: Client) -> None:
    make(client)
    none = pa.table({"id": pa.array([], pa.int64()), "new": pa.array([], pa.int8())})
    done = client.catalog.write(none, **WHERE)
    assert (done.files_registered, done.total_records) == (0, 0)
    assert client.catalog.read(**WHERE).column_names == ROWS.column_names


def test_a_commit_that_is_refused_leaves_no_file(client: Client) -> None:
    make(client)
    sink = Sink(TABLE, client, "replace").open()
    entries = sink.write(ROWS)
    os.truncate(entries[0].path, 5)
    with pytest.raises(OSError, match="has 5 bytes, its entry says"):
        sink.commit(entries)
    sink.abort("refused")
    assert files_of(client) == []


def test_columns_are_cast_where_nothing_is_lost_and_missing_ones_are_null(client: Client) -> None:
    make(client)
    client.catalog.write(pa.table({"v": ["a"], "id": pa.array([7], pa.int8())}), **WHERE)
    assert client.catalog.read(**WHERE).to_pylist() == [{"id": 7, "v": "a", "x": None}]


def test_a_merge_that_lacks_columns_warns_that_it_replaces_whole_rows(client: Client) -> None:
    make(client, merge_keys=["id"])
    client.catalog.write(ROWS, **WHERE)
    with pytest.warns(UserWarning, match="replaces whole rows: v, x become null"):
        client.catalog.write(pa.table({"id": [3]}), **WHERE, mode="merge")
    found = client.catalog.read(**WHERE, filter_predicate={"eq": ["id", 3]})
    assert found.to_pylist() == [{"id": 3, "v": None, "x": None}]


def test_a_delete_writes_key_and_partition_columns_alone(client: Client) -> None:
    make(client, merge_keys=["id"], partition_scheme={"keys": [{"key": ["v"]}]})
    client.catalog.write(ROWS, **WHERE)
    client.catalog.write(ROWS.slice(0, 1), **WHERE, mode="delete")
    plan = client.catalog.plan(**WHERE)
    deletes = [
        p for p, kind in zip(plan.paths, plan.column("delta_type"), strict=True) if kind == "delete"
    ]
    assert [pq.ParquetFile(p).schema_arrow.names for p in deletes] == [["id", "v"]]
    assert sorted(client.catalog.read(**WHERE).column("id").to_pylist()) == [1, 2]


def test_a_delete_needs_all_of_its_columns(client: Client) -> None:
    make(client, merge_keys=["id"], partition_scheme={"keys": [{"key": ["v"]}]})
    client.catalog.write(ROWS, **WHERE)
    with pytest.raises(SchemaValidationError, match="the rows lack v, which"):
        client.catalog.write(ROWS.select(["id"]), **WHERE, mode="delete")


def test_no_rows_make_no_file(client: Client) -> None:
    make(client)
    sink = Sink(TABLE, client).open()
    assert sink.write(ROWS.slice(0, 0)) == []
    assert sink.commit([]).files_registered == 0


def test_an_unknown_table_is_refused_when_the_sink_opens(client: Client) -> None:
    make(client)
    with pytest.raises(NotFoundError, match="did you mean 't'"):
        Sink(TableRef("ns", "tt"), client, "add").open()


def test_sinks_pickle_and_an_open_one_writes_where_it_arrives(client: Client) -> None:
    make(client)
    sink = Sink(TABLE, client, "add", rows_per_file=2)
    assert pickle.loads(pickle.dumps(sink)) == sink
    here = sink.open()
    there: OpenSink = pickle.loads(pickle.dumps(here))
    assert there == here
    here.commit([*there.write(ROWS), *here.write(ROWS)])
    assert client.catalog.read(**WHERE).num_rows == 6


def test_a_schemaless_session_cannot_be_written() -> None:
    session = WriteSession("s", 1, "OPEN", "ns", "t", "/nowhere")
    with pytest.raises(UnsupportedError, match=r"ns.t is schemaless"):
        write_schema(session)


def test_a_write_that_fails_removes_its_files_even_where_it_cannot_be_aborted(
    client: Client,
) -> None:
    make(client)
    sink = Sink(TABLE, client).open()

    def fails() -> list[WriteEntry]:
        sink.write(ROWS)
        client.commit(session=sink.session, entries=[])
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        sink.run(fails)
    assert any("could not be aborted" in note for note in caught.value.__notes__)
    assert files_of(client) == []
