"""Which rows of keyed tables died: looked for after each commit, by an index of each partition's keys.

A commit to a keyed table kills older rows of its keys. Right after it, in a write of its own, the
planner finds their positions and stores them (`planner_client.server.kill_records`). Nothing waits
for it: until then, and where nothing can be found, readers merge. What would keep a commit waiting
for long is left to a thread.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from io_core.deletes import decode
from io_core.errors import DeltaCATError, NotFoundError, UnsupportedError
from io_core.key_codes import fingerprint
from io_core.key_files import KeyedFile, codes_of, columns_at, keys_at
from io_core.key_index import KeyIndex, NewFile, can_index, index_of, kills, rows_at, tidy
from io_core.merge_order import merge_order_of, ranks
from planner_client.server.catalog import find_version
from planner_client.server.conflicts import changes_at
from planner_client.server.kill_records import DeadRows, Found, dead_rows, progress, store_kills
from planner_client.server.logs import LOGGER
from planner_client.server.store import AT, View, latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from io_core.deletes import Positions
    from io_core.key_index import Kills, Locations
    from planner_client.server.catalog import Version
    from planner_client.server.columns import FileColumns, Rows
    from planner_client.server.conflicts import Change
    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["DeleteSets", "advance"]

# Entries of all indexes in memory, at about 16 bytes each; partitions with more rows are merged.
_MOST_ENTRIES = 64_000_000
_MOST_ROWS = 32_000_000
_KILLING = frozenset({"upsert", "replace", "replace_partition"})
_LIVE = np.iinfo(np.int64).max

_Key = tuple[int, int, int]


class _Later(Exception):  # noqa: N818  # nothing went wrong
    """There is more to read than a commit may wait for."""


class _Stopped(Exception):  # noqa: N818  # nothing went wrong
    """The planner is closed."""


class _Delta(NamedTuple):
    """The files that one position added to one partition."""

    partition_id: int
    position: int
    begin: int
    rows: Rows


class DeleteSets:
    """Key indexes of the partitions that are written to, and the thread that makes large ones.

    Threads share it.

    Attributes:
        dead: Dead rows, for plans.
        most_at_once: Rows whose keys are read while a commit waits: at most about a second's worth.
    """

    def __init__(self) -> None:
        self.dead = DeadRows()
        self.most_at_once = 4_000_000
        self._lock = threading.Lock()
        self._indexes: OrderedDict[_Key, KeyIndex] = OrderedDict()
        # What is left to the thread, by version; guarded by `_turn`, as the thread is.
        self._turn = threading.Lock()
        self._due: dict[int, Change] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def look(self, planner: EmbeddedPlanner, change: Change) -> None:
        """Find what a change killed, and what earlier ones did, now or, where it takes long, later."""
        with self._turn:
            if self._thread is not None:
                self._due[change.version_id] = change
                return
        try:
            self._advance(planner, change, most=self.most_at_once)
        except _Later:
            self._leave(planner, change)

    def _leave(self, planner: EmbeddedPlanner, change: Change) -> None:
        with self._turn:
            self._due[change.version_id] = change
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(
                    target=self._work, args=(planner,), name="delete-sets", daemon=True
                )
                self._thread.start()

    def _work(self, planner: EmbeddedPlanner) -> None:
        """What the thread does, until nothing is left."""
        while True:
            with self._turn:
                if self._closing.is_set() or not self._due:
                    self._thread = None
                    return
                change = self._due.pop(next(iter(self._due)))
            _contained(functools.partial(self._advance, planner, change, most=sys.maxsize))

    def _advance(self, planner: EmbeddedPlanner, change: Change, *, most: int) -> None:
        with self._lock, planner.store.read() as db:
            view = View(db, latest(db))
            version = _find(view, change)
            if version is None or not version.merge_keys:
                return
            try:
                work = _Work(planner, view, version, self)
            except UnsupportedError:
                # Keys of a type that has no codes: readers merge.
                return
            work.run(most)

    def get(self, key: _Key) -> KeyIndex | None:
        """A partition's index, as far as it got."""
        return self._indexes.get(key)

    def put(self, key: _Key, index: KeyIndex) -> None:
        """Keep a partition's index; the least recently used go first."""
        self._indexes[key] = index
        self._indexes.move_to_end(key)
        held = sum(_entries(i) for i in self._indexes.values())
        while held > _MOST_ENTRIES and len(self._indexes) > 1:
            held -= _entries(self._indexes.popitem(last=False)[1])

    def drop(self, key: _Key) -> None:
        """Forget a partition's index."""
        self._indexes.pop(key, None)

    def check_open(self) -> None:
        """Raise where whoever works for a closed planner is to stop."""
        if self._closing.is_set():
            raise _Stopped

    def settle(self) -> None:
        """Wait until nothing is left to the thread."""
        with self._turn:
            thread = self._thread
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """Stop the thread; what it did not get to is found after a later commit."""
        with self._turn:
            thread = self._thread
            if thread is None:
                return
            self._due.clear()
            self._closing.set()
        thread.join()
        self._closing.clear()


