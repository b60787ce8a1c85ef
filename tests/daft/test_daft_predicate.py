"""Whether translated expressions keep every row that Daft keeps, and predicates exactly ours."""

from __future__ import annotations

import datetime as dt
import functools
import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import daft
import numpy as np
import pyarrow as pa
import pytest
from daft.expressions import ExpressionsProjection
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch
from hypothesis import given, reject
from hypothesis import strategies as st

from deltacat_sources.daft.expression import to_daft
from deltacat_sources.daft.predicate import translate
from io_core.predicate import (
    And,
    Between,
    Compare,
    Constant,
    In,
    IsNull,
    Not,
    Or,
    Predicate,
    bind,
)
from io_core.predicate_arrow import to_arrow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daft.io.pushdowns import Pushdowns

NAN, INF = float("nan"), float("inf")
DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 1500)
UTC_NOON = NOON.replace(tzinfo=dt.UTC)
TOKYO_NOON = NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=9)))
EXACT = 2**53
BIG = Decimal("123456789012345678.91")

# Every column: its type, values that rows hold, and literals that expressions compare with it.
COLUMNS: dict[str, tuple[pa.DataType, list[Any], list[Any]]] = {
    "i64": (pa.int64(), [-1, 0, 1, EXACT, EXACT + 1, 2**63 - 1], [1.5, -0.0, 2**64 - 1, EXACT + 1.0, NAN]),
    "i8": (pa.int8(), [-128, -1, 0, 1, 127], [1000, -1.5, INF, NAN, -0.0, Decimal(1)]),
    "u64": (pa.uint64(), [0, 1, EXACT + 1, 2**64 - 1], [-1, 0.5, EXACT, 2**64 - 2]),
    "f64": (pa.float64(), [NAN, -INF, -0.0, 0.0, 1.5, float(EXACT)], [0, EXACT + 1, 0.1, Decimal("0.1")]),
    "f32": (pa.float32(), [NAN, -0.0, 0.0, 1.5, float(np.float32(0.1))], [0.1, 1, 1e300, INF, 16777217]),
    "text": (pa.string(), ["", "a", "ab", "b", "é", "\U0010ffff"], ["aa", "a\U0010ffff", "z"]),
    "flag": (pa.bool_(), [True, False], [1, 0, "true"]),
    "day": (pa.date32(), [DAY, dt.date(1, 1, 1), dt.date(9999, 12, 31)], [NOON, "2024-02-29", "2024-3-1", "junk"]),
    "s": (pa.timestamp("s"), [dt.datetime(2024, 2, 29, 12), dt.datetime(1960, 1, 1, 1)], [NOON, DAY]),
    "us": (pa.timestamp("us"), [NOON, dt.datetime(2024, 2, 29), dt.datetime(1969, 12, 31, 23)], [DAY, dt.date(1970, 1, 1)]),
    "ns": (pa.timestamp("ns"), [-1, 1, 999, 1709208000001500001], [NOON, DAY, dt.datetime(1970, 1, 1)]),
    "utc": (pa.timestamp("us", "UTC"), [UTC_NOON, UTC_NOON + dt.timedelta(hours=15)], [DAY, TOKYO_NOON]),
    "zone": (pa.timestamp("us", "Asia/Tokyo"), [UTC_NOON, UTC_NOON + dt.timedelta(hours=5)], [DAY, TOKYO_NOON]),
    "price": (pa.decimal128(9, 2), [Decimal("1.50"), Decimal("-0.01"), Decimal("9999999.99")], [1, 1.5, Decimal("1.505"), -0.0]),
    "big": (pa.decimal128(20, 2), [BIG, BIG - Decimal("0.01")], [123456789012345678, 1.5, Decimal("5.501")]),
    "clock": (pa.time64("us"), [dt.time(1), dt.time(23, 59, 59, 999999)], [dt.time(0)]),
    "span": (pa.duration("us"), [dt.timedelta(1), dt.timedelta(microseconds=-1)], [dt.timedelta(0)]),
    "raw": (pa.binary(), [b"", b"a", b"\xff"], [b"ab"]),
}  # fmt: skip
SCHEMA = pa.schema([(name, dtype) for name, (dtype, _, _) in COLUMNS.items()])
_HEIGHT = 2 + max(len(values) for _, values, _ in COLUMNS.values())
ROWS = pa.table(
    [
        pa.array([*values, *[None] * (_HEIGHT - len(values))], dtype)
        for dtype, values, _ in COLUMNS.values()
    ],
    schema=SCHEMA,
)
BATCH = RecordBatch.from_arrow_table(ROWS)
NUMBERED = ROWS.append_column("row", pa.array(range(_HEIGHT)))

