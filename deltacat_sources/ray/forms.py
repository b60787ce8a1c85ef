"""What does a client's read as `ray_dataset` give? A dataset of a plan, or of rows in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray.data

from deltacat_sources.ray.scan import read_deltacat
from io_core.execute import read_plan
from io_core.model import TableRef

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

    from io_core.plan import ReadPlan
    from planner_client.wanted import Wanted

__all__ = ["from_arrow", "from_plan"]


def from_plan(plan: ReadPlan, wanted: Wanted) -> Dataset:
    """The rows of a plan, lazily; a limit may choose any of them.

    Ray's datasets leave no rows out by number: with an offset the rows are read at once.
    """
    if wanted.offset:
        return from_arrow(
            read_plan(
                plan,
                columns=wanted.columns,
                predicate=wanted.predicate,
                row_limit=wanted.limit,
                row_offset=wanted.offset,
            )
        )
    return read_deltacat(
        TableRef(plan.header.namespace, plan.header.table),
        plan=plan,
        columns=wanted.columns,
        predicate=wanted.predicate,
        limit=wanted.limit,
    )


def from_arrow(table: pa.Table) -> Dataset:
    """The rows of a table."""
    dataset: Dataset = ray.data.from_arrow(table)
    return dataset
