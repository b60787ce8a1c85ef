"""Whether translated expressions keep every row that Polars keeps, and predicates exactly ours."""

from __future__ import annotations

import datetime as dt
import functools
import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.lazyframe.resolver import LazyFrameResolver

from deltacat_sources.polars.expression import from_predicate
from deltacat_sources.polars.names import below, lowered, raised, translated
from deltacat_sources.polars.predicate import translate
from io_core.predicate import (
    And,
    Between,
    Compare,
    In,
    IsNull,
    Not,
    Or,
    Predicate,
    bind,
    dump,
    parse,
)
from io_core.predicate_arrow import to_arrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from polars.lazyframe.resolver import FilterExpr

NAN, INF = float("nan"), float("inf")
DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 1500)
UTC_NOON = NOON.replace(tzinfo=dt.UTC)
PARIS_NIGHT = dt.datetime(2024, 10, 27, 0, 30, tzinfo=dt.UTC).astimezone(ZoneInfo("Europe/Paris"))
EXACT = 2**53

# Every column: its type, values that rows hold, and literals that expressions compare with it.
COLUMNS: dict[str, tuple[pa.DataType, list[Any], list[Any]]] = {
    "i64": (
        pa.int64(),
        [-1, 0, 1, 2, EXACT, EXACT + 1, 2**63 - 1],
        [0, 1.5, -(2**70), EXACT + 1.0],
    ),
    "i8": (pa.int8(), [-128, -1, 0, 1, 127], [1000, -1.5, INF, NAN, 128]),
    "u64": (pa.uint64(), [0, 1, EXACT + 1, 2**64 - 1], [-1, 0.5, 2**63]),
    "f64": (pa.float64(), [NAN, -INF, -0.0, 0.0, 1.5, float(EXACT)], [0, EXACT + 1, 0.1]),
    "f32": (pa.float32(), [NAN, -0.0, 0.0, 1.5, 0.1], [0.1, 1, 1e300, INF, -0.0]),
    "text": (pa.string(), ["", "a", "ab", "b", "é", "\U0010ffff"], ["aa", "a\U0010ffff", "z"]),
    "flag": (pa.bool_(), [True, False], [True]),
    "day": (
        pa.date32(),
        [DAY, dt.date(1, 1, 1), dt.date(9999, 12, 31)],
        [NOON, dt.date(2024, 3, 1)],
    ),
    "ms": (pa.timestamp("ms"), [dt.datetime(2024, 2, 29, 12, 0, 0, 1000)], [NOON, DAY]),
    "us": (pa.timestamp("us"), [NOON, dt.datetime(2024, 2, 29)], [DAY, dt.date(3000, 1, 1)]),
    "ns": (pa.timestamp("ns"), [NOON, dt.datetime(2024, 2, 29)], [DAY, dt.datetime(3000, 1, 1)]),
    "utc": (pa.timestamp("us", "UTC"), [UTC_NOON, UTC_NOON + dt.timedelta(1)], [UTC_NOON]),
    "paris": (
        pa.timestamp("ms", "Europe/Paris"),
        # Both sides of a change of clocks: local times come twice, or never.
        [PARIS_NIGHT + dt.timedelta(minutes=30 * i) for i in range(4)],
        [PARIS_NIGHT, PARIS_NIGHT + dt.timedelta(microseconds=1500)],
    ),
    "price": (
        pa.decimal128(9, 2),
        [Decimal("1.50"), Decimal("-0.01"), Decimal("9999999.99")],
        [Decimal("1.505"), Decimal("1.5"), 1, 1.5, Decimal(10) ** 9],
    ),
    "clock": (pa.time64("us"), [dt.time(1), dt.time(23, 59, 59, 999999)], [dt.time(0)]),
    "span": (
        pa.duration("us"),
        [dt.timedelta(1), dt.timedelta(microseconds=-1)],
        [dt.timedelta(0)],
    ),
    "raw": (pa.binary(), [b"", b"a", b"\xff"], [b"ab"]),
}
SCHEMA = pa.schema([(name, dtype) for name, (dtype, _, _) in COLUMNS.items()])
_HEIGHT = 2 + max(len(values) for _, values, _ in COLUMNS.values())
ROWS = pa.table(
    [
        pa.array([*values, *[None] * (_HEIGHT - len(values))], dtype)
        for dtype, values, _ in COLUMNS.values()
    ],
    schema=SCHEMA,
).append_column("row", pa.array(range(_HEIGHT)))
FRAME = pl.DataFrame(ROWS)

