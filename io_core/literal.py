"""Literals: JSON scalars and exact values, typed by the column that they are compared with.

JSON has no typed form, so the column's type resolves a literal, on the client and again on the
planner: temporal values are ISO-8601 text (nine digits for nanoseconds; a text without a zone
against a zoned column is read as UTC), decimals are text or a number, binary is base64, and the
float specials are the texts `"NaN"`, `"Infinity"` and `"-Infinity"`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.lean_arrow import lean_array, lean_numpy, lean_scalar, of_scalars

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Kind",
    "Located",
    "dump_array",
    "dump_literal",
    "kind_of",
    "load_array",
    "locate",
    "ordinal",
]

Kind = Literal["bool", "number", "text", "binary", "date", "time", "timestamp", "duration", "other"]

_SPECIALS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_NS = 86_400 * 10**9
# Powers of ten beyond which no type has a value, above or below 1.
_FARTHEST = 400
_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)?(?:(?:^|(?<=\d)[T ])(?P<clock>\d\d:\d\d(?::\d\d)?)(?:\.(?P<frac>\d{1,9}))?)?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_DURATION = re.compile(
    r"(?P<sign>-)?P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d{1,9})?)S)?)?"
)


def kind_of(dtype: pa.DataType) -> Kind:
    """Which literals a column of this type can be compared with; `other` means none.

    Example:
        >>> kind_of(pa.decimal128(9, 2)), kind_of(pa.large_string()), kind_of(pa.list_(pa.int8()))
        ('number', 'text', 'other')
    """
    return _KINDS.get(dtype.id, "other")


_TYPES: dict[Kind, list[pa.DataType]] = {
    "bool": [pa.bool_()],
    # Arrow has no kernels that compare half floats.
    "number": [
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float32(), pa.float64()),
        *(pa.decimal32(1), pa.decimal64(1), pa.decimal128(1), pa.decimal256(1)),
    ],
    "text": [pa.string(), pa.large_string(), pa.string_view()],
    "binary": [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1)],
    "date": [pa.date32(), pa.date64()],
    "time": [pa.time32("s"), pa.time64("us")],
    "timestamp": [pa.timestamp("us")],
    "duration": [pa.duration("us")],
}
_MOMENTS = (
    *(pa.Date32Scalar, pa.Date64Scalar, pa.Time32Scalar, pa.Time64Scalar),
    *(pa.TimestampScalar, pa.DurationScalar),
)
# By Arrow's number of a type, whatever its unit, width or zone: asked many times for each plan.
_KINDS: dict[int, Kind] = {t.id: kind for kind, types in _TYPES.items() for t in types}


def _is_variable_binary(dtype: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_binary(dtype) or t.is_large_binary(dtype) or t.is_binary_view(dtype))


class Located(NamedTuple):
    """Where a literal stands among the values of a type.

    `scalar` is the greatest value of the type that is not above the literal; None where the
    literal lies below them all. `exact` says that it equals the literal. NaN is not located.
    """

    scalar: pa.Scalar | None
    exact: bool


def locate(value: object, dtype: pa.DataType) -> Located:
    """Find a literal's place among the values that `dtype` can hold, without loss.

    Args:
        value: A JSON scalar, or the Python value that it stands for (datetime, Decimal, bytes).
        dtype: The column's type.

    Raises:
        ValueError: The literal is of another kind than the column.

    Example:
        >>> locate(1.5, pa.int32())
        Located(scalar=<pyarrow.Int32Scalar: 1>, exact=False)
        >>> locate(-1, pa.uint8())
        Located(scalar=None, exact=False)
    """
    kind = kind_of(dtype)
    match kind:
        case "bool":
            if isinstance(value, bool):
                return Located(lean_scalar(value, dtype), True)
        case "text":
            if isinstance(value, str):
                return Located(lean_scalar(value, dtype), True)
        case "binary":
            if (raw := _bytes(value)) is not None:
                fixed = not _is_variable_binary(dtype)
                return _place_fixed(raw, dtype) if fixed else Located(lean_scalar(raw, dtype), True)
        case "number":
            if type(value) is int and dtype.id in _GRIDS:
                return _place_on_grid(value, dtype, exact=True)
            if (number := _number(value, floats=pa.types.is_floating(dtype))) is not None:
                return _place_number(number, dtype)
        case "other":
            raise ValueError(f"columns of type {dtype} cannot be compared with a literal")
        case _:
            if (nanos := _nanos(value, kind, dtype)) is not None:
                whole, rest = divmod(nanos, _unit_ns(dtype))
                return _place_on_grid(whole, dtype, exact=not rest)
    raise ValueError(f"{value!r} is no {kind} literal for a column of type {dtype}")


def _bytes(value: object) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _place_fixed(raw: bytes, dtype: pa.DataType) -> Located:
    """Among values of one length: a longer literal follows its own beginning."""
    width = dtype.byte_width
    if len(raw) >= width:
        return Located(lean_scalar(raw[:width], dtype), len(raw) == width)
    # Every value that begins with the literal is above it; below it is what a smaller number begins.
    number = int.from_bytes(raw)
    if not number:
        return Located(None, False)
    below = (number - 1).to_bytes(len(raw)) + b"\xff" * (width - len(raw))
    return Located(lean_scalar(below, dtype), False)


def _number(value: object, *, floats: bool) -> Fraction | int | float | None:
    """The exact number, an infinity as a float, or None for another kind."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if value in _SPECIALS:
            return _SPECIALS[value]
        if floats or len(value) > 100:
            return None
        try:
            value = _within_reach(Decimal(value))
        except InvalidOperation:
            return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and floats and value == 0:
        return value  # a fraction has no negative zero
    if isinstance(value, float) and not floats and not value.is_integer():
        # 0.1 beside decimals is the number that was written, not the double nearest to it.
        value = Decimal(repr(value))
    if isinstance(value, float | Decimal):
        return Fraction(value) if math.isfinite(value) else float(value)
    return None


