"""Do files of older schemas and of other formats show the table's rows, lazily, in Polars?"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from deltacat_sources.polars import scan_deltacat
from deltacat_sources.polars.types import shown
from io_core.errors import UnsupportedError
from io_core.execute import read_plan
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from polars._typing import EngineType

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ENGINES: list[EngineType] = ["in-memory", "streaming"]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    return found


def operations(client: Client, *operations: dict[str, Any]) -> None:
    client.catalog.alter_table(**WHERE, schema_updates={"operations": list(operations)})


def arrow_rows(client: Client) -> pl.DataFrame:
    return shown(read_plan(client.catalog.plan(**WHERE)))


def check(client: Client, *filters: pl.Expr, through_arrow: bool = False) -> pl.LazyFrame:
    """All rows, each column alone and each filter, as the Arrow lane has them."""
    frame, expected = scan_deltacat("ns.t", planner=client), arrow_rows(client)
    for engine in ENGINES:
        assert_frame_equal(frame.collect(engine=engine), expected)
        for name in expected.columns:
            found = frame.select(name).collect(engine=engine)
            assert_frame_equal(found, expected.select(name))
        for asked in filters:
            assert_frame_equal(frame.filter(asked).collect(engine=engine), expected.filter(asked))
        assert frame.select(pl.len()).collect(engine=engine).item() == expected.height
        numbers = frame.with_row_index("number").select("number").collect(engine=engine)
        assert numbers["number"].to_list() == list(range(expected.height))
    assert ("Arrow" in frame.explain()) == through_arrow
    return frame


def test_added_renamed_and_widened_columns_are_read_by_polars(client: Client) -> None:
    old = pa.table({"id": [1, 2], "x": pa.array([1, None], pa.int32()), "r": [1.5, 2.5]})
    client.catalog.write(old, **WHERE)
    operations(
        client,
        {"op": "add", "field": {"name": "z", "type": "int64", "past_default": 7}},
        {"op": "add", "field": {"name": "n", "type": "string"}},
        {"op": "update_type", "field_locator": "x", "new_type": "int64"},
        {"op": "rename", "field_locator": "r", "new_name": "ratio"},
    )
    new = pa.table(
        {"id": [3, 4], "x": [2**40, 5], "ratio": [3.5, None], "z": [7, None], "n": ["a", "b"]}
    )
    client.catalog.write(new, **WHERE)
    filters = [
        pl.col("z") == 7,
        pl.col("z").is_null(),
        pl.col("x") > 1,
        (pl.col("ratio") > 2) & (pl.col("z") == 7),
        pl.col("n").is_null(),
    ]
    check(client, *filters)


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        (pa.date32(), "timestamp[us]", [dt.date(2024, 2, 29), None]),
        (pa.decimal128(9, 2), pa.decimal128(15, 4), [Decimal("1.25"), None]),
        (pa.duration("ms"), "duration[us]", [dt.timedelta(1), None]),
        (pa.timestamp("ms", "UTC"), "timestamp[us, tz=UTC]", [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None]),
        (pa.uint8(), "uint64", [255, None]),
        (pa.int16(), "float64", [-1, None]),
        (pa.float32(), "float64", [0.1, float("nan")]),
        (pa.string(), "large_string", ["a", None]),
    ],
    ids=str,
)  # fmt: skip
def test_older_types_become_the_tables(
    client: Client, old: pa.DataType, new: str | pa.DataType, values: list[Any]
) -> None:
    client.catalog.write(pa.table({"id": [1, 2], "x": pa.array(values, old)}), **WHERE)
    if not isinstance(new, str):
        from io_core.schema import fields_of

        new = fields_of(pa.schema([("x", new)]))[0].type
    operations(client, {"op": "update_type", "field_locator": "x", "new_type": new})
    schema = client.catalog.plan(**WHERE).schema
    later = pa.table({"id": [3, 4], "x": pa.array(values, old).cast(schema.field("x").type)})
    client.catalog.write(later, **WHERE)
    first = arrow_rows(client)["x"][0]
    check(client, pl.col("x") == pl.lit(first), pl.col("x").is_null())


def test_a_column_that_no_file_has_still_has_all_rows(client: Client) -> None:
    client.catalog.write(pa.table({"id": range(20)}), **WHERE)
    operations(client, {"op": "add", "field": {"name": "z", "type": "int64", "past_default": 7}})
    frame = scan_deltacat("ns.t", planner=client, columns=["z"])
    assert frame.collect()["z"].to_list() == [7] * 20
    assert frame.select(pl.col("z").sum()).collect().item() == 140


@pytest.mark.parametrize("keyed", [False, True])
def test_files_of_every_format_stand_in_one_frame(client: Client, keyed: bool) -> None:
    keys = ["id"] if keyed else []
    for turn, kind in enumerate(["parquet", "feather", "orc", "avro", "lance", "parquet"]):
        ids = range(turn * 4, turn * 4 + 6)
        rows = pa.table({"id": ids, "kind": [kind] * 6, "x": [float(i) for i in ids]})
        client.catalog.write(rows, **WHERE, format=kind, merge_keys=keys)
    filters = [pl.col("kind") == "feather", pl.col("x") > 10, pl.col("id") == 5]
    frame = check(client, *filters, through_arrow=True)
    # Keys of the other formats' files are not indexed, and the partition merges as one.
    assert ("Ipc SCAN" in frame.explain()) != keyed
    assert frame.head(8).collect().equals(arrow_rows(client).head(8))


def test_polars_reads_feather_of_an_older_schema_through_arrow(client: Client) -> None:
    old = pa.table({"id": [1, 2], "x": pa.array([1, None], pa.int32())})
    client.catalog.write(old, **WHERE, format="feather")
    operations(client, {"op": "update_type", "field_locator": "x", "new_type": "int64"})
    check(client, pl.col("x") == 1, through_arrow=True)


def test_files_are_shown_by_their_paths_in_every_lane(client: Client) -> None:
    for kind in ("parquet", "feather", "orc"):
        rows = pa.table({"id": [1, 2], "x": [1.0, 2.0]})
        client.catalog.write(rows, **WHERE, format=kind)
    frame = scan_deltacat("ns.t", planner=client, include_file_paths="file", columns=["x"])
    paths = client.catalog.plan(**WHERE).paths
    assert frame.collect()["file"].to_list() == [p for p in paths for _ in range(2)]
    one = frame.filter(pl.col("file") == paths[2], pl.col("x") > 1)
    assert one.collect().rows() == [(2.0, paths[2])]
    assert frame.select("file").unique().collect().height == 3


def test_a_partition_that_merges_through_arrow_does_not_know_its_paths(client: Client) -> None:
    rows = pa.table({"id": [1, 2]})
    client.catalog.write(rows, **WHERE, merge_keys=["id"], format="orc")
    client.catalog.write(rows, **WHERE, mode="merge")
    plan = client.catalog.plan(**WHERE)
    assert scan_deltacat("ns.t", plan=plan).collect()["id"].to_list() == [1, 2]
    with pytest.raises(UnsupportedError, match="leave include_file_paths out"):
        scan_deltacat("ns.t", plan=plan, include_file_paths="file").collect()
