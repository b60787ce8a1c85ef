"""How is a table read through Ray's newer source interface, which tells of limits, and keeps residuals?

It is internal to Ray (2.60: `ray.data._internal.datasource_v2`). Where it is absent this module cannot
be imported; where it is another one, `works()` is False; either way the public interface reads.

Ray has a source list its files in a task of its own, after pushdown. Here the driver plans, when Ray
asks the scanner what files to leave out: the answer carries the tasks to the listing, which sends each
to a reader. So workers get their part of the plan, and none asks for one. Few tasks go to the readers
straight from the driver: a listing would cost as much as a small read.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.cloudpickle
from ray.data import DataContext
from ray.data._internal.datasource_v2.common.pushdown_utils import derive_list_files_pushdown
from ray.data._internal.datasource_v2.interfaces.datasource_v2 import (
    DatasourceCategory,
    DataSourceWithMetadata,
)
from ray.data._internal.datasource_v2.interfaces.file_indexer import FileIndexer
from ray.data._internal.datasource_v2.interfaces.file_manifest import FileManifest
from ray.data._internal.datasource_v2.interfaces.file_pruner import FilePruner
from ray.data._internal.datasource_v2.interfaces.pushdown import (
    SupportsColumnPruning,
    SupportsFilterPushdown,
    SupportsLimitPushdown,
    SupportsPartitionPruning,
)
from ray.data._internal.datasource_v2.interfaces.reader import Reader
from ray.data._internal.datasource_v2.interfaces.scanner import Scanner
from ray.data._internal.execution.interfaces import BlockEntry, PhysicalOperator, RefBundle
from ray.data._internal.execution.operators.input_data_buffer import InputDataBuffer
from ray.data._internal.logical.operators import ListFiles
from ray.data._internal.planner.planner import Planner
from ray.data.block import BlockAccessor
from ray.data.expressions import Expr, lit
from ray.data.read_api import _read_datasource_v2

from deltacat_sources.ray.planning import Reading
from deltacat_sources.ray.reading import read
from deltacat_sources.ray.tasks import most_tasks
from io_core.model import TableRef
from io_core.plan import FILE_COLUMNS, PlanHeader, ReadPlan
from io_core.schema import encode_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ray.data import Dataset

    from deltacat_sources.ray.explanation import Explanation

__all__ = ["DeltaCatScanner", "dataset", "works"]

# The column of a manifest with what a task reads.
_SHARE = "deltacat_share"
# Up to so many tasks go to the readers without a listing: each costs the driver an object.
_MOST_UNLISTED = 64


class DeltaCatScanner(
    Scanner[FileManifest],
    SupportsFilterPushdown,
    SupportsColumnPruning,
    SupportsLimitPushdown,
    SupportsPartitionPruning,
):
    """A reading as Ray pushes things into it. Immutable; pickles with its planner, unplanned.

    Ray sends it to every task, which only asks it for a reader: the planner is not opened there.
    """

    def __init__(self, reading: Reading, parallelism: int) -> None:
        self.reading = reading
        self._parallelism = parallelism

    def __repr__(self) -> str:
        return f"DeltaCatScanner({self.reading!r})"

    def _with(self, reading: Reading) -> DeltaCatScanner:
        return DeltaCatScanner(reading, self._parallelism)

    def read_schema(self) -> pa.Schema:
        """The schema of the result."""
        return self.reading.visible()

    def push_filters(self, predicate: Expr) -> tuple[DeltaCatScanner, Expr | None]:
        """All of it is applied here; none where a limit stands, after which it comes."""
        if self.reading.limit is not None or self.reading.row_limit is not None:
            return self, predicate
        return self._with(self.reading.filtered(predicate)), None

    def prune_columns(self, columns: list[str]) -> DeltaCatScanner:
        """The same with these columns."""
        return self._with(self.reading.projected(columns))

    def pruned_column_names(self) -> tuple[str, ...] | None:
        """The columns that were asked for; None for all."""
        return self.reading.columns

    def push_limit(self, limit: int) -> DeltaCatScanner:
        """The same for someone who takes so many rows, and cuts off what is too much."""
        return self._with(self.reading.limited(limit))

    @property
    def partition_columns(self) -> set[str]:
        """None that Ray would have to treat otherwise: the planner knows of partitions."""
        return set()

    def prune_partitions(self, predicate: Expr) -> DeltaCatScanner:
        """The same: Ray has no partition columns to ask this with."""
        del predicate
        return self

    def pushed_partition_predicate(self) -> Expr:
        """Something, so that Ray asks what files to leave out."""
        return lit(True)

    def pushed_partition_pruner(self) -> _Planned:
        """The tasks. Plans; Ray asks when nothing more is pushed down."""
        return _Planned(self.reading, self._parallelism)

    def create_reader(self) -> _ShareReader:
        """Who reads a task; runs in workers."""
        return _ShareReader()

    def explain(self) -> Explanation:
        """What was pushed down, and how the files are packed into tasks."""
        return self.reading.explain(self._parallelism)


class _Planned(FilePruner):
    """What the driver planned, on its way to the listing task."""

    def __init__(self, reading: Reading, parallelism: int) -> None:
        label = str(reading.table)
        shares = reading.shares(parallelism)
        self.row_limit = reading.row_limit
        self.tasks = pa.table(
            {
                _SHARE: pa.array([ray.cloudpickle.dumps(share) for share in shares], pa.binary()),
                "size": pa.array([int(share.decoded_bytes().sum()) for share in shares]),
                "name": pa.array([f"{label}#{number}" for number in range(len(shares))]),
            }
        )

    def should_include(self, path: str) -> bool:
        """Yes: the files are chosen already."""
        del path
        return True


class _Listing(FileIndexer):
    """Gives each task of the driver's plan to a reader. Runs in a worker, and asks nobody."""

    # Any: Ray's own, most of which are of no concern here.
    def list_files(
        self, paths: object, *, pruners: Sequence[FilePruner] | None = None, **told: Any
    ) -> Iterator[FileManifest]:
        """A manifest for each task, in the plan's order."""
        del paths
        excluded = told.get("excluded_read_unit_ids") or ()
        for planned in pruners or ():
            if not isinstance(planned, _Planned):
                continue
            for task in planned.tasks.to_pylist():
                if task["name"] not in excluded:
                    yield _manifest(task)

    def list_file_infos(self, paths: object, **told: object) -> Iterator[Any]:
        """Nothing: no file has to be sampled."""
        del paths, told
        return iter(())


