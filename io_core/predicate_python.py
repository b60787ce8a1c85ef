"""How does plain Python say a bound predicate: does it keep this row?"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.literal import ordinal
from io_core.predicate import (
    And,
    Compare,
    Constant,
    In,
    IsNan,
    IsNull,
    Not,
    Or,
    Predicate,
    Translation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["to_python"]

# Any: values of whichever type the column has, and the keys by which they compare.

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
# Above every number, and equal to itself.
_NAN = (1, 0)


def to_python(
    predicate: Predicate, schema: pa.Schema
) -> Translation[Callable[[Mapping[str, Any]], bool]]:
    """A function that says of one row whether the predicate keeps it: TRUE, not FALSE or unknown.

    A row maps each column to a Python value of its type, or to the `pyarrow.Scalar`, which holds
    nanoseconds too. Slow and plain, for single rows and for checking what is fast.

    Args:
        predicate: As `bind` returned it for the same schema.
        schema: Of the rows.

    Example:
        >>> from io_core.predicate import bind
        >>> schema = pa.schema([("x", pa.float64())])
        >>> keeps = to_python(bind(Compare("gt", "x", 1), schema), schema)
        >>> [keeps.expression({"x": x}) for x in (0.5, 2.0, float("nan"), None)], keeps.exact
        ([False, True, True, False], True)
    """
    return Translation(_function(predicate, schema), exact=True)


def _function(predicate: Predicate, schema: pa.Schema) -> Callable[[Mapping[str, Any]], bool]:
    match predicate:
        case Constant(value):
            return lambda _: value
        case And(children):
            parts = [_function(c, schema) for c in children]
            return lambda row: all(part(row) for part in parts)
        case Or(children):
            parts = [_function(c, schema) for c in children]
            return lambda row: any(part(row) for part in parts)
    leaf = predicate.child if isinstance(predicate, Not) else predicate
    if isinstance(leaf, Not | Constant | And | Or):
        raise TypeError(f"not a bound predicate: {predicate!r}")
    column, test = leaf.column, _test(predicate)
    dtype = schema.field(column).type
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return lambda row: test(_key(row[column], dtype))


def _test(leaf: Predicate) -> Callable[[Any], bool]:
    match leaf:
        case IsNull():
            return lambda key: key is None
        case Not(IsNull()):
            return lambda key: key is not None
        case IsNan():
            return lambda key: key == _NAN
        case Not(IsNan()):
            return lambda key: key is not None and key != _NAN
        case Compare(op, _, value):
            compare, literal = _OPERATORS[op], _key(value, value.type)
            return lambda key: key is not None and compare(key, literal)
        case In(_, values):
            inside = {_key(v, v.type) for v in values}
            return lambda key: key is not None and key in inside
        case Not(In(_, values)):
            outside = {_key(v, v.type) for v in values}
            return lambda key: key is not None and key not in outside
    raise TypeError(f"not a bound predicate: {leaf!r}")


def _key(value: Any, dtype: pa.DataType) -> tuple[int, Any] | None:
    if value is None:
        return None
    if pa.types.is_nested(dtype):
        # Asked for null alone.
        return None if isinstance(value, pa.Scalar) and not value.is_valid else (0, value)
    scalar = value if isinstance(value, pa.Scalar) else pa.scalar(value, dtype)
    found = ordinal(scalar)
    if isinstance(found, float) and math.isnan(found):
        return _NAN
    return None if found is None else (0, found)
