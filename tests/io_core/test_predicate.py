"""Does a predicate mean what it says: read, bound, written again, and applied to rows?"""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import PredicateError
from io_core.predicate import (
    MAX_DEPTH,
    MAX_LIST,
    MAX_NODES,
    MAX_VALUES,
    And,
    Between,
    Compare,
    Constant,
    In,
    IsNan,
    IsNull,
    Not,
    Or,
    Predicate,
    Translation,
    admissible,
    bind,
    columns_of,
    conjoin,
    conjuncts,
    dump,
    negate,
    parse,
    restrict,
)
from io_core.predicate_arrow import to_arrow
from io_core.predicate_python import to_python
from tests.oracle import Row, canonical, matches, rows_of, table_of
from tests.strategies import TYPES, predicates

SCHEMA = pa.schema([("x", pa.int64()), ("f", pa.float64()), ("s", pa.string())])
X = pa.schema([("x", pa.int64())])

# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        (5, r"\$: expected an object"),
        ([], r"\$: expected an object"),
        ({"eq": ["x", 1], "gt": ["x", 1]}, r"\$: expected an object"),
        ({"equals": ["x", 1]}, r"\$: unknown operator 'equals'"),
        ({"eq": ["x"]}, r"\$\.eq: expected \[column, value\]"),
        ({"eq": "x"}, r"\$\.eq: expected \[column, value\]"),
        ({"gt": [1, "x"]}, r"\$\.gt: expected \[column, value\]"),
        ({"lt": ["x", [1]]}, r"\$\.lt: .* cannot be a literal"),
        ({"lt": ["x", "a\ud800"]}, r"\$\.lt: .* cannot be a literal: .* surrogates"),
        ({"in": ["x", ["a", "\udfff"]]}, r"\$\.in: .* cannot be a literal"),
        ({"between": ["x", 1]}, r"\$\.between: expected \[column, low, high\]"),
        ({"between": ["x", 1, {}]}, r"\$\.between: .* cannot be a literal"),
        ({"in": ["x", 1]}, r"\$\.in: expected a list"),
        ({"in": ["x", [[1]]]}, r"\$\.in: .* cannot be a literal"),
        ({"is_null": ["x"]}, r"\$\.is_null: expected a column name"),
        ({"not": None}, r"\$\.not: expected an object"),
        ({"and": [{"eq": ["x", 1]}]}, r"\$\.and: expected two or more"),
        ({"or": {}}, r"\$\.or: expected two or more"),
        ({"and": [{"eq": ["x", 1]}, {"gt": ["x"]}]}, r"\$\.and\[1\]\.gt: expected"),
        ({"not": {"or": [{"lx": 1}, {"eq": ["x", 1]}]}}, r"\$\.not\.or\[0\]: unknown operator"),
    ],
)
def test_a_malformed_tree_is_refused_at_its_place(tree: object, place: str) -> None:
    with pytest.raises(PredicateError, match=place):
        parse(tree)


def test_an_unknown_operator_offers_the_nearest_one() -> None:
    with pytest.raises(PredicateError, match="did you mean 'between'"):
        parse({"betwen": ["x", 1, 2]})


