"""Which number does each column keep for ever, those inside of lists, structs and maps included?

Ids stand in the Arrow fields' metadata as `PARQUET:field_id`, so that writers put them into files.
Top-level columns come first, then what is inside of them, in order; an id is never used twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from io_core.described import own_metadata
from io_core.errors import SchemaValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "FIELD_ID",
    "all_field_ids",
    "carry_ids",
    "carry_required",
    "children",
    "field_id",
    "fill_ids",
    "highest_id",
    "loosened",
    "with_children",
    "without_ids",
]

FIELD_ID = b"PARQUET:field_id"
# Parquet counts them in 32 bits; columns that are added later need some above.
_HIGHEST_ID = 2**30


def field_id(field: pa.Field) -> int | None:
    """The column's number, which outlives its name; None where it has none yet."""
    text = (field.metadata or {}).get(FIELD_ID)
    return int(text) if text is not None else None


def all_field_ids(fields: Iterable[pa.Field]) -> Iterator[int]:
    """Every id of some columns, however deep."""
    for field in fields:
        found = field_id(field)
        if found is not None:
            yield found
        yield from all_field_ids(children(field.type))


def highest_id(schemas: Iterable[pa.Schema]) -> int:
    """The highest id that any of the schemas uses; 0 for none."""
    return max((i for schema in schemas for i in all_field_ids(schema)), default=0)


def fill_ids(schema: pa.Schema, above: int = 0) -> pa.Schema:
    """Give an id to every column that has none, however deep; ids that are there stay.

    Args:
        schema: The columns; what is inside of them keeps no other project's metadata.
        above: New ids are greater than this, and than any that is there.

    Raises:
        SchemaValidationError: Two columns with one id, or one that Parquet cannot hold.

    Example:
        >>> found = fill_ids(pa.schema([("a", pa.list_(pa.int8())), ("b", pa.int8())]))
        >>> list(all_field_ids(found))
        [1, 3, 2]
    """
    taken = list(all_field_ids(schema))
    if len(taken) != len(set(taken)):
        raise SchemaValidationError(f"field ids are not unique: {sorted(taken)}")
    if not all(0 <= number <= _HIGHEST_ID for number in taken):
        raise SchemaValidationError(f"field ids go from 0 to {_HIGHEST_ID}: {sorted(taken)}")
    following = _Counter(max([above, *taken]))
    fields = [_numbered(field, following) for field in schema]
    filled = [f.with_type(_fill_inside(f.type, following)) for f in fields]
    return pa.schema(filled, metadata=schema.metadata)


class _Counter:
    """Counts on from a number."""

    def __init__(self, last: int) -> None:
        self._last = last

    def __call__(self) -> int:
        self._last += 1
        return self._last


def _numbered(field: pa.Field, following: _Counter) -> pa.Field:
    if field_id(field) is not None:
        return field
    return field.with_metadata({**(field.metadata or {}), FIELD_ID: str(following()).encode()})


def _fill_inside(dtype: pa.DataType, following: _Counter) -> pa.DataType:
    def filled(child: pa.Field) -> pa.Field:
        known = {k: v for k, v in (child.metadata or {}).items() if k == FIELD_ID}
        kept = own_metadata(child.metadata) | known
        numbered = _numbered(child.with_metadata(kept), following)
        return numbered.with_type(_fill_inside(child.type, following))

    return with_children(dtype, filled)


def without_ids(dtype: pa.DataType) -> pa.DataType:
    """The type without the ids of what is inside of it."""
    return with_children(
        dtype, lambda child: child.remove_metadata().with_type(without_ids(child.type))
    )


def carry_ids(old: pa.DataType, new: pa.DataType) -> pa.DataType:
    """The new type with the old one's ids, for what both have inside: by name, or by its place."""

    def carried(known: pa.Field | None, child: pa.Field) -> pa.Field:
        if known is None:
            return child.remove_metadata().with_type(without_ids(child.type))
        return child.with_metadata(known.metadata)

    return _matched(old, new, carried)


def carry_required(old: pa.DataType, new: pa.DataType) -> pa.DataType:
    """The new type, with what the old one has inside as required as it is there.

    Example:
        >>> item = pa.field("item", pa.int8(), nullable=False)
        >>> carry_required(pa.list_(item), pa.list_(pa.int16()))
        ListType(list<item: int16 not null>)
    """
    return _matched(old, new, lambda known, f: f.with_nullable(known.nullable) if known else f)


def _matched(
    old: pa.DataType, new: pa.DataType, carried: Callable[[pa.Field | None, pa.Field], pa.Field]
) -> pa.DataType:
    held = {_place(old, i, f): f for i, f in enumerate(children(old))}
    places = iter([_place(new, i, f) for i, f in enumerate(children(new))])

    def changed(child: pa.Field) -> pa.Field:
        known = held.get(next(places))
        made = carried(known, child)
        return made if known is None else made.with_type(_matched(known.type, made.type, carried))

    return with_children(new, changed)


def loosened(dtype: pa.DataType) -> pa.DataType:
    """The type with nothing required inside of it, but a map's keys."""
    keyed = pa.types.is_map(dtype)
    return with_children(
        dtype,
        lambda f: f.with_nullable(not (keyed and f.name == dtype.key_field.name)).with_type(
            loosened(f.type)
        ),
    )


def _place(dtype: pa.DataType, index: int, field: pa.Field) -> str | int:
    return field.name if pa.types.is_struct(dtype) else index


def children(dtype: pa.DataType) -> list[pa.Field]:
    """What is inside of a type, one level down: items, fields, or keys and values."""
    t = pa.types
    if t.is_map(dtype):
        return [dtype.key_field, dtype.item_field]
    if t.is_struct(dtype):
        return list(dtype)
    if t.is_list(dtype) or t.is_large_list(dtype) or t.is_fixed_size_list(dtype):
        return [dtype.value_field]
    return []


def with_children(dtype: pa.DataType, changed: Callable[[pa.Field], pa.Field]) -> pa.DataType:
    """The type with each field inside of it, one level down, changed; flat types stay.

    Example:
        >>> with_children(pa.list_(pa.int8()), lambda f: f.with_type(pa.int16()))
        ListType(list<item: int16>)
    """
    t = pa.types
    inner = [changed(child) for child in children(dtype)]
    if t.is_map(dtype):
        return pa.map_(*inner, keys_sorted=dtype.keys_sorted)
    if t.is_struct(dtype):
        return pa.struct(inner)
    if t.is_fixed_size_list(dtype):
        return pa.list_(inner[0], dtype.list_size)
    if t.is_list(dtype):
        return pa.list_(inner[0])
    if t.is_large_list(dtype):
        return pa.large_list(inner[0])
    return dtype
