"""Do a request's fields fit what the protocol declares them as? Asked before anything is sent."""

from __future__ import annotations

import datetime as dt
import functools
import numbers
import re
import reprlib
import types
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import msgspec

from io_core.errors import SchemaValidationError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner_client.protocol.endpoint import Request

__all__ = ["checked", "misfit", "plain", "shown"]

Req = TypeVar("Req", bound="Request")

_SCALARS = frozenset({str, int, bool, float, type(None)})
# These stay what they are: as JSON has them they would pass for text.
_NO_TEXT = (bytes, dt.date, dt.datetime, dt.time, dt.timedelta)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value: object) -> str:
    """A value as a message shows it: shortened, and without its own errors.

    Example:
        >>> shown({"a": 1})
        "{'a': 1}"
    """
    return _SHORT.repr(value)


# Any: whatever a caller passed, and what JSON has for it.
def plain(value: Any) -> Any:
    """A value as plain Python has it: numbers of NumPy and members of enumerations become theirs.

    Raises:
        TypeError: It holds what no JSON has.
        ValueError: It holds text that no UTF-8 has.
    """
    return msgspec.to_builtins(value, enc_hook=_number)


def _number(value: object) -> object:
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"what is a {type(value).__name__} cannot be sent")


class _Field(NamedTuple):
    """A field of a request.

    Attributes:
        scalars: Types whose values fit as they are.
        is_scalar: Whether it holds nothing else.
    """

    name: str
    scalars: frozenset[type]
    is_scalar: bool


@functools.cache
def _fields(kind: type[Request]) -> tuple[_Field, ...]:
    found = []
    for field in msgspec.structs.fields(kind):
        declared = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        union = get_origin(declared) in (Union, types.UnionType)
        members = frozenset(get_args(declared) if union else (declared,))
        found.append(_Field(field.name, members & _SCALARS, members <= _SCALARS))
    return tuple(found)


def checked(request: Req) -> Req:
    """The request, if its fields fit; what only counts as text or a number becomes one.

    Raises:
        SchemaValidationError: A field does not fit: names it, and the value.

    Example:
        >>> from planner_client.protocol.namespaces import GetNamespace
        >>> checked(GetNamespace(namespace=5))
        Traceback (most recent call last):
        ...
        io_core.errors.SchemaValidationError: namespace is 5: Expected `str`, got `int` - at `$.namespace`
    """
    unsure = []
    for field in _fields(type(request)):
        value = getattr(request, field.name)
        kind = type(value)
        if kind not in field.scalars or (kind is str and not value.isascii()):
            unsure.append(field)
    if not unsure:
        return request
    try:
        builtins = msgspec.to_builtins(request, builtin_types=_NO_TEXT, enc_hook=_number)
        whole = msgspec.convert(builtins, type(request))
        # Text that is no UTF-8 would be noticed by nothing else.
        msgspec.json.encode(whole)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise misfit(msgspec.structs.asdict(request), type(request), error) from None
    told = {field.name: getattr(whole, field.name) for field in unsure if field.is_scalar}
    return msgspec.structs.replace(request, **told) if told else request


def misfit(
    fields: Mapping[str, object], kind: type[Any], error: Exception
) -> SchemaValidationError:
    """What to raise for fields that do not fit, from what msgspec says of them.

    Args:
        fields: What was passed, by name.
        kind: The request that they were to make.
        error: What msgspec said.
    """
    told = str(error)
    if lacking := re.fullmatch(r"Object missing required field `(\w+)`", told):
        return SchemaValidationError(f"{lacking.group(1)} is None: it has to be given")
    at = re.search(r"`\$\.(\w+)", told)
    names = [at.group(1)] if at else [name for name in fields if _is_odd(fields[name])]
    said = ", ".join(f"{name} is {shown(fields[name])}" for name in names if name in fields)
    return SchemaValidationError(f"{said}: {told}{_hint(names, fields, kind, told)}")


def _hint(names: list[str], fields: Mapping[str, object], kind: type[Any], told: str) -> str:
    """What to give instead, where that can be said."""
    if "as_of" in names:
        return "; give nanoseconds since the epoch, as time.time_ns() does"
    if told.startswith("Invalid enum value") and told.endswith(f"`$.{names[0]}`"):
        declared = {field.name: field.type for field in msgspec.structs.fields(kind)}
        known = _choices(declared[names[0]])
        return f"{nearest(str(fields[names[0]]), known)}; known: {', '.join(known)}"
    return ""


# Any: a type as it was declared.
def _choices(declared: Any) -> list[str]:
    if get_origin(declared) is Literal:
        return [str(choice) for choice in get_args(declared)]
    return [choice for part in get_args(declared) for choice in _choices(part)]


def _is_odd(value: object) -> bool:
    try:
        msgspec.json.encode(plain(value))
    except (TypeError, ValueError, RecursionError):
        return True
    return False
