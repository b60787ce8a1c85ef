"""What an endpoint is, and how a request's fields travel: in path, query, headers or body.

A request is a frozen struct; where each field travels is declared on the field, once. Both ends
use the same `Endpoint`: the client encodes with it, the server decodes.
"""

from __future__ import annotations

import functools
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from io_core.errors import RequestRejectedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "BODY_MARKER",
    "NEXT_PAGE",
    "Encoded",
    "Endpoint",
    "Header",
    "JsonQuery",
    "LongQuery",
    "Page",
    "Query",
    "Request",
    "header_name",
]

T = TypeVar("T")
Req = TypeVar("Req", bound="Request")
Res = TypeVar("Res")

Query = Annotated[T, msgspec.Meta(extra={"in": "query"})]
# JSON text in the query; LongQuery moves to the body where it is long.
JsonQuery = Annotated[T, msgspec.Meta(extra={"in": "json"})]
LongQuery = Annotated[T, msgspec.Meta(extra={"in": "long"})]
# Text in a header that is named after the field.
Header = Annotated[T, msgspec.Meta(extra={"in": "header"})]

BODY_MARKER: dict[str, bool] = {"__deltacat_filter_predicate_body__": True}
_LONG_BYTES = 4096
_NONE: Mapping[str, str] = MappingProxyType({})
# The response header that tells where a list goes on.
NEXT_PAGE = "x-deltacat-next-token"


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every request can carry: the catalog, a transaction, an operation id.

    `operation_id` makes a mutation happen once: a repeated one returns the first result.
    """

    catalog: Query[str | None] = None
    transaction_id: Query[str | None] = None
    transaction_version: Query[int | None] = None
    operation_id: Query[str | None] = None


class Page(list[T]):
    """A list of which more may follow; on the wire a bare array, and the token in a header.

    Attributes:
        next_token: What to ask the next page with; None on the last one.
    """

    def __init__(self, items: Iterable[T] = (), next_token: str | None = None) -> None:
        super().__init__(items)
        self.next_token = next_token


class Encoded(NamedTuple):
    """A request on its way: path, query parameters, a JSON body where there is one, headers."""

    path: str
    query: dict[str, str]
    body: bytes | None
    headers: dict[str, str]


def header_name(field: str) -> str:
    """The header that a field travels in.

    Example:
        >>> header_name("idempotency_key")
        'Idempotency-Key'
    """
    return field.replace("_", "-").title()


class Endpoint(Generic[Req, Res]):
    """One call of the protocol.

    Attributes:
        name: What handlers and tools call it.
        method: HTTP method.
        path: Template; `{field}` names a request's field.
        request: The struct of all the call's fields.
        response: What comes back.
        status: HTTP status of success.
        mutates: Whether it changes the catalog, and so takes an operation id.
        repeats: Whether it may be sent again without one: the second time changes nothing more.
    """

    def __init__(
        self,
        name: str,
        method: str,
        path: str,
        request: type[Req],
        response: type[Res],
        *,
        status: int = 200,
        mutates: bool = False,
        repeats: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self.path = path
        self.request = request
        self.response = response
        self.status = status
        self.mutates = mutates
        self.repeats = repeats

    def __repr__(self) -> str:
        return f"Endpoint({self.method} {self.path})"

    @functools.cached_property
    def places(self) -> dict[str, str]:
        """Where each field travels: path, query, json, long, header or body."""
        places = {}
        info = msgspec.inspect.type_info(self.request)
        if not isinstance(info, msgspec.inspect.StructType):
            raise TypeError(f"{self.request!r} is no struct")
        for field in info.fields:
            extra = field.type.extra if isinstance(field.type, msgspec.inspect.Metadata) else None
            default = "body"
            if f"{{{field.name}}}" in self.path:
                default = "path"
            places[field.name] = (extra or {}).get("in", default)
        return places

    def encode(self, request: Req) -> Encoded:
        """Split a request into path, query, body and headers."""
        fields: dict[str, Any] = msgspec.to_builtins(request)
        parts: dict[str, str] = {}
        query: dict[str, str] = {}
        headers: dict[str, str] = {}
        body: dict[str, Any] = {}
        for name, value in fields.items():
            match self.places[name]:
                case "path":
                    if not value:
                        raise RequestRejectedError(f"{name} is empty", code="invalid_request")
                    parts[name] = quote(value, safe="")
                case "query":
                    query[name] = str(value).lower() if isinstance(value, bool) else str(value)
                case "header":
                    headers[header_name(name)] = value
                case "body":
                    body[name] = value
                case place:
                    text = msgspec.json.encode(value)
                    if place == "long" and len(text) > _LONG_BYTES:
                        body[name], text = value, msgspec.json.encode(BODY_MARKER)
                    query[name] = text.decode()
        has_body = bool(body) or "body" in self.places.values()
        sent = msgspec.json.encode(body) if has_body else None
        return Encoded(self.path.format(**parts), query, sent, headers)

    def decode(
        self,
        path: Mapping[str, str],
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str] = _NONE,
    ) -> Req:
        """Put a request together again; unknown fields are ignored.

        Args:
            path: The parts of the path that the template names, decoded.
            query: Its parameters.
            body: JSON text; may be empty.
            headers: In any case, where the mapping minds none; else as `header_name` has them.

        Raises:
            msgspec.ValidationError: A field is missing or of another type; names it.
        """
        sent = _json("body", body) if body.strip() else {}
        if not isinstance(sent, dict):
            raise msgspec.ValidationError("Expected a JSON object as the body")
        fields: dict[str, Any] = {}
        for name, place in self.places.items():
            if place == "path":
                fields[name] = path[name]
            elif place == "body":
                if name in sent:
                    fields[name] = sent[name]
            elif place == "header":
                if header_name(name) in headers:
                    fields[name] = headers[header_name(name)]
            elif name in query:
                fields[name] = query[name] if place == "query" else _json(name, query[name])
                if place == "long" and fields[name] == BODY_MARKER:
                    fields[name] = sent.get(name)
        # Query values arrive as text: numbers and booleans are read from it.
        return msgspec.convert(fields, self.request, strict=False)


def _json(name: str, text: str | bytes) -> Any:
    # Any: whatever JSON holds; `msgspec.convert` checks it right after.
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise msgspec.ValidationError(f"{error} - at `$.{name}`") from None
