"""What does a client's read as `polars` give? A lazy frame of a plan, or of rows in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from deltacat_sources.polars.scan import scan_deltacat
from io_core.model import TableRef

if TYPE_CHECKING:
    import pyarrow as pa

    from io_core.plan import ReadPlan
    from planner_client.wanted import Wanted

__all__ = ["from_arrow", "from_plan"]


def from_plan(plan: ReadPlan, wanted: Wanted) -> pl.LazyFrame:
    """The rows of a plan, in its order."""
    table = TableRef(plan.header.namespace, plan.header.table)
    frame = scan_deltacat(table, plan=plan, columns=wanted.columns, predicate=wanted.predicate)
    if wanted.limit is None and not wanted.offset:
        return frame
    return frame.slice(wanted.offset, wanted.limit)


def from_arrow(table: pa.Table) -> pl.LazyFrame:
    """The rows of a table."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.lazy()