def test_a_huge_value_is_cut_in_the_message() -> None:
    with pytest.raises(PredicateError) as caught:
        parse({"and": "y" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("tree", [None, {}])
def test_nothing_is_no_predicate(tree: object) -> None:
    assert parse(tree) is None
    assert dump(None) is None


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"is_null": "x"}
    for _ in range(depth):
        tree = {"not": tree}
    return tree


def test_a_tree_may_nest_to_the_limit_and_no_deeper() -> None:
    assert dump(parse(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(PredicateError, match=f"deeper than {MAX_DEPTH} levels at"):
        parse(nested(MAX_DEPTH + 1))


def test_a_list_may_be_long_but_not_endless() -> None:
    assert parse({"in": ["x", [1] * MAX_LIST]}) == In("x", (1,) * MAX_LIST)
    with pytest.raises(PredicateError, match=f"{MAX_LIST + 1} values; at most {MAX_LIST}"):
        parse({"in": ["x", [1] * (MAX_LIST + 1)]})


def test_a_tree_may_be_large_but_not_endless() -> None:
    leaves = [{"eq": ["x", i]} for i in range(MAX_NODES - 1)]
    assert dump(parse({"or": leaves})) == {"or": leaves}
    with pytest.raises(PredicateError, match=f"too large: at most {MAX_NODES} nodes"):
        parse({"or": [*leaves, {"is_null": "x"}]})
    lists = [{"in": ["x", [1] * (MAX_VALUES // 4)]} for _ in range(4)]
    assert parse({"or": lists}) is not None
    with pytest.raises(PredicateError, match=f"{MAX_VALUES} listed values"):
        parse({"or": [*lists, {"in": ["x", [1]]}]})


def test_a_tree_that_holds_itself_is_refused() -> None:
    tree: dict[str, Any] = {}
    tree["and"] = [tree, tree]
    with pytest.raises(PredicateError, match="too large"):
        parse(tree)


def test_the_largest_tree_is_applied_by_arrow() -> None:
    leaves = tuple(Compare("gt" if i % 2 else "lt", "x", i) for i in range(MAX_NODES - 1))
    bound = bind(Or(leaves), X)
    expression = to_arrow(bound, X).expression
    assert pa.table({"x": [5, None]}).filter(expression).num_rows == 1


def test_a_tree_built_by_hand_nests_no_deeper_than_one_that_was_read() -> None:
    tree: Predicate = IsNull("x")
    for _ in range(MAX_DEPTH):
        tree = Not(tree)
    assert bind(tree, X) == IsNull("x")
    with pytest.raises(PredicateError, match="deeper than"):
        bind(Not(tree), X)
    for _ in range(5_000):
        tree = And((tree, IsNull("x")))
    with pytest.raises(PredicateError, match="deeper than"):
        bind(tree, X)


@given(predicates(pa.schema([(f"c{i}", t) for i, t in enumerate(TYPES)])))
def test_what_is_read_is_written_again(ast: dict[str, Any]) -> None:
    assert dump(parse(ast)) == ast
    assert parse(dump(parse(ast))) == parse(ast)


def test_a_bare_nan_is_written_as_text() -> None:
    assert dump(Between("f", float("nan"), float("inf"))) == {"between": ["f", "NaN", "Infinity"]}


def test_true_and_false_have_no_wire_form() -> None:
    with pytest.raises(ValueError, match="no wire form"):
        dump(Constant(True))


def test_is_nan_is_written_as_equality_with_nan() -> None:
    assert dump(IsNan("f")) == {"eq": ["f", "NaN"]}


def test_nodes_pickle_and_compare_by_value() -> None:
    tree = parse({"and": [{"not": {"in": ["x", [1, None]]}}, {"between": ["s", "a", "b"]}]})
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert "In(column='x', values=(1, None))" in repr(tree)


# --- binding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"eq": ["y", 1]}, r"\$\.eq: unknown column 'y'"),
        ({"and": [{"eq": ["x", 1]}, {"in": ["t", []]}]}, r"\$\.and\[1\]\.in: unknown column 't'"),
        ({"not": {"is_null": "z"}}, r"\$\.not: unknown column 'z'"),
        ({"gt": ["x", "abc"]}, r"\$\.gt, column 'x': 'abc' is no number literal .* int64"),
        (
            {"or": [{"is_null": "x"}, {"eq": ["s", 1]}]},
            r"\$\.or\[1\]\.eq, column 's': 1 is no text",
        ),
        ({"between": ["x", 1, "b"]}, r"\$\.between\.and\[1\]\.lte, column 'x'"),
        ({"in": ["x", [1, "q"]]}, r"\$\.in, column 'x': 'q'"),
        ({"eq": ["x", "NaN"]}, r"\$\.eq, column 'x': NaN cannot"),
    ],
)
def test_binding_refuses_what_does_not_fit_the_schema_at_its_place(
    tree: dict[str, Any], place: str
) -> None:
    parsed = parse(tree)
    assert parsed is not None
    with pytest.raises(PredicateError, match=place):
        bind(parsed, SCHEMA)


def test_an_unknown_column_offers_the_nearest_name() -> None:
    with pytest.raises(PredicateError, match="did you mean 'distance'"):
        bind(IsNull("distanse"), pa.schema([("distance", pa.int8())]))


def test_a_nested_column_is_only_asked_for_null() -> None:
    schema = pa.schema([("l", pa.list_(pa.int8()))])
    assert bind(IsNull("l"), schema) == IsNull("l")
    with pytest.raises(PredicateError, match="cannot be compared"):
        bind(Compare("eq", "l", 1), schema)
    with pytest.raises(PredicateError, match="cannot be compared"):
        bind(Compare("eq", "l", None), schema)


@pytest.mark.parametrize(
    ("node", "bound"),
    [
        (Compare("gt", "x", 1.5), Compare("gt", "x", pa.scalar(1))),
        (Compare("gte", "x", 1.5), Compare("gt", "x", pa.scalar(1))),
        (Compare("lt", "x", 1.5), Compare("lte", "x", pa.scalar(1))),
        (Compare("eq", "x", 1.5), Constant(False)),
        (Compare("neq", "x", 1.5), Not(IsNull("x"))),
        (Compare("gt", "x", -(2**70)), Not(IsNull("x"))),
        (Compare("lt", "x", -(2**70)), Constant(False)),
        (Compare("eq", "x", None), Constant(False)),
        (In("x", (1, 1, None, 0.5)), In("x", (pa.scalar(1),))),
        (In("x", ()), Constant(False)),
        (Not(In("x", ())), Not(IsNull("x"))),
        (Not(Compare("eq", "x", 1)), Compare("neq", "x", pa.scalar(1))),
        (Not(Not(IsNull("x"))), IsNull("x")),
        (Not(IsNull("x")), Not(IsNull("x"))),
        (Compare("eq", "f", "NaN"), IsNan("f")),
        (Compare("gt", "f", "NaN"), Constant(False)),
        (Compare("lte", "f", "NaN"), Not(IsNull("f"))),
        (Compare("lt", "f", float("nan")), Not(IsNan("f"))),
        (In("f", ("NaN",)), IsNan("f")),
        (Or((IsNull("x"), In("x", ()))), IsNull("x")),
        (And((IsNull("x"), In("x", ()))), Constant(False)),
        (And((Not(Constant(False)), Constant(True))), Constant(True)),
    ],
)
def test_binding_rewrites_a_leaf_to_what_the_column_can_hold(
    node: Predicate, bound: Predicate
) -> None:
    assert bind(node, SCHEMA) == bound


def test_not_is_pushed_to_the_leaves_by_de_morgan() -> None:
    node = Not(And((Compare("lt", "x", 1), Or((IsNull("s"), Between("x", 2, 3))))))
    assert bind(node, SCHEMA) == Or(
        (
            Compare("gte", "x", pa.scalar(1)),
            And(
                (
                    Not(IsNull("s")),
                    Or((Compare("lt", "x", pa.scalar(2)), Compare("gt", "x", pa.scalar(3)))),
                )
            ),
        )
    )


def test_binding_what_is_bound_changes_nothing() -> None:
    once = bind(And((Compare("gt", "x", 1), In("f", (0.5, "NaN")))), SCHEMA)
    assert bind(once, SCHEMA) == once


# --- meaning --------------------------------------------------------------------------------------


def kept(tree: dict[str, Any], table: pa.Table) -> pa.Table:
    parsed = parse(tree)
    assert parsed is not None
    return table.filter(to_arrow(bind(parsed, table.schema), table.schema).expression)


@given(st.data())
def test_filters_keep_the_rows_that_the_oracle_keeps(data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3))
    schema = pa.schema([(f"c{i}", t) for i, t in enumerate(types)])
    columns = {f.name: st.sampled_from([*TYPES[f.type], None]) for f in schema}
    rows: list[Row] = data.draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=12))
    table = table_of(rows, schema)
    for ast in data.draw(st.lists(predicates(schema), min_size=10, max_size=20)):
        wanted = [row for row in rows if matches(ast, row, schema) is True]
        got = rows_of(kept(ast, table))
        assert canonical(got, ordered=True) == canonical(wanted, ordered=True), ast


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        ({"gt": ["f", 5.0]}, ["nan", "inf"]),
        ({"eq": ["f", "NaN"]}, ["nan"]),
        ({"neq": ["f", 1.0]}, ["0.0", "-0.0", "nan", "inf"]),
        ({"eq": ["f", 0]}, ["0.0", "-0.0"]),
        ({"in": ["f", [-0.0, None]]}, ["0.0", "-0.0"]),
        ({"not": {"in": ["f", [1.0, None]]}}, ["0.0", "-0.0", "nan", "inf"]),
        ({"lt": ["f", 0]}, []),
        ({"lte": ["f", "Infinity"]}, ["0.0", "-0.0", "1.0", "inf"]),
        ({"gte": ["f", "Infinity"]}, ["nan", "inf"]),
        ({"is_null": "f"}, ["None"]),
        ({"between": ["f", 2, 0]}, []),
    ],
)
def test_nan_is_above_all_zeros_are_equal_and_nulls_are_unknown(
    tree: dict[str, Any], wanted: list[str]
) -> None:
    values = [0.0, -0.0, 1.0, float("nan"), float("inf"), None]
    found = kept(tree, pa.table({"f": pa.array(values, pa.float64())}))
    assert [str(v) for v in found.column("f").to_pylist()] == wanted


