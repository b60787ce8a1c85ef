"""Keeping a write session open while its files are written."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from io_core.errors import DeltaCATError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteSession
    from io_core.scan import Planner

__all__ = ["heartbeating"]

INTERVAL_S = 900.0


@contextlib.contextmanager
def heartbeating(
    planner: Planner, session: WriteSession, interval_s: float = INTERVAL_S
) -> Iterator[None]:
    """Heartbeat `session` from a thread until the block ends.

    A heartbeat that fails is not raised: the commit that follows says what became of the session.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval_s):
            with contextlib.suppress(DeltaCATError):
                planner.heartbeat(session=session)

    thread = threading.Thread(target=beat, name="deltacat-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
