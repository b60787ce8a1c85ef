"""What does it take to read a table as Arrow, by our client and by the published one?

Both ask the same planner over HTTP for the same files, each in a new process:

* ours: `client.catalog.read(read_as="record_batch_reader")`, consumed batch by batch;
* ours, table: `client.catalog.read()`, one Arrow table;
* published client: `client.catalog.read()` of deltacat-client 0.1.8, which gives one Arrow table;
* pyarrow, batches and table: its bare scan of the files' columns, rows that are dead included. No
  client that decodes with pyarrow takes less than that, and one Arrow table holds all rows at once:
  where this floor is above a bar, no work on a client meets the bar.

`plain` has six columns: whole numbers, floats, text that repeats and text that does not. `keyed` has
merge keys; 10 % of its rows were upserted and 1 % deleted, and every side finds the rows that live.

Two costs are told. The timings are of the read alone, after a table of a few rows was read: of all
columns of a plain table both sides decode the same bytes with the same library, which is nearly all of
it. A process has all CPU of one that imports the client, connects and reads: what a job pays. Of it the
imports are less where Python keeps what it compiled; PYTHONDONTWRITEBYTECODE has every process compile
anew, and a note of the report says which of the two was so.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import harness
from benchmarks.harness import progress
from benchmarks.keyed import WHERE, make_keyed
from benchmarks.mor_read import Found
from benchmarks.mor_tables import make_tiny
from benchmarks.report import Figure, Report, Row, Target, Timing
from benchmarks.serving import serving
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CASES", "Size", "measure", "run"]

PYTHON = Path(__file__).parents[1] / ".venv-clients" / "compat" / "bin" / "python"
OURS, TABLE, PUBLISHED = "ours", "ours, table", "published client"
FLOOR, FLOOR_TABLE = "pyarrow, batches", "pyarrow, table"
_PER_FILE = 1_000_000


class Size(NamedTuple):
    """How much is measured: rows of the plain table and of the keyed one, and rounds."""

    rows: int
    keyed: int
    rounds: int


def _piece(start: int, rows: int) -> pa.Table:
    seed = np.random.default_rng(start)
    ids = np.arange(start, start + rows)
    words = pa.array([f"task {number}" for number in range(1000)])
    return pa.table(
        {
            "id": ids,
            "value": seed.random(rows),
            "length": seed.integers(0, 10**6, rows),
            "score": seed.random(rows),
            "task": words.take(pa.array(seed.integers(0, 1000, rows))),
            "name": pa.array([f"episode-{number:08d}" for number in ids]),
        }
    )


def _make(root: str, size: Size) -> None:
    with Client(root) as client:
        make_tiny(client)
        progress(f"writing a plain table of {size.rows:,} rows")
        for start in range(0, size.rows, _PER_FILE):
            rows = _piece(start, min(_PER_FILE, size.rows - start))
            client.catalog.write(rows, namespace="bench", table="plain")
        # Its namespace is there: that of the table of a few rows.
        make_keyed(client, size.keyed)


def _wanted(root: str, table: str) -> tuple[int, float]:
    with Client(root) as client:
        read = client.catalog.read(namespace="bench", table=table, columns=["value"])
    return read.num_rows, pc.sum(read["value"]).as_py()


class _Case(NamedTuple):
    """One table, and which columns of it are read; none means all."""

    table: str
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """As reports have it."""
        return f"{self.table}, {len(self.columns) or 'all'} column{'s'[: len(self.columns) != 1]}"


def _floor(side: str, root: str, case: _Case) -> Found:
    """A scan of a table's files by pyarrow, in a new process."""
    with Client(root) as client, tempfile.NamedTemporaryFile("w", suffix=".txt") as files:
        plan = client.catalog.plan(namespace="bench", table=case.table)
        found = plan.files.select(["path", "delta_type"]).to_pylist()
        files.write("\n".join(f["path"] for f in found if f["delta_type"] != "delete"))
        files.flush()
        form = "record_batch_reader" if side == FLOOR else "pyarrow"
        arguments = [files.name, form, *case.columns]
        return harness.in_new_process("benchmarks.client_floor", arguments, Found)


def _found(side: str, url: str, case: _Case, wanted: tuple[int, float]) -> Found:
    """A read in a new process, which found what is there."""
    form = "record_batch_reader" if side == OURS else "pyarrow"
    ours = "benchmarks.client_read", [url, case.table, form], sys.executable
    theirs = "benchmarks.mor_published", [url, case.table], str(PYTHON)
    module, arguments, python = theirs if side == PUBLISHED else ours
    found = harness.in_new_process(module, [*arguments, *case.columns], Found, python=python)
    same = found.rows == wanted[0] and abs(found.total - wanted[1]) <= 1e-9 * abs(wanted[1])
    assert same, f"{side}: {found} instead of {wanted}"
    return found


