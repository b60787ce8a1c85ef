"""How are calls on tables and their versions answered, those that read and those that make them?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from io_core.errors import (
    AlreadyExistsError,
    NotFoundError,
)
from io_core.model import check_name
from io_core.schema import encode_schema, fields_of
from planner_client.protocol.endpoint import Page
from planner_client.protocol.tables import (
    CreateTable,
    DescribeTable,
    DropTable,
    ListTables,
    ListTableVersions,
    RenameTable,
    TableCreated,
    TableDescription,
    TableDropped,
    TableExistence,
    TableExists,
    TableRenamed,
    TableSummary,
    TableVersion,
)
from planner_client.server import alteration
from planner_client.server.catalog import (
    Version,
    add_missing,
    define,
    end,
    existing_table,
    expect_table,
    find_namespace,
    find_table,
    find_version,
    supersede,
)
from planner_client.server.conflicts import Change
from planner_client.server.paging import cut, fetched, start
from planner_client.server.store import AT

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import View, Write

__all__ = [
    "HANDLERS",
    "create_table",
    "describe_table",
    "drop_table",
    "list_table_versions",
    "list_tables",
    "rename_table",
    "table_exists",
]

# Orders versions by number, and names each.
_ORDER = "printf('%020d', number) || version"


def create_table(planner: EmbeddedPlanner, request: CreateTable, write: Write) -> TableCreated:
    """Handle `create_table`: a table, or a version that a table does not have yet."""
    check_name("namespace", request.namespace)
    check_name("table", request.table)
    definition = define(request.schema_def, request.partition_scheme, request.sort_scheme)
    table = existing_table(write.view, request)
    found = None if table is None else _found(write.view, request)
    if found is None:
        return _created(add_missing(write, request, definition), created=True)
    if request.fail_if_exists:
        what = "" if request.table_version is None else f" in version {request.table_version}"
        raise AlreadyExistsError(
            f"table {found.namespace}.{found.table} already exists{what}; "
            "pass fail_if_exists=False to use it as it is"
        )
    return _created(found, created=False)


def _found(view: View, request: CreateTable) -> Version | None:
    """The version that the request means, of a table that is there; None if it is to be made."""
    try:
        return find_version(view, request.namespace, request.table, request.table_version)
    except NotFoundError:
        if request.table_version is not None:
            return None
        raise AlreadyExistsError(
            f"table {request.namespace}.{request.table} already exists, without an active version; "
            "name a new table_version to make one"
        ) from None


def _created(version: Version, *, created: bool) -> TableCreated:
    return TableCreated(
        version.table, version.namespace, created=created, table_version=version.version
    )


def list_tables(planner: EmbeddedPlanner, request: ListTables) -> Page[TableSummary]:
    """Handle `list_tables`; the version shown is the one of the highest number."""
    with planner.view(request) as view:
        owner = find_namespace(view, request.namespace)
        rows = view.db.execute(
            f"SELECT table_id, name, description FROM tbl WHERE namespace_id = ?3 AND name > ?4"
            f" AND purged = 0 AND {AT} ORDER BY name LIMIT ?5",
            (*view.at, owner.namespace_id, start(request), fetched(request)),
        ).fetchall()
        found = [_summary(view, *row) for row in rows]
    return cut(found, request, lambda t: t.name)


def _summary(view: View, table_id: int, name: str, description: str | None) -> TableSummary:
    version, state = view.db.execute(
        f"SELECT version, lifecycle_state FROM table_version WHERE table_id = ?3 AND {AT}"
        f" ORDER BY {_ORDER} DESC LIMIT 1",
        (*view.at, table_id),
    ).fetchone()
    return TableSummary(
        name, latest_version=version, description=description, lifecycle_state=state
    )


def table_exists(planner: EmbeddedPlanner, request: TableExists) -> TableExistence:
    """Handle `table_exists`: whether the name stands for a version that can be read."""
    exists = True
    with planner.view(request) as view:
        try:
            find_version(view, request.namespace, request.table, request.table_version)
        except NotFoundError:
            exists = False
    return TableExistence(request.namespace, request.table, exists)


def list_table_versions(planner: EmbeddedPlanner, request: ListTableVersions) -> Page[TableVersion]:
    """Handle `list_table_versions`: by number."""
    with planner.view(request) as view:
        owner = find_table(view, request.namespace, request.table)
        rows = view.db.execute(
            f"SELECT version, lifecycle_state, {_ORDER} FROM table_version WHERE table_id = ?3"
            f" AND {_ORDER} > ?4 AND {AT} ORDER BY {_ORDER} LIMIT ?5",
            (*view.at, owner.table_id, start(request), fetched(request)),
        ).fetchall()
    page = cut(rows, request, lambda row: str(row[2]))
    return Page([TableVersion(version, state) for version, state, _ in page], page.next_token)


def describe_table(planner: EmbeddedPlanner, request: DescribeTable) -> TableDescription:
    """Handle `describe_table`."""
    with planner.view(request) as view:
        owner = find_table(view, request.namespace, request.table)
        name = f"{request.namespace}.{request.table}"
        expect_table(name, owner.uuid, request.expected_table_id)
        found = find_version(view, request.namespace, request.table, request.table_version)
        described = TableDescription(
            table_name=found.table,
            namespace=found.namespace,
            table_version=found.version,
            description=found.description or owner.description,
            schema=None if found.schema is None else fields_of(found.schema),
            schema_serialized=None if found.schema is None else encode_schema(found.schema),
            merge_keys=list(found.merge_keys),
            partition_scheme=found.partition_scheme,
            sort_scheme=found.sort_scheme,
            properties=found.properties,
            table_properties=owner.properties,
            lifecycle_state=found.lifecycle_state,
            content_types=list(found.content_types) or None,
            table_id=found.table_uuid,
            stream_id=found.stream_uuid,
            stream_format="deltacat",
            stats_omitted=True,
            snapshot=view.base,
        )
        if request.metadata_only or not request.include_stats:
            return described
        totals = planner.columns.get(view, found).totals_of(view)
    return msgspec.structs.replace(
        described,
        stats_omitted=False,
        total_files=totals.whole[0],
        total_records=totals.whole[2],
        total_bytes=totals.whole[1],
        partition_count=int(np.count_nonzero(totals.files)),
    )


def rename_table(planner: EmbeddedPlanner, request: RenameTable, write: Write) -> TableRenamed:
    """Handle `rename_table`, to another namespace too."""
    found = find_table(write.view, request.namespace, request.table)
    target = find_namespace(write.view, request.new_namespace or request.namespace)
    name = check_name("table", request.new_name)
    taken = write.db.execute(
        f"SELECT 1 FROM tbl WHERE namespace_id = ?3 AND name = ?4 AND {AT}",
        (*write.view.at, target.namespace_id, name),
    ).fetchone()
    if taken:
        raise AlreadyExistsError(f"table {target.name}.{name} already exists")
    supersede(write, "tbl", found.row_id, namespace_id=target.namespace_id, name=name)
    write.change(Change("drop", found.namespace, found.name, found.table_id))
    write.change(Change("create", target.name, name))
    return TableRenamed(found.name, name, target.name, renamed=True)


def drop_table(planner: EmbeddedPlanner, request: DropTable, write: Write) -> TableDropped:
    """Handle `drop_table`: the table ends with this snapshot, and stays in earlier ones."""
    found = find_table(write.view, request.namespace, request.table)
    end(write, found, purge=request.purge)
    return TableDropped(found.name, dropped=True, namespace=found.namespace, purged=request.purge)


# Any: each handler takes its own request; those of mutations take the write too.
HANDLERS: dict[str, Callable[..., Any]] = {
    "create_table": create_table,
    "list_tables": list_tables,
    "describe_table": describe_table,
    "table_exists": table_exists,
    "list_table_versions": list_table_versions,
    "rename_table": rename_table,
    "drop_table": drop_table,
    **alteration.HANDLERS,
}
