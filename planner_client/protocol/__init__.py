"""The protocol's declarations: every endpoint, its request and its response, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner_client.protocol.auth import (
    CREATE_GRANT,
    CREATE_USER,
    ISSUE_TOKEN,
    LIST_GRANTS,
    REVOKE_GRANT,
    REVOKE_TOKEN,
    WHOAMI,
)
from planner_client.protocol.catalogs import GET_CATALOG, HEALTH, LIST_CATALOGS, SERVER_ENDPOINTS
from planner_client.protocol.inline import PREVIEW, WRITE_INLINE
from planner_client.protocol.namespaces import (
    ALTER_NAMESPACE,
    CREATE_NAMESPACE,
    DROP_NAMESPACE,
    GET_NAMESPACE,
    LIST_NAMESPACES,
    NAMESPACE_EXISTS,
)
from planner_client.protocol.plans import PLAN
from planner_client.protocol.tables import (
    ALTER_TABLE,
    CREATE_TABLE,
    DESCRIBE_TABLE,
    DROP_TABLE,
    LIST_TABLE_VERSIONS,
    LIST_TABLES,
    RENAME_TABLE,
    ROLLBACK_TABLE,
    TABLE_EXISTS,
    TABLE_HISTORY,
    TRUNCATE_TABLE,
)
from planner_client.protocol.transactions import (
    ABORT_TRANSACTION,
    BEGIN,
    COMMIT_TRANSACTION,
    GET_TRANSACTION,
    HEARTBEAT_TRANSACTION,
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
    SERVER_ENDPOINTS,
    CREATE_NAMESPACE,
    LIST_NAMESPACES,
    GET_NAMESPACE,
    NAMESPACE_EXISTS,
    ALTER_NAMESPACE,
    DROP_NAMESPACE,
    CREATE_TABLE,
    LIST_TABLES,
    DESCRIBE_TABLE,
    TABLE_EXISTS,
    LIST_TABLE_VERSIONS,
    TABLE_HISTORY,
    ALTER_TABLE,
    RENAME_TABLE,
    DROP_TABLE,
    TRUNCATE_TABLE,
    ROLLBACK_TABLE,
    PLAN,
    PREVIEW,
    WRITE_INLINE,
    STAGE,
    GET_SESSION,
    HEARTBEAT,
    COMMIT,
    ABORT,
    BEGIN,
    GET_TRANSACTION,
    HEARTBEAT_TRANSACTION,
    COMMIT_TRANSACTION,
    ABORT_TRANSACTION,
    WHOAMI,
    CREATE_USER,
    ISSUE_TOKEN,
    REVOKE_TOKEN,
    CREATE_GRANT,
    LIST_GRANTS,
    REVOKE_GRANT,
)
