"""From which memory do a Parquet file's rows come? From one whose pages cost little to get.

pyarrow's mimalloc asks the system for huge pages. Where memory is scattered, making those took more
CPU than decoding: ten million rows of six columns took 2.3 s of CPU and 870 MiB from mimalloc, 1.1 s
and 710 MiB from jemalloc, 614 MiB of which are the rows.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["opened", "rows_pool"]

# pyarrow's pool is one for all threads, and is another only while a file is opened.
_OPENING = threading.Lock()


def rows_pool() -> pa.MemoryPool:
    """The pool of rows that are read: jemalloc's in place of mimalloc's, unless that was chosen.

    Another pool that the process was given (`ARROW_DEFAULT_MEMORY_POOL`, `pyarrow.set_memory_pool`)
    stays.
    """
    pool = pa.default_memory_pool()
    is_chosen = "ARROW_DEFAULT_MEMORY_POOL" in os.environ or pool.backend_name != "mimalloc"
    if is_chosen or "jemalloc" not in pa.supported_memory_backends():
        return pool
    return pa.jemalloc_memory_pool()


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
    with _OPENING:
        pool, before = rows_pool(), pa.default_memory_pool()
        if pool.backend_name == before.backend_name:
            return pq.ParquetFile(stored, **options)
        pa.set_memory_pool(pool)
        try:
            return pq.ParquetFile(stored, **options)
        finally:
            pa.set_memory_pool(before)
