"""Transaction: several calls that become visible together, or not at all."""

from __future__ import annotations

import contextlib
import threading
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import msgspec

from io_core.bindings import renew_keys
from io_core.errors import DeltaCATError, PlannerUnavailableError, TransactionError
from planner_client.heartbeat import INTERVAL_S, heartbeating
from planner_client.protocol.transactions import (
    ABORT_TRANSACTION,
    COMMIT_TRANSACTION,
    GET_TRANSACTION,
    HEARTBEAT_TRANSACTION,
    AbortTransaction,
    CommitTransaction,
    GetTransaction,
    HeartbeatTransaction,
    TransactionInfo,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from planner_client.calls import Calls
    from planner_client.client import Client
    from planner_client.protocol.endpoint import Endpoint, Request

__all__ = ["Transaction", "Versioned", "ambient", "innermost"]

T = TypeVar("T")

COMMITTED = "COMMITTED"
ABORTED = "ABORTED"


class Versioned(Protocol):
    """An answer that tells the transaction's version after the call."""

    @property
    def transaction_version(self) -> int | None:
        """The version; None where the call stood in no transaction."""


V = TypeVar("V", bound=Versioned)


class Transaction:
    """Calls of one client that see one snapshot and their own changes, and commit together.

    As a context manager it takes in every call that the client makes in the block, unless the call
    names another transaction; it sends a heartbeat every 15 minutes, commits when the block ends,
    and aborts when the block raises. A thread that the block starts names the transaction with
    `transaction=`. Without a block, name it in every call and end it with `commit` or `abort`; the
    planner aborts one that it has not heard of for its lifetime.

    Threads share it: its calls are sent one after the other. It does not pickle.

    Args:
        calls: How the client that it belongs to sends.
        info: What the planner told of it.
        interval_s: How often to send a heartbeat in a block, in seconds.
    """

    def __init__(self, calls: Calls, info: TransactionInfo, interval_s: float = INTERVAL_S) -> None:
        self._calls = calls
        self._info = info
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._block = contextlib.ExitStack()
        # Whether a call failed in a way that leaves open which version the planner is at.
        self._unsure = False
        # Minted before the first attempt, so that a commit that is sent again happens once.
        self._commit_id = f"op_{uuid.uuid4().hex}"
        calls.transactions[info.transaction_id] = self

    @property
    def info(self) -> TransactionInfo:
        """What the planner last told of it."""
        return self._info

    @property
    def transaction_id(self) -> str:
        """Its name on the planner."""
        return self._info.transaction_id

    @property
    def id(self) -> str:
        """The same, in short."""
        return self._info.transaction_id

    @property
    def transaction_version(self) -> int:
        """The number that the next call carries; every mutation makes it grow."""
        return self._info.transaction_version

    @property
    def status(self) -> str:
        """As the planner last told it."""
        return self._info.status

    @property
    def as_of(self) -> int | None:
        """Nanoseconds since the epoch, for one that reads what was committed strictly before."""
        return self._info.as_of

    @property
    def catalog(self) -> str | None:
        """The catalog that all of its calls go to."""
        return self._info.catalog or self._calls.catalog

    @property
    def commit_message(self) -> str | None:
        """What its commit will say."""
        return self._info.commit_message

    @property
    def is_open(self) -> bool:
        """Whether it can still do something, as far as the planner told."""
        return self._info.finalized_at is None

    def __repr__(self) -> str:
        return f"Transaction({self.transaction_id!r}, {self.status})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            f"{self!r} does not pickle: pass its id, and fetch it with "
            "client.catalog.get_transaction(id)"
        )

    @property
    def client(self) -> Client | None:
        """The client that began or fetched it."""
        return self._calls.client

    def belongs_to(self, calls: Calls) -> bool:
        """Whether the client that sends with `calls` began or fetched it."""
        return self._calls is calls

    # --- calls within it ----------------------------------------------------------------------

    def read(self, send: Callable[[int], T]) -> T:
        """Make a call that changes nothing, with the version of now.

        Raises:
            TransactionError: It has ended.
        """
        with self._lock:
            return send(self._version())

    def mutate(self, send: Callable[[int], V]) -> V:
        """Make a call with the version of now, and take over the one that its answer tells.

        Raises:
            TransactionError: It has ended.
        """
        with self._lock:
            version = self._version()
            self._unsure = True
            answer = send(version)
            if answer.transaction_version is not None:
                self._info = msgspec.structs.replace(
                    self._info, transaction_version=answer.transaction_version
                )
                self._unsure = False
            return answer

    def _version(self) -> int:
        if self._unsure:
            self._refresh()
        if not self.is_open:
            raise TransactionError(
                f"transaction {self.transaction_id} is {self.status}: "
                "begin another one with client.transaction()"
            )
        return self.transaction_version

    def _refresh(self) -> None:
        self._tell(GET_TRANSACTION, GetTransaction(transaction_id=self.transaction_id))

    def _tell(self, endpoint: Endpoint[Any, TransactionInfo], request: Request) -> None:
        # Any: each endpoint has its own request.
        self._unsure = True
        request = msgspec.structs.replace(request, catalog=self.catalog)
        told = self._calls.transport.call(endpoint, request)
        self._info = self._without_keys(told)
        self._unsure = False

    def _without_keys(self, told: TransactionInfo) -> TransactionInfo:
        """What the planner told; keys that came along go to whoever reads and writes by them."""
        renew_keys(told.refreshed_credentials or {}, self._calls.scope("read"))
        for credentials in (told.refreshed_credentials_by_session or {}).values():
            renew_keys(credentials, self._calls.scope("write"))
        return msgspec.structs.replace(
            told, refreshed_credentials=None, refreshed_credentials_by_session=None
        )

    # --- its own life ---------------------------------------------------------------------------

    def get(self) -> TransactionInfo:
        """Ask the planner how it is."""
        with self._lock:
            self._refresh()
            return self._info

    def heartbeat(self) -> TransactionInfo:
        """Keep it open for another while.

        Raises:
            TransactionError: It has ended.
        """
        with self._lock:
            request = HeartbeatTransaction(
                transaction_id=self.transaction_id, transaction_version=self._version()
            )
            self._tell(HEARTBEAT_TRANSACTION, request)
            return self._info

    def commit(self) -> TransactionInfo:
        """Make all of it visible, durably, at once. One that was committed already stays so.

        Returns:
            How it ended; `snapshot` is the first one that shows what it did.

        Raises:
            ConcurrentModificationError: Another commit came first; nothing became visible. Read
                again, and do it again in a new transaction.
            TransactionError: It was aborted.
        """
        with self._lock:
            if self._unsure:
                # It was tried before, and perhaps only the answer was lost.
                self._refresh()
            if self.status == COMMITTED:
                return self._info
            request = CommitTransaction(
                transaction_id=self.transaction_id,
                transaction_version=self._version(),
                operation_id=self._commit_id,
            )
            self._tell(COMMIT_TRANSACTION, request)
            return self._info

    def abort(self, reason: str | None = None) -> TransactionInfo:
        """End it without effect; files that its write sessions staged never become visible.

        One that the planner aborted already stays so: to abort after a failed commit is no error.

        Raises:
            TransactionError: It was committed.
        """
        with self._lock:
            if self._unsure:
                self._refresh()
            if self.status == ABORTED:
                return self._info
            request = AbortTransaction(
                transaction_id=self.transaction_id,
                transaction_version=self._version(),
                reason=reason,
                operation_id=f"op_{uuid.uuid4().hex}",
            )
            self._tell(ABORT_TRANSACTION, request)
            return self._info

    def __enter__(self) -> Self:
        if self in _AMBIENT.get():
            raise TransactionError(f"transaction {self.transaction_id} is entered already")
        _AMBIENT.set((*_AMBIENT.get(), self))
        self._block.callback(self._leave)
        self._block.enter_context(heartbeating(self.heartbeat, self._interval_s))
        return self

    def _commit_block(self) -> None:
        """Commit; where that gets no answer, find out what became of it, by aborting."""
        try:
            self.commit()
        except PlannerUnavailableError as error:
            try:
                self.abort("its commit got no answer")
            except DeltaCATError as second:
                if self.status == COMMITTED:
                    return
                error.add_note(
                    f"transaction {self.transaction_id} could not be aborted: {second}; "
                    f"client.catalog.get_transaction({self.transaction_id!r}) tells what became of it"
                )
            raise

    def _leave(self) -> None:
        _AMBIENT.set(tuple(t for t in _AMBIENT.get() if t is not self))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._block.close()
        # The block may have ended it by itself.
        if not self.is_open:
            return
        if error is None:
            self._commit_block()
            return
        try:
            self.abort(f"{type(error).__name__}: {error}"[:500])
        except DeltaCATError as second:
            # The first error is what matters.
            error.add_note(f"transaction {self.transaction_id} could not be aborted: {second}")


# The transactions whose blocks this thread or task is in, the innermost last.
_AMBIENT: ContextVar[tuple[Transaction, ...]] = ContextVar("deltacat_transactions", default=())


def ambient(calls: Calls) -> Transaction | None:
    """The innermost transaction of this client whose block the caller is in."""
    mine = [t for t in _AMBIENT.get() if t.belongs_to(calls)]
    return mine[-1] if mine else None


def innermost() -> Transaction | None:
    """The innermost transaction of any client whose block the caller is in."""
    held = _AMBIENT.get()
    return held[-1] if held else None
