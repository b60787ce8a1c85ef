"""How are files packed into tasks, and does every way of dividing them give the same rows?"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from ray.data import DataContext
from ray.data.expressions import col

import deltacat_sources.ray.tasks
from deltacat_sources.ray import DeltaCatDatasource
from docs.demo.opened import OpenedFiles
from io_core.errors import DataFileError
from io_core.formats import FileRef, read_batches
from io_core.formats.parquet import entry_of
from io_core.model import TableRef
from io_core.plan import ReadPlan
from io_core.schema import decode_schema
from io_core.storage import Storage, persist
from planner_client import Client
from tests.ray.tables import SCHEMA, CountingClient, ids, rows, table, write

if TYPE_CHECKING:
    from tests.object_store.store import ObjectStore

CONTEXT = DataContext.get_current()


def tasks_of(source: DeltaCatDatasource, parallelism: int = 8) -> list[Any]:
    return list(source.get_read_tasks(parallelism, data_context=CONTEXT))


def read(source: DeltaCatDatasource, parallelism: int = 8) -> pa.Table:
    return pa.concat_tables(block for task in tasks_of(source, parallelism) for block in task())


def write_wide(client: CountingClient, groups: list[int], **definition: Any) -> str:
    """A table of one file, with row groups of so many rows."""
    name = table(client, **definition)
    ref = TableRef.parse(name)
    session = client.stage(namespace=ref.namespace, table=ref.table, mode="auto")
    Path(session.data_dir).mkdir(parents=True)
    path = f"{session.data_dir}/wide.parquet"
    with pq.ParquetWriter(path, SCHEMA) as writer:
        start = 0
        for count in groups:
            writer.write_table(rows(start, start + count))
            start += count
    persist([path])
    schema = decode_schema(session.schema_serialized or "")
    client.commit(session=session, entries=[entry_of(path, schema)])
    return name


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some hundred rows are larger than a task, and are divided anywhere."""
    monkeypatch.setattr(deltacat_sources.ray.tasks, "_TARGET_BYTES", 2_000)
    monkeypatch.setattr(deltacat_sources.ray.tasks, "_LEAST_BYTES", 2_000)
    monkeypatch.setattr(deltacat_sources.ray.tasks, "ROW_GROUP_ROWS", 7)


@pytest.mark.usefixtures("small")
def test_a_large_file_is_read_by_several_tasks_in_order(client: CountingClient) -> None:
    name = write_wide(client, [100, 3, 250, 47])
    source = DeltaCatDatasource(name, planner=client)
    tasks = tasks_of(source)
    assert len(tasks) > 4
    assert read(source)["id"].to_pylist() == list(range(400))
    assert [task.metadata.num_rows for task in tasks] == [
        sum(block.num_rows for block in task()) for task in tasks
    ]
    assert len(tasks_of(source, 1)) == 1
    filtered = source.apply_predicate(col("id") >= 333)
    assert isinstance(filtered, DeltaCatDatasource)
    assert ids(read(filtered)) == list(range(333, 400))
    assert read(source.apply_projection({})).num_rows == 400
    assert read(DeltaCatDatasource(name, planner=client, limit=120)).num_rows == 120


@given(
    groups=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    ends=st.tuples(st.integers(0, 180), st.integers(0, 180)),
    names=st.sampled_from([["id"], ["s", "x"], []]),
)
def test_any_rows_of_a_file_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], ends: tuple[int, int], names: Any
) -> None:
    total = sum(groups)
    start, stop = sorted(min(end, total) for end in ends)
    path = str(tmp_path_factory.mktemp("rows") / "a.parquet")
    with pq.ParquetWriter(path, SCHEMA) as writer:
        done = 0
        for count in groups:
            writer.write_table(rows(done, done + count))
            done += count
    file = FileRef(path, records=total, rows=range(start, stop))
    pieces = list(read_batches(file, names))
    assert sum(piece.num_rows for piece in pieces) == stop - start
    if "id" in names:
        assert pa.concat_tables(pieces)["id"].to_pylist() == list(range(start, stop))


