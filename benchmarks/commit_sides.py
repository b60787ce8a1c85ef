"""Who commits, and each at its best? The sides of the commit benchmark: ours, the peers, raw SQLite.

A commit makes one file of ten rows part of a table. `prepare` does what comes before the commit: it
writes the file, and ours opens a write session. `append` is all of it in one call of the side's own
interface. Tuning:

* `delta`: a held `DeltaTable`; 100 attempts in place of 15; checkpoints every 100 commits, as is the
  default. `commit` is `create_write_transaction`, `append` is `write_deltalake`.
* `iceberg`: pyiceberg with a SQLite catalog that waits for its lock, a held `Table`; 100 attempts, 10 to
  200 ms apart, in place of 4, 100 ms and more apart. `commit` is a fast append of a `DataFile`, `append`
  is `Table.append`.
* `raw`: a loop over SQLite in WAL mode, `synchronous=FULL`: BEGIN IMMEDIATE, one row of 200 bytes into
  each of two tables, COMMIT; `append` writes a Parquet file and flushes it, and its directory, before. It
  is the floor, not a product: nothing is checked, nothing can be asked.
* `raw rows`: the same loop with what a planner has to write that answers a repeated call with its first
  result: the session and its outcome, the files' columns, the revision, what it changed, as many bytes
  as ours, keyed alike; `append` stages the session in a transaction of its own, and writes the file as
  our sinks do, into a directory of the session's own. Still nothing is checked or can be asked: what
  is between it and `raw` is what ours keeps, and what is between it and ours is how.
* Ours flushes a file and its directories to the disk before it commits, as raw does; delta-rs and
  pyiceberg leave data files to the operating system, and of their metadata SQLite's alone is flushed.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["EMBEDDED", "HTTP", "RAW", "RAW_ROWS", "SIDES", "Side", "root_of"]

NAMESPACE, TABLE = "bench", "commits"
SCHEMA = pa.schema([("id", pa.int64()), ("value", pa.float64())])
ROWS = 10
_ATTEMPTS = 100
_BUSY_MS = 60_000


@dataclass(frozen=True)
class Side:
    """One of those compared. Rows are known by their `id`: a commit's key, ten times.

    Attributes:
        name: As the report has it.
        make: Makes an empty table in a directory.
        open: Makes the handle that a long-lived program would keep, from that directory; of ours over
            HTTP, from the server's address.
        prepare: Does what comes before the commit of a key.
        commit: Commits what was prepared.
        append: Writes and commits a key.
        keys: Of a handle, the key of every row that is in the table.
        most_at_once: How many commits a process makes at most where several do at once: minutes else.
    """

    name: str
    make: Callable[[str], object]
    # Any: every side has a handle, and something prepared, of its own type.
    open: Callable[[str], Any]
    prepare: Callable[[Any, int], Any]
    commit: Callable[[Any, Any], object]
    append: Callable[[Any, int], object]
    keys: Callable[[Any], Sequence[int]]
    most_at_once: int = 1_000


def _rows(key: int) -> pa.Table:
    return pa.table({"id": [key] * ROWS, "value": [float(key)] * ROWS}, schema=SCHEMA)


# --- ours ---------------------------------------------------------------------------------------


def root_of(place: str) -> str:
    """Our catalog's directory, for a table in a directory."""
    return f"{place}/ours"


def _make_ours(place: str) -> None:
    from planner_client import Client

    with Client(root_of(place)) as client:
        client.catalog.create_namespace(namespace=NAMESPACE)
        client.catalog.create_table(namespace=NAMESPACE, table=TABLE, schema=SCHEMA)


def _open_embedded(place: str) -> Any:
    from planner_client import Client

    return Client(root_of(place), create=False)


def _open_http(url: str) -> Any:
    from planner_client import Client

    return Client(url)


def _prepare_ours(client: Any, key: int) -> Any:
    import msgspec

    from io_core.formats import parquet
    from io_core.sink import write_schema
    from io_core.storage import local_path, persist

    session = client.stage(namespace=NAMESPACE, table=TABLE, mode="add")
    folder = local_path(session.data_dir)
    os.makedirs(folder, exist_ok=True)
    path, schema = f"{folder}/{uuid.uuid4().hex}.parquet", write_schema(session)
    parquet.write(_rows(key).cast(schema), path)
    persist([path])
    entry = msgspec.structs.replace(parquet.entry_of(path, schema), schema_id=session.schema_id)
    return session, [entry]


def _commit_ours(client: Any, prepared: Any) -> None:
    session, entries = prepared
    client.commit(session=session, entries=entries)


def _append_ours(client: Any, key: int) -> None:
    client.catalog.write(_rows(key), namespace=NAMESPACE, table=TABLE, mode="add")


