"""Commits: staged files, checked and described in columns, become part of a table.

A commit is prepared first, which looks at every file; what it prepares is applied at once, or, where
its session is bound to a transaction, when that commits.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
)
from io_core.formats import schema_of_file
from io_core.literal import dump_array, load_array
from io_core.partition import value_type
from io_core.schema import FIELD_ID, assign_field_ids, check_columns, decode_schema
from planner_client.protocol.tables import CreateTable
from planner_client.protocol.writes import CommitRequest
from planner_client.server.catalog import (
    add_missing,
    add_schema,
    define,
    end_partitions,
    find_version,
)
from planner_client.server.columns import Profile
from planner_client.server.conflicts import Change, blocking
from planner_client.server.growing import files_to_look_into, grown_by_files, with_schema
from planner_client.server.lineage import rows_since, sources_of
from planner_client.server.partitions import fold_partitions
from planner_client.server.segments import NewFiles, add_files, stats_columns
from planner_client.server.sessions import Kept, delta_type, find_existing, keep, opened
from planner_client.server.staged import StagedInStore
from planner_client.server.staged_locally import StagedLocally
from planner_client.server.statistics import known_counts
from planner_client.server.store import AT, View, latest

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    import apsw

    from io_core.model import ColumnStats, DeltaType, PartitionScheme, WriteEntry, WriteSession
    from io_core.storage import Storage
    from planner_client.protocol.endpoint import Request
    from planner_client.server.catalog import Version
    from planner_client.server.columns import FileColumns, Rows
    from planner_client.server.conflicts import Kind
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import Write

__all__ = [
    "Applied",
    "Prepared",
    "apply",
    "attach",
    "commit",
    "conflict",
    "prepare",
    "restore",
    "transaction_of",
]


_REPLACING = ("replace", "replace_partition")


class Prepared(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a commit adds, in columns; lists have one entry per file unless they say otherwise.

    Attributes:
        kept: The session.
        path: Below the catalog's root, or absolute; `size` in bytes, `rows` likewise.
        hash: 16 bytes per file, one after another.
        partition: Index into `partitions`, the distinct partition values as the ledger has them.
        kind: Index into `kinds`: content type, content encoding, delete columns, sort scheme id.
        stats: As `NewFiles` has them.
        sources: The table's files that the rows are from, where they are no new ones; empty where no
            file has any.
        emptied: Partition values, as `partitions` has them, of which no row is left.
    """

    kept: Kept
    path: list[str]
    size: list[int]
    rows: list[int]
    hash: bytes
    partition: list[int]
    partitions: list[str | None]
    kind: list[int]
    kinds: list[tuple[str, str, str | None, str | None]]
    # Any: JSON scalars.
    stats: dict[str, list[list[Any]]]
    sources: list[list[str]] = []
    emptied: list[str | None] = []

    @property
    def replaced(self) -> frozenset[str | None]:
        """The partitions that end where the mode replaces them."""
        return frozenset(self.partitions) | frozenset(self.emptied)


class Applied(NamedTuple):
    """What a commit came to: the version it wrote into, and how many deltas it made."""

    version: Version
    deltas: int


def transaction_of(db: apsw.Connection, request: Request) -> str | None:
    """The transaction that a call stands in: of a commit the one that its session is bound to.

    Raises:
        RequestRejectedError: A commit names another one.
    """
    named = request.transaction_id
    if not isinstance(request, CommitRequest):
        return named
    row = db.execute(
        "SELECT transaction_id FROM write_session WHERE session_id = ?", (request.session_id,)
    ).fetchone()
    if row is None:
        return named
    bound: str | None = row[0]
    if named not in (None, bound):
        raise RequestRejectedError(
            f"write session {request.session_id} was staged in "
            f"{f'transaction {bound}' if bound else 'no transaction'}, not in {named}: "
            "stage one in it",
            code="invalid_request",
        )
    return bound


