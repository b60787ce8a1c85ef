"""What does pyarrow itself take to read the same files, with nobody's client about it?

`python -m benchmarks.client_floor FILES pyarrow|record_batch_reader [COLUMN...]`: `FILES` is a text
file of paths, one a line. All rows of them, merged or not; what a client adds comes on top.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import harness
from benchmarks.mor_read import Found

__all__: list[str] = []


def _main(files: str, read_as: str, *columns: str) -> None:
    import pyarrow.compute as pc

    paths = Path(files).read_text(encoding="utf-8").splitlines()
    held: list[tuple[int, float]] = []

    def read() -> None:
        batches = (
            batch
            for path in paths
            for batch in pq.ParquetFile(path).iter_batches(122_880, columns=list(columns) or None)
        )
        pieces = [pa.Table.from_batches(batches)] if read_as == "pyarrow" else batches
        held.extend((len(p), pc.sum(p.column("value")).as_py() or 0.0) for p in pieces)

    sample = harness.measure(read)
    peak = harness.peak_bytes() / 2**20
    whole_ms = time.process_time() * 1000
    rows, total = (sum(column) for column in zip(*held, strict=True))
    found = Found(sample.wall_ms, sample.cpu_ms, peak, int(rows), total, whole_ms)
    print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
