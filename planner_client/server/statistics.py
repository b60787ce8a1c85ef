"""What files' statistics say of a column, per file and per block of files, read when first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.literal import kind_of
from io_core.prune import file_bounds
from io_core.schema import without_views
from planner_client.server.segments import KINDS, stats_runs

if TYPE_CHECKING:
    from io_core.partition import Bounds
    from planner_client.server.segments import Run
    from planner_client.server.store import View

__all__ = ["BLOCK", "StatColumn", "Stats", "block_extreme"]

BLOCK = 1024
# Pieces of a column are joined until they are this long.
_PIECE = 64 * BLOCK
_FIXED = ("number", "date", "time", "timestamp", "duration")


class StatColumn(NamedTuple):
    """Statistics of one column of a version's files.

    Attributes:
        height: How many files, from the first on.
        pieces: Tables of `min`, `max`, `null_count`, `nan_count`, all but the last of one length;
            a count that no file of a piece has is of Arrow's null type, which takes no room.
        blocks: The same for each 1,024 files: least and greatest bound, counts added up; unknown
            where one file's is.
        bounds: What the blocks say, as pruning has it.
    """

    height: int
    pieces: tuple[pa.Table, ...]
    blocks: pa.Table
    bounds: Bounds

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Statistics of the rows, in their order."""
        if not self.pieces or not len(rows):
            return self.blocks.slice(0, 0)
        low, high = int(rows.min()) // _PIECE, int(rows.max()) // _PIECE
        table = pa.concat_tables(self.pieces[low : high + 1], promote_options="default")
        index = rows - low * _PIECE
        if len(rows) < len(table) or bool((index != np.arange(len(table))).any()):
            table = _taken(table, index)
        return table.combine_chunks()


class Stats:
    """Statistics of a version's files, one column at a time; threads share it."""

    def __init__(self, version_id: int) -> None:
        self.version_id = version_id
        self._lock = threading.Lock()
        self._known: dict[tuple[str, pa.DataType], StatColumn] = {}

    def of(self, view: View, field: pa.Field, count: int) -> StatColumn | None:
        """At least the first `count` files' statistics of a column.

        None where columns of the field's type have no statistics.
        """
        if kind_of(field.type) == "other":
            return None
        key = (field.metadata[b"PARQUET:field_id"].decode(), field.type)
        known = self._known.get(key)
        if known is not None and known.height >= count:
            return known
        with self._lock:
            known = self._known.get(key)
            if known is None or known.height < count:
                first = 0 if known is None else known.height
                runs = stats_runs(view.db, self.version_id, field, first, count)
                known = _extended(known, runs, field.type, count)
                self._known[key] = known
                # What reading took besides, which would stay with the process.
                del runs
                pa.default_memory_pool().release_unused()
        return known


