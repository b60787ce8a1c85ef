"""Is a bound predicate said as shortly as it can be, and no differently?"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

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
    bind,
    parse,
)
from io_core.simplify import simplify

SCHEMA = pa.schema(
    [("x", pa.int64()), ("f", pa.float64()), ("s", pa.string()), ("t", pa.timestamp("ns"))]
)


def one(op: Any, value: Any, column: str = "x") -> Compare:
    return Compare(op, column, pa.scalar(value, SCHEMA.field(column).type))


def many(*values: Any, column: str = "x") -> In:
    return In(column, tuple(pa.scalar(v, SCHEMA.field(column).type) for v in values))


VALID, NULL = Not(IsNull("x")), IsNull("x")
NO_NAN = Not(IsNan("f"))


@pytest.mark.parametrize(
    ("ast", "wanted"),
    [
        ({"in": ["x", [1, 1]]}, one("eq", 1)),
        ({"not": {"in": ["x", [1]]}}, one("neq", 1)),
        ({"in": ["f", [0.0, -0.0]]}, one("eq", -0.0, "f")),
        ({"and": [{"gt": ["x", 1]}, {"gte": ["x", 1]}]}, one("gt", 1)),
        ({"and": [{"gt": ["x", 1]}, {"gte": ["x", 2]}]}, one("gte", 2)),
        ({"and": [{"lt": ["x", 5]}, {"lte": ["x", 5]}, {"lt": ["x", 9]}]}, one("lt", 5)),
        ({"and": [{"gt": ["x", 5]}, {"lt": ["x", 1]}]}, Constant(False)),
        ({"and": [{"gt": ["x", 5]}, {"lt": ["x", 5]}]}, Constant(False)),
        ({"and": [{"gte": ["x", 5]}, {"lt": ["x", 5]}]}, Constant(False)),
        ({"between": ["x", 5, 5]}, one("eq", 5)),
        ({"and": [{"between": ["x", 5, 5]}, {"neq": ["x", 5]}]}, Constant(False)),
        ({"and": [{"between": ["x", 1, 9]}, {"in": ["x", [0, 1, 5, 10]]}]}, many(1, 5)),
        ({"and": [{"in": ["x", [1, 2]]}, {"in": ["x", [2, 3]]}]}, one("eq", 2)),
        ({"and": [{"eq": ["x", 1]}, {"eq": ["x", 2]}]}, Constant(False)),
        ({"and": [{"neq": ["x", 1]}, {"neq": ["x", 2]}, {"gt": ["x", 1]}]}, And((one("gt", 1), one("neq", 2)))),
        ({"and": [{"is_null": "x"}, {"gt": ["x", 1]}]}, Constant(False)),
        ({"and": [{"is_null": "x"}, {"not": {"is_null": "x"}}]}, Constant(False)),
        ({"and": [{"not": {"is_null": "x"}}, {"gt": ["x", 1]}]}, one("gt", 1)),
        ({"and": [{"eq": ["f", "NaN"]}, {"gt": ["f", 1]}]}, IsNan("f")),
        ({"and": [{"eq": ["f", "NaN"]}, {"lt": ["f", 1]}]}, Constant(False)),
        ({"and": [{"neq": ["f", "NaN"]}, {"lt": ["f", 1]}]}, one("lt", 1, "f")),
        ({"and": [{"neq": ["f", "NaN"]}, {"gt": ["f", 1]}]}, And((one("gt", 1, "f"), NO_NAN))),
        ({"or": [{"lt": ["x", 5]}, {"gte": ["x", 5]}]}, VALID),
        ({"or": [{"lt": ["x", 5]}, {"gt": ["x", 5]}]}, Or((one("gt", 5), one("lt", 5)))),
        ({"or": [{"lt": ["x", 5]}, {"lte": ["x", 5]}, {"eq": ["x", 3]}]}, one("lte", 5)),
        ({"or": [{"gt": ["x", 5]}, {"gte": ["x", 5]}, {"gt": ["x", 9]}]}, one("gte", 5)),
        ({"or": [{"eq": ["x", 1]}, {"in": ["x", [2, 1]]}]}, many(1, 2)),
        ({"or": [{"is_null": "x"}, {"not": {"is_null": "x"}}]}, Constant(True)),
        ({"or": [{"not": {"is_null": "x"}}, {"gt": ["x", 1]}]}, VALID),
        ({"or": [{"neq": ["x", 1]}, {"neq": ["x", 2]}]}, VALID),
        ({"or": [{"neq": ["x", 1]}, {"eq": ["x", 1]}]}, VALID),
        ({"or": [{"neq": ["x", 1]}, {"gt": ["x", 5]}]}, one("neq", 1)),
        ({"or": [{"eq": ["f", "NaN"]}, {"gt": ["f", 1]}]}, one("gt", 1, "f")),
        ({"or": [{"eq": ["f", "NaN"]}, {"lt": ["f", 1]}]}, Or((one("lt", 1, "f"), IsNan("f")))),
        ({"or": [{"neq": ["f", "NaN"]}, {"lt": ["f", 1]}]}, NO_NAN),
        ({"or": [{"neq": ["f", "NaN"]}, {"gt": ["f", 1]}]}, Not(IsNull("f"))),
        ({"and": [{"eq": ["x", 1]}, {"and": [{"eq": ["s", "a"]}, {"eq": ["x", 1]}]}]}, And((one("eq", 1), one("eq", "a", "s")))),
        ({"or": [{"eq": ["x", 1]}, {"and": [{"gt": ["x", 5]}, {"lt": ["x", 1]}]}]}, one("eq", 1)),
        ({"and": [{"or": [{"is_null": "x"}, {"is_null": "s"}]}, {"or": [{"is_null": "x"}, {"is_null": "s"}]}]}, Or((NULL, IsNull("s")))),
    ],
)  # fmt: skip
def test_a_predicate_is_said_shortly(ast: dict[str, Any], wanted: Predicate) -> None:
    parsed = parse(ast)
    assert parsed is not None
    assert simplify(bind(parsed, SCHEMA)) == wanted


def test_nanoseconds_are_told_apart() -> None:
    early, late = (pa.scalar(n, pa.timestamp("ns")) for n in (1, 2))
    both = And((Compare("eq", "t", early), Compare("eq", "t", late)))
    assert simplify(both) == Constant(False)
    assert simplify(And((Compare("gte", "t", early), Compare("lte", "t", late)))) != Constant(False)


def test_a_constant_is_as_short_as_it_gets() -> None:
    assert simplify(Constant(True)) == Constant(True)
    assert simplify(IsNull("x")) == NULL
    day = Compare("eq", "t", pa.scalar(dt.datetime(2025, 3, 1), pa.timestamp("ns")))
    assert simplify(day) == day
