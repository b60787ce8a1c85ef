"""What does a read want of a plan's rows, and how far along is it?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple, Never, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import tqdm

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["Wanted", "with_bar"]

# Shorter reads show nothing.
_LONG_S = 2.0


class Wanted(NamedTuple):
    """Which rows and columns of a plan to read.

    Attributes:
        columns: In order; None means all.
        predicate: Rows to keep, unbound; the plan may have been made for another one.
        limit: Most rows, counted after everything else.
        offset: Rows to leave out before those.
    """

    columns: tuple[str, ...] | None = None
    predicate: Predicate | None = None
    limit: int | None = None
    offset: int = 0

    @property
    def is_everything(self) -> bool:
        """Whether it is the files as they are."""
        return self == Wanted()

    def rows_of(self, plan: ReadPlan) -> int:
        """How many rows to expect at most, before merge and predicate."""
        most = plan.total_records
        return most if self.limit is None else min(most, self.limit)


def with_bar(
    pieces: Iterator[pa.Table],
    total: int,
    *,
    out: TextIO | None = None,
    after_s: float = _LONG_S,
) -> Iterator[pa.Table]:
    """The pieces, counted by a bar in a terminal; without tqdm (the extra `progress`) by none.

    Args:
        pieces: What is read.
        total: How many rows to expect.
        out: The terminal; None means standard error.
        after_s: How long a read goes on before the bar appears.
    """
    stream = sys.stderr if out is None else out
    # A process without a console has no stream at all.
    if stream is None or not stream.isatty():
        return pieces
    try:
        from tqdm import tqdm as new_bar
    except ImportError:
        return pieces
    bar = new_bar(
        total=total, unit=" rows", unit_scale=True, delay=after_s, leave=False, file=stream
    )
    return _counted(pieces, bar)


def _counted(pieces: Iterator[pa.Table], bar: tqdm.tqdm[Never]) -> Iterator[pa.Table]:
    with bar:
        for piece in pieces:
            bar.update(piece.num_rows)
            yield piece
