"""Whether Daft shows the version, the moment and the partitions' values that are asked for."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daft import col

from deltacat_sources.daft import read_deltacat, write_deltacat
from planner_client import Client
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    return found


def write(client: Client, ids: list[int], **options: Any) -> None:  # Any: of any call
    client.catalog.write(pa.table({"id": ids}), namespace="ns", table="t", **options)


def ids(frame: daft.DataFrame) -> list[int]:
    return sorted(frame.to_pydict()["id"])


def test_a_moment_shows_what_was_committed_before_it(client: Client) -> None:
    write(client, [1])
    moment = time.time_ns()
    write(client, [2])
    then = read_deltacat("ns.t", planner=client, as_of=moment)
    assert ids(then) == [1]
    assert then.count_rows() == 1
    assert ids(then.where(col("id") > 1)) == []
    assert ids(read_deltacat("ns.t", planner=client)) == [1, 2]


def test_a_version_shows_its_own_rows(client: Client) -> None:
    schema = pa.schema([("id", pa.int64())])
    for version in ("1", "2"):
        client.catalog.create_table(namespace="ns", table="t", table_version=version, schema=schema)
        write(client, [int(version)], table_version=version)
    assert ids(read_deltacat("ns.t", planner=client, table_version="1")) == [1]
    assert ids(read_deltacat("ns.t", planner=client)) == [2]


def test_a_planner_that_is_not_said_is_the_environments(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTACAT_PLANNER", client.target)
    write_deltacat(daft.from_pydict({"id": [1, 2]}), "ns.t")
    assert ids(read_deltacat("ns.t").where(col("id") == 2)) == [2]


def test_values_that_only_paths_hold_are_columns_that_filter_and_count(
    client: Client, tmp_path: Path
) -> None:
    for day in ("a", "b"):
        folder = tmp_path / "files" / f"day={day}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [1, 2, 3]}), folder / "f.parquet")
    client.catalog.add_files(tmp_path / "files", namespace="ns", table="t", partition_by="day")
    frame = read_deltacat("ns.t", planner=client)
    assert sorted(frame.to_pydict()["day"]) == ["a"] * 3 + ["b"] * 3
    one = frame.where((col("day") == "b") & (col("id") > 1))
    assert one.to_pydict() == {"id": [2, 3], "day": ["b", "b"]}
    assert one.select("id").count_rows() == one.count_rows() == 2
    assert frame.where(col("day") == "a").select("day").to_pydict() == {"day": ["a"] * 3}
    mixed = frame.where((col("day") == "a") | (col("id") == 3)).sum("id")
    assert mixed.to_pydict() == {"id": [9]}


@pytest.mark.parametrize("over_http", [False, True], ids=["embedded", "http"])
def test_a_query_imports_no_pandas(tmp_path: Path, *, over_http: bool) -> None:
    code = """
import sys
import daft
from deltacat_sources.daft import read_deltacat
frame = read_deltacat("ns.t", planner=sys.argv[1])
print(frame.where((daft.col("id") > 1) & (daft.col("s") < "x")).to_arrow().num_rows)
print(frame.count_rows(), frame.limit(1).to_arrow().num_rows, "pandas" in sys.modules)
"""
    day = pa.array([0, 1, 1], pa.date32())
    with serving(tmp_path / "catalog") as url:
        Client(url).catalog.write(
            pa.table({"id": [1, 2, 3], "day": day, "s": ["a", "b", "c"]}),
            namespace="ns",
            table="t",
            partition_by="day",
        )
        command = [sys.executable, "-c", code, url if over_http else f"{tmp_path}/catalog"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["2", "3", "1", "False"], done.stderr
