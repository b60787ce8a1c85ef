"""Which bucket does a value fall into, by each of the protocol's two hashes?

`default` is the first four bytes of the SHA-1 of the value's text as Python writes it; `iceberg`
is MurmurHash3 of integers as eight bytes, least first, of text and bytes as they are, and of
Python's text of all others. Null has no bucket.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import SchemaValidationError
from io_core.keys import distinguishable

__all__ = ["Strategy", "buckets_of", "is_agreed"]

Strategy = Literal["default", "iceberg"]

_MASK = 0xFFFF_FFFF
_C1, _C2 = 0xCC9E_2D51, 0x1B87_3593


def buckets_of(column: pa.ChunkedArray, count: int, strategy: Strategy) -> pa.ChunkedArray:
    """The bucket of each value, below `count`; int32.

    Raises:
        SchemaValidationError: A moment that Python has no text for.

    Example:
        >>> column = pa.chunked_array([pa.array([34, None])])
        >>> buckets_of(column, 2**31 - 1, "iceberg").to_pylist()
        [2017239379, None]
    """
    whole = strategy == "iceberg" and (
        pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    )
    if whole:
        numbers = column.cast(pa.int64()).combine_chunks()
        found = _hash_integers(numbers.fill_null(0).to_numpy()) % np.uint32(count)
        mask = numbers.is_null().to_numpy(zero_copy_only=False)
        return pa.chunked_array([pa.array(found.astype(np.int32), mask=mask)])
    hashed = _murmur if strategy == "iceberg" else _sha1
    column = column.cast(distinguishable(column.type))
    distinct = column.unique()
    try:
        values = distinct.to_pylist()
    except OverflowError as error:
        raise SchemaValidationError(
            f"a value of type {column.type} has no bucket, which its text decides: {error}; keep to "
            "the years 1 to 9999 in the column's own zone"
        ) from None
    buckets = [None if v is None else hashed(v) % count for v in values]
    positions = pc.index_in(column, distinct).combine_chunks()
    return pa.chunked_array([pa.array(buckets, pa.int32()).take(positions)])


def is_agreed(dtype: pa.DataType, strategy: Strategy) -> bool:
    """Whether every writer puts a value of this type into the same bucket.

    Others have more than one text (of a moment in a time zone, of a narrow float), or more than one
    rule: then a bucket tells nothing of the values that it holds.
    """
    t = pa.types
    if t.is_integer(dtype) or t.is_boolean(dtype) or t.is_string(dtype) or t.is_large_string(dtype):
        return True
    if strategy == "iceberg":
        return bool(t.is_binary(dtype) or t.is_large_binary(dtype))
    plain = t.is_timestamp(dtype) and dtype.tz is None
    return bool(t.is_date(dtype) or t.is_float64(dtype) or plain)


# Any: a value of whichever type the column has.
def _sha1(value: Any) -> int:
    # The protocol's hash; nothing secret is involved.
    return int.from_bytes(hashlib.sha1(str(value).encode()).digest()[:4])  # noqa: S324


def _murmur(value: Any) -> int:
    raw = value if isinstance(value, bytes) else str(value).encode()
    state, tail = 0, len(raw) & ~3
    for at in range(0, tail, 4):
        state = _mixed(state, int.from_bytes(raw[at : at + 4], "little"))
    rest = int.from_bytes(raw[tail:], "little")
    state ^= _turned(rest * _C1 & _MASK, 15) * _C2 & _MASK
    state ^= len(raw)
    state = (state ^ state >> 16) * 0x85EB_CA6B & _MASK
    state = (state ^ state >> 13) * 0xC2B2_AE35 & _MASK
    return (state ^ state >> 16) & 0x7FFF_FFFF


def _turned(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & _MASK


def _mixed(state: int, block: int) -> int:
    state ^= _turned(block * _C1 & _MASK, 15) * _C2 & _MASK
    return (_turned(state, 13) * 5 + 0xE654_6B64) & _MASK


def _hash_integers(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """As `_murmur` of eight bytes, of many numbers at once."""
    halves = np.ascontiguousarray(values, "<i8").view("<u4").reshape(-1, 2)
    state = np.zeros(len(halves), np.uint32)
    for half in range(2):
        block = halves[:, half] * np.uint32(_C1)
        block = (block << np.uint32(15) | block >> np.uint32(17)) * np.uint32(_C2)
        state ^= block
        state = (state << np.uint32(13) | state >> np.uint32(19)) * np.uint32(5)
        state += np.uint32(0xE654_6B64)
    state ^= np.uint32(8)
    state = (state ^ state >> np.uint32(16)) * np.uint32(0x85EB_CA6B)
    state = (state ^ state >> np.uint32(13)) * np.uint32(0xC2B2_AE35)
    return np.asarray((state ^ state >> np.uint32(16)) & np.uint32(0x7FFF_FFFF))