def _entries(index: KeyIndex) -> int:
    return sum(run.entries for run in index.runs)


def advance(planner: EmbeddedPlanner, snapshot: int | None) -> None:
    """Find what a commit killed, and what earlier ones did, and store it. Never fails.

    What cannot be found (a file is missing, a delete by other columns, a key without codes) stops
    its partition there: readers merge it.

    Args:
        planner: The catalog's planner.
        snapshot: What the commit made; None for the latest.
    """
    _contained(functools.partial(_advance, planner, snapshot))


def _advance(planner: EmbeddedPlanner, snapshot: int | None) -> None:
    with planner.store.read() as db:
        changes = changes_at(db, latest(db) if snapshot is None else snapshot)
    for change in changes:
        if change.version_id and change.kind in _KILLING:
            planner.deletes.look(planner, change)


def _contained(call: Callable[[], None]) -> None:
    try:
        call()
    except _Stopped:
        return
    except Exception:  # noqa: BLE001  # the commit stands, and a later one finds what this did not
        LOGGER.warning("dead rows were not looked for: readers merge meanwhile", exc_info=True)


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


def _deltas(columns: FileColumns, rows: Rows) -> Iterator[list[_Delta]]:
    """Files as deltas in order, partition by partition."""
    order = np.lexsort((rows, columns.position[rows], columns.partition[rows]))
    rows = rows[order]
    partition, position = columns.partition[rows], columns.position[rows]
    new = (np.diff(partition, prepend=-1) != 0) | (np.diff(position, prepend=-1) != 0)
    parts = np.split(rows, np.flatnonzero(new)[1:]) if len(rows) else []
    ids = columns.partitions.ids
    deltas = (
        _Delta(
            int(ids[columns.partition[part[0]]]),
            int(columns.position[part[0]]),
            int(columns.begin[part[0]]),
            part,
        )
        for part in parts
    )
    for _, group in itertools.groupby(deltas, key=lambda delta: delta.partition_id):
        yield list(group)


