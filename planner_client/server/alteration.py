"""How does a table change in place: its schema, schemes, texts and properties, or all its rows?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from io_core.errors import NotFoundError, RequestRejectedError, SchemaValidationError
from io_core.evolve import evolve
from io_core.partition import check_scheme
from planner_client.protocol.tables import (
    AlterTable,
    RollbackTable,
    TableAltered,
    TableRolledBack,
    TableTruncated,
    TruncateTable,
)
from planner_client.server.catalog import (
    Version,
    add_schema,
    check_sort_scheme,
    dumps,
    end_partitions,
    find_table,
    find_version,
    schemas_of,
    supersede,
    with_id,
)
from planner_client.server.conflicts import Change, Kind
from planner_client.server.leases import check_retained
from planner_client.server.planning import resolve_time
from planner_client.server.properties import EVOLUTION, check_properties, patched, settings
from planner_client.server.store import AT, View
from planner_client.server.writes import restore

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import Write

__all__ = ["HANDLERS", "alter_table", "rollback_table", "truncate_table"]


def alter_table(planner: EmbeddedPlanner, request: AlterTable, write: Write) -> TableAltered:
    """Handle `alter_table`: all that the request names, or nothing."""
    changed = _alter_table(request, write)
    changed |= _alter_version(request, write)
    if not changed:
        raise RequestRejectedError(
            f"nothing to alter of table {request.namespace}.{request.table}: say what to change",
            code="invalid_request",
        )
    return TableAltered(request.table, altered=True, namespace=request.namespace)


def _alter_table(request: AlterTable, write: Write) -> bool:
    """Change what all versions share."""
    # Any: the ledger's values.
    values: dict[str, Any] = {}
    found = find_table(write.view, request.namespace, request.table)
    if request.table_description is not None:
        values["description"] = request.table_description
    if request.table_properties is not None:
        properties = patched(found.properties, request.table_properties)
        values["properties"] = dumps(properties or None)
    if values:
        supersede(write, "tbl", found.row_id, **values)
        write.change(Change("describe", found.namespace, found.name, found.table_id))
    return bool(values)


def _alter_version(request: AlterTable, write: Write) -> bool:
    """Change what one version has of its own."""
    wanted = (
        request.lifecycle_state,
        request.schema_updates,
        request.partition_updates,
        request.sort_scheme,
        request.table_version_description,
        request.table_version_properties,
        request.layout,
        request.default_content_type,
    )
    if all(value is None for value in wanted):
        return False
    found = find_version(write.view, request.namespace, request.table, request.table_version)
    values = _described(request, found)
    if values:
        write.change(_change("describe", found))
    shaped = _shaped(request, found, write)
    if shaped or request.schema_updates is not None:
        write.change(_change("alter", found))
    if values or shaped:
        supersede(write, "table_version", found.row_id, **values, **shaped)
    return True


def _change(kind: Kind, version: Version) -> Change:
    return Change(kind, version.namespace, version.table, version.table_id, version.version_id)


# Any, here and below: the ledger's values.
def _described(request: AlterTable, version: Version) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if request.lifecycle_state is not None:
        values["lifecycle_state"] = request.lifecycle_state
    if request.table_version_description is not None:
        values["description"] = request.table_version_description
    given = {**(request.table_version_properties or {}), **settings(request)}
    if given or request.table_version_properties is not None:
        properties = patched(version.properties, given)
        check_properties(properties)
        values["properties"] = dumps(properties)
    return values


def _shaped(request: AlterTable, version: Version, write: Write) -> dict[str, Any]:
    """Evolve the schema; what changes of the schemes."""
    if all(
        value is None
        for value in (request.schema_updates, request.partition_updates, request.sort_scheme)
    ):
        return {}
    schema = _evolved(request, version, write)
    values: dict[str, Any] = {}
    if request.sort_scheme is not None:
        check_sort_scheme(request.sort_scheme, schema)
        values["sort_scheme"] = dumps(with_id(request.sort_scheme))
    if request.partition_updates is not None:
        check_scheme(request.partition_updates, schema)
        _check_never_filled(write, version)
        values["partition_scheme"] = dumps(with_id(request.partition_updates))
    return values


def _evolved(request: AlterTable, version: Version, write: Write) -> pa.Schema:
    name = f"{version.namespace}.{version.table}"
    if version.schema is None:
        raise SchemaValidationError(
            f"table {name} is schemaless and stays so: make a new table_version with a schema"
        )
    if request.schema_updates is None:
        return version.schema
    if version.properties.get(EVOLUTION) == "disabled":
        raise SchemaValidationError(
            f"table {name} has {EVOLUTION} disabled: its schema cannot be altered"
        )
    schemes = (
        request.partition_updates or version.partition_scheme,
        request.sort_scheme or version.sort_scheme,
    )
    schema = evolve(
        version.schema,
        request.schema_updates,
        history=[s for s in schemas_of(write.view, version.version_id) if s is not None],
        # Of a scheme that is not checked yet: its keys may be none.
        pinned={name for scheme in schemes if scheme for key in scheme.keys for name in key.key},
    )
    if not schema.equals(version.schema, check_metadata=True):
        add_schema(write, version.version_id, schema)
    return schema


def _check_never_filled(write: Write, version: Version) -> None:
    held = write.db.execute(
        "SELECT 1 FROM partition WHERE version_id = ? LIMIT 1", (version.version_id,)
    ).fetchone()
    if held:
        raise SchemaValidationError(
            f"table {version.namespace}.{version.table} holds, or held, files that are divided by "
            "its partition scheme: make a new table_version to divide rows in another way"
        )


def truncate_table(
    planner: EmbeddedPlanner, request: TruncateTable, write: Write
) -> TableTruncated:
    """Handle `truncate_table`: the version has no files from this snapshot on."""
    found = find_version(write.view, request.namespace, request.table, request.table_version)
    end_partitions(write, found.version_id)
    write.change(_change("replace", found))
    return TableTruncated(found.table, truncated=True)


def rollback_table(
    planner: EmbeddedPlanner, request: RollbackTable, write: Write
) -> TableRolledBack:
    """Handle `rollback_table`: the version's files, schema and sort scheme are again what they were."""
    found = find_version(write.view, request.namespace, request.table, request.table_version)
    then = _view_then(request, found, write)
    schema = schemas_of(then, found.version_id)[-1]
    _check_divided(found, schema)
    sort_scheme = _sort_scheme_then(then, found)
    if sort_scheme != dumps(found.sort_scheme):
        supersede(write, "table_version", found.row_id, sort_scheme=sort_scheme)
    if schema != found.schema or not _same_metadata(schema, found.schema):
        add_schema(write, found.version_id, schema)
        found = find_version(write.view, found.namespace, found.table, found.version)
    restore(planner, write, found, then.base)
    write.change(_change("replace", found))
    return TableRolledBack(found.table, rolled_back=True, as_of=request.as_of)


