"""Whether Daft's Ray runner reads and writes a table exactly once, also when a worker dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one program on Ray saw."""
    root: Path = tmp_path_factory.mktemp("on_ray")
    done = subprocess.run(
        [sys.executable, "-m", "tests.daft.on_ray", str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "DAFT_RUNNER": "ray", "DAFT_PROGRESS_BAR": "0"},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


pytestmark = pytest.mark.cluster


def test_few_files_are_written_whatever_the_partitions(found: dict[str, Any]) -> None:
    assert found["plain"] == [1, 2000]
    assert found["parts"] == [4, 2000]


def test_dead_rows_stay_away(found: dict[str, Any]) -> None:
    assert found["keyed"] == [1000, 1000, 50, 25, 300, sum(range(1, 2000, 2))]


def test_rows_that_do_not_fit_are_refused(found: dict[str, Any]) -> None:
    assert found["refused"]


def test_queries_are_those_of_the_same_rows_in_memory(found: dict[str, Any]) -> None:
    assert found["wrong"] == []


def test_a_worker_that_dies_while_writing_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    assert found["dying"] == [2000, True, True]


def test_a_worker_that_dies_while_reading_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    assert found["read"] == [True, True]
    assert found["merged"] == [True, True]


def test_a_file_of_a_worker_that_died_after_it_is_not_committed(found: dict[str, Any]) -> None:
    assert found["durable"] == {"whole": True, "died": True, "orphans": True}
