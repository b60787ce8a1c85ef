"""Which files can match, judged by one number for each bound? A superset, at a fraction of the cost.

Judging files exactly takes a dozen passes over what is known of them; here a comparison is one, and
nearly every file is gone after it. What is left is judged by its bounds.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.lean_arrow import numbers_of
from io_core.literal import ordinal
from io_core.predicate import And, Compare, In, Or, Predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from io_core.partition import Bounds

__all__ = ["Keys", "may_match", "number_keys"]

Mask = npt.NDArray[np.bool_]
# From so many values on an `in` list is left to the bounds.
_MOST_VALUES = 32


class Keys(NamedTuple):
    """Numbers for the bounds of one column of consecutive files.

    Attributes:
        low: (files,) in the order of the least values.
        high: (files,) in the order of the greatest values.
        number: What a value of the column is among them.
        topped: Whether no value is above `high`: NaN is above every number, and in no bound.
    """

    # Any: numbers of the column's own width.
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]
    number: Callable[[pa.Scalar], Any]
    topped: bool = True

    def cut(self, part: slice) -> Keys:
        """The same for some of the files. Copies nothing."""
        return self._replace(low=self.low[part], high=self.high[part])


def number_keys(bounds: Bounds) -> Keys | None:
    """The bounds themselves, where they are numbers or moments and all known; copies nothing."""
    dtype = bounds.low.type
    low, high = bounds.low, bounds.high
    if low.null_count or high.null_count:
        return None
    held = numbers_of(low), numbers_of(high)
    if held[0] is None or held[1] is None:
        return None
    topped = not pa.types.is_floating(dtype) or bool((bounds.nan_count == 0).all())
    return Keys(held[0], held[1], ordinal, topped)


def may_match(predicate: Predicate, known: Mapping[str, Keys]) -> Mask | None:
    """Which of the files may match, as far as numbers say; None where they say nothing.

    Args:
        predicate: As `bind` returned it.
        known: Keys of the columns that have any, all of the same files.
    """
    match predicate:
        case And(children):
            parts = [may_match(child, known) for child in children]
            said = [part for part in parts if part is not None]
            return functools.reduce(np.logical_and, said) if said else None
        case Or(children):
            parts = [may_match(child, known) for child in children]
            said = [part for part in parts if part is not None]
            return functools.reduce(np.logical_or, said) if len(said) == len(parts) else None
        case Compare(op, column, value) if column in known:
            return _compared(op, value, known[column])
        case In(column, values) if column in known and 0 < len(values) <= _MOST_VALUES:
            parts = [_compared("eq", value, known[column]) for value in values]
            said = [part for part in parts if part is not None]
            return functools.reduce(np.logical_or, said) if len(said) == len(parts) else None
    return None


def _compared(op: str, value: pa.Scalar, keys: Keys) -> Mask | None:
    if not value.is_valid:
        return None
    number = keys.number(value)
    match op:
        case "eq":
            return np.asarray((keys.low <= number) & (keys.high >= number))
        case "lt" | "lte":
            return np.asarray(keys.low <= number)
        case "gt" | "gte" if keys.topped:
            return np.asarray(keys.high >= number)
    return None
