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

    Costs one stat per file of the plan; opens none.

    Raises:
        DataFileError: A file is missing or has another size; names it and the plan.
    """
    sizes = plan.files.column("content_length").to_pylist()
    for path, size in zip(plan.paths, sizes, strict=True):
        try:
            found = os.stat(local_path(path)).st_size
        except OSError as error:
            raise DataFileError.of(path, f"cannot be opened ({error.strerror})", repr(plan)) from None
        if size and found != size:
            raise DataFileError.of(path, f"has {found} bytes instead of {size}", repr(plan))


def persist(paths: Iterable[str]) -> None:
    """Flush files and the directories that name them to the disk, so that a commit can rely on them."""
    paths = list(paths)
    for path in [*paths, *{os.path.dirname(p) for p in paths}]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
