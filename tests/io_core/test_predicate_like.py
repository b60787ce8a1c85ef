"""Do all forms of a predicate say the same, and is what cannot be said refused by its name?"""

from __future__ import annotations

import datetime as dt
import functools
import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given

from io_core.errors import PredicateError
from io_core.predicate import And, Compare, IsNull, Not, Or, bind, dump, negate
from io_core.predicate_arrow import to_arrow
from io_core.predicate_from_arrow import Call, Column, Literal, decode, predicate_from_arrow
from io_core.predicate_like import as_predicate

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from io_core.predicate import Predicate

x, y = pc.field("x"), pc.field("y")
SAME: list[tuple[Any, str, pc.Expression]] = [
    ({"eq": ["x", 1]}, "x = 1", x == 1),
    ({"neq": ["x", 1]}, "x <> 1", x != 1),
    ({"gt": ["x", 1.5]}, "x > 1.5", x > 1.5),
    ({"lt": ["x", 1]}, "1 > x", pc.scalar(1) > x),
    ({"gte": ["x", -1]}, "x >= -1", x >= -1),
    ({"lte": ["x", None]}, "x <= NULL", x <= pa.scalar(None)),
    ({"in": ["x", [1, 2]]}, "x IN (1, 2)", x.isin([1, 2])),
    ({"not": {"in": ["x", ["a"]]}}, "x NOT IN ('a')", ~x.isin(["a"])),
    ({"is_null": "x"}, "x IS NULL", x.is_null()),
    ({"not": {"is_null": "x"}}, "x IS NOT NULL", x.is_valid()),
    ({"eq": ["x", True]}, "x", x),
    ({"not": {"eq": ["x", True]}}, "NOT x", ~x),
    ({"eq": ["x", "NaN"]}, "isnan(x)", x.is_nan()),
    ({"eq": ["x", "2025-03-01"]}, "x = DATE '2025-03-01'", x == pa.scalar(dt.date(2025, 3, 1))),
    (
        {"and": [{"gt": ["x", 1]}, {"lt": ["y", 2]}, {"is_null": "x"}]},
        "x > 1 AND (y < 2 AND x IS NULL)",
        (x > 1) & (y < 2) & x.is_null(),
    ),
    (
        {"or": [{"gt": ["x", 1]}, {"and": [{"lt": ["y", 2]}, {"eq": ["x", 3]}]}]},
        "x > 1 OR y < 2 AND x = 3",
        (x > 1) | ((y < 2) & (x == 3)),
    ),
]


@pytest.mark.parametrize(("tree", "text", "expression"), SAME, ids=[text for _, text, _ in SAME])
def test_every_form_says_the_same(tree: Any, text: str, expression: pc.Expression) -> None:
    assert dump(as_predicate(text)) == tree
    assert dump(as_predicate(expression)) == tree
    assert dump(as_predicate(as_predicate(tree))) == tree


@pytest.mark.parametrize("nothing", [None, {}, pc.scalar(True)], ids=repr)
def test_what_says_nothing_is_no_predicate(nothing: Any) -> None:
    assert as_predicate(nothing) is None


def test_sql_knows_whether_something_is_true_where_it_may_be_null() -> None:
    known = And((Compare("eq", "x", True), Not(IsNull("x"))))
    assert as_predicate("x IS TRUE") == known
    assert as_predicate("x IS NOT TRUE") == Not(known)
    assert as_predicate("x IS DISTINCT FROM NULL") == Not(IsNull("x"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s LIKE 'b%'", ["b", "ba", "b\U0010ffffz"]),
        ("starts_with(s, 'b')", ["b", "ba", "b\U0010ffffz"]),
        ("s LIKE 'b\U0010ffff%'", ["b\U0010ffffz"]),
        ("s LIKE '\ud7ff%'", ["\ud7ff\ud7ff"]),
        ("s LIKE 'ba'", ["ba"]),
        ("s NOT LIKE 'b%'", ["a", "c", "\ud7ff\ud7ff", "\ue000"]),
    ],
)
def test_sql_says_how_texts_begin(text: str, kept: list[str]) -> None:
    texts = ["a", "b", "ba", "b\U0010ffffz", "c", "\ud7ff\ud7ff", "\ue000", None]
    rows = pa.table({"s": texts})
    predicate = as_predicate(text)
    assert predicate is not None
    bound = to_arrow(bind(predicate, rows.schema), rows.schema)
    assert rows.filter(bound.expression)["s"].to_pylist() == kept


def test_sql_takes_quoted_names_and_texts_as_they_stand() -> None:
    found = as_predicate("\"Mixed Case\" = 'it''s' AND Größe = 'é'")
    assert found == And((Compare("eq", "Mixed Case", "it's"), Compare("eq", "Größe", "é")))


def test_a_number_that_no_float_holds_stays_what_was_written() -> None:
    text = "12345678901234567890.12"
    assert as_predicate(f"x = {text}") == Compare("eq", "x", Decimal(text))


