"""Rows of Parquet files that live: how does Daft's own reader leave the dead ones out?

A task of ours has Daft's reader decode files, and takes the dead rows away by a mask, that of the
plan's delete set. The reader would do that itself, were it given Iceberg's position deletes: a file
more to write for each data file, of which it reads a path and a number per dead row before the first
task begins, and wherever Daft runs, that file would have to be. docs/daft.md has the figures.

Several small files are one task: Daft hands a Python task's rows over by an event loop and a queue,
which takes as long as decoding a column of a small file.

Local files alone: Daft 0.7.26 has a thread for each core wait for a task in Python, and its reader
decodes what it fetched from a store in just those threads. docs/daft.md says more.
"""

from __future__ import annotations

import asyncio
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft.expressions import ExpressionsProjection
from daft.io.source import DataSourceTask
from daft.recordbatch import RecordBatch
from daft.schema import Schema

from deltacat_sources.daft.predicate import columns_read
from io_core import deletes
from io_core.errors import DataFileError
from io_core.lean_arrow import booleans, in_one_piece, lean_numpy, lean_scalar
from io_core.storage import engine_location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    import daft

    from io_core.merge import Mask
    from io_core.storage import Storage

__all__ = ["MaskedFile", "MaskedTask", "Way", "together"]

# Larger files are read row group by row group: what is decoded at once is held at once.
_ROWS_AT_ONCE = 2**20
# Smaller ones are a task together, which is short enough to be one of several.
_ROWS_TOGETHER = 2**19
_BYTES_TOGETHER = 2**26


class MaskedFile(NamedTuple):
    """A local Parquet file of which rows are dead.

    Attributes:
        path: Where it is.
        records: How many rows it has.
        size: Its bytes.
        dead: Its delete set.
    """

    path: str
    records: int
    size: int
    dead: bytes


def together(files: Iterable[MaskedFile]) -> Iterator[tuple[MaskedFile, ...]]:
    """Files in their order, as many at a time as one task should read."""
    group: list[MaskedFile] = []
    rows = size = 0
    for file in files:
        rows, size = rows + file.records, size + file.size
        if group and (rows > _ROWS_TOGETHER or size > _BYTES_TOGETHER):
            yield tuple(group)
            group, rows, size = [], file.records, file.size
        group.append(file)
    if group:
        yield tuple(group)


class _Part(NamedTuple):
    """Rows of a file that are decoded together; all of it where no row group is named."""

    file: MaskedFile
    row_group: int | None
    alive: Mask


class Way(NamedTuple):
    """What all files of a plan have in common.

    Attributes:
        plan: Names the plan in errors.
        storage: The plan's way to its files.
    """

    plan: str
    storage: Storage


