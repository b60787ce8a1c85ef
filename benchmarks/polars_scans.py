"""How fast do Polars' scans answer over one table of Parquet files, beside their peers?

All sides read the same files. Every query is asked in four modes: in a new process (imports done,
nothing opened), with a handle that is opened anew, with a held handle and a frame built anew, and with
a frame that is built once and collected again. Before anything is timed every side's answer is
compared: all rows where the query decides them, their number and whether they belong to the table where
it takes any.
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import polars.testing
import pyarrow as pa

from benchmarks import harness
from benchmarks.harness import Sample, progress
from benchmarks.peers import FLOOR, OURS, SIDES, Fixture, Side
from benchmarks.report import Figure, Row
from benchmarks.scan import FIRST_DAY, ROWS_PER_FILE, SCHEMA
from docs.demo.opened import OpenedFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["QUERIES", "Query", "measured", "opened"]


@dataclass(frozen=True)
class Query:
    """One question: its name, how a frame answers it, and whether any rows would do.

    `ask` takes the number of files, by which it picks a place in the middle of the table; selective
    questions need few of them.
    """

    name: str
    ask: Callable[[pl.LazyFrame, int], pl.LazyFrame]
    any_rows: bool = False
    is_selective: bool = False


def _day_range(frame: pl.LazyFrame, files: int) -> pl.LazyFrame:
    first = FIRST_DAY + dt.timedelta(days=max(files // 60 // 2 - 1, 0))
    days = pl.col("day").is_between(first, first + dt.timedelta(days=1))
    return frame.filter(days & (pl.col("region") == "region-07"))


QUERIES = (
    Query(
        "point on id",
        lambda f, n: f.filter(pl.col("id") == n * ROWS_PER_FILE // 2 + 77),
        is_selective=True,
    ),
    Query("two days, a region", _day_range, is_selective=True),
    Query("sum of a column", lambda f, n: f.select(pl.col("value").sum())),
    Query("head(10)", lambda f, n: f.head(10), any_rows=True, is_selective=True),
    Query("slice(half, 10)", lambda f, n: f.slice(n * ROWS_PER_FILE // 2, 10), any_rows=True),
    Query("len()", lambda f, n: f.select(pl.len()), is_selective=True),
    Query("max of all columns", lambda f, n: f.select(pl.all().max())),
    Query(
        "group by region",
        lambda f, n: f.group_by("region").agg(pl.col("value").sum(), pl.len()),
    ),
)


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


def measured(
    fixture: Fixture,
    files: int,
    rounds: int,
    *,
    sides: Sequence[Side] = SIDES,
    queries: Sequence[Query] = QUERIES,
    place: str = "",
) -> Iterator[Row]:
    """Every query in every mode; the sides' answers are compared first.

    Args:
        fixture: Which table.
        files: How many files it has.
        rounds: How often each is asked; in new processes a third of that, or where the answer itself
            takes long a ninth.
        sides: Who is asked.
        queries: What.
        place: What the metrics' names begin with.
    """
    for query in queries:
        fixture.remember(FLOOR, _planned(query, files, fixture))
        handles = {side.name: side.open(fixture) for side in sides}
        frames = {side.name: side.frame(handles[side.name]) for side in sides}
        checked = _check(query, frames, files)
        progress(f"{place}{query.name}: {checked}")
        for mode, calls in {
            "new process": _new_processes(sides, query, files, fixture),
            "opened anew": _opened_anew(sides, query, files, fixture),
            "held handle": _held_handles(sides, handles, query, files),
            "reused frame": _reused_frames(frames, query, files),
        }.items():
            new = mode == "new process"
            # A new process costs seconds of imports, which do not count but take their time.
            count = rounds // (3 if query.is_selective else 9) if new else rounds
            if count:
                timings = harness.interleave(calls, count, warm_up=not new)
                yield Row.compare(f"{place}{query.name}", mode, timings, OURS, checked)


def _planned(query: Query, files: int, fixture: Fixture) -> list[str]:
    """The files that our plan of a query lists."""
    # Peers' new processes do without.
    from deltacat_sources.polars import DeltaCatFrame

    ours = SIDES[0]
    return DeltaCatFrame(query.ask(ours.frame(ours.open(fixture)), files)).plan().paths


Calls = dict[str, "Callable[[], Sample]"]


def _new_processes(sides: Sequence[Side], query: Query, files: int, fixture: Fixture) -> Calls:
    rest = [str(QUERIES.index(query)), str(files), fixture.root, fixture.url]
    return {
        side.name: functools.partial(
            harness.in_new_process, "benchmarks.polars_scans", [side.name, *rest], Sample
        )
        for side in sides
    }


def _opened_anew(sides: Sequence[Side], query: Query, files: int, fixture: Fixture) -> Calls:
    def asking(side: Side) -> Callable[[], Sample]:
        return lambda: harness.measure(
            lambda: query.ask(side.frame(side.open(fixture)), files).collect()
        )

    return {side.name: asking(side) for side in sides}


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


def opened(fixture: Fixture, files: int, sides: Sequence[Side] = SIDES) -> Iterator[Figure]:
    """How many data files each side opens for the queries that need few; local files alone."""
    paths = set(fixture.recall("files"))
    for query in QUERIES:
        if not query.is_selective:
            continue
        fixture.remember(FLOOR, _planned(query, files, fixture))
        counts = {}
        for side in sides:
            frame = query.ask(side.frame(side.open(fixture)), files)
            with OpenedFiles(Path(fixture.catalog)) as seen:
                frame.collect()
            counts[side.name] = float(len(paths.intersection(map(str, seen.paths()))))
        yield Figure(query.name, "files opened", counts)


def _child(name: str, place: str, files: str, root: str, url: str) -> None:
    """Ask one query in this process, which is new; print the sample."""
    side = next(side for side in SIDES if side.name == name)
    query, fixture = QUERIES[int(place)], Fixture(root, url)
    side.load()
    # The first array that Arrow makes imports several modules, and pandas where that is installed.
    pa.array([1])

    def answer() -> pl.DataFrame:
        return query.ask(side.frame(side.open(fixture)), int(files)).collect()

    harness.print_sample(harness.measure(answer))


if __name__ == "__main__":
    _child(*sys.argv[1:])
