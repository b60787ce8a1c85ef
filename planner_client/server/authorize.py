"""What each call of the protocol needs of its caller, and what it may see of a list.

`RULES` is the whole of it. A call that is not in it is refused, so that a new endpoint is closed
until somebody says who may use it. Refusals do not tell whether the thing exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from io_core.errors import PermissionDeniedError
from planner_client.protocol.catalogs import Catalogs
from planner_client.protocol.namespaces import (
    NAMESPACE_EXISTS,
    ListNamespaces,
    Namespace,
    NamespaceExists,
)
from planner_client.protocol.tables import CreateTable, ListTables, TableSummary
from planner_client.protocol.transactions import GET_TRANSACTION, GetTransaction
from planner_client.protocol.writes import (
    GET_SESSION,
    CreateIfMissing,
    SessionRequest,
    StageRequest,
)
from planner_client.server.paging import cut, fetched, start
from planner_client.server.roles import EVERYWHERE, Role, Scope, parse_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from planner_client.protocol.catalogs import CatalogInfo
    from planner_client.protocol.endpoint import Endpoint, Page, Request
    from planner_client.server.roles import Principal

__all__ = ["OPEN", "RULES", "Call", "Guarded", "Need", "authorize", "narrowed", "visible"]

Res = TypeVar("Res")
Item = TypeVar("Item", Namespace, TableSummary)

READER, WRITER, ADMIN = Role.READER, Role.WRITER, Role.ADMIN

# Answered to anybody, without a token.
OPEN = frozenset({"health"})


class Guarded(Protocol):
    """What is asked of the planner that is guarded."""

    @property
    def info(self) -> CatalogInfo:
        """The catalog; its `name` is what grants name."""

    def call(self, endpoint: Endpoint[Any, Res], request: Request, *, caller: str | None) -> Res:
        """Run one call of the protocol for a user."""

    def scope_of_session(self, session_id: str) -> tuple[str, str] | None:
        """Namespace and table of a write session; None if there is none."""

    def owner_of_transaction(self, transaction_id: str) -> str | None:
        """Who began a transaction; None if there is none, or nobody was known then."""

    def asked_in_transaction(self, transaction_id: str) -> Sequence[tuple[str, Request]]:
        """What a running transaction was asked to change: names of endpoints, and requests."""


class Call(NamedTuple):
    """A request, whose it is, and the catalog that it addresses."""

    # Any: each endpoint has its own request; a rule reads the fields of those it stands for.
    request: Any
    principal: Principal
    catalog: str
    planner: Guarded


class Need(NamedTuple):
    """A role on a scope; None: some role on it or within it."""

    role: Role | None
    scope: Scope


Rule: TypeAlias = "Callable[[Call], Iterator[Need]]"


def _anyone(call: Call) -> Iterator[Need]:
    yield from ()


def _catalog(call: Call) -> Scope:
    return Scope(call.catalog)


def _everywhere(call: Call) -> Scope:
    return EVERYWHERE


def _named_catalog(call: Call) -> Scope:
    return Scope(call.request.catalog_name)


def _namespace(call: Call) -> Scope:
    return Scope(call.catalog, call.request.namespace)


def _table(call: Call) -> Scope:
    return Scope(call.catalog, call.request.namespace, call.request.table)


def _granted(call: Call) -> Scope:
    return parse_scope(call.request.scope_type, call.request.scope_name, call.catalog)


def _needs(role: Role | None, scope: Callable[[Call], Scope]) -> Rule:
    def rule(call: Call) -> Iterator[Need]:
        yield Need(role, scope(call))

    return rule


def _alter_namespace(call: Call) -> Iterator[Need]:
    yield Need(ADMIN, _namespace(call))
    if call.request.new_name is not None:
        # As if it were made under its new name.
        yield Need(WRITER, _catalog(call))


def _rename_table(call: Call) -> Iterator[Need]:
    yield Need(ADMIN, _table(call))
    namespace = call.request.new_namespace or call.request.namespace
    yield Need(WRITER, Scope(call.catalog, namespace, call.request.new_name))


def _stage(call: Call) -> Iterator[Need]:
    yield Need(WRITER, _table(call))
    if call.request.allow_external_entries:
        # The planner opens files that a table lists, with its own rights: another table's too.
        yield Need(ADMIN, _catalog(call))
    if call.request.mode == "create" and call.request.create_if_missing is None:
        # Makes what is missing, like one that says so; see `narrowed` for those.
        yield from _namespace_made(call)


def _write_inline(call: Call) -> Iterator[Need]:
    yield Need(WRITER, _table(call))
    # Where the table is missing it is made, and its namespace with it.
    yield from _namespace_made(call)


def _namespace_made(call: Call) -> Iterator[Need]:
    asked = NamespaceExists(
        namespace=call.request.namespace,
        transaction_id=call.request.transaction_id,
        transaction_version=call.request.transaction_version,
    )
    if not call.planner.call(NAMESPACE_EXISTS, asked, caller=call.principal.user_id).exists:
        yield Need(WRITER, _catalog(call))


def _session(call: Call) -> Iterator[Need]:
    found = call.planner.scope_of_session(call.request.session_id)
    # One that is not there is found missing only by those who may write everywhere.
    yield Need(WRITER, Scope(call.catalog, *(found or ())))
    if found is not None:
        asked = SessionRequest(session_id=call.request.session_id)
        session = call.planner.call(GET_SESSION, asked, caller=call.principal.user_id)
        if session.transaction_id is not None:
            _own_transaction(session.transaction_id, call)


def _heartbeat_transaction(call: Call) -> Iterator[Need]:
    """What it brings keys for: to read, and to write what its sessions are for; as of now."""
    yield Need(None, _catalog(call))
    asked = GetTransaction(transaction_id=call.request.transaction_id)
    found = call.planner.call(GET_TRANSACTION, asked, caller=call.principal.user_id)
    for session_id in found.bound_write_sessions:
        yield Need(WRITER, Scope(call.catalog, *(call.planner.scope_of_session(session_id) or ())))


def _commit_transaction(call: Call) -> Iterator[Need]:
    """What each call in it needed: what was granted then may have been revoked since."""
    for name, request in call.planner.asked_in_transaction(call.request.transaction_id):
        # As of now, not as the transaction sees it.
        outside = msgspec.structs.replace(request, transaction_id=None, transaction_version=None)
        yield from RULES[name](call._replace(request=outside))


def _revoke_token(call: Call) -> Iterator[Need]:
    if call.request.user_id != call.principal.user_id:
        yield Need(ADMIN, EVERYWHERE)


RULES: dict[str, Rule] = {
    "health": _anyone,
    "whoami": _anyone,
    "list_catalogs": _anyone,
    "server_endpoints": _anyone,
    "get_catalog": _needs(None, _named_catalog),
    "create_namespace": _needs(WRITER, _catalog),
    "list_namespaces": _needs(None, _catalog),
    "get_namespace": _needs(None, _namespace),
    "namespace_exists": _needs(None, _namespace),
    "alter_namespace": _alter_namespace,
    "drop_namespace": _needs(ADMIN, _namespace),
    "create_table": _needs(WRITER, _table),
    "list_tables": _needs(None, _namespace),
    "describe_table": _needs(READER, _table),
    "table_exists": _needs(READER, _table),
    "list_table_versions": _needs(READER, _table),
    "table_history": _needs(READER, _table),
    "alter_table": _needs(ADMIN, _table),
    "rename_table": _rename_table,
    "drop_table": _needs(ADMIN, _table),
    "truncate_table": _needs(WRITER, _table),
    "rollback_table": _needs(ADMIN, _table),
    "plan": _needs(READER, _table),
    "preview": _needs(READER, _table),
    "write_inline": _write_inline,
    "stage": _stage,
    "get_session": _session,
    "heartbeat": _session,
    "commit": _session,
    "abort": _session,
    # Whose transaction it is counts besides, in every call within it.
    "begin_transaction": _needs(None, _catalog),
    "get_transaction": _anyone,
    "heartbeat_transaction": _heartbeat_transaction,
    "commit_transaction": _commit_transaction,
    "abort_transaction": _anyone,
    "create_user": _needs(ADMIN, _everywhere),
    "issue_token": _needs(ADMIN, _everywhere),
    "revoke_token": _revoke_token,
    "create_grant": _needs(ADMIN, _granted),
    "revoke_grant": _needs(ADMIN, _granted),
    "list_grants": _anyone,
}


def authorize(endpoint: Endpoint[Any, Any], call: Call) -> None:
    """Let the call through, or raise.

    Raises:
        PermissionDeniedError: The caller may not, or nobody may.
    """
    rule = RULES.get(endpoint.name)
    if rule is None:
        raise PermissionDeniedError(f"nobody was allowed to call {endpoint.name}")
    transaction: str | None = call.request.transaction_id
    if transaction is not None:
        _own_transaction(transaction, call)
    for need in rule(call):
        if need.role is None:
            allowed = call.principal.sees(need.scope)
        else:
            allowed = call.principal.may(need.role, need.scope)
        if not allowed:
            raise _denied(endpoint.name, need, call)


def _own_transaction(transaction: str, call: Call) -> None:
    if call.principal.may(ADMIN, _catalog(call)):
        return
    if call.planner.owner_of_transaction(transaction) != call.principal.user_id:
        raise PermissionDeniedError(
            f"transaction {transaction!r} is none that {call.principal.user_id!r} began"
        )


def _denied(name: str, need: Need, call: Call) -> PermissionDeniedError:
    role = "a role" if need.role is None else need.role.name
    where = f"{need.scope.kind} {need.scope.name_in(call.catalog)!r}"
    return PermissionDeniedError(
        f"{call.principal.user_id!r} may not call {name}: it needs {role} on {where}; "
        "ask an ADMIN of it to grant that",
        details={"role": role, "scope_type": need.scope.kind},
    )


def narrowed(call: Call) -> Any:
    """The request as far as the caller may go.

    Who may not make namespaces makes none on the way: a write that may create its table always
    asks for the namespace too, so refusing that would refuse every write of those who may write
    to one table. Who may not read all of a list is given pages of what they may read, cut here,
    since the planner's own would tell by their length and their token what was left out.
    """
    # Any: each endpoint has its own request.
    request, principal = call.request, call.principal
    match request:
        case ListNamespaces() if not principal.may(READER, _catalog(call)):
            return msgspec.structs.replace(request, limit=None, next_token=None)
        case ListTables() if not principal.may(READER, _namespace(call)):
            return msgspec.structs.replace(request, limit=None, next_token=None)
        case _ if principal.may(WRITER, _catalog(call)):
            return request
        case StageRequest(create_if_missing=CreateIfMissing(auto_create_namespace=True) as missing):
            missing = msgspec.structs.replace(missing, auto_create_namespace=False)
            return msgspec.structs.replace(request, create_if_missing=missing)
        case CreateTable(auto_create_namespace=True):
            return msgspec.structs.replace(request, auto_create_namespace=False)
    return request


def _catalogs(call: Call, result: Catalogs) -> Catalogs:
    return Catalogs([c for c in result.catalogs if call.principal.sees(Scope(c.name))])


def _namespaces(call: Call, result: list[Namespace]) -> list[Namespace]:
    if call.principal.may(READER, _catalog(call)):
        return result
    return _page(call, result, lambda found: Scope(call.catalog, found.name))


def _tables(call: Call, result: list[TableSummary]) -> list[TableSummary]:
    namespace = _namespace(call)
    if call.principal.may(READER, namespace):
        return result
    return _page(call, result, lambda found: namespace._replace(table=found.name))


def _page(call: Call, items: list[Item], scope: Callable[[Item], Scope]) -> Page[Item]:
    after = start(call.request)
    # Refuses a limit below one.
    fetched(call.request)
    kept = [item for item in items if item.name > after and call.principal.sees(scope(item))]
    return cut(kept, call.request, lambda item: item.name)


# Any: what the endpoint returns.
_SHOWN: dict[str, Callable[[Call, Any], Any]] = {
    "list_catalogs": _catalogs,
    "list_namespaces": _namespaces,
    "list_tables": _tables,
}


# Any: what the endpoint returns.
def visible(endpoint: Endpoint[Any, Any], call: Call, result: Any) -> Any:
    """A result of the narrowed call, without the names that the caller may not know of."""
    shown = _SHOWN.get(endpoint.name)
    return result if shown is None else shown(call, result)