def commit(planner: EmbeddedPlanner, request: CommitRequest, write: Write) -> WriteSession:
    """Handle `commit`: the entries' files become part of the table, all of them or none."""
    prepared = prepare(planner, request, write)
    applied = apply(planner, write, prepared)
    # An append by itself takes its place in the order now, whatever was appended since it was staged.
    mine = [
        msgspec.structs.replace(c, kind="add") if c.kind == "append" else c for c in write.changes
    ]
    found = blocking(write.db, mine, prepared.kept.base)
    if found is not None:
        raise conflict(*found, f"{prepared.kept.session.namespace}.{prepared.kept.session.table}")
    done = _done(prepared, applied.deltas, status="COMMITTED")
    done = msgspec.structs.replace(
        done,
        table_version=applied.version.version,
        committed=True,
        attached=False,
        snapshot=write.own if write.changes else latest(write.db),
    )
    keep(write.db, msgspec.structs.replace(prepared.kept, session=done))
    return done


def conflict(theirs: Change, snapshot: int, name: str) -> ConcurrentModificationError:
    """The error of a commit that came second."""
    return _outdated(
        f"{name}: another commit came first (snapshot {snapshot}: {theirs}); "
        "read again and write with a new session",
        blocking_snapshot=snapshot,
    )


def _outdated(message: str, **details: object) -> ConcurrentModificationError:
    """What a write began with is no longer so: a fresh read and a new session may succeed."""
    plain = {"conflict_class": "retryable_stale_read", "blocker_outcome": "committed"}
    return ConcurrentModificationError(message, details=plain | details)


def attach(
    planner: EmbeddedPlanner, request: CommitRequest, write: Write
) -> tuple[Prepared, WriteSession]:
    """The commit of a session that is bound to a transaction: checked now, applied with it."""
    prepared = prepare(planner, request, write)
    applied = apply(planner, write, prepared)
    done = _done(prepared, applied.deltas, status="ATTACHED")
    return prepared, msgspec.structs.replace(
        done, table_version=applied.version.version, committed=False, attached=True
    )


def _done(prepared: Prepared, deltas: int, *, status: str) -> WriteSession:
    session = prepared.kept.session
    return msgspec.structs.replace(
        session,
        session_version=session.session_version + 1,
        status=status,
        files_registered=len(prepared.path),
        total_records=sum(prepared.rows),
        total_bytes=sum(prepared.size),
        deltas_written=deltas,
    )


def prepare(planner: EmbeddedPlanner, request: CommitRequest, write: Write) -> Prepared:
    """Look at every entry's file, and describe them in columns.

    Raises:
        DataFileError: A file is missing or not what its entry says.
        RequestRejectedError: A file outside of the session's directory, or named twice.
        SchemaValidationError: Partition values or statistics that do not fit the table.
    """
    kept = opened(write.db, request, write.clock_ns())
    entries, session = request.entries, kept.session
    paths = [planner.relative(entry.path) for entry in entries]
    _check_distinct(paths)
    own = _own_files(planner, write.view, session, entries, paths)
    sizes = _sizes(planner, kept, entries, paths, own)
    if kept.infer and entries:
        kept = _inferred(kept, entries[0], planner.storage)
    if unknown := files_to_look_into(kept.session, entries):
        found = _existing(write.view, session)
        kept = grown_by_files(kept, unknown, write.view, found, planner.storage)
    serialized = kept.session.schema_serialized
    schema = None if serialized is None else decode_schema(serialized)
    values = _partition_texts(kept.session.partition_scheme, schema, entries)
    replaces, emptied = session.mode in _REPLACING, dict[str | None, None]()
    if replaces:
        # A file without rows says that its partition has none: whoever reads that needs no file.
        filled = [i for i, entry in enumerate(entries) if entry.record_count]
        emptied = {v: None for v, e in zip(values, entries, strict=True) if not e.record_count}
        entries, paths = [entries[i] for i in filled], [paths[i] for i in filled]
        sizes, values = [sizes[i] for i in filled], [values[i] for i in filled]
    kinds: dict[tuple[str, str, str | None, str | None], int] = {}
    kind = [kinds.setdefault(_kind(entry, kept), len(kinds)) for entry in entries]
    named = {name for k in kinds if k[2] for name in msgspec.json.decode(k[2])}
    check_columns(named, schema if schema is not None else pa.schema([]))
    texts: dict[str | None, int] = {}
    rows = [entry.record_count for entry in entries]
    sources = [
        [path] if path in own else [*map(planner.relative, sources_of(entry))] if replaces else []
        for path, entry in zip(paths, entries, strict=True)
    ]
    return Prepared(
        kept=kept,
        path=paths,
        size=sizes,
        rows=rows,
        hash=b"".join(map(_file_hash, paths, sizes, rows)),
        partition=[texts.setdefault(text, len(texts)) for text in values],
        partitions=list(texts),
        kind=kind,
        kinds=list(kinds),
        stats=stats_columns(schema, [_stats(entry) for entry in entries]),
        sources=sources if any(sources) else [],
        emptied=list(emptied),
    )


