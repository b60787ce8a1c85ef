"""How fast does Ray Data read a table of 2,000 files, beside its own readers over the same files?

`read_parquet` gets the list of files and as many footer actors as there are cores (its default starts
32 processes), `read_iceberg` a SQLite catalog with bounds of all columns, `read_delta` a checkpointed log
with statistics. CPU is that of the driver and of its children that live at the end: where Ray ends
workers meanwhile it is too low, and the clock is what counts.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from benchmarks import harness
from benchmarks.peers import TABLE, Fixture
from benchmarks.ray_driver import Planned
from benchmarks.ray_fleet import Fleet, seconds
from benchmarks.ray_task import task_rows
from benchmarks.report import Figure, Report, Row, Target
from benchmarks.scan import ROWS_PER_FILE, SCHEMA, build
from benchmarks.tables import Shape, make_files
from docs.demo.opened import OpenedFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sample

__all__ = ["run"]

PACKAGES = ("ray", "deltalake", "pyiceberg", "pyarrow", "deltacat-sources")
SIDES = ("ours", "parquet", "iceberg", "delta")
SEVEN = pa.schema([SCHEMA.field(i) for i in (0, 1, 2, 3, 4, 7, 9)])


class Question(NamedTuple):
    """A name, how a dataset answers it, and how many times as fast as `read_iceberg` it is to be."""

    name: str
    ask: Callable[[Any, int], object]  # Any: ray.data.Dataset
    bar: float | None = None


def _filtered(dataset: Any, files: int) -> int:  # Any: ray.data.Dataset
    from ray.data.expressions import col

    middle = files * ROWS_PER_FILE // 2
    kept = dataset.filter(expr=(col("id") >= middle) & (col("id") < middle + ROWS_PER_FILE))
    return int(kept.materialize().count())


QUESTIONS = (
    Question("filter by id", _filtered, 3),
    Question(
        "2 of 7 columns", lambda d, _: d.select_columns(["id", "value"]).materialize().count(), 3
    ),
    Question("full scan", lambda d, _: d.materialize().count(), 2),
    Question("limit 10", lambda d, _: len(d.limit(10).take_all())),
    Question("count", lambda d, _: d.count()),
)


def _ours(fixture: Fixture) -> Any:  # Any: ray.data.Dataset, here and below
    from deltacat_sources.ray import read_deltacat

    return read_deltacat(TABLE, planner=fixture.catalog)


def _parquet(fixture: Fixture) -> Any:
    import ray.data

    return ray.data.read_parquet(fixture.recall("files"))


def _iceberg(fixture: Fixture) -> Any:
    import ray.data

    catalog = {
        "name": "bench",
        "type": "sql",
        "uri": f"sqlite:///{fixture.root}/iceberg.db",
        "warehouse": f"file://{fixture.root}/iceberg",
    }
    return ray.data.read_iceberg(table_identifier=TABLE, catalog_kwargs=catalog)


def _delta(fixture: Fixture) -> Any:
    import ray.data

    return ray.data.read_delta(fixture.recall("delta"))


OPENED: dict[str, Callable[[Fixture], Any]] = {
    "ours": _ours,
    "parquet": _parquet,
    "iceberg": _iceberg,
    "delta": _delta,
}


def _cpu_s() -> float:
    """CPU of this process and of those of its descendants that live."""
    tick = os.sysconf("SC_CLK_TCK")
    rows = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, check=True).stdout
    parents = {int(a): int(b) for a, b in (line.split() for line in rows.decode().splitlines())}
    ours, total = {os.getpid()}, 0.0
    for pid in sorted(parents):
        if parents[pid] in ours:
            ours.add(pid)
    for pid in ours:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, fields[11:15])) / tick
    return total


def _measured(fixture: Fixture, files: int, rounds: int) -> Iterator[Row]:
    for question in QUESTIONS:

        def ask(side: str, question: Question = question) -> object:
            return question.ask(OPENED[side](fixture), files)

        answers = {side: ask(side) for side in SIDES}
        assert len(set(answers.values())) == 1, f"{question.name}: {answers}"
        checked = f"equal, {answers['ours']} rows"
        harness.progress(f"{question.name}: {checked}")
        calls: dict[str, Callable[[], Sample]] = {
            side: functools.partial(harness.measure, functools.partial(ask, side), cpu_s=_cpu_s)
            for side in SIDES
        }
        timings = harness.interleave(calls, rounds, warm_up=False)
        yield Row.compare(question.name, "warm", timings, ("ours",), checked)


def _ratios(rows: list[Row]) -> Iterator[Target]:
    bars = {question.name: question.bar for question in QUESTIONS if question.bar}
    for row in rows:
        if row.metric not in bars:
            continue
        ours, iceberg = row.timings["ours"], row.timings["iceberg"]
        wall, cpu = iceberg.wall_ms / ours.wall_ms, iceberg.cpu_ms / ours.cpu_ms
        bar = bars[row.metric]
        yield Target(
            f"{row.metric}: times as fast as iceberg",
            f"{iceberg.wall_ms:.0f} ms",
            f">= {bar}x",
            f"{wall:.1f}x by the clock, {cpu:.1f}x by CPU",
            holds=wall >= (bar or 0),
        )


def _opened(fixture: Fixture, files: int) -> Iterator[Target]:
    for question, wanted in ((QUESTIONS[3], 1), (QUESTIONS[4], 0)):
        with OpenedFiles(Path(fixture.catalog) / "data") as watch:
            question.ask(_ours(fixture), files)
        found = len(watch.paths())
        yield Target(f"{question.name}: files opened", "", str(wanted), str(found), found == wanted)


# --- the driver, and a fleet ---------------------------------------------------------------------


def planned(files: int, parallelism: int) -> Planned:
    """Make up a table, and plan and pack it in a new process."""
    from benchmarks.plan_ours import NAMESPACE, register_ours, root_of
    from benchmarks.plan_ours import TABLE as MADE_UP

    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as place:
        register_ours(place, make_files(Shape(files)))
        arguments = [root_of(place), f"{NAMESPACE}.{MADE_UP}", str(parallelism)]
        return harness.in_new_process("benchmarks.ray_driver", arguments, Planned)


def _fleet(found: Planned) -> Iterator[Figure]:
    fleet, sizes, files = Fleet(), found.sizes, found.files
    total, count = sum(sizes), sum(files)
    alone = seconds([1] * count, [total // count] * count, fleet)
    packed = seconds(files, sizes, fleet)
    name = f"simulated: {count:,} files, {fleet.nodes} nodes of {fleet.cpus} CPUs"
    yield Figure(name, "s", {"ours": packed, "a task per file": alone})
    yield Figure(name, "tasks", {"ours": len(files), "a task per file": count})
    yield Figure(name, "s on the driver", {"ours": found.wall_s})


def run(*, quick: bool = False) -> Report:
    """Build the table, check that all sides agree, time them, and plan what cannot be read here.

    Args:
        quick: 200 files and 1 round in place of 2,000 and 3; a tenth of the files to plan.
    """
    files, rounds, many = (200, 1, 10_000) if quick else (2_000, 3, 100_000)
    harness.progress(f"planning {many:,} files")
    driver, million = planned(many, 200), planned(many * 10, Fleet().most_tasks())
    # Before Ray starts: its readers look at it when they are made.
    os.environ |= {
        "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": str(os.cpu_count() or 1),
        # Tokens would be written to the home directory.
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    import ray

    from planner_client import Client

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
            fixture = build(root, files, schema=SEVEN)
            ray.data.DataContext.get_current().enable_progress_bars = False
            rows = list(_measured(fixture, files, rounds))
            targets = [*_ratios(rows), *_opened(fixture, files)]
            with Client(fixture.catalog) as client:
                rows += task_rows(client, TABLE, 100_000 if quick else 1_000_000, rounds)
    finally:
        ray.shutdown()
    targets += [
        Target("driver, plan and pack", "", "< 2 s", f"{driver.wall_s:.2f} s", driver.wall_s < 2),
        Target(
            "driver, memory",
            "",
            "< 500 MB",
            f"{driver.peak_mib:.0f} MiB, {driver.grown_mib:.0f} of them for it",
            driver.peak_mib < 477,
        ),
    ]
    return Report(
        name="ray",
        about=f"Ray Data over {files} Parquet files of {ROWS_PER_FILE} rows and 7 columns; driver: "
        f"{many:,} files",
        sides=[*SIDES, "arrow", "polars"],
        machine=harness.machine(),
        versions=harness.versions(PACKAGES),
        rows=rows,
        figures=list(_fleet(million)),
        targets=targets,
    )
