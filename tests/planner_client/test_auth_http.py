"""Are users made, granted roles and known again over HTTP, by token or by a proxy's word?"""

from __future__ import annotations

import contextlib
import http.client
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import pytest
import requests

from io_core.errors import (
    AlreadyExistsError,
    AuthenticationRequiredError,
    PermissionDeniedError,
    RequestRejectedError,
)
from planner_client import Client
from planner_client.auth import Auth
from planner_client.server.auth import Guard
from planner_client.server.roles import EVERYWHERE, Role
from planner_client.transport import HttpTransport
from tests.guarded import BY, ROWS, RUNS, Served, guarding, make_tables
from tests.serving import served as serving_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from planner_client.protocol.endpoint import Endpoint, Request

Res = TypeVar("Res")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with guarding(tmp_path / "catalog") as found:
        make_tables(found)
        yield found


# --- users, tokens and grants ---------------------------------------------------------------------


def test_a_user_is_made_granted_and_lives_by_the_token(served: Served) -> None:
    auth = served.client("admin").auth
    created = auth.create_user(
        user_id="bob@example.com",
        role="reader",
        resource_type="namespace",
        resource_name="robots",
        email="bob@example.com",
        issue_token=True,
        token_label="laptop",
    )
    assert created.token is not None
    assert (created.token.label, created.token.replayed) == ("laptop", False)
    assert created.user.created_by == "admin"
    bob = Client(served.url, bearer_token=created.token.token)
    me = bob.auth.whoami()
    assert (me.user_id, me.auth_configured) == ("bob@example.com", True)
    assert msgspec.to_builtins(me.grants) == [
        {"role": "READER", "scope_type": "namespace", "scope_name": "robots"}
    ]
    auth.grant(
        user_id="bob@example.com",
        role="WRITER",
        resource_type="table",
        resource_name="robots.runs",
    )
    bob.catalog.write(ROWS, **RUNS, mode="append")
    listed = [(g.role, g.scope_type, g.scope_name) for g in bob.auth.list_grants()]
    assert listed == [("READER", "namespace", "robots"), ("WRITER", "table", "robots.runs")]
    with pytest.raises(AlreadyExistsError):
        auth.create_user(user_id="bob@example.com", role="ADMIN")


def test_a_revoked_token_is_refused_at_once(served: Served) -> None:
    auth = served.client("admin").auth
    issued = auth.issue_token(user_id="READER-table", label="second")
    bob = Client(served.url, bearer_token=issued.token)
    assert bob.catalog.read(**RUNS).num_rows == 3
    assert bob.auth.revoke_token(user_id="READER-table", token_id=issued.token_id).revoked
    with pytest.raises(AuthenticationRequiredError, match="unknown or was revoked") as refused:
        bob.catalog.read(**RUNS)
    assert issued.token not in str(refused.value)
    assert served.client("READER-table").catalog.read(**RUNS).num_rows == 3


def test_a_revoked_grant_counts_no_longer_at_once(served: Served) -> None:
    auth = served.client("admin").auth
    revoked = auth.revoke(
        user_id="READER-table", resource_type="table", resource_name="robots.runs"
    )
    assert revoked.revoked
    with pytest.raises(PermissionDeniedError):
        served.client("READER-table").catalog.read(**RUNS)
    again = auth.revoke(user_id="READER-table", resource_type="table", resource_name="robots/runs")
    assert not again.revoked


def test_who_owns_a_namespace_grants_roles_within_it_and_not_beyond(served: Served) -> None:
    owner = served.client("ADMIN-namespace").auth
    granted = owner.grant(
        user_id="eve", role="ADMIN", resource_type="table", resource_name="robots.runs2"
    )
    assert (granted.user, granted.role, granted.scope_name) == ("eve", "ADMIN", "robots.runs2")
    for kind, name in (("catalog", "*"), ("catalog", "default"), ("namespace", "secret")):
        with pytest.raises(PermissionDeniedError, match="create_grant"):
            owner.grant(user_id="eve", role="READER", resource_type=kind, resource_name=name)
        with pytest.raises(PermissionDeniedError, match="revoke_grant"):
            owner.revoke(user_id="admin", resource_type=kind, resource_name=name)
    assert {grant.user_id for grant in owner.list_grants()} == {
        *(
            f"{role}-{kind}"
            for role in ("READER", "WRITER", "ADMIN")
            for kind in ("namespace", "table")
        ),
        "eve",
    }
    everything = served.client("admin").auth.list_grants()
    assert len(everything) == len(served.tokens) + 1
    assert {g.user_id for g in served.client("READER-table").auth.list_grants()} == {"READER-table"}
    assert served.client("READER-table").auth.list_grants(user_id="admin") == []


def test_the_last_admin_stays(served: Served) -> None:
    auth = served.client("admin").auth
    with pytest.raises(RequestRejectedError, match="make another ADMIN") as refused:
        auth.revoke(user_id="admin")
    assert (refused.value.code, refused.value.status) == ("last_admin", 409)


def test_a_repeated_call_tells_no_token_and_makes_none(served: Served) -> None:
    auth = served.client("admin").auth
    first = auth.issue_token(user_id="admin", idempotency_key="k")
    again = auth.issue_token(user_id="admin", idempotency_key="k")
    assert (again.token, again.replayed, again.token_id) == ("", True, first.token_id)
    with pytest.raises(RequestRejectedError, match="cannot travel in a header"):
        auth.issue_token(user_id="admin", idempotency_key="a\nb")


