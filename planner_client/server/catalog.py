"""What do the names in a catalog stand for at a snapshot, and how do its objects come and go?

Namespaces, tables and versions are rows of the ledger that begin and end with snapshots: a change
ends one row and begins another of the same object.
"""

from __future__ import annotations

import functools
import re
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from io_core.errors import (
    ConcurrentModificationError,
    NotFoundError,
    SchemaValidationError,
    UnsupportedError,
    nearest,
)
from io_core.model import PartitionScheme, SortScheme, check_name
from io_core.partition import check_scheme
from io_core.schema import SchemaField, assign_field_ids, merge_keys_of, schema_of
from planner_client.server.conflicts import Change
from planner_client.server.properties import content_types_of, version_properties
from planner_client.server.store import AT, at

if TYPE_CHECKING:
    from collections.abc import Collection

    from planner_client.protocol.tables import CreateTable
    from planner_client.server.store import View, Write

__all__ = [
    "Definition",
    "Namespace",
    "Table",
    "Version",
    "add_missing",
    "add_namespace",
    "add_schema",
    "add_table",
    "add_version",
    "check_sort_scheme",
    "define",
    "dumps",
    "end",
    "end_partitions",
    "existing_table",
    "expect_table",
    "find_namespace",
    "find_table",
    "find_version",
    "loads",
    "schemas_by_id",
    "schemas_of",
    "supersede",
    "with_id",
]

_VERSION = re.compile(r"(?:\w+\.)?(\d{1,18})", re.ASCII)
_LONGEST_VERSION = 1024
# What scheme ids are derived from, besides their keys.
_SCHEMES = uuid.UUID("6f1d9a4e-3a0b-4c1e-9d53-7be6b1a2c0f4")

S = TypeVar("S")
Scheme = TypeVar("Scheme", PartitionScheme, SortScheme)


class Definition(NamedTuple):
    """What a table is to be: checked, with field ids and scheme ids assigned; schemaless if None."""

    schema: pa.Schema | None
    partition_scheme: PartitionScheme | None
    sort_scheme: SortScheme | None


class Namespace(NamedTuple):
    """A namespace as a snapshot shows it."""

    row_id: int
    namespace_id: int
    name: str
    # Any: free-form properties.
    properties: dict[str, Any] | None


class Table(NamedTuple):
    """A table as a snapshot shows it."""

    row_id: int
    table_id: int
    uuid: str
    namespace: str
    name: str
    description: str | None
    # Any: free-form properties.
    properties: dict[str, Any] | None


class Version(NamedTuple):
    """A table version as a snapshot shows it; without a schema it is schemaless."""

    row_id: int
    version_id: int
    stream_uuid: str
    version: str
    lifecycle_state: str
    description: str | None
    # Any: free-form properties.
    properties: dict[str, Any]
    content_types: tuple[str, ...]
    namespace: str
    table: str
    table_id: int
    table_uuid: str
    schema_id: int
    schema: pa.Schema | None
    merge_keys: tuple[str, ...]
    partition_scheme: PartitionScheme | None
    sort_scheme: SortScheme | None


def loads(text: str | None, kind: type[S]) -> S | None:
    """Read what `dumps` wrote."""
    return None if text is None else msgspec.json.decode(text, type=kind)


def dumps(value: object) -> str | None:
    """A value as the ledger's JSON text; null for None."""
    return None if value is None else msgspec.json.encode(value).decode()


# --- finding --------------------------------------------------------------------------------------


def find_namespace(view: View, name: str) -> Namespace:
    """The namespace that a name means.

    Raises:
        NotFoundError: None; offers the nearest name.
    """
    found = view.db.execute(
        f"SELECT row_id, namespace_id, properties FROM namespace WHERE name = ?3 AND {AT}",
        (*view.at, name),
    ).fetchone()
    if found is None:
        known = view.db.execute(f"SELECT name FROM namespace WHERE {AT}", view.at)
        raise NotFoundError.of("namespace", name, [row[0] for row in known])
    return Namespace(int(found[0]), int(found[1]), name, loads(found[2], dict))


