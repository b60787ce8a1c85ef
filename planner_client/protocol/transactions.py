"""Declarations: transactions."""

from __future__ import annotations

import msgspec

from io_core.bindings import Credential
from planner_client.protocol.endpoint import Endpoint, Request

__all__ = [
    "ABORT_TRANSACTION",
    "BEGIN",
    "COMMIT_TRANSACTION",
    "GET_TRANSACTION",
    "HEARTBEAT_TRANSACTION",
    "AbortTransaction",
    "BeginTransaction",
    "CommitTransaction",
    "GetTransaction",
    "HeartbeatTransaction",
    "TransactionInfo",
]

_TRANSACTION = "/v1/transactions/{transaction_id}"


class BeginTransaction(Request, frozen=True, kw_only=True):
    """A transaction to open. All of it travels in the body, the catalog too.

    With `as_of` (nanoseconds since the epoch; what was committed strictly before) it is historic:
    it reads that snapshot and refuses every write.
    """

    as_of: int | None = None
    commit_message: str | None = None
    catalog: str | None = None
    operation_id: str | None = None


class GetTransaction(Request, frozen=True, kw_only=True):
    """Which transaction to get. Its id stands in the path, here and in what follows."""

    transaction_id: str


class HeartbeatTransaction(Request, frozen=True, kw_only=True):
    """Which transaction to keep open; `transaction_version`, in the body, is the last one seen."""

    transaction_id: str
    transaction_version: int


class CommitTransaction(Request, frozen=True, kw_only=True):
    """The transaction to make visible, all of it or nothing. The body carries all but the id."""

    transaction_id: str
    transaction_version: int
    operation_id: str | None = None


class AbortTransaction(Request, frozen=True, kw_only=True):
    """The transaction to close without effect. The body carries all but the id."""

    transaction_id: str
    transaction_version: int
    reason: str | None = None
    operation_id: str | None = None


class TransactionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A transaction as it is. Times are integer nanoseconds since the epoch, UTC.

    `transaction_version` grows with each mutation and goes back with the next call.
    `bound_write_sessions` are the ids of sessions that become visible with it. `snapshot`, this
    project's addition, is the place in the catalog's sequence that a commit made. A heartbeat brings
    keys where data is in a store, filed as in plans and sessions: `refreshed_credentials` for what
    was planned in it, `refreshed_credentials_by_session` for what its sessions write.
    """

    transaction_id: str
    transaction_version: int
    status: str
    created_at: int = 0
    expires_at: int = 0
    last_heartbeat_at: int = 0
    catalog: str | None = None
    as_of: int | None = None
    commit_message: str | None = None
    bound_write_sessions: list[str] = []
    operation_count: int = 0
    finalized_at: int | None = None
    finalization_state: str | None = None
    snapshot: int | None = None
    refreshed_credentials: dict[str, Credential] | None = None
    refreshed_credentials_by_session: dict[str, dict[str, Credential]] | None = None


BEGIN = Endpoint(
    "begin_transaction",
    "POST",
    "/v1/transactions",
    BeginTransaction,
    TransactionInfo,
    mutates=True,
)
GET_TRANSACTION = Endpoint("get_transaction", "GET", _TRANSACTION, GetTransaction, TransactionInfo)
HEARTBEAT_TRANSACTION = Endpoint(
    "heartbeat_transaction",
    "POST",
    f"{_TRANSACTION}/heartbeat",
    HeartbeatTransaction,
    TransactionInfo,
    repeats=True,
)
COMMIT_TRANSACTION = Endpoint(
    "commit_transaction",
    "POST",
    f"{_TRANSACTION}/commit",
    CommitTransaction,
    TransactionInfo,
    mutates=True,
)
ABORT_TRANSACTION = Endpoint(
    "abort_transaction",
    "POST",
    f"{_TRANSACTION}/abort",
    AbortTransaction,
    TransactionInfo,
    mutates=True,
)
