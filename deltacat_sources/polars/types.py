"""Which types do a table's columns have in Polars, and which rows does Polars' own reader give?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from io_core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_names", "is_native", "polars_schema", "shown"]


def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The Polars types of a table's columns: those that its rows have when they are read.

    Raises:
        UnsupportedError: A column of a type that Polars cannot hold, or of a name that means several to
            it; names it.

    Example:
        >>> polars_schema(pa.schema([("at", pa.timestamp("s"))]))
        Schema([('at', Datetime(time_unit='ms', time_zone=None))])
    """
    return pl.Schema(_known_schema(tuple(schema.names), tuple(schema.types)))


# A query asks several times, and hundreds of columns take a while.
@functools.lru_cache(maxsize=256)
def _known_schema(names: tuple[str, ...], types: tuple[pa.DataType, ...]) -> pl.Schema:
    check_names(names)
    for name, dtype in zip(names, types, strict=True):
        if not _is_representable(_shown_type(dtype)):
            raise UnsupportedError(
                f"column {name!r} is of type {dtype}, which Polars cannot hold; "
                "read the table with client.catalog.read(columns=...) instead"
            )
    return shown(pa.Table.from_batches([], pa.schema(list(zip(names, types, strict=True))))).schema


def check_names(names: Iterable[str]) -> None:
    """Refuse columns whose names Polars takes for patterns: it would find other columns by them.

    Raises:
        UnsupportedError: There is one; names it.
    """
    for name in names:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            raise UnsupportedError(
                f"Polars takes {name!r} for a pattern of names, and not for a column's name: rename the "
                "column, or leave Polars out (client.catalog.read and write take Arrow tables)"
            )


def is_native(schema: pa.Schema) -> bool:
    """Whether Polars' own reader makes of files what `polars_schema` says."""
    return all(
        not pa.types.is_date64(field.type) and _shown_type(field.type) == field.type
        for field in schema
    )


def shown(rows: pa.Table) -> pl.DataFrame:
    """Arrow rows as Polars shows them."""
    columns = {
        name: _shown(column) if _is_extension(column.type) else column
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }
    frame = pl.from_arrow(pa.table(columns) if columns else rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _is_representable(dtype: pa.DataType) -> bool:
    t = pa.types
    if _is_extension(dtype):
        return False
    if t.is_decimal256(dtype) or t.is_interval(dtype) or t.is_union(dtype):
        return False
    if t.is_run_end_encoded(dtype) or t.is_list_view(dtype) or t.is_large_list_view(dtype):
        return False
    return all(_is_representable(dtype.field(i).type) for i in range(dtype.num_fields))


def _is_extension(dtype: pa.DataType) -> bool:
    return isinstance(dtype, pa.BaseExtensionType)


def _shape(dtype: pa.DataType) -> list[int]:
    """The sides of a tensor whose values lie row by row; other extensions have none."""
    plain = isinstance(dtype, pa.FixedShapeTensorType) and dtype.permutation is None
    return list(dtype.shape) if plain else []


def _shown_type(dtype: pa.DataType) -> pa.DataType:
    """What stands for an extension type: nested arrays for a tensor, what is stored for others."""
    if not _is_extension(dtype):
        return dtype
    shape = _shape(dtype)
    found = dtype.value_type if shape else dtype.storage_type
    for side in reversed(shape):
        found = pa.list_(found, side)
    return found


def _shown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    dtype = _shown_type(column.type)
    return pa.chunked_array([_nested(c.storage, _shape(column.type)) for c in column.chunks], dtype)


def _nested(stored: pa.Array, shape: list[int]) -> pa.Array:
    if not shape:
        return stored
    size = stored.type.list_size
    # Of a slice too, and with what lies below nulls: `flatten` would leave that out.
    values = stored.values.slice(stored.offset * size, len(stored) * size)
    for side in shape[:0:-1]:
        values = pa.FixedSizeListArray.from_arrays(values, side)
    return pa.FixedSizeListArray.from_arrays(values, shape[0], mask=stored.is_null())
