"""Declarations: namespaces."""

from __future__ import annotations

from typing import Any

import msgspec

from planner_client.protocol.endpoint import Endpoint, Query, Request

__all__ = [
    "ALTER_NAMESPACE",
    "CREATE_NAMESPACE",
    "DROP_NAMESPACE",
    "GET_NAMESPACE",
    "LIST_NAMESPACES",
    "NAMESPACE_EXISTS",
    "AlterNamespace",
    "CreateNamespace",
    "DropNamespace",
    "GetNamespace",
    "ListNamespaces",
    "Namespace",
    "NamespaceAltered",
    "NamespaceCreated",
    "NamespaceDropped",
    "NamespaceExistence",
    "NamespaceExists",
]

_NAMESPACES = "/v1/namespaces"
_NAMESPACE = f"{_NAMESPACES}/{{namespace}}"


class CreateNamespace(Request, frozen=True, kw_only=True):
    """A namespace to make."""

    namespace: str
    # Any: free-form properties.
    properties: dict[str, Any] | None = None


class NamespaceCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    """A namespace that was made."""

    namespace: str
    created: bool
    transaction_id: str | None = None
    transaction_version: int | None = None


class ListNamespaces(Request, frozen=True, kw_only=True):
    """How many namespaces to list at most, after which page; without a limit all of them."""

    limit: Query[int | None] = None
    next_token: Query[str | None] = None


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A namespace as it is."""

    name: str
    # Any: free-form properties.
    properties: dict[str, Any] | None = None


class GetNamespace(Request, frozen=True, kw_only=True):
    """Which namespace to describe."""

    namespace: str


class NamespaceExists(Request, frozen=True, kw_only=True):
    """Which namespace to look for."""

    namespace: str


class NamespaceExistence(msgspec.Struct, frozen=True):
    """Whether it is there."""

    namespace: str
    exists: bool


class AlterNamespace(Request, frozen=True, kw_only=True):
    """What to change of a namespace. Properties are set one by one; null removes one."""

    namespace: str
    # Any: free-form properties.
    properties: dict[str, Any] | None = None
    new_name: str | None = None


class NamespaceAltered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A namespace that was changed, by the name it had; `new_name` where it was renamed."""

    namespace: str
    altered: bool
    new_name: str | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None


class DropNamespace(Request, frozen=True, kw_only=True):
    """Which namespace to drop, with its tables; `purge` also gives up their files."""

    namespace: str
    purge: Query[bool] = False


class NamespaceDropped(msgspec.Struct, frozen=True, omit_defaults=True):
    """A namespace that was dropped."""

    namespace: str
    dropped: bool
    purged: bool | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None


CREATE_NAMESPACE = Endpoint(
    "create_namespace",
    "POST",
    _NAMESPACES,
    CreateNamespace,
    NamespaceCreated,
    status=201,
    mutates=True,
)
LIST_NAMESPACES = Endpoint("list_namespaces", "GET", _NAMESPACES, ListNamespaces, list[Namespace])
GET_NAMESPACE = Endpoint("get_namespace", "GET", _NAMESPACE, GetNamespace, Namespace)
NAMESPACE_EXISTS = Endpoint(
    "namespace_exists", "GET", f"{_NAMESPACE}/exists", NamespaceExists, NamespaceExistence
)
ALTER_NAMESPACE = Endpoint(
    "alter_namespace", "PUT", _NAMESPACE, AlterNamespace, NamespaceAltered, mutates=True
)
DROP_NAMESPACE = Endpoint(
    "drop_namespace", "DELETE", _NAMESPACE, DropNamespace, NamespaceDropped, mutates=True
)