def _within_reach(value: Decimal) -> Decimal:
    """The number, or one that stands in the same place among all types' values.

    As a fraction a number like 1e999999999 would take all the memory there is.
    """
    if not value.is_finite() or not value or abs(value.adjusted()) <= _FARTHEST:
        return value
    return Decimal((value.as_tuple().sign, (1,), _FARTHEST if value.adjusted() > 0 else -_FARTHEST))


def _place_number(number: Fraction | float, dtype: pa.DataType) -> Located:
    if pa.types.is_floating(dtype):
        return _place_float(number, dtype)
    if isinstance(number, float):
        if math.isnan(number):
            raise ValueError(f"NaN cannot be compared with a column of type {dtype}")
        return (
            Located(lean_scalar(_grid(dtype)[1], dtype), False)
            if number > 0
            else Located(None, False)
        )
    if pa.types.is_decimal(dtype):
        number *= Fraction(10) ** dtype.scale
    whole = math.floor(number)
    return _place_on_grid(whole, dtype, exact=whole == number)


def _place_float(number: Fraction | float, dtype: pa.DataType) -> Located:
    if isinstance(number, float):
        return Located(lean_scalar(number, dtype), True)
    try:
        nearest = float(number)
    except OverflowError:
        nearest = math.inf if number > 0 else -math.inf
    # Narrow floats first round to the nearest; step down where that went above the literal.
    scalar = lean_scalar(nearest, pa.float64()).cast(dtype, safe=False)
    found = scalar.as_py()
    if math.isfinite(found) and Fraction(found) <= number:
        return Located(scalar, Fraction(found) == number)
    if found == -math.inf:
        return Located(scalar, False)
    return Located(_float_below(found, dtype), False)


def _float_below(value: float, dtype: pa.DataType) -> pa.Scalar:
    narrow = np.dtype(f"f{dtype.byte_width}")
    return lean_scalar(float(np.nextafter(narrow.type(value), narrow.type(-np.inf))), dtype)


