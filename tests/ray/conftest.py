"""A catalog, a client that counts plans, and a cluster for the tests of Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import ray

from tests.ray.tables import CountingClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray") / "catalog"


@pytest.fixture
def client(root: Path) -> CountingClient:
    found = CountingClient(root)
    found.scans = []
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
