"""Namespaces and tables: what is there at a snapshot, and making more of it."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from io_core.errors import (
    AlreadyExistsError,
    NotFoundError,
    SchemaValidationError,
    UnsupportedError,
    nearest,
)
from io_core.model import PartitionScheme, SortScheme, check_name
from io_core.partition import check_scheme
from io_core.schema import (
    SchemaField,
    assign_field_ids,
    encode_schema,
    fields_of,
    merge_keys_of,
    schema_of,
)
from planner_client.protocol.namespaces import (
    CreateNamespace,
    GetNamespace,
    ListNamespaces,
    Namespace,
    NamespaceCreated,
    NamespaceExistence,
    NamespaceExists,
)
from planner_client.protocol.tables import (
    CreateTable,
    DescribeTable,
    ListTables,
    ListTableVersions,
    TableCreated,
    TableDescription,
    TableExistence,
    TableExists,
    TableSummary,
    TableVersion,
)

if TYPE_CHECKING:
    import apsw

    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import Write

__all__ = [
    "Definition",
    "Version",
    "add_namespace",
    "add_table",
    "create_namespace",
    "create_table",
    "current_seq",
    "define",
    "describe_table",
    "find_version",
    "get_namespace",
    "list_namespaces",
    "list_table_versions",
    "list_tables",
    "namespace_exists",
    "table_exists",
]

_VERSION = re.compile(r"(?:\w+\.)?(\d{1,18})", re.ASCII)
_AT = "begin_seq <= ?1 AND (end_seq IS NULL OR end_seq > ?1)"

S = TypeVar("S")


class Definition(NamedTuple):
    """What a table is to be: checked, with field ids and scheme ids assigned."""

    schema: pa.Schema
    partition_scheme: PartitionScheme | None
    sort_scheme: SortScheme | None


class Version(NamedTuple):
    """A table version as a snapshot shows it."""

    version_id: int
    stream_uuid: str
    version: str
    lifecycle_state: str
    namespace: str
    table: str
    table_uuid: str
    schema_id: int
    schema: pa.Schema
    merge_keys: tuple[str, ...]
    partition_scheme: PartitionScheme | None
    sort_scheme: SortScheme | None


def current_seq(db: apsw.Connection) -> int:
    """The latest snapshot."""
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM revision").fetchone()[0])


def _find_namespace(db: apsw.Connection, name: str, snapshot: int) -> tuple[int, str | None]:
    found = db.execute(
        f"SELECT namespace_id, properties FROM namespace WHERE name = ?2 AND {_AT}",
        (snapshot, name),
    ).fetchone()
    if found is None:
        raise NotFoundError.of("namespace", name, _names(db, "namespace", snapshot))
    return int(found[0]), found[1]


def _names(db: apsw.Connection, table: str, snapshot: int, where: str = "") -> list[str]:
    query = f"SELECT name FROM {table} WHERE {_AT} {where} ORDER BY name"
    return [row[0] for row in db.execute(query, (snapshot,))]


def find_version(
    db: apsw.Connection, namespace: str, table: str, version: str | None, snapshot: int
) -> Version:
    """The version that a name means at a snapshot: the named one, or the latest active.

    Raises:
        NotFoundError: No such namespace, table or version; offers the nearest name.
    """
    namespace_id, _ = _find_namespace(db, namespace, snapshot)
    owner = db.execute(
        f"SELECT table_id, uuid FROM tbl WHERE namespace_id = ?2 AND name = ?3 AND {_AT}",
        (snapshot, namespace_id, table),
    ).fetchone()
    if owner is None:
        known = _names(db, "tbl", snapshot, f"AND namespace_id = {namespace_id}")
        raise NotFoundError(
            f"table {namespace}.{table} not found{nearest(table, known)}", details={"table": table}
        )
    wanted = "AND version = ?3" if version else "AND lifecycle_state = 'active'"
    found = db.execute(
        "SELECT version_id, stream_uuid, version, lifecycle_state, partition_scheme, sort_scheme"
        f" FROM table_version WHERE table_id = ?2 AND {_AT} {wanted} ORDER BY number DESC LIMIT 1",
        (snapshot, owner[0], *([version] if version else [])),
    ).fetchone()
    if found is None:
        raise NotFoundError(
            f"table {namespace}.{table} has no {'active version' if version is None else f'version {version!r}'}",
            details={"table_version": version},
        )
    schema_id, arrow = db.execute(
        "SELECT schema_id, arrow FROM table_schema WHERE version_id = ? AND begin_seq <= ?"
        " ORDER BY schema_id DESC LIMIT 1",
        (found[0], snapshot),
    ).fetchone()
    schema = pa.ipc.read_schema(pa.py_buffer(arrow))
    return Version(
        version_id=int(found[0]),
        stream_uuid=found[1],
        version=found[2],
        lifecycle_state=found[3],
        namespace=namespace,
        table=table,
        table_uuid=owner[1],
        schema_id=int(schema_id),
        schema=schema,
        merge_keys=merge_keys_of(schema),
        partition_scheme=_loads(found[4], PartitionScheme),
        sort_scheme=_loads(found[5], SortScheme),
    )


def _loads(text: str | None, kind: type[S]) -> S | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def _dumps(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def define(
    schema_def: str | list[SchemaField] | None,
    partition_scheme: PartitionScheme | None,
    sort_scheme: SortScheme | None,
) -> Definition:
    """Check what a table is to be, and give its columns and schemes their ids.

    Raises:
        SchemaValidationError: The schema or a scheme is wrong.
        UnsupportedError: Schemaless, or something else this release does not keep.
    """
    if schema_def is None:
        raise UnsupportedError("a table needs a schema: schemaless tables are not supported yet")
    schema = assign_field_ids(schema_of(schema_def))
    if not schema.names:
        raise SchemaValidationError("a table needs at least one column")
    if partition_scheme is not None:
        check_scheme(partition_scheme, schema)
        partition_scheme = _with_id(partition_scheme)
    if sort_scheme is not None:
        for key in sort_scheme.keys:
            if len(key.key) != 1 or key.key[0] not in schema.names:
                raise SchemaValidationError(
                    f"unknown sort column {'.'.join(key.key)!r}{nearest('.'.join(key.key), schema.names)}"
                )
            if key.transform not in (None, "identity"):
                raise UnsupportedError(f"sort transform {key.transform!r} is not supported")
        sort_scheme = _with_id(sort_scheme)
    return Definition(schema, partition_scheme, sort_scheme)


def _with_id(scheme: S) -> S:
    if not isinstance(scheme, PartitionScheme | SortScheme) or scheme.id:
        return scheme
    return msgspec.structs.replace(scheme, id=str(uuid.uuid4()))


def add_namespace(write: Write, name: str, properties: dict[str, Any] | None) -> int:
    """Make a namespace that is known to be absent."""
    return write.insert(
        "namespace",
        name=check_name("namespace", name),
        properties=_dumps(properties),
        begin_seq=write.seq(),
    )


def add_table(write: Write, request: CreateTable, definition: Definition) -> int:
    """Make a table that is known to be absent, and its first version; returns the version's id."""
    try:
        namespace_id, _ = _find_namespace(write.db, request.namespace, write.seq())
    except NotFoundError:
        if not request.auto_create_namespace:
            raise
        namespace_id = add_namespace(write, request.namespace, request.namespace_properties)
    version = request.table_version or "1"
    number = _VERSION.fullmatch(version)
    if number is None:
        raise SchemaValidationError(
            f"{version!r} is no table version: use a number, or word.number"
        )
    table_id = write.insert(
        "tbl",
        uuid=str(uuid.uuid4()),
        namespace_id=namespace_id,
        name=check_name("table", request.table),
        description=request.table_description,
        properties=_dumps(request.table_properties),
        begin_seq=write.seq(),
    )
    version_id = write.insert(
        "table_version",
        stream_uuid=str(uuid.uuid4()),
        table_id=table_id,
        version=version,
        number=int(number[1]),
        lifecycle_state=request.lifecycle_state or "active",
        description=request.table_version_description,
        properties=_dumps(request.table_version_properties),
        content_types=_dumps(request.content_types),
        partition_scheme=_dumps(definition.partition_scheme),
        sort_scheme=_dumps(definition.sort_scheme),
        begin_seq=write.seq(),
    )
    write.insert(
        "table_schema",
        version_id=version_id,
        schema_id=0,
        arrow=definition.schema.serialize().to_pybytes(),
        begin_seq=write.seq(),
    )
    return version_id


