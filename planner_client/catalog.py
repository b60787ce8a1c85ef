"""client.catalog: namespaces, tables, plans, reads and writes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from io_core.errors import SchemaValidationError
from io_core.execute import read_plan
from io_core.predicate import dump, parse
from io_core.schema import SchemaField, assign_field_ids, encode_schema
from io_core.sink import DEFAULT_ROWS_PER_FILE, OpenSink
from planner_client.heartbeat import heartbeating
from planner_client.protocol.catalogs import GET_CATALOG, LIST_CATALOGS, GetCatalog, ListCatalogs
from planner_client.protocol.namespaces import (
    CREATE_NAMESPACE,
    GET_NAMESPACE,
    LIST_NAMESPACES,
    NAMESPACE_EXISTS,
    CreateNamespace,
    GetNamespace,
    ListNamespaces,
    NamespaceExists,
)
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.protocol.tables import (
    CREATE_TABLE,
    DESCRIBE_TABLE,
    LIST_TABLE_VERSIONS,
    LIST_TABLES,
    TABLE_EXISTS,
    CreateTable,
    DescribeTable,
    ListTables,
    ListTableVersions,
    TableExists,
)
from planner_client.protocol.writes import (
    ABORT,
    COMMIT,
    GET_SESSION,
    HEARTBEAT,
    STAGE,
    AbortRequest,
    CommitRequest,
    CreateIfMissing,
    HeartbeatRequest,
    SessionRequest,
    StageRequest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from io_core.model import PartitionScheme, SortScheme, WriteEntry, WriteMode, WriteSession
    from io_core.plan import ReadPlan
    from io_core.scan import Scan
    from planner_client.protocol.catalogs import CatalogInfo
    from planner_client.protocol.namespaces import Namespace
    from planner_client.protocol.tables import (
        TableCreated,
        TableDescription,
        TableSummary,
        TableVersion,
    )
    from planner_client.transport import Transport

__all__ = ["Catalog"]

T = TypeVar("T")


def _operation() -> str:
    return f"op_{uuid.uuid4().hex}"


class Catalog:
    """What can be done with a catalog. Every mutation happens once, however often it is sent."""

    def __init__(self, transport: Transport, catalog: str | None) -> None:
        self._transport = transport
        self._catalog = catalog

    def list_catalogs(self) -> list[CatalogInfo]:
        """The catalogs that the planner serves."""
        return self._transport.call(LIST_CATALOGS, ListCatalogs()).catalogs

    def get_catalog(self, *, catalog: str) -> CatalogInfo:
        """One catalog.

        Raises:
            NotFoundError: The planner serves none of that name.
        """
        return self._transport.call(GET_CATALOG, GetCatalog(catalog_name=catalog))

    def create_namespace(
        self, *, namespace: str, properties: dict[str, Any] | None = None
    ) -> Namespace:
        """Make a namespace.

        Raises:
            AlreadyExistsError: It is there.
        """
        request = CreateNamespace(
            namespace=namespace,
            properties=properties,
            catalog=self._catalog,
            operation_id=_operation(),
        )
        self._transport.call(CREATE_NAMESPACE, request)
        return self.get_namespace(namespace=namespace)

    def list_namespaces(self) -> list[Namespace]:
        """All namespaces, by name."""
        return self._transport.call(LIST_NAMESPACES, ListNamespaces(catalog=self._catalog))

    def get_namespace(self, *, namespace: str) -> Namespace:
        """One namespace.

        Raises:
            NotFoundError: It does not exist; offers the nearest name.
        """
        request = GetNamespace(namespace=namespace, catalog=self._catalog)
        return self._transport.call(GET_NAMESPACE, request)

    def namespace_exists(self, *, namespace: str) -> bool:
        """Whether the namespace is there."""
        request = NamespaceExists(namespace=namespace, catalog=self._catalog)
        return self._transport.call(NAMESPACE_EXISTS, request).exists

    def create_table(
        self,
        *,
        namespace: str,
        table: str,
        schema_def: str | Sequence[SchemaField | Mapping[str, Any]] | None = None,
        schema: pa.Schema | None = None,
        merge_keys: Sequence[str] = (),
        partition_scheme: PartitionScheme | Mapping[str, Any] | None = None,
        sort_scheme: SortScheme | Mapping[str, Any] | None = None,
        table_version: str | None = None,
        lifecycle_state: str | None = None,
        content_types: Sequence[str] | None = None,
        table_description: str | None = None,
        table_properties: dict[str, Any] | None = None,
        table_version_properties: dict[str, Any] | None = None,
        fail_if_exists: bool = True,
        auto_create_namespace: bool = False,
    ) -> TableCreated:
        """Make a table.

        Args:
            namespace: Where.
            table: Its name.
            schema_def: Fields as the protocol writes them, or base64 of an Arrow IPC schema.
            schema: The same as an Arrow schema; pass one of the two.
            merge_keys: Columns that identify a row, besides those that the schema marks. Writes
                to a table with merge keys are upserts.
            partition_scheme: `{"keys": [{"key": ["month"], "transform": "identity"}]}`.
            sort_scheme: `{"keys": [{"key": ["id"], "sort_order": "ascending"}]}`; how rows are
                ordered within each file.
            table_version: Name of the first version; "1" by default.
            lifecycle_state: Of the first version; "active" by default.
            content_types: Formats that writes are restricted to.
            table_description: For people.
            table_properties: Free-form.
            table_version_properties: Free-form.
            fail_if_exists: False returns the table that is there, whatever its schema.
            auto_create_namespace: Whether to make the namespace too.

        Raises:
            AlreadyExistsError: The table is there.
            NotFoundError: The namespace is not.
            SchemaValidationError: The schema, a key or a scheme is wrong.
        """
        if schema is not None:
            if schema_def is not None:
                raise SchemaValidationError("schema and schema_def exclude each other: pass one")
            schema_def = encode_schema(assign_field_ids(schema, merge_keys))
        elif merge_keys:
            raise SchemaValidationError(
                "merge_keys goes with schema=; in schema_def mark them with is_merge_key"
            )
        fields = {
            "namespace": namespace,
            "table": table,
            "schema_def": schema_def,
            "partition_scheme": partition_scheme,
            "sort_scheme": sort_scheme,
            "table_version": table_version,
            "lifecycle_state": lifecycle_state,
            "content_types": content_types,
            "table_description": table_description,
            "table_properties": table_properties,
            "table_version_properties": table_version_properties,
            "fail_if_exists": fail_if_exists,
            "auto_create_namespace": auto_create_namespace,
            "catalog": self._catalog,
            "operation_id": _operation(),
        }
        return self._transport.call(CREATE_TABLE, _request(fields, CreateTable))

    def list_tables(self, *, namespace: str) -> list[TableSummary]:
        """The namespace's tables, by name."""
        request = ListTables(namespace=namespace, catalog=self._catalog)
        return self._transport.call(LIST_TABLES, request)

    def describe_table(
        self, *, namespace: str, table: str, table_version: str | None = None
    ) -> TableDescription:
        """A table's schema, keys, schemes and totals.

        Raises:
            NotFoundError: It does not exist; offers the nearest name.
        """
        request = DescribeTable(
            namespace=namespace, table=table, table_version=table_version, catalog=self._catalog
        )
        return self._transport.call(DESCRIBE_TABLE, request)

    def table_exists(self, *, namespace: str, table: str, table_version: str | None = None) -> bool:
        """Whether the table is there, with an active version or the one named."""
        request = TableExists(
            namespace=namespace, table=table, table_version=table_version, catalog=self._catalog
        )
        return self._transport.call(TABLE_EXISTS, request).exists

    def list_table_versions(self, *, namespace: str, table: str) -> list[TableVersion]:
        """The table's versions, oldest first."""
        request = ListTableVersions(namespace=namespace, table=table, catalog=self._catalog)
        return self._transport.call(LIST_TABLE_VERSIONS, request)

    def plan(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        as_of: int | None = None,
        filter_predicate: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        include_stats: bool = False,
        include_files: bool = True,
    ) -> ReadPlan:
        """Which files a read has to open. Opens none of them.

        Args:
            namespace: Where the table is.
            table: Its name.
            table_version: None means the latest active one.
            as_of: Nanoseconds since the epoch; what was committed strictly before.
            filter_predicate: The predicate's JSON form; files that cannot match are left out.
            columns: What will be read; statistics are of these columns.
            limit: Page size in files, not rows. A page never splits files that merge.
            offset: First file of the page; the last page's `next_file_offset`.
            include_stats: Whether files carry column statistics.
            include_files: False asks for totals, schema and snapshot alone.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
        """
        request = PlanRequest(
            namespace=namespace,
            table=table,
            table_version=table_version,
            as_of=as_of,
            # Parsed here too: a malformed predicate fails before anything is sent.
            filter_predicate=dump(parse(filter_predicate)),
            columns=None if columns is None else list(columns),
            max_files=limit,
            file_offset=offset,
            include_column_stats=include_stats,
            include_files=include_files,
            catalog=self._catalog,
        )
        return self._transport.call(PLAN, request)

    def plan_scan(self, scan: Scan) -> ReadPlan:
        """Plan a scan at its snapshot."""
        request = PlanRequest(
            namespace=scan.table.namespace,
            table=scan.table.table,
            table_version=scan.table.table_version,
            as_of=scan.as_of,
            snapshot=scan.snapshot,
            filter_predicate=dump(scan.predicate),
            columns=None if scan.columns is None else list(scan.columns),
            max_files=scan.max_files,
            file_offset=scan.file_offset,
            row_limit=scan.row_limit,
            include_column_stats=scan.include_column_stats,
            include_files=scan.include_files,
            catalog=self._catalog,
        )
        return self._transport.call(PLAN, request)

    def read(
        self,
        *,
        namespace: str | None = None,
        table: str | None = None,
        plan: ReadPlan | None = None,
        table_version: str | None = None,
        as_of: int | None = None,
        filter_predicate: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> pa.Table:
        """Rows of a table as Arrow, in reading order, merged where the table has merge keys.

        Args:
            namespace: Where the table is; left out with `plan`.
            table: Its name; left out with `plan`.
            plan: A plan made before; its own predicate only chose files.
            table_version: None means the latest active one.
            as_of: Nanoseconds since the epoch; what was committed strictly before.
            filter_predicate: Rows to keep, in the predicate's JSON form.
            columns: The result's columns, in order; None means all.
            limit: Most rows to return, counted after merge and filter.
            offset: Rows to leave out before those.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
            DataFileError: A data file is missing or damaged.
        """
        predicate = parse(filter_predicate)
        if plan is None:
            if namespace is None or table is None:
                raise SchemaValidationError("read needs namespace and table, or a plan")
            plan = self.plan(
                namespace=namespace,
                table=table,
                table_version=table_version,
                as_of=as_of,
                filter_predicate=filter_predicate,
            )
        return read_plan(
            plan, columns=columns, predicate=predicate, row_limit=limit, row_offset=offset
        )

    def write(
        self,
        data: pa.Table,
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        merge_keys: Sequence[str] = (),
        partition_scheme: PartitionScheme | Mapping[str, Any] | None = None,
        sort_scheme: SortScheme | Mapping[str, Any] | None = None,
        max_rows_per_file: int = DEFAULT_ROWS_PER_FILE,
    ) -> WriteSession:
        """Write an Arrow table and commit it, once.

        Args:
            data: The rows. Missing columns become null; unknown ones are refused.
            namespace: Where the table is.
            table: Its name; the modes auto and create make it where it is absent.
            mode: auto, create, add, append, replace, replace_partition, merge or delete.
            merge_keys: For a table that this write makes.
            partition_scheme: For a table that this write makes.
            sort_scheme: For a table that this write makes.
            max_rows_per_file: Where files roll.

        Returns:
            The committed session: `files_registered`, `total_records`, `snapshot`.

        Raises:
            SchemaValidationError: The rows or the mode do not fit the table.
            NotFoundError: No such table, and the mode does not make one.
        """
        create = {
            "schema_def": encode_schema(assign_field_ids(data.schema, merge_keys)),
            "partition_scheme": partition_scheme,
            "sort_scheme": sort_scheme,
        }
        session = self.stage(
            namespace=namespace,
            table=table,
            mode=mode,
            create_if_missing=create if mode in ("auto", "create") else None,
        )
        sink = OpenSink(self, session, _operation(), max_rows_per_file)

        def staged() -> list[WriteEntry]:
            with heartbeating(self, session):
                return sink.write(data)

        return sink.run(staged)

    def stage(
        self,
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        format: str = "parquet",  # the protocol's name
        table_version: str | None = None,
        create_if_missing: Mapping[str, Any] | None = None,
        allow_external_entries: bool = False,
    ) -> WriteSession:
        """Open a write session: a place to stage files, and what they have to look like.

        Args:
            namespace: Where the table is.
            table: Its name.
            mode: What the rows mean to what is there.
            format: Of the staged files.
            table_version: None means the latest active one.
            create_if_missing: The table to make on commit, for modes auto and create.
            allow_external_entries: Whether a commit may name files outside of `data_dir`.

        Raises:
            NotFoundError: No such table, and nothing to make it from.
            SchemaValidationError: The mode does not fit the table.
        """
        fields = {
            "namespace": namespace,
            "table": table,
            "mode": mode,
            "format": format,
            "table_version": table_version,
            "create_if_missing": None
            if create_if_missing is None
            else _request(dict(create_if_missing), CreateIfMissing),
            "allow_external_entries": allow_external_entries,
            "catalog": self._catalog,
            "operation_id": _operation(),
        }
        return self._transport.call(STAGE, _request(fields, StageRequest))

    def get_session(self, *, session_id: str) -> WriteSession:
        """A write session as it is now."""
        request = SessionRequest(session_id=session_id, catalog=self._catalog)
        return self._transport.call(GET_SESSION, request)

    def heartbeat(self, *, session: WriteSession) -> WriteSession:
        """Keep the session open for another hour."""
        request = HeartbeatRequest(
            session_id=session.session_id,
            session_version=session.session_version,
            catalog=self._catalog,
        )
        return self._transport.call(HEARTBEAT, request)

    def commit(
        self,
        *,
        session: WriteSession,
        entries: Sequence[WriteEntry],
        operation_id: str | None = None,
    ) -> WriteSession:
        """Make the entries part of the table: all of them or none.

        Args:
            session: As `stage` returned it.
            entries: The files, described; `io_core.formats.parquet.entry_of` does from a footer.
            operation_id: Makes a commit that is sent again return the first one's result.

        Raises:
            ConcurrentModificationError: The table changed under the session.
            DataFileError: A staged file is not what its entry says.
        """
        request = CommitRequest(
            session_id=session.session_id,
            session_version=session.session_version,
            entries=list(entries),
            operation_id=operation_id or _operation(),
            catalog=self._catalog,
        )
        return self._transport.call(COMMIT, request)

    def abort(self, *, session: WriteSession, reason: str | None = None) -> WriteSession:
        """Close the session; its files never become visible."""
        request = AbortRequest(
            session_id=session.session_id,
            session_version=session.session_version,
            reason=reason,
            catalog=self._catalog,
        )
        return self._transport.call(ABORT, request)


def _request(fields: dict[str, Any], kind: type[T]) -> T:
    # Any: user's plain dicts, which become the protocol's structs here.
    """Build a request from what a user passed, with the field's name where it does not fit."""
    given = {k: v for k, v in fields.items() if v is not None}
    try:
        return msgspec.convert(msgspec.to_builtins(given), kind)
    except msgspec.ValidationError as error:
        raise SchemaValidationError(str(error)) from None
