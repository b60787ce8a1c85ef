"""What does a published client read: every kind of result, filters, columns, plans and their pages?"""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from tests.compat.place import Place


def _two_files(at: Place) -> None:
    at.write(pa.table({"id": [1, 2, 3], "name": ["x", "y", None]}), "t")
    at.write(pa.table({"id": [4], "name": ["z"]}), "t")


ROWS = [
    {"id": 1, "name": "x"},
    {"id": 2, "name": "y"},
    {"id": 3, "name": None},
    {"id": 4, "name": "z"},
]


def as_an_arrow_table(at: Place) -> None:
    _two_files(at)
    assert isinstance(at.read("t"), pa.Table)
    assert at.rows("t") == ROWS


def as_a_pandas_frame(at: Place) -> None:
    _two_files(at)
    found = at.read("t", read_as="pandas").sort_values("id")
    assert found["id"].tolist() == [1, 2, 3, 4]
    assert found["name"].tolist() == ["x", "y", None, "z"]


def as_a_polars_frame(at: Place) -> None:
    _two_files(at)
    found = at.read("t", read_as="polars").lazy().sort("id").collect()
    assert found.to_dicts() == ROWS


def as_a_daft_frame(at: Place) -> None:
    _two_files(at)
    assert at.read("t", read_as="daft").sort("id").to_pylist() == ROWS


def as_a_numpy_array(at: Place) -> None:
    at.write(pa.table({"id": [1, 2], "n": [10, 20]}), "t")
    assert at.read("t", read_as="numpy").tolist() == [[1, 10], [2, 20]]


def as_a_parquet_file(at: Place) -> None:
    at.write(pa.table({"id": [1, 2]}), "t")
    found = at.read("t", read_as="pyarrow_parquet")
    assert isinstance(found, pq.ParquetFile)
    assert found.read().to_pydict() == {"id": [1, 2]}


def an_empty_table_has_its_columns(at: Place) -> None:
    at.create("t", [{"name": "id", "type": "int64"}, {"name": "name", "type": "string"}])
    found = at.read("t")
    assert (found.num_rows, found.column_names) == (0, ["id", "name"])


def a_filter_keeps_the_rows_that_match(at: Place) -> None:
    _two_files(at)
    for predicate, ids in (
        ({"eq": ["id", 4]}, [4]),
        ({"neq": ["id", 4]}, [1, 2, 3]),
        ({"gt": ["id", 2]}, [3, 4]),
        ({"gte": ["id", 2]}, [2, 3, 4]),
        ({"lt": ["name", "y"]}, [1]),
        ({"lte": ["name", "y"]}, [1, 2]),
        ({"in": ["name", ["x", "z"]]}, [1, 4]),
        ({"between": ["id", 2, 3]}, [2, 3]),
        ({"is_null": "name"}, [3]),
        ({"and": [{"gt": ["id", 1]}, {"lt": ["id", 4]}]}, [2, 3]),
        ({"or": [{"eq": ["id", 1]}, {"eq": ["id", 4]}]}, [1, 4]),
        ({"not": {"is_null": "name"}}, [1, 2, 4]),
        ({"gt": ["id", 99]}, []),
    ):
        found = [row["id"] for row in at.rows("t", filter_predicate=predicate)]
        assert found == ids, predicate


def a_filter_prunes_files_by_their_statistics(at: Place) -> None:
    _two_files(at)
    assert len(at.plan("t").all_files()) == 2
    plan = at.plan("t", filter_predicate={"gt": ["id", 3]})
    (file,) = plan.all_files()
    assert file.column_stats["id"] == {"min": 4, "max": 4, "null_count": 0}
    assert at.catalog.read(plan=plan).to_pydict() == {"id": [4], "name": ["z"]}


def a_filter_may_ask_for_what_is_not_read(at: Place) -> None:
    _two_files(at)
    found = at.read("t", columns=["name"], filter_predicate={"eq": ["id", 2]})
    assert found.to_pydict() == {"name": ["y"]}


def only_the_columns_that_were_asked_for(at: Place) -> None:
    _two_files(at)
    assert at.read("t", columns=["id"]).column_names == ["id"]
    assert at.read("t", columns=["name", "id"]).column_names == ["name", "id"]


def a_column_may_say_which_file_a_row_is_from(at: Place) -> None:
    _two_files(at)
    paths = {file.path for file in at.plan("t").all_files()}
    found = at.read("t", file_path_column="where")
    assert found.column_names == ["id", "name", "where"]
    assert set(found["where"].to_pylist()) == paths


def a_plan_is_read_again_and_again(at: Place) -> None:
    _two_files(at)
    plan = at.plan("t")
    at.write(pa.table({"id": [5], "name": ["later"]}), "t")
    for _ in range(2):
        assert sorted(at.catalog.read(plan=plan)["id"].to_pylist()) == [1, 2, 3, 4]


