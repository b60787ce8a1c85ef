"""Does each mode write what it means, and is everything else refused with nothing changed?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    DataFileError,
    DeltaCATError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.formats.parquet import entry_of, write
from io_core.model import ColumnStats, WriteEntry, WriteSession
from io_core.schema import decode_schema, encode_schema
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from planner_client.catalog import Catalog

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
FIRST = pa.table({"k": [1, 2], "v": ["a", "b"]})
SECOND = pa.table({"k": [2, 3], "v": ["B", "C"]})
BY_V = {"keys": [{"key": ["v"]}]}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


# Any: what `create_table` takes.
def make(catalog: Catalog, **kwargs: Any) -> None:
    catalog.create_table(**WHERE, schema=FIRST.schema, auto_create_namespace=True, **kwargs)
    catalog.write(FIRST, **WHERE)


def rows(catalog: Catalog) -> list[tuple[int, str]]:
    found = catalog.read(**WHERE)
    return list(zip(*(c.to_pylist() for c in found.columns), strict=True))


# --- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "wanted", "kinds"),
    [
        ("auto", [(1, "a"), (2, "b"), (2, "B"), (3, "C")], ["add", "add"]),
        ("add", [(1, "a"), (2, "b"), (2, "B"), (3, "C")], ["add", "add"]),
        ("append", [(1, "a"), (2, "b"), (2, "B"), (3, "C")], ["add", "append"]),
        ("replace", [(2, "B"), (3, "C")], ["append"]),
    ],
)
def test_modes_of_a_table_without_keys(
    client: Client, mode: Any, wanted: list[tuple[int, str]], kinds: list[str]
) -> None:
    make(client.catalog)
    done = client.catalog.write(SECOND, **WHERE, mode=mode)
    assert (done.committed, done.deltas_written, done.total_records) == (True, 1, 2)
    assert rows(client.catalog) == wanted
    assert client.catalog.plan(**WHERE).column("delta_type") == kinds


@pytest.mark.parametrize(
    ("mode", "wanted", "kinds"),
    [
        ("auto", [(1, "a"), (2, "B"), (3, "C")], ["upsert", "upsert"]),
        ("merge", [(1, "a"), (2, "B"), (3, "C")], ["upsert", "upsert"]),
        ("delete", [(1, "a")], ["upsert", "delete"]),
        ("replace", [(2, "B"), (3, "C")], ["upsert"]),
    ],
)
def test_modes_of_a_table_with_keys(
    client: Client, mode: Any, wanted: list[tuple[int, str]], kinds: list[str]
) -> None:
    make(client.catalog, merge_keys=["k"])
    client.catalog.write(SECOND, **WHERE, mode=mode)
    assert rows(client.catalog) == wanted
    assert client.catalog.plan(**WHERE).column("delta_type") == kinds


def test_auto_makes_the_table_and_appends_first(client: Client) -> None:
    client.catalog.write(FIRST, **WHERE)
    client.catalog.write(SECOND, **WHERE)
    assert client.catalog.plan(**WHERE).column("delta_type") == ["append", "add"]


def test_create_makes_the_table_with_what_it_is_given(client: Client) -> None:
    client.catalog.write(FIRST, **WHERE, mode="create", merge_keys=["k"], partition_scheme=BY_V)
    described = client.catalog.describe_table(**WHERE)
    assert (described.merge_keys, described.partition_count) == (["k"], 2)
    with pytest.raises(AlreadyExistsError, match=r"ns.t already exists"):
        client.catalog.write(SECOND, **WHERE, mode="create")
    assert rows(client.catalog) == [(1, "a"), (2, "b")]


def test_create_makes_a_version_that_the_table_lacks(client: Client) -> None:
    client.catalog.write(FIRST, **WHERE, create_if_missing={"table_properties": {"owner": "me"}})
    second: dict[str, Any] = {**WHERE, "table_version": "2"}
    client.catalog.write(SECOND, **second, mode="create", merge_keys=["k"])
    described = client.catalog.describe_table(**WHERE)
    assert (described.table_version, described.merge_keys) == ("2", ["k"])
    assert (described.properties or {})["owner"] == "me"
    assert client.catalog.read(**second).num_rows == SECOND.num_rows
    assert client.catalog.read(**WHERE, table_version="1").num_rows == FIRST.num_rows
    with pytest.raises(AlreadyExistsError, match=r"ns.t already exists"):
        client.catalog.write(SECOND, **second, mode="create")
    with pytest.raises(NotFoundError, match="no version '3'"):
        client.catalog.write(SECOND, **WHERE, table_version="3", mode="auto")
    with pytest.raises(SchemaValidationError, match="is no table version"):
        client.catalog.write(SECOND, **WHERE, table_version="new one", mode="create")


def test_of_two_that_make_one_version_the_second_is_refused(client: Client) -> None:
    client.catalog.write(FIRST, **WHERE)
    second: dict[str, Any] = {**WHERE, "table_version": "2", "mode": "create"}
    create = {"schema_def": encode_schema(FIRST.schema)}
    sessions = [client.catalog.stage(**second, create_if_missing=create) for _ in range(2)]
    client.catalog.commit(session=sessions[0], entries=[])
    with pytest.raises(AlreadyExistsError, match=r"ns.t already exists"):
        client.catalog.commit(session=sessions[1], entries=[])
    versions = client.catalog.list_table_versions(**WHERE)
    assert [v.table_version for v in versions] == ["1", "2"]


def test_replacing_a_partition_leaves_its_siblings(client: Client) -> None:
    client.catalog.write(FIRST, **WHERE, partition_scheme=BY_V)
    fresh = pa.table({"k": [7, 8], "v": ["b", "z"]})
    client.catalog.write(fresh, **WHERE, mode="replace_partition")
    assert sorted(rows(client.catalog)) == [(1, "a"), (7, "b"), (8, "z")]


def test_replacing_with_nothing_empties_the_table(client: Client) -> None:
    client.catalog.write(FIRST, **WHERE, partition_scheme=BY_V)
    client.catalog.write(FIRST.slice(0, 0), **WHERE, mode="replace_partition")
    assert len(rows(client.catalog)) == 2
    client.catalog.write(FIRST.slice(0, 0), **WHERE, mode="replace")
    assert client.catalog.read(**WHERE).num_rows == 0


@pytest.mark.parametrize(
    ("mode", "keys", "problem"),
    [
        ("add", ["k"], "mode 'add' does not fit a table with merge keys: use mode 'merge'"),
        ("append", ["k"], "mode 'append' does not fit"),
        ("merge", [], "mode 'merge' needs a table with merge keys"),
        ("delete", [], "mode 'delete' needs a table with merge keys"),
        ("replace_partition", [], "needs a partitioned table"),
        ("replace_partition", ["k"], "needs a partitioned table"),
    ],
)
def test_a_mode_that_does_not_fit_the_table_is_refused_before_any_file_is_written(
    client: Client, mode: Any, keys: list[str], problem: str
) -> None:
    make(client.catalog, merge_keys=keys)
    with pytest.raises(SchemaValidationError, match=problem):
        client.catalog.stage(**WHERE, mode=mode)
    assert rows(client.catalog) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    "mode", ["add", "append", "replace", "replace_partition", "merge", "delete"]
)
def test_a_mode_that_makes_no_table_needs_one(client: Client, mode: Any) -> None:
    definition = {"schema_def": encode_schema(FIRST.schema)}
    with pytest.raises(NotFoundError, match="namespace 'ns' not found"):
        client.catalog.stage(**WHERE, mode=mode, create_if_missing=definition)
    client.catalog.create_namespace(namespace="ns")
    with pytest.raises(NotFoundError, match=r"table ns.t not found"):
        client.catalog.stage(**WHERE, mode=mode, create_if_missing=definition)


def test_nothing_to_make_a_table_from_is_refused(client: Client) -> None:
    with pytest.raises(NotFoundError, match="namespace 'ns' not found"):
        client.catalog.stage(**WHERE)
    session = client.catalog.stage(**WHERE, create_if_missing={})
    assert session.schema_serialized is None
    with pytest.raises(SchemaValidationError, match="partition_scheme"):
        client.catalog.stage(**WHERE, create_if_missing={"partition_scheme": 5})


def test_unknown_modes_and_formats_are_refused(client: Client) -> None:
    make(client.catalog)
    with pytest.raises(SchemaValidationError, match="namespace is None: it has to be given"):
        client.catalog.stage(namespace=None, table="t")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(
        SchemaValidationError, match=r"Invalid enum value 'upsert'.*known: auto, create"
    ):
        client.catalog.stage(**WHERE, mode="upsert")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestRejectedError, match="unknown format 'xlsx': use one of parquet"):
        client.catalog.stage(**WHERE, format="xlsx")


@pytest.mark.parametrize("name", ["csv", "application/json", "ContentType.PSV", "text/tsv"])
def test_formats_without_types_do_not_go_into_a_table_with_a_schema(
    client: Client, name: str
) -> None:
    make(client.catalog)
    with pytest.raises(SchemaValidationError, match="carries no types"):
        client.catalog.stage(**WHERE, format=name)


def test_a_staged_table_is_not_there_until_the_commit(client: Client) -> None:
    definition = {"schema_def": encode_schema(FIRST.schema)}
    session = client.catalog.stage(**WHERE, create_if_missing=definition)
    assert session.table_exists is False
    assert client.catalog.list_namespaces() == []
    client.commit(session=session, entries=[])
    assert client.catalog.table_exists(**WHERE)


# --- races ----------------------------------------------------------------------------------------


def staged(client: Client, mode: Any = "auto", schema: pa.Schema = FIRST.schema) -> WriteSession:
    # Any: a mode.
    definition = {"schema_def": encode_schema(schema)}
    return client.catalog.stage(**WHERE, mode=mode, create_if_missing=definition)


def test_of_two_that_create_the_second_is_refused(client: Client) -> None:
    first, second = staged(client, "create"), staged(client, "create")
    client.commit(session=first, entries=[])
    with pytest.raises(AlreadyExistsError, match=r"ns.t already exists"):
        client.commit(session=second, entries=[])


def test_of_two_that_make_the_same_table_by_the_way_both_write(client: Client) -> None:
    first, second = staged(client), staged(client)
    for session in (first, second):
        client.commit(session=session, entries=[stage_file(session)])
    assert len(rows(client.catalog)) == 4


def test_of_two_that_make_different_tables_the_second_is_refused(client: Client) -> None:
    first, second = staged(client), staged(client, schema=pa.schema([("other", pa.int8())]))
    client.commit(session=first, entries=[])
    with pytest.raises(ConcurrentModificationError, match="changed its schema"):
        client.commit(session=second, entries=[])


# --- entries --------------------------------------------------------------------------------------


def stage_file(
    session: WriteSession, name: str = "a.parquet", data: pa.Table = FIRST
) -> WriteEntry:
    """Write one file where the session wants it, and describe it."""
    os.makedirs(session.data_dir, exist_ok=True)
    path = os.path.join(session.data_dir, name)
    write(data, path)
    return entry_of(path, decode_schema(session.schema_serialized or ""))


# Any: the entry's fields.
def changed(entry: WriteEntry, **fields: Any) -> list[WriteEntry]:
    return [msgspec.structs.replace(entry, **fields)]


def stats(**kwargs: int) -> dict[str, dict[str, ColumnStats]]:
    return {"column_stats": {"k": ColumnStats(**kwargs)}}


BAD_ENTRIES: dict[str, tuple[Callable[[WriteEntry], list[WriteEntry]], type[DeltaCATError], str]] = {
    "outside": (lambda e: changed(e, path="/etc/passwd"), RequestRejectedError, "is not below"),
    "climbing": (
        lambda e: changed(e, path=os.path.dirname(e.path) + "/../../x.parquet"), RequestRejectedError, "is not below"
    ),
    "the folder": (lambda e: changed(e, path=os.path.dirname(e.path)), RequestRejectedError, "is not below"),
    "a neighbour": (
        lambda e: changed(e, path=os.path.dirname(e.path) + "x/a.parquet"), RequestRejectedError, "is not below"
    ),
    "relative": (lambda e: changed(e, path="a.parquet"), RequestRejectedError, "relative path|is not below"),
    "remote": (lambda e: changed(e, path="s3://b/a.parquet"), UnsupportedError, "s3:// is not supported"),
    "null byte": (lambda e: changed(e, path=e.path + "\0"), RequestRejectedError, "null"),
    "missing": (lambda e: changed(e, path=e.path + "x"), DataFileError, "cannot be read"),
    "size": (lambda e: changed(e, content_length=1), DataFileError, "bytes, its entry says 1"),
    "rows": (lambda e: changed(e, record_count=-1), RequestRejectedError, "record_count -1 is not in 0"),
    "huge rows": (lambda e: changed(e, record_count=2**80), RequestRejectedError, "int"),
    "twice": (lambda e: [e, e], RequestRejectedError, "two entries name the same file"),
    "twice, spelt differently": (
        lambda e: [e, *changed(e, path=e.path.replace("/a.", "/./a."))], RequestRejectedError, "same file"
    ),
    "nulls": (lambda e: changed(e, **stats(null_count=-1)), SchemaValidationError, "a count of -1 in 2 rows"),
    "more nulls": (lambda e: changed(e, **stats(null_count=3)), SchemaValidationError, "a count of 3 in 2 rows"),
    "nans": (lambda e: changed(e, **stats(nan_count=-5)), SchemaValidationError, "a count of -5"),
    "huge bound": (lambda e: changed(e, **stats(min=2**80)), RequestRejectedError, "int"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_a_wrong_entry_is_refused_and_nothing_changes(client: Client, case: str) -> None:
    spoil, error, problem = BAD_ENTRIES[case]
    make(client.catalog)
    before = client.catalog.describe_table(**WHERE)
    session = client.catalog.stage(**WHERE)
    good, bad = stage_file(session, "good.parquet"), stage_file(session)
    with pytest.raises(error, match=problem):
        client.commit(session=session, entries=[good, *spoil(bad)])
    assert client.catalog.describe_table(**WHERE) == before
    assert rows(client.catalog) == [(1, "a"), (2, "b")]
    assert client.commit(session=session, entries=[good, bad]).total_records == 4


def test_a_folder_is_no_data_file(client: Client) -> None:
    make(client.catalog)
    session = client.catalog.stage(**WHERE)
    os.makedirs(f"{session.data_dir}/dir.parquet")
    with pytest.raises(DataFileError, match="is no regular file"):
        client.commit(session=session, entries=[WriteEntry(f"{session.data_dir}/dir.parquet", 1)])


def test_files_elsewhere_need_leave_and_an_absolute_path(client: Client, tmp_path: Path) -> None:
    make(client.catalog)
    write(FIRST, str(tmp_path / "mine.parquet"))
    session = client.catalog.stage(**WHERE, allow_external_entries=True)
    with pytest.raises(RequestRejectedError, match="is a relative path"):
        client.commit(session=session, entries=[WriteEntry("mine.parquet", 2)])
    uri = f"file://{tmp_path}/mine.parquet"
    client.commit(session=session, entries=[WriteEntry(uri, 2)])
    assert client.catalog.plan(**WHERE).paths[1] == str(tmp_path / "mine.parquet")
    assert len(rows(client.catalog)) == 4


def test_a_file_of_a_table_is_not_taken_again(client: Client) -> None:
    make(client.catalog)
    session = client.catalog.stage(**WHERE, allow_external_entries=True)
    (path,) = client.catalog.plan(**WHERE).paths
    with pytest.raises(RequestRejectedError, match="is part of the table already"):
        client.commit(session=session, entries=[WriteEntry(path, 2)])
    assert len(rows(client.catalog)) == 2


# Any: JSON scalars.
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (None, "expected 1 partition values, got None"),
        ([], r"expected 1 partition values, got \[\]"),
        ([1, 2], "expected 1 partition values"),
        (["abc"], "'abc' is no partition value of type int64"),
        ([1.5], "1.5 is no partition value"),
        ([[1]], "is no partition value"),
        ([2**63], "is no partition value"),
    ],
)
def test_partition_values_have_to_fit_the_scheme(
    client: Client, values: list[Any] | None, problem: str
) -> None:
    make(client.catalog, partition_scheme={"keys": [{"key": ["k"]}]})
    session = client.catalog.stage(**WHERE)
    entry = stage_file(session)
    with pytest.raises(SchemaValidationError, match=problem):
        client.commit(session=session, entries=changed(entry, partition_values=values))
    assert len(rows(client.catalog)) == 2


def test_one_value_in_two_spellings_is_one_partition(client: Client) -> None:
    make(client.catalog, partition_scheme={"keys": [{"key": ["k"]}]})
    session = client.catalog.stage(**WHERE)
    entries = [stage_file(session, f"{i}.parquet", FIRST.slice(0, 1)) for i in range(3)]
    spelt = [
        changed(e, partition_values=[v])[0] for e, v in zip(entries, (1, 1.0, "1"), strict=True)
    ]
    assert client.commit(session=session, entries=spelt).deltas_written == 1
    assert client.catalog.describe_table(**WHERE).partition_count == 2


def test_a_delete_names_columns_that_are_there(client: Client) -> None:
    make(client.catalog, merge_keys=["k"])
    session = client.catalog.stage(**WHERE, mode="delete")
    entry = stage_file(session, data=pa.table({"k": [1]}))
    params = {"equality_field_locators": ["w"]}
    with pytest.raises(SchemaValidationError, match="unknown column 'w'"):
        client.commit(session=session, entries=changed(entry, entry_params=params))
    assert len(rows(client.catalog)) == 2
    client.commit(session=session, entries=[entry])
    assert rows(client.catalog) == [(2, "b")]


def test_a_delete_by_no_column_is_refused(client: Client) -> None:
    make(client.catalog, merge_keys=["k"])
    session = client.catalog.stage(**WHERE, mode="delete")
    entry = stage_file(session, data=pa.table({"k": [1]}))
    params: dict[str, list[str]] = {"equality_field_locators": []}
    with pytest.raises(RequestRejectedError, match="equality_field_locators is empty"):
        client.commit(session=session, entries=changed(entry, entry_params=params))
    assert len(rows(client.catalog)) == 2


def test_a_delete_file_without_its_keys_is_an_error_and_deletes_no_null_key(client: Client) -> None:
    make(client.catalog, merge_keys=["k"])
    rows_before = pa.table({"k": pa.array([None], pa.int64()), "v": ["a"]})
    client.catalog.write(rows_before, **WHERE)
    session = client.catalog.stage(**WHERE, mode="delete")
    entry = stage_file(session, data=pa.table({"other": [1]}))
    client.commit(session=session, entries=[entry])
    with pytest.raises(DataFileError, match="lacks the column 'k'"):
        rows(client.catalog)


def test_unreadable_statistics_are_unknown_and_not_believed(client: Client) -> None:
    make(client.catalog)
    session = client.catalog.stage(**WHERE)
    entry = stage_file(session)
    wrong = {"k": ColumnStats("soon", [1], 0), "gone": ColumnStats(1, 2, 0)}
    client.commit(session=session, entries=changed(entry, column_stats=wrong))
    assert client.catalog.read(**WHERE, filter_predicate={"eq": ["k", 1]}).num_rows == 2