def test_a_fraction_beside_decimals_is_what_was_written() -> None:
    rows = pa.table({"x": pa.array([Decimal("0.10"), Decimal("0.20")], pa.decimal128(5, 2))})
    for given_ in ("x >= 0.1", {"gte": ["x", 0.1]}):
        predicate = as_predicate(given_)
        assert predicate is not None
        bound = to_arrow(bind(predicate, rows.schema), rows.schema)
        assert rows.filter(bound.expression).num_rows == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected one condition"),
        ("x >", "no SQL predicate: something is missing, near '>'"),
        ("x = 1; DROP TABLE t", "expected one condition"),
        ("SELECT x", "no predicate"),
        ("x = 1 surplus", "no predicate"),
        ("t.x = 1", "name a column alone"),
        ("x = y", "a text stands in '...'"),
        ('x = "text"', "a text stands in '...'"),
        ("x + 1 = 2", "stands a column"),
        ("x = (SELECT 1)", "only literals"),
        ("x IN (SELECT 1)", "list the values"),
        ("x LIKE '%a'", "only the end may be open"),
        ("x LIKE 'a_%'", "only the end may be open"),
        ("x LIKE '%'", "x IS NOT NULL"),
        ("x LIKE 5", "a pattern is a text"),
        ("x ILIKE 'a%'", "no predicate"),
        ("x = ?", "only literals"),
        ("x = now()", "only literals"),
        ("x BETWEEN SYMMETRIC 2 AND 1", "SYMMETRIC"),
        ("x IS 5", "NULL, TRUE or FALSE"),
        ("TRUE", "no predicate"),
        ("(" * 2000 + "x = 1" + ")" * 2000, "nests too deeply"),
        (" AND ".join(f"x <> {n}" for n in range(3000)), "too large"),
    ],
)
def test_sql_that_says_more_than_a_predicate_is_refused(text: str, said: str) -> None:
    with pytest.raises(PredicateError, match=said):
        as_predicate(text)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (pc.scalar(False), "no predicate"),
        (x == y, "no predicate"),
        (x + 1 == 2, "no predicate"),
        (x.cast(pa.int32()) == 1, "no predicate"),
        (pc.starts_with(x, "a"), "no predicate"),
        (pc.and_(x, y), "no predicate"),
        (pc.field(0) == 1, "cannot be read"),
        (pc.field("x", "inner") == 1, "only columns by their names"),
        (x.isin([1, None]), "a null in isin"),
        (pc.is_in(x, pa.array([1]), skip_nulls=True), "a way that is not known"),
        (x == pa.scalar([1]), "cannot be a literal"),
        (functools.reduce(operator.and_, [x != n for n in range(500)]), "nests deeper"),
    ],
    ids=str,
)
def test_an_expression_that_says_more_than_a_predicate_is_refused(
    expression: pc.Expression, said: str
) -> None:
    with pytest.raises(PredicateError, match=said):
        as_predicate(expression)


@pytest.mark.parametrize("wrong", [1, ["x", 1], object()], ids=["number", "list", "object"])
def test_what_is_no_form_of_a_predicate_is_refused_by_its_type(wrong: Any) -> None:
    with pytest.raises(PredicateError, match=type(wrong).__name__):
        as_predicate(wrong)


def test_names_that_would_break_a_text_are_read_from_an_expression() -> None:
    name = "it's: 'q'\nend: 'equal'"
    assert as_predicate(pc.field(name) == 1) == Compare("eq", name, 1)


def test_an_expression_keeps_nanoseconds() -> None:
    at = pa.scalar(1, pa.timestamp("ns"))
    assert as_predicate(x <= at) == Compare("lte", "x", "1970-01-01T00:00:00.000000001")


def test_an_expression_is_read_as_a_tree_whatever_it_calls() -> None:
    found = decode(pc.starts_with(x, "ab") | (y == 1))
    assert isinstance(found, Call)
    assert found.function == "or_kleene"
    first, second = found.arguments
    assert isinstance(first, Call)
    assert (first.function, first.options["pattern"]) == ("starts_with", "ab")
    assert second == Call("equal", (Column("y"), Literal(pa.scalar(1))), {})


SCHEMA = pa.schema([("x", pa.int64()), ("y", pa.string()), ("z", pa.float64()), ("b", pa.bool_())])
ROWS = pa.Table.from_pylist(
    [
        {"x": a, "y": b, "z": c, "b": d}
        for a in (None, 0, 1)
        for b in (None, "", "a")
        for c in (None, -0.0, 1.5, float("nan"))
        for d in (None, True, False)
    ],
    schema=SCHEMA,
)
VALUES: dict[str, list[Any]] = {
    "x": [0, 1, -1],
    "y": ["", "a", "b"],
    "z": [0.0, 1.5, float("nan")],
    "b": [True, False],
}


def predicates() -> SearchStrategy[Predicate]:
    def leaf(name: str) -> SearchStrategy[Predicate]:
        value = st.sampled_from(VALUES[name])
        ops = st.sampled_from(["eq", "neq", "gt", "gte", "lt", "lte"])
        return st.builds(Compare, ops, st.just(name), value) | st.just(IsNull(name))

    leaves = st.sampled_from(SCHEMA.names).flatmap(leaf)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Not), st.lists(inner, min_size=2, max_size=3).map(lambda c: Or(tuple(c)))
        ),
        max_leaves=6,
    )


def kept(predicate: Predicate) -> list[int]:
    """Numbers of the rows that it keeps; NaN in the rows themselves equals nothing."""
    numbered = ROWS.append_column("n", pa.array(range(len(ROWS))))
    found = numbered.filter(to_arrow(bind(predicate, SCHEMA), SCHEMA).expression)
    numbers: list[int] = found["n"].to_pylist()
    return numbers


@given(predicates())
def test_an_expression_made_of_a_predicate_reads_back_with_the_same_rows(made: Predicate) -> None:
    spelled = _spelled(made)
    found = predicate_from_arrow(spelled)
    assert found is not None
    assert kept(found) == kept(made)
    assert kept(negate(found)) == kept(negate(made))


def _spelled(predicate: Predicate) -> pc.Expression:
    match predicate:
        case Compare(op, column, value):
            names = {"eq": "eq", "neq": "ne", "gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}
            found: pc.Expression = getattr(operator, names[op])(pc.field(column), value)
            return found
        case IsNull(column):
            return pc.field(column).is_null()
        case Not(child):
            return ~_spelled(child)
        case Or(children):
            return functools.reduce(operator.or_, map(_spelled, children))
    raise TypeError(predicate)
