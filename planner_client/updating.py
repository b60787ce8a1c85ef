"""How do rows that bring some columns become whole rows? The others are read from the table, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.defaults import FUTURE_DEFAULT
from io_core.errors import SchemaValidationError
from io_core.execute import execute
from io_core.keys import Codes, last_of_each, row_codes
from io_core.literal import dump_literal, kind_of
from io_core.predicate_like import as_predicate
from io_core.schema import align, check_columns, without_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate
    from planner_client.rows import Rows

__all__ = ["Part", "Updates"]

# Of the rows that are brought, so many are held at once; then others are read for them. Telling a
# row by its keys takes some 250 bytes.
_PART_BYTES = 64 * 2**20
_PART_ROWS = 1_000_000
_SLICE_ROWS = 100_000
_LOOKED_UP_ROWS = 1_000_000

_ORDERED = frozenset({"number", "text", "binary", "date", "time", "timestamp"})


class Updates:
    """Rows that change some columns of the rows of their keys.

    Rows are told by the merge keys, and by the columns that partition the table where they bring them:
    without those, every row of the key changes, in whichever partition. Of several rows of one key the
    last counts. A key that the table lacks becomes a new row, of all columns that the data brings; others
    are their default, or null.

    Args:
        rows: The rows; they are taken part by part.
        header: A plan of the table.
        columns: Which columns change.

    Raises:
        SchemaValidationError: The table has no keys, or a column is unknown, missing or a key.
    """

    def __init__(self, rows: Rows, header: ReadPlan, columns: Sequence[str]) -> None:
        name = f"{header.header.namespace}.{header.header.table}"
        keys = list(header.merge_keys)
        if not keys:
            raise SchemaValidationError(
                f"{name} has no merge keys, by which update_columns would find rows: use "
                "client.catalog.overwrite(predicate=...)"
            )
        check_columns(columns, header.schema)
        scheme = header.header.partition_scheme
        places = [key.key[0] for key in scheme.keys] if scheme else []
        if fixed := [name for name in columns if name in (*keys, *places)]:
            raise SchemaValidationError(
                f"update_columns: {', '.join(fixed)} says which row of {name} is meant, and "
                "cannot change: delete the row and write another"
            )
        if lacking := [n for n in (*keys, *columns) if n not in rows.schema.names]:
            raise SchemaValidationError(f"the rows lack {', '.join(lacking)}")
        check_columns(rows.schema.names, header.schema)
        self._batches = rows.batches
        by = keys + [n for n in places if n in rows.schema.names and n not in keys]
        plain = [f.remove_metadata().with_type(without_views(f.type)) for f in header.schema]
        self._given = pa.schema([f for f in plain if f.name in rows.schema.names])
        self._shape = _Shape(tuple(columns), tuple(by), header.schema)
        # Among rows of one commit its order decides, and not which comes last.
        self._has_parts = not header.merge_order

    def parts(self) -> Iterator[Part]:
        """The rows, as many at a time as memory is to hold: what a later part says counts."""
        held: list[pa.Table] = []
        rows = size = 0
        for batch in self._batches:
            aligned = align(_table(batch).select(self._given.names), self._given)
            for start in range(0, aligned.num_rows, _SLICE_ROWS):
                held.append(aligned.slice(start, _SLICE_ROWS))
                rows, size = rows + len(held[-1]), size + held[-1].nbytes
                if self._has_parts and (rows >= _PART_ROWS or size >= _PART_BYTES):
                    yield Part(pa.concat_tables(held), self._shape)
                    held, rows, size = [], 0, 0
        if held:
            yield Part(pa.concat_tables(held), self._shape)


class _Shape(NamedTuple):
    """What all parts have in common: which columns change, which tell rows, and the table's schema."""

    columns: tuple[str, ...]
    by: tuple[str, ...]
    whole: pa.Schema


class Part:
    """Some of the rows, each key once. They are held in memory."""

    def __init__(self, rows: pa.Table, shape: _Shape) -> None:
        self._shape = shape
        codes = row_codes([rows.column(n) for n in shape.by])
        # take() of a table in pieces would copy it first.
        self._rows = rows.take(pa.array(last_of_each(codes))).combine_chunks()

    @property
    def predicate(self) -> Predicate | None:
        """Holds for every row that is meant, and for as few others as keys' bounds can tell."""
        parts: list[dict[str, Any]] = []
        for name in self._shape.by:
            column = self._rows.column(name)
            if column.null_count or kind_of(column.type) not in _ORDERED:
                continue
            ends = pc.min_max(column)
            low, high = dump_literal(ends["min"]), dump_literal(ends["max"])
            parts.append({"between": [name, low, high]})
        return as_predicate(parts[0] if len(parts) == 1 else {"and": parts} if parts else None)

    def merged(self, plan: ReadPlan) -> Iterator[pa.Table]:
        """The whole rows to merge, in the table's columns.

        Reads the columns that tell rows, some ahead of the others.

        Args:
            plan: Of what `predicate` may hold for.
        """
        missing = np.ones(len(self._rows), np.bool_)
        for piece, found in _side_by_side(
            execute(plan, predicate=self.predicate), self._found(plan)
        ):
            is_meant = found >= 0
            if is_meant.any():
                at = found[is_meant]
                missing[at] = False
                yield self._changed(_plain(piece.filter(pa.array(is_meant))), at)
        if missing.any():
            new = self._rows.filter(pa.array(missing))
            yield align(new, self._shape.whole, default=FUTURE_DEFAULT)

    def _found(self, plan: ReadPlan) -> Iterator[Codes]:
        """Of each row that is there, which of these rows means it; -1 for none."""
        held: list[pa.Table] = []
        rows = 0
        for piece in execute(plan, columns=self._shape.by, predicate=self.predicate):
            held.append(_plain(piece))
            rows += piece.num_rows
            # All of these rows are coded with them: not too often.
            if rows >= max(len(self._rows), _LOOKED_UP_ROWS):
                yield self._looked_up(pa.concat_tables(held))
                held, rows = [], 0
        if held:
            yield self._looked_up(pa.concat_tables(held))

    def _looked_up(self, held: pa.Table) -> Codes:
        count = len(self._rows)
        both = [
            pa.chunked_array([*self._rows.column(n).chunks, *held.column(n).chunks])
            for n in self._shape.by
        ]
        codes = row_codes(both)
        which = np.full(int(codes.max()) + 1, -1, np.int64)
        which[codes[:count]] = np.arange(count)
        return which[codes[count:]]

    def _changed(self, rows: pa.Table, at: Codes) -> pa.Table:
        brought = self._rows.take(pa.array(at))
        for name in self._shape.columns:
            rows = rows.set_column(rows.schema.get_field_index(name), name, brought.column(name))
        return rows


def _side_by_side(
    pieces: Iterator[pa.Table], blocks: Iterator[Codes]
) -> Iterator[tuple[pa.Table, Codes]]:
    """Pieces of rows, and of what is known of the same rows as many as they have."""
    held = np.empty(0, np.int64)
    for piece in pieces:
        while len(held) < piece.num_rows:
            held = np.concatenate([held, next(blocks)])
        yield piece, held[: piece.num_rows]
        held = held[piece.num_rows :]


def _table(batch: pa.Table | pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch


def _plain(rows: pa.Table) -> pa.Table:
    """Rows in layouts that all of Arrow's kernels know."""
    fields = [field.with_type(without_views(field.type)) for field in rows.schema]
    return rows.cast(pa.schema(fields))
