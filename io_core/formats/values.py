"""How do columns become plain Python values, nested ones too, and values columns again?

For formats that are written row by row. A `leaf` function does flat columns, in the format's own
way; structs are dicts, lists and fixed-size lists are lists, maps lists of pairs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # Any: values of the format's own.
    Dump = Callable[[pa.Array], list[Any]]
    Load = Callable[[Sequence[Any], pa.DataType], pa.Array]

__all__ = ["copied", "from_values", "to_values", "unsliced", "with_null_codes"]


# Any: see above, here and below.
def to_values(array: pa.Array, leaf: Dump, of_map: Callable[[list[Any]], Any] = list) -> list[Any]:
    """Values of an array; null is None.

    Args:
        array: What to write.
        leaf: Writes flat arrays.
        of_map: Makes a map's value of the list of its pairs.

    Example:
        >>> to_values(pa.array([[1], None, []]), pa.Array.to_pylist)
        [[1], None, []]
    """
    dtype = array.type
    if pa.types.is_struct(dtype):
        parts = [to_values(array.field(i), leaf, of_map) for i in range(dtype.num_fields)]
        names = [field.name for field in dtype]
        rows = zip(*parts, strict=True) if parts else itertools.repeat((), len(array))
        there = array.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(rows, there, strict=True)
        ]
    if pa.types.is_map(dtype):
        # Not by `keys` and `items`, which may be longer than the entries that they belong to.
        keys, items = (to_values(array.values.field(i), leaf, of_map) for i in range(2))
        pairs = list(zip(keys, items, strict=True))
        return [None if v is None else of_map(v) for v in _cut(pairs, array)]
    if not pa.types.is_nested(dtype):
        return leaf(array)
    if pa.types.is_fixed_size_list(dtype):
        each = iter(to_values(array.flatten(), leaf, of_map))
        there = array.is_valid().to_pylist()
        return [list(itertools.islice(each, dtype.list_size)) if v else None for v in there]
    return _cut(to_values(array.values, leaf, of_map), array)


def _cut(items: list[Any], array: pa.Array) -> list[Any]:
    """The items of each of an array's lists or maps."""
    bounds = itertools.pairwise(array.offsets.to_pylist())
    there = array.is_valid().to_pylist()
    return [items[a:b] if v else None for (a, b), v in zip(bounds, there, strict=True)]


def unsliced(table: pa.Table) -> pa.Table:
    """The rows in buffers of their own, where nested columns are parts of larger ones.

    pyarrow 25 mistakes the offsets of such parts, when it casts them and when it flattens them.
    """
    if not any(
        pa.types.is_nested(c.type) or isinstance(c.type, pa.BaseExtensionType)
        for c in table.columns
        if any(chunk.offset for chunk in c.chunks)
    ):
        return table
    return copied(table)


def with_null_codes(table: pa.Table) -> pa.Table:
    """The same rows with no null among the values of a dictionary, which most formats cannot hold.

    Example:
        >>> coded = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["a", None]))
        >>> with_null_codes(pa.table({"c": coded}))["c"].chunk(0).indices.to_pylist()
        [0, None]
    """
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(i)
            if any(chunk.dictionary.null_count for chunk in column.chunks):
                plain = column.cast(field.type.value_type)
                table = table.set_column(i, field, plain.dictionary_encode().cast(field.type))
    return table


def copied(table: pa.Table) -> pa.Table:
    """The rows in buffers of their own, aligned as Arrow recommends."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    aligned = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.At64Byte)
    return pa.ipc.open_stream(sink.getvalue(), options=aligned).read_all()


def from_values(values: Sequence[Any], dtype: pa.DataType, leaf: Load) -> pa.Array:
    """The reverse of `to_values`.

    Raises:
        ValueError: A value of another shape than the type.
    """
    if pa.types.is_struct(dtype):
        _check(values, dict, dtype)
        parts = [
            from_values([None if v is None else v.get(f.name) for v in values], f.type, leaf)
            for f in dtype
        ]
        mask = pa.array([v is None for v in values], pa.bool_())
        if not parts:
            return pa.array(values, dtype)
        return pa.StructArray.from_arrays(parts, fields=list(dtype), mask=mask)
    if not pa.types.is_nested(dtype):
        return leaf(values, dtype)
    if pa.types.is_map(dtype):
        values = [list(v.items()) if isinstance(v, dict) else v for v in values]
    _check(values, list, dtype)
    if pa.types.is_fixed_size_list(dtype):
        return _fixed(values, dtype, leaf)
    flat = list(itertools.chain.from_iterable(v for v in values if v is not None))
    ends = np.cumsum([0, *(0 if v is None else len(v) for v in values)])
    mask = np.array([*(v is None for v in values), False])
    large = pa.types.is_large_list(dtype)
    offsets = pa.array(ends, pa.int64() if large else pa.int32(), mask=mask)
    if pa.types.is_map(dtype):
        keys = from_values([e[0] for e in flat], dtype.key_type, leaf)
        items = from_values([e[1] for e in flat], dtype.item_type, leaf)
        return pa.MapArray.from_arrays(offsets, keys, items, dtype)
    kind = pa.LargeListArray if large else pa.ListArray
    return kind.from_arrays(offsets, from_values(flat, dtype.value_type, leaf), dtype)


def _fixed(values: Sequence[Any], dtype: pa.DataType, leaf: Load) -> pa.Array:
    for v in values:
        if v is not None and len(v) != dtype.list_size:
            raise ValueError(f"a list of {len(v)} items is no {dtype}")
    filler = [None] * dtype.list_size
    flat = list(itertools.chain.from_iterable(filler if v is None else v for v in values))
    mask = pa.array([v is None for v in values], pa.bool_())
    items = from_values(flat, dtype.value_type, leaf)
    return pa.FixedSizeListArray.from_arrays(items, type=dtype, mask=mask)


def _check(values: Sequence[Any], kind: type, dtype: pa.DataType) -> None:
    for v in values:
        if v is not None and not isinstance(v, kind):
            raise ValueError(f"{v!r:.80} is no {dtype}")
