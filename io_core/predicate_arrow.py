"""How does pyarrow say a bound predicate, over rows in memory?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from io_core.lean_arrow import lean_array, lean_scalar
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

__all__ = ["matching", "to_arrow"]

# Any: an expression of pyarrow's, or a column's values; its functions take both.
Term = Any
_OPERATORS: dict[str, Callable[[Term, pa.Scalar], Term]] = {
    "eq": pc.equal,
    "neq": pc.not_equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}


def matching(rows: pa.Table, predicate: Predicate) -> pa.Table:
    """The rows for which a predicate is true, in their order.

    Not by `Table.filter` of an expression, for which pyarrow imports its datasets, and pandas with them.

    Args:
        rows: Of the schema that the predicate was bound to; further columns are kept.
        predicate: As `bind` returned it.

    Example:
        >>> from io_core.predicate import bind
        >>> rows = pa.table({"x": [1.0, float("nan"), None]})
        >>> matching(rows, bind(Compare("gt", "x", 1), rows.schema)).num_rows
        1
    """
    found = _said(predicate, rows.schema, rows.column)
    if isinstance(found, pa.Scalar):
        return rows if found.as_py() else rows.slice(0, 0)
    # A filter copies all that it keeps.
    return rows if pc.all(found, skip_nulls=False).as_py() else rows.filter(found)


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
    found = _said(predicate, schema, pc.field)
    is_constant = isinstance(found, pa.Scalar)
    return Translation(pc.scalar(found) if is_constant else found, exact=True)


def _said(predicate: Predicate, schema: pa.Schema, column_of: Callable[[str], Term]) -> Term:
    """The predicate over whatever stands for a column; of a constant a scalar."""

    def plain(column: str) -> Term:
        found, dtype = column_of(column), schema.field(column).type
        wide = _with_kernels(dtype)
        return found if wide == dtype else found.cast(wide)

    match predicate:
        case Constant(value):
            return lean_scalar(value, pa.bool_())
        case And(children):
            return _joined(pc.and_kleene, [_said(c, schema, column_of) for c in children])
        case Or(children):
            return _joined(pc.or_kleene, [_said(c, schema, column_of) for c in children])
        case IsNull(column):
            return pc.is_null(column_of(column))
        case Not(IsNull(column)):
            return pc.is_valid(column_of(column))
        case IsNan(column):
            return pc.is_nan(plain(column))
        case Not(IsNan(column)):
            return pc.invert(pc.is_nan(plain(column)))
        case In(column, values):
            return pc.is_in(plain(column), value_set=_value_set(values))
        case Not(In(column, values)):
            # Arrow's is_in is two-valued: a null would come out as "not in".
            inside = pc.is_in(plain(column), value_set=_value_set(values))
            return pc.and_kleene(pc.is_valid(column_of(column)), pc.invert(inside))
        case Compare(op, column, value):
            term = plain(column)
            compared = _OPERATORS[op](term, value.cast(_with_kernels(value.type)))
            if op in ("gt", "gte") and pa.types.is_floating(value.type):
                return pc.or_kleene(compared, pc.is_nan(term))
            return compared
    raise TypeError(f"not a bound predicate: {predicate!r}")


def _joined(join: Callable[[Term, Term], Term], parts: list[Term]) -> Term:
    """The parts as a balanced tree: Arrow walks expressions by recursion."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [join(a, b) for a, b in pairs] + parts[len(parts) & ~1 :]
    return parts[0]


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
        listed = pa.concat_arrays([listed, lean_array([0.0, -0.0], listed.type)])
    return listed.cast(_with_kernels(listed.type))
