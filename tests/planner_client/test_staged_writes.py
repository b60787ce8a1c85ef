"""Do staged writes go as the contract shows them, embedded and over HTTP?"""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from io_core.errors import (
    ConcurrentModificationError,
    DataFileError,
    DeltaCATError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    TransactionError,
)
from planner_client import Client
from planner_client.server.app import App
from planner_client.server.auth import Guard
from planner_client.server.hosting import HostedCatalogs
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from io_core.model import WriteEntry
    from planner_client.session import StagedSession

ROWS = pa.table({"id": [1, 2], "v": ["a", "b"]})


@pytest.fixture
def where(client: Client, ns: str) -> dict[str, Any]:
    """A table without rows, in a namespace that no other test uses."""
    found: dict[str, Any] = {"namespace": ns, "table": "t"}
    client.catalog.write(ROWS.slice(0, 0), **found, merge_keys=["id"])
    return found


def written(session: StagedSession, name: str = "embeddings/output.parquet") -> WriteEntry:
    path = Path(session.path_for(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(ROWS, path)
    return session.entry_for(name, records=2)


def test_a_version_that_has_gone_is_a_conflict_of_what_was_staged_for_it(
    client: Client, where: dict[str, Any]
) -> None:
    catalog, second = client.catalog, {**where, "table_version": "2"}
    catalog.create_table(**second, schema=ROWS.schema)
    session = catalog.stage(**second, mode="add")
    entry = written(session)
    catalog.drop_table(**where)
    catalog.create_table(**where, schema=ROWS.schema)
    with pytest.raises(ConcurrentModificationError, match="has no version '2'"):
        catalog.commit(session=session, entries=[entry])
    with pytest.raises(NotFoundError, match="has no version '2'"):
        catalog.stage(**second, mode="add")


def test_files_are_staged_described_and_committed(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="merge", format="parquet")
    assert session.data_dir
    entry = written(session)
    assert client.catalog.read(**where).num_rows == 0
    result = client.catalog.commit(session=session, entries=[entry])
    assert (result.committed, result.total_records, result.status) == (True, 2, "COMMITTED")
    assert client.catalog.read(**where).to_pylist() == ROWS.to_pylist()


def test_a_session_commits_and_aborts_itself(client: Client, where: dict[str, Any]) -> None:
    first = client.catalog.stage(**where, mode="merge")
    assert first.commit([written(first)]).files_registered == 1
    second = client.catalog.stage(**where, mode="merge")
    assert second.heartbeat().expires_at >= second.expires_at
    assert second.abort(reason="not needed").status == "ABORTED"
    assert second.get().status == "ABORTED"
    with pytest.raises(RequestRejectedError, match="ABORTED"):
        second.commit([written(second)])


def test_an_entry_says_all_that_the_protocol_has(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="merge")
    entry = session.entry_for(
        "a.parquet",
        records=3,
        bytes=10,
        content_encoding="identity",
        column_stats={},
        source_bytes=20,
        partition_values=[1],
        partition_scheme_id="s",
        entry_params={"equality_field_locators": ["id"]},
    )
    assert entry == session.entry(
        f"{session.data_dir}/a.parquet",
        records=3,
        bytes=10,
        content_encoding="identity",
        column_stats={},
        source_bytes=20,
        partition_values=[1],
        partition_scheme_id="s",
        entry_params={"equality_field_locators": ["id"]},
    )
    assert (entry.record_count, entry.content_length, entry.source_content_length) == (3, 10, 20)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a"])
def test_a_name_that_leads_out_of_the_session_is_refused(
    client: Client, where: dict[str, Any], name: str
) -> None:
    session = client.catalog.stage(**where, mode="merge")
    with pytest.raises(ValueError, match="names no file below"):
        session.path_for(name)
    with pytest.raises(ValueError, match="names no file below"):
        session.entry_for(name, records=1)


def test_the_same_entries_commit_once_however_often_they_are_sent(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where, mode="merge")
    entry = written(session)
    done = session.commit([entry])
    assert session.commit([entry]) == done
    assert client.catalog.commit(session=session, entries=[entry]) == done
    with pytest.raises(RequestRejectedError, match="COMMITTED"):
        session.commit([entry, written(session, "other.parquet")])
    assert client.catalog.plan(**where).total_files == 1


def test_a_session_is_fetched_and_goes_on(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="merge")
    entry = written(session)
    fetched = Client(client.target).catalog.get_write_session(session.session_id)
    assert fetched == session
    assert fetched.commit([entry]).committed
    with pytest.raises(NotFoundError, match="ws_none"):
        client.catalog.get_write_session("ws_none")


def test_a_fetched_session_is_bound_to_its_transaction(
    client: Client, where: dict[str, Any]
) -> None:
    transaction = client.transaction(commit_message="stage files")
    session = client.catalog.stage(**where, mode="merge", transaction=transaction)
    other = Client(client.target)
    fetched = other.catalog.get_write_session(session.session_id)
    fetched_transaction = other.catalog.get_transaction(transaction.id)
    attached = fetched.commit(entries=[written(session)])
    assert (attached.attached, attached.committed) == (True, False)
    assert other.catalog.read(**where).num_rows == 0
    assert fetched_transaction.get().transaction_version == attached.transaction_version
    assert fetched_transaction.commit().status == "COMMITTED"
    assert client.catalog.read(**where).num_rows == 2
    with pytest.raises(TransactionError, match="staged in transaction"):
        fetched.commit([], transaction=other.transaction())


def test_a_block_that_raises_aborts_its_session_and_removes_what_it_staged(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where, mode="merge")
    with pytest.raises(IsADirectoryError), session:
        Path(written(session).path).parent.write_bytes(b"")
    assert client.catalog.get_write_session(session.session_id).status == "ABORTED"
    assert not Path(session.data_dir).exists()


def test_a_block_that_raises_after_its_commit_leaves_it_committed(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where, mode="merge")
    with pytest.raises(IsADirectoryError), session:
        Path(session.commit([written(session)]).data_dir).write_bytes(b"")
    assert session.get().status == "COMMITTED"
    assert client.catalog.read(**where).num_rows == 2


def test_a_block_leaves_the_session_of_a_transaction_to_that(
    client: Client, where: dict[str, Any]
) -> None:
    transaction = client.transaction()
    session = client.catalog.stage(**where, mode="merge", transaction=transaction)
    with pytest.raises(FileNotFoundError), session:
        Path(session.path_for("absent")).read_bytes()
    assert session.get().status == "OPEN"
    transaction.abort()
    assert session.get().status == "ABORTED"


def test_a_block_keeps_its_session_open_from_a_thread(
    client: Client, where: dict[str, Any]
) -> None:
    session = client.catalog.stage(**where, mode="merge")
    session.held.interval_s = 0.01
    beaten = threading.Event()

    def watch() -> None:
        while session.get().last_heartbeat_at == session.last_heartbeat_at:
            pass
        beaten.set()

    with session:
        threading.Thread(target=watch).start()
        assert beaten.wait(60)
    assert not [t for t in threading.enumerate() if t.name == "heartbeat"]


def test_a_session_pickles_without_its_client(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="merge")
    there: StagedSession = pickle.loads(pickle.dumps(session))
    assert there == session
    entry = written(there)
    with pytest.raises(TransactionError, match="was pickled"):
        there.commit([entry])
    assert client.catalog.commit(session=there, entries=[entry]).committed


def test_files_are_committed_without_a_session(
    client: Client, where: dict[str, Any], tmp_path: Path
) -> None:
    pq.write_table(ROWS, tmp_path / "x.parquet")
    entry = {"path": str(tmp_path / "x.parquet"), "record_count": 2}
    done = client.catalog.commit(**where, entries=[entry], mode="merge", format="parquet")
    assert (done.committed, done.total_records) == (True, 2)
    assert client.catalog.read(**where).num_rows == 2
    with pytest.raises(DataFileError, match=r"y\.parquet"):
        client.catalog.commit(**where, entries=[{**entry, "path": str(tmp_path / "y.parquet")}])
    with pytest.raises(SchemaValidationError, match="needs a session"):
        client.catalog.commit(entries=[entry])
    with pytest.raises(SchemaValidationError, match="leave namespace and table out"):
        client.catalog.commit(session=done, **where, entries=[entry])


def test_a_session_keeps_the_catalog_that_it_was_staged_in(tmp_path: Path) -> None:
    planners = {name: EmbeddedPlanner(tmp_path / name, name=name) for name in ("one", "two")}
    with listening(App(HostedCatalogs(planners, Guard()), Guard())) as url:
        client = Client(url)
        client.catalog.write(ROWS, namespace="ns", table="t", catalog="two")
        session = client.catalog.stage(namespace="ns", table="t", mode="add", catalog="two")
        assert session.catalog == "two"
        entry = written(session)
        with pytest.raises(SchemaValidationError, match="is 'two', not 'one'"):
            client.catalog.commit(session=session, entries=[entry], catalog="one")
        assert session.heartbeat().catalog == "two"
        assert session.commit([entry]).committed
        fetched = client.catalog.get_write_session(session.session_id, catalog="two")
        assert fetched.get().status == "COMMITTED"
        with pytest.raises(DeltaCATError, match="not found"):
            client.catalog.get_write_session(session.session_id)
        assert client.catalog.read(namespace="ns", table="t", catalog="two").num_rows == 4
