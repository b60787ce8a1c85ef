"""How do tests reach a planner with users? Over HTTP, in a thread of this process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import requests

from planner_client import Client
from planner_client.protocol.auth import CreateUser, InitialGrant, TokenToIssue
from planner_client.server.app import App
from planner_client.server.auth import AuthStore, Guard
from planner_client.server.auth_store import By
from planner_client.server.hosting import HostedCatalogs
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.roles import Role, Scope
from tests.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from planner_client.protocol.endpoint import Endpoint, Request

__all__ = ["BY", "ROWS", "RUNS", "SCOPES", "Served", "guarding", "make_tables"]

SCOPES = {
    "catalog": Scope("default"),
    "namespace": Scope("default", "robots"),
    "table": Scope("default", "robots", "runs"),
}
ROWS = pa.table({"x": [1, 2, 3]})
BY = By("admin", "default")
# Any: keyword arguments of every call.
RUNS: dict[str, Any] = {"namespace": "robots", "table": "runs"}


class Served(NamedTuple):
    """A planner with users, at a URL, and the tokens of those users by name."""

    url: str
    store: AuthStore
    tokens: dict[str, str]

    def client(self, name: str, catalog: str | None = None) -> Client:
        return Client(self.url, bearer_token=self.tokens[name], catalog=catalog)

    # Any: each endpoint has its own request.
    def ask(
        self, name: str | None, endpoint: Endpoint[Any, Any], request: Request
    ) -> requests.Response:
        encoded = endpoint.encode(request)
        headers = {"Authorization": f"Bearer {self.tokens[name]}"} if name else {}
        return requests.request(
            endpoint.method,
            self.url + encoded.path,
            params=encoded.query,
            data=encoded.body,
            headers=headers | encoded.headers,
            timeout=60,
        )


def _make_users(store: AuthStore, first: str) -> dict[str, str]:
    """Tokens of a user for each role and scope, of a stranger, and of the first ADMIN."""
    tokens = {"admin": first}
    wanted = {f"{role.name}-{kind}": (role, at) for role in Role for kind, at in SCOPES.items()}
    wanted["stranger"] = (Role.ADMIN, Scope("default", "elsewhere", "t"))
    for name, (role, scope) in wanted.items():
        request = CreateUser(
            user_id=name, initial_grant=InitialGrant("READER"), issue_token=TokenToIssue()
        )
        token = store.create_user(request, role, scope, BY).token
        assert token is not None
        tokens[name] = token.token
    return tokens


@contextlib.contextmanager
def guarding(root: Path, *, trust_user_header: bool = False) -> Iterator[Served]:
    """Two catalogs, `default` and `lab`, and users, served from a thread of this process."""
    roots = {"default": root, "lab": root.with_name(f"{root.name}-lab")}
    planners = {name: EmbeddedPlanner(at, name=name) for name, at in roots.items()}
    store = AuthStore(root)
    first = store.bootstrap()
    assert first is not None
    tokens = _make_users(store, first)
    guard = Guard(store, trust_user_header=trust_user_header)
    with listening(App(HostedCatalogs(planners, guard), guard)) as url:
        yield Served(url, store, tokens)


def make_tables(served: Served) -> None:
    """Two tables in the namespace that the users' grants are on, and two in another."""
    admin = served.client("admin").catalog
    for namespace in ("robots", "secret"):
        admin.create_namespace(namespace=namespace)
        for table in ("runs", "runs2"):
            admin.write(ROWS, namespace=namespace, table=table)
