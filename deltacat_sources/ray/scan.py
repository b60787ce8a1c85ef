"""How Ray Data reads a table: planned once on the driver, read by tasks that know only their share.

Ray asks a datasource for its tasks several times before it pushes filters and columns down, to
count them or to sum up their metadata. Those probes are answered from the plan's header; the one
plan is made for the call that runs the tasks, which alone brings a `DataContext` (ray 2.60,
`plan_read_op.py`).
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from deltacat_sources.opening import open_scan
from deltacat_sources.ray.predicate import Translation, columns_read, translation
from io_core.execute import execute
from io_core.plan import FILE_COLUMNS, ReadPlan
from io_core.predicate import conjoin
from io_core.schema import check_columns, without_views

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from ray.data import DataContext, Dataset
    from ray.data.expressions import Expr

    from io_core.model import TableRef
    from io_core.predicate import Predicate
    from planner_client import Client

__all__ = ["DeltaCatDatasource", "read_deltacat"]

_Integers = npt.NDArray[np.int64]

# What a task should hold in memory, as Ray's blocks do by default.
_TARGET_BYTES = 128 * 2**20
# Decoded bytes per byte of Parquet, where rows times the width of their columns say less.
_EXPANSION = 3
# What opening a file costs, as the bytes that could have been decoded meanwhile.
_OPEN_BYTES = 256 * 2**10
# Ray keeps the number of rows of a block without columns by a column of this name, which it hides
# from users (ray 2.60, _internal/arrow_block.py).
_STUB = "__bsp_stub"


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
        columns: The columns of the result, in order; None means all.
        predicate: Rows to keep, as the planner's AST such as `{"gt": ["x", 3]}`, with this
            project's meaning of NaN and nulls.
        limit: Most rows to return, counted after the predicate and the merge; any of them.

    Raises:
        NotFoundError: An unknown namespace, table or version.
        SchemaValidationError: An unknown column.
        PredicateError: A predicate that is malformed or does not fit the schema.
        CatalogRootError: A directory that is no catalog.
        PlannerUnavailableError: No planner answers.
    """

    def __init__(
        self,
        table: str | TableRef,
        *,
        planner: Client | str | os.PathLike[str] | None = None,
        as_of: int | None = None,
        table_version: str | None = None,
        columns: Sequence[str] | None = None,
        predicate: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        if limit is not None and limit < 0:
            raise ValueError(f"limit is {limit}: it counts rows, so give 0 or more")
        # Tasks project by themselves: which files to open does not depend on it.
        self._scan, self._header = open_scan(
            table,
            planner=planner,
            as_of=as_of,
            table_version=table_version,
            columns=columns,
            predicate=predicate,
        )
        self._limit = limit
        # The base class leaves this one out of its __init__, and reads it (ray 2.60).
        self._projection_map: dict[str, str] | None = (
            None if columns is None else {name: name for name in columns}
        )
        # Shared by the copies that pushdown makes: all are of one snapshot.
        self._plans: dict[tuple[Predicate | None, int | None], ReadPlan] = {}

    def __repr__(self) -> str:
        return f"DeltaCatDatasource({self._scan.table} at snapshot {self._header.snapshot})"

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
        decoded = _decoded_bytes(self._header.schema, self._visible().names, stored, rows)
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
        schema = _block_schema(self._visible())
        return [
            ReadTask(
                _reader(share),
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
        return _shown(schema, names)

    def _probed(self, parallelism: int) -> list[ReadTask]:
        counted = self._predicate_expr is None and self._plain()
        records = self._header.total_records
        rows = (records if self._limit is None else min(records, self._limit)) if counted else None
        nothing = self._share(self._header, Translation(None, exact=True))
        reads = [self._read_unplanned, *[_reader(nothing)] * (parallelism - 1)]
        metadata = [_metadata(rows, self.estimate_inmemory_data_size())]
        metadata += [_metadata(0, 0)] * (parallelism - 1)
        schema = _block_schema(self._visible())
        return [ReadTask(*pair, schema=schema) for pair in zip(reads, metadata, strict=True)]

    def _read_unplanned(self) -> Iterator[pa.Table]:
        """The whole result, planned where it runs."""
        for share in self._shares(1, None):
            yield from _read(share)

    def _plain(self) -> bool:
        """Whether rows are just those of the files: the planner can count them."""
        return self._scan.predicate is None and not self._header.requires_merge

    def _translation(self) -> Translation:
        if self._predicate_expr is None:
            return Translation(None, exact=True)
        return translation(self._predicate_expr, self._header.schema)

    def _shares(self, parallelism: int, per_task_row_limit: int | None) -> list[_Share]:
        if self._limit == 0:
            return [self._share(self._header, Translation(None, exact=True))]
        countable = self._predicate_expr is None and self._plain()
        limits = [n for n in (self._limit, per_task_row_limit) if n is not None]
        translated = self._translation()
        key = (translated.predicate, min(limits) if limits and countable else None)
        if key not in self._plans:
            self._plans[key] = self._scan.narrowed(predicate=key[0], row_limit=key[1]).plan()
        whole = self._share(self._plans[key], translated)
        if not whole.plan.files.num_rows:
            return [whole]
        if self._limit is not None and not countable:
            # How many rows a task finds is known only by reading: one file after the other.
            return [whole._replace(limit=self._limit)]
        shares = whole.divided(parallelism)
        return shares if self._limit is None else _first_rows(shares, self._limit)

    def _share(self, plan: ReadPlan, translated: Translation) -> _Share:
        """All of a plan, for one task to read."""
        predicate, exact = translated
        expr = None if exact else self._predicate_expr
        columns = tuple(self._visible().names)
        needed = (*columns, *sorted(columns_read(expr) - {*columns} if expr is not None else ()))
        # The parts of the plan that no task reads would travel with each of them.
        header = msgspec.structs.replace(plan.header, schema=None, pruned=())
        return _Share(
            plan=ReadPlan(header, plan.files.select(FILE_COLUMNS.names), plan.storage),
            columns=columns,
            needed=needed or (_narrowest(plan.schema),),
            # Where a translation is exact, it answers for the filter, with literals of the column's
            # own type: pyarrow refuses `int > 1.5` for numbers from 2^24.
            predicate=conjoin([self._scan.predicate, predicate if exact else None]),
            expr=expr,
        )


class _Share(NamedTuple):
    """What one task reads. Carries its files only, and pickles small.

    Rows have to pass `predicate`, which the plan's `residual` speaks for, and Ray's `expr`, which
    it does not. `needed` are the columns to read for `columns` and `expr`; `limit` is the most rows
    to return.
    """

    plan: ReadPlan
    columns: tuple[str, ...]
    needed: tuple[str, ...]
    predicate: Predicate | None
    expr: Expr | None
    limit: int | None = None

    def divided(self, parallelism: int) -> list[_Share]:
        """The same rows in the same order, as several tasks."""
        cuts = _cuts(self.plan, self.decoded_bytes(), parallelism)
        return [
            self._replace(plan=self.plan.with_files(self.plan.files.slice(start, end - start)))
            for start, end in itertools.pairwise(cuts)
        ]

    def decoded_bytes(self) -> _Integers:
        """Bytes in memory of what is read of each file, shape (files,): an estimate."""
        columns = ("content_length", "record_count")
        stored, rows = (self.plan.files.column(name).to_numpy() for name in columns)
        return _decoded_bytes(self.plan.schema, self.needed, stored, rows)

    def runs(self) -> Iterator[tuple[ReadPlan, bool]]:
        """Consecutive files, and whether every row of them is known to be in the result."""
        if self.plan.requires_merge or self.expr is not None or self.predicate is None:
            yield self.plan, not self.plan.requires_merge and self.expr is None
            return
        files, start = self.plan.files, 0
        for residual, run in itertools.groupby(files.column("residual").to_pylist()):
            length = sum(1 for _ in run)
            yield self.plan.with_files(files.slice(start, length)), residual is False
            start += length

    def row_count(self) -> int | None:
        """Rows in the result, where no file needs to be opened to know."""
        if not all(certain for _, certain in self.runs()):
            return None
        records = _record_count(self.plan)
        return records if self.limit is None else min(records, self.limit)


def _record_count(plan: ReadPlan) -> int:
    return sum(plan.column("record_count"))


def _decoded_bytes(
    schema: pa.Schema, columns: Sequence[str], stored: _Integers, rows: _Integers
) -> _Integers:
    """Bytes in memory of some columns of each file, from its bytes on disk and its rows; shape (files,)."""
    share = len(columns) / max(1, len(schema))
    width = _fixed_width(schema, columns)
    decoded: _Integers = np.maximum(stored * _EXPANSION * share, rows * width).astype(np.int64)
    return decoded


def _fixed_width(schema: pa.Schema, columns: Sequence[str]) -> float:
    """Bytes per row of those columns whose values all have one width."""
    width = 0.0
    for name in columns:
        try:
            width += schema.field(name).type.bit_width / 8
        except ValueError:  # text, binary and nested values have none
            continue
    return width


def _narrowest(schema: pa.Schema) -> str:
    """A column that is cheap to read when only the number of rows is asked for."""
    names: list[str] = schema.names
    return min(names, key=lambda name: _fixed_width(schema, [name]) or math.inf)


def _cuts(plan: ReadPlan, sizes: _Integers, parallelism: int) -> list[int]:
    """Where to cut the files into tasks of about equal bytes, in order; merge groups stay whole.

    Begins with 0, ends with the number of files.
    """
    total_files = plan.files.num_rows
    starts = np.arange(total_files)
    if plan.requires_merge:
        lengths = [group.files.num_rows for group in plan.groups()]
        starts = np.cumsum([0, *lengths[:-1]])
    costs = np.add.reduceat(sizes + _OPEN_BYTES, starts)
    total = int(costs.sum())
    least = 2 * _cpus()
    count = min(parallelism, max(math.ceil(total / _TARGET_BYTES), least))
    middles = np.cumsum(costs) - costs / 2
    tasks = (middles / total * count).astype(np.int64)
    firsts = np.flatnonzero(np.diff(tasks, prepend=-1))
    if parallelism >= least:
        # A task's output waits until a block is full: short tasks at first, of 1, 2, 4, ... files,
        # let Dataset.limit stop after a few (ray 2.60 does not push it into a datasource).
        ramp = 2 ** np.arange(32) - 1
        firsts = np.union1d(firsts, ramp[ramp < np.append(firsts, len(costs))[1]])
    return [*(int(starts[i]) for i in firsts), total_files]


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1


def _first_rows(shares: list[_Share], limit: int) -> list[_Share]:
    """The shares that hold the first `limit` rows, each with its part of them."""
    kept = []
    for share in shares:
        part = min(limit, _record_count(share.plan))
        kept.append(share._replace(limit=part))
        limit -= part
        if not limit:
            break
    return kept


def _metadata(rows: int | None, size_bytes: int) -> BlockMetadata:
    return BlockMetadata(num_rows=rows, size_bytes=size_bytes, input_files=None, exec_stats=None)


def _shown(schema: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    """Some columns as blocks have them: Ray cannot send Arrow's view types (ray 2.60)."""
    return pa.schema([pa.field(name, _block_type(schema.field(name).type)) for name in columns])


def _block_type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_list_view(dtype) or pa.types.is_large_list_view(dtype):
        return pa.large_list(without_views(dtype.value_type))
    return without_views(dtype)


def _block_schema(visible: pa.Schema) -> pa.Schema:
    return visible if len(visible) else pa.schema([pa.field(_STUB, pa.null())])


def _counted(rows: int) -> pa.Table:
    return pa.table({_STUB: pa.nulls(rows)})


def _reader(share: _Share) -> Callable[[], Iterator[pa.Table]]:
    # Not functools.partial: Ray asks for the __name__ of a function that pickles large.
    def read() -> Iterator[pa.Table]:
        return _read(share)

    return read


def _read(share: _Share) -> Iterator[pa.Table]:
    """Blocks of a task, file by file, so that it can be stopped early. Runs in a worker."""
    left = share.limit
    empty = True
    for rows in _pieces(share) if left != 0 else ():
        # Files begin with a piece that only tells their columns, and filters may empty others.
        if not rows.num_rows:
            continue
        block = rows if left is None else rows.slice(0, left)
        yield block
        empty = False
        left = None if left is None else left - block.num_rows
        if left == 0:
            return
    if empty:
        # A block without rows still tells the dataset's columns.
        yield _block_schema(_shown(share.plan.schema, share.columns)).empty_table()


def _pieces(share: _Share) -> Iterator[pa.Table]:
    for plan, certain in share.runs():
        if certain and not share.columns:
            yield _counted(_record_count(plan))
            continue
        predicate, expr = None if certain else share.predicate, share.expr
        for found in execute(plan, columns=share.needed, predicate=predicate):
            piece = found.cast(_shown(plan.schema, found.column_names))
            # In memory: a Parquet reader would skip row groups whose footer leaves NaN out.
            rows = piece if expr is None else piece.filter(expr.to_pyarrow())
            yield rows.select(share.columns) if share.columns else _counted(rows.num_rows)


def read_deltacat(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    as_of: int | None = None,
    table_version: str | None = None,
    columns: Sequence[str] | None = None,
    predicate: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> Dataset:
    """A dataset of a table's rows; lazy, pinned to the snapshot that is current now.

    Args:
        table: `"namespace.table"`, or a reference.
        planner: A client, a planner's URL, or an existing catalog's directory; None takes the
            environment's `DELTACAT_PLANNER`.
        as_of: Read the table as it was at this time, in nanoseconds since the epoch.
        table_version: The table's version; None means the latest active one.
        columns: The columns of the result, in order; None means all.
        predicate: Rows to keep, as the planner's AST; `Dataset.filter(expr=...)` is pushed too.
        limit: Most rows to return; opens fewer files than `Dataset.limit`.

    Raises:
        DeltaCATError: As `DeltaCatDatasource` does, before any data file is opened.
    """
    source = DeltaCatDatasource(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        columns=columns,
        predicate=predicate,
        limit=limit,
    )
    dataset: Dataset = ray.data.read_datasource(source)
    return dataset
