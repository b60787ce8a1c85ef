"""Transactions: what each did is a log, replayed to show it to itself and once more to commit it.

A transaction sees the snapshot that it began at, and what it did itself. Its operations are kept in
order; every call in it replays them on that snapshot and undoes them again, so nobody else sees
them. A commit first asks whether anything that was committed since conflicts, then replays them on
the latest snapshot, in one transaction of SQLite: all of them become visible at once, or none does.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from io_core.errors import (
    ConcurrentModificationError,
    DeltaCATError,
    NotFoundError,
    RequestRejectedError,
)
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.tables import AlterTable
from planner_client.protocol.transactions import TransactionInfo
from planner_client.protocol.writes import StageRequest
from planner_client.server import sessions, writes
from planner_client.server.catalog import find_version
from planner_client.server.conflicts import blocking
from planner_client.server.leases import check_retained
from planner_client.server.store import View, Write, latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import apsw

    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.protocol.transactions import (
        AbortTransaction,
        BeginTransaction,
        CommitTransaction,
        GetTransaction,
        HeartbeatTransaction,
    )
    from planner_client.server.planner import EmbeddedPlanner

__all__ = [
    "CONTROL",
    "asked_in",
    "base_of",
    "expire",
    "get_transaction",
    "owner_of",
    "view",
    "within",
]

Res = TypeVar("Res")

TRANSACTION_NS = 3600 * 10**9
# The number of what a transaction did, while it is replayed for itself: after every real one.
_OWN = 2**62
_REFUSED = frozenset({"truncate_table", "rollback_table", "write_inline"})
_ENDPOINTS = {endpoint.name: endpoint for endpoint in ENDPOINTS}


class _Txn(NamedTuple):
    """A row of the ledger."""

    transaction_id: str
    version: int
    status: str
    base: int
    as_of_ns: int | None
    message: str | None
    caller: str | None
    created_ns: int
    heartbeat_ns: int
    expires_ns: int
    finalized_ns: int | None
    snapshot: int | None
    reason: str | None


class _Operation(NamedTuple):
    """One entry of a transaction's log: an endpoint's name and its request, or `attach`."""

    number: int
    name: str
    body: bytes


def _find(db: apsw.Connection, transaction_id: str) -> _Txn:
    row = db.execute("SELECT * FROM txn WHERE transaction_id = ?", (transaction_id,)).fetchone()
    if row is None:
        raise NotFoundError(f"transaction {transaction_id!r} not found")
    return _Txn(*row)


def _running(txn: _Txn, now_ns: int) -> _Txn:
    """The transaction, if it still runs.

    Raises:
        RequestRejectedError: It is closed (409), or its time is over (410).
    """
    if txn.status != "COMMITTED" and txn.expires_ns < now_ns:
        raise RequestRejectedError(
            f"transaction {txn.transaction_id} expired: begin a new one and heartbeat it",
            code="transaction_expired",
            status=410,
        )
    if txn.status != "RUNNING":
        raise RequestRejectedError(
            f"transaction {txn.transaction_id} is {txn.status}: begin a new one",
            code="transaction_closed",
            status=409,
        )
    return txn


def _at_version(txn: _Txn, version: int | None) -> _Txn:
    if version != txn.version:
        raise ConcurrentModificationError(
            f"transaction {txn.transaction_id} is at version {txn.version}, not {version}: "
            "another call changed it",
            details={
                "transaction_id": txn.transaction_id,
                "conflict_class": "retryable_stale_read",
            },
        )
    return txn


def _operations(db: apsw.Connection, txn: _Txn) -> list[_Operation]:
    rows = db.execute(
        "SELECT number, name, body FROM txn_operation WHERE transaction_id = ? ORDER BY number",
        (txn.transaction_id,),
    )
    return [_Operation(*row) for row in rows]


def _positions(operations: list[_Operation]) -> int:
    return max(sum(o.name == "attach" for o in operations), 1)


def _replay(
    planner: EmbeddedPlanner, write: Write, txn: _Txn, operations: list[_Operation]
) -> None:
    """Do again what the transaction did; ids come out the same every time."""
    for operation in operations:
        write.seeded(f"{txn.transaction_id}:{operation.number}")
        if operation.name == "attach":
            prepared = msgspec.msgpack.decode(operation.body, type=writes.Prepared)
            writes.apply(planner, write, prepared)
        else:
            kind = _ENDPOINTS[operation.name].request
            request = msgspec.msgpack.decode(operation.body, type=kind)
            planner.handler(operation.name)(planner, request, write)


@contextlib.contextmanager
def _replayed(
    planner: EmbeddedPlanner, db: apsw.Connection, txn: _Txn, operations: list[_Operation]
) -> Iterator[Write]:
    """The transaction's own state, for the block alone; `db` is within a write transaction."""
    more = _positions(operations) + 1
    write = Write(db, planner.store.clock_ns, base=txn.base, own=_OWN, positions=more)
    db.execute("SAVEPOINT replay")
    try:
        _replay(planner, write, txn, operations)
        yield write
    finally:
        # A failure of SQLite itself may have undone all of it already.
        if db.in_transaction:
            db.execute("ROLLBACK TO replay")
            db.execute("RELEASE replay")


