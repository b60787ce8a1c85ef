"""What the further parameters of sink_deltacat do: transactions, tables to make, writing lazily."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest

from deltacat_sources.polars import read_deltacat, scan_deltacat, sink_deltacat, write_deltacat
from io_core.errors import AlreadyExistsError, NotFoundError
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from polars._typing import EngineType

    from io_core.model import WriteMode

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ADDING: list[WriteMode] = ["auto", "add", "append"]
FRAME = pl.DataFrame({"id": [3, 1, 2, 4], "part": [1, 1, 2, 2]})


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    return found


def test_rows_become_visible_with_their_transaction(client: Client) -> None:
    write_deltacat(FRAME, "ns.t", planner=client)
    with client.transaction() as transaction:
        pass
    transaction = client.transaction()
    with transaction:
        sink_deltacat(FRAME.lazy(), "ns.t", planner=client, transaction=transaction)
        assert read_deltacat("ns.t", planner=client, transaction=transaction).height == 8
        assert Client(client.target).catalog.plan(**WHERE).total_records == 4
    assert read_deltacat("ns.t", planner=client).height == 8


def test_a_table_may_be_left_unmade(client: Client) -> None:
    with pytest.raises(NotFoundError):
        sink_deltacat(FRAME.lazy(), "ns.t", planner=client, create=False)
    write_deltacat(FRAME, "ns.t", planner=client)
    assert write_deltacat(FRAME, "ns.t", planner=client, create=False).total_records == 4


def test_a_table_is_made_with_what_is_asked_for(client: Client) -> None:
    scheme = {"keys": [{"key": ["id"], "sort_order": "descending"}]}
    sink_deltacat(
        FRAME.lazy(),
        "ns.t",
        planner=client,
        partition_by="part",
        create={"sort_scheme": scheme, "table_description": "of a test"},
    )
    described = client.catalog.describe_table(**WHERE)
    assert described.sort_scheme is not None
    assert described.description == "of a test"
    found = read_deltacat("ns.t", planner=client)
    assert found["id"].to_list() == [3, 1, 4, 2]


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_lazy_sink_writes_when_it_is_collected(client: Client, engine: EngineType) -> None:
    made: list[int] = []

    def noted(batch: pl.DataFrame) -> pl.DataFrame:
        made.append(batch.height)
        return batch

    lazy = sink_deltacat(FRAME.lazy().map_batches(noted), "ns.t", planner=client, lazy=True)
    assert isinstance(lazy, pl.LazyFrame)
    assert made == []
    assert not client.catalog.table_exists(**WHERE)
    done = lazy.collect(engine=engine)
    assert done.select("files_registered", "total_records").row(0) == (1, 4)
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.collect().height == 4
    assert done["snapshot"].item() == frame.deltacat.plan().snapshot  # type: ignore[attr-defined]
    lazy.collect(engine=engine)
    assert read_deltacat("ns.t", planner=client).height == 8


def test_a_lazy_sink_that_fails_leaves_nothing(client: Client, tmp_path: Path) -> None:
    def broken(batch: pl.DataFrame) -> pl.DataFrame:
        raise ArithmeticError("on purpose")

    write_deltacat(FRAME, "ns.t", planner=client)
    before = sorted((tmp_path / "catalog" / "data").rglob("*.parquet"))
    lazy = sink_deltacat(FRAME.lazy().map_batches(broken), "ns.t", planner=client, lazy=True)
    with pytest.raises(Exception, match="on purpose"):
        lazy.collect()
    assert read_deltacat("ns.t", planner=client).height == 4
    assert sorted((tmp_path / "catalog" / "data").rglob("*.parquet")) == before


def test_high_cardinality_keys_make_a_file_each(client: Client) -> None:
    frame = pl.LazyFrame({"key": [i % 500 for i in range(2_000)], "v": range(2_000)})
    session = sink_deltacat(frame, "ns.t", planner=client, partition_by="key")
    assert session.files_registered == 500
    assert read_deltacat("ns.t", planner=client)["v"].sum() == sum(range(2_000))


_FEW_HANDLES = """
import resource, sys
import polars as pl
from deltacat_sources.polars import sink_deltacat

# Loaded before there is a limit: a table of one partition.
sink_deltacat(pl.LazyFrame({"key": [0]}), "ns.few", planner=sys.argv[1], partition_by="key")
resource.setrlimit(resource.RLIMIT_NOFILE, (220, 220))
frame = pl.LazyFrame({"key": [i % 600 for i in range(3_000)]})
print(sink_deltacat(frame, "ns.many", planner=sys.argv[1], partition_by="key").files_registered)
"""


def test_more_partitions_than_a_process_may_open_files_are_written(client: Client) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FEW_HANDLES, client.target],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 600
    assert read_deltacat("ns.many", planner=client).height == 3_000


def test_each_mode_means_what_it_says(client: Client) -> None:
    def ids(table: str) -> list[int]:
        return sorted(read_deltacat(f"ns.{table}", planner=client)["id"])

    one = pl.LazyFrame({"id": [1], "part": [1]})
    sink_deltacat(FRAME.lazy(), "ns.t", planner=client, mode="create", partition_by="part")
    with pytest.raises(AlreadyExistsError):
        sink_deltacat(one, "ns.t", planner=client, mode="create")
    for mode in ADDING:
        sink_deltacat(one, "ns.t", planner=client, mode=mode)
    assert ids("t") == [1, 1, 1, 1, 2, 3, 4]
    sink_deltacat(one, "ns.t", planner=client, mode="replace_partition")
    assert ids("t") == [1, 2, 4]
    sink_deltacat(one, "ns.t", planner=client, mode="replace")
    assert ids("t") == [1]
    sink_deltacat(FRAME.lazy(), "ns.k", planner=client, merge_keys="id")
    sink_deltacat(one.with_columns(part=9), "ns.k", planner=client, mode="merge")
    sink_deltacat(FRAME.lazy().filter(pl.col("id") > 2), "ns.k", planner=client, mode="delete")
    found = read_deltacat("ns.k", planner=client).sort("id")
    assert found.rows() == [(1, 9), (2, 2)]


def test_keys_are_deleted_from_a_table_that_is_sorted_by_another_column(client: Client) -> None:
    scheme = {"keys": [{"key": ["x"], "sort_order": "descending"}]}
    rows = pl.DataFrame({"id": [1, 2, 3], "x": [1, 2, 3]})
    write_deltacat(rows, "ns.k", planner=client, merge_keys="id", create={"sort_scheme": scheme})
    write_deltacat(pl.DataFrame({"id": [3]}), "ns.k", planner=client, mode="delete")
    client.catalog.write(pa.table({"id": [2]}), namespace="ns", table="k", mode="delete")
    assert read_deltacat("ns.k", planner=client).rows() == [(1, 1)]


@pytest.mark.parametrize("rows", [0, -1])
def test_a_file_holds_a_row_at_least(client: Client, rows: int) -> None:
    with pytest.raises(ValueError, match="give 1 or more"):
        write_deltacat(FRAME, "ns.t", planner=client, max_rows_per_file=rows)