def find_table(view: View, namespace: str, table: str) -> Table:
    """The table that a name means.

    Raises:
        NotFoundError: No such namespace or table; offers the nearest name.
    """
    owner = find_namespace(view, namespace)
    found = view.db.execute(
        "SELECT row_id, table_id, uuid, description, properties, purged FROM tbl"
        f" WHERE namespace_id = ?3 AND name = ?4 AND {AT}",
        (*view.at, owner.namespace_id, table),
    ).fetchone()
    if found is None:
        known = view.db.execute(
            f"SELECT name FROM tbl WHERE namespace_id = ?3 AND purged = 0 AND {AT}",
            (*view.at, owner.namespace_id),
        )
        raise NotFoundError(
            f"table {namespace}.{table} not found{nearest(table, [row[0] for row in known])}",
            details={"table": table},
        )
    row_id, table_id, unique, description, properties, purged = found
    if purged:
        raise NotFoundError(
            f"table {namespace}.{table} was dropped with purge=True: its earlier snapshots are gone",
            details={"table": table},
        )
    return Table(
        int(row_id), int(table_id), unique, namespace, table, description, loads(properties, dict)
    )


def find_version(view: View, namespace: str, table: str, version: str | None) -> Version:
    """The version that a name means: the named one, or the active one of the highest number.

    Raises:
        NotFoundError: No such namespace, table or version; offers the nearest name. Of a missing
            version the details have `table_version`.
    """
    named = () if version is None else (version,)
    query = _ACTIVE if version is None else _NAMED
    known = view.db.execute(query, (*view.at, namespace, table, *named)).fetchall()
    # The one of the highest number: SQLite would sort with a table of its own.
    found = max(known, key=lambda row: (row[14], row[3]), default=None)
    if found is None:
        # Says which part of the name is missing, and what is like it.
        find_table(view, namespace, table)
        what = "active version" if version is None else f"version {version!r}"
        raise NotFoundError(
            f"table {namespace}.{table} has no {what}", details={"table_version": version}
        )
    schema = _schema_of(found[13])
    return Version(
        row_id=int(found[0]),
        version_id=int(found[1]),
        stream_uuid=found[2],
        version=found[3],
        lifecycle_state=found[4],
        description=found[5],
        properties=loads(found[6], dict) or {},
        content_types=tuple(loads(found[7], list) or ()),
        namespace=namespace,
        table=table,
        table_id=int(found[10]),
        table_uuid=found[11],
        schema_id=int(found[12]),
        schema=schema,
        merge_keys=() if schema is None else merge_keys_of(schema),
        partition_scheme=loads(found[8], PartitionScheme),
        sort_scheme=loads(found[9], SortScheme),
    )


def expect_table(name: str, uuid: str | None, expected: str | None) -> None:
    """Raise where a caller means another table than the one that has the name now.

    Args:
        name: Namespace and table.
        uuid: The table's id; None where there is none.
        expected: The id that the caller knows; None for whichever.

    Raises:
        ConcurrentModificationError: It has gone, or another one has its name.
    """
    if expected not in (None, uuid):
        now = "not there" if uuid is None else f"{uuid} and not {expected}"
        raise ConcurrentModificationError(
            f"table {name} is {now}: it was dropped{'' if uuid is None else ' and made again'}"
        )


# In one statement, from the outermost name inwards: every call that is about a table asks it.
_VERSIONS = f"""
SELECT v.row_id, v.version_id, v.stream_uuid, v.version, v.lifecycle_state, v.description,
    v.properties, v.content_types, v.partition_scheme, v.sort_scheme, t.table_id, t.uuid,
    s.schema_id, s.arrow, v.number
FROM namespace n
CROSS JOIN tbl t ON t.namespace_id = n.namespace_id AND t.name = ?4 AND t.purged = 0 AND {at("t")}
CROSS JOIN table_version v ON v.table_id = t.table_id AND {at("v")} AND {{wanted}}
CROSS JOIN table_schema s ON s.version_id = v.version_id AND s.schema_id = (
    SELECT max(schema_id) FROM table_schema
    WHERE version_id = v.version_id AND (begin_seq <= ?1 OR begin_seq = ?2))
WHERE n.name = ?3 AND {at("n")}
"""
_ACTIVE = _VERSIONS.format(wanted="v.lifecycle_state = 'active'")
_NAMED = _VERSIONS.format(wanted="v.version = ?5")


@functools.lru_cache(maxsize=1024)
def _schema_of(arrow: bytes | None) -> pa.Schema | None:
    return None if arrow is None else pa.ipc.read_schema(pa.py_buffer(arrow))


def schemas_of(view: View, version_id: int) -> list[pa.Schema | None]:
    """Every schema that the version ever had, oldest first; the last one is the view's."""
    return [schema for _, schema in _schemas(view, version_id, "ASC")]


def schemas_by_id(view: View, version_id: int) -> dict[int, pa.Schema]:
    """Every schema that the version ever had, by its id; those that it had none at are left out."""
    return {i: schema for i, schema in _schemas(view, version_id, "ASC") if schema is not None}


