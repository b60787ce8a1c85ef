"""Workers and drivers die of SIGKILL, at every stage: are rows exact, and is nothing there twice?"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import ray
import ray.data

from deltacat_sources.ray import DeltaCatDatasink, DeltaCatDatasource, read_deltacat
from deltacat_sources.ray.gathering import gathered, sorting_in_tasks
from io_core.model import TableRef
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from tests.dying import die_once
from tests.ray.tables import CountingClient, ids, rows, table, write
from tests.vacuumed import Clock, on_disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa
    from ray.data import Dataset

    from deltacat_sources.ray.sink import Written

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

ROWS = 200
DAY_NS = 86_400 * 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A catalog of its own, since all of its files are counted."""
    return tmp_path / "catalog"


class DyingSink(DeltaCatDatasink):
    """A sink of which one task's process dies, with its first block or once its file is durable."""

    def __init__(self, marker: Path, moment: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._marker, self._moment = marker, moment

    def write(self, blocks: Iterable[Any], ctx: Any) -> Written:
        found = super().write(self._dying(blocks), ctx)
        if self._moment == "durable":
            die_once(self._marker)
        return found

    def _dying(self, blocks: Iterable[Any]) -> Iterator[Any]:
        for block in blocks:
            yield block
            if self._moment == "writing":
                die_once(self._marker)


def blocks() -> Dataset:
    data = rows(0, ROWS)
    return ray.data.from_arrow([data.slice(start, 10) for start in range(0, ROWS, 10)])


def found_in(root: Path, name: str) -> list[int]:
    ref = TableRef.parse(name)
    return ids(CountingClient(root).catalog.read(namespace=ref.namespace, table=ref.table))


def listed(root: Path, name: str) -> set[str]:
    ref = TableRef.parse(name)
    catalog = CountingClient(root).catalog
    return set(catalog.plan(namespace=ref.namespace, table=ref.table).paths)


def vacuumed(root: Path) -> set[str]:
    """Data files after a vacuum, a month later."""
    clock = Clock()
    clock.days(30)
    planner = EmbeddedPlanner(root, clock_ns=clock)
    vacuum(planner, keep_ns=DAY_NS, grace_ns=DAY_NS)
    left = on_disk(planner)
    planner.close()
    return left


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("how", ["newer", "public"])
def test_a_worker_that_dies_reading_loses_no_row_and_doubles_none(
    client: CountingClient, tmp_path: Path, how: str, keyed: bool
) -> None:
    name = table(client, rows(0, ROWS), merge_keys=["id"] if keyed else [])
    if keyed:
        write(client, name, rows(100, ROWS))
    marker = tmp_path / "died"

    def dying(batch: pa.Table) -> pa.Table:
        if 137 in batch["id"].to_pylist():
            die_once(marker)
        return batch

    source = DeltaCatDatasource(name, planner=client)
    dataset = (
        read_deltacat(name, planner=client) if how == "newer" else ray.data.read_datasource(source)
    )
    found = dataset.map_batches(dying, batch_format="pyarrow").take_all()
    assert sorted(row["id"] for row in found) == list(range(ROWS))
    assert marker.exists()


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("moment", ["writing", "durable"])
def test_a_worker_that_dies_writing_leaves_each_row_once(
    client: CountingClient, root: Path, tmp_path: Path, moment: str, keyed: bool
) -> None:
    name = table(client, merge_keys=["id"] if keyed else [])
    marker = tmp_path / "died"
    sink = DyingSink(marker, moment, name, planner=client, min_rows_per_file=20)
    blocks().write_datasink(sink)
    assert marker.exists()
    assert found_in(root, name) == list(range(ROWS))
    named = listed(root, name)
    client.close()
    left = {path for path in vacuumed(root) if path.endswith(".parquet")}
    assert left == named
    assert found_in(root, name) == list(range(ROWS))


def test_what_a_dead_task_left_behind_is_there_until_vacuum(
    client: CountingClient, root: Path, tmp_path: Path
) -> None:
    name = table(client)
    sink = DyingSink(tmp_path / "died", "durable", name, planner=client, min_rows_per_file=20)
    blocks().write_datasink(sink)
    before = {str(p) for p in (root / "data").rglob("*.parquet")}
    assert len(before) > len(listed(root, name))
    client.close()
    assert vacuumed(root) < before


@pytest.mark.parametrize("moment", ["shuffling", "writing", "durable"])
def test_a_worker_that_dies_while_rows_are_gathered_leaves_each_row_once(
    client: CountingClient, root: Path, tmp_path: Path, moment: str
) -> None:
    name = table(client, partition_scheme={"keys": [{"key": ["part"]}]})
    marker = tmp_path / "died"
    sink = DyingSink(marker, moment, name, planner=client, min_rows_per_file=20)
    layout = sink.layout()
    assert layout is not None

    def dying(batch: pa.Table) -> pa.Table:
        if moment == "shuffling" and 137 in batch["id"].to_pylist():
            die_once(marker)
        return batch

    dataset = gathered(blocks().map_batches(dying, batch_format="pyarrow"), layout)
    with sorting_in_tasks(dataset.context):
        dataset.write_datasink(sink)
    assert marker.exists()
    assert found_in(root, name) == list(range(ROWS))
    named = listed(root, name)
    client.close()
    assert vacuumed(root) == named


@pytest.mark.parametrize("moment", ["before", "0", "1000", "3000", "after"])
def test_a_driver_that_dies_around_its_commit_leaves_all_rows_or_none(
    client: CountingClient, root: Path, moment: str
) -> None:
    name = table(client)
    client.close()
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "tests.ray.dying_driver", address, str(root), name, moment]
    done = subprocess.run(command, capture_output=True, check=False, timeout=240)
    assert done.returncode in (
        (-signal.SIGKILL,) if not moment.isdigit() else (-signal.SIGKILL, 0)
    ), done.stderr.decode()
    found = found_in(root, name)
    whole, none = list(range(ROWS)), list[int]()
    possible = {"before": [none], "after": [whole]}.get(moment, [none, whole])
    assert found in possible
    if b"acknowledged" in done.stdout:
        assert found == whole
    named = listed(root, name)
    assert vacuumed(root) == named
    assert found_in(root, name) == found