COMPARISONS: list[Callable[[Any, Any], pl.Expr]] = [
    operator.eq,
    operator.ne,
    operator.gt,
    operator.ge,
    operator.lt,
    operator.le,
]

# As many as each example of a property takes at once.
PER_EXAMPLE = 34
CLOSED: list[Literal["both", "left", "right", "none"]] = ["both", "left", "right", "none"]


def literals(name: str) -> st.SearchStrategy[Any]:
    _, values, others = COLUMNS[name]
    return st.sampled_from([*values, *others, None])


def compare(draw: st.DrawFn, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    build: Callable[[Any, Any], pl.Expr] = draw(st.sampled_from(COMPARISONS))
    return build(left, right)


@st.composite
def leaves(draw: st.DrawFn) -> pl.Expr:
    name = draw(st.sampled_from(list(COLUMNS)))
    column, value = pl.col(name), draw(literals(name))
    dtype = FRAME.schema[name]
    kind = draw(
        st.sampled_from(["compare", "mirrored", "missing", "in", "between", "null", "other"])
    )
    match kind:
        case "compare":
            return compare(draw, column, pl.lit(value))
        case "mirrored":
            return compare(draw, pl.lit(value), column)
        case "missing":
            return column.ne_missing(value) if draw(st.booleans()) else column.eq_missing(value)
        case "in":
            values = draw(st.lists(st.sampled_from([*COLUMNS[name][1], None]), max_size=3))
            listed = pl.Series([values], dtype=pl.List(dtype))
            return column.is_in(pl.lit(listed), nulls_equal=draw(st.booleans()))
        case "between":
            closed = draw(st.sampled_from(CLOSED))
            return column.is_between(pl.lit(value), pl.lit(draw(literals(name))), closed=closed)
        case "null":
            return column.is_null() if draw(st.booleans()) else column.is_not_null()
    match name:
        case "flag":
            return column
        case "text":
            return column.str.starts_with(
                draw(st.sampled_from(["", "a", "é", "\U0010ffff", "\ud7ff"]))
            )
        case "f64" | "f32":
            return column.is_nan() if draw(st.booleans()) else column.is_not_nan()
        case "i64" | "i8":
            widened = column.cast(pl.Float64, strict=draw(st.booleans()))
            return compare(draw, widened, pl.lit(draw(st.sampled_from([1.5, 0.0, -1.0]))))
    return column == pl.lit(COLUMNS[name][1][0]).cast(dtype)


def _joined(parts: tuple[pl.Expr, pl.Expr, int]) -> pl.Expr:
    left, right, how = parts
    return [
        left & right,
        left | right,
        pl.all_horizontal(left, right),
        pl.any_horizontal(left, right),
    ][how]


expressions = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        inner.map(operator.invert), st.tuples(inner, inner, st.integers(0, 3)).map(_joined)
    ),
    max_leaves=6,
)


def kept_by_polars(expr: pl.Expr) -> set[int] | None:
    """Rows that Polars keeps; None where it refuses the expression."""
    try:
        return set(FRAME.filter(expr)["row"].to_list())
    except pl.exceptions.PolarsError:
        return None


def kept_by(predicate: Predicate | None) -> set[int]:
    if predicate is None:
        return set(range(_HEIGHT))
    bound = bind(predicate, SCHEMA)
    return set(ROWS.filter(to_arrow(bound, SCHEMA).expression).column("row").to_pylist())


class Recorder(LazyFrameResolver):
    """Notes what the optimiser delivers."""

    def __init__(self) -> None:
        self.delivered: list[pl.Expr] = []

    def schema(self) -> dict[str, pl.DataType]:
        return {below(name): dtype for name, dtype in FRAME.schema.items()}

    def resolve_lazyframe(self, *, filters: list[FilterExpr], **_: object) -> pl.LazyFrame:
        self.delivered = [f.expr for f in filters]
        return lowered(FRAME.lazy(), FRAME.columns, with_rows=False)


@pytest.mark.parametrize(("profile", "expressions"), [("ci", 2_000), ("full", 20_000)])
def test_as_many_expressions_are_tried_as_is_promised(profile: str, expressions: int) -> None:
    assert PER_EXAMPLE * settings.get_profile(profile).max_examples >= expressions


