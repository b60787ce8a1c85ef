"""How Ray Data reads a table: planned once on the driver, read by tasks that know only their share.

Ray asks a datasource for its tasks several times before it pushes filters and columns down, to
count them or to sum up their metadata. Those probes are answered from the plan's header; the one
plan is made for the call that runs the tasks, which alone brings a `DataContext` (ray 2.60,
`plan_read_op.py`).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from deltacat_sources.opening import check_plan, open_scan
from deltacat_sources.ray.planning import Plans, Reading
from deltacat_sources.ray.predicate import columns_read
from deltacat_sources.ray.reading import block_schema, read, reader
from io_core.model import TableRef
from io_core.predicate import bind
from io_core.predicate_like import as_predicate
from io_core.schema import check_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ray.data import DataContext, Dataset
    from ray.data.expressions import Expr

    from deltacat_sources.ray.explanation import Explanation
    from io_core.plan import ReadPlan
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

    Ray tells this interface of no `Dataset.limit` (2.60): `limit=` opens fewer files, and so does
    `read_deltacat`, whose dataset is on the newer interface where there is one.

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
        scan = None
        if plan is None:
            # Tasks project by themselves: which files to open does not depend on it.
            scan, header = open_scan(
                table,
                planner=planner,
                as_of=as_of,
                table_version=table_version,
                columns=columns,
                predicate=predicate,
                transaction=transaction,
                since=changes_since,
            )
            own = scan.predicate
        else:
            others = (planner, as_of, table_version, transaction, changes_since)
            check_plan(plan, table, others)
            check_columns(columns or (), plan.schema)
            header, own = _unproven(plan), as_predicate(predicate)
            if own is not None:
                bind(own, plan.schema)
        asked = None if columns is None else tuple(columns)
        ref = TableRef.parse(table, table_version)
        self._asked = Reading(ref, scan, header, own, limit, asked, plans=Plans())
        # The base class leaves this one out of its __init__, and reads it (ray 2.60).
        self._projection_map: dict[str, str] | None = (
            None if asked is None else {name: name for name in asked}
        )

    def __repr__(self) -> str:
        return f"DeltaCatDatasource({self._asked!r})"

    @property
    def reading(self) -> Reading:
        """What is read, with all that was pushed down."""
        columns = None if self._projection_map is None else tuple(self._projection_map)
        return self._asked._replace(columns=columns, expr=self._predicate_expr)

    def supports_projection_pushdown(self) -> bool:
        """True: only selected columns are read."""
        return True

    def apply_projection(self, projection_map: dict[str, str] | None) -> DeltaCatDatasource:
        """A copy that reads these columns, in this order; None leaves it as it is."""
        clone = copy.copy(self)
        if projection_map is not None:
            # Not the base's way, which would keep the order of an earlier projection.
            names = self.reading.projected(projection_map).visible().names
            clone._projection_map = {name: name for name in names}  # noqa: SLF001  # own copy
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
        if self._asked.limit is not None:
            return self
        check_columns(sorted(columns_read(predicate_expr)), self.reading.visible())
        return super().apply_predicate(predicate_expr)

    def estimate_inmemory_data_size(self) -> int:
        """Decoded bytes of the selected columns of the whole table, before anything is pruned."""
        # Ray takes a size of zero for a dataset without blocks.
        return max(1, self.reading.decoded_bytes())

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
        reading = self.reading.limited(per_task_row_limit)
        schema = block_schema(reading.visible())
        if data_context is None:
            return self._probed(reading, parallelism, schema)
        return [
            ReadTask(
                reader(share),
                _metadata(share.row_count(), int(share.decoded_bytes().sum())),
                schema=schema,
                per_task_row_limit=per_task_row_limit,
            )
            for share in reading.shares(parallelism)
        ]

    def _probed(self, reading: Reading, parallelism: int, schema: pa.Schema) -> list[ReadTask]:
        def read_unplanned() -> Iterator[pa.Table]:
            for share in reading.shares(1):
                yield from read(share)

        reads = [read_unplanned, *[reader(reading.nothing())] * (parallelism - 1)]
        metadata = [_metadata(reading.row_count(), self.estimate_inmemory_data_size())]
        metadata += [_metadata(0, 0)] * (parallelism - 1)
        return [ReadTask(*pair, schema=schema) for pair in zip(reads, metadata, strict=True)]

    def explain(self, parallelism: int = 200) -> Explanation:
        """What was pushed down, and how the files are packed into tasks; plans, and reads no row.

        Args:
            parallelism: How many tasks Ray would ask for.
        """
        return self.reading.explain(parallelism)


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
        limit: Most rows to return. `Dataset.limit` is pushed too, and opens as few files where no
            filter stands before it.
        changes_since: A snapshot: show only rows of files that were added after it.
        ray_options: As `ray.data.read_datasource` takes them: `override_num_blocks`, `concurrency`,
            `ray_remote_args` and others.

    Returns:
        A dataset on Ray's newer source interface, which knows of limits, where this Ray has the one
        that is known here; else on the public one, `ray.data.read_datasource`.

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
    dataset = _newer(source.reading, ray_options)
    return ray.data.read_datasource(source, **ray_options) if dataset is None else dataset


# Any: Ray's options.
def _newer(reading: Reading, options: dict[str, Any]) -> Dataset | None:
    """The dataset on the newer source interface; None where this Ray lacks it, or has another."""
    try:
        from deltacat_sources.ray import newer
    except ImportError:
        return None
    return newer.dataset(reading, options) if newer.works() else None