@contextlib.contextmanager
def view(planner: EmbeddedPlanner, request: Request) -> Iterator[View]:
    """What a call in a transaction sees: its snapshot, and what it did itself."""
    transaction_id = request.transaction_id or ""
    with planner.store.read() as db:
        txn = _running(_find(db, transaction_id), planner.store.clock_ns())
        if request.transaction_version is not None and request.transaction_version > txn.version:
            _at_version(txn, request.transaction_version)
        operations = _operations(db, txn)
        if not operations:
            yield View(db, txn.base)
            return
    # Undone at the end: there is nothing to flush.
    with (
        planner.store.locked(durable=False) as db,
        _replayed(planner, db, txn, operations) as write,
    ):
        yield write.view


def within(
    planner: EmbeddedPlanner,
    db: apsw.Connection,
    transaction_id: str,
    endpoint: Endpoint[Any, Res],
    request: Request,
) -> Res:
    """Run a mutation in a transaction: visible to it at once, to others when it commits."""
    if endpoint.name in _REFUSED:
        raise RequestRejectedError(
            f"{endpoint.name} cannot be part of a transaction: call it outside of one",
            code="invalid_request",
        )
    txn = _running(_find(db, transaction_id), planner.store.clock_ns())
    _at_version(txn, request.transaction_version)
    if txn.as_of_ns is not None:
        raise RequestRejectedError(
            f"transaction {transaction_id} shows the catalog as of {txn.as_of_ns}: "
            "it reads, and writes nothing",
            code="read_only_transaction",
        )
    operations = _operations(db, txn)
    number = len(operations) + 1
    with _replayed(planner, db, txn, operations) as write:
        write.seeded(f"{transaction_id}:{number}")
        ran = _run(planner, write, endpoint, request)
    if ran.session is not None:
        bound = msgspec.structs.replace(ran.session.session, transaction_version=txn.version + 1)
        sessions.keep(db, msgspec.structs.replace(ran.session, session=bound))
    if ran.body is not None:
        db.execute(
            "INSERT INTO txn_operation VALUES (?, ?, ?, ?)",
            (transaction_id, number, ran.name, ran.body),
        )
    _update(db, txn, transaction_version=txn.version + 1)
    return msgspec.structs.replace(  # type: ignore[no-any-return]
        ran.result, transaction_id=transaction_id, transaction_version=txn.version + 1
    )


class _Ran(NamedTuple):
    """A mutation that ran in a transaction.

    Attributes:
        result: For the caller.
        name: Under which it is kept in the log.
        body: What is kept; None for what only opens a session.
        session: A session whose state is kept beside the log.
    """

    # Any: every endpoint has its own response.
    result: Any
    name: str
    body: bytes | None = None
    session: sessions.Kept | None = None


