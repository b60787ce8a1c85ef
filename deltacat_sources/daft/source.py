"""What of a query reaches the planner, and when? A source that Daft asks for tasks.

Daft hands its filters, columns and limit to `get_tasks` when a query is optimised, once per query and
table. It applies filters, projection and limit again to whatever the tasks return.

Partition columns are in the data files and are not declared to Daft, so that all filters arrive
as filters, which may be widened: partition filters, Daft would apply no more.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import daft
from daft.daft import CountMode
from daft.io import IOConfig
from daft.io.source import DataSource

from deltacat_sources.daft.predicate import columns_read, translate
from deltacat_sources.daft.tasks import CountTask, Reading, known_rows, tasks_of
from deltacat_sources.daft.types import daft_schema
from io_core.errors import UnsupportedError
from io_core.looked import check_files
from io_core.predicate import Constant, dump
from planner_client.given import of_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from daft.io.pushdowns import Pushdowns
    from daft.io.source import DataSourceTask

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate
    from io_core.scan import Scan

__all__ = ["TableSource"]

_CACHED_PLANS = 16
# Files of a plan whose tasks are kept, which take three kilobytes each.
_MOST_KEPT = 5_000


class TableSource(DataSource):
    """A table at one snapshot, or the files of a plan; plans what Daft pushes. Stays on the driver.

    Args:
        scan: Pinned, with its own predicate, which the frame applies; None where there is a plan.
        header: The table's header as pinning returned it, or the plan.
        io_config: How Daft reaches a store; None says the plan's way.
    """

    def __init__(self, scan: Scan | None, header: ReadPlan, io_config: IOConfig | None) -> None:
        if io_config is not None:
            of_kind("io_config", io_config, IOConfig, "a daft.io.IOConfig")
        self._scan, self._header, self._io_config = scan, header, io_config
        self.arrow_schema = daft_schema(header.schema)
        self._schema = daft.Schema.from_pyarrow_schema(self.arrow_schema)
        self._plans: dict[tuple[object, ...], ReadPlan] = {}
        self._last: tuple[ReadPlan, object, tuple[DataSourceTask, ...]] | None = None

    @property
    def name(self) -> str:
        """The table and its snapshot, as explanations show it."""
        h = self._header.header
        return f"DeltaCAT {h.namespace}.{h.table} at snapshot {h.snapshot}"

    @property
    def schema(self) -> daft.Schema:
        """The whole table's schema; projection comes with the query."""
        return self._schema

    def supports_count_pushdown(self) -> bool:
        """Whether a plan alone, or a merge by key, may say how many rows there are."""
        return self._scan is None or self._scan.predicate is None

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        """Plan what was pushed down."""
        if pushdowns.aggregation is not None:
            yield self._count(pushdowns)
            return
        pushed = None
        if pushdowns.filters is not None:
            pushed = translate(pushdowns.filters, self._header.schema)
        if pushed == Constant(False):
            return
        # Daft hands over a limit together with filters, and rows are counted before them here.
        filtered = pushdowns.filters is not None or pushdowns.partition_filters is not None
        own = self._scan is not None and self._scan.predicate is not None
        limit = None if filtered or own else pushdowns.limit
        columns = self._needed(pushdowns)
        plan = self._plan(columns, pushed, None if self._header.requires_merge else limit)
        reading = Reading(pushdowns, columns, pushed, limit, self._io_config)
        if self._io_config is None:
            check_files(plan)
        for task in self._made(plan, reading):
            yield task

    def _made(self, plan: ReadPlan, reading: Reading) -> Iterable[DataSourceTask]:
        """The tasks of a question; of the last one that had no filters, those that were made for it."""
        asked = reading.pushdowns
        filtered = asked.filters is not None or asked.partition_filters is not None
        if filtered or plan.files.num_rows > _MOST_KEPT:
            return tasks_of(plan, reading)
        question = asked.columns, asked.limit
        if self._last is None or self._last[0] is not plan or self._last[1] != question:
            self._last = plan, question, tuple(tasks_of(plan, reading))
        return self._last[2]

    def _needed(self, pushdowns: Pushdowns) -> tuple[str, ...]:
        """Columns of the answer and of the filters, which Daft's list of columns leaves out."""
        names = tuple(self._header.schema.names)
        filters = pushdowns.filters
        read: frozenset[str] | None = frozenset() if filters is None else columns_read(filters)
        if pushdowns.columns is None or read is None:
            return names
        wanted = read.union(pushdowns.columns)
        # Rows without columns cannot be handed to Daft, and would have no number.
        return tuple(name for name in names if name in wanted) or names[:1]

    def _plan(
        self, columns: tuple[str, ...], predicate: Predicate | None, limit: int | None
    ) -> ReadPlan:
        """The plan of a question, asked once for as long as its files surely stay."""
        if self._scan is None:
            return self._header
        narrowed = self._scan.narrowed(columns=columns, predicate=predicate, row_limit=limit)
        if self._scan.transaction_id is not None:
            # The transaction may have changed the table since.
            return narrowed.plan()
        key = columns, json.dumps(dump(predicate)), limit
        found = self._plans.get(key)
        if found is None or time.time_ns() >= (found.header.expires_at or 2**63):
            self._plans.pop(key, None)
            while len(self._plans) >= _CACHED_PLANS:
                del self._plans[next(iter(self._plans))]
            found = self._plans[key] = narrowed.plan()
        return found

    def _count(self, pushdowns: Pushdowns) -> DataSourceTask:
        """The number of rows, from the plan alone where it knows the dead ones."""
        mode = pushdowns._to_pypushdowns().aggregation_count_mode()  # noqa: SLF001  # as Daft's own sources do
        filtered = pushdowns.filters is not None or pushdowns.partition_filters is not None
        if mode != CountMode.All or filtered:
            raise UnsupportedError(
                f"daft {daft.__version__} pushed {pushdowns.aggregation} into a scan; "
                "install daft>=0.7.26,<0.8"
            )
        # Of a table with one column Daft pushes no projection.
        name = (pushdowns.columns or self.arrow_schema.names)[0]
        if self._scan is not None and not self._header.requires_merge:
            header = self._scan.header()
            return CountTask(name, header, header.total_records)
        plan = self._plan(self._needed(pushdowns), None, None)
        return CountTask(name, plan, known_rows(plan))
