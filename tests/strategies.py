"""Which tables, histories and questions are worth trying? Hypothesis strategies, and translators.

Values come from small pools per type, so that keys collide and predicates hit: each pool holds the
extremes, and the values on which engines and statistics are known to go wrong. Predicates are the
wire's AST. `to_polars`, `to_daft` and `to_ray` say the same in an engine's own expressions, for
asts drawn from `engine_predicates`.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import math
import operator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeGuard
from zoneinfo import ZoneInfo

import pyarrow as pa
from hypothesis import strategies as st

from io_core.merge_order import MERGE_ORDER, dump_merge_order
from tests.oracle import Commit, Row, Table, literal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "TYPES",
    "Case",
    "Engine",
    "Query",
    "TableSpec",
    "beyond",
    "cases",
    "engine_predicates",
    "histories",
    "limits",
    "predicates",
    "projections",
    "queries",
    "specs",
    "to_daft",
    "to_polars",
    "to_ray",
    "wire_literal",
]

Engine = Literal["polars", "daft", "ray"]

# Any: the JSON AST, and an engine's untyped expressions.
Ast = dict[str, Any]
Expr = Any

_DAY_NS = 86_400 * 10**9
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NOON = 1_740_830_400 * 10**9
_LONG = "l" * 70  # longer than the 64 bytes that some writers keep of a bound
_NS_RANGE = [-8_520_336_000 * 10**9, 7_258_118_400 * 10**9]  # the years 1700 and 2200
_STRINGS = [
    "",
    "a",
    "ab",
    "b",
    "B",
    " ",
    "'",
    "é",
    "日本",
    "😀",
    _LONG,
    _LONG + "a",
    "\U0010ffff" * 20,
]


def _integers(dtype: pa.DataType) -> list[int]:
    bits = dtype.bit_width
    if pa.types.is_unsigned_integer(dtype):
        return [0, 1, 2, 3, 2**bits - 2, 2**bits - 1]
    return [-1, 0, 1, 2, 3, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1]


_FLOATS = [0.0, -0.0, 1.0, 1.5, -2.0, 16777216.0, math.nan, math.inf, -math.inf]
_MICROS = [_NOON, _NOON + 1000, _NOON + 10**9, _NOON - _DAY_NS, 0, -1000, *_NS_RANGE]
_NANOS = [*_MICROS, _NOON + 1, _NOON + 999, -1]

# Any: values of the column's type, in the oracle's form.
TYPES: Mapping[pa.DataType, list[Any]] = {
    **{t: _integers(t) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{t: _integers(t) for t in (pa.uint8(), pa.uint16(), pa.uint32())},
    pa.float32(): [*_FLOATS, 3.4028234663852886e38],
    pa.float64(): [*_FLOATS, 0.1, 9007199254740992.0, 1.7976931348623157e308],
    pa.bool_(): [True, False],
    pa.string(): _STRINGS,
    pa.binary(): [b"", b"a", b"ab", b"\x00", b"\xff", b"\xff" * 70, b"l" * 70],
    pa.date32(): [
        dt.date(2025, 3, 1), dt.date(2025, 3, 2), dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31)
    ],
    pa.timestamp("us"): _MICROS,
    pa.timestamp("us", "UTC"): _MICROS,
    pa.timestamp("ns"): _NANOS,
    pa.timestamp("ns", "Europe/Berlin"): _NANOS,
    pa.decimal128(12, 3): [Decimal(v) for v in ("0.000", "0.001", "1.500", "-1.500", "999999999.999")],
    pa.decimal128(28, 6): [Decimal(v) for v in ("0.000000", "0.100000", "-7.000001", "9" * 20 + ".999999")],
    pa.time64("us"): [0, 1000, 43_200 * 10**9, _DAY_NS - 1000],
}  # fmt: skip

_KEY_TYPES = (pa.int64(), pa.string(), pa.date32())
_PARTITION_TYPES = (pa.string(), pa.int64(), pa.int32(), pa.date32(), pa.bool_())
_KEY_VALUES = 5
_NAMES = ("x", "y", "z", "größe x", "Value_4", "w")


@dataclass(frozen=True)
class TableSpec:
    """What a table is created with; the partition transform is identity."""

    schema: pa.Schema
    merge_keys: tuple[str, ...] = ()
    partition_columns: tuple[str, ...] = ()
    # Columns that decide between rows of one key in one write, and whether the largest wins; the
    # schema says so too.
    order: tuple[tuple[str, bool], ...] = ()

    def table(self) -> Table:
        """The oracle's empty table of this kind."""
        return Table(self.schema, self.merge_keys, self.partition_columns, self.order)

    @property
    def delete_schema(self) -> pa.Schema:
        """The columns that a delete has to name."""
        names = dict.fromkeys(self.merge_keys + self.partition_columns)
        return pa.schema([self.schema.field(name) for name in names])

    @property
    def partition_scheme(self) -> dict[str, Any] | None:
        """The scheme as `create_table` takes it; None for an unpartitioned table."""
        keys = [{"key": [name], "transform": "identity"} for name in self.partition_columns]
        return {"keys": keys} if keys else None


