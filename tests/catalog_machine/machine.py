"""What do all rules of the state machine stand on: the planners, their clients, and the model of them?"""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from io_core.errors import (
    AuthenticationRequiredError,
    ConcurrentModificationError,
    DeltaCATError,
    PermissionDeniedError,
    SchemaValidationError,
)
from planner_client.auth import Auth
from planner_client.catalog import Catalog
from planner_client.protocol.checked import checked
from planner_client.server.auth import AuthStore, Guard
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transport import InProcessTransport
from tests.catalog_checks import Checks
from tests.catalog_model import Session, Snapshot, State, Txn, applied
from tests.rights_model import ADMIN, CATALOG, EVERYTHING, Rights, Token, needs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.transaction import Transaction
    from planner_client.transport import Transport
    from tests.catalog_parts import Column
    from tests.linked_files import Pool

__all__ = ["GUEST", "HOUR_NS", "CatalogMachine", "Done", "outcome", "who", "whoever"]

HOUR_NS = 3600 * 10**9
# The third client, which may do what was granted to whose token it has.
GUEST = 2
_KEPT = 30

who = st.integers(0, 1)
whoever = st.sampled_from([0, 0, 1, 1, GUEST])


# Any: the call's arguments and its answer.
def outcome(
    call: Callable[..., Any], *arguments: Any, **named: Any
) -> tuple[Any, DeltaCATError | None]:
    """A call's answer, or what it was refused for."""
    try:
        return call(*arguments, **named), None
    except DeltaCATError as error:
        return None, error


class Done(NamedTuple):
    """A mutation that was answered, and when."""

    # Any, here and below: each endpoint has its own request and answer.
    endpoint: Endpoint[Any, Any]
    request: Request
    answer: Any
    time_ns: int


class _Noted:
    """Passes calls on, and notes those that were answered."""

    def __init__(self, machine: CatalogMachine, by: int, to: Transport) -> None:
        self._machine = machine
        self._by = by
        self._to = to

    def call(self, endpoint: Endpoint[Any, Any], request: Any) -> Any:
        answer = self._to.call(endpoint, request)
        self._machine.answered[endpoint.name] += 1
        if self._by != GUEST and endpoint.mutates and request.operation_id is not None:
            done = Done(endpoint, request, answer, self._machine.now_ns)
            self._machine.done = [*self._machine.done[1 - _KEPT :], done]
        return answer

    def close(self) -> None:
        self._to.close()


class _Guarded:
    """The way to a planner that asks who calls."""

    def __init__(self, machine: CatalogMachine, token: Callable[[], str]) -> None:
        self._machine = machine
        self._token = token

    def call(self, endpoint: Endpoint[Any, Any], request: Any) -> Any:
        principal = self._machine.guard.principal(f"Bearer {self._token()}")
        return self._machine.guard.call(
            self._machine.planners[1], endpoint, checked(request), principal
        )

    def close(self) -> None:
        pass


