"""What do numbers for bounds say of files? One comparison a bound, where judging by bounds takes a dozen.

Nearly every file is gone after it, and of the others it mostly says as much as their bounds would. What
it leaves open is judged by the bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.lean_arrow import numbers_of
from io_core.literal import ordinal
from io_core.predicate import And, Compare, Constant, In, Or, Predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from io_core.partition import Bounds

__all__ = ["Keys", "Said", "judge", "number_keys"]

Mask = npt.NDArray[np.bool_]
# From so many values on an `in` list is left to the bounds.
_MOST_VALUES = 32


class Keys(NamedTuple):
    """Numbers for the bounds of one column of consecutive files.

    Attributes:
        low: (files,) in the order of the least values; of all files together one number.
        high: (files,) in the order of the greatest values, likewise.
        number: What a value of the column is among them.
        topped: Whether no value is above `high`: NaN is above every number, and in no bound.
        known: Whether all bounds are known, so that a value between numbers is between bounds.
        decisive: Whether besides they are the bounds, and every row has a value, so that they say all
            that there is to say.
    """

    # Any: numbers of the column's own width.
    low: Any
    high: Any
    number: Callable[[pa.Scalar], Any]
    topped: bool = True
    known: bool = False
    decisive: bool = False

    def cut(self, part: slice) -> Keys:
        """The same for some of the files, only to rule them out. Copies nothing."""
        return Keys(self.low[part], self.high[part], self.number, self.topped)

    def take(self, index: npt.NDArray[np.int64]) -> Keys:
        """The same for some of the files."""
        return self._replace(low=self.low[index], high=self.high[index])


class Said(NamedTuple):
    """What numbers say of files: an answer for each, or one for all.

    Attributes:
        may: False only where it is certain that no row matches.
        every: True only where it is certain that all rows match.
        final: Whether the bounds themselves would say no more.
    """

    may: Mask | bool
    every: Mask | bool
    final: bool


_NOTHING = Said(may=True, every=False, final=False)


def number_keys(bounds: Bounds) -> Keys | None:
    """The bounds themselves, where they are numbers or moments and all known; copies nothing."""
    low, high = bounds.low, bounds.high
    if low.null_count or high.null_count:
        return None
    held = numbers_of(low), numbers_of(high)
    if held[0] is None or held[1] is None:
        return None
    topped = not pa.types.is_floating(low.type) or bool((bounds.nan_count == 0).all())
    full = topped and bounds.image is None and bool((bounds.null_count == 0).all())
    return Keys(held[0], held[1], ordinal, topped, True, full)


def judge(predicate: Predicate, known: Mapping[str, Keys]) -> Said:
    """Judge files by numbers alone.

    Args:
        predicate: As `bind` returned it.
        known: Keys of the columns that have any, all of the same files.
    """
    match predicate:
        case Compare(op, column, value):
            keys = known.get(column)
            return _NOTHING if keys is None else _compared(op, value, keys)
        case And(children):
            return _all([judge(child, known) for child in children])
        case Or(children):
            return _any([judge(child, known) for child in children])
        case In(column, values) if column in known and 0 < len(values) <= _MOST_VALUES:
            return _any([_compared("eq", value, known[column]) for value in values])
        case Constant(value):
            return Said(value, value, True)
    return _NOTHING


def _all(parts: list[Said]) -> Said:
    may, every, final = parts[0]
    for part in parts[1:]:
        may, every, final = may & part.may, every & part.every, final and part.final
    return Said(may, every, final)


def _any(parts: list[Said]) -> Said:
    may, every, final = parts[0]
    for part in parts[1:]:
        may, every, final = may | part.may, every | part.every, final and part.final
    return Said(may, every, final)


def _compared(op: str, value: pa.Scalar, keys: Keys) -> Said:
    if not value.is_valid:
        return _NOTHING
    low, high, number = keys.low, keys.high, keys.number(value)
    if keys.decisive:
        may, every = _DECIDED[op](low, high, number)
        return Said(may, every, True)
    match op:
        case "eq":
            # Between two bounds and neither of them: some rows may have it, and not all do.
            final = keys.known and not ((low == number) | (high == number)).any()
            return Said((low <= number) & (high >= number), False, final)
        case "lt" | "lte":
            return Said(low <= number, False, False)
        case "gt" | "gte" if keys.topped:
            return Said(high >= number, False, False)
    return _NOTHING


# Any: numbers, or arrays of them. Whether some, and whether all between `low` and `high` compare so.
_DECIDED: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "eq": lambda low, high, n: ((low <= n) & (high >= n), (low == n) & (high == n)),
    "neq": lambda low, high, n: ((low != n) | (high != n), (low > n) | (high < n)),
    "lt": lambda low, high, n: (low < n, high < n),
    "lte": lambda low, high, n: (low <= n, high <= n),
    "gt": lambda low, high, n: (high > n, low > n),
    "gte": lambda low, high, n: (high >= n, low >= n),
}
