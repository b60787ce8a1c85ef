"""Which rows of keyed tables are dead, as the ledger keeps it: per file and commit, numbered by snapshot.

A kill record holds the rows of one file that one commit killed; now and then one holds all of a
file's dead rows so far. What is known stands beside them: up to which stream position of each
partition. Both are derived from the files, and written together.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from io_core.deletes import encode, union

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw
    import numpy.typing as npt

    from io_core.deletes import Positions
    from planner_client.server.catalog import Version
    from planner_client.server.columns import FileColumns, Rows
    from planner_client.server.store import View

__all__ = [
    "DeadRows",
    "Found",
    "complete_partitions",
    "count_progress",
    "dead_rows",
    "progress",
    "prune_kills",
    "renumber_kills",
    "store_kills",
]

# A file's records are joined to one from so many on.
_JOINED = 16


class Found(NamedTuple):
    """What one commit killed in one partition.

    Attributes:
        version_id: Whose files.
        epoch: How often they had been numbered anew.
        partition_id: The ledger's.
        after: Up to which position the partition's dead rows are known already; -1 for none.
        position: The commit's.
        begin: The first snapshot that shows the commit.
        positions: By file: the rows that died.
        sizes: By file: how many rows it has.
    """

    version_id: int
    epoch: int
    partition_id: int
    after: int
    position: int
    begin: int
    positions: dict[int, Positions]
    sizes: dict[int, int]


def progress(db: apsw.Connection, version_id: int) -> dict[int, int]:
    """Up to which position each partition's dead rows are known; partitions without any are left out."""
    return dict(
        db.execute("SELECT partition_id, position FROM killed WHERE version_id = ?", (version_id,))
    )


def count_progress(db: apsw.Connection, version_id: int) -> int:
    """For how many partitions dead rows were looked for at all."""
    found = db.execute("SELECT count(*) FROM killed WHERE version_id = ?", (version_id,))
    return int(found.fetchone()[0])


def complete_partitions(
    db: apsw.Connection, version: Version, columns: FileColumns, rows: Rows
) -> npt.NDArray[np.bool_]:
    """Of which partitions the dead rows are known up to the last delta among some files.

    Args:
        db: The ledger.
        version: Whose files.
        columns: Their columns.
        rows: Every file that the view shows, of the partitions in question.
    """
    known = progress(db, version.version_id)
    reached = np.array([known.get(int(i), -1) for i in columns.partitions.ids], np.int64)
    complete = np.ones(len(reached), np.bool_)
    partition = columns.partition[rows]
    complete[partition[columns.position[rows] > reached[partition]]] = False
    return complete


class DeadRows:
    """Dead rows of files, as plans need them again and again; threads share it.

    Args:
        limit_bytes: How much to keep.
    """

    def __init__(self, limit_bytes: int = 64 * 2**20) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int, int, int], bytes] = OrderedDict()
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def get(self, view: View, version_id: int, epoch: int, rows: Rows) -> dict[int, bytes]:
        """The same as `dead_rows`, for files whose dead rows are known up to the view's snapshot.

        Args:
            view: Of the ledger.
            version_id: Whose files.
            epoch: How often they had been numbered anew.
            rows: Their numbers.
        """
        found = {}
        for file in map(int, rows):
            held = _last(view.db, version_id, file, view.base)
            if held is None:
                continue
            # Where all is known, the last snapshot that killed any says which rows are dead.
            key = version_id, epoch, file, held
            known = self._known.get(key)
            found[file] = self._keep(key, view.db) if known is None else known
        return found

    def _keep(self, key: tuple[int, int, int, int], db: apsw.Connection) -> bytes:
        version_id, _, file, seq = key
        dead = _joined(_records(db, version_id, file, seq))
        with self._lock:
            if key not in self._known:
                self._known[key] = dead
                self._bytes += len(dead)
            while self._bytes > self._limit_bytes and len(self._known) > 1:
                self._bytes -= len(self._known.popitem(last=False)[1])
        return dead


def dead_rows(db: apsw.Connection, version_id: int, rows: Rows, base: int) -> dict[int, bytes]:
    """The dead rows of files as a snapshot has them, by the files' numbers; files without are left out.

    Args:
        db: The ledger.
        version_id: Whose files.
        rows: Their numbers.
        base: The snapshot.
    """
    found = {file: _records(db, version_id, file, base) for file in rows.tolist()}
    return {file: _joined(bodies) for file, bodies in found.items() if bodies}


def _last(db: apsw.Connection, version_id: int, file: int, base: int) -> int | None:
    """The last snapshot up to `base` in which rows of a file died."""
    row = db.execute(
        "SELECT seq FROM kill WHERE version_id = ? AND file = ? AND seq <= ?"
        " ORDER BY kill_id DESC LIMIT 1",
        (version_id, file, base),
    ).fetchone()
    return None if row is None else int(row[0])


