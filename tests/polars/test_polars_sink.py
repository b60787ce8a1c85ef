"""What a Polars frame becomes in a table: files, partitions, statistics, one commit or nothing."""

from __future__ import annotations

import datetime as dt
import os
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from deltacat_sources.polars import (
    read_deltacat,
    scan_deltacat,
    sink_deltacat,
    write_deltacat,
    writing,
)
from io_core.errors import NotFoundError, SchemaValidationError
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

NAN = float("nan")
# A table whose schema no write changes.
FIXED = {"schema_evolution_mode": "manual", "default_schema_consistency_type": "coerce"}
FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "part": ["a/b", None, "", "a/b"],
        "x": [1.5, NAN, None, -0.0],
        "at": [dt.datetime(2024, 2, 29, 1), None, dt.datetime(2025, 1, 1), dt.datetime(1969, 1, 1)],
    }
)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    return found


def staged_files(client: Client) -> list[str]:
    """Every file below the catalog's data directory."""
    root = os.path.join(client.target, "data")
    return [os.path.join(d, f) for d, _, files in os.walk(root) for f in files]


def stats_of(client: Client, table: str) -> pa.Table:
    return client.catalog.plan(namespace="ns", table=table, include_stats=True).files


def test_auto_creates_the_table_and_its_namespace_from_the_frame(client: Client) -> None:
    done = FRAME.lazy().sink_deltacat(  # type: ignore[attr-defined]
        "fresh.t", planner=client, partition_by="part", merge_keys="id"
    )
    assert (done.files_registered, done.total_records) == (3, 4)
    assert done.snapshot is not None
    described = client.catalog.describe_table(namespace="fresh", table="t")
    assert [(f.name, f.type, f.is_merge_key) for f in described.schema or ()] == [
        ("id", "int64", True),
        ("part", "string", False),
        ("x", "float64", False),
        ("at", "timestamp[us]", False),
    ]
    found = read_deltacat("fresh.t", planner=client).sort("id")
    assert_frame_equal(found, FRAME, check_exact=True)


def test_every_file_carries_field_ids_and_its_own_partition_value(client: Client) -> None:
    FRAME.write_deltacat("ns.t", planner=client, partition_by=["part"])  # type: ignore[attr-defined]
    files = client.catalog.plan(namespace="ns", table="t").files
    assert sorted(files.column("partition:0").to_pylist(), key=str) == ["", None, "a/b"]
    for path, value in zip(
        *(files.column(c).to_pylist() for c in ("path", "partition:0")), strict=True
    ):
        schema = pq.read_schema(path)
        assert [f.metadata[b"PARQUET:field_id"] for f in schema] == [b"1", b"2", b"3", b"4"]
        assert set(pq.read_table(path).column("part").to_pylist()) == {value}


def test_statistics_count_nulls_and_nan_per_file(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client, partition_by="part")
    files = stats_of(client, "t")
    found = {
        part: (low, high, nulls, nans)
        for part, low, high, nulls, nans in zip(
            *(
                files.column(c).to_pylist()
                for c in ("partition:0", "min:x", "max:x", "null_count:x", "nan_count:x")
            ),
            strict=True,
        )
    }
    assert found == {"a/b": (-0.0, 1.5, 0, 0), None: (None, None, 0, 1), "": (None, None, 1, 0)}


