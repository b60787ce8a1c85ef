"""What does a published client do with the sessions in which it stages files?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place


def _table(at: Place) -> None:
    at.create("t", [{"name": "id", "type": "int64"}])


def _stage(at: Place, **options: object) -> Any:
    options = {"mode": "add", "format": "parquet", **options}
    return at.catalog.stage(namespace=at.namespace, table="t", **options)


def _put(session: Any, name: str, *ids: int, **options: object) -> Any:
    """A file in the session's own folder, and its entry."""
    Path(session.path_for(name)).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ids}), session.path_for(name))
    return session.entry_for(name, records=len(ids), **options)


def _ids(at: Place) -> list[int]:
    return [row["id"] for row in at.rows("t")]


def files_are_staged_and_committed(at: Place) -> None:
    _table(at)
    session = _stage(at)
    assert session.status == "OPEN"
    assert session.table_exists
    assert [f["name"] for f in session.schema] == ["id"]
    entries = [_put(session, "a.parquet", 1, 2), _put(session, "below/b.parquet", 3)]
    assert _ids(at) == []
    done = session.commit(entries=entries)
    assert (done.status, done.committed) == ("COMMITTED", True)
    assert (done.files_registered, done.total_records, done.deltas_written) == (2, 3, 1)
    assert _ids(at) == [1, 2, 3]


def a_session_is_found_again(at: Place) -> None:
    _table(at)
    session = _stage(at)
    found = at.catalog.get_write_session(session.session_id)
    assert (found.table, found.mode, found.format) == ("t", "add", "parquet")
    assert found.data_dir == session.data_dir
    found.commit(entries=[_put(found, "a.parquet", 1)])
    assert at.catalog.get_write_session(session.session_id).status == "COMMITTED"
    assert _ids(at) == [1]


def a_heartbeat_moves_the_end_of_a_session(at: Place) -> None:
    _table(at)
    session = _stage(at)
    before = (session.session_version, session.expires_at)
    session.heartbeat()
    assert session.expires_at >= before[1]
    session.commit(entries=[_put(session, "a.parquet", 1)])
    assert _ids(at) == [1]


def an_aborted_session_writes_nothing(at: Place) -> None:
    _table(at)
    session = _stage(at)
    entry = _put(session, "a.parquet", 1)
    assert session.abort(reason="changed my mind").status == "ABORTED"
    with refused("session_closed", 409):
        session.commit(entries=[entry])
    assert _ids(at) == []


def an_error_while_staging_aborts(at: Place) -> None:
    _table(at)
    session = _stage(at)
    try:
        with session:
            raise ValueError("no more disk")
    except ValueError:
        pass
    assert at.catalog.get_write_session(session.session_id).status == "ABORTED"


def a_repeated_commit_counts_once(at: Place) -> None:
    _table(at)
    session = _stage(at)
    entries = [_put(session, "a.parquet", 1)]
    first = session.commit(entries=entries)
    again = session.commit(entries=entries)
    assert again.total_records == first.total_records == 1
    assert _ids(at) == [1]


def a_committed_session_takes_nothing_more(at: Place) -> None:
    _table(at)
    session = _stage(at)
    other = at.catalog.get_write_session(session.session_id)
    other.commit(entries=[_put(other, "a.parquet", 1)])
    with refused("session_closed", 409):
        session.commit(entries=[_put(session, "b.parquet", 2)])
    assert _ids(at) == [1]


def files_outside_of_the_session_are_refused(at: Place) -> None:
    _table(at)
    path = str(at.folder / "outside.parquet")
    pq.write_table(pa.table({"id": [1]}), path)
    with refused("request_rejected", 400):
        _stage(at).commit(entries=[{"path": path, "record_count": 1}])
    assert _ids(at) == []


def files_are_committed_without_a_session(at: Place) -> None:
    _table(at)
    path = str(at.folder / "outside.parquet")
    pq.write_table(pa.table({"id": [1, 2]}), path)
    result = at.catalog.commit(
        namespace=at.namespace,
        table="t",
        entries=[{"path": path, "record_count": 2}],
        format="parquet",
        mode="add",
    )
    assert (result.committed, result.files_registered, result.total_records) == (True, 1, 2)
    assert (result.table, result.namespace) == ("t", at.namespace)
    assert _ids(at) == [1, 2]


def a_session_may_create_its_table(at: Place) -> None:
    schema = pa.schema([("id", pa.int64())])
    session = _stage(at, mode="auto", create_if_missing={"schema": schema})
    session.commit(entries=[_put(session, "a.parquet", 1)])
    assert _ids(at) == [1]


def a_partitioned_table_gets_a_delta_for_each_partition(at: Place) -> None:
    scheme = {"keys": [{"key": ["id"], "transform": "identity"}]}
    at.create("t", [{"name": "id", "type": "int64"}], partition_scheme=scheme)
    session = _stage(at)
    scheme_id = session.partition_scheme["id"]
    entries = [
        _put(
            session,
            f"{number}.parquet",
            number,
            partition_values=[number],
            partition_scheme_id=scheme_id,
        )
        for number in (1, 2)
    ]
    assert session.commit(entries=entries).deltas_written == 2
    assert _ids(at) == [1, 2]


def pre_written_lance_files_are_registered_one_by_one(at: Place) -> None:
    from lance import write_dataset

    at.create("t", [{"name": "id", "type": "int64"}], content_types=["lance"])
    write_dataset(pa.table({"id": [1, 2]}), str(at.folder / "steps.lance"))
    files = sorted(path for path in (at.folder / "steps.lance").rglob("*") if path.is_file())
    entries = [
        {
            "path": str(path),
            "record_count": 2 if path.suffix == ".lance" else 0,
            "content_length": path.stat().st_size,
        }
        for path in files
    ]
    result = at.catalog.commit(
        namespace=at.namespace, table="t", entries=entries, format="lance", mode="add"
    )
    assert (result.files_registered, result.total_records) == (len(files), 2)
    assert sorted(file.path for file in at.plan("t").all_files()) == [str(p) for p in files]