@dataclass(frozen=True)
class Query:
    """One question; `limit` and `offset` count rows, None columns are all of them."""

    ast: Ast | None = None
    columns: tuple[str, ...] | None = None
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Case:
    """A table, how it came about, and what is asked of it."""

    spec: TableSpec
    history: tuple[Commit, ...]
    queries: tuple[Query, ...]
    max_rows_per_file: int = 1_000_000

    def rows(self) -> list[Row]:
        """The rows that the oracle says are left."""
        return self.spec.table().apply(self.history)


# --- tables -------------------------------------------------------------------------------------


@st.composite
def specs(
    draw: st.DrawFn, *, types: Sequence[pa.DataType] = tuple(TYPES), keyed: bool | None = None
) -> TableSpec:
    """Tables with 0 to 2 merge keys, at most one partition column, and 1 to 5 further columns.

    Args:
        types: Of the further columns.
        keyed: Whether there are merge keys; None draws it.
    """
    has_keys = draw(st.booleans()) if keyed is None else keyed
    keys = draw(st.lists(st.sampled_from(_KEY_TYPES), min_size=1, max_size=2)) if has_keys else []
    fields = [pa.field(f"k{i}", dtype) for i, dtype in enumerate(keys)]
    partition = draw(st.none() | st.sampled_from(_PARTITION_TYPES))
    if partition is not None:
        fields.append(pa.field("p", partition))
    count = draw(st.integers(1, 5))
    fields += [pa.field(name, draw(st.sampled_from(types))) for name in _NAMES[:count]]
    merge_keys = tuple(f"k{i}" for i in range(len(keys)))
    order = draw(_orders(_NAMES[:count])) if keys else {}
    schema = pa.schema([_ordering(f, order.get(f.name)) for f in fields])
    partitions = ("p",) if partition is not None else ()
    ordered = tuple((name, order[name]) for name in schema.names if name in order)
    return TableSpec(schema, merge_keys, partitions, ordered)


def _orders(names: Sequence[str]) -> st.SearchStrategy[dict[str, bool]]:
    """No merge order, mostly; else of one or two columns, and whether the largest wins."""
    some = st.dictionaries(st.sampled_from(names), st.booleans(), min_size=1, max_size=2)
    return st.just({}) | st.just({}) | some


def _ordering(field: pa.Field, largest: bool | None) -> pa.Field:
    if largest is None:
        return field
    order = {"sort_order": "descending" if largest else "ascending"}
    return field.with_metadata({MERGE_ORDER: dump_merge_order(field.name, order)})


def _domain(spec: TableSpec, name: str) -> list[Any]:
    pool = TYPES[spec.schema.field(name).type]
    narrow = name in spec.merge_keys or name in spec.partition_columns
    return pool[: _KEY_VALUES if name in spec.merge_keys else 3] if narrow else pool


def _rows(
    spec: TableSpec, names: Sequence[str], max_rows: int
) -> st.SearchStrategy[tuple[Row, ...]]:
    columns = {name: st.sampled_from([*_domain(spec, name), None]) for name in names}
    return st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=max_rows).map(tuple)


