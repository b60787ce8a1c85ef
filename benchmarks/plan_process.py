"""What does one side do in a process of its own? Open and plan once; or hold a table in memory.

`python -m benchmarks.plan_process cold SIDE PLACE FILES QUERY` plans one query; `... memory SIDE PLACE
FILES SMALL` holds the table, having held a small one, of `SMALL_FILES`, at the place SMALL before, so
that what a process needs once, threads and buffers, is not counted. Imports come before all of it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

import msgspec

from benchmarks import harness
from benchmarks.plan_ours import EMBEDDED
from benchmarks.plan_peers import PEERS, Side
from benchmarks.tables import QUERIES

__all__ = ["SMALL_FILES", "Held"]

SMALL_FILES = 1_000


class Held(msgspec.Struct, frozen=True):
    """How much a process grew by a table that it holds: after selective queries, after all of them."""

    selective_bytes: int
    full_bytes: int


def _main(task: str, name: str, place: str, files: str, last: str) -> None:
    side = next(side for side in (EMBEDDED, *PEERS) if side.name == name)
    side.load()
    # pyarrow imports pandas, where it is installed, when it first makes an array.
    with contextlib.suppress(ImportError):
        importlib.import_module("pandas")
        importlib.import_module("pyarrow.pandas_compat")
    if task == "memory":
        print(msgspec.json.encode(_hold(side, place, int(files), last)).decode(), flush=True)
        return
    query = next(query for query in QUERIES if query.name == last)
    harness.print_sample(harness.measure(lambda: side.plan(side.open(place), query, int(files))))


def _hold(side: Side, place: str, files: int, small: str) -> Held:
    kept = side.open(small)
    for query in QUERIES:
        side.plan(kept, query, SMALL_FILES)
    before = harness.resident_bytes()
    handle = side.open(place)
    *selective, full = QUERIES
    for query in selective:
        side.plan(handle, query, files)
    between = harness.resident_bytes()
    side.plan(handle, full, files)
    return Held(between - before, harness.resident_bytes() - before)


if __name__ == "__main__":
    _main(*sys.argv[1:])
