"""Does the planner's reading of a Ray expression keep every row that Ray keeps?"""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from ray.data.datatype import DataType
from ray.data.expressions import Expr, col, lit, udf

from deltacat_sources.ray.predicate import columns_read, translate, translation
from io_core.predicate import And, Compare, In, IsNull, Not, Or, bind, dump, parse
from io_core.predicate_arrow import to_arrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

SCHEMA = pa.schema(
    [
        ("tiny", pa.int8()),
        ("int", pa.int64()),
        ("unsigned", pa.uint64()),
        ("float", pa.float64()),
        ("narrow", pa.float32()),
        ("text", pa.string()),
        ("long_text", pa.large_string()),
        ("raw", pa.binary()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("at_s", pa.timestamp("s")),
        ("zoned", pa.timestamp("ns", "America/New_York")),
        ("clock", pa.time64("us")),
        ("clock_s", pa.time32("s")),
        ("span", pa.duration("ms")),
        ("price", pa.decimal128(9, 2)),
    ]
)
UTC = dt.UTC
INTS = [-129, -128, -1, 0, 1, 2, 5, 127, 128, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1]
FLOATS = [math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, 1.5, 5.0, 0.1, float(2**53), 1e300]
TEXTS = ["", "a", "ab", "b", "é", "2020-01-01", "YQ=="]
RAWS = [b"", b"a", b"ab", b"YQ==", b"\xff"]
DAYS = [dt.date(1969, 12, 31), dt.date(2020, 1, 1), dt.date(2020, 1, 2)]
TIMES = [
    dt.datetime(1969, 12, 31, 23, 59, 59),
    dt.datetime(2020, 1, 1),
    dt.datetime(2020, 1, 1, 12, 0, 0, 1),
    dt.datetime(2020, 1, 2),
]
ZONED = [t.replace(tzinfo=UTC) for t in TIMES]
CLOCKS = [dt.time(0), dt.time(12), dt.time(12, 0, 0, 1), dt.time(23, 59, 59)]
SPANS = [
    dt.timedelta(0),
    dt.timedelta(seconds=-1),
    dt.timedelta(microseconds=1500),
    dt.timedelta(1),
]
PRICES = [Decimal(p) for p in ("-1.10", "0", "1.1", "1.10", "1.101", "5", "9999999.99")]
DOMAINS: dict[str, list[Any]] = {
    "tiny": INTS,
    "int": INTS,
    "unsigned": INTS,
    "float": FLOATS,
    "narrow": FLOATS,
    "text": TEXTS,
    "long_text": TEXTS,
    "raw": RAWS,
    "flag": [True, False],
    "day": DAYS,
    "at": TIMES,
    "at_s": TIMES,
    "zoned": ZONED,
    "clock": CLOCKS,
    "clock_s": CLOCKS,
    "span": SPANS,
    "price": PRICES,
}
ALIENS = [
    1,
    1.5,
    True,
    "a",
    b"a",
    DAYS[1],
    TIMES[1],
    ZONED[1],
    CLOCKS[1],
    SPANS[1],
    PRICES[2],
    None,
]


def held(name: str) -> list[Any]:
    """Those of a column's values that its type can hold, as pyarrow reads them back."""
    values = []
    for value in DOMAINS[name]:
        try:
            values.append(pa.scalar(value).cast(SCHEMA.field(name).type).as_py())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    return values


HELD = {name: [*held(name), None] for name in SCHEMA.names}


def tables() -> SearchStrategy[pa.Table]:
    row = st.fixed_dictionaries({name: st.sampled_from(HELD[name]) for name in SCHEMA.names})
    return st.lists(row, min_size=1, max_size=12).map(
        lambda rows: pa.Table.from_pylist(rows, schema=SCHEMA)
    )


COMPARISONS: list[Callable[[Any, Any], Expr]] = [
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
    lambda a, b: a < b,
    lambda a, b: a <= b,
]


def leaves(name: str) -> SearchStrategy[Expr]:
    column = col(name)
    own = st.sampled_from(HELD[name]) | st.sampled_from(DOMAINS[name])
    value = st.one_of(own, own, own, st.sampled_from(ALIENS))
    typed = st.sampled_from(HELD[name]).map(lambda v: pa.scalar(v, SCHEMA.field(name).type))
    listed = st.lists(own | st.none(), max_size=4)
    compare = st.sampled_from(COMPARISONS)
    return st.one_of(
        st.builds(lambda f, v: f(column, lit(v)), compare, value | typed),
        st.builds(lambda f, v: f(lit(v), column), compare, value),
        listed.map(column.is_in),
        listed.map(column.not_in),
        st.sampled_from([column.is_null(), column.is_not_null()]),
        st.sampled_from([column, (column + 1) > 2, column.alias("other") == lit(1)]),
    )


def expressions() -> SearchStrategy[Expr]:
    leaf = st.one_of([leaves(name) for name in SCHEMA.names])
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            inner.map(lambda a: ~a),
        ),
        max_leaves=5,
    )


def kept(rows: pa.Table, expression: Any) -> set[int]:
    numbered = rows.append_column("row", pa.array(range(len(rows))))
    return set(numbered.filter(expression)["row"].to_pylist())


@settings(deadline=None)
@given(tables(), st.lists(expressions(), min_size=40, max_size=40))
def test_no_row_that_ray_keeps_is_lost(rows: pa.Table, exprs: list[Expr]) -> None:
    for expr in exprs:
        predicate, exact = translation(expr, SCHEMA)
        try:
            native = kept(rows, expr.to_pyarrow())
        except (pa.ArrowException, TypeError, OverflowError):
            continue  # Ray's own error: the rows are the engine's to refuse
        if predicate is None:
            assert not exact
            continue
        ours = kept(rows, to_arrow(bind(predicate, SCHEMA), SCHEMA).expression)
        assert native <= ours, f"{expr} became {predicate}"
        assert not exact or native == ours, f"{expr} is not exactly {predicate}"


