"""What must a read return? The slow truth: rows as Python dicts, a dict merge, exact arithmetic.

Shares no code with what it judges. A row maps column names to Python values; timestamps, times and
durations are integers (nanoseconds since the epoch in UTC, since midnight, or as such), so that
nothing is rounded; all other values are what `pyarrow.Array.to_pylist` gives.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import re
import struct
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Commit",
    "Dialect",
    "Row",
    "Table",
    "answer",
    "canonical",
    "literal_of",
    "matches",
    "rows_of",
    "table_of",
]

# Any: a value of whichever type the column has.
Row = dict[str, Any]
Dialect = Literal["ours", "polars", "daft", "arrow"]
Mode = Literal["auto", "create", "add", "append", "merge", "delete", "replace", "replace_partition"]

_DAY_NS = 86_400 * 10**9
_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_SPECIALS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


# --- rows ---------------------------------------------------------------------------------------


def rows_of(table: pa.Table) -> list[Row]:
    """The rows of an Arrow table, in order, in the oracle's form.

    Example:
        >>> rows_of(pa.table({"t": pa.array([1], pa.timestamp("us"))}))
        [{'t': 1000}]
    """
    columns = [_values(column) for column in table.columns]
    return [
        dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)
    ]


def _values(column: pa.ChunkedArray) -> list[Any]:
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        return _values(column.cast(dtype.value_type))
    if _is_moment(dtype):
        width = pa.int32() if pa.types.is_time32(dtype) else pa.int64()
        unit = _UNIT_NS[dtype.unit]
        return [None if v is None else v * unit for v in column.cast(width).to_pylist()]
    return list(column.to_pylist())


def _is_moment(dtype: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_timestamp(dtype) or t.is_time(dtype) or t.is_duration(dtype))


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """The reverse of `rows_of`; a column that a row lacks is null.

    Example:
        >>> table_of([{"a": 1}, {}], pa.schema([("a", pa.int8())])).to_pylist()
        [{'a': 1}, {'a': None}]
    """
    arrays = [_array([row.get(f.name) for row in rows], f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: list[Any], dtype: pa.DataType) -> pa.Array:
    if _is_moment(dtype):
        width = pa.int32() if pa.types.is_time32(dtype) else pa.int64()
        unit = _UNIT_NS[dtype.unit]
        return pa.array([None if v is None else v // unit for v in values], width).cast(dtype)
    return pa.array(values, dtype)


def canonical(rows: Iterable[Row], *, ordered: bool = False) -> list[tuple[tuple[str, str], ...]]:
    """Rows in a form that compares by `==` whichever engine they came from.

    NaN equals NaN, 1.10 equals 1.1 as decimals, 0.0 differs from -0.0, 1 differs from True. Columns
    are compared by name, not by place.

    Args:
        rows: In the oracle's form.
        ordered: Whether their order counts.

    Example:
        >>> canonical([{"x": float("nan")}]) == canonical([{"x": -float("nan")}])
        True
    """
    found = [tuple(sorted((name, _text(value)) for name, value in row.items())) for row in rows]
    return found if ordered else sorted(found)


def _text(value: object) -> str:
    match value:
        case float():
            return "float nan" if math.isnan(value) else f"float {value!r}"
        case Decimal():
            return f"decimal {Fraction(value)}"
        case bytearray() | memoryview():
            return _text(bytes(value))
        case dt.datetime():
            raise TypeError(f"{value!r}: give timestamps as integers, as rows_of does")
    return f"{type(value).__name__} {value!r}"


# --- predicates ---------------------------------------------------------------------------------


# Any: the JSON AST.
def matches(
    ast: dict[str, Any] | None, row: Row, schema: pa.Schema, dialect: Dialect = "ours"
) -> bool | None:
    """Evaluate a predicate on one row, in three-valued logic.

    Args:
        ast: The wire's AST; None and `{}` hold for every row.
        row: In the oracle's form.
        schema: Types the literals.
        dialect: Whose meaning. `ours` is the protocol's; `polars`, `daft` (rows in memory) and
            `arrow` (pyarrow and Ray, in memory) differ from it in NaN, -0.0 and null in a list.

    Returns:
        True, False, or None for unknown; only True keeps the row.

    Example:
        >>> matches({"gt": ["x", 1]}, {"x": float("nan")}, pa.schema([("x", pa.float64())]))
        True
    """
    if not ast:
        return True
    ((op, body),) = ast.items()
    match op:
        case "and":
            return _all([matches(node, row, schema, dialect) for node in body])
        case "or":
            return _not(_all([_not(matches(node, row, schema, dialect)) for node in body]))
        case "not":
            return _not(matches(body, row, schema, dialect))
        case "is_null":
            return row[body] is None
        case "between":
            column, low, high = body
            parts: list[dict[str, Any]] = [{"gte": [column, low]}, {"lte": [column, high]}]
            return _all([matches(part, row, schema, dialect) for part in parts])
    column, operand = body
    dtype = schema.field(column).type
    value = _exact(row[column], dtype)
    if op == "in":
        return _contains(value, [literal_of(v, dtype) for v in operand], dialect)
    return _compare(op, value, literal_of(operand, dtype), dialect)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _all(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


# Any: values of one column's type, made comparable: exact numbers, text, bytes, nanoseconds.
def _compare(op: str, value: Any, literal: Any, dialect: Dialect) -> bool | None:
    if value is None or literal is None:
        return None
    if dialect == "arrow" and (_is_nan(value) or _is_nan(literal)):
        return op == "neq"
    left, right = _rank(value, dialect), _rank(literal, dialect)
    results: dict[str, bool] = {
        "eq": left == right,
        "neq": left != right,
        "gt": left > right,
        "gte": left >= right,
        "lt": left < right,
        "lte": left <= right,
    }
    return results[op]


def _contains(value: Any, literals: list[Any], dialect: Dialect) -> bool | None:
    if dialect == "arrow":
        # Arrow's set membership: null is an ordinary member, floats compare by their bits.
        return _bits(value) in [_bits(v) for v in literals]
    found = [_compare("eq", value, v, dialect) for v in literals if v is not None]
    if dialect == "daft":
        # SQL's `x = a OR x = b`, which is FALSE for an empty list even where x is null.
        unknown = bool(literals) and (value is None or None in literals)
        return True if True in found else None if unknown else False
    return None if value is None else True in found


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _rank(value: Any, dialect: Dialect) -> Any:
    """A key that orders as the dialect does: NaN last; Daft puts -0.0 before 0.0."""
    if not isinstance(value, float | Fraction | int) or isinstance(value, bool):
        return value
    if _is_nan(value):
        return (1, Fraction(0), 0)
    if isinstance(value, float) and math.isinf(value):
        return (0, value, 0)
    negative_zero = isinstance(value, float) and value == 0 and math.copysign(1, value) < 0
    return (0, Fraction(value), -1 if negative_zero and dialect == "daft" else 0)


def _bits(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return value


def _exact(value: Any, dtype: pa.DataType) -> Any:
    if isinstance(value, Decimal):
        return Fraction(value)
    if pa.types.is_date(dtype) and value is not None:
        return (value.toordinal() - dt.date(1970, 1, 1).toordinal()) * _DAY_NS
    return value


# Any: see `_compare`.
def literal_of(value: object, dtype: pa.DataType) -> Any:
    """What a JSON literal means against a column of `dtype`: an exact, comparable value.

    Temporal literals become nanoseconds, decimals fractions, numbers against a float column
    floats where a float64 holds them exactly, and fractions else.

    Example:
        >>> literal_of("1970-01-01T00:00:00.000000001", pa.timestamp("us"))
        1
        >>> literal_of("0.10", pa.decimal128(5, 2))
        Fraction(1, 10)
    """
    t = pa.types
    dtype = dtype.value_type if t.is_dictionary(dtype) else dtype
    if value is None:
        return None
    if t.is_boolean(dtype) or t.is_string(dtype) or t.is_large_string(dtype):
        return value
    if t.is_string_view(dtype):
        return value
    binary = t.is_binary(dtype) or t.is_large_binary(dtype) or t.is_binary_view(dtype)
    if isinstance(value, str) and (binary or t.is_fixed_size_binary(dtype)):
        return base64.b64decode(value, validate=True)
    if t.is_duration(dtype):
        return _duration(str(value))
    if pa.types.is_temporal(dtype):
        return _nanos(str(value))
    if isinstance(value, str):
        return _SPECIALS[value] if value in _SPECIALS else Fraction(Decimal(value))
    if isinstance(value, float) and (math.isinf(value) or pa.types.is_floating(dtype)):
        return value
    if isinstance(value, float) and not value.is_integer():
        return Fraction(Decimal(repr(value)))
    if isinstance(value, int | float):
        return _as_float(Fraction(value)) if pa.types.is_floating(dtype) else Fraction(value)
    raise TypeError(f"{value!r} is no literal")


def _as_float(value: Fraction) -> float | Fraction:
    try:
        return float(value) if Fraction(float(value)) == value else value
    except OverflowError:
        return value


_ISO = re.compile(
    r"(?:(\d{4})-(\d\d)-(\d\d))?[T ]?(?:(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?"
    r"(?:(Z)|([+-])(\d\d):?(\d\d))?"
)


def _nanos(text: str) -> int:
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no ISO-8601 text")
    year, month, day, hour, minute, second, fraction, _, sign, zone_h, zone_m = found.groups()
    nanos = int((fraction or "0").ljust(9, "0"))
    seconds = int(hour or 0) * 3600 + int(minute or 0) * 60 + int(second or 0)
    if sign:
        offset = int(zone_h) * 3600 + int(zone_m) * 60
        seconds -= offset if sign == "+" else -offset
    if year:
        seconds += (dt.date(int(year), int(month), int(day)) - dt.date(1970, 1, 1)).days * 86_400
    return seconds * 10**9 + nanos


def _duration(text: str) -> Fraction:
    sign, days, hours, minutes, seconds = re.fullmatch(
        r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", text
    ).groups()  # type: ignore[union-attr]
    whole = int(days or 0) * 86_400 + int(hours or 0) * 3600 + int(minutes or 0) * 60
    found = (whole + Fraction(seconds or 0)) * 10**9
    return -found if sign else found


# --- tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commit:
    """One write: `rows` of a delete need the merge keys and partition columns only.

    `by` names the columns that a delete matches by, where they are not the merge keys.
    """

    mode: Mode
    rows: tuple[Row, ...]
    by: tuple[str, ...] = ()


@dataclass
class Table:
    """A table as its history leaves it.

    Rows with merge keys live in a dict per partition: a null key equals a null key, a written row
    replaces the whole earlier one and moves to the end, a delete removes what is there, and a
    later write brings the key back. Rows without keys only accumulate. Of the rows of one key in
    one write the last stays, or by `order` the one of the largest value of a column (`True`) or the
    smallest: null beats NaN, NaN beats all else, and equals are decided by the next column, then
    by which is last.

    Example:
        >>> table = Table(pa.schema([("k", pa.int64()), ("v", pa.string())]), merge_keys=("k",))
        >>> table.apply([Commit("merge", ({"k": 1, "v": "a"}, {"k": 2, "v": "b"})),
        ...              Commit("delete", ({"k": 1},)), Commit("merge", ({"k": 2, "v": "c"},))])
        [{'k': 2, 'v': 'c'}]
    """

    schema: pa.Schema
    merge_keys: tuple[str, ...] = ()
    partition_columns: tuple[str, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    _partitions: dict[tuple[Any, ...], dict[object, Row]] = field(default_factory=dict)
    _written: int = 0

    def apply(self, history: Iterable[Commit]) -> list[Row]:
        """Add commits, in order; the rows that survive, in reading order.

        Reading order is partition (in order of first appearance), commit, row.
        """
        for commit in history:
            self._apply(commit)
        return self.rows()

    def rows(self) -> list[Row]:
        """The rows that survive, in reading order."""
        return [row for partition in self._partitions.values() for row in partition.values()]

    def _apply(self, commit: Commit) -> None:
        if commit.mode == "replace":
            self._partitions.clear()
        if commit.mode == "replace_partition":
            for row in commit.rows:
                self._partitions.pop(self._place(row), None)
        if commit.by:
            self._delete(commit)
            return
        best = self._best(commit.rows) if self.merge_keys else {}
        for row in commit.rows:
            partition = self._partitions.setdefault(self._place(row), {})
            # Taking the old row out first moves a rewritten key to the end, as in reading order.
            if best.get((self._place(row), self._identity(row)), row) is row:
                partition.pop(self._identity(row), None)
                if commit.mode != "delete":
                    held = {name: row.get(name) for name in self.schema.names}
                    partition[self._identity(row)] = held
            self._written += 1

    def _best(self, rows: Sequence[Row]) -> dict[object, Row]:
        """The row of each key of one write that stays."""
        best: dict[object, Row] = {}
        for row in rows:
            key = (self._place(row), self._identity(row))
            if key not in best or self._beats(row, best[key]):
                best[key] = row
        return best

    def _beats(self, row: Row, other: Row) -> bool:
        for column, largest in self.order:
            if column in row:
                one, two = _precedence(row[column]), _precedence(other[column])
                if one != two:
                    return bool((one > two) == (largest or one[0] != two[0]))
        return True

    def _delete(self, commit: Commit) -> None:
        for row in commit.rows:
            partition = self._partitions.get(self._place(row), {})
            wanted = [_precedence(row[name]) for name in commit.by]
            for key, held in list(partition.items()):
                if [_precedence(held[name]) for name in commit.by] == wanted:
                    del partition[key]

    def _place(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.partition_columns)

    def _identity(self, row: Row) -> object:
        return tuple(row[name] for name in self.merge_keys) if self.merge_keys else self._written


# Any: values of one column, in the oracle's form.
def _precedence(value: Any) -> tuple[int, Any]:
    """Compares as merge orders do: null above NaN above all else."""
    return (2, 0) if value is None else (1, 0) if _is_nan(value) else (0, value)


def answer(
    rows: Sequence[Row],
    schema: pa.Schema,
    *,
    ast: dict[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    offset: int = 0,
    dialect: Dialect = "ours",
) -> list[Row]:
    """What a read of `rows` returns: filtered, then cut, then projected, in order."""
    kept = [row for row in rows if matches(ast, row, schema, dialect) is True]
    end = None if limit is None else offset + limit
    names = schema.names if columns is None else list(columns)
    return [{name: row[name] for name in names} for row in kept[offset:end]]
