"""What do Polars' merges of a keyed table cost, beside a plain scan of the same columns and the keys?

10 % of the rows were upserted and 1 % deleted. With the dead rows known (`ours`), and with a plan that
knows none of them, so that every query merges (`ours cold`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from benchmarks import harness
from benchmarks.harness import Sample, progress
from benchmarks.keyed import WHERE, make_keyed
from benchmarks.report import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SIDES", "merges"]

SIDES = ("ours", "ours cold")


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


def merges(root: str, rows: int, rounds: int) -> Iterator[Row]:
    """Make the table of so many rows below a directory, compare answers, and time every question."""
    from deltacat_sources.polars import scan_deltacat
    from planner_client import Client

    client = Client(root)
    make_keyed(client, rows)
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
        timings = harness.interleave(calls, rounds)
        yield Row.compare(f"merge: {question.name}", "reused frame", timings, SIDES, "equal")


def _collecting(frame: Callable[[], pl.LazyFrame]) -> Callable[[], Sample]:
    return lambda: harness.measure(lambda: frame().collect(engine="streaming"))