@settings(deadline=None)
@given(st.lists(expressions(), min_size=20, max_size=20))
def test_translations_survive_the_wire(exprs: list[Expr]) -> None:
    for expr in exprs:
        predicate = translate(expr, SCHEMA)
        if predicate is not None:
            again = parse(dump(predicate))
            assert again is not None
            # Bound, since the wire's form of a literal is another than Python's.
            assert bind(again, SCHEMA) == bind(predicate, SCHEMA)


CASES: list[tuple[Expr, Any]] = [
    (col("int") > 5, Compare("gt", "int", 5)),
    (lit(5) > col("int"), Compare("lt", "int", 5)),
    (lit(5) == col("int"), Compare("eq", "int", 5)),
    (col("int") == np.int64(5), Compare("eq", "int", 5)),
    (col("int") == pa.scalar(5, pa.int16()), Compare("eq", "int", 5)),
    (~(col("int") > 5), Compare("lte", "int", 5)),
    (~~(col("int") > 5), Compare("gt", "int", 5)),
    (col("day") == dt.date(2020, 1, 1), Compare("eq", "day", "2020-01-01")),
    (col("price") <= Decimal("1.10"), Compare("lte", "price", Decimal("1.10"))),
    (col("raw") == b"a", Compare("eq", "raw", b"a")),
    (col("flag"), Compare("eq", "flag", True)),
    (~col("flag"), Compare("eq", "flag", False)),
    (col("int").is_in([1, 2]), In("int", (1, 2))),
    (col("int").is_in([1, None]), Or((In("int", (1,)), IsNull("int")))),
    (col("int").not_in([1]), Or((Not(In("int", (1,))), IsNull("int")))),
    (~col("int").is_in([1]), Or((Not(In("int", (1,))), IsNull("int")))),
    (col("int").not_in([1, None]), Not(In("int", (1,)))),
    (col("text").is_null(), IsNull("text")),
    (~col("text").is_null(), Not(IsNull("text"))),
    (col("text").is_not_null(), Not(IsNull("text"))),
    (col("int").alias("x") == 5, Compare("eq", "int", 5)),
    (
        (col("int") > 1) & (col("text") == "a"),
        And((Compare("gt", "int", 1), Compare("eq", "text", "a"))),
    ),
    (
        ~((col("int") > 1) & (col("text") == "a")),
        Or((Compare("lte", "int", 1), Compare("neq", "text", "a"))),
    ),
]


@pytest.mark.parametrize(("expr", "predicate"), CASES)
def test_what_can_be_said_exactly_is_said(expr: Expr, predicate: Any) -> None:
    assert translation(expr, SCHEMA) == (predicate, True)


def test_the_negation_of_a_float_comparison_admits_nan() -> None:
    predicate = translate(~(col("float") > 5), SCHEMA)
    assert isinstance(predicate, Or)
    assert predicate.children[0] == Compare("lte", "float", 5)
    assert dump(predicate.children[1]) == {"eq": ["float", "NaN"]}


@pytest.mark.parametrize("value", [-0.0, math.nan])
@pytest.mark.parametrize("listed", [[0.0], [0.0, 1.0], [0.0, math.nan, None]])
def test_not_in_keeps_what_pyarrow_tells_apart_by_its_bits(
    value: float, listed: list[float]
) -> None:
    expr = col("float").not_in(listed)
    data = pa.table({"float": [value]})
    predicate = translate(expr, SCHEMA)
    assert predicate is None or kept(data, expr.to_pyarrow()) <= kept(
        data, to_arrow(bind(predicate, SCHEMA), SCHEMA).expression
    )


@udf(return_dtype=DataType.bool())
def opaque(values: pa.Array) -> pa.Array:
    return values


UNSAID: list[Expr] = [
    col("int") + 1 > 5,
    col("int") > col("unsigned"),
    (col("int") > 5) | (col("int") + 1 > 5),
    ~((col("int") > 5) & (col("int") + 1 > 5)),
    col("float") != lit(math.nan),
    col("narrow") == 0.1,
    col("price") == 1.1,
    col("float") == Decimal("1.1"),
    col("raw") == "YQ==",
    col("zoned") == dt.datetime(2020, 1, 1),
    col("day").is_in([dt.datetime(2020, 1, 1, 12)]),
    col("int") == "5",
    col("int").not_in([]),
    col("unknown") == 1,
    opaque(col("flag")),
    col("int").is_in(list(range(100_001))),
]


@pytest.mark.parametrize("expr", UNSAID)
def test_what_cannot_be_said_widens(expr: Expr) -> None:
    assert translation(expr, SCHEMA) == (None, False)


def test_an_unsaid_conjunct_leaves_the_others() -> None:
    expr = (col("int") > 5) & (col("int") + 1 > 5) & (col("text") == "a")
    predicate = And((Compare("gt", "int", 5), Compare("eq", "text", "a")))
    assert translation(expr, SCHEMA) == (predicate, False)


def test_a_long_chain_of_or_stays_flat() -> None:
    expr = col("int") == 0
    for value in range(1, 200):
        expr = expr | (col("int") == value)
    predicate = translate(expr, SCHEMA)
    assert isinstance(predicate, Or)
    assert len(predicate.children) == 200


def test_columns_are_found_inside_expressions_that_have_no_translation() -> None:
    expr = opaque(col("flag")) & ((col("int") + col("tiny")).abs() > 1)
    assert columns_read(expr) == {"flag", "int", "tiny"}
