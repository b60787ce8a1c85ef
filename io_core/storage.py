"""Where data files are: from a path or URI to what can open it, and whether it is what a plan says.

This release reads and writes local paths and `file://` URIs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from io_core.errors import DataFileError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from io_core.plan import ReadPlan

__all__ = ["check_files", "local_path", "persist"]


def local_path(location: str) -> str:
    """The local path that a plan's or session's location stands for. Touches no disk.

    Raises:
        UnsupportedError: A scheme that this release does not read.

    Example:
        >>> local_path("file:///data/a%20b.parquet")
        '/data/a b.parquet'
    """
    if "://" not in location:
        return location
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    raise UnsupportedError(
        f"{parts.scheme}:// is not supported: {location}; this release reads local paths and file://"
    )


def check_files(plan: ReadPlan) -> None:
    """Look at each planned file once, so that an engine is never handed one that is gone.

    Engines' own errors do not name the file, let alone the plan. Costs a few microseconds a file:
    its size, and of Parquet its last eight bytes.

    Raises:
        DataFileError: A file is missing, has another size, or does not end as Parquet does; names
            it and the plan.
    """
    names = ("path", "content_length", "content_type")
    for path, size, kind in zip(*(plan.column(n) for n in names), strict=True):
        problem = _problem(local_path(path), size, kind)
        if problem:
            raise DataFileError.of(path, problem, repr(plan))


def _problem(path: str, size: int, kind: str) -> str | None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        found = os.fstat(handle).st_size
        tail = os.pread(handle, 8, max(found - 8, 0))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        os.close(handle)
    if size and found != size:
        return f"has {found} bytes instead of {size}"
    whole = tail[4:] == b"PAR1" and int.from_bytes(tail[:4], "little") + 12 <= found
    return None if whole or kind != "parquet" else "is damaged (it has no Parquet footer)"


def persist(paths: Iterable[str]) -> None:
    """Flush files to the disk, and the directories above them that a session may have made.

    A commit relies on it: what is acknowledged outlives a crash of the machine.
    """
    paths = list(paths)
    folders = {os.path.dirname(p) for p in paths}
    above = {os.path.dirname(f) for f in folders}
    for path in [*paths, *folders, *above, *{os.path.dirname(f) for f in above}]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
