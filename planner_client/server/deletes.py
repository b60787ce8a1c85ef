"""Which rows of keyed tables are dead: found after each commit, kept by file, carried by plans.

A commit to a keyed table kills older rows of its keys. Right after it, in a write of its own, the
planner finds their positions by an index of the partition's keys and stores them: a kill record per
file and commit, and now and then one that holds all of a file's dead rows. Both are derived: what
is missing is found again from the files, and until then readers merge.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from io_core.deletes import decode, encode, union
from io_core.errors import (
    DataFileError,
    NotFoundError,
    PlannerUnavailableError,
    UnsupportedError,
)
from io_core.key_codes import fingerprint
from io_core.key_files import KeyedFile, codes_of, keys_at
from io_core.key_index import KeyIndex, NewFile, can_index, kills, mark, tidy
from planner_client.server.catalog import find_version
from planner_client.server.conflicts import Change
from planner_client.server.store import AT, View, latest

if TYPE_CHECKING:
    import apsw
    import pyarrow as pa

    from io_core.deletes import Positions
    from planner_client.server.catalog import Version
    from planner_client.server.columns import FileColumns, Rows
    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["DeleteSets", "advance", "complete_partitions", "dead_rows"]

# A file's kill records are joined to one from so many on.
_JOINED = 16
# Entries of all indexes in memory, at about 16 bytes each; partitions with more rows are merged.
_MOST_ENTRIES = 64_000_000
_MOST_ROWS = 32_000_000
_KILLING = frozenset({"upsert", "replace", "replace_partition"})


class _Delta(NamedTuple):
    """The files that one position added to one partition."""

    partition_id: int
    position: int
    begin: int
    rows: Rows


class DeleteSets:
    """Key indexes of the partitions that are written to, in memory; threads share it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._indexes: OrderedDict[tuple[int, int, int], KeyIndex] = OrderedDict()

    def get(self, key: tuple[int, int, int]) -> KeyIndex | None:
        """A partition's index, as far as it got."""
        return self._indexes.get(key)

    def put(self, key: tuple[int, int, int], index: KeyIndex) -> None:
        """Keep a partition's index; the least recently used go first."""
        self._indexes[key] = index
        self._indexes.move_to_end(key)
        held = sum(_entries(i) for i in self._indexes.values())
        while held > _MOST_ENTRIES and len(self._indexes) > 1:
            held -= _entries(self._indexes.popitem(last=False)[1])

    def drop(self, key: tuple[int, int, int]) -> None:
        """Forget a partition's index."""
        self._indexes.pop(key, None)


def _entries(index: KeyIndex) -> int:
    return sum(run.entries for run in index.runs)


def advance(planner: EmbeddedPlanner, snapshot: int) -> None:
    """Find what the commit that made a snapshot killed, and what earlier ones did, and store it.

    What cannot be found (a file is missing, a delete by other columns, a key without codes) stops
    its partition there: readers merge it.
    """
    with planner.store.read() as db:
        bodies = db.execute("SELECT body FROM change WHERE seq = ?", (snapshot,)).fetchall()
    changes = [msgspec.msgpack.decode(body, type=Change) for (body,) in bodies]
    for change in changes:
        if change.version_id and change.kind in _KILLING:
            with planner.deletes.lock, planner.store.read() as db:
                _advance(planner, View(db, latest(db)), change)


def _advance(planner: EmbeddedPlanner, view: View, change: Change) -> None:
    version = _find(view, change)
    if version is None or not version.merge_keys:
        return
    columns = planner.columns.get(view, version)
    known = _progress(view.db, version)
    try:
        work = _Work(planner, view, version, columns)
    except UnsupportedError:
        return
    for deltas in _pending(columns, known):
        try:
            work.partition(deltas, known.get(deltas[0].partition_id, -1))
        except (DataFileError, UnsupportedError, PlannerUnavailableError):
            planner.deletes.drop(work.key(deltas[0].partition_id))


def _find(view: View, change: Change) -> Version | None:
    """The version that a change was to; None where it has gone."""
    row = view.db.execute(
        f"SELECT version FROM table_version WHERE version_id = ?3 AND {AT}",
        (*view.at, change.version_id),
    ).fetchone()
    try:
        return row and find_version(view, change.namespace, change.table, row[0])
    except NotFoundError:
        return None


