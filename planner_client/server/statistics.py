"""What files' statistics say of a column, per file and per block of files, read when first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.formats.pool import drawn_from, lasting_pool
from io_core.lean_arrow import in_one_piece, lean_numbers, lean_numpy, lean_scalar, of_scalars
from io_core.literal import kind_of
from io_core.partition import Bounds
from io_core.prune import file_bounds
from io_core.schema import without_views
from planner_client.server.column_keys import PIECE, ColumnKeys
from planner_client.server.segments import KINDS, stats_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner_client.server.segments import Run
    from planner_client.server.store import View

__all__ = [
    "BLOCK",
    "PIECE",
    "StatColumn",
    "Stats",
    "block_extreme",
    "consecutive",
    "cut",
    "known_counts",
    "stat_column",
]

Rows = npt.NDArray[np.int64]
BLOCK = 1024
_FIXED = ("number", "date", "time", "timestamp", "duration")


class StatColumn(NamedTuple):
    """Statistics of one column of a version's files.

    Attributes:
        height: How many files, from the first on.
        pieces: What is known of the files, all but the last piece of one length. A count that is
            the same for all of a piece takes no room.
        blocks: The same for each 1,024 files: least and greatest bound, counts added up; unknown
            where one file's is.
        keys: Numbers for both.
    """

    height: int
    pieces: tuple[Bounds, ...]
    blocks: Bounds
    keys: ColumnKeys

    def take(self, rows: Rows) -> Bounds:
        """What is known of the rows, in their order."""
        if not len(rows):
            return cut(self.blocks, slice(0, 0))
        run = consecutive(rows)
        if run is not None and run.start // PIECE == (run.stop - 1) // PIECE:
            start = run.start % PIECE
            return cut(self.pieces[run.start // PIECE], slice(start, start + len(rows)))
        if len(self.pieces) == 1:
            return _taken(self.pieces[0], rows)
        if not bool((rows[1:] >= rows[:-1]).all()):
            order = np.argsort(rows, kind="stable")
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            return _taken(self.take(rows[order]), back)
        edges = np.arange(int(rows[0]) // PIECE, int(rows[-1]) // PIECE + 2) * PIECE
        ends = rows.searchsorted(edges)
        return _joined(
            [
                _taken(self.pieces[edge // PIECE], rows[start:end] - edge)
                for edge, start, end in zip(edges.tolist(), ends[:-1], ends[1:], strict=False)
                if end > start
            ]
        )

    def first_blocks(self, files: int) -> Bounds:
        """What is known of the blocks of the first `files` files."""
        count = -(-files // BLOCK)
        return self.blocks if self.height == files else cut(self.blocks, slice(0, count))


def consecutive(rows: Rows) -> slice | None:
    """The rows as a slice, where each is one more than the last: cutting costs less than taking."""
    first = int(rows[0]) if len(rows) else 0
    if len(rows) == 0 or int(rows[-1]) - first + 1 != len(rows):
        return None
    if len(rows) > 2 and not bool((rows[1:] > rows[:-1]).all()):
        return None
    return slice(first, first + len(rows))


def cut(bounds: Bounds, part: slice) -> Bounds:
    """What is known of consecutive files. Copies nothing."""
    length = part.stop - part.start
    low, high = (b.slice(part.start, length) for b in (bounds.low, bounds.high))
    image = bounds.image
    if image is not None:
        image = image._replace(values=image.values.slice(part.start, length))
    return Bounds(low, high, bounds.null_count[part], bounds.nan_count[part], bounds.exact, image)


def stat_column(bounds: Bounds) -> StatColumn:
    """The column that these bounds are, looked at by blocks as well."""
    length, dtype = len(bounds.low), bounds.low.type
    starts = range(0, max(length, 1), PIECE)
    pieces = tuple(cut(bounds, slice(i, min(i + PIECE, length))) for i in starts)
    if bounds.low.null_count == length:
        unknown = np.full(-(-length // BLOCK), -1, np.int64)
        nothing = pa.nulls(len(unknown), dtype)
        blocks = Bounds(nothing, nothing, unknown, unknown, exact=False)
        return StatColumn(length, pieces, blocks, ColumnKeys.of(pieces, blocks))
    shape = pa.schema(list(zip(KINDS, (dtype, dtype, pa.int64(), pa.int64()), strict=True)))
    joined = _joined([file_bounds(_blocks(_table(piece, shape))) for piece in pieces])
    blocks = joined._replace(exact=False)
    return StatColumn(length, pieces, blocks, ColumnKeys.of(pieces, blocks))


def known_counts(counts: Rows) -> pa.Array:
    """Counts as plans carry them: null where unknown."""
    return lean_numbers(counts.astype(np.int64, copy=False), counts < 0)


class Stats:
    """Statistics of a version's files, one column at a time; threads share it."""

    def __init__(self, version_id: int) -> None:
        self.version_id = version_id
        self._lock = threading.Lock()
        self._known: dict[tuple[str, pa.DataType], StatColumn] = {}
        # Of how many files, from the first on, nothing is known of a column.
        self._bare: dict[tuple[str, pa.DataType], int] = {}

    def of(self, view: View, field: pa.Field, count: int) -> StatColumn | None:
        """At least the first `count` files' statistics of a column.

        None where columns of the field's type have no statistics, or none of the files has.
        """
        if kind_of(field.type) == "other":
            return None
        key = (field.metadata[b"PARQUET:field_id"].decode(), field.type)
        known = self._known.get(key)
        if known is not None and known.height >= count:
            return known
        if known is None and self._bare.get(key, 0) >= count:
            return None
        with self._lock:
            known = self._known.get(key)
            if known is None or known.height < count:
                first = self._bare.get(key, 0) if known is None else known.height
                with drawn_from(lasting_pool):
                    runs = stats_runs(view.db, self.version_id, field, first, count)
                    if known is None and not runs:
                        self._bare[key] = count
                        return None
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
    whole = start // PIECE
    shape = pa.schema(list(zip(KINDS, (dtype, dtype, pa.int64(), pa.int64()), strict=True)))
    added = [] if whole == len(pieces) else [_table(pieces[-1], shape)]
    at = start
    for run in runs:
        added += [_unknown(shape, run.first - at), run.table.cast(shape)]
        at = run.first + len(run.table)
    added.append(_unknown(shape, count - at))
    table = pa.concat_tables(part for part in added if len(part)) if count > start else added[0]
    fresh = [file_bounds(table.slice(i, PIECE)) for i in range(0, len(table), PIECE)]
    old = [] if known is None else [cut(known.blocks, slice(0, whole * (PIECE // BLOCK)))]
    empty = file_bounds(_unknown(shape, 0))
    blocks = _joined(
        [*old, empty, *(file_bounds(_blocks(_table(piece, shape))) for piece in fresh)]
    )
    held, blocks = (*pieces[:whole], *map(_lean, fresh)), blocks._replace(exact=False)
    keys = ColumnKeys.of(held, blocks) if known is None else known.keys.extended(held, blocks)
    return StatColumn(count, held, blocks, keys)


def _unknown(schema: pa.Schema, files: int) -> pa.Table:
    return pa.table([pa.nulls(files, f.type) for f in schema], schema=schema)


def _table(bounds: Bounds, shape: pa.Schema) -> pa.Table:
    counts = (known_counts(c) for c in (bounds.null_count, bounds.nan_count))
    return pa.table([bounds.low, bounds.high, *counts], schema=shape)


def _lean(found: Bounds) -> Bounds:
    if found.low.nbytes * 2 < found.low.get_total_buffer_size():
        # A copy of its own, so that what it was cut from goes.
        found = _taken(found, np.arange(len(found.low)))
    return found._replace(null_count=_narrow(found.null_count), nan_count=_narrow(found.nan_count))


def _narrow(counts: Rows) -> Rows:
    """The same numbers in as little memory as they need."""
    if not len(counts):
        return counts
    least, most = int(counts.min()), int(counts.max())
    if least == most:
        return np.broadcast_to(counts[:1].copy(), counts.shape)
    # With a sign always: unknown ones are below zero, and other pieces may have some.
    return counts.astype(np.min_scalar_type(min(least, -most - 1)))


def _joined(parts: Sequence[Bounds]) -> Bounds:
    if len(parts) == 1:
        return parts[0]
    low, high = (pa.concat_arrays([getattr(p, side) for p in parts]) for side in ("low", "high"))
    nulls = np.concatenate([p.null_count for p in parts])
    nans = np.concatenate([p.nan_count for p in parts])
    image = parts[-1].image
    if image is not None:
        held = [p.image.values for p in parts if p.image is not None]
        image = image._replace(values=pa.concat_arrays(held))
    return Bounds(low, high, nulls, nans, parts[-1].exact, image)


def _taken(bounds: Bounds, index: Rows) -> Bounds:
    low, high, dtype = bounds.low, bounds.high, bounds.low.type
    at = lean_numbers(index)
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        # Arrow has no kernel for them.
        plain = without_views(dtype)
        low, high = (side.cast(plain).take(at).cast(dtype) for side in (low, high))
    elif low is high:
        low = high = low.take(at)
    else:
        low, high = low.take(at), high.take(at)
    image = bounds.image
    if image is not None:
        image = image._replace(values=image.values.take(at))
    nulls, nans = bounds.null_count[index], bounds.nan_count[index]
    return Bounds(low, high, nulls, nans, bounds.exact, image)


def _blocks(piece: pa.Table) -> pa.Table:
    low, high = _bound(piece.column("min"), "min"), _bound(piece.column("max"), "max")
    counts = [_count(piece.column(name)) for name in ("null_count", "nan_count")]
    return pa.table([low, high, *counts], names=list(KINDS))


def _bound(column: pa.ChunkedArray, kind: Literal["min", "max"]) -> pa.Array:
    """Least or greatest bound of each block; null where one is null or NaN."""
    dtype = column.type
    if kind_of(dtype) in _FIXED and not pa.types.is_decimal(dtype):
        values = in_one_piece(column)
        width = pa.int32() if dtype.bit_width == 32 and kind_of(dtype) != "number" else pa.int64()
        plain = values if kind_of(dtype) == "number" else values.cast(width)
        unknown = values.is_null(nan_is_null=True)
        missing = None
        if pc.any(unknown).as_py():
            missing = block_extreme(lean_numpy(unknown), "max")
            plain = plain.fill_null(lean_scalar(0, plain.type))
        blocks = block_extreme(lean_numpy(plain), kind)
        return lean_numbers(blocks, missing).cast(dtype)
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        # Arrow has no kernel for them.
        column = column.cast(without_views(dtype))
    if pa.types.is_decimal32(dtype) or pa.types.is_decimal64(dtype):
        column = column.cast(pa.decimal128(38, dtype.scale))
    # Not by `group_by`, for which pyarrow imports its datasets.
    pieces = (column.slice(start, BLOCK) for start in range(0, len(column), BLOCK))
    found = [pc.min_max(piece, skip_nulls=False)[kind] for piece in pieces]
    return of_scalars(found, column.type).cast(dtype)


def _count(column: pa.ChunkedArray) -> pa.Array:
    counts = lean_numpy(in_one_piece(column).fill_null(lean_scalar(-1, pa.int64())))
    starts = np.arange(0, len(counts), BLOCK)
    sums = np.add.reduceat(counts, starts) if len(counts) else counts
    lowest = block_extreme(counts, "min")
    return lean_numbers(sums, lowest < 0)


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
