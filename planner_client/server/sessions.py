"""Write sessions: staged, kept open, aborted; what the ledger keeps of each."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
)
from io_core.model import DeltaType, WriteMode, WriteSession, check_name
from io_core.schema import encode_schema, merge_keys_of
from planner_client.protocol.tables import CreateTable
from planner_client.server.catalog import (
    Definition,
    Version,
    define,
    existing_table,
    expect_table,
    find_table,
    find_version,
)
from planner_client.server.growing import announced, schema_fields
from planner_client.server.properties import version_properties

if TYPE_CHECKING:
    import apsw

    from planner_client.protocol.writes import (
        AbortRequest,
        CommitRequest,
        HeartbeatRequest,
        SessionRequest,
        StageRequest,
    )
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import View, Write

__all__ = [
    "FORMATS",
    "Kept",
    "abort",
    "delta_type",
    "end",
    "expire",
    "find_existing",
    "get_session",
    "heartbeat",
    "keep",
    "kept",
    "open_session",
    "opened",
    "scope_of",
    "stage",
]

SESSION_NS = 3600 * 10**9
_MODES_THAT_CREATE = ("auto", "create")
FORMATS = ("parquet", "feather", "orc", "avro", "lance", "csv", "tsv", "psv", "json")
# They carry no types: a table with a schema takes none of them.
_SCHEMALESS_FORMATS = frozenset({"csv", "tsv", "psv", "json"})


class Kept(msgspec.Struct, frozen=True):
    """A session as the ledger keeps it.

    Attributes:
        session: What its creator got.
        base: The snapshot it was staged at; its commit conflicts with what came after.
        create: The table to make, if it is missing.
        infer: Whether that table's schema is to come from the first file.
        external: Whether entries may lie outside of `data_dir`.
        table_uuid: The table it was staged for, or is to make a version of; None where it is to make
            the table.
        table_schema: That table's schema, where the commit changes it to the session's.
    """

    session: WriteSession
    base: int
    create: CreateTable | None = None
    infer: bool = False
    external: bool = False
    table_uuid: str | None = None
    table_schema: str | None = None


def find_existing(
    view: View, request: StageRequest | CreateTable, mode: WriteMode
) -> Version | None:
    """The version that is written into; None where it is missing, and the mode may make it.

    Of a table that is there, `create` alone makes a version, one that is named.
    """
    try:
        return find_version(view, request.namespace, request.table, request.table_version)
    except NotFoundError as error:
        named = request.table_version is not None and mode == "create"
        if "table_version" in error.details and not named:
            raise
        return None


def delta_type(mode: WriteMode, *, keyed: bool, created: bool) -> DeltaType:
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
    opened_session = open_session(planner, request, write)
    keep(write.db, opened_session)
    return opened_session.session


def open_session(planner: EmbeddedPlanner, request: StageRequest, write: Write) -> Kept:
    """The session that a request asks for, not kept yet."""
    kind = _format_of(request.format)
    found = find_existing(write.view, request, request.mode)
    table_uuid = found.table_uuid if found else _table_uuid(write.view, request)
    expect_table(f"{request.namespace}.{request.table}", table_uuid, request.expected_table_id)
    create: CreateTable | None = None
    infer = False
    if found is None:
        create, infer = _creation(write.view, request, kind)
        owner = existing_table(write.view, create)
        inherited = create.table_properties if owner is None else owner.properties
        properties = version_properties(create, inherited)
        schema = Definition(None, None, None)
        if not infer:
            schema = define(create.schema_def, create.partition_scheme, create.sort_scheme)
    else:
        if request.mode == "create":
            raise AlreadyExistsError(f"table {request.namespace}.{request.table} already exists")
        properties = found.properties
        grown = announced(write.view, found, request)
        schema = Definition(grown, found.partition_scheme, found.sort_scheme)
        _check_format(found, kind)
    keys = _checked_keys(request, schema, created=found is None)
    changed = found is not None and schema.schema is not found.schema
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
        format=kind,
        table_version=found.version if found else request.table_version,
        table_exists=found is not None,
        merge_keys=list(keys),
        partition_scheme=schema.partition_scheme,
        sort_scheme=schema.sort_scheme,
        **schema_fields(schema.schema, properties, found.schema_id + changed if found else 0),
        created_at=now_ns,
        expires_at=now_ns + SESSION_NS,
        last_heartbeat_at=now_ns,
        expected_table_id=request.expected_table_id,
        transaction_id=request.transaction_id,
    )
    if create is not None:
        create = _settled(create, session, None if infer else schema)
    return Kept(
        session,
        write.view.base,
        create,
        infer,
        request.allow_external_entries,
        table_uuid,
        encode_schema(found.schema) if found and changed else None,
    )


def _table_uuid(view: View, request: StageRequest) -> str | None:
    """The table that lacks the version which a request is to make; None where that is missing too."""
    try:
        return find_table(view, request.namespace, request.table).uuid
    except NotFoundError:
        return None


def _settled(create: CreateTable, session: WriteSession, shape: Definition | None) -> CreateTable:
    """The table to make, as the session's writer is told of it; no shape where files are to give it."""
    shape = shape or Definition(None, create.partition_scheme, create.sort_scheme)
    return msgspec.structs.replace(
        create,
        schema_def=session.schema_serialized,
        partition_scheme=shape.partition_scheme,
        sort_scheme=shape.sort_scheme,
    )


