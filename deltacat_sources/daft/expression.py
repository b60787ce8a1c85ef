"""How does Daft say a predicate of ours? With exactly its meaning.

Where Daft's own differs from it is written down in `deltacat_sources.daft.predicate`, which goes the
other way.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import daft
import pyarrow as pa

from io_core.literal import kind_of
from io_core.predicate import And, Between, Compare, Constant, In, IsNan, IsNull, Not, Or

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.predicate import CompareOp, Predicate

__all__ = ["to_daft"]

_TEMPORAL = ("date", "time", "timestamp", "duration")

_OPERATORS: dict[CompareOp, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def to_daft(predicate: Predicate) -> daft.Expression:
    """A Daft expression with exactly the predicate's meaning, over files as over rows in memory.

    Comparisons that NaN can satisfy ask for NaN by a function, which keeps Daft from pushing them
    into its Parquet reader: that one skips row groups by footers that leave NaN out.

    Args:
        predicate: As `bind` returned it for the schema that Daft reads with.

    Example:
        >>> from io_core.predicate import bind
        >>> print(to_daft(bind(Compare("gt", "x", 1.5), pa.schema([("x", pa.float64())]))))
        [col(x) > cast(lit(1.5) as Float64)] | is_nan(col(x))
    """
    match predicate:
        case Constant(value):
            return daft.lit(value)
        case And(children):
            return functools.reduce(operator.and_, map(to_daft, children))
        case Or(children):
            return functools.reduce(operator.or_, map(to_daft, children))
        case IsNull(column):
            return daft.col(column).is_null()
        case IsNan(column):
            return daft.functions.is_nan(daft.col(column))
        case Not(child):
            return _negation(child)
        case In(column, values):
            return _membership(column, values)
        case Compare(op, column, value):
            found = _comparison(op, column, value)
            if op in ("gt", "gte", "neq") and pa.types.is_floating(value.type):
                return found | daft.functions.is_nan(daft.col(column))
            return found
        case Between():
            raise TypeError(f"not a bound predicate: {predicate!r}")


def _negation(child: Predicate) -> daft.Expression:
    found = ~to_daft(child)
    if isinstance(child, In) and pa.types.is_floating(child.values[0].type):
        return found | daft.functions.is_nan(daft.col(child.column))
    return found


def _comparison(op: CompareOp, column: str, value: pa.Scalar) -> daft.Expression:
    left = daft.col(column)
    if pa.types.is_floating(value.type) and value.as_py() == 0:
        # For Daft -0.0 lies below 0.0. Two equalities will not do: its optimiser takes them for one.
        low, high = (_literal(pa.scalar(z, pa.float64()).cast(value.type)) for z in (-0.0, 0.0))
        zeros: dict[CompareOp, daft.Expression] = {
            "eq": (left >= low) & (left <= high),
            "neq": (left < low) | (left > high),
            "gt": left > high,
            "gte": left >= low,
            "lt": left < low,
            "lte": left <= high,
        }
        return zeros[op]
    found: daft.Expression = _OPERATORS[op](left, _literal(value))
    return found


def _membership(column: str, values: tuple[pa.Scalar, ...]) -> daft.Expression:
    found = daft.col(column).is_in([_literal(value) for value in values])
    if pa.types.is_floating(values[0].type):
        # Daft holds a list's two zeros for one, and a column's for two.
        zeros = [_comparison("eq", column, value) for value in values if value.as_py() == 0]
        return functools.reduce(operator.or_, zeros, found)
    return found


def _literal(value: pa.Scalar) -> daft.Expression:
    """A literal of the scalar's own type; temporal ones through integers, which lose nothing."""
    kind = kind_of(value.type)
    found = daft.lit(value.value if kind in _TEMPORAL else value.as_py())
    if kind in ("text", "binary", "bool") and not pa.types.is_fixed_size_binary(value.type):
        return found
    return found.cast(daft.DataType.from_arrow_type(value.type))
