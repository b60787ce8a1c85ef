"""Which rows does a frame of pandas hold? Refuses columns of objects that Arrow would quietly change."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.errors import SchemaValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["table_of_pandas"]

_PANDAS = b"pandas"


# Any, here and below: pandas is not imported, so its frames have no types.
def table_of_pandas(frame: Any) -> pa.Table:
    """Its columns, and the named levels of its index; what is missing is null.

    Raises:
        SchemaValidationError: A column that Arrow has no type for, or whose values it would change: times
            cut to dates, zones left out, text taken for bytes.
    """
    try:
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index(level=[n for n in frame.index.names if n is not None])
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SchemaValidationError(f"a column of the frame cannot be written: {error}") from error
    for place, field in enumerate(table.schema):
        _check(field, frame.iloc[:, place])
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != _PANDAS}
    return table.replace_schema_metadata(metadata or None)


def _check(field: pa.Field, column: Any) -> None:
    """Refuse a column of objects of two kinds, which Arrow would take for one."""
    told = _KINDS.get(field.type.id)
    if told is None or column.dtype != object:
        return
    kinds = {told(value): value for value in column[column.notna()]}
    if len(kinds) > 1:
        one, other = [repr(value) for value in kinds.values()][:2]
        raise SchemaValidationError(
            f"column {field.name!r} of the frame holds {one} and {other}, which become {field.type} "
            "only with a loss: give all values one type"
        )


def _is_aware(value: Any) -> object:
    return getattr(value, "tzinfo", None) is not None


def _is_time(value: Any) -> object:
    return isinstance(value, dt.datetime)


def _is_text(value: Any) -> object:
    return isinstance(value, str)


_KINDS: dict[int, Callable[[Any], object]] = {
    pa.types.lib.Type_TIMESTAMP: _is_aware,
    pa.types.lib.Type_DATE32: _is_time,
    pa.types.lib.Type_BINARY: _is_text,
}
