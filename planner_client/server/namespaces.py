"""How are calls on namespaces answered?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from io_core.errors import AlreadyExistsError, NotFoundError, RequestRejectedError
from io_core.model import check_name
from planner_client.protocol.namespaces import (
    AlterNamespace,
    CreateNamespace,
    DropNamespace,
    GetNamespace,
    ListNamespaces,
    Namespace,
    NamespaceAltered,
    NamespaceCreated,
    NamespaceDropped,
    NamespaceExistence,
    NamespaceExists,
)
from planner_client.server.catalog import (
    add_namespace,
    dumps,
    end,
    find_namespace,
    find_table,
    loads,
    supersede,
)
from planner_client.server.conflicts import Change
from planner_client.server.paging import cut, fetched, start
from planner_client.server.properties import patched
from planner_client.server.store import AT

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.protocol.endpoint import Page
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import View, Write

__all__ = [
    "HANDLERS",
    "alter_namespace",
    "create_namespace",
    "drop_namespace",
    "get_namespace",
    "list_namespaces",
    "namespace_exists",
]


def _exists(view: View, name: str) -> bool:
    try:
        find_namespace(view, name)
    except NotFoundError:
        return False
    return True


def create_namespace(
    planner: EmbeddedPlanner, request: CreateNamespace, write: Write
) -> NamespaceCreated:
    """Handle `create_namespace`."""
    name = check_name("namespace", request.namespace)
    if _exists(write.view, name):
        raise AlreadyExistsError(f"namespace {name!r} already exists")
    add_namespace(write, name, request.properties)
    return NamespaceCreated(name, created=True)


def list_namespaces(planner: EmbeddedPlanner, request: ListNamespaces) -> Page[Namespace]:
    """Handle `list_namespaces`."""
    with planner.view(request) as view:
        rows = view.db.execute(
            f"SELECT name, properties FROM namespace WHERE name > ?3 AND {AT}"
            " ORDER BY name LIMIT ?4",
            (*view.at, start(request), fetched(request)),
        ).fetchall()
    found = [Namespace(name, loads(properties, dict)) for name, properties in rows]
    return cut(found, request, lambda n: n.name)


def get_namespace(planner: EmbeddedPlanner, request: GetNamespace) -> Namespace:
    """Handle `get_namespace`."""
    with planner.view(request) as view:
        found = find_namespace(view, request.namespace)
    return Namespace(found.name, found.properties)


def namespace_exists(planner: EmbeddedPlanner, request: NamespaceExists) -> NamespaceExistence:
    """Handle `namespace_exists`."""
    with planner.view(request) as view:
        return NamespaceExistence(request.namespace, _exists(view, request.namespace))


def alter_namespace(
    planner: EmbeddedPlanner, request: AlterNamespace, write: Write
) -> NamespaceAltered:
    """Handle `alter_namespace`; its tables stay with it under the new name."""
    if request.properties is None and request.new_name is None:
        raise RequestRejectedError(
            f"nothing to alter of namespace {request.namespace!r}: give properties or new_name",
            code="invalid_request",
        )
    found = find_namespace(write.view, request.namespace)
    name = found.name
    if request.new_name is not None:
        name = check_name("namespace", request.new_name)
        if _exists(write.view, name):
            raise AlreadyExistsError(f"namespace {name!r} already exists")
        write.change(Change("namespace", name))
    properties = patched(found.properties, request.properties or {})
    supersede(write, "namespace", found.row_id, name=name, properties=dumps(properties or None))
    write.change(Change("namespace", found.name))
    return NamespaceAltered(found.name, altered=True, new_name=request.new_name)


def drop_namespace(
    planner: EmbeddedPlanner, request: DropNamespace, write: Write
) -> NamespaceDropped:
    """Handle `drop_namespace`: the namespace and its tables end with this snapshot."""
    found = find_namespace(write.view, request.namespace)
    tables = write.db.execute(
        f"SELECT name FROM tbl WHERE namespace_id = ?3 AND {AT} ORDER BY name",
        (*write.view.at, found.namespace_id),
    ).fetchall()
    for (name,) in tables:
        end(write, find_table(write.view, found.name, name), purge=request.purge)
    write.db.execute("UPDATE namespace SET end_seq = ? WHERE row_id = ?", (write.own, found.row_id))
    write.change(Change("namespace", found.name))
    return NamespaceDropped(found.name, dropped=True, purged=request.purge)


# Any: each handler takes its own request; those of mutations take the write too.
HANDLERS: dict[str, Callable[..., Any]] = {
    "create_namespace": create_namespace,
    "list_namespaces": list_namespaces,
    "get_namespace": get_namespace,
    "namespace_exists": namespace_exists,
    "alter_namespace": alter_namespace,
    "drop_namespace": drop_namespace,
}
