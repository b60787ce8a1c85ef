"""The protocol's declarations: every endpoint, its request and its response, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner_client.protocol.catalogs import GET_CATALOG, HEALTH, LIST_CATALOGS
from planner_client.protocol.namespaces import (
    CREATE_NAMESPACE,
    GET_NAMESPACE,
    LIST_NAMESPACES,
    NAMESPACE_EXISTS,
)
from planner_client.protocol.plans import PLAN
from planner_client.protocol.tables import (
    CREATE_TABLE,
    DESCRIBE_TABLE,
    LIST_TABLE_VERSIONS,
    LIST_TABLES,
    TABLE_EXISTS,
)
from planner_client.protocol.writes import ABORT, COMMIT, GET_SESSION, HEARTBEAT, STAGE

if TYPE_CHECKING:
    from planner_client.protocol.endpoint import Endpoint

__all__ = ["ENDPOINTS"]

# Any: each endpoint has its own request and response.
ENDPOINTS: tuple[Endpoint[Any, Any], ...] = (
    HEALTH,
    LIST_CATALOGS,
    GET_CATALOG,
    CREATE_NAMESPACE,
    LIST_NAMESPACES,
    GET_NAMESPACE,
    NAMESPACE_EXISTS,
    CREATE_TABLE,
    LIST_TABLES,
    DESCRIBE_TABLE,
    TABLE_EXISTS,
    LIST_TABLE_VERSIONS,
    PLAN,
    STAGE,
    GET_SESSION,
    HEARTBEAT,
    COMMIT,
    ABORT,
)