class MaskedTask(DataSourceTask):
    """The rows of some local files that live. Pickles with their delete sets.

    Args:
        files: Whose rows.
        way: To them.
        schema: The columns of the answer and of the filter, as Daft has them.
        filters: What Daft applies to the rows afterwards in any case: here, it spares decoding.
        row_limit: Enough rows of each file; None where the filter comes first.
    """

    def __init__(
        self,
        files: tuple[MaskedFile, ...],
        way: Way,
        schema: pa.Schema,
        *,
        filters: daft.Expression | None,
        row_limit: int | None,
    ) -> None:
        self._files = files
        self._way = way
        self._shape = schema
        self._filters = filters
        self._row_limit = row_limit

    @property
    def schema(self) -> daft.Schema:
        """The columns that are read."""
        return Schema.from_pyarrow_schema(self._shape)

    async def read(self) -> AsyncIterator[RecordBatch]:
        """The rows that live, and of those that the filter leaves out perhaps some."""
        parts = [part for file in self._files for part in self._parts(file)]
        whole = sum(len(part.alive) for part in parts) <= _ROWS_AT_ONCE
        for piece in [parts] if whole else [[part] for part in parts]:
            # In a thread: Daft reads the tasks of a query in turns, on one event loop.
            for found in await asyncio.to_thread(self._batches, piece):
                yield found

    def _batches(self, parts: list[_Part]) -> list[RecordBatch]:
        found = filter(None, map(self._living, parts))
        return [RecordBatch.from_arrow_table(rows) for rows in found]

    def _parts(self, file: MaskedFile) -> list[_Part]:
        try:
            alive = deletes.live_mask(file.dead, file.records)
        except DataFileError as error:
            problem = f"does not fit its delete set: {error}"
            raise DataFileError.of(file.path, problem, self._way.plan) from error
        end = file.records
        if self._row_limit is not None:
            end = _end_of(alive, self._row_limit)
            alive[end:] = False
        if end <= _ROWS_AT_ONCE:
            return [_Part(file, None, alive[:end])]
        with self._way.storage.open_input(file.path) as opened:
            footer = pq.read_metadata(opened)
        groups = range(footer.num_row_groups)
        ends = list(accumulate(footer.row_group(place).num_rows for place in groups))
        starts = [0, *ends]
        parts = (_Part(file, i, alive[s:e]) for i, s, e in zip(groups, starts, ends, strict=False))
        return [part for part in parts if part.alive.any()]

    def _living(self, part: _Part) -> pa.Table | None:
        """A part's rows without the dead ones; None where the filter keeps no row."""
        names, filters = self._shape.names, self._filters
        asked = None if filters is None else columns_read(filters)
        if filters is None or asked is None or asked.issuperset(names):
            # With a filter of all columns there is nothing to spare.
            return self._without_dead(part, self._decoded(part, names))
        kept = self._read(part, names, filters)
        if not len(kept):
            return None
        matching = _matching(self._decoded(part, sorted(asked)), filters)
        if len(matching) == len(part.alive) and np.count_nonzero(matching) == len(kept):
            return self._aligned(kept, names).filter(booleans(part.alive[matching]))
        # Daft's reader skips row groups by statistics, which leave NaN out: which rows are these?
        return self._without_dead(part, self._decoded(part, names))

    def _without_dead(self, part: _Part, rows: pa.Table) -> pa.Table:
        if rows.num_rows != len(part.alive):
            problem = f"has {rows.num_rows} rows where {len(part.alive)} were written"
            raise DataFileError.of(part.file.path, problem, self._way.plan)
        return rows.filter(booleans(part.alive))

    def _decoded(self, part: _Part, names: list[str]) -> pa.Table:
        return self._aligned(self._read(part, names, None), names)

    def _read(self, part: _Part, names: list[str], filters: daft.Expression | None) -> RecordBatch:
        """Columns of a part, as far as the file has them."""
        first = part.row_group is None and filters is None and len(part.alive) < part.file.records
        return RecordBatch.read_parquet(
            engine_location(part.file.path),
            columns=names,
            num_rows=len(part.alive) if first else None,
            row_groups=None if part.row_group is None else [part.row_group],
            predicate=filters,
        )

    def _aligned(self, rows: RecordBatch, names: list[str]) -> pa.Table:
        """Columns as the table has them; null where the file has none."""
        stored = rows.to_arrow_table()
        shape = pa.schema([self._shape.field(name) for name in names])
        if stored.schema.equals(shape):
            return stored
        columns = [
            stored.column(field.name).cast(field.type)
            if field.name in stored.column_names
            else pa.nulls(len(rows), field.type)
            for field in shape
        ]
        return pa.Table.from_arrays(columns, schema=shape)


def _end_of(alive: Mask, rows: int) -> int:
    """Which first rows hold so many that live, or all that there are."""
    places = np.flatnonzero(alive)[:rows]
    return int(places[-1]) + 1 if len(places) else 0


def _matching(rows: pa.Table, filters: daft.Expression) -> Mask:
    """Which rows a filter keeps."""
    asked = ExpressionsProjection([filters.alias("kept")])
    found = RecordBatch.from_arrow_table(rows).eval_expression_list(asked).to_arrow_table()
    kept = in_one_piece(found.column("kept"))
    return lean_numpy(kept.fill_null(lean_scalar(False, pa.bool_())))
