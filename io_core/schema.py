"""Arrow schemas on the wire, their field ids and flags, and the alignment of older files to them.

Field metadata carries what the table knows of a column: `PARQUET:field_id` (in every file that is
written here, so that columns can be renamed), `DELTACAT:merge_key`, what decides between rows of
one key (io_core.merge_order), `DELTACAT:consistency_type`, the defaults (io_core.defaults),
`DELTACAT:widened` where its type was another one before, and `DELTACAT:renamed` where its name was.
"""

from __future__ import annotations

import base64
import binascii
import functools
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import pyarrow as pa

from io_core.defaults import (
    FUTURE_DEFAULT,
    PAST_DEFAULT,
    dump_default,
    fill,
    json_default,
    load_default,
    nulls,
)
from io_core.described import own_metadata
from io_core.errors import SchemaValidationError, nearest
from io_core.field_ids import FIELD_ID, field_id, fill_ids, with_children
from io_core.keys import distinguishable
from io_core.literal import kind_of
from io_core.merge_order import (
    EVENT_TIME,
    MERGE_ORDER,
    check_ordering,
    dump_merge_order,
    is_ordering,
    load_merge_order,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "CONSISTENCY",
    "DOC",
    "FIELD_ID",
    "FROM_PARTITION",
    "MERGE_KEY",
    "RENAMED",
    "WIDENED",
    "Consistency",
    "SchemaField",
    "align",
    "arrow_field",
    "assign_field_ids",
    "check_columns",
    "check_exact",
    "consistency_of",
    "decode_schema",
    "encode_schema",
    "field_id",
    "fields_of",
    "merge_keys_of",
    "names_in_file",
    "needs_alignment",
    "same_layout",
    "schema_of",
    "type_of",
    "without_views",
]

Consistency = Literal["none", "coerce", "validate"]

MERGE_KEY = b"DELTACAT:merge_key"
CONSISTENCY = b"DELTACAT:consistency_type"
DOC = b"DELTACAT:doc"
# The column's type was another one once: older files hold that.
WIDENED = b"DELTACAT:widened"
# The column had another name once: older files have it under that.
RENAMED = b"DELTACAT:renamed"
# Files that were added as they are may lack the column: their partition's value stands for it.
FROM_PARTITION = b"DELTACAT:from_partition"
_KEPT = (
    FIELD_ID,
    MERGE_KEY,
    MERGE_ORDER,
    EVENT_TIME,
    CONSISTENCY,
    PAST_DEFAULT,
    FUTURE_DEFAULT,
    WIDENED,
    RENAMED,
    FROM_PARTITION,
    DOC,
)
_BASE64_TYPE = "arrow_schema_base64:"

