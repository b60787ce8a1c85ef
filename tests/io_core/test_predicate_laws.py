"""Do all ways to say a predicate mean the same, for rows and literals of every type?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.acero as ac
from hypothesis import given

from io_core.predicate import Constant, Predicate, bind, dump, negate, parse, restrict
from io_core.predicate_arrow import matching, to_arrow
from io_core.predicate_python import to_python
from io_core.schema import without_views
from io_core.simplify import simplify
from tests.oracle import Row, matches, table_of
from tests.tapes import ALL_TYPES, Tape, examples, tapes

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPES = list(ALL_TYPES)
# Any: the JSON AST.
Ast = dict[str, Any]


def kept(predicates: Sequence[Predicate], table: pa.Table) -> list[list[bool]]:
    """Per predicate, whether Arrow keeps each row; many in one go."""
    said = [to_arrow(p, table.schema) for p in predicates]
    assert all(s.exact for s in said)
    source = ac.Declaration("table_source", ac.TableSourceNodeOptions(table))
    names = [str(i) for i in range(len(said))]
    options = ac.ProjectNodeOptions([s.expression for s in said], names)
    found = ac.Declaration.from_sequence([source, ac.Declaration("project", options)])
    columns = found.to_table(use_threads=False).columns
    return [[value is True for value in column.to_pylist()] for column in columns]


def parsed(ast: Ast) -> Predicate:
    found = parse(ast)
    assert found is not None
    return found


def drawn(tape: Tape) -> tuple[pa.Schema, list[Row], list[Ast]]:
    schema = tape.schema(TYPES, 3)
    rows = tape.rows(schema, 8)
    return schema, rows, [tape.ast(schema) for _ in range(4)]


@examples(5000)
@given(tapes(260))
def test_arrow_and_python_keep_the_rows_that_the_oracle_keeps(tape: Tape) -> None:
    schema, rows, asts = drawn(tape)
    bound = [bind(parsed(ast), schema) for ast in asts]
    table = table_of(rows, schema)
    plain = pa.schema([f.with_type(without_views(f.type)) for f in schema])
    numbered = table.cast(plain).append_column("number", pa.array(range(len(rows))))
    scalars = [{f.name: table.column(f.name)[i] for f in schema} for i in range(len(rows))]
    for ast, predicate, arrow in zip(asts, bound, kept(bound, table), strict=True):
        truth = [matches(ast, row, schema) is True for row in rows]
        assert arrow == truth, (ast, rows)
        found = matching(numbered, bind(parsed(ast), plain))
        assert found["number"].to_pylist() == [i for i, is_kept in enumerate(truth) if is_kept]
        python = to_python(predicate, schema)
        assert python.exact
        assert [python.expression(row) for row in scalars] == truth, (ast, rows)


@examples(5000)
@given(tapes(260))
def test_a_predicate_negated_or_simplified_keeps_its_meaning(tape: Tape) -> None:
    schema, rows, asts = drawn(tape)
    trees = [parsed(ast) for ast in asts]
    negated = [negate(tree) for tree in trees]
    simple = [simplify(bind(tree, schema)) for tree in trees]
    opposite = [bind(tree, schema) for tree in negated]
    table = table_of(rows, schema)
    said = kept([*simple, *opposite], table)
    for i, ast in enumerate(asts):
        truth = [matches(ast, row, schema) for row in rows]
        assert said[i] == [t is True for t in truth], (ast, simple[i], rows)
        assert said[len(asts) + i] == [t is False for t in truth], (ast, negated[i], rows)
        assert simplify(simple[i]) == simple[i], ast
        assert bind(simple[i], schema) == simple[i], ast
        assert matches(dump(negate(negated[i])), rows[0], schema) is truth[0], ast
        assert dump(trees[i]) == ast


@examples(1000)
@given(tapes(260))
def test_what_some_columns_decide_keeps_at_least_the_same_rows(tape: Tape) -> None:
    schema, rows, asts = drawn(tape)
    bound = [bind(parsed(ast), schema) for ast in asts]
    wider = [restrict(predicate, frozenset({"c0"})) for predicate in bound]
    for ast, found in zip(asts, kept(wider, table_of(rows, schema)), strict=True):
        truth = [matches(ast, row, schema) is True for row in rows]
        assert all(more >= true for more, true in zip(found, truth, strict=True)), (ast, rows)


def test_a_constant_is_said_by_everyone() -> None:
    table = pa.table({"x": [1, None]})
    said = kept([Constant(True), Constant(False)], table)
    assert said == [[True, True], [False, False]]
    assert not to_python(Constant(False), table.schema).expression({"x": 1})
