"""Which files does nobody need any more, and how do they go without taking one that is needed?

Snapshots before a horizon expire: in one write of the ledger the horizon moves, and what only older
snapshots show leaves the ledger. Then whatever the ledger no longer refers to is deleted, in short
turns under the ledger's write lock. A commit looks at its files and refers to them under the same
lock, so no file goes in between. What a crash leaves over is unreferenced, and goes the next time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from planner_client.server import sessions, transactions
from planner_client.server.forgetting import forget, paths_in
from planner_client.server.kill_records import prune_kills
from planner_client.server.leases import horizon
from planner_client.server.retention import doomed_partitions, expiring, readers, writers
from planner_client.server.stored import SIDECAR, Unreferenced, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import apsw

    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.retention import Doomed
    from planner_client.server.stored import Item

__all__ = ["DAY_NS", "Amount", "VacuumReport", "vacuum"]

DAY_NS = 86_400 * 10**9
# How long outcomes of named operations, and what became of sessions, can be asked for.
_OUTCOMES_NS = 7 * DAY_NS
# How long a commit may have to wait for files to be deleted.
_TURN_S = 0.02
_MOST_AT_ONCE = 32

Reason = Literal["expired", "purged", "abandoned"]


class Amount(msgspec.Struct, frozen=True):
    """So many files, of so many bytes."""

    files: int = 0
    size: int = 0


class VacuumReport(msgspec.Struct, frozen=True):
    """What vacuum removed, or in a dry run would remove.

    Attributes:
        dry_run: Whether nothing was changed.
        horizon: The oldest snapshot that can still be read.
        expired_snapshots: How many can no longer be read, which could before.
        expired: Files that only expired snapshots showed.
        purged: Files of tables that were dropped for good.
        abandoned: Files that no commit refers to.
        recent: Files that no commit refers to either, left because they changed lately.
        failed: What could not be deleted, and why.
    """

    dry_run: bool
    horizon: int
    expired_snapshots: int
    expired: Amount = Amount()
    purged: Amount = Amount()
    abandoned: Amount = Amount()
    recent: Amount = Amount()
    failed: tuple[str, ...] = ()


def vacuum(
    planner: EmbeddedPlanner,
    *,
    keep_ns: int = 7 * DAY_NS,
    grace_ns: int = DAY_NS,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> VacuumReport:
    """Delete the files that nobody may read or commit any more. Others may read and write meanwhile.

    A file stays while a snapshot shows it that is younger than `keep_ns`, or that a plan or a
    transaction holds, and while the session that staged it may still commit it. Files outside of
    the catalog's data directory are never touched, nor what a link there leads to.

    Args:
        planner: The catalog's planner.
        keep_ns: How far back time travel reaches, in nanoseconds; the latest snapshot always stays.
        grace_ns: How long files stay that no commit refers to, in nanoseconds since they changed.
        dry_run: Only tell what would go; changes nothing at all.
        say: Told what happens, for people.

    Raises:
        ValueError: A negative time.
    """
    if keep_ns < 0 or grace_ns < 0:
        raise ValueError(f"keep_ns {keep_ns} and grace_ns {grace_ns} must not be negative")
    now_ns = planner.store.clock_ns()
    say("looking at the data directory")
    # Before the ledger: what a writer stages from here on is not among them.
    found = Unreferenced(planner.root, planner.place)
    say(f"{len(found.items):,} files; looking at the ledger")
    with planner.store.read() if dry_run else planner.store.locked() as db:
        expired = _expired(db, now_ns, keep_ns)
        if dry_run:
            without = {gone.version_id: gone.partition_ids for gone in expired.gone}
            found.look(db, writers(db, now_ns), without)
        else:
            _shrink(db, expired, now_ns)
    if not dry_run:
        # Durable: no file goes for what a crash of the machine may undo.
        with planner.store.locked() as db:
            found.look(db, writers(db, now_ns), {})
    sweep = _Sweep(planner, found, expired, now_ns)
    chosen, recent = sweep.chosen(now_ns - grace_ns)
    if not dry_run:
        say(f"deleting {len(chosen):,} files")
        chosen = sweep.delete(chosen)
    return VacuumReport(
        dry_run=dry_run,
        horizon=expired.horizon,
        expired_snapshots=expired.snapshots,
        expired=_amount(i for i, reason in chosen if reason == "expired"),
        purged=_amount(i for i, reason in chosen if reason == "purged"),
        abandoned=_amount(i for i, reason in chosen if reason == "abandoned"),
        recent=_amount(recent),
        failed=tuple(sweep.failed),
    )


class _Expired(NamedTuple):
    """What no snapshot shows any more that can be read.

    Attributes:
        horizon: The oldest snapshot that can.
        snapshots: How many cannot that could before.
        gone: Partitions.
        reasons: By path of their files.
    """

    horizon: int
    snapshots: int
    gone: tuple[Doomed, ...]
    reasons: dict[str, Reason]


def _expired(db: apsw.Connection, now_ns: int, keep_ns: int) -> _Expired:
    before, after = horizon(db), expiring(db, now_ns - keep_ns)
    (snapshots,) = db.execute(
        "SELECT count(*) FROM revision WHERE seq >= ? AND seq < ?", (before, after)
    ).fetchone()
    gone = doomed_partitions(db, readers(db, after, now_ns))
    reasons: dict[str, Reason] = {}
    for doomed in gone:
        paths = paths_in(db, doomed.version_id, doomed.partition_ids)
        reasons |= dict.fromkeys(paths, "purged" if doomed.purged else "expired")
    return _Expired(after, int(snapshots), tuple(gone), reasons)


def _shrink(db: apsw.Connection, expired: _Expired, now_ns: int) -> None:
    """Move the horizon, and take out of the ledger what is of no use any more."""
    transactions.expire(db, now_ns)
    sessions.expire(db, now_ns)
    db.execute(
        "INSERT INTO meta VALUES ('horizon', ?1) ON CONFLICT(key) DO UPDATE SET value = ?1",
        (str(expired.horizon),),
    )
    for gone in expired.gone:
        forget(db, gone.version_id, gone.partition_ids)
    prune_kills(db, expired.horizon)
    db.execute("DELETE FROM lease WHERE expires_ns <= ?", (now_ns,))
    old_ns = now_ns - _OUTCOMES_NS
    db.execute("DELETE FROM operation WHERE created_ns < ?", (old_ns,))
    db.execute(
        "DELETE FROM write_session WHERE status NOT IN ('OPEN', 'ATTACHED') AND expires_ns < ?",
        (old_ns,),
    )
    db.execute(
        "DELETE FROM txn WHERE status <> 'RUNNING' AND finalized_ns < ? AND transaction_id NOT IN"
        " (SELECT transaction_id FROM write_session WHERE transaction_id IS NOT NULL)",
        (old_ns,),
    )
    db.execute(
        "DELETE FROM txn_operation WHERE transaction_id NOT IN (SELECT transaction_id FROM txn)"
    )
    # Conflicts are looked for among what was committed since a write began.
    db.execute(
        "DELETE FROM change WHERE seq <= min(?, (SELECT coalesce(min(base_seq), ?) FROM"
        " (SELECT base_seq FROM write_session WHERE status IN ('OPEN', 'ATTACHED') UNION ALL"
        " SELECT base_seq FROM txn WHERE status = 'RUNNING')))",
        (expired.horizon, expired.horizon),
    )


class _Sweep:
    """Deletes what nothing refers to, a turn at a time."""

    def __init__(
        self, planner: EmbeddedPlanner, found: Unreferenced, expired: _Expired, now_ns: int
    ) -> None:
        self._planner = planner
        self._found = found
        self._expired = expired
        self._now_ns = now_ns
        # A store takes long to answer, and many questions at a time.
        self._at_once = 1 if planner.place is None else _MOST_AT_ONCE
        self.failed: list[str] = []

    def chosen(self, young_ns: int) -> tuple[list[tuple[Item, Reason]], list[Item]]:
        """What is to go, and why; and what changed later than a time and was in no commit."""
        chosen: list[tuple[Item, Reason]] = []
        recent = []
        reasons = self._expired.reasons
        folders = {folder: why for path, why in reasons.items() for folder in _above(path)}
        for item in self._found.items.values():
            known = reasons.get(item.path) or reasons.get(item.path.removesuffix(SIDECAR))
            if item.folder:
                known = known or folders.get(item.path)
            if known is None and item.changed_ns >= young_ns:
                recent.append(item)
            else:
                chosen.append((item, known or "abandoned"))
        return chosen, recent

    def delete(self, chosen: list[tuple[Item, Reason]]) -> list[tuple[Item, Reason]]:
        """Delete what nothing refers to at that very moment; returns what was deleted."""
        with ThreadPoolExecutor(self._at_once) as pool:
            return self._delete(chosen, pool)

    def _delete(
        self, chosen: list[tuple[Item, Reason]], pool: ThreadPoolExecutor
    ) -> list[tuple[Item, Reason]]:
        waiting, deleted = chosen[::-1], []
        while waiting:
            began_s = time.monotonic()
            with self._planner.store.locked() as db:
                self._found.look(db, writers(db, self._now_ns), {})
                until_s = time.monotonic() + _TURN_S
                while waiting and time.monotonic() < until_s:
                    turn = [waiting.pop() for _ in range(min(self._at_once, len(waiting)))]
                    turn = [each for each in turn if each[0].path in self._found.items]
                    gone = pool.map(self._remove, [item for item, _ in turn])
                    deleted += [each for each, is_gone in zip(turn, gone, strict=True) if is_gone]
            if waiting:
                # SQLite's locks know no queue: whoever waits gets as much time.
                time.sleep(time.monotonic() - began_s)
        return deleted

    def _remove(self, item: Item) -> bool:
        try:
            remove(self._planner.root, item, self._planner.place)
        except OSError as error:
            self.failed.append(f"{item.path}: {error.strerror}")
            return False
        return True


def _above(path: str) -> list[str]:
    """Folders that a path is in, from a session's directory down."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(3, len(parts))]


def _amount(items: Iterable[Item]) -> Amount:
    held = list(items)
    return Amount(sum(i.files for i in held), sum(i.size for i in held))
