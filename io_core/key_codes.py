"""What stands for a merge key in an index: 64 bits per row, the same on every machine and release.

A key of one integer, date, time, timestamp, duration or bool column is its own code, and null has
one that hardly any value has: such codes are exact. All other keys are hashed, and equal codes then
only suggest equal keys. Codes depend on values and not on how they are stored: int32 and int64,
text and large text, plain and dictionary, narrow and wide decimals of one scale give the same.
Units of times do not convert: `fingerprint` tells codes apart that do not compare.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.errors import UnsupportedError
from io_core.schema import FIELD_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Code", "KeyCodes", "fingerprint", "key_codes"]

Code = npt.NDArray[np.uint64]

# Changes with every change of the codes below: what was kept of older ones is then made again.
_VERSION = 1
_NULL = np.uint64(0x9E6C_63D0_876A_9A5B)
_SEED = np.uint64(0x243F_6A88_85A3_08D3)
_FACTORS = (np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xD6E8_FEB8_6659_FD93))
_HALF = np.uint64(32)
_BATCH_ROWS = 1 << 16
# Values longer than this, which cost a step of Python each, are digested one by one.
_LONG_BYTES = 256
# The first n bytes of a little-endian word.
_HEADS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


class KeyCodes(NamedTuple):
    """A code per row.

    Attributes:
        codes: (rows,) uint64, in row order.
        exact: Whether equal codes mean equal keys, among codes that all are exact.
    """

    codes: Code
    exact: bool


def fingerprint(schema: pa.Schema, keys: Sequence[str]) -> str:
    """What codes were made of: those of two fingerprints do not compare.

    Columns are named by their field id, where they have one, so that it outlives a rename.

    Raises:
        UnsupportedError: A key column of a type that has no codes.

    Example:
        >>> fingerprint(pa.schema([("a", pa.int32()), ("b", pa.large_string())]), ["a", "b"])
        '1;a:int;b:text'
    """
    parts = []
    for field in map(schema.field, keys):
        found = (field.metadata or {}).get(FIELD_ID)
        name = field.name if found is None else f"#{found.decode()}"
        parts.append(f"{name}:{_family(field.type)}")
    return ";".join([str(_VERSION), *parts])


def key_codes(columns: Sequence[pa.ChunkedArray]) -> KeyCodes:
    """The code of each row's key; null equals null, and differs from the empty string.

    Codes may be the columns' own memory: nobody may write to them.

    Args:
        columns: The key's columns in order; at least one, all of one length.

    Raises:
        UnsupportedError: A column of a type that has no codes.

    Example:
        >>> key_codes([pa.chunked_array([[3, -1]])])
        KeyCodes(codes=array([                   3, 18446744073709551615], dtype=uint64), exact=True)
    """
    plain = [_plain(column) for column in columns]
    if len(plain) == 1 and _is_word(plain[0].type) and _is_array(plain[0]):
        # Its values are their own codes: no copy.
        values, _ = _words(plain[0].chunk(0))
        return KeyCodes(values, not (values == _NULL).any())
    whole = pa.table(plain, names=[str(i) for i in range(len(plain))])
    codes = np.empty(whole.num_rows, np.uint64)
    exact, start = len(plain) == 1 and _is_word(plain[0].type), 0
    for batch in whole.to_batches(max_chunksize=_BATCH_ROWS):
        into = codes[start : start + batch.num_rows]
        start += batch.num_rows
        if len(plain) == 1 and _is_word(plain[0].type):
            values, nulls = _words(batch.column(0))
            into[:] = values
            # A value that looks like null: whoever meets it has to look at the keys.
            exact = exact and not (values == _NULL).any()
            into[nulls] = _NULL
        else:
            into[:] = _SEED
            for array in batch.columns:
                _absorb_column(into, array)
    return KeyCodes(codes, exact)


def _family(dtype: pa.DataType) -> str:
    t = pa.types
    if t.is_dictionary(dtype):
        return _family(dtype.value_type)
    if isinstance(dtype, pa.BaseExtensionType):
        return _family(dtype.storage_type)
    if t.is_integer(dtype):
        return "int"
    if t.is_string(dtype) or t.is_large_string(dtype) or t.is_string_view(dtype):
        return "text"
    if t.is_decimal(dtype):
        return f"decimal[{dtype.scale}]"
    if t.is_timestamp(dtype):
        return f"timestamp[{dtype.unit}]"
    if t.is_boolean(dtype) or t.is_date(dtype) or t.is_time(dtype) or t.is_duration(dtype):
        return str(dtype)
    if t.is_binary(dtype) or t.is_large_binary(dtype) or t.is_binary_view(dtype):
        return "binary"
    if t.is_fixed_size_binary(dtype):
        return "binary"
    raise UnsupportedError(f"columns of type {dtype} cannot be indexed as keys")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in the one type of its family that is coded: words, large binary or decimal256."""
    dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if isinstance(dtype, pa.BaseExtensionType):
        dtype = dtype.storage_type
    t, family = pa.types, _family(dtype)
    column = column.cast(dtype)
    if family == "text":
        return column.cast(pa.large_string()).cast(pa.large_binary())
    if family == "binary":
        return column.cast(pa.binary() if t.is_fixed_size_binary(dtype) else dtype).cast(
            pa.large_binary()
        )
    if t.is_decimal(dtype):
        return column.cast(pa.decimal256(76, dtype.scale))
    if t.is_uint64(dtype):
        return column
    if t.is_date32(dtype) or t.is_time32(dtype):
        column = column.cast(pa.int32())
    return column.cast(pa.int64())


