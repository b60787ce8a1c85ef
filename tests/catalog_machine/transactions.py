"""Rules of the state machine: transactions begin, now or in the past, look, and end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from io_core.errors import (
    AuthenticationRequiredError,
    PermissionDeniedError,
    RequestRejectedError,
)
from tests.catalog_changes import alterations
from tests.catalog_machine.changes import Changes
from tests.catalog_machine.machine import GUEST, HOUR_NS, outcome, who, whoever
from tests.catalog_machine.times import Times
from tests.catalog_model import Txn
from tests.rights_model import CATALOG

__all__ = ["Transactions"]


class Transactions(Changes, Times):
    """What holds several changes together."""

    @precondition(lambda self: len(self.txns) < 3)
    @rule(by=whoever)
    def begin(self, by: int) -> None:
        handle, error = outcome(self.clients[by].transaction, commit_message="tried")
        user = self.rights.user(self.token) if by == GUEST else None
        if by == GUEST and (user is None or not self.rights.sees(user, CATALOG)):
            assert isinstance(error, AuthenticationRequiredError | PermissionDeniedError)
            return
        self.txns[handle.transaction_id] = Txn(handle, self.latest, self.now_ns + HOUR_NS, user)

    @precondition(lambda self: len(self.txns) < 3)
    @rule(by=who, index=st.integers(0, 20))
    def begin_in_the_past(self, by: int, index: int) -> None:
        then = self.past[-1 - index % len(self.past)]
        handle, error = outcome(self.clients[by].transaction, as_of=then.time_ns)
        if error is not None:
            self.check_expired(error, then)
            return
        self.txns[handle.transaction_id] = Txn(handle, then, self.now_ns + HOUR_NS)
        with pytest.raises(RequestRejectedError, match="it reads, and writes nothing"):
            self.clients[by].create_namespace(namespace="z", transaction=handle)

    @precondition(lambda self: self.txns)
    @rule(by=whoever, index=st.integers(0, 2), how=st.sampled_from(["commit", "commit", "abort"]))
    def end(self, by: int, index: int, how: str) -> None:
        txn = list(self.txns.values())[index % len(self.txns)]
        handle, error = outcome(self.clients[by].get_transaction, txn.id)
        asked = () if how == "abort" else txn.operations
        if (barred := self.barred(by, txn, *asked, again=True)) is not None:
            # What was granted when it was asked for may have been revoked since.
            error = error or outcome(handle.commit)[1]
            assert type(error) is barred
            return
        self.end_sessions(txn)
        if how == "abort":
            assert handle.abort().status == "ABORTED"
            assert self.snapshot() == self.latest.seq
        else:
            self.attempt(
                by,
                handle.commit,
                None,
                *txn.operations,
                may_conflict=self.latest.seq > txn.base.seq,
            )
        del self.txns[txn.id]

    @precondition(lambda self: len(self.txns) < 3)
    @rule(
        by=who,
        inside=alterations,
        outside=alterations,
        picks=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    )
    def race(
        self, by: int, inside: tuple[Any, ...], outside: tuple[Any, ...], picks: tuple[int, int]
    ) -> None:
        """A transaction changes a version, and the other client one that it did not see."""
        self.begin(by)
        running = [t for t in self.txns.values() if not t.is_historic]
        self.alter(by, picks[0], inside, len(running) - 1)
        self.alter(1 - by, picks[1], outside, len(running))
        self.end(by, len(self.txns) - 1, "commit")

    @precondition(lambda self: self.txns)
    @rule(by=who, index=st.integers(0, 2), heartbeat=st.booleans())
    def look_inside(self, by: int, index: int, *, heartbeat: bool) -> None:
        txn = list(self.txns.values())[index % len(self.txns)]
        handle = self.clients[by].get_transaction(txn.id)
        if heartbeat:
            handle.heartbeat()
            txn.expires_ns = self.now_ns + HOUR_NS
            for session in self.sessions.values():
                if session.session.transaction_id == txn.id:
                    session.expires_ns = self.now_ns + HOUR_NS
        self.checks.state(self.clients[by], txn.state, handle)
        self.checks.rows(self.clients[by], txn.state, transaction=handle)
