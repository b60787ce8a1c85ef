"""Does a plan travel unchanged, and tell what is to be read?"""

from __future__ import annotations

import pickle
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest

from io_core.errors import UnsupportedError
from io_core.execute import read_plan
from io_core.model import UNSORTED_ID, WriteEntry
from io_core.plan import (
    FILE_COLUMNS,
    PartitionSummary,
    ReadPlan,
    plan_from_ipc,
    plan_from_wire,
    plan_to_ipc,
    plan_to_wire,
)
from planner_client import Client
from tests.strategies import TYPES

if TYPE_CHECKING:
    from pathlib import Path

NAN = float("nan")
# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
# Every type of column in one table.
SCHEMA = pa.schema(
    [("id", pa.int64()), ("p", pa.string()), *((f"c{i}", t) for i, t in enumerate(TYPES))]
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A keyed, partitioned table of three commits: two upserts and a delete."""
    found = Client(tmp_path_factory.mktemp("plans") / "catalog")
    found.catalog.create_table(
        **WHERE,
        schema=SCHEMA,
        merge_keys=["id"],
        partition_scheme={"keys": [{"key": ["p"]}]},
        auto_create_namespace=True,
    )
    nulls = [pa.nulls(4, f.type) for f in SCHEMA][2:]
    first = pa.table(
        [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "a", None]), *nulls], schema=SCHEMA
    )
    found.catalog.write(first, **WHERE, max_rows_per_file=1)
    found.catalog.write(first.slice(1, 1), **WHERE)
    found.catalog.write(pa.table({"id": [1], "p": ["a"]}), **WHERE, mode="delete")
    return found


@pytest.fixture
def plan(client: Client) -> ReadPlan:
    return client.catalog.plan(**WHERE, include_stats=True)


def test_a_plan_survives_an_arrow_stream_and_pickling(plan: ReadPlan) -> None:
    assert plan_from_ipc(plan_to_ipc(plan)) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.schema.names == SCHEMA.names


def test_a_plan_survives_json_but_for_its_residuals(plan: ReadPlan) -> None:
    again = plan_from_wire(plan_to_wire(plan))
    assert again.header == plan.header
    assert again.scan_tasks == plan.scan_tasks
    assert again.column("residual") == [True] * len(plan.paths)
    names = [n for n in plan.files.column_names if n != "residual"]
    assert set(again.files.column_names) == {*names, "residual"}
    assert again.files.select(names).equals(plan.files.select(names))


def test_an_empty_plan_survives_both_ways(client: Client) -> None:
    empty = client.catalog.plan(**WHERE, filter_predicate={"eq": ["id", 99]})
    assert empty.paths == []
    assert list(empty.groups()) == []
    assert plan_from_ipc(plan_to_ipc(empty)) == empty
    assert plan_from_wire(plan_to_wire(empty)).header == empty.header


def test_the_wire_form_carries_what_published_clients_need(plan: ReadPlan) -> None:
    # Any: JSON.
    wire: dict[str, Any] = msgspec.json.decode(plan_to_wire(plan))
    assert wire["requires_mor"] is True
    assert (
        wire["total_files"] == len(plan.paths) == sum(len(t["files"]) for t in wire["scan_tasks"])
    )
    task = wire["scan_tasks"][0]
    assert task["delta_type"] == "upsert"
    assert task["files"][0]["path"] == plan.paths[0]
    assert task["partition_values"] == ["a"]


def test_a_plan_of_another_planner_may_leave_everything_out_that_has_a_default() -> None:
    raw = b"""{"namespace": "n", "table": "t", "schema_serialized": null, "scan_tasks": [
        {"files": [{"path": "/a.parquet", "content_type": "application/parquet"}]}]}"""
    found = plan_from_wire(raw)
    assert found.paths == ["/a.parquet"]
    assert found.column("content_type") == ["parquet"]
    assert found.files.schema.names == FILE_COLUMNS.names
    with pytest.raises(UnsupportedError, match="schemaless"):
        assert found.schema


def test_groups_are_the_partitions_and_together_the_plan(plan: ReadPlan) -> None:
    groups = list(plan.groups())
    assert [g.column("partition:0")[0] for g in groups] == ["a", "b", None]
    assert pa.concat_tables([g.files for g in groups]).equals(plan.files)
    assert all(len(set(g.column("partition_id"))) == 1 for g in groups)
    rows = pa.concat_tables([read_plan(g) for g in groups])
    assert rows.equals(read_plan(plan))
    assert sorted(rows.column("id").to_pylist()) == [2, 3, 4]


def test_scan_tasks_are_one_per_delta_and_partition(plan: ReadPlan) -> None:
    found = [
        (t.delta_type, t.partition_values, len(t.files), t.entry_params) for t in plan.scan_tasks
    ]
    assert found == [
        ("upsert", ["a"], 2, None),
        ("delete", ["a"], 1, {"equality_field_locators": ["id"]}),
        ("upsert", ["b"], 1, None),
        ("upsert", ["b"], 1, None),
        ("upsert", [None], 1, None),
    ]
    assert {t.partition_scheme_id for t in plan.scan_tasks} != {UNSORTED_ID}
    assert [f.path for t in plan.scan_tasks for f in t.files] == plan.paths
    assert plan.all_files() == [f for t in plan.scan_tasks for f in t.files]
    stats = plan.all_files()[0].column_stats
    assert stats is not None
    assert (stats["id"].min, stats["id"].null_count) == (1, 0)


def test_files_are_found_by_extension(plan: ReadPlan) -> None:
    assert plan.files_with_extension(".PARQUET") == plan.all_files()
    assert plan.files_with_extension(".csv") == []


def test_partitions_are_added_up(plan: ReadPlan) -> None:
    found = plan.partition_summaries()
    assert [(s.partition_values, s.files, s.records) for s in found] == [
        (["a"], 3, 3),
        (["b"], 2, 2),
        ([None], 1, 1),
    ]
    assert sum(s.size_bytes for s in found) == plan.total_bytes
    assert all(isinstance(s, PartitionSummary) for s in found)


def test_a_plan_explains_what_pruned_it(client: Client) -> None:
    by_both = {"and": [{"neq": ["p", "b"]}, {"gt": ["id", 2]}]}
    text = client.catalog.plan(**WHERE, filter_predicate=by_both).explain()
    lines = text.splitlines()
    assert lines[0].startswith("ns.t at snapshot ")
    assert "in the table: 6 files" in lines[1]
    assert lines[2].startswith("  partition on p: -3 files")
    assert lines[3].startswith("  statistics on id")
    assert lines[-1].startswith("  to read: 1 files")
    assert lines[-1].endswith("merged by id")


def test_a_page_that_is_not_the_last_is_not_merged(client: Client) -> None:
    page = client.catalog.plan(**WHERE, limit=1)
    assert page.header.truncated
    with pytest.raises(UnsupportedError, match="one page of a table whose rows merge"):
        read_plan(page)


def test_plans_compare_by_value_and_have_no_hash(client: Client, plan: ReadPlan) -> None:
    assert plan == client.catalog.plan(**WHERE, include_stats=True)
    assert plan != client.catalog.plan(**WHERE)
    assert plan != "plan"
    with pytest.raises(TypeError, match="unhashable"):
        hash(plan)
    assert repr(plan).startswith("ReadPlan(ns.t at snapshot ")


# --- snapshot ids ---------------------------------------------------------------------------------


def test_the_snapshot_id_depends_on_the_files_alone(client: Client, tmp_path: Path) -> None:
    whole = client.catalog.plan(**WHERE)
    assert whole.snapshot_id is not None
    assert len(whole.snapshot_id) == 32
    variants = [
        client.catalog.plan(**WHERE, limit=1),
        client.catalog.plan(**WHERE, columns=["id"]),
        client.catalog.plan(**WHERE, include_stats=True),
        client.catalog.plan(**WHERE, include_files=False),
        client.catalog.plan(**WHERE, filter_predicate={"neq": ["id", 99]}),
    ]
    shutil.copytree(client.target, tmp_path / "moved")
    moved = Client(tmp_path / "moved").catalog
    variants.append(moved.plan(**WHERE))
    assert {v.snapshot_id for v in variants} == {whole.snapshot_id}
    assert moved.read(**WHERE).equals(client.catalog.read(**WHERE))
    assert set(moved.plan(**WHERE).paths).isdisjoint(whole.paths)


def test_other_files_have_another_snapshot_id_and_no_files_none(client: Client) -> None:
    some = client.catalog.plan(**WHERE, filter_predicate={"eq": ["p", "b"]})
    none = client.catalog.plan(**WHERE, filter_predicate={"eq": ["p", "z"]})
    assert some.snapshot_id != client.catalog.plan(**WHERE).snapshot_id
    assert none.snapshot_id is None


def test_the_order_of_commits_does_not_change_the_snapshot_id(
    client: Client, tmp_path: Path
) -> None:
    ids = []
    for name, order in (("one", (0, 1)), ("other", (1, 0))):
        shutil.copytree(client.target, tmp_path / name)
        copy = Client(tmp_path / name)
        paths = [tmp_path / name / "data" / f"{i}.parquet" for i in range(2)]
        for path, source in zip(paths, client.catalog.plan(**WHERE).paths[:2], strict=True):
            shutil.copy(source, path)
        for i in order:
            session = copy.catalog.stage(**WHERE, allow_external_entries=True)
            entry = WriteEntry(str(paths[i]), 1, partition_values=["a"])
            copy.commit(session=session, entries=[entry])
        ids.append(copy.catalog.plan(**WHERE).snapshot_id)
    assert ids[0] == ids[1]
