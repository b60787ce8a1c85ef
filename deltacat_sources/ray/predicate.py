"""Which predicate the planner may prune by for one of Ray Data's expressions.

Ray applies a pushed filter with pyarrow, so pyarrow's answers are what rows get: `NaN > 5` is
false, `is_in` is two-valued and matches a null that stands in its list, `is_in([0.0])` compares
bits. The planner's predicates mean something else at these points; a translation may only widen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from ray.data.expressions import (
    AliasExpr,
    BinaryExpr,
    ColumnExpr,
    Expr,
    LiteralExpr,
    Operation,
    UnaryExpr,
)

from io_core.errors import PredicateError
from io_core.literal import dump_literal, kind_of, locate
from io_core.predicate import (
    FLIPPED,
    INVERSE,
    Compare,
    In,
    IsNull,
    Not,
    Or,
    admissible,
    conjoin,
    conjuncts,
    dump,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.predicate import CompareOp, Predicate

__all__ = ["Translation", "columns_read", "translate", "translation"]


class Translation(NamedTuple):
    """What became of an expression.

    Attributes:
        predicate: True for every row that the expression keeps, and maybe for more; None is TRUE.
        exact: Whether it is true for no other row.
    """

    predicate: Predicate | None
    exact: bool


_UNKNOWN = Translation(None, exact=False)

_COMPARE: dict[Operation, CompareOp] = {
    Operation.EQ: "eq",
    Operation.NE: "neq",
    Operation.GT: "gt",
    Operation.GE: "gte",
    Operation.LT: "lt",
    Operation.LE: "lte",
}
# Beyond this a double no longer holds every integer.
_EXACT_INTEGERS = 2**53


def translate(expr: Expr, schema: pa.Schema) -> Predicate | None:
    """A predicate that keeps at least the rows that Ray keeps; None where nothing can be said.

    Args:
        expr: A filter expression of `ray.data.expressions`.
        schema: The table's Arrow schema; the predicate binds to it.

    Example:
        >>> from ray.data.expressions import col
        >>> translate(~(col("x") > 5), pa.schema([("x", pa.int64())]))
        Compare(op='lte', column='x', value=5)
        >>> translate(col("x") + 1 > 5, pa.schema([("x", pa.int64())])) is None
        True
    """
    return translation(expr, schema).predicate


def translation(expr: Expr, schema: pa.Schema) -> Translation:
    """As `translate`, with the word whether rows need to be filtered again.

    Example:
        >>> from ray.data.expressions import col
        >>> translation(col("x") > 5, pa.schema([("x", pa.float64())])).exact  # NaN
        False
    """
    found = _walk(expr, schema, negated=False)
    kept = [p for p in conjuncts(found.predicate) if _travels(p) and admissible([p], schema)]
    predicate = conjoin(kept)
    return Translation(predicate, found.exact and predicate == found.predicate)


def columns_read(expr: Expr) -> frozenset[str]:
    """Names of the columns that an expression reads.

    Example:
        >>> from ray.data.expressions import col
        >>> sorted(columns_read((col("a") > 5) & col("b").is_null()))
        ['a', 'b']
    """
    return frozenset(_names(expr))


def _names(node: object) -> Iterator[str]:
    # Whatever kinds of expression Ray adds, they hold their operands in fields.
    match node:
        case ColumnExpr():
            yield node.name
        case Expr():
            for value in vars(node).values():
                yield from _names(value)
        case list() | tuple():
            for value in node:
                yield from _names(value)
        case dict():
            yield from _names(list(node.values()))


def _travels(predicate: Predicate) -> bool:
    """Whether the planner takes it: nesting and lists have limits on the wire."""
    try:
        parse(dump(predicate))
    except PredicateError:
        return False
    return True


def _walk(expr: Expr, schema: pa.Schema, *, negated: bool) -> Translation:
    # Default "unknown": new kinds of expression must widen, not fail.
    match expr:
        case AliasExpr():
            return _walk(expr.expr, schema, negated=negated)
        case ColumnExpr():
            dtype = _type_of(expr, schema)
            if dtype is not None and pa.types.is_boolean(dtype):
                return Translation(Compare("eq", expr.name, not negated), exact=True)
        case UnaryExpr(op=Operation.NOT):
            return _walk(expr.operand, schema, negated=not negated)
        case UnaryExpr(
            op=Operation.IS_NULL | Operation.IS_NOT_NULL, operand=ColumnExpr() as column
        ):
            if _type_of(column, schema) is not None:
                null = IsNull(column.name)
                found = (expr.op is Operation.IS_NULL) != negated
                return Translation(null if found else Not(null), exact=True)
        case BinaryExpr(op=Operation.AND | Operation.OR):
            left = _walk(expr.left, schema, negated=negated)
            right = _walk(expr.right, schema, negated=negated)
            return (
                _both(left, right)
                if (expr.op is Operation.AND) != negated
                else _either(left, right)
            )
        case BinaryExpr():
            return _comparison(expr, schema, negated=negated)
    return _UNKNOWN


def _both(left: Translation, right: Translation) -> Translation:
    predicate = conjoin([left.predicate, right.predicate])
    return Translation(predicate, left.exact and right.exact)


def _either(left: Translation, right: Translation) -> Translation:
    if left.predicate is None or right.predicate is None:
        return _UNKNOWN
    # Flat, since a chain of `|` nests deeper than the wire allows.
    parts = [
        part
        for side in (left.predicate, right.predicate)
        for part in (side.children if isinstance(side, Or) else (side,))
    ]
    return Translation(Or(tuple(parts)), left.exact and right.exact)


def _type_of(column: ColumnExpr, schema: pa.Schema) -> pa.DataType | None:
    index = schema.get_field_index(column.name)
    return None if index < 0 else schema.field(index).type


def _comparison(expr: BinaryExpr, schema: pa.Schema, *, negated: bool) -> Translation:
    flipped = isinstance(expr.left, LiteralExpr)
    column, literal = (expr.right, expr.left) if flipped else (expr.left, expr.right)
    while isinstance(column, AliasExpr):
        column = column.expr
    if not isinstance(column, ColumnExpr) or not isinstance(literal, LiteralExpr):
        return _UNKNOWN
    dtype = _type_of(column, schema)
    if dtype is None or kind_of(dtype) == "other":
        return _UNKNOWN
    if expr.op in _COMPARE:
        op = FLIPPED[_COMPARE[expr.op]] if flipped else _COMPARE[expr.op]
        return _compare(op, column.name, literal.value, dtype, negated=negated)
    if expr.op in (Operation.IN, Operation.NOT_IN) and not flipped:
        inside = (expr.op is Operation.IN) != negated
        return _membership(column.name, literal.value, dtype, inside=inside)
    return _UNKNOWN


# Any: a literal is whatever the user wrote; pyarrow judges it.
def _as_arrow(value: Any) -> pa.Array | None:
    """The values as pyarrow sees them, which gives them a type; None where it takes none."""
    try:
        if isinstance(value, pa.Scalar):
            return pa.repeat(value, 1)
        return pa.array(value if isinstance(value, list) else [value])
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _compare(
    op: CompareOp, column: str, value: Any, dtype: pa.DataType, *, negated: bool
) -> Translation:
    literal = None if isinstance(value, list) else _as_arrow(value)
    if literal is None:
        return _UNKNOWN
    scalar = literal[0]
    if not scalar.is_valid:
        # A comparison with null is null, negated or not.
        return Translation(Compare(op, column, None), exact=True)
    if not _comparable(scalar, dtype):
        return _UNKNOWN
    op = INVERSE[op] if negated else op
    leaf = Compare(op, column, _plain(scalar))
    if not pa.types.is_floating(dtype):
        return Translation(leaf, exact=True)
    if negated and op in ("lt", "lte"):
        # pyarrow's NaN fails `>`, so it passes `not >`; the planner's NaN is above every number.
        return Translation(Or((leaf, Compare("eq", column, math.nan))), exact=True)
    return Translation(leaf, exact=negated or op not in ("gt", "gte"))


def _comparable(scalar: pa.Scalar, dtype: pa.DataType) -> bool:
    """Whether pyarrow and the planner agree on what this literal is beside this type."""
    kind, own = kind_of(dtype), kind_of(scalar.type)
    if kind == "number" and own == "number":
        return _comparable_number(scalar, dtype)
    if kind == "timestamp":
        zoned = own == "timestamp" and scalar.type.tz is not None
        return own in ("timestamp", "date") and zoned == (dtype.tz is not None)
    if kind == "date" and own == "timestamp":
        return scalar.type.tz is None
    return kind == own


def _comparable_number(scalar: pa.Scalar, dtype: pa.DataType) -> bool:
    value = scalar.as_py()
    if pa.types.is_floating(dtype):
        if pa.types.is_decimal(scalar.type):
            return False
        # False for NaN too, of which pyarrow holds that it equals and precedes nothing.
        try:
            narrow = pa.scalar(float(value), pa.float64()).cast(dtype, safe=False)
        except OverflowError:
            return False
        return bool(narrow.as_py() == value)
    if pa.types.is_floating(scalar.type):
        # pyarrow turns the column into floats: lossy for decimals, refused for great integers.
        return bool(pa.types.is_integer(dtype)) and abs(value) < _EXACT_INTEGERS
    return True


def _plain(scalar: pa.Scalar) -> object:
    """A value for a predicate's node; temporal ones as text, which keeps nanoseconds."""
    temporal = kind_of(scalar.type) in ("date", "time", "timestamp", "duration")
    return dump_literal(scalar) if temporal else scalar.as_py()


