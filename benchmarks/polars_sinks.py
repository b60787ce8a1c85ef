"""What does a sink of Polars into a table cost, beside `sink_parquet`? Each in a new process."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

import polars as pl
from polars.io.plugins import register_io_source

from benchmarks import harness
from benchmarks.harness import Sample, progress
from benchmarks.report import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["sinks"]

_BATCH = 500_000
_SINK_SCHEMA = {"id": pl.Int64(), "day": pl.Date(), "value": pl.Float64(), "text": pl.String()}


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


def sinks(root: str, rows: int, rounds: int) -> Iterator[Row]:
    """Write rows that a generator makes below a directory."""
    calls = {side: _sinking(side, f"{root}/sink-{side}", rows) for side in ("ours", "parquet")}
    progress(f"sinking {rows:,} rows")
    timings = harness.interleave(calls, max(rounds // 3, 1), warm_up=False)
    yield Row.compare("sink", "new process", timings, ("ours",), "all rows are there")


def _sinking(side: str, folder: str, rows: int) -> Callable[[], Sample]:
    return lambda: harness.in_new_process(
        "benchmarks.polars_sinks", [side, folder, str(rows)], Sample
    )


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


if __name__ == "__main__":
    _child(*sys.argv[1:])