def keyed(client: CountingClient) -> tuple[str, list[int]]:
    """A table of one partition whose dead rows are known, and the keys that live."""
    name = table(client, rows(0, 60), merge_keys=["id"])
    ref = TableRef.parse(name)
    write(client, name, rows(5, 25))
    write(client, name, pa.table({"id": [3, 11, 59]}), mode="delete")
    plan = client.catalog.plan(namespace=ref.namespace, table=ref.table, delete_sets=True)
    sets = plan.column("deletes")
    assert any(sets), "the planner is to know which rows are dead"
    return name, [i for i in range(60) if i not in (3, 11, 59)]


def test_files_whose_dead_rows_are_known_are_read_one_by_one_and_counted_unopened(
    client: CountingClient, root: Path
) -> None:
    name, living = keyed(client)
    source = DeltaCatDatasource(name, planner=client)
    tasks = tasks_of(source, 50)
    assert len(tasks) > 1
    assert ids(read(source, 50)) == living
    with OpenedFiles(root / "data") as watch:
        assert sum(task.metadata.num_rows for task in tasks) == len(living)
        assert read(source.apply_projection({})).num_rows == len(living)
        assert watch.paths() == []
        assert read(DeltaCatDatasource(name, planner=client, limit=4)).num_rows == 4
        assert len(watch.paths()) == 1


@pytest.mark.usefixtures("small")
def test_a_large_file_with_dead_rows_is_divided(client: CountingClient) -> None:
    name = write_wide(client, [200, 200], merge_keys=["id"])
    write(client, name, pa.table({"id": list(range(0, 400, 3))}), mode="delete")
    source = DeltaCatDatasource(name, planner=client)
    tasks = tasks_of(source)
    living = [i for i in range(400) if i % 3]
    assert len(tasks) > 4
    assert read(source)["id"].to_pylist() == living
    counts = [task.metadata.num_rows for task in tasks]
    assert counts == [sum(block.num_rows for block in task()) for task in tasks]
    assert sum(counts) == len(living)


def test_parts_of_other_formats_are_refused(tmp_path: Path) -> None:
    file = FileRef(str(tmp_path / "a.csv"), "csv", rows=range(3))
    with pytest.raises(NotImplementedError, match=r"a\.csv can only be read from its first row"):
        list(read_batches(file))


def test_a_plan_is_read_without_a_planner(client: CountingClient) -> None:
    name = table(client, rows(0, 60))
    ref = TableRef.parse(name)
    plan = client.catalog.plan(
        namespace=ref.namespace, table=ref.table, filter_predicate={"lt": ["id", 15]}
    )
    assert ids(read(DeltaCatDatasource(name, plan=plan))) == list(range(20))
    # The plan was proven for another predicate than this.
    source = DeltaCatDatasource(name, plan=plan, predicate={"gt": ["id", 3]}, columns=["id"])
    assert ids(read(source)) == list(range(4, 20))
    assert ids(read(DeltaCatDatasource(name, plan=plan, limit=7))) == list(range(7))
    filtered = source.apply_predicate(col("id") < 6)
    assert isinstance(filtered, DeltaCatDatasource)
    assert ids(read(filtered)) == [4, 5]
    with pytest.raises(ValueError, match="leave out planner"):
        DeltaCatDatasource(name, plan=plan, planner=client)
    with pytest.raises(ValueError, match="of another table"):
        DeltaCatDatasource("ns.other", plan=plan)


def test_a_transaction_and_changes_are_shown(client: CountingClient) -> None:
    name = table(client, rows(0, 20))
    snapshot = DeltaCatDatasource(name, planner=client).reading.header.snapshot
    transaction = client.transaction()
    source = DeltaCatDatasource(name, planner=client, transaction=transaction)
    assert ids(read(source)) == list(range(20))
    client.catalog.write(
        rows(20, 30), namespace="ns", table=TableRef.parse(name).table, transaction=transaction
    )
    assert ids(read(source)) == list(range(30))
    assert ids(read(DeltaCatDatasource(name, planner=client))) == list(range(20))
    transaction.commit()
    changed = DeltaCatDatasource(name, planner=client, changes_since=snapshot)
    assert ids(read(changed)) == list(range(20, 30))


