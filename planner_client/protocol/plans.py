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

    `max_files` and `file_offset` page the plan's files. `preferred_root` asks for paths of that data
    root, if all files are there, and the plan's `preferred_root_used` says whether they are: here there
    is one root, `data`, and no replica. `recipe_hash` asks for a shard manifest: this planner builds none,
    so the plan's `available_recipes` is empty. `expected_table_id` refuses another table of the name.

    This project's additions: `snapshot`, a place in the catalog's one sequence; `plan_token`, which a
    plan carries and which pins later pages of the same question to its snapshot; `row_limit`, enough
    rows for a scan without predicate and merge; `since` (a snapshot) or `since_as_of` (nanoseconds
    since the epoch), which ask for the files that were added after it; `delete_sets`, which says that
    the caller knows what to do with files' dead rows: where the planner knows them, it lists data files
    alone, and rules them out by the whole predicate.
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
    preferred_root: Query[str | None] = None
    recipe_hash: Query[str | None] = None
    expected_table_id: Query[str | None] = None
    snapshot: Query[int | None] = None
    plan_token: Query[str | None] = None
    row_limit: Query[int | None] = None
    since: Query[int | None] = None
    since_as_of: Query[int | None] = None
    delete_sets: Query[bool] = False


PLAN = Endpoint(
    "plan", "POST", "/v1/namespaces/{namespace}/tables/{table}/plan", PlanRequest, ReadPlan
)
