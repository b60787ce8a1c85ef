"""client.catalog: catalogs, transactions, reads and writes; and everything that stands in a room of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from io_core.errors import SchemaValidationError
from io_core.execute import read_plan
from io_core.predicate_like import as_predicate
from planner_client.adding import Adding
from planner_client.calls import new_operation
from planner_client.inline import Inline
from planner_client.namespaces import Namespaces
from planner_client.protocol.catalogs import GET_CATALOG, LIST_CATALOGS, GetCatalog, ListCatalogs
from planner_client.protocol.transactions import BEGIN, BeginTransaction
from planner_client.tables import Tables
from planner_client.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from io_core.plan import ReadPlan
    from io_core.predicate_like import PredicateLike
    from planner_client.protocol.catalogs import CatalogInfo

__all__ = ["Catalog"]


class Catalog(Namespaces, Tables, Inline, Adding):
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