def _extended(
    known: StatColumn | None, runs: list[Run], dtype: pa.DataType, count: int
) -> StatColumn:
    """The column with the files that follow, whose statistics are unknown where no run has any."""
    pieces = [] if known is None else list(known.pieces)
    start = 0 if known is None else known.height
    whole = start // _PIECE
    shape = pa.schema(list(zip(KINDS, (dtype, dtype, pa.int64(), pa.int64()), strict=True)))
    added = [] if whole == len(pieces) else [pieces[-1].cast(shape)]
    at = start
    for run in runs:
        added += [_unknown(shape, run.first - at), run.table.cast(shape)]
        at = run.first + len(run.table)
    added.append(_unknown(shape, count - at))
    table = pa.concat_tables(added).combine_chunks()
    pieces = pieces[:whole]
    pieces += [table.slice(i, _PIECE).combine_chunks() for i in range(0, len(table), _PIECE)]
    fresh = [_blocks(piece) for piece in pieces[whole:]]
    old = [] if known is None else [known.blocks.slice(0, whole * (_PIECE // BLOCK))]
    blocks = pa.concat_tables([*old, shape.empty_table(), *fresh]).combine_chunks()
    pieces = [*pieces[:whole], *map(_lean, pieces[whole:])]
    return StatColumn(count, tuple(pieces), blocks, file_bounds(blocks)._replace(exact=False))


def _unknown(schema: pa.Schema, files: int) -> pa.Table:
    return pa.table([pa.nulls(files, f.type) for f in schema], schema=schema)


def _lean(piece: pa.Table) -> pa.Table:
    for index, name in enumerate(KINDS):
        if name.endswith("count") and piece.column(name).null_count == len(piece):
            piece = piece.set_column(index, name, pa.nulls(len(piece)))
    # A copy of its own, so that what it was cut from goes.
    return _taken(piece, np.arange(len(piece))).combine_chunks()


def _taken(table: pa.Table, index: npt.NDArray[np.int64]) -> pa.Table:
    shape = pa.schema([f.with_type(without_views(f.type)) for f in table.schema])
    if shape == table.schema:
        return table.take(pa.array(index))
    # Arrow has no kernel for view types.
    return table.cast(shape).take(pa.array(index)).cast(table.schema)


def _blocks(piece: pa.Table) -> pa.Table:
    low, high = _bound(piece.column("min"), "min"), _bound(piece.column("max"), "max")
    counts = [_count(piece.column(name)) for name in ("null_count", "nan_count")]
    return pa.table([low, high, *counts], names=list(KINDS))


def _bound(column: pa.ChunkedArray, kind: Literal["min", "max"]) -> pa.Array:
    """Least or greatest bound of each block; null where one is null or NaN."""
    dtype = column.type
    if kind_of(dtype) in _FIXED and not pa.types.is_decimal(dtype):
        values = column.combine_chunks()
        width = pa.int32() if dtype.bit_width == 32 and kind_of(dtype) != "number" else pa.int64()
        plain = values if kind_of(dtype) == "number" else values.cast(width)
        unknown = values.is_null(nan_is_null=True)
        missing = None
        if pc.any(unknown).as_py():
            missing = block_extreme(unknown.to_numpy(zero_copy_only=False), "max")
            plain = plain.fill_null(0)
        blocks = block_extreme(plain.to_numpy(zero_copy_only=False), kind)
        return pa.array(blocks, plain.type, mask=missing).cast(dtype)
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        # Arrow has no kernel for them.
        column = column.cast(without_views(dtype))
    if pa.types.is_decimal32(dtype) or pa.types.is_decimal64(dtype):
        column = column.cast(pa.decimal128(38, dtype.scale))
    block = pa.array(np.arange(len(column)) // BLOCK)
    grouped = pa.table({"block": block, "bound": column}).group_by("block", use_threads=False)
    options = pc.ScalarAggregateOptions(skip_nulls=False)
    found = grouped.aggregate([("bound", kind, options)]).column(f"bound_{kind}")
    return found.combine_chunks().cast(dtype)


def _count(column: pa.ChunkedArray) -> pa.Array:
    counts = column.combine_chunks().fill_null(-1).to_numpy()
    starts = np.arange(0, len(counts), BLOCK)
    sums = np.add.reduceat(counts, starts) if len(counts) else counts
    lowest = block_extreme(counts, "min")
    return pa.array(sums, pa.int64(), mask=lowest < 0)


def block_extreme(values: npt.NDArray[Any], kind: Literal["min", "max"]) -> npt.NDArray[Any]:
    """Least or greatest value of each 1,024; the last block may be shorter."""
    if not len(values):
        return values[:0]
    extreme = np.minimum if kind == "min" else np.maximum
    whole = len(values) // BLOCK * BLOCK
    blocks: npt.NDArray[Any] = extreme.reduce(values[:whole].reshape(-1, BLOCK), axis=1)
    if whole < len(values):
        blocks = np.append(blocks, extreme.reduce(values[whole:]))
    return blocks
