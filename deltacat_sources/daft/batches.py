"""The rows of a frame, all of them or an error: Daft's engine ends a stream at Ctrl-C as if it were whole.

Daft 0.7.26 hears of Ctrl-C by itself, in whichever thread a query runs, and ends it without an error. Only
Python's main thread is told, so that another one would take the rows that had come for all that there are.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft.context import execution_config_ctx, get_context

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["batches_of"]


def batches_of(df: daft.DataFrame, rows_per_batch: int | None = None) -> Iterator[pa.RecordBatch]:
    """A frame's rows in its order, as they come.

    Args:
        df: The frame.
        rows_per_batch: Into about how many rows Daft gathers them; None leaves them as they are.

    Raises:
        KeyboardInterrupt: Daft ended the query before its last row.

    Example:
        >>> frame = daft.from_pydict({"x": [1, 2]})
        >>> [batch.to_pydict() for batch in batches_of(frame, 100)]
        [{'x': [1, 2]}]
    """
    names = df.column_names
    end = next(n for i in itertools.count() if (n := f"end {i}") not in names)
    # One more row, which comes last: whoever has it has all.
    last = daft.from_pydict({end: [True]})
    marked = df.with_column(end, daft.lit(False)).union_all_by_name(last)  # a literal
    if rows_per_batch is not None:
        marked = marked.into_batches(rows_per_batch)
    is_whole = False
    with _in_order():
        for batch in marked.to_arrow_iter():
            is_end, rows = batch.column(end), batch.select(names)
            if pc.any(is_end).as_py():
                is_whole, rows = True, rows.filter(pc.invert(is_end))
            if rows.num_rows:
                yield rows
    if not is_whole:
        raise KeyboardInterrupt("Daft ended the query before its last row, as it does at Ctrl-C")


@contextlib.contextmanager
def _in_order() -> Iterator[None]:
    """Keep the order of rows, which Daft does unless told otherwise."""
    if get_context().daft_execution_config.maintain_order:
        yield
        return
    with execution_config_ctx(maintain_order=True):
        yield
