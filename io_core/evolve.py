"""How may a table's schema change? Explicit updates, and which of them the data there allows.

Without `allow_incompatible_changes` every file written so far must stay readable without loss:
columns come with a default or nullable, none goes, types only widen. Field ids are never used
twice, and no name that files of an older schema may still hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa

from io_core.defaults import FUTURE_DEFAULT, PAST_DEFAULT, dump_default, json_default
from io_core.described import own_metadata
from io_core.errors import SchemaValidationError, nearest
from io_core.field_ids import carry_ids, field_id, fill_ids, highest_id, without_ids
from io_core.literal import kind_of
from io_core.merge_order import EVENT_TIME, MERGE_ORDER, is_ordering, load_merge_order
from io_core.schema import (
    CONSISTENCY,
    DOC,
    FIELD_ID,
    FROM_PARTITION,
    MERGE_KEY,
    RENAMED,
    WIDENED,
    SchemaField,
    arrow_field,
    merge_keys_of,
    schema_of,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "SchemaOperation",
    "SchemaUpdates",
    "check_name_free",
    "evolve",
    "retype",
    "widens",
]

# Bits of the integers that a float holds exactly.
_EXACT_BITS = {16: 11, 32: 24, 64: 53}
_UNITS = ("s", "ms", "us", "ns")


class SchemaOperation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change: `add` a field; `remove`, `update_type` of, or `rename` the one located.

    `field_locator` is the name of a top-level column. An update takes `new_type`, or in `field`
    the column's whole new definition: type, nullability, future default, consistency and doc.
    `rename`, which takes `new_name`, is this project's own.
    """

    op: Literal["add", "remove", "update_type", "rename"]
    field: SchemaField | None = None
    field_locator: str | None = None
    new_type: str | None = None
    new_name: str | None = None


