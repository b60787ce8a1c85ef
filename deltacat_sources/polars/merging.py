"""How does Polars merge a partition by key, where nobody knows yet which of its rows are dead?

Of each key the last row in reading order wins, unless a delete of a later position names it: an
aggregation of the keys of all files, with row numbers. Rows then come from a second, ordinary scan.
Where a query filters, it is joined with what the aggregation finds, so that filters still reach the
scan; where it does not, the aggregation answers as a deletion vector, when the scan begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from deltacat_sources.polars.dead import HAS_VECTORS, Vectors, vectors_of
from deltacat_sources.polars.scans import Files, Numbered, scan_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Deleting", "Partition", "merged"]


class Deleting(NamedTuple):
    """Files of deleted keys, and the number of the first row that they leave alone."""

    files: Files
    first: int


class Partition(NamedTuple):
    """One partition that merges.

    Attributes:
        rows: Its data files, in reading order, with the columns to show.
        keyed: The same files, with the merge keys alone.
        deleting: Its files of deleted keys.
        records: How many rows each data file has.
        keys: Names of the merge keys; null is a value of them.
    """

    rows: Files
    keyed: Files
    deleting: Sequence[Deleting]
    records: Sequence[int]
    keys: Sequence[str]


def merged(
    partition: Partition, *, filtered: bool, wanted: pl.Expr | None, path_column: str | None
) -> pl.LazyFrame:
    """The rows of one partition that live, in reading order.

    Args:
        partition: Which.
        filtered: Whether the query filters rows.
        wanted: Which rows are wanted, said by the merge keys alone; None means all.
        path_column: What to call the column of each row's path.
    """
    rows = partition.rows
    if HAS_VECTORS and not filtered:
        return scan_files(rows, path_column=path_column, live=_MergedRows(partition))
    taken = [*(c.name for c in rows.lane.columns), *partition.keys]
    row = _unused("row", taken if path_column is None else [*taken, path_column])
    last = _last_events(partition, row, wanted)
    found = scan_files(rows, path_column=path_column, numbered=Numbered(row))
    if wanted is not None:
        # Few rows are wanted.
        alive = last.filter(pl.col(row) % 2 == 1).select((pl.col(row) // 2).cast(pl.UInt32))
        return found.join(alive, on=row, how="semi", maintain_order="left").drop(row)
    # Far fewer rows die than live.
    dead = last.map_batches(_Others(sum(partition.records)), schema={row: pl.UInt32()})
    return found.join(dead, on=row, how="anti", maintain_order="left").drop(row)


def _last_events(partition: Partition, row: str, wanted: pl.Expr | None) -> pl.LazyFrame:
    """The last event of each key, in a column: odd for rows, in their order, and even for deletes.

    A delete stands before the first row that it spares.
    """
    keys = partition.keys
    order = pl.col(row).cast(pl.UInt64) * 2 + 1
    events = scan_files(partition.keyed, numbered=Numbered(row)).with_columns(order.alias(row))
    if partition.deleting:
        gone = [
            scan_files(d.files).with_columns(pl.lit(2 * d.first, pl.UInt64).alias(row))
            for d in partition.deleting
        ]
        events = pl.concat([e.select(*keys, row) for e in (events, *gone)])
    if wanted is not None:
        events = events.filter(wanted)
    return events.group_by(keys).agg(pl.col(row).max()).select(row)


def _lives(last: pl.DataFrame, records: int) -> npt.NDArray[np.bool_]:
    """Of each row, in reading order, whether it is the last event of its key."""
    events = last.to_series().to_numpy()
    lives = np.zeros(records, np.bool_)
    lives[events[events % 2 == 1] // 2] = True
    return lives


class _Others:
    """The rows that are not the last event of their key."""

    def __init__(self, records: int) -> None:
        self._records = records

    def __call__(self, last: pl.DataFrame) -> pl.DataFrame:
        """Of a column of events, the numbers of all other rows."""
        dead = np.flatnonzero(~_lives(last, self._records)).astype(np.uint32)
        return pl.DataFrame({last.columns[0]: dead})


class _MergedRows(Vectors):
    """Merges when Polars asks which rows live, once."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(partition.rows.locations)
        self._partition = partition

    def found(self) -> pl.Series:
        """A list of booleans per file."""
        partition = self._partition
        row = _unused("row", partition.keys)
        last = _last_events(partition, row, None).collect(engine="streaming")
        lives = _lives(last, sum(partition.records))
        ends = np.cumsum(partition.records)[:-1]
        return vectors_of(np.split(lives, ends))


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name
