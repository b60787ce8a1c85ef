"""Does a table's schema change by a write as its properties say, together with the rows or not at all?"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltacat_sources.daft import read_deltacat as read_daft
from deltacat_sources.polars import read_deltacat, write_deltacat
from io_core.errors import ConcurrentModificationError, SchemaValidationError
from io_core.formats.parquet import entry_of
from io_core.schema import SchemaField, decode_schema, encode_schema, schema_of
from io_core.sink import OpenSink, write_files
from planner_client import Client

if TYPE_CHECKING:
    from io_core.model import WriteEntry, WriteSession

OLD = pa.table({"id": pa.array([1, 2], pa.int32()), "x": pa.array([0.5, None], pa.float32())})
NEW = pa.table({"id": pa.array([3], pa.int32()), "note": ["n"]})


# Any, here and below: keyword arguments of every call.
@pytest.fixture
def where(client: Client, ns: str) -> dict[str, Any]:
    """A table of two rows."""
    found: dict[str, Any] = {"namespace": ns, "table": "t"}
    client.catalog.write(OLD, **found)
    return found


def settle(client: Client, where: dict[str, Any], **properties: str) -> None:
    client.catalog.alter_table(**where, table_version_properties=properties)


def fields(client: Client, where: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    found = client.catalog.describe_table(**where).schema or []
    return [(f.name, f.type, f.field_id) for f in found]


def staged(
    client: Client, where: dict[str, Any], rows: pa.Table, **kwargs: Any
) -> tuple[WriteSession, WriteEntry]:
    """A session, and a file in it that its writer says nothing of."""
    session = client.catalog.stage(**where, mode="add", **kwargs)
    path = f"{session.data_dir}/{uuid.uuid4().hex}.parquet"
    pq.write_table(rows, _made(path))
    return session, entry_of(path, rows.schema)


def _made(path: str) -> str:
    pa.fs.LocalFileSystem().create_dir(path.rpartition("/")[0])
    return path


def test_an_unknown_column_is_added_last_with_the_rows(
    client: Client, where: dict[str, Any]
) -> None:
    before = client.catalog.plan(**where).snapshot
    done = client.catalog.write(NEW, **where)
    assert fields(client, where) == [("id", "int32", 1), ("x", "float32", 2), ("note", "string", 3)]
    assert done.snapshot == (before or 0) + 1
    name = ".".join(where.values())
    wanted = [
        {"id": 1, "x": 0.5, "note": None},
        {"id": 2, "x": None, "note": None},
        {"id": 3, "x": None, "note": "n"},
    ]
    assert client.catalog.read(**where).to_pylist() == wanted
    assert read_deltacat(name, planner=client).to_dicts() == wanted
    assert sorted(read_daft(name, planner=client).to_pylist(), key=lambda r: r["id"]) == wanted


def test_the_file_that_brings_a_column_has_its_field_id(
    client: Client, where: dict[str, Any]
) -> None:
    rows = pa.table({"id": pa.array([3], pa.int32()), "tags": [[{"k": 1}]]})
    client.catalog.write(rows, **where)
    plan = client.catalog.plan(**where)
    item = pq.read_schema(plan.paths[-1]).field("tags").type.value_field
    ids = [f.metadata[b"PARQUET:field_id"] for f in (item, item.type.field("k"))]
    assert ids == [b"4", b"5"]
    assert plan.schema.field("tags").type.value_field.metadata == item.metadata


def test_polars_adds_columns_too(client: Client, where: dict[str, Any]) -> None:
    frame = pl.DataFrame({"id": pl.Series([3], dtype=pl.Int32), "tags": [[{"k": 1}]]})
    write_deltacat(frame, ".".join(where.values()), planner=client)
    plan = client.catalog.plan(**where)
    assert plan.schema.names == ["id", "x", "tags"]
    item = pq.read_schema(plan.paths[-1]).field("tags").type.value_field
    assert [f.metadata[b"PARQUET:field_id"] for f in (item, item.type.field("k"))] == [b"4", b"5"]


@pytest.mark.parametrize("mode", ["manual", "disabled"])
def test_no_column_is_added_where_the_table_says_so(
    client: Client, where: dict[str, Any], mode: str
) -> None:
    settle(client, where, schema_evolution_mode=mode)
    with pytest.raises(SchemaValidationError, match="has no column 'note'; it has: id, x"):
        client.catalog.write(NEW, **where)
    session, entry = staged(client, where, NEW)
    with pytest.raises(SchemaValidationError, match="has no column 'note'; it has: id, x"):
        client.catalog.commit(session=session, entries=[entry])
    assert client.catalog.read(**where).num_rows == 2
    assert [name for name, *_ in fields(client, where)] == ["id", "x"]


@pytest.mark.parametrize("mode", ["auto", "manual", "disabled"])
def test_a_type_is_promoted_in_every_mode(client: Client, where: dict[str, Any], mode: str) -> None:
    settle(client, where, schema_evolution_mode=mode)
    client.catalog.write(pa.table({"id": [2**40], "x": [1e300]}), **where)
    assert fields(client, where) == [("id", "int64", 1), ("x", "float64", 2)]
    found = client.catalog.read(**where)
    assert found.column("id").to_pylist() == [1, 2, 2**40]
    assert (
        read_deltacat(".".join(where.values()), planner=client).to_arrow().cast(found.schema)
        == found
    )


def test_values_without_a_common_type_are_cast_where_they_fit(
    client: Client, where: dict[str, Any]
) -> None:
    client.catalog.write(pa.table({"id": [2**40]}), **where)
    client.catalog.write(pa.table({"id": [4.0]}), **where)
    assert client.catalog.read(**where).column("id").to_pylist() == [1, 2, 2**40, 4]
    with pytest.raises(SchemaValidationError, match="column 'id': double does not fit int64"):
        client.catalog.write(pa.table({"id": [4.5]}), **where)
    with pytest.raises(SchemaValidationError, match="column 'id'"):
        client.catalog.write(pa.table({"id": ["a"]}), **where)
    assert fields(client, where)[0] == ("id", "int64", 1)


def test_a_promoted_column_keeps_its_defaults(client: Client, where: dict[str, Any]) -> None:
    field = {"name": "n", "type": "int8", "past_default": 7}
    client.catalog.alter_table(
        **where, schema_updates={"operations": [{"op": "add", "field": field}]}
    )
    rows = pa.table({"id": pa.array([3], pa.int32()), "n": [2**40]})
    client.catalog.write(rows, **where)
    client.catalog.write(NEW.select(["id"]), **where)
    assert client.catalog.read(**where).column("n").to_pylist() == [7, 7, 2**40, 7]


@pytest.mark.parametrize(
    ("consistency", "kind", "rows", "problem"),
    [
        ("coerce", "int32", pa.table({"k": [2**40]}), "not in range|does not fit"),
        ("validate", "int32", pa.table({"k": [1]}), "takes int32 alone"),
        ("validate", "int32", pa.table({"k": pa.array([1], pa.int8())}), "takes int32 alone"),
    ],
)
def test_a_column_that_is_strict_refuses_the_write(
    client: Client, consistency: str, kind: str, rows: pa.Table, problem: str
) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "t"}
    schema = schema_of([SchemaField("k", kind, consistency_type=consistency)])
    client.catalog.create_table(**where, schema=schema, auto_create_namespace=True)
    with pytest.raises(SchemaValidationError, match=problem):
        client.catalog.write(rows, **where)
    session, entry = staged(client, where, rows)
    if rows.schema.field("k").type != pa.int8():
        with pytest.raises(SchemaValidationError, match="column 'k'"):
            client.catalog.commit(session=session, entries=[entry])
    assert client.catalog.read(**where).num_rows == 0


def test_a_coerced_column_takes_what_fits(client: Client) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "t"}
    schema = schema_of([SchemaField("k", "int32", consistency_type="coerce")])
    client.catalog.create_table(**where, schema=schema, auto_create_namespace=True)
    client.catalog.write(pa.table({"k": [1]}), **where)
    assert fields(client, where) == [("k", "int32", 1)]


def test_merge_keys_are_always_exact(client: Client) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "t"}
    client.catalog.write(OLD, **where, merge_keys=["id"])
    with pytest.raises(SchemaValidationError, match="'id' takes int32 alone"):
        client.catalog.write(pa.table({"id": [1], "x": [0.5]}), **where)
    with pytest.raises(SchemaValidationError, match="'id' takes int32 alone"):
        client.catalog.write(pa.table({"id": [1]}), **where, mode="delete")


def test_the_tables_consistency_counts_for_columns_without_one(
    client: Client, where: dict[str, Any]
) -> None:
    settle(client, where, default_schema_consistency_type="validate")
    with pytest.raises(SchemaValidationError, match="'id' takes int32 alone"):
        client.catalog.write(pa.table({"id": [3]}), **where)
    client.catalog.write(NEW, **where)
    added = (client.catalog.describe_table(**where).schema or [])[-1]
    assert added == SchemaField("note", "string", field_id=3, consistency_type="validate")


def test_a_file_that_says_nothing_is_looked_into(client: Client, where: dict[str, Any]) -> None:
    rows = pa.table({"id": [2**40], "note": ["n"], "x": pa.array([0.5], pa.float32())})
    session, entry = staged(client, where, rows)
    client.catalog.commit(session=session, entries=[entry])
    assert fields(client, where) == [("id", "int64", 1), ("x", "float32", 2), ("note", "string", 3)]
    assert client.catalog.read(**where).to_pylist()[-1] == {"id": 2**40, "x": 0.5, "note": "n"}


def test_a_file_that_no_schema_fits_is_refused(client: Client, where: dict[str, Any]) -> None:
    session, entry = staged(client, where, pa.table({"x": ["text"]}))
    with pytest.raises(SchemaValidationError, match=r"'x' of .* is float, and a file holds string"):
        client.catalog.commit(session=session, entries=[entry])


def test_batches_of_several_schemas_come_together_in_one_commit(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where, mode="add")
    sink = OpenSink(client, session, f"op_{uuid.uuid4().hex}")
    entries = [*sink.write(NEW), *sink.write(pa.table({"id": [2**40], "z": [True]}))]
    sink.commit(entries)
    assert [name for name, *_ in fields(client, where)] == ["id", "x", "note", "z"]
    assert [i for *_, i in fields(client, where)] == [1, 2, 3, 4]
    assert client.catalog.read(**where).to_pylist()[2:] == [
        {"id": 3, "x": None, "note": "n", "z": None},
        {"id": 2**40, "x": None, "note": None, "z": True},
    ]


def test_a_commit_of_no_files_changes_nothing(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="add", schema_serialized=encode_schema(NEW.schema))
    assert decode_schema(session.schema_serialized or "").names == ["id", "x", "note"]
    client.catalog.commit(session=session, entries=[])
    assert [name for name, *_ in fields(client, where)] == ["id", "x"]


def test_of_two_writes_that_change_the_schema_the_second_loses(
    client: Client, where: dict[str, Any]
) -> None:
    announced = encode_schema(NEW.schema)
    first, second, plain = (
        client.catalog.stage(**where, mode="add", schema_serialized=s)
        for s in (announced, announced, None)
    )
    client.catalog.commit(session=first, entries=write_files(first, NEW, 10))
    for late in (second, plain):
        entries = write_files(late, NEW.select(["id"]), 10)
        with pytest.raises(ConcurrentModificationError):
            client.catalog.commit(session=late, entries=entries)
    assert client.catalog.read(**where).num_rows == 3


def test_a_schema_may_change_while_others_add_rows(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="add", schema_serialized=encode_schema(NEW.schema))
    client.catalog.write(OLD, **where)
    client.catalog.commit(session=session, entries=write_files(session, NEW, 10))
    assert client.catalog.read(**where).column("note").to_pylist() == [None] * 4 + ["n"]


def test_a_transaction_adds_a_column_for_itself_until_it_commits(
    client: Client, where: dict[str, Any]
) -> None:
    with client.transaction():
        client.catalog.write(NEW, **where)
        client.catalog.write(pa.table({"id": pa.array([4], pa.int32()), "z": [1]}), **where)
        assert client.catalog.read(**where).column_names == ["id", "x", "note", "z"]
        other = Client(client.target)
        assert other.catalog.read(**where).column_names == ["id", "x"]
    assert client.catalog.read(**where).num_rows == 4


def test_the_name_of_a_removed_column_is_not_taken_by_a_write(
    client: Client, where: dict[str, Any]
) -> None:
    updates = {
        "operations": [{"op": "remove", "field_locator": "x"}],
        "allow_incompatible_changes": True,
    }
    client.catalog.alter_table(**where, schema_updates=updates)
    with pytest.raises(SchemaValidationError, match="'x' was removed or renamed"):
        client.catalog.write(OLD, **where)


def test_earlier_snapshots_show_the_earlier_schema(client: Client, where: dict[str, Any]) -> None:
    before = time.time_ns()
    client.catalog.write(NEW, **where)
    assert client.catalog.read(**where, as_of=before).to_pylist() == OLD.to_pylist()


def test_rows_in_a_call_add_columns_and_promote_nothing(
    client: Client, where: dict[str, Any]
) -> None:
    client.catalog.write_data(**where, data={"id": [3], "x": [1], "note": ["n"]})
    assert fields(client, where) == [("id", "int32", 1), ("x", "float32", 2), ("note", "string", 3)]
    assert client.catalog.read(**where).to_pylist()[-1] == {"id": 3, "x": 1.0, "note": "n"}


def test_rows_in_a_call_that_lack_columns_have_nulls_and_defaults_there(client: Client) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "t"}
    columns = [
        SchemaField("id", "int64", is_merge_key=True),
        SchemaField("x", "float32"),
        SchemaField("n", "int64", future_default=7),
        SchemaField("who", "string", nullable=False),
    ]
    client.catalog.create_table(**where, schema_def=columns, auto_create_namespace=True)
    # The planner warns of nothing: nobody reads the warnings of its process.
    client.catalog.write_data(**where, data={"id": [1], "who": ["a"]}, mode="merge")
    client.catalog.write_data(**where, data={"id": [1, 2], "who": ["b", "c"]})
    assert client.catalog.read(**where).to_pylist() == [
        {"id": 1, "x": None, "n": 7, "who": "b"},
        {"id": 2, "x": None, "n": 7, "who": "c"},
    ]
    client.catalog.write_data(**where, data={"id": [2]}, mode="delete")
    assert client.catalog.read(**where).num_rows == 1
    for lacking in ({"id": [1]}, {"who": ["a"]}):
        with pytest.raises(SchemaValidationError, match="the rows lack"):
            client.catalog.write_data(**where, data=lacking, mode="merge")


def test_columns_that_divide_the_table_keep_their_type(client: Client) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "t"}
    client.catalog.write(OLD, **where, partition_scheme={"keys": [{"key": ["id"]}]})
    client.catalog.write(pa.table({"id": [3]}), **where)
    assert fields(client, where)[0] == ("id", "int32", 1)