class _Work:
    """The commits to one table version being looked at."""

    def __init__(
        self, planner: EmbeddedPlanner, view: View, version: Version, sets: DeleteSets
    ) -> None:
        self._planner = planner
        self._view = view
        self._version = version
        self._sets = sets
        self._columns = planner.columns.get(view, version)
        self._keys = fingerprint(version.schema, version.merge_keys)
        self._order = merge_order_of(version.schema)
        self._files: dict[int, KeyedFile] = {}
        indexed = [self._can_index(i) for i in range(len(self._columns.profiles))]
        self._indexed = np.array(indexed, np.bool_)

    def _can_index(self, profile: int) -> bool:
        """Whether the keys of such files can be read, and say what they kill."""
        held = self._columns.profiles[profile]
        by = held.delete_columns
        return held.content_type == "parquet" and (
            by is None or can_index(msgspec.json.decode(by), self._version.merge_keys)
        )

    def run(self, most: int) -> None:
        """Go through all partitions, as far as they can be indexed.

        Raises:
            _Later: Keys of more than `most` rows are to be read; some partitions may be done.
        """
        columns = self._columns
        known = progress(self._view.db, self._version.version_id)
        reached = np.array([known.get(int(i), -1) for i in columns.partitions.ids], np.int64)
        rows = np.flatnonzero(columns.position > reached[columns.partition])
        rows = rows[columns.end(rows) == _LIVE]
        for pending in _deltas(columns, rows):
            partition_id = pending[0].partition_id
            ready = list(itertools.takewhile(self._is_indexed, pending))
            if not ready:
                continue
            try:
                most -= self._partition(ready, known.get(partition_id, -1), most)
            except DeltaCATError:
                self._sets.drop(self._key(partition_id))

    def _is_indexed(self, delta: _Delta) -> bool:
        return bool(self._indexed[self._columns.profile[delta.rows]].all())

    def _key(self, partition_id: int) -> _Key:
        """What the partition's index is kept under."""
        return self._version.version_id, self._columns.epoch, partition_id

    def _partition(self, deltas: list[_Delta], reached: int, most: int) -> int:
        """Go through the deltas of one partition; how many rows' keys were read."""
        columns, partition_id = self._columns, deltas[0].partition_id
        which = int(np.searchsorted(columns.partitions.ids, partition_id))
        files = np.flatnonzero(columns.partition == which)
        older = files[columns.position[files] <= reached]
        index = self._sets.get(self._key(partition_id))
        if index is not None and index.position > reached:
            # What it found was lost since.
            index = None
        # What another process found in the meantime is found again: it is not read from there.
        missed = older if index is None else older[columns.position[older] > index.position]
        count = int(columns.rows[missed].sum() + sum(columns.rows[d.rows].sum() for d in deltas))
        if int(columns.rows[files].sum()) > _MOST_ROWS:
            raise UnsupportedError("a partition of so many rows is merged by its readers")
        if count > most:
            raise _Later
        if index is None:
            index = self._rebuilt(older, reached)
        else:
            for delta in itertools.chain(*_deltas(columns, missed)):
                index = tidy(self._kills(index, delta).after)
        for delta in deltas:
            done = self._kills(index, delta)
            found = self._found(delta, reached, done.positions)
            # What a crash takes of it is found again.
            with self._planner.store.locked(durable=False) as db:
                stored = store_kills(db, found, files)
            if not stored:
                # Another process got there first; what it stored is the same.
                break
            reached, index = delta.position, tidy(done.after)
        self._sets.put(self._key(partition_id), index)
        return count

    def _found(self, delta: _Delta, after: int, positions: dict[int, Positions]) -> Found:
        return Found(
            version_id=self._version.version_id,
            epoch=self._columns.epoch,
            partition_id=delta.partition_id,
            after=after,
            position=delta.position,
            begin=delta.begin,
            positions=positions,
            sizes={file: int(self._columns.rows[file]) for file in positions},
        )

    def _kills(self, index: KeyIndex, delta: _Delta) -> Kills:
        new = self._new_files(delta.rows)
        rank = self._rank if self._order else None
        return kills(index, delta.position, self._keys, new, self._fetch, rank)

    def _rank(self, locations: Locations) -> Locations:
        """Which of some rows of one commit win by the table's merge order."""
        columns = [key.column for key in self._order]
        found = rows_at(locations, lambda row, at: columns_at(self._files[row], columns, at))
        return ranks(found, self._order)

    def _rebuilt(self, rows: Rows, reached: int) -> KeyIndex:
        """The index up to a position, made from the keys of the files that live according to the ledger."""
        rows = np.array([row for row in rows.tolist() if not self._is_delete(row)], np.int64)
        sets = dead_rows(self._view.db, self._version.version_id, rows, self._view.base)
        dead = {row: decode(body, int(self._columns.rows[row])) for row, body in sets.items()}
        return index_of(self._keys, reached, self._new_files(rows), dead)

    def _is_delete(self, row: int) -> bool:
        return bool(self._columns.profiles[self._columns.profile[row]].delta_type == "delete")

    def _new_files(self, rows: Rows) -> list[NewFile]:
        self._learn(rows)
        found = []
        for row in rows.tolist():
            self._sets.check_open()
            found.append(NewFile(row, codes_of(self._files[row]), self._is_delete(row)))
        return found

    def _fetch(self, row: int, positions: Positions) -> pa.Table:
        if row not in self._files:
            columns = self._columns
            self._learn(np.flatnonzero(columns.partition == columns.partition[row]))
        return keys_at(self._files[row], positions)

    def _learn(self, rows: Rows) -> None:
        """Look up where files are: of many at once, for that takes as long as of one."""
        paths = self._columns.locations(self._view, rows).to_pylist()
        counts = self._columns.rows[rows].tolist()
        for row, path, records in zip(rows.tolist(), paths, counts, strict=True):
            schema, keys = self._version.schema, self._version.merge_keys
            self._files[row] = KeyedFile(path, records, schema, keys, self._planner.storage)
