"""client.catalog: calls that the published client has by a name of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner_client.given import of_kind
from planner_client.protocol.catalogs import GET_CATALOG, GetCatalog
from planner_client.transaction import Transaction
from planner_client.writes import Writes, of_catalog

if TYPE_CHECKING:
    from io_core.model import WriteSession
    from planner_client.protocol.catalogs import CatalogInfo
    from planner_client.protocol.transactions import TransactionInfo
    from planner_client.session import StagedSession

__all__ = ["PublishedNames"]

_BEGUN = "what client.transaction() returned"


class PublishedNames(Writes):
    """Calls on a catalog, transaction or session that is passed; each is there in another way too."""

    def describe_catalog(self, catalog_name: str) -> CatalogInfo:
        """The same as `get_catalog(catalog=catalog_name)`."""
        return self._calls.transport.call(GET_CATALOG, GetCatalog(catalog_name=catalog_name))

    def commit_transaction(
        self, transaction: Transaction, *, catalog: str | None = None
    ) -> TransactionInfo:
        """The same as `transaction.commit()`."""
        return self._bound(transaction, catalog).commit()

    def abort_transaction(
        self, transaction: Transaction, *, reason: str | None = None, catalog: str | None = None
    ) -> TransactionInfo:
        """The same as `transaction.abort()`."""
        return self._bound(transaction, catalog).abort(reason)

    def heartbeat_transaction(
        self, transaction: Transaction, *, catalog: str | None = None
    ) -> TransactionInfo:
        """The same as `transaction.heartbeat()`."""
        return self._bound(transaction, catalog).heartbeat()

    def heartbeat_write_session(
        self, session: WriteSession, *, catalog: str | None = None
    ) -> StagedSession:
        """The same as `session.heartbeat()`."""
        return self.heartbeat(session=of_catalog(session, catalog))

    def refresh_write_session_credentials(
        self, session: WriteSession, *, catalog: str | None = None
    ) -> StagedSession:
        """The same: a heartbeat brings new keys, and keys renew by themselves."""
        return self.heartbeat_write_session(session, catalog=catalog)

    def abort_write_session(
        self, session: WriteSession, *, reason: str | None = None, catalog: str | None = None
    ) -> StagedSession:
        """The same as `session.abort()`."""
        return self.abort(session=of_catalog(session, catalog), reason=reason)

    def _bound(self, transaction: Transaction, catalog: str | None) -> Transaction:
        of_kind("transaction", transaction, Transaction, _BEGUN)
        self._calls.binding(
            transaction, catalog=None if catalog == transaction.catalog else catalog
        )
        return transaction
