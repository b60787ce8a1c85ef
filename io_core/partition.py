"""Partition transforms: which partition a row belongs to, and what a partition says of its rows.

`year`, `month`, `day` and `hour` are calendar components (in UTC for zoned columns), so only
`year` bounds a column; `identity` and `truncate` do too, `bucket` and `void` say nothing here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import SchemaValidationError, UnsupportedError, nearest
from io_core.keys import row_codes
from io_core.literal import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from io_core.model import PartitionKey, PartitionScheme

__all__ = ["Bounds", "check_scheme", "split", "transform", "value_bounds", "value_type"]

Name = Literal["identity", "year", "month", "day", "hour", "truncate", "bucket", "void"]

_TEXT = re.compile(r"\s*(\w+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\w+)\s*)?\))?\s*", re.ASCII)
_WIDEST = 2**31 - 1
_PLAIN: tuple[Name, ...] = ("identity", "year", "month", "day", "hour", "void")
_COMPONENTS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "year": pc.year,
    "month": pc.month,
    "day": pc.day,
    "hour": pc.hour,
}


class Bounds(NamedTuple):
    """What is known of one column in each of many files; all parts have one entry per file.

    Attributes:
        low: Of the column's type; no value is below it, null where unknown. NaN left out.
        high: Likewise from above.
        null_count: (files,) int64 rows, -1 where unknown.
        nan_count: (files,) int64 rows, -1 where unknown.
        exact: Whether `low` and `high` are values that occur, not truncated ones.
    """

    low: pa.Array
    high: pa.Array
    null_count: np.ndarray[Any, np.dtype[np.int64]]
    nan_count: np.ndarray[Any, np.dtype[np.int64]]
    exact: bool


class _Transform(NamedTuple):
    name: Name
    width: int


def _parse(key: PartitionKey) -> _Transform:
    text = (key.transform or "identity").lower()
    found = _TEXT.fullmatch(text)
    if found:
        name, width, strategy = found[1], found[2], found[3] or "default"
        if name in _PLAIN and width is None:
            return _Transform(next(p for p in _PLAIN if p == name), 0)
        if name == "truncate" and width and 0 < int(width) <= _WIDEST:
            return _Transform("truncate", int(width))
        if name == "bucket" and width and 0 < int(width) <= _WIDEST:
            if strategy != "default":
                raise UnsupportedError(
                    f"partition transform {text!r}: only the default bucket is supported"
                )
            return _Transform("bucket", int(width))
    known = [*_PLAIN, "truncate(width)", "bucket(count)"]
    raise SchemaValidationError(
        f"unknown partition transform {text!r}{nearest(text, known)}; known: {', '.join(known)}"
    )


def check_scheme(scheme: PartitionScheme, schema: pa.Schema) -> None:
    """Raise unless every key of the scheme can be computed from `schema`.

    Raises:
        SchemaValidationError: An unknown column or transform, a nested locator, or a transform
            that does not fit the column's type.
    """
    if not scheme.keys:
        raise SchemaValidationError("a partition scheme needs at least one key")
    for key in scheme.keys:
        if len(key.key) != 1:
            raise SchemaValidationError(
                f"partition key {list(key.key)}: only top-level columns can be keys"
            )
        if key.key[0] not in schema.names:
            raise SchemaValidationError(
                f"unknown partition column {key.key[0]!r}{nearest(key.key[0], schema.names)}"
            )
        value_type(key, schema)


def value_type(key: PartitionKey, schema: pa.Schema) -> pa.DataType:
    """The type of a key's partition values: the column's own, or int32 for components and buckets."""
    name, width = _parse(key)
    dtype = schema.field(key.key[0]).type
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    kind = kind_of(dtype)
    fits = {
        "identity": kind != "other",
        "year": kind in ("date", "timestamp"),
        "month": kind in ("date", "timestamp"),
        "day": kind in ("date", "timestamp"),
        "hour": kind == "timestamp",
        "truncate": kind in ("text", "binary") or _counts_to(dtype, width),
        # Python's text of a value decides, and Python has no nanoseconds.
        "bucket": kind != "other" and getattr(dtype, "unit", None) != "ns",
        "void": True,
    }
    if not fits[name]:
        raise SchemaValidationError(
            f"partition transform {name!r} does not fit column {key.key[0]!r} of type {dtype}"
        )
    return dtype if name in ("identity", "truncate", "void") else pa.int32()


def _counts_to(dtype: pa.DataType, width: int) -> bool:
    return pa.types.is_integer(dtype) and width <= np.iinfo(dtype.to_pandas_dtype()).max


def transform(key: PartitionKey, column: pa.ChunkedArray, dtype: pa.DataType) -> pa.ChunkedArray:
    """The partition value of each row; null stays null.

    Args:
        key: One key of a scheme.
        column: The rows' values of the key's column.
        dtype: The values' type, from `value_type`.
    """
    name, width = _parse(key)
    if name == "void":
        return pa.chunked_array([pa.nulls(len(column), dtype)])
    if name in _COMPONENTS:
        plain = (
            column.cast(pa.timestamp(column.type.unit))
            if kind_of(column.type) == "timestamp"
            else column
        )
        return _COMPONENTS[name](plain).cast(pa.int32())
    if name == "bucket":
        values = (
            column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        )
        return _bucket(values, width)
    column = column.cast(dtype)
    return column if name == "identity" else _truncate(column, width)


def _truncate(column: pa.ChunkedArray, width: int) -> pa.ChunkedArray:
    match kind_of(column.type):
        case "text":
            return pc.utf8_slice_codeunits(column.cast(pa.string()), 0, width).cast(column.type)
        case "binary":
            return pc.binary_slice(column.cast(pa.binary()), 0, width).cast(column.type)
    # Arrow divides integers towards zero, as the protocol's writers do.
    step = pa.scalar(width, column.type)
    return pc.multiply(pc.divide(column, step), step)


def _bucket(column: pa.ChunkedArray, count: int) -> pa.ChunkedArray:
    distinct = column.unique()
    buckets = [None if v is None else _sha1_bucket(str(v), count) for v in distinct.to_pylist()]
    positions = pc.index_in(column, distinct)
    return pa.chunked_array([pa.array(buckets, pa.int32()).take(positions.combine_chunks())])


def _sha1_bucket(text: str, count: int) -> int:
    # The protocol's hash; nothing secret is involved.
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:4]) % count  # noqa: S324


def split(
    table: pa.Table, scheme: PartitionScheme, schema: pa.Schema
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of each partition, in order of first appearance; rows keep their order.

    Yields:
        A one-row table of partition values (columns `"0"`, `"1"`, ...), and the partition's rows.
    """
    values = [transform(k, table.column(k.key[0]), value_type(k, schema)) for k in scheme.keys]
    if not table.num_rows:
        return
    codes = row_codes(values)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse))
    keyed = pa.table(values, names=[str(i) for i in range(len(values))])
    for group in np.argsort(first, kind="stable"):
        start = ends[group - 1] if group else 0
        yield keyed.slice(int(first[group]), 1), table.take(order[start : ends[group]])