def a_plan_says_what_it_holds(at: Place) -> None:
    _two_files(at)
    plan = at.plan("t", include_stats=True)
    assert (plan.table, plan.namespace, plan.table_version) == ("t", at.namespace, "1")
    assert (plan.total_files, plan.total_records) == (2, 4)
    assert plan.total_bytes == sum(file.content_length for file in plan.all_files())
    assert plan.content_type == "parquet"
    assert not plan.requires_mor
    assert not plan.truncated
    assert plan.all_files()[0].column_stats["name"]["null_count"] == 1


def one_snapshot_has_one_fingerprint(at: Place) -> None:
    _two_files(at)
    found = at.plan("t").snapshot_id
    assert len(found) == 32
    assert at.plan("t", columns=["id"], limit=1).snapshot_id == found
    at.write(pa.table({"id": [5], "name": ["later"]}), "t")
    assert at.plan("t").snapshot_id != found


def a_plan_without_files_is_metadata_alone(at: Place) -> None:
    _two_files(at)
    plan = at.plan("t", include_files=False)
    assert plan.all_files() == []
    assert (plan.total_files, plan.total_records) == (2, 4)
    assert plan.snapshot_id == at.plan("t").snapshot_id


def a_plan_comes_in_pages_of_files(at: Place) -> None:
    for number in range(5):
        at.write(pa.table({"id": [number]}), "t")
    ids: list[int] = []
    offset: int | None = 0
    pages = 0
    while offset is not None:
        plan = at.plan("t", offset=offset, limit=2)
        assert plan.truncated == (plan.next_file_offset is not None)
        ids += at.catalog.read(plan=plan)["id"].to_pylist()
        offset = plan.next_file_offset
        pages += 1
    assert (sorted(ids), pages) == ([0, 1, 2, 3, 4], 3)


def a_read_limit_is_a_number_of_files(at: Place) -> None:
    at.write(pa.table({"id": [1, 2]}), "t")
    at.write(pa.table({"id": [3, 4]}), "t")
    assert at.read("t", limit=1).num_rows == 2


def _partitioned(at: Place) -> None:
    at.create(
        "t",
        [{"name": "id", "type": "int64"}, {"name": "day", "type": "int32"}],
        partition_scheme={"keys": [{"key": ["day"], "transform": "identity"}]},
    )
    days = pa.array([1, 2, 1], pa.int32())
    at.write(pa.table({"id": [1, 2, 3], "day": days}), "t", mode="add")


def partitions_are_summed_up(at: Place) -> None:
    _partitioned(at)
    found = at.plan("t").partition_summaries()
    assert sorted((p.partition_values, p.file_count, p.total_records) for p in found) == [
        ([1], 1, 2),
        ([2], 1, 1),
    ]


def a_partition_filter_leaves_the_others_out(at: Place) -> None:
    _partitioned(at)
    plan = at.plan("t", partition_filter=[{"partition_values": [1]}])
    assert sorted(at.catalog.read(plan=plan)["id"].to_pylist()) == [1, 3]
    (partition,) = {task.partition_id for task in plan.scan_tasks}
    again = at.plan("t", partition_filter=[{"partition_id": partition}])
    assert sorted(at.catalog.read(plan=again)["id"].to_pylist()) == [1, 3]


def a_filter_on_the_partition_column_prunes_partitions(at: Place) -> None:
    _partitioned(at)
    plan = at.plan("t", filter_predicate={"eq": ["day", 2]})
    assert [task.partition_values for task in plan.scan_tasks] == [[2]]
    assert [row["id"] for row in at.rows("t", filter_predicate={"eq": ["day", 2]})] == [2]


def a_sorted_table_is_read_in_the_order_of_its_statistics(at: Place) -> None:
    at.create(
        "t",
        [{"name": "id", "type": "int64"}],
        sort_scheme={"keys": [{"key": ["id"], "sort_order": "ascending"}]},
    )
    at.write(pa.table({"id": [5, 3]}), "t", mode="append")
    at.write(pa.table({"id": [2, 1]}), "t", mode="append")
    assert sorted(at.read("t")["id"].to_pylist()) == [1, 2, 3, 5]


def every_type_survives(at: Place) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 678901)
    table = pa.table(
        {
            "id": pa.array([1], pa.int8()),
            "truth": [True],
            "day": pa.array([dt.date(2024, 1, 2)]),
            "at": pa.array([moment], pa.timestamp("us")),
            "zoned": pa.array([moment], pa.timestamp("us", "UTC")),
            "time": pa.array([dt.time(1, 2, 3)], pa.time64("us")),
            "price": pa.array([decimal.Decimal("1.25")], pa.decimal128(9, 2)),
            "small": pa.array([1.5], pa.float32()),
            "list": [[1, 2]],
            "nested": [{"a": 1, "b": "x"}],
        }
    )
    at.write(table, "t")
    found = at.read("t")
    assert found.schema.remove_metadata() == table.schema
    assert found.to_pylist() == table.to_pylist()


def a_table_without_rows_in_a_file_is_read(at: Place) -> None:
    at.create("t", [{"name": "id", "type": "int64"}])
    at.write(pa.table({"id": pa.array([], pa.int64())}), "t", mode="add")
    assert at.rows("t") == []
