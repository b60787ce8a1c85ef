"""Are a file's bytes those that were written? Its name tells their checksum, where it has one.

Of all formats Parquet alone has checksums of its own that are read with the columns. Names are in every
ledger, plan and copy of a file, and no reader of another project minds what they say.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from io_core.errors import DataFileError
from io_core.storage import LOCAL, is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["checksum", "move", "named", "verified"]

_ID = 32
_NAME = re.compile(rf"[0-9a-f]{{{_ID}}}\.crc-([0-9a-f]{{8}})\.[a-z.]+", re.ASCII)
_PIECE = 1 << 20


def named(name: str, check: int) -> str:
    """A data file's name with its checksum in it.

    Example:
        >>> named("0123456789abcdef0123456789abcdef.csv.gz", 255)
        '0123456789abcdef0123456789abcdef.crc-000000ff.csv.gz'
    """
    return f"{name[:_ID]}.crc-{check:08x}{name[_ID:]}"


def checksum(path: str) -> int:
    """CRC-32 of a local file, or of all files of a dataset and of their names.

    Raises:
        OSError: There is none, or it cannot be read.
    """
    if not os.path.isdir(path):
        return _extended(path, 0)
    check = 0
    for part in _parts(path):
        check = _extended(os.path.join(path, part), zlib.crc32(f"{part}\0".encode(), check))
    return check


def _parts(folder: str) -> list[str]:
    """All files below a folder, by their paths in it, in one order everywhere."""
    found = [os.path.join(above, name) for above, _, names in os.walk(folder) for name in names]
    return sorted(os.path.relpath(path, folder) for path in found)


def _extended(path: str, check: int) -> int:
    with open(path, "rb", buffering=0) as stored:
        while piece := stored.read(_PIECE):
            check = zlib.crc32(piece, check)
    return check


def move(path: str, target: str, storage: Storage) -> None:
    """Put a local file or dataset in its place, which nothing else has.

    Args:
        path: Where it is.
        target: Where it belongs: beside it, or on S3.
        storage: How that is reached.
    """
    if not is_s3(target):
        os.rename(path, local_path(target))
        return
    parts = _parts(path) if os.path.isdir(path) else [""]
    for part in parts:
        near, far = (f"{place}/{part}" if part else place for place in (path, target))
        with open(near, "rb") as stored, storage.open_output(far) as out:
            shutil.copyfileobj(stored, out, _PIECE)


@contextmanager
def verified(file: FileRef, storage: Storage) -> Iterator[tuple[FileRef, Storage]]:
    """The file to read and how it is reached, once its bytes are known to be those of its checksum.

    One on S3 is copied to this machine first, so that it is fetched once. A file whose name tells no
    checksum is read where it is.

    Raises:
        DataFileError: They are others.
        OSError: It is missing, or cannot be read.
    """
    told = _NAME.fullmatch(file.path.rsplit("/", 1)[-1])
    if told is None:
        yield file, storage
        return
    if not is_s3(file.path):
        _check(file, local_path(file.path), told[1])
        yield file, storage
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = f"{folder}/{told[0]}"
        _fetch(file.path, copy, storage)
        _check(file, copy, told[1])
        yield msgspec.structs.replace(file, path=copy), LOCAL


def _check(file: FileRef, path: str, told: str) -> None:
    found = f"{checksum(path):08x}"
    if found != told:
        problem = f"is damaged (the checksum of its bytes is {found} instead of {told})"
        raise DataFileError.of(file.path, problem, file.plan)


def _fetch(location: str, copy: str, storage: Storage) -> None:
    inside = [stored.location for stored in storage.files_below(location)]
    for place in inside or [location]:
        target = copy + place[len(location) :] if inside else copy
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with storage.open_input(place) as stored, open(target, "wb") as out:
            shutil.copyfileobj(stored, out, _PIECE)
