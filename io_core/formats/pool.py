"""From which memory do rows come, and what is kept for long? From one that suits it.

pyarrow's mimalloc asks the system for huge pages. Where memory is scattered, making those took more
CPU than decoding: ten million rows of six columns took 2.3 s of CPU and 870 MiB from mimalloc, 1.1 s
and 710 MiB from jemalloc, 614 MiB of which are the rows.

What is kept for long is of many sizes, made beside much that is dropped at once: of a million files'
columns, 125 MB, a process grew by 300 MB from either, and by 190 MB from the system's own, which
gives back what is dropped.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["drawn_from", "lasting_pool", "opened", "rows_pool"]


class _Switch:
    """pyarrow's pool is one for all threads, and another only while somebody holds the lock."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Once more in a forked child, where nobody would ever give the lock back."""
        self.lock = threading.Lock()


_SWITCH = _Switch()
os.register_at_fork(after_in_child=_SWITCH.begin)


def rows_pool() -> pa.MemoryPool:
    """The pool of rows that are read: jemalloc's in place of mimalloc's, unless that was chosen.

    Another pool that the process was given (`ARROW_DEFAULT_MEMORY_POOL`, `pyarrow.set_memory_pool`)
    stays.
    """
    if _is_chosen() or "jemalloc" not in pa.supported_memory_backends():
        return pa.default_memory_pool()
    return pa.jemalloc_memory_pool()


def lasting_pool() -> pa.MemoryPool:
    """The pool of what is kept for long: the system's in place of mimalloc's, unless that was chosen."""
    return pa.default_memory_pool() if _is_chosen() else pa.system_memory_pool()


def _is_chosen() -> bool:
    named = pa.default_memory_pool().backend_name
    return "ARROW_DEFAULT_MEMORY_POOL" in os.environ or named != "mimalloc"


@contextlib.contextmanager
def drawn_from(pool: Callable[[], pa.MemoryPool]) -> Iterator[None]:
    """Have Arrow's memory come from another pool while the block runs, in all threads: be short.

    Blocks of other threads wait; one must not stand within another.

    Args:
        pool: `rows_pool` or `lasting_pool`, asked when no other block runs.
    """
    with _SWITCH.lock:
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool())
        try:
            yield
        finally:
            pa.set_memory_pool(before)


def opened(stored: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Open a file whose rows come from `rows_pool`, and whose pages are checked.

    Args:
        stored: The file, which stays the caller's to close.
        metadata: Its footer, if it was read before.

    Raises:
        pyarrow.ArrowInvalid: It is no Parquet file.
    """
    # Read first: nothing is waited for while the process's pool is another.
    footer = pq.read_metadata(stored) if metadata is None else metadata
    # Any: pyarrow has no types.
    options: dict[str, Any] = {"metadata": footer, "page_checksum_verification": True}
    with drawn_from(rows_pool):
        return pq.ParquetFile(stored, **options)
