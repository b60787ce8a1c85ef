"""Whether what Polars does above a scan finds the columns that it means, in either of its engines.

Polars' own optimiser, engines and this project's resolver meet here: each query is compared with the same
one over rows in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars import col
from polars.testing import assert_frame_equal

from deltacat_sources.polars import scan_deltacat
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from polars._typing import EngineType

ROWS = pl.DataFrame(
    {
        "k": range(15),
        "b": ["x", "y", "z", "x", "y"] * 3,
        "c": [0.5, 1.5, None, 3.5, 4.5] * 3,
        "d": [[1, 2], [3], [], [4], None] * 3,
        "rows": [1, 1, 2, 2, 3] * 3,
        # As a column of the name before it is called below a frame.
        "table rows": [1, 2, 3, 4, 5] * 3,
    }
)

QUERIES: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "a window": lambda t: t.select(col("k").sum().over("b")),
    "a window beside all columns": lambda t: t.with_columns(s=col("k").sum().over("b")),
    "a window beside some": lambda t: t.select("rows", "k", "b").with_columns(
        s=col("k").max().over("rows")
    ),
    "a window of which little is left": lambda t: t.with_columns(
        s=col("k").sum().over("rows")
    ).select("s", "c"),
    "a count by window": lambda t: t.select("b", n=pl.len().over("b")),
    "a rank by window": lambda t: t.select(col("k").rank(descending=True).over("b"), "rows"),
    "a filter by window": lambda t: t.filter(col("k") == col("k").max().over("b")).select(
        "rows", "k"
    ),
    "a filter by window of filtered rows": lambda t: (
        t.filter(col("k") > 3).filter(col("k").sum().over("b") > 20).select("c")
    ),
    "numbers and the last column": lambda t: t.with_row_index().select("index", "rows"),
    "numbers and the first two, turned": lambda t: t.with_row_index().select("index", "b", "k"),
    "numbers at the end": lambda t: t.with_row_index().select("c", "b", "k", "index"),
    "numbers that filter": lambda t: t.with_row_index().filter(col("index") > 11).select("rows"),
    "columns side by side": lambda t: pl.concat([t.select("c"), t.select("k")], how="horizontal"),
    "columns side by side, turned": lambda t: pl.concat(
        [t.select("k", "b"), t.select(z="c")], how="horizontal"
    ).select("z", "b", "k"),
    "what came before": lambda t: t.select(col("k").shift(1), "c"),
    "sums so far": lambda t: t.select(col("k").cum_sum(), "rows"),
    "sums of some": lambda t: t.select("rows", col("k").rolling_sum(2)),
    "groups": lambda t: t.group_by("b", maintain_order=True).agg(col("k").sum(), pl.len()),
    "the first of each group": lambda t: t.group_by("b", maintain_order=True).head(1),
    "groups of a range": lambda t: t.group_by_dynamic("k", every="4i").agg(col("c").sum()),
    "ranges before each": lambda t: t.rolling("k", period="3i").agg(col("c").sum()),
    "a join of some columns": lambda t: t.select("k", "b").join(
        t.select("rows", "k"), on="k", maintain_order="left"
    ),
    "a join with itself": lambda t: t.join(t, on="k", maintain_order="left").select(
        "c_right", "k", "b"
    ),
    "a join that filters": lambda t: t.join(
        t.filter(col("rows") == 2), on="k", how="semi", maintain_order="left"
    ).select("b"),
    "a join of the nearest": lambda t: (
        t.sort("k").join_asof(t.select("k", z="c").sort("k"), on="k").select("b", "z")
    ),
    "lists taken apart": lambda t: t.select("rows", "d").explode("d"),
    "columns below each other": lambda t: t.select("k", "rows").unpivot(index="k"),
    "what is different": lambda t: t.unique("b", keep="first", maintain_order=True).select("k"),
    "sorted by what is dropped": lambda t: t.sort("b", "k").select("rows"),
    "the greatest": lambda t: t.top_k(3, by="k").select("c").sort("c"),
    "a middle part": lambda t: t.slice(4, 7).select("rows", "b"),
    "the end": lambda t: t.tail(4).select("rows"),
    "one below the other": lambda t: pl.concat([t.select("rows", "k"), t.select("rows", "k")]),
    "another name": lambda t: t.rename({"rows": "k", "k": "rows"}).select("rows", "k"),
    "structs": lambda t: t.select(pl.struct("rows", "b")),
    "a function": lambda t: t.select("rows", "k").map_batches(lambda frame: frame),
    "all but": lambda t: t.drop("b", "d"),
    "the first column": lambda t: t.select(pl.first()),
    "the last column": lambda t: t.select(pl.last()),
    "kept once": lambda t: t.cache().select("rows"),
    "known to be sorted": lambda t: t.set_sorted("k").select("rows", "k"),
    "counted": lambda t: t.select(pl.len()),
    "counted beside a column": lambda t: t.select(col("c").count(), pl.len()),
    "counted where": lambda t: t.filter(col("c") > 1).select(pl.len()),
    "counted where a column has the name of another's place": lambda t: t.filter(
        col("table rows") > 2
    ).select(pl.len()),
}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.LazyFrame]:
    root: Path = tmp_path_factory.mktemp("queries")
    client = Client(root)
    for name, keys in (("plain", None), ("keyed", ["k"])):
        for at in range(0, ROWS.height, 5):
            part = ROWS.slice(at, 5)
            client.catalog.write(part, namespace="ns", table=name, merge_keys=keys)
    gone = pl.DataFrame(
        {"k": [99], "b": ["y"], "c": [0.5], "d": [[1]], "rows": [1], "table rows": [1]}
    )
    client.catalog.write(gone, namespace="ns", table="keyed", mode="merge")
    client.catalog.write(gone.select("k"), namespace="ns", table="keyed", mode="delete")
    return {name: scan_deltacat(f"ns.{name}", planner=client) for name in ("plain", "keyed")}


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
@pytest.mark.parametrize("table", ["plain", "keyed"])
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_a_scan_is_that_of_the_same_rows_in_memory(
    scanned: dict[str, pl.LazyFrame], query: str, table: str, engine: EngineType
) -> None:
    ask = QUERIES[query]
    found = ask(scanned[table]).collect(engine=engine)
    assert_frame_equal(found, ask(ROWS.lazy()).collect(engine="in-memory"))
