"""Does a table's history list each commit that changed it, once, with what it brought and took?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import NotFoundError, RequestRejectedError
from planner_client import Client
from planner_client.protocol.tables import TABLE_HISTORY, TableHistory
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum

if TYPE_CHECKING:
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(tmp_path / "catalog")
    client.catalog.write(rows(1, 2), **WHERE)
    return client


def kinds(client: Client, **where: Any) -> list[list[str]]:
    return [change.kinds for change in client.catalog.table_history(**{**WHERE, **where})]


def test_the_newest_commit_comes_first_with_its_files_and_rows(client: Client) -> None:
    client.catalog.write(rows(3), **WHERE, mode="append")
    client.catalog.write(rows(4, 5, 6), **WHERE, mode="replace")
    last, middle, first = client.catalog.table_history(**WHERE)
    assert (last.kinds, last.files, last.records) == (["replace"], 1, 3)
    assert (last.removed_files, last.removed_records) == (2, 3)
    assert (middle.kinds, middle.files, middle.records) == (["append"], 1, 1)
    assert (middle.removed_files, middle.table_version) == (0, "1")
    assert first.files == 1
    assert first.bytes > 0
    assert "create" in first.kinds
    assert last.snapshot > middle.snapshot > first.snapshot
    assert last.committed_ns > middle.committed_ns > first.committed_ns


def test_one_nanosecond_after_a_commit_shows_the_table_as_it_left_it(client: Client) -> None:
    client.catalog.write(rows(3), **WHERE, mode="append")
    for change, count in zip(client.catalog.table_history(**WHERE), (3, 2), strict=True):
        read = client.catalog.read(**WHERE, as_of=change.committed_ns + 1)
        assert read.num_rows == count


def test_other_tables_are_left_out(client: Client) -> None:
    client.catalog.write(rows(9), namespace="ns", table="other")
    assert len(client.catalog.table_history(**WHERE)) == 1
    assert len(client.catalog.table_history(namespace="ns", table="other")) == 1


def test_a_transaction_is_one_commit_with_its_message_and_all_that_it_did(client: Client) -> None:
    with client.transaction(commit_message="Two at once") as transaction:
        client.catalog.write(rows(3), **WHERE, mode="append")
        client.catalog.alter_table(**WHERE, table_properties={"owner": "us"})
        # What it did itself is no history yet.
        assert len(client.catalog.table_history(**WHERE)) == 1
    change = client.catalog.table_history(**WHERE)[0]
    assert set(change.kinds) == {"append", "describe"}
    assert change.message == "Two at once"
    assert change.transaction_id == transaction.transaction_id
    assert (change.files, change.table_version) == (1, "1")


def test_a_name_does_not_matter_to_what_happened_under_another(client: Client) -> None:
    client.catalog.rename_table(**WHERE, new_name="u")
    client.catalog.write(rows(7), **WHERE)
    assert kinds(client, table="u") == [["drop", "create"], ["create", "append"]]
    assert kinds(client) == [["create", "append"]]


def test_pages_go_on_where_the_last_one_ended(client: Client, tmp_path: Path) -> None:
    for n in range(6):
        client.catalog.write(rows(n), **WHERE, mode="append")
    planner = EmbeddedPlanner(tmp_path / "catalog")
    whole = planner.call(TABLE_HISTORY, TableHistory(**WHERE))
    found, token = [], None
    while True:
        page = planner.call(TABLE_HISTORY, TableHistory(**WHERE, limit=3, next_token=token))
        found += page
        token = page.next_token  # type: ignore[attr-defined]  # a list with a token
        if token is None:
            break
    assert found == whole == client.catalog.table_history(**WHERE)
    assert len(whole) == 7
    assert client.catalog.table_history(**WHERE, limit=2) == whole[:2]


def test_it_goes_back_as_far_as_vacuum_left_it(client: Client, tmp_path: Path) -> None:
    client.catalog.write(rows(3), **WHERE, mode="replace")
    vacuum(EmbeddedPlanner(tmp_path / "catalog"), keep_ns=0, grace_ns=0, dry_run=False)
    client.catalog.write(rows(4), **WHERE, mode="append")
    newest = client.catalog.table_history(**WHERE)[0]
    assert (newest.kinds, newest.files, newest.records) == (["append"], 1, 1)
    assert len(client.catalog.table_history(**WHERE)) < 3


def test_a_missing_table_and_a_foreign_token_are_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 't'"):
        client.catalog.table_history(namespace="ns", table="tt")
    planner = EmbeddedPlanner(tmp_path / "catalog")
    with pytest.raises(RequestRejectedError, match="leave it out"):
        planner.call(TABLE_HISTORY, TableHistory(**WHERE, next_token="YWJj"))
    with pytest.raises(RequestRejectedError, match="less than 1"):
        planner.call(TABLE_HISTORY, TableHistory(**WHERE, limit=0))
