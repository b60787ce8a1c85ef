"""Are the changes of a table read on and on, none twice and none left out?"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import DeltaCATError, NotFoundError
from io_core.sink import write_files
from planner_client import Client

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


@pytest.fixture
def client(purged: Client) -> Client:
    return purged


def write(client: Client, *ids: int, **how: Any) -> int:
    parts = pa.array(["ab"[i % 2] for i in ids], pa.string())
    rows = pa.table({"id": pa.array(ids, pa.int64()), "p": parts})
    done = client.catalog.write(rows, **WHERE, **how)
    assert done.snapshot is not None
    return done.snapshot


def test_changes_are_read_from_where_the_last_call_ended(client: Client) -> None:
    write(client, 1, 2)
    first = client.catalog.read_changes(**WHERE)
    assert first.rows.column("id").to_pylist() == [1, 2]
    write(client, 3)
    write(client, 4)
    second = client.catalog.read_changes(**WHERE, since=first.snapshot)
    assert second.rows.column("id").to_pylist() == [3, 4]
    assert second.is_additions_alone
    third = client.catalog.read_changes(**WHERE, since=second.snapshot)
    assert (third.rows.num_rows, third.snapshot) == (0, second.snapshot)
    assert third.rows.column_names == ["id", "p"]


def test_a_time_says_it_too(client: Client) -> None:
    write(client, 1)
    then_ns = now_ns(client)
    write(client, 2)
    found = client.catalog.read_changes(**WHERE, since_as_of=then_ns)
    assert found.rows.column("id").to_pylist() == [2]


def test_columns_a_predicate_and_a_form_are_as_in_every_read(client: Client) -> None:
    seen = write(client, 1)
    write(client, 2, 3)
    found = client.catalog.read_changes(
        **WHERE, since=seen, columns=["p"], filter_predicate="id > 2", read_as="pandas"
    )
    assert found.rows.to_dict("list") == {"p": ["b"]}


def test_of_a_keyed_table_the_latest_rows_are_changes(client: Client) -> None:
    seen = write(client, 1, 2, merge_keys="id")
    write(client, 2)
    write(client, 2, 5)
    found = client.catalog.read_changes(**WHERE, since=seen)
    assert sorted(found.rows.column("id").to_pylist()) == [2, 5]


def test_files_that_went_are_told(client: Client) -> None:
    seen = write(client, 1, 2, 3)
    client.catalog.delete(predicate="id = 1", **WHERE)
    found = client.catalog.read_changes(**WHERE, since=seen)
    assert (found.removed_files, found.is_additions_alone) == (1, False)
    assert found.rows.num_rows == 0


def test_a_snapshot_that_is_still_to_come_is_refused(client: Client) -> None:
    seen = write(client, 1)
    with pytest.raises(DeltaCATError, match="lies after"):
        client.catalog.read_changes(**WHERE, since=seen + 100)
    with pytest.raises(NotFoundError):
        client.catalog.read_changes(namespace="ns", table="absent")


@given(st.lists(st.lists(st.integers(0, 99), max_size=3), max_size=6), st.data())
def test_whoever_reads_on_and_on_gets_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[int]], data: st.DataObject
) -> None:
    client = Client(tmp_path_factory.mktemp("follow") / "catalog")
    seen = write(client, partition_by="p")
    found: list[int] = []
    for ids in commits:
        write(client, *ids)
        if data.draw(st.booleans()):
            changes = client.catalog.read_changes(**WHERE, since=seen)
            found += changes.rows.column("id").to_pylist()
            seen = changes.snapshot
    found += client.catalog.read_changes(**WHERE, since=seen).rows.column("id").to_pylist()
    assert sorted(found) == sorted(i for ids in commits for i in ids)


# --- rewrites -------------------------------------------------------------------------------------


def now_ns(client: Client) -> int:
    """The planner's time."""
    return client.transaction().info.created_at


def shown(client: Client, since: int) -> list[int]:
    found: list[int] = client.catalog.read_changes(**WHERE, since=since).rows["id"].to_pylist()
    return sorted(found)


@pytest.mark.parametrize("partition_by", [None, "p"])
def test_rows_that_a_rewrite_leaves_are_no_changes(client: Client, partition_by: Any) -> None:
    first = write(client, 1, 2, 3, partition_by=partition_by)
    second = write(client, 4, 5, 6)
    client.catalog.delete(predicate="id in (1, 5)", **WHERE)
    third = write(client, 7)
    assert shown(client, first) == [4, 6, 7]
    assert shown(client, second) == [7]
    client.catalog.delete(predicate="id = 2", **WHERE)
    assert shown(client, 0) == [3, 4, 6, 7]
    assert shown(client, first) == [4, 6, 7]
    assert shown(client, second) == [7]
    assert shown(client, third) == []


