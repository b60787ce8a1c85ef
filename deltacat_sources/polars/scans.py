"""How does Polars' own reader read files of one lane, as one scan of the table's columns?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from io_core.s3 import polars_options
from io_core.storage import engine_location

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltacat_sources.polars.dead import Vectors
    from deltacat_sources.polars.lanes import Lane
    from io_core.storage import Storage

__all__ = ["Files", "Numbered", "scan_files"]


_CASTS = pl.ScanCastOptions(
    integer_cast=["upcast", "allow-float"],
    float_cast="upcast",
    datetime_cast="upcast",
    missing_struct_fields="insert",
    extra_struct_fields="ignore",
    categorical_to_string="allow",
)


class Files(NamedTuple):
    """Files of one lane, in reading order, and what reaches them.

    Attributes:
        paths: Where they are.
        lane: How they are read.
        storage: What reaches them.
        is_settled: Whether their own statistics can say little more than the planner's did: to ask
            them takes an eighth of a small query.
    """

    paths: Sequence[str]
    lane: Lane
    storage: Storage
    is_settled: bool = False

    @property
    def locations(self) -> list[str]:
        """As Polars takes them, and as it shows them."""
        return [engine_location(path) for path in self.paths]


class Numbered(NamedTuple):
    """The name of a column of row numbers, over all files, and the first number."""

    name: str
    offset: int = 0


def scan_files(
    files: Files,
    *,
    path_column: str | None = None,
    numbered: Numbered | None = None,
    live: Vectors | None = None,
    complete: bool = False,
) -> pl.LazyFrame:
    """Read files lazily: the lane's columns, then row numbers and paths where asked for.

    Args:
        files: Which.
        path_column: What to call the column of each row's path.
        numbered: What to call the column of row numbers.
        live: Which rows to show, of Parquet files; None means all.
        complete: Refuse Parquet files that lack a column that the lane expects, which are read as
            null otherwise.
    """
    store = files.storage.store_for(files.paths)
    # Without options Polars would look for its own credentials.
    options, provider = (None, None) if store is None else polars_options(store)
    stored = {c.stored: c.read_as for c in files.lane.columns if c.stored is not None}
    # Without a column, rows are counted by their numbers.
    number = Numbered(_unused(files.lane)) if not stored and numbered is None else numbered
    # Any: the arguments that both readers share.
    shared: dict[str, Any] = {
        "glob": False,
        "hive_partitioning": False,
        "storage_options": options,
        "credential_provider": provider,
        "include_file_paths": path_column,
        "row_index_name": None if number is None else number.name,
        "row_index_offset": 0 if number is None else number.offset,
    }
    if files.lane.reader == "feather":
        frame = pl.scan_ipc(files.locations, **shared)
    else:
        frame = pl.scan_parquet(
            files.locations,
            use_statistics=not files.is_settled,
            **shared,
            **_parquet(stored, live, complete=complete),
        )
    if files.lane.reader == "parquet" and files.lane.is_plain:
        return frame
    added = [None if numbered is None else numbered.name, path_column]
    return _shown(frame, files.lane, [name for name in added if name is not None])


def _unused(lane: Lane) -> str:
    name = "row"
    while any(name in (c.name, c.stored) for c in lane.columns):
        name += "_"
    return name


# Any: arguments of scan_parquet.
def _parquet(
    stored: dict[str, pl.DataType], live: Vectors | None, *, complete: bool
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "schema": stored,
        "missing_columns": "raise" if complete else "insert",
        "extra_columns": "ignore",
        "cast_options": _CASTS,
    }
    return arguments if live is None else arguments | {"_deletion_files": live.deletion_files()}


def _shown(frame: pl.LazyFrame, lane: Lane, kept: Sequence[str]) -> pl.LazyFrame:
    """The table's columns. What files lack is added first: alone it would be one row."""
    lacking = [c for c in lane.columns if c.stored is None]
    frame = frame.with_columns(c.shown() for c in lacking)
    columns = [pl.col(c.name) if c.stored is None else c.shown() for c in lane.columns]
    return frame.select(*columns, *kept)
