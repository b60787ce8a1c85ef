"""A catalog and a client that counts plans, for the tests of Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ray.tables import CountingClient

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray") / "catalog"


@pytest.fixture
def client(root: Path) -> CountingClient:
    found = CountingClient(root)
    found.scans = []
    return found
