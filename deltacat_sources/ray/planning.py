"""What is asked of a table, and which task reads what of it? Planned once, on the driver.

Both of Ray's source interfaces ask the same `Reading`: one knows of filters and columns, the newer
one of limits too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from deltacat_sources.ray.explanation import Explanation, Filter
from deltacat_sources.ray.predicate import Translation, columns_read, translation
from deltacat_sources.ray.reading import shown
from deltacat_sources.ray.tasks import Share, decoded_bytes, first_rows, narrowest, without_gone
from io_core.plan import FILE_COLUMNS, ReadPlan
from io_core.predicate import conjoin
from io_core.schema import check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from ray.data.expressions import Expr

    from io_core.model import TableRef
    from io_core.predicate import Predicate
    from io_core.scan import Scan

__all__ = ["Plans", "Reading"]


class Plans(dict[tuple["Predicate | None", "int | None"], ReadPlan]):
    """Plans by what was asked, shared by all that pushdown makes of one reading; pickles empty."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Plans, ()


class Reading(NamedTuple):
    """What to read of one snapshot of a table. Immutable; pickles with its planner.

    Attributes:
        table: Which table.
        scan: Who plans it, and what its user asked for; None where the plan was given.
        header: The schema and the sizes of the whole table; the files too where the plan was given.
        own: The predicate of the one who asked.
        limit: Most rows of the result, exactly.
        columns: The result's columns, in order; None means all.
        expr: A filter that Ray pushed down. Comes before the limit.
        row_limit: How many rows Ray will take: enough for each task, and for all of them.
        plans: What was planned already.
    """

    table: TableRef
    scan: Scan | None
    header: ReadPlan
    own: Predicate | None = None
    limit: int | None = None
    columns: tuple[str, ...] | None = None
    expr: Expr | None = None
    row_limit: int | None = None
    plans: Plans = Plans()

    def __repr__(self) -> str:
        return f"{self.table} at snapshot {self.header.snapshot}"

    def projected(self, columns: Iterable[str]) -> Reading:
        """The same rows with these columns.

        Raises:
            SchemaValidationError: One that is not there.
        """
        wanted = tuple(columns)
        check_columns(wanted, self.visible())
        return self._replace(columns=wanted)

    def filtered(self, expr: Expr) -> Reading:
        """Only the rows for which the expression is true.

        Raises:
            SchemaValidationError: It reads a column that is not there.
        """
        check_columns(sorted(columns_read(expr)), self.visible())
        return self._replace(expr=expr if self.expr is None else self.expr & expr)

    def limited(self, rows: int | None) -> Reading:
        """The same for someone who takes so many rows; None says nothing."""
        limits = [n for n in (self.row_limit, rows) if n is not None]
        return self._replace(row_limit=min(limits, default=None))

    def visible(self) -> pa.Schema:
        """The result's schema; what the table keeps about its columns is not Ray's concern."""
        schema = self.header.schema
        return shown(schema, schema.names if self.columns is None else self.columns)

    def row_count(self) -> int | None:
        """Rows of the result, where the header tells them."""
        if self.expr is not None or not self._is_plain() or self._changes():
            return None
        records = self.header.total_records
        return records if self.limit is None else min(records, self.limit)

    def decoded_bytes(self) -> int:
        """Bytes in memory of the selected columns of the whole table, before anything is pruned."""
        header = self.header.header
        stored, rows = np.array([header.total_bytes]), np.array([header.total_records])
        names = self.visible().names
        return int(decoded_bytes(self.header.schema, names, stored, rows)[0])

    def nothing(self) -> Share:
        """What a task reads that returns no row."""
        none = self.header.with_files(self.header.files.slice(0, 0))
        return self._share(none, Translation(None, exact=True))

    def shares(self, parallelism: int) -> list[Share]:
        """What each task reads, about `parallelism` of them where there is work for so many."""
        if self.limit == 0:
            return [self.nothing()]
        whole = self._share(self._planned(), self._said())
        if not whole.plan.files.num_rows:
            return [whole]
        limits = [n for n in (self.limit, self.row_limit) if n is not None]
        if not limits:
            return whole.divided(parallelism)
        if whole.row_count() is not None:
            return first_rows(whole.divided(parallelism), min(limits))
        if self.limit is not None:
            # How many rows a task finds is known only by reading: one file after the other.
            return [whole._replace(limit=min(limits))]
        return [share._replace(limit=self.row_limit) for share in whole.divided(parallelism)]

    def explain(self, parallelism: int) -> Explanation:
        """What was pushed down, and how the files are packed into tasks; plans, and reads no row."""
        shares = self.shares(parallelism)
        filters = None if self.expr is None else Filter(self.expr, *self._said())
        return Explanation(
            self._planned(), tuple(shares), filters, self.own, self.limit, self.row_limit
        )

    def _said(self) -> Translation:
        if self.expr is None:
            return Translation(None, exact=True)
        return translation(self.expr, self.header.schema)

    def _is_plain(self) -> bool:
        """Whether rows are just those of the files: the planner can count them."""
        return self.own is None and not self.header.requires_merge

    def _changes(self) -> bool:
        """Whether what is shown may be another by now: a transaction goes on."""
        return self.scan is not None and self.scan.transaction_id is not None

    def _planned(self) -> ReadPlan:
        if self.scan is None:
            return self.header
        limits = [n for n in (self.limit, self.row_limit) if n is not None]
        countable = self.expr is None and self._is_plain()
        key = self._said().predicate, min(limits) if limits and countable else None
        if key not in self.plans or self._changes():
            narrowed = self.scan.narrowed(predicate=key[0], row_limit=key[1])
            self.plans[key] = narrowed.plan()
        return self.plans[key]

    def _share(self, plan: ReadPlan, translated: Translation) -> Share:
        """All of a plan, for one task to read."""
        predicate, exact = translated
        expr = None if exact else self.expr
        columns = tuple(self.visible().names)
        needed = (*columns, *sorted(columns_read(expr) - {*columns} if expr is not None else ()))
        # The parts of the plan that no task reads would travel with each of them.
        header = msgspec.structs.replace(plan.header, schema=None, pruned=())
        # A partition's values stand for columns that its files may lack.
        values = [name for name in plan.files.column_names if name.startswith("partition:")]
        files = plan.files.select([*FILE_COLUMNS.names, *values])
        told = ReadPlan(header, files, plan.storage)
        return Share(
            plan=without_gone(told),
            columns=columns,
            needed=needed or (narrowest(plan.schema),),
            # Where a translation is exact, it answers for the filter, with literals of the column's
            # own type: pyarrow refuses `int > 1.5` for numbers from 2^24.
            predicate=conjoin([self.own, predicate if exact else None]),
            expr=expr,
        )
