"""What do rows' writers say of a schema and its columns, in words that are none of a library's?

Arrow lets a schema and each of its columns carry any keys and values. What the first write of a table, or
`create_table`, says there is kept by the table and comes back with the rows. What libraries note
for themselves is left out: it is of one file or frame, and would be wrong of the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["described", "own_metadata"]

# This project's, Parquet's, Arrow's, Polars' and Spark's own.
_PREFIXES = (b"DELTACAT:", b"PARQUET:", b"ARROW:", b"_PL_", b"org.apache.spark.")
_NAMES = frozenset((b"pandas", b"iceberg.schema"))


def own_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    """What no library keeps for itself.

    Example:
        >>> own_metadata({b"unit": b"mm", b"PARQUET:field_id": b"1", b"pandas": b"{}"})
        {b'unit': b'mm'}
    """
    return {
        key: value
        for key, value in (metadata or {}).items()
        if key not in _NAMES and not key.startswith(_PREFIXES)
    }


def described(shape: pa.Schema, schema: pa.Schema) -> pa.Schema:
    """Columns of a table with what was said of them and of the table.

    Args:
        shape: Some columns, in any order.
        schema: The table's.

    Example:
        >>> table = pa.schema([pa.field("x", pa.int8(), metadata={"unit": "mm"})], metadata={"a": "b"})
        >>> found = described(pa.schema([("x", pa.int8())]), table)
        >>> found.metadata, found.field("x").metadata
        ({b'a': b'b'}, {b'unit': b'mm'})
    """
    fields = [
        field.with_metadata(own_metadata(schema.field(field.name).metadata) or None)
        for field in shape
    ]
    return pa.schema(fields, metadata=own_metadata(schema.metadata) or None)
