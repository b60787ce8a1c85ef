"""Does every engine return the oracle's rows, for any table, history and question?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from hypothesis import HealthCheck, given, settings

from tests.oracle import answer, canonical, matches, rows_of, table_of
from tests.strategies import Case, Query, cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client import Client
    from tests.conformance.conftest import Tally
    from tests.conformance.engines import Engine
    from tests.oracle import Dialect, Row

_ROWS_PER_FILE = 1_000_000
# A file takes some ten milliseconds there, and an example is made of many.
_ON_S3 = 1 / 10


def build(planner: Client, table: str, case: Case) -> None:
    """Make the case's table and write its history."""
    namespace, name = table.split(".")
    spec = case.spec
    planner.catalog.create_table(
        namespace=namespace,
        table=name,
        schema=spec.schema,
        merge_keys=spec.merge_keys,
        partition_scheme=spec.partition_scheme,
        auto_create_namespace=True,
    )
    for commit in case.history:
        schema = spec.delete_schema if commit.mode == "delete" else spec.schema
        planner.catalog.write(
            table_of(commit.rows, schema),
            namespace=namespace,
            table=name,
            mode=commit.mode,
            max_rows_per_file=case.max_rows_per_file or _ROWS_PER_FILE,
        )


def check(found: pa.Table, case: Case, query: Query, engine: Engine, dialect: Dialect) -> None:
    """Compare one answer with the oracle's."""
    schema, rows = case.spec.schema, case.rows()
    ordered = engine.keeps_order
    wanted = answer(
        rows, schema, ast=query.ast, columns=query.columns, limit=query.limit,
        offset=query.offset, dialect=dialect,
    )  # fmt: skip
    got = rows_of(found)
    if ordered or (query.limit is None and not query.offset):
        assert canonical(got, ordered=ordered) == canonical(wanted, ordered=ordered)
        return
    # Any rows of the whole answer, but exactly so many.
    assert len(got) == len(wanted)
    left = canonical(answer(rows, schema, ast=query.ast, columns=query.columns, dialect=dialect))
    for row in canonical(got):
        left.remove(row)


def _float_columns(case: Case) -> set[str]:
    return {f.name for f in case.spec.schema if pa.types.is_floating(f.type)}


def _scaled(engine: Engine, planner: Client) -> int:
    """How many examples an engine, and a kind of storage, can afford."""
    (catalog,) = planner.catalog.list_catalogs()
    share = _ON_S3 if (catalog.data_root or "").startswith("s3://") else 1
    most = settings.default.max_examples if settings.default else 0
    return max(2, int(most * engine.examples * share))


def test_predicates_of_this_project_keep_the_oracles_rows(
    engine: Engine, planner: Client, fresh: Callable[[], str], tally: Tally
) -> None:
    @settings(max_examples=_scaled(engine, planner), suppress_health_check=list(HealthCheck))
    @given(cases(replaces=True))
    def property_(case: Case) -> None:
        table = fresh()
        build(planner, table, case)
        for query in case.queries:
            check(engine.read(planner, table, query), case, query, engine, "ours")
        tally.count(engine.name, len(case.queries))

    property_()


def test_an_engines_own_filters_mean_what_the_engine_means(
    engine: Engine, planner: Client, fresh: Callable[[], str], tally: Tally
) -> None:
    @settings(max_examples=_scaled(engine, planner), suppress_health_check=list(HealthCheck))
    @given(cases(engine=engine.words))
    def property_(case: Case) -> None:
        table = fresh()
        build(planner, table, case)
        for query in case.queries:
            ask_and_check(engine, planner, table, case, query)
        tally.count(engine.name, len(case.queries))

    property_()


def ask_and_check(engine: Engine, planner: Client, table: str, case: Case, query: Query) -> None:
    """Ask in the engine's own words, and compare with what those mean to it."""
    found = engine.ask(planner, table, query, case.spec.schema)
    if engine.dialect == "daft" and _may_skip_nan(query, case):
        check_between(found, case, query)
    else:
        check(found, case, query, engine, engine.dialect or "ours")


def _may_skip_nan(query: Query, case: Case) -> bool:
    """Whether Daft's reader may leave rows out by itself.

    Its row-group statistics do not count NaN (`DataFrame.where` over `read_parquet` does the same),
    so a predicate on a float column may lose the rows of a group that holds one.
    """
    return bool(_names(query.ast) & _float_columns(case))


def _names(ast: object) -> set[str]:
    if isinstance(ast, dict):
        ((op, body),) = ast.items()
        if op == "is_null":
            return {body}
        return _names(body) if op in ("and", "or", "not") else {body[0]}
    return set().union(*map(_names, ast)) if isinstance(ast, list) else set()


def check_between(found: pa.Table, case: Case, query: Query) -> None:
    """At most what the engine's dialect keeps in memory, at least its rows without NaN and -0.0."""
    schema, rows = case.spec.schema, case.rows()
    left = canonical(answer(rows, schema, ast=query.ast, columns=query.columns, dialect="daft"))
    for row in canonical(rows_of(found)):
        left.remove(row)
    if query.limit is None and not query.offset:
        plain = [r for r in rows if not any(_is_odd(r[c]) for c in _float_columns(case))]
        kept = [r for r in plain if matches(query.ast, r, schema, "daft") is True]
        wanted = canonical(_projected(kept, query, schema))
        got = canonical(rows_of(found))
        for row in wanted:
            got.remove(row)


def _projected(rows: list[Row], query: Query, schema: pa.Schema) -> list[Row]:
    return [{n: r[n] for n in query.columns or schema.names} for r in rows]


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and (value != value or (value == 0 and str(value) == "-0.0"))
