"""Do the calls of a client's transaction see one snapshot, and commit together or not at all?"""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest

from deltacat_sources.polars import scan_deltacat, sink_deltacat
from io_core.errors import (
    ConcurrentModificationError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    TransactionError,
)
from io_core.model import TableRef
from io_core.scan import Scan
from planner_client import Client
from planner_client.protocol.namespaces import CREATE_NAMESPACE, CreateNamespace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from planner_client.transaction import Transaction

SCHEMA_DEF: list[Mapping[str, Any]] = [
    {"name": "episode_id", "type": "int64", "is_merge_key": True},
    {"name": "score", "type": "float64"},
]
SCORES = pa.table({"episode_id": [3, 4], "score": [0.91, 0.89]})


@pytest.fixture
def other(client: Client) -> Client:
    """A second client of the same planner: what everybody else sees."""
    return Client(client.target)


@pytest.fixture
def where(client: Client, ns: str) -> dict[str, Any]:
    """A table of two rows."""
    client.catalog.write(pa.table({"x": [1, 2]}), namespace=ns, table="t")
    return {"namespace": ns, "table": "t"}


def xs(client: Client, where: dict[str, Any], **options: Any) -> list[int]:
    return sorted(client.catalog.read(**where, **options).column("x").to_pylist())


# --- the contract's examples ----------------------------------------------------------------------


def test_calls_in_the_block_belong_to_it_and_become_visible_together(
    client: Client, other: Client, ns: str
) -> None:
    where: dict[str, Any] = {"namespace": ns, "table": "predictions"}
    with client.transaction(commit_message="Create and backfill predictions") as tx:
        client.catalog.create_namespace(namespace=ns)
        made = client.catalog.create_table(
            **where, schema_def=SCHEMA_DEF, content_type="parquet", auto_create_namespace=False
        )
        written = client.catalog.write(SCORES, **where, mode="merge", format="parquet")
        preview = client.catalog.read(**where)
        assert not other.catalog.namespace_exists(namespace=ns)
    assert preview.sort_by("episode_id") == SCORES.cast(preview.schema)
    assert (written.attached, written.committed) == (True, False)
    assert made.transaction_id == written.transaction_id == tx.transaction_id
    assert other.catalog.read(**where) == preview
    assert tx.commit_message == "Create and backfill predictions"
    assert not tx.is_open
    assert tx.info.snapshot == other.catalog.plan(**where).snapshot


