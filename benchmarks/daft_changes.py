"""What do merged reads and writes of Daft cost, beside what Daft does without this project?

Merges read the table of `benchmarks.keyed`, its dead rows known, beside a plain scan of the same columns
of the same files. Writes take many small files: ours, beside `write_parquet`, and beside the other two
ways to write a table from Daft: its own writer and then the footers of what it wrote, which leaves field
ids, sorting and the table's partitions aside; and a `DataSink` in batches, which is ours on Ray.
"""

from __future__ import annotations

import glob
import os
import shutil
from typing import TYPE_CHECKING

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col

from benchmarks import harness
from benchmarks.harness import Sample, progress
from benchmarks.keyed import WHERE, make_keyed
from benchmarks.report import Figure, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from planner_client import Client

__all__ = ["merges", "writes"]

_OURS = ("ours",)
_TABLE = "bench.written"
_ROWS = 2_000


def _timed(call: Callable[[], object]) -> Callable[[], Sample]:
    return lambda: harness.measure(call)


_MERGES: dict[str, Callable[[daft.DataFrame], daft.DataFrame]] = {
    "merge, all columns": lambda f: f,
    "merge, sum of a column": lambda f: f.select(col("value").sum()),
    "merge, a selective filter": lambda f: f.where(col("n0") == 77),
}


def merges(root: str, rows: int, rounds: int) -> Iterator[Row]:
    """Every question to a keyed table, with a frame built anew and with one that is asked again."""
    from deltacat_sources.daft import read_deltacat
    from planner_client import Client

    client = Client(root)
    make_keyed(client, rows)
    table = f"{WHERE['namespace']}.{WHERE['table']}"
    plan = client.catalog.plan(**WHERE)
    kinds = plan.column("delta_type")
    paths = [path for path, kind in zip(plan.paths, kinds, strict=True) if kind != "delete"]
    wanted = client.catalog.read(**WHERE, columns=["id"])["id"].combine_chunks().sort()
    found = read_deltacat(table, planner=client).to_arrow()["id"].combine_chunks().sort()
    assert found.equals(wanted), f"merge: {len(found)} rows, not {len(wanted)}"
    build: dict[str, Callable[[], daft.DataFrame]] = {
        "ours": lambda: read_deltacat(table, planner=client),
        "read_parquet": lambda: daft.read_parquet(paths),
    }
    kept = {side: make() for side, make in build.items()}
    for name, ask in _MERGES.items():
        progress(name)
        new = {side: _asking(ask, make) for side, make in build.items()}
        again = {side: _asking(ask, lambda f=frame: f) for side, frame in kept.items()}  # type: ignore[misc]
        for mode, sides in (("held handle", new), ("reused frame", again)):
            timings = harness.interleave(sides, rounds)
            yield Row.compare(name, mode, timings, _OURS, "beside a plain scan of the files")


def _asking(
    ask: Callable[[daft.DataFrame], daft.DataFrame], make: Callable[[], daft.DataFrame]
) -> Callable[[], Sample]:
    return _timed(lambda: ask(make()).to_arrow())


def writes(root: str, files: int, rounds: int) -> Iterator[Row | Figure]:
    """The same rows written by every side; and how many files each left."""
    from deltacat_sources.daft import write_deltacat
    from planner_client import Client

    paths = _small_files(f"{root}/small", files)
    client = Client(f"{root}/sink")
    out = f"{root}/written"

    def parquet() -> int:
        shutil.rmtree(out, ignore_errors=True)
        return len(daft.read_parquet(paths).write_parquet(out).to_pydict()["path"])

    def ours() -> int:
        frame = daft.read_parquet(paths)
        return write_deltacat(frame, _TABLE, planner=client, mode="replace").files_registered or 0

    first = write_deltacat(daft.read_parquet(paths), _TABLE, planner=client)
    assert first.total_records == files * _ROWS, first
    sides: dict[str, Callable[[], int]] = {
        "ours": ours,
        "write_parquet": parquet,
        "write_parquet, footers": lambda: _by_its_writer(client, paths),
        "DataSink": lambda: _by_sink(client, paths),
    }
    left = {side: float(write()) for side, write in sides.items()}
    progress(f"write: {left}")
    yield Figure("files written", "files", left)
    timed = {side: _timed(write) for side, write in sides.items()}
    timings = harness.interleave(timed, rounds)
    yield Row.compare("write", "held handle", timings, _OURS, f"{files * _ROWS:,} rows")


def _small_files(folder: str, files: int) -> list[str]:
    os.makedirs(folder)
    seed = np.random.default_rng(5)
    for i in range(files):
        columns = {"id": np.arange(i * _ROWS, (i + 1) * _ROWS), "value": seed.random(_ROWS)}
        columns |= {"other": seed.random(_ROWS), "day": np.full(_ROWS, i % 10)}
        text = pa.array([f"name {k}" for k in seed.integers(0, 1000, _ROWS)])
        pq.write_table(pa.table({**columns, "text": text}), f"{folder}/{i:04}.parquet")
    return sorted(glob.glob(f"{folder}/*.parquet"))


def _by_its_writer(client: Client, paths: list[str]) -> int:
    """Daft's writer, then the footers of what it wrote."""
    from io_core.formats.parquet import entry_of
    from io_core.schema import decode_schema

    namespace, table = _TABLE.split(".")
    session = client.stage(namespace=namespace, table=table, mode="replace")
    assert session.schema_serialized is not None
    schema = decode_schema(session.schema_serialized)
    written = daft.read_parquet(paths).write_parquet(session.data_dir).to_pydict()["path"]
    client.commit(session=session, entries=[entry_of(path, schema) for path in written])
    return len(written)


def _by_sink(client: Client, paths: list[str]) -> int:
    """A `DataSink`, in batches as large as files become."""
    from deltacat_sources.daft.sink import ROWS_PER_FILE, written_by_workers
    from io_core.sink import OpenSink
    from planner_client.calls import new_operation

    namespace, table = _TABLE.split(".")
    session = client.stage(namespace=namespace, table=table, mode="replace")
    sink = OpenSink(client, session, new_operation(), ROWS_PER_FILE)
    entries = written_by_workers(daft.read_parquet(paths), sink)
    client.commit(session=session, entries=entries)
    return len(entries)
