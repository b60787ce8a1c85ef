"""How do rows that bring some columns become whole rows? The others are read from the table, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.defaults import FUTURE_DEFAULT
from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.execute import execute
from io_core.key_codes import KeyCodes, key_codes
from io_core.keys import distinguishable, equal_rows
from io_core.lean_arrow import booleans
from io_core.literal import dump_literal, kind_of
from io_core.newest import replaced
from io_core.predicate_like import as_predicate
from io_core.schema import align, check_columns, without_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.newest import Numbers
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate
    from planner_client.rows import Rows

__all__ = ["Part", "Updates"]

# Of the rows that are brought, so many are held at once; then others are read for them. Finding a
# row by its keys takes 16 bytes, and for a moment twice as many.
_PART_BYTES = 64 * 2**20
_PART_ROWS = 4_000_000

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
            left = align(_table(batch).select(self._given.names), self._given)
            while left.num_rows:
                piece = left
                if self._has_parts:
                    fits = (_PART_BYTES - size) * left.num_rows // max(left.nbytes, 1)
                    piece = left.slice(0, max(min(fits, _PART_ROWS - rows), 1))
                held.append(piece)
                rows, size = rows + piece.num_rows, size + piece.nbytes
                left = left.slice(piece.num_rows)
                if self._has_parts and (rows >= _PART_ROWS or size >= _PART_BYTES):
                    rows = size = 0
                    yield self._part(held)
        if held:
            yield self._part(held)

    def _part(self, held: list[pa.Table]) -> Part:
        """What is held, which nothing else holds from then on."""
        whole = pa.concat_tables(held)
        held.clear()
        return Part(whole, self._shape)


class _Shape(NamedTuple):
    """What all parts have in common: which columns change, which tell rows, and the table's schema."""

    columns: tuple[str, ...]
    by: tuple[str, ...]
    whole: pa.Schema


class Part:
    """Some of the rows, of which the last of each key counts. They are held in memory."""

    def __init__(self, rows: pa.Table, shape: _Shape) -> None:
        self._shape = shape
        # take() of a table in pieces would copy it first.
        self._rows = rows.combine_chunks()
        self._keys = _keys(self._rows, shape.by)
        found = _coded(self._keys)
        lives = np.ones(len(rows), np.bool_)
        lives[replaced(found, lambda at: self._keys.take(pa.array(at))).rows] = False
        last = np.flatnonzero(lives)
        order = np.argsort(found.codes[last])
        # Ascending by code, and which row each is of.
        self._at = last[order]
        self._codes = KeyCodes(found.codes[self._at], found.exact)

    @property
    def predicate(self) -> Predicate | None:
        """Holds for every row that is meant, and for as few others as keys' bounds can tell."""
        parts: list[dict[str, Any]] = []
        for name in self._shape.by:
            column = self._keys.column(name)
            if column.null_count or kind_of(self._rows.schema.field(name).type) not in _ORDERED:
                continue
            ends = pc.min_max(column)
            low, high = dump_literal(ends["min"]), dump_literal(ends["max"])
            parts.append({"between": [name, low, high]})
        return as_predicate(parts[0] if len(parts) == 1 else {"and": parts} if parts else None)

    def merged(self, plan: ReadPlan) -> Iterator[pa.Table]:
        """The whole rows to merge, in the table's columns.

        Args:
            plan: Of what `predicate` may hold for.
        """
        missing = np.zeros(len(self._rows), np.bool_)
        missing[self._at] = True
        for stored in execute(plan, predicate=self.predicate):
            piece = _plain(stored)
            found = self._found(_keys(piece, self._shape.by))
            is_meant = found >= 0
            if is_meant.any():
                at = found[is_meant]
                missing[at] = False
                meant = piece if len(at) == len(piece) else piece.filter(booleans(is_meant))
                yield self._changed(meant, at)
        if missing.any():
            new = self._rows.filter(booleans(missing))
            yield align(new, self._shape.whole, default=FUTURE_DEFAULT)

    def _found(self, keys: pa.Table) -> Numbers:
        """Of each row that is there, which of these rows means it; -1 for none."""
        coded = _coded(keys)
        mine, is_exact = self._codes.codes, self._codes.exact and coded.exact
        # Ascending: looked up one after the other, neighbours are found in the same memory.
        order = np.argsort(coded.codes)
        asked = coded.codes[order]
        place = np.searchsorted(mine, asked)
        found = np.full(len(order), -1, np.int64)
        left = np.arange(len(order))
        while len(left):
            inside = place[left] < len(mine)
            left = left[inside]
            left = left[mine[place[left]] == asked[left]]
            rows, at = order[left], self._at[place[left]]
            if is_exact:
                found[rows] = at
                break
            same = equal_rows(keys.take(pa.array(rows)), self._keys.take(pa.array(at)))
            found[rows[same]] = at[same]
            # Hardly any: those that met a key of the same code.
            left = left[~same]
            place[left] += 1
        return found

    def _changed(self, rows: pa.Table, at: Numbers) -> pa.Table:
        brought = self._rows.select(self._shape.columns).take(pa.array(at))
        for name in self._shape.columns:
            rows = rows.set_column(rows.schema.get_field_index(name), name, brought.column(name))
        return rows


def _keys(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    """The columns that tell rows, in types that Arrow compares."""
    held = rows.select(by)
    return held.cast(pa.schema([(f.name, distinguishable(f.type)) for f in held.schema]))


def _coded(keys: pa.Table) -> KeyCodes:
    """A code of each row, from the columns whose types have some."""
    coded = []
    for column in keys.columns:
        try:
            key_codes([column.slice(0, 0)])
        except UnsupportedError:
            # A partition's floating point numbers, for one.
            continue
        coded.append(column)
    if not coded:
        return KeyCodes(np.zeros(len(keys), np.uint64), exact=False)
    found = key_codes(coded)
    return found._replace(exact=found.exact and len(coded) == keys.num_columns)


def _table(batch: pa.Table | pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch


def _plain(rows: pa.Table) -> pa.Table:
    """Rows in layouts that all of Arrow's kernels know."""
    fields = [field.with_type(without_views(field.type)) for field in rows.schema]
    return rows.cast(pa.schema(fields))
