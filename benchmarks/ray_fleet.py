"""How would a fleet read a table that this machine cannot hold? A simulation, with its assumptions.

The planner's answer and the packing are the real ones, of `files` made-up files; reading is not done
but priced: opening a file costs `OPEN_S`, decoding `DECODE_BYTES_S` on each of a node's CPUs, starting a
task `TASK_S`, and the driver submits `TASKS_S` a second. Tasks go, in their order, to whoever is free
first. Beside it stands one task per file, which is what packing is for.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deltacat_sources.ray.tasks import TASKS_PER_CPU

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DECODE_BYTES_S", "OPEN_S", "TASKS_S", "TASK_S", "Fleet", "seconds"]

OPEN_S = 0.03
DECODE_BYTES_S = 300e6
TASK_S = 0.02
TASKS_S = 2_000.0


class Fleet(NamedTuple):
    """Nodes of some CPUs each."""

    nodes: int = 64
    cpus: int = 16

    def most_tasks(self) -> int:
        """How many tasks `read_deltacat` makes there at most."""
        return TASKS_PER_CPU * self.nodes * self.cpus


def seconds(files: Sequence[int], sizes: Sequence[int], fleet: Fleet) -> float:
    """When the last task is done.

    Args:
        files: How many each task opens.
        sizes: Decoded bytes of each task.
        fleet: Who works.
    """
    free = [0.0] * (fleet.nodes * fleet.cpus)
    work = np.asarray(files) * OPEN_S + np.asarray(sizes) / DECODE_BYTES_S + TASK_S
    for number, cost in enumerate(work.tolist()):
        start = max(heapq.heappop(free), number / TASKS_S)
        heapq.heappush(free, start + cost)
    return max(free)