def _schemas(view: View, version_id: int, order: str) -> list[tuple[int, pa.Schema | None]]:
    rows = view.db.execute(
        "SELECT schema_id, arrow FROM table_schema WHERE version_id = ?3"
        f" AND (begin_seq <= ?1 OR begin_seq = ?2) ORDER BY schema_id {order}",
        (*view.at, version_id),
    )
    return [(int(schema_id), _schema_of(arrow)) for schema_id, arrow in rows]


# --- defining -------------------------------------------------------------------------------------


def define(
    schema_def: str | list[SchemaField] | None,
    partition_scheme: PartitionScheme | None,
    sort_scheme: SortScheme | None,
) -> Definition:
    """Check what a table is to be, and give its columns and schemes their ids.

    Raises:
        SchemaValidationError: The schema or a scheme is wrong.
        UnsupportedError: Something that this release does not keep.
    """
    if schema_def is None:
        if partition_scheme is not None or sort_scheme is not None:
            raise SchemaValidationError(
                "a table without schema has no columns that a partition or sort scheme could name: "
                "give it a schema, or leave the scheme out"
            )
        return Definition(None, None, None)
    schema = assign_field_ids(schema_of(schema_def))
    if not schema.names:
        raise SchemaValidationError("a table needs at least one column")
    if partition_scheme is not None:
        check_scheme(partition_scheme, schema)
        partition_scheme = with_id(partition_scheme)
    if sort_scheme is not None:
        check_sort_scheme(sort_scheme, schema)
        sort_scheme = with_id(sort_scheme)
    return Definition(schema, partition_scheme, sort_scheme)


def check_sort_scheme(scheme: SortScheme, schema: pa.Schema) -> None:
    """Raise unless the schema has the scheme's columns.

    Raises:
        SchemaValidationError: An unknown column.
        UnsupportedError: A transform.
    """
    for key in scheme.keys:
        if len(key.key) != 1 or key.key[0] not in schema.names:
            name = ".".join(key.key)
            raise SchemaValidationError(
                f"unknown sort column {name!r}{nearest(name, schema.names)}"
            )
        if key.transform not in (None, "identity"):
            raise UnsupportedError(f"sort transform {key.transform!r} is not supported")


def with_id(scheme: Scheme) -> Scheme:
    """The scheme under the id that it has, or under one that equal schemes share."""
    if scheme.id:
        return scheme
    keys = msgspec.json.encode(scheme.keys).decode()
    return msgspec.structs.replace(scheme, id=str(uuid.uuid5(_SCHEMES, keys)))


# --- making ---------------------------------------------------------------------------------------


# Any: free-form properties.
def add_namespace(write: Write, name: str, properties: dict[str, Any] | None) -> int:
    """Make a namespace that is known to be absent; returns its id."""
    namespace_id = write.new_id("namespace", "namespace_id")
    write.insert(
        "namespace",
        namespace_id=namespace_id,
        name=check_name("namespace", name),
        properties=dumps(properties),
        begin_seq=write.own,
    )
    write.change(Change("namespace", name))
    return namespace_id


def add_table(write: Write, request: CreateTable, definition: Definition) -> Version:
    """Make a table that is known to be absent, and its first version.

    Raises:
        NotFoundError: The namespace is absent and not to be made.
    """
    number = _number(request.table_version or "1")
    try:
        namespace_id = find_namespace(write.view, request.namespace).namespace_id
    except NotFoundError:
        if not request.auto_create_namespace:
            raise
        namespace_id = add_namespace(write, request.namespace, request.namespace_properties)
    table = Table(
        row_id=0,
        table_id=write.new_id("tbl", "table_id"),
        uuid=write.uuid(),
        namespace=request.namespace,
        name=check_name("table", request.table),
        description=request.table_description,
        properties=request.table_properties,
    )
    write.insert(
        "tbl",
        table_id=table.table_id,
        uuid=table.uuid,
        namespace_id=namespace_id,
        name=table.name,
        description=table.description,
        properties=dumps(table.properties),
        begin_seq=write.own,
    )
    return _insert_version(write, table, request, definition, number)


def existing_table(view: View, request: CreateTable) -> Table | None:
    """The table that a request means; None where it is missing.

    Raises:
        NotFoundError: The namespace is absent and not to be made.
    """
    try:
        return find_table(view, request.namespace, request.table)
    except NotFoundError as error:
        if error.details.get("namespace") and not request.auto_create_namespace:
            raise
        return None


def add_missing(write: Write, request: CreateTable, definition: Definition) -> Version:
    """Make a table, or of a table that is there the version that it lacks.

    Raises:
        NotFoundError: The namespace is absent and not to be made.
        SchemaValidationError: What a new version has from its table was to be another.
    """
    table = existing_table(write.view, request)
    if table is None:
        return add_table(write, request, definition)
    if request.table_description is not None or request.table_properties:
        raise SchemaValidationError(
            f"table {table.namespace}.{table.name} is there: a new version takes its properties "
            "and its description from it; change those with alter_table"
        )
    return add_version(write, table, request, definition)


