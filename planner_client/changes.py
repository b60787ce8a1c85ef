"""client.catalog.read_changes: what was added to a table since somebody last looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from io_core.predicate_like import as_predicate
from planner_client.reads import Reads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.predicate_like import PredicateLike
    from planner_client.forms import ReadAs

__all__ = ["Changes", "ReadsOfChanges"]


class Changes(NamedTuple):
    """What was added to a table between two snapshots.

    Attributes:
        rows: In the form that was asked for.
        snapshot: Where to go on the next time.
        removed_files: How many files that were there at the earlier snapshot are gone, or were
            written anew with fewer rows. Where it is not 0, rows were deleted, replaced or rolled
            back: `rows` are not all that changed.
    """

    # Any: whatever the form is.
    rows: Any
    snapshot: int
    removed_files: int

    @property
    def is_additions_alone(self) -> bool:
        """Whether the table is what it was, and `rows` besides."""
        return self.removed_files == 0


class ReadsOfChanges(Reads):
    """Reads of what is new.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> from planner_client import Client
        >>> catalog = Client(tempfile.mkdtemp()).catalog
        >>> where = {"namespace": "ns", "table": "events"}
        >>> seen = catalog.write(pa.table({"x": [1]}), **where).snapshot
        >>> more = catalog.write(pa.table({"x": [2]}), **where)
        >>> found = catalog.read_changes(**where, since=seen)
        >>> found.rows.column("x").to_pylist(), found.is_additions_alone
        ([2], True)
        >>> catalog.read_changes(**where, since=found.snapshot).rows.num_rows
        0
    """

    def read_changes(
        self,
        *,
        namespace: str,
        table: str,
        since: int | None = None,
        since_as_of: int | None = None,
        table_version: str | None = None,
        columns: Sequence[str] | None = None,
        filter_predicate: PredicateLike | None = None,
        read_as: ReadAs = "pyarrow",
        catalog: str | None = None,
    ) -> Changes:
        """Read the rows that were added since a snapshot, or all of them where none is given.

        Rows that a delete or an overwrite by predicate left, and wrote anew, are not among them.
        Of a table with merge keys the rows are those of the commits since, merged with each other;
        rows that they delete are not listed.

        Args:
            namespace: Where the table is.
            table: Its name.
            since: The `snapshot` of the last call, or of a plan or write.
            since_as_of: Nanoseconds since the epoch instead: what was committed from then on.
            table_version: None means the latest active one.
            columns: The rows' columns, in order; None means all.
            filter_predicate: Which of the rows; see `read`.
            read_as: The form of the rows; see `read`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table.
            RequestRejectedError: Vacuum has gone past that snapshot (410 `snapshot_expired`), or it is
                later than the table's.
        """
        predicate = as_predicate(filter_predicate)
        plan = self.plan(
            namespace=namespace,
            table=table,
            table_version=table_version,
            filter_predicate=predicate,
            since=since,
            since_as_of=since_as_of,
            delete_sets=True,
            catalog=catalog,
        )
        rows = self.read(
            plan=plan,
            columns=columns,
            filter_predicate=predicate,
            read_as=read_as,
            catalog=catalog,
        )
        return Changes(rows, plan.snapshot or 0, plan.header.removed_files or 0)
