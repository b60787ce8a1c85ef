"""Which table does a sink make for a frame?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from io_core.errors import SchemaValidationError
from io_core.layout import creation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["announced", "creation"]


def creation(
    schema: pl.Schema,
    partition_by: str | Sequence[str] | None,
    merge_keys: str | Sequence[str] | None,
) -> dict[str, Any]:
    """What to make a table with, in the protocol's words.

    Raises:
        SchemaValidationError: A column that a table cannot hold, or an unknown one.
    """
    return creation_of(_table_schema(schema), partition_by, merge_keys)


def _table_schema(schema: pl.Schema) -> pa.Schema:
    """The Arrow schema of a table that is made for a frame."""
    fields = []
    for name, dtype in schema.items():
        exported = _exported(dtype)
        if pa.types.is_null(exported):
            raise SchemaValidationError(
                f"column {name!r} is of type {dtype}, which a table cannot hold: cast it first"
            )
        fields.append(pa.field(name, _plain(exported)))
    return pa.schema(fields)


def _exported(dtype: pl.DataType) -> pa.DataType:
    """The Arrow type that Polars exports; null where there is none."""
    if dtype == pl.Object:
        # What it exports are addresses of this process.
        return pa.null()
    try:
        return pl.Series([], dtype=dtype).to_arrow().type
    except (pa.ArrowException, pl.exceptions.PolarsError, NotImplementedError):
        return pa.null()


def announced(schema: pl.Schema) -> pa.Schema:
    """What the planner makes room for: columns without a type of their own need none."""
    types = {name: _plain(_exported(dtype)) for name, dtype in schema.items()}
    return pa.schema([(n, dtype) for n, dtype in types.items() if not pa.types.is_null(dtype)])


def _plain(dtype: pa.DataType) -> pa.DataType:
    """Arrow's usual type for what Polars exports as a large, viewed or coded one."""
    t = pa.types
    if t.is_dictionary(dtype) or t.is_large_string(dtype) or t.is_string_view(dtype):
        return pa.string()
    if t.is_large_binary(dtype) or t.is_binary_view(dtype):
        return pa.binary()
    if t.is_large_list(dtype) or t.is_list(dtype):
        return pa.list_(_plain(dtype.value_type))
    if t.is_fixed_size_list(dtype):
        return pa.list_(_plain(dtype.value_type), dtype.list_size)
    if t.is_struct(dtype):
        inner = [dtype.field(i) for i in range(dtype.num_fields)]
        return pa.struct([f.with_type(_plain(f.type)) for f in inner])
    return dtype
