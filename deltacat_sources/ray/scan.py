"""How Ray Data reads a table: planned once on the driver, read by tasks that know only their share.

Ray asks a datasource for its tasks several times before it pushes filters and columns down, to
count them or to sum up their metadata. Those probes are answered from the plan's header; the one
plan is made for the call that runs the tasks, which alone brings a `DataContext` (ray 2.60,
`plan_read_op.py`).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from deltacat_sources.opening import check_plan, open_scan
from deltacat_sources.ray.explanation import Explanation, Filter
from deltacat_sources.ray.predicate import Translation, columns_read, translation
from deltacat_sources.ray.reading import block_schema, read, reader, shown
from deltacat_sources.ray.tasks import Share, decoded_bytes, first_rows, narrowest, without_gone
from io_core.model import TableRef
from io_core.plan import FILE_COLUMNS, ReadPlan
from io_core.predicate import bind, conjoin
from io_core.predicate_like import as_predicate
from io_core.schema import check_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ray.data import DataContext, Dataset
    from ray.data.expressions import Expr

    from io_core.predicate import Predicate
    from io_core.predicate_like import PredicateLike
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["DeltaCatDatasource", "read_deltacat"]


class DeltaCatDatasource(Datasource):
    """A table as a source of Ray Data, for `ray.data.read_datasource`.

    Made with one call to the planner, which pins the snapshot; filters with `expr=`, selected
    columns and the limit are pushed into one more, made on the driver when the dataset runs. A
    pushed filter keeps exactly the rows that Ray's own filter would keep. Tasks read with Arrow,
    only the columns that are needed, and never call the planner. Picklable, as its planner is.

    `Dataset.limit` is applied by Ray, after whole blocks are read: `limit=` opens fewer files.

    Args:
        table: `"namespace.table"`, or a reference.
        planner: A client, a planner's URL, or an existing catalog's directory; None takes the
            environment's `DELTACAT_PLANNER`.
        as_of: Read the table as it was at this time: nanoseconds since the epoch, commits strictly
            before it.
        table_version: The table's version; None means the latest active one.
        transaction: Show what this open transaction of the planner's sees, also what it does later.
        plan: Read the files of a plan that was made before, here or elsewhere; no planner is asked.
        columns: The columns of the result, in order; None means all.
        predicate: Rows to keep, as JSON `{"gt": ["x", 3]}`, SQL or a pyarrow expression, with this
            project's meaning of NaN and nulls.
        limit: Most rows to return, counted after the predicate and the merge; any of them.
        changes_since: A snapshot: show only rows of files that were added after it.

    Raises:
        NotFoundError: An unknown namespace, table or version.
        SchemaValidationError: An unknown column.
        PredicateError: A predicate that is malformed or does not fit the schema.
        TransactionError: The transaction is closed, or `as_of` is given too.
        CatalogRootError: A directory that is no catalog.
        PlannerUnavailableError: No planner answers.
        ValueError: `plan` is given together with what chooses another, or is of another table.
    """

    def __init__(
        self,
        table: str | TableRef,
        *,
        planner: Client | str | os.PathLike[str] | None = None,
        as_of: int | None = None,
        table_version: str | None = None,
        transaction: Transaction | None = None,
        plan: ReadPlan | None = None,
        columns: Sequence[str] | None = None,
        predicate: PredicateLike | None = None,
        limit: int | None = None,
        changes_since: int | None = None,
    ) -> None:
        super().__init__()
        if limit is not None and limit < 0:
            raise ValueError(f"limit is {limit}: it counts rows, so give 0 or more")
        self._table = TableRef.parse(table, table_version)
        self._scan = None
        if plan is None:
            # Tasks project by themselves: which files to open does not depend on it.
            self._scan, self._header = open_scan(
                table,
                planner=planner,
                as_of=as_of,
                table_version=table_version,
                columns=columns,
                predicate=predicate,
                transaction=transaction,
                since=changes_since,
            )
            self._own = self._scan.predicate
        else:
            others = (planner, as_of, table_version, transaction, changes_since)
            check_plan(plan, table, others)
            check_columns(columns or (), plan.schema)
            self._header, self._own = _unproven(plan), as_predicate(predicate)
            if self._own is not None:
                bind(self._own, plan.schema)
        self._limit = limit
        # The base class leaves this one out of its __init__, and reads it (ray 2.60).
        self._projection_map: dict[str, str] | None = (
            None if columns is None else {name: name for name in columns}
        )
        # Shared by the copies that pushdown makes: all are of one snapshot.
        self._plans: dict[tuple[Predicate | None, int | None], ReadPlan] = {}

    def __repr__(self) -> str:
        return f"DeltaCatDatasource({self._table} at snapshot {self._header.snapshot})"

    def supports_projection_pushdown(self) -> bool:
        """True: only selected columns are read."""
        return True

    def apply_projection(self, projection_map: dict[str, str] | None) -> DeltaCatDatasource:
        """A copy that reads these columns, in this order; None leaves it as it is."""
        clone = copy.copy(self)
        if projection_map is not None:
            check_columns(projection_map, self._visible())
            # Not the base's way, which would keep the order of an earlier projection.
            clone._projection_map = {name: name for name in projection_map}  # noqa: SLF001  # own copy
        return clone

    def supports_predicate_pushdown(self) -> bool:
        """True: filters that pyarrow can apply are planned with, and applied by the tasks."""
        return True

    def apply_predicate(self, predicate_expr: Expr) -> Datasource:
        """A copy that keeps only rows for which the expression is true.

        Itself, which declines, where a limit stands: the filter comes after that.

        Raises:
            SchemaValidationError: The expression reads a column that is not there.
        """
        if self._limit is not None:
            return self
        check_columns(sorted(columns_read(predicate_expr)), self._visible())
        return super().apply_predicate(predicate_expr)

    def estimate_inmemory_data_size(self) -> int:
        """Decoded bytes of the selected columns of the whole table, before anything is pruned."""
        header = self._header.header
        stored, rows = np.array([header.total_bytes]), np.array([header.total_records])
        decoded = decoded_bytes(self._header.schema, self._visible().names, stored, rows)
        # Ray takes a size of zero for a dataset without blocks.
        return max(1, int(decoded[0]))

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """The tasks that read the table, about `parallelism` of them where there is work for so many.

        Without a `DataContext` no plan is made: exactly `parallelism` tasks come back, of which
        the first plans and reads everything should somebody run them after all.

        No file is looked at here: a task whose file is missing or damaged raises DataFileError.
        """
        if data_context is None:
            return self._probed(parallelism)
        schema = block_schema(self._visible())
        return [
            ReadTask(
                reader(share),
                _metadata(share.row_count(), int(share.decoded_bytes().sum())),
                schema=schema,
                per_task_row_limit=per_task_row_limit,
            )
            for share in self._shares(parallelism, per_task_row_limit)
        ]

    def _visible(self) -> pa.Schema:
        """The result's schema; what the table keeps about its columns is not Ray's concern."""
        schema = self._header.schema
        names = schema.names if self._projection_map is None else self._projection_map
        return shown(schema, names)

    def _probed(self, parallelism: int) -> list[ReadTask]:
        counted = self._predicate_expr is None and self._plain()
        records = self._header.total_records
        rows = (records if self._limit is None else min(records, self._limit)) if counted else None
        none = self._header.with_files(self._header.files.slice(0, 0))
        nothing = self._share(none, Translation(None, exact=True))
        reads = [self._read_unplanned, *[reader(nothing)] * (parallelism - 1)]
        metadata = [_metadata(rows, self.estimate_inmemory_data_size())]
        metadata += [_metadata(0, 0)] * (parallelism - 1)
        schema = block_schema(self._visible())
        return [ReadTask(*pair, schema=schema) for pair in zip(reads, metadata, strict=True)]

    def _read_unplanned(self) -> Iterator[pa.Table]:
        """The whole result, planned where it runs."""
        for share in self._shares(1, None):
            yield from read(share)

    def explain(self, parallelism: int = 200) -> Explanation:
        """What was pushed down, and how the files are packed into tasks; plans, and reads no row.

        Args:
            parallelism: How many tasks Ray would ask for.
        """
        shares = self._shares(parallelism, None)
        filters = (
            None if self._predicate_expr is None else Filter(self._predicate_expr, *self._said())
        )
        return Explanation(
            self._planned(*self._question(None)), tuple(shares), filters, self._own, self._limit
        )

    def _said(self) -> Translation:
        if self._predicate_expr is None:
            return Translation(None, exact=True)
        return translation(self._predicate_expr, self._header.schema)

    def _plain(self) -> bool:
        """Whether rows are just those of the files: the planner can count them."""
        return self._own is None and not self._header.requires_merge

    def _question(self, per_task_row_limit: int | None) -> tuple[Predicate | None, int | None]:
        """What to ask the planner: which rows, and how many are enough."""
        countable = self._predicate_expr is None and self._plain()
        limits = [n for n in (self._limit, per_task_row_limit) if n is not None]
        return self._said().predicate, min(limits) if limits and countable else None

    def _planned(self, predicate: Predicate | None, row_limit: int | None) -> ReadPlan:
        if self._scan is None:
            return self._header
        key = predicate, row_limit
        # A transaction may have changed the table since.
        if key not in self._plans or self._scan.transaction_id is not None:
            narrowed = self._scan.narrowed(predicate=predicate, row_limit=row_limit)
            self._plans[key] = narrowed.plan()
        return self._plans[key]

    def _shares(self, parallelism: int, per_task_row_limit: int | None) -> list[Share]:
        if self._limit == 0:
            nothing = self._header.with_files(self._header.files.slice(0, 0))
            return [self._share(nothing, Translation(None, exact=True))]
        whole = self._share(self._planned(*self._question(per_task_row_limit)), self._said())
        if not whole.plan.files.num_rows:
            return [whole]
        if self._limit is None:
            return whole.divided(parallelism)
        if whole.row_count() is None:
            # How many rows a task finds is known only by reading: one file after the other.
            return [whole._replace(limit=self._limit)]
        return first_rows(whole.divided(parallelism), self._limit)

    def _share(self, plan: ReadPlan, translated: Translation) -> Share:
        """All of a plan, for one task to read."""
        predicate, exact = translated
        expr = None if exact else self._predicate_expr
        columns = tuple(self._visible().names)
        needed = (*columns, *sorted(columns_read(expr) - {*columns} if expr is not None else ()))
        # The parts of the plan that no task reads would travel with each of them.
        header = msgspec.structs.replace(plan.header, schema=None, pruned=())
        told = ReadPlan(header, plan.files.select(FILE_COLUMNS.names), plan.storage)
        return Share(
            plan=without_gone(told),
            columns=columns,
            needed=needed or (narrowest(plan.schema),),
            # Where a translation is exact, it answers for the filter, with literals of the column's
            # own type: pyarrow refuses `int > 1.5` for numbers from 2^24.
            predicate=conjoin([self._own, predicate if exact else None]),
            expr=expr,
        )


def _unproven(plan: ReadPlan) -> ReadPlan:
    """A plan whose files may all hold rows that a predicate drops: it was made for another one."""
    place = plan.files.column_names.index("residual")
    held = pa.repeat(pa.scalar(True), plan.files.num_rows)
    return plan.with_files(plan.files.set_column(place, "residual", held))


def _metadata(rows: int | None, size_bytes: int) -> BlockMetadata:
    return BlockMetadata(num_rows=rows, size_bytes=size_bytes, input_files=None, exec_stats=None)


def read_deltacat(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    as_of: int | None = None,
    table_version: str | None = None,
    transaction: Transaction | None = None,
    plan: ReadPlan | None = None,
    columns: Sequence[str] | None = None,
    predicate: PredicateLike | None = None,
    limit: int | None = None,
    changes_since: int | None = None,
    **ray_options: Any,
) -> Dataset:
    """A dataset of a table's rows; lazy, pinned to the snapshot that is current now.

    Args:
        table: `"namespace.table"`, or a reference. This and what follows, as `DeltaCatDatasource`
            takes it.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.
        table_version: None means the latest active one.
        transaction: Show what this open transaction sees.
        plan: Read the files of a plan that was made before.
        columns: The columns of the result, in order; None means all.
        predicate: Rows to keep, as JSON, SQL or a pyarrow expression; `Dataset.filter(expr=...)` is pushed too.
        limit: Most rows to return; opens fewer files than `Dataset.limit`.
        changes_since: A snapshot: show only rows of files that were added after it.
        ray_options: As `ray.data.read_datasource` takes them: `override_num_blocks`, `concurrency`,
            `ray_remote_args` and others.

    Raises:
        DeltaCATError: As `DeltaCatDatasource` does, before any data file is opened.
    """
    source = DeltaCatDatasource(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        transaction=transaction,
        plan=plan,
        columns=columns,
        predicate=predicate,
        limit=limit,
        changes_since=changes_since,
    )
    dataset: Dataset = ray.data.read_datasource(source, **ray_options)
    return dataset
