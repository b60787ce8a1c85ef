"""Declarations: read plans."""

from __future__ import annotations

from typing import Any

from io_core.plan import ReadPlan
from planner_client.protocol.endpoint import Endpoint, JsonQuery, LongQuery, Query, Request

__all__ = ["ARROW_STREAM", "PLAN", "PlanRequest"]

# The plan as one Arrow stream, for clients that accept it.
ARROW_STREAM = "application/vnd.apache.arrow.stream"


class PlanRequest(Request, frozen=True, kw_only=True):
    """What to plan.

    `max_files` and `file_offset` page the plan's files. `snapshot`, a place in the catalog's one
    sequence, and `row_limit`, enough rows for a scan without predicate and merge, are this
    project's additions.
    """

    namespace: str
    table: str
    table_version: Query[str | None] = None
    as_of: Query[int | None] = None
    # Any: JSON, checked by the planner.
    partition_filter: JsonQuery[list[Any] | None] = None
    columns: JsonQuery[list[str] | None] = None
    filter_predicate: LongQuery[dict[str, Any] | None] = None
    file_offset: Query[int] = 0
    max_files: Query[int | None] = None
    include_column_stats: Query[bool] = False
    include_files: Query[bool] = True
    snapshot: Query[int | None] = None
    row_limit: Query[int | None] = None


PLAN = Endpoint(
    "plan", "POST", "/v1/namespaces/{namespace}/tables/{table}/plan", PlanRequest, ReadPlan
)
