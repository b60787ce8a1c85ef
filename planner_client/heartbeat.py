"""Keeping a write session or a transaction open while work is done in it."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from typing import TYPE_CHECKING

from io_core.errors import DeltaCATError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["INTERVAL_S", "heartbeating"]

INTERVAL_S = 900.0


@contextlib.contextmanager
def heartbeating(beat: Callable[[], object], interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Call `beat` from a thread, every `interval_s` seconds until the block ends.

    A block that ends sooner costs no thread. A heartbeat that fails is not raised: the commit that
    follows says what became of the session or transaction.
    """
    watch, block = _watch(), _Block(beat, interval_s)
    watch.add(block)
    try:
        yield
    finally:
        watch.remove(block)
        block.end()


class _Block:
    """One block under way; it has a thread from its first heartbeat on."""

    def __init__(self, beat: Callable[[], object], interval_s: float) -> None:
        self.interval_s = interval_s
        self._beat = beat
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with self._lock:
            if not self._done.is_set():
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()

    def end(self) -> None:
        with self._lock:
            self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with contextlib.suppress(DeltaCATError):
                self._beat()
            if self._done.wait(self.interval_s):
                return


class _Watch:
    """One thread of the process that waits until a block needs a thread of its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._due: dict[_Block, float] = {}
        self._wakes_s = math.inf
        threading.Thread(target=self._run, name="heartbeat-watch", daemon=True).start()

    def add(self, block: _Block) -> None:
        due_s = time.monotonic() + block.interval_s
        with self._changed:
            self._due[block] = due_s
            if due_s < self._wakes_s:
                self._changed.notify()

    def remove(self, block: _Block) -> None:
        with self._changed:
            self._due.pop(block, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                now_s = time.monotonic()
                ready = [block for block, due_s in self._due.items() if due_s <= now_s]
                for block in ready:
                    del self._due[block]
                if not ready:
                    self._wakes_s = min(self._due.values(), default=math.inf)
                    forever = math.isinf(self._wakes_s)
                    self._changed.wait(None if forever else self._wakes_s - now_s)
            for block in ready:
                block.start()


_watching: _Watch | None = None


def _watch() -> _Watch:
    """The process's watch; a forked child has none of its parent's threads, and starts its own."""
    global _watching  # noqa: PLW0603  # of two made at once either will do
    if _watching is None or _watching.pid != os.getpid():
        _watching = _Watch()
    return _watching
