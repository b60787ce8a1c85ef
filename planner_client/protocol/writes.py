"""Declarations: write sessions."""

from __future__ import annotations

import msgspec

from io_core.model import PartitionScheme, SortScheme, WriteEntry, WriteMode, WriteSession
from io_core.schema import SchemaField
from planner_client.protocol.endpoint import Endpoint, Request

__all__ = [
    "ABORT",
    "COMMIT",
    "GET_SESSION",
    "HEARTBEAT",
    "STAGE",
    "AbortRequest",
    "CommitRequest",
    "CreateIfMissing",
    "HeartbeatRequest",
    "SessionRequest",
    "StageRequest",
]

_SESSION = "/v1/write-sessions/{session_id}"


class CreateIfMissing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The table that a write may create."""

    schema_def: str | list[SchemaField] | None = None
    partition_scheme: PartitionScheme | None = None
    sort_scheme: SortScheme | None = None
    table_description: str | None = None
    table_properties: dict[str, object] | None = None
    table_version_properties: dict[str, object] | None = None
    namespace_properties: dict[str, object] | None = None
    auto_create_namespace: bool = True


class StageRequest(Request, frozen=True, kw_only=True):
    """A write session to open. All of it travels in the body but the names.

    `expected_table_id` refuses another table of the name, and goes back with the session.
    `schema_serialized` is this project's own: the schema of the rows to come, base64 of an Arrow
    IPC schema. The session's schema has room for them, where the table lets writes change it.
    """

    namespace: str
    table: str
    mode: WriteMode
    # By a factory, so that it is always sent: other servers ask for it.
    format: str = msgspec.field(default_factory=lambda: "parquet")
    table_version: str | None = None
    create_if_missing: CreateIfMissing | None = None
    schema_serialized: str | None = None
    allow_external_entries: bool = False
    layout: str | None = None
    root: str | None = None
    write_key: str | None = None
    owner_key: str | None = None
    expected_table_id: str | None = None
    catalog: str | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None
    operation_id: str | None = None


class SessionRequest(Request, frozen=True, kw_only=True):
    """Which session to get."""

    session_id: str


class HeartbeatRequest(SessionRequest, frozen=True, kw_only=True):
    """Which session to keep open; `session_version` is the last one seen."""

    session_version: int


class AbortRequest(SessionRequest, frozen=True, kw_only=True):
    """Which session to close without effect."""

    session_version: int
    reason: str | None = None


class CommitRequest(SessionRequest, frozen=True, kw_only=True):
    """The files to make part of the table, all or none."""

    session_version: int
    entries: list[WriteEntry]
    operation_id: str | None = None
    transaction_version: int | None = None


STAGE = Endpoint(
    "stage",
    "POST",
    "/v1/namespaces/{namespace}/tables/{table}/write-sessions",
    StageRequest,
    WriteSession,
    mutates=True,
)
GET_SESSION = Endpoint("get_session", "GET", _SESSION, SessionRequest, WriteSession)
HEARTBEAT = Endpoint(
    "heartbeat", "POST", f"{_SESSION}/heartbeat", HeartbeatRequest, WriteSession, repeats=True
)
COMMIT = Endpoint("commit", "POST", f"{_SESSION}/commit", CommitRequest, WriteSession, mutates=True)
ABORT = Endpoint("abort", "POST", f"{_SESSION}/abort", AbortRequest, WriteSession, repeats=True)
