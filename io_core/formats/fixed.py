"""How do lists become lists of a fixed size, with nothing but nulls in the place of null ones?

Arrow's own cast leaves there what was in memory, and the next cast stumbles over that.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from io_core.formats.parts import any_part

__all__ = ["with_fixed_lists"]


def with_fixed_lists(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    """The array, its lists of a fixed size where `dtype` has such; flat parts keep their types.

    Args:
        array: Of the same shape as `dtype`, but for the kinds of its lists.
        dtype: A type without extension types in it.

    Raises:
        pa.ArrowInvalid: A list of another size.
    """
    t = pa.types
    if not any_part(dtype, t.is_fixed_size_list):
        return array
    found = array.type
    absent = pa.array(~_there(array), pa.bool_())
    if t.is_fixed_size_list(dtype) and (_is_listed(found) or t.is_fixed_size_list(found)):
        items = with_fixed_lists(_items(array, dtype.list_size), dtype.value_type)
        shape = pa.list_(dtype.value_field.with_type(items.type), dtype.list_size)
        return pa.FixedSizeListArray.from_arrays(items, type=shape, mask=absent)
    if t.is_struct(dtype) and t.is_struct(found) and found.num_fields == dtype.num_fields:
        parts = [with_fixed_lists(array.field(i), f.type) for i, f in enumerate(dtype)]
        fields = [f.with_type(part.type) for f, part in zip(found, parts, strict=True)]
        return pa.StructArray.from_arrays(parts, fields=fields, mask=absent)
    if t.is_map(dtype) and t.is_map(found):
        parts = [
            with_fixed_lists(array.keys, dtype.key_type),
            with_fixed_lists(array.items, dtype.item_type),
        ]
        shape = pa.map_(parts[0].type, parts[1].type)
        return pa.MapArray.from_arrays(_fresh(array.offsets), *parts, shape, mask=absent)
    if _is_listed(dtype) and _is_listed(found):
        items = with_fixed_lists(array.values, dtype.value_type)
        large = t.is_large_list(found)
        kind, make = (pa.LargeListArray, pa.large_list) if large else (pa.ListArray, pa.list_)
        shape = make(found.value_field.with_type(items.type))
        return kind.from_arrays(_fresh(array.offsets), items, shape, mask=absent)
    return array


def _is_listed(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype))


def _there(array: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = array.is_valid().to_numpy(
        zero_copy_only=False
    )
    return found


def _fresh(offsets: pa.Array) -> pa.Array:
    """Offsets in a buffer of their own: a mask goes with no others."""
    return pa.array(offsets.to_numpy())


def _items(array: pa.Array, size: int) -> pa.Array:
    """The items of each list, `size` nulls for a null one."""
    there = _there(array)
    if pa.types.is_fixed_size_list(array.type):
        starts = (np.arange(len(array)) + array.offset) * array.type.list_size
        sizes = np.full(len(array), array.type.list_size)
    else:
        ends = array.offsets.to_numpy().astype(np.int64)
        starts, sizes = ends[:-1], np.diff(ends)
    if wrong := (sizes[there] != size).sum():
        raise pa.ArrowInvalid(f"{wrong} lists are not of {size} items")
    if there.all():
        return array.values.slice(int(starts[0]) if len(starts) else 0, len(array) * size)
    places = (starts[:, None] + np.arange(size)).ravel()
    return array.values.take(pa.array(places, pa.int64(), mask=np.repeat(~there, size)))
