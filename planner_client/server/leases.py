"""How planned files are kept from vacuum for as long as a scan may still read them.

A process that plans holds one open lease: every snapshot from the one it saw then on. That costs a
write every quarter of an hour, not one per plan. A plan of an older snapshot leases that one by
itself. Leases are rows of the ledger, so vacuum sees those of every process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import apsw

from io_core.errors import PlannerUnavailableError, RequestRejectedError
from planner_client.server.store import latest

if TYPE_CHECKING:
    from planner_client.server.store import Store

__all__ = ["LEASE_NS", "Leases", "check_retained", "horizon"]

LEASE_NS = 3600 * 10**9
_PERIOD_NS = LEASE_NS // 4
_MINUTE_NS = 60 * 10**9


class Leases:
    """The leases of one process; threads share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._floor = -1
        self._renew_ns = 0
        self._single: dict[int, int] = {}

    def hold(self, snapshot: int | None = None) -> None:
        """Lease what a plan is about to show: the latest snapshot, or an older one.

        Call it before the ledger is read for the plan. Where the ledger cannot be written, a full
        disk say, plans are made without a lease, and say so by having no `expires_at`.

        Raises:
            RequestRejectedError: The snapshot's files may be gone (`snapshot_expired`, 410).
        """
        now_ns = self._store.clock_ns()
        with self._lock:
            if now_ns >= self._renew_ns:
                self._floor = self._insert(None, now_ns) or self._floor
            if snapshot is None or snapshot < 0 or 0 <= self._floor <= snapshot:
                return
            if self._single.get(snapshot, 0) < now_ns + LEASE_NS:
                self._insert(snapshot, now_ns)

    def _insert(self, snapshot: int | None, now_ns: int) -> int | None:
        expires_ns = now_ns + LEASE_NS + _PERIOD_NS
        try:
            with self._store.locked() as db:
                if snapshot is not None:
                    check_retained(db, snapshot, now_ns)
                first = latest(db) if snapshot is None else snapshot
                db.execute(
                    "INSERT INTO lease(first, last, expires_ns) VALUES (?, ?, ?)",
                    (first, snapshot, expires_ns),
                )
        except PlannerUnavailableError as error:
            if not isinstance(error.__cause__, apsw.FullError | apsw.ReadOnlyError | OSError):
                raise
            with self._store.read() as db:
                check_retained(db, latest(db) if snapshot is None else snapshot, now_ns)
            return None
        if snapshot is None:
            self._renew_ns = now_ns + _PERIOD_NS
            self._single = {s: t for s, t in self._single.items() if t > now_ns}
        else:
            self._single[snapshot] = expires_ns
        return first

    def is_due(self, now_ns: int) -> bool:
        """Whether the next plan has to write its lease."""
        return now_ns >= self._renew_ns

    def until(self, now_ns: int) -> int | None:
        """Until when a plan of now is surely leased, by the minute; None where it is not."""
        if now_ns >= self._renew_ns:
            return None
        return (now_ns + LEASE_NS) // _MINUTE_NS * _MINUTE_NS


def horizon(db: apsw.Connection) -> int:
    """The oldest snapshot whose files vacuum has kept."""
    row = db.execute("SELECT value FROM meta WHERE key = 'horizon'").fetchone()
    return 0 if row is None else int(row[0])


def check_retained(db: apsw.Connection, snapshot: int, now_ns: int) -> None:
    """Raise if files of the snapshot may be gone.

    Raises:
        RequestRejectedError: Vacuum has gone past it, and no lease kept it.
    """
    if snapshot >= horizon(db):
        return
    leased = db.execute(
        "SELECT 1 FROM lease WHERE first <= ?1 AND (last IS NULL OR last >= ?1) AND expires_ns > ?2"
        " UNION ALL SELECT 1 FROM txn WHERE status = 'RUNNING' AND base_seq = ?1 AND expires_ns > ?2",
        (snapshot, now_ns),
    ).fetchone()
    if leased is None:
        raise RequestRejectedError(
            f"snapshot {snapshot} has expired: vacuum has removed files that only snapshots before "
            f"{horizon(db)} showed; plan a later one",
            code="snapshot_expired",
            status=410,
        )
