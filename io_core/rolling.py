"""How do batches of rows become files of the right size, in memory that does not grow with them?

Rows wait, by partition, until they fill a file; where all that waits is too much, the partition that
holds most is written first. So a file is whole before it is written, and can be sorted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FILE_BYTES", "WAITING_BYTES", "Rolled", "Rolling"]

# Decoded; Parquet files mostly take a quarter of it.
FILE_BYTES = 256 * 2**20
WAITING_BYTES = 512 * 2**20


class Rolled(NamedTuple):
    """Rows that make one file.

    Attributes:
        partition: The partition's number, in order of first rows.
        values: The partition's, as JSON scalars; None where the table has no partitions.
        rows: All rows of the file.
    """

    partition: int
    # Any: JSON scalars, typed by the partition scheme.
    values: list[Any] | None
    rows: pa.Table


class _Waiting:
    """Rows of one partition that do not fill a file yet."""

    def __init__(self, number: int, values: list[Any] | None) -> None:
        self.number = number
        self.values = values
        self.pieces: list[pa.Table] = []
        self.rows = 0
        self.size = 0

    def add(self, piece: pa.Table) -> int:
        """Keep a piece, and return its bytes."""
        size: int = piece.nbytes
        self.pieces.append(piece)
        self.rows += piece.num_rows
        self.size += size
        return size

    def taken(self) -> Rolled:
        rows = pa.concat_tables(self.pieces)
        self.pieces, self.rows, self.size = [], 0, 0
        return Rolled(self.number, self.values, rows)


class Rolling:
    """Rows on their way into files. For one thread.

    Args:
        rows_per_file: Most rows of a file.
        file_bytes: About how many decoded bytes a file has at most.
        waiting_bytes: About how many decoded bytes wait at most, over all partitions.
    """

    def __init__(
        self,
        rows_per_file: int,
        *,
        file_bytes: int = FILE_BYTES,
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self._rows_per_file = max(rows_per_file, 1)
        self._file_bytes = max(file_bytes, 1)
        self._waiting_bytes = waiting_bytes
        self._parts: dict[bytes, _Waiting] = {}
        self._size = 0

    def add(self, values: list[Any] | None, rows: pa.Table) -> Iterator[Rolled]:
        """Take rows of one partition, and give back what makes a file by now."""
        if not rows.num_rows:
            return
        key = msgspec.json.encode(values)
        part = self._parts.setdefault(key, _Waiting(len(self._parts), values))
        step = self._step(rows)
        at = 0
        while at < rows.num_rows:
            room = min(step, self._rows_per_file - part.rows)
            self._size += part.add(rows.slice(at, room))
            at += room
            if part.rows >= self._rows_per_file or part.size >= self._file_bytes:
                yield self._taken(part)
        while self._size > self._waiting_bytes:
            yield self._taken(max(self._parts.values(), key=lambda p: p.size))

    def finish(self) -> Iterator[Rolled]:
        """Give back what is left, partition by partition in order of their first rows."""
        for part in self._parts.values():
            if part.rows:
                yield self._taken(part)
        self._parts.clear()

    def _taken(self, part: _Waiting) -> Rolled:
        self._size -= part.size
        return part.taken()

    def _step(self, rows: pa.Table) -> int:
        """How many rows at a time, so that no file grows much beyond its size."""
        per_row = max(rows.nbytes / rows.num_rows, 1e-9)
        return max(int(self._file_bytes / 8 / per_row), 1)
