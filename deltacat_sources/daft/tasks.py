"""Which tasks give Daft the rows of a plan? Its own reader's, wherever that gives them exactly.

A task of Daft's own Parquet reader per file. Where the plan knows rows of files to be dead, a task masks
what that reader decodes of some of them (`deltacat_sources.daft.masked`). Files of other formats, of
older columns, of types that Daft's reader refuses or with dead rows on S3 go through Arrow, one task
each. A partition whose rows have to be merged by key is one task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import daft
import pyarrow as pa
from daft.daft import StorageConfig
from daft.io.source import DataSourceTask
from daft.recordbatch import RecordBatch

from deltacat_sources.daft.footers import without_any
from deltacat_sources.daft.masked import MaskedFile, MaskedTask, Way, together
from deltacat_sources.daft.storage import io_config
from deltacat_sources.daft.types import daft_schema, is_native
from io_core import deletes
from io_core.defaults import PAST_DEFAULT
from io_core.errors import UnsupportedError
from io_core.execute import execute
from io_core.formats.content import content_type_of
from io_core.lean_arrow import lean_array
from io_core.schema import FROM_PARTITION, names_in_file, needs_alignment
from io_core.storage import engine_location, is_s3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from daft.io import IOConfig
    from daft.io.pushdowns import Pushdowns

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["ArrowTask", "CountTask", "Reading", "known_rows", "tasks_of"]


class Reading(NamedTuple):
    """What a query wants of a plan.

    Attributes:
        pushdowns: As Daft handed them over.
        columns: Of the answer and of the filters.
        predicate: What the filters say to the planner; None for nothing.
        row_limit: Enough rows; None where filters come first.
        io_config: How Daft reaches a store; None says the plan's way.
    """

    pushdowns: Pushdowns
    columns: tuple[str, ...]
    predicate: Predicate | None
    row_limit: int | None
    io_config: IOConfig | None = None


def known_rows(plan: ReadPlan) -> int | None:
    """How many rows live in a plan's files; None where only a merge by key can tell.

    Raises:
        DataFileError: A delete set is damaged.
    """
    records, sets = plan.column("record_count"), plan.column("deletes")
    if not plan.requires_merge:
        return int(sum(records))
    rows = 0
    for count, held, kind in zip(records, sets, plan.column("delta_type"), strict=True):
        if kind == "delete":
            continue
        if held is None:
            return None
        rows += count - deletes.count(held)
    return rows


def tasks_of(plan: ReadPlan, reading: Reading) -> Iterator[DataSourceTask]:
    """Tasks that give every row of a plan once, or of a limit enough of them."""
    if plan.header.truncated and plan.requires_merge and known_rows(plan) is None:
        raise UnsupportedError(
            f"{plan!r} is one page of a table whose rows merge: plan without a page size to read it"
        )
    lanes = _Lanes(plan, reading)
    left = reading.row_limit
    for piece in plan.groups() if plan.requires_merge else [plan]:
        if known_rows(piece) is None:
            # Daft filters in any case; before that, only merged rows are worth the second look.
            yield ArrowTask(piece, reading.columns, reading.predicate)
            continue
        for file in _living(piece):
            yield from lanes.tasks(file)
            if left is not None:
                left -= file.alive
                if left <= 0:
                    return
    yield from lanes.rest()


class _File(NamedTuple):
    """One data file with rows that live."""

    plan: ReadPlan
    place: int
    path: str
    records: int
    size: int
    content_type: str
    encoding: str | None
    schema_id: int | None
    dead: bytes

    @property
    def alive(self) -> int:
        return self.records - deletes.count(self.dead)

    def alone(self) -> ReadPlan:
        return self.plan.with_files(self.plan.files.slice(self.place, 1))


_COLUMNS = (
    "path",
    "record_count",
    "content_length",
    "content_type",
    "content_encoding",
    "schema_id",
    "deletes",
    "delta_type",
)


def _living(plan: ReadPlan) -> Iterator[_File]:
    """A plan's data files, but for those without a row that lives."""
    merges = plan.requires_merge
    rows = zip(*map(plan.column, _COLUMNS), strict=True)
    for place, (path, records, size, kind, encoding, schema_id, held, delta) in enumerate(rows):
        if merges and delta == "delete":
            continue
        dead = held if merges and held else b""
        file = _File(plan, place, path, records, size, kind, encoding, schema_id, dead)
        if not dead or file.alive:
            yield file


