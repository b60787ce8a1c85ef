"""What schema does a table have when rows of another one have been written to it?

A write may add columns (`schema_evolution_mode` auto) and give a column a wider type (columns of
consistency `none`). The result is the table's schema from that commit on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from io_core.described import own_metadata
from io_core.errors import SchemaValidationError, nearest
from io_core.evolve import check_name_free, retype, widens
from io_core.field_ids import (
    carry_required,
    fill_ids,
    highest_id,
    loosened,
    without_ids,
)
from io_core.literal import kind_of
from io_core.schema import CONSISTENCY, FROM_PARTITION, check_exact, consistency_of, same_layout

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from io_core.schema import Consistency

__all__ = ["Growth", "check_file_fits", "common_type", "fits", "grow", "unknown_column"]

# In the order in which they are tried.
_NUMBERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())
_TEMPORAL = frozenset({"date", "time", "timestamp", "duration"})


class Growth(NamedTuple):
    """How a table's schema may change by a write.

    Attributes:
        adds_columns: Whether unknown columns are appended; otherwise they are left out.
        consistency: Of columns that say nothing of their own; kept by those that are added, where
            the table says so.
        stamped: Whether that consistency is the table's own word.
        pinned: Columns that its partition or sort scheme is made of: their types stay.
        history: Every schema that the table version ever had.
    """

    adds_columns: bool = True
    consistency: Consistency = "none"
    stamped: bool = False
    pinned: Collection[str] = ()
    history: Sequence[pa.Schema] = ()


def grow(schema: pa.Schema, given: pa.Schema, rules: Growth, *, numbered: bool = True) -> pa.Schema:
    """The table's schema with room for rows of another one; the same where they fit as they are.

    Columns of consistency `none` become the narrowest type that holds every value of both; where
    there is none, they stay as they are. New columns are nullable, and come last. What the rows'
    schema says of columns and table counts for new columns alone.

    Args:
        schema: The table's, with field ids.
        given: That of the rows.
        rules: What the table allows.
        numbered: Whether new columns get field ids, which the planner alone can give.

    Raises:
        SchemaValidationError: A new column has a name that cannot be had.

    Example:
        >>> table = pa.schema([("a", pa.int32())])
        >>> rows = pa.schema([("a", pa.int64()), ("b", pa.string())])
        >>> grow(table, rows, Growth()).types
        [DataType(int64), DataType(string)]
    """
    if fits(schema, given):
        return schema
    fields = {field.name: field for field in schema}
    for field in given:
        known = fields.get(field.name)
        if known is not None:
            fields[field.name] = _marked(_promoted(known, field.type, rules), field, rules)
        elif rules.adds_columns:
            check_name_free(field.name, pa.schema(list(fields.values())), rules.history)
            fields[field.name] = _appended(field, rules)
    same = zip(fields.values(), schema, strict=False)
    if len(fields) == len(schema) and all(a.equals(b, check_metadata=True) for a, b in same):
        return schema
    grown = pa.schema(list(fields.values()), metadata=schema.metadata)
    return fill_ids(grown, highest_id([schema, *rules.history])) if numbered else grown


def fits(schema: pa.Schema, given: pa.Schema) -> bool:
    """Whether a table's schema has each column of rows, of its type: then nothing about it changes.

    Example:
        >>> table = pa.schema([("a", pa.int32()), ("b", pa.string())])
        >>> fits(table, pa.schema([("a", pa.int32())])), fits(table, pa.schema([("a", pa.int64())]))
        (True, False)
    """
    types = dict(zip(schema.names, schema.types, strict=True))
    return all(
        types.get(field.name) == field.type and FROM_PARTITION not in (field.metadata or {})
        for field in given
    )


def _appended(field: pa.Field, rules: Growth) -> pa.Field:
    stamp = {CONSISTENCY: rules.consistency.encode()} if rules.stamped else {}
    metadata = own_metadata(field.metadata) | stamp
    return pa.field(field.name, without_ids(field.type), nullable=True, metadata=metadata or None)


def _marked(field: pa.Field, given: pa.Field, rules: Growth) -> pa.Field:
    """The table's column; one that partitions it may be said to be missing in files."""
    if FROM_PARTITION not in (given.metadata or {}) or field.name not in rules.pinned:
        return field
    return field.with_metadata({**(field.metadata or {}), FROM_PARTITION: b"true"})


