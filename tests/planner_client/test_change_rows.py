"""Do deletes, overwrites and updates leave exactly the rows that a plain model leaves?"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from io_core.errors import (
    ConcurrentModificationError,
    NotFoundError,
    PermissionDeniedError,
    PredicateError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from planner_client import Client
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from tests.changed_table import LAYOUTS, ROWS, WHERE, make
from tests.oracle import canonical, matches, rows_of, table_of
from tests.serving import served
from tests.strategies import cases, predicates

if TYPE_CHECKING:
    from pathlib import Path

    from tests.object_store.store import ObjectStore
    from tests.strategies import Case

NUMBERS = itertools.count()


@pytest.fixture
def client(purged: Client) -> Client:
    return purged


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("properties") / "catalog")


def ids(client: Client) -> list[int]:
    found: list[int] = client.catalog.read(**WHERE).column("id").to_pylist()
    return sorted(found)


def built(client: Client, case: Case) -> dict[str, Any]:
    where: dict[str, Any] = {"namespace": "ns", "table": f"t{next(NUMBERS)}"}
    client.catalog.create_table(
        **where,
        schema=case.spec.schema,
        merge_keys=case.spec.merge_keys,
        partition_scheme=case.spec.partition_scheme,
        auto_create_namespace=True,
    )
    for commit in case.history:
        schema = case.spec.delete_schema if commit.mode == "delete" else case.spec.schema
        rows = table_of(commit.rows, schema)
        most = case.max_rows_per_file
        client.catalog.write(rows, **where, mode=commit.mode, max_rows_per_file=most)
    return where


# --- against the model ----------------------------------------------------------------------------


@given(st.data())
def test_a_delete_leaves_what_its_predicate_is_not_true_of(
    shared: Client, data: st.DataObject
) -> None:
    case = data.draw(cases(replaces=True))
    where, rows = built(shared, case), case.rows()
    ast = data.draw(predicates(case.spec.schema))
    gone = [row for row in rows if matches(ast, row, case.spec.schema) is True]
    done = shared.catalog.delete(predicate=ast, **where)
    assert done.rows_deleted == len(gone)
    left = [row for row in rows if matches(ast, row, case.spec.schema) is not True]
    assert canonical(rows_of(shared.catalog.read(**where))) == canonical(left)
    assert (done.snapshot is None) == (not gone)


@given(st.data())
def test_an_update_changes_its_columns_of_its_keys_alone(
    shared: Client, data: st.DataObject
) -> None:
    case = data.draw(cases())
    spec, rows = case.spec, case.rows()
    assume(spec.merge_keys and rows)
    where = built(shared, case)
    fixed = {*spec.merge_keys, *spec.partition_columns}
    free = [name for name in spec.schema.names if name not in fixed]
    columns = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
    chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, unique_by=id))
    donors = data.draw(st.lists(st.sampled_from(rows), min_size=len(chosen)))
    brought = [
        {n: row[n] for n in spec.schema.names if n in fixed} | {n: other[n] for n in columns}
        for row, other in zip(chosen, donors, strict=False)
    ]
    names = [n for n in spec.schema.names if n in fixed or n in columns]
    given_rows = table_of(brought, pa.schema([spec.schema.field(n) for n in names]))
    done = shared.catalog.write(given_rows, **where, update_columns=columns)
    assert (done.status, done.total_records) == ("COMMITTED", len(chosen))
    changed = {id(row): {**row, **new} for row, new in zip(chosen, brought, strict=True)}
    wanted = [changed.get(id(row), row) for row in rows]
    assert canonical(rows_of(shared.catalog.read(**where))) == canonical(wanted)


# --- delete ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "predicate", ["v >= 7", {"gte": ["v", 7]}, pc.field("v") >= 7], ids=["sql", "json", "arrow"]
)
def test_rows_go_however_the_predicate_is_said(client: Client, layout: str, predicate: Any) -> None:
    make(client, layout)
    done = client.catalog.delete(predicate=predicate, **WHERE)
    assert done.rows_deleted == 3
    # A null is not true of it.
    assert ids(client) == [0, 1, 2, 3, 4, 5, 6]


def test_files_without_such_rows_stay_as_they_are(client: Client) -> None:
    make(client)
    before = {f.path for f in client.catalog.plan(**WHERE).all_files()}
    done = client.catalog.delete(predicate="id = 4", **WHERE)
    after = {f.path for f in client.catalog.plan(**WHERE).all_files()}
    assert (done.files_rewritten, len(before & after), len(after)) == (1, 4, 5)
    assert client.catalog.read(**WHERE).column("id").to_pylist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_statistics_of_the_files_that_stay_still_rule_them_out(client: Client) -> None:
    make(client)
    client.catalog.delete(predicate="id = 4", **WHERE)
    assert client.catalog.plan(**WHERE, filter_predicate="id = 9").total_files == 1


def test_a_partition_may_lose_all_of_its_rows_and_the_others_none(client: Client) -> None:
    make(client, "partitioned")
    others = client.catalog.plan(**WHERE, filter_predicate="p = 'b'").all_files()
    done = client.catalog.delete(predicate="p = 'a'", **WHERE)
    assert (done.rows_deleted, done.files_rewritten) == (5, 0)
    assert ids(client) == [1, 3, 5, 7, 9]
    assert client.catalog.plan(**WHERE, filter_predicate="p = 'b'").all_files() == others
    client.catalog.write(ROWS.slice(0, 1), **WHERE)
    assert ids(client) == [0, 1, 3, 5, 7, 9]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_rows_may_go_and_none(client: Client, layout: str) -> None:
    make(client, layout)
    assert client.catalog.delete(predicate="id > 100", **WHERE).snapshot is None
    assert client.catalog.delete(predicate="id >= 0", **WHERE).rows_deleted == 10
    assert ids(client) == []
    assert client.catalog.delete(predicate="id >= 0", **WHERE).rows_deleted == 0
    client.catalog.write(ROWS, **WHERE)
    assert len(ids(client)) == 10


def test_files_of_an_older_schema_are_written_anew_where_they_read_otherwise(
    client: Client,
) -> None:
    make(client)
    operations: list[dict[str, Any]] = [
        {"op": "rename", "field_locator": "v", "new_name": "w"},
        {"op": "add", "field": {"name": "n", "type": "int64", "past_default": 7}},
    ]
    client.catalog.alter_table(**WHERE, schema_updates={"operations": operations})
    before = client.catalog.read(**WHERE, filter_predicate="id <> 4").sort_by("id")
    client.catalog.delete(predicate="id = 4", **WHERE)
    assert client.catalog.read(**WHERE).sort_by("id").equals(before)
    assert before.column("n").to_pylist() == [7] * 9


def test_every_engine_reads_what_is_left(client: Client) -> None:
    from deltacat_sources.polars import scan_deltacat

    make(client, "partitioned")
    client.catalog.delete(predicate="p = 'a' OR id = 1", **WHERE)
    assert sorted(scan_deltacat("ns.t", planner=client).collect()["id"]) == [3, 5, 7, 9]


def test_what_cannot_be_meant_is_refused_before_anything_is_sent(client: Client) -> None:
    make(client)
    nothings: list[Any] = [{}, ""]
    for nothing in nothings:
        with pytest.raises(PredicateError):
            client.catalog.delete(predicate=nothing, **WHERE)
    with pytest.raises(PredicateError, match="nope"):
        client.catalog.delete(predicate="nope = 1", **WHERE)
    with pytest.raises(NotFoundError):
        client.catalog.delete(predicate="id = 1", namespace="ns", table="absent")
    client.catalog.write(pa.table({"a": [1]}), namespace="ns", table="plain", format="csv")
    with pytest.raises(UnsupportedError, match="schemaless"):
        client.catalog.delete(predicate="a = 1", namespace="ns", table="plain")
    assert len(ids(client)) == 10


# --- overwrite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_take_the_place_of_those_that_a_predicate_finds(client: Client, layout: str) -> None:
    make(client, layout)
    new = pl.DataFrame({"id": [70, 71], "p": ["a", "c"], "v": [70, 71]})
    done = client.catalog.overwrite(new, predicate="v >= 7", **WHERE)
    assert (done.rows_deleted, done.rows_written) == (3, 2)
    assert ids(client) == [0, 1, 2, 3, 4, 5, 6, 70, 71]


@pytest.mark.parametrize("v", [6, None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_outside_of_the_predicate_are_refused_unless_they_may_be(
    client: Client, layout: str, v: int | None
) -> None:
    make(client, layout)
    new = pa.table({"id": [70, 71], "p": ["a", "c"], "v": pa.array([70, v], pa.int8())})
    with pytest.raises(
        SchemaValidationError, match=rf"'v': {v}}} is outside of .*check_rows=False"
    ):
        client.catalog.overwrite(new, predicate="v >= 7", **WHERE)
    assert ids(client) == list(range(10))
    done = client.catalog.overwrite(new, predicate="v >= 7", check_rows=False, **WHERE)
    assert (done.rows_deleted, done.rows_written) == (3, 2)
    assert ids(client) == [*range(7), 70, 71]


def test_rows_that_lack_the_predicates_columns_are_asked_as_they_will_be(client: Client) -> None:
    make(client)
    with pytest.raises(SchemaValidationError, match="'v': None"):
        client.catalog.overwrite(pa.table({"id": [70]}), predicate="v >= 7", **WHERE)
    client.catalog.overwrite(pa.table({"id": [70]}), predicate="v >= 7 OR v IS NULL", **WHERE)
    assert ids(client) == [0, 1, 2, 4, 5, 6, 70]


def test_rows_that_do_not_fit_leave_what_was_there(client: Client) -> None:
    make(client)
    wrong = pa.table({"id": ["x"]})
    with pytest.raises(SchemaValidationError):
        client.catalog.overwrite(wrong, predicate="v >= 7", **WHERE)
    assert len(ids(client)) == 10


# --- races and transactions -----------------------------------------------------------------------


CHANGES = [(what, layout) for layout in LAYOUTS for what in ("delete", "overwrite")]


@pytest.mark.parametrize(("what", "layout"), [*CHANGES, ("update", "keyed"), ("update", "both")])
def test_a_commit_that_comes_between_is_never_lost(client: Client, what: str, layout: str) -> None:
    make(client, layout)
    late = pa.table({"id": [99], "p": ["a"], "v": [99]})
    within: dict[str, Any] = {**WHERE, "transaction": client.transaction()}
    match what:
        case "delete":
            client.catalog.delete(predicate="v >= 7", **within)
        case "overwrite":
            client.catalog.overwrite(ROWS.slice(0, 0), predicate="v >= 7", **within)
        case _:
            client.catalog.write(pa.table({"id": [8], "v": [1]}), **within, update_columns=["v"])
    client.catalog.write(late, **WHERE)
    with pytest.raises(ConcurrentModificationError):
        within["transaction"].commit()
    assert ids(client) == [*range(10), 99]


def test_deletes_stand_in_the_transaction_around_them(client: Client) -> None:
    make(client, "partitioned")
    with client.transaction():
        client.catalog.write(pa.table({"id": [20], "p": ["a"], "v": [20]}), **WHERE)
        assert client.catalog.delete(predicate="v >= 9", **WHERE).snapshot is None
        client.catalog.delete(predicate="v = 0", **WHERE)
        assert ids(client) == [1, 2, 3, 4, 5, 6, 7, 8]
        assert len(ids(Client(client.target))) == 10
    assert ids(Client(client.target)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_of_many_deletes_at_once_each_is_whole_or_refused(client: Client) -> None:
    make(client, "partitioned")
    barrier = threading.Barrier(4)
    done: list[int] = []

    def delete(i: int) -> None:
        barrier.wait()
        while True:
            try:
                Client(client.target).catalog.delete(predicate=f"id = {i}", **WHERE)
            except ConcurrentModificationError:
                continue
            done.append(i)
            return

    threads = [threading.Thread(target=delete, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3]
    assert ids(client) == [4, 5, 6, 7, 8, 9]


def test_vacuum_and_check_find_nothing_wrong_after_deletes(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    make(client, "partitioned")
    client.catalog.delete(predicate="v >= 7", **WHERE)
    planner = EmbeddedPlanner(tmp_path / "catalog")
    vacuum(planner, keep_ns=0, grace_ns=0)
    assert check(planner).findings == ()
    assert ids(client) == [0, 1, 2, 3, 4, 5, 6]


# --- whose files a replacement may keep -----------------------------------------------------------


def test_a_writer_deletes_and_keeps_no_file_of_another_table(tmp_path: Path) -> None:
    with served(tmp_path / "catalog", "--auth", "on") as server:
        admin = Client(server.url, bearer_token=server.first_token())
        made = admin.auth.create_user(user_id="ann", role="WRITER", issue_token=True)
        assert made.token is not None
        ann = Client(server.url, bearer_token=made.token.token)
        make(ann)
        ann.catalog.write(ROWS, namespace="ns", table="other")
        assert ann.catalog.delete(predicate="v >= 7", **WHERE).rows_deleted == 3
        (file,) = ann.catalog.plan(namespace="ns", table="other").all_files()
        session = ann.catalog.stage(**WHERE, mode="replace")
        with pytest.raises(RequestRejectedError, match="is not below the session's data_dir"):
            session.commit([session.entry(file.path, records=10)])
        with pytest.raises(PermissionDeniedError):
            ann.catalog.add_files(file.path, **WHERE)


def test_files_that_were_added_stay_where_they_lie(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    for i in range(2):
        pq.write_table(ROWS.slice(i * 5, 5), tmp_path / f"{i}.parquet")
    client.catalog.add_files(tmp_path / "*.parquet", **WHERE)
    client.catalog.delete(predicate="id = 1", **WHERE)
    assert ids(client) == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    paths = [f.path for f in client.catalog.plan(**WHERE).all_files()]
    assert str(tmp_path / "1.parquet") in paths


@pytest.mark.parametrize("layout", ["plain", "partitioned", "both"])
def test_rows_go_on_s3_too(tmp_path: Path, object_store: ObjectStore, layout: str) -> None:
    root = f"{object_store.bucket()}/lake"
    client = Client(tmp_path / "catalog", data_root=root, s3=object_store.settings)
    make(client, layout)
    client.catalog.delete(predicate="v >= 7 OR p = 'a'", **WHERE)
    assert ids(client) == [1, 3, 5]
