"""Partition transforms: which partition a row belongs to, and what a partition says of its rows.

`year`, `month`, `day` and `hour` are calendar components (in UTC for zoned columns), so only
`year` bounds a column; `identity` and `truncate` do too. Of `month`, `day`, `hour` and `bucket` the
image of a value decides whether the partition can hold it, and `void` says nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.buckets import Strategy, buckets_of, is_agreed
from io_core.errors import SchemaValidationError, nearest
from io_core.keys import row_codes
from io_core.lean_arrow import lean_numpy, lean_scalar
from io_core.literal import kind_of
from io_core.schema import without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from io_core.model import PartitionKey, PartitionScheme

__all__ = [
    "Bounds",
    "Image",
    "check_scheme",
    "split",
    "transform",
    "value_bounds",
    "value_type",
]

Name = Literal["identity", "year", "month", "day", "hour", "truncate", "bucket", "void"]

_TEXT = re.compile(r"\s*(\w+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\w+)\s*)?\))?\s*", re.ASCII)
_WIDEST = 2**31 - 1
_PLAIN: tuple[Name, ...] = ("identity", "year", "month", "day", "hour", "void")
_STRATEGIES: tuple[Strategy, ...] = ("default", "iceberg")
_COMPONENTS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "year": pc.year,
    "month": pc.month,
    "day": pc.day,
    "hour": pc.hour,
}


_UTC = frozenset({None, "UTC", "Etc/UTC", "Z", "+00:00"})
_DAYS = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}


class Image(NamedTuple):
    """What a column's values became in each of many files: one value per file.

    Attributes:
        values: The value that all of the file's values became; null where they are all null.
        of: What values of the column's type become.
    """

    values: pa.Array
    of: Callable[[pa.ChunkedArray], pa.ChunkedArray]


class Bounds(NamedTuple):
    """What is known of one column in each of many files; all parts have one entry per file.

    Attributes:
        low: Of the column's type; no value is below it, null where unknown. NaN left out.
        high: Likewise from above.
        null_count: (files,) int64 rows, -1 where unknown.
        nan_count: (files,) int64 rows, -1 where unknown.
        exact: Whether `low` and `high` are values that occur, not truncated ones.
        image: What else a value of the column has to agree with; None for nothing.
    """

    low: pa.Array
    high: pa.Array
    null_count: np.ndarray[Any, np.dtype[np.int64]]
    nan_count: np.ndarray[Any, np.dtype[np.int64]]
    exact: bool
    image: Image | None = None


class _Transform(NamedTuple):
    name: Name
    width: int
    strategy: Strategy = "default"


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
            named = next((s for s in _STRATEGIES if s == strategy), None)
            if named is not None:
                return _Transform("bucket", int(width), named)
    known = [*_PLAIN, "truncate(width)", "bucket(count)", "bucket(count, iceberg)"]
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
        if key.column not in schema.names:
            raise SchemaValidationError(
                f"unknown partition column {key.column!r}{nearest(key.column, schema.names)}"
            )
        value_type(key, schema)


def value_type(key: PartitionKey, schema: pa.Schema) -> pa.DataType:
    """The type of a key's partition values: the column's own, or int32 for components and buckets."""
    name, width, strategy = _parse(key)
    dtype = schema.field(key.column).type
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    kind = kind_of(dtype)
    # That hash takes integers of 64 bits with a sign.
    hashed = strategy == "default" or not pa.types.is_uint64(dtype)
    fits = {
        "identity": kind != "other",
        "year": kind in ("date", "timestamp"),
        "month": kind in ("date", "timestamp"),
        "day": kind in ("date", "timestamp"),
        "hour": kind == "timestamp",
        "truncate": kind in ("text", "binary") or _counts_to(dtype, width),
        # Python's text of a value decides, and Python has no nanoseconds.
        "bucket": kind != "other" and getattr(dtype, "unit", None) != "ns" and hashed,
        "void": True,
    }
    if not fits[name]:
        raise SchemaValidationError(
            f"partition transform {name!r} does not fit column {key.column!r} of type {dtype}"
        )
    return without_views(dtype) if name in ("identity", "truncate", "void") else pa.int32()


def _counts_to(dtype: pa.DataType, width: int) -> bool:
    return pa.types.is_integer(dtype) and width <= np.iinfo(dtype.to_pandas_dtype()).max


def transform(key: PartitionKey, column: pa.ChunkedArray, dtype: pa.DataType) -> pa.ChunkedArray:
    """The partition value of each row; null stays null.

    Args:
        key: One key of a scheme.
        column: The rows' values of the key's column.
        dtype: The values' type, from `value_type`.
    """
    name, width, strategy = _parse(key)
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
        return buckets_of(values, width, strategy)
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


def split(
    table: pa.Table, scheme: PartitionScheme, schema: pa.Schema
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of each partition, in order of first appearance; rows keep their order.

    Yields:
        A one-row table of partition values (columns `"0"`, `"1"`, ...), and the partition's rows.
    """
    values = [transform(k, table.column(k.column), value_type(k, schema)) for k in scheme.keys]
    if not table.num_rows:
        return
    codes = row_codes(values)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse))
    keyed = pa.table(values, names=[str(i) for i in range(len(values))])
    # Arrow takes no rows of its view types.
    plain = pa.schema([f.with_type(without_views(f.type)) for f in table.schema])
    held = table if plain.equals(table.schema) else table.cast(plain)
    for group in np.argsort(first, kind="stable"):
        start = ends[group - 1] if group else 0
        yield (
            keyed.slice(int(first[group]), 1),
            held.take(order[start : ends[group]]).cast(table.schema),
        )


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
    name, width, strategy = _parse(key)
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    if name == "void":
        return None
    nulls = lean_numpy(values.is_null())
    unknown = np.full(len(values), -1, np.int64)
    # Each transform that is left makes null of null, and of nothing else.
    null_count, nan_count = np.where(nulls, rows, 0), np.zeros(len(values), np.int64)
    image = Image(values, lambda column: transform(key, column, values.type))
    nothing = pa.nulls(len(values), dtype)
    # Views are divided by as large types, and compared as what they are.
    same = values.cast(dtype) if name in ("identity", "truncate") else values
    if name == "identity":
        if not pa.types.is_floating(dtype):
            return Bounds(same, same, null_count, nan_count, exact=True)
        is_nan = pc.fill_null(pc.is_nan(values), lean_scalar(False, pa.bool_()))
        bound = pc.if_else(is_nan, pa.nulls(1, values.type)[0], values)
        nan_count = np.where(lean_numpy(is_nan), rows, 0)
        return Bounds(bound, bound, null_count, nan_count, exact=True)
    if name == "year":
        low, high = _years(values, dtype, 0), _years(values, dtype, 1)
        return Bounds(low, high, null_count, nan_count, exact=False)
    if name == "truncate" and pa.types.is_integer(dtype):
        return _whole_range(values, width, dtype, null_count)
    if name == "truncate":
        return Bounds(same, _beyond(same), null_count, nan_count, exact=False, image=image)
    if name == "bucket":
        told = image if is_agreed(dtype, strategy) else None
        return Bounds(nothing, nothing, null_count, unknown, exact=False, image=told)
    # Other clients take the components of a zoned moment in its own zone.
    told = image if getattr(dtype, "tz", None) in _UTC else None
    return Bounds(nothing, nothing, null_count, nan_count, exact=False, image=told)