def _check_divided(version: Version, schema: pa.Schema | None) -> None:
    """Raise where rows are divided by a column that an earlier schema lacks, or has as another type.

    A partition scheme that files were written by never changes, and so stays.
    """
    if version.partition_scheme is None or schema is None:
        return
    for key in version.partition_scheme.keys:
        now = None if version.schema is None else version.schema.field(key.column).type
        if key.column not in schema.names or schema.field(key.column).type != now:
            raise SchemaValidationError(
                f"table {version.namespace}.{version.table} cannot go back to that time: its partition "
                f"scheme is of later, and column {key.column!r}, which it is made of, was not there "
                "or of another type"
            )


def _sort_scheme_then(then: View, version: Version) -> str | None:
    """The sort scheme that a version had, as the ledger has it."""
    (text,) = then.db.execute(
        f"SELECT sort_scheme FROM table_version WHERE version_id = ?3 AND {AT}",
        (*then.at, version.version_id),
    ).fetchone()
    return None if text is None else str(text)


def _same_metadata(one: pa.Schema | None, other: pa.Schema | None) -> bool:
    return one is None or other is None or one.equals(other, check_metadata=True)


def _view_then(request: RollbackTable, version: Version, write: Write) -> View:
    """What was committed before the time that the request names, and not after this write began."""
    snapshot = resolve_time(write.db, request.as_of, write.clock_ns())
    then = View(write.db, min(snapshot, write.view.base))
    check_retained(write.db, then.base, write.clock_ns())
    known = write.db.execute(
        f"SELECT 1 FROM table_version WHERE version_id = ?3 AND {AT}",
        (*then.at, version.version_id),
    ).fetchone()
    if known is None:
        raise NotFoundError(
            f"table {version.namespace}.{version.table} did not exist in version {version.version} "
            f"at as_of {request.as_of}: it was made later",
            details={"as_of": request.as_of},
        )
    return then


# Any: each handler takes its own request.
HANDLERS: dict[str, Callable[..., Any]] = {
    "alter_table": alter_table,
    "truncate_table": truncate_table,
    "rollback_table": rollback_table,
}
