"""How does pyarrow say a bound predicate, over rows in memory?"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

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
    from collections.abc import Callable

__all__ = ["to_arrow"]

# Any: pyarrow's untyped expressions.
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def to_arrow(predicate: Predicate, schema: pa.Schema) -> Translation[pc.Expression]:
    """A pyarrow expression with exactly the predicate's meaning over rows in memory.

    Give it to `Table.filter`, never to a Parquet reader: a reader's row-group pruning does not
    know that NaN is above every number.

    Args:
        predicate: As `bind` returned it for the same schema.
        schema: Of the rows to filter.

    Example:
        >>> from io_core.predicate import bind
        >>> rows = pa.table({"x": [1.0, float("nan"), None]})
        >>> said = to_arrow(bind(Compare("gt", "x", 1), rows.schema), rows.schema)
        >>> rows.filter(said.expression).num_rows, said.exact
        (1, True)
    """
    return Translation(_expression(predicate, schema), exact=True)


def _expression(predicate: Predicate, schema: pa.Schema) -> pc.Expression:
    match predicate:
        case Constant(value):
            return pc.scalar(value)
        case And(children):
            return _joined(operator.and_, [_expression(c, schema) for c in children])
        case Or(children):
            return _joined(operator.or_, [_expression(c, schema) for c in children])
        case IsNull(column):
            return pc.is_null(pc.field(column))
        case Not(IsNull(column)):
            return pc.is_valid(pc.field(column))
        case IsNan(column):
            return pc.is_nan(_field(column, schema))
        case Not(IsNan(column)):
            return ~pc.is_nan(_field(column, schema))
        case In(column, values):
            return pc.is_in(_field(column, schema), _value_set(values))
        case Not(In(column, values)):
            # Arrow's is_in is two-valued: a null would come out as "not in".
            inside = pc.is_in(_field(column, schema), _value_set(values))
            return pc.is_valid(pc.field(column)) & ~inside
        case Compare(op, column, value):
            field = _field(column, schema)
            expression = _OPERATORS[op](field, value.cast(_with_kernels(value.type)))
            if op in ("gt", "gte") and pa.types.is_floating(value.type):
                return expression | pc.is_nan(field)
            return expression
    raise TypeError(f"not a bound predicate: {predicate!r}")


def _joined(join: Callable[[Any, Any], Any], parts: list[pc.Expression]) -> pc.Expression:
    """The parts as a balanced tree: Arrow walks expressions by recursion."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [join(a, b) for a, b in pairs] + parts[len(parts) & ~1 :]
    return parts[0]


def _field(column: str, schema: pa.Schema) -> pc.Expression:
    dtype = schema.field(column).type
    wide = _with_kernels(dtype)
    return pc.field(column) if wide == dtype else pc.field(column).cast(wide)


def _with_kernels(dtype: pa.DataType) -> pa.DataType:
    """The type of the same values that all of Arrow's kernels know."""
    t = pa.types
    if t.is_dictionary(dtype):
        return _with_kernels(dtype.value_type)
    if t.is_string_view(dtype):
        return pa.large_string()
    if t.is_binary_view(dtype):
        return pa.large_binary()
    if t.is_decimal32(dtype) or t.is_decimal64(dtype):
        return pa.decimal128(dtype.precision, dtype.scale)
    return dtype


def _value_set(values: tuple[pa.Scalar, ...]) -> pa.Array:
    listed = pa.concat_arrays([pa.repeat(v, 1) for v in values])
    if pa.types.is_floating(listed.type) and any(v.as_py() == 0 for v in values):
        # is_in compares bits: both zeros are needed for -0.0 == 0.0.
        listed = pa.concat_arrays([listed, pa.array([0.0, -0.0], listed.type)])
    return listed.cast(_with_kernels(listed.type))