def test_files_roll_by_size_and_rows_keep_their_order(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_BYTES_PER_FILE", 1_000_000)
    frame = pl.select(id=pl.int_range(1_000_000)).lazy().with_columns(part=pl.col("id") % 2)
    done = sink_deltacat(frame, "ns.t", planner=client, partition_by="part")
    assert (done.files_registered or 0) > 4
    for part in (0, 1):
        rows = scan_deltacat("ns.t", planner=client).filter(pl.col("part") == part).collect()
        assert rows["id"].to_list() == list(range(part, 1_000_000, 2))


def test_a_merge_and_a_delete_change_rows_by_key(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client, merge_keys="id")
    newer = FRAME.filter(pl.col("id") == 2).with_columns(x=pl.lit(7.0))
    write_deltacat(newer, "ns.t", planner=client, mode="merge")
    write_deltacat(FRAME.filter(pl.col("id") == 3), "ns.t", planner=client, mode="delete")
    write_deltacat(pl.DataFrame({"id": [1]}), "ns.t", planner=client, mode="delete")
    found = read_deltacat("ns.t", planner=client).sort("id")
    assert found.select("id", "x").rows() == [(2, 7.0), (4, -0.0)]


def test_a_merge_that_lacks_columns_warns_that_they_become_null(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client, merge_keys="id")
    with pytest.warns(UserWarning, match="part, at become null"):
        write_deltacat(pl.DataFrame({"id": [1], "x": [9.0]}), "ns.t", planner=client, mode="merge")
    row = read_deltacat("ns.t", planner=client).row(by_predicate=pl.col("id") == 1, named=True)
    assert row == {"id": 1, "part": None, "x": 9.0, "at": None}


def test_columns_are_matched_by_name_and_cast_where_nothing_is_lost(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client)
    other = pl.DataFrame(
        {
            "x": pl.Series([0.5], dtype=pl.Float32),
            "part": pl.Series(["c"], dtype=pl.Categorical),
            "id": pl.Series([9], dtype=pl.UInt8),
            "at": [dt.date(2024, 1, 1)],
        }
    )
    write_deltacat(other, "ns.t", planner=client, mode="add")
    row = read_deltacat("ns.t", planner=client).row(-1)
    assert row == (9, "c", 0.5, dt.datetime(2024, 1, 1))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"idd": [1]}), "did you mean 'id'"),
        (pl.DataFrame({"id": [[1]]}), "column 'id' is List"),
        (pl.DataFrame({"id": [1.5]}), "'id'"),
        (pl.DataFrame({"id": ["x"]}), "'id'"),
    ],
    ids=["unknown column", "nested", "fraction", "text"],
)
def test_a_frame_that_does_not_fit_changes_nothing(
    client: Client, frame: pl.DataFrame, message: str
) -> None:
    write_deltacat(FRAME, "ns.t", planner=client)
    client.catalog.alter_table(namespace="ns", table="t", table_version_properties=FIXED)
    before = staged_files(client)
    with pytest.raises(SchemaValidationError, match=message):
        write_deltacat(frame, "ns.t", planner=client, mode="add")
    assert staged_files(client) == before
    assert read_deltacat("ns.t", planner=client).height == 4


def test_a_value_out_of_range_changes_nothing(client: Client) -> None:
    small = pa.schema([("id", pa.int8())])
    client.catalog.create_table(
        namespace="ns", table="t", schema=small, table_version_properties=FIXED
    )
    with pytest.raises(pl.exceptions.PolarsError, match="conversion"):
        write_deltacat(pl.DataFrame({"id": [1, 300]}), "ns.t", planner=client, mode="add")
    assert staged_files(client) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_write_that_is_stopped_leaves_nothing(client: Client, error: type[BaseException]) -> None:
    write_deltacat(FRAME, "ns.t", planner=client)
    before = staged_files(client)
    seen: list[int] = []

    def fails_late(batch: pl.DataFrame) -> pl.DataFrame:
        seen.append(batch.height)
        if len(seen) > 2:
            raise error("stop")
        return batch

    parts = pl.concat([FRAME.lazy().map_batches(fails_late, schema=FRAME.schema) for _ in range(4)])
    with pytest.raises(BaseException, match="stop"):
        sink_deltacat(parts, "ns.t", planner=client, mode="add")
    assert staged_files(client) == before
    assert read_deltacat("ns.t", planner=client).height == 4


def test_a_refused_commit_is_told_as_it_is(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client, merge_keys="id")
    with pytest.raises(SchemaValidationError, match="mode 'add'"):
        write_deltacat(FRAME, "ns.t", planner=client, mode="add")
    with pytest.raises(NotFoundError):
        write_deltacat(FRAME, "ns.absent", planner=client, mode="add")
    assert read_deltacat("ns.t", planner=client).height == 4


def test_a_layout_that_the_table_does_not_have_is_refused(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client, merge_keys="id", partition_by="part")
    write_deltacat(FRAME, "ns.t", planner=client, merge_keys="id", partition_by="part")
    with pytest.raises(SchemaValidationError, match="leave merge_keys out"):
        write_deltacat(FRAME, "ns.t", planner=client, merge_keys="part")
    with pytest.raises(SchemaValidationError, match="leave partition_by out"):
        write_deltacat(FRAME, "ns.t", planner=client, partition_by="id")


