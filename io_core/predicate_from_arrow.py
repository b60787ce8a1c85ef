"""What does a pyarrow expression say? A tree to walk, or the predicate that it spells.

An expression has no public form but text. It does pickle, as Arrow's own serialisation: an IPC file
whose schema's metadata is the expression in prefix order (`call`, `field_ref`, `literal`, `options`,
`end`), and whose one row holds the literals and options. That is no promise of pyarrow's, so what was
read is put together again and compared with the expression: a surprise is an error, never another
predicate.
"""

from __future__ import annotations

import math
import operator
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import PredicateError
from io_core.literal import dump_literal, kind_of
from io_core.predicate import (
    FLIPPED,
    And,
    Compare,
    In,
    IsNull,
    Not,
    Or,
    conjuncts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from io_core.predicate import CompareOp, Predicate

__all__ = ["Call", "Column", "Literal", "Node", "decode", "predicate_from_arrow"]


class Column(NamedTuple):
    """A reference to a column by its name."""

    name: str


class Literal(NamedTuple):
    """A value with Arrow's type."""

    scalar: pa.Scalar


class Call(NamedTuple):
    """A function of pyarrow.compute, its arguments, and its options by name."""

    function: str
    arguments: tuple[Node, ...]
    # Any: booleans, numbers, Arrow arrays.
    options: dict[str, Any]


Node: TypeAlias = Column | Literal | Call

_COMPARE: dict[str, CompareOp] = {
    "equal": "eq",
    "not_equal": "neq",
    "greater": "gt",
    "greater_equal": "gte",
    "less": "lt",
    "less_equal": "lte",
}
# Nesting of an expression: `&` chains nest by one a part, and flatten in a predicate.
_DEEPEST = 200


def predicate_from_arrow(expression: pc.Expression) -> Predicate | None:
    """The predicate that a pyarrow expression spells, in this project's meaning.

    That is SQL's: NaN is above every number and equals itself, and `~field.isin([1])` leaves nulls
    out. Columns are compared with literals; `&`, `|`, `~`, `isin`, `is_null`, `is_nan`, `is_valid`
    and boolean columns go; nothing else does.

    Returns:
        The predicate, unbound; None where the expression is TRUE.

    Raises:
        PredicateError: It says something that a predicate cannot; names the part.

    Example:
        >>> predicate_from_arrow((pc.field("x") > 3) & pc.field("y").is_valid())
        And(children=(Compare(op='gt', column='x', value=3), Not(child=IsNull(column='y'))))
    """
    node = decode(expression)
    if node == Literal(pa.scalar(True)):
        return None
    if not _rebuilt(node).equals(expression):
        raise _refused(expression, "is written in a way that is not known")
    return _predicate(node)


def decode(expression: pc.Expression) -> Node:
    """The expression as a tree, whatever it calls.

    Raises:
        PredicateError: It refers to a column by place or inside of another, nests too deeply, or is
            serialised in a way that is not known.

    Example:
        >>> decode(pc.field("x") > 3).function
        'greater'
    """
    try:
        raw = bytes(expression.__reduce__()[1][0])
        with pa.ipc.open_file(pa.py_buffer(raw)) as file:
            held = file.get_batch(0)
        node, rest = _node(list(_metadata(raw)), held, 0)
    except (pa.ArrowException, struct.error, LookupError, TypeError, ValueError) as error:
        if isinstance(error, PredicateError):
            raise
        raise _refused(expression, f"cannot be read ({error})") from error
    if rest:
        raise _refused(expression, "is written in a way that is not known")
    return node


def _refused(what: object, problem: str) -> PredicateError:
    text = str(what)
    brief = text if len(text) <= 120 else text[:117] + "..."
    return PredicateError(
        f"the pyarrow expression {brief} {problem}: compare columns with literals, and join by "
        "&, | and ~; or filter the rows that were read"
    )


_Tokens: TypeAlias = list[tuple[str, str]]


def _node(tokens: _Tokens, held: pa.RecordBatch, depth: int) -> tuple[Node, _Tokens]:
    """The first node of the tokens, and those after it."""
    if depth > _DEEPEST:
        raise PredicateError(f"the pyarrow expression nests deeper than {_DEEPEST} levels")
    (kind, value), *rest = tokens
    match kind:
        case "field_ref":
            return Column(value), rest
        case "literal":
            return Literal(held.column(int(value))[0]), rest
        case "call":
            return _call(value, rest, held, depth)
    raise PredicateError(
        f"the pyarrow expression has a {kind.replace('_', ' ')} {value!r}: "
        "only columns by their names are known"
    )


def _call(name: str, tokens: _Tokens, held: pa.RecordBatch, depth: int) -> tuple[Node, _Tokens]:
    arguments: list[Node] = []
    options: dict[str, Any] = {}
    while tokens[0] != ("end", name):
        if tokens[0][0] == "options":
            # The array of values of a list stays one: as_py() would drop nanoseconds.
            row = held.column(int(tokens[0][1]))[0]
            options = {key: _option(row[key]) for key in row}
            tokens = tokens[1:]
        else:
            argument, tokens = _node(tokens, held, depth + 1)
            arguments.append(argument)
    return Call(name, tuple(arguments), options), tokens[1:]


# Any: whatever an option is.
def _option(scalar: pa.Scalar) -> Any:
    return scalar.values if isinstance(scalar, pa.ListScalar) else scalar.as_py()


# --- the metadata, of which pyarrow shows each key once -------------------------------------------


def _metadata(raw: bytes) -> Iterator[tuple[str, str]]:
    """Keys and values of an IPC file's schema, from its flatbuffer."""
    # Magic and padding, a marker, the message's length, and the message.
    message = _Table(raw[16:], struct.unpack_from("<I", raw, 16)[0])
    for pair in message.table(2).tables(2):
        yield pair.text(0), pair.text(1)


class _Table(NamedTuple):
    """A table of a flatbuffer (https://flatbuffers.dev/internals/)."""

    raw: bytes
    start: int

    def _place(self, field: int) -> int:
        vtable = self.start - struct.unpack_from("<i", self.raw, self.start)[0]
        offset: int = struct.unpack_from("<H", self.raw, vtable + 4 + 2 * field)[0]
        place = self.start + offset
        return place + int(struct.unpack_from("<I", self.raw, place)[0])

    def table(self, field: int) -> _Table:
        return _Table(self.raw, self._place(field))

    def tables(self, field: int) -> Iterator[_Table]:
        start = self._place(field)
        for number in range(struct.unpack_from("<I", self.raw, start)[0]):
            place = start + 4 + 4 * number
            yield _Table(self.raw, place + struct.unpack_from("<I", self.raw, place)[0])

    def text(self, field: int) -> str:
        place = self._place(field)
        length = struct.unpack_from("<I", self.raw, place)[0]
        return self.raw[place + 4 : place + 4 + length].decode()


# --- from the tree to a predicate -----------------------------------------------------------------


def _predicate(node: Node) -> Predicate:
    match node:
        case Column(name):
            return Compare("eq", name, True)
        case Call("and_kleene", (left, right)):
            return And((*conjuncts(_predicate(left)), *conjuncts(_predicate(right))))
        case Call("or_kleene", (left, right)):
            return Or((*_disjuncts(_predicate(left)), *_disjuncts(_predicate(right))))
        case Call("invert", (child,)):
            return Not(_predicate(child))
        case Call("is_valid", (Column(name),)):
            return Not(IsNull(name))
        case Call("is_null", (Column(name),), options):
            null = IsNull(name)
            return Or((null, _is_nan(name))) if options["nan_is_null"] else null
        case Call("is_nan", (Column(name),)):
            return _is_nan(name)
        case Call("is_in", (Column(name),), options):
            return In(name, tuple(_values(options["value_set"])))
        case Call(op, (Column(name), Literal(scalar))) if op in _COMPARE:
            return Compare(_COMPARE[op], name, _plain(scalar))
        case Call(op, (Literal(scalar), Column(name))) if op in _COMPARE:
            return Compare(FLIPPED[_COMPARE[op]], name, _plain(scalar))
    raise _refused(_shown(node), "is no predicate")


def _disjuncts(predicate: Predicate) -> tuple[Predicate, ...]:
    return predicate.children if isinstance(predicate, Or) else (predicate,)


def _is_nan(column: str) -> Predicate:
    # As a comparison, which the wire has too.
    return Compare("eq", column, math.nan)


def _values(listed: pa.Array) -> Iterator[object]:
    if listed.null_count:
        raise PredicateError(
            "a null in isin() means other rows to pyarrow than to SQL: "
            "leave it out, and add | field.is_null() where nulls are wanted"
        )
    yield from map(_plain, listed)


def _plain(scalar: pa.Scalar) -> object:
    """The value that a predicate's node holds; temporal ones as text, which keeps nanoseconds."""
    temporal = kind_of(scalar.type) in ("date", "time", "timestamp", "duration")
    return dump_literal(scalar) if temporal else scalar.as_py()


# --- and back, to be sure ---------------------------------------------------------------------------

_REBUILD: dict[str, Callable[..., pc.Expression]] = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "and_kleene": operator.and_,
    "or_kleene": operator.or_,
    "invert": operator.invert,
    "is_valid": lambda column: column.is_valid(),
    "is_nan": lambda column: column.is_nan(),
}


def _rebuilt(node: Node) -> pc.Expression:
    match node:
        case Column(name):
            return pc.field(name)
        case Literal(scalar):
            return pc.scalar(scalar)
        case Call("is_null", (column,), options):
            return _rebuilt(column).is_null(nan_is_null=options["nan_is_null"])
        case Call("is_in", (column,), options):
            return _rebuilt(column).isin(options["value_set"])
        case Call(name, arguments) if name in _REBUILD:
            return _REBUILD[name](*map(_rebuilt, arguments))
    raise _refused(_shown(node), "is no predicate")


def _shown(node: Node) -> str:
    match node:
        case Column(name):
            return name
        case Literal(scalar):
            return repr(scalar.as_py())
        case Call(name, arguments):
            return f"{name}({', '.join(map(_shown, arguments))})"