def create_namespace(
    planner: EmbeddedPlanner, request: CreateNamespace, write: Write
) -> NamespaceCreated:
    """Handle `create_namespace`."""
    name = check_name("namespace", request.namespace)
    if name in _names(write.db, "namespace", current_seq(write.db)):
        raise AlreadyExistsError(f"namespace {name!r} already exists")
    add_namespace(write, name, request.properties)
    return NamespaceCreated(name, created=True)


def list_namespaces(planner: EmbeddedPlanner, request: ListNamespaces) -> list[Namespace]:
    """Handle `list_namespaces`."""
    with planner.store.read() as db:
        query = f"SELECT name, properties FROM namespace WHERE {_AT} ORDER BY name"
        rows = db.execute(query, (current_seq(db),)).fetchall()
    return [Namespace(name, _loads(properties, dict)) for name, properties in rows]


def get_namespace(planner: EmbeddedPlanner, request: GetNamespace) -> Namespace:
    """Handle `get_namespace`."""
    with planner.store.read() as db:
        _, properties = _find_namespace(db, request.namespace, current_seq(db))
    return Namespace(request.namespace, _loads(properties, dict))


def namespace_exists(planner: EmbeddedPlanner, request: NamespaceExists) -> NamespaceExistence:
    """Handle `namespace_exists`."""
    with planner.store.read() as db:
        known = _names(db, "namespace", current_seq(db))
    return NamespaceExistence(request.namespace, request.namespace in known)