def _unlisted(op: ListFiles, context: DataContext) -> PhysicalOperator | None:
    """The tasks of one of ours as the readers' input; None where a listing has to give them."""
    planned = op.partition_pruner
    if not isinstance(planned, _Planned) or planned.tasks.num_rows > _MOST_UNLISTED:
        return None
    if context.checkpoint_config is not None:
        return None  # a listing leaves out what was read before
    bundles = []
    for manifest in _Listing().list_files([], pruners=[planned]):
        block = manifest.as_block()
        told = BlockAccessor.for_block(block).get_metadata(input_files=None, block_exec_stats=None)
        # Not owned: what is lost is made again from these.
        entry = BlockEntry(ray.put(block), told)
        bundles.append(RefBundle((entry,), owns_blocks=False, schema=block.schema))
    return InputDataBuffer(context, input_data=bundles)


def _planner_of_listings(
    listed: Callable[[ListFiles, list[PhysicalOperator], DataContext], PhysicalOperator],
) -> Callable[[ListFiles, list[PhysicalOperator], DataContext], PhysicalOperator]:
    def plan(
        op: ListFiles, children: list[PhysicalOperator], context: DataContext
    ) -> PhysicalOperator:
        return _unlisted(op, context) or listed(op, children, context)

    return plan


# Elsewhere all tasks are listed.
with contextlib.suppress(AttributeError, KeyError):
    _KNOWN = Planner._DEFAULT_PLAN_FNS  # noqa: SLF001  # no public way
    _KNOWN[ListFiles] = _planner_of_listings(_KNOWN[ListFiles])