def _unit_ns(dtype: pa.DataType) -> int:
    if pa.types.is_date32(dtype):
        return _DAY_NS
    if pa.types.is_date64(dtype):
        return 10**6
    return _UNIT_NS[dtype.unit]


def _grid(dtype: pa.DataType) -> tuple[int, int]:
    """Least and greatest integer that stands for a value of a discrete type."""
    found = _GRIDS.get(dtype.id)
    if found is None:
        top = 10**dtype.precision - 1
        return -top, top
    return found


# By Arrow's number of a type; of decimals it depends on the precision.
_GRIDS = {
    t.id: (0, 2**t.bit_width - 1) if pa.types.is_unsigned_integer(t) else (-top, top - 1)
    for kind in ("number", "date", "time", "timestamp", "duration")
    for t in _TYPES[kind]
    if not pa.types.is_floating(t) and not pa.types.is_decimal(t)
    for top in [2 ** (t.bit_width - 1)]
}


def _place_on_grid(whole: int, dtype: pa.DataType, *, exact: bool) -> Located:
    low, high = _grid(dtype)
    if whole < low:
        return Located(None, False)
    return Located(lean_scalar(min(whole, high), dtype), exact and whole <= high)


def _nanos(value: object, kind: Kind, dtype: pa.DataType) -> int | None:
    """Nanoseconds since the epoch, since midnight, or of a duration; None for another kind."""
    if kind == "duration":
        return _duration_nanos(value)
    text = value.isoformat() if isinstance(value, dt.date | dt.time) else value
    found = _ISO.fullmatch(text) if isinstance(text, str) and text else None
    if found is None or (found["date"] is None) != (kind == "time"):
        return None
    zoned = found["zone"] is not None
    if zoned and (kind != "timestamp" or dtype.tz is None):
        return None
    nanos = int((found["frac"] or "").ljust(9, "0"))
    try:
        if found["date"]:
            day = dt.date.fromisoformat(found["date"])
            nanos += (day.toordinal() - dt.date(1970, 1, 1).toordinal()) * _DAY_NS
        clock = dt.time.fromisoformat(found["clock"] or "00:00")
    except ValueError:
        return None
    nanos += (clock.hour * 3600 + clock.minute * 60 + clock.second) * 10**9
    return nanos - _offset_nanos(found["zone"])


def _offset_nanos(zone: str | None) -> int:
    if zone in (None, "Z"):
        return 0
    digits = zone.replace(":", "")
    minutes = int(digits[1:3]) * 60 + int(digits[3:5])
    return (-minutes if zone[0] == "-" else minutes) * 60 * 10**9