def _sizes(
    planner: EmbeddedPlanner,
    kept: Kept,
    entries: Sequence[WriteEntry],
    paths: Sequence[str],
    own: Container[str],
) -> list[int]:
    """Each file's size, after making sure that it may be where it is.

    What replaces rows of a table may keep the table's own files, wherever they are.
    """
    session = kept.session

    def place(*, external: bool) -> StagedLocally | StagedInStore:
        if planner.place is None:
            return StagedLocally(session.data_dir, external=external)
        return StagedInStore(planner.place, session, external=external)

    strict, lenient = place(external=kept.external), place(external=True)
    return [
        (lenient if path in own else strict).size(entry, session.format)
        for entry, path in zip(entries, paths, strict=True)
    ]


def _own_files(
    planner: EmbeddedPlanner,
    view: View,
    session: WriteSession,
    entries: Sequence[WriteEntry],
    paths: Sequence[str],
) -> frozenset[str]:
    """The files that the session's table has now, where entries may be some of them."""
    inside = planner.relative(session.data_dir) + "/"
    if session.mode not in _REPLACING or all(path.startswith(inside) for path in paths):
        return frozenset()
    version = _existing(view, session)
    if version is None:
        return frozenset()
    columns = planner.columns.get(view, version)
    rows = columns.live(view, slice(None)).nonzero()[0]
    return frozenset(columns.paths(view, rows).to_pylist())


def _check_distinct(paths: Sequence[str]) -> None:
    if len(set(paths)) != len(paths):
        raise RequestRejectedError("two entries name the same file")


def _inferred(kept: Kept, entry: WriteEntry, storage: Storage) -> Kept:
    """The session with the schema that its first file has, for a table that it is to make."""
    found = schema_of_file(entry.path, kept.session.format, storage=storage)
    if found is None or kept.create is None:
        return kept
    return with_schema(kept, assign_field_ids(found.remove_metadata()))


def _kind(entry: WriteEntry, kept: Kept) -> tuple[str, str, str | None, str | None]:
    locators = (entry.entry_params or {}).get("equality_field_locators")
    if locators == []:
        raise RequestRejectedError(f"entry {entry.path}: equality_field_locators is empty")
    deletes = None
    if kept.session.mode == "delete":
        names = locators or kept.session.merge_keys
        deletes = msgspec.json.encode(names).decode()
    # The session says what the files are: an entry has no field for it on this wire.
    return kept.session.format, entry.content_encoding or "identity", deletes, entry.sort_scheme_id


def _partition_texts(
    scheme: PartitionScheme | None, schema: pa.Schema | None, entries: Sequence[WriteEntry]
) -> list[str | None]:
    """Each entry's partition values as the ledger has them."""
    if scheme is None or schema is None:
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
        held = load_array(given, value_type(key, schema))
        for entry, value, is_null in zip(entries, given, held.is_null().to_pylist(), strict=True):
            if is_null and value is not None:
                raise SchemaValidationError(
                    f"entry {entry.path}: {value!r} is no partition value of type {held.type}"
                )
        columns.append(dump_array(held))
    return [msgspec.json.encode(list(row)).decode() for row in zip(*columns, strict=True)]


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