_ALIASES: dict[str, pa.DataType] = {
    **{str(t): t for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.bool_())},
    **{str(t): t for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.null())},
    **{str(t): t for t in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())},
    **{str(t): t for t in (pa.string_view(), pa.binary_view())},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "halffloat": pa.float16(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "date32[day]": pa.date32(),
    "date64[ms]": pa.date64(),
    "utf8": pa.string(),
    "boolean": pa.bool_(),
    **{f"time32[{u}]": pa.time32(u) for u in ("s", "ms")},
    **{f"time64[{u}]": pa.time64(u) for u in ("us", "ns")},
    **{f"duration[{u}]": pa.duration(u) for u in ("s", "ms", "us", "ns")},
    **{f"timestamp[{u}]": pa.timestamp(u) for u in ("s", "ms", "us", "ns")},
}
_NAMES = {dtype: name for name, dtype in reversed(_ALIASES.items())}
_NAMES |= {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
_NAMES |= {pa.date32(): "date32", pa.date64(): "date64", pa.string(): "string", pa.bool_(): "bool"}


class SchemaField(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column as the protocol writes it; `type` is an Arrow type's name (see `schema_of`)."""

    name: str
    type: str
    nullable: bool = True
    field_id: int | None = None
    is_merge_key: bool = False
    is_event_time: bool = False
    # Any: {"sort_order": ..., "null_order": ...} on the wire.
    merge_order: dict[str, Any] | None = None
    consistency_type: str | None = None
    # Any: a JSON scalar of the column's type.
    past_default: Any = None
    future_default: Any = None
    doc: str | None = None


def schema_of(definition: str | Sequence[SchemaField] | pa.Schema) -> pa.Schema:
    """Read a schema definition: base64 of an Arrow IPC schema, a list of fields, or a schema.

    Type names are Arrow's (`int64`, `double` or `float64`, `timestamp[us, tz=UTC]`, ...); any
    other type is `arrow_schema_base64:` and the base64 of a schema with that one field.

    Raises:
        SchemaValidationError: Unreadable, an unknown type name, or two columns of one name.
        UnsupportedError: A field asks for a default where its type cannot have one.
    """
    if isinstance(definition, str):
        schema = decode_schema(definition)
    elif isinstance(definition, pa.Schema):
        schema = definition
    else:
        schema = pa.schema([arrow_field(field) for field in definition])
    seen: dict[str, str] = {}
    for field in schema:
        _check_text(field)
        _check_scale(field)
        _check_readable(field)
    for name, field in zip(schema.names, schema, strict=True):
        _check_metadata(field)
        if not name:
            raise SchemaValidationError("a column needs a name")
        if seen.get(name.lower()) == name:
            raise SchemaValidationError(f"there are several columns {name!r}: rename one")
        if name.lower() in seen:
            raise SchemaValidationError(
                f"columns {seen[name.lower()]!r} and {name!r} differ in case only: rename one"
            )
        seen[name.lower()] = name
    return schema


def _check_text(field: pa.Field) -> None:
    """Raise where a name, a zone or what is kept of the metadata is no text, however deep."""
    try:
        _texts(field)
    except UnicodeDecodeError as error:
        raise SchemaValidationError(f"a column's name or metadata is not UTF-8: {error}") from None


def _texts(field: pa.Field) -> list[str]:
    dtype = field.type
    found = [field.name, *(v.decode() for k, v in _metadata(field).items() if k in _KEPT)]
    if pa.types.is_timestamp(dtype) and dtype.tz is not None:
        found.append(dtype.tz)
    return found + [text for i in range(dtype.num_fields) for text in _texts(dtype.field(i))]


def _check_scale(field: pa.Field) -> None:
    dtype = field.type
    # No file can hold others, and literals of such a column would be numbers of any length.
    if pa.types.is_decimal(dtype) and not 0 <= dtype.scale <= dtype.precision:
        raise SchemaValidationError(
            f"column {field.name!r}: {dtype} needs a scale from 0 to {dtype.precision}"
        )


def _check_readable(field: pa.Field) -> None:
    # Parquet has no unions, and of run ends no reader gives back what was written.
    if pa.types.is_union(field.type) or pa.types.is_run_end_encoded(field.type):
        raise SchemaValidationError(
            f"column {field.name!r}: a table cannot hold {field.type}; cast it first"
        )


def arrow_field(field: SchemaField) -> pa.Field:
    """One field of the protocol as an Arrow field; see `schema_of`."""
    dtype = type_of(field.name, field.type)
    metadata: dict[bytes, bytes] = {}
    if field.field_id is not None:
        metadata[FIELD_ID] = str(field.field_id).encode()
    if field.is_merge_key:
        metadata[MERGE_KEY] = b"true"
    if field.merge_order is not None:
        metadata[MERGE_ORDER] = dump_merge_order(field.name, field.merge_order)
    if field.is_event_time:
        metadata[EVENT_TIME] = b"true"
    if field.consistency_type is not None:
        metadata[CONSISTENCY] = field.consistency_type.encode()
    past, future = field.past_default, field.future_default
    if past is not None:
        metadata[PAST_DEFAULT] = dump_default(field.name, past, dtype)
        future = past if future is None else future
    if future is not None:
        metadata[FUTURE_DEFAULT] = dump_default(field.name, future, dtype)
    if field.doc:
        metadata[DOC] = field.doc.encode()
    return pa.field(field.name, dtype, field.nullable, metadata or None)


def _check_metadata(field: pa.Field) -> None:
    metadata = _metadata(field)
    check_ordering(field)
    consistency = metadata.get(CONSISTENCY)
    allowed = [name.encode() for name in get_args(Consistency)]
    if MERGE_KEY in metadata or is_ordering(field):
        allowed = [b"validate"]
    if consistency is not None and consistency not in allowed:
        kinds = {"merge key": MERGE_KEY in metadata, "merge order": is_ordering(field)}
        of = next((kind for kind, holds in kinds.items() if holds), "column")
        raise SchemaValidationError(
            f"{of} {field.name!r}: consistency_type {consistency.decode(errors='replace')!r} is not "
            f"possible; use {' or '.join(a.decode() for a in allowed)}"
        )
    for key in (PAST_DEFAULT, FUTURE_DEFAULT):
        load_default(field, key)


def type_of(column: str, name: str) -> pa.DataType:
    """The Arrow type that a type's name means; `column` is for the error.

    Raises:
        SchemaValidationError: An unknown name.
    """
    if name.startswith(_BASE64_TYPE):
        fields = list(decode_schema(name.removeprefix(_BASE64_TYPE)))
        if len(fields) != 1:
            raise SchemaValidationError(
                f"column {column!r}: a type is a schema of one field, not of {len(fields)}"
            )
        return fields[0].type
    known = _ALIASES.get(name)
    if known is not None:
        return known
    unit, _, zone = name.removeprefix("timestamp[").removesuffix("]").partition(", tz=")
    if (
        name.startswith("timestamp[")
        and name.endswith("]")
        and unit in ("s", "ms", "us", "ns")
        and zone
    ):
        return pa.timestamp(unit, zone)
    raise SchemaValidationError(
        f"column {column!r}: unknown type {name!r}{nearest(name, _ALIASES)}; "
        f"other Arrow types are written as {_BASE64_TYPE}<one-field schema>"
    )


def _type_name(dtype: pa.DataType) -> str:
    if dtype in _NAMES:
        return _NAMES[dtype]
    if pa.types.is_timestamp(dtype):
        return str(dtype)
    return _BASE64_TYPE + encode_schema(pa.schema([pa.field("f", dtype)]))


def fields_of(schema: pa.Schema) -> list[SchemaField]:
    """Write an Arrow schema as the protocol's list of fields.

    Example:
        >>> fields_of(pa.schema([("x", pa.float64())]))[0].type
        'float64'
    """
    return [
        SchemaField(
            name=field.name,
            type=_type_name(field.type),
            nullable=field.nullable,
            field_id=field_id(field),
            is_merge_key=_metadata(field).get(MERGE_KEY) == b"true",
            is_event_time=_metadata(field).get(EVENT_TIME) == b"true",
            merge_order=load_merge_order(field),
            consistency_type=_metadata(field).get(CONSISTENCY, b"").decode() or None,
            past_default=json_default(field, PAST_DEFAULT),
            future_default=json_default(field, FUTURE_DEFAULT),
            doc=_metadata(field).get(DOC, b"").decode() or None,
        )
        for field in schema
    ]


def _metadata(field: pa.Field) -> dict[bytes, bytes]:
    return field.metadata or {}


def merge_keys_of(schema: pa.Schema) -> tuple[str, ...]:
    """Names of the merge keys, in schema order."""
    return tuple(f.name for f in schema if _metadata(f).get(MERGE_KEY) == b"true")


def _can_be_key(dtype: pa.DataType) -> bool:
    t = pa.types
    return not (t.is_floating(dtype) or t.is_interval(dtype) or t.is_nested(dtype))


def assign_field_ids(schema: pa.Schema, merge_keys: Iterable[str] = ()) -> pa.Schema:
    """Give every column, however deep, a field id (ids that are there stay); mark the merge keys.

    Raises:
        SchemaValidationError: Two columns with one id, an unknown merge key, or a merge key of a
            floating point or nested type.
    """
    keys = set(merge_keys) | set(merge_keys_of(schema))
    for key in keys:
        if key not in schema.names:
            raise SchemaValidationError(f"unknown merge key {key!r}{nearest(key, schema.names)}")
        dtype = schema.field(key).type
        if not _can_be_key(distinguishable(dtype)):
            raise SchemaValidationError(
                f"merge key {key!r} is of type {dtype}: floating point, interval and nested columns "
                "cannot be keys"
            )
    fields = []
    for field in fill_ids(schema):
        known = {k: v for k, v in _metadata(field).items() if k in _KEPT}
        metadata = own_metadata(field.metadata) | known
        if field.name in keys:
            metadata[MERGE_KEY] = b"true"
        if PAST_DEFAULT in metadata:
            metadata.setdefault(FUTURE_DEFAULT, metadata[PAST_DEFAULT])
        fields.append(field.with_metadata(metadata))
        _check_metadata(fields[-1])
    return pa.schema(fields, metadata=own_metadata(schema.metadata) or None)


def encode_schema(schema: pa.Schema) -> str:
    """Base64 of the Arrow IPC schema message."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


@functools.lru_cache(maxsize=256)
def decode_schema(text: str) -> pa.Schema:
    """The reverse of `encode_schema`.

    Raises:
        SchemaValidationError: No base64, or no Arrow schema in it.
    """
    try:
        raw = base64.b64decode(text, validate=True)
        return pa.ipc.read_schema(pa.py_buffer(raw))
    except (binascii.Error, ValueError, pa.ArrowException, OSError) as error:
        raise SchemaValidationError(
            f"schema is no base64 of an Arrow IPC schema: {error}"
        ) from None


def check_columns(columns: Iterable[str], schema: pa.Schema) -> None:
    """Raise where a column is not in the schema, with the nearest name that is.

    Raises:
        SchemaValidationError: An unknown column.
    """
    for column in columns:
        if column not in schema.names:
            raise SchemaValidationError(
                f"unknown column {column!r}{nearest(column, schema.names)}; "
                f"the table has: {', '.join(schema.names)}"
            )


def consistency_of(field: pa.Field, default: Consistency = "none") -> Consistency:
    """How a column's values have to fit it: merge keys exactly, others as it or the table says."""
    metadata = _metadata(field)
    if MERGE_KEY in metadata or is_ordering(field):
        return "validate"
    own = metadata.get(CONSISTENCY, b"").decode()
    return next((name for name in get_args(Consistency) if name == own), default)


def same_layout(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types are one but for the layout in memory, which engines choose by themselves.

    Example:
        >>> same_layout(pa.string(), pa.dictionary(pa.int8(), pa.large_string()))
        True
    """
    plain = [t.value_type if pa.types.is_dictionary(t) else t for t in (one, other)]
    if any(pa.types.is_fixed_size_binary(t) for t in plain):
        return bool(plain[0] == plain[1])
    return plain[0] == plain[1] or {kind_of(t) for t in plain} in ({"text"}, {"binary"})


def check_exact(
    given: pa.Schema, schema: pa.Schema, *, default: Consistency = "none", stored: bool = False
) -> None:
    """Raise where a column of consistency `validate` comes as another type than the table's.

    Layouts of one kind of text or bytes count as one type: engines choose them by themselves.

    Args:
        given: What comes.
        schema: The table's.
        default: The consistency of columns that have none of their own.
        stored: Whether `given` is a file's, whose format may have another unit of time.

    Raises:
        SchemaValidationError: Such a column.
    """
    for field in schema:
        index = given.get_field_index(field.name)
        if index < 0 or consistency_of(field, default) != "validate":
            continue
        found = given.field(index).type
        kinds = {kind_of(found), kind_of(field.type)}
        unit = stored and len(kinds) == 1 and kinds <= {"date", "time", "timestamp", "duration"}
        if not (same_layout(found, field.type) or unit):
            raise SchemaValidationError(
                f"column {field.name!r} takes {field.type} alone (consistency_type validate), "
                f"not {found}: cast it first"
            )


def without_views(dtype: pa.DataType) -> pa.DataType:
    """The type that Arrow can filter and take: its view types have no kernels for that yet.

    Example:
        >>> without_views(pa.list_(pa.string_view()))
        ListType(list<item: large_string>)
    """
    t = pa.types
    if t.is_string_view(dtype):
        return pa.large_string()
    if t.is_binary_view(dtype):
        return pa.large_binary()
    return with_children(dtype, lambda inner: inner.with_type(without_views(inner.type)))


def needs_alignment(schema: pa.Schema, columns: Iterable[str] | None = None) -> bool:
    """Whether files of an older schema hold other values, types or names than the table shows.

    An engine's own reader inserts nulls for a column that a file lacks, and no more than that.

    Args:
        schema: The table's.
        columns: Those that are read; None means all.
    """
    read = None if columns is None else set(columns)
    return any(
        key in _metadata(field)
        for field in schema
        for key in (PAST_DEFAULT, WIDENED, RENAMED, FROM_PARTITION)
        if read is None or field.name in read
    )


def names_in_file(schema: pa.Schema, writer: pa.Schema | None) -> dict[str, str]:
    """What a file calls the columns of `schema`, for those that it may have.

    Field ids decide, so that neither a renamed column nor another one of its name is mistaken.

    Args:
        schema: The columns that are read, with field ids.
        writer: The table's schema when the file was written; None means that names never changed.

    Example:
        >>> old, new = (assign_field_ids(pa.schema([(name, pa.int8())])) for name in ("a", "b"))
        >>> names_in_file(new, old)
        {'b': 'a'}
    """
    if writer is None:
        return {name: name for name in schema.names}
    known = {field_id(field): field.name for field in writer}
    return {f.name: known[field_id(f)] for f in schema if field_id(f) in known}


def align(table: pa.Table, schema: pa.Schema, *, default: bytes = PAST_DEFAULT) -> pa.Table:
    """Rows of an older or narrower file in the shape of `schema`.

    Columns are matched by name and cast where the type widened; missing ones hold their default,
    or null; extra ones are dropped. The result's schema is `schema` without its metadata, all
    columns nullable.

    Args:
        table: The rows.
        schema: What they are to look like.
        default: Which default fills a missing column: `PAST_DEFAULT` for a file that is read,
            `FUTURE_DEFAULT` for rows that are written.

    Raises:
        SchemaValidationError: A column cannot be cast without loss.
    """
    arrays = []
    for field in schema:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            arrays.append(fill(field, len(table), default))
            continue
        column = table.column(index)
        if pa.types.is_null(column.type):
            column = pa.chunked_array([nulls(len(table), field.type)])
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowException as error:
                raise SchemaValidationError(
                    f"column {field.name!r}: {column.type} does not fit {field.type}: {error}"
                ) from None
        arrays.append(column)
    shape = pa.schema([pa.field(f.name, f.type) for f in schema])
    if not arrays:
        return table.select([])
    return pa.table(arrays, schema=shape)