def _checked_keys(request: StageRequest, shape: Definition, *, created: bool) -> tuple[str, ...]:
    """The merge keys, after making sure that the mode fits the table."""
    keys = () if shape.schema is None else merge_keys_of(shape.schema)
    delta_type(request.mode, keyed=bool(keys), created=created)
    if request.mode == "replace_partition" and shape.partition_scheme is None:
        raise SchemaValidationError("mode 'replace_partition' needs a partitioned table")
    return keys


def _format_of(text: str) -> str:
    """The format's plain name; published clients write it in several ways."""
    plain = text.rpartition("/")[2].rpartition(".")[2].removeprefix("vnd.").lower()
    if plain not in FORMATS:
        raise RequestRejectedError(
            f"unknown format {text!r}: use one of {', '.join(FORMATS)}", code="invalid_request"
        )
    return plain


def _check_format(version: Version, format: str) -> None:
    """Raise where the table does not take files of the format."""
    name = f"{version.namespace}.{version.table}"
    if version.schema is not None and format in _SCHEMALESS_FORMATS:
        raise SchemaValidationError(
            f"format {format!r} carries no types, so it cannot be written to {name}, which has a "
            "schema: write parquet, feather, orc, avro or lance"
        )
    if version.content_types and format not in map(_format_of, version.content_types):
        raise SchemaValidationError(
            f"table {name} takes {', '.join(version.content_types)} alone, not {format!r}"
        )


def _creation(view: View, request: StageRequest, format: str) -> tuple[CreateTable, bool]:
    """The table that the session's commit is to make, and whether its files give the schema."""
    asked = request.create_if_missing
    if request.mode not in _MODES_THAT_CREATE or (asked is None and request.mode != "create"):
        # Says which part of the name is missing, and what is like it.
        find_version(view, request.namespace, request.table, request.table_version)
    # Formats without types make tables without a schema, whatever was inferred for them.
    plain = format in _SCHEMALESS_FORMATS
    create = CreateTable(
        namespace=check_name("namespace", request.namespace),
        table=check_name("table", request.table),
        table_version=request.table_version,
        auto_create_namespace=True,
    )
    if asked is not None:
        create = msgspec.structs.replace(
            create,
            schema_def=None if plain else asked.schema_def,
            partition_scheme=asked.partition_scheme,
            sort_scheme=asked.sort_scheme,
            table_description=asked.table_description,
            table_properties=asked.table_properties,
            table_version_properties=asked.table_version_properties,
            namespace_properties=asked.namespace_properties,
            auto_create_namespace=asked.auto_create_namespace,
        )
    return create, asked is None and not plain


