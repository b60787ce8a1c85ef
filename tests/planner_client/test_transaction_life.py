"""Does a transaction survive lost answers, and live as long as somebody sends heartbeats?"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import PlannerUnavailableError, RequestRejectedError, TransactionError
from planner_client.calls import Calls
from planner_client.catalog import Catalog
from planner_client.protocol.transactions import BEGIN, BeginTransaction
from planner_client.protocol.writes import COMMIT, CommitRequest
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transaction import Transaction
from planner_client.transport import InProcessTransport

if TYPE_CHECKING:
    from pathlib import Path

HOUR_NS = 3600 * 10**9


class Losing(InProcessTransport):
    """The planner, reached over a line that loses the answer of the next call of a name."""

    lose = ""

    def __init__(self, planner: EmbeddedPlanner) -> None:
        super().__init__(planner)
        self.called: list[str] = []

    # Any: each endpoint has its own request and response.
    def call(self, endpoint: Any, request: Any) -> Any:
        self.called.append(endpoint.name)
        answer = super().call(endpoint, request)
        if endpoint.name == self.lose:
            self.lose = ""
            raise PlannerUnavailableError("no planner answers")
        return answer


def test_after_a_lost_answer_the_transaction_goes_on(tmp_path: Path) -> None:
    transport = Losing(EmbeddedPlanner(tmp_path / "catalog"))
    catalog = Catalog(transport, None)
    with catalog.transaction():
        transport.lose = "create_namespace"
        with pytest.raises(PlannerUnavailableError):
            catalog.create_namespace(namespace="a")
        assert catalog.namespace_exists(namespace="a")
        catalog.create_namespace(namespace="b")
    assert [found.name for found in catalog.list_namespaces()] == ["a", "b"]


def test_a_call_in_a_transaction_is_one_request(tmp_path: Path) -> None:
    transport = Losing(EmbeddedPlanner(tmp_path / "catalog"))
    catalog = Catalog(transport, None)
    with catalog.transaction():
        catalog.create_namespace(namespace="a")
        catalog.namespace_exists(namespace="a")
        catalog.drop_namespace(namespace="a")
    assert transport.called == [
        "begin_transaction", "create_namespace", "namespace_exists", "drop_namespace",
        "commit_transaction",
    ]  # fmt: skip


def test_a_commit_whose_answer_was_lost_is_tried_again(tmp_path: Path) -> None:
    transport = Losing(EmbeddedPlanner(tmp_path / "catalog"))
    catalog = Catalog(transport, None)
    tx = catalog.transaction()
    catalog.create_namespace(namespace="a", transaction=tx)
    transport.lose = "commit_transaction"
    with pytest.raises(PlannerUnavailableError):
        tx.commit()
    assert tx.commit().status == "COMMITTED"
    assert tx.commit().snapshot is not None
    assert transport.called.count("commit_transaction") == 1
    with pytest.raises(TransactionError, match="COMMITTED"):
        tx.abort()


def test_an_abort_that_fails_leaves_the_first_error(tmp_path: Path) -> None:
    transport = Losing(EmbeddedPlanner(tmp_path / "catalog"))
    catalog = Catalog(transport, None)
    transport.lose = "abort_transaction"
    with pytest.raises(KeyError) as caught, catalog.transaction():
        raise KeyError
    assert "could not be aborted: no planner answers" in caught.value.__notes__[0]


# --- heartbeats -----------------------------------------------------------------------------------


def test_heartbeats_of_a_session_keep_its_transaction_open(tmp_path: Path) -> None:
    clock = [10**18]
    planner = EmbeddedPlanner(tmp_path / "catalog", clock_ns=lambda: clock[0])
    catalog = Catalog(InProcessTransport(planner), None)
    tx = catalog.transaction()
    create = {"schema_def": [{"name": "x", "type": "int64"}]}
    session = catalog.stage(namespace="n", table="t", create_if_missing=create, transaction=tx)
    for _ in range(4):
        clock[0] += HOUR_NS // 2
        catalog.heartbeat(session=session)
    catalog.commit(session=session, entries=[])
    assert tx.commit().status == "COMMITTED"


def test_heartbeats_keep_a_transaction_open(tmp_path: Path) -> None:
    clock = [10**18]
    planner = EmbeddedPlanner(tmp_path / "catalog", clock_ns=lambda: clock[0])
    catalog = Catalog(InProcessTransport(planner), None)
    kept, lost = catalog.transaction(), catalog.transaction()
    lasts = kept.info.expires_at - clock[0]
    assert lasts >= HOUR_NS // 2
    for _ in range(4):
        clock[0] += lasts // 2
        assert kept.heartbeat().expires_at == clock[0] + lasts
    catalog.create_namespace(namespace="kept", transaction=kept)
    kept.commit()
    with pytest.raises(RequestRejectedError, match="expired") as caught:
        catalog.create_namespace(namespace="lost", transaction=lost)
    assert caught.value.code == "transaction_expired"
    assert [found.name for found in catalog.list_namespaces()] == ["kept"]


def test_a_block_sends_heartbeats_until_it_ends(tmp_path: Path) -> None:
    beaten = threading.Event()

    class Watching(InProcessTransport):
        """The planner, with a signal after each heartbeat."""

        # Any: each endpoint has its own request and response.
        def call(self, endpoint: Any, request: Any) -> Any:
            answer = super().call(endpoint, request)
            if endpoint.name == "heartbeat_transaction":
                beaten.set()
            return answer

    calls = Calls(Watching(EmbeddedPlanner(tmp_path / "catalog")), None)
    info = calls.transport.call(BEGIN, BeginTransaction())
    with Transaction(calls, info, interval_s=0.001) as tx:
        assert beaten.wait(30)
    assert not tx.is_open
    assert not [t for t in threading.enumerate() if t.name == "deltacat-heartbeat"]


def test_a_session_is_committed_in_no_transaction_but_its_own(tmp_path: Path) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    catalog = Catalog(InProcessTransport(planner), None)
    where: dict[str, Any] = {"namespace": "n", "table": "t"}
    schema = pa.schema([("x", pa.int64())])
    catalog.create_table(**where, schema=schema, auto_create_namespace=True)
    one, other = catalog.transaction(), catalog.transaction()
    alone, bound = catalog.stage(**where), catalog.stage(**where, transaction=one)
    for session, told in ((alone, "in no transaction"), (bound, f"in transaction {one.id}")):
        asked = CommitRequest(
            session_id=session.session_id,
            session_version=1,
            entries=[],
            transaction_id=other.id,
            transaction_version=1,
        )
        with pytest.raises(RequestRejectedError, match=told):
            planner.call(COMMIT, asked)
    other.commit()
    one.commit()
    catalog.commit(session=alone, entries=[])
    assert check(planner).findings == ()
