"""A driver that writes a Daft frame and dies of SIGKILL at a chosen moment of its commit.

`python -m tests.daft.dying_driver ROOT TABLE MOMENT`, where the moment is one of `DyingClient`'s.
"""

from __future__ import annotations

import os
import sys

import daft

from deltacat_sources.daft import write_deltacat
from tests.dying import DyingClient

__all__ = ["ROWS", "main"]

ROWS = 200


def main(root: str, table: str, moment: str) -> None:
    """Write `ROWS` rows into files of twenty."""
    client = DyingClient(root)
    client.moment = moment
    frame = daft.from_pydict({"id": list(range(ROWS))})
    write_deltacat(frame, table, planner=client, mode="append", max_rows_per_file=20)
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Daft 0.7.26's threads call Python while that ends, which then aborts (docs/daft.md).
    os._exit(0)
