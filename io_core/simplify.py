"""What is the shortest predicate that keeps the same rows as a bound one?

Conjunctions and disjunctions are flattened and lose what is said twice; what they ask of one
column is put together: bounds into the narrowest (or widest) range, values into one list. A range
that holds nothing is FALSE, a list of one value an equality.

NaN is above every number: `>` and `>=` let it through, `<` and `<=` do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from io_core.literal import ordinal
from io_core.predicate import And, Compare, Constant, In, IsNan, IsNull, Not, Or, Predicate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

__all__ = ["simplify"]

_FALSE, _TRUE = Constant(False), Constant(True)


def simplify(predicate: Predicate) -> Predicate:
    """Say the same in fewer words: the same rows are kept, of any table of the same schema.

    Args:
        predicate: As `bind` returned it. Not for a tree with NOT above other nodes, where it
            would matter whether a row is dropped for FALSE or for unknown.

    Example:
        >>> import pyarrow as pa
        >>> from io_core.predicate import bind, parse
        >>> schema = pa.schema([("x", pa.int64())])
        >>> tree = parse({"and": [{"gt": ["x", 1]}, {"in": ["x", [1, 2]]}, {"lt": ["x", 9]}]})
        >>> simplify(bind(tree, schema))
        Compare(op='eq', column='x', value=<pyarrow.Int64Scalar: 2>)
    """
    match predicate:
        case And(children):
            return _join(And, [simplify(c) for c in children])
        case Or(children):
            return _join(Or, [simplify(c) for c in children])
        case In() | Not(In()):
            return _listed(predicate)
    return predicate


def _listed(leaf: Predicate) -> Predicate:
    """A list with each value once; of one value, a comparison."""
    match leaf:
        case In(column, values):
            once = _once(values)
            return Compare("eq", column, once[0]) if len(once) == 1 else In(column, once)
        case Not(In(column, values)):
            once = _once(values)
            return Compare("neq", column, once[0]) if len(once) == 1 else Not(In(column, once))
    return leaf


def _once(values: tuple[pa.Scalar, ...]) -> tuple[pa.Scalar, ...]:
    # Both zeros are one value here, as in every comparison.
    return tuple({ordinal(v): v for v in values}.values())


def _join(node: type[And | Or], parts: Iterable[Predicate]) -> Predicate:
    absorbing, neutral = (_FALSE, _TRUE) if node is And else (_TRUE, _FALSE)
    flat = [p for part in parts for p in (part.children if isinstance(part, node) else (part,))]
    groups: dict[str | Predicate, list[Predicate]] = {}
    for part in flat:
        if part == absorbing:
            return absorbing
        if part != neutral:
            groups.setdefault(_column(part) or part, []).append(part)
    kept: list[Predicate] = []
    for key, group in groups.items():
        if isinstance(key, str):
            kept += _all_of(key, group) if node is And else _one_of(key, group)
        else:
            kept.append(key)
    if absorbing in kept:
        return absorbing
    return neutral if not kept else kept[0] if len(kept) == 1 else node(tuple(kept))


def _column(part: Predicate) -> str | None:
    """The column of a leaf."""
    leaf = part.child if isinstance(part, Not) else part
    return None if isinstance(leaf, And | Or | Constant | Not) else leaf.column


class _Edge(NamedTuple):
    """One end of a range, by the literal and its place in the order."""

    # Any: see `ordinal`.
    at: Any
    included: bool
    value: pa.Scalar


class _Asked(NamedTuple):
    """What leaves of one column ask, by kind."""

    lows: list[_Edge]
    highs: list[_Edge]
    lists: list[dict[Any, pa.Scalar]]
    outside: list[dict[Any, pa.Scalar]]
    null: bool
    valid: bool
    nan: bool
    no_nan: bool


def _asked(group: list[Predicate]) -> _Asked:
    found = _Asked([], [], [], [], *(leaf in group for leaf in _flags(group)))
    for leaf in group:
        match leaf:
            case Compare("gt" | "gte" as op, _, value):
                found.lows.append(_Edge(ordinal(value), op == "gte", value))
            case Compare("lt" | "lte" as op, _, value):
                found.highs.append(_Edge(ordinal(value), op == "lte", value))
            case Compare("eq", _, value):
                found.lists.append({ordinal(value): value})
            case Compare("neq", _, value):
                found.outside.append({ordinal(value): value})
            case In(_, values):
                found.lists.append({ordinal(v): v for v in values})
            case Not(In(_, values)):
                found.outside.append({ordinal(v): v for v in values})
    return found


def _flags(group: list[Predicate]) -> tuple[Predicate, ...]:
    column = _column(group[0]) or ""
    return IsNull(column), Not(IsNull(column)), IsNan(column), Not(IsNan(column))


def _all_of(column: str, group: list[Predicate]) -> list[Predicate]:
    """Leaves that hold where all leaves of the group do."""
    asked = _asked(group)
    low = max(asked.lows, key=lambda e: (e.at, not e.included), default=None)
    high = min(asked.highs, key=lambda e: (e.at, e.included), default=None)
    outside = {k: v for values in asked.outside for k, v in values.items()}
    valued = bool(low or high or asked.lists or outside or asked.nan or asked.no_nan)
    if asked.null:
        return [_FALSE] if valued or asked.valid else [IsNull(column)]
    if asked.nan:
        # Every `>`, `>=` and `!=` lets NaN through, nothing else does.
        return [_FALSE] if high or asked.lists or asked.no_nan else [IsNan(column)]
    if asked.lists:
        values = {
            k: v
            for k, v in asked.lists[0].items()
            if all(k in other for other in asked.lists[1:])
            and k not in outside
            and _is_inside(k, low, high)
        }
        return [_listed(In(column, tuple(values.values())))] if values else [_FALSE]
    if low and high and low.at >= high.at:
        if not (low.at == high.at and low.included and high.included):
            return [_FALSE]
        return [_FALSE] if low.at in outside else [Compare("eq", column, low.value)]
    excluded = tuple(v for k, v in outside.items() if _is_inside(k, low, high))
    found = list(_range(column, low, high))
    if excluded:
        found.append(_listed(Not(In(column, excluded))))
    if asked.no_nan and not high:
        found.append(Not(IsNan(column)))
    return found or [Not(IsNull(column))]


def _range(column: str, low: _Edge | None, high: _Edge | None) -> Iterator[Predicate]:
    if low:
        yield Compare("gte" if low.included else "gt", column, low.value)
    if high:
        yield Compare("lte" if high.included else "lt", column, high.value)


# Any: see `ordinal`.
def _is_inside(at: Any, low: _Edge | None, high: _Edge | None) -> bool:
    above = low is None or at > low.at or (low.included and at == low.at)
    return above and (high is None or at < high.at or (high.included and at == high.at))


def _one_of(column: str, group: list[Predicate]) -> list[Predicate]:
    """Leaves of which one holds where one leaf of the group does."""
    asked = _asked(group)
    null: list[Predicate] = [IsNull(column)] if asked.null else []
    low = min(asked.lows, key=lambda e: (e.at, not e.included), default=None)
    high = max(asked.highs, key=lambda e: (e.at, e.included), default=None)
    inside = {k: v for values in asked.lists for k, v in values.items()}
    # What every one of the "not in" leaves leaves out, and nothing else lets in.
    outside = {
        k: v
        for k, v in (asked.outside[0] if asked.outside else {}).items()
        if all(k in other for other in asked.outside[1:])
        and k not in inside
        and not (low and _is_inside(k, low, None))
        and not (high and _is_inside(k, None, high))
    }
    meets = low and high and (low.at, not low.included) <= (high.at, high.included)
    with_nan = low or asked.nan or asked.outside
    everything = asked.valid or meets or (asked.outside and not outside)
    if everything or (asked.no_nan and with_nan):
        return [_TRUE] if null else [Not(IsNull(column))]
    if asked.no_nan:
        return [*null, Not(IsNan(column))]
    if asked.outside:
        return [*null, _listed(Not(In(column, tuple(outside.values()))))]
    free = {
        k: v
        for k, v in inside.items()
        if not (low and _is_inside(k, low, None)) and not (high and _is_inside(k, None, high))
    }
    found = [*null, *_range(column, low, high)]
    if free:
        found.append(_listed(In(column, tuple(free.values()))))
    if asked.nan and not low:
        found.append(IsNan(column))
    return found
