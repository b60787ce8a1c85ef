"""What does a Daft expression say to the planner?

`translate` never narrows: every row that Daft keeps satisfies the result. What cannot be said is
left out, so NOT is pushed to the leaves first.

Where Daft's meaning differs from ours, in memory (Daft 0.7.26): -0.0 is below 0.0 and differs from
it; values are compared in the coarser of two time units, timestamps with dates as dates; 64-bit
integers are compared with floats, and uint64 with any other integer, as float64.
"""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import daft
import pyarrow as pa
from daft.expressions import ExpressionsProjection
from daft.expressions.visitor import ExpressionVisitor, PredicateVisitor
from daft.recordbatch import RecordBatch

from io_core.errors import PredicateError
from io_core.literal import dump_literal, kind_of, locate
from io_core.predicate import (
    FLIPPED,
    INVERSE,
    MAX_DEPTH,
    MAX_LIST,
    And,
    Compare,
    Constant,
    In,
    IsNull,
    Not,
    Or,
    bind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from io_core.predicate import CompareOp, Predicate

__all__ = ["columns_read", "translate"]

_FALSE = Constant(False)
_EXACT_IN_FLOAT = 2**53
_DECIMAL_DIGITS_IN_FLOAT = 15
_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_NS = 86_400 * 10**9
_TEMPORAL = ("date", "time", "timestamp", "duration")
_UTC = frozenset({None, "UTC", "Etc/UTC", "+00:00", "Z"})


def translate(expr: daft.Expression, schema: pa.Schema) -> Predicate | None:
    """The narrowest predicate known to hold for every row that Daft keeps; None where that is all.

    Opens nothing. The result binds to `schema`; `Constant(False)` stands alone, never in a tree.

    Args:
        expr: A boolean expression, as users write it or as Daft pushes it down.
        schema: The table's Arrow schema; names of other columns are left out.

    Example:
        >>> x = daft.col("x")
        >>> translate((x > 1) & x.cast("string").startswith("2"), pa.schema([("x", pa.int64())]))
        Compare(op='gt', column='x', value=1)
    """
    try:
        found = _Translator(schema, negated=False).visit(expr)
    except RecursionError:
        # An expression nested hundreds of levels deep: reading more files is the lesser harm.
        return None
    parts = found.children if isinstance(found, And) else () if found is None else (found,)
    return _all(part if _depth(part) < MAX_DEPTH - 1 else None for part in parts)


def _depth(node: Predicate) -> int:
    match node:
        case And(children) | Or(children):
            return 1 + max(map(_depth, children))
        case Not(child):
            return 1 + _depth(child)
    return 1


def _all(parts: Iterable[Predicate | None]) -> Predicate | None:
    """Parts joined by AND; None is TRUE."""
    flat: list[Predicate] = []
    for part in parts:
        if part == _FALSE:
            return _FALSE
        if part is not None:
            flat.extend(part.children if isinstance(part, And) else (part,))
    return None if not flat else flat[0] if len(flat) == 1 else And(tuple(flat))


def _any(parts: Iterable[Predicate | None]) -> Predicate | None:
    """Parts joined by OR; None is TRUE."""
    flat: list[Predicate] = []
    for part in parts:
        if part is None:
            return None
        if part != _FALSE:
            flat.extend(part.children if isinstance(part, Or) else (part,))
    return _FALSE if not flat else flat[0] if len(flat) == 1 else Or(tuple(flat))


class _Literal(NamedTuple):
    """A literal: its expression, and its value as Daft's visitor gives it.

    The value of a cast is not known yet, and temporal values lack their nanoseconds.
    """

    expr: daft.Expression
    # Any: whatever Daft's literals hold.
    value: Any
    is_cast: bool = False

    @property
    def is_null(self) -> bool:
        return self.value is None


class _Operands(ExpressionVisitor["str | _Literal | None"]):
    """Sides of a comparison: a column's name, a literal (casts of it too), or None for all else."""

    def __init__(self, expr: daft.Expression) -> None:
        self._expr = expr

    def visit_col(self, name: str) -> str:
        return name

    # Any: whatever Daft's literals hold.
    def visit_lit(self, value: Any) -> _Literal:
        return _Literal(self._expr, value)

    def visit_alias(self, expr: daft.Expression, _alias: str) -> str | _Literal | None:
        return _operand(expr)

    def visit_cast(self, expr: daft.Expression, _dtype: object) -> _Literal | None:
        # Never of a column: Daft writes the date 2024-01-03 as the text 2024-1-3, for one.
        inner = _operand(expr)
        return _Literal(self._expr, inner.value, True) if isinstance(inner, _Literal) else None

    def visit_function(self, _name: str, _args: list[daft.Expression]) -> None:
        return None

    def visit_coalesce(self, _args: list[daft.Expression]) -> None:
        return None


def _operand(expr: daft.Expression) -> str | _Literal | None:
    try:
        found: str | _Literal | None = _Operands(expr).visit(expr)
    except ValueError:
        # What Daft's visitor raises for the expressions that it does not know.
        return None
    return found


_ONE_ROW = RecordBatch.from_pydict({"_": [0]})


def _evaluate(exprs: Sequence[daft.Expression]) -> list[pa.Scalar | None] | None:
    """The values of literals as Daft types them, null as None; None where Daft cannot say."""
    named = [expr.alias(str(i)) for i, expr in enumerate(exprs)]
    try:
        row = _ONE_ROW.eval_expression_list(ExpressionsProjection(named)).to_arrow_table()
    except (ValueError, pa.ArrowException):
        return None
    return [column[0] if column[0].is_valid else None for column in row.columns]


class _Translator(PredicateVisitor["Predicate | None"]):
    """Folds an expression, or its negation, into a predicate; None is TRUE."""

    def __init__(self, schema: pa.Schema, *, negated: bool) -> None:
        self._schema = schema
        self._negated = negated

    def visit(self, expr: daft.Expression) -> Predicate | None:
        try:
            found: Predicate | None = super().visit(expr)
        except ValueError:
            # What Daft's visitor raises for the expressions that it does not know.
            return None
        return found

    def visit_not(self, expr: daft.Expression) -> Predicate | None:
        return _Translator(self._schema, negated=not self._negated).visit(expr)

    def visit_and(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        return (_any if self._negated else _all)([self.visit(left), self.visit(right)])

    def visit_or(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        return (_all if self._negated else _any)([self.visit(left), self.visit(right)])

    def visit_alias(self, expr: daft.Expression, _alias: str) -> Predicate | None:
        return self.visit(expr)

    def visit_col(self, name: str) -> Predicate | None:
        return self._checked(Compare("eq", name, not self._negated))

    # Any: whatever Daft's literals hold.
    def visit_lit(self, value: Any) -> Predicate | None:
        keeps = value is not None and value is not self._negated
        return None if keeps else _FALSE

    def visit_cast(self, expr: daft.Expression, _dtype: object) -> Predicate | None:
        inner = _operand(expr)
        return _FALSE if isinstance(inner, _Literal) and inner.is_null else None

    def visit_function(self, name: str, args: list[daft.Expression]) -> Predicate | None:
        return self._null_safe(*args) if name == "eq_null_safe" else None

    def visit_coalesce(self, _args: list[daft.Expression]) -> Predicate | None:
        return None

    def visit_equal(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        return self._compare("eq", left, right)

    def visit_not_equal(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        return self._compare("neq", left, right)

    def visit_less_than(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        return self._compare("lt", left, right)

    def visit_less_than_or_equal(
        self, left: daft.Expression, right: daft.Expression
    ) -> Predicate | None:
        return self._compare("lte", left, right)

    def visit_greater_than(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        return self._compare("gt", left, right)

    def visit_greater_than_or_equal(
        self, left: daft.Expression, right: daft.Expression
    ) -> Predicate | None:
        return self._compare("gte", left, right)

    def visit_between(
        self, expr: daft.Expression, lower: daft.Expression, upper: daft.Expression
    ) -> Predicate | None:
        parts = [self._compare("gte", expr, lower), self._compare("lte", expr, upper)]
        return (_any if self._negated else _all)(parts)

    def visit_is_null(self, expr: daft.Expression) -> Predicate | None:
        return self._nullness(expr, is_null=not self._negated)

    def visit_not_null(self, expr: daft.Expression) -> Predicate | None:
        return self._nullness(expr, is_null=self._negated)

    def visit_is_in(self, expr: daft.Expression, items: list[daft.Expression]) -> Predicate | None:
        column = _operand(expr)
        if not isinstance(column, str) or len(items) > MAX_LIST:
            return None
        found = _resolve([_operand(item) for item in items], self._type_of(column))
        if found is None:
            return None
        op: CompareOp = "neq" if self._negated else "eq"
        if self._negated:
            # "not in" a list with a null keeps no row, but for some types it keeps all others.
            found = [value for value in found if value is not None]
        leaves = [_leaf(op, column, value, self._schema) for value in found]
        whole = (_all if self._negated else _any)(leaves)
        plain = [leaf.value for leaf in leaves if isinstance(leaf, Compare) and leaf.op == op]
        if len(plain) < 2 or len(plain) + leaves.count(_FALSE) < len(leaves) or whole == _FALSE:
            return self._checked(whole)
        listed = In(column, tuple(plain))
        return self._checked(Not(listed) if self._negated else listed)

    def _nullness(self, expr: daft.Expression, *, is_null: bool) -> Predicate | None:
        column = _operand(expr)
        if not isinstance(column, str):
            return None
        return self._checked(IsNull(column) if is_null else Not(IsNull(column)))

    def _null_safe(self, left: daft.Expression, right: daft.Expression) -> Predicate | None:
        column, literal = _operand(left), _operand(right)
        if isinstance(column, _Literal):
            column, literal = literal, column
        if not isinstance(column, str):
            return None
        values = _resolve([literal], self._type_of(column))
        if values is None:
            return None
        if values[0] is None:
            return self._checked(Not(IsNull(column)) if self._negated else IsNull(column))
        equal = self._compare("eq", left, right)
        return _any([equal, self._checked(IsNull(column))]) if self._negated else equal

    def _compare(
        self, op: CompareOp, left: daft.Expression, right: daft.Expression
    ) -> Predicate | None:
        sides = _operand(left), _operand(right)
        op = INVERSE[op] if self._negated else op
        match sides:
            case str(column), _Literal() as literal:
                pass
            case _Literal() as literal, str(column):
                op = FLIPPED[op]
            case _:
                return None
        values = _resolve([literal], self._type_of(column))
        return None if values is None else self._checked(_leaf(op, column, values[0], self._schema))

    def _type_of(self, column: str) -> pa.DataType | None:
        return _column_type(self._schema, column)

    def _checked(self, found: Predicate | None) -> Predicate | None:
        """The predicate, unless it does not fit the schema or says nothing."""
        if found is None or found == _FALSE:
            return found
        try:
            bound = bind(found, self._schema)
        except PredicateError:
            return None
        if isinstance(bound, Constant):
            return None if bound.value else bound
        return found


def _column_type(schema: pa.Schema, column: str) -> pa.DataType | None:
    index = schema.get_field_index(column)
    if index < 0:
        return None
    dtype = schema.field(index).type
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _resolve(
    literals: Sequence[str | _Literal | None], dtype: pa.DataType | None
) -> list[Any] | None:
    """Literals' values (null: None), with Daft's casts done; None where one is no literal."""
    kinds = [item for item in literals if isinstance(item, _Literal)]
    if dtype is None or len(kinds) < len(literals):
        return None
    if kind_of(dtype) == "date":
        # Daft reads text and timestamps as dates here; a zone would make it a question of where.
        if any(isinstance(k.value, dt.datetime) and k.value.tzinfo is not None for k in kinds):
            return None
        return _evaluate([k.expr.cast(daft.DataType.date()) for k in kinds])
    plain = (bool, int, float, str, bytes, Decimal)
    if all(k.is_null or (type(k.value) in plain and not k.is_cast) for k in kinds):
        return [k.value for k in kinds]
    return _evaluate([k.expr for k in kinds])


# Any: a Python value, or the scalar that Daft evaluated.
def _leaf(op: CompareOp, column: str, value: Any, schema: pa.Schema) -> Predicate | None:
    """`column op value` as Daft means it, or wider; None is TRUE."""
    dtype = _column_type(schema, column)
    if isinstance(value, pa.Scalar):
        temporal = kind_of(value.type) in _TEMPORAL
        if pa.types.is_floating(value.type) and value.type != pa.float64():
            # Daft may compare in the narrow type.
            return None
        value = value if temporal else value.as_py()
    if value is None:
        return _FALSE
    match kind_of(dtype):
        case "number":
            return _number_leaf(op, column, value, dtype)
        case "timestamp":
            return _timestamp_leaf(op, column, value, dtype)
        case "bool" if isinstance(value, bool):
            return Compare(op, column, value)
        case "text" if isinstance(value, str):
            return Compare(op, column, value)
        case "binary" if isinstance(value, bytes):
            return Compare(op, column, value)
        case "date" | "time" | "duration" as kind if isinstance(value, pa.Scalar):
            return Compare(op, column, dump_literal(value)) if kind_of(value.type) == kind else None
    return None


def _number_leaf(op: CompareOp, column: str, value: object, dtype: pa.DataType) -> Predicate | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if not _is_exact(value, dtype):
        return None
    if value == 0 and (pa.types.is_floating(dtype) or isinstance(value, float)):
        if op == "neq":
            return None
        op = "lte" if op == "lt" else "gte" if op == "gt" else op
    return Compare(op, column, value)


def _is_exact(value: float | Decimal, dtype: pa.DataType) -> bool:
    """Whether Daft compares the column's values with this literal without rounding either."""
    if not math.isfinite(value):
        return isinstance(value, float) and not pa.types.is_decimal(dtype)
    if pa.types.is_floating(dtype):
        return locate(value, pa.float64()).exact and locate(value, dtype).exact
    if pa.types.is_decimal(dtype) and isinstance(value, Decimal):
        return locate(value, dtype).exact
    small = -_EXACT_IN_FLOAT < value < _EXACT_IN_FLOAT
    if pa.types.is_decimal(dtype):
        return small and value == int(value) and dtype.precision <= _DECIMAL_DIGITS_IN_FLOAT
    if isinstance(value, int) and dtype != pa.uint64():
        return small or -(2**63) <= value < 2**63
    return small and (isinstance(value, float) or value == int(value))


def _timestamp_leaf(
    op: CompareOp, column: str, value: object, dtype: pa.DataType
) -> Predicate | None:
    """A comparison of timestamps in the coarser of two units, which Daft cuts the other one to."""
    if not isinstance(value, pa.Scalar):
        return None
    if pa.types.is_date32(value.type):
        literal_unit, fits = _DAY_NS, dtype.tz in _UTC
    else:
        literal_unit = _UNIT_NS[value.type.unit] if pa.types.is_timestamp(value.type) else 1
        fits = pa.types.is_timestamp(value.type) and (value.type.tz is None) == (dtype.tz is None)
    unit = _UNIT_NS[dtype.unit]
    if not fits:
        return None
    at, rest = divmod(value.value * literal_unit, unit)
    width = literal_unit // unit if literal_unit > unit else 0
    if rest or not -(2**63) <= at - width <= at + width < 2**63:
        return None
    before, after = (dump_literal(pa.scalar(at + d, dtype)) for d in (-width, width))
    if width and op in ("eq", "lte"):
        upper = Compare("lt", column, after)
        return _all([Compare("gt", column, before), upper]) if op == "eq" else upper
    if width and op == "gte":
        return Compare("gt", column, before)
    return Compare(op, column, dump_literal(pa.scalar(at, dtype)))


class _Columns(ExpressionVisitor["frozenset[str]"]):
    """Names in an expression. Daft's own visitor for it fails on the lists of `is_in`."""

    def visit_col(self, name: str) -> frozenset[str]:
        return frozenset({name})

    # Any: whatever Daft's literals hold.
    def visit_lit(self, _value: Any) -> frozenset[str]:
        return frozenset()

    def visit_alias(self, expr: daft.Expression, _alias: str) -> frozenset[str]:
        return self._of(expr)

    def visit_cast(self, expr: daft.Expression, _dtype: object) -> frozenset[str]:
        return self._of(expr)

    def visit_function(
        self, _name: str, args: Sequence[daft.Expression | list[daft.Expression]]
    ) -> frozenset[str]:
        flat = (expr for arg in args for expr in (arg if isinstance(arg, list) else [arg]))
        return frozenset().union(*map(self._of, flat))

    def visit_coalesce(self, args: list[daft.Expression]) -> frozenset[str]:
        return frozenset().union(*map(self._of, args))

    def _of(self, expr: daft.Expression) -> frozenset[str]:
        found: frozenset[str] = self.visit(expr)
        return found


def columns_read(expr: daft.Expression) -> frozenset[str] | None:
    """Names of the columns that an expression reads; None where Daft cannot say.

    Example:
        >>> sorted(columns_read(daft.col("x").is_in([1, 2]) & (daft.col("y") > daft.col("z"))))
        ['x', 'y', 'z']
    """
    try:
        found: frozenset[str] = _Columns().visit(expr)
    except (ValueError, RecursionError):
        return None
    return found
