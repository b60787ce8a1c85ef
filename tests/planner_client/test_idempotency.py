"""Does every mutation happen once, however often it is sent, and none through a closed session?"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest

from io_core.errors import (
    ConcurrentModificationError,
    DeltaCATError,
    NotFoundError,
    RequestRejectedError,
)
from io_core.model import TableRef, WriteEntry, WriteSession
from io_core.sink import OpenSink, Sink
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.heartbeat import heartbeating
from planner_client.protocol.namespaces import CREATE_NAMESPACE, CreateNamespace
from planner_client.protocol.tables import CREATE_TABLE, CreateTable
from planner_client.protocol.writes import STAGE, StageRequest
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transport import InProcessTransport
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS = pa.table({"k": [1, 2]})
HOUR_NS = 3600 * 10**9


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("idempotency") / "catalog") as found:
        Client(found).catalog.create_table(**WHERE, schema=ROWS.schema, auto_create_namespace=True)
        yield found


@pytest.fixture(params=["embedded", "http"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """A client of a table, once for each way to its planner."""
    if request.param == "http":
        return Client(request.getfixturevalue("url"))
    found = Client(tmp_path / "catalog")
    found.catalog.create_table(**WHERE, schema=ROWS.schema, auto_create_namespace=True)
    return found


def staged(client: Client | Catalog) -> tuple[WriteSession, list[WriteEntry]]:
    """A session and a file in it, not committed."""
    planner = client.catalog if isinstance(client, Client) else client
    session = planner.stage(**WHERE)
    return session, OpenSink(planner, session, "unused").write(ROWS)


def total(client: Client) -> int | None:
    return client.catalog.describe_table(**WHERE).total_records


def test_a_commit_that_is_sent_again_returns_the_first_ones_result(client: Client) -> None:
    before = total(client)
    session, entries = staged(client)
    operation = f"op_{session.session_id}"
    first = client.commit(session=session, entries=entries, operation_id=operation)
    again = client.commit(session=session, entries=entries, operation_id=operation)
    assert again == first
    assert (first.status, first.committed, total(client)) == ("COMMITTED", True, (before or 0) + 2)


def test_another_body_under_the_same_operation_is_refused(client: Client) -> None:
    session, entries = staged(client)
    operation = f"op_{session.session_id}"
    client.commit(session=session, entries=entries, operation_id=operation)
    for other in ([], [msgspec.structs.replace(entries[0], record_count=7)]):
        with pytest.raises(RequestRejectedError, match="was used for another request") as caught:
            client.commit(session=session, entries=other, operation_id=operation)
        assert (caught.value.code, caught.value.status) == ("operation_conflict", 409)


def test_a_second_commit_of_one_session_is_refused(client: Client) -> None:
    session, entries = staged(client)
    before = total(client)
    client.commit(session=session, entries=entries)
    with pytest.raises(RequestRejectedError, match="is COMMITTED") as caught:
        client.commit(session=session, entries=entries, operation_id="op_another")
    assert caught.value.code == "session_closed"
    assert total(client) == (before or 0) + 2
    found = client.catalog.get_write_session(session.session_id)
    assert (found.status, found.session_version) == ("COMMITTED", session.session_version + 1)


def test_a_commit_that_was_refused_may_be_sent_again_once_it_is_right(client: Client) -> None:
    session, entries = staged(client)
    wrong = [msgspec.structs.replace(entries[0], content_length=1)]
    with pytest.raises(OSError, match="its entry says 1"):
        client.commit(session=session, entries=wrong, operation_id=f"x{session.session_id}")
    done = client.commit(session=session, entries=entries, operation_id=f"x{session.session_id}")
    assert done.committed


def test_an_aborted_session_commits_no_more(client: Client) -> None:
    session, entries = staged(client)
    aborted = client.abort(session=session, reason="no more")
    assert aborted.status == "ABORTED"
    assert client.abort(session=session) == aborted
    with pytest.raises(RequestRejectedError, match="is ABORTED"):
        client.commit(session=session, entries=entries)
    with pytest.raises(RequestRejectedError, match="is ABORTED"):
        client.heartbeat(session=session)


def test_a_committed_session_is_not_aborted(client: Client) -> None:
    session, entries = staged(client)
    client.commit(session=session, entries=entries)
    with pytest.raises(RequestRejectedError, match="is COMMITTED"):
        client.abort(session=session)


def test_a_session_of_another_version_is_refused(client: Client) -> None:
    session, entries = staged(client)
    older = msgspec.structs.replace(session, session_version=session.session_version - 1)
    with pytest.raises(ConcurrentModificationError, match="is at version 1, not 0"):
        client.commit(session=older, entries=entries)


def test_an_unknown_session_is_not_found(client: Client) -> None:
    session = WriteSession("ws_0", 1, "OPEN", "ns", "t", "/nowhere")
    with pytest.raises(NotFoundError, match="write session 'ws_0' not found"):
        client.commit(session=session, entries=[])
    with pytest.raises(NotFoundError, match="'ws_0'"):
        client.catalog.get_write_session("ws_0")


def test_an_operation_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    client = Client(root)
    client.catalog.create_table(**WHERE, schema=ROWS.schema, auto_create_namespace=True)
    session, entries = staged(client)
    first = client.commit(session=session, entries=entries, operation_id="op")
    client.close()
    assert Client(root).commit(session=session, entries=entries, operation_id="op") == first
    with serving(root) as url:
        served = Client(url)
        assert served.commit(session=session, entries=entries, operation_id="op") == first
        assert total(served) == 2


def test_every_kind_of_mutation_is_remembered(tmp_path: Path) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    namespace = CreateNamespace(namespace="ns", operation_id="a")
    table = CreateTable(
        namespace="ns", table="t", schema_def=[], operation_id="b", fail_if_exists=False
    )
    assert planner.call(CREATE_NAMESPACE, namespace) == planner.call(CREATE_NAMESPACE, namespace)
    with pytest.raises(DeltaCATError):
        planner.call(CREATE_TABLE, table)
    Catalog(InProcessTransport(planner), None).create_table(**WHERE, schema=ROWS.schema)
    stage = StageRequest(namespace="ns", table="t", mode="add", operation_id="c")
    assert planner.call(STAGE, stage) == planner.call(STAGE, stage)
    with pytest.raises(RequestRejectedError, match="operation c was used for another request"):
        planner.call(CREATE_NAMESPACE, CreateNamespace(namespace="other", operation_id="c"))


def test_a_commit_sent_by_many_threads_at_once_happens_once(client: Client) -> None:
    before = total(client)
    session, entries = staged(client)
    results: list[WriteSession] = []
    operation = f"op_{session.session_id}"

    def send() -> None:
        results.append(client.commit(session=session, entries=entries, operation_id=operation))

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(results) == 5
    assert all(r == results[0] for r in results)
    assert total(client) == (before or 0) + 2


def test_a_sink_commits_once_however_often_it_is_told(client: Client) -> None:
    before = total(client)
    sink = Sink(TableRef("ns", "t"), client).open()
    entries = sink.write(ROWS)
    assert sink.commit(entries) == sink.commit(entries)
    assert total(client) == (before or 0) + 2


# --- time -----------------------------------------------------------------------------------------


class Clock:
    """A clock that tests set, in nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> Catalog:
    found = Catalog(InProcessTransport(EmbeddedPlanner(tmp_path / "c", clock_ns=clock)), None)
    found.create_table(**WHERE, schema=ROWS.schema, auto_create_namespace=True)
    return found