def _whole_range(
    values: pa.Array, width: int, dtype: pa.DataType, null_count: np.ndarray[Any, np.dtype[Any]]
) -> Bounds:
    """What truncated integers bound; the division went towards zero."""
    numbers = [None if v is None else int(v) for v in values.to_pylist()]
    low = [None if v is None else v - (width - 1) if v <= 0 else v for v in numbers]
    high = [None if v is None else v + (width - 1) if v >= 0 else v for v in numbers]
    nan_count = np.zeros(len(values), np.int64)
    return Bounds(_clamped(low, dtype), _clamped(high, dtype), null_count, nan_count, exact=False)


def _beyond(values: pa.Array) -> pa.Array:
    """What lies above everything that begins with each text or bytes; null where nothing does."""
    found = {v: _after(v) for v in set(values.to_pylist()) if v is not None}
    return pa.array([None if v is None else found[v] for v in values.to_pylist()], values.type)


def _after(start: str | bytes) -> str | bytes | None:
    if isinstance(start, bytes):
        kept = start.rstrip(b"\xff")
        return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
    kept_text = start.rstrip("\U0010ffff")
    if not kept_text:
        return None
    # No text holds a surrogate by itself.
    following = 0xE000 if kept_text[-1] == "\ud7ff" else ord(kept_text[-1]) + 1
    return kept_text[:-1] + chr(following)


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
    if getattr(dtype, "tz", None) not in _UTC:
        # Other clients take the year in the column's own zone, less than a day away.
        moments += _DAYS[unit] if end else -_DAYS[unit]
    mask = values.is_null().to_numpy(zero_copy_only=False) | outside
    if unit == "D":
        return pa.array(moments.astype(np.int32), mask=mask).cast(pa.date32()).cast(dtype)
    return pa.array(moments, mask=mask).cast(dtype)
