"""What does a published client do in a transaction, and what does another one see of it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

KEYED: list[dict[str, object]] = [
    {"name": "id", "type": "int64", "is_merge_key": True},
    {"name": "score", "type": "float64"},
]


def _some(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "score": [number / 10 for number in ids]})


def _ids(at: Place, table: str = "t", **options: object) -> list[int]:
    return [row["id"] for row in at.rows(table, **options)]


def everything_in_it_becomes_visible_at_once(at: Place) -> None:
    outside = type(at.client)(at.client.server_url)
    with at.client.transaction(commit_message="create and backfill") as tx:
        at.catalog.create_namespace(namespace="staging_of_all")
        at.create("t", KEYED, auto_create_namespace=False)
        written = at.write(_some(3, 4), "t", mode="merge", format="parquet")
        assert (written.attached, written.committed) == (True, False)
        assert at.read("t", read_as="pandas")["id"].tolist() == [3, 4]
        assert not outside.catalog.namespace_exists(namespace="staging_of_all")
        assert not outside.catalog.table_exists(namespace=at.namespace, table="t")
        assert tx.state.commit_message == "create and backfill"
    assert outside.catalog.namespace_exists(namespace="staging_of_all")
    assert outside.catalog.read(namespace=at.namespace, table="t").num_rows == 2
    outside.close()


def every_read_in_it_sees_what_it_did(at: Place) -> None:
    at.create("before", KEYED)
    with at.client.transaction():
        at.catalog.create_namespace(namespace="made_inside")
        at.create("t", KEYED)
        assert at.catalog.namespace_exists(namespace="made_inside")
        assert at.catalog.get_namespace(namespace="made_inside").name == "made_inside"
        assert "made_inside" in {found.name for found in at.catalog.list_namespaces()}
        assert at.catalog.table_exists(namespace=at.namespace, table="t")
        found = at.catalog.list_tables(namespace=at.namespace)
        assert sorted(table.name for table in found) == ["before", "t"]
        (version,) = at.catalog.list_table_versions(namespace=at.namespace, table="t")
        assert version.version == "1"
        assert at.describe("t").merge_keys == ["id"]
        at.catalog.alter_table(namespace=at.namespace, table="t", table_description="inside")
        assert at.describe("t").description == "inside"
        at.catalog.rename_table(namespace=at.namespace, table="t", new_name="u")
        assert not at.catalog.table_exists(namespace=at.namespace, table="t")
        at.catalog.drop_table(namespace=at.namespace, table="before")
        assert [t.name for t in at.catalog.list_tables(namespace=at.namespace)] == ["u"]
        at.catalog.alter_namespace(namespace="made_inside", properties={"a": "b"})
        assert at.catalog.get_namespace(namespace="made_inside").properties == {"a": "b"}
        at.catalog.drop_namespace(namespace="made_inside")
        assert not at.catalog.namespace_exists(namespace="made_inside")
    assert [t.name for t in at.catalog.list_tables(namespace=at.namespace)] == ["u"]


def every_change_counts_its_version_up(at: Place) -> None:
    with at.client.transaction() as tx:
        seen = [tx.version]
        result = at.create("t", KEYED)
        assert result.transaction_id == tx.id
        assert result.transaction_version == tx.version
        seen.append(tx.version)
        at.write(_some(1), "t", mode="merge")
        seen.append(tx.version)
        at.rows("t")
        assert tx.version == seen[-1]
        assert tx.get().transaction_version == tx.version
    assert seen == sorted(set(seen))


def an_error_takes_all_of_it_back(at: Place) -> None:
    at.write(_some(1), "t")
    try:
        with at.client.transaction() as tx:
            at.write(_some(2), "t", mode="add")
            at.create("u", KEYED)
            assert _ids(at) == [1, 2]
            raise ValueError("backfill failed")
    except ValueError:
        pass
    assert tx.state.status == "ABORTED"
    assert _ids(at) == [1]
    assert not at.catalog.table_exists(namespace=at.namespace, table="u")


def an_explicit_one_commits_when_told(at: Place) -> None:
    at.write(_some(1), "t")
    tx = at.client.transaction(commit_message="backfill")
    at.write(_some(2), "t", mode="add", transaction=tx)
    assert _ids(at) == [1]
    assert _ids(at, transaction=tx) == [1, 2]
    tx.commit()
    assert _ids(at) == [1, 2]


def an_explicit_one_aborts_when_told(at: Place) -> None:
    at.write(_some(1), "t")
    tx = at.client.transaction()
    at.write(_some(2), "t", mode="replace", transaction=tx)
    assert tx.abort(reason="backfill failed").status == "ABORTED"
    assert _ids(at) == [1]
    with refused("transaction_closed", 409):
        at.write(_some(3), "t", mode="add", transaction=tx)


def it_reads_what_there_was_when_it_began(at: Place) -> None:
    at.write(_some(1), "t")
    tx = at.client.transaction()
    at.write(_some(2), "t", mode="add")
    assert _ids(at, transaction=tx) == [1]
    assert _ids(at) == [1, 2]
    tx.commit()


def it_is_kept_alive(at: Place) -> None:
    tx = at.client.transaction()
    before = tx.state.expires_at
    assert tx.heartbeat().expires_at >= before
    at.create("t", KEYED, transaction=tx)
    tx.commit()
    assert at.catalog.table_exists(namespace=at.namespace, table="t")


def several_tables_change_together(at: Place) -> None:
    at.write(_some(1), "t")
    at.create("u", KEYED)
    with at.client.transaction():
        at.write(_some(2), "t", mode="add")
        at.write(_some(2), "u", mode="merge")
        at.write(_some(3), "u", mode="merge")
        assert (_ids(at), _ids(at, "u")) == ([1, 2], [2, 3])
    assert (_ids(at), _ids(at, "u")) == ([1, 2], [2, 3])


def it_merges_and_deletes_in_order(at: Place) -> None:
    at.create("t", KEYED)
    with at.client.transaction():
        at.write(_some(1, 2), "t", mode="merge")
        at.write(pa.table({"id": [1]}), "t", mode="delete")
        at.write(pa.table({"id": [2], "score": [0.9]}), "t", mode="merge")
        assert at.rows("t") == [{"id": 2, "score": 0.9}]
    assert at.rows("t") == [{"id": 2, "score": 0.9}]


def _stage(at: Place, tx: Any) -> Any:
    return at.catalog.stage(
        namespace=at.namespace, table="t", mode="merge", format="parquet", transaction=tx
    )


def _put(session: Any) -> str:
    """A file with the key 7, in the session's own folder."""
    Path(session.data_dir).mkdir(parents=True, exist_ok=True)
    path: str = session.path_for("output.parquet")
    pq.write_table(_some(7), path)
    return path


