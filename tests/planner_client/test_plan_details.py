"""Do a plan's parts belong together: statistics and files, pages and snapshots, dead rows and JSON?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest

from io_core.execute import read_plan
from io_core.plan import plan_from_wire, plan_to_wire
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.int32())])


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A table whose files alternate between two partitions: reading order is not theirs."""
    made = Client(tmp_path / "catalog")
    made.catalog.create_table(
        **WHERE,
        schema=SCHEMA,
        partition_scheme={"keys": [{"key": ["p"]}]},
        auto_create_namespace=True,
    )
    for i in range(6):
        made.catalog.write(rows(i, i % 2), **WHERE)
    return made


def rows(number: int, partition: int) -> pa.Table:
    return pa.table({"id": [number], "p": [partition]}, schema=SCHEMA)


def planner(client: Client) -> EmbeddedPlanner:
    return EmbeddedPlanner(client.target)


def test_statistics_stand_beside_the_file_they_are_of(client: Client) -> None:
    plan = client.catalog.plan(**WHERE, include_stats=True)
    assert plan.column("partition:0") == [0, 0, 0, 1, 1, 1]
    assert plan.column("min:id") == read_plan(plan).column("id").to_pylist() == [0, 2, 4, 1, 3, 5]


def test_a_later_page_of_a_plan_of_the_past_needs_its_token_alone(client: Client) -> None:
    now_ns = time.time_ns()
    first = client.catalog.plan(**WHERE, as_of=now_ns, limit=4)
    client.catalog.write(rows(9, 0), **WHERE, mode="replace")
    token, offset = first.header.plan_token, first.header.next_file_offset
    assert offset is not None
    rest = client.catalog.plan(**WHERE, plan_token=token, offset=offset)
    assert (rest.snapshot, len(first.paths) + len(rest.paths)) == (first.snapshot, 6)


def test_pages_within_a_transaction_do_not_pin_the_pages_outside(client: Client) -> None:
    held = planner(client)
    with client.transaction() as transaction:
        inside = PlanRequest(
            **WHERE,
            max_files=2,
            transaction_id=transaction.transaction_id,
            transaction_version=transaction.transaction_version,
        )
        seen = held.call(PLAN, inside).snapshot
    client.catalog.write(rows(7, 1), **WHERE)
    found = held.call(PLAN, PlanRequest(**WHERE, max_files=2, file_offset=2)).snapshot
    assert seen is not None
    assert found == seen + 1


def test_a_json_plan_carries_the_dead_rows_that_it_was_asked_for(client: Client) -> None:
    keyed: dict[str, Any] = {**WHERE, "table": "k"}
    client.catalog.write(rows(1, 0), **keyed, merge_keys=["id"])
    client.catalog.write(rows(2, 0), **keyed)
    client.catalog.write(pa.table({"id": [1]}), **keyed, mode="delete")
    request = PlanRequest(**keyed, delete_sets=True)
    plan = planner(client).call(PLAN, request)
    again = plan_from_wire(plan_to_wire(plan))
    assert len(again.paths) == 2
    assert read_plan(again).to_pylist() == read_plan(plan).to_pylist() == [{"id": 2, "p": 0}]


def test_files_without_statistics_are_listed_and_later_ones_pruned_by_theirs(
    tmp_path: Path,
) -> None:
    bare = Client(tmp_path / "bare")
    catalog = bare.catalog
    catalog.create_table(**WHERE, schema=SCHEMA, auto_create_namespace=True)
    plain = [_written(bare, number, told=False) for number in range(3)]
    asked: dict[str, Any] = {"gte": ["id", 7]}
    plan = catalog.plan(**WHERE, filter_predicate=asked, include_stats=True)
    assert plan.paths == plain
    assert plan.column("min:id") == plan.column("null_count:id") == [None] * 3
    assert plan.column("residual") == [True] * 3
    told = [_written(bare, number, told=True) for number in (5, 9)]
    plan = catalog.plan(**WHERE, filter_predicate=asked, include_stats=True)
    assert plan.paths == [*plain, told[1]]
    assert plan.column("min:id") == [None, None, None, 9]
    assert plan.column("residual") == [True, True, True, False]


def _written(client: Client, number: int, *, told: bool) -> str:
    session = client.catalog.stage(**WHERE, mode="add")
    (entry,) = OpenSink(client, session, "op").write(rows(number, 0))
    kept = entry if told else msgspec.structs.replace(entry, column_stats=None)
    client.catalog.commit(session=session, entries=[kept])
    return entry.path
