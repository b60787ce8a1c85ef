"""What is a predicate of ours in Polars' expressions? Exactly what it means in Arrow."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from io_core.predicate import And, Compare, Constant, In, IsNan, IsNull, Not, Or

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.predicate import CompareOp, Predicate

__all__ = ["COMPARISONS", "from_predicate"]

COMPARISONS: dict[CompareOp, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "neq": operator.ne,
}


def from_predicate(predicate: Predicate, schema: pa.Schema) -> pl.Expr:
    """The Polars expression with exactly the predicate's meaning.

    Polars agrees with our predicates on NaN, on zeros and on nulls; literals keep their full
    precision.

    Args:
        predicate: As `io_core.predicate.bind` returned it for the same schema.
        schema: The table's Arrow schema.

    Example:
        >>> from io_core.predicate import bind
        >>> schema = pa.schema([("x", pa.int64())])
        >>> tree = bind(Compare("gt", "x", 1.5), schema)
        >>> pl.DataFrame({"x": [1, 2, None]}).filter(from_predicate(tree, schema))["x"].to_list()
        [2]
    """
    match predicate:
        case Constant(value):
            return pl.lit(value)
        case And(children):
            return functools.reduce(operator.and_, (from_predicate(c, schema) for c in children))
        case Or(children):
            return functools.reduce(operator.or_, (from_predicate(c, schema) for c in children))
        case Not(child):
            return ~from_predicate(child, schema)
        case IsNull(column):
            return pl.col(column).is_null()
        case IsNan(column):
            return pl.col(column).is_nan()
        case In(column, values):
            listed = pl.concat([_series(v) for v in values])
            return _value_column(column, schema).is_in(pl.lit(listed.implode()))
        case Compare(op, column, value):
            return COMPARISONS[op](_value_column(column, schema), _scalar(value))
    raise TypeError(f"not a bound predicate: {predicate!r}")


def _value_column(name: str, schema: pa.Schema) -> pl.Expr:
    # Polars reads dictionaries of text as categories, which it does not order as text.
    is_coded = pa.types.is_dictionary(schema.field(name).type)
    return pl.col(name).cast(pl.String) if is_coded else pl.col(name)


def _series(value: pa.Scalar) -> pl.Series:
    found = pl.from_arrow(pa.repeat(value, 1))
    assert isinstance(found, pl.Series)
    return found


def _scalar(value: pa.Scalar) -> pl.Expr:
    series = _series(value)
    if series.dtype.is_temporal():
        # Python's own types would drop the nanoseconds.
        return pl.lit(series.to_physical()[0]).cast(series.dtype)
    return pl.lit(series[0], dtype=series.dtype)