def _run(
    planner: EmbeddedPlanner, write: Write, endpoint: Endpoint[Any, Any], request: Any
) -> _Ran:
    if endpoint.name == "stage":
        opened = sessions.open_session(planner, request, write)
        return _Ran(opened.session, "stage", session=opened)
    if endpoint.name == "commit":
        prepared, session = writes.attach(planner, request, write)
        body = msgspec.msgpack.encode(prepared)
        kept = msgspec.structs.replace(prepared.kept, session=session)
        return _Ran(session, "attach", body, kept)
    # What it is to do again, on its own: outside of the transaction and under no operation.
    plain = msgspec.structs.replace(
        _settled(write.view, request),
        transaction_id=None,
        transaction_version=None,
        operation_id=None,
    )
    result = planner.handler(endpoint.name)(planner, request, write)
    return _Ran(result, endpoint.name, msgspec.msgpack.encode(plain))


# Any: every endpoint has its own request.
def _settled(view: View, request: Any) -> Any:
    """A request that names the table version which it means now: another may be active by the commit."""
    if isinstance(request, AlterTable) and request.table_version is None:
        # Without an active version it may still change what all versions share.
        with contextlib.suppress(NotFoundError):
            version = find_version(view, request.namespace, request.table, None)
            return msgspec.structs.replace(request, table_version=version.version)
    return request


# Any: the ledger's values.
def _update(db: apsw.Connection, txn: _Txn, **values: Any) -> None:
    marks = ", ".join(f"{name} = ?" for name in values)
    db.execute(
        f"UPDATE txn SET {marks} WHERE transaction_id = ?", (*values.values(), txn.transaction_id)
    )


def _info(db: apsw.Connection, transaction_id: str, catalog: str) -> TransactionInfo:
    txn = _find(db, transaction_id)
    bound = db.execute(
        "SELECT session_id FROM write_session WHERE transaction_id = ? ORDER BY session_id",
        (transaction_id,),
    ).fetchall()
    (count,) = db.execute(
        "SELECT count(*) FROM txn_operation WHERE transaction_id = ?", (transaction_id,)
    ).fetchone()
    return TransactionInfo(
        transaction_id=transaction_id,
        transaction_version=txn.version,
        status=txn.status,
        created_at=txn.created_ns,
        expires_at=txn.expires_ns,
        last_heartbeat_at=txn.heartbeat_ns,
        catalog=catalog,
        as_of=txn.as_of_ns,
        commit_message=txn.message,
        bound_write_sessions=[row[0] for row in bound],
        operation_count=int(count),
        finalized_at=txn.finalized_ns,
        finalization_state=None if txn.finalized_ns is None else txn.status,
        snapshot=txn.snapshot,
    )


def _begin(
    planner: EmbeddedPlanner, request: BeginTransaction, db: apsw.Connection
) -> TransactionInfo:
    """Handle `begin_transaction`."""
    now_ns = planner.store.clock_ns()
    base = latest(db)
    if request.as_of is not None:
        base = planner.snapshot_at(db, request.as_of)
        check_retained(db, base, now_ns)
    transaction_id = f"tx_{uuid.uuid4().hex}"
    db.execute(
        "INSERT INTO txn VALUES (?, 1, 'RUNNING', ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
        (
            transaction_id,
            base,
            request.as_of,
            request.commit_message,
            planner.caller,
            now_ns,
            now_ns,
            now_ns + TRANSACTION_NS,
        ),
    )
    return _info(db, transaction_id, planner.name)


def get_transaction(planner: EmbeddedPlanner, request: GetTransaction) -> TransactionInfo:
    """Handle `get_transaction`."""
    with planner.store.read() as db:
        info = _info(db, request.transaction_id, planner.name)
    # Who asks what became of a commit is told of none that a crash may undo.
    planner.store.flush()
    return info


