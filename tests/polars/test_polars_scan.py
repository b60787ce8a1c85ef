"""What a Polars frame over a table reads, when it plans, and what it says when it cannot."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from deltacat_sources.polars import read_deltacat, scan_deltacat, write_deltacat
from deltacat_sources.polars.types import polars_schema
from io_core.errors import (
    CatalogRootError,
    DataFileError,
    NotFoundError,
    PredicateError,
    SchemaValidationError,
    UnsupportedError,
)
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from polars._typing import EngineType

    from io_core.plan import ReadPlan
    from io_core.scan import Scan

SCALARS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "i8": (pa.int8(), [1, -128, None]),
    "i64": (pa.int64(), [2**63 - 1, -1, None]),
    "u64": (pa.uint64(), [2**64 - 1, 0, None]),
    "f32": (pa.float32(), [float("nan"), -0.0, None]),
    "f64": (pa.float64(), [float("inf"), 0.1, None]),
    "text": (pa.string(), ["", "\U0001f600", None]),
    "large": (pa.large_string(), ["a", "b", None]),
    "view": (pa.string_view(), ["a", "a string of more than twelve bytes", None]),
    "raw": (pa.binary(), [b"", b"\xff", None]),
    "flag": (pa.bool_(), [True, False, None]),
    "day": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
    "day_ms": (pa.date64(), [dt.date(2024, 2, 29), dt.date(1969, 1, 1), None]),
    "clock_s": (pa.time32("s"), [dt.time(1, 2, 3), dt.time(0), None]),
    "clock": (pa.time64("us"), [dt.time(1, 2, 3, 4), dt.time(0), None]),
    "s": (pa.timestamp("s"), [dt.datetime(2024, 2, 29), dt.datetime(1900, 1, 1), None]),
    "ms": (pa.timestamp("ms"), [dt.datetime(2024, 2, 29, 0, 0, 0, 1000), None, None]),
    "us": (pa.timestamp("us"), [dt.datetime(2024, 2, 29, 0, 0, 0, 1), None, None]),
    "ns": (pa.timestamp("ns"), [dt.datetime(2024, 2, 29, 0, 0, 0, 1), None, None]),
    "zoned": (
        pa.timestamp("us", "Europe/Paris"),
        [dt.datetime(2024, 2, 29, tzinfo=dt.UTC), None, None],
    ),
    "span": (pa.duration("us"), [dt.timedelta(microseconds=-1), dt.timedelta(days=9), None]),
    "span_s": (pa.duration("s"), [dt.timedelta(1), None, None]),
    "price": (pa.decimal128(38, 9), [Decimal("1.5"), Decimal(-(10**28)), None]),
    "half": (pa.float16(), [0.5, -2.0, None]),
    "coded": (pa.dictionary(pa.int32(), pa.string()), ["a", "b", None]),
    "list": (pa.list_(pa.int32()), [[1, None], [], None]),
    # pyarrow 25 cannot read a null of this type back from Parquet.
    "fixed": (pa.list_(pa.float32(), 2), [[1.0, 2.0], [3.0, 4.0], [0.0, None]]),
    "struct": (
        pa.struct([("x", pa.int64()), ("y", pa.string())]),
        [{"x": 1, "y": None}, None, None],
    ),
    "nothing": (pa.null(), [None, None, None]),
}


class CountingClient(Client):
    """A client that remembers what it was asked to plan and what it answered."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        super().__init__(target)
        self.headers: list[Scan] = []
        self.plans: list[ReadPlan] = []

    def plan_scan(self, scan: Scan) -> ReadPlan:
        plan = super().plan_scan(scan)
        if scan.include_files:
            self.plans.append(plan)
        else:
            self.headers.append(scan)
        return plan