def _is_word(plain: pa.DataType) -> bool:
    return bool(pa.types.is_integer(plain))


def _is_array(column: pa.ChunkedArray) -> bool:
    """Whether its values stand together as NumPy takes them."""
    return column.num_chunks == 1 and not column.null_count


def _nulls(array: pa.Array) -> npt.NDArray[np.int64]:
    if not array.null_count:
        return np.empty(0, np.int64)
    return np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))


def _words(array: pa.Array) -> tuple[Code, npt.NDArray[np.int64]]:
    """The values in two's complement, 0 for null, and where the nulls are."""
    values = array.fill_null(0) if array.null_count else array
    return values.to_numpy().view(np.uint64), _nulls(array)


def _absorb(state: Code, words: Code) -> Code:
    """Mix a word into each state: for a given word no two states become one, and the reverse."""
    state = state ^ words
    for factor in _FACTORS:
        state *= factor
        state ^= state >> _HALF
    return state


def _absorb_column(state: Code, array: pa.Array) -> None:
    """Mix a column's values into the rows' states, in place."""
    if _is_word(array.type):
        values, nulls = _words(array)
        state[:] = _absorb(state, values)
    elif pa.types.is_decimal(array.type):
        nulls = _nulls(array)
        words = np.frombuffer(array.buffers()[1], "<u8").reshape(-1, 4)
        words = words[array.offset : array.offset + len(array)].copy()
        words[nulls] = 0
        for i in range(4):
            state[:] = _absorb(state, words[:, i])
    else:
        nulls = _nulls(array)
        _absorb_bytes(state, array, nulls)
    if len(nulls):
        state[nulls] = _absorb(state[nulls], np.full(len(nulls), _NULL))


def _absorb_bytes(state: Code, array: pa.Array, nulls: npt.NDArray[np.int64]) -> None:
    """Mix in each value's length, then its bytes, eight at a time."""
    _, offsets_buffer, data = array.buffers()
    ends = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(ends)
    # What stands under a null is anything.
    lengths[nulls] = 0
    state[:] = _absorb(state, lengths.astype(np.uint64))
    low, high = (int(ends[0]), int(ends[-1])) if len(ends) else (0, 0)
    padded = np.zeros(high - low + 8, np.uint8)
    if high > low:
        padded[:-8] = np.frombuffer(data, np.uint8)[low:high]
    size = int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else 0
    if 0 < size <= _LONG_BYTES:
        # All of one length, as most keys are: no row has to be looked up.
        for done in range(0, size, 8):
            words = np.ndarray(len(lengths), "<u8", padded, offset=done, strides=(size,))
            state[:] = _absorb(state, words & _HEADS[min(size - done, 8)])
        return
    starts = ends[:-1] - low
    for row in np.flatnonzero(lengths > _LONG_BYTES).tolist():
        value = padded[starts[row] : starts[row] + lengths[row]]
        digest = hashlib.blake2b(value.tobytes(), digest_size=8).digest()
        state[row : row + 1] = _absorb(state[row : row + 1], np.frombuffer(digest, "<u8"))
        lengths[row] = 0
    # Every eight bytes of the text, whichever byte they begin at.
    windows = np.ndarray(high - low + 1, "<u8", padded, strides=(1,))
    for done in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > done)
        left = np.minimum(lengths[rows] - done, 8)
        state[rows] = _absorb(state[rows], windows[starts[rows] + done] & _HEADS[left])