@given(st.lists(expressions, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
def test_a_translation_keeps_every_row_that_polars_keeps(exprs: list[pl.Expr]) -> None:
    for expr in exprs:
        kept = kept_by_polars(expr)
        assert kept is None or kept <= kept_by(translate(expr, SCHEMA)), str(expr)


@given(st.lists(expressions, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
def test_what_the_optimiser_delivers_keeps_every_row_too(exprs: list[pl.Expr]) -> None:
    for expr in exprs:
        recorder = Recorder()
        try:
            frame = raised(recorder.lazy(), FRAME.columns)
            kept = set(frame.filter(expr).collect()["row"].to_list())
        except pl.exceptions.PolarsError:
            continue
        for part in recorder.delivered:
            assert kept <= kept_by(translated(part, SCHEMA)), f"{expr} delivered as {part}"


@given(st.lists(expressions, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
def test_a_translation_survives_the_wire(exprs: list[pl.Expr]) -> None:
    for expr in exprs:
        found = translate(expr, SCHEMA)
        if found is not None:
            assert kept_by(parse(dump(found))) == kept_by(found), str(expr)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (pl.col("i64") > 1, Compare("gt", "i64", 1)),
        (pl.lit(1) < pl.col("i64"), Compare("gt", "i64", 1)),
        (pl.col("i64").cast(pl.Float64) > 1.5, Compare("gt", "i64", 1.5)),
        (pl.col("i64") == float(EXACT), None),
        (pl.col("f64") >= NAN, Compare("gte", "f64", "NaN")),
        (pl.col("f64") == EXACT + 1, None),
        (pl.col("ns") == NOON, None),
        (pl.col("ms") == NOON, None),
        (pl.col("price") == Decimal("1.505"), None),
        (pl.col("f32") > 0.1, None),
        (pl.col("f32") > 0.5, Compare("gt", "f32", 0.5)),
        (pl.col("flag"), Compare("eq", "flag", True)),
        (~pl.col("flag"), Compare("eq", "flag", False)),
        (pl.col("text").is_in(["a", None]), In("text", ("a",))),
        (~pl.col("text").is_in(["a"]), Not(In("text", ("a",)))),
        (pl.col("text").is_null(), IsNull("text")),
        (pl.col("text") == pl.lit(None), Compare("eq", "text", None)),
        (
            pl.col("text").str.starts_with("ab"),
            And((Compare("gte", "text", "ab"), Compare("lt", "text", "ac"))),
        ),
        (
            pl.col("i64").is_between(1, 3, closed="left"),
            And((Compare("gte", "i64", 1), Compare("lt", "i64", 3))),
        ),
        (pl.col("i64").ne_missing(1), Or((Compare("neq", "i64", 1), IsNull("i64")))),
        (pl.col("day") > DAY, Compare("gt", "day", "2024-02-29")),
        (pl.col("us") > NOON, Compare("gt", "us", "2024-02-29T12:00:00.001500")),
        (pl.col("utc") == UTC_NOON, Compare("eq", "utc", "2024-02-29T12:00:00.001500Z")),
        (
            pl.col("ns") == pl.lit(1).cast(pl.Datetime("ns")),
            Compare("eq", "ns", "1970-01-01T00:00:00.000000001"),
        ),
        (pl.col("price") > Decimal("1.5"), Compare("gt", "price", "1.5")),
        (pl.col("raw") == b"ab", Compare("eq", "raw", "YWI=")),
        (pl.col("text") == pl.lit("a", dtype=pl.Categorical), None),
        (pl.col("i64") % 2 == 0, None),
        (pl.col("i64") > pl.col("i8"), None),
        (pl.col("elsewhere") > 1, None),
    ],
    ids=str,
)
def test_an_expression_says(expr: pl.Expr, expected: Predicate | None) -> None:
    assert translate(expr, SCHEMA) == expected


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("i64") > 1,
        pl.col("text").is_in(["a"]),
        ~pl.col("text").is_in(["a"]),
        pl.col("text").is_null(),
        pl.col("text").str.starts_with("ab"),
        pl.col("i64").is_between(1, 3),
        pl.col("f64").is_nan(),
        pl.col("flag") | (pl.col("day") > DAY),
    ],
    ids=str,
)
def test_what_the_optimiser_delivers_says_as_much_as_what_was_written(expr: pl.Expr) -> None:
    recorder = Recorder()
    raised(recorder.lazy(), FRAME.columns).filter(expr).collect()
    assert [translated(part, SCHEMA) for part in recorder.delivered] == [translate(expr, SCHEMA)]


def test_an_unknown_part_is_left_out_of_an_and_and_takes_the_whole_or() -> None:
    unknown, known = pl.col("i64") % 2 == 0, pl.col("flag")
    assert translate(unknown & known, SCHEMA) == Compare("eq", "flag", True)
    assert translate(unknown | known, SCHEMA) is None
    assert translate(~(unknown | known), SCHEMA) == Compare("eq", "flag", False)
    assert translate(~(unknown & known), SCHEMA) is None


def test_a_long_chain_stays_flat_enough_for_the_wire() -> None:
    chain = functools.reduce(operator.or_, [pl.col("i64") == i for i in range(300)])
    found = translate(chain, SCHEMA)
    assert isinstance(found, Or)
    assert len(found.children) == 300
    assert parse(dump(found)) == found


def test_of_a_deep_expression_only_what_the_wire_carries_is_said() -> None:
    expr = pl.col("i64") > 1
    for i in range(70):
        expr = (expr & (pl.col("i8") > i)) | pl.col("flag")
    found = translate(expr, SCHEMA)
    assert found is not None
    assert parse(dump(found)) == found


def test_every_comparison_of_the_optimiser_is_pushed_whole() -> None:
    recorder = Recorder()
    wanted = (
        (pl.col("i64") > 1.5)
        & (pl.col("day") >= NOON)
        & pl.col("ns").is_between(DAY, NOON)
        & (pl.col("price") <= Decimal(2))
        & ~(pl.col("flag") | (pl.col("f32") == 0.1))
    )
    raised(recorder.lazy(), FRAME.columns).filter(wanted).collect()
    assert len(recorder.delivered) >= 6
    assert all(translated(e, SCHEMA) is not None for e in recorder.delivered)


def _wire_literals(name: str) -> st.SearchStrategy[Any]:
    _, values, _ = COLUMNS[name]
    return st.sampled_from(values)


@st.composite
def _wire_leaves(draw: st.DrawFn) -> Predicate:
    name = draw(st.sampled_from(list(COLUMNS)))
    values = _wire_literals(name)
    match draw(st.sampled_from(["compare", "in", "between", "null"])):
        case "compare":
            ops = ["eq", "neq", "gt", "gte", "lt", "lte"]
            return Compare(
                draw(st.sampled_from(ops[: 2 if name == "flag" else 6])), name, draw(values)
            )
        case "in":
            return In(name, tuple(draw(st.lists(values, max_size=3))))
        case "between" if name != "flag":
            return Between(name, draw(values), draw(values))
    return IsNull(name)


_predicates = st.recursive(
    _wire_leaves(),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda c: And(tuple(c))),
        st.lists(inner, min_size=2, max_size=3).map(lambda c: Or(tuple(c))),
    ),
    max_leaves=6,
)


