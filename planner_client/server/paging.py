"""Which part of a list does one answer hold, and how does the next one go on?

A page goes on after the name that the last one ended with, so that names that come and go
meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Protocol, TypeVar

from io_core.errors import RequestRejectedError
from planner_client.protocol.endpoint import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["cut", "fetched", "start"]

T = TypeVar("T")


class _Listing(Protocol):
    """A request for a list."""

    @property
    def limit(self) -> int | None: ...

    @property
    def next_token(self) -> str | None: ...


def start(request: _Listing) -> str:
    """The name after which the answer begins; empty for the first page.

    Raises:
        RequestRejectedError: The token is none that this planner gave.
    """
    try:
        token = (request.next_token or "").encode()
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise RequestRejectedError(
            f"next_token {request.next_token!r} is no token of this planner: leave it out to begin anew",
            code="invalid_request",
        ) from None


def fetched(request: _Listing) -> int:
    """How many rows to fetch: one more than fit, to know whether more follow; -1 for all.

    Raises:
        RequestRejectedError: The limit is less than one.
    """
    if request.limit is None:
        return -1
    if request.limit < 1:
        raise RequestRejectedError(
            f"limit {request.limit} is less than 1: leave it out to list everything",
            code="invalid_request",
        )
    # More rows than SQLite can count would be all of them.
    return min(request.limit, 2**62) + 1


def cut(items: Sequence[T], request: _Listing, name: Callable[[T], str]) -> Page[T]:
    """The page of what was fetched; `name` gives what it is ordered by."""
    if request.limit is None or len(items) <= request.limit:
        return Page(items)
    kept = items[: request.limit]
    return Page(kept, base64.urlsafe_b64encode(name(kept[-1]).encode()).decode())
