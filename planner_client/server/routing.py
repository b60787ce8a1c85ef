"""Which endpoint does a request ask for? By method and path, in one walk over the path's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from io_core.errors import RequestRejectedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planner_client.protocol.endpoint import Endpoint

__all__ = ["Found", "Router", "query_of"]

# What JSON is full of. None of it means anything to a query, so that it may be decoded beforehand.
_PUNCTUATION = tuple((b"%%%02X" % ord(mark), mark.encode()) for mark in '"{}[],:')


class Found(NamedTuple):
    """An endpoint, and what its path's fields were given."""

    # Any: each endpoint has its own request and response.
    endpoint: Endpoint[Any, Any]
    fields: dict[str, str]


class _Node:
    """A place in the paths: what may follow, and which methods end here."""

    def __init__(self) -> None:
        self.names: dict[str, _Node] = {}
        self.field: _Node | None = None
        self.ends: dict[str, tuple[Endpoint[Any, Any], tuple[str, ...]]] = {}

    def following(self, part: str) -> _Node:
        """The node for the next part of a path template, made where there is none."""
        if not part.startswith("{"):
            return self.names.setdefault(part, _Node())
        self.field = self.field or _Node()
        return self.field


class Router:
    """Finds endpoints. A part of a path that is spelled out goes before a field."""

    def __init__(self, endpoints: Iterable[Endpoint[Any, Any]]) -> None:
        self._root = _Node()
        for endpoint in endpoints:
            node, fields = self._root, []
            for part in endpoint.path.split("/")[1:]:
                node = node.following(part)
                if part.startswith("{"):
                    fields.append(part[1:-1])
            node.ends[endpoint.method] = (endpoint, tuple(fields))

    def find(self, method: str, raw_path: bytes) -> Found:
        """The endpoint that `method` and `raw_path`, still percent-encoded, ask for.

        HEAD finds what GET does.

        Raises:
            RequestRejectedError: 404 or 405; the details name the methods that would do.
        """
        node: _Node | None = self._root
        values: list[str] = []
        # A part is decoded after it was cut out: an encoded slash belongs to a name.
        for part in raw_path.decode("ascii", "replace").split("/")[1:]:
            if node is None:
                break
            following = node.names.get(part)
            if following is None and part:
                following = node.field
                values.append(part)
            node = following
        if node is None or not node.ends:
            raise _no_endpoint(method, raw_path, "not_found", 404)
        end = node.ends.get("GET" if method == "HEAD" else method)
        if end is None:
            raise _no_endpoint(method, raw_path, "method_not_allowed", 405, list(node.ends))
        endpoint, names = end
        return Found(endpoint, {n: _name(v) for n, v in zip(names, values, strict=True)})


def query_of(text: bytes) -> dict[str, str]:
    """The parameters of a query; the last one of a name counts.

    Example:
        >>> query_of(b"columns=%5B%22a%22%2C%22b+%26%22%5D&limit=")
        {'columns': '["a","b &"]', 'limit': ''}
    """
    # The parser takes a step for every escape that is left.
    for escaped, mark in _PUNCTUATION:
        text = text.replace(escaped, mark)
    return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True))


def _name(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise RequestRejectedError(
            f"{part!r} in the path is not UTF-8, percent-encoded", code="invalid_request"
        ) from None


def _no_endpoint(
    method: str, raw_path: bytes, code: str, status: int, methods: Iterable[str] = ()
) -> RequestRejectedError:
    shown = unquote(raw_path.decode("ascii", "replace"))
    known = sorted(methods)
    hint = f"; it takes {', '.join(known)}" if known else "; see /docs for those it has"
    return RequestRejectedError(
        f"{method} {shown[:200]} is no endpoint of this planner{hint}",
        code=code,
        status=status,
        details={"methods": known} if known else {},
    )