# Any: what Arrow makes of a row.
def _manifest(task: dict[str, Any]) -> FileManifest:
    plain = FileManifest.construct_manifest(
        paths=[task["name"]], sizes=[task["size"]], chunk_metadatas=[None]
    )
    block = plain.as_block()
    return FileManifest(block.append_column(_SHARE, pa.array([task[_SHARE]], pa.binary())))


class _ShareReader(Reader[FileManifest]):
    """Reads what the driver packed. Runs in workers."""

    def read(self, input_split: FileManifest) -> Iterator[pa.Table]:
        """The blocks of a manifest's tasks."""
        for packed in input_split.as_block().column(_SHARE).to_pylist():
            yield from read(ray.cloudpickle.loads(packed))


class _Source(DataSourceWithMetadata[FileManifest]):
    """A table as the newer interface wants it."""

    def __init__(self, reading: Reading, parallelism: int) -> None:
        super().__init__("DeltaCat", DatasourceCategory.DATA_LAKE)
        self._scanner = DeltaCatScanner(reading, parallelism)

    @property
    def paths(self) -> list[str]:
        """One name, which makes one listing task."""
        return [str(self._scanner.reading.table)]

    def _get_file_indexer(self) -> _Listing:
        return _Listing()

    def get_file_partitioner(self, **hints: object) -> None:
        """None: the plan's tasks are packed."""
        del hints

    def infer_schema(self, sample: FileManifest | None) -> pa.Schema:
        """The table's, in the columns that were asked for."""
        del sample
        return self._scanner.read_schema()

    def create_scanner(self, schema: pa.Schema, **options: object) -> DeltaCatScanner:
        """The scanner, to which nothing is pushed down yet."""
        del schema, options
        return self._scanner


# Any: Ray's options.
def dataset(reading: Reading, options: Mapping[str, Any]) -> Dataset:
    """A dataset of the rows; `options` are those of `ray.data.read_datasource`."""
    told = dict(options)
    blocks = told.pop("override_num_blocks", None)
    parallelism = told.pop("parallelism", -1) if blocks is None else blocks
    least = DataContext.get_current().read_op_min_num_blocks
    wanted = most_tasks(least) if parallelism == -1 else parallelism
    found: Dataset = _read_datasource_v2(_Source(reading, wanted), parallelism=parallelism, **told)
    rows = reading.row_count()
    if rows is not None:
        # What Ray would start tasks to count.
        with contextlib.suppress(AttributeError):
            found._cache.set_num_rows(found._logical_plan.dag, rows)  # noqa: SLF001  # no public way
    return found


@functools.cache
def works() -> bool:
    """Whether this Ray's interface is the one that is known here: tried on a table without files."""
    schema = pa.schema([("probe", pa.int64())])
    header = PlanHeader("probe", "probe", schema_serialized=encode_schema(schema))
    plan = ReadPlan(header, FILE_COLUMNS.empty_table())
    try:
        scanner = _Source(Reading(TableRef("probe", "probe"), None, plan), 1).create_scanner(schema)
        pushed, residual = scanner.push_filters(lit(1) == 1)
        told = derive_list_files_pushdown(pushed.prune_columns(["probe"]).push_limit(7))
        planned = told.partition_pruner
        listed = list(_Listing().list_files([""], filesystem=None, pruners=[planned]))
        rows = [block.schema.names for m in listed for block in scanner.create_reader().read(m)]
        takes = inspect.signature(_read_datasource_v2).parameters
    except (AttributeError, TypeError, ValueError, KeyError):
        return False
    known = isinstance(planned, _Planned) and planned.row_limit == 7 and residual is None
    return known and rows == [["probe"]] and {"datasource", "parallelism"} <= takes.keys()
