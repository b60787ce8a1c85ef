"""Declarations: a few rows in the call itself, shown or written."""

from __future__ import annotations

from typing import Any

import msgspec

from io_core.schema import SchemaField
from planner_client.protocol.endpoint import Endpoint, JsonQuery, Query, Request

__all__ = ["PREVIEW", "WRITE_INLINE", "Preview", "Previewed", "WriteInline", "WrittenInline"]

_TABLE = "/v1/namespaces/{namespace}/tables/{table}"


class Preview(Request, frozen=True, kw_only=True):
    """Of which table to show rows, and how many at most. All but the names is in the query."""

    namespace: str
    table: str
    table_version: Query[str | None] = None
    limit: Query[int] = 10
    # Any: the predicate's JSON form.
    filter_predicate: JsonQuery[dict[str, Any] | None] = None


class Previewed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first rows of a table, as JSON scalars by column; `total_rows` counts all of them."""

    # Any: JSON scalars, typed by their columns.
    sample_rows: list[dict[str, Any]]
    sample_size: int = 0
    schema: list[SchemaField] | None = None
    total_rows: int = 0


class WriteInline(Request, frozen=True, kw_only=True):
    """Rows to write, as lists by column. Rows and layout are in the body, the rest in the query.

    Published clients send `mode` and `content_type` as names of an enumeration's members too.
    """

    namespace: str
    table: str
    # Any: JSON scalars.
    data: dict[str, list[Any]]
    table_version: Query[str | None] = None
    mode: Query[str] = "auto"
    content_type: Query[str | None] = None
    layout: str | None = None


class WrittenInline(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows that were written."""

    table: str
    written: bool
    records: int = 0
    deltas_written: int = 0
    transaction_id: str | None = None
    transaction_version: int | None = None


PREVIEW = Endpoint("preview", "GET", f"{_TABLE}/preview", Preview, Previewed)
WRITE_INLINE = Endpoint(
    "write_inline", "POST", f"{_TABLE}/write", WriteInline, WrittenInline, mutates=True
)
