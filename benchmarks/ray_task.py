"""What reads the rows of one task sooner, Arrow or Polars? Both in this process, without Ray.

Arrow is what a task runs (`deltacat_sources.ray.reading`). Polars scans the same plan with this project's
own adapter and gives Arrow rows, as a task would have to. CPU counts: a task has one core to itself.
"""

from __future__ import annotations

import functools
import tempfile
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks import harness
from benchmarks.keyed import WHERE, make_keyed
from benchmarks.report import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from io_core.plan import ReadPlan
    from planner_client import Client

__all__ = ["task_rows"]


def _by_arrow(table: str, plan: ReadPlan, columns: list[str]) -> int:
    from deltacat_sources.ray import DeltaCatDatasource
    from deltacat_sources.ray.reading import read

    source = DeltaCatDatasource(table, plan=plan, columns=columns)
    return sum(block.num_rows for share in source.explain(1).shares for block in read(share))


def _by_polars(table: str, plan: ReadPlan, columns: list[str]) -> int:
    from deltacat_sources.polars import scan_deltacat

    frame = scan_deltacat(table, plan=plan).select(columns).collect()
    assert isinstance(frame, pl.DataFrame)
    return int(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).num_rows)


def _compared(name: str, table: str, plan: ReadPlan, columns: list[str], rounds: int) -> Row:
    sides: dict[str, Callable[[], int]] = {
        "arrow": functools.partial(_by_arrow, table, plan, columns),
        "polars": functools.partial(_by_polars, table, plan, columns),
    }
    found = {side: call() for side, call in sides.items()}
    assert len(set(found.values())) == 1, f"{name}: {found}"
    harness.progress(f"one task, {name}: equal, {found['arrow']} rows")
    calls = {side: functools.partial(harness.measure, call) for side, call in sides.items()}
    timings = harness.interleave(calls, rounds)
    return Row.compare(
        f"one task: {name}", "in process", timings, ("arrow",), f"equal, {found['arrow']} rows"
    )


def task_rows(client: Client, table: str, keyed_rows: int, rounds: int) -> Iterator[Row]:
    """Plain files, and files that merge: whole, with two columns, and with rows known to be dead.

    Args:
        client: The planner of `table`.
        table: Plain files, with the columns `id` and `value`.
        keyed_rows: Of another table, which is made here.
        rounds: How many count.
    """
    namespace, name = table.split(".")
    where: dict[str, Any] = {"namespace": namespace, "table": name}  # Any: of any call
    plan = client.catalog.plan(**where)
    for columns in (["id", "value"], plan.schema.names):
        text = f"plain files, {len(columns)} columns"
        yield _compared(text, table, plan, columns, rounds)
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        from planner_client import Client

        with Client(root) as keyed:
            make_keyed(keyed, keyed_rows)
            full = f"{WHERE['namespace']}.{WHERE['table']}"
            for sets in (False, True):
                plan = keyed.catalog.plan(**WHERE, delete_sets=sets)
                for columns in (["id", "value"], plan.schema.names):
                    how = "dead rows known" if sets else "merged"
                    text = f"{how}, {len(columns)} columns"
                    yield _compared(text, full, plan, columns, rounds)
