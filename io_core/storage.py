"""How are files reached: from a path or URI to what opens it?

Local paths and `file://` are opened as they are; `s3://` and `s3a://` through s3fs, with the settings
and the keys that a plan or a write session brought. Other schemes are refused.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import pyarrow as pa
from pyarrow import fs

from io_core.errors import UnsupportedError
from io_core.s3 import (
    SCHEMES,
    S3Store,
    end_of_object,
    object_key,
    reaching,
    s3fs_filesystem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "LOCAL",
    "Storage",
    "Stored",
    "engine_location",
    "is_s3",
    "local_path",
    "persist",
]

# Smaller objects come whole, with one request.
_WHOLE_BYTES = 4 * 2**20
# What is read ahead where a reader asks for little at a time.
_AHEAD_BYTES = 2**20
_LEAST_PART_BYTES = 16 * 2**20
_AT_ONCE = 16


class Stored(NamedTuple):
    """A file below a folder: where, its bytes, and when it changed in nanoseconds since the epoch."""

    location: str
    size: int
    changed_ns: int


class Storage(msgspec.Struct, frozen=True):
    """How the files of one plan, or of one write session, are reached. Threads share it.

    Shows no keys in its repr, and pickles without them: see `io_core.credentials`.

    Attributes:
        stores: Parts of S3 stores, by the longest root that a location is below.
    """

    stores: tuple[S3Store, ...] = ()

    def open_input(self, location: str) -> pa.NativeFile:
        """Open a file to be read at any place.

        Raises:
            FileNotFoundError: It is not there.
            OSError: It cannot be opened.
            UnsupportedError: A scheme that this release does not read, or a store of no plan.
        """
        if not is_s3(location):
            return pa.OSFile(local_path(location), "rb")
        files, key = self._s3(location)
        with reaching(location):
            size = files.info(key)["size"]
            if size <= _WHOLE_BYTES:
                return pa.BufferReader(files.cat_file(key))
        return pa.PythonFile(files.open(key, "rb", block_size=_AHEAD_BYTES, size=size), mode="r")

    def open_output(self, location: str, *, replace: bool = False) -> pa.NativeFile:
        """Open a new file to be written from its beginning to its end; folders above it are made.

        On S3 it appears when it is closed. Names of data files are never used twice, so that
        looking for it first is enough.

        Args:
            location: Where.
            replace: Whether it may be there already: data files never are.

        Raises:
            FileExistsError: There is such a file: none is ever overwritten.
            OSError: It cannot be made.
        """
        if is_s3(location):
            files, key = self._s3(location)
            with reaching(location):
                if not replace and files.exists(key):
                    raise FileExistsError(f"{location} exists: data files are never overwritten")
            return pa.PythonFile(files.open(key, "wb", block_size=_LEAST_PART_BYTES), mode="w")
        path = local_path(location)
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        if not replace:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        return pa.OSFile(path, "wb")

    def size(self, location: str) -> int:
        """How many bytes a file has.

        Raises:
            FileNotFoundError: It is not there.
        """
        if not is_s3(location):
            return os.stat(local_path(location)).st_size
        files, key = self._s3(location)
        with reaching(location):
            found = files.info(key)
        if found["type"] != "file":
            raise FileNotFoundError(f"{location} is no file")
        return int(found["size"])

    def filesystem(self, location: str) -> tuple[fs.FileSystem, str]:
        """Arrow's file system for a location, and the location's path in it."""
        if not is_s3(location):
            return fs.LocalFileSystem(), local_path(location)
        files, key = self._s3(location)
        return fs.PyFileSystem(fs.FSSpecHandler(files)), key

    def files_below(self, folder: str) -> Iterator[Stored]:
        """Every file below a folder, in any order; none where there is no such folder."""
        if is_s3(folder):
            files, key = self._s3(folder)
            scheme = folder.partition("://")[0]
            with reaching(folder):
                listed = files.find(f"{key.rstrip('/')}/", detail=True)
            for path, found in listed.items():
                changed_ns = int(found["LastModified"].timestamp() * 10**6) * 10**3
                yield Stored(f"{scheme}://{path}", int(found["size"]), changed_ns)
            return
        for above, _, names in os.walk(local_path(folder)):
            for name in names:
                path = os.path.join(above, name)
                status = os.lstat(path)
                yield Stored(path, status.st_size, status.st_mtime_ns)

    def delete(self, locations: Iterable[str]) -> None:
        """Delete files, some at once; those that are gone already are no error.

        Raises:
            OSError: One cannot be deleted; others may be gone.
        """
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._delete, locations))

    def _delete(self, location: str) -> None:
        if is_s3(location):
            files, path = self._s3(location)
            bucket, _, key = path.partition("/")
            # One by one: stores differ in what they take for many.
            with reaching(location):
                files.call_s3("delete_object", Bucket=bucket, Key=key)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(local_path(location))

    def store_of(self, location: str) -> S3Store:
        """The store that an `s3://` location belongs to.

        Raises:
            UnsupportedError: None is known for it.
        """
        key = f"{object_key(location)}/"
        below = [s for s in self.stores if key.startswith(f"{object_key(s.root).rstrip('/')}/")]
        if not below:
            raise UnsupportedError(
                f"{location}: no plan or write session brought settings and credentials for it; "
                "credentials of the environment are not used"
            )
        return max(below, key=lambda store: len(store.root))

    def store_for(self, locations: Sequence[str]) -> S3Store | None:
        """The one store that all of some locations belong to; None where all are local.

        Raises:
            UnsupportedError: They are in several places, which no engine's own reader takes at once.
        """
        stores = [self.store_of(path) if is_s3(path) else None for path in locations]
        found = {"" if store is None else store.keys: store for store in stores}
        if len(found) > 1:
            raise UnsupportedError(f"{locations[0]} and others of the plan are in several stores")
        return next(iter(found.values()), None)

    def ends(self, asked: Sequence[tuple[str, int]]) -> list[tuple[int, bytes] | OSError]:
        """Of some files on S3 their sizes and so many last bytes, or why not; without s3fs."""
        if not asked:
            return []
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._end, asked))

    def _end(self, asked: tuple[str, int]) -> tuple[int, bytes] | OSError:
        location, length = asked
        try:
            return end_of_object(self.store_of(location), object_key(location), length)
        except OSError as error:
            return error

    # Any: s3fs has no types.
    def _s3(self, location: str) -> tuple[Any, str]:
        return s3fs_filesystem(self.store_of(location)), object_key(location)


LOCAL = Storage()


def is_s3(location: str) -> bool:
    """Whether a location is an `s3://` or `s3a://` URI.

    Example:
        >>> is_s3("s3a://bucket/a.parquet"), is_s3("/data/a.parquet")
        (True, False)
    """
    return "://" in location and location.partition("://")[0] in SCHEMES


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
    if parts.scheme in SCHEMES:
        raise UnsupportedError(
            f"{parts.scheme}:// is not supported: {location} is on S3, where local paths and file:// "
            "alone can be used"
        )
    raise UnsupportedError(
        f"{parts.scheme}:// is not supported: {location}; this release reads and writes local paths, "
        "file://, s3:// and s3a://"
    )


def engine_location(location: str) -> str:
    """A location as engines' own readers take it: a local path, or an `s3://` URI.

    Example:
        >>> engine_location("s3a://bucket/a.parquet"), engine_location("file:///a.parquet")
        ('s3://bucket/a.parquet', '/a.parquet')
    """
    if "://" not in location:
        return location
    return f"s3://{object_key(location)}" if is_s3(location) else local_path(location)


def persist(paths: Iterable[str]) -> None:
    """Flush files to the disk, and the directories above them that a session may have made.

    A commit relies on it: what is acknowledged outlives a crash of the machine.
    """
    paths = [inner for path in paths for inner in _and_below(path)]
    folders = {os.path.dirname(p) for p in paths}
    above = {os.path.dirname(f) for f in folders}
    # A table's directory is new once, a session's each time.
    new = above - _ENTERED
    for path in [*paths, *folders, *above, *{os.path.dirname(f) for f in new}]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if len(_ENTERED) > _MOST_ENTERED:
        _ENTERED.clear()
    _ENTERED.update(new)


# Directories whose names are known to be on the disk.
_ENTERED: set[str] = set()
_MOST_ENTERED = 10_000


def _and_below(path: str) -> Iterator[str]:
    """A file, or a directory of them (a Lance dataset) with all that is in it."""
    yield path
    for folder, folders, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in (*folders, *names))