def _progress(db: apsw.Connection, version: Version) -> dict[int, int]:
    """Up to which position each partition's dead rows are known."""
    return dict(
        db.execute(
            "SELECT partition_id, position FROM killed WHERE version_id = ?",
            (version.version_id,),
        )
    )


def _pending(columns: FileColumns, known: dict[int, int]) -> list[list[_Delta]]:
    """Deltas whose kills are not known, in order, partition by partition."""
    ids = columns.partitions.ids
    reached = np.array([known.get(int(i), -1) for i in ids], np.int64)
    rows = np.flatnonzero(columns.position > reached[columns.partition])
    rows = rows[columns.end[rows] == np.iinfo(np.int64).max]
    order = np.lexsort((rows, columns.position[rows], columns.partition[rows]))
    rows = rows[order]
    partition, position = columns.partition[rows], columns.position[rows]
    new = (np.diff(partition, prepend=-1) != 0) | (np.diff(position, prepend=-1) != 0)
    found: dict[int, list[_Delta]] = {}
    for part in np.split(rows, np.flatnonzero(new)[1:]) if len(rows) else []:
        first = part[0]
        partition_id = int(ids[columns.partition[first]])
        delta = _Delta(partition_id, int(columns.position[first]), int(columns.begin[first]), part)
        found.setdefault(partition_id, []).append(delta)
    return list(found.values())


class _Work:
    """The commits to one table version being looked at."""

    def __init__(
        self, planner: EmbeddedPlanner, view: View, version: Version, columns: FileColumns
    ) -> None:
        self._planner = planner
        self._view = view
        self._version = version
        self._columns = columns
        self._keys = fingerprint(version.schema, version.merge_keys)

    def key(self, partition_id: int) -> tuple[int, int, int]:
        """What the partition's index is kept under."""
        return self._version.version_id, self._columns.epoch, partition_id

    def partition(self, deltas: list[_Delta], reached: int) -> None:
        """Go through the deltas of one partition, as far as they can be indexed."""
        partition_id = deltas[0].partition_id
        index = self._planner.deletes.get(self.key(partition_id))
        if index is None or index.position != reached:
            index = self._rebuilt(partition_id, reached)
        for delta in deltas:
            files = [self._new_file(int(row)) for row in delta.rows]
            if not all(self._can_index(int(row)) for row in delta.rows):
                return
            found = kills(index, delta.position, self._keys, files, self._fetch)
            if not self._store(delta, reached, found.positions):
                # Another process got there first; what it stored is the same.
                self._planner.deletes.drop(self.key(partition_id))
                return
            reached, index = delta.position, tidy(found.after)
            self._planner.deletes.put(self.key(partition_id), index)

    def _can_index(self, row: int) -> bool:
        named = self._columns.profiles[self._columns.profile[row]].delete_columns
        return named is None or can_index(msgspec.json.decode(named), self._version.merge_keys)

    def _rebuilt(self, partition_id: int, reached: int) -> KeyIndex:
        """The index up to a position, made from the keys of the files."""
        columns = self._columns
        index = KeyIndex(self._keys)
        if reached < 0:
            return index
        which = int(np.searchsorted(columns.partitions.ids, partition_id))
        rows = np.flatnonzero((columns.partition == which) & (columns.position <= reached))
        if int(columns.rows[rows].sum()) > _MOST_ROWS:
            raise UnsupportedError("a partition of so many rows is merged by its readers")
        rows = rows[np.lexsort((rows, columns.position[rows]))]
        files = [self._new_file(int(row)) for row in rows if not self._is_delete(int(row))]
        index = kills(index, reached, self._keys, files, self._fetch).after
        dead = dead_rows(self._view.db, self._version.version_id, rows, self._view.base)
        sizes = dict(zip(rows.tolist(), columns.rows[rows].tolist(), strict=True))
        return mark(index, {row: decode(body, sizes[row]) for row, body in dead.items()})

    def _is_delete(self, row: int) -> bool:
        return bool(self._columns.profiles[self._columns.profile[row]].delta_type == "delete")

    def _file(self, row: int) -> KeyedFile:
        columns = self._columns
        if columns.profiles[columns.profile[row]].content_type != "parquet":
            raise UnsupportedError("keys are read from Parquet files alone")
        paths = self._planner.absolute(columns.paths(self._view, np.array([row])))
        return KeyedFile(
            paths[0].as_py(),
            int(columns.rows[row]),
            self._version.schema,
            self._version.merge_keys,
        )

    def _new_file(self, row: int) -> NewFile:
        return NewFile(row, codes_of(self._file(row)), self._is_delete(row))

    def _fetch(self, row: int, positions: Positions) -> pa.Table:
        return keys_at(self._file(row), positions)

    def _store(self, delta: _Delta, reached: int, found: dict[int, Positions]) -> bool:
        """Write what a delta killed, if nobody else has meanwhile."""
        version_id = self._version.version_id
        with self._planner.store.locked() as db:
            row = db.execute(
                "SELECT position FROM killed WHERE version_id = ? AND partition_id = ?",
                (version_id, delta.partition_id),
            ).fetchone()
            if (-1 if row is None else row[0]) != reached or not self._is_current(db):
                return False
            for file, positions in found.items():
                self._add(db, file, delta.begin, positions)
            db.execute(
                "INSERT OR REPLACE INTO killed VALUES (?, ?, ?)",
                (version_id, delta.partition_id, delta.position),
            )
        return True

    def _is_current(self, db: apsw.Connection) -> bool:
        """Whether the files still have the numbers that they had."""
        row = db.execute(
            "SELECT epoch FROM numbering WHERE version_id = ?", (self._version.version_id,)
        ).fetchone()
        return (0 if row is None else row[0]) == self._columns.epoch

    def _add(self, db: apsw.Connection, file: int, begin: int, positions: Positions) -> None:
        version_id, rows = self._version.version_id, int(self._columns.rows[file])
        body = encode(positions, rows)
        held = db.execute(
            "SELECT seq, whole, body FROM kill WHERE version_id = ? AND file = ? ORDER BY kill_id",
            (version_id, file),
        ).fetchall()
        last = max((i for i, (_, whole, _) in enumerate(held) if whole), default=0)
        whole = len(held) - last >= _JOINED
        if whole:
            body = union([*(part for _, _, part in held[last:]), body], rows)
        db.execute(
            "INSERT INTO kill(version_id, file, seq, whole, body) VALUES (?, ?, ?, ?, ?)",
            (version_id, file, begin, whole, body),
        )