def test_a_column_may_have_dots_in_its_name() -> None:
    table = pa.table({"a.b": [1, 2], "a": [{"b": 5}, {"b": 6}]})
    assert kept({"eq": ["a.b", 2]}, table).num_rows == 1


def test_a_dictionary_column_is_compared_by_its_values() -> None:
    table = pa.table({"d": pa.array(["a", "b", None]).dictionary_encode()})
    assert kept({"or": [{"gt": ["d", "a"]}, {"in": ["d", ["a"]]}]}, table).num_rows == 2
    assert kept({"not": {"eq": ["d", "a"]}}, table).num_rows == 1


@pytest.mark.parametrize(
    ("dtype", "literal", "value"),
    [
        (pa.uint64(), 2**64 - 1, 2**64 - 1),
        (pa.decimal256(50, 3), "1.5", Decimal("1.5")),
        (pa.time32("s"), "00:00:07", dt.time(0, 0, 7)),
        (pa.duration("ns"), "PT0.000007S", dt.timedelta(microseconds=7)),
        (pa.large_string(), "a", "a"),
        (pa.large_binary(), "YQ==", b"a"),
        (pa.binary(2), "YWI=", b"ab"),
        (pa.decimal64(9, 2), "1.5", Decimal("1.5")),
        (pa.timestamp("s", "UTC"), "1970-01-01T00:00:07Z", 7),
    ],
)
def test_types_that_histories_do_not_draw_are_compared_too(
    dtype: pa.DataType, literal: object, value: object
) -> None:
    table = pa.table({"x": pa.array([value, None], dtype)})
    assert kept({"eq": ["x", literal]}, table).num_rows == 1
    assert kept({"in": ["x", [literal]]}, table).num_rows == 1
    assert kept({"not": {"gt": ["x", literal]}}, table).num_rows == 1
    assert kept({"neq": ["x", literal]}, table).num_rows == 0