def add_version(
    write: Write, table: Table, request: CreateTable, definition: Definition
) -> Version:
    """Make a version, known to be absent, of a table that is there."""
    number = _number(request.table_version or "1")
    return _insert_version(write, table, request, definition, number)


def _number(version: str) -> int:
    found = _VERSION.fullmatch(version) if len(version) <= _LONGEST_VERSION else None
    if found is None:
        raise SchemaValidationError(
            f"{version[:80]!r} is no table version: use a number, or word.number"
        )
    return int(found[1])


def _insert_version(
    write: Write, table: Table, request: CreateTable, definition: Definition, number: int
) -> Version:
    version = request.table_version or "1"
    version_id = write.new_id("table_version", "version_id")
    write.insert(
        "table_version",
        version_id=version_id,
        stream_uuid=write.uuid(),
        table_id=table.table_id,
        version=version,
        number=number,
        lifecycle_state=request.lifecycle_state or "active",
        description=request.table_version_description,
        properties=dumps(version_properties(request, table.properties)),
        content_types=dumps(content_types_of(request.content_types)),
        partition_scheme=dumps(definition.partition_scheme),
        sort_scheme=dumps(definition.sort_scheme),
        begin_seq=write.own,
    )
    add_schema(write, version_id, definition.schema)
    write.change(Change("create", table.namespace, table.name))
    return find_version(write.view, table.namespace, table.name, version)


def add_schema(write: Write, version_id: int, schema: pa.Schema | None) -> None:
    """Give a version its next schema."""
    (last,) = write.db.execute(
        "SELECT max(schema_id) FROM table_schema WHERE version_id = ?", (version_id,)
    ).fetchone()
    write.insert(
        "table_schema",
        version_id=version_id,
        schema_id=0 if last is None else last + 1,
        arrow=None if schema is None else schema.serialize().to_pybytes(),
        begin_seq=write.own,
    )


# --- changing and ending --------------------------------------------------------------------------


# Any: the ledger's values.
def supersede(write: Write, kind: str, row_id: int, **values: Any) -> None:
    """Change an object from this write on: end its row and begin another with other values.

    Args:
        write: The write under way.
        kind: The ledger's table.
        row_id: The row that the write sees.
        values: Columns that change.
    """
    cursor = write.db.execute(f"SELECT * FROM {kind} WHERE row_id = ?", (row_id,))
    names = [column[0] for column in cursor.description]
    row = dict(zip(names, cursor.fetchone(), strict=True))
    if row["begin_seq"] == write.own:
        marks = ", ".join(f"{name} = ?" for name in values)
        write.db.execute(f"UPDATE {kind} SET {marks} WHERE row_id = ?", (*values.values(), row_id))
        return
    write.db.execute(f"UPDATE {kind} SET end_seq = ? WHERE row_id = ?", (write.own, row_id))
    del row["row_id"]
    write.insert(kind, **(row | values | {"begin_seq": write.own, "end_seq": None}))


def end(write: Write, table: Table, *, purge: bool) -> None:
    """End a table with its versions and partitions, and so with its files."""
    rows = write.db.execute(
        f"SELECT row_id, version_id FROM table_version WHERE table_id = ?3 AND {AT}",
        (*write.view.at, table.table_id),
    ).fetchall()
    for row_id, version_id in rows:
        end_partitions(write, int(version_id))
        write.db.execute(
            "UPDATE table_version SET end_seq = ? WHERE row_id = ?", (write.own, row_id)
        )
    write.db.execute("UPDATE tbl SET end_seq = ? WHERE row_id = ?", (write.own, table.row_id))
    if purge:
        # Also under the names that it had before.
        write.db.execute("UPDATE tbl SET purged = 1 WHERE table_id = ?", (table.table_id,))
    write.change(Change("drop", table.namespace, table.name, table.table_id))


def end_partitions(
    write: Write, version_id: int, only: Collection[str | None] | None = None
) -> None:
    """End a version's partitions, and so their files: all, or those of some values."""
    rows = write.db.execute(
        f"SELECT partition_id, partition_values FROM partition WHERE version_id = ?3 AND {AT}",
        (*write.view.at, version_id),
    ).fetchall()
    write.db.executemany(
        "UPDATE partition SET end_seq = ? WHERE partition_id = ?",
        [(write.own, partition_id) for partition_id, text in rows if only is None or text in only],
    )
