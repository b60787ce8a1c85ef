"""How fast do Polars' scans answer over one table of 2,000 Parquet files, beside their peers?

All sides read the same files. Every query is asked in three modes: in a new process (imports done,
nothing opened), with a held handle and a frame built anew, and with a frame that is built once and
collected again. Before anything is timed every side's answer is compared: all rows where the
query decides them, their number and whether they belong to the table where it takes any.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import importlib
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import harness
from benchmarks.harness import Sample, progress
from benchmarks.peers import (
    OURS,
    PACKAGES,
    SIDES,
    Fixture,
    Side,
    register_delta,
    register_iceberg,
)
from benchmarks.report import Report, Row
from benchmarks.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["QUERIES", "Query", "build", "measured", "run"]

ROWS_PER_FILE = 2_000
REGIONS = 20
FIRST_DAY = dt.date(2025, 1, 1)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("day", pa.date32()),
        ("region", pa.string()),
        ("value", pa.float64()),
        *((f"number_{i}", pa.int64()) for i in range(3)),
        *((f"ratio_{i}", pa.float64()) for i in range(2)),
        ("label", pa.string()),
        ("flag", pa.bool_()),
        ("at", pa.timestamp("us")),
    ]
)


@dataclass(frozen=True)
class Query:
    """One question: its name, how a frame answers it, and whether any rows would do.

    `ask` takes the number of files, by which it picks a place in the middle of the table.
    """

    name: str
    ask: Callable[[pl.LazyFrame, int], pl.LazyFrame]
    any_rows: bool = False


def _day_range(frame: pl.LazyFrame, files: int) -> pl.LazyFrame:
    first = FIRST_DAY + dt.timedelta(days=max(files // 60 // 2 - 1, 0))
    days = pl.col("day").is_between(first, first + dt.timedelta(days=1))
    return frame.filter(days & (pl.col("region") == "region-07"))


QUERIES = (
    Query("point on id", lambda f, n: f.filter(pl.col("id") == n * ROWS_PER_FILE // 2 + 77)),
    Query("two days, a region", _day_range),
    Query("sum of a column", lambda f, n: f.select(pl.col("value").sum())),
    Query("head(10)", lambda f, n: f.head(10), any_rows=True),
    Query("slice(half, 10)", lambda f, n: f.slice(n * ROWS_PER_FILE // 2, 10), any_rows=True),
    Query("len()", lambda f, n: f.select(pl.len())),
    Query("max of all columns", lambda f, n: f.select(pl.all().max())),
    Query(
        "group by region",
        lambda f, n: f.group_by("region").agg(pl.col("value").sum(), pl.len()),
    ),
)


# --- the table ----------------------------------------------------------------------------------


def _file(index: int, day: dt.date, seed: np.random.Generator) -> pa.Table:
    """One file's rows: ids follow the files, a file lies in one day and one region."""
    n = ROWS_PER_FILE
    columns = [
        pa.array(np.arange(index * n, (index + 1) * n)),
        pa.repeat(pa.scalar(day), n),
        pa.repeat(f"region-{index % REGIONS:02d}", n),
        pa.array(seed.normal(100, 15, n).round(3)),
        *(pa.array(seed.integers(0, 10**k, n)) for k in (2, 4, 6)),
        *(pa.array(seed.random(n).round(4)) for _ in range(2)),
        pa.array([f"label {k}" for k in seed.integers(0, 1000, n)]),
        pa.array(seed.random(n) < 0.5),
        pa.array(1_735_689_600_000_000 + seed.integers(0, 10**12, n)).cast(pa.timestamp("us")),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _days(files: int) -> Iterator[dt.date]:
    """A day per file, 20 to 100 files to a day."""
    seed, day, left = random.Random(7), FIRST_DAY, 0
    for _ in range(files):
        if left == 0:
            left = seed.randint(20, 100)
            day += dt.timedelta(days=1)
        left -= 1
        yield day


def _write_files(data_dir: str, files: int) -> list[str]:
    seed = np.random.default_rng(7)
    os.makedirs(data_dir, exist_ok=True)
    paths = []
    for index, day in enumerate(_days(files)):
        paths.append(f"{data_dir}/part-{index:05d}.parquet")
        pq.write_table(_file(index, day, seed), paths[-1], compression="zstd")
    return paths


def build(root: str, files: int) -> Fixture:
    """Write the files under our session's directory, commit them, and register them with the peers."""
    from io_core.formats.parquet import entry_of
    from io_core.schema import decode_schema
    from planner_client import Client

    fixture = Fixture(root)
    client = Client(fixture.catalog)
    client.catalog.create_namespace(namespace="bench")
    client.catalog.create_table(namespace="bench", table="scan", schema=SCHEMA)
    session = client.stage(namespace="bench", table="scan", mode="append")
    progress(f"writing {files} files of {ROWS_PER_FILE} rows and {len(SCHEMA)} columns")
    paths = _write_files(session.data_dir, files)
    progress("registering them: ours, delta, iceberg")
    assert session.schema_serialized is not None
    schema = decode_schema(session.schema_serialized)
    no_nan = dict.fromkeys(("value", "ratio_0", "ratio_1"), 0)
    entries = [entry_of(path, schema, nan_counts=no_nan) for path in paths]
    client.commit(session=session, entries=entries)
    _register_peers(fixture, session.data_dir, paths)
    return fixture


def _register_peers(fixture: Fixture, data_dir: str, paths: list[str]) -> None:
    fixture.remember("files", paths)
    register_delta(fixture, data_dir)
    register_iceberg(fixture, paths, SCHEMA)


# --- measuring ----------------------------------------------------------------------------------


def _check(query: Query, frames: dict[str, pl.LazyFrame], files: int) -> str:
    """Compare all sides' answers; raises AssertionError where they differ, else says how."""
    answers = {name: query.ask(frame, files).collect() for name, frame in frames.items()}
    if query.any_rows:
        for name, found in answers.items():
            assert found.columns == SCHEMA.names, f"{name}: {found.columns}"
            assert found["id"].n_unique() == len(found) == 10, f"{name}: {found}"
            assert found["id"].max() < files * ROWS_PER_FILE, f"{name}: {found}"  # type: ignore[operator]
        return "10 different rows of the table"
    _, expected = next(iter(answers.items()))
    assert expected.height, f"{query.name} finds nothing: it would measure nothing"
    for name, found in answers.items():
        try:
            polars.testing.assert_frame_equal(found, expected, check_row_order=False)
        except AssertionError as error:
            raise AssertionError(f"{name}, {query.name}: {error}") from None
    return f"equal, {expected.height} rows"


def measured(fixture: Fixture, sides: Sequence[Side], files: int, rounds: int) -> Iterator[Row]:
    """Every query in every mode; the sides' answers are compared first."""
    handles = {side.name: side.open(fixture) for side in sides}
    for query in QUERIES:
        frames = {side.name: side.frame(handles[side.name]) for side in sides}
        checked = _check(query, frames, files)
        progress(f"{query.name}: {checked}")
        for mode, calls in {
            "new process": _new_processes(sides, query, files, fixture),
            "held handle": _held_handles(sides, handles, query, files),
            "reused frame": _reused_frames(frames, query, files),
        }.items():
            new = mode == "new process"
            # A new process costs seconds of imports, which do not count but take their time.
            count = rounds // 3 if new else rounds
            timings = harness.interleave(calls, count, warm_up=not new)
            yield Row.compare(query.name, mode, timings, OURS, checked)


Calls = dict[str, "Callable[[], Sample]"]


def _new_processes(sides: Sequence[Side], query: Query, files: int, fixture: Fixture) -> Calls:
    rest = [str(QUERIES.index(query)), str(files), fixture.root, fixture.url]
    return {
        side.name: functools.partial(
            harness.in_new_process, "benchmarks.scan", [side.name, *rest], Sample
        )
        for side in sides
    }


def _held_handles(
    sides: Sequence[Side], handles: dict[str, object], query: Query, files: int
) -> Calls:
    def asking(side: Side) -> Callable[[], Sample]:
        handle = handles[side.name]
        return lambda: harness.measure(lambda: query.ask(side.frame(handle), files).collect())

    return {side.name: asking(side) for side in sides}


def _reused_frames(frames: dict[str, pl.LazyFrame], query: Query, files: int) -> Calls:
    asked = {name: query.ask(frame, files) for name, frame in frames.items()}
    return {
        name: functools.partial(harness.measure, frame.collect) for name, frame in asked.items()
    }


def run(*, quick: bool = False) -> Report:
    """Build the table in a temporary directory, check and time every side, and report.

    Args:
        quick: 200 files and 3 rounds in place of 2,000 and 9.
    """
    files, rounds = (200, 3) if quick else (2_000, 9)
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        fixture = build(root, files)
        with serving(fixture.catalog) as server:
            rows = list(measured(Fixture(root, server.url), SIDES, files, rounds))
    return Report(
        name="scan",
        about=f"Polars over {files} Parquet files of {ROWS_PER_FILE} rows, {len(SCHEMA)} columns",
        sides=[side.name for side in SIDES],
        machine=harness.machine(),
        versions=harness.versions(PACKAGES),
        rows=rows,
    )


def _child(name: str, place: str, files: str, root: str, url: str) -> None:
    """Ask one query in this process, which is new; print the sample."""
    side = next(side for side in SIDES if side.name == name)
    query, fixture = QUERIES[int(place)], Fixture(root, url)
    side.load()
    # pyarrow imports pandas, where it is installed, when it first makes an array.
    with contextlib.suppress(ImportError):
        importlib.import_module("pandas")

    def answer() -> pl.DataFrame:
        return query.ask(side.frame(side.open(fixture)), int(files)).collect()

    harness.print_sample(harness.measure(answer))


if __name__ == "__main__":
    _child(*sys.argv[1:])
