"""A driver dies around its commit, or sends it twice: are all rows there once, or none?"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
import pytest

from deltacat_sources.daft import read_deltacat, write_deltacat
from deltacat_sources.daft.sink import written_by_workers
from io_core.errors import ConcurrentModificationError
from io_core.model import TableRef
from io_core.sink import Sink
from planner_client import Client
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from tests.daft.dying_driver import ROWS
from tests.vacuumed import Clock, on_disk

if TYPE_CHECKING:
    from pathlib import Path

DAY_NS = 86_400 * 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A catalog with a table of no rows."""
    found = tmp_path / "catalog"
    client = Client(found)
    client.catalog.create_table(
        namespace="ns",
        table="t",
        schema=pa.schema([("id", pa.int64())]),
        auto_create_namespace=True,
    )
    client.close()
    return found


def found_in(root: Path) -> list[int]:
    return sorted(read_deltacat("ns.t", planner=root).to_pydict()["id"])


def vacuumed(root: Path) -> set[str]:
    """Data files after a vacuum, a month later."""
    clock = Clock()
    clock.days(30)
    planner = EmbeddedPlanner(root, clock_ns=clock)
    vacuum(planner, keep_ns=DAY_NS, grace_ns=DAY_NS)
    left = on_disk(planner)
    planner.close()
    return left


@pytest.mark.parametrize("moment", ["before", "0", "2000", "after"])
def test_a_driver_that_dies_around_its_commit_leaves_all_rows_or_none(
    root: Path, moment: str
) -> None:
    command = [sys.executable, "-m", "tests.daft.dying_driver", str(root), "ns.t", moment]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    died = (-signal.SIGKILL,) if not moment.isdigit() else (-signal.SIGKILL, 0)
    assert done.returncode in died, done.stderr.decode()
    whole, none = list(range(ROWS)), list[int]()
    found = found_in(root)
    assert found in {"before": [none], "after": [whole]}.get(moment, [none, whole])
    if b"acknowledged" in done.stdout:
        assert found == whole
    client = Client(root)
    named = set(client.catalog.plan(namespace="ns", table="t").paths)
    client.close()
    assert vacuumed(root) == named
    assert found_in(root) == found


def test_a_commit_that_is_sent_twice_counts_once(root: Path) -> None:
    client = Client(root)
    sink = Sink(TableRef.parse("ns.t"), client, "append").open()
    entries = written_by_workers(daft.from_pydict({"id": list(range(ROWS))}), sink)
    first = sink.commit(entries)
    assert sink.commit(entries).snapshot == first.snapshot
    assert found_in(root) == list(range(ROWS))


def test_a_write_that_lost_a_race_is_raised_and_can_be_tried_again(root: Path) -> None:
    client = Client(root)
    with client.catalog.transaction() as late:
        one = daft.from_pydict({"id": [1]})
        write_deltacat(one, "ns.t", planner=client, transaction=late, mode="replace")
        write_deltacat(daft.from_pydict({"id": [2]}), "ns.t", planner=Client(root))
        with pytest.raises(ConcurrentModificationError):
            late.commit()
        late.abort()
    assert found_in(root) == [2]
    write_deltacat(one, "ns.t", planner=client, mode="replace")
    assert found_in(root) == [1]
