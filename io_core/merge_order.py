"""Which of two rows of one key wins that came at one stream position? What a schema's merge order says.

A column may carry a merge order, or be event time, which counts as a descending one where no column
has an order. `descending` keeps the largest value, `ascending` the smallest; NaN stands above every
number and null above NaN in both, as the protocol's other readers have it, so a null wins and
`null_order` is kept but decides nothing. Among equals the later row wins. A merge order never beats
a higher stream position.

Plans carry the reverse (`mor_plan.sort_keys`): the order that rows are sorted into of which the
last is kept.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import SchemaValidationError
from io_core.literal import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EVENT_TIME",
    "MERGE_ORDER",
    "MergePlan",
    "MergeSortKey",
    "OrderKey",
    "check_ordering",
    "dump_merge_order",
    "is_ordering",
    "load_merge_order",
    "merge_order_of",
    "merge_plan",
    "order_keys",
    "ranks",
]

MERGE_ORDER = b"DELTACAT:merge_order"
EVENT_TIME = b"DELTACAT:event_time"
_SORT_ORDERS: dict[str, Literal["ascending", "descending"]] = {
    "ascending": "ascending",
    "asc": "ascending",
    "descending": "descending",
    "desc": "descending",
}
_NULL_ORDERS = {"at_start": "at_start", "at_end": "at_end"}


class OrderKey(NamedTuple):
    """One column that decides, and whether its largest value wins or its smallest."""

    column: str
    keeps_largest: bool = True


class MergeSortKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key that the rows of a stream position are sorted by, the last of each key to be kept."""

    key: tuple[str, ...]
    sort_order: str = "ascending"


class MergePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a plan says of its merge, as the protocol writes it (`mor_plan`)."""

    sort_keys: tuple[MergeSortKey, ...] = ()


# Any: {"sort_order": ..., "null_order": ...} on the wire.
def dump_merge_order(column: str, order: dict[str, Any]) -> bytes:
    """Write a merge order as the metadata of its column keeps it.

    Raises:
        SchemaValidationError: A word that means nothing.
    """
    unknown = order.keys() - {"sort_order", "null_order"}
    if unknown:
        raise SchemaValidationError(
            f"column {column!r}: merge_order has no {min(unknown)!r}; "
            "it has a sort_order and a null_order"
        )
    known = {
        "sort_order": _word(column, "sort_order", order.get("sort_order")),
        "null_order": _word(column, "null_order", order.get("null_order") or "at_end"),
    }
    return base64.b64encode(msgspec.msgpack.encode(known))


# Any: as above.
def load_merge_order(field: pa.Field) -> dict[str, Any] | None:
    """The merge order that a column has, as the protocol writes it; None where it has none.

    Raises:
        SchemaValidationError: The metadata cannot be read.

    Example:
        >>> order = {MERGE_ORDER: dump_merge_order("v", {"sort_order": "SortOrder.DESCENDING"})}
        >>> load_merge_order(pa.field("v", pa.int64(), metadata=order))
        {'sort_order': 'descending', 'null_order': 'at_end'}
    """
    text = (field.metadata or {}).get(MERGE_ORDER)
    if text is None:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
        found = msgspec.msgpack.decode(raw, type=dict[str, Any] | None)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise SchemaValidationError(
            f"column {field.name!r}: {MERGE_ORDER.decode()} cannot be read: {error}"
        ) from None
    if found is None:
        return None
    # Written by other clients, it may be spelt otherwise.
    again = msgspec.msgpack.decode(base64.b64decode(dump_merge_order(field.name, found)))
    return dict(again)


def _word(column: str, what: str, given: object) -> str:
    """A word of the protocol's, also as the name of an enum's member: `SortOrder.DESCENDING`."""
    known = _SORT_ORDERS if what == "sort_order" else _NULL_ORDERS
    found = known.get(str(given).rpartition(".")[2].lower())
    if found is None:
        raise SchemaValidationError(
            f"column {column!r}: {what} {given!r} is unknown; use {' or '.join(known)}"
        )
    return found


def is_ordering(field: pa.Field) -> bool:
    """Whether the column takes part in which row wins, beside the merge keys."""
    metadata = field.metadata or {}
    return MERGE_ORDER in metadata or metadata.get(EVENT_TIME) == b"true"


def check_ordering(field: pa.Field) -> None:
    """Raise where a column cannot decide which row wins.

    Raises:
        SchemaValidationError: Unreadable, or of a type without an order.
    """
    load_merge_order(field)
    if is_ordering(field) and kind_of(field.type) == "other":
        raise SchemaValidationError(
            f"column {field.name!r} is of type {field.type}: only numbers, texts, bytes, truth values, "
            "dates and times can have a merge order or be event time"
        )


def merge_order_of(schema: pa.Schema) -> tuple[OrderKey, ...]:
    """The columns that decide, the most significant first.

    Example:
        >>> event = {EVENT_TIME: b"true"}
        >>> merge_order_of(pa.schema([pa.field("at", pa.timestamp("us"), metadata=event)]))
        (OrderKey(column='at', keeps_largest=True),)
    """
    declared = [(field, load_merge_order(field)) for field in schema]
    ordered = tuple(
        OrderKey(field.name, order["sort_order"] == "descending")
        for field, order in declared
        if order
    )
    event = (f.name for f in schema if (f.metadata or {}).get(EVENT_TIME) == b"true")
    return ordered or tuple(map(OrderKey, event))


def merge_plan(schema: pa.Schema) -> MergePlan | None:
    """What plans of a table say of its merge; None where positions alone decide.

    Example:
        >>> order = {MERGE_ORDER: dump_merge_order("v", {"sort_order": "descending"})}
        >>> merge_plan(pa.schema([pa.field("v", pa.int64(), metadata=order)]))
        MergePlan(sort_keys=(MergeSortKey(key=('v',), sort_order='ascending'),))
    """
    order = merge_order_of(schema)
    keys = (MergeSortKey((c,), "ascending" if up else "descending") for c, up in order)
    return MergePlan(tuple(keys)) if order else None


def order_keys(plan: MergePlan | None) -> tuple[OrderKey, ...]:
    """The reverse of `merge_plan`.

    Raises:
        SchemaValidationError: A sort order of an unknown name.
    """
    return tuple(
        OrderKey(column, _word(column, "sort_order", key.sort_order) == "ascending")
        for key in (plan.sort_keys if plan else ())
        for column in key.key
    )


def ranks(rows: pa.Table, order: Sequence[OrderKey]) -> npt.NDArray[np.int64]:
    """The place of each row among the others; the highest wins, and equal ones share a place.

    Args:
        rows: At least the columns that decide.
        order: Those columns.

    Returns:
        (rows,) int64.

    Example:
        >>> ranks(pa.table({"v": [3, None, 1, 3]}), [OrderKey("v")]).tolist()
        [1, 2, 0, 1]
    """
    keys = [(c, "ascending" if largest else "descending") for c, largest in order]
    columns = [_comparable(rows.column(c)) for c, _ in order]
    table = pa.table(columns, names=[str(i) for i in range(len(columns))])
    by = [(str(i), way) for i, (_, way) in enumerate(keys)]
    # Arrow puts NaN, and after it null, behind all other values whichever way it sorts.
    sorted_rows = pc.sort_indices(table, sort_keys=by).to_numpy()
    places = np.empty(len(rows), np.int64)
    changes = _changes(table.take(sorted_rows)) if len(rows) else np.zeros(0, np.int64)
    places[sorted_rows] = np.cumsum(changes)
    return places


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that Arrow sorts."""
    dtype = column.type
    if pa.types.is_string_view(dtype):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(dtype):
        return column.cast(pa.large_binary())
    return column


def _changes(rows: pa.Table) -> npt.NDArray[np.int64]:
    """1 where a row differs from the one before it."""
    changed = np.zeros(len(rows), np.bool_)
    for column in rows.columns:
        one, two = column.slice(0, len(rows) - 1), column.slice(1)
        same = pc.fill_null(pc.equal(one, two), False)
        same = pc.or_(same, pc.and_(one.is_null(), two.is_null()))
        if pa.types.is_floating(column.type):
            both = pc.and_(pc.is_nan(one), pc.is_nan(two))
            same = pc.or_(same, pc.fill_null(both, False))
        changed[1:] |= ~same.combine_chunks().to_numpy(zero_copy_only=False)
    return changed.astype(np.int64)