class SchemaUpdates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes to make in order, all or none."""

    operations: tuple[SchemaOperation, ...]
    allow_incompatible_changes: bool = False


# What no change of a column takes from it.
_FIXED = (
    FIELD_ID,
    MERGE_KEY,
    MERGE_ORDER,
    EVENT_TIME,
    PAST_DEFAULT,
    WIDENED,
    RENAMED,
    FROM_PARTITION,
)


def evolve(
    schema: pa.Schema,
    updates: SchemaUpdates,
    *,
    history: Sequence[pa.Schema] = (),
    pinned: Collection[str] = (),
) -> pa.Schema:
    """The schema after some updates.

    Args:
        schema: The table's, with field ids.
        updates: What to change.
        history: Every schema that the table version ever had.
        pinned: Columns that its partition or sort scheme is made of, which have to stay.

    Raises:
        SchemaValidationError: A change that the rules do not allow; names the column and the rule.

    Example:
        >>> add = SchemaOperation("add", field=SchemaField("note", "string"))
        >>> evolve(pa.schema([("id", pa.int64())]), SchemaUpdates((add,))).names
        ['id', 'note']
    """
    if not updates.operations:
        raise SchemaValidationError("schema_updates has no operations: name at least one")
    forced = updates.allow_incompatible_changes
    # Which row won would change with them.
    pinned = {*pinned, *(field.name for field in schema if is_ordering(field))}
    past = [*history, schema]
    for operation in updates.operations:
        match operation.op:
            case "add":
                schema = _added(schema, operation, past, forced=forced)
            case "remove":
                schema = _removed(schema, operation, pinned, forced=forced)
            case "update_type":
                schema = _updated(schema, operation, pinned, forced=forced)
            case "rename":
                schema = _renamed(schema, operation, pinned, past)
        schema = fill_ids(schema, highest_id(past))
        past.append(schema)
    return schema_of(schema)


def _added(
    schema: pa.Schema, operation: SchemaOperation, past: Sequence[pa.Schema], *, forced: bool
) -> pa.Schema:
    field = operation.field
    if field is None:
        raise SchemaValidationError("add needs a field")
    check_name_free(field.name, schema, past)
    if field.is_merge_key:
        raise SchemaValidationError(
            f"column {field.name!r} cannot become a merge key: a table's keys never change"
        )
    if field.merge_order is not None or field.is_event_time:
        raise SchemaValidationError(
            f"column {field.name!r} cannot get a merge order: which rows of older files win never changes"
        )
    if field.field_id is not None:
        raise SchemaValidationError(
            f"column {field.name!r}: field ids are given by the planner; leave field_id out"
        )
    if not field.nullable and field.past_default is None and not forced:
        raise SchemaValidationError(
            f"column {field.name!r} is required, and the rows that are there have no value for it: "
            "make it nullable or give it a past_default"
        )
    added = arrow_field(field)
    return schema.append(added.with_type(without_ids(added.type)))


def check_name_free(name: str, schema: pa.Schema, past: Sequence[pa.Schema]) -> None:
    """Raise where a column of the name is there, or was there in an earlier schema.

    Raises:
        SchemaValidationError: Clients that match columns by name would take the one's values in
            older files for the other's.
    """
    for known in (schema, *past):
        for other in known.names:
            if other.lower() == name.lower():
                raise SchemaValidationError(_taken(name, other, removed=known is not schema))


def _taken(name: str, known: str, *, removed: bool) -> str:
    if removed:
        return (
            f"a column {known!r} was removed or renamed, and older files still hold it: "
            f"{name!r} cannot be added again, use another name"
        )
    if name == known:
        return f"column {name!r} is there already"
    return f"columns {known!r} and {name!r} differ in case only: use another name"


def _located(schema: pa.Schema, operation: SchemaOperation) -> int:
    name = operation.field_locator or (operation.field.name if operation.field else None)
    if name is None:
        raise SchemaValidationError(f"{operation.op} needs a field_locator: the column's name")
    index: int = schema.get_field_index(name)
    if index < 0:
        raise SchemaValidationError(f"unknown column {name!r}{nearest(name, schema.names)}")
    return index


def _removed(
    schema: pa.Schema, operation: SchemaOperation, pinned: Collection[str], *, forced: bool
) -> pa.Schema:
    index = _located(schema, operation)
    name = schema.field(index).name
    if not forced:
        raise SchemaValidationError(
            f"column {name!r} cannot be removed without allow_incompatible_changes"
        )
    if name in merge_keys_of(schema):
        raise SchemaValidationError(f"column {name!r} is a merge key: a table's keys never change")
    if name in pinned:
        raise SchemaValidationError(
            f"column {name!r} cannot be removed: the partition or sort scheme is made of it, "
            "or the merge order"
        )
    if len(schema) == 1:
        raise SchemaValidationError(f"column {name!r} cannot be removed: it is the last one")
    return schema.remove(index)


def _renamed(
    schema: pa.Schema,
    operation: SchemaOperation,
    pinned: Collection[str],
    past: Sequence[pa.Schema],
) -> pa.Schema:
    index = _located(schema, operation)
    old, name = schema.field(index), operation.new_name
    if not name:
        raise SchemaValidationError(f"rename of column {old.name!r} needs a new_name")
    if old.name in (*pinned, *merge_keys_of(schema)):
        raise SchemaValidationError(
            f"column {old.name!r} is a merge key, or a scheme is made of it, or the merge order: "
            "its name stays"
        )
    # Back to a name that it had itself is no mistake.
    number = field_id(old)
    others = [pa.schema([f for f in known if field_id(f) != number]) for known in past]
    check_name_free(name, schema.remove(index), others)
    metadata = {**(old.metadata or {}), RENAMED: b"true"}
    return schema.set(index, old.with_name(name).with_metadata(metadata))


def _updated(
    schema: pa.Schema, operation: SchemaOperation, pinned: Collection[str], *, forced: bool
) -> pa.Schema:
    index = _located(schema, operation)
    old = schema.field(index)
    if (operation.field is None) == (operation.new_type is None):
        raise SchemaValidationError(
            f"update_type of column {old.name!r} needs either new_type or field"
        )
    new = old.with_type(type_of(old.name, operation.new_type or "null"))
    if operation.field is not None:
        new = _redefined(old, operation.field, forced=forced)
    if new.type != old.type:
        new = _retyped(old, new, fixed=old.name in (*pinned, *merge_keys_of(schema)), forced=forced)
    return schema.set(index, new)


def _redefined(old: pa.Field, field: SchemaField, *, forced: bool) -> pa.Field:
    """The column as `field` describes it, if its fixed parts stay."""
    held = old.metadata or {}
    asked = arrow_field(msgspec.structs.replace(field, past_default=None))
    given = asked.metadata or {}
    if field.name != old.name:
        raise SchemaValidationError(
            f"column {old.name!r} is not renamed by update_type: use rename with new_name"
        )
    if field.is_merge_key != (held.get(MERGE_KEY) == b"true"):
        raise SchemaValidationError(f"column {old.name!r}: is_merge_key cannot be changed")
    if field.is_event_time != (held.get(EVENT_TIME) == b"true"):
        raise SchemaValidationError(f"column {old.name!r}: is_event_time cannot be changed")
    if load_merge_order(asked) != load_merge_order(old):
        raise SchemaValidationError(f"column {old.name!r}: merge_order cannot be changed")
    if field.field_id not in (None, field_id(old)):
        raise SchemaValidationError(f"column {old.name!r}: field_id cannot be changed")
    if field.past_default is not None and held.get(PAST_DEFAULT) != dump_default(
        old.name, field.past_default, old.type
    ):
        raise SchemaValidationError(
            f"column {old.name!r}: past_default cannot be changed: rows that are there hold it"
        )
    _check_transition(old, held.get(CONSISTENCY), given.get(CONSISTENCY))
    kept = {key: held[key] for key in _FIXED if key in held}
    ours = {key: given.get(key, held.get(key)) for key in (CONSISTENCY, FUTURE_DEFAULT, DOC)}
    given_anew = {key: value for key, value in ours.items() if value is not None}
    metadata = own_metadata(held) | kept | given_anew
    defaults = {PAST_DEFAULT, FUTURE_DEFAULT} <= metadata.keys()
    if old.nullable and not field.nullable and not defaults and not forced:
        raise SchemaValidationError(
            f"column {old.name!r} cannot become required without a past and a future default"
        )
    return asked.with_metadata(metadata)


def _check_transition(field: pa.Field, old: bytes | None, new: bytes | None) -> None:
    if old == b"none" and new in (b"coerce", b"validate"):
        raise SchemaValidationError(
            f"column {field.name!r}: consistency_type cannot go from none to {new.decode()}: "
            "what is there was never checked"
        )


def _retyped(old: pa.Field, new: pa.Field, *, fixed: bool, forced: bool) -> pa.Field:
    if fixed:
        raise SchemaValidationError(
            f"column {old.name!r} is a merge key, or a scheme is made of it, or the merge order: "
            f"its type {old.type} stays"
        )
    if not widens(old.type, new.type) and not (forced and _casts(old.type, new.type)):
        raise SchemaValidationError(
            f"column {old.name!r}: {old.type} does not widen to {new.type}; types may only widen"
        )
    return retype(old, new.type, new)


def retype(old: pa.Field, dtype: pa.DataType, like: pa.Field | None = None) -> pa.Field:
    """A column with another type: what is inside of it keeps its ids, and defaults are cast too.

    Args:
        old: The column as it is.
        dtype: Its new type.
        like: What else of it is new: name, nullability and metadata; None means nothing.

    Raises:
        SchemaValidationError: A default does not fit the type.
    """
    new = old if like is None else like
    dtype = carry_ids(old.type, dtype)
    metadata = dict(new.metadata or {})
    for key in (PAST_DEFAULT, FUTURE_DEFAULT):
        if key in metadata:
            described = old if metadata[key] == (old.metadata or {}).get(key) else new
            value = json_default(described, key)
            metadata[key] = dump_default(old.name, value, dtype)
    return new.with_type(dtype).with_metadata({**metadata, WIDENED: b"true"})


def _casts(old: pa.DataType, new: pa.DataType) -> bool:
    try:
        pa.nulls(0, old).cast(new)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def widens(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether every value of `old` is one of `new`, so that older files are read without loss.

    Integers and floats grow, integers become floats that hold them exactly, decimals gain digits,
    dates become timestamps, times a finer unit (below nanoseconds, whose range is shorter), texts
    and bytes change their layout, structs gain nullable fields; inside lists and maps likewise.

    Example:
        >>> widens(pa.int32(), pa.int64()), widens(pa.int64(), pa.float64())
        (True, False)
    """
    if old == new or pa.types.is_null(old):
        return True
    if pa.types.is_nested(old):
        return _nested_widens(old, new)
    if pa.types.is_integer(old):
        return _integer_widens(old, new)
    if pa.types.is_floating(old):
        return bool(pa.types.is_floating(new) and new.bit_width > old.bit_width)
    if pa.types.is_decimal(old):
        whole = old.precision - old.scale
        return bool(
            pa.types.is_decimal(new)
            and new.scale >= old.scale
            and new.precision - new.scale >= whole
            and new.bit_width >= old.bit_width
        )
    if pa.types.is_fixed_size_binary(new):
        # Another width would cut values, or fill them up.
        return False
    if kind_of(old) in ("text", "binary"):
        return kind_of(old) == kind_of(new) and not pa.types.is_fixed_size_binary(new)
    return _temporal_widens(old, new)


