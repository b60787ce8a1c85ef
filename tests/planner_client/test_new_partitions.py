"""Partitions that come one by one: does a planner that follows them know what one that starts anew does?"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import ConcurrentModificationError
from planner_client import Client
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.partitions import later_partitions
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from pathlib import Path

    from io_core.plan import ReadPlan

BY_P = {"keys": [{"key": ["p"]}]}


def written(client: Client, table: str, *parts: int) -> None:
    rows = pa.table({"x": range(len(parts)), "p": pa.array(parts, pa.int64())})
    client.catalog.write(rows, namespace="ns", table=table, partition_scheme=BY_P)


# Any: a predicate in the protocol's form.
def planned(planner: EmbeddedPlanner, table: str, predicate: dict[str, Any] | None) -> ReadPlan:
    request = PlanRequest(namespace="ns", table=table, filter_predicate=predicate)
    found: ReadPlan = planner.call(PLAN, request)
    return found


def test_of_tables_that_grow_in_turns_each_is_followed_partition_by_partition(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "c")
    following = EmbeddedPlanner(tmp_path / "c")
    chance = random.Random(5)
    for turn in range(24):
        # One grows in bursts, so that the other's ids lie far apart.
        table = chance.choice(["often", "often", "rare"])
        parts = [chance.randrange(turn + 1) for _ in range(8 if table == "often" else 1)]
        written(client, table, *parts)
        anew = EmbeddedPlanner(tmp_path / "c")
        for predicate in (None, {"eq": ["p", parts[0]]}, {"gt": ["p", turn // 2]}):
            assert planned(following, table, predicate) == planned(anew, table, predicate)
        anew.close()


@pytest.mark.parametrize("known", [0, 10**9], ids=["by table", "by id"])
def test_both_ways_to_what_is_new_find_the_same(tmp_path: Path, known: int) -> None:
    client = Client(tmp_path / "c")
    for part in range(6):
        written(client, "often", part, part + 10)
        written(client, "rare", part)
    planner = EmbeddedPlanner(tmp_path / "c")
    with planner.store.read() as db:
        held = db.execute("SELECT version_id, partition_id FROM partition").fetchall()
        for version_id in {version_id for version_id, _ in held}:
            for after in (0, 3, 7, 100):
                later = later_partitions(db, version_id, after, known)
                found = db.execute(f"SELECT partition_id {later} ORDER BY partition_id").fetchall()
                expected = sorted(p for v, p in held if v == version_id and p > after)
                assert [row[0] for row in found] == expected


def test_what_is_new_is_found_without_going_through_all_that_is_there(tmp_path: Path) -> None:
    client = Client(tmp_path / "c")
    written(client, "t", *range(50))
    planner = EmbeddedPlanner(tmp_path / "c")
    with planner.store.read() as db:
        ((version_id, newest),) = db.execute("SELECT version_id, max(partition_id) FROM partition")
        later = later_partitions(db, version_id, newest - 1, 49)
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT uuid {later}")]
    assert steps == ["SEARCH partition USING INTEGER PRIMARY KEY (rowid>?)"]


def test_a_table_that_was_planned_before_it_was_divided_is_followed(tmp_path: Path) -> None:
    client = Client(tmp_path / "c")
    following = EmbeddedPlanner(tmp_path / "c")
    schema = pa.schema([("x", pa.int64()), ("p", pa.int64())])
    client.catalog.create_table(
        namespace="ns", table="t", schema=schema, auto_create_namespace=True
    )
    assert planned(following, "t", None).total_files == 0
    client.catalog.alter_table(namespace="ns", table="t", partition_updates=BY_P)
    written(client, "t", 1, 2, 3)
    assert planned(following, "t", None).total_files == 3
    assert planned(following, "t", {"eq": ["p", 2]}).total_files == 1
    assert client.catalog.read(namespace="ns", table="t").num_rows == 3


def test_a_look_at_the_past_does_not_take_partitions_from_the_present(tmp_path: Path) -> None:
    client = Client(tmp_path / "c")
    schema = pa.schema([("x", pa.int64())])
    client.catalog.create_table(
        namespace="ns", table="t", schema=schema, auto_create_namespace=True
    )
    earlier = client.catalog.transaction()
    added = {"op": "add", "field": {"name": "p", "type": "int64"}}
    client.catalog.alter_table(
        namespace="ns",
        table="t",
        schema_updates={"operations": [added]},
        partition_updates=BY_P,
    )
    written(client, "t", 1, 2, 3)
    starting = EmbeddedPlanner(tmp_path / "c")
    seen = PlanRequest(namespace="ns", table="t", transaction_id=earlier.id)
    assert starting.call(PLAN, seen).total_files == 0
    assert planned(starting, "t", None).column("partition:0") == [1, 2, 3]
    assert planned(starting, "t", {"eq": ["p", 2]}).total_files == 1
    # What the transaction writes is of no partition, since it sees no scheme, and cannot be committed.
    own = pa.table({"x": [9]})
    client.catalog.write(own, namespace="ns", table="t", transaction=earlier)
    assert client.catalog.read(namespace="ns", table="t", transaction=earlier).equals(own)
    with pytest.raises(ConcurrentModificationError):
        earlier.commit()