def test_of_an_overwrite_the_new_rows_are_changes(client: Client) -> None:
    seen = write(client, 1, 2, 3)
    rows = pa.table({"id": pa.array([2], pa.int64()), "p": ["new"]})
    client.catalog.overwrite(rows, predicate="id = 2", **WHERE)
    found = client.catalog.read_changes(**WHERE, since=seen)
    assert found.rows.to_pylist() == [{"id": 2, "p": "new"}]
    assert found.removed_files == 1


def test_files_that_a_rewrite_keeps_did_not_go(client: Client) -> None:
    write(client, 1, 3)
    seen = write(client, 2, 4)
    client.catalog.delete(predicate="id = 4", **WHERE)
    assert client.catalog.plan(**WHERE).total_files == 2
    assert client.catalog.read_changes(**WHERE, since=seen).removed_files == 1


def test_rewrites_in_one_transaction_count_as_one(client: Client) -> None:
    seen = write(client, 1, 2, 3)
    with client.transaction():
        write_in = pa.table({"id": pa.array([4, 5], pa.int64()), "p": ["a", "b"]})
        client.catalog.write(write_in, **WHERE)
        client.catalog.delete(predicate="id in (1, 4)", **WHERE)
        client.catalog.delete(predicate="id = 2", **WHERE)
    assert shown(client, seen) == [5]
    assert shown(client, 0) == [3, 5]


@pytest.mark.parametrize("merge_keys", [(), "id"])
def test_rows_that_were_away_and_came_back_are_changes(client: Client, merge_keys: Any) -> None:
    seen = write(client, 1, 2, merge_keys=merge_keys)
    then_ns = now_ns(client)
    client.catalog.truncate_table(**WHERE)
    empty = client.catalog.read_changes(**WHERE, since=seen).snapshot
    client.catalog.rollback_table(**WHERE, as_of=then_ns)
    assert shown(client, empty) == [1, 2]


def test_what_a_rollback_leaves_as_it_is_is_no_change(client: Client) -> None:
    write(client, 1, 2)
    then_ns = now_ns(client)
    seen = write(client, 3)
    client.catalog.rollback_table(**WHERE, as_of=then_ns)
    found = client.catalog.read_changes(**WHERE, since=seen)
    assert (found.rows.num_rows, found.removed_files) == (0, 1)


def test_a_rollback_shows_all_rows_of_keys_again(client: Client) -> None:
    write(client, 1, 2, merge_keys="id")
    then_ns = now_ns(client)
    seen = write(client, 1)
    client.catalog.rollback_table(**WHERE, as_of=then_ns)
    assert shown(client, seen) == [1, 2]


def test_a_partition_without_rows_has_no_file(client: Client) -> None:
    write(client, 1, 2, 3, partition_by="p")
    client.catalog.delete(predicate="p = 'a'", **WHERE)
    plan = client.catalog.plan(**WHERE)
    assert [file.record_count for file in plan.all_files()] == [2]
    assert len(plan.partition_summaries()) == 1


STEPS = st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 9), max_size=4)), max_size=6)


@given(STEPS, st.sampled_from([None, "p"]))
def test_changes_are_the_rows_written_since_that_are_left(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[bool, set[int]]],
    partition_by: str | None,
) -> None:
    client = Client(tmp_path_factory.mktemp("rewrites") / "catalog")
    history = [(write(client, partition_by=partition_by), frozenset[int]())]
    there: frozenset[int] = frozenset()
    for is_delete, ids in steps:
        if is_delete and ids:
            there -= ids
            chosen = {"in": ["id", sorted(ids)]}
            client.catalog.delete(predicate=chosen, **WHERE)
        elif fresh := sorted(ids - there):
            there |= {*fresh}
            write(client, *fresh)
        plan = client.catalog.plan(**WHERE)
        assert all(file.record_count for file in plan.all_files())
        history.append((plan.snapshot or 0, there))
    for at, (snapshot, before) in enumerate(history):
        # What was there at every snapshot since is no change.
        stayed = before.intersection(*(later for _, later in history[at:]))
        assert shown(client, snapshot) == sorted(there - stayed)


@pytest.mark.parametrize(
    ("named", "is_change"), [("own", False), ("other", True), ("/nowhere.parquet", True)]
)
def test_a_commit_says_itself_which_files_its_rows_are_from(
    client: Client, named: str, is_change: bool
) -> None:
    seen = write(client, 1, 2)
    (own,) = client.catalog.plan(**WHERE).paths
    client.catalog.write(pa.table({"id": [1]}), namespace="ns", table="other")
    (other,) = client.catalog.plan(namespace="ns", table="other").paths
    origin = {"own": own, "other": other}.get(named, named)
    with client.catalog.stage(**WHERE, mode="replace") as session:
        rows = pa.table({"id": pa.array([2], pa.int64()), "p": ["a"]})
        (entry,) = write_files(session, rows, 10)
        params = {"rewritten_from": [origin]}
        session.commit([msgspec.structs.replace(entry, entry_params=params)])
    assert shown(client, seen) == ([2] if is_change else [])
    assert client.catalog.read(**WHERE).column("id").to_pylist() == [2]
