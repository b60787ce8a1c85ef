"""How are a file's stored bytes decoded, and how many may come out of them?

Gzip and bzip2 are decoded, as streams, to no more than `ALLOWED_BYTES` and `ALLOWED_RATIO` times
what is stored, whichever is more: a small file cannot fill the memory or the day.
"""

from __future__ import annotations

import bz2
import gzip
import io
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from io_core.errors import DataFileError, UnsupportedError

if TYPE_CHECKING:
    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["ALLOWED_BYTES", "ALLOWED_RATIO", "open_gzipped", "open_random", "open_stream"]

ALLOWED_BYTES = 1 << 30
ALLOWED_RATIO = 100
_PIECE = 1 << 20
# What zlib offers beyond this costs more time than it saves bytes.
_GZIP_LEVEL = 6


class _Bounded(io.RawIOBase):
    """A decoder's bytes, up to the bound."""

    def __init__(self, decoder: gzip.GzipFile | bz2.BZ2File, stored: int, file: FileRef) -> None:
        self._decoder = decoder
        self._bound = max(ALLOWED_BYTES, ALLOWED_RATIO * stored)
        self._left = self._bound
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        piece = self._decoder.read(min(len(buffer), _PIECE))
        self._left -= len(piece)
        if self._left < 0:
            raise DataFileError.of(
                self._file.path,
                f"becomes more than {self._bound} bytes when it is decoded as {self._file.encoding}",
                self._file.plan,
            )
        buffer[: len(piece)] = piece
        return len(piece)


def open_stream(file: FileRef, storage: Storage) -> IO[bytes]:
    """Open a file to be read once from its beginning, decoded.

    Raises:
        UnsupportedError: An encoding that is not read here.
        OSError: It cannot be opened; while it is read, also that it is damaged or too large.
    """
    stored = storage.open_input(file.path)
    if file.encoding != "identity" and not stored.size():
        # To its decoder no bytes are a file without any.
        raise EOFError("it is empty")
    match file.encoding:
        case "identity":
            return io.BufferedReader(stored, _PIECE)
        case "gzip":
            decoder: gzip.GzipFile | bz2.BZ2File = gzip.GzipFile(fileobj=stored)
        case "bzip2":
            decoder = bz2.BZ2File(stored)
        case _:
            raise UnsupportedError(
                f"{file.path}: content encoding {file.encoding!r} is not read here; use identity, gzip or bzip2"
            )
    return io.BufferedReader(_Bounded(decoder, stored.size(), file), _PIECE)


def open_random(file: FileRef, storage: Storage) -> pa.NativeFile:
    """Open a file to be read at any place; one that is encoded is decoded into memory.

    Raises:
        UnsupportedError: An encoding that is not read here.
        OSError: It cannot be opened, is damaged or too large.
    """
    if file.encoding == "identity":
        return storage.open_input(file.path)
    with open_stream(file, storage) as decoded:
        return pa.BufferReader(decoded.read())


def open_gzipped(path: str, storage: Storage) -> gzip.GzipFile:
    """Open a new file to be written from its beginning, compressed.

    No name and no time are in its header: the same rows are the same bytes.

    Raises:
        FileExistsError: There is such a file.
    """
    return _Gzipped(storage.open_output(path))


class _Gzipped(gzip.GzipFile):
    """A compressed file that closes what it is written to."""

    def __init__(self, stored: pa.NativeFile) -> None:
        super().__init__("", "wb", _GZIP_LEVEL, stored, mtime=0)
        self._stored = stored

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._stored.close()