def keep(db: apsw.Connection, kept_session: Kept) -> None:
    """Write a session's state."""
    s = kept_session.session
    db.execute(
        "INSERT OR REPLACE INTO write_session VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            s.session_id,
            s.session_version,
            s.status,
            s.transaction_id,
            kept_session.base,
            s.expires_at,
            msgspec.json.encode(kept_session),
        ),
    )


def kept(db: apsw.Connection, session_id: str) -> Kept:
    """A session by its id.

    Raises:
        NotFoundError: No such session.
    """
    row = db.execute(
        "SELECT body FROM write_session WHERE session_id = ?", (session_id,)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"write session {session_id!r} not found")
    return msgspec.json.decode(row[0], type=Kept)


def scope_of(db: apsw.Connection, session_id: str) -> tuple[str, str] | None:
    """Namespace and table that a session is for; None for no such session."""
    try:
        session = kept(db, session_id).session
    except NotFoundError:
        return None
    return session.namespace, session.table


def opened(
    db: apsw.Connection, request: HeartbeatRequest | AbortRequest | CommitRequest, now_ns: int
) -> Kept:
    """The session, if it still is open and the caller knows its latest version.

    Raises:
        RequestRejectedError: It is closed (409), or its time is over (410).
        ConcurrentModificationError: Another call changed it since.
    """
    found = kept(db, request.session_id)
    session = found.session
    if session.status in ("OPEN", "ABORTED") and session.expires_at < now_ns:
        raise RequestRejectedError(
            f"write session {session.session_id} expired: stage a new one and heartbeat it",
            code="session_expired",
            status=410,
        )
    if session.status != "OPEN":
        raise RequestRejectedError(
            f"write session {session.session_id} is {session.status}: stage a new one",
            code="session_closed",
            status=409,
        )
    if session.session_version != request.session_version:
        raise ConcurrentModificationError(
            f"write session {session.session_id} is at version {session.session_version}, "
            f"not {request.session_version}: another call changed it"
        )
    return found


def get_session(planner: EmbeddedPlanner, request: SessionRequest) -> WriteSession:
    """Handle `get_session`."""
    with planner.store.read() as db:
        session = kept(db, request.session_id).session
    # Who asks what became of a commit is told of none that a crash may undo.
    planner.store.flush()
    return session


def heartbeat(planner: EmbeddedPlanner, request: HeartbeatRequest, write: Write) -> WriteSession:
    """Handle `heartbeat`: the session stays open for another hour.

    Its version stays, so that a writer elsewhere can commit with the session it was given.
    """
    found = opened(write.db, request, write.clock_ns())
    session = msgspec.structs.replace(
        found.session,
        last_heartbeat_at=write.clock_ns(),
        expires_at=write.clock_ns() + SESSION_NS,
    )
    keep(write.db, msgspec.structs.replace(found, session=session))
    return session


def abort(planner: EmbeddedPlanner, request: AbortRequest, write: Write) -> WriteSession:
    """Handle `abort`; aborting an aborted session, or one whose time is over, changes nothing."""
    found = kept(write.db, request.session_id)
    session, now_ns = found.session, write.clock_ns()
    over = session.status == "ABORTED" or (session.status == "OPEN" and session.expires_at < now_ns)
    if not over:
        opened(write.db, request, now_ns)
    return end(write.db, found, "ABORTED")


def end(db: apsw.Connection, found: Kept, status: str) -> WriteSession:
    """Close a session under another status."""
    if found.session.status == status:
        return found.session
    session = msgspec.structs.replace(
        found.session, session_version=found.session.session_version + 1, status=status
    )
    keep(db, msgspec.structs.replace(found, session=session))
    return session


def expire(db: apsw.Connection, now_ns: int) -> None:
    """Abort sessions whose time is over."""
    rows = db.execute(
        "SELECT session_id FROM write_session WHERE status = 'OPEN' AND expires_ns < ?", (now_ns,)
    ).fetchall()
    for (session_id,) in rows:
        end(db, kept(db, session_id), "ABORTED")
