"""client.catalog: which files a read has to open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from io_core.predicate import dump
from io_core.predicate_like import as_predicate
from planner_client.calls import Resource
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.renewal import opened_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.plan import ReadPlan
    from io_core.predicate_like import PredicateLike
    from io_core.scan import Scan
    from planner_client.transaction import Transaction

__all__ = ["Plans"]


class Plans(Resource):
    """Plans of reads."""

    def plan(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        as_of: int | None = None,
        partition_filter: Sequence[Any] | None = None,
        filter_predicate: PredicateLike | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        include_stats: bool = False,
        include_files: bool = True,
        since: int | None = None,
        since_as_of: int | None = None,
        plan_token: str | None = None,
        delete_sets: bool = False,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> ReadPlan:
        """Which files a read has to open. Opens none of them.

        Args:
            namespace: Where the table is.
            table: Its name.
            table_version: None means the latest active one.
            as_of: Nanoseconds since the epoch; what was committed strictly before.
            partition_filter: The partitions to plan, by id or by `{"partition_values": [...]}`.
            filter_predicate: JSON `{"gt": ["x", 3]}`, SQL `"x > 3"` or a pyarrow expression; files
                that cannot match are left out.
            columns: What will be read; statistics are of these columns.
            limit: Page size in files, not rows. A page never splits files that merge.
            offset: First file of the page; the last page's `next_file_offset`.
            include_stats: Whether files carry column statistics.
            include_files: False asks for totals, schema and snapshot alone.
            since: A snapshot: plan the files that were added after it.
            since_as_of: Nanoseconds since the epoch: plan the files that were added from then on.
            delete_sets: Whether the plan is to carry files' dead rows, for readers that leave them out.
            plan_token: Of an earlier page of the same question, to plan another page of it.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
            TransactionError: `as_of` or `catalog` in a transaction.
        """
        request = PlanRequest(
            namespace=namespace,
            table=table,
            table_version=table_version,
            as_of=as_of,
            partition_filter=None if partition_filter is None else list(partition_filter),
            # Parsed here too: a malformed predicate fails before anything is sent.
            filter_predicate=dump(as_predicate(filter_predicate)),
            columns=None if columns is None else list(columns),
            max_files=limit,
            file_offset=offset,
            include_column_stats=include_stats,
            include_files=include_files,
            since=since,
            since_as_of=since_as_of,
            plan_token=plan_token,
            delete_sets=delete_sets,
        )
        found = self._calls.read(
            PLAN, request, transaction=transaction, catalog=catalog, as_of=as_of
        )
        return opened_plan(self._calls, found, catalog)

    def plan_scan(self, scan: Scan) -> ReadPlan:
        """Plan a scan at its snapshot, in its transaction, or in the block's around the call."""
        return opened_plan(self._calls, self._planned(scan))

    def _planned(self, scan: Scan) -> ReadPlan:
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
            since=scan.since,
            # What executes scans leaves dead rows out.
            delete_sets=True,
        )
        if scan.transaction_id is not None:
            held = self._calls.transactions.get(scan.transaction_id)
            if held is not None:
                return self._calls.read(PLAN, request, transaction=held)
            # Another process's: a read needs no version.
            request = msgspec.structs.replace(request, transaction_id=scan.transaction_id)
            return self._calls.send(PLAN, request, None)
        if scan.snapshot is not None:
            # Pinned outside of the block that it is collected in.
            return self._calls.send(PLAN, request, None)
        return self._calls.read(PLAN, request, as_of=scan.as_of)
