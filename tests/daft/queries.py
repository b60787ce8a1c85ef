"""What is asked of Daft above a scan, and of which tables: each of them holds the same rows.

The same queries over the same rows in memory say what is right.
"""

from __future__ import annotations

import datetime as dt
import functools
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import daft
import pyarrow as pa
from daft import Window, col, lit
from daft import functions as f

from deltacat_sources.daft import read_deltacat

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client import Client

    Query = Callable[[daft.DataFrame], daft.DataFrame]

__all__ = [
    "QUERIES",
    "ROWS",
    "TABLES",
    "answer",
    "build",
    "build_keyed",
    "build_plain",
    "expected",
    "scanned",
]

_DAY = dt.date(2024, 1, 1)
_SCHEMA = pa.schema(
    [
        ("k", pa.int64()),
        ("b", pa.string()),
        ("c", pa.float64()),
        ("d", pa.list_(pa.int64())),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("m", pa.int32()),
        ("ok", pa.bool_()),
        ("s", pa.struct([("x", pa.int64()), ("y", pa.string())])),
        ("n", pa.decimal128(10, 2)),
        ("z", pa.int64()),
    ]
)


def _row(i: int) -> dict[str, Any]:
    return {
        "k": i,
        "b": None if i % 7 == 3 else "xyz"[i % 3] + str(i % 5),
        "c": None if i % 5 == 4 else float("nan") if i % 11 == 6 else -0.0 if i == 8 else i / 2,
        "d": [None, [], [i], [i, i + 1]][i % 4],
        "day": None if i % 13 == 5 else _DAY + dt.timedelta(days=i % 9),
        "at": dt.datetime(2024, 1, 1, i % 24, i),
        "m": i % 3,
        "ok": [True, False, None][i % 3 if i % 2 else 0],
        "s": None if i % 6 == 5 else {"x": i, "y": f"y{i % 2}"},
        "n": Decimal(i) / 4,
        "z": 100 - i,
    }


ROWS = pa.Table.from_pylist([_row(i) for i in range(30)], _SCHEMA)
# Of which the first ten were written before the last two columns were there.
_GROWN = pa.concat_tables(
    [ROWS.slice(0, 10).drop_columns(["n", "z"]), ROWS.slice(10)], promote_options="default"
)
_NARROW = {"k": pa.int32(), "c": pa.float32(), "m": pa.int16()}
_OLD = pa.schema(
    pa.field({"b": "text"}.get(field.name, field.name), _NARROW.get(field.name, field.type))
    for field in _SCHEMA
    if field.name not in ("n", "z")
)
TABLES = ("plain", "parts", "keyed", "keyed, dead rows unknown", "grown", "mixed")


def build(client: Client) -> None:
    """Make all tables."""
    build_plain(client)
    build_keyed(client)
    _build_others(client)


def build_plain(client: Client) -> None:
    """Make the table of three files."""
    _create(client, "plain", _SCHEMA)
    for at in range(0, 30, 10):
        _write(client, "plain", ROWS.slice(at, 10))


def build_keyed(client: Client) -> None:
    """Make the table of which rows were replaced, and deleted."""
    _create(client, "keyed", _SCHEMA, merge_keys=["k"])
    stale = ROWS.set_column(10, "z", pa.array([-1] * 30, pa.int64()))
    more = pa.Table.from_pylist([_row(i) | {"k": i + 1000} for i in range(9)], _SCHEMA)
    for rows in (stale.slice(0, 20), stale.slice(15), more, ROWS.slice(0, 12), ROWS.slice(12)):
        _write(client, "keyed", rows)
    _write(client, "keyed", more.select(["k"]), mode="delete")


def _build_others(client: Client) -> None:
    by_m = {"keys": [{"key": ["m"], "transform": "identity"}]}
    _create(client, "parts", _SCHEMA, partition_scheme=by_m)
    _create(client, "mixed", _SCHEMA)
    _create(client, "grown", _OLD)
    for at in range(0, 30, 10):
        _write(client, "parts", ROWS.slice(at, 10))
    for at, kind in enumerate(["parquet", "feather", "orc", "avro", "lance"]):
        _write(client, "mixed", ROWS.slice(at * 6, 6), format=kind)
    old = ROWS.slice(0, 10).drop_columns(["n", "z"])
    _write(client, "grown", old.rename_columns(_OLD.names).cast(_OLD))
    changes = [
        {"op": "update_type", "field_locator": name, "new_type": str(_SCHEMA.field(name).type)}
        for name in ("k", "m")
    ]
    changes.append({"op": "update_type", "field_locator": "c", "new_type": "float64"})
    changes.append({"op": "rename", "field_locator": "text", "new_name": "b"})
    client.catalog.alter_table(
        namespace="ns", table="grown", schema_updates={"operations": changes}
    )
    for at in (10, 20):
        _write(client, "grown", ROWS.slice(at, 10))


