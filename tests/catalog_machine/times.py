"""Rules of the state machine: the past is read, time goes by, planners end and begin, calls are repeated."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from io_core.errors import NotFoundError, TransactionError
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.vacuum import vacuum
from tests.catalog_checks import each_version
from tests.catalog_machine.machine import HOUR_NS, CatalogMachine, outcome, who

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.errors import DeltaCATError
    from planner_client.catalog import Catalog
    from planner_client.protocol.endpoint import Request
    from tests.catalog_model import Snapshot

__all__ = ["Times"]


# For so long at least outcomes are kept.
OUTCOME_NS = 7 * 24 * HOUR_NS


class Times(CatalogMachine):
    """What concerns earlier moments."""

    @rule(by=who, index=st.integers(0, 20), by_time=st.booleans())
    def travel(self, by: int, index: int, *, by_time: bool) -> None:
        then = self.past[-1 - index % len(self.past)]
        pin: dict[str, Any] = {"as_of": then.time_ns} if by_time else {"snapshot": then.seq}
        for where, version in each_version(then.state):
            request = PlanRequest(**where, **pin)
            plan, error = outcome(self.planners[by].call, PLAN, request)
            if version is None:
                assert isinstance(error, NotFoundError) or then.seq < self.horizon
            elif error is None:
                assert plan.snapshot == then.seq
                self.checks.plan(plan, version)
            else:
                self.check_expired(error, then)
        if by_time and then.seq >= self.horizon:
            self.checks.rows(self.clients[by], then.state, as_of=then.time_ns)

    def check_expired(self, error: DeltaCATError, then: Snapshot) -> None:
        """A snapshot is refused only once vacuum has gone past it."""
        assert error.code == "snapshot_expired"
        assert then.seq < self.horizon

    @rule(by=who)
    def read(self, by: int) -> None:
        self.checks.state(self.clients[by], self.latest.state)
        self.checks.rows(self.clients[by], self.latest.state)

    @rule(
        by=who, what=st.sampled_from(["restart", "wait", "wait", "vacuum"]), much=st.integers(0, 3)
    )
    def operate(self, by: int, what: str, much: int) -> None:
        """What happens seldom."""
        match what:
            case "restart":
                self.restart(by)
            case "wait":
                self.wait(by, (0.4, 0.4, 0.4, 2.0)[much], expire=much % 2 == 1)
            case "vacuum":
                self.vacuum(by, (0, 0, 1, 100)[much])

    def restart(self, by: int) -> None:
        self.planners[by].close()
        self.planners[by] = self.open()
        self.clients[by] = self.client(by)
        self.guard = self.open_guard()

    def wait(self, by: int, hours: float, *, expire: bool) -> None:
        self.now_ns += int(hours * HOUR_NS)
        if expire:
            self.planners[by].expire()
        for txn in list(self.txns.values()):
            if txn.expires_ns < self.now_ns:
                self.end_sessions(txn)
                self.refuse(self.beat, self.clients[by], txn.id)
                del self.txns[txn.id]
        for session_id, session in list(self.sessions.items()):
            if session.expires_ns < self.now_ns:
                self.refuse(self.clients[by].heartbeat, session=session.session)
                del self.sessions[session_id]

    def beat(self, client: Catalog, transaction_id: str) -> None:
        client.get_transaction(transaction_id).heartbeat()

    # Any: the call's arguments.
    def refuse(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """What is over is refused."""
        _, error = outcome(call, *arguments, **named)
        assert isinstance(error, TransactionError) or (error is not None and error.status == 410)

    def vacuum(self, by: int, keep_hours: int) -> None:
        report = vacuum(self.planners[by], keep_ns=keep_hours * HOUR_NS, grace_ns=0)
        assert report.failed == ()
        assert self.horizon <= report.horizon <= self.latest.seq
        self.horizon = report.horizon
        self.forget_files()

    def forget_files(self) -> None:
        """Versions whose files were all forgotten never had any."""
        readable = [then.state for then in self.past if then.seq >= self.horizon]
        for table in self.latest.state.tables().values():
            for name, version in table.versions.items():
                found = (s.tables().values() for s in readable)
                held = (t.versions.get(name) for t in itertools.chain(*found) if t.uid == table.uid)
                version.filled = any(v is not None and v.files for v in held)

    @precondition(lambda self: self.done)
    @rule(by=who, index=st.integers(0, 29), other=st.booleans())
    def repeat(self, by: int, index: int, *, other: bool) -> None:
        """What is sent again is answered as before and does nothing; another body is refused."""
        done = self.done[-1 - index % len(self.done)]
        if self.now_ns - done.time_ns > OUTCOME_NS:
            return
        request = _another(done.request) if other else done.request
        answer, error = outcome(self.way(by).call, done.endpoint, request)
        if other:
            assert error is not None
            assert error.code == "operation_conflict"
        else:
            assert error is None
            assert answer == done.answer
        assert self.snapshot() == self.latest.seq


def _another(request: Request) -> Request:
    """The request with another value in one of its fields."""
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if name not in ("catalog", "operation_id") and isinstance(value, str):
            return msgspec.structs.replace(request, **{name: f"{value}z"})
    return msgspec.structs.replace(request, transaction_id="z")