@pytest.fixture
def client(tmp_path: Path) -> CountingClient:
    found = CountingClient(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    return found


def add_files(client: Client, table: str, files: int, rows: int = 10, **layout: Any) -> None:
    """A table of `files` files; file i holds ids from i * rows on."""
    schema = pa.schema([("id", pa.int64()), ("part", pa.int64()), ("x", pa.float64())])
    client.catalog.create_table(namespace="ns", table=table, schema=schema, **layout)
    for i in range(files):
        ids = range(i * rows, (i + 1) * rows)
        data = pa.table(
            {"id": ids, "part": [i] * rows, "x": [float(v % 7) for v in ids]}, schema=schema
        )
        client.catalog.write(data, namespace="ns", table=table, mode="auto")


def damage(client: Client, table: str, keep: int) -> list[str]:
    """Overwrite the files of a table but the one at `keep` with zeros; sizes stay."""
    paths = client.catalog.plan(namespace="ns", table=table).paths
    damaged = [path for i, path in enumerate(paths) if i != keep]
    for path in damaged:
        size = os.path.getsize(path)
        with open(path, "wb") as file:
            file.write(bytes(size))
    return damaged


def test_every_type_reads_as_the_arrow_lane_reads_it(client: CountingClient) -> None:
    data = pa.table({n: pa.array(v, t) for n, (t, v) in SCALARS.items()})
    client.catalog.create_table(namespace="ns", table="t", schema=data.schema)
    client.catalog.write(data, namespace="ns", table="t", mode="add")
    expected = pl.from_arrow(client.catalog.read(namespace="ns", table="t"))
    assert isinstance(expected, pl.DataFrame)
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.collect_schema() == expected.schema
    assert_frame_equal(frame.collect(), expected, check_exact=True)
    assert_frame_equal(frame.collect(engine="streaming"), expected, check_exact=True)


@pytest.mark.parametrize(
    "dtype",
    [
        pa.decimal256(50, 2),
        pa.month_day_nano_interval(),
        pa.run_end_encoded(pa.int32(), pa.int64()),
        pa.list_view(pa.int32()),
        pa.struct([("x", pa.list_(pa.decimal256(50, 2)))]),
        pa.struct([("x", pa.uuid())]),
    ],
    ids=str,
)
def test_a_type_that_polars_cannot_hold_is_refused_by_name(dtype: pa.DataType) -> None:
    with pytest.raises(UnsupportedError, match="column 'odd' is of type"):
        polars_schema(pa.schema([("odd", dtype)]))


@pytest.mark.parametrize("name", ["^i.$", "*"])
def test_a_name_that_polars_takes_for_a_pattern_is_refused_and_read_without_it(
    client: CountingClient, name: str
) -> None:
    rows = pa.table({name: [1, 2], "id": [3, 4]})
    client.catalog.write(rows, namespace="ns", table="t")
    with pytest.raises(UnsupportedError, match=f"{re.escape(repr(name))} for a pattern of names"):
        scan_deltacat("ns.t", planner=client)
    assert client.catalog.read(namespace="ns", table="t").to_pydict() == rows.to_pydict()
    with pytest.raises(UnsupportedError, match=f"{re.escape(repr(name))} for a pattern of names"):
        write_deltacat(pl.DataFrame({name: [1], "id": [2]}), "ns.other", planner=client)
    with pytest.raises(NotFoundError, match=r"ns\.other"):
        scan_deltacat("ns.other", planner=client)


def test_a_frame_costs_one_header_until_it_is_collected(client: CountingClient) -> None:
    add_files(client, "t", 2)
    client.headers.clear()
    client.plans.clear()
    frame = scan_deltacat("ns.t", planner=client).filter(pl.col("id") > 3)
    assert frame.collect_schema().names() == ["id", "part", "x"]
    assert (len(client.headers), len(client.plans)) == (1, 0)
    assert frame.collect().height == 16
    assert (len(client.headers), len(client.plans)) == (1, 1)


def test_a_point_predicate_plans_and_opens_one_file(client: CountingClient) -> None:
    add_files(client, "t", 20)
    damage(client, "t", keep=7)
    frame = scan_deltacat("ns.t", planner=client).filter(pl.col("id") == 73)
    assert frame.collect()["id"].to_list() == [73]
    assert client.plans[-1].files.num_rows == 1


def test_a_limit_plans_and_opens_one_file(client: CountingClient) -> None:
    add_files(client, "t", 20)
    damage(client, "t", keep=0)
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.head(10).collect()["id"].to_list() == list(range(10))
    assert client.plans[-1].files.num_rows == 1


def test_a_limit_counts_rows_after_a_filter(client: CountingClient) -> None:
    add_files(client, "t", 3)
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.filter(pl.col("x") == 6).head(4).collect()["id"].to_list() == [6, 13, 20, 27]
    assert frame.head(4).filter(pl.col("x") == 3).collect()["id"].to_list() == [3]
    assert frame.slice(12, 3).collect()["id"].to_list() == [12, 13, 14]
    assert frame.tail(2).collect()["id"].to_list() == [28, 29]


def test_columns_and_counts_come_as_they_are_asked_for(client: CountingClient) -> None:
    add_files(client, "t", 2)
    frame = scan_deltacat("ns.t", planner=client, columns=["x", "id"])
    assert frame.collect().columns == ["x", "id"]
    assert frame.select(pl.len()).collect().item() == 20
    assert client.plans[-1].files.num_rows == 2
    assert frame.filter(pl.col("id") >= 15).select(pl.len()).collect().item() == 5


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_our_predicate_keeps_nan_where_it_is_above_all(
    client: CountingClient, engine: EngineType
) -> None:
    rows = pa.table({"x": [1.0, float("nan"), -0.0, None, 0.0]})
    client.catalog.create_table(namespace="ns", table="t", schema=rows.schema)
    client.catalog.write(rows, namespace="ns", table="t", mode="add")
    above = scan_deltacat("ns.t", planner=client, predicate={"gt": ["x", 0.5]})
    zeros = scan_deltacat("ns.t", planner=client, predicate={"in": ["x", [0.0, None]]})
    assert str(above.collect(engine=engine)["x"].to_list()) == "[1.0, nan]"
    assert zeros.collect(engine=engine)["x"].to_list() == [-0.0, 0.0]


def test_our_predicate_comes_before_the_projection(client: CountingClient) -> None:
    add_files(client, "t", 2)
    predicate = {"and": [{"gte": ["id", 5]}, {"lt": ["id", 12]}]}
    found = read_deltacat("ns.t", planner=client, columns=["part"], predicate=predicate)
    assert found["part"].to_list() == [0] * 5 + [1] * 2


def test_a_version_of_a_table_is_shown(client: CountingClient) -> None:
    add_files(client, "t", 1)
    schema = client.catalog.plan(namespace="ns", table="t").schema
    client.catalog.create_table(namespace="ns", table="t", schema=schema, table_version="2")
    latest = scan_deltacat("ns.t", planner=client)
    assert latest.collect().height == 0
    first = scan_deltacat("ns.t", planner=client, table_version="1")
    assert first.filter(pl.col("id") > 4).collect().height == 5
    with pytest.raises(NotFoundError, match="3"):
        scan_deltacat("ns.t", planner=client, table_version="3")


def test_a_frame_shows_one_snapshot_for_ever(client: CountingClient) -> None:
    add_files(client, "t", 2)
    frame = scan_deltacat("ns.t", planner=client)
    client.catalog.write(
        pa.table({"id": [99], "part": [9], "x": [0.0]}), namespace="ns", table="t", mode="add"
    )
    joined = frame.join(frame.filter(pl.col("id") > 3), on="id", how="left")
    assert joined.select(pl.len()).collect().item() == 20
    assert frame.collect().height == 20
    assert {plan.snapshot for plan in client.plans} == {
        client.headers[0].snapshot or client.plans[0].snapshot
    }
    assert scan_deltacat("ns.t", planner=client).collect().height == 21


def test_as_of_shows_what_was_committed_before(client: CountingClient) -> None:
    add_files(client, "t", 1)
    before = time.time_ns()
    newer = pa.table({"id": [99], "part": [9], "x": [0.0]})
    client.catalog.write(newer, namespace="ns", table="t", mode="add")
    assert scan_deltacat("ns.t", planner=client, as_of=before).collect().height == 10
    assert scan_deltacat("ns.t", planner=client, as_of=time.time_ns()).collect().height == 11
    with pytest.raises(NotFoundError):
        scan_deltacat("ns.t", planner=client, as_of=1)


def collected(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect()


def keyed_table(client: Client) -> None:
    add_files(client, "k", 4, merge_keys=["id"], partition_scheme={"keys": [{"key": ["part"]}]})
    newer = pa.table({"id": [5, 100], "part": [0, 0], "x": [50.0, 100.0]})
    client.catalog.write(newer, namespace="ns", table="k", mode="merge")
    gone = pa.table({"id": [6, 25], "part": [0, 2]})
    client.catalog.write(gone, namespace="ns", table="k", mode="delete")


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_keyed_table_reads_as_its_latest_rows(client: CountingClient, engine: EngineType) -> None:
    keyed_table(client)
    expected = pl.from_arrow(client.catalog.read(namespace="ns", table="k"))
    assert isinstance(expected, pl.DataFrame)
    frame = scan_deltacat("ns.k", planner=client)
    assert_frame_equal(frame.collect(engine=engine), expected)
    assert expected.height == 39
    assert frame.filter(pl.col("x") == 5.0, pl.col("id") == 5).collect(engine=engine).is_empty()
    assert frame.filter(pl.col("x") == 50.0).collect(engine=engine)["id"].to_list() == [5]
    assert frame.select("x").collect(engine=engine).sum().item() == expected["x"].sum()
    assert frame.select(pl.len()).collect(engine=engine).item() == 39


def test_a_limit_on_a_keyed_table_counts_merged_rows(client: CountingClient) -> None:
    keyed_table(client)
    frame = scan_deltacat("ns.k", planner=client)
    all_ids = frame.collect()["id"].to_list()
    assert frame.head(12).collect()["id"].to_list() == all_ids[:12]
    assert frame.head(12).filter(pl.col("id") > 3).collect()["id"].to_list() == [
        i for i in all_ids[:12] if i > 3
    ]
    assert frame.slice(8, 5).collect()["id"].to_list() == all_ids[8:13]


def test_a_partition_predicate_opens_no_other_partition_of_a_keyed_table(
    client: CountingClient,
) -> None:
    keyed_table(client)
    frame = scan_deltacat("ns.k", planner=client).filter(pl.col("part") == 3)
    assert frame.collect()["id"].to_list() == list(range(30, 40))
    assert client.plans[-1].files.num_rows == 1


def test_an_empty_table_is_an_empty_frame_of_its_types(client: CountingClient) -> None:
    add_files(client, "t", 0)
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.collect().schema == {"id": pl.Int64, "part": pl.Int64, "x": pl.Float64}
    assert frame.filter(pl.col("id") > 1).select("x").collect().schema == {"x": pl.Float64}
    assert frame.select(pl.len()).collect().item() == 0


def test_a_predicate_that_rules_out_every_file_reads_none(client: CountingClient) -> None:
    add_files(client, "t", 2)
    damage(client, "t", keep=5)
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.filter(pl.col("id") > 1000).select("x").collect().is_empty()


@pytest.mark.parametrize("table", ["t", "k"])
def test_a_frame_travels_to_another_process_as_its_address(
    client: CountingClient, table: str
) -> None:
    if table == "t":
        add_files(client, "t", 2)
    else:
        keyed_table(client)
    plain = Client(client.target, create=False)
    frame = scan_deltacat(f"ns.{table}", planner=plain).filter(pl.col("id") < 15).sort("id")
    stored = frame.serialize()
    assert len(stored) < 20_000
    code = (
        "import io, sys, polars as pl;"
        "frame = pl.LazyFrame.deserialize(io.BytesIO(sys.stdin.buffer.read()));"
        "sys.stdout.buffer.write(frame.collect().serialize())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=stored, capture_output=True, check=True
    )
    assert_frame_equal(pl.DataFrame.deserialize(io.BytesIO(done.stdout)), frame.collect())


def test_frames_collect_at_the_same_time_from_many_threads(client: CountingClient) -> None:
    add_files(client, "t", 8)
    frame = scan_deltacat("ns.t", planner=client)
    queries = [frame.filter(pl.col("part") == i).select(pl.col("id").sum()) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        sums = [found.item() for found in pool.map(collected, queries)]
    assert sums == [sum(range(i * 10, i * 10 + 10)) for i in range(8)]
    together = pl.collect_all(queries)
    assert [found.item() for found in together] == sums


def test_sql_pushes_its_conditions(client: CountingClient) -> None:
    add_files(client, "t", 8)
    context = pl.SQLContext(t=scan_deltacat("ns.t", planner=client))
    found = context.execute("SELECT sum(x) AS x FROM t WHERE id BETWEEN 32 AND 33 AND part = 3")
    assert found.collect().item() == 32 % 7 + 33 % 7
    assert client.plans[-1].files.num_rows == 1


def test_paths_are_taken_literally(tmp_path: Path) -> None:
    client = CountingClient(tmp_path / "a [b] %20*?" / "catalog")
    client.catalog.create_namespace(namespace="ns")
    add_files(client, "t", 2)
    assert scan_deltacat("ns.t", planner=client).collect().height == 20


def test_a_damaged_file_is_named_together_with_its_plan(client: CountingClient) -> None:
    add_files(client, "t", 3)
    damaged = damage(client, "t", keep=0)
    with pytest.raises(DataFileError) as caught:
        scan_deltacat("ns.t", planner=client).collect()
    assert damaged[0] in str(caught.value)
    assert "ReadPlan(ns.t at snapshot" in str(caught.value)


def test_a_missing_file_and_one_of_another_size_are_named(client: CountingClient) -> None:
    add_files(client, "t", 2)
    first, second = client.catalog.plan(namespace="ns", table="t").paths
    frame = scan_deltacat("ns.t", planner=client)
    with open(second, "ab") as file:
        file.write(b"more")
    with pytest.raises(DataFileError, match="bytes instead of"):
        frame.collect()
    os.unlink(first)
    with pytest.raises(DataFileError, match="cannot be opened"):
        frame.collect()


def test_a_damaged_file_of_a_keyed_table_is_named(client: CountingClient) -> None:
    keyed_table(client)
    damaged = damage(client, "k", keep=0)
    with pytest.raises(DataFileError, match=damaged[0]):
        scan_deltacat("ns.k", planner=client).filter(pl.col("part") == 0).collect()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"table": "ns.tt"}, NotFoundError, "'t'"),
        ({"table": "nss.t"}, NotFoundError, "'ns'"),
        ({"table": "t"}, ValueError, r"namespace\.table"),
        ({"columns": ["idd"]}, SchemaValidationError, "did you mean 'id'"),
        ({"predicate": {"gt": ["idd", 1]}}, PredicateError, "did you mean 'id'"),
        ({"predicate": {"gtt": ["id", 1]}}, PredicateError, "did you mean 'gt'"),
        (
            {"predicate": {"and": [{"gt": ["id", 1]}, {"lt": ["id", "x"]}]}},
            PredicateError,
            r"and\[1\]",
        ),
    ],
)
def test_a_wrong_argument_is_told_when_the_frame_is_built(
    client: CountingClient, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    add_files(client, "t", 1)
    damage(client, "t", keep=1)
    with pytest.raises(error, match=message):
        scan_deltacat(**{"table": "ns.t", "planner": client, **arguments})


def test_a_directory_that_is_no_catalog_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CatalogRootError):
        scan_deltacat("ns.t", planner=tmp_path)


def test_the_planner_may_come_from_the_environment(
    client: CountingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_files(client, "t", 1)
    monkeypatch.setenv("DELTACAT_PLANNER", str(client.target))
    assert pl.scan_deltacat("ns.t").collect().height == 10  # type: ignore[attr-defined]
    assert pl.read_deltacat("ns.t").height == 10  # type: ignore[attr-defined]
