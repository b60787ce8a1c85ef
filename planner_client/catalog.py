"""client.catalog: catalogs, transactions, reads and writes; and everything that stands in a room of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner_client.calls import new_operation
from planner_client.changes import ReadsOfChanges
from planner_client.changing import Changing
from planner_client.inline import Inline
from planner_client.later import LaterCatalog
from planner_client.namespaces import Namespaces
from planner_client.protocol.catalogs import (
    GET_CATALOG,
    LIST_CATALOGS,
    SERVER_ENDPOINTS,
    GetCatalog,
    ListCatalogs,
    ServerEndpointsRequest,
)
from planner_client.protocol.transactions import BEGIN, BeginTransaction
from planner_client.published_names import PublishedNames
from planner_client.tables import Tables
from planner_client.transaction import Transaction

if TYPE_CHECKING:
    from planner_client.protocol.catalogs import CatalogInfo, ServerEndpoints

__all__ = ["Catalog"]


class Catalog(Namespaces, Tables, Inline, ReadsOfChanges, Changing, PublishedNames, LaterCatalog):
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

    def get_server_endpoints(self) -> ServerEndpoints:
        """Under which other URLs the planner says that it can be reached; ours says none."""
        return self._calls.transport.call(SERVER_ENDPOINTS, ServerEndpointsRequest())

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