def create_table(planner: EmbeddedPlanner, request: CreateTable, write: Write) -> TableCreated:
    """Handle `create_table`."""
    definition = define(request.schema_def, request.partition_scheme, request.sort_scheme)
    try:
        found = find_version(
            write.db, request.namespace, request.table, None, current_seq(write.db)
        )
    except NotFoundError as error:
        if "table_version" in error.details:
            raise AlreadyExistsError(
                f"table {request.namespace}.{request.table} already exists, without an active version"
            ) from None
        if error.details.get("namespace") and not request.auto_create_namespace:
            raise
    else:
        if request.fail_if_exists:
            raise AlreadyExistsError(
                f"table {request.namespace}.{request.table} already exists; "
                "pass fail_if_exists=False to use it as it is"
            )
        return TableCreated(
            request.table, request.namespace, created=False, table_version=found.version
        )
    add_table(write, request, definition)
    version = request.table_version or "1"
    return TableCreated(request.table, request.namespace, created=True, table_version=version)


def list_tables(planner: EmbeddedPlanner, request: ListTables) -> list[TableSummary]:
    """Handle `list_tables`."""
    with planner.store.read() as db:
        snapshot = current_seq(db)
        namespace_id, _ = _find_namespace(db, request.namespace, snapshot)
        rows = db.execute(
            "SELECT t.name, t.description, v.version, v.lifecycle_state FROM tbl t JOIN table_version v"
            " USING(table_id) WHERE t.namespace_id = ? AND t.end_seq IS NULL AND v.end_seq IS NULL"
            " GROUP BY t.table_id HAVING max(v.number) >= 0 ORDER BY t.name",
            (namespace_id,),
        ).fetchall()
    return [
        TableSummary(name, latest_version=version, description=description, lifecycle_state=state)
        for name, description, version, state in rows
    ]


def table_exists(planner: EmbeddedPlanner, request: TableExists) -> TableExistence:
    """Handle `table_exists`."""
    exists = True
    with planner.store.read() as db:
        try:
            find_version(
                db, request.namespace, request.table, request.table_version, current_seq(db)
            )
        except NotFoundError:
            exists = False
    return TableExistence(request.namespace, request.table, exists)


def list_table_versions(planner: EmbeddedPlanner, request: ListTableVersions) -> list[TableVersion]:
    """Handle `list_table_versions`."""
    with planner.store.read() as db:
        latest = find_version(db, request.namespace, request.table, None, current_seq(db))
        rows = db.execute(
            "SELECT version, lifecycle_state FROM table_version WHERE end_seq IS NULL AND table_id ="
            " (SELECT table_id FROM table_version WHERE version_id = ?) ORDER BY number",
            (latest.version_id,),
        ).fetchall()
    return [TableVersion(version, state) for version, state in rows]


def describe_table(planner: EmbeddedPlanner, request: DescribeTable) -> TableDescription:
    """Handle `describe_table`."""
    with planner.store.read() as db:
        snapshot = current_seq(db)
        found = find_version(db, request.namespace, request.table, request.table_version, snapshot)
        row = db.execute(
            "SELECT t.description, t.properties, v.properties, v.content_types FROM tbl t"
            " JOIN table_version v USING(table_id) WHERE v.version_id = ?",
            (found.version_id,),
        ).fetchone()
        totals = db.execute(
            "SELECT count(*), coalesce(sum(record_count), 0), coalesce(sum(content_length), 0),"
            " count(DISTINCT partition_id) FROM file WHERE version_id = ? AND end_seq IS NULL",
            (found.version_id,),
        ).fetchone()
    return TableDescription(
        table_name=found.table,
        namespace=found.namespace,
        table_version=found.version,
        description=row[0],
        schema=fields_of(found.schema),
        schema_serialized=encode_schema(found.schema),
        merge_keys=list(found.merge_keys),
        partition_scheme=found.partition_scheme,
        sort_scheme=found.sort_scheme,
        properties=_loads(row[2], dict),
        table_properties=_loads(row[1], dict),
        lifecycle_state=found.lifecycle_state,
        content_types=_loads(row[3], list),
        table_id=found.table_uuid,
        stream_id=found.stream_uuid,
        stream_format="deltacat",
        total_files=totals[0],
        total_records=totals[1],
        total_bytes=totals[2],
        partition_count=totals[3],
        snapshot=snapshot,
    )
