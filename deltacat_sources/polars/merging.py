"""How does Polars merge a partition by key, where nobody knows yet which of its rows are dead?

Of each key the last row in reading order wins, unless a delete of a later position names it. The keys
of all files are read for that, and rows come from a second, ordinary scan by their numbers: so a
query's filters reach that scan, and no column but the keys is read twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from deltacat_sources.polars.scans import Files, Numbered, scan_files

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Deleting", "merged"]

_FIRST = "first"


class Deleting(NamedTuple):
    """A file of deleted keys, and the number of the first row that it leaves alone."""

    files: Files
    first: int


def merged(
    rows: Files,
    keyed: Files,
    deleting: Sequence[Deleting],
    *,
    records: int,
    keys: Sequence[str],
    wanted: pl.Expr | None,
    path_column: str | None,
) -> pl.LazyFrame:
    """The rows of one partition that live, in reading order.

    Args:
        rows: Its data files, in reading order, with the columns to show.
        keyed: The same files, with the merge keys alone.
        deleting: Its files of deleted keys.
        records: How many rows the data files have.
        keys: Names of the merge keys; null is a value of them.
        wanted: Which rows are wanted, said by the merge keys alone; None means all.
        path_column: What to call the column of each row's path.
    """
    shown = [c.name for c in rows.lane.columns]
    row = _unused("row", [*shown, *keys, *([path_column] if path_column else [])])
    first = _unused(_FIRST, [row, *keys])
    last = scan_files(keyed, numbered=Numbered(row))
    if wanted is not None:
        last = last.filter(wanted)
    last = last.group_by(keys).agg(pl.col(row).max())
    if deleting:
        gone = pl.concat(
            scan_files(d.files).with_columns(pl.lit(d.first, pl.UInt32).alias(first))
            for d in deleting
        )
        gone = gone.group_by(keys).agg(pl.col(first).max())
        last = last.join(gone, on=list(keys), how="left", nulls_equal=True)
        last = last.filter(pl.col(first).is_null() | (pl.col(row) >= pl.col(first)))
    found = scan_files(rows, path_column=path_column, numbered=Numbered(row))
    last = last.select(row)
    if wanted is not None:
        # Few rows are wanted.
        return found.join(last, on=row, how="semi", maintain_order="left").drop(row)
    # Far fewer rows die than live.
    dead = last.map_batches(_Others(records), schema={row: pl.UInt32()})
    return found.join(dead, on=row, how="anti", maintain_order="left").drop(row)


class _Others:
    """All row numbers but the given ones."""

    def __init__(self, records: int) -> None:
        self._records = records

    def __call__(self, numbers: pl.DataFrame) -> pl.DataFrame:
        """Of a frame of one column, a frame of the same."""
        name, column = numbers.columns[0], numbers.to_series()
        others = np.ones(self._records, np.bool_)
        others[column.to_numpy()] = False
        found = np.flatnonzero(others).astype(np.uint32)
        return pl.DataFrame({name: found})


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name