COMPARISONS = [operator.eq, operator.ne, operator.gt, operator.ge, operator.lt, operator.le]
OPERATORS = ["eq", "neq", "gt", "gte", "lt", "lte"]


def literals(name: str) -> st.SearchStrategy[Any]:
    dtype, values, others = COLUMNS[name]
    plain = st.sampled_from([*values, *others, None])
    own = daft.DataType.from_arrow_type(dtype)
    if name == "ns":
        return st.sampled_from([*(np.datetime64(v, "ns") for v in values), *others, None])
    return plain | plain.map(lambda value: daft.lit(value).cast(own))


@st.composite
def leaves(draw: st.DrawFn) -> daft.Expression:
    name = draw(st.sampled_from(list(COLUMNS)))
    column, value = daft.col(name), draw(literals(name))
    compare = draw(st.sampled_from(COMPARISONS))
    kind = draw(st.sampled_from(["compare", "mirrored", "safe", "in", "between", "null", "odd"]))
    found: daft.Expression
    match kind:
        case "compare":
            found = compare(column.alias("other"), value)
        case "mirrored":
            found = compare(daft.lit(value), column)
        case "safe":
            found = column.eq_null_safe(value)
        case "in":
            found = column.is_in(draw(st.lists(literals(name), max_size=3)))
        case "between":
            found = column.between(value, draw(literals(name)))
        case "null":
            found = column.is_null() if draw(st.booleans()) else column.not_null()
        case _:
            casts = [column.cast("string") == str(value), column.cast("double") > 0.5]
            constants = [daft.lit(None).cast("bool"), daft.lit(True), daft.lit(False)]
            flags = [daft.col("flag"), daft.col("text").startswith("a")]
            found = draw(st.sampled_from([*casts, *constants, *flags]))
    return found


def expressions() -> st.SearchStrategy[daft.Expression]:
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            inner.map(operator.invert),
            st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        ),
        max_leaves=4,
    )


def is_valid(expr: daft.Expression) -> bool:
    """Whether Daft itself takes the expression."""
    try:
        BATCH.eval_expression_list(ExpressionsProjection([expr.alias("kept")]))
    except (ValueError, daft.exceptions.DaftCoreException):
        return False
    return True


def kept_by(predicate: Predicate | None) -> set[int]:
    if predicate is None:
        return set(range(_HEIGHT))
    found = NUMBERED.filter(to_arrow(bind(predicate, SCHEMA), SCHEMA).expression)
    return set(found["row"].to_pylist())


def kept_by_daft(exprs: list[daft.Expression]) -> list[set[int]]:
    """Rows for which each expression is true; all at once, without Daft's optimizer."""
    named = [expr.alias(str(i)) for i, expr in enumerate(exprs)]
    answers = BATCH.eval_expression_list(ExpressionsProjection(named)).to_arrow_table()
    return [{i for i, keep in enumerate(c.to_pylist()) if keep} for c in answers.columns]


class _Recorder(DataSource):
    """Rows in memory, and the pushdowns that were asked for."""

    def __init__(self) -> None:
        self.seen: list[Pushdowns] = []

    @property
    def name(self) -> str:
        return "recorder"

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(NUMBERED.schema)

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        self.seen.append(pushdowns)
        yield _Rows()


class _Rows(DataSourceTask):
    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(NUMBERED.schema)

    async def read(self) -> AsyncIterator[RecordBatch]:
        yield RecordBatch.from_arrow_table(NUMBERED)


@given(st.lists(expressions(), max_size=25))
def test_every_row_that_daft_keeps_satisfies_the_translation(exprs: list[daft.Expression]) -> None:
    exprs = [daft.lit(False), *filter(is_valid, exprs)]
    for expr, kept in zip(exprs, kept_by_daft(exprs), strict=True):
        found = translate(expr, SCHEMA)
        assert kept <= kept_by(found), f"{expr} became {found}"


@given(expressions().filter(is_valid))
def test_pushed_filters_translate_without_losing_rows(expr: daft.Expression) -> None:
    source = _Recorder()
    try:
        kept = set(source.read().where(expr).to_pydict()["row"])
    except daft.exceptions.DaftCoreException:
        # Its optimiser refuses some expressions that its engine evaluates.
        reject()
    for pushed in source.seen:
        assert pushed.partition_filters is None
        if pushed.filters is not None:
            assert kept <= kept_by(translate(pushed.filters, SCHEMA))


