"""In which transaction does a call stand that reads and then writes: the caller's, or one of its own?"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from io_core.sink import DEFAULT_ROWS_PER_FILE, OpenSink, delete_staged
from planner_client.calls import new_operation
from planner_client.heartbeat import heartbeating
from planner_client.plans import Plans
from planner_client.protocol.transactions import BEGIN, BeginTransaction
from planner_client.transaction import Transaction
from planner_client.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from io_core.model import TableRef, WriteEntry, WriteMode, WriteSession

__all__ = ["Within"]


class Within(Plans, Writes):
    """Calls that are several calls of the planner, and one transaction."""

    @contextlib.contextmanager
    def _within(
        self, transaction: Transaction | None, catalog: str | None, message: str
    ) -> Iterator[tuple[Transaction, bool]]:
        """The transaction that a call stands in, or one of its own, and which of the two it is."""
        found = self._calls.binding(transaction, catalog=catalog)
        if found is not None:
            yield found, False
            return
        request = BeginTransaction(commit_message=message, operation_id=new_operation())
        with Transaction(self._calls, self._calls.send(BEGIN, request, catalog)) as own:
            yield own, True

    def _staged(
        self,
        ref: TableRef,
        mode: WriteMode,
        within: Transaction,
        write: Callable[[OpenSink], Sequence[WriteEntry]],
        *,
        rows_per_file: int | None = None,
    ) -> WriteSession:
        """Stage, write and attach to the transaction."""
        session = self.stage(
            namespace=ref.namespace,
            table=ref.table,
            table_version=ref.table_version,
            mode=mode,
            transaction=within,
        )
        sink = OpenSink(self, session, new_operation(), rows_per_file or DEFAULT_ROWS_PER_FILE)
        try:
            with heartbeating(session.heartbeat):
                entries = write(sink)
            return sink.commit(entries)
        except BaseException:
            # The transaction ends the session.
            delete_staged(session)
            raise
