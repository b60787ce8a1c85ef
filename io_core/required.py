"""Which required column, however deep, holds a null?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from io_core.field_ids import children

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["null_in_required"]


def null_in_required(values: pa.ChunkedArray, field: pa.Field) -> str | None:
    """The dotted name of the first required column, this one or one inside of it, with a null.

    What is below a null that is allowed does not count.

    Example:
        >>> item = pa.field("item", pa.int8(), nullable=False)
        >>> rows = pa.chunked_array([[[1], None, [None]]], pa.list_(pa.int8()))
        >>> null_in_required(rows, pa.field("a", pa.list_(item)))
        'a.item'
    """
    if not field.nullable and values.null_count:
        return str(field.name)
    if not _is_required(children(field.type)):
        return None
    for item in children(field.type):
        fixed = pa.types.is_fixed_size_list(field.type)
        if fixed and values.null_count and not item.nullable:
            # Arrow cannot read a Parquet file back where such a list is null.
            return f"{field.name}.{item.name}"
    # Rows without a value have nothing inside, whatever an array keeps there.
    valid = [chunk.filter(chunk.is_valid()) for chunk in values.chunks]
    for number, child in enumerate(children(field.type)):
        inside = pa.chunked_array([_inside(chunk, number) for chunk in valid] or [[]], child.type)
        found = null_in_required(inside, child)
        if found is not None:
            return f"{field.name}.{found}"
    return None


def _is_required(fields: Iterable[pa.Field]) -> bool:
    return any(not f.nullable or _is_required(children(f.type)) for f in fields)


def _inside(values: pa.Array, number: int) -> pa.Array:
    t, dtype = pa.types, values.type
    if t.is_map(dtype):
        entries = values.cast(pa.list_(pa.struct([dtype.key_field, dtype.item_field])))
        return pc.list_flatten(entries).field(number)
    return values.field(number) if t.is_struct(dtype) else pc.list_flatten(values)
