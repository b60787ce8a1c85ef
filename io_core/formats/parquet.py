"""Parquet files: reading columns, writing with field ids, and what a footer tells of a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from io_core.errors import DataFileError, SchemaValidationError
from io_core.literal import dump_literal, kind_of
from io_core.model import ColumnStats, WriteEntry
from io_core.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["entry_of", "nan_counts", "read", "write"]

ROW_GROUP_ROWS = 122_880


def read(path: str, columns: Sequence[str], *, records: int | None, plan: str) -> pa.Table:
    """Read some columns of one file; columns that it lacks are left out.

    Args:
        path: Local path or `file://` URI.
        columns: Top-level column names.
        records: Rows that the plan promises; None where it does not say.
        plan: What to name in an error as the plan that lists the file.

    Raises:
        DataFileError: Missing, damaged, or of another number of rows.
    """
    try:
        with pq.ParquetFile(local_path(path)) as file:
            there = set(file.schema_arrow.names)
            found = [c for c in columns if c in there]
            rows = file.metadata.num_rows
            table = file.read(columns=found) if found else pa.table({"": pa.nulls(rows)})
    except FileNotFoundError:
        raise DataFileError.of(path, "is missing", plan) from None
    except (pa.ArrowException, OSError) as error:
        raise DataFileError.of(path, f"is damaged ({error})", plan) from error
    if records is not None and rows != records:
        raise DataFileError.of(path, f"has {rows} rows instead of {records}", plan)
    # A name with dots also matches inside structs: keep what was asked for.
    return table.select(found)


def write(table: pa.Table, path: str) -> None:
    """Write one file; field ids in the schema's metadata become the file's own.

    Raises:
        FileExistsError: The path is taken: data files are never overwritten.
        SchemaValidationError: Parquet has no place for a column's type.
    """
    with open(local_path(path), "xb") as out:
        try:
            pq.write_table(
                table, out, compression="zstd", row_group_size=ROW_GROUP_ROWS, write_page_index=True
            )
        except pa.ArrowNotImplementedError as error:
            raise SchemaValidationError(f"rows cannot be written as parquet: {error}") from error


def nan_counts(table: pa.Table) -> dict[str, int]:
    """How many NaN each floating point column holds."""
    return {
        field.name: pc.sum(pc.is_nan(table.column(i))).as_py() or 0
        for i, field in enumerate(table.schema)
        if pa.types.is_floating(field.type)
    }


def entry_of(
    path: str,
    schema: pa.Schema,
    *,
    partition_values: list[Any] | None = None,
    nan_counts: Mapping[str, int] | None = None,
    sort_scheme_id: str | None = None,
) -> WriteEntry:
    """Describe one written file from its footer. Reads no data.

    Args:
        path: Local path or `file://` URI, named in the entry as it is.
        schema: The table's schema: which columns get statistics, and their types.
        partition_values: JSON scalars in the scheme's order.
        nan_counts: NaN per floating point column, counted while writing.
        sort_scheme_id: The sort scheme that the file's rows follow.
    """
    metadata = pq.read_metadata(local_path(path))
    counted = nan_counts or {}
    # A column inside of another has a longer path than name, and may share the path of a dotted name.
    leaves = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    chunks = {leaf.path: i for i, leaf in enumerate(leaves) if leaf.path == leaf.name}
    stats = {
        field.name: _column_stats(metadata, chunks[field.name], field.type, counted.get(field.name))
        for field in schema
        if field.name in chunks and kind_of(field.type) != "other"
    }
    return WriteEntry(
        path=path,
        record_count=metadata.num_rows,
        content_length=os.stat(local_path(path)).st_size,
        content_type="parquet",
        column_stats=stats,
        partition_values=partition_values,
        sort_scheme_id=sort_scheme_id,
    )


def _column_stats(
    metadata: pq.FileMetaData, index: int, dtype: pa.DataType, nan_count: int | None
) -> ColumnStats:
    groups = [
        metadata.row_group(g).column(index).statistics
        for g in range(metadata.num_row_groups)
        if metadata.row_group(g).num_rows
    ]
    nulls = [s.null_count if s is not None and s.has_null_count else None for s in groups]
    null_count = None if None in nulls else sum(n for n in nulls if n is not None)
    # One row group without bounds leaves the file without them, unless all its values are null.
    bounded = [s for s in groups if s is None or not (s.has_null_count and s.num_values == 0)]
    low = high = None
    if bounded and all(s is not None and s.has_min_max for s in bounded):
        column = metadata.schema.column(index)
        lows = [_bound(s, column, dtype, "min") for s in bounded]
        highs = [_bound(s, column, dtype, "max") for s in bounded]
        if None not in lows and None not in highs:
            low, high = dump_literal(min(lows, key=_order)), dump_literal(max(highs, key=_order))
    return ColumnStats(low, high, null_count, nan_count)


def _order(value: Any) -> Any:
    # Any: a Scalar of one column, as the Python value that sorts like it, nanoseconds included.
    temporal = kind_of(value.type) in ("date", "time", "timestamp", "duration")
    return value.value if temporal else value.as_py()


def _bound(stats: Any, column: Any, dtype: pa.DataType, side: str) -> pa.Scalar | None:
    # Any: pyarrow's footer objects have no types.
    """One bound in the table's type; None where it cannot be read without loss."""
    try:
        if kind_of(dtype) in ("date", "time", "timestamp", "duration"):
            physical = _physical(column, dtype)
            width = pa.int32() if physical.bit_width == 32 else pa.int64()
            return pa.scalar(getattr(stats, f"{side}_raw"), width).cast(physical).cast(dtype)
        value = getattr(stats, side)
        if isinstance(value, float) and value != value:
            return None
        return pa.scalar(value, dtype)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError, TypeError, ValueError):
        return None


def _physical(column: Any, dtype: pa.DataType) -> pa.DataType:
    # Any: as above.
    """The Arrow type whose integers are what the file stores, for a temporal column."""
    logical = json.loads(column.logical_type.to_json())
    unit = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}.get(
        logical.get("timeUnit", ""), "ms"
    )
    match kind_of(dtype):
        case "date":
            return pa.date32()
        case "time":
            return pa.time32(unit) if unit == "ms" else pa.time64(unit)
        case "timestamp":
            return pa.timestamp(unit, dtype.tz)
    return dtype
