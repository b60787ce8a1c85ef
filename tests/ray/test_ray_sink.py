"""Does Ray Data write a table once, whole, in few files, and nothing where it may not?"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import ray
import ray.data
from ray.cloudpickle import dumps
from ray.data import DataContext
from ray.data.context import ShuffleStrategy
from ray.data.expressions import col

from deltacat_sources.ray import DeltaCatDatasink, write_deltacat
from deltacat_sources.ray.gathering import sorting_in_tasks
from io_core.errors import DeltaCATError, NotFoundError, SchemaValidationError
from io_core.model import TableRef
from tests.ray.tables import NUMBERS, SCHEMA, CountingClient, rows, table, write
from tests.same_rows import assert_same

if TYPE_CHECKING:
    from pathlib import Path

    from ray.data import Dataset

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


def blocks(data: pa.Table, size: int = 10) -> Dataset:
    """A dataset of the rows, `size` of them to a block."""
    return ray.data.from_arrow([data.slice(i, size) for i in range(0, len(data), size)])


def read(client: CountingClient, name: str) -> pa.Table:
    ref = TableRef.parse(name)
    return client.catalog.read(namespace=ref.namespace, table=ref.table)


def planned(client: CountingClient, name: str) -> Any:
    ref = TableRef.parse(name)
    return client.catalog.plan(namespace=ref.namespace, table=ref.table)


def test_importing_adds_the_writer_to_datasets() -> None:
    assert ray.data.Dataset.write_deltacat is write_deltacat


def test_a_dataset_makes_a_table_with_its_rows_in_one_commit_and_one_file(
    client: CountingClient,
) -> None:
    name = f"made{next(NUMBERS)}.t"
    session = write_deltacat(blocks(rows(0, 200)), name, planner=client)
    assert session is not None
    assert session.total_records == 200
    assert len(planned(client, name).paths) == session.files_registered == 1
    assert read(client, name).sort_by("id").to_pydict()["s"] == rows(0, 200).to_pydict()["s"]


def test_files_have_as_many_rows_as_they_should(client: CountingClient) -> None:
    name = table(client)
    write_deltacat(blocks(rows(0, 200)), name, planner=client, min_rows_per_file=50)
    counts = planned(client, name).column("record_count")
    assert sum(counts) == 200
    assert min(counts) >= 50


def test_rows_are_partitioned_sorted_and_described(client: CountingClient) -> None:
    scheme = {"keys": [{"key": ["part"], "transform": "identity"}]}
    order = {"keys": [{"key": ["id"], "sort_order": "descending"}]}
    name = table(client, partition_scheme=scheme, sort_scheme=order)
    write_deltacat(blocks(rows(0, 60)), name, planner=client)
    found = planned(client, name)
    assert sorted(v.as_py() for v in found.files["partition:0"]) == [0, 1, 2]
    assert [g["id"].to_pylist() for g in _by_part(read(client, name))] == [
        [i for i in reversed(range(60)) if i % 3 == part] for part in range(3)
    ]
    ref = TableRef.parse(name)
    pruned = client.catalog.plan(
        namespace=ref.namespace, table=ref.table, filter_predicate={"gt": ["id", 99]}
    )
    assert pruned.paths == []


@pytest.mark.parametrize("transform", ["identity", "bucket(3)", "truncate(7)"])
def test_a_partitions_rows_come_together_from_all_tasks(
    client: CountingClient, transform: str
) -> None:
    scheme = {"keys": [{"key": ["id"], "transform": transform}]}
    if transform == "identity":
        scheme = {"keys": [{"key": ["part"]}, {"key": ["s"]}]}
    order = {"keys": [{"key": ["x"], "sort_order": "descending"}]}
    name = table(client, partition_scheme=scheme, sort_scheme=order)
    data = rows(0, 400).set_column(3, SCHEMA.field("s"), pa.array([None, "a", None, "b"] * 100))
    dataset = blocks(data, 100)
    session = write_deltacat(dataset, name, planner=client, min_rows_per_file=100)
    assert session is not None
    partitions = len({str(row) for row in _partition_values(client, name)})
    assert partitions > 2
    # Of four tasks, each begins and ends within a partition.
    assert session.files_registered is not None
    assert session.files_registered <= partitions + 4
    assert_same(read(client, name).sort_by("id"), data)
    spread = write_deltacat(
        dataset, name, planner=client, min_rows_per_file=100, gather=False, mode="replace"
    )
    assert spread is not None
    assert spread.files_registered is not None
    assert spread.files_registered >= session.files_registered
    assert_same(read(client, name).sort_by("id"), data)


def _partition_values(client: CountingClient, name: str) -> list[Any]:
    files = planned(client, name).files
    columns = [c for c in files.column_names if c.startswith("partition:")]
    return list(files.select(columns).to_pylist())


def test_a_partitioned_table_is_made_of_gathered_rows(client: CountingClient) -> None:
    name = f"made{next(NUMBERS)}.t"
    data = rows(0, 200)
    session = write_deltacat(
        blocks(data, 50), name, planner=client, partition_by="part", min_rows_per_file=50
    )
    assert session is not None
    assert session.files_registered is not None
    assert session.files_registered <= 3 + 4
    assert_same(read(client, name).sort_by("id"), data)
    empty = blocks(data, 100).filter(expr=col("id") < 0)
    assert write_deltacat(empty, name, planner=client) is None


@pytest.mark.parametrize(
    ("chosen", "used"),
    [
        (ShuffleStrategy.SHUFFLE_V2, ShuffleStrategy.SORT_SHUFFLE_PULL_BASED),
        (ShuffleStrategy.SORT_SHUFFLE_PUSH_BASED, ShuffleStrategy.SORT_SHUFFLE_PUSH_BASED),
    ],
)
def test_rows_are_sorted_in_tasks_unless_another_way_is_chosen(
    chosen: ShuffleStrategy, used: ShuffleStrategy
) -> None:
    context = DataContext()
    context.shuffle_strategy = chosen
    with sorting_in_tasks(context):
        assert context.shuffle_strategy == used
    assert context.shuffle_strategy == chosen


def test_rows_of_a_keyed_table_keep_their_order(client: CountingClient) -> None:
    scheme = {"keys": [{"key": ["part"], "transform": "identity"}]}
    name = table(client, merge_keys=["id"], partition_scheme=scheme)
    older, newer = rows(0, 30), rows(0, 30).set_column(3, SCHEMA.field("s"), pa.array(["new"] * 30))
    write_deltacat(blocks(pa.concat_tables([older, newer]), 60), name, planner=client)
    assert set(read(client, name)["s"].to_pylist()) == {"new"}


def test_columns_that_partition_but_do_not_fit_are_refused(client: CountingClient) -> None:
    scheme = {"keys": [{"key": ["part"], "transform": "identity"}]}
    name = table(client, partition_scheme=scheme)
    wrong = pa.table({"id": [1, 2], "part": ["x", "y"]})
    with pytest.raises(SchemaValidationError, match="'part'"):
        write_deltacat(blocks(wrong), name, planner=client)
    lacking = pa.table({"id": [1, 2]})
    write_deltacat(blocks(lacking), name, planner=client)
    assert read(client, name)["part"].to_pylist() == [None, None]


def _by_part(data: pa.Table) -> list[pa.Table]:
    import pyarrow.compute as pc

    return [data.filter(pc.field("part") == part) for part in range(3)]


def test_later_rows_of_a_key_replace_earlier_ones(client: CountingClient) -> None:
    name = table(client, rows(0, 30), merge_keys=["id"])
    newer = rows(10, 20).set_column(3, SCHEMA.field("s"), pa.array(["new"] * 10))
    write_deltacat(blocks(newer), name, planner=client)
    found = read(client, name).sort_by("id")
    assert found["id"].to_pylist() == list(range(30))
    assert found["s"].to_pylist()[10:20] == ["new"] * 10
    write_deltacat(blocks(pa.table({"id": [1, 2]})), name, planner=client, mode="delete")
    assert read(client, name)["id"].to_pylist().count(1) == 0


def test_a_dataset_replaces_a_tables_rows(client: CountingClient) -> None:
    name = table(client, rows(0, 30))
    write_deltacat(blocks(rows(50, 60)), name, planner=client, mode="replace")
    assert sorted(read(client, name)["id"].to_pylist()) == list(range(50, 60))


def test_pandas_blocks_and_new_columns_fit(client: CountingClient) -> None:
    name = f"made{next(NUMBERS)}.t"
    dataset = ray.data.from_items([{"id": i, "s": f"s{i}"} for i in range(20)])
    doubled = dataset.map_batches(lambda b: b.assign(y=b["id"] * 2), batch_format="pandas")
    write_deltacat(doubled, name, planner=client)
    found = read(client, name).sort_by("id")
    assert found.column_names == ["id", "s", "y"]
    assert found["y"].to_pylist() == [2 * i for i in range(20)]


def test_what_is_read_can_be_written(client: CountingClient) -> None:
    source, name = table(client, rows(0, 95)), f"made{next(NUMBERS)}.t"
    write_deltacat(ray.data.read_deltacat(source, planner=client), name, planner=client)
    assert_same(read(client, name).sort_by("id"), rows(0, 95))


@pytest.mark.parametrize("mode", ["auto", "append", "replace"])
def test_an_empty_dataset_commits_nothing(client: CountingClient, mode: Any) -> None:
    name = table(client, rows(0, 10))
    before = planned(client, name).snapshot
    for empty in (ray.data.range(0), blocks(rows(0, 10)).filter(expr=col("id") < 0)):
        assert write_deltacat(empty, name, planner=client, mode=mode) is None
    assert planned(client, name).snapshot == before
    assert read(client, name).num_rows == 10
    write_deltacat(ray.data.range(0), "nowhere.t", planner=client)
    with pytest.raises(NotFoundError):
        planned(client, "nowhere.t")


def test_a_task_gets_as_many_bytes_as_it_should(client: CountingClient) -> None:
    name = table(client)
    size = rows(0, 10).nbytes
    write_deltacat(blocks(rows(0, 200)), name, planner=client, min_bytes=5 * size)
    assert 2 <= len(planned(client, name).paths) <= 5
    write_deltacat(blocks(rows(0, 200)), name, planner=client, mode="replace", max_rows_per_file=30)
    assert max(planned(client, name).column("record_count")) <= 30


def test_rows_that_are_not_staged_are_missed(client: CountingClient) -> None:
    name = table(client, rows(0, 5))
    sink = DeltaCatDatasink(name, planner=client)
    sink.on_write_start(SCHEMA)
    written = sink.write([rows(10, 20)], _Task(0))
    with pytest.raises(DeltaCATError, match="10 rows of 11 were staged"):
        sink.on_write_complete(_Result([written], 11))
    sink.on_write_failed(ValueError("rows are missing"))
    assert read(client, name).num_rows == 5


def test_a_write_that_fails_closes_its_session_and_leaves_no_file(
    client: CountingClient, root: Path
) -> None:
    name = table(client, rows(0, 5))
    before = {p for p in (root / "data").rglob("*") if p.is_file()}
    sink = DeltaCatDatasink(name, planner=client)
    sink.on_write_start(SCHEMA)
    session = sink._session
    written = sink.write([rows(10, 20)], _Task(0))
    sink.on_write_failed(ValueError("enough"))
    assert {p for p in (root / "data").rglob("*") if p.is_file()} == before
    assert session is not None
    with pytest.raises(DeltaCATError, match="is ABORTED"):
        client.commit(session=session, entries=written.entries)


def test_blocks_that_may_fail_are_refused(client: CountingClient) -> None:
    name = table(client, rows(0, 10))
    dataset = blocks(rows(10, 30))
    dataset.context.max_errored_blocks = -1
    with pytest.raises(ValueError, match="max_errored_blocks is -1"):
        write_deltacat(dataset, name, planner=client)
    with pytest.raises(ValueError, match="max_errored_blocks is -1"):
        dataset.write_datasink(DeltaCatDatasink(name, planner=client))
    assert read(client, name).num_rows == 10


def test_a_task_that_fails_leaves_no_row_and_no_file(client: CountingClient, root: Path) -> None:
    name = table(client, rows(0, 10))
    before = {p for p in (root / "data").rglob("*") if p.is_file()}

    def broken(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == 77:
            raise ArithmeticError("row 77")
        return row

    with pytest.raises(Exception, match="row 77"):
        write_deltacat(blocks(rows(10, 200)).map(broken), name, planner=client, min_rows_per_file=1)
    assert read(client, name).num_rows == 10
    assert {p for p in (root / "data").rglob("*") if p.is_file()} == before


def test_rows_that_do_not_fit_are_refused(client: CountingClient) -> None:
    name = table(client, rows(0, 10))
    with pytest.raises(SchemaValidationError, match="'id'"):
        write_deltacat(blocks(pa.table({"id": ["x"]})), name, planner=client)
    with pytest.raises(SchemaValidationError, match="merge keys"):
        write_deltacat(blocks(rows(0, 5)), name, planner=client, merge_keys="id")
    with pytest.raises(NotFoundError):
        write_deltacat(blocks(rows(0, 5)), "ns.absent", planner=client, mode="append")
    assert read(client, name).num_rows == 10


def test_a_transaction_takes_the_rows_in(client: CountingClient) -> None:
    name = table(client, rows(0, 10))
    with client.transaction():
        write_deltacat(blocks(rows(10, 30)), name, planner=client)
        assert read(client, name).num_rows == 30
        assert ray.data.read_deltacat(name, planner=client).count() == 30
        assert read(CountingClient(client.target), name).num_rows == 10
    assert read(client, name).num_rows == 30


def test_the_planner_does_not_travel_to_workers(client: CountingClient) -> None:
    sink = DeltaCatDatasink(table(client), planner=client)
    sink.on_write_start(SCHEMA)
    raw = dumps(sink)
    assert b"Client" not in raw
    again = pickle.loads(raw)
    with pytest.raises(Exception, match="only the one that was made"):
        again.on_write_start(SCHEMA)
    sink.on_write_failed(ValueError("enough"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_rows_per_file": 5, "min_bytes": 5}, "give one of them"),
        ({"min_rows_per_file": 0}, "min_rows_per_file is 0"),
        ({"min_bytes": -1}, "min_bytes is -1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(
    client: CountingClient, options: dict[str, int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        DeltaCatDatasink("ns.t", planner=client, **options)  # type: ignore[arg-type]


def test_a_file_written_by_a_task_that_returned_nothing_is_not_committed(
    client: CountingClient,
) -> None:
    name = table(client)
    write(client, name, rows(0, 5))
    sink = DeltaCatDatasink(name, planner=client)
    sink.on_write_start(SCHEMA)
    first, second = (sink.write([rows(10, 20)], _Task(index)) for index in (1, 0))
    assert {e.path for e in first.entries}.isdisjoint(e.path for e in second.entries)
    sink.on_write_complete(_Result([second], 10))
    assert read(client, name).num_rows == 15


class _Task:
    def __init__(self, index: int) -> None:
        self.task_idx = index


class _Result:
    def __init__(self, returns: list[Any], rows: int) -> None:
        self.write_returns, self.num_rows = returns, rows
