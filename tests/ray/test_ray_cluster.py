"""Does Ray Data, on a cluster, give a table's rows and push down what it can?"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import time
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pytest
import ray
import ray.data
from ray.data.expressions import col, lit

import deltacat_sources.ray
from deltacat_sources.ray import DeltaCatDatasource, read_deltacat
from docs.demo.opened import OpenedFiles
from io_core.credentials import Keys
from io_core.errors import DataFileError
from io_core.plan import ReadPlan
from io_core.s3 import S3Store
from io_core.storage import Storage
from tests.object_store.store import KEYS
from tests.ray.tables import SCHEMA, CountingClient, ids, keep, rows, table, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.object_store.store import ObjectStore

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

SCALARS: dict[str, tuple[Any, pa.DataType]] = {
    "i8": (-5, pa.int8()),
    "i16": (-5, pa.int16()),
    "i32": (-5, pa.int32()),
    "i64": (-5, pa.int64()),
    "u8": (5, pa.uint8()),
    "u16": (5, pa.uint16()),
    "u32": (5, pa.uint32()),
    "u64": (5, pa.uint64()),
    "f32": (1.5, pa.float32()),
    "f64": (1.5, pa.float64()),
    "flag": (True, pa.bool_()),
    "text": ("é", pa.string()),
    "large_text": ("é", pa.large_string()),
    "raw": (b"\xff", pa.binary()),
    "large_raw": (b"\xff", pa.large_binary()),
    "day": (dt.date(2020, 1, 1), pa.date32()),
    "at_s": (dt.datetime(2020, 1, 1), pa.timestamp("s")),
    "at_ms": (dt.datetime(2020, 1, 1), pa.timestamp("ms")),
    "at_us": (dt.datetime(2020, 1, 1), pa.timestamp("us")),
    "at_ns": (dt.datetime(2020, 1, 1), pa.timestamp("ns")),
    "zoned": (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), pa.timestamp("us", "UTC")),
    "clock": (dt.time(12, 30), pa.time64("us")),
    "clock_s": (dt.time(12, 30), pa.time32("s")),
    "span": (dt.timedelta(seconds=5), pa.duration("us")),
    "price": (Decimal("1.25"), pa.decimal128(9, 2)),
}


def test_importing_adds_the_reader_to_ray() -> None:
    assert ray.data.read_deltacat is read_deltacat
    assert sorted(deltacat_sources.ray.__all__) == [
        "DeltaCatDatasink",
        "DeltaCatDatasource",
        "explain",
        "read_deltacat",
        "write_deltacat",
    ]


def test_a_datasets_tables_are_explained_as_ray_reads_them(client: CountingClient) -> None:
    dataset = read_deltacat(table(client, rows(0, 200)), planner=client)
    (found,) = deltacat_sources.ray.explain(
        dataset.filter(expr=col("id") < 15).select_columns(["s"])
    )
    assert found.shares[0].columns == ("s",)
    assert "pushed as {'lt': ['id', 15]}; tasks filter as that" in repr(found)
    assert "to read: 2 files" in repr(found)
    assert len(client.plans) == 1


def pandas(dataset: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sorted(dataset.take_all(), key=lambda row: list(row.values()))
    return found


def test_a_dataset_has_the_tables_schema_and_rows(client: CountingClient) -> None:
    name = table(client, rows(0, 95))
    dataset = ray.data.read_datasource(DeltaCatDatasource(name, planner=client))
    assert dataset.schema().base_schema == SCHEMA
    found = pa.concat_tables(ray.get(list(dataset.to_arrow_refs()))).sort_by("id")
    # All but x: a NaN does not equal itself here.
    assert found.drop("x").equals(rows(0, 95).drop("x"))
    assert len(client.plans) == 1


def test_a_point_predicate_opens_one_file(client: CountingClient, root: Path) -> None:
    dataset = read_deltacat(table(client, rows(0, 400)), planner=client)
    with OpenedFiles(root / "data") as watch:
        assert [row["id"] for row in dataset.filter(expr=col("id") == 123).take_all()] == [123]
        assert len(watch.paths()) == 1
    assert len(client.plans) == 1


def test_a_limit_opens_one_file(client: CountingClient, root: Path) -> None:
    name = table(client, rows(0, 400))
    with OpenedFiles(root / "data") as watch:
        assert len(read_deltacat(name, planner=client, limit=10).take_all()) == 10
        assert len(watch.paths()) == 1


def test_rays_limit_opens_one_file(client: CountingClient, root: Path) -> None:
    dataset = read_deltacat(table(client, rows(0, 2000)), planner=client)
    with OpenedFiles(root / "data") as watch:
        assert len(dataset.limit(10).take_all()) == 10
        assert len(dataset.take(10)) == 10
        assert len(dataset.rename_columns({"id": "key"}).limit(10).take_all()) == 10
        assert len(watch.paths()) == 1


def test_the_public_interface_hears_of_no_limit_and_opens_few_files(
    client: CountingClient, root: Path
) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 2000)), planner=client)
    dataset = ray.data.read_datasource(source)
    with OpenedFiles(root / "data") as watch:
        assert len(dataset.limit(10).take_all()) == 10
        assert len(watch.paths()) < 20
    renamed = dataset.rename_columns({"id": "key"}).limit(10)
    with OpenedFiles(root / "data") as watch:
        assert len(renamed.take_all()) == 10
        assert len(watch.paths()) == 1


def test_counting_opens_no_file(client: CountingClient, root: Path) -> None:
    dataset = read_deltacat(table(client, rows(0, 95)), planner=client)
    with OpenedFiles(root / "data") as watch:
        assert dataset.count() == 95
        assert client.plans == []
        assert dataset.filter(expr=col("id") < 40).count() == 40
        assert watch.paths() == []
    assert dataset.filter(expr=col("x") > 20).count() == len(keep(rows(0, 95), col("x") > 20))


def test_filters_columns_and_names_combine(client: CountingClient) -> None:
    dataset = read_deltacat(table(client, rows(0, 60)), planner=client)
    renamed = dataset.rename_columns({"id": "key"}).filter(expr=col("key") < 4)
    assert pandas(renamed.select_columns(["s", "key"]).filter(expr=col("s").is_not_null())) == [
        {"s": f"s{i}", "key": i} for i in (1, 2, 3)
    ]
    assert dataset.select_columns(["x", "id"]).schema().names == ["x", "id"]
    assert pandas(dataset.filter(expr=col("x") > 28.5).select_columns(["id"])) == [
        {"id": 58},
        {"id": 59},
    ]


def test_a_filter_after_a_limit_stays_there(client: CountingClient) -> None:
    dataset = read_deltacat(table(client, rows(0, 60)), planner=client, limit=10)
    assert [r["id"] for r in pandas(dataset.filter(expr=col("id") > 7).select_columns(["id"]))] == [
        8,
        9,
    ]
    assert dataset.count() == 10


def test_merged_rows_are_merged(client: CountingClient) -> None:
    scheme = {"keys": [{"key": ["part"], "transform": "identity"}]}
    name = table(client, rows(0, 60), merge_keys=["id"], partition_scheme=scheme)
    newer = rows(10, 20).set_column(3, SCHEMA.field("s"), pa.array(["new"] * 10))
    write(client, name, newer)
    dataset = read_deltacat(name, planner=client)
    assert dataset.count() == 60
    assert dataset.filter(expr=col("s") == "s11").count() == 0
    assert dataset.filter(expr=col("s") == "new").count() == 10
    assert dataset.limit(25).count() == 25


def test_an_empty_table_is_an_empty_dataset(client: CountingClient) -> None:
    dataset = read_deltacat(table(client), planner=client)
    assert dataset.schema().names == SCHEMA.names
    assert dataset.take_all() == []
    assert dataset.count() == 0
    assert dataset.filter(expr=col("id") > 0).count() == 0


def test_a_missing_file_is_named(client: CountingClient) -> None:
    name = table(client, rows(0, 5))
    path = client.catalog.plan(namespace="ns", table=name.removeprefix("ns.")).paths[0]
    os.remove(path)
    with pytest.raises(DataFileError, match=os.path.basename(path)):
        read_deltacat(name, planner=client).take_all()


class BriefKeys(NamedTuple):
    """Gets keys that end a millisecond later; whoever asks leaves a file named by its process."""

    asked: str

    def __call__(self) -> Keys:
        held, _ = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=self.asked)
        os.close(held)
        ends_ns = time.time_ns() + 10**6
        return Keys(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], None, ends_ns)


@pytest.mark.parametrize("how", ["newer", "public"])
def test_keys_that_end_while_workers_read_are_renewed_by_them(
    tmp_path: Path, object_store: ObjectStore, how: str
) -> None:
    bucket, settings = object_store.bucket(), object_store.settings
    client = CountingClient(tmp_path / "catalog", data_root=bucket, s3=settings)
    name = table(client, rows(0, 60))
    plan = client.catalog.plan(namespace="ns", table=name.removeprefix("ns."))
    asked = tmp_path / "asked"
    asked.mkdir()
    brief = S3Store(bucket, settings, f"brief {tmp_path}", BriefKeys(str(asked)))
    told = ReadPlan(plan.header, plan.files, Storage((brief,)))
    dataset = (
        read_deltacat(name, plan=told, override_num_blocks=1)
        if how == "newer"
        else ray.data.read_datasource(DeltaCatDatasource(name, plan=told), override_num_blocks=1)
    )
    assert ids(pa.concat_tables(ray.get(list(dataset.to_arrow_refs())))) == list(range(60))
    times = Counter(path.name.partition("-")[0] for path in asked.iterdir())
    assert str(os.getpid()) not in times
    assert max(times.values()) > 1


def test_every_scalar_type_comes_through(client: CountingClient) -> None:
    data = pa.table(
        {name: pa.array([value, None, value], dtype) for name, (value, dtype) in SCALARS.items()}
    )
    name = table(client, data, schema=data.schema)
    dataset = read_deltacat(name, planner=client)
    found = pa.concat_tables(ray.get(list(dataset.to_arrow_refs())))
    assert found.schema == data.schema
    assert found.equals(data)
    for column, (value, _) in SCALARS.items():
        assert dataset.filter(expr=col(column) == lit(value)).count() == 2, column