def _integer_widens(old: pa.DataType, new: pa.DataType) -> bool:
    signed = pa.types.is_signed_integer(old)
    if pa.types.is_integer(new):
        return bool(pa.types.is_signed_integer(new) == signed and new.bit_width > old.bit_width)
    bits = old.bit_width - 1 if signed else old.bit_width
    return bool(pa.types.is_floating(new) and bits <= _EXACT_BITS[new.bit_width])


def _temporal_widens(old: pa.DataType, new: pa.DataType) -> bool:
    t = pa.types
    if t.is_date32(old):
        plain = t.is_timestamp(new) and new.tz is None and new.unit != "ns"
        return bool(t.is_date64(new) or plain)
    if t.is_time(old):
        return bool(t.is_time(new) and _UNITS.index(new.unit) > _UNITS.index(old.unit))
    same = (t.is_timestamp(old) and t.is_timestamp(new) and old.tz == new.tz) or (
        t.is_duration(old) and t.is_duration(new)
    )
    return bool(same and new.unit != "ns" and _UNITS.index(new.unit) > _UNITS.index(old.unit))


def _nested_widens(old: pa.DataType, new: pa.DataType) -> bool:
    t = pa.types
    if t.is_struct(old) and t.is_struct(new):
        inner = {field.name: field for field in new}
        if len(inner) != new.num_fields or not {f.name for f in old} <= inner.keys():
            return False
        kept = all(_field_widens(field, inner[field.name]) for field in old)
        return kept and all(f.nullable for f in new if old.get_field_index(f.name) < 0)
    if t.is_map(old) and t.is_map(new):
        # A wider key could make two keys of one map equal to nobody's expectation.
        return bool(old.key_type == new.key_type and widens(old.item_type, new.item_type))
    if t.is_fixed_size_list(old):
        return bool(
            t.is_fixed_size_list(new)
            and new.list_size == old.list_size
            and _field_widens(old.value_field, new.value_field)
        )
    listed = (t.is_list(old) or t.is_large_list(old)) and (t.is_list(new) or t.is_large_list(new))
    return bool(listed and _field_widens(old.value_field, new.value_field))


def _field_widens(old: pa.Field, new: pa.Field) -> bool:
    return (new.nullable or not old.nullable) and widens(old.type, new.type)