class _Lanes:
    """A plan's files on their way into tasks."""

    def __init__(self, plan: ReadPlan, reading: Reading) -> None:
        self._plan, self._reading = plan, reading
        self._schema = daft.Schema.from_pyarrow_schema(daft_schema(plan.schema))
        self._is_native = all(is_native(field.type) for field in plan.schema)
        self._wanted = pa.schema([plan.schema.field(name) for name in reading.columns])
        # Of files of one schema id: whether Daft's reader shows the table's columns.
        self._as_they_are: dict[int | None, bool] = {}
        store, reaches = plan.storage.store_for(plan.paths), reading.io_config
        if reaches is None and store is not None:
            reaches = io_config(store)
        self._storage = None if reaches is None else StorageConfig(True, reaches)
        self._reaches = reaches
        self._way = Way(repr(plan), plan.storage)
        self._shape = _shape(plan, reading.columns)
        self._masked: list[MaskedFile] = []
        self._bare = self._without_answer()

    def tasks(self, file: _File) -> Iterator[DataSourceTask]:
        """The file's task: Daft's own reader's, if that gives its rows exactly; perhaps only in `rest`."""
        kind = content_type_of(file.content_type).name
        plain = kind == "parquet" and file.encoding in (None, "identity")
        native = plain and self._is_native and file.path not in self._bare
        if not (native and self._shows(file.schema_id)):
            yield ArrowTask(file.alone(), self._reading.columns, None)
        elif not file.dead:
            yield self._native(file)
        elif is_s3(file.path):
            yield ArrowTask(file.alone(), self._reading.columns, self._reading.predicate)
        else:
            self._masked.append(MaskedFile(file.path, file.records, file.size, file.dead))
            if self._reading.row_limit is not None:
                yield from self.rest()

    def rest(self) -> Iterator[DataSourceTask]:
        """Tasks of files that have none yet."""
        asked = self._reading
        for files in together(self._masked):
            yield MaskedTask(
                files,
                self._way,
                self._shape,
                filters=asked.pushdowns.filters,
                row_limit=asked.row_limit,
            )
        self._masked = []

    def _without_answer(self) -> frozenset[str]:
        """Files that have no column of the answer, where Daft's reader would not do then."""
        asked, plan = self._reading.pushdowns, self._plan
        if asked.filters is None or not self._is_native:
            return frozenset()
        kinds = zip(plan.paths, *map(plan.column, ("content_type", "delta_type")), strict=True)
        parquet = content_type_of("parquet")
        paths = (p for p, k, d in kinds if content_type_of(k) is parquet and d != "delete")
        answer = self._reading.columns if asked.columns is None else asked.columns
        return without_any(paths, answer, self._reaches)

    def _native(self, file: _File) -> DataSourceTask:
        # Without pushdowns a task's rows come back unfiltered; without sizes Daft's Ray runner
        # cannot put small files together.
        return DataSourceTask.parquet(
            engine_location(file.path),
            self._schema,
            pushdowns=self._reading.pushdowns,
            num_rows=file.records,
            size_bytes=file.size,
            storage_config=self._storage,
        )

    def _shows(self, schema_id: int | None) -> bool:
        found = self._as_they_are.get(schema_id)
        if found is None:
            found = self._as_they_are[schema_id] = self._compared(schema_id)
        return found

    def _compared(self, schema_id: int | None) -> bool:
        """Whether files of a schema have the columns under their names, in their types."""
        if any(FROM_PARTITION in (field.metadata or {}) for field in self._wanted):
            return False
        if schema_id is not None and schema_id == self._plan.header.schema_id:
            return True
        writer = self._plan.writer_schema(schema_id)
        if writer is None:
            return not needs_alignment(self._wanted)
        names = names_in_file(self._wanted, writer)
        for field in self._wanted:
            stored = names.get(field.name)
            if stored is None:
                # Daft's reader inserts nulls, but for a column of that name, and no defaults.
                if field.name in writer.names or PAST_DEFAULT in (field.metadata or {}):
                    return False
            elif stored != field.name or writer.field(stored).type != field.type:
                return False
        return True


class CountTask(DataSourceTask):
    """One row with a number, under the name of the column that Daft counts.

    Args:
        name: Of that column.
        plan: Whose rows.
        rows: How many they are; None merges them by key when the task runs, to count them.
    """

    def __init__(self, name: str, plan: ReadPlan, rows: int | None) -> None:
        self._name = name
        self._rows = rows
        self._plan = plan if rows is None else None

    @property
    def schema(self) -> daft.Schema:
        """One column of numbers."""
        return daft.Schema.from_pyarrow_schema(pa.schema([(self._name, pa.uint64())]))

    async def read(self) -> AsyncIterator[RecordBatch]:
        """The one row."""
        rows = self._rows if self._plan is None else await asyncio.to_thread(_count, self._plan)
        found = pa.table({self._name: lean_array([rows], pa.uint64())})
        yield RecordBatch.from_arrow_table(found)


def _count(plan: ReadPlan) -> int:
    return sum(piece.num_rows for piece in execute(plan, columns=[]))


def _shape(plan: ReadPlan, columns: tuple[str, ...]) -> pa.Schema:
    """Columns of a plan, as Daft has them."""
    fields = daft_schema(plan.schema)
    return pa.schema([fields.field(name) for name in columns])


class ArrowTask(DataSourceTask):
    """Rows of one merge group, or of one file that Daft cannot open. Pickles with its plan."""

    def __init__(
        self, plan: ReadPlan, columns: tuple[str, ...], predicate: Predicate | None
    ) -> None:
        self._plan = plan
        self._columns = columns
        self._predicate = predicate

    @property
    def schema(self) -> daft.Schema:
        """The columns that are read."""
        return daft.Schema.from_pyarrow_schema(_shape(self._plan, self._columns))

    async def read(self) -> AsyncIterator[RecordBatch]:
        """The rows, a batch at a time."""
        shape = _shape(self._plan, self._columns)
        pieces = execute(self._plan, columns=self._columns, predicate=self._predicate)
        # In a thread: Daft reads the tasks of a query in turns, on one event loop.
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield RecordBatch.from_arrow_table(piece.cast(shape))
