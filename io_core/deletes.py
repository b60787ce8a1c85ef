"""Which rows of a data file are dead, in few bytes: a delete set.

A set is bound to its file by the number of rows: positions that belong to another file would drop
rows that live. The layout, little-endian: how positions are written (1 byte), rows of the file (4),
dead rows (4), CRC-32 of all the rest (4), positions. No bytes at all say that no row is dead.

==========  ======================================================================================
`bits`      a bit per row, least significant first, zstd; where more than 1 row in 32 is dead
`deltas`    each position less the one before it, in 1, 2 or 4 bytes, zstd
`plain`     4 bytes per position; where there are at most 8
==========  ======================================================================================
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.errors import DataFileError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Positions", "count", "decode", "encode", "live_mask", "union"]

Positions = npt.NDArray[np.uint32]

_HEAD = struct.Struct("<BIII")
_PLAIN, _BITS = 1, 2
# What a delta takes -> how positions are written.
_DELTAS = {1: 3, 2: 4, 4: 5}
_WIDTHS = {tag: width for width, tag in _DELTAS.items()}
_FEW = 8
_DENSE = 32


def encode(positions: Positions, rows: int) -> bytes:
    """Write a delete set.

    Args:
        positions: Dead rows, ascending, each once.
        rows: Of the file; fewer than 2^32.

    Raises:
        ValueError: Positions that are not ascending or not in the file, or too many rows.

    Example:
        >>> decode(encode(np.array([0, 7], np.uint32), 10), 10).tolist()
        [0, 7]
    """
    if not 0 <= rows < 2**32:
        raise ValueError(f"{rows} rows: a delete set is of a file with fewer than 2^32")
    if not len(positions):
        return b""
    if positions[-1] >= rows or not (positions[:-1] < positions[1:]).all():
        raise ValueError(f"positions are to ascend and to be below {rows}, the file's rows")
    if len(positions) <= _FEW:
        tag, body = _PLAIN, positions.astype("<u4").tobytes()
    elif len(positions) * _DENSE > rows:
        tag, body = _BITS, _pack(np.packbits(_dead_mask(positions, rows), bitorder="little"))
    else:
        deltas = np.diff(positions, prepend=np.uint32(0))
        width = max(1, (int(deltas.max()).bit_length() + 7) // 8)
        width = 4 if width == 3 else width
        tag, body = _DELTAS[width], _pack(deltas.astype(f"<u{width}"))
    return _write(tag, rows, len(positions), body)


def count(data: bytes) -> int:
    """How many rows are dead; reads the set's head alone.

    Raises:
        DataFileError: No delete set.
    """
    return _head(data)[2] if data else 0


def decode(data: bytes, rows: int) -> Positions:
    """The dead rows, ascending.

    Args:
        data: What `encode` wrote.
        rows: Of the file that the set is used with.

    Raises:
        DataFileError: The set is damaged, or of a file with another number of rows.
    """
    if not data:
        return np.empty(0, np.uint32)
    tag, dead, body = _body(data, rows)
    if tag == _BITS:
        return np.flatnonzero(_bits(body, rows)).astype(np.uint32)
    if tag == _PLAIN:
        return np.frombuffer(body, "<u4").astype(np.uint32)
    deltas = np.frombuffer(_unpack(body, dead * _WIDTHS[tag]), f"<u{_WIDTHS[tag]}")
    return np.cumsum(deltas, dtype=np.uint32)


def live_mask(data: bytes, rows: int) -> npt.NDArray[np.bool_]:
    """Whether each row of the file lives: (rows,) bool.

    Args:
        data: What `encode` wrote.
        rows: Of the file that the set is used with.

    Raises:
        DataFileError: The set is damaged, or of a file with another number of rows.
    """
    if data and data[0] == _BITS:
        return ~_bits(_body(data, rows)[2], rows)
    return ~_dead_mask(decode(data, rows), rows)


def union(sets: Iterable[bytes], rows: int) -> bytes:
    """The rows that are dead in any of the sets, all of them of one file.

    Raises:
        DataFileError: A set is damaged, or of a file with another number of rows.
    """
    given = [data for data in sets if data]
    if len(given) < 2:
        return encode(decode(given[0], rows), rows) if given else b""
    packed = np.zeros((rows + 7) // 8, np.uint8)
    listed = []
    for data in given:
        if data[0] == _BITS:
            packed |= _packed(_body(data, rows)[2], rows)
        else:
            listed.append(decode(data, rows))
    if listed:
        packed |= np.packbits(_dead_mask(np.concatenate(listed), rows), bitorder="little")
    dead = int(np.bitwise_count(packed).sum())
    if dead > _FEW and dead * _DENSE > rows:
        return _write(_BITS, rows, dead, _pack(packed))
    bits = np.unpackbits(packed, count=rows, bitorder="little")
    return encode(np.flatnonzero(bits).astype(np.uint32), rows)


def _write(tag: int, rows: int, dead: int, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(_HEAD.pack(tag, rows, dead, 0)))
    return _HEAD.pack(tag, rows, dead, check) + body


def _dead_mask(positions: Positions, rows: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(rows, np.bool_)
    mask[positions] = True
    return mask


def _bits(body: memoryview, rows: int) -> npt.NDArray[np.bool_]:
    packed = _packed(body, rows)
    return np.unpackbits(packed, count=rows, bitorder="little").view(np.bool_)


def _packed(body: memoryview, rows: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(_unpack(body, (rows + 7) // 8), np.uint8)


# Any array: its bytes are what is packed.
def _pack(array: npt.NDArray[np.generic]) -> bytes:
    return bytes(pa.compress(array.tobytes(), codec="zstd", asbytes=True))


def _unpack(body: memoryview, size: int) -> pa.Buffer:
    try:
        return pa.decompress(body, decompressed_size=size, codec="zstd")
    except (pa.ArrowException, OSError) as error:
        raise _damaged(str(error)) from None


def _head(data: bytes) -> tuple[int, int, int, int]:
    if len(data) < _HEAD.size or data[0] not in {_PLAIN, _BITS, *_WIDTHS}:
        raise _damaged("it does not begin like one")
    tag, rows, dead, check = _HEAD.unpack_from(data)
    return tag, rows, dead, check


def _body(data: bytes, rows: int) -> tuple[int, int, memoryview]:
    """How positions are written, how many they are, and they themselves, once all is checked."""
    tag, of_rows, dead, check = _head(data)
    body = memoryview(data)[_HEAD.size :]
    if zlib.crc32(body, zlib.crc32(_HEAD.pack(tag, of_rows, dead, 0))) != check:
        raise _damaged("its checksum differs")
    if of_rows != rows:
        raise DataFileError(
            f"a delete set is of a file with {of_rows} rows, and was used with one of {rows}: "
            "plan again, and check that nobody rewrote the file"
        )
    return tag, dead, body


def _damaged(problem: str) -> DataFileError:
    return DataFileError(f"a delete set is damaged ({problem}): rebuild those of its partition")
