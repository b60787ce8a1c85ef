"""Are the changes of a table read on and on, none twice and none left out?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import DeltaCATError, NotFoundError
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


@pytest.fixture(params=["embedded", "http"])
def client(request: pytest.FixtureRequest, targets: dict[str, str]) -> Iterator[Client]:
    found = Client(targets[request.param])
    yield found
    found.catalog.drop_namespace(namespace="ns", purge=True)


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
    now_ns = client.transaction().info.created_at
    write(client, 2)
    found = client.catalog.read_changes(**WHERE, since_as_of=now_ns)
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
    assert found.rows.column("id").to_pylist() == [2, 3]


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
