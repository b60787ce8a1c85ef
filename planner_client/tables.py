"""client.catalog: tables and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.errors import SchemaValidationError
from io_core.schema import SchemaField, assign_field_ids, encode_schema
from planner_client.calls import Resource, built
from planner_client.given import of_kind, one_or_more
from planner_client.protocol.tables import (
    ALTER_TABLE,
    CREATE_TABLE,
    DESCRIBE_TABLE,
    DROP_TABLE,
    LIST_TABLE_VERSIONS,
    LIST_TABLES,
    RENAME_TABLE,
    ROLLBACK_TABLE,
    TABLE_EXISTS,
    TABLE_HISTORY,
    TRUNCATE_TABLE,
    AlterTable,
    CreateTable,
    DescribeTable,
    DropTable,
    ListTables,
    ListTableVersions,
    RenameTable,
    RollbackTable,
    TableExists,
    TableHistory,
    TruncateTable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from io_core.evolve import SchemaUpdates
    from io_core.model import PartitionScheme, SortScheme
    from planner_client.protocol.tables import (
        TableAltered,
        TableChange,
        TableCreated,
        TableDescription,
        TableDropped,
        TableRenamed,
        TableRolledBack,
        TableSummary,
        TableTruncated,
        TableVersion,
    )
    from planner_client.transaction import Transaction

__all__ = ["Tables"]


class Tables(Resource):
    """Calls on tables and their versions."""

    def create_table(
        self,
        *,
        namespace: str,
        table: str,
        schema_def: str | Sequence[SchemaField | Mapping[str, Any]] | None = None,
        schema: pa.Schema | None = None,
        merge_keys: str | Sequence[str] | None = None,
        partition_scheme: PartitionScheme | Mapping[str, Any] | None = None,
        sort_scheme: SortScheme | Mapping[str, Any] | None = None,
        table_version: str | None = None,
        lifecycle_state: str | None = None,
        content_type: str | None = None,
        content_types: Sequence[str] | None = None,
        table_description: str | None = None,
        table_version_description: str | None = None,
        table_properties: dict[str, Any] | None = None,
        table_version_properties: dict[str, Any] | None = None,
        namespace_properties: dict[str, Any] | None = None,
        fail_if_exists: bool = True,
        auto_create_namespace: bool = False,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> TableCreated:
        """Make a table, or a version of one that is there.

        Args:
            namespace: Where.
            table: Its name.
            schema_def: Fields as the protocol writes them, or base64 of an Arrow IPC schema.
            schema: The same as an Arrow schema; pass one of the two, or none for a schemaless table.
            merge_keys: Columns that identify a row, besides those that the schema marks. Writes
                to a table with merge keys are upserts.
            partition_scheme: `{"keys": [{"key": ["month"], "transform": "identity"}]}`.
            sort_scheme: `{"keys": [{"key": ["id"], "sort_order": "ascending"}]}`; how rows are
                ordered within each file.
            table_version: Name of the version; "1" by default.
            lifecycle_state: Of the version; "active" by default.
            content_type: The one format that writes are restricted to.
            content_types: Formats that writes are restricted to.
            table_description: For people.
            table_version_description: For people.
            table_properties: Free-form.
            table_version_properties: Free-form.
            namespace_properties: Of a namespace that this call makes.
            fail_if_exists: False returns the table that is there, whatever its schema.
            auto_create_namespace: Whether to make the namespace too.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            AlreadyExistsError: The table is there.
            NotFoundError: The namespace is not.
            SchemaValidationError: The schema, a key or a scheme is wrong.
        """
        if content_type is not None:
            if content_types is not None:
                raise SchemaValidationError(
                    "content_type and content_types exclude each other: pass one"
                )
            content_types = [content_type]
        fields = {
            "namespace": namespace,
            "table": table,
            "schema_def": _schema_def(schema_def, schema, merge_keys),
            "partition_scheme": partition_scheme,
            "sort_scheme": sort_scheme,
            "table_version": table_version,
            "lifecycle_state": lifecycle_state,
            "content_types": content_types,
            "table_description": table_description,
            "table_version_description": table_version_description,
            "table_properties": table_properties,
            "table_version_properties": table_version_properties,
            "namespace_properties": namespace_properties,
            "fail_if_exists": fail_if_exists,
            "auto_create_namespace": auto_create_namespace,
        }
        request = built(fields, CreateTable)
        return self._calls.mutate(CREATE_TABLE, request, transaction=transaction, catalog=catalog)

    def list_tables(
        self,
        *,
        namespace: str,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> list[TableSummary]:
        """The namespace's tables, by name."""
        request = ListTables(namespace=namespace)
        return self._calls.pages(LIST_TABLES, request, transaction=transaction, catalog=catalog)

    def describe_table(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        include_stats: bool = True,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> TableDescription:
        """A table's schema, keys, schemes, properties, and totals where `include_stats`.

        Raises:
            NotFoundError: It does not exist; offers the nearest name.
        """
        request = DescribeTable(
            namespace=namespace,
            table=table,
            table_version=table_version,
            include_stats=include_stats,
        )
        return self._calls.read(DESCRIBE_TABLE, request, transaction=transaction, catalog=catalog)

    def table_exists(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> bool:
        """Whether the table is there, with an active version or the one named."""
        request = TableExists(namespace=namespace, table=table, table_version=table_version)
        answer = self._calls.read(TABLE_EXISTS, request, transaction=transaction, catalog=catalog)
        return answer.exists

    def list_table_versions(
        self,
        *,
        namespace: str,
        table: str,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> list[TableVersion]:
        """The table's versions, oldest first."""
        request = ListTableVersions(namespace=namespace, table=table)
        return self._calls.pages(
            LIST_TABLE_VERSIONS, request, transaction=transaction, catalog=catalog
        )

    def table_history(
        self,
        *,
        namespace: str,
        table: str,
        limit: int | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> list[TableChange]:
        """The commits that changed the table, newest first, as far back as vacuum left them.

        Args:
            namespace: Where the table is.
            table: Its name.
            limit: Most commits to list; None means all.
            transaction: See `Client.transaction`; shows what was there when it began.
            catalog: None means the client's own.

        Raises:
            NotFoundError: It does not exist.
        """
        request = TableHistory(namespace=namespace, table=table, limit=limit)
        if limit is None:
            return self._calls.pages(
                TABLE_HISTORY, request, transaction=transaction, catalog=catalog
            )
        return self._calls.read(TABLE_HISTORY, request, transaction=transaction, catalog=catalog)

    def alter_table(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        lifecycle_state: str | None = None,
        schema_updates: SchemaUpdates | Mapping[str, Any] | None = None,
        partition_updates: PartitionScheme | Mapping[str, Any] | None = None,
        sort_scheme: SortScheme | Mapping[str, Any] | None = None,
        table_description: str | None = None,
        table_version_description: str | None = None,
        table_properties: dict[str, Any] | None = None,
        table_version_properties: dict[str, Any] | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> TableAltered:
        """Change a table and one of its versions; what is left out stays.

        Args:
            namespace: Where the table is.
            table: Its name.
            table_version: None means the latest active one.
            lifecycle_state: Of the version.
            schema_updates: `{"operations": [{"op": "add", "field": {"name": "x", "type": "int64"}}]}`.
            partition_updates: A new partition scheme, for a version without files.
            sort_scheme: How rows are ordered within files written from then on.
            table_description: For people.
            table_version_description: For people.
            table_properties: Those to set; None removes one.
            table_version_properties: Those to set; None removes one.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table or version.
            SchemaValidationError: The table's rows could not be read by the new schema.
        """
        fields = {
            "namespace": namespace,
            "table": table,
            "table_version": table_version,
            "lifecycle_state": lifecycle_state,
            "schema_updates": schema_updates,
            "partition_updates": partition_updates,
            "sort_scheme": sort_scheme,
            "table_description": table_description,
            "table_version_description": table_version_description,
            "table_properties": table_properties,
            "table_version_properties": table_version_properties,
        }
        request = built(fields, AlterTable)
        return self._calls.mutate(ALTER_TABLE, request, transaction=transaction, catalog=catalog)

    def rename_table(
        self,
        *,
        namespace: str,
        table: str,
        new_name: str,
        new_namespace: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> TableRenamed:
        """Give a table another name, or another namespace; its files stay where they are.

        Raises:
            NotFoundError: It does not exist, or the namespace does not.
            AlreadyExistsError: There is one of the new name.
        """
        request = RenameTable(
            namespace=namespace, table=table, new_name=new_name, new_namespace=new_namespace
        )
        return self._calls.mutate(RENAME_TABLE, request, transaction=transaction, catalog=catalog)

    def drop_table(
        self,
        *,
        namespace: str,
        table: str,
        purge: bool = False,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> TableDropped:
        """Drop a table, all its versions.

        Args:
            namespace: Where the table is.
            table: Its name.
            purge: Whether to give up its files too, so that no earlier snapshot reads them.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: It does not exist.
        """
        request = DropTable(namespace=namespace, table=table, purge=purge)
        return self._calls.mutate(DROP_TABLE, request, transaction=transaction, catalog=catalog)

    def truncate_table(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        catalog: str | None = None,
    ) -> TableTruncated:
        """Remove all rows; the table stays as it is otherwise. No transaction can hold it.

        Raises:
            NotFoundError: No such table or version.
            TransactionError: Called in a transaction's block.
        """
        self._calls.outside("truncate_table")
        request = TruncateTable(namespace=namespace, table=table, table_version=table_version)
        return self._calls.mutate(TRUNCATE_TABLE, request, catalog=catalog)

    def rollback_table(
        self,
        *,
        namespace: str,
        table: str,
        as_of: int,
        table_version: str | None = None,
        commit_message: str | None = None,
        catalog: str | None = None,
    ) -> TableRolledBack:
        """Make a table again what it was. No transaction can hold it.

        Args:
            namespace: Where the table is.
            table: Its name.
            as_of: Nanoseconds since the epoch; what was committed strictly before.
            table_version: None means the latest active one.
            commit_message: For people.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table or version, or it was not there then.
            TransactionError: Called in a transaction's block.
        """
        self._calls.outside("rollback_table")
        request = RollbackTable(
            namespace=namespace,
            table=table,
            as_of=as_of,
            table_version=table_version,
            commit_message=commit_message,
        )
        return self._calls.mutate(ROLLBACK_TABLE, request, catalog=catalog)


def _schema_def(
    schema_def: str | Sequence[SchemaField | Mapping[str, Any]] | None,
    schema: pa.Schema | None,
    merge_keys: str | Sequence[str] | None,
) -> str | Sequence[SchemaField | Mapping[str, Any]] | None:
    """The schema as the protocol has it, from the one way in which it was given."""
    merge_keys = one_or_more("merge_keys", merge_keys)
    if schema is None:
        if merge_keys:
            raise SchemaValidationError(
                "merge_keys goes with schema=; in schema_def mark them with is_merge_key"
            )
        return schema_def
    if schema_def is not None:
        raise SchemaValidationError("schema and schema_def exclude each other: pass one")
    return encode_schema(
        assign_field_ids(of_kind("schema", schema, pa.Schema, "a pyarrow.Schema"), merge_keys)
    )