def value_bounds(
    key: PartitionKey,
    values: pa.Array,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    dtype: pa.DataType,
) -> Bounds | None:
    """What partition values say of the column they come from; None where they say nothing.

    Args:
        key: One key of a scheme.
        values: The partition value of each file.
        rows: (files,) rows in each file.
        dtype: The column's type.
    """
    name, width = _parse(key)
    nulls = values.is_null().to_numpy(zero_copy_only=False)
    unknown = np.full(len(values), -1, np.int64)
    null_count = np.where(nulls, rows, 0)
    if name == "identity":
        if not pa.types.is_floating(dtype):
            return Bounds(values, values, null_count, np.zeros(len(values), np.int64), exact=True)
        is_nan = pc.fill_null(pc.is_nan(values), False)
        bound = pc.if_else(is_nan, pa.scalar(None, values.type), values)
        nan_count = np.where(is_nan.to_numpy(zero_copy_only=False), rows, 0)
        return Bounds(bound, bound, null_count, nan_count, exact=True)
    if name == "year":
        low, high = _years(values, dtype, 0), _years(values, dtype, 1)
        return Bounds(low, high, null_count, np.zeros(len(values), np.int64), exact=False)
    if name == "truncate" and pa.types.is_integer(dtype):
        numbers = values.cast(pa.int64(), safe=False).fill_null(0).to_numpy().astype(object)
        low = [
            None if n else int(v - (width - 1) if v <= 0 else v)
            for v, n in zip(numbers, nulls, strict=True)
        ]
        high = [
            None if n else int(v + (width - 1) if v >= 0 else v)
            for v, n in zip(numbers, nulls, strict=True)
        ]
        return Bounds(_clamped(low, dtype), _clamped(high, dtype), null_count, unknown, exact=False)
    return None


def _clamped(values: list[int | None], dtype: pa.DataType) -> pa.Array:
    """Bounds outside of the type's range are no bounds."""
    info = np.iinfo(dtype.to_pandas_dtype())
    return pa.array([v if v is None or info.min <= v <= info.max else None for v in values], dtype)


def _years(values: pa.Array, dtype: pa.DataType, end: int) -> pa.Array:
    """First moment of each year, or with `end` the last one."""
    unit = "D" if kind_of(dtype) == "date" else dtype.unit
    years = values.fill_null(1970).to_numpy().astype(np.int64) - 1970 + end
    # A year that the type holds only in part has no such moment, which leaves no bound there.
    held = np.iinfo(np.int32 if unit == "D" else np.int64)
    ends = np.array([held.min + 1, held.max], np.int64).astype(f"datetime64[{unit}]")
    first, last = ends.astype("datetime64[Y]").astype(np.int64)
    outside = (years <= first) | (years > last)
    years = np.where(outside, 0, years)
    moments = years.astype("datetime64[Y]").astype(f"datetime64[{unit}]").astype(np.int64) - end
    mask = values.is_null().to_numpy(zero_copy_only=False) | outside
    if unit == "D":
        return pa.array(moments.astype(np.int32), mask=mask).cast(pa.date32()).cast(dtype)
    return pa.array(moments, mask=mask).cast(dtype)
