"""Declarations: tables and their versions."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from io_core.evolve import SchemaUpdates  # noqa: TC001  # msgspec reads the annotations
from io_core.model import PartitionScheme, SortScheme
from io_core.schema import SchemaField
from planner_client.protocol.endpoint import Endpoint, Query, Request

__all__ = [
    "ALTER_TABLE",
    "CREATE_TABLE",
    "DESCRIBE_TABLE",
    "DROP_TABLE",
    "LIST_TABLES",
    "LIST_TABLE_VERSIONS",
    "RENAME_TABLE",
    "ROLLBACK_TABLE",
    "TABLE_EXISTS",
    "TABLE_HISTORY",
    "TRUNCATE_TABLE",
    "AlterTable",
    "CreateTable",
    "DescribeTable",
    "DropTable",
    "LifecycleState",
    "ListTableVersions",
    "ListTables",
    "RenameTable",
    "RollbackTable",
    "TableAltered",
    "TableChange",
    "TableCreated",
    "TableDescription",
    "TableDropped",
    "TableExistence",
    "TableExists",
    "TableHistory",
    "TableRenamed",
    "TableRolledBack",
    "TableSummary",
    "TableTruncated",
    "TableVersion",
    "TruncateTable",
]

LifecycleState = Literal["created", "unreleased", "active", "deprecated", "beta", "deleted"]

_TABLES = "/v1/namespaces/{namespace}/tables"
_TABLE = f"{_TABLES}/{{table}}"


class CreateTable(Request, frozen=True, kw_only=True):
    """A table to make, or a version of one that is there.

    `schema_def` is a list of fields or base64 of an Arrow IPC schema; None makes it schemaless.
    """

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
    layout: str | None = None
    default_content_type: str | None = None
    fail_if_exists: bool = True
    auto_create_namespace: bool = False


class TableCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table or a version that was made, or was there (`created` False)."""

    table: str
    namespace: str
    created: bool
    table_version: str | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None


class ListTables(Request, frozen=True, kw_only=True):
    """Whose tables to list, how many at most, after which page; without a limit all of them."""

    namespace: str
    limit: Query[int | None] = None
    next_token: Query[str | None] = None


class TableSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table in a list."""

    name: str
    latest_version: str | None = None
    description: str | None = None
    lifecycle_state: str | None = None


class DescribeTable(Request, frozen=True, kw_only=True):
    """Which table to describe.

    Totals are always exact here, so `exact_stats` changes nothing; `metadata_only`, or
    `include_stats` false, leaves them out. `expected_table_id` refuses another table of the name.
    """

    namespace: str
    table: str
    table_version: Query[str | None] = None
    exact_stats: Query[bool] = False
    metadata_only: Query[bool] = False
    include_stats: Query[bool] = True
    expected_table_id: Query[str | None] = None


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
    stats_omitted: bool | None = None
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
    """Whose versions to list, how many at most, after which page; without a limit all of them."""

    namespace: str
    table: str
    limit: Query[int | None] = None
    next_token: Query[str | None] = None


class TableVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a table."""

    table_version: str
    lifecycle_state: str | None = None

    @property
    def version(self) -> str:
        """Its name, in short."""
        return self.table_version


class TableHistory(Request, frozen=True, kw_only=True):
    """Whose history to list, how many commits at most, after which page; without a limit all.

    This call is this project's own.
    """

    namespace: str
    table: str
    limit: Query[int | None] = None
    next_token: Query[str | None] = None


class TableChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One commit that changed a table.

    Attributes:
        snapshot: Its place in the catalog's sequence; the first that shows it.
        committed_ns: When, in nanoseconds since the epoch. `as_of` one more is right after it.
        kinds: What it did: `create`, `add`, `append`, `upsert`, `replace_partition`, `replace`,
            `alter`, `describe`, `drop`.
        table_version: The version whose rows or schema it changed; None for the table itself.
        message: For people.
        transaction_id: The transaction that it was, if it was one.
        files: Files that it added, their rows before any merge, and their bytes.
        removed_files: The same of files that it took away.
    """

    snapshot: int
    committed_ns: int
    kinds: list[str]
    table_version: str | None = None
    message: str | None = None
    transaction_id: str | None = None
    files: int = 0
    records: int = 0
    bytes: int = 0
    removed_files: int = 0
    removed_records: int = 0
    removed_bytes: int = 0


class AlterTable(Request, frozen=True, kw_only=True):
    """What to change of a table and of one of its versions; what is left out stays.

    Properties are set one by one; null removes one. `partition_updates` is a new partition
    scheme, for a version that holds no files.
    """

    namespace: str
    table: str
    table_version: str | None = None
    lifecycle_state: LifecycleState | None = None
    schema_updates: SchemaUpdates | None = None
    partition_updates: PartitionScheme | None = None
    sort_scheme: SortScheme | None = None
    table_description: str | None = None
    table_version_description: str | None = None
    # Any: free-form properties.
    table_properties: dict[str, Any] | None = None
    table_version_properties: dict[str, Any] | None = None
    layout: str | None = None
    default_content_type: str | None = None


class TableAltered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that was changed."""

    table: str
    altered: bool
    namespace: str | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None


class RenameTable(Request, frozen=True, kw_only=True):
    """A table's new name, and the namespace that it moves to, if any."""

    namespace: str
    table: str
    new_name: Query[str]
    new_namespace: Query[str | None] = None


class TableRenamed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that was renamed."""

    old_name: str
    new_name: str
    new_namespace: str
    renamed: bool
    transaction_id: str | None = None
    transaction_version: int | None = None


class DropTable(Request, frozen=True, kw_only=True):
    """Which table to drop, all its versions; `purge` also gives up its files."""

    namespace: str
    table: str
    purge: Query[bool] = False


class TableDropped(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that was dropped."""

    table: str
    dropped: bool
    namespace: str | None = None
    purged: bool | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None


class TruncateTable(Request, frozen=True, kw_only=True):
    """Whose rows to remove, all of them; the table stays as it is otherwise."""

    namespace: str
    table: str
    table_version: Query[str | None] = None


class TableTruncated(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that was emptied."""

    table: str
    truncated: bool
    transaction_id: str | None = None
    transaction_version: int | None = None


class RollbackTable(Request, frozen=True, kw_only=True):
    """The time to go back to: nanoseconds since the epoch; what was committed strictly before."""

    namespace: str
    table: str
    as_of: int
    table_version: Query[str | None] = None
    commit_message: str | None = None


class TableRolledBack(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that is again what it was."""

    table: str
    rolled_back: bool
    as_of: int | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None


CREATE_TABLE = Endpoint(
    "create_table", "POST", _TABLES, CreateTable, TableCreated, status=201, mutates=True
)
LIST_TABLES = Endpoint("list_tables", "GET", _TABLES, ListTables, list[TableSummary])
DESCRIBE_TABLE = Endpoint("describe_table", "GET", _TABLE, DescribeTable, TableDescription)
TABLE_EXISTS = Endpoint("table_exists", "GET", f"{_TABLE}/exists", TableExists, TableExistence)
LIST_TABLE_VERSIONS = Endpoint(
    "list_table_versions", "GET", f"{_TABLE}/versions", ListTableVersions, list[TableVersion]
)
TABLE_HISTORY = Endpoint(
    "table_history", "GET", f"{_TABLE}/history", TableHistory, list[TableChange]
)
ALTER_TABLE = Endpoint("alter_table", "PUT", _TABLE, AlterTable, TableAltered, mutates=True)
RENAME_TABLE = Endpoint(
    "rename_table", "POST", f"{_TABLE}/rename", RenameTable, TableRenamed, mutates=True
)
DROP_TABLE = Endpoint("drop_table", "DELETE", _TABLE, DropTable, TableDropped, mutates=True)
TRUNCATE_TABLE = Endpoint(
    "truncate_table", "POST", f"{_TABLE}/truncate", TruncateTable, TableTruncated, mutates=True
)
ROLLBACK_TABLE = Endpoint(
    "rollback_table", "POST", f"{_TABLE}/rollback", RollbackTable, TableRolledBack, mutates=True
)