def _promoted(field: pa.Field, given: pa.DataType, rules: Growth) -> pa.Field:
    if consistency_of(field, rules.consistency) != "none" or field.name in rules.pinned:
        return field
    # Whether a part of it may be null is no matter of types: no write loosens that.
    loose = loosened(field.type)
    found = common_type(loose, loosened(given))
    if found in (None, loose):
        return field
    return retype(field, carry_required(field.type, found))


def common_type(old: pa.DataType, given: pa.DataType) -> pa.DataType | None:
    """The narrowest type that holds every value of both; None where there is none.

    Layouts of one kind of text or bytes count as one type, the old one.

    Example:
        >>> common_type(pa.int16(), pa.float32()), common_type(pa.int64(), pa.float64())
        (DataType(float), None)
    """
    if same_layout(old, given) or widens(given, old):
        return old
    t = pa.types
    if (t.is_null(old) or _sort_of(old) == _sort_of(given)) and widens(old, given):
        return given
    if t.is_struct(old) and t.is_struct(given):
        return _common_struct(old, given)
    if (t.is_list(old) or t.is_large_list(old)) and (t.is_list(given) or t.is_large_list(given)):
        item = common_type(old.value_type, given.value_type)
        made = pa.list_ if t.is_list(old) else pa.large_list
        return None if item is None else made(old.value_field.with_type(item).with_nullable(True))
    if t.is_map(old) and t.is_map(given) and same_layout(old.key_type, given.key_type):
        item = common_type(old.item_type, given.item_type)
        return None if item is None else pa.map_(old.key_field, old.item_field.with_type(item))
    if t.is_decimal(old) and t.is_decimal(given):
        scale = max(old.scale, given.scale)
        digits = max(old.precision - old.scale, given.precision - given.scale) + scale
        found = (
            d for d in (pa.decimal128, pa.decimal256) if digits <= (38, 76)[d is pa.decimal256]
        )
        return next((d(digits, scale) for d in found), None)
    return next((n for n in _NUMBERS if widens(old, n) and widens(given, n)), None)


def _sort_of(dtype: pa.DataType) -> str:
    # A date becomes a timestamp by a decision, and not by a write.
    return "number" if pa.types.is_floating(dtype) else kind_of(dtype)


def _common_struct(old: pa.StructType, given: pa.StructType) -> pa.DataType | None:
    there = {field.name: field for field in given}
    fields = []
    for field in old:
        other = there.pop(field.name, field)
        found = common_type(field.type, other.type)
        if found is None:
            return None
        fields.append(field.with_type(found))
    return pa.struct([*fields, *(f.with_nullable(True) for f in there.values())])


def unknown_column(table: str, column: str, known: Sequence[str]) -> SchemaValidationError:
    """The error of rows with a column that their table does not have, and does not take."""
    return SchemaValidationError(
        f"{table} has no column {column!r}{nearest(column, known)}; it has: {', '.join(known)}"
    )


def check_file_fits(given: pa.Schema, schema: pa.Schema, table: str, rules: Growth) -> None:
    """Raise where a file holds columns or types that the table's schema has no room for.

    Args:
        given: The file's schema, as it says.
        schema: The table's, grown by the file.
        table: Its name, for the error.
        rules: What the table allows.

    Raises:
        SchemaValidationError: Such a column.
    """
    check_exact(given, schema, default=rules.consistency, stored=True)
    for field in given:
        index = schema.get_field_index(field.name)
        if index < 0:
            raise unknown_column(table, field.name, schema.names)
        dtype = schema.field(index).type
        kinds = {kind_of(field.type), kind_of(dtype)}
        # What formats make of units, and of types that they lack, is checked value by value.
        alike = len(kinds) == 1 and bool(kinds & {"other", *_TEMPORAL})
        if not (widens(field.type, dtype) or same_layout(field.type, dtype) or alike):
            raise SchemaValidationError(
                f"column {field.name!r} of {table} is {dtype}, and a file holds {field.type}: "
                "no type holds the values of both"
            )
