"""Do the dead rows that the ledger knows say what a merge finds? Looked at by reading every key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from io_core.execute import read_plan
from io_core.key_codes import key_codes
from io_core.plan import ReadPlan
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.store import View, at, latest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["dead_row_faults"]

_TABLES = f"""
SELECT n.name, t.name, v.version FROM namespace n
JOIN tbl t ON t.namespace_id = n.namespace_id AND t.purged = 0 AND {at("t")}
JOIN table_version v ON v.table_id = t.table_id AND {at("v")}
WHERE {at("n")} ORDER BY n.name, t.name, v.version
"""


def dead_row_faults(planner: EmbeddedPlanner) -> Iterator[str]:
    """A sentence for each partition where dead rows would be read, or living ones be left out.

    Reads the keys of every keyed table as it is now, twice, one partition at a time.
    """
    with planner.store.read() as db:
        named = db.execute(_TABLES, View(db, latest(db)).at).fetchall()
    for namespace, table, version in named:
        asked = PlanRequest(namespace=namespace, table=table, table_version=version)
        merged = planner.call(PLAN, asked)
        if not merged.merge_keys:
            continue
        known = _known(planner, asked, merged.snapshot)
        for group in merged.groups():
            partition = group.files.column("partition_id")[0].as_py()
            if partition in known and _codes(planner, known[partition]) != _codes(planner, group):
                yield (
                    f"{namespace}.{table}, partition {partition}: the dead rows that are known are "
                    "not those that a merge finds; forget them (DELETE FROM killed), and they are "
                    "looked for again"
                )


def _known(
    planner: EmbeddedPlanner, asked: PlanRequest, snapshot: int | None
) -> dict[str, ReadPlan]:
    """The partitions whose dead rows are all known, as plans that carry them."""
    request = PlanRequest(
        namespace=asked.namespace,
        table=asked.table,
        table_version=asked.table_version,
        snapshot=snapshot,
        delete_sets=True,
    )
    groups = planner.call(PLAN, request).groups()
    return {
        group.files.column("partition_id")[0].as_py(): group
        for group in groups
        if pc.all(pc.is_valid(group.files.column("deletes"))).as_py()
    }


def _codes(planner: EmbeddedPlanner, plan: ReadPlan) -> bytes:
    """What stands for each key that a plan reads, in an order of its own."""
    rows = read_plan(
        ReadPlan(plan.header, plan.files, planner.storage), columns=list(plan.merge_keys)
    )
    return np.sort(key_codes(rows.columns).codes).tobytes()
