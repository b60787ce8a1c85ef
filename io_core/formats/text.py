"""As which text do values stand in formats that carry no types? As literals (io_core.literal)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import SchemaValidationError
from io_core.literal import dump_array, kind_of, load_array

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LONGEST_ROW", "check_years", "dump_text_array", "hold_text", "load_exact"]

# Bytes of one row's text: longer ones are neither written nor read.
LONGEST_ROW = 1 << 26
# Seconds at which the years 1 and 10000 begin.
_FIRST = -62_135_596_800
_END = 253_402_300_800
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def hold_text(dtype: pa.DataType) -> pa.DataType | None:
    """As which flat type a text can stand for a value of another; None for none.

    Example:
        >>> hold_text(pa.float16()), hold_text(pa.binary(4))
        (DataType(float), DataType(binary))
    """
    t = pa.types
    if t.is_float16(dtype):
        return pa.float32()
    if t.is_fixed_size_binary(dtype):
        return pa.binary()
    if t.is_date64(dtype):
        return pa.date32()
    return dtype if kind_of(dtype) != "other" or t.is_null(dtype) else None


# Any: JSON scalars.
def dump_text_array(array: pa.Array) -> list[Any]:
    """Values of a flat column as JSON scalars; null is None."""
    return [None] * len(array) if pa.types.is_null(array.type) else dump_array(array)


def load_exact(values: Sequence[Any], dtype: pa.DataType) -> pa.Array:
    """The reverse of `dump_text_array`.

    Raises:
        ValueError: A value that is none of the type.
    """
    found = pa.nulls(len(values)) if pa.types.is_null(dtype) else load_array(values, dtype)
    if found.null_count != sum(v is None for v in values):
        kept = found.is_valid().to_pylist()
        wrong = next(v for v, held in zip(values, kept, strict=True) if v is not None and not held)
        raise ValueError(f"{wrong!r:.80} is no {dtype}")
    return found


def check_years(table: pa.Table, format: str) -> None:
    """Raise where a date or timestamp has a year that text cannot hold, however deep.

    Raises:
        SchemaValidationError: A year below 1 or above 9999.
    """
    for name, column in zip(table.schema.names, table.columns, strict=True):
        for array in column.chunks:
            if not _has_years(array):
                raise SchemaValidationError(
                    f"column {name!r} has times outside of the years 1 to 9999, for which {format} "
                    "has no text; write parquet instead"
                )


def _has_years(array: pa.Array) -> bool:
    t = pa.types
    if t.is_struct(array.type):
        return all(map(_has_years, array.flatten()))
    if t.is_map(array.type):
        return _has_years(array.keys) and _has_years(array.items)
    if t.is_nested(array.type):
        return _has_years(array.flatten())
    if t.is_date32(array.type):
        low, high = _FIRST // 86_400, _END // 86_400
        plain = array.cast(pa.int32())
    elif t.is_timestamp(array.type):
        low, high = (bound * _PER_SECOND[array.type.unit] for bound in (_FIRST, _END))
        plain = array.cast(pa.int64())
    else:
        return True
    found = pc.min_max(plain)
    least, most = found["min"].as_py(), found["max"].as_py()
    return least is None or (low <= least and most < high)
