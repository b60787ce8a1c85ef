"""Whether Daft reads tables on an S3, dead rows too, with keys that end, and shows those to nobody."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import TYPE_CHECKING, Any

import daft
import pyarrow as pa
import pytest
from daft import col
from daft.io import IOConfig, S3Config
from daft.io.pushdowns import Pushdowns

from deltacat_sources.daft import read_deltacat, write_deltacat
from deltacat_sources.daft.source import TableSource
from deltacat_sources.daft.storage import io_config
from io_core.credentials import Keys
from io_core.model import TableRef
from io_core.s3 import S3Store
from io_core.scan import Scan
from planner_client import Client
from tests.object_store.store import KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from daft.io.source import DataSourceTask

    from tests.object_store.store import ObjectStore

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.int64()), ("s", pa.string())])


def rows(ids: range, x: int) -> pa.Table:
    return pa.table({"id": ids, "x": [x + i for i in ids], "s": [f"s{i % 3}" for i in ids]}, SCHEMA)


@pytest.fixture
def client(tmp_path: Path, object_store: ObjectStore) -> Client:
    """A keyed table on S3: ids 0 to 99, every third upserted, every tenth deleted."""
    found = Client(tmp_path / "catalog", data_root=object_store.bucket(), s3=object_store.settings)
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}  # Any: of any call
    found.catalog.write(rows(range(100), 0), **where, merge_keys=["id"])
    found.catalog.write(rows(range(0, 100, 3), 1000), **where, mode="merge")
    found.catalog.write(pa.table({"id": range(0, 100, 10)}), **where, mode="delete")
    return found


def living() -> dict[int, int]:
    found = {i: i for i in range(100)} | {i: 1000 + i for i in range(0, 100, 3)}
    return {i: x for i, x in found.items() if i % 10}


def test_dead_rows_stay_away_on_s3(client: Client) -> None:
    frame = read_deltacat("ns.t", planner=client)
    assert frame.count_rows() == len(living())
    found = frame.to_pydict()
    assert dict(zip(found["id"], found["x"], strict=True)) == living()
    some = frame.where(col("x") >= 1000).select("id").to_pydict()["id"]
    assert sorted(some) == [i for i, x in living().items() if x >= 1000]
    assert frame.limit(70).to_arrow().num_rows == 70
    assert frame.sum("x").to_pydict()["x"] == [sum(living().values())]


def test_a_frame_is_written_to_s3_and_read_again(client: Client) -> None:
    written = write_deltacat(daft.from_pydict({"a": [1, 2]}), "ns.new", planner=client)
    assert written.files_registered == 1
    (path,) = client.catalog.plan(namespace="ns", table="new").paths
    assert path.startswith("s3://")
    assert sorted(read_deltacat("ns.new", planner=client).to_pydict()["a"]) == [1, 2]


def test_a_way_to_the_store_that_is_given_replaces_the_plans(
    client: Client, object_store: ObjectStore
) -> None:
    given = {"key_id": KEYS["AWS_ACCESS_KEY_ID"], "access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    good = S3Config(endpoint_url=object_store.url, region_name="us-east-1", use_ssl=False, **given)
    # Nobody listens there, which only who asks there can say.
    bad = good.replace(endpoint_url="http://127.0.0.1:9", num_tries=1, connect_timeout_ms=200)
    client.catalog.write(rows(range(5), 0), namespace="ns", table="plain")
    frame = read_deltacat("ns.plain", planner=client, io_config=IOConfig(s3=good))
    assert sorted(frame.to_pydict()["id"]) == list(range(5))
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9|onnect"):
        read_deltacat("ns.plain", planner=client, io_config=IOConfig(s3=bad)).to_pydict()


def test_keys_that_end_are_renewed_while_daft_reads(
    client: Client, object_store: ObjectStore
) -> None:
    asked: list[int] = []

    def brief() -> Keys:
        asked.append(1)
        ends = time.time_ns() + 10**6
        return Keys(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], None, ends)

    paths = client.catalog.plan(namespace="ns", table="t").paths[:1]
    root = "/".join(paths[0].split("/")[:3])
    config = io_config(S3Store(root, object_store.settings, "brief for Daft", brief))
    for _ in range(2):
        before = len(asked)
        assert daft.read_parquet(paths, io_config=config).count_rows() == 100
        assert len(asked) > before


def test_tasks_travel_without_keys(client: Client) -> None:
    for task in tasks(client):
        raw = pickle.dumps(task)
        assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in raw.replace(b"tests", b"")
        assert pickle.loads(raw).schema == task.schema


def tasks(client: Client) -> list[DataSourceTask]:
    scan = Scan(TableRef.parse("ns.t"), client)
    header = scan.header()

    async def found() -> list[DataSourceTask]:
        source = TableSource(scan.pinned()[0], header, None)
        return [task async for task in source.get_tasks(Pushdowns())]

    return asyncio.run(found())


def test_many_files_with_dead_rows_on_s3_are_read_at_once(client: Client) -> None:
    where: dict[str, Any] = {"namespace": "ns", "table": "many"}  # Any: of any call
    # More than there are cores, in each of which a task could wait for another.
    client.catalog.write(rows(range(80), 0), **where, merge_keys=["id"], max_rows_per_file=10)
    client.catalog.write(rows(range(0, 80, 2), 1000), **where, mode="merge")
    left = read_deltacat("ns.many", planner=client)
    right = read_deltacat("ns.many", planner=client).where(col("x") >= 1000).select("id")
    joined = left.limit(80).join(right, on="id").to_pydict()
    assert sorted(joined["x"]) == [1000 + i for i in range(0, 80, 2)]


def test_filters_on_s3_are_applied_whatever_columns_a_file_has(client: Client) -> None:
    client.catalog.write(rows(range(5), 0).select(["id"]), namespace="ns", table="grown")
    client.catalog.write(rows(range(5, 8), 0), namespace="ns", table="grown")
    frame = read_deltacat("ns.grown", planner=client).where(col("id") > 3)
    assert sorted(map(str, frame.select("s").to_pydict()["s"])) == ["None", "s0", "s1", "s2"]
