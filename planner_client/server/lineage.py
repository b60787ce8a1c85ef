"""Since which snapshot have the rows of a new file been shown? Rewrites bring rows that were there before.

A commit that replaces rows may keep files of the table, and write others anew without some of their
rows. What is left in these is no change of the table: whoever read it before has read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.model import REWRITTEN_FROM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.model import WriteEntry
    from planner_client.server.columns import FileColumns
    from planner_client.server.store import Write

__all__ = ["rows_since", "sources_of"]


def sources_of(entry: WriteEntry) -> list[str]:
    """The files that an entry says all of its rows are from."""
    return (entry.entry_params or {}).get(REWRITTEN_FROM, [])


def rows_since(
    columns: FileColumns, write: Write, sources: Sequence[Sequence[str]]
) -> list[int | None]:
    """For each new file the first snapshot from which on all of its rows were shown without a break.

    Args:
        columns: The version's files.
        write: The commit, before it ends any of them.
        sources: For each file those of the table that hold its rows, maybe itself.

    Returns:
        None where that is the commit itself: a source is not there any more, or there is none.
    """
    rows = np.flatnonzero(columns.live(write.view, slice(None)))
    held = columns.paths(write.view, rows)
    flat = pa.array([path for paths in sources for path in paths], pa.string())
    places = pc.index_in(flat, value_set=held).to_pylist()
    since = columns.rows_since(rows)
    found: list[int | None] = []
    start = 0
    for paths in sources:
        at = places[start : start + len(paths)]
        start += len(paths)
        first = None if not at or None in at else max(int(since[i]) for i in at)
        found.append(None if first == write.own else first)
    return found
