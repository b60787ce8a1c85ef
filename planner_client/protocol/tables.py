"""Declarations: tables and their versions."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from io_core.model import PartitionScheme, SortScheme
from io_core.schema import SchemaField
from planner_client.protocol.endpoint import Endpoint, Query, Request

__all__ = [
    "CREATE_TABLE",
    "DESCRIBE_TABLE",
    "LIST_TABLES",
    "LIST_TABLE_VERSIONS",
    "TABLE_EXISTS",
    "CreateTable",
    "DescribeTable",
    "LifecycleState",
    "ListTableVersions",
    "ListTables",
    "TableCreated",
    "TableDescription",
    "TableExistence",
    "TableExists",
    "TableSummary",
    "TableVersion",
]

LifecycleState = Literal["created", "unreleased", "active", "deprecated", "beta", "deleted"]

_TABLE = "/v1/namespaces/{namespace}/tables/{table}"


class CreateTable(Request, frozen=True, kw_only=True):
    """A table to make. `schema_def` is a list of fields or base64 of an Arrow IPC schema."""

    namespace: str
    # In the body, although other paths carry it: this path ends before it.
    table: str
    table_version: str | None = None
    lifecycle_state: LifecycleState | None = None
    schema_def: str | list[SchemaField] | None = None
    content_types: list[str] | None = None
    table_description: str | None = None
    table_version_description: str | None = None
    # Any: free-form properties.
    table_properties: dict[str, Any] | None = None
    table_version_properties: dict[str, Any] | None = None
    namespace_properties: dict[str, Any] | None = None
    partition_scheme: PartitionScheme | None = None
    sort_scheme: SortScheme | None = None
    fail_if_exists: bool = True
    auto_create_namespace: bool = False


class TableCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that was made, or was there (`created` False)."""

    table: str
    namespace: str
    created: bool
    table_version: str | None = None


class ListTables(Request, frozen=True, kw_only=True):
    """Whose tables to list."""

    namespace: str


class TableSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table in a list."""

    name: str
    latest_version: str | None = None
    description: str | None = None
    lifecycle_state: str | None = None


class DescribeTable(Request, frozen=True, kw_only=True):
    """Which table to describe."""

    namespace: str
    table: str
    table_version: Query[str | None] = None


class TableDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table as it is. Totals count files and rows before any merge; sizes are bytes."""

    table_name: str
    namespace: str | None = None
    table_version: str | None = None
    description: str | None = None
    schema: list[SchemaField] | None = None
    schema_serialized: str | None = None
    merge_keys: list[str] | None = None
    partition_scheme: PartitionScheme | None = None
    sort_scheme: SortScheme | None = None
    # Any: free-form properties.
    properties: dict[str, Any] | None = None
    table_properties: dict[str, Any] | None = None
    lifecycle_state: str | None = None
    content_types: list[str] | None = None
    table_id: str | None = None
    stream_id: str | None = None
    stream_format: str | None = None
    total_records: int | None = None
    total_bytes: int | None = None
    total_files: int | None = None
    partition_count: int | None = None
    snapshot: int | None = None


class TableExists(Request, frozen=True, kw_only=True):
    """Which table to look for."""

    namespace: str
    table: str
    table_version: Query[str | None] = None


class TableExistence(msgspec.Struct, frozen=True):
    """Whether it is there."""

    namespace: str
    table: str
    exists: bool


class ListTableVersions(Request, frozen=True, kw_only=True):
    """Whose versions to list."""

    namespace: str
    table: str


class TableVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a table."""

    table_version: str
    lifecycle_state: str | None = None


CREATE_TABLE = Endpoint(
    "create_table",
    "POST",
    "/v1/namespaces/{namespace}/tables",
    CreateTable,
    TableCreated,
    status=201,
    mutates=True,
)
LIST_TABLES = Endpoint(
    "list_tables", "GET", "/v1/namespaces/{namespace}/tables", ListTables, list[TableSummary]
)
DESCRIBE_TABLE = Endpoint("describe_table", "GET", _TABLE, DescribeTable, TableDescription)
TABLE_EXISTS = Endpoint("table_exists", "GET", f"{_TABLE}/exists", TableExists, TableExistence)
LIST_TABLE_VERSIONS = Endpoint(
    "list_table_versions", "GET", f"{_TABLE}/versions", ListTableVersions, list[TableVersion]
)