def apply(planner: EmbeddedPlanner, write: Write, prepared: Prepared) -> Applied:
    """Make prepared files part of their table.

    Raises:
        ConcurrentModificationError: The table changed its shape since the session was staged.
    """
    session = prepared.kept.session
    version, delta = _target(write, prepared.kept)
    since: list[int | None] = [None] * len(prepared.path)
    if prepared.sources and not version.merge_keys:
        # Before any file ends.
        since = rows_since(planner.columns.get(write.view, version), write, prepared.sources)
    if session.mode not in _REPLACING and prepared.kept.external:
        _check_absent(planner, write.view, version, prepared.path)
    kind: Kind = "upsert" if delta == "delete" else delta
    if session.mode == "replace":
        kind = "replace"
        end_partitions(write, version.version_id)
    elif session.mode == "replace_partition":
        kind = "replace_partition"
        end_partitions(write, version.version_id, prepared.replaced)
    if prepared.path and prepared.kept.table_schema is not None:
        add_schema(write, version.version_id, decode_schema(session.schema_serialized or ""))
        version = find_version(write.view, version.namespace, version.table, version.version)
        named = (version.namespace, version.table, version.table_id, version.version_id)
        write.change(Change("alter", *named))
    if prepared.path:
        _register(write, version, delta, prepared, since)
    if prepared.path or prepared.emptied or kind == "replace":
        partitions = frozenset(text or "" for text in prepared.replaced)
        write.change(
            Change(
                kind,
                session.namespace,
                session.table,
                version.table_id,
                version.version_id,
                partitions,
            )
        )
    return Applied(version, len(prepared.partitions))


def _target(write: Write, kept: Kept) -> tuple[Version, DeltaType]:
    """The table that the commit writes into, made if the session was to make it."""
    session = kept.session
    name = f"{session.namespace}.{session.table}"
    found, created = _existing(write.view, session), False
    if kept.create is not None:
        if found is None:
            create = kept.create
            definition = define(create.schema_def, create.partition_scheme, create.sort_scheme)
            found, created = add_missing(write, create, definition), True
        elif session.mode == "create":
            raise AlreadyExistsError(f"table {name} already exists")
    if found is None:
        raise _outdated(f"table {name} has gone since the session was staged")
    if kept.table_uuid not in {None, found.table_uuid}:
        raise _outdated(f"table {name} was dropped and made again since the session was staged")
    serialized = kept.table_schema or session.schema_serialized
    schema = None if serialized is None else decode_schema(serialized)
    same = (
        found.schema is schema
        if None in (found.schema, schema)
        else found.schema.equals(schema, check_metadata=True)  # type: ignore[union-attr]
    )
    if not same or not _same_keys(found.partition_scheme, session.partition_scheme):
        raise _outdated(f"table {name} changed its schema since the session was staged")
    keyed = bool(found.merge_keys)
    return found, delta_type(session.mode, keyed=keyed, created=created)


def _existing(view: View, session: WriteSession) -> Version | None:
    """The version that a commit writes into; None where it is missing, and may be made.

    Raises:
        ConcurrentModificationError: There was one when the session was staged.
    """
    asked = CreateTable(
        namespace=session.namespace, table=session.table, table_version=session.table_version
    )
    try:
        return find_existing(view, asked, session.mode)
    except NotFoundError as error:
        raise _outdated(f"{error}, other than when the session was staged") from None


def _same_keys(one: PartitionScheme | None, other: PartitionScheme | None) -> bool:
    return (one.keys if one else None) == (other.keys if other else None)


def _check_absent(
    planner: EmbeddedPlanner, view: View, version: Version, paths: Sequence[str]
) -> None:
    """Refuse files that are part of the table already: their rows would be there twice."""
    columns = planner.columns.get(view, version)
    rows = columns.live(view, slice(None)).nonzero()[0]
    held = columns.paths(view, rows)
    found = pc.is_in(pa.array(paths, pa.string()), value_set=held)
    if pc.any(found).as_py():
        twice = paths[found.to_pylist().index(True)]
        raise RequestRejectedError(f"file {twice} is part of the table already")


