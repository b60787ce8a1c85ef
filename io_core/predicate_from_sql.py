"""What predicate does a text of SQL spell?

What may stand after WHERE, with the columns of one table: comparisons with literals, IN, BETWEEN,
IS [NOT] NULL, IS [NOT] TRUE or FALSE, IS [NOT] DISTINCT FROM, isnan(), AND, OR, NOT, boolean columns,
and of texts how they begin: [NOT] LIKE 'abc%' and starts_with(). Names are taken as they stand, in any
case; `"..."` quotes those that are no words. The column's type resolves a literal, as it does in a
predicate's JSON (`io_core.literal`).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from io_core.errors import PredicateError, UnsupportedError
from io_core.predicate import (
    FLIPPED,
    And,
    Between,
    Compare,
    In,
    IsNull,
    Not,
    Or,
    conjuncts,
)

if TYPE_CHECKING:
    from types import ModuleType

    from io_core.predicate import CompareOp, Predicate

__all__ = ["predicate_from_sql"]

_COMPARE: dict[str, CompareOp] = {
    "EQ": "eq",
    "NEQ": "neq",
    "GT": "gt",
    "GTE": "gte",
    "LT": "lt",
    "LTE": "lte",
}
# Far more than predicates may have; sqlglot's parser goes by recursion.
_LONGEST = 4_000_000
_TEMPORAL = re.compile(r"DATE(TIME)?|TIME(STAMP)?(_?[A-Z0-9]+)?")


def predicate_from_sql(text: str) -> Predicate:
    """The predicate that a text of SQL spells; unbound. Needs the extra `sql`.

    Raises:
        PredicateError: It is no SQL, or says what a predicate cannot; names the part.
        UnsupportedError: sqlglot is not installed.

    Example:
        >>> predicate_from_sql("task = 'pick' AND length >= 32")
        And(children=(Compare(op='eq', column='task', value='pick'),
                      Compare(op='gte', column='length', value=32)))
    """
    sqlglot = _sqlglot()
    if len(text) > _LONGEST:
        raise PredicateError(f"a predicate of {len(text)} characters is too long")
    try:
        statements = sqlglot.parse(text)
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        problem = "it nests too deeply" if isinstance(error, RecursionError) else _problem(error)
        raise PredicateError(f"{_brief(text)} is no SQL predicate: {problem}") from None
    if len(statements) != 1 or statements[0] is None:
        raise PredicateError(f"{_brief(text)} is no SQL predicate: expected one condition")
    try:
        return _predicate(statements[0])
    except RecursionError:
        raise PredicateError(f"{_brief(text)} nests too deeply") from None


def _sqlglot() -> ModuleType:
    try:
        import sqlglot
    except ImportError as error:
        raise UnsupportedError(
            "predicates as SQL need the extra sql: pip install 'deltacat-sources[sql]'; "
            'or pass the predicate as JSON, such as {"gt": ["x", 3]}'
        ) from error
    return sqlglot


# Any: sqlglot's errors and nodes, of a library that is imported late.
def _problem(error: Any) -> str:
    found = error.errors[0] if getattr(error, "errors", None) else {}
    described = found.get("description") or str(error)
    if described.startswith("Required keyword"):
        # It goes on with a class of sqlglot's.
        described = "something is missing"
    near = found.get("highlight")
    return described + (f", near {near!r}" if near else "")


def _brief(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _refused(node: Any, hint: str = "") -> PredicateError:
    text = node.sql() if hasattr(node, "sql") else str(node)
    return PredicateError(
        f"the SQL {_brief(text)} is no predicate: "
        f"{hint or 'compare columns with literals, and join by AND, OR and NOT'}"
    )


def _predicate(node: Any) -> Predicate:
    match type(node).__name__:
        case "Paren":
            return _predicate(node.this)
        case "And":
            return And(tuple(p for side in _flat(node) for p in conjuncts(_predicate(side))))
        case "Or":
            return Or(tuple(p for side in _flat(node) for p in _disjuncts(_predicate(side))))
        case "Not":
            return Not(_predicate(node.this))
        case "Column":
            return Compare("eq", _column(node), True)
        case "Is":
            return _is(node)
        case "IsNan":
            return Compare("eq", _column(node.this), float("nan"))
        case "NullSafeEQ" | "NullSafeNEQ" as name:
            return _same(node) if name == "NullSafeEQ" else Not(_same(node))
        case "Between":
            if node.args.get("symmetric"):
                raise _refused(node, "leave SYMMETRIC out")
            low, high = (_literal(node.args[side]) for side in ("low", "high"))
            return Between(_column(node.this), low, high)
        case "Like":
            return Not(_like(node)) if node.args.get("negate") else _like(node)
        case "StartsWith":
            return _begins(node, _column(node.this), _text(node.expression))
        case "In":
            if set(filter(node.args.get, node.args)) - {"this", "expressions"}:
                raise _refused(node, "list the values, or join with a table of them")
            return In(_column(node.this), tuple(map(_literal, node.expressions)))
        case name if name in _COMPARE:
            return _compare(_COMPARE[name], node)
    raise _refused(node)


def _flat(node: Any) -> list[Any]:
    """The parts of a chain of one operator, which nests to the left, without recursion."""
    parts, kind = [], type(node)
    while isinstance(node, kind):
        parts.append(node.expression)
        node = node.this
    return [node, *reversed(parts)]


def _disjuncts(predicate: Predicate) -> tuple[Predicate, ...]:
    return predicate.children if isinstance(predicate, Or) else (predicate,)


def _compare(op: CompareOp, node: Any) -> Predicate:
    left, right = _bare(node.this), _bare(node.expression)
    if _is_column(right) and not _is_column(left):
        left, right, op = right, left, FLIPPED[op]
    return Compare(op, _column(left), _literal(right))


def _like(node: Any) -> Predicate:
    """A text as it stands, or how it begins: what else a pattern says is no range."""
    if set(filter(node.args.get, node.args)) - {"this", "expression", "negate"}:
        raise _refused(node)
    column, pattern = _column(node.this), _text(node.expression)
    begin = pattern.rstrip("%")
    if set(begin) & set("%_\\"):
        raise _refused(node, "of a pattern only the end may be open, as in LIKE 'abc%'")
    return _begins(node, column, begin) if begin != pattern else Compare("eq", column, begin)


def _begins(node: Any, column: str, begin: str) -> Predicate:
    if not begin:
        raise _refused(node, f"every text begins so; ask for {column} IS NOT NULL")
    first = Compare("gte", column, begin)
    after = _after(begin)
    return first if after is None else And((first, Compare("lt", column, after)))


def _after(begin: str) -> str | None:
    """The first text after all that begin so; None where there is none.

    Example:
        >>> _after("ab"), _after("a" + chr(0x10FFFF)), _after(chr(0xD7FF))
        ('ac', 'b', '\ue000')
    """
    begin = begin.rstrip(chr(0x10FFFF))
    if not begin:
        return None
    # Between these two lie surrogates, which no text holds.
    last = 0xE000 if begin[-1] == chr(0xD7FF) else ord(begin[-1]) + 1
    return begin[:-1] + chr(last)


def _text(node: Any) -> str:
    found = _literal(node)
    if not isinstance(found, str):
        raise _refused(node, "a pattern is a text")
    return found


def _is(node: Any) -> Predicate:
    column, value = _column(node.this), _literal(node.expression)
    if value is None:
        return IsNull(column)
    if isinstance(value, bool):
        return _known(Compare("eq", column, value))
    raise _refused(node, "after IS stands NULL, TRUE or FALSE")


def _same(node: Any) -> Predicate:
    value = _literal(node.expression)
    column = _column(node.this)
    return IsNull(column) if value is None else _known(Compare("eq", column, value))


def _known(leaf: Compare) -> Predicate:
    """The comparison, FALSE where it would be unknown."""
    return And((leaf, Not(IsNull(leaf.column))))


def _bare(node: Any) -> Any:
    while type(node).__name__ == "Paren":
        node = node.this
    return node


def _is_column(node: Any) -> bool:
    return type(node).__name__ == "Column"


def _column(node: Any) -> str:
    node = _bare(node)
    if not _is_column(node):
        raise _refused(node, "on one side of a comparison stands a column")
    if node.args.get("table"):
        raise _refused(node, "name a column alone, without a table before it")
    return str(node.name)


def _literal(node: Any) -> object:
    node = _bare(node)
    match type(node).__name__:
        case "Literal":
            return str(node.this) if node.is_string else _number(str(node.this))
        case "Neg" if (
            type(_bare(node.this)).__name__ == "Literal" and not _bare(node.this).is_string
        ):
            return -_number(str(_bare(node.this).this))
        case "Boolean":
            return bool(node.this)
        case "Null":
            return None
        case "Cast" if node.this.is_string and _TEMPORAL.fullmatch(str(node.to.this.value)):
            # DATE '2025-03-01': the column's type reads the text.
            return str(node.this.this)
        case "Column":
            raise _refused(node, "columns are compared with literals; a text stands in '...'")
    raise _refused(node, "only literals can be compared with")


def _number(text: str) -> int | float | Decimal:
    """An integer, the float whose shortest form this is, or else the decimal number."""
    if text.isdigit():
        return int(text)
    exact, near = Decimal(text), float(text)
    return near if Decimal(repr(near)) == exact else exact