def test_an_unknown_partition_column_is_told_before_anything_is_written(client: Client) -> None:
    with pytest.raises(SchemaValidationError, match="did you mean 'part'"):
        write_deltacat(FRAME, "ns.t", planner=client, partition_by="prt")
    with pytest.raises(SchemaValidationError, match="floating point"):
        write_deltacat(FRAME, "ns.t", planner=client, merge_keys="x")
    assert staged_files(client) == []


@pytest.mark.parametrize("partition_by", [None, "part"])
def test_an_empty_frame_succeeds_and_adds_no_file(client: Client, partition_by: str | None) -> None:
    done = write_deltacat(FRAME.clear(), "ns.t", planner=client, partition_by=partition_by)
    assert (done.files_registered, done.total_records) == (0, 0)
    assert staged_files(client) == []
    assert read_deltacat("ns.t", planner=client).schema == FRAME.schema


def test_replace_leaves_the_new_rows_alone(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client, partition_by="part")
    write_deltacat(FRAME.head(1), "ns.t", planner=client, mode="replace_partition")
    assert sorted(read_deltacat("ns.t", planner=client)["id"]) == [1, 2, 3]
    write_deltacat(FRAME.tail(1), "ns.t", planner=client, mode="replace")
    assert read_deltacat("ns.t", planner=client)["id"].to_list() == [4]


@pytest.mark.parametrize("nulls", [False, True])
def test_a_required_column_takes_no_null(client: Client, *, nulls: bool) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("x", pa.float64())])
    client.catalog.create_table(namespace="ns", table="t", schema=schema)
    frame = pl.DataFrame({"id": [1, None if nulls else 2], "x": [1.0, None]})
    if not nulls:
        assert write_deltacat(frame, "ns.t", planner=client).total_records == 2
        return
    with pytest.raises((SchemaValidationError, pl.exceptions.PolarsError)):
        write_deltacat(frame, "ns.t", planner=client)
    assert staged_files(client) == []


def test_transformed_partitions_are_written_through_arrow(client: Client) -> None:
    frame = FRAME.drop_nulls("at").cast({"at": pl.Datetime("us")})
    client.catalog.create_table(
        namespace="ns",
        table="t",
        schema=pa.schema([("id", pa.int64()), ("at", pa.timestamp("us"))]),
        partition_scheme={"keys": [{"key": ["at"], "transform": "year"}]},
        sort_scheme={"keys": [{"key": ["id"], "sort_order": "descending"}]},
    )
    done = write_deltacat(frame.select("id", "at"), "ns.t", planner=client)
    assert done.files_registered == 3
    found = read_deltacat("ns.t", planner=client).sort("id")
    assert_frame_equal(found, frame.select("id", "at"))
    years = client.catalog.plan(namespace="ns", table="t").files.column("partition:0")
    assert sorted(years.to_pylist()) == [1969, 2024, 2025]


@pytest.mark.parametrize("partitioned", [False, True])
@pytest.mark.parametrize("key", ["k", "x"])
def test_rows_are_sorted_within_each_file(client: Client, partitioned: bool, key: str) -> None:
    order = {"key": [key], "sort_order": "descending", "null_order": "at_start"}
    client.catalog.create_table(
        namespace="ns",
        table="t",
        schema=pa.schema([("id", pa.int64()), ("k", pa.int64()), ("x", pa.float64())]),
        partition_scheme={"keys": [{"key": ["k"]}]} if partitioned else None,
        sort_scheme={"keys": [order, {"key": ["id"]}]},
    )
    seed = random.Random(3)
    kinds = [seed.choice([None, 1, 2, 3]) for _ in range(1_000)]
    frame = pl.DataFrame({"id": range(1_000), "k": kinds, "x": [1.5 if k else None for k in kinds]})
    frame = frame.sample(fraction=1, shuffle=True, seed=3)
    done = write_deltacat(frame, "ns.t", planner=client, max_rows_per_file=300)
    assert (done.files_registered or 0) >= 4
    assert_frame_equal(read_deltacat("ns.t", planner=client).sort("id"), frame.sort("id"))
    plan = client.catalog.plan(namespace="ns", table="t")
    for path in plan.paths:
        rows = pl.read_parquet(path)
        assert rows.height <= 300
        wanted = rows.sort(key, "id", descending=[True, False], nulls_last=False)
        assert_frame_equal(rows, wanted)
        # Arrow orders floats otherwise, so that it writes those.
        assert pq.read_metadata(path).created_by.startswith("Polars") == (key == "k")


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [
        (pa.timestamp("s"), dt.datetime(2024, 1, 1), True),
        (pa.timestamp("s"), dt.datetime(2024, 1, 1, 0, 0, 0, 500_000), False),
        (pa.time32("s"), dt.time(1, 2, 3), True),
        (pa.time32("s"), dt.time(1, 2, 3, 4), False),
        (pa.time64("us"), dt.time(1, 2, 3, 4), True),
        (pa.duration("s"), dt.timedelta(microseconds=1), False),
        (pa.float32(), 0.5, True),
        (pa.int64(), 1.5, False),
        (pa.dictionary(pa.int32(), pa.string()), "a", True),
    ],
)
def test_values_that_need_a_coarser_type_fit_exactly_or_not_at_all(
    client: Client, dtype: pa.DataType, value: Any, *, fits: bool
) -> None:
    client.catalog.create_table(
        namespace="ns", table="t", schema=pa.schema([("v", dtype)]), table_version_properties=FIXED
    )
    frame = pl.DataFrame({"v": [value, None]})
    if fits:
        write_deltacat(frame, "ns.t", planner=client)
        assert read_deltacat("ns.t", planner=client)["v"].to_list() == [value, None]
        return
    with pytest.raises(SchemaValidationError, match="'v'"):
        write_deltacat(frame, "ns.t", planner=client)
    assert staged_files(client) == []


