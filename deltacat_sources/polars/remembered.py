"""What need a query not work out again? What its filters say, and the frame of a plan that it has already.

Both cost more than to plan a question that was asked before, and a program that asks of one table asks
much alike.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from deltacat_sources.polars.names import translated
from io_core.predicate import admissible

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from polars.lazyframe.resolver import FilterExpr

    from deltacat_sources.polars.frames import Reading
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["built", "said"]

_MOST_SAID = 1_000
_LARGEST_SAID = 4_096

# By the filter as Polars serialises it, which is compared and never read, and the table's schema.
_SAID: dict[tuple[bytes, str], Predicate | None] = {}


def said(found: FilterExpr, header: ReadPlan) -> Predicate | None:
    """What a filter says to the planner; None where it says nothing.

    Args:
        found: As Polars delivered it, of the names below the frame.
        header: The table's.
    """
    schema, serialized = header.schema, header.header.schema_serialized
    key = None
    # What cannot be said to Arrow may hold a function: to pickle it could do anything.
    if found.pyarrow_str is not None and serialized is not None:
        written = found.expr.meta.serialize()
        key = (written, serialized) if len(written) <= _LARGEST_SAID else None
    if key is not None and key in _SAID:
        return _SAID[key]
    predicate = admissible([translated(found.expr, schema)], schema)
    if key is not None:
        if len(_SAID) >= _MOST_SAID:
            _SAID.clear()
        _SAID[key] = predicate
    return predicate


class _Built(NamedTuple):
    """The frame that was made last of a plan, and for what."""

    plan: weakref.ref[ReadPlan]
    reading: Reading
    frame: pl.LazyFrame


# By the plan's id, for as long as there is the plan.
_BUILT: dict[int, _Built] = {}


def built(plan: ReadPlan, reading: Reading, build: Callable[[], pl.LazyFrame]) -> pl.LazyFrame:
    """The frame of a plan: the one that was made last, where it was made of this plan for the same.

    Where rows merge it is made anew: such frames remember what they find.

    Args:
        plan: Whose rows are read.
        reading: What of them.
        build: Makes the frame.
    """
    key = id(plan)
    known = _BUILT.get(key)
    if known is not None and known.plan() is plan and known.reading == reading:
        return known.frame
    frame = build()
    if not plan.requires_merge:
        gone = weakref.ref(plan, lambda _: _BUILT.pop(key, None))
        _BUILT[key] = _Built(gone, reading, frame)
    return frame
