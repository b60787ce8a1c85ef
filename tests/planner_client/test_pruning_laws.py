"""Does the planner, which looks at blocks first, list every file that holds a matching row?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from io_core.predicate import bind, parse
from io_core.prune import file_bounds, partition_bounds, prune
from planner_client import Client
from tests.oracle import Row, matches, rows_of, table_of
from tests.tapes import ALL_TYPES, Tape, tapes

if TYPE_CHECKING:
    from io_core.plan import ReadPlan

# Any: keyword arguments of every call, and the JSON AST.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
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


def may_match(ast: Ast, plan: ReadPlan) -> set[str]:
    """The files that hold a matching row as far as each file's own values and statistics tell."""
    parsed = parse(ast)
    assert parsed is not None
    rows = plan.files.column("record_count").to_numpy()
    scheme = plan.header.partition_scheme
    known = partition_bounds(plan.files, rows, scheme, SCHEMA) if scheme else {}
    kinds = ("min", "max", "null_count", "nan_count")
    for name in SCHEMA.names:
        stats = plan.files.select([f"{kind}:{name}" for kind in kinds]).rename_columns(kinds)
        known.setdefault(name, []).append(file_bounds(stats))
    may = prune(bind(parsed, SCHEMA), rows, lambda c: known.get(c, [])).may
    return {p for p, kept in zip(paths(plan), may, strict=True) if kept}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tape=tapes(400))
def test_the_planner_lists_what_each_file_by_itself_would_and_never_less_than_the_truth(
    world: World, tape: Tape
) -> None:
    for _ in range(3):
        ast = tape.ast(SCHEMA)
        listed = set(paths(world.client.catalog.plan(**WHERE, filter_predicate=ast)))
        assert listed == may_match(ast, world.plan), ast
        for path in set(world.files) - listed:
            assert not any(matches(ast, row, SCHEMA) for row in world.files[path]), ast


def test_blocks_do_rule_out(world: World) -> None:
    asked: Ast = {"eq": ["c5", "999999999.999"]}
    plan = world.client.catalog.plan(**WHERE, filter_predicate=asked)
    assert 0 < len(plan.files) < len(world.files) / 2
