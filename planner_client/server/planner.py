"""The planner of one catalog root: it checks a call, runs its handler, and remembers its outcome."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import time
import weakref
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import DeltaCATError, NotFoundError, RequestRejectedError
from io_core.lean_arrow import prefixed
from io_core.model import WriteSession
from io_core.storage import LOCAL, local_path
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import (
    CatalogInfo,
    Catalogs,
    GetCatalog,
    Health,
    HealthRequest,
    ListCatalogs,
    ServerEndpoints,
    ServerEndpointsRequest,
)
from planner_client.protocol.plans import PlanRequest
from planner_client.server import (
    history,
    inline,
    namespaces,
    planning,
    sessions,
    tables,
    transactions,
    writes,
)
from planner_client.server.auth import UNCONFIGURED
from planner_client.server.columns import ColumnCache
from planner_client.server.deletes import DeleteSets, advance
from planner_client.server.leases import Leases
from planner_client.server.places import DATA, open_place
from planner_client.server.plan_cache import PlanCache
from planner_client.server.planning import resolve_time
from planner_client.server.staged import looked_at
from planner_client.server.store import Store, View, Write, latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import apsw

    from io_core.storage import Storage
    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.server.places import DataRoot

__all__ = ["HANDLERS", "EmbeddedPlanner"]

Res = TypeVar("Res")

_RELEASE = installed_version("deltacat-sources")
_CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="")
# Told by the fork itself, so that no plan has to ask in which process it is.
_OPEN: weakref.WeakSet[EmbeddedPlanner] = weakref.WeakSet()


def _begin_anew() -> None:
    for planner in tuple(_OPEN):
        planner.begin()


os.register_at_fork(after_in_child=_begin_anew)


def _health(planner: EmbeddedPlanner, request: HealthRequest) -> Health:
    with planner.store.read() as db:
        latest(db)
    return Health("ok", _RELEASE)


def _list_catalogs(planner: EmbeddedPlanner, request: ListCatalogs) -> Catalogs:
    return Catalogs([planner.info])


def _get_catalog(planner: EmbeddedPlanner, request: GetCatalog) -> CatalogInfo:
    planner.check_catalog(request.catalog_name)
    return planner.info


def _server_endpoints(planner: EmbeddedPlanner, request: ServerEndpointsRequest) -> ServerEndpoints:
    # A planner is told of no address but the one it listens at, which its caller knows.
    return ServerEndpoints()


# Any: each handler takes its own request; those of mutations take the write too.
HANDLERS: dict[str, Callable[..., Any]] = {
    "health": _health,
    "list_catalogs": _list_catalogs,
    "get_catalog": _get_catalog,
    "server_endpoints": _server_endpoints,
    **namespaces.HANDLERS,
    **tables.HANDLERS,
    "table_history": history.table_history,
    "plan": planning.plan,
    "stage": sessions.stage,
    "get_session": sessions.get_session,
    "heartbeat": sessions.heartbeat,
    "commit": writes.commit,
    "abort": sessions.abort,
    "preview": inline.preview,
    "write_inline": inline.write_inline,
    "get_transaction": transactions.get_transaction,
    **UNCONFIGURED,
}
_WRITES = frozenset(
    {"heartbeat", "abort", "heartbeat_transaction"} | {e.name for e in ENDPOINTS if e.mutates}
)


# Whose answers are about files that the caller is to read or write.
_OF_FILES = frozenset({"plan", "stage", "heartbeat", "heartbeat_transaction"})
# Sessions alone, of which a crash of the machine may take the last: no table changes by them.
_PASSING = frozenset({"stage", "heartbeat"})
_LONGEST_OPERATION = 255

# What makes files part of tables: the dead rows of keyed ones are looked for right after.
_COMMITS = frozenset({"commit", "commit_transaction", "write_inline", "rollback_table"})


def _digest(request: Request) -> bytes:
    """What a request asks for; which version of a session or transaction it had seen is not part."""
    seen = {"session_version", "transaction_version"} & set(request.__struct_fields__)
    plain = msgspec.structs.replace(request, **dict.fromkeys(seen))
    return hashlib.blake2b(msgspec.msgpack.encode(plain), digest_size=16).digest()


class EmbeddedPlanner:
    """A planner in this process. Threads share it; after a fork the child goes on with its own state.

    Args:
        root: The catalog's directory, on a local disk.
        name: What the catalog is called.
        create: Make a catalog there if the directory is absent or empty.
        data_root: The store to keep data in; None for what was said before, at first the directory.
        clock_ns: The time, in nanoseconds since the epoch.

    Raises:
        CatalogRootError: No catalog there, or one that this release must not open.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        name: str = "default",
        create: bool = True,
        data_root: DataRoot | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = Path(local_path(os.fspath(root))).absolute()
        self.name = name
        self.store = Store(self.root, create=create, clock_ns=clock_ns)
        self.place = open_place(self.store, data_root)
        self.begin()
        _OPEN.add(self)

    def begin(self) -> None:
        """Keep nothing in memory yet.

        Once more in a forked child: the parent's threads may hold the locks of what it keeps.
        """
        # Files of the tables in use; what plans use again; what keeps planned files from vacuum; key
        # indexes of the partitions that are written to.
        self.columns = ColumnCache(self.absolute)
        self.plans = PlanCache()
        self.leases = Leases(self.store)
        self.deletes = DeleteSets()

    @property
    def storage(self) -> Storage:
        """How the planner itself reaches data files."""
        return LOCAL if self.place is None else self.place.storage

    @property
    def caller(self) -> str:
        """Who makes the call that runs here; empty where callers are not told apart."""
        return _CALLER.get()

    @property
    def info(self) -> CatalogInfo:
        """What the protocol tells of this catalog."""
        data = str(self.root / DATA) if self.place is None else self.place.root
        return CatalogInfo(self.name, str(self.root), data_root=data, is_default=True)

    def call(
        self, endpoint: Endpoint[Any, Res], request: Request, *, caller: str | None = None
    ) -> Res:
        """Run one call of the protocol.

        A mutation that names its operation is remembered: a repeated one returns the first
        result, and another request under the same id is refused.

        Args:
            endpoint: Which call.
            request: Its fields.
            caller: Who makes it, where callers are told apart.

        Raises:
            DeltaCATError: Whatever the call is refused for.
        """
        self.check_catalog(request.catalog)
        entered = _CALLER.set(caller or "")
        try:
            if endpoint.name not in _WRITES:
                result: Res = HANDLERS[endpoint.name](self, request)
                return self._attached(endpoint, result)
            durable = endpoint.name not in _PASSING
            with looked_at(self.place, request), self.store.locked(durable=durable) as db:
                outcome = self._mutate(db, endpoint, request)
        except (ValueError, OverflowError) as error:
            # A number that SQLite or MessagePack cannot hold comes as an OverflowError.
            if type(error) in (ValueError, OverflowError):
                raise RequestRejectedError(str(error), code="invalid_request") from error
            raise
        finally:
            _CALLER.reset(entered)
        if isinstance(outcome, DeltaCATError):
            raise outcome
        # What has no keys leaves no row dead.
        is_keyless = isinstance(outcome, WriteSession) and not outcome.merge_keys
        if endpoint.name in _COMMITS and not is_keyless:
            advance(self, getattr(outcome, "snapshot", None))
        return self._attached(endpoint, outcome)

    def _attached(self, endpoint: Endpoint[Any, Res], answer: Res) -> Res:
        """An answer with what its receiver needs to reach files, if that is more than their paths."""
        if self.place is None or endpoint.name not in _OF_FILES:
            return answer
        attached: Res = self.place.attached(answer)
        return attached

    def _mutate(
        self, db: apsw.Connection, endpoint: Endpoint[Any, Res], request: Request
    ) -> Res | DeltaCATError:
        """The result, or an error that leaves a trace in the ledger, to be raised after it."""
        operation = request.operation_id
        if operation is None:
            return self._run(db, endpoint, request)
        if not 0 < len(operation) <= _LONGEST_OPERATION:
            raise RequestRejectedError(
                f"an operation_id has 1 to {_LONGEST_OPERATION} characters, not {len(operation)}",
                code="invalid_request",
            )
        digest = _digest(request)
        found = db.execute(
            "SELECT endpoint, request_hash, response FROM operation WHERE operation_id = ?",
            (operation,),
        ).fetchone()
        if found is not None:
            if (found[0], found[1]) != (endpoint.name, digest):
                raise RequestRejectedError(
                    f"operation {operation} was used for another request: mint a new operation_id",
                    code="operation_conflict",
                    status=409,
                )
            return msgspec.json.decode(found[2], type=endpoint.response)
        result = self._run(db, endpoint, request)
        if not isinstance(result, DeltaCATError):
            db.execute(
                "INSERT INTO operation VALUES (?, ?, ?, ?, ?)",
                (
                    operation,
                    endpoint.name,
                    digest,
                    msgspec.json.encode(result),
                    self.store.clock_ns(),
                ),
            )
        return result

    def _run(
        self, db: apsw.Connection, endpoint: Endpoint[Any, Res], request: Request
    ) -> Res | DeltaCATError:
        # Any: every endpoint has a handler of its own.
        control: Callable[..., Any] | None = transactions.CONTROL.get(endpoint.name)
        if control is not None:
            return control(self, request, db)  # type: ignore[no-any-return]
        transaction_id = writes.transaction_of(db, request)
        if transaction_id is not None and endpoint.name not in ("heartbeat", "abort"):
            return transactions.within(self, db, transaction_id, endpoint, request)
        base = latest(db)
        write = Write(db, self.store.clock_ns, base=base, own=base + 1)
        result: Res = HANDLERS[endpoint.name](self, request, write)
        write.record()
        return result

    @contextlib.contextmanager
    def view(
        self,
        request: Request,
        *,
        snapshot: int | None = None,
        as_of: int | None = None,
        leased: bool = False,
    ) -> Iterator[View]:
        """What a request sees: its transaction, a snapshot, a time, or else what is there now.

        Args:
            request: Its transaction counts.
            snapshot: Which place in the sequence.
            as_of: What was committed strictly before, in nanoseconds since the epoch.
            leased: Whether files of the view are to stay while a scan reads them.

        Raises:
            RequestRejectedError: A snapshot that is not there yet or no more; a transaction that
                is not running.
        """
        if request.transaction_id is not None:
            if leased:
                with self.store.read() as db:
                    base = transactions.base_of(db, request.transaction_id)
                self.leases.hold(base)
            with transactions.view(self, request) as view:
                yield view
            return
        if as_of is not None:
            with self.store.read() as db:
                snapshot = self.snapshot_at(db, as_of)
        if leased:
            self.leases.hold(snapshot)
        with self.store.read() as db:
            last = latest(db)
            if snapshot is not None and not 0 <= snapshot <= last:
                raise RequestRejectedError(
                    f"snapshot {snapshot} does not exist: the latest is {last}"
                )
            yield View(db, last if snapshot is None else snapshot, last=last)

    @staticmethod
    def handler(name: str) -> Callable[..., Any]:
        """The handler of an endpoint that mutates."""
        return HANDLERS[name]

    def snapshot_at(self, db: apsw.Connection, as_of: int) -> int:
        """The snapshot at a time; see `resolve_time`."""
        return resolve_time(db, as_of, self.store.clock_ns())

    def is_warm(self, endpoint: Endpoint[Any, Any], request: Request) -> bool:
        """Whether a call takes so little time that a server need not hand it to a thread."""
        if endpoint.name == "health":
            return True
        return (
            # Keys to a store may have to be asked for.
            self.place is None
            and isinstance(request, PlanRequest)
            and endpoint.name == "plan"
            and request.transaction_id is None
            and self.plans.is_quick(request)
            and not self.leases.is_due(self.store.clock_ns())
        )

    def check_catalog(self, name: str | None) -> None:
        """Raise unless `name` is this planner's catalog, or none was named."""
        if name not in (None, self.name):
            raise NotFoundError.of("catalog", name, [self.name])

    def scope_of_session(self, session_id: str) -> tuple[str, str] | None:
        """Namespace and table that a write session is for; None for no such session."""
        with self.store.read() as db:
            return sessions.scope_of(db, session_id)

    def owner_of_transaction(self, transaction_id: str) -> str | None:
        """Who began a transaction; None for no such transaction, or where nobody said."""
        with self.store.read() as db:
            return transactions.owner_of(db, transaction_id)

    def asked_in_transaction(self, transaction_id: str) -> list[tuple[str, Request]]:
        """What a running transaction was asked to change; nothing of one that is not there."""
        with self.store.read() as db:
            return transactions.asked_in(db, transaction_id)

    def expire(self) -> None:
        """Abort sessions and transactions whose time is over; vacuum then collects their files."""
        with self.store.locked() as db:
            now_ns = self.store.clock_ns()
            transactions.expire(db, now_ns)
            sessions.expire(db, now_ns)

    def gauges(self) -> dict[str, float]:
        """Sizes worth watching: bytes of the ledger, open sessions and transactions, snapshots."""
        with self.store.read() as db:
            count = "SELECT count(*) FROM {} WHERE status = '{}'"
            (sessions,) = db.execute(count.format("write_session", "OPEN")).fetchone()
            (running,) = db.execute(count.format("txn", "RUNNING")).fetchone()
            return {
                "ledger_bytes": float(self.store.path.stat().st_size),
                "open_write_sessions": float(sessions),
                "running_transactions": float(running),
                "snapshot": float(latest(db)),
            }

    def data_dir(self, table: str, session: str) -> str:
        """Where a session stages its files; no other session has the same place."""
        if self.place is not None:
            return self.place.absolute(f"{DATA}/{table}/{session}")
        return f"{self.root}/{DATA}/{table}/{session}"

    def relative(self, path: str) -> str:
        """A file's path as the ledger keeps it: below the root, or absolute if it is elsewhere."""
        if self.place is not None:
            return self.place.relative(path)
        plain = os.path.normpath(local_path(path))
        prefix = str(self.root) + os.sep
        return plain.removeprefix(prefix)

    def absolute(self, paths: pa.Array) -> pa.Array:
        """The reverse of `relative`, for many files."""
        if self.place is not None:
            # Nothing of it is elsewhere.
            return prefixed(f"{self.place.root}/", paths)
        below = prefixed(f"{self.root}{os.sep}", paths)
        return pc.if_else(pc.starts_with(paths, os.sep), paths, below)

    def close(self) -> None:
        """Close connections to the ledger; the planner stays usable and opens new ones."""
        self.deletes.close()
        self.store.close()
