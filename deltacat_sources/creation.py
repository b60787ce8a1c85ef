"""Which table does a sink make for rows of an Arrow schema, and is the one that is there as asked?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.errors import SchemaValidationError
from io_core.schema import assign_field_ids, check_columns, encode_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.model import WriteSession

__all__ = ["check_layout", "creation", "plain_schema"]


def _names(columns: str | Sequence[str] | None) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or ())


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Arrow's usual types for what engines export as large, viewed or coded ones.

    Example:
        >>> plain_schema(pa.schema([("x", pa.large_list(pa.large_string()))]))
        x: list<item: string>
          child 0, item: string
    """
    return pa.schema([pa.field(field.name, _plain(field.type)) for field in schema])


def _plain(dtype: pa.DataType) -> pa.DataType:
    t = pa.types
    if t.is_dictionary(dtype):
        return _plain(dtype.value_type)
    if t.is_large_string(dtype) or t.is_string_view(dtype):
        return pa.string()
    if t.is_large_binary(dtype) or t.is_binary_view(dtype):
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


def creation(
    schema: pa.Schema,
    partition_by: str | Sequence[str] | None,
    merge_keys: str | Sequence[str] | None,
) -> dict[str, Any]:
    """What to make a table with, in the protocol's words.

    Args:
        schema: The rows', of plain types.
        partition_by: Columns whose values divide the table.
        merge_keys: Columns that identify a row.

    Raises:
        SchemaValidationError: A column that a table cannot hold, or an unknown one.
    """
    for field in schema:
        if pa.types.is_null(field.type):
            raise SchemaValidationError(
                f"column {field.name!r} is of no type, which a table cannot hold: cast it first"
            )
    arrow = assign_field_ids(schema, _names(merge_keys))
    check_columns(_names(partition_by), arrow)
    # Any: the protocol's free-form properties.
    properties: dict[str, Any] = {"schema_def": encode_schema(arrow), "auto_create_namespace": True}
    if partition_by:
        keys = [{"key": [name], "transform": "identity"} for name in _names(partition_by)]
        properties["partition_scheme"] = {"keys": keys}
    return properties


def check_layout(
    session: WriteSession,
    partition_by: str | Sequence[str] | None,
    merge_keys: str | Sequence[str] | None,
) -> None:
    """Refuse a layout that is asked for and that a table which is there does not have.

    Raises:
        SchemaValidationError: Other merge keys or partitions.
    """
    name = f"{session.namespace}.{session.table}"
    if merge_keys is not None and set(_names(merge_keys)) != set(session.merge_keys or ()):
        raise SchemaValidationError(
            f"{name} has the merge keys {session.merge_keys or []}, not {_names(merge_keys)}: "
            "leave merge_keys out"
        )
    keys = session.partition_scheme.keys if session.partition_scheme else ()
    there = [(key.key[0], key.transform or "identity") for key in keys]
    if partition_by is not None and there != [(n, "identity") for n in _names(partition_by)]:
        raise SchemaValidationError(
            f"{name} is partitioned by {there}, not by {_names(partition_by)}: leave partition_by out"
        )