def _records(db: apsw.Connection, version_id: int, file: int, base: int) -> list[bytes]:
    """A file's records, the last first, up to one that holds all before it."""
    found = []
    for whole, body in db.execute(
        "SELECT whole, body FROM kill WHERE version_id = ? AND file = ? AND seq <= ?"
        " ORDER BY kill_id DESC",
        (version_id, file, base),
    ):
        found.append(body)
        if whole:
            break
    return found


def _joined(bodies: list[bytes]) -> bytes:
    if len(bodies) == 1:
        return bodies[0]
    # How many rows the file has stands in each of its sets.
    rows = int.from_bytes(bodies[0][1:5], "little")
    return union(bodies, rows)


def store_kills(db: apsw.Connection, found: Found, files: Rows) -> bool:
    """Write what a commit killed, unless somebody else has meanwhile or the files have new numbers.

    Args:
        db: The ledger, within a write transaction.
        found: What it killed.
        files: All files of the partition, by number.
    """
    row = db.execute(
        "SELECT position FROM killed WHERE version_id = ? AND partition_id = ?",
        (found.version_id, found.partition_id),
    ).fetchone()
    if (-1 if row is None else row[0]) != found.after or _epoch(db, found) != found.epoch:
        return False
    if row is None:
        # Nobody vouches for what may be there: it would stand among the new ones out of order.
        _delete(db, found.version_id, _with_kills(db, found.version_id, files))
    for file, positions in found.positions.items():
        _add(db, found, file, positions)
    db.execute(
        "INSERT OR REPLACE INTO killed VALUES (?, ?, ?)",
        (found.version_id, found.partition_id, found.position),
    )
    return True


def _epoch(db: apsw.Connection, found: Found) -> int:
    row = db.execute(
        "SELECT epoch FROM numbering WHERE version_id = ?", (found.version_id,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _add(db: apsw.Connection, found: Found, file: int, positions: Positions) -> None:
    rows = found.sizes[file]
    body = encode(positions, rows)
    held = _records(db, found.version_id, file, found.begin)
    whole = len(held) >= _JOINED
    if whole:
        body = union([*held, body], rows)
    db.execute(
        "INSERT INTO kill(version_id, file, seq, whole, body) VALUES (?, ?, ?, ?, ?)",
        (found.version_id, file, found.begin, whole, body),
    )


def _with_kills(db: apsw.Connection, version_id: int, files: Rows) -> list[int]:
    """Which of the files have records, ascending."""
    if not len(files):
        return []
    held = db.execute(
        "SELECT DISTINCT file FROM kill WHERE version_id = ? AND file BETWEEN ? AND ? ORDER BY file",
        (version_id, int(files.min()), int(files.max())),
    )
    wanted = set(files.tolist())
    return [file for (file,) in held if file in wanted]


def _delete(db: apsw.Connection, version_id: int, files: Sequence[int]) -> None:
    db.executemany(
        "DELETE FROM kill WHERE version_id = ? AND file = ?", [(version_id, f) for f in files]
    )


def renumber_kills(
    db: apsw.Connection, version_id: int, start: int, gone: npt.NDArray[np.bool_]
) -> None:
    """Let kill records follow their files to new numbers.

    Args:
        db: The ledger, within the write transaction that numbers the files anew.
        version_id: Whose files.
        start: The first file that may get another number.
        gone: Of it and all later ones: which leave the ledger, with the whole of their partition.
    """
    held = np.array(_with_kills(db, version_id, np.arange(start, start + len(gone))), np.int64)
    fresh = start + np.cumsum(~gone) - 1
    leaving = gone[held - start]
    _delete(db, version_id, held[leaving].tolist())
    moved = held[~leaving]
    # Numbers only fall, so that in ascending order none is taken that is still in use.
    db.executemany(
        "UPDATE kill SET file = ? WHERE version_id = ? AND file = ?",
        [(int(fresh[old - start]), version_id, old) for old in moved.tolist()],
    )
    db.execute(
        "DELETE FROM killed WHERE version_id = ?1 AND partition_id NOT IN"
        " (SELECT partition_id FROM partition WHERE version_id = ?1)",
        (version_id,),
    )


def prune_kills(db: apsw.Connection, horizon: int) -> None:
    """Delete records that say nothing any more: a later one holds all, at every snapshot that is left.

    Args:
        db: The ledger, within a write transaction.
        horizon: The oldest snapshot that can be read.
    """
    db.execute(
        "DELETE FROM kill WHERE EXISTS (SELECT 1 FROM kill AS later"
        " WHERE later.version_id = kill.version_id AND later.file = kill.file"
        " AND later.kill_id > kill.kill_id AND later.whole AND later.seq <= ?)",
        (horizon,),
    )
