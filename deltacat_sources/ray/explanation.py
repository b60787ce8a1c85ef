"""What of a dataset reached the planner, and how were its files packed into tasks?"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc

from deltacat_sources.ray.tasks import living_rows
from io_core import deletes
from io_core.predicate import dump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.data.expressions import Expr

    from deltacat_sources.ray.tasks import Share
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["Explanation", "Filter"]


class Filter(NamedTuple):
    """A filter that Ray pushed down, what it says to the planner, and whether that is all of it."""

    expr: Expr
    predicate: Predicate | None
    exact: bool


class Explanation(NamedTuple):
    """How a table is read; prints as text.

    Attributes:
        plan: As the planner made it.
        shares: What each task reads.
        filter: What Ray pushed down; None for nothing.
        predicate: The datasource's own.
        limit: The datasource's own.
        row_limit: How many rows Ray takes, where it told.
    """

    plan: ReadPlan
    shares: tuple[Share, ...]
    filter: Filter | None = None
    predicate: Predicate | None = None
    limit: int | None = None
    row_limit: int | None = None

    def __repr__(self) -> str:
        return "\n".join([self.plan.explain(), *(f"  {line}" for line in self._lines())])

    def _lines(self) -> Iterator[str]:
        if self.predicate is not None:
            yield f"predicate: pushed as {dump(self.predicate)}"
        if self.filter is not None:
            expr, predicate, exact = self.filter
            said = "nothing pushed" if predicate is None else f"pushed as {dump(predicate)}"
            by = "as that" if exact else "by Ray's own expression"
            yield f"filter {expr.to_pyarrow()}: {said}; tasks filter {by}"
        first = self.shares[0]
        names = ", ".join(first.columns) or "none, rows are counted"
        yield f"columns: {len(first.columns)} of {len(self.plan.schema)}: {names}"
        if self.limit is not None:
            yield f"limit {self.limit:,}"
        if self.row_limit is not None:
            yield f"limit {self.row_limit:,}, pushed; Ray cuts off what is too much"
        yield from self._dead()
        yield from self._tasks()

    def _dead(self) -> Iterator[str]:
        if not self.plan.requires_merge:
            return
        known = sum(deletes.count(held) for held in self.plan.column("deletes") if held)
        yield f"dead rows known and left out: {known:,}"
        merged = [share for share in self.shares if living_rows(share.plan) is None]
        if merged:
            yield f"tasks that merge by {', '.join(self.plan.merge_keys)}: {len(merged):,}"

    def _tasks(self) -> Iterator[str]:
        files = [share.plan.files.num_rows for share in self.shares]
        sizes = [int(share.decoded_bytes().sum()) for share in self.shares]
        yield f"tasks: {len(self.shares):,}"
        for name, found in (("files", files), ("decoded bytes, about", sizes)):
            middle = round(statistics.median(found))
            yield f"  {name}: {min(found):,} to {max(found):,} each, half have {middle:,} or fewer"
        parts = sum(_parts(share.plan) for share in self.shares)
        if parts:
            yield f"  parts of divided files: {parts:,}"
        rows = [share.row_count() for share in self.shares]
        counted = [n for n in rows if n is not None]
        whole = "" if len(counted) == len(rows) else f"; {len(rows) - len(counted):,} have to read"
        yield f"  rows known beforehand: {sum(counted):,} in {len(counted):,} tasks{whole}"


def _parts(plan: ReadPlan) -> int:
    if "first_row" not in plan.files.column_names:
        return 0
    return int(pc.count(plan.files.column("first_row")).as_py())