def staged_files_attach_and_wait_for_its_commit(at: Place) -> None:
    at.create("t", KEYED)
    tx = at.client.transaction(commit_message="stage files")
    session = _stage(at, tx)
    assert session.transaction_id == tx.id
    fetched = at.catalog.get_write_session(session.session_id)
    fetched_tx = at.catalog.get_transaction(tx.id)
    path = _put(session)
    attached = fetched.commit(entries=[{"path": path, "record_count": 1}])
    assert (attached.attached, attached.committed) == (True, False)
    assert session.session_id in fetched_tx.get().bound_write_sessions
    assert _ids(at) == []
    fetched_tx.commit()
    assert _ids(at) == [7]
    assert at.catalog.get_write_session(session.session_id).status == "COMMITTED"


def a_session_that_was_not_committed_is_left_out(at: Place) -> None:
    at.create("t", KEYED)
    tx = at.client.transaction()
    session = _stage(at, tx)
    _put(session)
    at.write(_some(1), "t", mode="merge", transaction=tx)
    tx.commit()
    assert _ids(at) == [1]


def files_are_committed_to_it_without_a_session(at: Place) -> None:
    at.create("t", KEYED)
    path = str(at.folder / "given.parquet")
    pq.write_table(_some(5), path)
    with at.client.transaction():
        done = at.catalog.commit(
            namespace=at.namespace,
            table="t",
            entries=[{"path": path, "record_count": 1}],
            format="parquet",
            mode="merge",
        )
        assert done.attached
    assert _ids(at) == [5]


def concurrent_adds_both_succeed(at: Place) -> None:
    at.write(_some(1), "t")
    first, second = at.client.transaction(), at.client.transaction()
    at.write(_some(2), "t", mode="add", transaction=first)
    at.write(_some(3), "t", mode="add", transaction=second)
    first.commit()
    second.commit()
    assert _ids(at) == [1, 2, 3]


def of_two_upserts_the_second_is_refused(at: Place) -> None:
    at.create("t", KEYED)
    at.write(_some(1), "t", mode="merge")
    first, second = at.client.transaction(), at.client.transaction()
    at.write(_some(2), "t", mode="merge", transaction=first)
    at.write(_some(3), "t", mode="merge", transaction=second)
    first.commit()
    with refused("concurrent_modification", 409):
        second.commit()
    assert _ids(at) == [1, 2]
    with at.client.transaction():
        at.write(_some(3), "t", mode="merge")
    assert _ids(at) == [1, 2, 3]


def of_two_tables_of_one_name_the_second_is_refused(at: Place) -> None:
    first, second = at.client.transaction(), at.client.transaction()
    at.create("t", KEYED, transaction=first)
    at.create("t", KEYED, transaction=second)
    first.commit()
    with refused("concurrent_modification", 409):
        second.commit()


def an_unknown_one_is_not_found(at: Place) -> None:
    with refused("not_found", 404):
        at.catalog.get_transaction("00000000-0000-0000-0000-000000000000")
