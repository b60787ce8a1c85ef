"""What does the driver take to plan a made-up table and to pack its files? Run in a new process."""

from __future__ import annotations

import sys
import time

import msgspec

from benchmarks import harness

__all__ = ["Planned"]


class Planned(msgspec.Struct, frozen=True):
    """Seconds and MiB, of planning, packing and pickling; of each task its files and its decoded bytes.

    `peak_mib` is all of the process's, imports included; `grown_mib` what planning added to them.
    """

    wall_s: float
    peak_mib: float
    grown_mib: float
    files: list[int]
    sizes: list[int]


def _planned(root: str, table: str, parallelism: int) -> Planned:
    import ray.cloudpickle

    from deltacat_sources.ray import DeltaCatDatasource
    from planner_client import Client

    client = Client(root)
    client.health()
    before = harness.peak_bytes()
    started = time.perf_counter()
    source = DeltaCatDatasource(table, planner=client)
    shares = source.explain(parallelism).shares
    for share in shares:
        ray.cloudpickle.dumps(share)
    wall_s = time.perf_counter() - started
    files = [share.plan.files.num_rows for share in shares]
    sizes = [int(share.decoded_bytes().sum()) for share in shares]
    peak = harness.peak_bytes()
    return Planned(wall_s, peak / 2**20, (peak - before) / 2**20, files, sizes)


if __name__ == "__main__":
    found = _planned(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
