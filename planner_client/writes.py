"""client.catalog: write sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import msgspec

from io_core.errors import SchemaValidationError, TransactionError
from io_core.model import WriteEntry, WriteSession
from planner_client.calls import Resource, built, new_operation
from planner_client.given import listed, mapped, of_kind
from planner_client.protocol.writes import (
    ABORT,
    COMMIT,
    GET_SESSION,
    HEARTBEAT,
    STAGE,
    AbortRequest,
    CommitRequest,
    CreateIfMissing,
    HeartbeatRequest,
    SessionRequest,
    StageRequest,
)
from planner_client.renewal import opened_session
from planner_client.session import StagedSession, held_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from io_core.model import WriteMode
    from planner_client.transaction import Transaction

__all__ = ["Writes", "of_catalog"]


_STAGE = "what client.catalog.stage() returned"


def of_catalog(session: WriteSession, catalog: str | None) -> WriteSession:
    """A session, which a catalog that was named beside it must not contradict.

    Raises:
        SchemaValidationError: It is no session, or one of another catalog.
    """
    of_kind("session", session, WriteSession, _STAGE)
    if catalog not in (None, session.catalog):
        own = "the planner's default one" if session.catalog is None else repr(session.catalog)
        raise SchemaValidationError(
            f"the catalog of write session {session.session_id} is {own}, not {catalog!r}: leave "
            "catalog= out"
        )
    return session


class _ForFiles(TypedDict, total=False):
    """What a commit without a session says instead of one."""

    namespace: str
    table: str
    mode: WriteMode
    format: str


class Writes(Resource):
    """Calls on write sessions."""

    def stage(
        self,
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        format: str = "parquet",  # the protocol's name
        table_version: str | None = None,
        create_if_missing: Mapping[str, Any] | None = None,
        schema_serialized: str | None = None,
        allow_external_entries: bool = False,
        write_key: str | None = None,
        owner_key: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> StagedSession:
        """Open a write session: a place to stage files, and what they have to look like.

        Args:
            namespace: Where the table is.
            table: Its name.
            mode: What the rows mean to what is there.
            format: Of the staged files.
            table_version: None means the latest active one.
            create_if_missing: The table to make on commit, for modes auto and create.
            schema_serialized: The schema of the rows to come (`io_core.schema.encode_schema`): the
                session's schema has room for them, where the table lets writes change it.
            allow_external_entries: Whether a commit may name files outside of `data_dir`.
            write_key: Names the write, so that an open session of the name may be taken up again.
            owner_key: Who writes, where several use one `write_key`.
            transaction: See `Client.transaction`; the session becomes visible with it.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table, and nothing to make it from.
            SchemaValidationError: The mode does not fit the table.
        """
        fields = {
            "namespace": namespace,
            "table": table,
            "mode": mode,
            "format": format,
            "table_version": table_version,
            "create_if_missing": None
            if create_if_missing is None
            else built(mapped("create_if_missing", create_if_missing), CreateIfMissing),
            "schema_serialized": schema_serialized,
            "allow_external_entries": allow_external_entries,
            "write_key": write_key,
            "owner_key": owner_key,
        }
        request = built(fields, StageRequest)
        staged = self._calls.mutate(STAGE, request, transaction=transaction, catalog=catalog)
        bound = self._calls.binding(transaction)
        return self._held(staged, catalog if bound is None else bound.catalog)

    def get_write_session(self, session_id: str, *, catalog: str | None = None) -> StagedSession:
        """A write session as it is now; it keeps its catalog and its transaction.

        Raises:
            NotFoundError: There is none of this id.
        """
        found = self._calls.send(GET_SESSION, SessionRequest(session_id=session_id), catalog)
        return self._held(found, catalog)

    def _held(self, session: WriteSession, catalog: str | None) -> StagedSession:
        catalog = session.catalog or catalog or self._calls.catalog
        named = msgspec.structs.replace(session, catalog=catalog)
        return held_session(self, opened_session(self._calls, named), catalog)

    def heartbeat(self, *, session: WriteSession) -> StagedSession:
        """Keep the session open for another hour, and the transaction that it is bound to."""
        of_kind("session", session, WriteSession, _STAGE)
        bound = self._calls.transactions.get(session.transaction_id or "")
        if bound is not None and bound.is_open:
            bound.heartbeat()
        request = HeartbeatRequest(
            session_id=session.session_id, session_version=session.session_version
        )
        found = self._calls.send(HEARTBEAT, request, session.catalog)
        return self._held(found, session.catalog)

    def commit(
        self,
        *,
        session: WriteSession | None = None,
        entries: Sequence[WriteEntry | Mapping[str, Any]],
        operation_id: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
        **files: Unpack[_ForFiles],
    ) -> StagedSession:
        """Make the entries part of the table: all of them or none.

        A session of a transaction is attached to it: its entries become visible with it. Without a
        session one is staged for files that are there already, wherever the planner allows them to be.

        Args:
            session: As `stage` returned it.
            entries: The files, described: `session.entry_for`, or
                `io_core.formats.parquet.entry_of` from a footer.
            operation_id: Makes a commit that is sent again return the first one's result. None: a
                session's commit of the same entries is always the same one.
            transaction: Only the one that the session was staged in.
            catalog: Only the session's own.
            files: Without a session: `namespace` and `table`; `mode` (auto) and `format` (parquet).

        Raises:
            ConcurrentModificationError: The table changed under the session.
            DataFileError: A staged file is not what its entry says.
            TransactionError: The session was staged in no transaction, or in another one.
        """
        described = [
            e if isinstance(e, WriteEntry) else built(mapped("an entry", e), WriteEntry)
            for e in listed("entries", entries) or []
        ]
        if session is None:
            with self._for_files(files, transaction, catalog) as staged:
                return self.commit(session=staged, entries=described, operation_id=operation_id)
        if files:
            raise SchemaValidationError("a session has its table: leave namespace and table out")
        of_catalog(session, catalog)
        operation = operation_id or new_operation()
        if operation_id is None and isinstance(session, StagedSession):
            operation = session.held.operation(described, operation)
        request = CommitRequest(
            session_id=session.session_id,
            session_version=session.session_version,
            entries=described,
            operation_id=operation,
        )
        bound, home = self._transaction_of(session, transaction), session.catalog
        if bound is None:
            return self._held(self._calls.send(COMMIT, request, home), home)
        done = bound.mutate(lambda version: self._calls.send(COMMIT, _at(request, version), home))
        return self._held(done, home)

    def _for_files(
        self, files: _ForFiles, transaction: Transaction | None, catalog: str | None
    ) -> StagedSession:
        if "namespace" not in files or "table" not in files:
            raise SchemaValidationError("commit needs a session, or namespace and table")
        return self.stage(
            **files, allow_external_entries=True, transaction=transaction, catalog=catalog
        )

    def _transaction_of(
        self, session: WriteSession, passed: Transaction | None
    ) -> Transaction | None:
        """What the session was staged in; refuses another one that the caller is in or passed."""
        found = self._calls.binding(passed)
        if session.transaction_id is None:
            if found is not None:
                raise TransactionError(
                    f"write session {session.session_id} was staged outside of {found!r}: "
                    "stage it in the transaction, or commit it outside of the block"
                )
            return None
        if found is not None and found.transaction_id == session.transaction_id:
            return found
        if passed is not None:
            raise TransactionError(
                f"write session {session.session_id} was staged in transaction "
                f"{session.transaction_id}, not in {passed!r}: leave transaction= out"
            )
        held = self._calls.transactions.get(session.transaction_id)
        return held or self._calls.fetch(session.transaction_id, session.catalog)

    def abort(self, *, session: WriteSession, reason: str | None = None) -> StagedSession:
        """Close the session; its files never become visible."""
        of_kind("session", session, WriteSession, _STAGE)
        request = AbortRequest(
            session_id=session.session_id, session_version=session.session_version, reason=reason
        )
        return self._held(self._calls.send(ABORT, request, session.catalog), session.catalog)


def _at(request: CommitRequest, version: int) -> CommitRequest:
    return msgspec.structs.replace(request, transaction_version=version)
