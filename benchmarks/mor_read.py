"""What does our client take to read a table, as one Arrow table or batch by batch?

`python -m benchmarks.mor_read URL TABLE table|batches [COLUMN...]`
"""

from __future__ import annotations

import sys

import msgspec

from benchmarks import harness

__all__ = ["TINY", "Found", "table_of"]

# A table of a few rows, merged too.
TINY = "tiny"


class Found(msgspec.Struct, frozen=True):
    """What a read in a new process took, and what it found: rows, and the sum of their `value`.

    `process_cpu_ms` is the CPU of all of the process, its imports and first call included.
    """

    wall_ms: float
    cpu_ms: float
    peak_rss_mib: float
    rows: int
    total: float
    process_cpu_ms: float = 0.0


def table_of(layout: str, kind: str) -> str:
    """The name of the table of a layout that is keyed in one way."""
    return f"{layout}_{kind.replace(' + ', '_')}"


def _main(url: str, table: str, how: str, *columns: str) -> None:
    import pyarrow.compute as pc

    from io_core.execute import execute, read_plan
    from io_core.model import TableRef
    from io_core.scan import Scan
    from planner_client import Client

    wanted = list(columns) or None
    with Client(url) as client:
        # Whoever reads many tables imports what that takes once: before the clock runs.
        read_plan(Scan(TableRef.parse(f"bench.{TINY}"), client).plan())
        held: list[tuple[int, float]] = []

        def read() -> None:
            plan = Scan(TableRef.parse(f"bench.{table}"), client).plan()
            whole = how == "table"
            pieces = [read_plan(plan, columns=wanted)] if whole else execute(plan, columns=wanted)
            held.extend((len(p), pc.sum(p.column("value")).as_py() or 0.0) for p in pieces)

        sample = harness.measure(read)
    rows, total = (sum(column) for column in zip(*held, strict=True))
    peak = harness.peak_bytes() / 2**20
    found = Found(sample.wall_ms, sample.cpu_ms, peak, int(rows), total)
    print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