def _heartbeat(
    planner: EmbeddedPlanner, request: HeartbeatTransaction, db: apsw.Connection
) -> TransactionInfo:
    """Handle `heartbeat_transaction`: it stays open for another hour, and its sessions with it.

    Its version stays: a heartbeat may come from another thread than the calls.
    """
    now_ns = planner.store.clock_ns()
    txn = _running(_find(db, request.transaction_id), now_ns)
    if request.transaction_version > txn.version:
        _at_version(txn, request.transaction_version)
    _update(db, txn, heartbeat_ns=now_ns, expires_ns=now_ns + TRANSACTION_NS)
    for found in _bound(db, txn):
        if found.session.status == "OPEN":
            session = msgspec.structs.replace(
                found.session, last_heartbeat_at=now_ns, expires_at=now_ns + TRANSACTION_NS
            )
            sessions.keep(db, msgspec.structs.replace(found, session=session))
    return _info(db, txn.transaction_id, planner.name)


def _bound(db: apsw.Connection, txn: _Txn) -> list[sessions.Kept]:
    rows = db.execute(
        "SELECT session_id FROM write_session WHERE transaction_id = ?", (txn.transaction_id,)
    ).fetchall()
    return [sessions.kept(db, row[0]) for row in rows]


def _commit(
    planner: EmbeddedPlanner, request: CommitTransaction, db: apsw.Connection
) -> TransactionInfo | DeltaCATError:
    """Handle `commit_transaction`; the error of a conflict also ends the transaction."""
    txn = _find(db, request.transaction_id)
    if txn.status == "COMMITTED":
        # Its first answer may have been lost.
        return _info(db, txn.transaction_id, planner.name)
    now_ns = planner.store.clock_ns()
    _at_version(_running(txn, now_ns), request.transaction_version)
    operations = _operations(db, txn)
    snapshot = latest(db)
    if operations:
        error = _conflict(planner, db, txn, operations)
        if error is None:
            snapshot, error = _apply(planner, db, txn, operations)
        if error is not None:
            _end(db, txn, "ABORTED", now_ns, reason=str(error))
            return error
    _end(db, txn, "COMMITTED", now_ns, snapshot=snapshot)
    return _info(db, txn.transaction_id, planner.name)


def _conflict(
    planner: EmbeddedPlanner, db: apsw.Connection, txn: _Txn, operations: list[_Operation]
) -> DeltaCATError | None:
    if latest(db) == txn.base:
        return None
    try:
        with _replayed(planner, db, txn, operations) as write:
            mine = write.changes
    except (RequestRejectedError, ValueError) as error:
        # A table that was purged is gone from the snapshot that the transaction began at, too.
        return _lost(txn, error)
    found = blocking(db, mine, txn.base)
    if found is None:
        return None
    return _lost(txn, writes.conflict(*found, f"transaction {txn.transaction_id}"))


def _lost(txn: _Txn, error: DeltaCATError | ValueError) -> ConcurrentModificationError:
    more = error.details if isinstance(error, DeltaCATError) else {}
    details = {
        "conflict_class": "retryable_stale_read",
        "blocker_outcome": "committed",
        **more,
        "transaction_id": txn.transaction_id,
    }
    return ConcurrentModificationError(
        f"transaction {txn.transaction_id} was aborted: {error}", details=details
    )


def _apply(
    planner: EmbeddedPlanner, db: apsw.Connection, txn: _Txn, operations: list[_Operation]
) -> tuple[int, DeltaCATError | None]:
    """Do it for real; what the latest snapshot no longer allows is a conflict too."""
    positions = _positions(operations)
    base = latest(db)
    write = Write(db, planner.store.clock_ns, base=base, own=base + positions, positions=positions)
    db.execute("SAVEPOINT apply")
    try:
        _replay(planner, write, txn, operations)
        write.record(txn.message, txn.transaction_id)
    except (RequestRejectedError, ValueError) as error:
        db.execute("ROLLBACK TO apply")
        return base, _lost(txn, error)
    finally:
        if db.in_transaction:
            db.execute("RELEASE apply")
    return write.own, None


