"""Write sessions: stage, heartbeat, commit, abort; a commit is one transaction of the ledger."""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    DataFileError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.literal import dump_array, load_array
from io_core.model import (
    ColumnStats,
    DeltaType,
    PartitionScheme,
    WriteEntry,
    WriteMode,
    WriteSession,
    check_name,
)
from io_core.partition import value_type
from io_core.schema import check_columns, decode_schema, encode_schema, merge_keys_of
from io_core.storage import local_path
from planner_client.protocol.tables import CreateTable
from planner_client.server.catalog import (
    Definition,
    Version,
    add_table,
    current_seq,
    define,
    find_version,
)
from planner_client.server.columns import ENCODING, pack_segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from planner_client.protocol.writes import (
        AbortRequest,
        CommitRequest,
        HeartbeatRequest,
        SessionRequest,
        StageRequest,
    )
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import Write

__all__ = ["abort", "commit", "get_session", "heartbeat", "stage"]

SESSION_NS = 3600 * 10**9
_MODES_THAT_CREATE = ("auto", "create")


class _Kept(msgspec.Struct, frozen=True):
    """A session as the ledger keeps it."""

    session: WriteSession
    create: CreateTable | None = None
    external: bool = False
    operation_id: str | None = None


class _Placed(NamedTuple):
    """An entry, its partition by the ledger's id, and its file's size in bytes."""

    entry: WriteEntry
    partition_id: int
    size: int


class _Target(NamedTuple):
    """What a commit writes into."""

    version: Version
    delta_type: DeltaType


def _find(db: apsw.Connection, request: StageRequest | CreateTable) -> Version | None:
    try:
        return find_version(
            db, request.namespace, request.table, request.table_version, current_seq(db)
        )
    except NotFoundError as error:
        if "table_version" in error.details:
            raise
        return None


def _delta_type(mode: WriteMode, *, keyed: bool, created: bool) -> DeltaType:
    """What a mode's rows are to the table, or why the mode does not fit it.

    Raises:
        SchemaValidationError: add or append to a keyed table; merge or delete without keys.
    """
    match mode:
        case "merge" | "delete":
            if not keyed:
                raise SchemaValidationError(f"mode {mode!r} needs a table with merge keys")
            return "delete" if mode == "delete" else "upsert"
        case "add" | "append":
            if keyed:
                raise SchemaValidationError(
                    f"mode {mode!r} does not fit a table with merge keys: use mode 'merge'"
                )
            return mode
        case "auto":
            return "upsert" if keyed else "append" if created else "add"
    return "upsert" if keyed else "append"


def stage(planner: EmbeddedPlanner, request: StageRequest, write: Write) -> WriteSession:
    """Handle `stage`."""
    if request.format.removeprefix("application/") != "parquet":
        raise UnsupportedError(f"format {request.format!r} is not supported yet: write parquet")
    found = _find(write.db, request)
    create: CreateTable | None = None
    if found is None:
        if request.mode not in _MODES_THAT_CREATE or request.create_if_missing is None:
            # Says which part of the name is missing, and what is like it.
            find_version(
                write.db,
                request.namespace,
                request.table,
                request.table_version,
                current_seq(write.db),
            )
        create = _creation(request)
        schema = define(create.schema_def, create.partition_scheme, create.sort_scheme)
    else:
        if request.mode == "create":
            raise AlreadyExistsError(f"table {request.namespace}.{request.table} already exists")
        schema = Definition(found.schema, found.partition_scheme, found.sort_scheme)
    keys = merge_keys_of(schema.schema)
    _delta_type(request.mode, keyed=bool(keys), created=found is None)
    if request.mode == "replace_partition" and schema.partition_scheme is None:
        raise SchemaValidationError("mode 'replace_partition' needs a partitioned table")
    now_ns = write.clock_ns()
    session_id = f"ws_{uuid.uuid4().hex}"
    session = WriteSession(
        session_id=session_id,
        session_version=1,
        status="OPEN",
        namespace=request.namespace,
        table=request.table,
        data_dir=planner.data_dir(found.table_uuid if found else session_id, session_id),
        mode=request.mode,
        table_version=found.version if found else request.table_version,
        table_exists=found is not None,
        schema_serialized=encode_schema(schema.schema),
        merge_keys=list(keys),
        partition_scheme=schema.partition_scheme,
        sort_scheme=schema.sort_scheme,
        schema_evolution_mode="manual",
        created_at=now_ns,
        expires_at=now_ns + SESSION_NS,
        last_heartbeat_at=now_ns,
    )
    if create is not None:
        create = msgspec.structs.replace(
            create,
            schema_def=session.schema_serialized,
            partition_scheme=schema.partition_scheme,
            sort_scheme=schema.sort_scheme,
        )
    _keep(write, _Kept(session, create, request.allow_external_entries))
    return session