def _duration_nanos(value: object) -> int | None:
    if isinstance(value, dt.timedelta):
        return (value // dt.timedelta(microseconds=1)) * 1000
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or value in ("P", "PT", "-P"):
        return None
    seconds = Fraction(found["s"] or 0) + int(found["m"] or 0) * 60 + int(found["h"] or 0) * 3600
    nanos = int(seconds * 10**9) + int(found["d"] or 0) * _DAY_NS
    return -nanos if found["sign"] else nanos


# Any: a value that compares with those of the same type.
def ordinal(value: pa.Scalar) -> Any:
    """A Python value that stands in the same order, nanoseconds included; None for null.

    Example:
        >>> ordinal(pa.scalar(1, pa.timestamp("ns"))), ordinal(pa.scalar("a"))
        (1, 'a')
    """
    return value.value if isinstance(value, _MOMENTS) else value.as_py()


def dump_literal(value: object) -> bool | int | float | str | None:
    """Write a Python or Arrow value as the JSON scalar that stands for it.

    Raises:
        ValueError: The value has no JSON form. A bare NaN never reaches JSON: it becomes `"NaN"`.

    Example:
        >>> dump_literal(dt.date(2025, 3, 1)), dump_literal(float("nan"))
        ('2025-03-01', 'NaN')
    """
    if isinstance(value, pa.Scalar):
        # as_py() would drop the nanoseconds of temporal values.
        if kind_of(value.type) in ("date", "time", "timestamp", "duration"):
            return dump_array(pa.repeat(value, 1))[0]
        value = value.as_py()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{value!r} cannot be a literal: {error}") from None
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _dump_duration(value // dt.timedelta(microseconds=1) * 1000)
    if hasattr(value, "item") and type(value).__module__ == "numpy":
        return dump_literal(value.item())
    raise ValueError(f"{value!r} of type {type(value).__name__} cannot be a literal")


def _dump_duration(nanos: int) -> str:
    seconds, rest = divmod(abs(nanos), 10**9)
    sign = "-" if nanos < 0 else ""
    return f"{sign}PT{seconds}.{rest:09d}S" if rest else f"{sign}PT{seconds}S"


def dump_array(values: pa.Array) -> list[bool | int | float | str | None]:
    """Write an Arrow array as JSON scalars, nulls as None; nanoseconds are kept.

    Example:
        >>> dump_array(pa.array([0, None], pa.timestamp("ns")))
        ['1970-01-01T00:00:00.000000000', None]
    """
    kind = kind_of(values.type)
    if kind == "duration":
        nanos = [
            None if v is None else v * _unit_ns(values.type)
            for v in values.cast(pa.int64()).to_pylist()
        ]
        return [None if v is None else _dump_duration(v) for v in nanos]
    if kind == "date" and _are_whole_days(values):
        return list(values.cast(pa.date32()).cast(pa.string()).to_pylist())
    if kind == "date":
        values, kind = values.cast(pa.timestamp("ms")), "timestamp"
    if kind in ("time", "timestamp"):
        if kind == "timestamp" and values.type.tz is not None:
            values = values.cast(pa.timestamp(values.type.unit, "UTC"))
        text = pc.replace_substring(values.cast(pa.string()), " ", "T")
        return list(text.to_pylist())
    if pa.types.is_integer(values.type):
        return list(values.to_pylist())
    return [dump_literal(v) for v in values.to_pylist()]


def _are_whole_days(values: pa.Array) -> bool:
    if pa.types.is_date32(values.type):
        return True
    # Arrow means days by its dates in milliseconds, and yet holds what lies between.
    numbers = lean_numpy(values.view(pa.int64()).drop_null())
    return not bool((numbers % (_DAY_NS // 10**6)).any())


# Any: JSON scalars.
def load_array(values: Sequence[Any], dtype: pa.DataType) -> pa.Array:
    """Read JSON scalars into an array of `dtype`; what does not fit exactly becomes null.

    Meant for statistics, where null means unknown: no error, because a bound that cannot be read
    only costs pruning.

    Example:
        >>> load_array(["2025-03-01", None, "soon"], pa.date32()).to_pylist()
        [datetime.date(2025, 3, 1), None, None]
    """
    if not values or kind_of(dtype) == "other":
        return pa.nulls(len(values), dtype)
    if pa.types.is_integer(dtype) and all(type(v) is int or v is None for v in values):
        try:
            return lean_array(values, dtype)
        except OverflowError:
            pass
    texts = all(isinstance(v, str) or v is None for v in values)
    if texts and kind_of(dtype) == "text" and not pa.types.is_dictionary(dtype):
        return lean_array(values, dtype)
    if pa.types.is_floating(dtype) and all(type(v) is float or v is None for v in values):
        wide = lean_array(values, pa.float64())
        held = wide.cast(dtype, safe=False)
        if held.cast(pa.float64()).equals(wide):
            return held
    if texts and kind_of(dtype) in ("date", "timestamp"):
        try:
            text = lean_array(values, pa.string())
            zoned = pa.types.is_timestamp(dtype) and dtype.tz is not None
            return text.cast(pa.timestamp(dtype.unit, "UTC") if zoned else dtype).cast(dtype)
        except pa.ArrowException:
            pass
    return of_scalars([_exact(v, dtype) for v in values], dtype)


def _exact(value: object, dtype: pa.DataType) -> pa.Scalar | None:
    if value is None:
        return None
    try:
        found = locate(value, dtype)
    except ValueError:
        return None
    return found.scalar if found.exact else None
