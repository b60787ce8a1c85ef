"""client.catalog: which files a read has to open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa

from io_core.errors import ConcurrentModificationError, DeltaCATError
from io_core.plan import ReadPlan
from io_core.predicate import dump
from io_core.predicate_like import as_predicate
from io_core.scan import Scan
from io_core.storage import LOCAL
from planner_client.calls import Resource
from planner_client.given import listed, of_kind, one_of
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.renewal import opened_plan

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from io_core.predicate_like import PredicateLike
    from planner_client.transaction import Transaction

__all__ = ["Plans"]

T = TypeVar("T")


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
        offset: int | None = None,
        max_files: int | None = None,
        file_offset: int | None = None,
        include_stats: bool | None = None,
        include_column_stats: bool | None = None,
        include_files: bool = True,
        preferred_root: str | None = None,
        root: str | None = None,
        recipe_hash: str | None = None,
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
            max_files: The same as `limit`.
            file_offset: The same as `offset`.
            include_stats: Whether files carry column statistics.
            include_column_stats: The same.
            include_files: False asks for totals, schema and snapshot alone.
            preferred_root: The data root whose paths to take, if all of the table is there; the plan's
                `preferred_root_used` says whether it is, and otherwise paths are of the first root.
            root: The same.
            recipe_hash: Which shard manifest to name. This project's planner builds none: its plans'
                `shard_manifest` is None then, and their header's `available_recipes` empty.
            since: A snapshot: plan the files of the rows that were added after it.
            since_as_of: Nanoseconds since the epoch: plan those of the rows added from then on.
            delete_sets: Whether the plan is to carry files' dead rows, for readers that leave them out.
            plan_token: Of an earlier page of the same question, to plan another page of it.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
            SchemaValidationError: One thing is asked for by both of its names, differently.
            TransactionError: `as_of` or `catalog` in a transaction.

        Example:
            >>> import tempfile
            >>> import pyarrow as pa
            >>> from planner_client import Client
            >>> catalog = Client(tempfile.mkdtemp()).catalog
            >>> rows = pa.table({"id": [1, 2, 3]})
            >>> session = catalog.write(rows, namespace="robotics", table="episodes")
            >>> plan = catalog.plan(namespace="robotics", table="episodes", filter_predicate="id > 7")
            >>> plan.total_files
            0
            >>> print(plan.explain())
            robotics.episodes at snapshot 1
              in the table: 1 files, ... bytes
              ...
        """
        request = PlanRequest(
            namespace=namespace,
            table=table,
            table_version=table_version,
            as_of=as_of,
            partition_filter=listed("partition_filter", partition_filter),
            # Parsed here too: a malformed predicate fails before anything is sent.
            filter_predicate=dump(as_predicate(filter_predicate)),
            columns=listed("columns", columns, str),
            max_files=one_of(limit=limit, max_files=max_files),
            file_offset=one_of(offset=offset, file_offset=file_offset) or 0,
            include_column_stats=bool(
                one_of(include_stats=include_stats, include_column_stats=include_column_stats)
            ),
            include_files=include_files,
            preferred_root=one_of(preferred_root=preferred_root, root=root),
            recipe_hash=recipe_hash,
            since=since,
            since_as_of=since_as_of,
            plan_token=plan_token,
            delete_sets=delete_sets,
        )
        found = _whole(
            request,
            lambda page: self._calls.read(
                PLAN, page, transaction=transaction, catalog=catalog, as_of=page.as_of
            ),
        )
        return opened_plan(self._calls, found, catalog)

    def load_plan(self, path: str | os.PathLike[str]) -> ReadPlan:
        """The plan that `ReadPlan.save` wrote; keys to files on S3 come from this planner.

        Raises:
            DataFileError: There is no such file, or no plan in it.
        """
        return self._opened(ReadPlan.load(path))

    def _opened(self, plan: ReadPlan, catalog: str | None = None) -> ReadPlan:
        """A plan whose files can be reached, as it is where they can already."""
        if plan.storage is not LOCAL or not plan.header.storage_bindings:
            return plan
        request = PlanRequest(
            namespace=plan.header.namespace,
            table=plan.header.table,
            table_version=plan.header.table_version,
            include_files=False,
        )
        keys = self._calls.read(PLAN, request, catalog=catalog).credentials
        return opened_plan(
            self._calls, ReadPlan(plan.header, plan.files, credentials=keys), catalog
        )

    def plan_scan(self, scan: Scan) -> ReadPlan:
        """Plan a scan at its snapshot, in its transaction, or in the block's around the call."""
        of_kind("scan", scan, Scan, "an io_core.scan.Scan")
        return opened_plan(self._calls, _whole(_asked(scan), lambda page: self._sent(scan, page)))

    def _sent(self, scan: Scan, request: PlanRequest) -> ReadPlan:
        if scan.transaction_id is not None:
            held = self._calls.transactions.get(scan.transaction_id)
            if held is not None:
                return self._calls.read(PLAN, request, transaction=held)
            # Another process's: a read needs no version.
            request = msgspec.structs.replace(request, transaction_id=scan.transaction_id)
            return self._calls.send(PLAN, request, None)
        if scan.snapshot is not None:
            # Pinned outside of the block that it is collected in.
            return self._calls.plans.of(request, lambda asked: self._calls.send(PLAN, asked, None))
        return self._calls.read(PLAN, request, as_of=request.as_of)


def _asked(scan: Scan) -> PlanRequest:
    return PlanRequest(
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


def _whole(request: PlanRequest, send: Callable[[PlanRequest], ReadPlan]) -> ReadPlan:
    """A plan with the files of all pages, where a planner divides it though nobody asked it to."""
    first = page = send(request)
    found = [first.files]
    while page.header.truncated and request.max_files is None and request.row_limit is None:
        header = page.header
        if header.next_file_offset is None:
            raise DeltaCATError(f"{page!r} is truncated, and says not where it goes on")
        following = msgspec.structs.replace(request, file_offset=header.next_file_offset)
        if header.plan_token is not None and first.header.transaction_id is None:
            # Other pins exclude it.
            following = msgspec.structs.replace(
                following, plan_token=header.plan_token, snapshot=None, as_of=None
            )
        page = send(following)
        if page.snapshot_id != first.snapshot_id:
            raise ConcurrentModificationError(
                f"{first!r} changed between its pages: plan again, or with as_of="
            )
        found.append(page.files)
    if page is first:
        return first
    files = pa.concat_tables(found, promote_options="default")
    header = msgspec.structs.replace(
        first.header, truncated=False, next_file_offset=None, returned_files=files.num_rows
    )
    return ReadPlan(header, files, credentials=first.credentials)
