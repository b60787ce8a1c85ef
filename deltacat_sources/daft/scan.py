"""How does Daft read a table? Its own Parquet reader gets the planned files; merged rows go by Arrow.

A frame is pinned to one snapshot when it is built. When a query runs, Daft hands its filters,
columns and limit to `_Table.get_tasks`, which plans them and yields one task per file for Daft's
native reader, or one Python task per merge group where rows merge by key. Daft applies filters,
projection and limit again to whatever the tasks return.

Partition columns are in the data files and are not declared to Daft, so that all filters arrive
as filters, which may be widened: partition filters, Daft would apply no more.

Types are Daft's: text and binary views become String and Binary, dictionaries their values,
`time32` becomes Time in microseconds, `date64` Date, narrow decimals Decimal. Where Daft's reader
refuses such files, they are read through Arrow, one task per file.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
from daft.daft import CountMode
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

from deltacat_sources.daft.predicate import columns_read, to_daft, translate
from deltacat_sources.daft.storage import storage_config
from deltacat_sources.opening import open_scan
from io_core.errors import UnsupportedError
from io_core.execute import read_plan
from io_core.predicate import Constant, bind, dump
from io_core.schema import needs_alignment
from io_core.storage import check_files, engine_location

if TYPE_CHECKING:
    from io_core.plan import ReadPlan
    import os
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from daft.io.pushdowns import Pushdowns

    from io_core.model import TableRef
    from io_core.predicate import Predicate
    from io_core.scan import Scan
    from planner_client import Client

__all__ = ["daft_schema", "read_deltacat"]

_CACHED_PLANS = 16


def read_deltacat(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    as_of: int | None = None,
    table_version: str | None = None,
    columns: Sequence[str] | None = None,
    predicate: Mapping[str, object] | None = None,
) -> daft.DataFrame:
    """Lazily read a table.

    Makes one small call to the planner, for the schema and the snapshot: the frame shows that one
    snapshot however often it is used. The files are planned when a query runs, with its filters,
    its columns and its limit, once per distinct query. `count_rows()` of a table whose rows do not
    merge opens no file.

    Daft's filters mean what Daft means, over files: its reader skips row groups by footers that
    leave NaN out, so that `x > 5` can miss NaN. `predicate` does not.

    Args:
        table: `"namespace.table"`.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.
        table_version: A version of the table; None means the latest active one.
        columns: The frame's columns, in order; None means all.
        predicate: Rows to keep, as the planner's JSON tree, such as `{"gt": ["x", 3]}`; in this
            project's meaning (NaN above all numbers, nulls ignored in lists), before `columns`.

    Raises:
        NotFoundError: No such namespace, table or version.
        SchemaValidationError: An unknown column.
        PredicateError: The predicate is malformed or does not fit the schema.
        UnsupportedError: A column of a type that Daft cannot hold.
        CatalogRootError: `planner` is a directory and no catalog.
        DataFileError: When a query runs: a file is missing or has another size.

    Example:
        >>> import tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> _ = client.catalog.create_namespace(namespace="air")
        >>> months = pa.table({"month": [1, 2]})
        >>> _ = client.catalog.write(months, namespace="air", table="flights", mode="auto")
        >>> flights = read_deltacat("air.flights", planner=client)
        >>> flights.where(daft.col("month") == 1).to_pydict()
        {'month': [1]}
    """
    scan, header = open_scan(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        columns=columns,
        predicate=predicate,
    )
    source = _Table(scan, header)
    frame = source.read()
    if scan.predicate is not None:
        frame = frame.where(to_daft(bind(scan.predicate, source.arrow_schema)))
    return frame if columns is None else frame.select(*columns)


class _Table(DataSource):
    """A table at one snapshot; plans what Daft pushes down. Stays on the driver."""

    def __init__(self, scan: Scan, header: ReadPlan) -> None:
        self._scan = scan
        self._merges = header.requires_merge
        self._table_schema = header.schema
        self.arrow_schema = daft_schema(header.schema)
        self._schema = daft.Schema.from_pyarrow_schema(self.arrow_schema)
        # Daft's own reader inserts nulls alone where an older file lacks a column.
        self._is_native = not needs_alignment(header.schema) and all(
            _is_native(field.type) for field in header.schema
        )
        self._plans: dict[tuple[object, ...], ReadPlan] = {}

    @property
    def name(self) -> str:
        return f"DeltaCAT {self._scan.table} at snapshot {self._scan.snapshot}"

    @property
    def schema(self) -> daft.Schema:
        return self._schema

    def supports_count_pushdown(self) -> bool:
        return not self._merges and self._scan.predicate is None

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        if pushdowns.aggregation is not None:
            yield self._count(pushdowns)
            return
        pushed = None
        if pushdowns.filters is not None:
            pushed = translate(pushdowns.filters, self._table_schema)
        if pushed == Constant(False):
            return
        # Daft hands over a limit together with filters, and the planner counts rows before them.
        filtered = pushdowns.filters is not None or pushdowns.partition_filters is not None
        limit = None if filtered or self._merges else pushdowns.limit
        needed = self._needed(pushdowns)
        plan = self._plan(needed, pushed, limit)
        check_files(plan)
        if self._is_native and not plan.requires_merge:
            for task in self._native_tasks(plan, pushdowns):
                yield task
            return
        # Daft filters in any case; before that, only merged rows are worth the second look.
        early = pushed if plan.requires_merge else None
        for piece in plan.groups() if plan.requires_merge else _files_of(plan):
            yield _ArrowTask(piece, needed, early)

    def _needed(self, pushdowns: Pushdowns) -> tuple[str, ...]:
        """Columns of the answer and of the filters, which Daft's list of columns leaves out."""
        names = tuple(self._table_schema.names)
        filters = pushdowns.filters
        read: frozenset[str] | None = frozenset() if filters is None else columns_read(filters)
        if pushdowns.columns is None or read is None:
            return names
        wanted = read.union(pushdowns.columns)
        # Rows without columns cannot be handed to Daft, and would have no number.
        return tuple(name for name in names if name in wanted) or names[:1]

    def _plan(
        self, columns: tuple[str, ...], predicate: Predicate | None, limit: int | None
    ) -> ReadPlan:
        key = columns, json.dumps(dump(predicate)), limit
        if key not in self._plans:
            narrowed = self._scan.narrowed(columns=columns, predicate=predicate, row_limit=limit)
            while len(self._plans) >= _CACHED_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = narrowed.plan()
        return self._plans[key]

    def _native_tasks(self, plan: ReadPlan, pushdowns: Pushdowns) -> Iterator[DataSourceTask]:
        odd = set(plan.column("content_type")) - {"parquet"}
        if odd:
            raise UnsupportedError(f"{plan!r} lists files of type {', '.join(sorted(odd))}")
        config = storage_config(plan.storage.store_for(plan.paths))
        columns = (plan.paths, plan.column("record_count"), plan.column("content_length"))
        for path, rows, size in zip(*columns, strict=True):
            # Without pushdowns a task's rows come back unfiltered; without sizes Daft's Ray runner
            # cannot put small files together.
            yield DataSourceTask.parquet(
                engine_location(path),
                self._schema,
                pushdowns=pushdowns,
                num_rows=rows,
                size_bytes=size,
                storage_config=config,
            )

    def _count(self, pushdowns: Pushdowns) -> DataSourceTask:
        """The number of rows, from the plan alone. Daft asks for it where nothing is filtered."""
        mode = pushdowns._to_pypushdowns().aggregation_count_mode()  # noqa: SLF001  # as Daft's own sources do
        if mode != CountMode.All or not pushdowns.columns:
            raise UnsupportedError(
                f"daft {daft.__version__} pushed {pushdowns.aggregation} into a scan; "
                "install daft>=0.7.26,<0.8"
            )
        plan = self._plan(self._needed(pushdowns), None, None)
        return _CountTask(pushdowns.columns[0], plan.total_records)