@pytest.mark.parametrize("dtype", [pa.string_view(), pa.binary_view()])
def test_view_types_are_listed_through_types_that_arrow_knows(dtype: pa.DataType) -> None:
    table = pa.table({"x": pa.array(["a", "b", None]).cast(pa.string()).cast(dtype)})
    literal = "YQ==" if pa.types.is_binary_view(dtype) else "a"
    for ast, wanted in (
        ({"in": ["x", [literal]]}, [True, False, False]),
        ({"gt": ["x", literal]}, [False, True, None]),
    ):
        predicate = parse(ast)
        assert predicate is not None
        mask = pc.field("x")
        said = to_arrow(bind(predicate, table.schema), table.schema).expression
        found = ds.dataset(table).scanner(columns={"m": said, "x": mask}).to_table()
        assert found.column("m").to_pylist() == wanted


def test_an_unbound_node_is_said_by_nobody() -> None:
    for node in (Not(Compare("eq", "x", 1)), Not(Not(IsNull("x")))):
        with pytest.raises(TypeError, match="not a bound predicate"):
            to_arrow(node, X)
        with pytest.raises(TypeError, match="not a bound predicate"):
            to_python(node, X)


@pytest.mark.parametrize(
    ("value", "kept"),
    [({"a": 1}, True), (None, False), (pa.scalar(None, pa.struct([("a", pa.int8())])), False)],
)
def test_a_nested_value_is_only_asked_for_null_in_python_too(value: object, kept: bool) -> None:
    schema = pa.schema([("s", pa.struct([("a", pa.int8())]))])
    assert to_python(bind(Not(IsNull("s")), schema), schema).expression({"s": value}) is kept


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (Not(IsNull("x")), IsNull("x")),
        (IsNull("x"), Not(IsNull("x"))),
        (Compare("gt", "x", 1), Compare("lte", "x", 1)),
        (Between("x", 1, 2), Or((Compare("lt", "x", 1), Compare("gt", "x", 2)))),
        (In("x", (1,)), Not(In("x", (1,)))),
        (Or((IsNull("x"), Not(Not(In("x", (1,)))))), And((Not(IsNull("x")), Not(In("x", (1,)))))),
        (Not(Or((IsNull("x"), Not(Not(IsNull("s")))))), Or((IsNull("x"), IsNull("s")))),
        (Constant(True), Constant(False)),
    ],
)
def test_a_negated_predicate_has_not_on_its_leaves_alone(
    node: Predicate, wanted: Predicate
) -> None:
    assert negate(node) == wanted


