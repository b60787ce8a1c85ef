"""Whether every aggregate over filters that were pushed says what plain Python says of the rows."""

from __future__ import annotations

import datetime as dt
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import daft
import pyarrow as pa
import pytest
from daft import col

from deltacat_sources.daft import read_deltacat
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

Row = dict[str, Any]
DAY = dt.date(2024, 1, 1)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("day", pa.date32()),
        ("month", pa.int32()),
        ("x", pa.int64()),
        ("name", pa.string()),
    ]
)


def rows_of(ids: range, shift: int = 0) -> list[Row]:
    return [
        {
            "id": i,
            "day": DAY + dt.timedelta(days=i % 5),
            "month": i % 3,
            "x": None if i % 7 == 0 else i * 10 + shift,
            "name": None if i % 11 == 0 else f"n{i % 4}",
        }
        for i in ids
    ]


class World(NamedTuple):
    """A table, and its rows."""

    client: Client
    table: str
    rows: list[Row]

    def frame(self) -> daft.DataFrame:
        return read_deltacat(f"ns.{self.table}", planner=self.client)


@pytest.fixture(scope="module", params=["plain", "by month", "by day", "keyed", "keyed by month"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One table of each layout; where it has keys, some rows were replaced and some deleted."""
    client = Client(tmp_path_factory.mktemp("aggregates") / "catalog")
    layout = request.param
    keyed = layout.startswith("keyed")
    keys = [{"key": [layout.split()[-1]], "transform": "identity"}] if " " in layout else None
    where: dict[str, Any] = {
        "namespace": "ns",
        "table": layout.replace(" ", "_"),
    }  # Any: of any call
    client.catalog.create_table(
        **where,
        schema=SCHEMA,
        merge_keys=["id"] if keyed else [],
        partition_scheme={"keys": keys} if keys else None,
        auto_create_namespace=True,
    )
    rows: dict[int, Row] = {}
    for ids in (range(20), range(20, 60)):
        rows |= {row["id"]: row for row in rows_of(ids)}
        client.catalog.write(pa.Table.from_pylist(rows_of(ids), SCHEMA), **where)
    if keyed:
        newer = rows_of(range(0, 60, 4), shift=1)
        rows |= {row["id"]: row for row in newer}
        client.catalog.write(pa.Table.from_pylist(newer, SCHEMA), **where)
        gone = rows_of(range(0, 60, 9))
        client.catalog.write(pa.Table.from_pylist(gone, SCHEMA), **where, mode="delete")
        rows = {i: row for i, row in rows.items() if i % 9}
    return World(client, where["table"], list(rows.values()))


FILTERS: dict[str, tuple[daft.Expression, Callable[[Row], bool]]] = {
    "a partition": (col("month") == 1, lambda r: r["month"] == 1),
    "partitions": (col("month").is_in([0, 2]), lambda r: r["month"] in (0, 2)),
    "no partition": (col("month") == 9, lambda r: False),
    "all but a partition": (col("month") != 1, lambda r: r["month"] != 1),
    "a day": (col("day") == DAY, lambda r: r["day"] == DAY),
    "days": (col("day") > DAY, lambda r: r["day"] > DAY),
    "a partition's text": (
        col("month").cast("string") == "1",
        lambda r: r["month"] == 1,
    ),
    "partition and range": (
        (col("month") == 1) & (col("id") >= 15) & (col("id") < 44),
        lambda r: r["month"] == 1 and 15 <= r["id"] < 44,
    ),
    "partition or range": (
        (col("month") == 1) | (col("id") < 9),
        lambda r: r["month"] == 1 or r["id"] < 9,
    ),
    "a column": (col("x") > 300, lambda r: r["x"] is not None and r["x"] > 300),
    "null": (col("x").is_null(), lambda r: r["x"] is None),
    "text": (col("name") == "n2", lambda r: r["name"] == "n2"),
    "a function and a partition": (
        col("name").startswith("n3") & (col("month") == 2),
        lambda r: (r["name"] or "").startswith("n3") and r["month"] == 2,
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_aggregates_over_a_pushed_filter_are_those_of_its_rows(world: World, name: str) -> None:
    keep, kept = FILTERS[name]
    rows = [row for row in world.rows if kept(row)]
    xs = [row["x"] for row in rows if row["x"] is not None]
    frame = world.frame().where(keep)
    assert frame.count_rows() == len(rows)
    assert frame.sum("x").to_pydict()["x"] == [sum(xs) if xs else None]
    found = frame.agg(
        col("id").count().alias("rows"),
        col("x").count().alias("filled"),
        col("x").sum().alias("sum"),
        col("x").min().alias("min"),
        col("x").max().alias("max"),
        col("x").mean().alias("mean"),
        col("name").count_distinct().alias("names"),
    ).to_pylist()
    assert found == [
        {
            "rows": len(rows),
            "filled": len(xs),
            "sum": sum(xs) if xs else None,
            "min": min(xs, default=None),
            "max": max(xs, default=None),
            "mean": pytest.approx(sum(xs) / len(xs)) if xs else None,
            "names": len({row["name"] for row in rows} - {None}),
        }
    ]
    # Without ignore_nulls, Daft answers null where a batch of any source is empty after a filter.
    some = frame.agg(col("month").any_value(ignore_nulls=True)).to_pydict()["month"][0]
    assert some in ({row["month"] for row in rows} or {None})


@pytest.mark.parametrize("name", FILTERS)
def test_groups_over_a_pushed_filter_are_those_of_its_rows(world: World, name: str) -> None:
    keep, kept = FILTERS[name]
    wanted: dict[int, list[int]] = {}
    for row in filter(kept, world.rows):
        wanted.setdefault(row["month"], []).append(row["id"])
    found = (
        world.frame()
        .where(keep)
        .groupby("month")
        .agg(col("id").count().alias("rows"), col("id").sum().alias("ids"))
    )
    got = {row["month"]: (row["rows"], row["ids"]) for row in found.to_pylist()}
    assert got == {month: (len(ids), sum(ids)) for month, ids in wanted.items()}


def test_sql_counts_a_partition(world: World) -> None:
    frame = world.frame()
    found = daft.sql("SELECT count(*) AS n FROM frame WHERE month = 1", frame=frame)
    assert found.to_pydict() == {"n": [sum(row["month"] == 1 for row in world.rows)]}


def test_a_date_said_as_text_filters_and_prunes(world: World) -> None:
    frame = world.frame()
    found = daft.sql("SELECT id FROM frame WHERE day = '2024-01-03'", frame=frame)
    wanted = [row["id"] for row in world.rows if row["day"] == DAY + dt.timedelta(days=2)]
    assert sorted(found.to_pydict()["id"]) == sorted(wanted)


def test_a_mean_of_no_rows_is_null(world: World) -> None:
    frame = world.frame().where(col("id") < 0)
    assert frame.agg(col("x").mean()).to_pydict() == {"x": [None]}


# --- what is shown of it ----------------------------------------------------------------------------


def test_an_explanation_shows_what_was_pushed_and_what_was_not(world: World) -> None:
    frame = world.frame().where((col("id") > 15) & col("name").startswith("n"))
    said = explained(frame.select("name").limit(3))
    assert f"DataSource: DeltaCAT ns.{world.table} at snapshot" in said
    assert "Projection pushdown = [name]" in said
    assert "Filter pushdown = col(id) > lit(15)" in said
    assert '* Filter: starts_with(col(name), lit("n"))' in said
    assert "Limit pushdown" not in said.replace("Limit pushdown = 3", "")


def test_an_explanation_shows_how_many_tasks_are_left(world: World) -> None:
    every = world.client.catalog.plan(namespace="ns", table=world.table).files.num_rows
    assert (
        tasks(world.frame().where(col("id") == 7)) < max(tasks(world.frame()), 2) <= max(every, 2)
    )
    assert tasks(world.frame().limit(1)) == 1
    assert "Limit pushdown = 1" in explained(world.frame().limit(1))


def explained(frame: daft.DataFrame) -> str:
    held = io.StringIO()
    frame.explain(show_all=True, file=held)
    return held.getvalue()


def tasks(frame: daft.DataFrame) -> int:
    return int(explained(frame).split("Num Scan Tasks = ")[1].split()[0])
