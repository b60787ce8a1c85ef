"""Which frames are a table as it was scanned, so that a plan alone can count their rows?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc

from io_core import deletes

if TYPE_CHECKING:
    import polars as pl

    from io_core.plan import ReadPlan
    from io_core.scan import Scan

__all__ = ["Origin", "note_origin", "origin_of", "proven_rows"]

_NAME = "_deltacat_origin"


class Origin(NamedTuple):
    """What a frame shows: all rows of a scan, or of a plan that was made before.

    Attributes:
        scan: With its predicate.
        plan: Made before, without a predicate of its own; None plans the scan.
    """

    scan: Scan | None
    plan: ReadPlan | None = None


def note_origin(frame: pl.LazyFrame, origin: Origin) -> None:
    """Remember where this very frame is from; frames that are made of it are others."""
    vars(frame)[_NAME] = origin


def origin_of(frame: pl.LazyFrame) -> Origin | None:
    """Where the frame is from, if it is as `scan_deltacat` returned it."""
    found = vars(frame).get(_NAME)
    return found if isinstance(found, Origin) else None


def proven_rows(origin: Origin) -> int | None:
    """How many rows there are, if a plan proves it. Asks the planner, and opens no file."""
    if origin.plan is not None:
        return _rows(origin.plan)
    if origin.scan is None:
        return None
    if origin.scan.predicate is None:
        header = origin.scan.header()
        if not header.requires_merge:
            return header.total_records
    return _rows(origin.scan.plan(), exact=origin.scan.predicate is None)


def _rows(plan: ReadPlan, *, exact: bool = True) -> int | None:
    files = plan.files
    if not exact and pc.any(files["residual"]).as_py():
        return None
    if not plan.requires_merge:
        return int(pc.sum(files["record_count"], min_count=0).as_py())
    data = files.filter(pc.not_equal(files["delta_type"], "delete"))
    if data["deletes"].null_count:
        return None
    dead = sum(deletes.count(held) for held in data["deletes"].to_pylist())
    return int(pc.sum(data["record_count"], min_count=0).as_py()) - dead