@given(st.lists(_predicates, min_size=20, max_size=20))
def test_our_predicates_mean_in_polars_exactly_what_they_mean_in_arrow(
    trees: list[Predicate],
) -> None:
    for tree in trees:
        bound = bind(tree, SCHEMA)
        found = FRAME.filter(from_predicate(bound, SCHEMA))["row"].to_list()
        assert set(found) == kept_by(tree), dump(tree)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (Compare("gt", "f", 1.0), [NAN]),
        (Compare("neq", "f", "NaN"), [-0.0, 0.0, 1.0]),
        (In("f", (0.0, None)), [-0.0, 0.0]),
        (Not(In("f", (0.0, None))), [NAN, 1.0]),
    ],
)
def test_our_predicates_keep_nan_above_all_and_both_zeros_equal(
    tree: Predicate, expected: list[float]
) -> None:
    schema = pa.schema([("f", pa.float64())])
    frame = pl.DataFrame({"f": [NAN, -0.0, 0.0, 1.0, None]})
    kept = frame.filter(from_predicate(bind(tree, schema), schema))
    assert kept.equals(pl.DataFrame({"f": expected}))


def test_our_predicates_compare_dictionaries_of_text_as_text() -> None:
    schema = pa.schema([("c", pa.dictionary(pa.int32(), pa.string()))])
    frame = pl.DataFrame({"c": ["b", "a", None]}, schema={"c": pl.Categorical})
    bound = bind(Compare("gt", "c", "a"), schema)
    assert frame.filter(from_predicate(bound, schema))["c"].to_list() == ["b"]
