"""How does a task, in a worker, turn its files into Ray's blocks? With Arrow, file by file."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from deltacat_sources.ray.tasks import living_rows
from io_core.execute import execute
from io_core.schema import without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deltacat_sources.ray.tasks import Share

__all__ = ["block_schema", "read", "reader", "shown"]

# Ray keeps the number of rows of a block without columns by a column of this name, which it hides
# from users (ray 2.60, _internal/arrow_block.py).
_STUB = "__bsp_stub"
# Blocks double up to this: the first are small, for readers that soon have enough.
_GATHERED_BYTES = 32 * 2**20
# How long a task that is stopped goes on at most.
_NOTICED_S = 0.2

Made = TypeVar("Made")


def shown(schema: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    """Some columns as blocks have them: Ray cannot send Arrow's view types (ray 2.60)."""
    return pa.schema([pa.field(name, _block_type(schema.field(name).type)) for name in columns])


def _block_type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_list_view(dtype) or pa.types.is_large_list_view(dtype):
        return pa.large_list(without_views(dtype.value_type))
    return without_views(dtype)


def block_schema(visible: pa.Schema) -> pa.Schema:
    """What a block of these columns looks like; of none it has Ray's own column."""
    return visible if len(visible) else pa.schema([pa.field(_STUB, pa.null())])


def reader(share: Share) -> Callable[[], Iterator[pa.Table]]:
    """What a task runs."""

    # Not functools.partial: Ray asks for the __name__ of a function that pickles large.
    def read_share() -> Iterator[pa.Table]:
        return read(share)

    return read_share


def read(share: Share) -> Iterator[pa.Table]:
    """Blocks of a task, piece by piece, so that it can be stopped early. Runs in a worker."""
    blocks = _blocks(share)
    return _beside(blocks) if share.plan.storage.stores else blocks


def _beside(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same, made in a thread, one when the next is asked for.

    Ray stops a task, as when a limit is reached, by an interrupt of the worker's main thread wherever
    that is. What reads S3 shares an event loop, connections and locks with all later tasks of the
    worker, and one that stopped midway has been seen to leave them waiting for ever (ray 2.60).
    """
    # In C: an interrupt leaves neither of them locked.
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    made: queue.SimpleQueue[pa.Table | BaseException | None] = queue.SimpleQueue()

    def make() -> None:
        try:
            while wanted.get():
                made.put(next(blocks, None))
        except BaseException as error:  # noqa: BLE001  # told to the task, which raises it
            made.put(error)

    threading.Thread(target=make, name="deltacat-read", daemon=True).start()
    try:
        while True:
            wanted.put(True)
            found = _next_of(made)
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        wanted.put(False)


def _next_of(made: queue.SimpleQueue[Made]) -> Made:
    while True:
        # An interrupt is noticed in between.
        with contextlib.suppress(queue.Empty):
            return made.get(timeout=_NOTICED_S)


def _blocks(share: Share) -> Iterator[pa.Table]:
    left = share.limit
    empty = True
    pieces = _pieces(share) if left != 0 else iter(())
    for rows in _gathered(pieces) if left is None else pieces:
        block = rows if left is None else rows.slice(0, left)
        yield block
        empty = False
        left = None if left is None else left - block.num_rows
        if left == 0:
            return
    if empty:
        # A block without rows still tells the dataset's columns.
        yield block_schema(shown(share.plan.schema, share.columns)).empty_table()


def _pieces(share: Share) -> Iterator[pa.Table]:
    """Rows of a task as they are read; none without rows."""
    shape = shown(share.plan.schema, share.needed)
    for plan, certain in share.runs():
        living = living_rows(plan) if certain and not share.columns else None
        if living is not None:
            yield from _counted(living)
            continue
        predicate, expr = None if certain else share.predicate, share.expr
        for found in execute(plan, columns=share.needed, predicate=predicate):
            piece = found if found.schema == shape else found.cast(shape)
            # In memory: a Parquet reader would skip row groups whose footer leaves NaN out.
            rows = piece if expr is None else piece.filter(expr.to_pyarrow())
            if not share.columns:
                yield from _counted(rows.num_rows)
            elif rows.num_rows:
                yield rows.select(share.columns)


def _counted(rows: int) -> Iterator[pa.Table]:
    if rows:
        yield pa.table({_STUB: pa.nulls(rows)})


def _gathered(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer pieces, each of one chunk: Ray sends and gets chunk by chunk."""
    held: list[pa.Table] = []
    size = least = 0
    for piece in pieces:
        held.append(piece)
        size += piece.nbytes
        if size >= least:
            yield _joined(held)
            least = min(2 * max(size, least), _GATHERED_BYTES)
            held, size = [], 0
    if held:
        yield _joined(held)


def _joined(pieces: list[pa.Table]) -> pa.Table:
    if len(pieces) == 1:
        return pieces[0]
    table = pa.concat_tables(pieces)
    try:
        return table.combine_chunks()
    except pa.ArrowNotImplementedError:  # of types that Arrow cannot join
        return table
