"""How do bounds that are text become numbers? By eight bytes of each, in the text's order.

Comparing text costs fifty times as much as comparing numbers. Of every bound of a column, eight
bytes behind what all of them begin with are kept as one number, whose order is never the other way
round: a file that is ruled out by these is ruled out by its bounds.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.lean_arrow import lean_numpy
from planner_client.server.bound_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from io_core.partition import Bounds

__all__ = ["is_text", "shared_prefix", "text_keys"]

_GREATEST = np.iinfo(np.uint64).max
_BYTES = 8


def is_text(dtype: pa.DataType) -> bool:
    """Whether a column's bounds can be made numbers of."""
    t = pa.types
    return any(
        is_kind(dtype)
        for is_kind in (t.is_string, t.is_large_string, t.is_binary, t.is_large_binary)
    )


def text_keys(bounds: Bounds, prefix: bytes | None) -> Keys:
    """Numbers for bounds: of least values 0 where unknown, of greatest ones the greatest number.

    Args:
        bounds: Of one column of files.
        prefix: What every bound begins with; None where none is known.
    """
    prefix = prefix or b""
    low, high = _numbers(bounds.low, prefix, 0), _numbers(bounds.high, prefix, _GREATEST)
    known = not bounds.low.null_count and not bounds.high.null_count
    return Keys(low, high, functools.partial(_number, prefix=prefix), known=known)


def shared_prefix(pieces: Iterable[Bounds], old: bytes | None = None) -> bytes | None:
    """What all bounds begin with: what the least and the greatest of them do. None where there is none.

    Args:
        pieces: The bounds.
        old: What other bounds, which count too, begin with; None for none.
    """
    ends = [] if old is None else [old]
    for piece in pieces:
        found = (pc.min_max(side).as_py() for side in (piece.low, piece.high))
        ends += [_raw(v) for pair in found for v in pair.values() if v is not None]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    same = itertools.takewhile(lambda i: low[i] == high[i], range(min(len(low), len(high))))
    return low[: sum(1 for _ in same)]


def _raw(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _numbers(values: pa.Array, prefix: bytes, missing: int) -> npt.NDArray[np.uint64]:
    """Eight bytes of each value behind the prefix, which they all begin with."""
    if values.null_count == len(values):
        return np.full(len(values), missing, np.uint64)
    large = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64 if large else np.int32)[values.offset :]
    ends = ends[: len(values) + 1].astype(np.int64)
    raw = np.frombuffer(data, np.uint8)
    # Every eight bytes that stand together, as one number each, read where values begin.
    padded = np.concatenate([raw, np.zeros(_BYTES, np.uint8)])
    windows = np.ndarray(len(raw) + 1, ">u8", padded.data, strides=(1,))
    starts = np.minimum(ends[:-1] + len(prefix), len(raw))
    keys = windows[starts].astype(np.uint64)
    # Shorter values end in zeros, not in what the next value begins with.
    beyond = 8 * (_BYTES - np.clip(ends[1:] - starts, 0, _BYTES)).astype(np.uint64)
    whole = np.where(beyond < 64, np.left_shift(np.right_shift(keys, beyond % 64), beyond % 64), 0)
    if values.null_count:
        whole[lean_numpy(values.is_null())] = missing
    return whole


def _number(value: pa.Scalar, prefix: bytes) -> int:
    raw = _raw(value.as_py())
    if raw.startswith(prefix):
        return int.from_bytes(raw[len(prefix) : len(prefix) + _BYTES].ljust(_BYTES, b"\0"))
    return 0 if raw < prefix else int(_GREATEST)
