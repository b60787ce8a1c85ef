"""How does Polars read a partition whose rows merge by key, where nobody knows yet which are dead?

Polars' reader reads the keys of all files, and `io_core.merge` finds which rows live. Rows then come
from a second, ordinary scan. Where a query filters, it is joined with the numbers of rows, so that
filters still reach the scan; where it does not, they become a deletion vector. Either is found when the
query runs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from deltacat_sources.polars.dead import HAS_VECTORS, Vectors, vectors_of
from deltacat_sources.polars.scans import Files, Numbered, scan_files
from io_core.errors import DataFileError
from io_core.execute import Merging
from io_core.schema import align, without_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.merge import Mask
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["Partition", "merged"]


class Partition(NamedTuple):
    """One partition that merges.

    Attributes:
        plan: Of its files alone.
        rows: Its data files, in reading order, with the columns to show.
        keyed: The same files, with the merge keys alone; None where they are read through Arrow.
        records: How many rows each data file has.
        wanted: Which rows are wanted, said by the merge keys alone, bound; None means all.
    """

    plan: ReadPlan
    rows: Files
    keyed: Files | None
    records: Sequence[int]
    wanted: Predicate | None

    def living(self) -> list[Mask]:
        """Which rows of each data file live, of those that are wanted. Reads the keys of all files.

        Raises:
            DataFileError: A file is damaged, or has another number of rows than the plan says.
        """
        keys_of = None if self.keyed is None else self._keys(self.keyed)
        found = Merging(self.plan, keys_of).living(self.wanted)
        kinds = self.plan.column("delta_type")
        masks = [mask for mask, kind in zip(found, kinds, strict=True) if kind != "delete"]
        for path, mask, rows in zip(self.rows.paths, masks, self.records, strict=True):
            if len(mask) != rows:
                problem = f"has {len(mask)} rows instead of {rows}"
                raise DataFileError.of(path, problem, repr(self.plan))
        return masks

    def _keys(self, keyed: Files) -> _Keys:
        fields = [self.plan.schema.field(key) for key in self.plan.merge_keys]
        plain = pa.schema([field.with_type(without_views(field.type)) for field in fields])
        return _Keys(keyed, self.records, plain)


class _Keys:
    """The keys of all data files, read by Polars at the first question."""

    def __init__(self, files: Files, records: Sequence[int], schema: pa.Schema) -> None:
        self._files = files
        self._schema = schema
        self._starts = list(itertools.accumulate(records, initial=0))
        self._found: pa.Table | None = None

    def __call__(self, file: int) -> Iterator[pa.Table]:
        """Those of one file."""
        if self._found is None:
            self._found = (
                scan_files(self._files, complete=True).collect(engine="streaming").to_arrow()
            )
        start, end = self._starts[file : file + 2]
        # The last one has what is left, so that rows that the plan knows nothing of are noticed.
        last = end == self._starts[-1]
        rows = self._found.slice(start) if last else self._found.slice(start, end - start)
        yield align(rows, self._schema)


def merged(partition: Partition, *, filtered: bool, path_column: str | None) -> pl.LazyFrame:
    """The rows of one partition that live, in reading order.

    Args:
        partition: Which.
        filtered: Whether the query filters rows.
        path_column: What to call the column of each row's path.
    """
    rows = partition.rows
    if HAS_VECTORS and not filtered:
        return scan_files(rows, path_column=path_column, live=_MergedRows(partition))
    row = "row"
    while any(row in (c.name, c.stored, path_column) for c in rows.lane.columns):
        row += "_"
    found = scan_files(rows, path_column=path_column, numbered=Numbered(row))
    # Few rows are wanted; or far fewer rows die than live.
    chosen = partition.wanted is not None
    numbers = pl.defer(_Numbers(partition, row, alive=chosen), schema={row: pl.get_index_type()})
    how: Literal["semi", "anti"] = "semi" if chosen else "anti"
    return found.join(numbers, on=row, how=how, maintain_order="left").drop(row)


class _Numbers:
    """Rows that live, or rows that do not, numbered over all files."""

    def __init__(self, partition: Partition, name: str, *, alive: bool) -> None:
        self._partition = partition
        self._name = name
        self._alive = alive

    def __call__(self) -> pl.DataFrame:
        """In a column of that name."""
        lives = np.concatenate(self._partition.living())
        rows = np.flatnonzero(lives if self._alive else ~lives)
        return pl.DataFrame({self._name: pl.Series(rows, dtype=pl.get_index_type())})


class _MergedRows(Vectors):
    """Merges when Polars asks which rows live, once."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(partition.rows.locations)
        self._partition = partition

    def found(self) -> pl.Series:
        """A list of booleans per file."""
        return vectors_of(self._partition.living())