class _CountTask(DataSourceTask):
    """One row with a number, under the name of the column that Daft counts."""

    def __init__(self, name: str, count: int) -> None:
        self._rows = pa.table({name: pa.array([count], pa.uint64())})

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self._rows.schema)

    async def read(self) -> AsyncIterator[RecordBatch]:
        yield RecordBatch.from_arrow_table(self._rows)


class _ArrowTask(DataSourceTask):
    """Rows of one merge group, or of one file that Daft cannot open. Pickles with its plan."""

    def __init__(
        self, plan: ReadPlan, columns: tuple[str, ...], predicate: Predicate | None
    ) -> None:
        self._plan = plan
        self._columns = columns
        self._predicate = predicate

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self._arrow_schema())

    def _arrow_schema(self) -> pa.Schema:
        fields = daft_schema(self._plan.schema)
        return pa.schema([fields.field(name) for name in self._columns])

    async def read(self) -> AsyncIterator[RecordBatch]:
        # In a thread: Daft reads the tasks of a query in turns, on one event loop.
        yield RecordBatch.from_arrow_table(await asyncio.to_thread(self._rows))

    def _rows(self) -> pa.Table:
        found = read_plan(self._plan, columns=self._columns, predicate=self._predicate)
        return found.cast(self._arrow_schema())