def _end(
    db: apsw.Connection,
    txn: _Txn,
    status: str,
    now_ns: int,
    *,
    snapshot: int | None = None,
    reason: str | None = None,
) -> None:
    """Close a transaction and its sessions."""
    for found in _bound(db, txn):
        attached = found.session.status == "ATTACHED"
        if attached and status == "COMMITTED":
            done = msgspec.structs.replace(found.session, committed=True, snapshot=snapshot)
            sessions.end(db, msgspec.structs.replace(found, session=done), "COMMITTED")
        elif found.session.status in ("OPEN", "ATTACHED"):
            sessions.end(db, found, "ABORTED")
    if status != "COMMITTED":
        db.execute("DELETE FROM txn_operation WHERE transaction_id = ?", (txn.transaction_id,))
    _update(
        db,
        txn,
        status=status,
        transaction_version=txn.version + 1,
        finalized_ns=now_ns,
        snapshot=snapshot,
        reason=reason,
    )


def _abort(
    planner: EmbeddedPlanner, request: AbortTransaction, db: apsw.Connection
) -> TransactionInfo:
    """Handle `abort_transaction`; aborting an aborted one changes nothing."""
    txn = _find(db, request.transaction_id)
    now_ns = planner.store.clock_ns()
    if txn.status != "ABORTED":
        if txn.status != "RUNNING" or txn.expires_ns >= now_ns:
            _at_version(_running(txn, now_ns), request.transaction_version)
        _end(db, txn, "ABORTED", now_ns, reason=request.reason)
    return _info(db, txn.transaction_id, planner.name)


# Handlers of the calls that open and close transactions; they take the ledger itself.
CONTROL: dict[str, Callable[..., Any]] = {
    "begin_transaction": _begin,
    "heartbeat_transaction": _heartbeat,
    "commit_transaction": _commit,
    "abort_transaction": _abort,
}


def base_of(db: apsw.Connection, transaction_id: str) -> int:
    """The snapshot that a transaction began at.

    Raises:
        NotFoundError: No such transaction.
    """
    return _find(db, transaction_id).base


def owner_of(db: apsw.Connection, transaction_id: str) -> str | None:
    """Who began a transaction; None for no such one, or where nobody said."""
    try:
        return _find(db, transaction_id).caller or None
    except NotFoundError:
        return None


def asked_in(db: apsw.Connection, transaction_id: str) -> list[tuple[str, Request]]:
    """What a running transaction was asked to change: names of endpoints, and their requests.

    Of a commit of staged files it is what the session was staged with.
    """
    try:
        txn = _find(db, transaction_id)
    except NotFoundError:
        return []
    found: list[tuple[str, Request]] = []
    for operation in _operations(db, txn) if txn.status == "RUNNING" else ():
        if operation.name != "attach":
            kind = _ENDPOINTS[operation.name].request
            found.append((operation.name, msgspec.msgpack.decode(operation.body, type=kind)))
            continue
        kept = msgspec.msgpack.decode(operation.body, type=writes.Prepared).kept
        staged = StageRequest(
            namespace=kept.session.namespace,
            table=kept.session.table,
            mode=kept.session.mode,
            allow_external_entries=kept.external,
        )
        found.append(("stage", staged))
    return found


def expire(db: apsw.Connection, now_ns: int) -> None:
    """Abort transactions whose time is over."""
    rows = db.execute(
        "SELECT transaction_id FROM txn WHERE status = 'RUNNING' AND expires_ns < ?", (now_ns,)
    ).fetchall()
    for (transaction_id,) in rows:
        _end(db, _find(db, transaction_id), "ABORTED", now_ns, reason="its time was over")
