"""Is a file that was staged in a store where and what its entry says?

A store is asked before the ledger is locked: nobody waits for it. What is found holds until the
commit, for vacuum leaves alone what an open write session has staged.
"""

from __future__ import annotations

import contextlib
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from io_core.errors import DataFileError, RequestRejectedError
from planner_client.protocol.writes import CommitRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteEntry, WriteSession
    from planner_client.protocol.endpoint import Request
    from planner_client.server.places import S3Place

__all__ = ["StagedInStore", "looked_at"]

_AT_ONCE = 16
_MOST_ROWS = 2**40
_Sizes = dict[str, int | str]
_LOOKED: contextvars.ContextVar[_Sizes | None] = contextvars.ContextVar("looked", default=None)


@contextlib.contextmanager
def looked_at(place: S3Place | None, request: Request) -> Iterator[None]:
    """Ask the store for the sizes of a commit's files, once for all that the block does."""
    if place is None or not isinstance(request, CommitRequest):
        yield
        return
    entered = _LOOKED.set(_sizes(place, {e.path for e in request.entries if _inside(place, e)}))
    try:
        yield
    finally:
        _LOOKED.reset(entered)


def _inside(place: S3Place, entry: WriteEntry) -> bool:
    try:
        place.relative(entry.path)
    except RequestRejectedError:
        return False
    return True


def _sizes(place: S3Place, locations: set[str]) -> _Sizes:
    def sized(location: str) -> int | str:
        try:
            return place.storage.size(location)
        except FileNotFoundError:
            return "is not there"
        except OSError as error:
            return str(error.strerror or error)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(locations, pool.map(sized, locations), strict=True))


class StagedInStore:
    """Where a session's files may be.

    Args:
        place: The catalog's data.
        session: Its `data_dir` holds them.
        external: Whether they may be elsewhere below the data root.
    """

    def __init__(self, place: S3Place, session: WriteSession, *, external: bool) -> None:
        self._place = place
        self._data_dir = session.data_dir
        self._inside = "" if external else f"{place.relative(session.data_dir)}/"

    def size(self, entry: WriteEntry, format: str) -> int:
        """The file's size, after making sure that it is where and what the entry says.

        Raises:
            RequestRejectedError: It is elsewhere.
            DataFileError: It is missing, or of another size.
            UnsupportedError: A dataset of many objects.
        """
        if not self._place.relative(entry.path).startswith(self._inside):
            raise RequestRejectedError(
                f"entry {entry.path} is not below the session's data_dir {self._data_dir}"
            )
        if not 0 <= entry.record_count <= _MOST_ROWS:
            raise RequestRejectedError(
                f"entry {entry.path}: record_count {entry.record_count} is not in 0 to {_MOST_ROWS}"
            )
        if format == "lance":
            return self._dataset(entry)
        found = (_LOOKED.get() or _sizes(self._place, {entry.path}))[entry.path]
        if isinstance(found, str):
            raise DataFileError(f"staged file {entry.path} cannot be read: {found}")
        if entry.content_length not in (None, found):
            raise DataFileError(
                f"staged file {entry.path} has {found} bytes, its entry says {entry.content_length}"
            )
        return found

    def _dataset(self, entry: WriteEntry) -> int:
        held = list(self._place.storage.files_below(entry.path))
        if not held:
            raise DataFileError(f"staged dataset {entry.path} is not there")
        # What counts as its length is its writer's business.
        return entry.content_length or sum(file.size for file in held)