def _creation(request: StageRequest) -> CreateTable:
    """The table that the session's commit is to make."""
    asked = request.create_if_missing
    if asked is None:
        raise NotFoundError(
            f"table {request.namespace}.{request.table} not found; pass create_if_missing to make it"
        )
    return CreateTable(
        namespace=check_name("namespace", request.namespace),
        table=check_name("table", request.table),
        table_version=request.table_version,
        schema_def=asked.schema_def,
        partition_scheme=asked.partition_scheme,
        sort_scheme=asked.sort_scheme,
        table_description=asked.table_description,
        table_properties=asked.table_properties,
        table_version_properties=asked.table_version_properties,
        namespace_properties=asked.namespace_properties,
        auto_create_namespace=asked.auto_create_namespace,
    )


def _keep(write: Write, kept: _Kept) -> None:
    s = kept.session
    write.db.execute(
        "INSERT OR REPLACE INTO write_session VALUES (?, ?, ?, ?, ?)",
        (s.session_id, s.session_version, s.status, s.expires_at, msgspec.json.encode(kept)),
    )


def _kept(db: apsw.Connection, session_id: str) -> _Kept:
    row = db.execute(
        "SELECT body FROM write_session WHERE session_id = ?", (session_id,)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"write session {session_id!r} not found")
    return msgspec.json.decode(row[0], type=_Kept)


def _open(
    write: Write,
    request: HeartbeatRequest | AbortRequest | CommitRequest,
    *,
    even_expired: bool = False,
) -> _Kept:
    """The session, if it still is open and the caller knows its latest version."""
    kept = _kept(write.db, request.session_id)
    session = kept.session
    if session.status != "OPEN":
        raise RequestRejectedError(
            f"write session {session.session_id} is {session.status}: stage a new one",
            code="session_closed",
            status=409,
        )
    if session.expires_at < write.clock_ns() and not even_expired:
        raise RequestRejectedError(
            f"write session {session.session_id} expired: stage a new one and heartbeat it",
            code="session_expired",
            status=410,
        )
    if session.session_version != request.session_version:
        raise ConcurrentModificationError(
            f"write session {session.session_id} is at version {session.session_version}, "
            f"not {request.session_version}: another call changed it"
        )
    return kept


def get_session(planner: EmbeddedPlanner, request: SessionRequest) -> WriteSession:
    """Handle `get_session`."""
    with planner.store.read() as db:
        return _kept(db, request.session_id).session


def heartbeat(planner: EmbeddedPlanner, request: HeartbeatRequest, write: Write) -> WriteSession:
    """Handle `heartbeat`: the session stays open for another hour.

    Its version stays, so that a writer elsewhere can commit with the session it was given.
    """
    kept = _open(write, request)
    session = msgspec.structs.replace(
        kept.session,
        last_heartbeat_at=write.clock_ns(),
        expires_at=write.clock_ns() + SESSION_NS,
    )
    _keep(write, msgspec.structs.replace(kept, session=session))
    return session


def abort(planner: EmbeddedPlanner, request: AbortRequest, write: Write) -> WriteSession:
    """Handle `abort`; aborting an aborted session changes nothing."""
    kept = _kept(write.db, request.session_id)
    if kept.session.status == "ABORTED":
        return kept.session
    kept = _open(write, request, even_expired=True)
    session = msgspec.structs.replace(
        kept.session, session_version=kept.session.session_version + 1, status="ABORTED"
    )
    _keep(write, msgspec.structs.replace(kept, session=session))
    return session


