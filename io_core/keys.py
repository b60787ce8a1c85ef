"""Which rows have equal keys: dense integer codes for tuples of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Codes", "distinguishable", "equal_rows", "last_of_each", "row_codes"]

Codes = npt.NDArray[np.int64]

_CODE_LIMIT = 2**62
_WIDE = {
    pa.float16(): pa.float32(),
    pa.string(): pa.large_string(),
    pa.string_view(): pa.large_string(),
    pa.binary(): pa.large_binary(),
    pa.binary_view(): pa.large_binary(),
}


def row_codes(columns: Sequence[pa.ChunkedArray]) -> Codes:
    """One code per row; rows share a code exactly where all their values are equal.

    Null equals null, and differs from the empty string; NaN equals NaN. Codes are at least 0, in no order.

    Args:
        columns: At least one, all of one length.

    Returns:
        (rows,) int64.

    Example:
        >>> row_codes([pa.chunked_array([[1, None, 1, None]])]).tolist()
        [0, 1, 0, 1]
    """
    codes, size = _encode(columns[0])
    for column in columns[1:]:
        following, count = _encode(column)
        if size * count > _CODE_LIMIT:
            distinct, codes = np.unique(codes, return_inverse=True)
            size = len(distinct)
        codes, size = codes * count + following, size * count
    if size > 4 * len(codes) + 16:
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64, copy=False)
    return codes


def distinguishable(dtype: pa.DataType) -> pa.DataType:
    """The type with the same values that Arrow tells equal ones of from others, however many.

    Example:
        >>> distinguishable(pa.string_view()), distinguishable(pa.decimal64(9, 2))
        (DataType(large_string), Decimal128Type(decimal128(9, 2)))
    """
    t = pa.types
    if t.is_dictionary(dtype):
        return distinguishable(dtype.value_type)
    if isinstance(dtype, pa.BaseExtensionType):
        return distinguishable(dtype.storage_type)
    if t.is_decimal(dtype) and dtype.bit_width < 128:
        return pa.decimal128(dtype.precision, dtype.scale)
    # 64-bit offsets: one array of a whole column must be possible.
    return _WIDE.get(dtype, dtype)


def _encode(column: pa.ChunkedArray) -> tuple[Codes, int]:
    array = column.cast(distinguishable(column.type)).combine_chunks()
    if pa.types.is_floating(array.type):
        # -0.0 equals 0.0.
        array = pc.add(array, pa.scalar(0, array.type))
    encoded = pc.dictionary_encode(array, null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), max(1, len(encoded.dictionary))


def equal_rows(rows: pa.Table, others: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether each row equals the one at its place among others, as `row_codes` has it.

    Args:
        rows: Of columns that can be keys.
        others: As many rows of the same columns.

    Example:
        >>> equal_rows(pa.table({"x": [1, None]}), pa.table({"x": [2, None]})).tolist()
        [False, True]
    """
    equal = np.ones(rows.num_rows, np.bool_)
    for left, right in zip(rows.columns, others.columns, strict=True):
        if pa.types.is_null(left.type):
            continue
        one, two = (column.cast(distinguishable(column.type)) for column in (left, right))
        same = pc.equal(one, two)
        if pa.types.is_floating(one.type):
            same = pc.or_(same, pc.and_(pc.is_nan(one), pc.is_nan(two)))
        if same.null_count:
            same = pc.or_(pc.fill_null(same, False), pc.and_(one.is_null(), two.is_null()))
        equal &= same.to_numpy()
    return equal


def last_of_each(codes: Codes) -> Codes:
    """Indices of the last row of each code, ascending.

    Example:
        >>> last_of_each(np.array([0, 1, 0])).tolist()
        [1, 2]
    """
    if not len(codes):
        return codes
    last = np.full(int(codes.max()) + 1, -1, np.int64)
    # Of repeated indices in an assignment the last one stays.
    last[codes] = np.arange(len(codes))
    return np.sort(last[last >= 0])
