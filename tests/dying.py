"""How does a process die in a test, as nothing can prevent, and at a chosen moment?"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from io_core.model import WriteSession

__all__ = ["DyingClient", "die", "die_once"]


def die() -> None:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path) -> None:
    """End this process by SIGKILL, if it is the first one that comes here."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    die()


class DyingClient(Client):
    """A client whose process ends in or around its first commit.

    Attributes:
        moment: `before`, `after` (its answer is lost), or how many microseconds after the commit began.
    """

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
