"""Which planner answers a call? Several catalogs in one process, each with a name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from io_core.errors import NotFoundError, RequestRejectedError
from planner_client.protocol.catalogs import (
    GET_CATALOG,
    HEALTH,
    LIST_CATALOGS,
    CatalogInfo,
    Catalogs,
    Health,
    HealthRequest,
    ListCatalogs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.server.auth import Guard, Principal
    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["DEFAULT_CATALOG", "HostedCatalogs", "check_name"]

DEFAULT_CATALOG = "default"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def check_name(name: str) -> str:
    """The name of a catalog, if it can be one.

    Raises:
        RequestRejectedError: It could not stand in a URL as it is.
    """
    if not _NAME.fullmatch(name):
        raise RequestRejectedError(
            f"{name!r} is no name for a catalog: use up to 128 letters, digits, '_', '-' and '.', "
            "the first a letter, a digit or '_'",
            code="invalid_request",
        )
    return name


class HostedCatalogs:
    """The planners of a server, by their catalogs' names. Threads share it.

    Args:
        planners: At least one; the first is the default, which answers calls that name none.
        guard: Lets through what a caller may do.
    """

    def __init__(self, planners: Mapping[str, EmbeddedPlanner], guard: Guard) -> None:
        self._planners = {check_name(name): planner for name, planner in planners.items()}
        self.default = next(iter(self._planners))
        self._guard = guard

    def __iter__(self) -> Iterator[tuple[str, EmbeddedPlanner]]:
        return iter(self._planners.items())

    def planner(self, in_path: str | None, in_request: str | None) -> EmbeddedPlanner:
        """The planner that a request asks: by the catalog in its path, else by its `catalog`.

        Raises:
            NotFoundError: There is no such catalog; offers the nearest.
            RequestRejectedError: Path and request name two catalogs.
        """
        if in_path is not None and in_request not in {None, in_path}:
            raise RequestRejectedError(
                f"the path names catalog {in_path!r} and the request {in_request!r}: name one",
                code="invalid_request",
            )
        named = in_request if in_path is None else in_path
        name = self.default if named is None else named
        found = self._planners.get(name)
        if found is None:
            raise NotFoundError.of("catalog", name, self._planners)
        return found

    # Any: each endpoint has its own request and response.
    def call(
        self,
        planner: EmbeddedPlanner,
        endpoint: Endpoint[Any, Any],
        request: Request,
        principal: Principal | None,
    ) -> Any:
        """Run one call by `planner`, one of these, or by all if it is about all; if one may.

        Raises:
            DeltaCATError: Whatever the call is refused for.
        """
        match request:
            case HealthRequest():
                return self._health(request)
            case ListCatalogs():
                return self._list(request, principal)
        answer = self._guard.call(planner, endpoint, request, principal)
        return self._placed(answer) if endpoint is GET_CATALOG else answer

    def _health(self, request: HealthRequest) -> Health:
        """A server is well whose catalogs are all well."""
        first, *_ = [self._guard.call(p, HEALTH, request, None) for p in self._planners.values()]
        return first

    def _list(self, request: ListCatalogs, principal: Principal | None) -> Catalogs:
        known: list[CatalogInfo] = []
        for planner in self._planners.values():
            answer = self._guard.call(planner, LIST_CATALOGS, request, principal)
            known += [self._placed(info) for info in answer.catalogs]
        return Catalogs(known)

    def _placed(self, info: CatalogInfo) -> CatalogInfo:
        return msgspec.structs.replace(info, is_default=info.name == self.default)

    def close(self) -> None:
        """Close every planner's ledger."""
        for planner in self._planners.values():
            planner.close()
