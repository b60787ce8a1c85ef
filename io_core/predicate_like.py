"""What may a user pass as a predicate? JSON's tree, SQL, a pyarrow expression, or a predicate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import pyarrow.compute as pc

from io_core.errors import PredicateError
from io_core.predicate import (
    And,
    Between,
    Compare,
    Constant,
    In,
    IsNan,
    IsNull,
    Not,
    Or,
    Predicate,
    dump,
    parse,
)
from io_core.predicate_from_arrow import predicate_from_arrow
from io_core.predicate_from_sql import predicate_from_sql

__all__ = ["PredicateLike", "as_predicate"]

PredicateLike: TypeAlias = Mapping[str, object] | str | pc.Expression | Predicate
_NODES = (And, Between, Compare, Constant, In, IsNan, IsNull, Not, Or)


def as_predicate(given: PredicateLike | None) -> Predicate | None:
    """The predicate that a user means; None and `{}` are none. Sends nothing.

    Args:
        given: JSON's tree, such as `{"gt": ["x", 3]}`; SQL, such as `"x > 3 AND y IS NULL"`; a
            pyarrow expression; or what this returns. All in this project's meaning.

    Raises:
        PredicateError: It is malformed, too large, or says what a predicate cannot.
        UnsupportedError: SQL, and the extra `sql` is not installed.

    Example:
        >>> as_predicate("x > 3") == as_predicate(pc.field("x") > 3) == as_predicate({"gt": ["x", 3]})
        True
    """
    match given:
        case None | Mapping():
            return parse(given)
        case str():
            predicate = predicate_from_sql(given)
        case pc.Expression():
            found = predicate_from_arrow(given)
            if found is None:
                return None
            predicate = found
        case _ if isinstance(given, _NODES):
            predicate = given
        case _:
            raise PredicateError(
                "expected an object with exactly one operator such as {'gt': ['x', 3]}, SQL or a "
                f"pyarrow expression, got {given!r} of type {type(given).__name__}"
            )
    try:
        # The wire's limits hold for every form.
        parse(dump(predicate))
    except PredicateError:
        raise
    except ValueError as error:
        raise PredicateError(str(error)) from None
    return predicate