def _membership(column: str, value: Any, dtype: pa.DataType, *, inside: bool) -> Translation:
    listed = _as_arrow(value)
    if listed is None:
        return _UNKNOWN
    scalars = [scalar for scalar in listed if scalar.is_valid]
    null, exact = listed.null_count > 0, True
    if pa.types.is_floating(dtype):
        # is_in compares bits: it tells -0.0 from 0.0, where the planner does not.
        ordinary = [s for s in scalars if not _is_special(s)]
        exact = len(ordinary) == len(scalars)
        if not inside:
            scalars = ordinary
    if not all(_is_nan(s) or _same_in_list(s, dtype) for s in scalars):
        return _UNKNOWN
    found = In(column, tuple(_plain(s) for s in scalars))
    if inside:
        return Translation(Or((found, IsNull(column))) if null else found, exact)
    present: Predicate = Not(found) if scalars else Not(IsNull(column))
    if null:
        return Translation(present, exact)
    return Translation(Or((present, IsNull(column))), exact) if scalars else _UNKNOWN


def _is_nan(scalar: pa.Scalar) -> bool:
    return bool(pa.types.is_floating(scalar.type)) and math.isnan(scalar.as_py())


def _is_special(scalar: pa.Scalar) -> bool:
    return kind_of(scalar.type) == "number" and (_is_nan(scalar) or scalar.as_py() == 0)


def _same_in_list(scalar: pa.Scalar, dtype: pa.DataType) -> bool:
    """Whether pyarrow's cast of a list to the column's type keeps this value what it is.

    The cast truncates a timestamp to its day, where a comparison would not.
    """
    if not _comparable(scalar, dtype):
        return False
    if pa.types.is_integer(dtype):
        return bool(pa.types.is_integer(scalar.type))
    if kind_of(dtype) in ("date", "time", "timestamp", "duration"):
        return locate(_plain(scalar), dtype).exact
    return True
