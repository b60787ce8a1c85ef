"""StagedSession: a write session in the hands of the client that staged or fetched it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

import msgspec

from io_core.errors import DeltaCATError, TransactionError
from io_core.model import OpenedSession, WriteSession
from io_core.sink import delete_staged
from planner_client.heartbeat import INTERVAL_S, heartbeating

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from io_core.model import WriteEntry
    from planner_client.transaction import Transaction
    from planner_client.writes import Writes

__all__ = ["Held", "StagedSession", "held_session"]


class Held:
    """What a session has to do with the process it is in. Does not travel, and counts for nothing.

    Args:
        writes: The calls of its client; None where it arrived in a pickle.
    """

    def __init__(self, writes: Writes | None = None) -> None:
        self._writes = writes
        self.block = contextlib.ExitStack()
        # Between heartbeats of a block.
        self.interval_s = INTERVAL_S
        # The entries of the last try, as they were sent, and its operation.
        self._pending: tuple[bytes, str] | None = None

    @property
    def writes(self) -> Writes:
        """The calls of its client."""
        if self._writes is None:
            raise TransactionError(
                "this write session was pickled, and belongs to no client here: commit it where it "
                "was staged, or pass it to client.catalog.commit(session=...)"
            )
        return self._writes

    def operation(self, entries: Sequence[Any], new: str) -> str:
        """The id to commit entries under: that of the last try, where they are the same.

        Any: entries as the protocol has them.
        """
        said = msgspec.json.encode(list(entries))
        if self._pending is None or self._pending[0] != said:
            self._pending = (said, new)
        return self._pending[1]

    def __reduce__(self) -> tuple[object, ...]:
        return Held, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held)

    def __hash__(self) -> int:
        return hash(Held)

    def __repr__(self) -> str:
        return "Held()"


class StagedSession(OpenedSession, frozen=True, omit_defaults=True):
    """A write session that can commit itself; as a context manager it stays open while files are written.

    In a `with` block a thread sends heartbeats, every 15 minutes. A block that raises aborts the
    session, if it is still open, and removes what was staged; a session of a transaction is left to
    that. A block that ends by itself commits nothing: call `commit`.

    It pickles without its client: what arrives can name and describe files, not commit them.
    """

    held: Held = msgspec.field(default_factory=Held)

    @property
    def info(self) -> WriteSession:
        """What the planner told of it, alone: it can be encoded as the protocol has it."""
        return WriteSession(
            **{name: getattr(self, name) for name in WriteSession.__struct_fields__}
        )

    def get(self) -> StagedSession:
        """Ask the planner how it is."""
        return self.held.writes.get_write_session(self.session_id, catalog=self.catalog)

    def heartbeat(self) -> StagedSession:
        """Keep it open for another hour, and the transaction that it is bound to."""
        return self.held.writes.heartbeat(session=self)

    def commit(
        self,
        entries: Sequence[WriteEntry | Mapping[str, Any]],
        *,
        operation_id: str | None = None,
        transaction: Transaction | None = None,
    ) -> StagedSession:
        """Make the entries part of the table; see `client.catalog.commit`."""
        return self.held.writes.commit(
            session=self, entries=entries, operation_id=operation_id, transaction=transaction
        )

    def abort(self, reason: str | None = None) -> StagedSession:
        """Close it; its files never become visible."""
        return self.held.writes.abort(session=self, reason=reason)

    def __enter__(self) -> Self:
        self.held.block.enter_context(heartbeating(self.heartbeat, self.held.interval_s))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.held.block.close()
        if error is None or self.transaction_id is not None:
            return
        # Whatever else goes wrong, the first error is what matters.
        told = f"client.catalog.get_write_session({self.session_id!r}) tells what became of it"
        try:
            now = self.get()
            if now.status == "OPEN":
                now.abort(f"{type(error).__name__}: {error}"[:500])
                delete_staged(self)
            elif now.status != "ABORTED":
                error.add_note(f"write session {self.session_id} is {now.status}: {told}")
        except (DeltaCATError, OSError) as second:
            error.add_note(
                f"write session {self.session_id} could not be aborted: {second}; {told}"
            )


def held_session(writes: Writes, session: WriteSession, catalog: str | None) -> StagedSession:
    """What a planner told of a session, in the hands of the client that asked.

    Args:
        writes: The client's calls.
        session: As it came, its storage opened.
        catalog: Where it is; planners do not always repeat that.
    """
    fields = {name: getattr(session, name) for name in WriteSession.__struct_fields__}
    named = {"catalog": session.catalog or catalog, "opened": session.storage}
    return StagedSession(**fields | named, held=Held(writes))
