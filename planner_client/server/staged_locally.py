"""Is a file that was staged on a local disk where and what its entry says?"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from io_core.errors import DataFileError, RequestRejectedError
from io_core.storage import local_path

if TYPE_CHECKING:
    from io_core.model import WriteEntry

__all__ = ["StagedLocally"]

# Of one file: more are a mistake, and totals of many such files would not fit 64 bits.
_MOST_ROWS = 2**40
_MOST_BYTES = 2**50


class StagedLocally:
    """Where a session's files may be.

    Args:
        data_dir: The session's.
        external: Whether they may be elsewhere.
    """

    def __init__(self, data_dir: str, *, external: bool) -> None:
        self._data_dir = data_dir
        self._inside = os.path.normpath(local_path(data_dir)) + os.sep
        self._external = external
        # Directories that no link leads out of.
        self._sound: set[str] = set()

    def size(self, entry: WriteEntry, format: str) -> int:
        """The file's size, after making sure that it is where and what the entry says.

        Raises:
            RequestRejectedError: It is elsewhere.
            DataFileError: It is missing, or of another size.
        """
        path = os.path.normpath(local_path(entry.path))
        if not os.path.isabs(path):
            raise RequestRejectedError(
                f"entry {entry.path} is a relative path: name it from the root"
            )
        if not self._external and not path.startswith(self._inside):
            raise RequestRejectedError(
                f"entry {entry.path} is not below the session's data_dir {self._data_dir}"
            )
        if not self._external:
            self._check_real(entry, path)
        if not 0 <= entry.record_count <= _MOST_ROWS:
            raise RequestRejectedError(
                f"entry {entry.path}: record_count {entry.record_count} is not in 0 to {_MOST_ROWS}"
            )
        return _size(entry, path, format)

    def _check_real(self, entry: WriteEntry, path: str) -> None:
        """Raise where a link leads out of the session's directory, or stands in its place."""
        folder = os.path.dirname(path)
        if folder in self._sound and not os.path.islink(path):
            return
        # Where the catalog keeps its data may be a link; what belongs to the session is none.
        data, *_ = os.path.normpath(self._inside).rsplit(os.sep, 2)
        below = path.removeprefix(data + os.sep).split(os.sep)
        own = [f"{data}/{'/'.join(below[:depth])}" for depth in range(1, len(below) + 1)]
        if any(map(os.path.islink, own)):
            inside = os.path.join(os.path.realpath(data), *below[:2])
            if not os.path.realpath(path).startswith(inside + os.sep):
                raise RequestRejectedError(
                    f"entry {entry.path} is a link that leads out of the session's data_dir"
                )
        self._sound.add(folder)


def _size(entry: WriteEntry, path: str, format: str) -> int:
    try:
        found = os.stat(path)
    except OSError as error:
        raise DataFileError(f"staged file {entry.path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(found.st_mode) and format == "lance":
        # A dataset; what counts as its length is its writer's business.
        size = entry.content_length or _tree_size(path)
        if not 0 <= size <= _MOST_BYTES:
            raise DataFileError(f"staged dataset {entry.path}: no dataset has {size} bytes")
        return size
    if not stat.S_ISREG(found.st_mode):
        raise DataFileError(f"staged file {entry.path} is no regular file")
    if entry.content_length not in (None, found.st_size):
        raise DataFileError(
            f"staged file {entry.path} has {found.st_size} bytes, "
            f"its entry says {entry.content_length}"
        )
    return found.st_size


def _tree_size(path: str) -> int:
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
