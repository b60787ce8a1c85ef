"""What does a published client write: every mode with its rejections, every input, inline rows?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

FIELDS: list[dict[str, object]] = [
    {"name": "id", "type": "int64"},
    {"name": "name", "type": "string"},
]
KEYED: list[dict[str, object]] = [
    {"name": "id", "type": "int64", "is_merge_key": True},
    {"name": "name", "type": "string"},
]
BY_DAY: dict[str, object] = {"keys": [{"key": ["day"], "transform": "identity"}]}


def _some(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "name": [f"n{number}" for number in ids]})


def _ids(at: Place, table: str = "t") -> list[int]:
    return [row["id"] for row in at.rows(table)]


def auto_creates_the_table_and_adds_to_it(at: Place) -> None:
    result = at.write(_some(1, 2), "t")
    assert (result.status, result.committed) == ("COMMITTED", True)
    assert (result.files_registered, result.total_records, result.deltas_written) == (1, 2, 1)
    at.write(_some(3), "t")
    assert _ids(at) == [1, 2, 3]
    assert [task.delta_type for task in at.plan("t").scan_tasks] == ["append", "add"]


def auto_creates_the_namespace_too(at: Place) -> None:
    at.catalog.write(_some(1), namespace="made_by_a_write", table="t")
    assert at.catalog.read(namespace="made_by_a_write", table="t").num_rows == 1


def auto_creates_what_it_is_told_to(at: Place) -> None:
    days = pa.table({"id": [1, 2], "day": pa.array([1, 2], pa.int32())})
    wanted = {"partition_scheme": BY_DAY, "table_properties": {"team": "vision"}}
    at.write(days, "t", create_if_missing=wanted)
    assert at.describe("t").table_properties == {"team": "vision"}
    assert sorted(task.partition_values for task in at.plan("t").scan_tasks) == [[1], [2]]


def equal_writes_in_a_row_are_two_writes(at: Place) -> None:
    at.write(_some(1), "t")
    for _ in range(3):
        at.write(_some(1), "t", mode="add")
    assert _ids(at) == [1, 1, 1, 1]


def create_makes_a_table_of_what_it_writes(at: Place) -> None:
    at.write(_some(1, 2), "t", mode="create")
    assert at.rows("t") == [{"id": 1, "name": "n1"}, {"id": 2, "name": "n2"}]
    with refused("already_exists", 409):
        at.write(_some(3), "t", mode="create")
    assert _ids(at) == [1, 2]


def modes_that_need_a_table_are_refused_without_one(at: Place) -> None:
    for mode in ("add", "append", "replace", "replace_partition", "merge", "delete"):
        with refused("not_found", 404):
            at.write(_some(1), "t", mode=mode)
    assert not at.catalog.table_exists(namespace=at.namespace, table="t")


def append_keeps_the_order_of_commits(at: Place) -> None:
    at.create("t", FIELDS)
    for number in (3, 1, 2):
        at.write(_some(number), "t", mode="append")
    assert at.read("t")["id"].to_pylist() == [3, 1, 2]


def replace_leaves_only_the_new_rows(at: Place) -> None:
    at.write(_some(1, 2), "t")
    at.write(_some(3), "t", mode="replace")
    assert _ids(at) == [3]


def replace_partition_leaves_the_siblings(at: Place) -> None:
    at.create(
        "t",
        [{"name": "id", "type": "int64"}, {"name": "day", "type": "int32"}],
        partition_scheme=BY_DAY,
    )
    days = pa.table({"id": [1, 2, 3], "day": pa.array([1, 2, 1], pa.int32())})
    at.write(days, "t", mode="add")
    at.write(pa.table({"id": [9], "day": pa.array([1], pa.int32())}), "t", mode="replace_partition")
    assert _ids(at) == [2, 9]


def replace_partition_needs_partitions(at: Place) -> None:
    at.write(_some(1), "t")
    with refused("schema_validation", 400):
        at.write(_some(2), "t", mode="replace_partition")
    assert _ids(at) == [1]


def add_and_append_are_refused_where_rows_have_keys(at: Place) -> None:
    at.create("t", KEYED)
    for mode in ("add", "append"):
        with refused("schema_validation", 400):
            at.write(_some(1), "t", mode=mode)


def merge_and_delete_are_refused_where_rows_have_no_keys(at: Place) -> None:
    at.write(_some(1), "t")
    for mode in ("merge", "delete"):
        with refused("schema_validation", 400):
            at.write(_some(1), "t", mode=mode)


def modes_and_formats_are_enumerations_too(at: Place) -> None:
    from deltacat_client import ContentType, WriteMode

    at.write(_some(1), "t", mode=WriteMode.AUTO, format=ContentType.PARQUET)
    at.write(_some(2), "t", mode=WriteMode.APPEND, format=ContentType.PARQUET)
    assert _ids(at) == [1, 2]


def a_column_of_another_type_is_cast(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(pa.table({"id": pa.array([1], pa.int16()), "name": ["a"]}), "t", mode="add")
    assert at.read("t").schema.field("id").type == pa.int64()
    assert _ids(at) == [1]


def a_missing_column_is_null(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(pa.table({"id": [1]}), "t", mode="add")
    assert at.rows("t") == [{"id": 1, "name": None}]


def a_pandas_frame(at: Place) -> None:
    import pandas as pd

    at.write(pd.DataFrame({"id": [1, 2], "name": ["a", None]}), "t")
    assert at.rows("t") == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]


def a_polars_frame(at: Place) -> None:
    import polars as pl

    at.write(pl.DataFrame({"id": [1, 2], "name": ["a", None]}), "t")
    assert at.rows("t") == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]


def a_daft_frame(at: Place) -> None:
    import daft

    at.write(daft.from_pydict({"id": [1, 2], "name": ["a", None]}), "t")
    assert at.rows("t") == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]


def a_numpy_array(at: Place) -> None:
    at.create("t", [{"name": "id", "type": "int64"}, {"name": "n", "type": "int64"}])
    at.write(np.array([[1, 10], [2, 20]]), "t", mode="add")
    assert at.rows("t") == [{"id": 1, "n": 10}, {"id": 2, "n": 20}]


def parquet_files_stay_where_they_are(at: Place) -> None:
    first, second = str(at.folder / "first.parquet"), str(at.folder / "second.parquet")
    pq.write_table(_some(1, 2), first)
    pq.write_table(_some(3), second)
    at.write(first, "t", create_if_missing={"schema": _some().schema})
    at.write([second], "t", mode="add")
    assert _ids(at) == [1, 2, 3]
    assert {file.path for file in at.plan("t").all_files()} == {first, second}


def rows_are_written_inline(at: Place) -> None:
    result = at.catalog.write_data(
        namespace=at.namespace, table="t", data={"id": [1, 2, 3], "name": ["x", "y", None]}
    )
    assert (result.written, result.records) == (True, 3)
    at.catalog.write_data(namespace=at.namespace, table="t", data={"id": [4], "name": ["z"]})
    assert at.rows("t") == [
        {"id": 1, "name": "x"},
        {"id": 2, "name": "y"},
        {"id": 3, "name": None},
        {"id": 4, "name": "z"},
    ]


def rows_are_merged_inline(at: Place) -> None:
    at.create("t", KEYED)
    for name in ("old", "new"):
        at.catalog.write_data(
            namespace=at.namespace, table="t", data={"id": [1], "name": [name]}, mode="merge"
        )
    assert at.rows("t") == [{"id": 1, "name": "new"}]


def rows_that_arrive_as_no_columns_are_refused(at: Place) -> None:
    # The clients turn a list of one row with two columns into {"id": "name"}.
    at.create("t", FIELDS)
    with refused("invalid_request", 400):
        at.catalog.write_data(namespace=at.namespace, table="t", data=[{"id": 1, "name": "x"}])
    assert at.rows("t") == []
