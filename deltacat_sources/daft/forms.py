"""What does a client's read as `daft` give? A frame of a plan, or of rows in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import daft

from deltacat_sources.daft.scan import read_deltacat
from io_core.model import TableRef

if TYPE_CHECKING:
    import pyarrow as pa

    from io_core.plan import ReadPlan
    from planner_client.wanted import Wanted

__all__ = ["from_arrow", "from_plan"]


def from_plan(plan: ReadPlan, wanted: Wanted) -> daft.DataFrame:
    """The rows of a plan; a limit and an offset may choose any of them."""
    table = TableRef(plan.header.namespace, plan.header.table)
    frame = read_deltacat(table, plan=plan, columns=wanted.columns, predicate=wanted.predicate)
    if wanted.offset:
        frame = frame.offset(wanted.offset)
    # Daft has no offset without a limit (0.7.26).
    limit = plan.total_records if wanted.limit is None and wanted.offset else wanted.limit
    return frame if limit is None else frame.limit(limit)


def from_arrow(table: pa.Table) -> daft.DataFrame:
    """The rows of a table."""
    return daft.from_arrow(table)
