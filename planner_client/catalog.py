"""client.catalog: catalogs, transactions, reads and writes; and everything that stands in a room of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from io_core.errors import SchemaValidationError
from io_core.execute import read_plan
from io_core.predicate_like import as_predicate
from io_core.schema import assign_field_ids, encode_schema
from io_core.sink import DEFAULT_ROWS_PER_FILE, OpenSink
from planner_client.calls import new_operation
from planner_client.heartbeat import heartbeating
from planner_client.inline import Inline
from planner_client.namespaces import Namespaces
from planner_client.plans import Plans
from planner_client.protocol.catalogs import GET_CATALOG, LIST_CATALOGS, GetCatalog, ListCatalogs
from planner_client.protocol.transactions import BEGIN, BeginTransaction
from planner_client.tables import Tables
from planner_client.transaction import Transaction
from planner_client.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from io_core.model import PartitionScheme, SortScheme, WriteEntry, WriteMode, WriteSession
    from io_core.plan import ReadPlan
    from io_core.predicate_like import PredicateLike
    from planner_client.protocol.catalogs import CatalogInfo

__all__ = ["Catalog"]


class Catalog(Namespaces, Tables, Plans, Inline, Writes):
    """What can be done with a catalog. Every mutation happens once, however often it is sent."""

    def list_catalogs(self) -> list[CatalogInfo]:
        """The catalogs that the planner serves."""
        return self._calls.transport.call(LIST_CATALOGS, ListCatalogs()).catalogs

    def get_catalog(self, *, catalog: str) -> CatalogInfo:
        """One catalog.

        Raises:
            NotFoundError: The planner serves none of that name.
        """
        return self._calls.transport.call(GET_CATALOG, GetCatalog(catalog_name=catalog))

    def transaction(
        self,
        *,
        commit_message: str | None = None,
        as_of: int | None = None,
        catalog: str | None = None,
    ) -> Transaction:
        """Begin a transaction; see `Client.transaction`."""
        request = BeginTransaction(
            as_of=as_of, commit_message=commit_message, operation_id=new_operation()
        )
        return Transaction(self._calls, self._calls.send(BEGIN, request, catalog))

    def get_transaction(self, transaction_id: str, *, catalog: str | None = None) -> Transaction:
        """A transaction as it is now: the client's own handle, or a new one where it holds none.

        Raises:
            NotFoundError: There is none of this id.
        """
        return self._calls.fetch(transaction_id, catalog)

    def read(
        self,
        *,
        namespace: str | None = None,
        table: str | None = None,
        plan: ReadPlan | None = None,
        table_version: str | None = None,
        as_of: int | None = None,
        partition_filter: Sequence[Any] | None = None,
        filter_predicate: PredicateLike | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> pa.Table:
        """Rows of a table as Arrow, in reading order, merged where the table has merge keys.

        Args:
            namespace: Where the table is; left out with `plan`.
            table: Its name; left out with `plan`.
            plan: A plan made before; its own predicate only chose files.
            table_version: None means the latest active one.
            as_of: Nanoseconds since the epoch; what was committed strictly before.
            partition_filter: The partitions to read, by id or by `{"partition_values": [...]}`.
            filter_predicate: Rows to keep: JSON `{"gt": ["x", 3]}`, SQL `"x > 3"` or a pyarrow
                expression.
            columns: The result's columns, in order; None means all.
            limit: Most rows to return, counted after merge and filter.
            offset: Rows to leave out before those.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
            DataFileError: A data file is missing or damaged.
        """
        predicate = as_predicate(filter_predicate)
        if plan is None:
            if namespace is None or table is None:
                raise SchemaValidationError("read needs namespace and table, or a plan")
            plan = self.plan(
                namespace=namespace,
                table=table,
                table_version=table_version,
                as_of=as_of,
                partition_filter=partition_filter,
                filter_predicate=filter_predicate,
                delete_sets=True,
                transaction=transaction,
                catalog=catalog,
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
        format: str = "parquet",  # the protocol's name
        table_version: str | None = None,
        max_rows_per_file: int = DEFAULT_ROWS_PER_FILE,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> WriteSession:
        """Write an Arrow table and commit it, once.

        Args:
            data: The rows. Missing columns become null; unknown ones are added to the table, or
                refused where its `schema_evolution_mode` is not auto.
            namespace: Where the table is.
            table: Its name; the modes auto and create make it where it is absent.
            mode: auto, create, add, append, replace, replace_partition, merge or delete.
            merge_keys: For a table that this write makes.
            partition_scheme: For a table that this write makes.
            sort_scheme: For a table that this write makes.
            format: Of the files.
            table_version: None means the latest active one.
            max_rows_per_file: Where files roll.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

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
            format=format,
            table_version=table_version,
            create_if_missing=create if mode in ("auto", "create") else None,
            schema_serialized=encode_schema(data.schema),
            transaction=transaction,
            catalog=catalog,
        )
        return self._written(data, session, max_rows_per_file)

    def _written(self, data: pa.Table, session: WriteSession, rows_per_file: int) -> WriteSession:
        sink = OpenSink(self, session, new_operation(), rows_per_file)

        def staged() -> list[WriteEntry]:
            with heartbeating(lambda: self.heartbeat(session=session)):
                return sink.write(data)

        return sink.run(staged)
