"""Is the oracle right? Facts worked out by hand, and every engine's dialect against that engine."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import daft
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.data._internal.planner.plan_expression.expression_evaluator import eval_expr

from tests.oracle import Commit, Dialect, Row, Table, answer, canonical, matches, rows_of, table_of
from tests.strategies import (
    TYPES,
    Case,
    Engine,
    cases,
    engine_predicates,
    specs,
    to_daft,
    to_polars,
    to_ray,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = math.nan
FLOAT = pa.schema([("x", pa.float64())])
INT = pa.schema([("x", pa.int64())])
FLOATS = [1.0, 5.0, 6.0, NAN, -0.0, 0.0, None]
KEYED = pa.schema([("k", pa.int64()), ("v", pa.string())])


# --- what each dialect keeps, and what its engine keeps ------------------------------------------


def _polars(ast: dict[str, Any], table: pa.Table) -> list[int]:
    frame = pl.DataFrame(table).with_row_index("#")
    return frame.filter(to_polars(ast, table.schema))["#"].to_list()


def _daft(ast: dict[str, Any], table: pa.Table) -> list[int]:
    frame = daft.from_arrow(table.append_column("#", pa.array(range(len(table)))))
    return sorted(frame.where(to_daft(ast, table.schema)).select("#").to_pydict()["#"])


def _ray(ast: dict[str, Any], table: pa.Table) -> list[int]:
    # What `Dataset.filter(expr=)` evaluates on each block, without starting a cluster.
    return [
        i for i, kept in enumerate(eval_expr(to_ray(ast, table.schema), table).to_pylist()) if kept
    ]


ENGINES: dict[Engine, tuple[Dialect, Callable[[dict[str, Any], pa.Table], list[int]]]] = {
    "polars": ("polars", _polars),
    "daft": ("daft", _daft),
    "ray": ("arrow", _ray),
}


def _kept(ast: dict[str, Any], table: pa.Table, dialect: Dialect) -> list[int]:
    rows = rows_of(table)
    return [i for i, row in enumerate(rows) if matches(ast, row, table.schema, dialect) is True]


# Values of FLOATS that each predicate keeps, by dialect.
DIALECTS: list[tuple[dict[str, Any], dict[Dialect, list[float | None]]]] = [
    (
        {"gt": ["x", 5]},
        {"ours": [6.0, NAN], "polars": [6.0, NAN], "daft": [6.0, NAN], "arrow": [6.0]},
    ),
    (
        {"eq": ["x", "NaN"]},
        {"ours": [NAN], "polars": [NAN], "daft": [NAN], "arrow": []},
    ),
    (
        {"neq": ["x", 1]},
        {d: [5.0, 6.0, NAN, -0.0, 0.0] for d in ("ours", "polars", "daft", "arrow")},
    ),
    (
        {"eq": ["x", 0.0]},
        {"ours": [-0.0, 0.0], "polars": [-0.0, 0.0], "daft": [0.0], "arrow": [-0.0, 0.0]},
    ),
    (
        {"in": ["x", [0.0]]},
        {"ours": [-0.0, 0.0], "polars": [-0.0, 0.0], "daft": [0.0], "arrow": [0.0]},
    ),
    (
        {"in": ["x", [1.0, None]]},
        {"ours": [1.0], "polars": [1.0], "daft": [1.0], "arrow": [1.0, None]},
    ),
    (
        {"not": {"in": ["x", [1.0, None]]}},
        {
            "ours": [5.0, 6.0, NAN, -0.0, 0.0],
            "polars": [5.0, 6.0, NAN, -0.0, 0.0],
            "daft": [],
            "arrow": [5.0, 6.0, NAN, -0.0, 0.0],
        },
    ),
    (
        {"not": {"in": ["x", [1.0]]}},
        {
            "ours": [5.0, 6.0, NAN, -0.0, 0.0],
            "polars": [5.0, 6.0, NAN, -0.0, 0.0],
            "daft": [5.0, 6.0, NAN, -0.0, 0.0],
            "arrow": [5.0, 6.0, NAN, -0.0, 0.0, None],
        },
    ),
    (
        {"not": {"in": ["x", []]}},
        {
            "ours": [1.0, 5.0, 6.0, NAN, -0.0, 0.0],
            "polars": [1.0, 5.0, 6.0, NAN, -0.0, 0.0],
            "daft": FLOATS,
            "arrow": FLOATS,
        },
    ),
]


@pytest.mark.parametrize("dialect", ["ours", "polars", "daft", "arrow"])
@pytest.mark.parametrize(
    ("ast", "expected"), DIALECTS, ids=lambda v: str(v) if "x" in str(v) else ""
)
def test_a_dialect_keeps_what_its_row_of_the_table_says(
    ast: dict[str, Any], expected: dict[Dialect, list[float | None]], dialect: Dialect
) -> None:
    table = pa.table({"x": pa.array(FLOATS, pa.float64())})
    kept = [{"x": FLOATS[i]} for i in _kept(ast, table, dialect)]
    assert canonical(kept) == canonical([{"x": value} for value in expected[dialect]])


@pytest.mark.parametrize("engine", ["polars", "daft", "ray"])
@pytest.mark.parametrize("ast", [ast for ast, _ in DIALECTS], ids=str)
def test_an_engine_keeps_what_its_dialect_keeps(engine: Engine, ast: dict[str, Any]) -> None:
    table = pa.table({"x": pa.array(FLOATS, pa.float64())})
    dialect, run = ENGINES[engine]
    assert run(ast, table) == _kept(ast, table, dialect)


@pytest.mark.parametrize("engine", ["polars", "daft", "ray"])
@given(data=st.data())
def test_an_engine_agrees_with_its_dialect_on_random_rows_and_predicates(
    engine: Engine, data: st.DataObject
) -> None:
    schema = data.draw(specs(keyed=False)).schema
    row = st.fixed_dictionaries(
        {field.name: st.sampled_from([*TYPES[field.type], None]) for field in schema}
    )
    table = table_of(data.draw(st.lists(row, min_size=1, max_size=8)), schema)
    dialect, run = ENGINES[engine]
    for ast in data.draw(st.lists(engine_predicates(schema, engine), min_size=1, max_size=6)):
        assert run(ast, table) == _kept(ast, table, dialect), ast


# --- our own predicates ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ast", "value", "expected"),
    [
        ({"gt": ["x", 1.5]}, 1, False),
        ({"gt": ["x", 1.5]}, 2, True),
        ({"eq": ["x", 1.5]}, 1, False),
        ({"eq": ["x", 2.0]}, 2, True),
        ({"neq": ["x", 1.5]}, 1, True),
        ({"neq": ["x", 1.5]}, None, None),
        ({"lt": ["x", 2**70]}, 2**63 - 1, True),
        ({"eq": ["x", 9007199254740993]}, 9007199254740992, False),
        ({"eq": ["x", None]}, 1, None),
        ({"neq": ["x", None]}, None, None),
        ({"in": ["x", [1, None]]}, 2, False),
        ({"in": ["x", [1, None]]}, None, None),
        ({"in": ["x", []]}, None, None),
        ({"not": {"in": ["x", [1]]}}, None, None),
        ({"between": ["x", 2, 3]}, 3, True),
        ({"between": ["x", 3, 2]}, 3, False),
        ({"between": ["x", 2, None]}, 1, False),
        ({"between": ["x", 2, None]}, 2, None),
        ({"is_null": "x"}, None, True),
        ({"is_null": "x"}, 1, False),
        ({"not": {"and": [{"eq": ["x", 9]}, {"is_null": "x"}]}}, None, None),
        ({"or": [{"eq": ["x", 9]}, {"is_null": "x"}]}, None, True),
        ({"and": [{"eq": ["x", 9]}, {"not": {"is_null": "x"}}]}, None, False),
        (None, None, True),
        ({}, 1, True),
    ],
)
def test_integers_compare_exactly_and_null_is_unknown(
    ast: dict[str, Any] | None, value: int | None, expected: bool | None
) -> None:
    assert matches(ast, {"x": value}, INT) is expected


@pytest.mark.parametrize(
    ("dtype", "ast", "value", "expected"),
    [
        (pa.float64(), {"eq": ["x", 9007199254740993]}, 9007199254740992.0, False),
        (pa.float64(), {"lt": ["x", 10**400]}, math.inf, False),
        (pa.float64(), {"lt": ["x", 10**400]}, 1e308, True),
        (pa.float64(), {"lte": ["x", "Infinity"]}, NAN, False),
        (pa.float64(), {"lte": ["x", "NaN"]}, NAN, True),
        (pa.float64(), {"between": ["x", 1, "NaN"]}, NAN, True),
        (pa.float64(), {"is_null": "x"}, NAN, False),
        (pa.float32(), {"eq": ["x", 0.1]}, 0.10000000149011612, False),
        (pa.float32(), {"gt": ["x", 0.1]}, 0.10000000149011612, True),
        (pa.bool_(), {"eq": ["x", True]}, True, True),
        (pa.bool_(), {"lt": ["x", True]}, False, True),
        (pa.string(), {"gt": ["x", "Z"]}, "a", True),
        (pa.string(), {"lt": ["x", "\U0001f600"]}, "\uffee", True),
        (pa.binary(), {"eq": ["x", "AP8="]}, b"\x00\xff", True),
        (pa.date32(), {"lt": ["x", "2025-03-01T00:00:00.000000001"]}, dt.date(2025, 3, 1), True),
        (pa.date32(), {"eq": ["x", "2025-03-01T00:00:00"]}, dt.date(2025, 3, 1), True),
        (pa.timestamp("ns"), {"gt": ["x", "1970-01-01T00:00:00.000000001"]}, 2, True),
        (pa.timestamp("us"), {"eq": ["x", "1970-01-01T00:00:00.000000001"]}, 0, False),
        (pa.timestamp("us"), {"lt": ["x", "1969-12-31T23:59:59.9999995"]}, -1000, True),
        (pa.timestamp("us", "Europe/Berlin"), {"eq": ["x", "1970-01-01T01:00:00+01:00"]}, 0, True),
        (pa.timestamp("us", "Europe/Berlin"), {"eq": ["x", "1970-01-01T00:00:00"]}, 0, True),
        (pa.time64("us"), {"gte": ["x", "12:00"]}, 43_200 * 10**9, True),
        (pa.decimal128(5, 2), {"eq": ["x", "0.1"]}, Decimal("0.10"), True),
        (pa.decimal128(5, 2), {"gt": ["x", 0.1]}, Decimal("0.10"), False),
        (pa.decimal128(5, 2), {"lt": ["x", "0.105"]}, Decimal("0.10"), True),
    ],
)
def test_a_literal_means_what_the_columns_type_makes_of_it(
    dtype: pa.DataType, ast: dict[str, Any], value: object, expected: bool
) -> None:
    assert matches(ast, {"x": value}, pa.schema([("x", dtype)])) is expected


# --- tables ---------------------------------------------------------------------------------------


def _versions(text: str) -> tuple[Row, ...]:
    return tuple({"k": int(v[1:]), "v": v} for v in text.split())


def test_a_rewritten_key_moves_to_the_end_and_a_deleted_one_can_come_back() -> None:
    history = [
        Commit("merge", ({"k": 1, "v": "a1"}, {"k": 2, "v": "b1"}, {"k": 3, "v": "c1"})),
        Commit("merge", ({"k": 2, "v": "b2"}, {"k": 4, "v": "d2"})),
        Commit("delete", ({"k": 1}, {"k": 4})),
        Commit("merge", ({"k": 1, "v": "a4"},)),
    ]
    rows = Table(KEYED, ("k",)).apply(history)
    assert [row["v"] for row in rows] == ["c1", "b2", "a4"]
    assert answer(rows, KEYED, ast={"eq": ["v", "b1"]}) == []


def test_in_one_commit_the_later_row_wins_and_a_null_key_equals_a_null_key() -> None:
    rows = ({"k": None, "v": "a"}, {"k": 1, "v": "b"}, {"k": None, "v": "c"})
    assert Table(KEYED, ("k",)).apply([Commit("merge", rows)]) == [
        {"k": 1, "v": "b"},
        {"k": None, "v": "c"},
    ]


def test_a_composite_key_is_deleted_as_a_whole() -> None:
    schema = pa.schema([("k", pa.int64()), ("s", pa.string())])
    rows = tuple({"k": k, "s": s} for k in (1, 2) for s in ("", None))
    left = Table(schema, ("k", "s")).apply(
        [Commit("merge", rows), Commit("delete", ({"k": 1, "s": ""}, {"k": 2, "s": None}))]
    )
    assert left == [{"k": 1, "s": None}, {"k": 2, "s": ""}]


def test_a_key_is_unique_within_its_partition_only() -> None:
    schema = pa.schema([("p", pa.string()), ("k", pa.int64()), ("v", pa.int64())])
    history = [
        Commit("merge", ({"p": "b", "k": 1, "v": 1}, {"p": None, "k": 1, "v": 2})),
        Commit("merge", ({"p": "a", "k": 1, "v": 3}, {"p": "b", "k": 1, "v": 4})),
        Commit("delete", ({"p": None, "k": 1},)),
    ]
    rows = Table(schema, ("k",), ("p",)).apply(history)
    assert [(row["p"], row["v"]) for row in rows] == [("b", 4), ("a", 3)]


def test_an_upsert_replaces_the_whole_row() -> None:
    history = [Commit("merge", ({"k": 1, "v": "a"},)), Commit("merge", ({"k": 1},))]
    assert Table(KEYED, ("k",)).apply(history) == [{"k": 1, "v": None}]


def test_rows_without_keys_only_accumulate() -> None:
    rows = ({"k": 1, "v": "a"}, {"k": 1, "v": "a"})
    assert len(Table(KEYED).apply([Commit("add", rows), Commit("append", rows)])) == 4


def test_replacing_a_partition_leaves_its_siblings_alone() -> None:
    schema = pa.schema([("p", pa.string()), ("v", pa.int64())])
    history = [
        Commit("add", ({"p": "a", "v": 1}, {"p": "b", "v": 2})),
        Commit("replace_partition", ({"p": "a", "v": 3}, {"p": "a", "v": 4})),
    ]
    rows = Table(schema, partition_columns=("p",)).apply(history)
    assert sorted((row["p"], row["v"]) for row in rows) == [("a", 3), ("a", 4), ("b", 2)]
    assert Table(schema, partition_columns=("p",)).apply([*history, Commit("replace", ())]) == []


def test_an_answer_is_filtered_before_it_is_cut_and_projected_last() -> None:
    rows = list(_versions("a1 b2 c3 d4"))
    found = answer(rows, KEYED, ast={"gt": ["k", 1]}, columns=["v"], limit=1, offset=1)
    assert found == [{"v": "c3"}]


# --- the form that is compared --------------------------------------------------------------------


def test_canonical_rows_tell_apart_what_differs_and_nothing_else() -> None:
    assert canonical([{"a": 1, "b": NAN}]) == canonical([{"b": -NAN, "a": 1}])
    assert canonical([{"x": Decimal("1.10")}]) == canonical([{"x": Decimal("1.1")}])
    assert canonical([{"x": 1}, {"x": 2}]) == canonical([{"x": 2}, {"x": 1}])
    assert canonical([{"x": 1}, {"x": 2}], ordered=True) != canonical(
        [{"x": 2}, {"x": 1}], ordered=True
    )
    assert canonical([{"x": 1}]) != canonical([{"x": 1}, {"x": 1}])
    for left, right in [(0.0, -0.0), (1, True), (1, 1.0), ("", None), ("a", b"a")]:
        assert canonical([{"x": left}]) != canonical([{"x": right}])
    with pytest.raises(TypeError, match="timestamps as integers"):
        canonical([{"x": dt.datetime(2025, 3, 1)}])


def test_rows_keep_nanoseconds() -> None:
    table = pa.table(
        {
            "t": pa.array([1, None], pa.timestamp("ns", "UTC")),
            "d": pa.array([1, 2], pa.time64("us")),
        }
    )
    assert rows_of(table) == [{"t": 1, "d": 1000}, {"t": None, "d": 2000}]


@given(case=cases(replaces=True))
def test_rows_survive_the_way_through_arrow(case: Case) -> None:
    rows = case.rows()
    assert canonical(rows_of(table_of(rows, case.spec.schema)), ordered=True) == canonical(
        rows, ordered=True
    )
    for query in case.queries:
        found = answer(
            rows,
            case.spec.schema,
            ast=query.ast,
            columns=query.columns,
            limit=query.limit,
            offset=query.offset,
        )
        assert len(found) <= len(rows)
