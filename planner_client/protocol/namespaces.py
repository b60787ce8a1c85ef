"""Declarations: namespaces."""

from __future__ import annotations

from typing import Any

import msgspec

from planner_client.protocol.endpoint import Endpoint, Request

__all__ = [
    "CREATE_NAMESPACE",
    "GET_NAMESPACE",
    "LIST_NAMESPACES",
    "NAMESPACE_EXISTS",
    "CreateNamespace",
    "GetNamespace",
    "ListNamespaces",
    "Namespace",
    "NamespaceCreated",
    "NamespaceExistence",
    "NamespaceExists",
]


class CreateNamespace(Request, frozen=True, kw_only=True):
    """A namespace to make."""

    namespace: str
    # Any: free-form properties.
    properties: dict[str, Any] | None = None


class NamespaceCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    """A namespace that was made."""

    namespace: str
    created: bool


class ListNamespaces(Request, frozen=True, kw_only=True):
    """No fields of its own."""


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


CREATE_NAMESPACE = Endpoint(
    "create_namespace",
    "POST",
    "/v1/namespaces",
    CreateNamespace,
    NamespaceCreated,
    status=201,
    mutates=True,
)
LIST_NAMESPACES = Endpoint(
    "list_namespaces", "GET", "/v1/namespaces", ListNamespaces, list[Namespace]
)
GET_NAMESPACE = Endpoint(
    "get_namespace", "GET", "/v1/namespaces/{namespace}", GetNamespace, Namespace
)
NAMESPACE_EXISTS = Endpoint(
    "namespace_exists",
    "GET",
    "/v1/namespaces/{namespace}/exists",
    NamespaceExists,
    NamespaceExistence,
)
