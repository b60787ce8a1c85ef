"""Which snapshots and staged files may somebody still read or commit, and what is nobody's any more?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from planner_client.server.leases import horizon
from planner_client.server.writes import Prepared

if TYPE_CHECKING:
    import apsw

__all__ = ["Doomed", "Readers", "Writers", "doomed_partitions", "expiring", "readers", "writers"]

_LATER = 2**62


class Readers(NamedTuple):
    """Which snapshots may be read.

    Attributes:
        horizon: It and all later ones.
        ranges: First and last of those that plans and transactions hold besides.
    """

    horizon: int
    ranges: frozenset[tuple[int, int]]

    def may_see(self, begin: int, end: int, *, purged: bool) -> bool:
        """Whether what is visible from `begin` on and before `end` may still be read."""
        if not purged and end > self.horizon:
            return True
        return any(first < end and last >= begin for first, last in self.ranges)


class Writers(NamedTuple):
    """What may still be committed.

    Attributes:
        sessions: Ids of the write sessions whose staged files are theirs.
        paths: Files, as the ledger has them, that running transactions are going to add.
    """

    sessions: frozenset[str]
    paths: tuple[str, ...]


class Doomed(NamedTuple):
    """Ended partitions that nobody may read.

    Attributes:
        version_id: Their table version.
        purged: Whether the table was dropped for good.
        partition_ids: The partitions.
    """

    version_id: int
    purged: bool
    partition_ids: tuple[int, ...]


def expiring(db: apsw.Connection, before_ns: int) -> int:
    """The horizon that keeps every state of the catalog since a time; it never moves back."""
    (snapshot,) = db.execute(
        "SELECT coalesce(max(seq), 0) FROM revision WHERE committed_ns < ?", (before_ns,)
    ).fetchone()
    return max(int(snapshot), horizon(db))


def readers(db: apsw.Connection, horizon_seq: int, now_ns: int) -> Readers:
    """Who may read what, with a horizon: leases and transactions hold older snapshots.

    Args:
        db: The ledger.
        horizon_seq: The horizon.
        now_ns: Nanoseconds since the epoch; what expired before holds nothing.
    """
    held = db.execute(
        "SELECT first, coalesce(last, ?2) FROM lease WHERE expires_ns > ?1 UNION"
        " SELECT base_seq, base_seq FROM txn WHERE status = 'RUNNING' AND expires_ns >= ?1",
        (now_ns, _LATER),
    )
    return Readers(horizon_seq, frozenset((int(first), int(last)) for first, last in held))


def doomed_partitions(db: apsw.Connection, seen: Readers) -> list[Doomed]:
    """Partitions, and so files, that no reader may ask for any more."""
    rows = db.execute(
        "SELECT p.version_id, p.partition_id, p.begin_seq, p.end_seq, EXISTS"
        " (SELECT 1 FROM table_version v JOIN tbl t ON t.table_id = v.table_id"
        " WHERE v.version_id = p.version_id AND t.purged = 1)"
        " FROM partition p WHERE p.end_seq IS NOT NULL ORDER BY p.version_id, p.partition_id"
    )
    found: dict[tuple[int, bool], list[int]] = {}
    for version_id, partition_id, begin, end, purged in rows:
        if not seen.may_see(begin, end, purged=bool(purged)):
            found.setdefault((int(version_id), bool(purged)), []).append(int(partition_id))
    return [Doomed(*of, tuple(ids)) for of, ids in found.items()]


_OPEN = """
SELECT session_id FROM write_session s LEFT JOIN txn t ON t.transaction_id = s.transaction_id
WHERE (s.transaction_id IS NULL OR (t.status = 'RUNNING' AND t.expires_ns >= ?1))
AND (s.status = 'ATTACHED' OR (s.status = 'OPEN' AND s.expires_ns >= ?1))
"""
_ATTACHED = """
SELECT o.body FROM txn_operation o JOIN txn t ON t.transaction_id = o.transaction_id
WHERE o.name = 'attach' AND t.status = 'RUNNING' AND t.expires_ns >= ?1
"""


def writers(db: apsw.Connection, now_ns: int) -> Writers:
    """Which staged files may still be committed."""
    sessions = frozenset(row[0] for row in db.execute(_OPEN, (now_ns,)))
    bodies = [row[0] for row in db.execute(_ATTACHED, (now_ns,))]
    prepared = [msgspec.msgpack.decode(body, type=Prepared) for body in bodies]
    return Writers(sessions, tuple(path for p in prepared for path in p.path))