def _files_of(plan: ReadPlan) -> Iterator[ReadPlan]:
    for row in range(plan.files.num_rows):
        yield plan.with_files(plan.files.slice(row, 1))


def daft_schema(schema: pa.Schema) -> pa.Schema:
    """The Arrow types that a table's columns have in Daft; every value fits exactly.

    Raises:
        UnsupportedError: A column of a type that Daft cannot hold; names it.

    Example:
        >>> daft_schema(pa.schema([("at", pa.time32("s")), ("tag", pa.string_view())]))
        at: time64[us]
        tag: large_string
    """
    fields = []
    for field in schema:
        dtype = _daft_type(field.type)
        if dtype is None:
            raise UnsupportedError(
                f"column {field.name!r} is of type {field.type}, which Daft cannot hold; "
                "read the table with client.catalog.read(columns=...) instead"
            )
        fields.append(pa.field(field.name, dtype))
    return pa.schema(fields)


def _daft_type(dtype: pa.DataType) -> pa.DataType | None:
    """The type in Daft, None where there is none."""
    t = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        # Daft knows tensors; of others it keeps no more than what is stored.
        tensor = isinstance(dtype, pa.FixedShapeTensorType)
        return dtype if tensor else _daft_type(dtype.storage_type)
    if t.is_dictionary(dtype):
        return _daft_type(dtype.value_type)
    if t.is_nested(dtype):
        return _daft_nested(dtype)
    if t.is_decimal(dtype):
        fits = dtype.precision <= 38
        return pa.decimal128(dtype.precision, dtype.scale) if fits else None
    if t.is_interval(dtype) or t.is_run_end_encoded(dtype):
        return None
    changed = {
        pa.string_view(): pa.large_string(),
        pa.binary_view(): pa.large_binary(),
        pa.time32("s"): pa.time64("us"),
        pa.time32("ms"): pa.time64("us"),
        pa.date64(): pa.date32(),
    }
    return changed.get(dtype, dtype)


def _daft_nested(dtype: pa.DataType) -> pa.DataType | None:
    t = pa.types
    inner = [_daft_type(dtype.field(i).type) for i in range(dtype.num_fields)]
    if any(found is None for found in inner):
        return None
    if t.is_struct(dtype):
        named = zip((field.name for field in dtype), inner, strict=True)
        return pa.struct([pa.field(name, found) for name, found in named])
    if t.is_map(dtype):
        return pa.map_(_daft_type(dtype.key_type), _daft_type(dtype.item_type))
    if t.is_fixed_size_list(dtype):
        return pa.list_(inner[0], dtype.list_size)
    if t.is_list(dtype) or t.is_large_list(dtype):
        return pa.large_list(inner[0])
    return None


def _is_native(dtype: pa.DataType) -> bool:
    """Whether Daft's own reader opens files that hold the type, as Arrow's and Polars' writers do."""
    t = pa.types
    if t.is_dictionary(dtype):
        return _is_native(dtype.value_type)
    if t.is_decimal(dtype):
        return bool(t.is_decimal128(dtype))
    if t.is_string_view(dtype) or t.is_binary_view(dtype) or t.is_time32(dtype):
        return False
    if isinstance(dtype, pa.BaseExtensionType):
        return False
    return all(_is_native(dtype.field(i).type) for i in range(dtype.num_fields))