class CatalogMachine(RuleBasedStateMachine):
    """Two clients of one catalog, a guest of it, and the model.

    Args:
        folder: Where catalogs are made.
        pool: Where data files come from.
        answered: How often each endpoint gave an answer that was no error; counted on.
    """

    def __init__(self, folder: Path, pool: Pool, answered: Counter[str]) -> None:
        super().__init__()
        self.root = folder / uuid.uuid4().hex
        self.outside = folder / f"{self.root.name}-outside"
        self.pool = pool
        self.answered = answered
        # Files are older than the catalog's clock says, so vacuum takes what nobody holds.
        self.now_ns = 2 * 10**18
        self.uids = itertools.count(1)
        self.latest = Snapshot(0, self.tick(), State())
        self.past = [self.latest]
        self.horizon = 0
        self.sessions: dict[str, Session] = {}
        self.txns: dict[str, Txn] = {}
        self.done: list[Done] = []
        self.checks = Checks()
        self.planners = [self.open(), self.open()]
        self.rights = Rights()
        self.guard = self.open_guard()
        # Nobody's until somebody is one.
        self.token = "none"
        # Of calls that name themselves: by whom and how, and what was asked.
        self.keys: dict[tuple[str | None, str], tuple[object, ...]] = {}
        self.elsewhere: dict[str, tuple[Column, ...]] = {}
        self.clients = [self.client(by) for by in (0, 1, GUEST)]

    def open(self) -> EmbeddedPlanner:
        return EmbeddedPlanner(self.root, clock_ns=self.tick)

    def open_guard(self) -> Guard:
        store = AuthStore(self.root, clock_ns=self.tick)
        first = store.bootstrap()
        if first is not None:
            self.admin = first
            self.rights.users.add("admin")
            self.rights.tokens[first] = Token("admin", "")
            self.rights.grants["admin", EVERYTHING] = ADMIN
        return Guard(store)

    def way(self, by: int) -> Transport:
        """How a client reaches its planner; the guest is asked who it is."""
        if by == GUEST:
            return _Guarded(self, lambda: self.token)
        return InProcessTransport(self.planners[by])

    def client(self, by: int) -> Catalog:
        """A client's catalog."""
        return Catalog(_Noted(self, by, self.way(by)), None)

    def auth(self, token: str) -> Auth:
        """The calls on users, tokens and grants of whoever has a token."""
        return Auth(_Noted(self, GUEST, _Guarded(self, lambda: token)), None)

    def tick(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    # --- what stands between the rules and the planner ----------------------------------------------

    # Any: arguments of the operations.
    def attempt(
        self,
        by: int,
        call: Callable[[], Any],
        txn: Txn | None,
        *operations: tuple[str, dict[str, Any]],
        may_conflict: bool = False,
    ) -> Any:
        """Make a call; it has to end as the model does. Returns its answer, None where refused."""
        expected: type[DeltaCATError] | None = self.barred(by, txn, *operations)
        state = self.latest.state if txn is None else txn.state
        if expected is None:
            try:
                state = applied(state, *operations)
            except DeltaCATError as error:
                expected = type(error)
        answer, refused = outcome(call)
        if refused is not None:
            is_conflict = isinstance(refused, ConcurrentModificationError)
            known = (
                expected is not None or may_conflict if is_conflict else expected is type(refused)
            )
            known = known or (txn is not None and self.is_filled_since(refused, operations[0]))
            assert known, refused
            assert self.snapshot() == self.latest.seq
            return None
        assert expected is None
        if txn is None:
            self.remember(state)
        else:
            txn.operations += operations
        return answer

    def barred(
        self,
        by: int,
        txn: Txn | None,
        *operations: tuple[str, dict[str, Any]],
        again: bool = False,
    ) -> type[DeltaCATError] | None:
        """Why the planner lets nothing of this through, if it does not."""
        if by != GUEST:
            return None
        user = self.rights.user(self.token)
        if user is None:
            return AuthenticationRequiredError
        if txn is not None and not (txn.owner == user or self.rights.may(user, ADMIN, CATALOG)):
            return PermissionDeniedError
        wanted = [n for o in operations for n in needs(*o, self.latest.state, again=again)]
        allowed = all(self.rights.may(user, *need) for need in wanted)
        return None if allowed else PermissionDeniedError

    def is_filled_since(
        self, refused: DeltaCATError, operation: tuple[str, dict[str, Any]]
    ) -> bool:
        """Whether a version got files that a transaction, which is to divide it, does not see."""
        if operation[0] != "divide" or not isinstance(refused, SchemaValidationError):
            return False
        found = self.latest.state.tables().values()
        return any(v.filled for table in found for v in table.versions.values())

    def snapshot(self) -> int:
        return int(self.planners[0].gauges()["snapshot"])

    def remember(self, state: State) -> None:
        """The planner made a snapshot, or had no reason to."""
        seq = self.snapshot()
        if seq == self.latest.seq:
            assert state.tables() == self.latest.state.tables()
            return
        self.latest = Snapshot(seq, self.tick(), state)
        self.past.append(self.latest)

    def running(self, by: int, index: int) -> tuple[Txn, Transaction] | tuple[None, None]:
        """One of the running transactions, or none, for a call in it."""
        found = [t for t in self.txns.values() if not t.is_historic]
        if index >= len(found):
            return None, None
        handle, error = outcome(self.clients[by].get_transaction, found[index].id)
        if (barred := self.barred(by, found[index])) is not None:
            assert type(error) is barred
            return None, None
        assert error is None
        return found[index], handle

    def end_sessions(self, txn: Txn) -> None:
        """Forget the sessions of a transaction that is over."""
        for session_id, session in list(self.sessions.items()):
            if session.session.transaction_id == txn.id:
                del self.sessions[session_id]
