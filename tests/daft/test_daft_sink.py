"""Whether Daft writes a table whole: few files, the table's layout, one commit or none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daft import col

from deltacat_sources.daft import read_deltacat, write_deltacat
from io_core.errors import NotFoundError, SchemaValidationError
from io_core.model import TableRef
from io_core.scan import Scan
from io_core.schema import field_id
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


def frame(rows: int = 6) -> daft.DataFrame:
    ids = list(range(rows))
    return daft.from_pydict(
        {"id": ids, "month": [i % 3 for i in ids], "x": [i / 2 for i in ids], "s": ["a"] * rows}
    )


def shown(client: Client, table: str = "ns.t") -> list[dict[str, Any]]:
    return list(read_deltacat(table, planner=client).sort("id").to_pylist())


def test_rows_come_back_as_they_were_written(client: Client) -> None:
    written = write_deltacat(frame(), "ns.t", planner=client)
    assert (written.files_registered, written.total_records) == (1, 6)
    assert shown(client) == frame().to_pylist()


def test_frames_have_the_method(client: Client) -> None:
    frame().write_deltacat("ns.t", planner=client)
    assert len(shown(client)) == 6


def test_a_file_carries_field_ids_and_statistics(client: Client) -> None:
    write_deltacat(frame(), "ns.t", planner=client)
    scan = Scan(TableRef.parse("ns.t"), client, include_column_stats=True)
    (file,) = scan.plan().all_files()
    assert file.column_stats is not None
    assert (file.column_stats["id"].min, file.column_stats["id"].max) == (0, 5)
    assert file.column_stats["x"].nan_count == 0
    assert all(field_id(field) is not None for field in pq.read_schema(file.path))


def test_many_input_files_become_few(client: Client, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "in")
    for i in range(100):
        pq.write_table(
            pa.table({"id": range(i * 10, i * 10 + 10)}), tmp_path / f"in/{i:03}.parquet"
        )
    source = daft.read_parquet(str(tmp_path / "in/*.parquet"))
    written = write_deltacat(source, "ns.t", planner=client)
    assert (written.files_registered, written.total_records) == (1, 1000)
    assert [row["id"] for row in shown(client)] == list(range(1000))


def test_files_roll_by_rows(client: Client) -> None:
    written = write_deltacat(frame(10), "ns.t", planner=client, max_rows_per_file=4)
    assert written.files_registered == 3
    plan = client.catalog.plan(namespace="ns", table="t")
    assert plan.column("record_count") == [4, 4, 2]


def test_files_are_partitioned_and_sorted_as_the_table_is(client: Client) -> None:
    client.catalog.create_table(
        namespace="ns",
        table="t",
        schema=pa.schema([("id", pa.int64()), ("month", pa.int32()), ("x", pa.float64())]),
        partition_scheme={"keys": [{"key": ["month"], "transform": "identity"}]},
        sort_scheme={"keys": [{"key": ["id"], "sort_order": "descending"}]},
        auto_create_namespace=True,
    )
    written = write_deltacat(frame().exclude("s"), "ns.t", planner=client)
    assert written.files_registered == 3
    for path in client.catalog.plan(namespace="ns", table="t").paths:
        found = pq.read_table(path)
        assert len(set(found["month"].to_pylist())) == 1
        assert found["id"].to_pylist() == sorted(found["id"].to_pylist(), reverse=True)
    assert read_deltacat("ns.t", planner=client).where(col("month") == 1).count_rows() == 2


def test_rows_of_one_key_merge_and_the_last_one_wins(client: Client) -> None:
    write_deltacat(frame(), "ns.t", planner=client, merge_keys=["id"])
    later = daft.from_pydict({"id": [2, 2], "month": [9, 8], "x": [0.0, 1.0], "s": ["b", "c"]})
    write_deltacat(later, "ns.t", planner=client)
    assert shown(client)[2] == {"id": 2, "month": 8, "x": 1.0, "s": "c"}
    write_deltacat(daft.from_pydict({"id": [0, 1]}), "ns.t", planner=client, mode="delete")
    assert [row["id"] for row in shown(client)] == [2, 3, 4, 5]


def test_a_replacement_leaves_its_rows_alone(client: Client) -> None:
    write_deltacat(frame(), "ns.t", planner=client)
    write_deltacat(frame(2), "ns.t", planner=client, mode="replace")
    assert len(shown(client)) == 2


def test_a_frame_of_no_rows_makes_an_empty_table(client: Client) -> None:
    written = write_deltacat(frame().where(col("id") < 0), "ns.t", planner=client)
    assert written.total_records == 0
    assert shown(client) == []


def test_an_open_transaction_shows_its_rows_alone(client: Client) -> None:
    write_deltacat(frame(2), "ns.t", planner=client)
    with client.catalog.transaction() as transaction:
        write_deltacat(frame(), "ns.t", planner=client, transaction=transaction, mode="replace")
        assert read_deltacat("ns.t", planner=client, transaction=transaction).count_rows() == 6
        assert len(shown(Client(client.target))) == 2
    assert len(shown(client)) == 6


def test_changes_are_what_was_added_since(client: Client) -> None:
    first = write_deltacat(frame(2), "ns.t", planner=client)
    write_deltacat(frame(3), "ns.t", planner=client)
    changes = read_deltacat("ns.t", planner=client, changes_since=first.snapshot)
    assert changes.count_rows() == 3


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"id": [1], "other": [1]}, "other"),
        ({"id": ["a"], "month": [1], "x": [1.0], "s": ["a"]}, "id"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_stays(
    client: Client, data: dict[str, list[Any]], match: str
) -> None:
    client.catalog.create_table(
        namespace="ns",
        table="t",
        schema=pa.schema([("id", pa.int64()), ("month", pa.int64())]),
        auto_create_namespace=True,
        table_properties={"schema_evolution_mode": "manual"},
    )
    with pytest.raises(SchemaValidationError, match=match):
        write_deltacat(daft.from_pydict(data), "ns.t", planner=client)
    assert shown(client) == []


def test_an_error_of_the_query_aborts_and_leaves_no_file(client: Client, tmp_path: Path) -> None:
    write_deltacat(frame(), "ns.t", planner=client)
    before = files_below(tmp_path)

    @daft.func
    def broken(x: int) -> int:
        raise RuntimeError(f"no {x}")

    with pytest.raises(Exception, match="no 0"):
        write_deltacat(frame().with_column("id", broken(col("id"))), "ns.t", planner=client)
    assert files_below(tmp_path) == before
    assert len(shown(client)) == 6


def files_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*.parquet")}


def test_another_layout_than_the_tables_is_refused(client: Client) -> None:
    write_deltacat(frame(), "ns.t", planner=client)
    with pytest.raises(SchemaValidationError, match="leave partition_by out"):
        write_deltacat(frame(), "ns.t", planner=client, partition_by="month")


def test_a_table_that_is_not_there_is_made_only_if_wanted(client: Client) -> None:
    client.catalog.create_namespace(namespace="ns")
    with pytest.raises(NotFoundError):
        write_deltacat(frame(), "ns.t", planner=client, create=False)
