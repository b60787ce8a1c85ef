"""How does Lance's SQL say a bound predicate, for the filter of a dataset's own reader?

Checked against pylance 14, whose expressions run on DataFusion: NaN is above every number and
equals itself, -0.0 equals 0.0, and `in` knows three values, as our predicates have it. What it
cannot say is left out, which widens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.literal import kind_of, ordinal
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
    from collections.abc import Sequence

__all__ = ["to_lance"]

_OPERATORS = {"eq": "=", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# Its parser gives up at 50 levels of brackets, some of which it needs itself.
_DEEPEST = 30
# Names that stand for what is no column of the data.
_RESERVED = frozenset({"_rowid", "_rowaddr", "_rowoffset", "_distance", "_score"})
_UNSAID: Translation[str | None] = Translation(None, exact=False)


def to_lance(predicate: Predicate, schema: pa.Schema) -> Translation[str | None]:
    """The `filter=` of a Lance dataset; None where it would keep every row.

    Temporal values are compared as the integers that stand for them: Lance would cut nanoseconds
    off a literal, and read a time zone as its own. A scalar index on such a column is not used.

    Args:
        predicate: As `bind` returned it for the same schema.
        schema: The dataset's.

    Example:
        >>> from io_core.predicate import bind
        >>> schema = pa.schema([("it's", pa.string()), ("a.b", pa.int8())])
        >>> to_lance(bind(Compare("eq", "it's", "o'clock"), schema), schema)
        Translation(expression="`it's` = 'o''clock'", exact=True)
        >>> to_lance(bind(Compare("eq", "a.b", 1), schema), schema)
        Translation(expression=None, exact=False)
    """
    said = _said(predicate, schema, 0)
    return said if said.expression != "true" else Translation(None, said.exact)


def _said(predicate: Predicate, schema: pa.Schema, depth: int) -> Translation[str | None]:
    match predicate:
        case Constant(value):
            return Translation(str(value).lower(), exact=True)
        case And(children) | Or(children):
            if depth == _DEEPEST:
                return _UNSAID
            parts = [_said(c, schema, depth + 1) for c in children]
            return _joined(parts, "and" if isinstance(predicate, And) else "or")
    leaf = predicate.child if isinstance(predicate, Not) else predicate
    if isinstance(leaf, Not | Constant | And | Or):
        raise TypeError(f"not a bound predicate: {predicate!r}")
    name = leaf.column
    if "`" in name or "." in name or name in _RESERVED:
        return _UNSAID
    text = _leaf(predicate, f"`{name}`", schema.field(name).type)
    return _UNSAID if text is None else Translation(text, exact=True)


def _joined(parts: Sequence[Translation[str | None]], word: str) -> Translation[str | None]:
    exact = all(p.exact for p in parts)
    texts = [p.expression for p in parts if p.expression is not None]
    if not texts or (word == "or" and len(texts) < len(parts)):
        return Translation(None, exact=False)
    return Translation(f" {word} ".join(f"({t})" for t in texts), exact)


def _leaf(predicate: Predicate, name: str, dtype: pa.DataType) -> str | None:
    match predicate:
        case IsNull():
            return f"{name} is null"
        case Not(IsNull()):
            return f"{name} is not null"
        case IsNan():
            return f"isnan({name})"
        case Not(IsNan()):
            return f"not isnan({name})"
    column = _compared(name, dtype)
    if column is None:
        return None
    match predicate:
        case Compare(op, _, value):
            return f"{column} {_OPERATORS[op]} {_literal(value)}"
        case In(_, values):
            return f"{column} in ({', '.join(map(_literal, values))})"
        case Not(In(_, values)):
            return f"{column} not in ({', '.join(map(_literal, values))})"
    raise TypeError(f"not a bound predicate: {predicate!r}")


def _compared(name: str, dtype: pa.DataType) -> str | None:
    """The column as it is compared; None where Lance has no literals of its type."""
    if pa.types.is_dictionary(dtype):
        return name if kind_of(dtype.value_type) == "text" else None
    match kind_of(dtype):
        case "date" | "time" | "timestamp" | "duration":
            return f"cast({name} as {'int' if dtype.bit_width == 32 else 'bigint'})"
        case "number" if pa.types.is_decimal(dtype) and not pa.types.is_decimal128(dtype):
            return None
        case "other":
            return None
    return name


def _literal(value: pa.Scalar) -> str:
    # Any: whichever value the type has.
    plain: Any = ordinal(value)
    dtype = value.type
    match kind_of(dtype):
        case "bool":
            return str(plain).lower()
        case "text":
            return "'{}'".format(plain.replace("'", "''"))
        case "binary":
            return f"X'{plain.hex()}'"
    if pa.types.is_decimal(dtype):
        return f"cast('{plain:f}' as decimal({dtype.precision},{dtype.scale}))"
    if pa.types.is_floating(dtype):
        return f"cast('{plain!r}' as {'float' if dtype.bit_width == 32 else 'double'})"
    # A minus makes the least number of 64 bits a float.
    return str(plain) if plain >= 0 else f"cast('{plain}' as bigint)"
