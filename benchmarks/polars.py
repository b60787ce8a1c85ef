"""What do Polars' scans, merges and sinks of a table cost, beside Polars' own over the same files?

Scans are those of `benchmarks.scan`: three modes, beside `scan_parquet`, `scan_delta` and
`scan_iceberg`. Merges read a keyed table of which 10 % of the rows were upserted and 1 % deleted:
with the dead rows known (`ours`), and with a plan that knows none of them, so that Polars merges
(`ours cold`), beside a plain scan of the same columns and the keys. Sinks write rows that a generator
makes, each in a new process, beside `sink_parquet`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
from polars.io.plugins import register_io_source

from benchmarks import harness, scan
from benchmarks.harness import Sample, progress
from benchmarks.keyed import WHERE, make_keyed
from benchmarks.peers import PACKAGES, SIDES, Fixture
from benchmarks.report import Report, Row, Target
from benchmarks.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


__all__ = ["Size", "measure", "run"]

_OURS = ("ours", "ours http", "ours cold")
_BATCH = 500_000
_SINK_SCHEMA = {"id": pl.Int64(), "day": pl.Date(), "value": pl.Float64(), "text": pl.String()}


class Size(NamedTuple):
    """How much is measured."""

    files: int
    keyed_rows: int
    sink_rows: int
    rounds: int


def run(*, quick: bool = False) -> Report:
    """Build the tables in a temporary directory, check and time every side, and report.

    Args:
        quick: A tenth of the data and 3 rounds in place of 9.
    """
    return measure(
        Size(200, 200_000, 2_000_000, 3) if quick else Size(2_000, 4_000_000, 20_000_000, 9)
    )


def measure(size: Size) -> Report:
    """The same for a size; without files nothing but merges and sinks."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        if size.files:
            fixture = scan.build(root, size.files)
            with serving(fixture.catalog) as server:
                served = Fixture(root, server.url)
                rows += scan.measured(served, SIDES, size.files, size.rounds)
        rows += _merges(f"{root}/keyed", size)
        rows += _sinks(root, size)
    return Report(
        name="polars",
        about=f"Polars over {size.files} files, {size.keyed_rows:,} keyed rows, "
        f"{size.sink_rows:,} rows written",
        sides=list(dict.fromkeys(name for row in rows for name in row.timings)),
        machine=harness.machine(),
        versions=harness.versions(PACKAGES),
        rows=rows,
        targets=list(_targets(rows)),
    )


# --- merges -------------------------------------------------------------------------------------


class _Question(NamedTuple):
    """A query of the keyed table, and the columns that a plain scan reads for it beside the key."""

    name: str
    ask: Callable[[pl.LazyFrame], pl.LazyFrame]


_QUESTIONS = (
    _Question("one column", lambda f: f.select(pl.col("value").sum())),
    _Question("all columns", lambda f: f.select(pl.all().max())),
    _Question("point on the key", lambda f: f.filter(pl.col("id") == 77).select(pl.all().max())),
    _Question("selective", lambda f: f.filter(pl.col("n0") < 1_000).select(pl.all().max())),
)


def _merges(root: str, size: Size) -> Iterator[Row]:
    from deltacat_sources.polars import scan_deltacat
    from planner_client import Client

    client = Client(root)
    make_keyed(client, size.keyed_rows)
    plan = client.catalog.plan(**WHERE)
    files = [
        path
        for path, kind in zip(plan.paths, plan.column("delta_type"), strict=True)
        if kind != "delete"
    ]
    plain = pl.scan_parquet(files, glob=False, hive_partitioning=False)
    for question in _QUESTIONS:
        known = question.ask(scan_deltacat("bench.keyed", planner=client))
        beside = question.ask(plain)
        if question.name == "one column":
            beside = plain.select(pl.col("value").sum(), pl.col("id").sum())

        def cold(ask: Callable[[pl.LazyFrame], pl.LazyFrame] = question.ask) -> pl.LazyFrame:
            # A frame remembers what it found dead.
            return ask(scan_deltacat("bench.keyed", plan=plan))

        assert known.collect().equals(cold().collect()), question.name
        calls = {
            "ours": _collecting(known.lazy),
            "ours cold": _collecting(cold),
            "parquet": _collecting(beside.lazy),
        }
        progress(f"merge, {question.name}")
        timings = harness.interleave(calls, size.rounds)
        yield Row.compare(f"merge: {question.name}", "reused frame", timings, _OURS, "equal")


