"""Merge-on-read: which rows of a partition's files live, found from their keys alone.

The last row of each key wins: highest stream position, then merge order, then file order, then row
order. A delete removes what stands at lower positions; a later upsert revives the key. Nulls in
keys are values: null equals null and differs from the empty string.

Of every file the merge keys are read, and no other column but of rows that only those decide on:
the keys themselves where codes do not tell them apart, the merge order of rows of one key and
position, and what a delete by other columns matches. In memory is a code per row. Rows are then
read by whoever knows which of them live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.errors import UnsupportedError
from io_core.key_codes import Code, KeyCodes, key_codes
from io_core.keys import row_codes
from io_core.merge_order import ranks
from io_core.newest import best_of_each, replaced

if TYPE_CHECKING:
    import pyarrow.compute as pc

    from io_core.merge_order import OrderKey
    from io_core.newest import Numbers

__all__ = ["Mask", "MergeFile", "ReadColumns", "living"]

# (rows,) bool: which rows of a file live.
Mask = npt.NDArray[np.bool_]
# What reads columns of a file: (its place among the files, columns) -> pieces in row order, in the
# table's types.
ReadColumns = Callable[[int, Sequence[str]], Iterator[pa.Table]]

_NUMBER = "\0row"


class MergeFile(NamedTuple):
    """How a file takes part in the merge.

    Attributes:
        position: Stream position; files are given in its ascending order.
        delete_columns: What a delete matches by; empty for data.
    """

    position: int
    delete_columns: tuple[str, ...] = ()


def living(
    files: Sequence[MergeFile],
    keys: Sequence[str],
    read: ReadColumns,
    *,
    order: Sequence[OrderKey] = (),
    matching: pc.Expression | None = None,
) -> list[Mask]:
    """Which rows of each file live; of a file of deletes none is asked for, and its mask is empty.

    Args:
        files: All files of one partition, ascending by position.
        keys: The table's merge keys.
        read: Reads columns of a file; a file may be read several times.
        order: The table's merge order.
        matching: Says by the keys alone which rows are wanted: all others count as dead.

    Example:
        >>> held = [pa.table({"id": [1, 2, 2]}), pa.table({"id": [1]})]
        >>> files = [MergeFile(1), MergeFile(2, ("id",))]
        >>> living(files, ["id"], lambda file, columns: iter([held[file]]))
        [array([False, False,  True]), array([], dtype=bool)]
    """
    merge = _Merge(files, keys, read, matching)
    merge.gather()
    merge.settle(order)
    merge.delete_by_columns()
    return merge.masks()


class _Span(NamedTuple):
    """Where a file's rows are in the merge: their numbers, and which of its rows take part."""

    file: int
    start: int
    end: int
    # Ascending; None for all of them.
    rows: Numbers | None
    size: int