class Losing:
    """A transport that loses the first answer, and sends that request again."""

    def __init__(self, inner: HttpTransport) -> None:
        self.inner = inner
        self.lost: list[Any] = []

    # Any: each endpoint has its own request.
    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        if not self.lost:
            self.lost.append(self.inner.call(endpoint, request))
        return self.inner.call(endpoint, request)

    def close(self) -> None:
        self.inner.close()


def test_a_token_whose_answer_was_lost_is_revoked_and_another_one_made(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.tokens['admin']}"}
    losing = Losing(HttpTransport(served.url, headers=headers))
    issued = Auth(losing, None).issue_token(user_id="admin", label="x")
    (lost,) = losing.lost
    assert (issued.replayed, issued.label) == (False, "x")
    assert served.store.principal(issued.token) is not None
    assert served.store.principal(lost.token) is None


def test_a_user_whose_answer_was_lost_gets_a_token_that_is_known(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.tokens['admin']}"}
    losing = Losing(HttpTransport(served.url, headers=headers))
    created = Auth(losing, None).create_user(user_id="bob", role="READER", issue_token=True)
    (lost,) = losing.lost
    assert created.token is not None
    assert Client(served.url, bearer_token=created.token.token).auth.whoami().user_id == "bob"
    assert served.store.principal(lost.token.token) is None


# --- a proxy in front -----------------------------------------------------------------------------


def test_the_user_header_counts_only_where_it_is_trusted(tmp_path: Path, served: Served) -> None:
    claimed = {"x-deltacat-user": "admin"}
    url = f"{served.url}/v1/auth/whoami"
    assert requests.get(url, headers=claimed, timeout=60).status_code == 401
    known = claimed | {"Authorization": f"Bearer {served.tokens['stranger']}"}
    assert requests.get(url, headers=known, timeout=60).json()["user_id"] == "stranger"
    with guarding(tmp_path / "proxied", trust_user_header=True) as behind:
        url = f"{behind.url}/v1/auth/whoami"
        assert Client(behind.url, user_id="admin").auth.whoami().user_id == "admin"
        known = claimed | {"Authorization": f"Bearer {behind.tokens['stranger']}"}
        assert requests.get(url, headers=known, timeout=60).json()["user_id"] == "admin"
        assert behind.client("stranger").auth.whoami().user_id == "stranger"
        assert requests.get(url, timeout=60).status_code == 401
        bad = {"x-deltacat-user": "a b"}
        assert requests.get(url, headers=bad, timeout=60).status_code == 401
        newcomer = Client(behind.url, user_id="new")
        assert newcomer.auth.whoami().grants == []
        with pytest.raises(PermissionDeniedError):
            newcomer.catalog.list_namespaces()
        behind.store.grant("new", Role.READER, EVERYWHERE, BY)
        assert newcomer.catalog.list_namespaces() == []


def test_two_names_in_one_request_are_nobodys(tmp_path: Path) -> None:
    with guarding(tmp_path / "catalog", trust_user_header=True) as behind:
        host = urlsplit(behind.url).netloc
        for names in (["admin", "stranger"], ["stranger", "admin"]):
            with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
                connection.putrequest("GET", "/v1/auth/whoami")
                for name in names:
                    connection.putheader("x-deltacat-user", name)
                connection.endheaders()
                assert connection.getresponse().status == 401


def test_a_header_is_not_trusted_without_grants_to_look_up() -> None:
    with pytest.raises(ValueError, match="needs a store"):
        Guard(trust_user_header=True)


# --- nobody is authenticated ----------------------------------------------------------------------


def test_a_planner_without_users_says_so(tmp_path: Path) -> None:
    auth = Client(tmp_path / "catalog").auth
    assert msgspec.to_builtins(auth.whoami()) == {}
    assert auth.list_grants() == []
    calls: list[Callable[[], object]] = [
        lambda: auth.create_user(user_id="bob", role="READER"),
        lambda: auth.grant(user_id="bob", role="READER"),
        lambda: auth.revoke(user_id="bob"),
        lambda: auth.issue_token(user_id="bob"),
        lambda: auth.revoke_token(user_id="bob", token_id="x"),
    ]
    for call in calls:
        with pytest.raises(RequestRejectedError, match="authenticates nobody") as refused:
            call()
        assert refused.value.code == "auth_not_configured"


def test_a_server_prints_the_first_token_once_and_no_other_ever(tmp_path: Path) -> None:
    with serving_process(tmp_path / "catalog", "--auth", "on") as server:
        first = server.first_token()
        admin = Client(server.url, bearer_token=first)
        issued = admin.auth.issue_token(user_id="admin", label="second")
        Client(server.url, bearer_token=issued.token).catalog.create_namespace(namespace="n")
        for bad in ("dct_unknown", issued.token + "x"):
            with pytest.raises(AuthenticationRequiredError):
                Client(server.url, bearer_token=bad).catalog.list_namespaces()
        with pytest.raises(AuthenticationRequiredError, match="send a token"):
            Client(server.url).catalog.list_namespaces()
        printed = server.log.read_text()
    assert printed.count(first) == 1
    assert printed.count("dct_") == 1
    assert "caller=admin" in printed
    with serving_process(tmp_path / "catalog", "--auth", "on") as server:
        assert Client(server.url, bearer_token=first).auth.whoami().user_id == "admin"
        assert "dct_" not in server.log.read_text()


def test_no_repr_of_a_guard_or_client_shows_a_token(served: Served) -> None:
    token = served.tokens["admin"]
    client = served.client("admin")
    guard = Guard(served.store)
    principal = guard.principal(f"Bearer {token}")
    for value in (guard, principal, client, client.auth, client.auth.whoami()):
        assert token not in repr(value)
        assert token not in str(value)