def _collecting(frame: Callable[[], pl.LazyFrame]) -> Callable[[], Sample]:
    return lambda: harness.measure(lambda: frame().collect(engine="streaming"))


# --- sinks --------------------------------------------------------------------------------------


def _made(rows: int) -> pl.LazyFrame:
    """Rows that are made when they are asked for, so that no side reads anything."""

    def batches(columns: list[str] | None, *_pushed: object) -> Iterator[pl.DataFrame]:
        for start in range(0, rows, _BATCH):
            yield _batch(start, min(start + _BATCH, rows)).select(columns or pl.all())

    return register_io_source(batches, schema=_SINK_SCHEMA)


def _batch(start: int, end: int) -> pl.DataFrame:
    number = pl.int_range(start, end, dtype=pl.Int64, eager=True)
    return pl.DataFrame(
        {
            "id": number,
            "day": (number % 365).cast(pl.Int32).cast(pl.Date),
            "value": (number * 7919 % 10_007).cast(pl.Float64),
            "text": "row " + (number % 1_000).cast(pl.String),
        }
    )


def _sinks(root: str, size: Size) -> Iterator[Row]:
    calls = {
        side: _sinking(side, f"{root}/sink-{side}", size.sink_rows) for side in ("ours", "parquet")
    }
    progress(f"sinking {size.sink_rows:,} rows")
    timings = harness.interleave(calls, max(size.rounds // 3, 1), warm_up=False)
    yield Row.compare("sink", "new process", timings, _OURS, "all rows are there")


def _sinking(side: str, folder: str, rows: int) -> Callable[[], Sample]:
    return lambda: harness.in_new_process("benchmarks.polars", [side, folder, str(rows)], Sample)


def _child(side: str, folder: str, rows: str) -> None:
    """Write the rows in this process, which is new; print the sample."""
    frame = _made(int(rows))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as target:
        write = _writing(side, target)
        # The first one imports, which does not count.
        write(_made(1_000), "few")
        sample = harness.measure(lambda: write(frame, "many"))
        found = pl.scan_parquet(f"{target}/**/*.parquet").select(pl.len()).collect().item() - 1_000
    assert found == int(rows), f"{side} wrote {found} rows of {rows}"
    harness.print_sample(sample)


def _writing(side: str, target: str) -> Callable[[pl.LazyFrame, str], object]:
    """What writes a frame under a name below the directory."""
    if side == "ours":
        from deltacat_sources.polars import sink_deltacat
        from planner_client import Client

        client = Client(f"{target}/catalog")
        return lambda frame, name: sink_deltacat(frame, f"bench.{name}", planner=client)

    def sink(frame: pl.LazyFrame, name: str) -> None:
        os.makedirs(f"{target}/{name}")
        split = pl.PartitionBy(
            f"{target}/{name}",
            max_rows_per_file=1_000_000,
            approximate_bytes_per_file=128 * 2**20,
        )
        frame.sink_parquet(split, engine="streaming")

    return sink


# --- targets ------------------------------------------------------------------------------------


class _Bar(NamedTuple):
    """An upper bound of one of our sides over one or the best of others, in one row."""

    metric: str
    mode: str
    side: str
    over: tuple[str, ...]
    most: float


_OPENED = ("delta", "iceberg")
_BARS = (
    *(_Bar("point on id", "new process", s, _OPENED, 1 / 5) for s in ("ours", "ours http")),
    *(_Bar("point on id", "held handle", s, _OPENED, 1 / 2) for s in ("ours", "ours http")),
    *(_Bar("point on id", "reused frame", s, _OPENED, 1.0) for s in ("ours", "ours http")),
    _Bar("sum of a column", "reused frame", "ours http", ("parquet",), 1.03),
    _Bar("max of all columns", "reused frame", "ours http", ("parquet",), 1.03),
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
        yield Target(name, best, f"{bar.most:.2f}x", f"{ratio:.2f}x", ratio <= bar.most)
    peak = found.get(("sink", "new process"), {}).get("ours")
    if peak is not None and peak.peak_rss_mib is not None:
        held = f"{peak.peak_rss_mib:.0f} MiB"
        yield Target("sink, peak memory", "", "400 MiB", held, peak.peak_rss_mib <= 400)


if __name__ == "__main__":
    _child(*sys.argv[1:])
