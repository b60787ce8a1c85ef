"""Which rows survive, by a merge of whole tables in memory? What quicker ways have to give."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.keys import last_of_each, row_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Delta", "merge"]


class Delta(NamedTuple):
    """The rows of one file, and how they take part in the merge.

    Attributes:
        rows: Of data, at least the merge keys; of a delete, at least `delete_columns`.
        position: Stream position; deltas are given in its ascending order.
        delete_columns: What a delete matches by; empty for data.
    """

    rows: pa.Table
    position: int
    delete_columns: tuple[str, ...] = ()


def merge(deltas: Sequence[Delta], keys: Sequence[str]) -> pa.Table:
    """The rows that survive, in order of stream position, file and row.

    Args:
        deltas: All files of one partition, ascending by position; data files of one schema, and
            at least one of them.
        keys: The table's merge keys.

    Example:
        >>> old = pa.table({"id": [1, 2], "v": ["a", "b"]})
        >>> new = pa.table({"id": [2], "v": ["c"]})
        >>> merge([Delta(old, 1), Delta(new, 2), Delta(old.slice(0, 1), 3, ("id",))], ["id"]).to_pylist()
        [{'id': 2, 'v': 'c'}]
    """
    data = [d for d in deltas if not d.delete_columns]
    rows = pa.concat_tables([d.rows for d in data])
    positions = _positions(data)
    winners = last_of_each(row_codes([rows.column(k) for k in keys]))
    deletes: dict[tuple[str, ...], list[Delta]] = {}
    for delta in deltas:
        if delta.delete_columns:
            deletes.setdefault(delta.delete_columns, []).append(delta)
    alive = np.ones(len(winners), np.bool_)
    for columns, group in deletes.items():
        candidates = rows.select(columns).take(winners)
        alive &= ~_deleted(candidates, positions[winners], group, columns)
    return rows.take(winners[alive])


def _positions(deltas: Sequence[Delta]) -> npt.NDArray[np.int64]:
    return np.repeat(
        np.array([d.position for d in deltas], np.int64), [d.rows.num_rows for d in deltas]
    )


def _deleted(
    rows: pa.Table,
    positions: npt.NDArray[np.int64],
    deletes: Sequence[Delta],
    columns: tuple[str, ...],
) -> npt.NDArray[np.bool_]:
    """Which rows a delete at a higher position matches."""
    patterns = [d.rows.select(columns).cast(rows.schema) for d in deletes]
    together = pa.concat_tables([rows, *patterns])
    codes = row_codes([together.column(c) for c in columns])
    row, pattern = codes[: rows.num_rows], codes[rows.num_rows :]
    deleted_at = np.full(int(codes.max(initial=-1)) + 1, -1, np.int64)
    # Deltas ascend, so of a repeated code the highest position is assigned last and stays.
    deleted_at[pattern] = _positions(deletes)
    return deleted_at[row] > positions
