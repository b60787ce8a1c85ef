"""Keeping a write session or a transaction open while work is done in it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from io_core.errors import DeltaCATError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["INTERVAL_S", "heartbeating"]

INTERVAL_S = 900.0


@contextlib.contextmanager
def heartbeating(beat: Callable[[], object], interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Call `beat` from a thread, every `interval_s` seconds until the block ends.

    A heartbeat that fails is not raised: the commit that follows says what became of the session
    or transaction.
    """
    done = threading.Event()

    def run() -> None:
        while not done.wait(interval_s):
            with contextlib.suppress(DeltaCATError):
                beat()

    thread = threading.Thread(target=run, name="deltacat-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