def test_a_translation_is_a_value() -> None:
    said = to_python(bind(IsNull("x"), X), X)
    assert said.exact
    assert said == Translation(said.expression, exact=True)


# --- parts ----------------------------------------------------------------------------------------


def test_conjunctions_flatten_and_forget_true() -> None:
    a, b, c = IsNull("a"), IsNull("b"), IsNull("c")
    assert conjoin([None, And((a, And((b, c)))), None]) == And((a, b, c))
    assert conjoin([None, a]) == a
    assert conjoin([]) is None
    assert conjuncts(None) == ()
    assert conjuncts(Or((a, b))) == (Or((a, b)),)


def test_parts_that_do_not_fit_the_schema_are_left_out() -> None:
    good = Compare("gt", "x", 1)
    parts = [And((good, Compare("eq", "x", "abc"))), IsNull("unknown"), None]
    assert admissible(parts, SCHEMA) == good
    assert admissible([Compare("eq", "x", "abc")], SCHEMA) is None


def test_the_columns_of_a_predicate_are_those_it_reads() -> None:
    node = And((IsNull("a"), Not(Or((In("b", ()), Between("c", 1, 2))))))
    assert columns_of(node) == {"a", "b", "c"}
    assert columns_of(None) == columns_of(Constant(True)) == frozenset()


def test_restricting_widens_what_other_columns_decide() -> None:
    on_x, on_s = Compare("gt", "x", pa.scalar(1)), IsNull("s")
    only = frozenset({"x"})
    assert restrict(And((on_x, on_s)), only) == on_x
    assert restrict(Or((on_x, on_s)), only) == Constant(True)
    assert restrict(on_s, only) == Constant(True)


@given(st.data())
def test_a_restricted_predicate_keeps_at_least_the_same_rows(data: st.DataObject) -> None:
    schema = pa.schema([("a", pa.int8()), ("b", pa.float64())])
    columns = {f.name: st.sampled_from([*TYPES[f.type], None]) for f in schema}
    rows = data.draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8))
    table = table_of(rows, schema).append_column("n", pa.array(range(len(rows))))
    for ast in data.draw(st.lists(predicates(schema), min_size=4, max_size=8)):
        parsed = parse(ast)
        assert parsed is not None
        bound = bind(parsed, schema)
        wider = table.filter(to_arrow(restrict(bound, frozenset({"a"})), schema).expression).column(
            "n"
        )
        narrow = table.filter(to_arrow(bound, schema).expression).column("n")
        assert set(narrow.to_pylist()) <= set(wider.to_pylist())
