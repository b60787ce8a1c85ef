"""Is an argument of the kind that a call takes? Refused by its name and value, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, TypeVar

from io_core.errors import SchemaValidationError
from planner_client.protocol.checked import shown

__all__ = ["counted", "listed", "mapped", "of_kind", "one_of", "one_or_more"]

T = TypeVar("T")

# A name, or a path.
_NAMES: tuple[type, ...] = (str, os.PathLike)


# Any: of the kind that was asked for; what a caller passed may be anything.
def listed(name: str, given: object, kind: type | tuple[type, ...] = object) -> list[Any] | None:
    """What was passed as a list of things of this kind; None where nothing was.

    Raises:
        SchemaValidationError: It is none; a text would be taken for its letters.

    Example:
        >>> listed("columns", ("a", "b"))
        ['a', 'b']
        >>> listed("columns", "a")
        Traceback (most recent call last):
        ...
        io_core.errors.SchemaValidationError: columns is 'a': give a list, ['a']
    """
    if given is None:
        return None
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        hint = f", [{shown(given)}]" if isinstance(given, str) else ""
        raise SchemaValidationError(f"{name} is {shown(given)}: give a list{hint}")
    found = list(given)
    for one in found:
        if not isinstance(one, kind):
            raise SchemaValidationError(f"{name} holds {shown(one)}: give names or paths, as text")
    return found


def one_or_more(name: str, given: object) -> list[Any]:
    """One name or path, or several, as a list; empty where nothing was passed.

    Raises:
        SchemaValidationError: It is neither.
    """
    return [given] if isinstance(given, _NAMES) else listed(name, given, _NAMES) or []


def mapped(name: str, given: object) -> dict[str, Any]:
    """What was passed by names; empty where nothing was.

    Raises:
        SchemaValidationError: It is no mapping.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SchemaValidationError(f"{name} is {shown(given)}: give a dictionary")
    return dict(given)


def of_kind(name: str, given: object, kind: type[T], source: str) -> T:
    """What was passed, if it is of this kind.

    Args:
        name: What the argument is called.
        given: What was passed.
        kind: What it has to be.
        source: What to give instead.

    Raises:
        SchemaValidationError: It is something else.
    """
    if not isinstance(given, kind):
        raise SchemaValidationError(f"{name} is {shown(given)}: give {source}")
    return given


def counted(name: str, given: Any, least: int) -> int | None:
    """How many rows were asked for; None where nothing was said.

    Raises:
        SchemaValidationError: It is no number, or below `least`.

    Example:
        >>> counted("limit", 5, least=0)
        5
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, Integral) or int(given) < least:
        raise SchemaValidationError(
            f"{name} is {shown(given)}: it counts rows, so give {least} or more"
        )
    # No table has more.
    return min(int(given), 2**62)


def one_of(**named: T | None) -> T | None:
    """The value of what has two names, whichever was used.

    Raises:
        SchemaValidationError: Both were, differently.
    """
    used = {name: value for name, value in named.items() if value is not None}
    values = list(used.values())
    if any(value != values[0] for value in values):
        said = " and ".join(f"{name}={value!r}" for name, value in used.items())
        raise SchemaValidationError(f"{said} are one and the same: pass one of them")
    return values[0] if values else None
