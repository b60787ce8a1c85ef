"""Scan: one read as a value; and Planner: what a scan or a sink asks of the planner behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from io_core.errors import UnsupportedError
from io_core.model import TableRef
from io_core.predicate import Predicate, bind, conjoin
from io_core.schema import check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from io_core.plan import ReadPlan

__all__ = ["Planner", "Scan"]


@runtime_checkable
class Planner(Protocol):
    """What scans and sinks need of a planner; every `planner_client.Client` is one.

    Implementations pickle: a scan travels to workers with its planner.
    """

    def plan_scan(self, scan: Scan) -> ReadPlan:
        """Plan the scan at its snapshot; all pages of it, unless the scan asks for one page."""

    def stage(
        self,
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        create_if_missing: dict[str, Any] | None = None,
        schema_serialized: str | None = None,
    ) -> WriteSession:
        """Open a write session; nothing becomes visible by it."""

    def commit(
        self,
        *,
        session: WriteSession,
        entries: Sequence[WriteEntry],
        operation_id: str | None = None,
    ) -> WriteSession:
        """Make the entries part of the table: all of them or none, once per `operation_id`."""

    def abort(self, *, session: WriteSession, reason: str | None = None) -> WriteSession:
        """Close the session; its files never become visible."""

    def heartbeat(self, *, session: WriteSession) -> WriteSession:
        """Keep the session open."""


class Scan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A read of one table, not yet planned. Immutable; pickles with its planner.

    Attributes:
        table: What to read.
        planner: Who plans it.
        columns: The projection, in the order of the result; None means all.
        predicate: Rows to keep, unbound; None means all.
        row_limit: Enough rows, counted before any filter; only for scans without predicate.
        snapshot: Pin to this place in the catalog's one sequence.
        as_of: Pin to a time instead: nanoseconds since the epoch, commits strictly before it.
        transaction_id: See what this transaction sees instead, as long as it is open.
        since: Only files that were added after this snapshot.
        max_files: Page size in files; None means all files.
        file_offset: First file of the page.
        include_files: False asks for the header alone.
        include_column_stats: Whether the plan carries statistics.
    """

    table: TableRef
    planner: Planner
    columns: tuple[str, ...] | None = None
    predicate: Predicate | None = None
    row_limit: int | None = None
    snapshot: int | None = None
    as_of: int | None = None
    transaction_id: str | None = None
    since: int | None = None
    max_files: int | None = None
    file_offset: int = 0
    include_files: bool = True
    include_column_stats: bool = False

    def plan(self) -> ReadPlan:
        """Ask the planner which files to read. Opens no data file."""
        return self.planner.plan_scan(self)

    def header(self) -> ReadPlan:
        """The plan without its files: schema, keys, snapshot. Costs the same for any table."""
        return msgspec.structs.replace(self, include_files=False).plan()

    def pinned(self) -> tuple[Scan, ReadPlan]:
        """This scan tied to the snapshot it sees now, checked against the schema, and its header.

        In a transaction it is tied to that: it sees what the transaction changes later on too.

        Raises:
            SchemaValidationError: An unknown column.
            PredicateError: The predicate does not fit the schema.
        """
        header = self.header()
        if header.header.schema_serialized is None:
            raise UnsupportedError(f"table {self.table} is schemaless: engines cannot scan it")
        check_columns(self.columns or (), header.schema)
        if self.predicate is not None:
            bind(self.predicate, header.schema)
        bound = header.header.transaction_id
        pinned = msgspec.structs.replace(
            self,
            snapshot=header.snapshot if bound is None else None,
            as_of=None,
            transaction_id=bound,
        )
        return pinned, header

    def narrowed(
        self,
        *,
        columns: Iterable[str] | None = None,
        predicate: Predicate | None = None,
        row_limit: int | None = None,
    ) -> Scan:
        """This scan with an engine's pushed-down parts added.

        A row limit is dropped where a predicate stands: the planner counts rows before it.
        """
        joined = conjoin([self.predicate, predicate])
        return msgspec.structs.replace(
            self,
            columns=self.columns if columns is None else tuple(columns),
            predicate=joined,
            row_limit=row_limit if joined is None else None,
        )
