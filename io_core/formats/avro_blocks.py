"""What is in an Avro object container file: its schema, its metadata, and its blocks, decoded.

After the container of the Avro specification, 1.12, "Object Container Files". A decoded block has at
most `LONGEST_BLOCK` bytes, and no more rows than the file is to have.
"""

from __future__ import annotations

import bz2
import json
import zlib
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from io_core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LONGEST_BLOCK", "Container", "encode_long", "open_container"]

LONGEST_BLOCK = 1 << 26
_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
# Headers hold a schema, not data.
_LONGEST_HEADER_PART = 1 << 24


class Container(NamedTuple):
    """A file that was opened: its header, and the stream behind it."""

    # Any: a schema as JSON has it.
    schema: Any
    metadata: dict[str, bytes]
    sync: bytes
    stream: IO[bytes]

    def blocks(self, records: int | None) -> Iterator[tuple[int, bytes]]:
        """How many rows a block has, and their bytes as one Avro array of them.

        Raises:
            ValueError: Damaged, or more rows than `records`.
            EOFError: The file ends too early.
        """
        decompress = _codec(self.metadata.get("avro.codec", b"null").decode())
        seen = 0
        while start := self.stream.read(1):
            rows, size = _read_long(self.stream, start), _read_long(self.stream)
            if rows < 0 or not 0 <= size <= LONGEST_BLOCK:
                raise ValueError(f"a block of {rows} rows in {size} bytes")
            seen += rows
            if records is not None and seen > records:
                raise ValueError(f"it has {seen} rows or more instead of {records}")
            body = decompress(_exactly(self.stream, size))
            if _exactly(self.stream, _SYNC_BYTES) != self.sync:
                raise ValueError("a block does not end with the file's marker")
            if rows > len(body):
                raise ValueError(f"{rows} rows in {len(body)} bytes")
            if rows:
                yield rows, encode_long(rows) + body + b"\0"


def open_container(stream: IO[bytes]) -> Container:
    """Read a file's header; the stream is left at the first block.

    Raises:
        ValueError: No Avro container, or a damaged one.
        EOFError: The file ends too early.
    """
    if _exactly(stream, 4) != _MAGIC:
        raise ValueError("it does not begin as Avro files do")
    metadata: dict[str, bytes] = {}
    while count := _read_long(stream):
        if count < 0:
            # Then the bytes of this part of the map follow.
            _read_long(stream)
        for _ in range(abs(count)):
            key = _read_bytes(stream).decode()
            metadata[key] = _read_bytes(stream)
    if "avro.schema" not in metadata:
        raise ValueError("it has no schema")
    schema = json.loads(metadata["avro.schema"])
    return Container(schema, metadata, _exactly(stream, _SYNC_BYTES), stream)


def encode_long(number: int) -> bytes:
    r"""An integer as Avro writes it.

    Example:
        >>> encode_long(-1), encode_long(64)
        (b'\x01', b'\x80\x01')
    """
    rest = (number << 1) ^ (number >> 63)
    found = bytearray()
    while rest > 0x7F:
        found.append((rest & 0x7F) | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def _read_long(stream: IO[bytes], start: bytes = b"") -> int:
    number = shift = 0
    while shift < 70:
        byte = (start or _exactly(stream, 1))[0]
        start = b""
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)
        shift += 7
    raise ValueError("an integer has more than ten bytes")


def _read_bytes(stream: IO[bytes]) -> bytes:
    size = _read_long(stream)
    if not 0 <= size <= _LONGEST_HEADER_PART:
        raise ValueError(f"the header has a part of {size} bytes")
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise EOFError(f"it ends {size - len(found)} bytes too early")
    return found


def _codec(name: str) -> Callable[[bytes], bytes]:
    known: dict[str, Callable[[bytes], bytes]] = {
        "null": bytes,
        "deflate": _inflate,
        "bzip2": _bunzip,
        "snappy": _unsnap,
        "zstandard": _unzstd,
    }
    if name in {"xz", "lz4"}:
        raise UnsupportedError(f"Avro's codec {name!r} is not read here; use {', '.join(known)}")
    if name not in known:
        raise ValueError(f"Avro has no codec {name!r}")
    return known[name]


def _bounded(found: bytes) -> bytes:
    if len(found) > LONGEST_BLOCK:
        raise ValueError(f"a block becomes more than {LONGEST_BLOCK} bytes when it is decoded")
    return found


def _inflate(body: bytes) -> bytes:
    decoder = zlib.decompressobj(-15)
    found = _bounded(decoder.decompress(body, LONGEST_BLOCK + 1))
    # Some writers leave the end of a checksum behind.
    if not decoder.eof:
        raise ValueError("a block's compressed bytes end in the wrong place")
    return found


def _bunzip(body: bytes) -> bytes:
    return _bounded(bz2.BZ2Decompressor().decompress(body, LONGEST_BLOCK + 1))


def _unsnap(body: bytes) -> bytes:
    size = shift = 0
    for byte in body[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > LONGEST_BLOCK or len(body) < 5:
        raise ValueError(f"a block of {size} bytes")
    found: bytes = pa.decompress(body[:-4], size, codec="snappy", asbytes=True)
    if zlib.crc32(found) != int.from_bytes(body[-4:], "big"):
        raise ValueError("a block's checksum is wrong")
    return found


def _unzstd(body: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as decoder:
        return _bounded(decoder.read(LONGEST_BLOCK + 1))
