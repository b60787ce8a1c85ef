"""A driver that writes a dataset and dies of SIGKILL at a chosen moment of its commit.

`python -m tests.ray.dying_driver ADDRESS ROOT TABLE MOMENT`, where the moment is one of `DyingClient`'s.
"""

from __future__ import annotations

import sys

import ray
import ray.data

from deltacat_sources.ray import write_deltacat
from tests.dying import DyingClient
from tests.ray.tables import rows

__all__ = ["main"]


def main(address: str, root: str, table: str, moment: str) -> None:
    """Write 200 rows in twenty blocks."""
    ray.init(address=address, log_to_driver=False)
    client = DyingClient(root)
    client.moment = moment
    data = rows(0, 200)
    blocks = [data.slice(start, 10) for start in range(0, 200, 10)]
    write_deltacat(ray.data.from_arrow(blocks), table, planner=client, min_rows_per_file=20)
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
