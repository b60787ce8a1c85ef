"""Is a plan's JSON, written column by column, what its objects would be written as?"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given

from io_core.model import ScanTask
from io_core.plan import FILE_COLUMNS, PlanHeader, ReadPlan, plan_to_wire
from io_core.plan_json import constant, delta_starts

# Any: one row of the files.
Row = dict[str, Any]
PLAIN: Row = {
    "path": "/root/data/t/a.parquet",
    "content_type": "parquet",
    "content_encoding": "identity",
    "content_length": 5,
    "record_count": 0,
    "delta_type": "add",
    "stream_position": 3,
    "partition_id": "p",
    "delete_columns": None,
    "schema_id": 0,
    "sort_scheme_id": None,
    "residual": True,
    "deletes": None,
}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "path": st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    "content_length": st.integers(0, 2**63 - 1),
    "record_count": st.integers(0, 2**40),
    "content_type": st.sampled_from(["parquet", "orc"]),
    "stream_position": st.integers(0, 3),
    "partition_id": st.sampled_from(["p", 'q"', "\u00e9"]),
    "delta_type": st.sampled_from(["add", "delete"]),
    "delete_columns": st.sampled_from([None, '["id"]']),
    "sort_scheme_id": st.sampled_from([None, "s"]),
    "deletes": st.sampled_from([None, b"", b"\x00\xff"]),
}
# Mostly files that differ in little, as in most plans.
ROWS = st.lists(st.sampled_from(sorted(FIELDS)), max_size=3).flatmap(
    lambda names: st.lists(st.fixed_dictionaries({n: FIELDS[n] for n in names}), max_size=6)
)


def plan_of(rows: list[Row]) -> ReadPlan:
    files = pa.Table.from_pylist([PLAIN | row for row in rows], schema=FILE_COLUMNS)
    return ReadPlan(PlanHeader(namespace="n", table="t"), files)


def written(plan: ReadPlan) -> list[ScanTask]:
    wire = msgspec.json.decode(plan_to_wire(plan), type=dict[str, msgspec.Raw])
    return msgspec.json.decode(wire["scan_tasks"], type=list[ScanTask])


@given(rows=ROWS)
def test_what_is_written_is_what_the_objects_say(rows: list[Row]) -> None:
    plan = plan_of(rows)
    assert written(plan) == plan.scan_tasks


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/a\nb", "/\u00e9\U0001f600", "/\x7f"])
def test_paths_of_any_characters_come_back(path: str) -> None:
    plan = plan_of([{"path": path}, {"path": "/b"}])
    assert [file.path for task in written(plan) for file in task.files] == [path, "/b"]


def test_a_slice_of_a_plan_is_written_as_such() -> None:
    plan = plan_of([{"path": '/"'}, {"path": "/b"}, {"path": "/c", "partition_id": "q"}])
    assert (
        written(plan.with_files(plan.files.slice(1)))
        == plan_of([{"path": "/b"}, {"path": "/c", "partition_id": "q"}]).scan_tasks
    )


def test_deltas_begin_where_one_of_their_fields_changes() -> None:
    rows: list[Row] = [
        {},
        {},
        {"stream_position": 4},
        {"partition_id": "q"},
        {"delete_columns": "[]"},
        {},
    ]
    assert delta_starts(plan_of(rows).files) == [0, 2, 3, 4, 5]
    assert delta_starts(plan_of([]).files) == []


def test_a_constant_column_is_told_from_others() -> None:
    assert constant(pa.chunked_array([[1, 1], [1]])) == (1,)
    assert constant(pa.chunked_array([[None, None]], pa.string())) == (None,)
    assert constant(pa.chunked_array([[1, None]])) is None
    assert constant(pa.chunked_array([["a", "b"]])) is None


def test_what_no_file_has_divides_no_tasks() -> None:
    unknown = dict.fromkeys(("partition_id", "stream_position", "delta_type", "delete_columns"))
    assert delta_starts(plan_of([unknown, unknown]).files) == [0]