# Any: of these calls.
def _create(client: Client, table: str, schema: pa.Schema, **layout: Any) -> None:
    client.catalog.create_table(
        namespace="ns", table=table, schema=schema, **layout, auto_create_namespace=True
    )


def _write(client: Client, table: str, rows: pa.Table, **how: Any) -> None:
    client.catalog.write(rows, namespace="ns", table=table, **how)


def scanned(client: Client, table: str) -> daft.DataFrame:
    """A frame of one of the tables, by its name in `TABLES`."""
    if table.endswith("unknown"):
        # Without its delete sets, a plan has rows merged by key.
        plan = client.catalog.plan(namespace="ns", table="keyed")
        return read_deltacat("ns.keyed", plan=plan)
    return read_deltacat(f"ns.{table}", planner=client)


def answer(query: str, frame: daft.DataFrame) -> tuple[list[tuple[str, str]], list[str]]:
    """Names and types, and rows: in their order where the query gives them one."""
    found = QUERIES[query](frame).to_arrow()
    rows = [repr(row) for row in found.to_pylist()]
    named = [(field.name, str(field.type)) for field in found.schema]
    return named, rows if "order" in query else sorted(rows)


@functools.cache
def expected(query: str, table: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The answer over a table's rows in memory."""
    return answer(query, daft.from_arrow(_GROWN if table == "grown" else ROWS))


def _sql(text: str) -> Query:
    return lambda t: daft.sql(text, t=t)


@daft.func
def _doubled(x: int) -> int:
    return x * 2


@daft.func
def _is_chosen(x: int) -> bool:
    return x % 4 == 1


_by_m = Window().partition_by("m")

_COLUMNS: dict[str, Query] = {
    "all": lambda t: t,
    "columns turned": lambda t: t.select("z", "k", "b"),
    "a column twice": lambda t: t.select("k", col("k").alias("k2"), "z"),
    "names exchanged": lambda t: t.with_columns_renamed({"k": "z", "z": "k"}).select("z", "k"),
    "a filter by an exchanged name": lambda t: t.with_columns_renamed({"k": "z", "z": "k"}).where(
        col("k") > 90
    ),
    "a filter by another's name": lambda t: (
        t.select(col("z").alias("k"), col("k").alias("q")).where(col("k") > 90).select("q")
    ),
    "a column in another's place": lambda t: t.with_column("k", col("z")).where(col("k") > 95),
    "a literal in a column's place": lambda t: t.with_column("m", lit(1)).where(col("m") == 1),
    "all but": lambda t: t.exclude("b", "d"),
    "fields of a struct": lambda t: t.select(col("s").get("y")),
    "a struct taken apart": lambda t: t.select(f.unnest(col("s"))),
    "no column": lambda t: t.where(col("m") == 1).select(lit("q").alias("q")),
    "sums": lambda t: t.select((col("k") + col("z")).alias("x"), (col("c") * 2).alias("b")),
    "sums in columns' places": lambda t: t.with_columns({"a": col("k") + col("z"), "k": col("m")}),
    "parts of dates": lambda t: t.select(col("day").day(), col("at").hour()),
    "cases": lambda t: t.select(f.when(col("k") > 10, col("b")).otherwise(lit("no"))),
    "a function": lambda t: t.select(_doubled(col("k")), "b"),
    "lists taken apart": lambda t: t.explode("d").select("k", "d"),
    "lists taken apart and filtered": lambda t: t.explode("d").where(col("d") > 20).select("z"),
    "columns below each other": lambda t: t.select("k", "z").unpivot("k", ["z"]),
    "values beside each other": lambda t: t.pivot("m", "b", "k", "sum").select("m", "x0", "x1"),
    "batches": lambda t: t.into_batches(4).select("z", "b"),
    "numbers": lambda t: (
        t.with_column("i", f.monotonically_increasing_id())
        .where(col("k") > 10)
        .agg(col("i").count_distinct(), col("k").sum())
    ),
}
_FILTERS: dict[str, Query] = {
    "equal": lambda t: t.where(col("b") == "x1"),
    "not equal": lambda t: t.where(col("b") != "x1"),
    "not of equal": lambda t: t.where(~(col("b") == "x1")),
    "equal or null": lambda t: t.where(~col("b").eq_null_safe("x1")),
    "equal to null": lambda t: t.where(col("b").eq_null_safe(lit(None))),
    "compared with null": lambda t: t.where(col("b") == lit(None)),
    "null": lambda t: t.where(col("b").is_null()).select("k"),
    "not null": lambda t: t.where(col("b").not_null()).select("z"),
    "not a number": lambda t: t.where(f.is_nan(col("c"))),
    "a number above": lambda t: t.where(~f.is_nan(col("c")) & (col("c") > 5)),
    "below": lambda t: t.where(col("c") < 5).select("k"),
    "zero": lambda t: t.where(col("c") == 0.0),
    "below zero": lambda t: t.where(col("c") < 0.0),
    "true": lambda t: t.where(col("ok")).select("k"),
    "not true": lambda t: t.where(~col("ok")).select("k"),
    "false": lambda t: t.where(col("ok") == lit(False)),
    "one of": lambda t: t.where(col("m").is_in([0, 2])),
    "none of": lambda t: t.where(~col("b").is_in(["x1", "y2"])),
    "one of, or null": lambda t: t.where(col("b").is_in(["x1", None])),
    "one of many": lambda t: t.where(col("k").is_in(list(range(3, 300, 3)))),
    "between": lambda t: t.where(col("k").between(5, 9)),
    "between days": lambda t: t.where(col("day").between(_DAY, _DAY + dt.timedelta(days=2))),
    "a day": lambda t: t.where(col("day") == dt.date(2024, 1, 3)).select("b"),
    "a time": lambda t: t.where(col("at") >= dt.datetime(2024, 1, 1, 20)).select("k"),
    "a decimal": lambda t: t.where(col("n") >= Decimal("3.25")).select("n"),
    "a decimal by a number": lambda t: t.where(col("n") == 1).select("k"),
    "a number by a fraction": lambda t: t.where(col("k") > 3.5).select("k"),
    "in a struct": lambda t: t.where(col("s").get("x") > 10).select("k"),
    "a null struct": lambda t: t.where(col("s").is_null()).select("k"),
    "a list's length": lambda t: t.where(f.list_count(col("d")) > 1).select("d"),
    "a null list": lambda t: t.where(col("d").is_null()).select("k"),
    "either": lambda t: t.where((col("m") == 1) | (col("b") == "z2")),
    "either, by a function": lambda t: t.where((col("m") == 1) | col("b").startswith("z")),
    "both, one by a function": lambda t: t.where((col("m") == 1) & col("b").startswith("y")),
    "two columns": lambda t: t.where(col("k") * 2 > col("z")),
    "two columns of other types": lambda t: t.where(col("k") > col("m")).select("b"),
    "cast": lambda t: t.where(col("m").cast("string") == "1").select("k"),
    "a day's text": lambda t: t.where(col("day").cast("string") == "2024-01-03").select("k"),
    "filled": lambda t: t.where(f.coalesce(col("b"), lit("none")) == "none").select("k"),
    "by cases": lambda t: t.where(
        f.when(col("k") > 5, col("b") == "x1").otherwise(lit(False))
    ).select("k"),
    "always": lambda t: t.where(lit(True)),
    "never": lambda t: t.where(lit(False)),
    "perhaps": lambda t: t.where(lit(None).cast("bool")),
    "three in turn": lambda t: t.where(col("k") > 3).where(col("m") == 1).where(col("z") > 80),
    "of what is shown": lambda t: t.select("b").where(col("b") == "x1"),
    "of what is not": lambda t: t.where(col("z") < 80).select("b"),
    "by a function of its own": lambda t: t.where(_is_chosen(col("k"))).select("b"),
    "no NaN": lambda t: t.drop_nan("c").select("k"),
    "no nulls": lambda t: t.drop_null("b").select("z"),
}
_PARTS: dict[str, Query] = {
    "none of the rows": lambda t: t.limit(0),
    "some, counted": lambda t: t.limit(7).count(),
    "some, of no column": lambda t: t.limit(7).select(lit(1)),
    "some of a filter, counted": lambda t: t.where(col("m") == 1).limit(4).count(),
    "a filter of some in order": lambda t: t.sort("k").limit(7).where(col("m") == 1).sort("k"),
    "some later ones in order": lambda t: t.sort("k").offset(3).limit(5),
    "later ones, counted": lambda t: t.offset(3).limit(5).count(),
    "the last, counted": lambda t: t.offset(28).limit(5).count(),
    "in order": lambda t: t.sort("k", desc=True).select("b", "k"),
    "in an order that is dropped": lambda t: t.sort(["z", "k"]).select("b"),
    "in order of nulls": lambda t: t.sort(["b", "k"], nulls_first=[True, False]).select("b", "k"),
    "the least in order": lambda t: t.where(col("m") == 2).sort(["z", "k"]).limit(3).select("b"),
    "what differs": lambda t: t.select("b").distinct(),
    "what differs by a column": lambda t: t.distinct("m").select("m"),
    "a sample, counted": lambda t: t.sample(1.0).count(),
}
_TOGETHER: dict[str, Query] = {
    "counted": lambda t: t.count(),
    "a filter, counted": lambda t: t.where(col("m") == 1).count(),
    "a column, counted": lambda t: t.count("b"),
    "chosen columns, counted": lambda t: t.select("b").count(),
    "another name, counted": lambda t: t.select(col("b").alias("q")).count(),
    "literals, counted": lambda t: t.select(lit(1)).count(),
    "lists taken apart, counted": lambda t: t.explode("d").count(),
    "nothing, counted": lambda t: t.where(lit(False)).count(),
    "sorted, counted": lambda t: t.sort("b").count(),
    "what differs, counted": lambda t: t.select("b", "m").distinct().count(),
    "twice, counted": lambda t: t.concat(t).count(),
    "counted in all ways": lambda t: t.agg(
        *(col("b").count(mode=mode).alias(mode) for mode in ("all", "valid", "null"))
    ),
    "nulls, counted": lambda t: t.where(col("b").is_null()).agg(col("k").count(mode="all")),
    "all together": lambda t: t.agg(col("k").sum(), col("b").count(), col("c").min()),
    "groups": lambda t: t.groupby("b").agg(col("k").sum(), col("z").max().alias("most")),
    "groups' lists": lambda t: (
        t.groupby("m").agg(col("k").list_agg()).select("m", f.list_sort(col("k")))
    ),
    "groups of a filter": lambda t: (
        t.where(col("day") > _DAY).groupby("m").agg(col("k").count(), col("k").mean().alias("x"))
    ),
    "groups by two": lambda t: t.groupby("m", "ok").agg(col("k").min()),
    "a window": lambda t: t.select("k", col("k").sum().over(_by_m).alias("s")),
    "ranks": lambda t: t.select("k", f.rank().over(_by_m.order_by("k")).alias("r")),
    "what came before": lambda t: t.select(
        "k", col("z").lag(1).over(_by_m.order_by("k")).alias("r")
    ),
    "the first of each": lambda t: (
        t.with_column("q", f.row_number().over(_by_m.order_by("k")))
        .where(col("q") == 1)
        .select("b")
    ),
    "the greatest of each": lambda t: (
        t.with_column("q", col("k").max().over(_by_m)).where(col("k") == col("q")).select("z")
    ),
}
_JOINS: dict[str, Query] = {
    "a join": lambda t: t.select("k", "b").join(t.select("z", "k"), on="k"),
    "a join with itself": lambda t: t.join(t, on="k").select("b", "right.z", "right.b"),
    "a join of two filters": lambda t: (
        t.where(col("m") == 1)
        .join(t.where(col("z") > 80).select("k", "c"), on="k")
        .select("k", "z", "right.c")
    ),
    "a left join": lambda t: t.select("k", "b").join(
        t.where(col("m") == 0).select("k", "z"), on="k", how="left"
    ),
    "an outer join": lambda t: (
        t.where(col("m") != 2)
        .select("k", "b")
        .join(t.where(col("m") != 0).select("k", "z"), on="k", how="outer")
    ),
    "without those of": lambda t: t.join(t.where(col("m") == 1), on="k", how="anti").select("b"),
    "with those of": lambda t: t.join(t.where(col("m") == 1), on="k", how="semi").select("z"),
    "each with each": lambda t: (
        t.where(col("k") < 3)
        .select("k")
        .join(t.where(col("k") > 27).select(col("b").alias("bb")), how="cross")
    ),
    "a join on nulls, counted": lambda t: (
        t.select("b", "k").join(t.select("b", "z"), on="b").count()
    ),
    "a join of other names": lambda t: t.select("k", "b").join(
        t.select("z", "m"), left_on="k", right_on="m"
    ),
    "a filter of a join": lambda t: (
        t.select("k", "b", "m")
        .join(t.select("k", "z"), on="k")
        .where((col("m") == 1) & (col("z") > 75))
    ),
    "one below the other": lambda t: t.select("z", "k").concat(t.select("z", "k")),
    "a filter of two": lambda t: (
        t.where(col("m") == 1).concat(t.where(col("m") == 2)).where(col("z") > 80)
    ),
    "in either": lambda t: t.select("b").union(t.select("b")),
    "in both": lambda t: t.select("b").intersect(t.where(col("k") > 10).select("b")),
    "in one alone": lambda t: t.select("k").except_distinct(t.where(col("k") > 10).select("k")),
}
_SQL = {
    "WITH": "WITH a AS (SELECT b, k FROM t WHERE m = 1), c AS (SELECT k, z FROM t) "
    "SELECT a.b, c.z FROM a JOIN c ON a.k = c.k",
    "a query in a query": "SELECT k FROM (SELECT z AS k, k AS z FROM t WHERE k > 5) WHERE k < 80",
    "IN a query": "SELECT b FROM t WHERE k IN (SELECT k FROM t WHERE m = 2)",
    "a query's value": "SELECT b FROM t WHERE k = (SELECT max(k) FROM t)",
    "CASE": "SELECT CASE WHEN k > 10 THEN b ELSE 'no' END AS r FROM t",
    "BETWEEN, in order": "SELECT b FROM t WHERE k BETWEEN 3 AND 9 ORDER BY z, k",
    "LIKE, in order": "SELECT k FROM t WHERE b LIKE 'x%' ORDER BY z, k",
    "ILIKE": "SELECT k FROM t WHERE b ILIKE 'X%' AND m = 0",
    "IN": "SELECT k FROM t WHERE b IN ('x1', 'y2')",
    "NOT IN": "SELECT k FROM t WHERE b NOT IN ('x1', 'y2')",
    "a date's text": "SELECT k FROM t WHERE day = '2024-01-03'",
    "dates' texts": "SELECT k FROM t WHERE day >= '2024-01-03' AND day < '2024-01-06'",
    "a date": "SELECT k FROM t WHERE day = DATE '2024-01-03'",
    "one of dates": "SELECT k FROM t WHERE day IN ('2024-01-03', '2024-01-04')",
    "between dates": "SELECT k FROM t WHERE day BETWEEN '2024-01-03' AND '2024-01-04'",
    "count(*)": "SELECT count(*) AS n FROM t",
    "count(*) WHERE": "SELECT count(*) AS n FROM t WHERE m = 1",
    "count of nulls": "SELECT count(*) AS n, count(b) AS nb FROM t WHERE b IS NULL",
    "HAVING": "SELECT m, sum(k) AS s FROM t WHERE k > 2 GROUP BY m HAVING sum(k) > 130",
    "DISTINCT": "SELECT DISTINCT m, b FROM t",
    "OFFSET, in order": "SELECT k FROM t ORDER BY z, k LIMIT 5 OFFSET 3",
    "NOT": "SELECT k FROM t WHERE b IS NOT NULL AND NOT (m > 1)",
    "names exchanged in SQL": "SELECT k AS z, z AS k FROM t WHERE z > 90",
    "all and more": "SELECT *, k + 1 AS k1 FROM t WHERE m = 0",
    "OVER": "SELECT k, row_number() OVER (PARTITION BY m ORDER BY k) AS r FROM t",
    # Daft takes a table's alias that is a column's name too for the column.
    "JOIN": "SELECT l.k, r.z FROM t AS l JOIN (SELECT k, z FROM t WHERE z > 80) AS r ON l.k = r.k",
}
QUERIES: dict[str, Query] = {
    **_COLUMNS,
    **_FILTERS,
    **_PARTS,
    **_TOGETHER,
    **_JOINS,
    **{name: _sql(text) for name, text in _SQL.items()},
}
