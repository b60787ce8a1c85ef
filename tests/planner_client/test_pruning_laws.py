"""Does the planner, which looks at blocks first, list every file that holds a matching row?"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.plan_ours import NAMESPACE, TABLE, register_ours, root_of
from benchmarks.tables import FIRST_DAY, ROWS_PER_FILE, Shape, make_files
from io_core.predicate import bind, parse
from io_core.prune import file_bounds, partition_bounds, prune
from planner_client import Client
from tests.oracle import Row, matches, rows_of, table_of
from tests.tapes import ALL_TYPES, Tape, tapes

if TYPE_CHECKING:
    from io_core.plan import ReadPlan

# Any: keyword arguments of every call, and the JSON AST.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
BENCHED: dict[str, Any] = {"namespace": NAMESPACE, "table": TABLE}
Ast = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("c0", pa.int64()),
        ("c1", pa.float64()),
        ("c2", pa.string()),
        ("c3", pa.timestamp("us")),
        ("c4", pa.binary(2)),
        ("c5", pa.decimal128(12, 3)),
        ("c6", pa.date32()),
        ("c7", pa.bool_()),
    ]
)
# Unpartitioned: two rows to a file, and more files than a block has, in rows that begin all alike.
ROWS = {"none": 2_200, "identity": 400, "hashed": 200}
SCHEMES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "identity": {"keys": [{"key": ["c7"]}, {"key": ["c6"], "transform": "year"}]},
    "hashed": {
        "keys": [
            {"key": ["c0"], "transform": "bucket(4)"},
            {"key": ["c2"], "transform": "truncate(1)"},
            {"key": ["c3"], "transform": "hour"},
        ]
    },
}


class World(NamedTuple):
    """A table whose files hold a few rows each, and the rows of every file by its path."""

    client: Client
    files: dict[str, list[Row]]
    plan: ReadPlan


def drawn(count: int) -> pa.Table:
    """Rows of every value, many of them alike and next to each other, in an order of their own."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    for at in range(count):
        spread = 1 if at < count // 3 else 12
        values = {f.name: ALL_TYPES[f.type] for f in SCHEMA}
        row = {n: pool[int(rng.integers(min(spread, len(pool))))] for n, pool in values.items()}
        rows.append(
            {n: None if at % 50 == 0 or rng.integers(20) == 0 else v for n, v in row.items()}
        )
    return table_of(rows, SCHEMA)


@pytest.fixture(scope="module", params=list(SCHEMES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Written once for all predicates."""
    client = Client(tmp_path_factory.mktemp("laws") / "catalog")
    scheme = SCHEMES[request.param]
    rows = drawn(ROWS[request.param])
    client.catalog.write(rows, **WHERE, partition_scheme=scheme, max_rows_per_file=2)
    plan = client.catalog.plan(**WHERE, include_stats=True)
    files = {p: rows_of(pq.read_table(p, schema=SCHEMA)) for p in paths(plan)}
    return World(client, files, plan)


def paths(plan: ReadPlan) -> list[str]:
    return list(plan.files.column("path").to_pylist())


def judged(ast: Ast, plan: ReadPlan) -> dict[str, bool]:
    """The files that hold a matching row as far as each file's own values and statistics tell.

    By path: whether a filter has to look at its rows.
    """
    parsed = parse(ast)
    assert parsed is not None
    rows = plan.files.column("record_count").to_numpy()
    scheme, schema = plan.header.partition_scheme, plan.schema
    known = partition_bounds(plan.files, rows, scheme, schema) if scheme else {}
    kinds = ("min", "max", "null_count", "nan_count")
    for name in schema.names:
        if f"min:{name}" in plan.files.column_names:
            stats = plan.files.select([f"{kind}:{name}" for kind in kinds]).rename_columns(kinds)
            known.setdefault(name, []).append(file_bounds(stats))
    may, every = prune(bind(parsed, schema), rows, lambda c: known.get(c, []))
    zipped = zip(paths(plan), may.tolist(), every.tolist(), strict=True)
    return {p: not sure for p, kept, sure in zipped if kept}


def listed(plan: ReadPlan) -> dict[str, bool]:
    """The same as a plan lists it."""
    return dict(zip(paths(plan), plan.column("residual"), strict=True))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tape=tapes(400))
def test_the_planner_lists_what_each_file_by_itself_would_and_never_less_than_the_truth(
    world: World, tape: Tape
) -> None:
    for _ in range(3):
        ast = tape.ast(SCHEMA)
        found = listed(world.client.catalog.plan(**WHERE, filter_predicate=ast))
        assert found == judged(ast, world.plan), ast
        for path in set(world.files) - found.keys():
            assert not any(matches(ast, row, SCHEMA) for row in world.files[path]), ast


def test_blocks_do_rule_out(world: World) -> None:
    asked: Ast = {"eq": ["c5", "999999999.999"]}
    plan = world.client.catalog.plan(**WHERE, filter_predicate=asked)
    assert 0 < len(plan.files) < len(world.files) / 2


# --- tables of many partitions, whose values are looked at block by block too ---------------------

WIDE = Shape(30_000)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(-1, WIDE.files).map(lambda number: number * ROWS_PER_FILE),
    "value": st.floats(-1, WIDE.files),
    "name": st.integers(0, WIDE.files // 10).map(lambda number: f"name-{number:07d}-mmmm"),
    "day": st.integers(-1, 301).map(lambda days: (FIRST_DAY + timedelta(days)).isoformat()),
    "bucket": st.integers(-1, 10),
}
LEAVES = st.sampled_from(sorted(COLUMNS)).flatmap(
    lambda column: (
        st.builds(
            lambda op, value: {op: [column, value]},
            st.sampled_from(["eq", "neq", "lt", "lte", "gt", "gte"]),
            COLUMNS[column],
        )
        | st.lists(COLUMNS[column], min_size=1, max_size=3).map(lambda held: {"in": [column, held]})
        | st.just({"is_null": column})
    )
)
QUESTIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: {"and": parts})
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: {"or": parts})
        | inner.map(lambda part: {"not": part})
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module", params=[True, False], ids=["clustered", "shuffled"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    place = tmp_path_factory.mktemp("wide")
    register_ours(str(place), make_files(Shape(WIDE.files, clustered=request.param)))
    client = Client(root_of(str(place)), create=False)
    return World(client, {}, client.catalog.plan(**BENCHED, include_stats=True))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(ast=QUESTIONS)
def test_of_many_partitions_the_same_files_are_listed(wide: World, ast: Ast) -> None:
    found = listed(wide.client.catalog.plan(**BENCHED, filter_predicate=ast))
    assert found == judged(ast, wide.plan), ast
