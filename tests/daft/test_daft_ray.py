"""Whether Daft's Ray runner reads and writes a table exactly once, also when a worker dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# A process has one runner for good, and the other tests need the native one.
_PROGRAM = """
import json, os, sys
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
import daft
daft.set_runner_ray()
from daft import col, lit
from deltacat_sources.daft import read_deltacat, write_deltacat
from io_core.errors import SchemaValidationError
from planner_client import Client

root = sys.argv[1]
client, killed = Client(root + "/catalog"), root + "/killed"

@daft.func
def dies_once(x: int) -> int:
    if x == 777 and not os.path.exists(killed):
        open(killed, "x").close()
        os._exit(1)
    return x

def frame(rows=2000):
    found = daft.from_pydict({"id": list(range(rows)), "month": [i % 4 for i in range(rows)]})
    return found.into_partitions(8)

found = {}
plain = write_deltacat(frame(), "ns.plain", planner=client)
found["plain"] = [plain.files_registered, plain.total_records]
parts = write_deltacat(frame(), "ns.parts", planner=client, partition_by="month")
found["parts"] = [parts.files_registered, parts.total_records]
write_deltacat(frame(), "ns.keyed", planner=client, merge_keys=["id"])
gone = daft.from_pydict({"id": list(range(0, 2000, 2))})
write_deltacat(gone, "ns.keyed", planner=client, mode="delete")
keyed = read_deltacat("ns.keyed", planner=client)
found["keyed"] = [
    keyed.count_rows(),
    len(keyed.select(lit(1)).to_pydict()["literal"]),
    keyed.where(col("id") < 100).count_rows(),
    keyed.limit(300).to_arrow().num_rows,
    keyed.sum("id").to_pydict()["id"][0],
]
try:
    write_deltacat(daft.from_pydict({"id": ["a"]}), "ns.keyed", planner=client)
except SchemaValidationError:
    found["refused"] = True
dying = frame().with_column("id", dies_once(col("id")))
written = write_deltacat(dying, "ns.dying", planner=client)
found["dying"] = [
    written.total_records,
    sorted(read_deltacat("ns.dying", planner=client).to_pydict()["id"]) == list(range(2000)),
    os.path.exists(killed),
]
os.unlink(killed)
read = read_deltacat("ns.plain", planner=client).with_column("id", dies_once(col("id")))
found["read"] = [sorted(read.to_pydict()["id"]) == list(range(2000)), os.path.exists(killed)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one program on Ray saw."""
    root: Path = tmp_path_factory.mktemp("on_ray")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(root)],
        capture_output=True,
        text=True,
        check=False,
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
    assert found["keyed"] == [1000, 1000, 50, 300, sum(range(1, 2000, 2))]


def test_rows_that_do_not_fit_are_refused(found: dict[str, Any]) -> None:
    assert found["refused"]


def test_a_worker_that_dies_while_writing_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    assert found["dying"] == [2000, True, True]


def test_a_worker_that_dies_while_reading_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    assert found["read"] == [True, True]
