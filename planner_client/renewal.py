"""How does a client open what a planner says of stores, and get new keys to them later on?

Keys are taken out of plans and write sessions as they arrive. What is left pickles with its client:
a process that receives it asks the planner for keys itself, by its own token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from io_core.bindings import StorageBinding, keys_for, opened_storage
from io_core.errors import RequestRejectedError
from io_core.model import OpenedSession, WriteSession
from io_core.plan import ReadPlan
from planner_client.calls import Calls
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.protocol.writes import HEARTBEAT, HeartbeatRequest

if TYPE_CHECKING:
    from io_core.credentials import Keys

__all__ = ["opened_plan", "opened_session"]


class _ToRead(msgspec.Struct, frozen=True):
    """Gets keys to read a table's files by planning none of them."""

    calls: Calls
    catalog: str | None
    request: PlanRequest
    binding: StorageBinding

    def __call__(self) -> Keys:
        """Ask the planner."""
        try:
            plan = self.calls.send(PLAN, self.request, self.catalog)
        except RequestRejectedError:
            if self.request.transaction_id is None:
                raise
            # The transaction is over; what it planned may be there all the same.
            alone = msgspec.structs.replace(self.request, transaction_id=None)
            plan = self.calls.send(PLAN, alone, self.catalog)
        return keys_for(self.binding, plan.credentials or {})


class _ToWrite(msgspec.Struct, frozen=True):
    """Gets keys to write a session's files by keeping it open."""

    calls: Calls
    catalog: str | None
    request: HeartbeatRequest
    binding: StorageBinding

    def __call__(self) -> Keys:
        """Ask the planner."""
        session = self.calls.send(HEARTBEAT, self.request, self.catalog)
        return keys_for(self.binding, session.credentials or {})


def opened_plan(calls: Calls, plan: ReadPlan, catalog: str | None = None) -> ReadPlan:
    """A plan that brings how its files are reached; the same one where they are local."""
    header = plan.header
    if not header.storage_bindings:
        return plan
    request = PlanRequest(
        namespace=header.namespace,
        table=header.table,
        table_version=header.table_version,
        include_files=False,
        transaction_id=header.transaction_id,
    )
    storage = opened_storage(
        header.storage_bindings,
        plan.credentials,
        calls.scope("read"),
        lambda binding: _ToRead(calls, catalog, request, binding),
    )
    return ReadPlan(header, plan.files, storage)


def opened_session(calls: Calls, session: WriteSession) -> WriteSession:
    """A session that brings how its files are reached; the same one where they are local."""
    if not session.available_storage_bindings:
        return session
    request = HeartbeatRequest(
        session_id=session.session_id, session_version=session.session_version
    )
    storage = opened_storage(
        session.available_storage_bindings,
        session.credentials,
        calls.scope("write"),
        lambda binding: _ToWrite(calls, session.catalog, request, binding),
    )
    fields = {name: getattr(session, name) for name in WriteSession.__struct_fields__}
    return OpenedSession(**fields | {"credentials": None, "opened": storage})
