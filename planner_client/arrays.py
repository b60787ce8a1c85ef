"""How do the rows of a table become one NumPy array?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["to_numpy"]

# Beyond this a double no longer holds every integer.
_EXACT = 2**53


# Any: an array's items.
def to_numpy(table: pa.Table) -> npt.NDArray[Any]:
    """The rows as an array of the shape (rows, columns).

    Numbers take the least type that holds all columns, nulls among them NaN; whatever else makes it
    an array of objects, nulls None.

    Raises:
        UnsupportedError: An integer that floats, which other columns or nulls ask for, cannot hold.

    Example:
        >>> to_numpy(pa.table({"a": [1, 2], "b": [0.5, None]}))
        array([[1. , 0.5],
               [2. , nan]])
    """
    shape = (table.num_rows, table.num_columns)
    if not table.num_columns:
        return np.empty(shape)
    dtype = _dtype(table)
    found = np.empty(shape, dtype)
    for number, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if dtype.kind == "O":
            found[:, number] = _objects(column)
        else:
            _check_exact(name, column, dtype)
            found[:, number] = column.to_numpy()
    return found


def _dtype(table: pa.Table) -> np.dtype[Any]:
    kinds = [field.type for field in table.schema]
    t = pa.types
    if any(t.is_boolean(kind) for kind in kinds):
        whole = all(t.is_boolean(kind) for kind in kinds)
        has_nulls = any(column.null_count for column in table.columns)
        return np.dtype(bool) if whole and not has_nulls else np.dtype(object)
    if not all(t.is_integer(kind) or t.is_floating(kind) for kind in kinds):
        return np.dtype(object)
    own = [np.dtype(kind.to_pandas_dtype()) for kind in kinds]
    if any(column.null_count for column in table.columns):
        own.append(np.dtype(np.float32 if all(d.itemsize <= 2 for d in own) else np.float64))
    return np.result_type(*own)


def _check_exact(name: str, column: pa.ChunkedArray, dtype: np.dtype[Any]) -> None:
    if dtype.kind != "f" or not pa.types.is_integer(column.type) or column.type.bit_width < 64:
        return
    bounds = pc.min_max(column).as_py()
    if any(value is not None and abs(value) > _EXACT for value in bounds.values()):
        raise UnsupportedError(
            f"the integers of column {name!r} are too great for an array of {dtype}, which the other "
            "columns or nulls ask for: choose columns=, or read as 'pyarrow'"
        )


def _objects(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    # Item by item: numpy would make rows of lists.
    held = np.empty(len(column), object)
    for number, value in enumerate(column.to_pylist()):
        held[number] = value
    return held
