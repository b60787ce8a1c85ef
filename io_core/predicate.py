"""What is a predicate: its tree, its JSON form, and what it means bound to a table's schema?

Meaning, in every engine: SQL's three-valued logic, rows whose result is TRUE are kept; nulls in
an `in` list are ignored and `in` never matches a null; NaN is above every number and equals
itself; -0.0 equals 0.0.

`parse` reads the wire's AST, `dump` writes it. `bind` resolves columns and literals and returns a
tree in negation normal form (NOT only directly on `In`, `IsNull` and `IsNan`), whose literals are
`pyarrow.Scalar` of the column's own type: that is what pruning, `simplify` and the translations
(`predicate_arrow`, `predicate_python`, `predicate_lance`) take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from io_core.errors import PredicateError, nearest
from io_core.literal import Located, dump_literal, kind_of, load_array, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "FLIPPED",
    "INVERSE",
    "And",
    "Between",
    "Compare",
    "CompareOp",
    "Constant",
    "In",
    "IsNan",
    "IsNull",
    "Not",
    "Or",
    "Predicate",
    "Translation",
    "admissible",
    "bind",
    "columns_of",
    "conjoin",
    "conjuncts",
    "dump",
    "negate",
    "parse",
    "renamed",
    "restrict",
]

MAX_DEPTH = 64
# Arrow's recursion over 10,000 leaves ends the process.
MAX_NODES = 2_000
MAX_LIST = 100_000
# In all lists of a tree together.
MAX_VALUES = 200_000

CompareOp = Literal["eq", "neq", "gt", "gte", "lt", "lte"]

# NOT of a comparison, and the same comparison with its sides swapped.
INVERSE: dict[CompareOp, CompareOp] = {
    "eq": "neq",
    "neq": "eq",
    "gt": "lte",
    "lte": "gt",
    "lt": "gte",
    "gte": "lt",
}
FLIPPED: dict[CompareOp, CompareOp] = {
    "eq": "eq",
    "neq": "neq",
    "gt": "lt",
    "gte": "lte",
    "lt": "gt",
    "lte": "gte",
}


class Compare(msgspec.Struct, frozen=True):
    """`column op value`; unknown where the column or the value is null."""

    op: CompareOp
    column: str
    # Any: a Python value before binding, a pyarrow.Scalar after.
    value: Any


class In(msgspec.Struct, frozen=True):
    """Whether the column equals one of `values`; nulls among them are ignored."""

    column: str
    values: tuple[Any, ...]


class Between(msgspec.Struct, frozen=True):
    """`low <= column <= high`; binding turns it into two comparisons."""

    column: str
    low: Any
    high: Any


class IsNull(msgspec.Struct, frozen=True):
    """Whether the column is null; NaN is not null."""

    column: str


class IsNan(msgspec.Struct, frozen=True):
    """Whether the column is NaN; made by binding a comparison with NaN, absent from the wire."""

    column: str


class And(msgspec.Struct, frozen=True):
    """TRUE where all are TRUE, FALSE where one is FALSE, else unknown."""

    children: tuple[Predicate, ...]


class Or(msgspec.Struct, frozen=True):
    """TRUE where one is TRUE, FALSE where all are FALSE, else unknown."""

    children: tuple[Predicate, ...]


class Not(msgspec.Struct, frozen=True):
    """The opposite; unknown stays unknown."""

    child: Predicate


class Constant(msgspec.Struct, frozen=True):
    """TRUE or FALSE (or unknown, which keeps no row either) whatever the row; made by binding."""

    value: bool


Predicate = Compare | In | Between | IsNull | IsNan | And | Or | Not | Constant
_Said = TypeVar("_Said")


class Translation(NamedTuple, Generic[_Said]):
    """A predicate in another language.

    Attributes:
        expression: True for every row that the predicate keeps, and maybe for more.
        exact: Whether it is true for no other row.
    """

    expression: _Said
    exact: bool


# An abstract class takes ten times as long to answer for a dictionary as `dict` does.
_OBJECTS = (dict, Mapping)
_PLAIN = (str, int, float)


def parse(tree: object) -> Predicate | None:
    """Read the wire's AST; None and `{}` are no predicate.

    Raises:
        PredicateError: Malformed; the message names the place, as in `$.and[1].gt`.

    Example:
        >>> parse({"gt": ["x", 3]})
        Compare(op='gt', column='x', value=3)
    """
    if tree is None or tree == {}:
        return None
    _check_size(tree)
    return _parse(tree, "$", 0)


def _check_size(tree: object) -> None:
    """Count before anything is built of it; what is malformed is told by place, later on."""
    nodes, values, waiting = 0, 0, [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _PLAIN) or not isinstance(node, _OBJECTS):
            continue
        nodes += 1
        for op, body in node.items():
            parts = list(body) if isinstance(body, list | tuple) else [body]
            if op == "in" and len(parts) == 2 and isinstance(parts[1], list | tuple):
                values += len(parts[1])
            waiting += parts
        if nodes > MAX_NODES or values > MAX_VALUES:
            raise PredicateError(
                f"predicate too large: at most {MAX_NODES} nodes and {MAX_VALUES} listed values "
                "are allowed; split the read, or join with a table of the values"
            )


def _parse(node: object, place: str, depth: int) -> Predicate:
    if depth > MAX_DEPTH:
        raise PredicateError(f"predicate nests deeper than {MAX_DEPTH} levels at {place}")
    if not isinstance(node, _OBJECTS) or len(node) != 1:
        raise PredicateError(
            f"at {place}: expected an object with exactly one operator, got {_brief(node)}"
        )
    op, body = next(iter(node.items()))
    here = f"{place}.{op}"
    match op:
        case "eq" | "neq" | "gt" | "gte" | "lt" | "lte":
            column, value = _operands(body, here, 2)
            return Compare(op, column, _scalar(value, here))
        case "between":
            column, low, high = _operands(body, here, 3)
            return Between(column, _scalar(low, here), _scalar(high, here))
        case "in":
            column, values = _operands(body, here, 2)
            return In(column, _list(values, here))
        case "is_null":
            if not isinstance(body, str):
                raise PredicateError(f"at {here}: expected a column name, got {_brief(body)}")
            return IsNull(body)
        case "not":
            return Not(_parse(body, here, depth + 1))
        case "and" | "or":
            if not isinstance(body, list | tuple) or len(body) < 2:
                raise PredicateError(f"at {here}: expected two or more nodes, got {_brief(body)}")
            parts = tuple(_parse(n, f"{here}[{i}]", depth + 1) for i, n in enumerate(body))
            return And(parts) if op == "and" else Or(parts)
    known = "eq neq gt gte lt lte in between and or not is_null"
    raise PredicateError(
        f"at {place}: unknown operator {op!r}{nearest(str(op), known.split())}; known: {known}"
    )


def _operands(body: object, place: str, count: int) -> list[Any]:
    if not isinstance(body, list | tuple) or len(body) != count or not isinstance(body[0], str):
        shape = {2: "[column, value]", 3: "[column, low, high]"}[count]
        raise PredicateError(f"at {place}: expected {shape}, got {_brief(body)}")
    return list(body)


def _list(values: object, place: str) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise PredicateError(f"at {place}: expected a list of values, got {_brief(values)}")
    if len(values) > MAX_LIST:
        raise PredicateError(f"at {place}: {len(values)} values; at most {MAX_LIST} are allowed")
    return tuple(_scalar(v, place) for v in values)


def _scalar(value: object, place: str) -> object:
    try:
        dump_literal(value)
    except ValueError as error:
        raise PredicateError(f"at {place}: {error}") from None
    return value


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def dump(predicate: Predicate | None) -> dict[str, Any] | None:
    """Write the wire's AST; None stays None. `Constant` and `IsNan` take their nearest wire form.

    Example:
        >>> dump(Not(In("x", (1, float("nan")))))
        {'not': {'in': ['x', [1, 'NaN']]}}
    """
    match predicate:
        case None:
            return None
        case Compare(op, column, value):
            return {op: [column, dump_literal(value)]}
        case In(column, values):
            return {"in": [column, [dump_literal(v) for v in values]]}
        case Between(column, low, high):
            return {"between": [column, dump_literal(low), dump_literal(high)]}
        case IsNull(column):
            return {"is_null": column}
        case IsNan(column):
            return {"eq": [column, "NaN"]}
        case Not(child):
            return {"not": dump(child)}
        case And(children) | Or(children):
            return {"and" if isinstance(predicate, And) else "or": [dump(c) for c in children]}
        case Constant():
            raise ValueError(
                "TRUE and FALSE have no wire form: leave TRUE out, answer FALSE with no rows"
            )
    raise TypeError(f"not a predicate: {predicate!r}")


def conjoin(parts: Iterable[Predicate | None]) -> Predicate | None:
    """The parts joined by AND, flattened; None stands for TRUE on both sides.

    Example:
        >>> conjoin([None, IsNull("x")])
        IsNull(column='x')
    """
    flat = tuple(leaf for part in parts for leaf in conjuncts(part))
    return None if not flat else flat[0] if len(flat) == 1 else And(flat)


def conjuncts(predicate: Predicate | None) -> tuple[Predicate, ...]:
    """The parts of the top-level AND; none for TRUE."""
    match predicate:
        case None:
            return ()
        case And(children):
            return tuple(leaf for child in children for leaf in conjuncts(child))
    return (predicate,)


def admissible(parts: Iterable[Predicate | None], schema: pa.Schema) -> Predicate | None:
    """The conjunction of those parts that fit `schema`; what does not is left out, which widens.

    For predicates translated from an engine's own expressions, where a literal of another kind
    than its column is the engine's to judge.
    """
    kept = []
    for part in (leaf for p in parts for leaf in conjuncts(p)):
        try:
            bound = bind(part, schema)
        except PredicateError:
            continue
        if bound != Constant(True):
            kept.append(part)
    return conjoin(kept)


def negate(predicate: Predicate) -> Predicate:
    """The opposite of an unbound predicate, with NOT only on its leaves; unknown stays unknown.

    Not for what `bind` returned: its `Constant(False)` stands for unknown too.

    Example:
        >>> negate(And((Compare("lt", "x", 1), Not(IsNull("y")))))
        Or(children=(Compare(op='gte', column='x', value=1), IsNull(column='y')))
    """
    match predicate:
        case Not(child):
            return _positive(child)
        case And(children):
            return Or(tuple(map(negate, children)))
        case Or(children):
            return And(tuple(map(negate, children)))
        case Compare(op, column, value):
            return Compare(INVERSE[op], column, value)
        case Between(column, low, high):
            return Or((Compare("lt", column, low), Compare("gt", column, high)))
        case Constant(value):
            return Constant(not value)
    return Not(predicate)


def _positive(predicate: Predicate) -> Predicate:
    match predicate:
        case Not(child):
            return negate(child)
        case And(children) | Or(children):
            return type(predicate)(tuple(map(_positive, children)))
    return predicate


def columns_of(predicate: Predicate | None) -> frozenset[str]:
    """The names of the columns that the predicate reads."""
    match predicate:
        case None | Constant():
            return frozenset()
        case And(children) | Or(children):
            return frozenset().union(*map(columns_of, children))
        case Not(child):
            return columns_of(child)
    return frozenset({predicate.column})


def renamed(predicate: Predicate, name: Callable[[str], str]) -> Predicate:
    """The same said of columns of other names."""
    match predicate:
        case Constant():
            return predicate
        case And(children) | Or(children):
            return type(predicate)(tuple(renamed(child, name) for child in children))
        case Not(child):
            return Not(renamed(child, name))
    return msgspec.structs.replace(predicate, column=name(predicate.column))


def restrict(predicate: Predicate, columns: frozenset[str]) -> Predicate:
    """Widen a bound predicate to what `columns` alone decide: other leaves become TRUE.

    Sound because a bound tree has no NOT above a leaf that is widened.
    """
    match predicate:
        case And(children):
            return _and(restrict(c, columns) for c in children)
        case Or(children):
            return _or(restrict(c, columns) for c in children)
    return predicate if columns_of(predicate) <= columns else Constant(True)


def bind(predicate: Predicate, schema: pa.Schema) -> Predicate:
    """Resolve columns and literals against `schema`, pushing NOT down to the leaves.

    A literal that the column's type cannot hold is rewritten in order: on an integer column
    `> 1.5` becomes `> 1` and `== 1.5` FALSE.

    Args:
        predicate: As parsed, or built from the node classes.
        schema: The table's Arrow schema.

    Raises:
        PredicateError: An unknown column (with the nearest name), or a literal of another kind
            than its column; names the place in the tree.

    Example:
        >>> bind(Not(Compare("gt", "x", 1.5)), pa.schema([("x", pa.int32())]))
        Compare(op='lte', column='x', value=<pyarrow.Int32Scalar: 1>)
    """
    _check_depth(predicate)
    return _bind(predicate, schema, "$", negated=False)


def _check_depth(predicate: Predicate) -> None:
    """As `parse` does, for trees that were built from the node classes."""
    level: list[Predicate] = [predicate]
    for _ in range(MAX_DEPTH + 1):
        level = [below for node in level for below in _children(node)]
        if not level:
            return
    raise PredicateError(f"predicate nests deeper than {MAX_DEPTH} levels")


def _children(node: Predicate) -> tuple[Predicate, ...]:
    match node:
        case And(children) | Or(children):
            return children
        case Not(child):
            return (child,)
    return ()


def _bind(node: Predicate, schema: pa.Schema, place: str, *, negated: bool) -> Predicate:
    match node:
        case Not(child):
            return _bind(child, schema, f"{place}.not", negated=not negated)
        case And(children) | Or(children):
            is_and = isinstance(node, And)
            here = f"{place}.{'and' if is_and else 'or'}"
            parts = [
                _bind(c, schema, f"{here}[{i}]", negated=negated) for i, c in enumerate(children)
            ]
            return _and(parts) if is_and != negated else _or(parts)
        case Between(column, low, high):
            both = And((Compare("gte", column, low), Compare("lte", column, high)))
            return _bind(both, schema, f"{place}.between", negated=negated)
        case Constant(value):
            return Constant(value != negated)
        case IsNull(column) | IsNan(column):
            _type_of(column, schema, place)
            return Not(node) if negated else node
        case Compare(op, column, value):
            op = INVERSE[op] if negated else op
            return _bind_compare(op, column, value, schema, f"{place}.{node.op}")
        case In(column, values):
            return _bind_in(column, values, schema, f"{place}.in", negated=negated)
    raise TypeError(f"not a predicate: {node!r}")


def _type_of(column: str, schema: pa.Schema, place: str) -> pa.DataType:
    index = schema.get_field_index(column)
    if index < 0:
        raise PredicateError(
            f"at {place}: unknown column {column!r}{nearest(column, schema.names)}"
        )
    return _value_type(schema.field(index).type)


def _value_type(dtype: pa.DataType) -> pa.DataType:
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _is_nan(value: object, dtype: pa.DataType) -> bool:
    told = value == "NaN" or (isinstance(value, float) and math.isnan(value))
    return told and bool(pa.types.is_floating(dtype))


def _locate(column: str, value: object, dtype: pa.DataType, place: str) -> Located:
    try:
        return locate(value, dtype)
    except ValueError as error:
        raise PredicateError(f"at {place}, column {column!r}: {error}") from None


def _bind_compare(
    op: CompareOp, column: str, value: object, schema: pa.Schema, place: str
) -> Predicate:
    dtype = _type_of(column, schema, place)
    if isinstance(value, pa.Scalar):
        value = dump_literal(value)
    if value is None:
        if kind_of(dtype) == "other":
            raise PredicateError(f"at {place}, column {column!r}: {dtype} cannot be compared")
        return Constant(False)
    if _is_nan(value, dtype):
        table: dict[CompareOp, Predicate] = {
            "eq": IsNan(column),
            "gte": IsNan(column),
            "neq": Not(IsNan(column)),
            "lt": Not(IsNan(column)),
            "gt": Constant(False),
            "lte": Not(IsNull(column)),
        }
        return table[op]
    scalar, exact = _locate(column, value, dtype, place)
    if exact and scalar is not None:
        return Compare(op, column, scalar)
    # No value of the type equals the literal; `scalar` is the greatest one below it.
    present = Not(IsNull(column))
    if op in ("eq", "neq"):
        return Constant(False) if op == "eq" else present
    below = op in ("lt", "lte")
    if scalar is None:
        return Constant(False) if below else present
    return Compare("lte" if below else "gt", column, scalar)


def _bind_in(
    column: str, values: tuple[Any, ...], schema: pa.Schema, place: str, *, negated: bool
) -> Predicate:
    dtype = _type_of(column, schema, place)
    values = tuple(dump_literal(v) if isinstance(v, pa.Scalar) else v for v in values)
    nan = any(_is_nan(v, dtype) for v in values)
    kept = [v for v in values if v is not None and not _is_nan(v, dtype)]
    found = tuple(_members(column, kept, dtype, place))
    leaves: list[Predicate] = [In(column, found)] if found or not nan else []
    if nan:
        leaves.append(IsNan(column))
    if not found and not nan:
        return Not(IsNull(column)) if negated else Constant(False)
    return _and(Not(leaf) for leaf in leaves) if negated else _or(leaves)


# Any: literals.
def _members(column: str, values: list[Any], dtype: pa.DataType, place: str) -> Iterable[pa.Scalar]:
    """Those values that the type has, each once; the others equal none of its own."""
    if pa.types.is_integer(dtype) and all(type(v) is int for v in values):
        # Long lists of integers are common, and placed at once.
        yield from load_array(values, dtype).drop_null().unique()
        return
    places = (_locate(column, v, dtype, place) for v in values)
    yield from dict.fromkeys(p.scalar for p in places if p.exact and p.scalar is not None)


def _and(parts: Iterable[Predicate]) -> Predicate:
    return _fold(parts, And, absorbing=False)


def _or(parts: Iterable[Predicate]) -> Predicate:
    return _fold(parts, Or, absorbing=True)


def _fold(parts: Iterable[Predicate], node: type[And | Or], *, absorbing: bool) -> Predicate:
    kept: list[Predicate] = []
    for part in parts:
        if isinstance(part, Constant):
            if part.value == absorbing:
                return part
        else:
            kept.append(part)
    if not kept:
        return Constant(not absorbing)
    return kept[0] if len(kept) == 1 else node(tuple(kept))
