"""Which type has a table's column in Daft, and does Daft's own reader open files that hold it?

Text and binary views become String and Binary, dictionaries their values, `time32` becomes Time in
microseconds, `date64` Date, narrow decimals Decimal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from io_core.errors import SchemaValidationError, UnsupportedError

if TYPE_CHECKING:
    import daft

__all__ = ["daft_schema", "is_native", "table_schema"]

# Images, embeddings, tensors of any shape, Python's objects.
_OF_DAFT = "daft.super_extension"


def daft_schema(schema: pa.Schema) -> pa.Schema:
    """The Arrow types that a table's columns have in Daft; every value fits exactly.

    Raises:
        UnsupportedError: A column of a type that Daft cannot hold; names it.

    Example:
        >>> daft_schema(pa.schema([("at", pa.time32("s")), ("tag", pa.string_view())]))
        at: time64[us]
        tag: large_string
    """
    fields = []
    for field in schema:
        dtype = _daft_type(field.type)
        if dtype is None:
            raise UnsupportedError(
                f"column {field.name!r} is of type {field.type}, which Daft cannot hold; "
                "read the table with client.catalog.read(columns=...) instead"
            )
        fields.append(pa.field(field.name, dtype))
    return pa.schema(fields)


def table_schema(schema: daft.Schema) -> pa.Schema:
    """The Arrow schema of rows that Daft hands over, in Arrow's usual types.

    Raises:
        SchemaValidationError: A column that no table can hold.
    """
    fields = []
    for field in schema:
        try:
            fields.append(pa.field(field.name, _plain(field.dtype.to_arrow_dtype())))
        except (ValueError, TypeError, pa.ArrowException):
            raise SchemaValidationError(
                f"column {field.name!r} is of type {field.dtype}, which a table cannot hold: "
                "turn it into numbers, text, bytes or lists of them first"
            ) from None
    return pa.schema(fields)


def _plain(dtype: pa.DataType) -> pa.DataType:
    """Arrow's usual type for what Daft exports as a large one."""
    t = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        if dtype.extension_name == _OF_DAFT:
            raise TypeError(f"{dtype} means something to Daft alone")
        return dtype
    if t.is_large_string(dtype):
        return pa.string()
    if t.is_large_binary(dtype):
        return pa.binary()
    if t.is_large_list(dtype) or t.is_list(dtype):
        return pa.list_(_plain(dtype.value_type))
    if t.is_fixed_size_list(dtype):
        return pa.list_(_plain(dtype.value_type), dtype.list_size)
    if t.is_map(dtype):
        return pa.map_(_plain(dtype.key_type), _plain(dtype.item_type))
    if t.is_struct(dtype):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in dtype])
    return dtype


def _daft_type(dtype: pa.DataType) -> pa.DataType | None:
    """The type in Daft, None where there is none."""
    t = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        # Daft knows tensors; of others it keeps no more than what is stored.
        tensor = isinstance(dtype, pa.FixedShapeTensorType)
        return dtype if tensor else _daft_type(dtype.storage_type)
    if t.is_dictionary(dtype):
        return _daft_type(dtype.value_type)
    if t.is_nested(dtype):
        return _daft_nested(dtype)
    if t.is_decimal(dtype):
        fits = dtype.precision <= 38
        return pa.decimal128(dtype.precision, dtype.scale) if fits else None
    if t.is_interval(dtype) or t.is_run_end_encoded(dtype):
        return None
    changed = {
        pa.string_view(): pa.large_string(),
        pa.binary_view(): pa.large_binary(),
        pa.time32("s"): pa.time64("us"),
        pa.time32("ms"): pa.time64("us"),
        pa.date64(): pa.date32(),
    }
    return changed.get(dtype, dtype)


def _daft_nested(dtype: pa.DataType) -> pa.DataType | None:
    t = pa.types
    inner = [_daft_type(dtype.field(i).type) for i in range(dtype.num_fields)]
    if any(found is None for found in inner):
        return None
    if t.is_struct(dtype):
        named = zip((field.name for field in dtype), inner, strict=True)
        return pa.struct([pa.field(name, found) for name, found in named])
    if t.is_map(dtype):
        return pa.map_(_daft_type(dtype.key_type), _daft_type(dtype.item_type))
    if t.is_fixed_size_list(dtype):
        return pa.list_(inner[0], dtype.list_size)
    if t.is_list(dtype) or t.is_large_list(dtype):
        return pa.large_list(inner[0])
    return None


def is_native(dtype: pa.DataType) -> bool:
    """Whether Daft's own reader opens files that hold the type, as Arrow's and Polars' writers do."""
    t = pa.types
    if t.is_dictionary(dtype):
        return is_native(dtype.value_type)
    if t.is_decimal(dtype):
        return bool(t.is_decimal128(dtype))
    if t.is_string_view(dtype) or t.is_binary_view(dtype) or t.is_time32(dtype):
        return False
    if isinstance(dtype, pa.BaseExtensionType):
        return False
    return all(is_native(dtype.field(i).type) for i in range(dtype.num_fields))
