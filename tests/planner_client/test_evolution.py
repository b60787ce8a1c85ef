"""Do rows stay what they were when the schema changes, in every reader and both planners?"""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltacat_sources.daft import read_deltacat as read_daft
from deltacat_sources.polars import scan_deltacat, sink_deltacat
from io_core.errors import (
    ConcurrentModificationError,
    RequestRejectedError,
    SchemaValidationError,
)
from io_core.model import WriteEntry
from io_core.schema import SchemaField

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client import Client

OLD = pa.table({"id": pa.array([1, 2], pa.int32()), "x": pa.array([0.5, None], pa.float32())})


# Any, here and below: keyword arguments of every call.
@pytest.fixture
def where(client: Client, ns: str) -> dict[str, Any]:
    """A table of two rows."""
    found: dict[str, Any] = {"namespace": ns, "table": "t"}
    client.catalog.write(OLD, **found)
    return found


def alter(
    client: Client, where: dict[str, Any], *operations: dict[str, Any], **options: Any
) -> None:
    updates = {"operations": list(operations), **options}
    client.catalog.alter_table(**where, schema_updates=updates)


def add(name: str, kind: str, **field: Any) -> dict[str, Any]:
    return {"op": "add", "field": {"name": name, "type": kind, **field}}


def by_arrow(client: Client, where: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.catalog.read(**where).to_pylist()
    return found


def by_polars(client: Client, where: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        scan_deltacat(".".join(where.values()), planner=client).collect().to_dicts()
    )
    return found


def by_daft(client: Client, where: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_daft(".".join(where.values()), planner=client).to_pylist()
    return found


READERS = [by_arrow, by_polars, by_daft]


def rows(
    reader: Callable[[Client, dict[str, Any]], list[dict[str, Any]]],
    client: Client,
    where: dict[str, Any],
) -> list[dict[str, Any]]:
    return sorted(reader(client, where), key=lambda row: row["id"])


@pytest.mark.parametrize("reader", READERS)
def test_older_rows_hold_null_in_an_added_column(
    client: Client, where: dict[str, Any], reader: Any
) -> None:
    alter(client, where, add("note", "string"))
    client.catalog.write(pa.table({"id": pa.array([3], pa.int32()), "note": ["n"]}), **where)
    assert rows(reader, client, where) == [
        {"id": 1, "x": 0.5, "note": None},
        {"id": 2, "x": None, "note": None},
        {"id": 3, "x": None, "note": "n"},
    ]


@pytest.mark.parametrize("reader", READERS)
def test_older_rows_hold_the_past_default_and_newer_ones_the_future_default(
    client: Client, where: dict[str, Any], reader: Any
) -> None:
    alter(client, where, add("n", "int64", past_default=7, future_default=8, nullable=False))
    alter(client, where, add("day", "date32", past_default="2024-02-29"))
    client.catalog.write(pa.table({"id": pa.array([3], pa.int32())}), **where)
    nothing = pa.table({"id": pa.array([4], pa.int32()), "day": pa.array([None], pa.date32())})
    client.catalog.write(nothing, **where)
    leap = dt.date(2024, 2, 29)
    found = [(row["id"], row["n"], row["day"]) for row in rows(reader, client, where)]
    assert found == [(1, 7, leap), (2, 7, leap), (3, 8, leap), (4, 8, None)]


@pytest.mark.parametrize("reader", READERS)
def test_widened_columns_keep_their_values(
    client: Client, where: dict[str, Any], reader: Any
) -> None:
    for name, kind in (("id", "float64"), ("x", "float64")):
        alter(client, where, {"op": "update_type", "field_locator": name, "new_type": kind})
    client.catalog.write(pa.table({"id": [2.5], "x": [1e300]}), **where)
    assert rows(reader, client, where) == [
        {"id": 1.0, "x": 0.5},
        {"id": 2.0, "x": None},
        {"id": 2.5, "x": 1e300},
    ]


# Any: the planner's predicates.
@pytest.mark.parametrize(
    ("predicate", "wanted"),
    [
        ({"eq": ["n", 7]}, [1, 2]),
        ({"eq": ["n", 9]}, [3]),
        ({"is_null": "n"}, []),
        ({"gt": ["id", 2]}, [3]),
        ({"lt": ["id", 1.5]}, [1]),
        ({"is_null": "note"}, [1, 2, 3]),
    ],
)
def test_no_file_is_pruned_by_what_it_does_not_hold(
    client: Client, where: dict[str, Any], predicate: dict[str, Any], wanted: list[int]
) -> None:
    alter(
        client,
        where,
        add("n", "int64", past_default=7),
        add("note", "string"),
        {"op": "update_type", "field_locator": "id", "new_type": "int64"},
    )
    client.catalog.write(pa.table({"id": [3], "n": [9]}), **where)
    found = client.catalog.read(**where, filter_predicate=predicate)
    assert sorted(found.column("id").to_pylist()) == wanted


def test_a_removed_column_is_gone_now_and_there_before(
    client: Client, where: dict[str, Any]
) -> None:
    before = time.time_ns()
    alter(client, where, {"op": "remove", "field_locator": "x"}, allow_incompatible_changes=True)
    assert rows(by_arrow, client, where) == [{"id": 1}, {"id": 2}]
    assert client.catalog.read(**where, as_of=before).column_names == ["id", "x"]
    with pytest.raises(
        SchemaValidationError, match="'x' was removed or renamed, and older files still hold"
    ):
        alter(client, where, add("x", "int8"))
    alter(client, where, add("y", "int8"))
    described = client.catalog.describe_table(**where).schema or []
    assert [(f.name, f.field_id) for f in described] == [("id", 1), ("y", 3)]


def test_a_rollback_brings_the_schema_back(client: Client, where: dict[str, Any]) -> None:
    before = time.time_ns()
    alter(
        client,
        where,
        add("n", "int64", past_default=7),
        {"op": "remove", "field_locator": "x"},
        allow_incompatible_changes=True,
    )
    client.catalog.write(pa.table({"id": pa.array([3], pa.int32()), "n": [9]}), **where)
    after = time.time_ns()
    client.catalog.rollback_table(**where, as_of=before)
    assert rows(by_arrow, client, where) == [{"id": 1, "x": 0.5}, {"id": 2, "x": None}]
    client.catalog.rollback_table(**where, as_of=after)
    assert rows(by_arrow, client, where) == [
        {"id": 1, "n": 7},
        {"id": 2, "n": 7},
        {"id": 3, "n": 9},
    ]


def test_a_rollback_brings_the_sort_scheme_back(client: Client, where: dict[str, Any]) -> None:
    before = time.time_ns()
    alter(client, where, add("n", "int64"))
    client.catalog.alter_table(**where, sort_scheme={"keys": [{"key": ["n"]}]})
    after = time.time_ns()
    client.catalog.rollback_table(**where, as_of=before)
    assert client.catalog.describe_table(**where).sort_scheme is None
    client.catalog.write(OLD, **where)
    client.catalog.rollback_table(**where, as_of=after)
    scheme = client.catalog.describe_table(**where).sort_scheme
    assert scheme is not None
    assert [key.key for key in scheme.keys] == [("n",)]


def test_no_rollback_takes_the_column_that_rows_are_divided_by(client: Client, ns: str) -> None:
    where: dict[str, Any] = {"namespace": ns, "table": "divided"}
    client.catalog.create_table(**where, schema=OLD.schema, auto_create_namespace=True)
    before = time.time_ns()
    alter(client, where, add("day", "string"))
    client.catalog.alter_table(**where, partition_updates={"keys": [{"key": ["day"]}]})
    client.catalog.write(OLD.append_column("day", pa.array(["a", "b"])), **where)
    with pytest.raises(SchemaValidationError, match="column 'day', which it is made of"):
        client.catalog.rollback_table(**where, as_of=before)
    assert client.catalog.read(**where).num_rows == 2


def test_a_session_that_knows_the_older_schema_does_not_commit(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where)
    alter(client, where, add("note", "string"))
    with pytest.raises(ConcurrentModificationError, match="schema"):
        client.catalog.commit(session=session, entries=[])


@pytest.mark.parametrize(
    ("operations", "problem"),
    [
        ([add("k", "int8", nullable=False)], "'k' is required, and the rows that are there"),
        ([add("X", "int8")], "differ in case only"),
        ([{"op": "remove", "field_locator": "x"}], "without allow_incompatible_changes"),
        (
            [{"op": "update_type", "field_locator": "x", "new_type": "int32"}],
            "float does not widen to int32; types may only widen",
        ),
        ([add("n", "int8"), {"op": "remove", "field_locator": "n"}], "cannot be removed without"),
        ([], "no operations"),
    ],
)
def test_a_change_that_rows_do_not_allow_changes_nothing(
    client: Client, where: dict[str, Any], operations: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        alter(client, where, *operations)
    assert client.catalog.read(**where).column_names == ["id", "x"]


def test_an_operation_of_another_kind_is_no_request(client: Client, where: dict[str, Any]) -> None:
    refused = (RequestRejectedError, SchemaValidationError)
    with pytest.raises(refused, match="Invalid enum value 'split'"):
        alter(client, where, {"op": "split", "field_locator": "x"})


def test_a_table_may_forbid_all_changes(client: Client, where: dict[str, Any]) -> None:
    disabled = {"schema_evolution_mode": "disabled"}
    client.catalog.alter_table(**where, table_version_properties=disabled)
    with pytest.raises(SchemaValidationError, match="schema_evolution_mode disabled"):
        alter(client, where, add("n", "int8"))


def test_a_merge_order_never_changes(client: Client, where: dict[str, Any]) -> None:
    with pytest.raises(SchemaValidationError, match="'at' cannot get a merge order"):
        alter(client, where, add("at", "timestamp[us]", is_event_time=True))


def test_columns_of_schemes_stay(client: Client) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "p"}
    scheme = {"keys": [{"key": ["x"]}]}
    client.catalog.write(OLD, **where, mode="create", partition_scheme=scheme)
    with pytest.raises(SchemaValidationError, match="is made of it"):
        alter(
            client, where, {"op": "remove", "field_locator": "x"}, allow_incompatible_changes=True
        )
    with pytest.raises(SchemaValidationError, match="'x' is a merge key, or a scheme is made"):
        alter(client, where, {"op": "update_type", "field_locator": "x", "new_type": "float64"})


# --- writing --------------------------------------------------------------------------------------


@pytest.fixture
def filled(client: Client, ns: str) -> dict[str, Any]:
    """A table with a default, and with a column that takes one type alone."""
    where: dict[str, Any] = {"namespace": ns, "table": "f"}
    fields = [
        SchemaField("id", "int64"),
        SchemaField("n", "int64", nullable=False, future_default=8),
        SchemaField("strict", "int8", consistency_type="validate"),
    ]
    client.catalog.create_table(**where, schema_def=fields, auto_create_namespace=True)
    return where


def test_every_sink_fills_in_the_future_default(client: Client, filled: dict[str, Any]) -> None:
    client.catalog.write(pa.table({"id": [1]}), **filled)
    frame = pl.LazyFrame({"id": [2]})
    sink_deltacat(frame, ".".join(filled.values()), planner=client)
    assert [(row["id"], row["n"]) for row in rows(by_arrow, client, filled)] == [(1, 8), (2, 8)]


def test_every_sink_takes_one_type_alone_where_told_so(
    client: Client, filled: dict[str, Any]
) -> None:
    wanted = "'strict' takes int8 alone .* not int64: cast it first"
    with pytest.raises(SchemaValidationError, match=wanted):
        client.catalog.write(pa.table({"id": [1], "strict": [1]}), **filled)
    frame = pl.LazyFrame({"id": [2], "strict": [1]})
    with pytest.raises(SchemaValidationError, match=wanted):
        sink_deltacat(frame, ".".join(filled.values()), planner=client)
    exact = pa.table({"id": [1], "strict": pa.array([1], pa.int8())})
    client.catalog.write(exact, **filled)
    assert [row["strict"] for row in by_arrow(client, filled)] == [1]


def rename(column: str, name: str) -> dict[str, Any]:
    return {"op": "rename", "field_locator": column, "new_name": name}


@pytest.mark.parametrize("reader", READERS)
def test_a_renamed_column_keeps_its_values(
    client: Client, where: dict[str, Any], reader: Any
) -> None:
    alter(client, where, rename("x", "weight"))
    client.catalog.write(pa.table({"id": pa.array([3], pa.int32()), "weight": [2.5]}), **where)
    alter(client, where, rename("weight", "mass"), add("note", "string"))
    client.catalog.write(pa.table({"id": pa.array([4], pa.int32()), "mass": [3.5]}), **where)
    assert [(row["id"], row["mass"]) for row in rows(reader, client, where)] == [
        (1, 0.5),
        (2, None),
        (3, 2.5),
        (4, 3.5),
    ]


@pytest.mark.parametrize("reader", READERS)
def test_a_column_is_found_by_its_new_name(
    client: Client, where: dict[str, Any], reader: Any
) -> None:
    alter(client, where, rename("x", "weight"))
    found = client.catalog.read(**where, filter_predicate={"gt": ["weight", 0]})
    assert found.to_pylist() == [{"id": 1, "weight": 0.5}]
    assert client.catalog.read(**where, columns=["weight"]).column_names == ["weight"]
    assert client.catalog.plan(**where, filter_predicate={"gt": ["weight", 9]}).total_files == 0


@pytest.mark.parametrize("reader", READERS)
def test_an_older_files_other_column_of_the_name_is_not_mistaken(
    client: Client, where: dict[str, Any], reader: Any
) -> None:
    # As writers that know nothing of field ids do it: columns that the table never had.
    session = client.catalog.stage(**where, mode="add")
    path = f"{session.data_dir}/a.parquet"
    os.makedirs(session.data_dir)
    stray = pa.table(
        {"id": pa.array([3], pa.int32()), "x": pa.array([1.5], pa.float32()), "weight": [99.0]}
    )
    pq.write_table(stray, path)
    entry = WriteEntry(path, 1, schema_id=session.schema_id)
    client.catalog.commit(session=session, entries=[entry])
    alter(client, where, rename("x", "weight"))
    assert [row["weight"] for row in rows(reader, client, where)] == [0.5, None, 1.5]


def test_a_rename_back_is_allowed_and_a_name_of_another_column_is_not(
    client: Client, where: dict[str, Any]
) -> None:
    alter(client, where, rename("x", "weight"))
    with pytest.raises(SchemaValidationError, match="'x' was removed or renamed"):
        alter(client, where, add("x", "float32"))
    with pytest.raises(SchemaValidationError, match="column 'id' is there already"):
        alter(client, where, rename("weight", "id"))
    alter(client, where, rename("weight", "x"))
    assert client.catalog.read(**where).to_pylist() == OLD.to_pylist()


def test_keys_and_columns_of_schemes_keep_their_names(client: Client) -> None:
    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "t"}
    scheme = {"keys": [{"key": ["x"]}]}
    client.catalog.write(OLD, **where, merge_keys=["id"], partition_scheme=scheme)
    for column in ("id", "x"):
        with pytest.raises(SchemaValidationError, match="its name stays"):
            alter(client, where, rename(column, "other"))


def test_the_past_shows_the_former_name(client: Client, where: dict[str, Any]) -> None:
    before = time.time_ns()
    alter(client, where, rename("x", "weight"))
    assert client.catalog.read(**where, as_of=before).column_names == ["id", "x"]
    client.catalog.rollback_table(**where, as_of=before)
    assert client.catalog.read(**where).to_pylist() == OLD.to_pylist()


def test_rows_that_do_not_fit_a_forced_type_name_their_column_and_file(
    client: Client, where: dict[str, Any]
) -> None:
    client.catalog.write(pa.table({"id": pa.array([300], pa.int32())}), **where)
    retype = {"op": "update_type", "field_locator": "id", "new_type": "int8"}
    alter(client, where, retype, allow_incompatible_changes=True)
    with pytest.raises(SchemaValidationError, match=r"file .*\.parquet: column 'id': int32 does"):
        client.catalog.read(**where)
