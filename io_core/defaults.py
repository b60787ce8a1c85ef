"""Which value stands where a file, or a write, lacks a column?

A column's `past_default` is what the rows of files without it hold, `future_default` what a write
without it puts there; without one it is null. A null that was stored stays null. Both are kept in
the Arrow field's metadata, MessagePack in base64.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.literal import dump_literal, kind_of, load_array

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "FUTURE_DEFAULT",
    "PAST_DEFAULT",
    "dump_default",
    "fill",
    "filled",
    "json_default",
    "load_default",
    "nulls",
]

PAST_DEFAULT = b"DELTACAT:past_default"
FUTURE_DEFAULT = b"DELTACAT:future_default"


def dump_default(column: str, value: object, dtype: pa.DataType) -> bytes:
    """Write a default, a JSON scalar, as the metadata of its column keeps it.

    Raises:
        SchemaValidationError: The type cannot hold the value.
        UnsupportedError: Values of the type have no JSON form.
    """
    found = _scalar(column, value, dtype)
    plain = kind_of(dtype) in ("bool", "text", "binary") or _is_machine_number(dtype)
    # As other clients of the protocol read it: numbers, texts and bytes as they are.
    packed = found.as_py() if plain else dump_literal(found)
    return base64.b64encode(msgspec.msgpack.encode(packed))


def load_default(field: pa.Field, key: bytes) -> pa.Scalar | None:
    """The default that a column has, of the column's type.

    Raises:
        SchemaValidationError: The metadata cannot be read, or the type cannot hold the value.

    Example:
        >>> five = {PAST_DEFAULT: dump_default("x", 5, pa.int8())}
        >>> load_default(pa.field("x", pa.int64(), metadata=five), PAST_DEFAULT)
        <pyarrow.Int64Scalar: 5>
    """
    text = (field.metadata or {}).get(key)
    if text is None:
        return None
    try:
        value = msgspec.msgpack.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise SchemaValidationError(
            f"column {field.name!r}: {key.decode()} cannot be read: {error}"
        ) from None
    return None if value is None else _scalar(field.name, value, field.type)


# Any: a JSON scalar of the column's type.
def json_default(field: pa.Field, key: bytes) -> Any:
    """The default that a column has, as the protocol writes it; None where there is none."""
    found = load_default(field, key)
    return None if found is None else dump_literal(found)


def filled(schema: pa.Schema, present: Collection[str]) -> set[str]:
    """Columns that a write may leave out, because a future default fills them in."""
    lacking = [field for field in schema if field.name not in present]
    return {field.name for field in lacking if FUTURE_DEFAULT in (field.metadata or {})}


def fill(field: pa.Field, rows: int, key: bytes) -> pa.ChunkedArray:
    """What stands in `rows` rows that lack the column: its default, or nulls."""
    found = load_default(field, key)
    if found is None or rows == 0:
        return pa.chunked_array([nulls(rows, field.type)])
    return pa.chunked_array([pa.repeat(found, rows)])


def nulls(rows: int, dtype: pa.DataType) -> pa.Array:
    """So many nulls, with nothing below them where a struct's fields are required."""
    # `pa.nulls` puts nulls there too, and Parquet's writer refuses them.
    return pa.array([None] * rows, dtype) if pa.types.is_nested(dtype) else pa.nulls(rows, dtype)


def _is_machine_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _scalar(column: str, value: object, dtype: pa.DataType) -> pa.Scalar:
    if kind_of(dtype) == "other":
        raise UnsupportedError(f"column {column!r}: columns of type {dtype} cannot have a default")
    if pa.types.is_floating(dtype):
        # Decimal fractions have no exact float: the nearest one is meant.
        found = load_array([value], pa.float64()).cast(dtype, safe=False)[0]
    else:
        found = load_array([value], dtype)[0]
    if not found.is_valid:
        raise SchemaValidationError(f"column {column!r}: {value!r} is no value of type {dtype}")
    return found