def ours() -> st.SearchStrategy[Predicate]:
    def leaf(name: str) -> st.SearchStrategy[Predicate]:
        values = st.sampled_from([v for v in NUMBERED[name] if v.is_valid])
        operators: st.SearchStrategy[Any] = st.sampled_from(OPERATORS)
        return st.one_of(
            st.builds(Compare, operators, st.just(name), values),
            st.builds(In, st.just(name), st.lists(values, min_size=1, max_size=3).map(tuple)),
            st.builds(Between, st.just(name), values, values),
            st.just(IsNull(name)),
        )

    return st.recursive(
        st.sampled_from(SCHEMA.names).flatmap(leaf),
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(And, st.tuples(inner, inner)),
            st.builds(Or, st.tuples(inner, inner)),
        ),
        max_leaves=4,
    )


@given(st.lists(ours(), max_size=25))
def test_a_predicate_of_ours_keeps_the_same_rows_in_daft(predicates: list[Predicate]) -> None:
    exprs = [to_daft(bind(p, SCHEMA)) for p in predicates]
    for predicate, kept in zip(predicates, kept_by_daft(exprs), strict=True):
        assert kept == kept_by(predicate), f"{predicate}"


X = daft.col("i64")
F = daft.col("f64")


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (X == 1, Compare("eq", "i64", 1)),
        (daft.lit(1) < X, Compare("gt", "i64", 1)),
        (~((X > 1) & (X < 5)), Or((Compare("lte", "i64", 1), Compare("gte", "i64", 5)))),
        (X.is_in([1, 2]), In("i64", (1, 2))),
        (~X.is_in([1, 2]), Not(In("i64", (1, 2)))),
        (~X.is_in([1, None]), Compare("neq", "i64", 1)),
        (X.between(1, None), Constant(False)),
        ((X == 2) | daft.lit(None).cast("bool"), Compare("eq", "i64", 2)),
        (~daft.col("flag"), Compare("eq", "flag", False)),
        ((X == 2) & daft.col("text").startswith("a"), Compare("eq", "i64", 2)),
        ((X == 2) | daft.col("text").startswith("a"), None),
        (X.cast("double") > 1.5, None),
        (daft.col("day").cast("string") == "2024-01-03", None),
        (F < 0.0, Compare("lte", "f64", 0.0)),
        (F > 0, Compare("gte", "f64", 0)),
        (F != 0.0, None),
        (F.is_in([0.0, 1.5]), In("f64", (0.0, 1.5))),
        (~F.is_in([0.0, 1.5]), Compare("neq", "f64", 1.5)),
        (daft.col("f32") > 0.1, None),
        (daft.col("f32") > 1.5, Compare("gt", "f32", 1.5)),
        (X > float(EXACT), None),
        (daft.col("day") >= "2024-3-1", Compare("gte", "day", "2024-03-01")),
        (daft.col("day") == "junk", Constant(False)),
        (daft.col("nowhere") == 1, None),
    ],
    ids=str,
)
def test_an_expression_translates_to(expr: daft.Expression, expected: Predicate | None) -> None:
    assert translate(expr, SCHEMA) == expected


def test_a_date_in_sql_arrives_as_text_and_is_read_as_a_date() -> None:
    source = _Recorder()
    frame = source.read()
    daft.sql("SELECT * FROM frame WHERE day >= '2024-01-01' AND i64 = 1", frame=frame).collect()
    (pushed,) = source.seen
    assert pushed.filters is not None
    found = translate(pushed.filters, SCHEMA)
    assert found == And((Compare("gte", "day", "2024-01-01"), Compare("eq", "i64", 1)))


def test_nanoseconds_of_a_literal_are_kept() -> None:
    found = translate(daft.col("ns") > np.datetime64(1709208000001500001, "ns"), SCHEMA)
    assert found == Compare("gt", "ns", "2024-02-29T12:00:00.001500001")


def test_a_very_deep_expression_is_left_out() -> None:
    deep = functools.reduce(lambda inner, i: (inner | (X == i)) & (X < i), range(200), X == 0)
    assert translate(deep & (X > 5), SCHEMA) in (None, Compare("gt", "i64", 5))
