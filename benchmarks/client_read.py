"""What does `client.catalog.read` take to read a table, as one Arrow table or as a reader?

`python -m benchmarks.client_read URL TABLE pyarrow|record_batch_reader [COLUMN...]`, in a new process.
"""

from __future__ import annotations

import sys
import time

import msgspec

from benchmarks import harness
from benchmarks.mor_read import TINY, Found

__all__: list[str] = []


def _main(url: str, table: str, read_as: str, *columns: str) -> None:
    import pyarrow.compute as pc

    from planner_client import Client

    with Client(url) as client:
        # Whoever reads many tables imports what that takes once: before the clock runs.
        client.catalog.read(namespace="bench", table=TINY)
        held: list[tuple[int, float]] = []

        def read() -> None:
            found = client.catalog.read(
                namespace="bench",
                table=table,
                read_as=read_as,  # type: ignore[arg-type]  # a form's name
                columns=columns or None,
            )
            pieces = [found] if read_as == "pyarrow" else found
            held.extend((len(p), pc.sum(p.column("value")).as_py() or 0.0) for p in pieces)

        sample = harness.measure(read)
    rows, total = (sum(column) for column in zip(*held, strict=True))
    peak = harness.peak_bytes() / 2**20
    whole_ms = time.process_time() * 1000
    found = Found(sample.wall_ms, sample.cpu_ms, peak, int(rows), total, whole_ms)
    print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
