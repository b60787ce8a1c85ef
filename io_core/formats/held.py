"""As which types does a format hold a table's columns, and how do they become the table's again?

Each format says of flat types which one of its own holds all their values, or that none does. From
that follow nested types, what is refused before anything is written, and the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import SchemaValidationError
from io_core.formats.fixed import with_fixed_lists
from io_core.formats.parts import any_part

if TYPE_CHECKING:
    from collections.abc import Callable

    # A flat or nested type, and as what it is held: itself, another type, or None for not at all.
    Holding = Callable[[pa.DataType], pa.DataType | None]

__all__ = ["held_type", "in_held_types", "plain_type", "restored", "without_columns"]


def without_columns(rows: int) -> pa.Table:
    """A table of some rows and no column."""
    return pa.table({"": pa.nulls(rows)}).select([])


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """A flat type in the layout that every format knows: no views, no dictionary, no runs.

    Example:
        >>> plain_type(pa.dictionary(pa.int8(), pa.string_view()))
        DataType(large_string)
    """
    t = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        return plain_type(dtype.storage_type)
    if t.is_dictionary(dtype) or t.is_run_end_encoded(dtype):
        return plain_type(dtype.value_type)
    if t.is_string_view(dtype):
        return pa.large_string()
    if t.is_binary_view(dtype):
        return pa.large_binary()
    return dtype


def held_type(dtype: pa.DataType, hold: Holding) -> pa.DataType | None:
    """As which type a format holds one that may be nested; None where it has no place for it.

    Args:
        dtype: The column's.
        hold: Of each flat type, and of each nested one whose parts are held already.
    """
    t = pa.types
    dtype = plain_type(dtype)
    if t.is_map(dtype):
        key, item = held_type(dtype.key_type, hold), held_type(dtype.item_type, hold)
        return None if key is None or item is None else hold(pa.map_(key, item))
    if t.is_struct(dtype):
        inner = [(f, held_type(f.type, hold)) for f in dtype]
        if any(of is None for _, of in inner):
            return None
        return hold(pa.struct([f.with_type(of) for f, of in inner]))
    if not t.is_nested(dtype) or t.is_union(dtype):
        return hold(dtype)
    if t.is_list_view(dtype) or t.is_large_list_view(dtype):
        # pyarrow 25 loses their items when it casts them (apache/arrow: cast of views with nulls).
        return None
    item = held_type(dtype.value_type, hold)
    if item is None:
        return None
    value = dtype.value_field.with_type(item)
    if t.is_fixed_size_list(dtype):
        return hold(pa.list_(value, dtype.list_size))
    return hold(pa.large_list(value) if t.is_large_list(dtype) else pa.list_(value))


def in_held_types(
    table: pa.Table,
    hold: Holding,
    format: str,
    *,
    is_kept: Callable[[pa.DataType], bool] | None = None,
) -> pa.Table:
    """The rows as a format holds them; field metadata stays.

    Args:
        table: The rows.
        hold: See `held_type`.
        format: Its name.
        is_kept: Of which columns the format takes the type as it is, whatever it is.

    Raises:
        SchemaValidationError: The format has no place for a column's type, or for one of its
            values.
    """
    for i, field in enumerate(table.schema):
        # pyarrow 25 miscounts nulls without a type inside of what it casts, writes an item into
        # each fixed list of none as Parquet, and dies of a division by zero over those as ORC.
        empty = any_part(field.type, _is_list_of_none) or (
            pa.types.is_nested(field.type) and any_part(field.type, pa.types.is_null)
        )
        if not empty and is_kept is not None and is_kept(field.type):
            continue
        dtype = None if empty else held_type(field.type, hold)
        if dtype == field.type:
            continue
        if dtype is None or not _comes_back(dtype, field.type):
            raise SchemaValidationError(
                f"column {field.name!r}: {format} has no place for {field.type}; "
                "cast the column, or write another format"
            )
        try:
            column = _cast(table.column(i), dtype)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaValidationError(
                f"column {field.name!r}: {format} holds {field.type} as {dtype}, which has no "
                f"place for some of the values: {error}"
            ) from None
        table = table.set_column(i, field.with_type(dtype), column)
    return table


def _is_list_of_none(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(dtype) and not dtype.list_size)


def _comes_back(held: pa.DataType, dtype: pa.DataType) -> bool:
    try:
        _cast(_cast(pa.chunked_array([], dtype), held), dtype)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def restored(table: pa.Table, schema: pa.Schema | None) -> pa.Table:
    """The rows with their columns in the schema's types, where Arrow knows a way.

    A column of a type that does not go with the schema's stays as it is: its reader says so.

    Raises:
        SchemaValidationError: A value that the schema's type has no place for.
    """
    if schema is None:
        return table
    for i, field in enumerate(table.schema):
        index = schema.get_field_index(field.name)
        if index < 0 or schema.field(index).type == field.type:
            continue
        dtype = schema.field(index).type
        try:
            table = table.set_column(i, pa.field(field.name, dtype), _cast(table.column(i), dtype))
        except pa.ArrowNotImplementedError:
            continue
        except pa.ArrowInvalid as error:
            raise SchemaValidationError(
                f"column {field.name!r}: {field.type} does not fit {dtype}: {error}"
            ) from None
    return table


def _cast(column: pa.ChunkedArray, dtype: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in column.chunks]
        return _cast(pa.chunked_array(chunks, column.type.storage_type), dtype)
    if isinstance(dtype, pa.BaseExtensionType):
        plain = _cast(column, dtype.storage_type)
        chunks = [pa.ExtensionArray.from_storage(dtype, chunk) for chunk in plain.chunks]
        return pa.chunked_array(chunks, dtype)
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_dictionary(dtype) and not pa.types.is_dictionary(column.type):
        return column.cast(dtype.value_type).dictionary_encode().cast(dtype)
    if pa.types.is_run_end_encoded(dtype):
        return pc.run_end_encode(column.cast(dtype.value_type), dtype.run_end_type)
    if any_part(dtype, pa.types.is_fixed_size_list):
        # Rows are taken on the way, for which views have no kernel.
        plain = held_type(column.type, _any)
        column = column if column.type == plain else column.cast(plain)
        chunks = [with_fixed_lists(chunk, dtype) for chunk in column.chunks]
        column = pa.chunked_array(chunks, chunks[0].type if chunks else column.type)
    # Also because the cast of a fixed-size list of nulls to its own type loses them (pyarrow 25).
    return column if column.type == dtype else column.cast(dtype)


def _any(dtype: pa.DataType) -> pa.DataType:
    return dtype