def test_an_explicit_handle_commits_when_it_is_told_to(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    tx = client.transaction(commit_message="Backfill prediction scores")
    client.catalog.write(pa.table({"x": [3]}), **where, mode="add", transaction=tx)
    assert xs(client, where, transaction=tx) == [1, 2, 3]
    assert xs(client, where) == [1, 2]
    tx.commit()
    assert xs(other, where) == [1, 2, 3]


def test_an_explicit_handle_is_aborted_when_it_is_told_to(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    tx = client.transaction()
    client.catalog.write(pa.table({"x": [3]}), **where, transaction=tx)
    ended = tx.abort(reason="backfill failed")
    assert ended.finalized_at is not None
    assert tx.status == "ABORTED"
    assert xs(other, where) == [1, 2]
    # As in an `except` clause around a commit that failed.
    assert tx.abort() == ended


def test_an_exception_aborts_with_its_text_and_is_raised(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    tx = client.transaction()
    with pytest.raises(KeyError, match="episode"), tx:  # noqa: PT012  # the block is what is tested
        client.catalog.write(pa.table({"x": [3]}), **where)
        client.catalog.drop_table(**where)
        raise KeyError("episode")
    assert tx.get().status == "ABORTED"
    assert xs(other, where) == [1, 2]


def test_a_historic_transaction_reads_what_was_and_refuses_every_write(
    client: Client, where: dict[str, Any]
) -> None:
    checkpoint_ns = client.catalog.transaction().info.created_at
    client.catalog.write(pa.table({"x": [3]}), **where)
    client.catalog.create_table(namespace=where["namespace"], table="later")
    with client.transaction(as_of=checkpoint_ns) as historic:
        assert historic.as_of == checkpoint_ns
        assert xs(client, where, transaction=historic) == xs(client, where) == [1, 2]
        assert not client.catalog.table_exists(namespace=where["namespace"], table="later")
        for write in (
            lambda: client.catalog.create_namespace(namespace="no"),
            lambda: client.catalog.drop_table(**where),
            lambda: client.catalog.stage(**where),
            lambda: client.catalog.write(pa.table({"x": [4]}), **where),
        ):
            with pytest.raises(RequestRejectedError, match="read"):
                write()
    assert historic.info.finalized_at is not None
    assert historic.status != "ABORTED"
    assert xs(client, where) == [1, 2, 3]


# --- isolation ------------------------------------------------------------------------------------


def test_a_transaction_does_not_see_what_others_commit_meanwhile(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    with client.transaction():
        other.catalog.write(pa.table({"x": [9]}), **where, mode="add")
        assert xs(client, where) == [1, 2]
        client.catalog.write(pa.table({"x": [3]}), **where, mode="add")
        assert xs(client, where) == [1, 2, 3]
    assert xs(client, where) == [1, 2, 3, 9]


def test_a_change_stays_with_the_version_that_the_transaction_saw(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    two = {**where, "table_version": "2"}
    made = {"lifecycle_state": "unreleased", "schema": pa.schema([("x", pa.int64())])}
    client.catalog.create_table(**two, **made)
    add = {"operations": [{"op": "add", "field": {"name": "y", "type": "int64"}}]}
    with client.transaction():
        client.catalog.alter_table(**where, schema_updates=add)
        other.catalog.alter_table(**two, lifecycle_state="active")
    found = {
        v: [f.name for f in client.catalog.describe_table(**where, table_version=v).schema or ()]
        for v in ("1", "2")
    }
    assert found == {"1": ["x", "y"], "2": ["x"]}


def test_the_loser_of_a_race_is_told_and_nothing_of_it_is_visible(
    client: Client, other: Client, where: dict[str, Any], ns: str
) -> None:
    tx = client.transaction()
    client.catalog.create_table(namespace=ns, table="made", transaction=tx)
    client.catalog.write(pa.table({"x": [3]}), **where, mode="append", transaction=tx)
    other.catalog.write(pa.table({"x": [9]}), **where, mode="append")
    with pytest.raises(ConcurrentModificationError):
        tx.commit()
    tx.abort(reason="backfill failed")
    assert tx.status == "ABORTED"
    assert xs(client, where) == [1, 2, 9]
    assert not client.catalog.table_exists(namespace=ns, table="made")


def test_the_block_raises_what_its_commit_is_refused_for(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    tx = client.transaction()
    client.catalog.write(pa.table({"x": [3]}), **where, mode="replace", transaction=tx)
    other.catalog.write(pa.table({"x": [9]}), **where)
    with pytest.raises(ConcurrentModificationError), tx:
        pass
    assert tx.get().status == "ABORTED"


def test_every_namespace_and_table_call_stands_in_the_transaction(
    client: Client, other: Client, ns: str
) -> None:
    catalog = client.catalog
    with client.transaction() as tx:
        catalog.create_namespace(namespace=ns, properties={"a": 1})
        catalog.alter_namespace(namespace=ns, properties={"b": 2})
        assert catalog.get_namespace(namespace=ns).properties == {"a": 1, "b": 2}
        assert ns in [found.name for found in catalog.list_namespaces()]
        catalog.create_table(namespace=ns, table="a", schema=pa.schema([("x", pa.int64())]))
        catalog.alter_table(namespace=ns, table="a", table_description="about a")
        catalog.rename_table(namespace=ns, table="a", new_name="b")
        catalog.create_table(namespace=ns, table="c")
        catalog.drop_table(namespace=ns, table="c")
        assert [found.name for found in catalog.list_tables(namespace=ns)] == ["b"]
        assert [v.table_version for v in catalog.list_table_versions(namespace=ns, table="b")] == [
            "1"
        ]
        assert catalog.describe_table(namespace=ns, table="b").description == "about a"
        assert catalog.plan(namespace=ns, table="b").total_files == 0
        assert not other.catalog.namespace_exists(namespace=ns)
        seen = tx.info.transaction_version
    assert other.catalog.describe_table(namespace=ns, table="b").description == "about a"
    assert tx.transaction_version > seen
    with client.transaction():
        catalog.drop_namespace(namespace=ns)
        assert not catalog.namespace_exists(namespace=ns)
        assert other.catalog.namespace_exists(namespace=ns)
    assert not other.catalog.namespace_exists(namespace=ns)


# --- versions -------------------------------------------------------------------------------------


def test_every_mutation_moves_the_version_and_no_read_does(client: Client, ns: str) -> None:
    with client.transaction() as tx:
        seen = [tx.transaction_version]
        made = client.catalog.create_namespace(namespace=ns)
        seen.append(tx.transaction_version)
        client.catalog.list_tables(namespace=ns)
        assert tx.transaction_version == seen[-1] == made.transaction_version
        session = client.catalog.stage(
            namespace=ns, table="t", create_if_missing={"schema_def": SCHEMA_DEF}
        )
        seen.append(tx.transaction_version)
        assert (session.transaction_id, session.transaction_version) == (tx.id, seen[-1])
        client.catalog.commit(session=session, entries=[])
        seen.append(tx.transaction_version)
    assert seen == sorted(set(seen))


def test_a_stale_version_is_refused(client: Client, ns: str) -> None:
    tx = client.transaction()
    stale = tx.transaction_version
    client.catalog.create_namespace(namespace=ns, transaction=tx)
    request = CreateNamespace(
        namespace=f"{ns}2",
        transaction_id=tx.transaction_id,
        transaction_version=stale,
        operation_id=f"op_{ns}",
    )
    with pytest.raises(ConcurrentModificationError, match="version"):
        client._transport.call(CREATE_NAMESPACE, request)
    tx.commit()
    assert client.catalog.namespace_exists(namespace=ns)
    assert not client.catalog.namespace_exists(namespace=f"{ns}2")


def test_after_a_refusal_the_transaction_goes_on(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    with client.transaction():
        for _ in range(2):
            with pytest.raises(NotFoundError):
                client.catalog.drop_table(namespace=where["namespace"], table="absent")
        with pytest.raises(SchemaValidationError):
            client.catalog.write(pa.table({"X": [3]}), **where)
        client.catalog.write(pa.table({"x": [3]}), **where)
    assert xs(other, where) == [1, 2, 3]


def test_threads_share_a_transaction(client: Client, other: Client, where: dict[str, Any]) -> None:
    with client.transaction() as tx, ThreadPoolExecutor(4) as pool:

        def add(x: int) -> None:
            client.catalog.write(pa.table({"x": [x]}), **where, mode="add", transaction=tx)

        list(pool.map(add, range(3, 11)))
    assert xs(other, where) == list(range(1, 11))


# --- which transaction ----------------------------------------------------------------------------


def test_nested_transactions_are_independent(client: Client, where: dict[str, Any]) -> None:
    with pytest.raises(KeyError), client.transaction():  # noqa: PT012  # the block is what is tested
        client.catalog.write(pa.table({"x": [3]}), **where, mode="add")
        with client.transaction():
            assert xs(client, where) == [1, 2]
            client.catalog.write(pa.table({"x": [4]}), **where, mode="add")
        assert xs(client, where) == [1, 2, 3]
        raise KeyError
    assert xs(client, where) == [1, 2, 4]


def test_a_transaction_that_is_passed_overrides_the_block(
    client: Client, where: dict[str, Any]
) -> None:
    aside = client.transaction()
    with client.transaction():
        client.catalog.write(pa.table({"x": [3]}), **where, mode="add", transaction=aside)
        assert xs(client, where) == [1, 2]
        assert xs(client, where, transaction=aside) == [1, 2, 3]
    assert xs(client, where) == [1, 2]
    aside.commit()
    assert xs(client, where) == [1, 2, 3]


def test_a_block_takes_in_the_calls_of_its_own_client_alone(
    client: Client, other: Client, ns: str
) -> None:
    with client.transaction() as mine, other.transaction() as theirs:
        assert client.catalog.create_namespace(namespace=ns).transaction_id == mine.id
        assert other.catalog.create_namespace(namespace=f"{ns}2").transaction_id == theirs.id


def test_a_task_and_a_thread_of_the_block_are_in_it_and_another_thread_is_not(
    client: Client, where: dict[str, Any]
) -> None:
    async def in_thread() -> list[int]:
        return await asyncio.to_thread(xs, client, where)

    found: list[list[int]] = []
    with client.transaction():
        client.catalog.write(pa.table({"x": [3]}), **where)
        assert asyncio.run(in_thread()) == [1, 2, 3]
        thread = threading.Thread(target=lambda: found.append(xs(client, where)))
        thread.start()
        thread.join()
    assert found == [[1, 2]]


REFUSED: dict[str, Callable[[Client, Transaction, dict[str, Any]], object]] = {
    "another client's": lambda c, t, w: Client(c.target).catalog.plan(**w, transaction=t),
    "no transaction": lambda c, t, w: c.catalog.plan(**w, transaction=t.id),  # type: ignore[arg-type]  # what is tested
    "catalog": lambda c, t, w: c.catalog.plan(**w, transaction=t, catalog="default"),
    "as_of": lambda c, t, w: c.catalog.plan(**w, transaction=t, as_of=1),
    "session": lambda c, t, w: c.catalog.commit(
        session=c.catalog.stage(**w), entries=[], transaction=t
    ),
    "another's session": lambda c, t, w: c.catalog.commit(
        session=c.catalog.stage(**w, transaction=c.transaction()), entries=[], transaction=t
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_a_transaction_is_refused(
    client: Client, where: dict[str, Any], case: str
) -> None:
    tx = client.transaction()
    seen = tx.get()
    with pytest.raises(TransactionError):
        REFUSED[case](client, tx, where)
    assert tx.get() == seen


@pytest.mark.parametrize("call", ["truncate_table", "rollback_table", "write_data"])
def test_a_call_that_no_transaction_holds_is_refused_in_its_block(
    client: Client, where: dict[str, Any], call: str
) -> None:
    options: dict[str, dict[str, Any]] = {
        "rollback_table": {"as_of": 1},
        "write_data": {"data": {"x": [3]}},
    }
    with client.transaction() as tx, pytest.raises(TransactionError, match=f"{call} cannot be"):
        getattr(client.catalog, call)(**where, **options.get(call, {}))
    assert tx.info.operation_count == 0
    assert xs(client, where) == [1, 2]


def test_in_a_block_a_catalog_a_time_and_an_older_session_are_refused(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where)
    with client.transaction():
        with pytest.raises(TransactionError, match="catalog='default' does not go with"):
            client.catalog.list_namespaces(catalog="default")
        with pytest.raises(TransactionError, match="as_of=5 does not go with"):
            client.catalog.read(**where, as_of=5)
        with pytest.raises(TransactionError, match="was staged outside of"):
            client.catalog.commit(session=session, entries=[])


# --- its life -------------------------------------------------------------------------------------


def test_a_transaction_that_has_ended_takes_no_more_calls(
    client: Client, where: dict[str, Any]
) -> None:
    with client.transaction() as tx:
        tx.commit()
        with pytest.raises(TransactionError, match=r"begin another one with client.transaction"):
            client.catalog.plan(**where)
    assert tx.commit() == tx.info
    for call in (tx.abort, tx.heartbeat):
        with pytest.raises(TransactionError, match=tx.status):
            call()
    client.catalog.plan(**where)


def test_a_block_that_is_entered_cannot_be_entered_again(client: Client) -> None:
    with client.transaction() as tx, pytest.raises(TransactionError, match="entered already"):
        tx.__enter__()
    assert tx.status != "ABORTED"


def test_a_transaction_and_its_session_are_fetched_and_go_on(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    tx = client.transaction(commit_message="stage files")
    assert client.catalog.get_transaction(tx.id) is tx
    session = client.catalog.stage(**where, mode="add", transaction=tx)
    again = Client(client.target)
    fetched = again.catalog.get_transaction(tx.id)
    assert (fetched.id, fetched.commit_message) == (tx.id, "stage files")
    assert fetched.info.bound_write_sessions == [session.session_id]
    attached = again.catalog.commit(
        session=again.catalog.get_write_session(session.session_id), entries=[]
    )
    assert attached.attached
    fetched.commit()
    assert tx.is_open
    assert client.catalog.get_transaction(tx.id).status == fetched.status == tx.status
    with pytest.raises(NotFoundError, match="tx_absent"):
        client.catalog.get_transaction("tx_absent")


def test_a_session_of_a_transaction_is_committed_and_aborted_without_naming_it(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    tx = client.transaction()
    kept, left = (client.catalog.stage(**where, mode="add", transaction=tx) for _ in range(2))
    client.abort(session=left, reason="not needed")
    assert client.commit(session=kept, entries=[]).attached
    client.catalog.write(pa.table({"x": [3]}), **where, transaction=tx)
    tx.commit()
    assert xs(other, where) == [1, 2, 3]


def test_sinks_and_scans_stand_in_the_block(
    client: Client, other: Client, where: dict[str, Any]
) -> None:
    name = f"{where['namespace']}.t"
    with client.transaction() as tx:
        sink_deltacat(pl.LazyFrame({"x": [3]}), name, mode="add", planner=client)
        assert sorted(scan_deltacat(name, planner=client).collect()["x"]) == [1, 2, 3]
        assert sorted(scan_deltacat(name, planner=other).collect()["x"]) == [1, 2]
        lazy = scan_deltacat(name, planner=client)
    with pytest.raises(TransactionError, match=f"{tx.id} is COMMITTED"):
        lazy.collect()
    assert sorted(scan_deltacat(name, planner=other).collect()["x"]) == [1, 2, 3]


def test_a_scan_from_outside_keeps_its_snapshot_in_the_block(
    client: Client, where: dict[str, Any]
) -> None:
    scan, _ = Scan(TableRef(**where), client).pinned()
    with client.transaction():
        client.catalog.write(pa.table({"x": [3]}), **where, mode="add")
        assert scan.plan().total_records == 2


def test_a_scan_of_a_transaction_is_planned_in_another_process_too(
    client: Client, where: dict[str, Any]
) -> None:
    with client.transaction():
        client.catalog.write(pa.table({"x": [3]}), **where, mode="add")
        scan, _ = Scan(TableRef(**where), client).pinned()
        sent: Scan = pickle.loads(pickle.dumps(scan))
        assert sent.plan().total_records == 3