def _measured(
    url: str, root: str, case: _Case, sides: list[str], rounds: int
) -> tuple[Row, Figure]:
    """The read alone, and the CPU of the whole process."""
    wanted = _wanted(root, case.table)
    progress(f"{case.name}: {wanted[0]:,} rows")
    whole: dict[str, list[float]] = {side: [] for side in sides}

    def sample(side: str) -> harness.Sample:
        floor = side in (FLOOR, FLOOR_TABLE)
        found = _floor(side, root, case) if floor else _found(side, url, case, wanted)
        whole[side].append(found.process_cpu_ms)
        return harness.Sample(found.wall_ms, found.cpu_ms, found.peak_rss_mib)

    samplers = {side: functools.partial(sample, side) for side in sides}
    timings = harness.interleave(samplers, rounds, warm_up=False)
    checked = f"equal, {wanted[0]} rows"
    floors = [FLOOR, FLOOR_TABLE]
    row = Row.compare(case.name, "new process", timings, [OURS, TABLE, *floors], checked)
    medians = {side: statistics.median(found) for side, found in whole.items()}
    return row, Figure(f"{case.name}: a process", "ms of CPU", medians)


def _targets(rows: list[Row], figures: list[Figure]) -> Iterator[Target]:
    for row, figure in zip(rows, figures, strict=True):
        bar = 0.1 if row.metric.startswith(WHERE["table"]) else 0.5
        theirs = row.timings[PUBLISHED]
        for side, floor in ((OURS, FLOOR), (TABLE, FLOOR_TABLE)):
            ours, least = row.timings[side], row.timings[floor]
            for metric, values in (
                (f"{row.metric}, {side}: the read", [t.cpu_ms for t in (ours, least, theirs)]),
                (f"{figure.metric}, {side}", [figure.values[s] for s in (side, floor, PUBLISHED)]),
            ):
                yield _share(metric, "ms of CPU", bar, values)
            yield _share(
                f"{row.metric}, {side}", "MiB", 0.5, list(map(_peak, (ours, least, theirs)))
            )


def _share(metric: str, unit: str, bar: float, values: list[float]) -> Target:
    """Ours, beside the bare scan and the published client, whose part it may be."""
    mine, least, peer = values
    shown = f"{peer:.0f} {unit}, {PUBLISHED}; the bare scan {least / peer:.2f} of it"
    return Target(metric, shown, f"<= {bar} of it", f"{mine / peer:.2f}", mine / peer <= bar)


def _peak(timing: Timing) -> float:
    return timing.peak_rss_mib or float("nan")


CASES = [
    _Case(table, columns) for table in ("plain", WHERE["table"]) for columns in ((), ("value",))
]


def measure(size: Size, *, cases: Sequence[_Case] = CASES, published: bool = True) -> Report:
    """Write both tables, check and time every side, and report.

    Args:
        size: How much is measured.
        cases: Which reads.
        published: Whether to ask the published client, too.
    """
    sides = [OURS, TABLE, FLOOR, FLOOR_TABLE, *([PUBLISHED] if published else [])]
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as folder:
        root = f"{folder}/catalog"
        _make(root, size)
        with serving(root) as server:
            found = [_measured(server.url, root, case, sides, size.rounds) for case in cases]
    rows, figures = [row for row, _ in found], [figure for _, figure in found]
    return Report(
        name="client",
        about=f"{size.rows:,} rows of 6 columns read as Arrow; {size.keyed:,} of 14, merged",
        sides=sides,
        machine=harness.machine(),
        versions=harness.versions(("deltacat-sources", "pyarrow")),
        rows=rows,
        figures=figures,
        targets=list(_targets(rows, figures)) if published else [],
        notes=[
            "published client: deltacat-client 0.1.8, with its own pins",
            "all columns: both decode the same pages with Arrow's Parquet reader, which bounds the read",
            "the bare scan: pyarrow as it comes, with the memory pool that it takes by default",
            "each process compiles its imports anew (PYTHONDONTWRITEBYTECODE)"
            if sys.dont_write_bytecode
            else "processes take their imports compiled, after the first round",
        ]
        if published
        else [],
    )


def run(*, quick: bool = False) -> Report:
    """Measure in full.

    Args:
        quick: A million rows and one round in place of ten million and three.
    """
    if not PYTHON.exists():
        raise RuntimeError(f"{PYTHON} does not exist: `make bench` builds it")
    return measure(Size(1_000_000, 100_000, 1) if quick else Size(10_000_000, 1_000_000, 3))