def histories(
    spec: TableSpec, *, max_commits: int = 6, max_rows: int = 12, replaces: bool = False
) -> st.SearchStrategy[tuple[Commit, ...]]:
    """1 to `max_commits` writes that the table accepts, each of 1 to `max_rows` rows.

    Args:
        spec: Decides the modes: merge and delete with merge keys, add and append without.
        max_commits: At most so many writes.
        max_rows: At most so many rows in a write.
        replaces: Whether a write may replace the table, or partitions of it.
    """
    modes = ["auto", "merge", "delete"] if spec.merge_keys else ["auto", "add", "append"]
    if replaces:
        modes += ["replace", "replace_partition"] if spec.partition_columns else ["replace"]

    def commit(mode: Any) -> st.SearchStrategy[Commit]:
        names = spec.delete_schema.names if mode == "delete" else spec.schema.names
        return st.builds(Commit, st.just(mode), _rows(spec, names, max_rows))

    commits = st.sampled_from(modes).flatmap(commit)
    return st.lists(commits, min_size=1, max_size=max_commits).map(tuple)


# --- questions ----------------------------------------------------------------------------------


# Any: a JSON scalar.
def wire_literal(value: object, dtype: pa.DataType) -> Any:
    """Write one of the oracle's values as the JSON scalar that stands for it.

    Example:
        >>> wire_literal(1, pa.timestamp("ns", "UTC")), wire_literal(float("nan"), pa.float64())
        ('1970-01-01T00:00:00.000000001Z', 'NaN')
    """
    match value:
        case int() if pa.types.is_timestamp(dtype):
            moment = _EPOCH + dt.timedelta(seconds=value // 10**9)
            zone = "Z" if dtype.tz else ""
            return f"{moment.replace(tzinfo=None).isoformat()}.{value % 10**9:09d}{zone}"
        case int() if pa.types.is_time(dtype):
            moment = _EPOCH + dt.timedelta(seconds=value // 10**9)
            return f"{moment.time().isoformat()}.{value % 10**9:09d}"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return str(value)
        case dt.date():
            return value.isoformat()
    return value


# Any: JSON scalars.
def beyond(dtype: pa.DataType) -> list[Any]:
    """Literals of the right kind that the type cannot hold, or that are written unusually."""
    if pa.types.is_integer(dtype):
        return [0.5, -0.5, 2.0, 2**40 + 1, 2**70, -(2**70), 2**53 + 1, "1.5", "2", 1e300]
    if pa.types.is_floating(dtype):
        return [0, -1, 2**53 + 1, -(2**53) - 1, 16777217, 0.1, 1e-320, 10**400, -(10**400)]
    if pa.types.is_decimal(dtype):
        return [0, 1.5, "0.0005", "1.5", "1e30", 0.1, -(10**40)]
    if pa.types.is_date(dtype):
        return ["2025-03-01T00:00:00", "2025-03-01T12:00:00", "2025-03-01T00:00:00.000000001"]
    if pa.types.is_timestamp(dtype):
        zoned = ["2025-03-01T13:00:00+01:00", "2025-03-01T12:00:00.000001Z"] if dtype.tz else []
        return [
            *zoned,
            "2025-03-01",
            "2025-03-01 12:00:00",
            "2025-03-01T12:00:00.000000500",
            "0001-01-01",
        ]
    if pa.types.is_time(dtype):
        return ["12:00:00", "12:00", "00:00:00.000000500"]
    if pa.types.is_string(dtype):
        return [_LONG[:64], _LONG[:63] + "m", "\U0010ffff"]
    return []


def _literals(dtype: pa.DataType) -> list[Any]:
    pool = TYPES.get(dtype, [])
    near = [v + d for v in pool for d in (-1, 1)] if pa.types.is_integer(dtype) else []
    return [*(wire_literal(v, dtype) for v in pool), *near, *beyond(dtype)]


_COMPARISONS = ("eq", "neq", "gt", "gte", "lt", "lte")


def _leaves(
    column: str, literals: Sequence[Any], lists: st.SearchStrategy[list[Any]]
) -> st.SearchStrategy[Ast]:
    literal = st.sampled_from(literals)
    compare = st.builds(lambda op, v: {op: [column, v]}, st.sampled_from(_COMPARISONS), literal)
    between = st.builds(lambda low, high: {"between": [column, low, high]}, literal, literal)
    within = lists.map(lambda values: {"in": [column, values]})
    # Comparisons are drawn more often than the rest.
    return compare | compare | between | within | st.just({"is_null": column})


def _trees(leaves: st.SearchStrategy[Ast], max_leaves: int) -> st.SearchStrategy[Ast]:
    def grow(children: st.SearchStrategy[Ast]) -> st.SearchStrategy[Ast]:
        several = st.lists(children, min_size=2, max_size=3)
        return (
            several.map(lambda nodes: {"and": nodes})
            | several.map(lambda nodes: {"or": nodes})
            | children.map(lambda node: {"not": node})
        )

    return st.recursive(leaves, grow, max_leaves=max_leaves)


def predicates(schema: pa.Schema, *, max_leaves: int = 5) -> st.SearchStrategy[Ast]:
    """ASTs that fit `schema`: all twelve operators, with null literals and ones no value equals."""
    leaves = []
    for field in schema:
        literals = [*_literals(field.type), None]
        leaves.append(
            _leaves(field.name, literals, st.lists(st.sampled_from(literals), max_size=4))
        )
    return _trees(st.one_of(leaves), max_leaves)


def engine_predicates(
    schema: pa.Schema, engine: Engine, *, max_leaves: int = 4
) -> st.SearchStrategy[Ast]:
    """ASTs that `to_polars`, `to_daft` and `to_ray` can say without loss.

    Every literal is a value of its column's type: with others, engines differ in how they round.
    """
    leaves = []
    for field in schema:
        pool = TYPES[field.type]
        # Daft refuses to compare temporal columns with null, and with an empty list.
        plain = engine != "daft" or not pa.types.is_temporal(field.type)
        null = [None] if plain else []
        # Python's datetimes end at microseconds, and a list takes nothing else.
        members = [v for v in pool if not _is_nanos(v, field.type)]
        literals, listed = (
            [*(wire_literal(v, field.type) for v in p), *null] for p in (pool, members)
        )
        lists = st.lists(st.sampled_from(listed), min_size=0 if plain else 1, max_size=4)
        if engine == "ray":
            # Arrow types a list by its values, and takes an untyped one for numbers only.
            lists = lists.filter(lambda values: any(v is not None for v in values))
        leaves.append(_leaves(field.name, literals, lists))
    return _trees(st.one_of(leaves), max_leaves)


def _is_nanos(value: object, dtype: pa.DataType) -> bool:
    return pa.types.is_timestamp(dtype) and isinstance(value, int) and value % 1000 != 0


def projections(schema: pa.Schema) -> st.SearchStrategy[tuple[str, ...] | None]:
    """None, or one or more columns in any order."""
    some = st.lists(st.sampled_from(schema.names), min_size=1, unique=True).map(tuple)
    return st.none() | some


def limits() -> st.SearchStrategy[int | None]:
    """None, or a number of rows from 0 on."""
    return st.none() | st.sampled_from([0, 1, 2, 5, 100])


def queries(
    schema: pa.Schema, asts: st.SearchStrategy[Ast] | None = None
) -> st.SearchStrategy[Query]:
    """Questions to a table; `asts` None draws from `predicates`."""
    found = predicates(schema) if asts is None else asts
    return st.builds(
        Query, st.none() | found, projections(schema), limits(), st.sampled_from([0, 0, 0, 1, 3])
    )


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    engine: Engine | None = None,
    types: Sequence[pa.DataType] = tuple(TYPES),
    max_queries: int = 12,
    replaces: bool = False,
) -> Case:
    """A table, its history, and up to `max_queries` questions to it.

    Args:
        engine: Draw predicates that this engine's own expressions can say; None: the wire's.
        types: Of the columns that are neither key nor partition column.
        max_queries: Many questions per table make a slow engine affordable.
        replaces: See `histories`.
    """
    spec = draw(specs(types=types))
    asts = None if engine is None else engine_predicates(spec.schema, engine)
    asked = draw(st.lists(queries(spec.schema, asts), min_size=1, max_size=max_queries))
    return Case(
        spec=spec,
        history=draw(histories(spec, replaces=replaces)),
        queries=tuple(asked),
        max_rows_per_file=draw(st.sampled_from([1_000_000, 1, 2, 5])),
    )


# --- an engine's own expressions ----------------------------------------------------------------


def to_polars(ast: Ast, schema: pa.Schema) -> Expr:
    """The predicate as a `polars.Expr`."""
    import polars as pl

    dtypes = pl.DataFrame(schema.empty_table()).schema

    def literal(value: object, column: str) -> Expr:
        if isinstance(value, int) and pa.types.is_timestamp(schema.field(column).type):
            return pl.lit(value // _unit(schema.field(column).type)).cast(dtypes[column])
        return pl.lit(_scalar(value, schema.field(column).type))

    def within(column: str, values: list[Any]) -> Expr:
        dtype = schema.field(column).type
        series = pl.Series([_scalar(v, dtype) for v in values], dtype=dtypes[column], strict=False)
        return pl.col(column).is_in(series.implode())

    return _translate(ast, schema, pl.col, literal, within)


def to_daft(ast: Ast, schema: pa.Schema) -> Expr:
    """The predicate as a `daft.Expression`."""
    import daft

    def literal(value: object, column: str) -> Expr:
        dtype = schema.field(column).type
        if isinstance(value, int) and pa.types.is_timestamp(dtype):
            kind = daft.DataType.timestamp(dtype.unit, dtype.tz)
            return daft.lit(value // _unit(dtype)).cast(kind)
        return daft.lit(_scalar(value, dtype))

    def within(column: str, values: list[Any]) -> Expr:
        dtype = schema.field(column).type
        if pa.types.is_timestamp(dtype):
            # Daft compares nanoseconds with Python's datetimes in microseconds.
            return daft.col(column).is_in([literal(v, column) for v in values])
        return daft.col(column).is_in([_scalar(v, dtype) for v in values])

    return _translate(ast, schema, daft.col, literal, within)


def to_ray(ast: Ast, schema: pa.Schema) -> Expr:
    """The predicate as a `ray.data.expressions.Expr`."""
    from ray.data.expressions import col, lit

    def plain(value: object, column: str) -> object:
        dtype = schema.field(column).type
        found = _scalar(value, dtype)
        # Arrow compares zoned timestamps of one zone only.
        return found.astimezone(ZoneInfo(dtype.tz)) if _is_zoned(found) else found

    def literal(value: object, column: str) -> Expr:
        dtype = schema.field(column).type
        if _is_nanos(value, dtype):
            return lit(pa.scalar(value, pa.int64()).cast(dtype))
        return lit(plain(value, column))

    def within(column: str, values: list[Any]) -> Expr:
        return col(column).is_in([plain(v, column) for v in values])

    return _translate(ast, schema, col, literal, within)


def _is_zoned(value: object) -> TypeGuard[dt.datetime]:
    return isinstance(value, dt.datetime) and value.tzinfo is not None


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def _translate(
    ast: Ast,
    schema: pa.Schema,
    col: Callable[[str], Expr],
    literal: Callable[[object, str], Expr],
    within: Callable[[str, list[Any]], Expr],
) -> Expr:
    """Build an expression with operators that all engines overload.

    A range is said as two comparisons: Polars' own `is_between` is unknown where one bound is null,
    even if the other one decides.
    """
    ((op, body),) = ast.items()
    if op in ("and", "or"):
        parts = [_translate(node, schema, col, literal, within) for node in body]
        return functools.reduce(operator.and_ if op == "and" else operator.or_, parts)
    if op == "not":
        return ~_translate(body, schema, col, literal, within)
    if op == "is_null":
        return col(body).is_null()
    column, *operands = body
    dtype = schema.field(column).type
    if op == "in":
        return within(column, [literal_of(v, dtype) for v in operands[0]])
    values = [literal(literal_of(v, dtype), column) for v in operands]
    if op == "between":
        return (col(column) >= values[0]) & (col(column) <= values[1])
    return _OPERATORS[op](col(column), values[0])


def _unit(dtype: pa.DataType) -> int:
    return {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[str(dtype.unit)]


# Any: a Python value that engines take as a literal.
def _scalar(value: Any, dtype: pa.DataType) -> Any:
    """A comparable value, as `literal_of` gives it, as the Python value that people write."""
    if value is None:
        return None
    if pa.types.is_date(dtype):
        return (_EPOCH + dt.timedelta(seconds=value // 10**9)).date()
    if pa.types.is_timestamp(dtype):
        moment = _EPOCH + dt.timedelta(microseconds=value // 1000)
        return moment if dtype.tz else moment.replace(tzinfo=None)
    if pa.types.is_time(dtype):
        return (_EPOCH + dt.timedelta(microseconds=value // 1000)).time()
    if pa.types.is_decimal(dtype):
        return Decimal(int(value * 10**dtype.scale)).scaleb(-dtype.scale)
    if pa.types.is_integer(dtype) and isinstance(value, Fraction):
        return int(value)
    return value