def _keys_of_ours(client: Any) -> list[int]:
    found = client.catalog.read(namespace=NAMESPACE, table=TABLE, columns=["id"])
    return list(found.column("id").to_pylist())


# --- raw SQLite ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Raw:
    place: str
    db: Any  # a connection of apsw, which is not checked


def _make_raw(place: str) -> None:
    os.makedirs(f"{place}/raw")
    db = _open_raw(place).db
    for table in ("first", "second"):
        db.execute(f"CREATE TABLE {table}(key INTEGER, body BLOB)")
    db.close()


def _open_raw(place: str) -> _Raw:
    import apsw

    db = apsw.Connection(f"{place}/raw/raw.sqlite")
    db.set_busy_timeout(_BUSY_MS)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    return _Raw(place, db)


def _commit_raw(raw: _Raw, key: int) -> None:
    raw.db.execute("BEGIN IMMEDIATE")
    for table in ("first", "second"):
        raw.db.execute(f"INSERT INTO {table} VALUES (?, ?)", (key, os.urandom(200)))
    raw.db.execute("COMMIT")


def _append_raw(raw: _Raw, key: int) -> None:
    path = f"{raw.place}/raw/{uuid.uuid4().hex}.parquet"
    pq.write_table(_rows(key), path, compression="zstd")
    for written in (path, os.path.dirname(path)):
        handle = os.open(written, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    _commit_raw(raw, key)


def _keys_of_raw(raw: _Raw) -> list[int]:
    found = raw.db.execute("SELECT key FROM first JOIN second USING (key)").fetchall()
    return [row[0] for row in found for _ in range(ROWS)]


# --- raw SQLite, with our rows --------------------------------------------------------------------

_ROW_TABLES = """
CREATE TABLE session(id TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE operation(id TEXT PRIMARY KEY, hash BLOB, body BLOB) WITHOUT ROWID;
CREATE TABLE segment(key INTEGER, body BLOB);
CREATE TABLE revision(seq INTEGER PRIMARY KEY, message TEXT);
CREATE TABLE change(seq INTEGER, body BLOB);
CREATE INDEX change_of ON change(seq);
"""


def _make_raw_rows(place: str) -> None:
    os.makedirs(f"{place}/raw")
    db = _open_raw(place).db
    db.execute(_ROW_TABLES)
    db.close()


def _stage_raw_rows(raw: _Raw, key: int) -> tuple[int, str]:
    session = f"ws_{uuid.uuid4().hex}"
    raw.db.execute("BEGIN IMMEDIATE")
    _keep_raw_rows(raw, session)
    raw.db.execute("COMMIT")
    return key, session


def _keep_raw_rows(raw: _Raw, session: str) -> None:
    raw.db.execute("INSERT OR REPLACE INTO session VALUES (?, ?)", (session, os.urandom(1310)))
    operation = (f"op_{uuid.uuid4().hex}", os.urandom(16), os.urandom(1170))
    raw.db.execute("INSERT INTO operation VALUES (?, ?, ?)", operation)


def _commit_raw_rows(raw: _Raw, prepared: tuple[int, str]) -> None:
    key, session = prepared
    raw.db.execute("BEGIN IMMEDIATE")
    _keep_raw_rows(raw, session)
    raw.db.execute("INSERT INTO segment VALUES (?, ?)", (key, os.urandom(300)))
    raw.db.execute("INSERT INTO revision(message) VALUES ('add bench.commits')")
    seq = raw.db.last_insert_rowid()
    raw.db.execute("INSERT INTO change VALUES (?, ?)", (seq, os.urandom(23)))
    raw.db.execute("COMMIT")


def _append_raw_rows(raw: _Raw, key: int) -> None:
    from io_core.formats import parquet
    from io_core.storage import persist

    # Flushed by the commit, as ours is.
    raw.db.pragma("synchronous", "normal")
    prepared = _stage_raw_rows(raw, key)
    raw.db.pragma("synchronous", "full")
    folder = f"{raw.place}/raw/{prepared[1]}"
    os.mkdir(folder)
    path = f"{folder}/{uuid.uuid4().hex}.parquet"
    parquet.write(_rows(key), path)
    persist([path])
    _commit_raw_rows(raw, prepared)


def _keys_of_raw_rows(raw: _Raw) -> list[int]:
    return [row[0] for row in raw.db.execute("SELECT key FROM segment") for _ in range(ROWS)]


# --- Delta --------------------------------------------------------------------------------------


def _make_delta(place: str) -> None:
    import deltalake

    deltalake.DeltaTable.create(f"{place}/delta", schema=SCHEMA)


def _open_delta(place: str) -> Any:
    import deltalake

    return deltalake.DeltaTable(f"{place}/delta")


def _prepare_delta(table: Any, key: int) -> Any:
    from deltalake.transaction import AddAction

    name = f"part-00000-{uuid.uuid4()}-c000.zstd.parquet"
    path = f"{table.table_uri.removeprefix('file://').rstrip('/')}/{name}"
    pq.write_table(_rows(key), path, compression="zstd")
    stats = (
        f'{{"numRecords":{ROWS},"minValues":{{"id":{key}}},"maxValues":{{"id":{key}}},'
        '"nullCount":{"id":0}}'
    )
    return AddAction(name, os.stat(path).st_size, {}, 0, True, stats)


def _commit_delta(table: Any, prepared: Any) -> None:
    from deltalake import CommitProperties

    properties = CommitProperties(max_commit_retries=_ATTEMPTS)
    table.create_write_transaction([prepared], "append", SCHEMA, commit_properties=properties)


def _append_delta(table: Any, key: int) -> None:
    import deltalake

    properties = deltalake.CommitProperties(max_commit_retries=_ATTEMPTS)
    deltalake.write_deltalake(table, _rows(key), mode="append", commit_properties=properties)


def _keys_of_delta(table: Any) -> list[int]:
    table.update_incremental()
    return [key for path in table.file_uris() for key in _ids(path)]


def _ids(path: str) -> list[int]:
    with pq.ParquetFile(path) as file:
        return list(file.read(["id"]).column("id").to_pylist())


# --- Iceberg ------------------------------------------------------------------------------------


def _iceberg_catalog(place: str) -> Any:
    from pyiceberg.catalog.sql import SqlCatalog

    root = f"{place}/iceberg"
    os.makedirs(root, exist_ok=True)
    uri = f"sqlite:///{root}/catalog.db?timeout={_BUSY_MS // 1000}"
    return SqlCatalog("bench", uri=uri, warehouse=f"file://{root}")


def _make_iceberg(place: str) -> None:
    catalog = _iceberg_catalog(place)
    catalog.create_namespace(NAMESPACE)
    properties = {
        "commit.retry.num-retries": str(_ATTEMPTS),
        "commit.retry.min-wait-ms": "10",
        "commit.retry.max-wait-ms": "200",
    }
    catalog.create_table(f"{NAMESPACE}.{TABLE}", SCHEMA, properties=properties)


def _open_iceberg(place: str) -> Any:
    return _iceberg_catalog(place).load_table(f"{NAMESPACE}.{TABLE}")


def _prepare_iceberg(table: Any, key: int) -> Any:
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    folder = f"{table.location().removeprefix('file://')}/data"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/{uuid.uuid4()}.parquet"
    pq.write_table(_rows(key).cast(table.schema().as_arrow()), path, compression="zstd")
    bound = key.to_bytes(8, "little")
    data_file = DataFile.from_args(
        _table_format_version=2,
        content=DataFileContent.DATA,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=ROWS,
        file_size_in_bytes=os.stat(path).st_size,
        value_counts={1: ROWS},
        null_value_counts={1: 0},
        lower_bounds={1: bound},
        upper_bounds={1: bound},
    )
    data_file.spec_id = table.spec().spec_id
    return data_file


def _commit_iceberg(table: Any, prepared: Any) -> None:
    with table.transaction() as change, change.update_snapshot().fast_append() as append:
        append.append_data_file(prepared)


def _append_iceberg(table: Any, key: int) -> None:
    table.append(_rows(key))


def _keys_of_iceberg(table: Any) -> list[int]:
    tasks = table.refresh().scan().plan_files()
    return [key for task in tasks for key in _ids(task.file.file_path.removeprefix("file://"))]


EMBEDDED = Side(
    "ours",
    _make_ours,
    _open_embedded,
    _prepare_ours,
    _commit_ours,
    _append_ours,
    _keys_of_ours,
)
HTTP = Side(
    "ours http",
    _make_ours,
    _open_http,
    _prepare_ours,
    _commit_ours,
    _append_ours,
    _keys_of_ours,
)
RAW = Side(
    "raw",
    _make_raw,
    _open_raw,
    lambda raw, key: key,
    _commit_raw,
    _append_raw,
    _keys_of_raw,
)
RAW_ROWS = Side(
    "raw rows",
    _make_raw_rows,
    _open_raw,
    _stage_raw_rows,
    _commit_raw_rows,
    _append_raw_rows,
    _keys_of_raw_rows,
)
SIDES = (
    EMBEDDED,
    HTTP,
    RAW,
    RAW_ROWS,
    Side(
        "delta",
        _make_delta,
        _open_delta,
        _prepare_delta,
        _commit_delta,
        _append_delta,
        _keys_of_delta,
    ),
    Side(
        "iceberg",
        _make_iceberg,
        _open_iceberg,
        _prepare_iceberg,
        _commit_iceberg,
        _append_iceberg,
        _keys_of_iceberg,
        most_at_once=10,
    ),
)
