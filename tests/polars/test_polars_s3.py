"""Do Polars' scans of S3 keep their keys to themselves, and go on when those end?"""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from deltacat_sources.polars import DeltaCatFrame, scan_deltacat, sink_deltacat
from deltacat_sources.polars.lanes import Column, Lane
from deltacat_sources.polars.scans import Files, scan_files
from io_core.credentials import Keys
from io_core.errors import DataFileError
from io_core.s3 import S3Store
from io_core.storage import Storage
from planner_client import Client
from tests.object_store.store import KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.object_store.store import ObjectStore

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


@pytest.fixture
def client(tmp_path: Path, object_store: ObjectStore) -> Client:
    """Two files of a table on S3."""
    root = f"{object_store.bucket()}/lake"
    found = Client(tmp_path / "catalog", data_root=root, s3=object_store.settings)
    for start in (0, 10):
        rows = pl.LazyFrame({"id": range(start, start + 10), "x": [0.5] * 10})
        sink_deltacat(rows, "ns.t", planner=found)
    return found


def test_keys_stand_in_nothing_that_a_frame_shows_or_sends(client: Client) -> None:
    plan = client.catalog.plan(**WHERE)
    for frame in (scan_deltacat("ns.t", planner=client), scan_deltacat("ns.t", plan=plan)):
        asked = frame.filter(pl.col("id") > 12)
        explained = DeltaCatFrame(asked).explain()
        expected = asked.collect()
        sent = asked.serialize()
        shown = [repr(asked), asked.explain(), repr(explained), explained._repr_html_(), repr(plan)]
        shown += [asked.show_graph(raw_output=True) or "", repr(vars(frame))]
        for text in [*shown, sent.decode("latin-1"), pickle.dumps(plan).decode("latin-1")]:
            assert KEYS["AWS_SECRET_ACCESS_KEY"] not in text
            assert KEYS["AWS_ACCESS_KEY_ID"] not in text
        assert_frame_equal(pl.LazyFrame.deserialize(io.BytesIO(sent)).collect(), expected)


def test_a_file_that_is_gone_or_another_is_named_with_its_plan(client: Client) -> None:
    plan = client.catalog.plan(**WHERE)
    first, second = plan.paths
    with plan.storage.open_output(first, replace=True) as out:
        out.write(b"short")
    with pytest.raises(DataFileError, match=rf"{re.escape(first)} has 5 bytes instead of.*ns\.t"):
        scan_deltacat("ns.t", plan=plan).collect()
    plan.storage.delete([first, second])
    with pytest.raises(DataFileError, match=rf"{re.escape(first)} cannot be opened \(No such file"):
        scan_deltacat("ns.t", plan=plan).collect()


def test_a_scan_imports_no_client_of_s3_beside_those_of_polars_and_arrow(client: Client) -> None:
    # In a process of its own: what this one imports stays.
    code = (
        "import pickle, sys; from deltacat_sources.polars import scan_deltacat;"
        "plan = pickle.load(sys.stdin.buffer);"
        "print(scan_deltacat('ns.t', plan=plan).collect().height);"
        "print([name for name in ('s3fs', 'fsspec', 'botocore') if name in sys.modules])"
    )
    plan = pickle.dumps(client.catalog.plan(**WHERE))
    done = subprocess.run(
        [sys.executable, "-c", code], input=plan, capture_output=True, check=False, timeout=120
    )
    assert done.stdout.decode().split("\n")[:2] == ["20", "[]"], done.stderr.decode()


def test_a_scan_goes_on_with_new_keys_when_the_old_ones_end(
    client: Client, object_store: ObjectStore
) -> None:
    asked: list[int] = []

    def brief() -> Keys:
        asked.append(time.time_ns())
        until = time.time_ns() + 10**9
        return Keys(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], None, until)

    paths = client.catalog.plan(**WHERE).paths
    root = paths[0].partition("/lake")[0]
    storage = Storage((S3Store(root, object_store.settings, f"brief {root}", brief),))
    lane = Lane("parquet", (Column("id", pl.Int64(), "id", pl.Int64()),))
    scan = scan_files(Files(paths * 5_000, lane, storage))
    # One scan, which takes long, as far as it takes until two times keys have ended in it.
    rows = 0
    for batch in scan.collect_batches(chunk_size=100):
        rows += batch.height
        if len(asked) > 2:
            break
    assert 0 < rows < 100_000
    assert len(asked) > 2


def test_a_table_on_s3_is_sorted_and_partitioned_by_polars_too(client: Client) -> None:
    schema = pa.schema([("id", pa.int64()), ("k", pa.string())])
    client.catalog.create_table(
        namespace="ns",
        table="sorted",
        schema=schema,
        partition_scheme={"keys": [{"key": ["k"]}]},
        sort_scheme={"keys": [{"key": ["id"]}]},
    )
    rows = pl.DataFrame({"id": [3, 1, 2, 4], "k": ["a", "b", "a", "b"]})
    assert sink_deltacat(rows.lazy(), "ns.sorted", planner=client).files_registered == 2
    found = scan_deltacat("ns.sorted", planner=client).collect()
    assert found.rows() == [(2, "a"), (3, "a"), (1, "b"), (4, "b")]
