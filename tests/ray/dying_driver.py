"""A driver that writes a dataset and dies of SIGKILL at a chosen moment of its commit.

`python -m tests.ray.dying_driver ADDRESS ROOT TABLE MOMENT`, where the moment is `before`, `after`
(its answer is lost), or how many microseconds after the commit began.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import ray
import ray.data

from deltacat_sources.ray import write_deltacat
from planner_client import Client
from tests.ray.tables import rows

if TYPE_CHECKING:
    from io_core.model import WriteSession

__all__ = ["main"]


def die() -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(Client):
    """A client whose process ends in or around its first commit."""

    moment = "before"

    def commit(self, **arguments: Any) -> WriteSession:
        if self.moment == "before":
            die()
        if self.moment.isdigit():
            threading.Thread(target=_die_in, args=[int(self.moment) / 1e6], daemon=True).start()
        found = super().commit(**arguments)
        if self.moment == "after":
            die()
        return found


def _die_in(seconds: float) -> None:
    time.sleep(seconds)
    die()


def main(address: str, root: str, table: str, moment: str) -> None:
    """Write 200 rows in twenty blocks."""
    ray.init(address=address, log_to_driver=False)
    client = Dying(root)
    client.moment = moment
    data = rows(0, 200)
    blocks = [data.slice(start, 10) for start in range(0, 200, 10)]
    write_deltacat(ray.data.from_arrow(blocks), table, planner=client, min_rows_per_file=20)
    sys.stdout.write("acknowledged\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