def _partition_ids(write: Write, version: Version, texts: Sequence[str | None]) -> list[int]:
    """The ledger's ids of partitions; those that are missing are made."""
    ids = []
    made = False
    for text in texts:
        found = write.db.execute(
            "SELECT partition_id FROM partition WHERE version_id = ?3 AND partition_values IS ?4"
            f" AND {AT}",
            (*write.view.at, version.version_id, text),
        ).fetchone()
        made = made or found is None
        ids.append(int(found[0]) if found else _new_partition(write, version, text))
    if made:
        fold_partitions(write.db, version.version_id, version.schema, version.partition_scheme)
    return ids


def _new_partition(write: Write, version: Version, text: str | None) -> int:
    return write.insert(
        "partition",
        uuid=write.uuid(),
        version_id=version.version_id,
        partition_values=text,
        begin_seq=write.own,
    )


def _register(
    write: Write,
    version: Version,
    delta: DeltaType,
    prepared: Prepared,
    since: Sequence[int | None],
) -> None:
    ids = _partition_ids(write, version, prepared.partitions)

    @functools.cache
    def profile(kind: int, rows_since: int | None) -> str:
        content_type, encoding, deletes, sort_id = prepared.kinds[kind]
        shared = Profile(
            content_type, encoding, delta, deletes, version.schema_id, sort_id, rows_since
        )
        return msgspec.json.encode(shared).decode()

    position = write.position()
    add_files(
        write.db,
        version.version_id,
        version.schema,
        NewFiles(
            begin=write.own,
            path=prepared.path,
            size=prepared.size,
            rows=prepared.rows,
            partition=[ids[i] for i in prepared.partition],
            position=[position] * len(prepared.path),
            profile=[profile(*named) for named in zip(prepared.kind, since, strict=True)],
            hash=prepared.hash,
            stats=prepared.stats,
        ),
    )


def restore(planner: EmbeddedPlanner, write: Write, version: Version, snapshot: int) -> None:
    """Make the version's files those of an earlier snapshot, as new entries of the same files."""
    earlier = View(write.db, snapshot)
    columns = planner.columns.get(write.view, version)
    rows = columns.live(earlier, slice(None)).nonzero()[0]
    paths = columns.paths(write.view, rows).to_pylist()
    since: list[int | None] = [None] * len(rows)
    if not version.merge_keys:
        # Of those that are there now, too, nothing changes. Where rows merge, others may show again.
        since = rows_since(columns, write, [[path] for path in paths])
    end_partitions(write, version.version_id)
    if not len(rows):
        return
    held = columns.partitions
    fresh: dict[int, int] = {}
    for index in dict.fromkeys(columns.partition[rows].tolist()):
        (text,) = write.db.execute(
            "SELECT partition_values FROM partition WHERE partition_id = ?",
            (int(held.ids[index]),),
        ).fetchone()
        fresh[index] = _new_partition(write, version, text)
    add_files(
        write.db,
        version.version_id,
        version.schema,
        NewFiles(
            begin=write.own,
            path=paths,
            size=columns.size[rows].tolist(),
            rows=columns.rows[rows].tolist(),
            partition=[fresh[i] for i in columns.partition[rows].tolist()],
            position=columns.position[rows].tolist(),
            profile=[
                msgspec.json.encode(
                    msgspec.structs.replace(columns.profiles[i], rows_since=first)
                ).decode()
                for i, first in zip(columns.profile[rows].tolist(), since, strict=True)
            ],
            hash=b"".join(columns.hashes_of(write.view, rows).to_pylist()),
            stats=_stats_of(write.view, version, columns, rows),
        ),
    )


def _stats_of(
    view: View, version: Version, columns: FileColumns, rows: Rows
) -> dict[str, list[list[Any]]]:
    """Statistics of files as a commit brings them."""
    found = {}
    for field in version.schema or ():
        stats = columns.stats.of(view, field, columns.height)
        if stats is not None:
            taken = stats.take(rows)
            bounds = [dump_array(taken.low), dump_array(taken.high)]
            counts = [known_counts(c).to_pylist() for c in (taken.null_count, taken.nan_count)]
            found[field.metadata[FIELD_ID].decode()] = [*bounds, *counts]
    return found
