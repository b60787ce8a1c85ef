"""Rules of the state machine: users, their tokens and grants come and go, and a guest sees what it may."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from io_core.errors import (
    AlreadyExistsError,
    AuthenticationRequiredError,
    DeltaCATError,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
)
from tests.catalog_checks import each_version
from tests.catalog_machine.machine import CatalogMachine, outcome
from tests.rights_model import ADMIN, CATALOG, EVERYTHING, READER, ROLES, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from planner_client.protocol.auth import Grant, GrantInfo, IssuedToken
    from tests.rights_model import Scope

__all__ = ["Rights"]

users = st.sampled_from(["u", "w"])
roles = st.sampled_from(sorted(ROLES))
scopes = st.sampled_from(
    [EVERYTHING, CATALOG, (*CATALOG, "x"), (*CATALOG, "x", "a"), (*CATALOG, "y", "a")]
)
# Who asks: mostly the first user, which may do everything.
by_guest = st.sampled_from([False, False, True])


def worded(scope: Scope) -> tuple[str, str]:
    """A scope as the protocol names it: its kind, and its name."""
    kind = ("catalog", "catalog", "namespace", "table")[len(scope)]
    return kind, ".".join(scope[1:]) if len(scope) > 1 else "".join(scope) or "*"


def named(scope: Scope) -> dict[str, str]:
    """A scope as a call is told of it."""
    kind, name = worded(scope)
    return {"resource_type": kind, "resource_name": name}


def told(found: Iterable[Grant | GrantInfo]) -> list[tuple[str, str, str]]:
    return sorted((g.role, g.scope_type, g.scope_name) for g in found)


class Rights(CatalogMachine):
    """What changes who may do what."""

    # Any: the call's answer.
    def ask(
        self,
        call: Callable[[], Any],
        *,
        guest: bool,
        scope: Scope = EVERYTHING,
        user: str | None = None,
        otherwise: type[DeltaCATError] | None = None,
    ) -> Any:
        """Make a call that needs ADMIN on the scope, or to be the user; None where it is refused."""
        asks = self.rights.user(self.token if guest else self.admin)
        expected = otherwise
        if asks is None:
            expected = AuthenticationRequiredError
        elif asks != user and not self.rights.may(asks, ADMIN, scope):
            expected = PermissionDeniedError
        answer, error = outcome(call)
        assert expected is (None if error is None else type(error)), error
        return answer

    def asking(self, *, guest: bool) -> Any:
        return self.auth(self.token if guest else self.admin)

    def keep(self, issued: IssuedToken) -> None:
        self.rights.tokens[issued.token] = Token(issued.user_id, issued.token_id)

    @rule(guest=by_guest, user=users, role=roles, scope=scopes, key=st.sampled_from([None, "k"]))
    def make_user(
        self, user: str, role: int, scope: Scope, key: str | None, *, guest: bool
    ) -> None:
        auth = self.asking(guest=guest)
        first = {"role": ROLES[role], "issue_token": True, **named(scope)}
        asker = self.rights.user(self.token if guest else self.admin)
        body = ("user", user, role, scope)
        known = self.keys.get((asker, key)) if key else None
        otherwise: type[DeltaCATError] | None = None
        if known is not None:
            otherwise = None if known == body else RequestRejectedError
        elif user in self.rights.users:
            otherwise = AlreadyExistsError
        answer = self.ask(
            lambda: auth.create_user(user_id=user, **first, idempotency_key=key),
            guest=guest,
            otherwise=otherwise,
        )
        if answer is None:
            return
        assert (answer.token.token == "") == answer.token.replayed == (known is not None)
        if known is None:
            if key:
                self.keys[asker, key] = body
            self.rights.users.add(user)
            self.rights.grants[user, scope] = role
            self.keep(answer.token)
            self.token = answer.token.token

    @rule(guest=by_guest, user=users, key=st.sampled_from([None, "k"]))
    def make_token(self, user: str, key: str | None, *, guest: bool) -> None:
        auth = self.asking(guest=guest)
        asker = self.rights.user(self.token if guest else self.admin)
        body = ("token", user)
        known = self.keys.get((asker, key)) if key else None
        otherwise: type[DeltaCATError] | None = None
        if known is not None:
            otherwise = None if known == body else RequestRejectedError
        elif user not in self.rights.users:
            otherwise = NotFoundError
        issued = self.ask(
            lambda: auth.issue_token(user_id=user, idempotency_key=key),
            guest=guest,
            otherwise=otherwise,
        )
        if issued is None:
            return
        assert (issued.token == "") == issued.replayed == (known is not None)
        if known is None:
            if key:
                self.keys[asker, key] = body
            self.keep(issued)

    @rule(guest=by_guest, index=st.integers(0, 9))
    def revoke_token(self, index: int, *, guest: bool) -> None:
        found = [(t, held) for t, held in self.rights.tokens.items() if held.user != "admin"]
        if not found:
            return
        token, held = found[index % len(found)]
        answer = self.ask(
            lambda: self.asking(guest=guest).revoke_token(
                user_id=held.user, token_id=held.token_id
            ),
            guest=guest,
            user=held.user,
        )
        if answer is not None:
            assert answer.revoked == held.works
            self.rights.tokens[token] = held._replace(works=False)

    @rule(guest=by_guest, user=users, role=roles, scope=scopes)
    def grant(self, user: str, role: int, scope: Scope, *, guest: bool) -> None:
        answer = self.ask(
            lambda: self.asking(guest=guest).grant(user_id=user, role=ROLES[role], **named(scope)),
            guest=guest,
            scope=scope,
        )
        if answer is not None:
            assert answer.granted
            self.rights.grants[user, scope] = role

    @rule(guest=by_guest, user=users, scope=scopes)
    def revoke(self, user: str, scope: Scope, *, guest: bool) -> None:
        answer = self.ask(
            lambda: self.asking(guest=guest).revoke(user_id=user, **named(scope)),
            guest=guest,
            scope=scope,
        )
        if answer is not None:
            assert answer.revoked == (self.rights.grants.pop((user, scope), None) is not None)

    @rule(how=st.sampled_from(["revoke", "demote"]))
    def lock_out(self, how: str) -> None:
        """Somebody has to be left who may do everything."""
        if self.rights.admins() != {"admin"}:
            return
        auth = self.auth(self.admin)
        call = auth.revoke if how == "revoke" else functools.partial(auth.grant, role="WRITER")
        with pytest.raises(RequestRejectedError, match="is the last that can administer"):
            call(user_id="admin")

    @rule(index=st.integers(0, 9))
    def become(self, index: int) -> None:
        """The guest has another token, which may not work any more; never the first user's."""
        found = [token for token in self.rights.tokens if token != self.admin]
        if found:
            self.token = found[index % len(found)]

    @rule()
    def look_around(self) -> None:
        """The guest is told of what it may see, and of nothing else."""
        user, guest = self.rights.user(self.token), self.clients[2]
        if user is None:
            for call in (guest.list_namespaces, self.auth(self.token).whoami):
                assert isinstance(outcome(call)[1], AuthenticationRequiredError)
            return
        self.look_at_grants(user)
        state, rights = self.latest.state, self.rights
        listed, error = outcome(guest.list_namespaces)
        if not rights.sees(user, CATALOG):
            assert isinstance(error, PermissionDeniedError)
            return
        assert [n.name for n in listed] == [
            n for n in sorted(state.namespaces) if rights.sees(user, (*CATALOG, n))
        ]
        for namespace in state.namespaces:
            at = (*CATALOG, namespace)
            tables, error = outcome(guest.list_tables, namespace=namespace)
            if not rights.sees(user, at):
                assert isinstance(error, PermissionDeniedError)
                continue
            assert [t.name for t in tables] == [
                t for t in sorted(state.namespaces[namespace].tables) if rights.sees(user, (*at, t))
            ]
        for where, version in each_version(state):
            plan, error = outcome(guest.plan, **where)
            if not rights.may(user, READER, (*CATALOG, where["namespace"], where["table"])):
                assert isinstance(error, PermissionDeniedError)
            elif version is None:
                assert isinstance(error, NotFoundError)
            else:
                self.checks.plan(plan, version)

    def look_at_grants(self, user: str) -> None:
        """Its own grants, and those on what it administers."""
        held = self.rights.grants.items()

        def shown(*, administered: bool) -> list[tuple[str, str, str]]:
            return sorted(
                (ROLES[role], *worded(scope))
                for (who, scope), role in held
                if who == user or (administered and self.rights.may(user, ADMIN, scope))
            )

        auth = self.auth(self.token)
        assert told(auth.whoami().grants) == shown(administered=False)
        assert told(auth.list_grants()) == shown(administered=True)