def commit(planner: EmbeddedPlanner, request: CommitRequest, write: Write) -> WriteSession:
    """Handle `commit`: the entries' files become part of the table, all of them or none."""
    kept = _open(write, request)
    session = kept.session
    sizes = [_check_entry(session, entry, external=kept.external) for entry in request.entries]
    _check_distinct(write, [planner.relative(entry.path) for entry in request.entries])
    target = _target(write, kept)
    partitions = _place(write, target.version, request.entries, session.mode)
    placed = list(map(_Placed, request.entries, partitions, sizes))
    if placed:
        _register(planner, write, target, session, placed)
    done = msgspec.structs.replace(
        session,
        session_version=session.session_version + 1,
        status="COMMITTED",
        table_version=target.version.version,
        files_registered=len(sizes),
        total_records=sum(e.record_count for e in request.entries),
        total_bytes=sum(sizes),
        deltas_written=len(set(partitions)),
        committed=True,
        attached=False,
        snapshot=current_seq(write.db),
    )
    _keep(write, msgspec.structs.replace(kept, session=done, operation_id=request.operation_id))
    return done


def _check_entry(session: WriteSession, entry: WriteEntry, *, external: bool) -> int:
    """The file's size, after making sure that it is where and what the entry says."""
    path = os.path.normpath(local_path(entry.path))
    inside = os.path.normpath(local_path(session.data_dir)) + os.sep
    if not os.path.isabs(path):
        raise RequestRejectedError(f"entry {entry.path} is a relative path: name it from the root")
    if not external and not path.startswith(inside):
        raise RequestRejectedError(
            f"entry {entry.path} is not below the session's data_dir {session.data_dir}"
        )
    if entry.record_count < 0:
        raise RequestRejectedError(
            f"entry {entry.path}: record_count {entry.record_count} is negative"
        )
    try:
        found = os.stat(path)
    except OSError as error:
        raise DataFileError(f"staged file {entry.path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataFileError(f"staged file {entry.path} is no regular file")
    size = found.st_size
    if entry.content_length not in (None, size):
        raise DataFileError(
            f"staged file {entry.path} has {size} bytes, its entry says {entry.content_length}"
        )
    return size


def _check_distinct(write: Write, paths: Sequence[str]) -> None:
    """Refuse a file that two entries name, or that a table holds already."""
    if len(set(paths)) != len(paths):
        raise RequestRejectedError("two entries name the same file")
    query = "SELECT 1 FROM file WHERE path = ? AND end_seq IS NULL"
    for path in paths:
        if write.db.execute(query, (path,)).fetchone():
            raise RequestRejectedError(f"file {path} is part of a table already")


def _target(write: Write, kept: _Kept) -> _Target:
    """The table that the commit writes into, made if the session was to make it."""
    session = kept.session
    asked = CreateTable(
        namespace=session.namespace, table=session.table, table_version=session.table_version
    )
    found = _find(write.db, asked)
    created = False
    if kept.create is not None:
        if found is None:
            definition = define(
                kept.create.schema_def, kept.create.partition_scheme, kept.create.sort_scheme
            )
            add_table(write, kept.create, definition)
            found, created = _find(write.db, asked), True
        elif session.mode == "create":
            raise AlreadyExistsError(f"table {session.namespace}.{session.table} already exists")
    if found is None:
        raise ConcurrentModificationError(
            f"table {session.namespace}.{session.table} has gone since the session was staged"
        )
    schema = decode_schema(session.schema_serialized or "")
    if not found.schema.equals(schema, check_metadata=True) or not _same(
        found.partition_scheme, session.partition_scheme
    ):
        raise ConcurrentModificationError(
            f"table {session.namespace}.{session.table} changed its schema since the session was staged"
        )
    keyed = bool(found.merge_keys)
    return _Target(found, _delta_type(session.mode, keyed=keyed, created=created))


def _same(one: PartitionScheme | None, other: PartitionScheme | None) -> bool:
    return (one.keys if one else None) == (other.keys if other else None)


def _place(
    write: Write, version: Version, entries: Sequence[WriteEntry], mode: WriteMode
) -> list[int]:
    """The partition of each entry, by the ledger's id; replaced ones end and begin anew."""
    texts = _partition_texts(version, entries)
    if mode == "replace" or (mode == "replace_partition" and entries):
        _end(write, version, None if mode == "replace" else sorted({t or "" for t in texts}))
    ids: dict[str | None, int] = {}
    for text in texts:
        if text not in ids:
            ids[text] = _partition(write, version, text)
    return [ids[text] for text in texts]


def _partition_texts(version: Version, entries: Sequence[WriteEntry]) -> list[str | None]:
    scheme = version.partition_scheme
    if scheme is None:
        return [None] * len(entries)
    width = len(scheme.keys)
    for entry in entries:
        if entry.partition_values is None or len(entry.partition_values) != width:
            raise SchemaValidationError(
                f"entry {entry.path}: expected {width} partition values, got {entry.partition_values}"
            )
    columns = []
    for i, key in enumerate(scheme.keys):
        given = [(e.partition_values or [])[i] for e in entries]
        held = load_array(given, value_type(key, version.schema))
        for entry, value, is_null in zip(entries, given, held.is_null().to_pylist(), strict=True):
            if is_null and value is not None:
                raise SchemaValidationError(
                    f"entry {entry.path}: {value!r} is no partition value of type {held.type}"
                )
        columns.append(dump_array(held))
    return [msgspec.json.encode(list(row)).decode() for row in zip(*columns, strict=True)]


def _end(write: Write, version: Version, only: list[str] | None) -> None:
    seq = write.seq()
    live = "version_id = ? AND end_seq IS NULL"
    rows = write.db.execute(
        f"SELECT partition_id, coalesce(partition_values, '') FROM partition WHERE {live}",
        (version.version_id,),
    ).fetchall()
    for partition_id, text in rows:
        if only is None or text in only:
            for table in ("file", "partition"):
                write.db.execute(
                    f"UPDATE {table} SET end_seq = ? WHERE {live} AND partition_id = ?",
                    (seq, version.version_id, partition_id),
                )


def _partition(write: Write, version: Version, text: str | None) -> int:
    found = write.db.execute(
        "SELECT partition_id FROM partition WHERE version_id = ? AND end_seq IS NULL"
        " AND coalesce(partition_values, '') = ?",
        (version.version_id, text or ""),
    ).fetchone()
    if found is not None:
        return int(found[0])
    return write.insert(
        "partition",
        uuid=str(uuid.uuid4()),
        version_id=version.version_id,
        partition_values=text,
        begin_seq=write.seq(),
    )


def _register(
    planner: EmbeddedPlanner,
    write: Write,
    target: _Target,
    session: WriteSession,
    placed: Sequence[_Placed],
) -> None:
    seq = write.seq(f"{session.mode} {session.namespace}.{session.table}")
    version = target.version
    deletes = msgspec.json.encode(list(version.merge_keys)).decode()
    rows = []
    for entry, partition_id, size in placed:
        path = planner.relative(entry.path)
        locators = (entry.entry_params or {}).get("equality_field_locators")
        if locators == []:
            raise RequestRejectedError(f"entry {entry.path}: equality_field_locators is empty")
        check_columns(locators or (), version.schema)
        columns = msgspec.json.encode(locators).decode() if locators else deletes
        rows.append(
            (
                version.version_id,
                partition_id,
                path,
                "parquet",
                entry.content_encoding or "identity",
                size,
                entry.record_count,
                target.delta_type,
                # Positions come from the one sequence, so that they grow with commit order.
                seq,
                columns if target.delta_type == "delete" else None,
                version.schema_id,
                entry.sort_scheme_id,
                _file_hash(path, size, entry.record_count),
                seq,
            )
        )
    write.db.executemany(
        "INSERT INTO file(version_id, partition_id, path, content_type, content_encoding,"
        " content_length, record_count, delta_type, stream_position, delete_columns, schema_id,"
        " sort_scheme_id, hash, begin_seq) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        rows,
    )
    first = write.db.last_insert_rowid() - len(rows) + 1
    write.insert(
        "segment",
        version_id=version.version_id,
        first_file_id=first,
        last_file_id=first + len(rows) - 1,
        encoding=ENCODING,
        body=pack_segment(version.schema, [_stats(p.entry) for p in placed]),
    )


def _stats(entry: WriteEntry) -> dict[str, ColumnStats] | None:
    """The entry's statistics, unless its own row count contradicts them."""
    for column, stats in (entry.column_stats or {}).items():
        for count in (stats.null_count, stats.nan_count):
            if count is not None and not 0 <= count <= entry.record_count:
                raise SchemaValidationError(
                    f"entry {entry.path}, column {column!r}: a count of {count} "
                    f"in {entry.record_count} rows"
                )
    return entry.column_stats


def _file_hash(path: str, size: int, records: int) -> bytes:
    """Formula 1 of the per-file hash that snapshot ids add up; little end first."""
    text = f"{path}\0{size}\0{records}".encode()
    return hashlib.blake2b(text, digest_size=16).digest()