VALUES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "i8": (pl.Int8(), st.integers(-128, 127)),
    "u64": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "f32": (pl.Float32(), st.floats(width=32)),
    "f64": (pl.Float64(), st.floats()),
    "text": (pl.String(), st.text(max_size=80)),
    "raw": (pl.Binary(), st.binary(max_size=5)),
    "flag": (pl.Boolean(), st.booleans()),
    "day": (pl.Date(), st.dates()),
    "clock": (pl.Time(), st.times()),
    "us": (pl.Datetime("us"), st.datetimes()),
    "ns": (pl.Datetime("ns", "UTC"), st.integers(-(2**62), 2**62)),
    "span": (pl.Duration("ms"), st.integers(-(2**40), 2**40)),
    "price": (pl.Decimal(12, 3), st.decimals(-(10**8), 10**8, places=3)),
    "list": (pl.List(pl.Int32()), st.lists(st.none() | st.integers(0, 9), max_size=2)),
    "struct": (pl.Struct({"a": pl.Int8()}), st.fixed_dictionaries({"a": st.integers(0, 9)})),
}


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(1, 6))
    columns = []
    for name, (dtype, values) in VALUES.items():
        cells = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        raw = pl.Int64() if name in ("ns", "span") else dtype
        columns.append(pl.Series(name, cells, dtype=raw).cast(dtype))
    return pl.DataFrame(columns)


@given(
    frame=frames(), partition=st.sampled_from([None, "text", "day", "flag", "i8", "price", "us"])
)
def test_what_is_written_is_what_every_lane_reads(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame, partition: str | None
) -> None:
    client = Client(tmp_path_factory.mktemp("catalog"))
    order = pl.Series("row", range(frame.height))
    written = frame.with_columns(order)
    done = write_deltacat(written, "ns.t", planner=client, partition_by=partition)
    assert done.total_records == frame.height
    native = read_deltacat("ns.t", planner=client).sort("row")
    assert_frame_equal(native, written, check_exact=True)
    arrow = pl.from_arrow(client.catalog.read(namespace="ns", table="t"))
    assert isinstance(arrow, pl.DataFrame)
    assert_frame_equal(arrow.sort("row"), written, check_exact=True)
    for name in ("i8", "f64", "text", "us", "price"):
        value = frame[name][0]
        same = pl.col(name) == pl.lit(value, dtype=frame.schema[name])
        if not isinstance(value, float | Decimal) or value == value:
            found = scan_deltacat("ns.t", planner=client).filter(same).collect().sort("row")
            assert_frame_equal(found, written.filter(same), check_exact=True)


def test_a_null_where_something_inside_is_required_changes_nothing(client: Client) -> None:
    item = pa.field("item", pa.int64(), nullable=False)
    client.catalog.create_table(
        namespace="ns", table="t", schema=pa.schema([("v", pa.list_(item))])
    )
    with pytest.raises(SchemaValidationError, match=r"'v\.item' of ns\.t is required"):
        write_deltacat(pl.DataFrame({"v": [[1], [None]]}), "ns.t", planner=client)
    assert staged_files(client) == []