def test_older_files_show_the_columns_names_and_types_of_now(client: CountingClient) -> None:
    name = table(client, rows(0, 20))
    ref = TableRef.parse(name)
    client.catalog.alter_table(
        namespace=ref.namespace,
        table=ref.table,
        schema_updates={
            "operations": [{"op": "rename", "field_locator": "part", "new_name": "third"}]
        },
    )
    source = DeltaCatDatasource(name, planner=client)
    assert read(source)["third"].to_pylist() == [i % 3 for i in range(20)]
    filtered = source.apply_predicate(col("third") == 1)
    assert isinstance(filtered, DeltaCatDatasource)
    assert ids(read(filtered)) == [i for i in range(20) if i % 3 == 1]


@pytest.mark.parametrize("content_type", ["feather", "orc", "avro", "lance"])
def test_every_format_is_read(client: CountingClient, content_type: str) -> None:
    name = table(client)
    ref = TableRef.parse(name)
    client.catalog.write(
        rows(0, 25), namespace=ref.namespace, table=ref.table, format=content_type,
        max_rows_per_file=10,
    )  # fmt: skip
    source = DeltaCatDatasource(name, planner=client)
    assert ids(read(source)) == list(range(25))
    filtered = source.apply_predicate(col("id") > 21).apply_projection({"s": "s"})
    assert read(filtered)["s"].to_pylist() == ["s22", "s23", "s24"]


class Watched(Storage, frozen=True):
    """Remembers which threads open files."""

    def open_input(self, location: str) -> pa.NativeFile:
        OPENING.append(threading.current_thread())
        if GONE in location:
            raise FileNotFoundError(location)
        return super().open_input(location)


OPENING: list[threading.Thread] = []
GONE = "gone"


def on_s3(client: Client, name: str) -> DeltaCatDatasource:
    ref = TableRef.parse(name)
    plan = client.catalog.plan(namespace=ref.namespace, table=ref.table)
    OPENING.clear()
    told = ReadPlan(plan.header, plan.files, Watched(plan.storage.stores))
    return DeltaCatDatasource(name, plan=told)


@pytest.fixture
def s3_client(tmp_path: Path, object_store: ObjectStore) -> Client:
    bucket, settings = object_store.bucket(), object_store.settings
    return Client(tmp_path / "s3", data_root=bucket, s3=settings)


def test_no_interrupt_of_a_task_meets_what_reads_s3(s3_client: Client) -> None:
    name = table(s3_client, rows(0, 30))
    assert ids(read(on_s3(s3_client, name), 1)) == list(range(30))
    assert OPENING
    assert threading.main_thread() not in OPENING


def test_a_task_that_is_stopped_early_on_s3_stops_reading(s3_client: Client) -> None:
    name = table(s3_client, rows(0, 10))
    for start in (10, 20):
        write(s3_client, name, rows(start, start + 10))
    (task,) = tasks_of(on_s3(s3_client, name), 1)
    blocks = iter(task())
    assert next(blocks).num_rows == 10
    (reader,) = {each for each in OPENING if each.is_alive()}
    blocks.close()
    reader.join(30)
    assert not reader.is_alive()
    assert len(OPENING) == 1


def test_what_a_task_finds_wrong_on_s3_is_raised_by_the_task(
    s3_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = table(s3_client, rows(0, 10))
    source = on_s3(s3_client, name)
    monkeypatch.setattr("tests.ray.test_ray_tasks.GONE", "parquet")
    with pytest.raises(DataFileError, match="parquet"):
        read(source, 1)


def test_what_was_pushed_and_how_tasks_are_packed_is_said(client: CountingClient) -> None:
    name = table(client, rows(0, 200))
    source = DeltaCatDatasource(name, planner=client, columns=["id", "s"])
    filtered = source.apply_predicate((col("id") < 45) & (col("id") + 1 > 3))
    assert isinstance(filtered, DeltaCatDatasource)
    said = repr(filtered.explain())
    assert "{'lt': ['id', 45]}; tasks filter by Ray's own expression" in said
    assert "columns: 2 of 4: id, s" in said
    assert "to read: 5 files" in said
    assert "rows known beforehand: 0 in 0 tasks" in said
    assert "rows known beforehand: 200" in repr(source.explain())
