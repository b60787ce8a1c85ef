"""Which of a server's catalogs answers, and which of them does a caller see?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from io_core.errors import NotFoundError, PermissionDeniedError, RequestRejectedError
from planner_client import Client
from planner_client.protocol.auth import CreateUser, InitialGrant, TokenToIssue
from planner_client.server.app import App
from planner_client.server.auth import Guard
from planner_client.server.auth_store import AuthStore, By
from planner_client.server.hosting import HostedCatalogs
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.roles import Role, Scope
from tests.serving import listening

if TYPE_CHECKING:
    from pathlib import Path


def hosted(root: Path, *names: str, guard: Guard | None = None) -> HostedCatalogs:
    planners = {name: EmbeddedPlanner(root / name, name=name) for name in names}
    return HostedCatalogs(planners, guard or Guard())


def test_path_and_request_name_the_catalog_and_none_means_the_first(tmp_path: Path) -> None:
    catalogs = hosted(tmp_path, "b", "a")
    assert catalogs.planner(None, None).name == "b"
    assert catalogs.planner(None, "a").name == "a"
    assert catalogs.planner("a", None).name == "a"
    assert catalogs.planner("a", "a").name == "a"
    with pytest.raises(RequestRejectedError, match="name one"):
        catalogs.planner("a", "b")


@pytest.mark.parametrize("asked", ["lap", "LAB", ""])
def test_a_catalog_that_is_not_there_is_not_found(tmp_path: Path, asked: str) -> None:
    catalogs = hosted(tmp_path, "default", "lab")
    with pytest.raises(NotFoundError, match=f"catalog '{asked}' not found"):
        catalogs.planner(None, asked)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", "-a", "a" * 129])
def test_a_name_that_no_url_could_hold_is_refused(tmp_path: Path, name: str) -> None:
    planner = EmbeddedPlanner(tmp_path / "catalog")
    with pytest.raises(RequestRejectedError, match="no name for a catalog"):
        HostedCatalogs({name: planner}, Guard())


def test_one_sees_the_catalogs_that_one_has_a_role_in(tmp_path: Path) -> None:
    store = AuthStore(tmp_path)
    first = store.bootstrap()
    request = CreateUser(
        user_id="ann", initial_grant=InitialGrant("WRITER"), issue_token=TokenToIssue()
    )
    made = store.create_user(request, Role.WRITER, Scope("lab"), By("admin", "default"))
    assert made.token is not None
    guard = Guard(store)
    with listening(App(hosted(tmp_path, "default", "lab", guard=guard), guard)) as url:
        admin = Client(url, bearer_token=first)
        ann = Client(url, catalog="lab", bearer_token=made.token.token)
        assert [c.name for c in admin.catalog.list_catalogs()] == ["default", "lab"]
        assert [c.name for c in ann.catalog.list_catalogs()] == ["lab"]
        ann.catalog.create_namespace(namespace="ns")
        with pytest.raises(PermissionDeniedError):
            Client(url, bearer_token=made.token.token).catalog.list_namespaces()
        with pytest.raises(PermissionDeniedError):
            ann.catalog.get_catalog(catalog="default")
        assert Client(url).health().status == "ok"
