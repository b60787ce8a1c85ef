"""Where do the tests with published clients get those from?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.compat.published import PublishedClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.object_store.store import ObjectStore

# They run in the clients' own interpreters.
collect_ignore = ["run.py", "cases"]


class Open(Protocol):
    """Find the client of an environment, or make it."""

    def __call__(self, environment: str) -> PublishedClient: ...


@pytest.fixture(scope="session")
def published(
    tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore
) -> Iterator[Open]:
    """The client of an environment, before planners of its own."""
    opened: dict[str, PublishedClient] = {}

    def find(environment: str) -> PublishedClient:
        if environment not in opened:
            folder = tmp_path_factory.mktemp(environment)
            store = ("--data-root", object_store.bucket(), "--s3-endpoint", object_store.url)
            opened[environment] = PublishedClient(environment, folder, store)
        return opened[environment]

    yield find
    for client in opened.values():
        client.close()
