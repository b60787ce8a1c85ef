"""What does the published client take to read a table? Run by its own interpreter, which has no other module.

`python -m benchmarks.mor_published URL TABLE [COLUMN...]` prints what `benchmarks.mor_read` prints.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import time

__all__: list[str] = []


def _peak_mib() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        found = re.search(r"^VmHWM:\s*(\d+) kB", file.read(), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def _main(url: str, table: str, *columns: str) -> None:
    import pyarrow.compute as pc
    from deltacat_client import Client

    with Client(url) as client:
        # Whoever reads many tables imports what that takes once: before the clock runs.
        client.catalog.read(namespace="bench", table="tiny")
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        read = client.catalog.read(namespace="bench", table=table, columns=list(columns) or None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {
        "wall_ms": wall * 1000,
        "cpu_ms": cpu * 1000,
        "process_cpu_ms": time.process_time() * 1000,
        "peak_rss_mib": _peak_mib(),
        "rows": read.num_rows,
        "total": pc.sum(read.column("value")).as_py(),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
