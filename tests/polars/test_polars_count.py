"""Whether only the number of rows opens no file, wherever a plan proves it, and is always right."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa
import pytest

from deltacat_sources.polars import DeltaCatFrame, read_deltacat, scan_deltacat
from docs.demo.opened import OpenedFiles
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

WHERE: dict[str, Any] = {"namespace": "n", "table": "t"}
ENGINES: list[Literal["in-memory", "streaming"]] = ["in-memory", "streaming"]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(tmp_path / "c")
    for start in (0, 3, 6):
        rows = pa.table({"x": [start, start + 1, start + 2], "y": ["a", None, "b"]})
        client.catalog.write(rows, **WHERE)
    return client


@pytest.fixture
def frame(client: Client) -> pl.LazyFrame:
    return scan_deltacat("n.t", planner=client)


def counted(
    frame: pl.LazyFrame, client: Client, engine: Literal["in-memory", "streaming"] = "streaming"
) -> tuple[int, int]:
    """The frame's one value, and how many files were opened for it."""
    with OpenedFiles(Path(client.target, "data")) as seen:
        found = frame.collect(engine=engine).item()
    return found, len(seen.paths())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda f: f.select(pl.len()), 9),
        (lambda f: f.select(pl.col("x").len()), 9),
        (lambda f: f.head(4).select(pl.len()), 4),
        (lambda f: f.head(40).select(pl.len()), 9),
        (lambda f: f.slice(2, 3).select(pl.len()), 3),
        (lambda f: f.tail(2).select(pl.len()), 2),
        (lambda f: f.with_columns(z=1).select(pl.len()), 9),
        (lambda f: pl.concat([f, f]).select(pl.len()), 18),
        (lambda f: pl.SQLContext(t=f).execute("SELECT count(*) FROM t"), 9),
    ],
    ids=["len", "of a column", "head", "more", "slice", "tail", "added", "twice", "sql"],
)
def test_only_the_number_of_rows_opens_no_file(
    frame: pl.LazyFrame,
    client: Client,
    engine: Literal["in-memory", "streaming"],
    ask: Callable[[pl.LazyFrame], pl.LazyFrame],
    expected: int,
) -> None:
    assert counted(ask(frame), client, engine) == (expected, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda f: f.select(pl.col("x").count()), 9),
        (lambda f: f.select(pl.col("y").count()), 6),
        (lambda f: f.select(pl.col("x").first()), 0),
        (lambda f: f.filter(pl.col("x") > 4).select(pl.len()), 4),
        (lambda f: f.filter(pl.col("y").is_null()).select(pl.len()), 3),
        (lambda f: f.head(4).filter(pl.col("x") > 1).select(pl.len()), 2),
        (lambda f: f.filter(pl.col("x") > 1).head(2).select(pl.len()), 2),
        (lambda f: f.with_row_index().filter(pl.col("index") > 3).select(pl.len()), 5),
        (lambda f: f.join(f, on="x", how="semi").select(pl.len()), 9),
        (lambda f: f.unique("y").select(pl.len()), 3),
    ],
    ids=[
        *("count of first", "count", "value", "filter", "nulls"),
        *("head filter", "filter head", "index", "join", "unique"),
    ],
)
def test_what_needs_values_reads_them(
    frame: pl.LazyFrame,
    client: Client,
    engine: Literal["in-memory", "streaming"],
    ask: Callable[[pl.LazyFrame], pl.LazyFrame],
    expected: int,
) -> None:
    found, files = counted(ask(frame), client, engine)
    assert found == expected
    assert files


def test_the_column_by_which_it_is_told_is_nobodys(client: Client) -> None:
    rows = pa.table({"rows": [1, 2], "rows_": [3, 4]})
    client.catalog.write(rows, namespace="n", table="named")
    frame = scan_deltacat("n.named", planner=client, include_file_paths="rows__")
    assert frame.collect_schema().names() == ["rows", "rows_", "rows__"]
    assert frame.collect().columns == ["rows", "rows_", "rows__"]
    assert frame.select(pl.all().exclude("rows__")).collect().equals(pl.DataFrame(rows))
    assert frame.select(pl.len()).collect().item() == 2


def test_the_frames_predicate_counts(client: Client) -> None:
    frame = scan_deltacat("n.t", planner=client, predicate={"gt": ["x", 4]})
    assert frame.select(pl.len()).collect().item() == 4
    assert frame.head(3).select(pl.len()).collect().item() == 3


def test_rows_of_a_plan_and_of_an_older_snapshot_are_counted_as_they_are(client: Client) -> None:
    plan = client.catalog.plan(**WHERE)
    page = client.catalog.plan(**WHERE, limit=2)
    old = scan_deltacat("n.t", planner=client)
    client.catalog.write(pa.table({"x": [9], "y": ["c"]}), **WHERE)
    frames = {
        "plan": scan_deltacat("n.t", plan=plan),
        "page": scan_deltacat("n.t", plan=page),
        "old": old,
        "new": scan_deltacat("n.t", planner=client),
        "since": scan_deltacat("n.t", planner=client, changes_since=plan.snapshot),
    }
    found = {name: counted(frame.select(pl.len()), client) for name, frame in frames.items()}
    assert found == {"plan": (9, 0), "page": (6, 0), "old": (9, 0), "new": (10, 0), "since": (1, 0)}


def test_a_transactions_frame_counts_what_it_changes_later(client: Client) -> None:
    with client.transaction() as transaction:
        frame = scan_deltacat("n.t", planner=client, transaction=transaction).select(pl.len())
        assert frame.collect().item() == 9
        client.catalog.write(pa.table({"x": [9], "y": ["c"]}), **WHERE)
        assert frame.collect().item() == 10


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_that_merge_are_counted_by_the_plan_or_by_merging(
    tmp_path: Path, engine: Literal["in-memory", "streaming"]
) -> None:
    client = Client(tmp_path / "k")
    schema = pa.schema([("k", pa.int64()), ("v", pa.string())])
    client.catalog.create_table(
        **WHERE, schema=schema, merge_keys=["k"], auto_create_namespace=True
    )
    for start in range(3):
        rows = pa.table({"k": [start, start + 1], "v": ["a", "b"]})
        client.catalog.write(rows, **WHERE, mode="merge")
    client.catalog.write(pa.table({"k": [0]}), **WHERE, mode="delete")
    known = scan_deltacat("n.t", planner=client)
    assert counted(known.select(pl.len()), client, engine) == (3, 0)
    # A plan without delete sets, as other planners make it.
    unknown = scan_deltacat("n.t", plan=client.catalog.plan(**WHERE))
    for frame in (known, unknown):
        for asked in (frame, frame.head(2), frame.filter(pl.col("k") > 1)):
            expected = asked.collect(engine=engine).height
            assert asked.select(pl.len()).collect(engine=engine).item() == expected


def test_a_count_is_explained_and_travels(frame: pl.LazyFrame) -> None:
    asked = frame.select(pl.len())
    said = str(DeltaCatFrame(asked).explain())
    assert "rows alone are wanted: 9, by the plan; no file is opened" in said
    assert "Parquet SCAN" not in said
    assert pl.LazyFrame.deserialize(io.BytesIO(asked.serialize())).collect().item() == 9


def test_an_empty_table_has_no_rows(client: Client) -> None:
    client.catalog.create_table(namespace="n", table="none", schema=pa.schema([("x", pa.int64())]))
    assert scan_deltacat("n.none", planner=client).select(pl.len()).collect().item() == 0
    assert read_deltacat("n.none", planner=client).height == 0
