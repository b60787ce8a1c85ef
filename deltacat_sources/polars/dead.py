"""Rows that a plan knows to be dead: how does a Polars scan leave them out?

There are two forms, and each is the better one somewhere. A deletion vector costs next to nothing
where all rows are read, but makes Polars decode every column before it filters. Row numbers keep
the late decoding of other columns, and are public API alone.
"""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from deltacat_sources.polars.scans import Numbered, scan_files
from io_core import deletes
from io_core.errors import DataFileError
from io_core.lean_arrow import booleans, lean_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from deltacat_sources.polars.scans import Files

__all__ = [
    "HAS_VECTORS",
    "MOST_NUMBERED",
    "DeadRows",
    "LiveRows",
    "Vectors",
    "vectors_of",
    "without_dead",
]

_T = TypeVar("_T", bound=np.generic)
# Private to Polars, and left alone where it is not there.
HAS_VECTORS = "_deletion_files" in inspect.signature(pl.scan_parquet).parameters
# Rows that a scan can number: Polars' index type has 32 bits.
MOST_NUMBERED = 2**32 - 2


class DeadRows(NamedTuple):
    """Of each file how many rows it has, and its delete set (`io_core.deletes`); None for none dead.

    `plan` names the plan in errors.
    """

    records: Sequence[int]
    sets: Sequence[bytes | None]
    plan: str

    @property
    def is_empty(self) -> bool:
        """Whether no row of any file is dead."""
        return not any(self.sets)


class Vectors:
    """Tells Polars' Parquet reader which rows of each file live, when it asks; decides once."""

    def __init__(self, locations: Sequence[str]) -> None:
        self._locations = list(locations)
        self._found: pl.Series | None = None

    def found(self) -> pl.Series:
        """A list of booleans per file, True for rows that live; null where all do."""
        raise NotImplementedError

    def deletion_files(self) -> tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]:
        """What `scan_parquet` takes."""
        return "delta-deletion-vector", self

    def __call__(self, asked: pl.DataFrame) -> pl.DataFrame:
        """The lists of the asked paths."""
        # Twice where two queries ask at once: to wait would hold a thread that the first one may need.
        vectors = self.found() if self._found is None else self._found
        self._found = vectors
        if asked["path"].to_list() == self._locations:
            return pl.DataFrame({"selection_vector": vectors})
        places = {location: i for i, location in enumerate(self._locations)}
        chosen = vectors.gather([places[path] for path in asked["path"]])
        return pl.DataFrame({"selection_vector": chosen})


class LiveRows(Vectors):
    """What is left by delete sets."""

    def __init__(self, files: Files, dead: DeadRows) -> None:
        super().__init__(files.locations)
        self._files = files
        self._dead = dead

    def found(self) -> pl.Series:
        """See `Vectors`.

        Raises:
            DataFileError: A delete set is damaged, or of a file with another number of rows.
        """
        dead = self._dead
        return vectors_of(
            [
                _checked(path, dead.plan, deletes.live_mask, held, rows) if held else None
                for path, rows, held in zip(self._files.paths, dead.records, dead.sets, strict=True)
            ]
        )


def vectors_of(masks: Sequence[npt.NDArray[np.bool_] | None]) -> pl.Series:
    """Masks as Polars takes them: True for rows that live; None where all do."""
    ends = np.cumsum([0, *(0 if mask is None else len(mask) for mask in masks)])
    parts = [mask for mask in masks if mask is not None]
    values = booleans(np.concatenate(parts) if parts else np.empty(0, np.bool_))
    whole = booleans(np.array([mask is None for mask in masks], np.bool_))
    lists = pa.LargeListArray.from_arrays(lean_numbers(ends), values, mask=whole)
    found = pl.from_arrow(lists)
    assert isinstance(found, pl.Series)
    return found


def without_dead(
    files: Files, dead: DeadRows, *, filtered: bool, path_column: str | None
) -> pl.LazyFrame:
    """Scan files, and leave dead rows out, in the form that suits the query.

    Args:
        files: Which.
        dead: What is known of each.
        filtered: Whether the query filters rows.
        path_column: What to call the column of each row's path.

    Raises:
        DataFileError: A delete set is damaged, or of a file with another number of rows.
    """
    if dead.is_empty:
        return scan_files(files, path_column=path_column)
    is_parquet = files.lane.reader == "parquet"
    numbers = sum(dead.records) <= MOST_NUMBERED
    if is_parquet and HAS_VECTORS and not (filtered and numbers):
        return scan_files(files, path_column=path_column, live=LiveRows(files, dead))
    name = "row"
    while any(name in (c.name, c.stored, path_column) for c in files.lane.columns):
        name += "_"
    frame = scan_files(files, path_column=path_column, numbered=Numbered(name))
    listed = pl.lit(_numbers(files, dead).implode())
    return frame.filter(~pl.col(name).is_in(listed)).drop(name)


def _numbers(files: Files, dead: DeadRows) -> pl.Series:
    """Dead rows, numbered over all files."""
    starts = itertools.accumulate(dead.records, initial=0)
    parts = [
        _checked(path, dead.plan, deletes.decode, held, rows) + np.uint32(start)
        for path, rows, held, start in zip(
            files.paths, dead.records, dead.sets, starts, strict=False
        )
        if held
    ]
    return pl.Series(np.concatenate(parts), dtype=pl.get_index_type())


def _checked(
    path: str, plan: str, read: Callable[[bytes, int], npt.NDArray[_T]], held: bytes, rows: int
) -> npt.NDArray[_T]:
    try:
        return read(held, rows)
    except DataFileError as error:
        raise DataFileError.of(path, f"does not fit its delete set: {error}", plan) from error
