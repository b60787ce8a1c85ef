"""lf.deltacat: what is planned for a frame, and how many rows does it have?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from deltacat_sources.polars.explanation import Explanation
from deltacat_sources.polars.origin import origin_of, proven_rows
from deltacat_sources.polars.resolver import observed

if TYPE_CHECKING:
    from deltacat_sources.polars.resolver import Resolution
    from io_core.plan import ReadPlan

__all__ = ["DeltaCatFrame"]


class DeltaCatFrame:
    """What this project knows of a lazy frame that reads its tables.

    Registered as `lf.deltacat`; type checkers see `DeltaCatFrame(lf)`, which is the same.

    Args:
        lf: Any frame over tables that were scanned with `scan_deltacat`.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from planner_client import Client
        >>> from deltacat_sources.polars.scan import scan_deltacat
        >>> client = Client(tempfile.mkdtemp())
        >>> made = client.catalog.write(pa.table({"month": [1, 2]}), namespace="air", table="flights")
        >>> DeltaCatFrame(scan_deltacat("air.flights", planner=client)).count()
        2
    """

    def __init__(self, lf: pl.LazyFrame) -> None:
        self._lf = lf

    def plans(self) -> list[ReadPlan]:
        """The plan of each table of the query. Plans, and reads no row.

        A table that stands in several places of a query with other filters is planned once for each.

        Raises:
            UnsupportedError: A part of the query, such as a function, cannot be copied.
        """
        return [found.plan for found in self._resolved()[0]]

    def plan(self) -> ReadPlan:
        """The plan of the query's one table; see `plans`.

        Raises:
            ValueError: The query reads no table, or several.
        """
        found = self.plans()
        if len(found) != 1:
            raise ValueError(f"the query reads {len(found)} tables, not one: use plans()")
        return found[0]

    def explain(self) -> Explanation:
        """What was pushed down, what stayed, and what each step of planning left; reads no row."""
        return Explanation(*self._resolved())

    def count(self) -> int:
        """How many rows the frame has.

        Of a frame as `scan_deltacat` returned it no file is opened where the plan proves the number:
        without a predicate, or where each planned file matches it as a whole, and where all dead
        rows are known. Any other frame is counted by running it.
        """
        origin = origin_of(self._lf)
        proven = None if origin is None else proven_rows(origin)
        return self._lf.select(pl.len()).collect().item() if proven is None else proven

    @property
    def snapshot_id(self) -> str | None:
        """32 hex digits that only the files decide which the query's one table is read from.

        None for no files.

        Raises:
            ValueError: The query reads no table, or several.
        """
        return self.plan().snapshot_id

    def _resolved(self) -> tuple[list[Resolution], str]:
        copied, found = observed(self._lf)
        return found, copied.explain()
