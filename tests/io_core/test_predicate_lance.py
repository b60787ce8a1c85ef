"""Does Lance's own reader keep what a predicate keeps, and never less?"""

from __future__ import annotations

import tempfile
from decimal import Decimal
from typing import Any

import lance
import pyarrow as pa
import pytest
from hypothesis import given

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
    dump,
    parse,
)
from io_core.predicate_lance import to_lance
from tests.oracle import matches, table_of
from tests.tapes import ALL_TYPES, Tape, tapes

# Types that a Lance dataset holds, less those that are read back as another one.
TYPES = [
    t
    for t in ALL_TYPES
    if not (pa.types.is_decimal64(t) or pa.types.is_string_view(t) or pa.types.is_binary_view(t))
]


# Any: pylance is typed more narrowly than it works.
def written(table: pa.Table, folder: str) -> Any:
    return lance.write_dataset(table, f"{folder}/rows.lance")


def rows_kept(dataset: Any, predicate: Predicate) -> tuple[list[int], bool]:
    said = to_lance(bind(predicate, dataset.schema), dataset.schema)
    found = dataset.to_table(columns=["#"], filter=said.expression)
    return sorted(found.column("#").to_pylist()), said.exact


def as_lance_holds(table: pa.Table) -> pa.Table:
    """With names that Lance takes; `#` numbers the rows."""
    return table.append_column("#", pa.array(range(len(table)), pa.int64()))


@given(tapes(900))
def test_lance_keeps_the_rows_that_the_oracle_keeps_and_more_only_where_inexact(
    tape: Tape,
) -> None:
    schema = tape.schema(TYPES, 4)
    rows = tape.rows(schema, 10)
    with tempfile.TemporaryDirectory() as folder:
        dataset = written(as_lance_holds(table_of(rows, schema)), folder)
        for _ in range(25):
            ast = tape.ast(schema)
            predicate = parse(ast)
            assert predicate is not None
            found, exact = rows_kept(dataset, predicate)
            truth = [i for i, row in enumerate(rows) if matches(ast, row, schema) is True]
            assert set(truth) <= set(found), (ast, rows)
            assert not exact or found == truth, (ast, rows)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_is_compared_as_the_oracle_does_with_each_of_its_values(
    dtype: pa.DataType, tmp_path: Any
) -> None:
    schema = pa.schema([("it's a column", dtype)])
    rows = [{"it's a column": v} for v in [*ALL_TYPES[dtype], None]]
    dataset = written(as_lance_holds(table_of(rows, schema)), str(tmp_path))
    for at in range(len(rows) - 1):
        value = table_of(rows, schema).column(0)[at]
        for op in ("eq", "neq", "gt", "gte", "lt", "lte"):
            compare = Compare(op, "it's a column", value)
            found, exact = rows_kept(dataset, compare)
            truth = [i for i, r in enumerate(rows) if matches(dump(compare), r, schema) is True]
            assert found == truth or (not exact and set(truth) < set(found)), compare
            assert exact is not pa.types.is_decimal256(dtype)


FLOATS = pa.schema([("f", pa.float64()), ("s", pa.string()), ("a.b", pa.int8()), ("d", pa.decimal256(50, 3))])  # fmt: skip


@pytest.mark.parametrize(
    ("predicate", "sql", "exact"),
    [
        (Compare("gt", "f", 1.5), "`f` > cast('1.5' as double)", True),
        (Compare("eq", "f", "NaN"), "isnan(`f`)", True),
        (Compare("eq", "s", "o'clock"), "`s` = 'o''clock'", True),
        (Not(In("s", ("a", "b"))), "`s` not in ('a', 'b')", True),
        (Constant(False), "false", True),
        (Constant(True), None, True),
        (Compare("eq", "a.b", 1), None, False),
        (Compare("eq", "d", Decimal("1.5")), None, False),
        (IsNull("d"), "`d` is null", True),
        (And((IsNull("f"), Compare("eq", "a.b", 1))), "(`f` is null)", False),
        (Or((IsNull("f"), Compare("eq", "a.b", 1))), None, False),
        (Not(And((IsNull("f"), Compare("eq", "a.b", 1)))), None, False),
        (Not(Or((IsNull("f"), Compare("eq", "a.b", 1)))), "(`f` is not null)", False),
    ],
)
def test_what_cannot_be_said_is_left_out_and_said_to_be(
    predicate: Predicate, sql: str | None, exact: bool
) -> None:
    assert to_lance(bind(predicate, FLOATS), FLOATS) == (sql, exact)


@pytest.mark.parametrize("name", ["a`b", "a.b", "_rowid"])
def test_a_name_that_lance_takes_for_something_else_is_left_out(name: str) -> None:
    schema = pa.schema([(name, pa.int64())])
    assert to_lance(bind(Between(name, 1, 2), schema), schema) == (None, False)


def test_a_name_of_lances_own_language_is_quoted(tmp_path: Any) -> None:
    table = pa.table({"select": [1, 2], "größe X": [1, 2], '"': [1, 2], "A": [1, 2], "a": [3, 4]})
    dataset = written(as_lance_holds(table), str(tmp_path))
    for name in ("select", "größe X", '"', "A"):
        assert rows_kept(dataset, Compare("eq", name, 2)) == ([1], True)
    assert rows_kept(dataset, Compare("eq", "a", 3)) == ([0], True)


def test_what_nests_deeper_than_lance_reads_is_widened_there(tmp_path: Any) -> None:
    dataset = written(as_lance_holds(pa.table({"x": [1, 2, 3]})), str(tmp_path))
    tree: Predicate = Compare("eq", "x", 1)
    for i in range(60):
        node = And if i % 2 else Or
        tree = node((tree, Compare("lt" if i % 2 else "gt", "x", 3 if i % 2 else 1)))
    found, exact = rows_kept(dataset, tree)
    assert not exact
    assert set(found) >= {0, 1}


def test_an_unbound_node_is_no_sql() -> None:
    with pytest.raises(TypeError, match="not a bound predicate"):
        to_lance(Not(Not(IsNull("f"))), FLOATS)
