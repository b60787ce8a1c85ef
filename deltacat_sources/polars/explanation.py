"""What of a query was pushed to the planner, what stayed, and what did each step save?"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc

from deltacat_sources.polars.names import said_above
from io_core import deletes
from io_core.predicate import dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deltacat_sources.polars.resolver import Resolution
    from io_core.plan import ReadPlan

__all__ = ["Explanation"]

_WIDTH, _ROW, _LABEL, _BAR = 760, 22, 300, 240


class _Step(NamedTuple):
    """Files and bytes that are left after a step of planning."""

    name: str
    files: int
    size: int


class Explanation:
    """How a query is answered, per table; prints as text, and shows as a picture in notebooks.

    Attributes:
        tables: What was pushed down to each table, and its plan, in the order of planning.
        polars: Polars' own optimised plan, as text.
    """

    def __init__(self, tables: Sequence[Resolution], polars: str) -> None:
        self.tables = tuple(tables)
        self.polars = polars

    def __repr__(self) -> str:
        parts = ["\n".join(_lines(found)) for found in self.tables]
        return "\n\n".join([*parts, f"Polars:\n{self.polars}"])

    def _repr_html_(self) -> str:
        pictures = "".join(_picture(found) for found in self.tables)
        return f"<div>{pictures}<pre>{html.escape(self.polars)}</pre></div>"


def _name(plan: ReadPlan) -> str:
    h = plan.header
    since = "" if h.since is None else f", changes since {h.since}"
    return f"{h.namespace}.{h.table} at snapshot {h.snapshot}{since}"


def _lines(found: Resolution) -> Iterator[str]:
    plan = found.plan
    yield _name(plan)
    yield from (f"  {line}" for line in _pushed(found))
    steps = list(_steps(plan))
    for before, step in zip([None, *steps], steps, strict=False):
        lost = "" if before is None else f" (-{before.files - step.files:,} files)"
        yield f"  {step.name}: {step.files:,} files, {step.size:,} bytes{lost}"
    yield from (f"  {line}" for line in _rows(plan))


def _pushed(found: Resolution) -> Iterator[str]:
    pushdown = found.pushdown
    for expr, predicate in zip(pushdown.filters, pushdown.translated, strict=True):
        said = "stays in Polars" if predicate is None else f"pushed as {dump(predicate)}"
        yield f"filter {said_above(str(expr))}: {said}"
    if pushdown.counted is not None:
        yield f"rows alone are wanted: {pushdown.counted:,}, by the plan; no file is opened"
    elif pushdown.columns is not None:
        yield f"columns: {len(pushdown.columns)} of {len(found.plan.schema)}: " + ", ".join(
            pushdown.columns
        )
    if pushdown.limit is not None:
        told = "pushed" if pushdown.row_limit is not None else "counted by whoever reads"
        yield f"limit {pushdown.limit:,}: {told}"


def _steps(plan: ReadPlan) -> Iterator[_Step]:
    h = plan.header
    pruned = [(s.files, s.size_bytes) for s in h.pruned]
    files = h.total_files + sum(n for n, _ in pruned) if h.table_files is None else h.table_files
    size = h.total_bytes + sum(n for _, n in pruned) if h.table_bytes is None else h.table_bytes
    yield _Step("in the table", files, size)
    for step in h.pruned:
        files, size = files - step.files, size - step.size_bytes
        by = f" on {', '.join(step.columns)}" if step.columns else ""
        yield _Step(f"after {step.step}{by}", files, size)
    listed = int(pc.sum(plan.files["content_length"], min_count=0).as_py())
    yield _Step("to read", plan.files.num_rows, listed)


def _rows(plan: ReadPlan) -> Iterator[str]:
    if not plan.requires_merge:
        return
    sets = plan.files["deletes"].to_pylist()
    kinds = plan.files["delta_type"].to_pylist()
    unknown = sum(1 for s, kind in zip(sets, kinds, strict=True) if s is None and kind != "delete")
    dead = sum(deletes.count(held) for held in sets if held)
    yield f"dead rows known and left out: {dead:,}"
    if unknown:
        yield f"files to merge by {', '.join(plan.merge_keys)}: {unknown:,}"


def _picture(found: Resolution) -> str:
    """A bar per step, as long as the bytes that are left."""
    steps = list(_steps(found.plan))
    whole = max(*(step.size for step in steps), 1)
    texts = [*_pushed(found), *_rows(found.plan)]
    height = _ROW * (len(steps) + len(texts) + 1) + 8
    parts = [_text(4, 0, _name(found.plan), bold=True)]
    for i, step in enumerate(steps, start=1):
        width = max(round(_BAR * step.size / whole), 1)
        top = i * _ROW + 4
        parts.append(_text(4, i, step.name))
        parts.append(
            f'<rect x="{_LABEL}" y="{top}" width="{width}" height="{_ROW - 6}" fill="#4c78a8"/>'
        )
        counted = f"{step.files:,} files, {step.size:,} bytes"
        parts.append(_text(_LABEL + _BAR + 8, i, counted))
    parts += [_text(4, len(steps) + i, line) for i, line in enumerate(texts, start=1)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'font-family="monospace" font-size="12" fill="currentColor">{"".join(parts)}</svg>'
    )


def _text(x: int, row: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{row * _ROW + 17}"{weight}>{html.escape(text)}</text>'
