"""How do rows that bring some columns become whole rows? The others are read from the table, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.defaults import FUTURE_DEFAULT
from io_core.errors import SchemaValidationError
from io_core.execute import execute
from io_core.keys import Codes, last_of_each, row_codes
from io_core.literal import dump_literal, kind_of
from io_core.schema import align, check_columns, without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from io_core.plan import ReadPlan
    from planner_client.rows import Rows

__all__ = ["Updates"]

_ORDERED = frozenset({"number", "text", "binary", "date", "time", "timestamp"})


class Updates:
    """Rows that change some columns of the rows of their keys. They are held in memory, once.

    Rows are told by the merge keys, and by the columns that partition the table where they bring them:
    without those, every row of the key changes, in whichever partition. Of several rows of one key the
    last counts. A key that the table lacks becomes a new row, of all columns that the data brings; others
    are their default, or null.

    Args:
        rows: The rows.
        header: A plan of the table.
        columns: Which columns change.

    Raises:
        SchemaValidationError: The table has no keys, or a column is unknown, missing or a key.
    """

    def __init__(self, rows: Rows, header: ReadPlan, columns: Sequence[str]) -> None:
        self._name = f"{header.header.namespace}.{header.header.table}"
        keys = list(header.merge_keys)
        if not keys:
            raise SchemaValidationError(
                f"{self._name} has no merge keys, by which update_columns would find rows: use "
                "client.catalog.overwrite(predicate=...)"
            )
        check_columns(columns, header.schema)
        scheme = header.header.partition_scheme
        places = [key.key[0] for key in scheme.keys] if scheme else []
        if fixed := [name for name in columns if name in (*keys, *places)]:
            raise SchemaValidationError(
                f"update_columns: {', '.join(fixed)} says which row of {self._name} is meant, and "
                "cannot change: delete the row and write another"
            )
        if lacking := [n for n in (*keys, *columns) if n not in rows.schema.names]:
            raise SchemaValidationError(f"the rows lack {', '.join(lacking)}")
        check_columns(rows.schema.names, header.schema)
        self._columns = tuple(columns)
        self._by = keys + [n for n in places if n in rows.schema.names and n not in keys]
        self._schema = pa.schema(
            [f.remove_metadata().with_type(without_views(f.type)) for f in header.schema]
        )
        self._whole = header.schema
        given = pa.schema([f for f in self._schema if f.name in rows.schema.names])
        taken = [align(_table(b).select(given.names), given) for b in rows.batches]
        self._rows = pa.concat_tables([given.empty_table(), *taken]).combine_chunks()
        codes = row_codes([self._rows.column(n) for n in self._by])
        self._rows = self._rows.take(pa.array(last_of_each(codes)))

    @property
    def count(self) -> int:
        """How many keys there are."""
        return int(self._rows.num_rows)

    @property
    def predicate(self) -> dict[str, Any] | None:
        """Holds for every row that is meant, and for as few others as keys' bounds can tell."""
        parts: list[dict[str, Any]] = []
        for name in self._by:
            column = self._rows.column(name)
            if column.null_count or not len(column) or kind_of(column.type) not in _ORDERED:
                continue
            ends = pc.min_max(column)
            low, high = dump_literal(ends["min"]), dump_literal(ends["max"])
            parts.append({"between": [name, low, high]})
        return parts[0] if len(parts) == 1 else {"and": parts} if parts else None

    def merged(self, plan: Callable[[], ReadPlan]) -> Iterator[pa.Table]:
        """The whole rows to merge, in the table's columns.

        Args:
            plan: Plans what may be meant; the same files each time.
        """
        read = plan()
        held = pa.concat_tables(
            [pa.schema([self._schema.field(n) for n in self._by]).empty_table()]
            + [_plain(piece) for piece in execute(read, columns=self._by)]
        )
        found = self._found(held)
        start = 0
        for piece in execute(read):
            at = found[start : start + piece.num_rows]
            start += piece.num_rows
            is_meant = at >= 0
            if is_meant.any():
                yield self._changed(_plain(piece.filter(pa.array(is_meant))), at[is_meant])
        missing = np.ones(self.count, np.bool_)
        missing[found[found >= 0]] = False
        if missing.any():
            yield align(self._rows.filter(pa.array(missing)), self._whole, default=FUTURE_DEFAULT)

    def _found(self, held: pa.Table) -> Codes:
        """Of each row that is there, which of these rows means it; -1 for none."""
        both = [
            pa.chunked_array([*self._rows.column(n).chunks, *held.column(n).chunks])
            for n in self._by
        ]
        if not len(both[0]):
            return np.empty(0, np.int64)
        codes = row_codes(both)
        which = np.full(int(codes.max()) + 1, -1, np.int64)
        which[codes[: self.count]] = np.arange(self.count)
        return which[codes[self.count :]]

    def _changed(self, rows: pa.Table, at: Codes) -> pa.Table:
        brought = self._rows.take(pa.array(at))
        for name in self._columns:
            rows = rows.set_column(rows.schema.get_field_index(name), name, brought.column(name))
        return rows


def _table(batch: pa.Table | pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch


def _plain(rows: pa.Table) -> pa.Table:
    """Rows in layouts that all of Arrow's kernels know."""
    fields = [field.with_type(without_views(field.type)) for field in rows.schema]
    return rows.cast(pa.schema(fields))
