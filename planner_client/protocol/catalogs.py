"""Declarations: health and catalogs."""

from __future__ import annotations

import msgspec

from planner_client.protocol.endpoint import Endpoint, Request

__all__ = [
    "GET_CATALOG",
    "HEALTH",
    "LIST_CATALOGS",
    "SERVER_ENDPOINTS",
    "CatalogInfo",
    "Catalogs",
    "Health",
    "ServerEndpoints",
]


class HealthRequest(Request, frozen=True, kw_only=True):
    """No fields of its own."""


class Health(msgspec.Struct, frozen=True):
    """Whether the planner serves, and which release it is."""

    status: str
    version: str


class ListCatalogs(Request, frozen=True, kw_only=True):
    """No fields of its own."""


class CatalogInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A catalog that the planner serves."""

    name: str
    root: str
    data_root: str | None = None
    is_default: bool = False


class Catalogs(msgspec.Struct, frozen=True):
    """All catalogs of the planner."""

    catalogs: list[CatalogInfo]


class GetCatalog(Request, frozen=True, kw_only=True):
    """Which catalog to describe."""

    catalog_name: str


class ServerEndpointsRequest(Request, frozen=True, kw_only=True):
    """No fields of its own."""


class ServerEndpoints(msgspec.Struct, frozen=True, omit_defaults=True):
    """Under which other URLs the planner can be reached; None where it knows of none."""

    external_url: str | None = None
    internal_url: str | None = None


HEALTH = Endpoint("health", "GET", "/health", HealthRequest, Health)
LIST_CATALOGS = Endpoint("list_catalogs", "GET", "/v1/catalogs", ListCatalogs, Catalogs)
GET_CATALOG = Endpoint("get_catalog", "GET", "/v1/catalogs/{catalog_name}", GetCatalog, CatalogInfo)
SERVER_ENDPOINTS = Endpoint(
    "server_endpoints", "GET", "/v1/server/endpoints", ServerEndpointsRequest, ServerEndpoints
)
