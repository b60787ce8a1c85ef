"""Which row groups of a Parquet file can hold a wanted row, and what does a footer say of a column?"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from io_core.formats.held import plain_type
from io_core.lean_arrow import lean_array
from io_core.literal import kind_of
from io_core.prune import file_bounds, prune

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    import numpy.typing as npt
    import pyarrow.parquet as pq

    from io_core.formats.content import Selection
    from io_core.partition import Bounds

    Numbers = npt.NDArray[np.int64]

__all__ = ["Run", "chunks_of", "known_bounds", "null_counts", "runs_of"]

_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
# Any: pyarrow's footer objects have no types.
_Statistics = Any


class Run(NamedTuple):
    """Row groups that follow each other, and what is asked for of their rows.

    Attributes:
        groups: Their numbers; empty where no row of `rows` is wanted.
        first: The number of the first row in them.
        rows: Which rows to read, or to leave out.
    """

    groups: list[int]
    first: int
    rows: range


def runs_of(
    metadata: pq.FileMetaData, stored: pa.Schema, rows: range, wanted: Selection | None
) -> Iterator[Run]:
    """The rows that are asked for, in order, divided by whether their row groups have to be read.

    Args:
        metadata: The file's.
        stored: What Arrow makes of the file's columns.
        rows: Which rows are asked for.
        wanted: Which of them are of use.
    """
    counts = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    ends = np.cumsum([0, *counts], dtype=np.int64)
    read = _may_hold(metadata, stored, np.diff(ends), wanted)
    found: Run | None = None
    for group, count in enumerate(counts):
        start = int(ends[group])
        part = range(max(start, rows.start), min(start + count, rows.stop))
        if not part:
            continue
        is_read = bool(read[group]) and _has_living(part, rows, wanted)
        groups = [group] if is_read else []
        if found is not None and bool(found.groups) == is_read:
            found = Run(found.groups + groups, found.first, range(found.rows.start, part.stop))
            continue
        if found is not None:
            yield found
        found = Run(groups, start, part)
    if found is not None:
        yield found


def _has_living(part: range, rows: range, wanted: Selection | None) -> bool:
    if wanted is None or wanted.live is None:
        return True
    return bool(wanted.live[part.start - rows.start : part.stop - rows.start].any())


def _may_hold(
    metadata: pq.FileMetaData, stored: pa.Schema, rows: Numbers, wanted: Selection | None
) -> npt.NDArray[np.bool_]:
    """Per row group whether statistics leave room for a row that matches."""
    if wanted is None or wanted.predicate is None or not len(rows):
        return np.ones(len(rows), np.bool_)
    chunks = chunks_of(metadata)

    @functools.cache
    def bounds(column: str) -> list[Bounds]:
        name = wanted.names.get(column)
        if name not in chunks or name not in stored.names:
            return []
        dtype = wanted.schema.field(column).type
        dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        return _bounds(metadata, chunks[name], stored.field(name).type, dtype)

    return prune(wanted.predicate, rows, bounds).may


def chunks_of(metadata: pq.FileMetaData) -> dict[str, int]:
    """Where the chunk of each top-level column of one value a row is, within each row group."""
    # A column inside of another has a longer path than name, and may share the path of a dotted name.
    leaves = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    return {leaf.path: i for i, leaf in enumerate(leaves) if leaf.path == leaf.name}


def _bounds(
    metadata: pq.FileMetaData, index: int, stored: pa.DataType, dtype: pa.DataType
) -> list[Bounds]:
    groups = range(metadata.num_row_groups)
    found = [metadata.row_group(g).column(index).statistics for g in groups]
    kind = kind_of(dtype)
    nulls = null_counts(found)
    if kind == "other":
        return []
    column = metadata.schema.column(index)
    sides = [known_bounds(found, column, stored, dtype, side) for side in ("min", "max")]
    nans = pa.nulls(len(found), pa.int64())
    table = pa.table([*sides, nulls, nans], names=["min", "max", "null_count", "nan_count"])
    return [file_bounds(table)]


def null_counts(found: Sequence[_Statistics | None]) -> pa.Array:
    """Nulls of each chunk; null where unknown."""
    counted = [s.null_count if s is not None and s.has_null_count else None for s in found]
    return lean_array(counted, pa.int64())


def known_bounds(
    found: Sequence[_Statistics | None],
    # Any: as above.
    column: Any,
    stored: pa.DataType,
    dtype: pa.DataType,
    side: Literal["min", "max"],
) -> pa.Array:
    """One bound of each chunk of a column, in the table's type.

    Args:
        found: The chunks' statistics.
        column: The column, as the footer describes it.
        stored: What Arrow makes of the column.
        dtype: The table's type.
        side: `min` or `max`.

    Returns:
        Null where unknown, or where it cannot be said in the type without loss.
    """
    known = [s if s is not None and s.has_min_max else None for s in found]
    try:
        if kind_of(dtype) in ("date", "time", "timestamp", "duration"):
            physical = _physical(column, plain_type(stored), dtype)
            numbers = [None if s is None else getattr(s, f"{side}_raw") for s in known]
            return lean_array(numbers, physical).cast(dtype)
        return _valued([None if s is None else getattr(s, side) for s in known], stored, dtype)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError, TypeError, ValueError):
        return pa.nulls(len(found), dtype)


# Any: as above.
def _physical(column: Any, stored: pa.DataType, dtype: pa.DataType) -> pa.DataType:
    """The type whose integers are what the file stores of a temporal column.

    Raises:
        TypeError: The file's column is of another kind than the table's.
    """
    kind = kind_of(stored)
    if kind != kind_of(dtype):
        raise TypeError(f"{stored} is no {kind_of(dtype)}")
    if kind == "duration":
        return stored
    if kind == "date":
        return pa.date32()
    # Not what Arrow says of the column: Parquet has no seconds.
    unit = _UNITS[json.loads(column.logical_type.to_json())["timeUnit"]]
    if kind == "time":
        return pa.time32(unit) if unit == "ms" else pa.time64(unit)
    return pa.timestamp(unit, stored.tz)


# Any: bool, int, float, str, bytes or Decimal.
def _valued(values: list[Any], stored: pa.DataType, dtype: pa.DataType) -> pa.Array:
    """Values of a footer in the table's type.

    Raises:
        TypeError: The file's column is of another kind than the table's.
        OverflowError: One that the table's type has no place for.
    """
    t, stored = pa.types, plain_type(stored)
    if kind_of(stored) != kind_of(dtype):
        raise TypeError(f"{stored} is no {dtype}")
    plain = plain_type(dtype)
    if t.is_decimal(dtype):
        whole = [None if v is None else _digits(v, dtype.scale) for v in values]
        return lean_array(whole, dtype)
    if t.is_floating(dtype):
        # NaN bounds nothing.
        values = [v if v is None or v == v else None for v in values]
    elif t.is_integer(dtype) and not t.is_integer(stored):
        raise TypeError(f"{stored} is cut to {dtype}")
    found = lean_array(values, plain)
    return found if plain == dtype else found.cast(dtype)


def _digits(value: Decimal, scale: int) -> int:
    sign, digits, exponent = value.as_tuple()
    whole = int("".join(map(str, digits))) * (-1 if sign else 1)
    shift = int(exponent) + scale
    power: int = 10 ** abs(shift)
    if shift >= 0:
        return whole * power
    number, rest = divmod(whole, power)
    if rest:
        raise OverflowError(f"{value} has more than {scale} places")
    return number