def dead_rows(db: apsw.Connection, version_id: int, rows: Rows, base: int) -> dict[int, bytes]:
    """The dead rows of files as a snapshot has them, by the files' numbers; files without are left out.

    Args:
        db: The ledger.
        version_id: Whose files.
        rows: Their numbers.
        base: The snapshot.
    """
    if not len(rows):
        return {}
    found = db.execute(
        "SELECT file, whole, body FROM kill WHERE version_id = ? AND file BETWEEN ? AND ?"
        " AND seq <= ? ORDER BY file, kill_id",
        (version_id, int(rows.min()), int(rows.max()), base),
    )
    wanted = set(rows.tolist())
    parts: dict[int, list[bytes]] = {}
    for file, whole, body in found:
        if file in wanted:
            parts[file] = [body] if whole else [*parts.get(file, ()), body]
    return {file: _joined(bodies) for file, bodies in parts.items()}


def _joined(bodies: list[bytes]) -> bytes:
    if len(bodies) == 1:
        return bodies[0]
    # How many rows the file has stands in each of its sets.
    rows = int.from_bytes(bodies[0][1:5], "little")
    return union(bodies, rows)


def complete_partitions(
    db: apsw.Connection, version: Version, columns: FileColumns, rows: Rows
) -> bool:
    """Whether the dead rows of the files are known up to the last delta among them.

    Args:
        db: The ledger.
        version: Whose files.
        columns: Their columns.
        rows: Every file that the view shows, of the partitions in question.
    """
    known = _progress(db, version)
    if not known:
        return not len(rows)
    reached = np.array([known.get(int(i), -1) for i in columns.partitions.ids], np.int64)
    return bool((columns.position[rows] <= reached[columns.partition[rows]]).all())