def test_an_expired_session_is_refused_and_can_still_be_cleared_away(
    timed: Catalog, clock: Clock
) -> None:
    session, entries = staged(timed)
    assert session.expires_at == clock.now_ns + HOUR_NS
    clock.now_ns += HOUR_NS + 1
    with pytest.raises(RequestRejectedError, match="expired: stage a new one") as caught:
        timed.commit(session=session, entries=entries)
    assert (caught.value.code, caught.value.status) == ("session_expired", 410)
    with pytest.raises(RequestRejectedError, match="expired"):
        timed.heartbeat(session=session)
    OpenSink(timed, session, "op").abort("expired")
    assert not os.path.exists(session.data_dir)
    assert timed.describe_table(**WHERE).total_files == 0


def test_a_heartbeat_keeps_a_session_open_without_changing_its_version(
    timed: Catalog, clock: Clock
) -> None:
    session, entries = staged(timed)
    clock.now_ns += HOUR_NS
    beaten = timed.heartbeat(session=session)
    assert (beaten.expires_at, beaten.last_heartbeat_at) == (clock.now_ns + HOUR_NS, clock.now_ns)
    assert beaten.session_version == session.session_version
    clock.now_ns += HOUR_NS
    assert timed.commit(session=session, entries=entries).committed


def test_a_thread_heartbeats_for_as_long_as_a_block_runs(timed: Catalog, clock: Clock) -> None:
    session, _ = staged(timed)
    clock.now_ns += 5
    beaten = threading.Event()

    def beat() -> None:
        timed.heartbeat(session=session)
        beaten.set()

    with heartbeating(beat, interval_s=0.001):
        assert beaten.wait(30)
    assert timed.get_write_session(session.session_id).last_heartbeat_at == clock.now_ns
    assert not [t for t in threading.enumerate() if t.name == "heartbeat"]
    assert len([t for t in threading.enumerate() if t.name == "heartbeat-watch"]) == 1


def test_blocks_that_end_before_their_first_heartbeat_start_no_thread() -> None:
    with heartbeating(lambda: None):
        before = threading.active_count()
    for _ in range(100):
        with heartbeating(lambda: None), heartbeating(lambda: None, interval_s=600):
            assert threading.active_count() == before
