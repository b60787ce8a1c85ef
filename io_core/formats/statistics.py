"""What can be told of a table's columns before it is written, in formats whose footers tell nothing?"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from io_core.formats.held import plain_type
from io_core.literal import dump_literal, kind_of
from io_core.model import ColumnStats

__all__ = ["LONGEST_BOUND", "count_columns", "nan_counts"]

# Bytes; longer bounds would make a plan larger than they make a read smaller.
LONGEST_BOUND = 1024


def nan_counts(table: pa.Table) -> dict[str, int]:
    """How many NaN each floating point column holds."""
    return {
        field.name: pc.sum(pc.is_nan(table.column(i))).as_py() or 0
        for i, field in enumerate(table.schema)
        if pa.types.is_floating(field.type)
    }


def count_columns(table: pa.Table, schema: pa.Schema) -> dict[str, ColumnStats]:
    """The statistics of each column of `schema` that has an order, counted over the rows.

    Example:
        >>> table = pa.table({"x": [3, None, 1]})
        >>> count_columns(table, table.schema)
        {'x': ColumnStats(min=1, max=3, null_count=1, nan_count=None)}
    """
    nans = nan_counts(table)
    found = {}
    for field in schema:
        index = table.schema.get_field_index(field.name)
        if index < 0 or kind_of(field.type) == "other":
            continue
        column = table.column(index)
        low, high = _bounds(column, field.type)
        found[field.name] = ColumnStats(
            None if low is None else dump_literal(low),
            None if high is None else dump_literal(high),
            column.null_count,
            nans.get(field.name),
        )
    return found


def _bounds(
    column: pa.ChunkedArray, dtype: pa.DataType
) -> tuple[pa.Scalar | None, pa.Scalar | None]:
    """Least and greatest value in the table's type; None where there is none, or no use for it."""
    plain = _ordered(plain_type(column.type))
    column = column.cast(plain)
    if pa.types.is_floating(plain):
        column = column.filter(pc.invert(pc.is_nan(column)))
    found = pc.min_max(column)
    return _usable(found["min"], dtype), _usable(found["max"], dtype)


def _ordered(dtype: pa.DataType) -> pa.DataType:
    """The type in which Arrow compares values of a type."""
    if pa.types.is_duration(dtype):
        return pa.int64()
    if pa.types.is_decimal(dtype) and dtype.bit_width < 128:
        return pa.decimal128(dtype.precision, dtype.scale)
    return dtype


def _usable(value: pa.Scalar, dtype: pa.DataType) -> pa.Scalar | None:
    if not value.is_valid:
        return None
    if kind_of(dtype) in ("text", "binary") and value.as_buffer().size > LONGEST_BOUND:
        return None
    try:
        return value.cast(dtype)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