class _Merge:
    """One partition being merged. Rows have numbers that grow with stream position, file and row."""

    def __init__(
        self,
        files: Sequence[MergeFile],
        keys: Sequence[str],
        read: ReadColumns,
        matching: pc.Expression | None,
    ) -> None:
        self._files = files
        self._keys = list(keys)
        self._read = read
        self._matching = matching
        self._spans: list[_Span] = []
        self._codes = KeyCodes(np.empty(0, np.uint64), exact=True)
        self._lives = np.empty(0, np.bool_)

    def _deletes_by_key(self, file: MergeFile) -> bool:
        return set(file.delete_columns) == set(self._keys)

    def gather(self) -> None:
        """Read the keys of all rows, and of all deletes by them."""
        # A delete leaves rows of its own position alone: it comes before them.
        order = sorted(
            range(len(self._files)),
            key=lambda i: (self._files[i].position, not self._files[i].delete_columns),
        )
        codes: list[Code] = []
        uncoded: list[pa.Table] = []
        exact, end = True, 0
        for i in order:
            file = self._files[i]
            if file.delete_columns and not self._deletes_by_key(file):
                continue
            start, size, rows = end, 0, []
            for piece in self._read(i, self._keys):
                wanted, taken = self._wanted(piece, size)
                try:
                    found = key_codes(wanted.columns)
                    codes.append(found.codes)
                    exact = exact and found.exact
                except UnsupportedError:
                    # Of a type without codes: the keys of all rows together give some.
                    uncoded.append(wanted)
                rows.append(taken)
                size += len(piece)
                end += len(wanted)
            part = None if self._matching is None else np.concatenate([_NO_ROWS, *rows])
            self._spans.append(_Span(i, start, end, part, size))
        if uncoded:
            codes = [row_codes(pa.concat_tables(uncoded).columns).view(np.uint64)]
        self._codes = KeyCodes(np.concatenate([self._codes.codes, *codes]), exact)
        self._lives = np.ones(end, np.bool_)

    def _wanted(self, piece: pa.Table, start: int) -> tuple[pa.Table, Numbers]:
        """The rows of a piece that take part, and which rows of the file they are."""
        if self._matching is None:
            return piece, _NO_ROWS
        rows = pa.array(np.arange(start, start + len(piece)))
        found = piece.append_column(_NUMBER, rows).filter(self._matching)
        return found.drop_columns(_NUMBER), found.column(_NUMBER).to_numpy()

    def settle(self, order: Sequence[OrderKey]) -> None:
        """Let the last row of each key live, or of those of its position the first in merge order."""
        pairs = replaced(self._codes, self._keys_at)
        self._lives[pairs.rows] = False
        if order and len(pairs.rows):
            columns = [key.column for key in order]
            best, lost = best_of_each(
                pairs, self._groups(), lambda rows: ranks(self._at(rows, columns), order)
            )
            self._lives[best], self._lives[lost] = True, False
        self._codes = KeyCodes(np.empty(0, np.uint64), exact=True)

    def _groups(self) -> Numbers:
        """The stream position of each row that has one; -1 for those of deletes."""
        values = [
            -1 if (f := self._files[s.file]).delete_columns else f.position for s in self._spans
        ]
        return np.repeat(np.array(values, np.int64), [s.end - s.start for s in self._spans])

    def _keys_at(self, numbers: Numbers) -> pa.Table:
        return self._at(numbers, self._keys)

    def _at(self, numbers: Numbers, columns: Sequence[str]) -> pa.Table:
        """Columns of some rows, each once, in the order given, from the files that hold them."""
        order = np.argsort(numbers)
        ascending = numbers[order]
        found: list[pa.Table] = []
        for span in self._spans:
            low, high = np.searchsorted(ascending, [span.start, span.end])
            rows = ascending[low:high] - span.start
            if len(rows):
                rows = rows if span.rows is None else span.rows[rows]
                found += _taken(self._read(span.file, columns), rows)
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return pa.concat_tables(found).take(places)

    def delete_by_columns(self) -> None:
        """Let the rows die that deletes by other columns than the keys match."""
        deletes: dict[tuple[str, ...], list[int]] = {}
        for i, file in enumerate(self._files):
            if file.delete_columns and not self._deletes_by_key(file):
                deletes.setdefault(file.delete_columns, []).append(i)
        for columns, group in deletes.items():
            patterns = [pa.concat_tables(self._read(i, columns)) for i in group]
            positions = np.repeat(
                np.array([self._files[i].position for i in group], np.int64), [*map(len, patterns)]
            )
            for span in self._spans:
                file = self._files[span.file]
                lives = self._lives[span.start : span.end]
                if not file.delete_columns and file.position < positions.max(initial=-1):
                    rows = np.flatnonzero(lives)
                    at = rows if span.rows is None else span.rows[rows]
                    pieces = _taken(self._read(span.file, columns), at)
                    together = pa.concat_tables([*pieces, *patterns])
                    lives[rows[_matched(together, len(rows), positions, file.position)]] = False

    def masks(self) -> list[Mask]:
        """What lives, by file and row."""
        masks: list[Mask] = [np.empty(0, np.bool_)] * len(self._files)
        for span in self._spans:
            lives = self._lives[span.start : span.end]
            if self._files[span.file].delete_columns:
                continue
            if span.rows is not None:
                mask = np.zeros(span.size, np.bool_)
                mask[span.rows] = lives
                lives = mask
            masks[span.file] = lives
        return masks


_NO_ROWS = np.empty(0, np.int64)


def _taken(pieces: Iterator[pa.Table], rows: Numbers) -> Iterator[pa.Table]:
    """Some rows of a file, given ascending."""
    start = 0
    for piece in pieces:
        low, high = np.searchsorted(rows, [start, start + len(piece)])
        yield piece.take(rows[low:high] - start)
        start += len(piece)


def _matched(rows: pa.Table, count: int, positions: Numbers, position: int) -> Mask:
    """Which of the first `count` rows have the values of a later one that is of a higher position."""
    codes = row_codes(rows.columns)
    deleted_at = np.full(int(codes.max()) + 1, -1, np.int64)
    # Positions ascend, so of a repeated code the highest is assigned last and stays.
    deleted_at[codes[count:]] = positions
    return deleted_at[codes[:count]] > position
