"""What tests of the client share: one planner in this process, one over HTTP, a client of each."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from planner_client import Client
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where both planners are; their tests keep apart by namespaces (`ns`)."""
    folder = tmp_path_factory.mktemp("clients")
    with serving(folder / "served") as url:
        yield {"embedded": str(folder / "embedded"), "http": url}


@pytest.fixture(params=["embedded", "http"])
def client(request: pytest.FixtureRequest, targets: dict[str, str]) -> Client:
    return Client(targets[request.param])


@pytest.fixture(params=["embedded", "http"])
def purged(request: pytest.FixtureRequest, targets: dict[str, str]) -> Iterator[Client]:
    """A client whose namespace `ns` is this test's alone, and goes with it."""
    found = Client(targets[request.param])
    yield found
    if found.catalog.namespace_exists(namespace="ns"):
        found.catalog.drop_namespace(namespace="ns", purge=True)


@pytest.fixture
def ns() -> str:
    """A namespace that no other test uses; it is not there yet."""
    return f"n{uuid.uuid4().hex}"
