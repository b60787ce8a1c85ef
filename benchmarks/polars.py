"""What do Polars' scans, merges and sinks of a table cost, beside Polars' own over the same files?

Scans of files on disk, and of fewer on a real S3 (OpenStack Swift on loopback, which the tests run
too), beside `scan_parquet`, `scan_delta` and `scan_iceberg`; `benchmarks.polars_merges` and
`benchmarks.polars_sinks` say what those do.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import harness
from benchmarks.harness import progress
from benchmarks.peers import PACKAGES, Fixture
from benchmarks.polars_merges import merges
from benchmarks.polars_scans import QUERIES, measured, opened
from benchmarks.polars_sinks import sinks
from benchmarks.report import Figure, Report, Row, Target
from benchmarks.scan import ROWS_PER_FILE, SCHEMA, build
from benchmarks.serving import serving
from tests.object_store.store import KEYS, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.object_store.store import ObjectStore

__all__ = ["Size", "measure", "run"]

_STORED = "S3: "
_ON_S3 = ("point on id", "two days, a region", "head(10)", "sum of a column", "max of all columns")


class Size(NamedTuple):
    """How much is measured."""

    files: int
    stored_files: int
    keyed_rows: int
    sink_rows: int
    rounds: int


def run(*, quick: bool = False) -> Report:
    """Build the tables in a temporary directory, check and time every side, and report.

    Args:
        quick: A tenth of the data and 3 rounds in place of 9.
    """
    if quick:
        return measure(Size(200, 20, 200_000, 2_000_000, 3))
    return measure(Size(2_000, 200, 4_000_000, 20_000_000, 9))


def measure(size: Size) -> Report:
    """The same for a size; of what there is nothing of, nothing is measured.

    What a part found is printed on standard error when it is done, so that a run that is stopped later
    was not for nothing.
    """
    rows: list[Row] = []
    figures: list[Figure] = []
    with contextlib.ExitStack() as held:
        root = held.enter_context(tempfile.TemporaryDirectory(prefix="deltacat-bench-"))
        store = held.enter_context(_store(root)) if size.stored_files else None
        for part in _parts(root, size, store):
            began, before = time.monotonic(), (len(rows), len(figures))
            for found in part:
                (rows if isinstance(found, Row) else figures).append(found)  # type: ignore[arg-type]
            done = _report(size, rows[before[0] :], figures[before[1] :])
            progress(f"done in {time.monotonic() - began:.0f} s\n{done.render()}")
    return _report(size, rows, figures)


def _parts(root: str, size: Size, store: ObjectStore | None) -> Iterator[Iterator[Row | Figure]]:
    """What is measured, one after the other; nothing runs but the part that is taken from."""
    if size.files:
        yield _local(root, size)
    if size.keyed_rows:
        yield merges(f"{root}/keyed", size.keyed_rows, size.rounds)
    if size.sink_rows:
        yield sinks(root, size.sink_rows, size.rounds)
    if store is not None:
        yield _stored(root, size, store)


def _report(size: Size, rows: list[Row], figures: list[Figure]) -> Report:
    return Report(
        name="polars",
        about=f"Polars over {size.files:,} files ({size.stored_files:,} on S3) of {ROWS_PER_FILE:,} "
        f"rows and {len(SCHEMA)} columns, {size.keyed_rows:,} keyed rows, {size.sink_rows:,} rows "
        "written",
        sides=list(dict.fromkeys(name for row in rows for name in row.timings)),
        machine=harness.machine(),
        versions=harness.versions(PACKAGES),
        rows=rows,
        figures=figures,
        targets=[*_targets(rows), *_counted(figures)],
    )


def _local(root: str, size: Size) -> Iterator[Row | Figure]:
    fixture = build(f"{root}/local", size.files)
    with serving(fixture.catalog) as server:
        served = Fixture(fixture.root, server.url)
        yield from opened(served, size.files)
        yield from measured(served, size.files, size.rounds)


@contextlib.contextmanager
def _store(root: str) -> Iterator[ObjectStore]:
    """A store for the last part, begun before the first one: without its environment none is begun."""
    # Where every side's new processes find them, too.
    os.environ |= KEYS
    shared = Path(root, "store")
    shared.mkdir()
    with joined(shared) as store:
        yield store


def _stored(root: str, size: Size, store: ObjectStore) -> Iterator[Row]:
    queries = [query for query in QUERIES if query.name in _ON_S3]
    fixture = build(f"{root}/stored", size.stored_files, store)
    with serving(fixture.catalog) as server:
        served = Fixture(fixture.root, server.url)
        rounds = max(size.rounds // 3, 1)
        yield from measured(served, size.stored_files, rounds, queries=queries, place=_STORED)


# --- targets ------------------------------------------------------------------------------------


class _Bar(NamedTuple):
    """An upper bound of one of our sides over the best of some others, in one mode of a metric."""

    metric: str
    mode: str
    side: str
    over: tuple[str, ...]
    most: float


def _scan_bars(place: str) -> Iterator[_Bar]:
    reopened = ("delta", "iceberg")
    for side in ("ours", "ours http"):
        for metric in ("point on id", "two days, a region"):
            name = f"{place}{metric}"
            yield _Bar(name, "new process", side, reopened, 1 / 5)
            yield _Bar(name, "opened anew", side, reopened, 1 / 5)
            yield _Bar(name, "held handle", side, reopened, 1 / 2)
            yield _Bar(name, "reused frame", side, reopened, 1.0)
        for metric in ("sum of a column", "max of all columns"):
            for mode in ("held handle", "reused frame"):
                yield _Bar(f"{place}{metric}", mode, side, ("parquet",), 1.03)


_BARS = (
    *_scan_bars(""),
    *_scan_bars(_STORED),
    _Bar("merge: one column", "reused frame", "ours", ("parquet",), 1.3),
    _Bar("merge: all columns", "reused frame", "ours", ("parquet",), 1.3),
    _Bar("merge: one column", "reused frame", "ours cold", ("parquet",), 3.0),
    _Bar("merge: all columns", "reused frame", "ours cold", ("parquet",), 1.7),
    _Bar("sink", "new process", "ours", ("parquet",), 1.1),
)


def _targets(rows: list[Row]) -> Iterator[Target]:
    found = {(row.metric, row.mode): row.timings for row in rows}
    for bar in _BARS:
        timings = found.get((bar.metric, bar.mode), {})
        others = [name for name in bar.over if name in timings]
        if bar.side not in timings or not others:
            continue
        best = min(others, key=lambda name: timings[name].wall_ms)
        ratio = timings[bar.side].wall_ms / timings[best].wall_ms
        name = f"{bar.metric}, {bar.mode}, {bar.side}"
        yield Target(name, best, f"<= {bar.most:.2f}x", f"{ratio:.2f}x", ratio <= bar.most)
    peak = found.get(("sink", "new process"), {}).get("ours")
    if peak is not None and peak.peak_rss_mib is not None:
        megabytes = peak.peak_rss_mib * 2**20 / 10**6
        yield Target("sink, peak memory", "", "< 400 MB", f"{megabytes:.0f} MB", megabytes < 400)


def _counted(figures: list[Figure]) -> Iterator[Target]:
    most = {"head(10)": 1, "len()": 0}
    for figure in figures:
        for side in ("ours", "ours http"):
            bar, count = most.get(figure.metric), figure.values.get(side)
            if bar is not None and count is not None:
                name = f"{figure.metric}, files opened, {side}"
                yield Target(name, "", f"{bar}", f"{count:.0f}", count == bar)
