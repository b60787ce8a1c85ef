"""A table version's files as columns in memory: one copy for every snapshot, extended by commits.

Arrays only grow: what is new is written behind what readers hold, and a file's end is written in
place, where it means nothing to the snapshots before it. Statistics and paths are read from the
ledger when a plan first needs them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.formats.pool import drawn_from, lasting_pool
from io_core.lean_arrow import in_one_piece, lean_numpy
from io_core.model import DeltaType
from io_core.prune import partition_bounds
from planner_client.server.partitions import (
    divided_by,
    later_partitions,
    partition_runs,
    partition_table,
)
from planner_client.server.runs import FEW, RunCache
from planner_client.server.segments import core_runs, file_count
from planner_client.server.statistics import (
    BLOCK,
    StatColumn,
    Stats,
    block_extreme,
    stat_column,
)
from planner_client.server.store import latest

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from io_core.model import PartitionScheme
    from planner_client.server.catalog import Version
    from planner_client.server.segments import Run
    from planner_client.server.store import View

__all__ = [
    "ColumnCache",
    "FileColumns",
    "Hashes",
    "Partitions",
    "Profile",
    "Totals",
    "load_partitions",
]

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
_LIVE = np.iinfo(np.int64).max
_MANY_RUNS = 8
_ARRAYS = ("size", "rows", "position", "begin", "partition", "profile")


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What all files of one delta share.

    Attributes:
        delete_columns: JSON list of what a delete matches by.
        rows_since: The snapshot from which on all of the rows were shown, in other files before
            these; None where that is the one that shows the files.
    """

    content_type: str
    content_encoding: str
    delta_type: DeltaType
    delete_columns: str | None
    schema_id: int
    sort_scheme_id: str | None
    rows_since: int | None = None


class Partitions(NamedTuple):
    """A version's partitions, in order of the ledger's ids.

    Attributes:
        ids: (partitions,) the ledger's ids.
        uuids: (partitions,) string.
        begin: (partitions,) first snapshot that shows the partition.
        end: (partitions,) first snapshot that no longer does.
        values: `partition:<i>`, typed by the scheme; where unpartitioned one column without a name.
        told: What plans tell of them: `partition_id`, and the values that have names.
        known: What `bounds` has found.
    """

    ids: Ints
    uuids: pa.Array
    begin: Ints
    end: Ints
    values: pa.Table
    told: dict[str, pa.Array]
    known: dict[tuple[tuple[str, pa.DataType], ...], dict[str, list[StatColumn]]]

    @classmethod
    def of(cls, ids: Ints, uuids: pa.Array, begin: Ints, end: Ints, values: pa.Table) -> Partitions:
        """Partitions of which no bounds are asked yet."""
        columns = zip(values.column_names, values.columns, strict=True)
        told = {name: in_one_piece(column) for name, column in columns if name}
        return cls(ids, uuids, begin, end, values, {"partition_id": uuids, **told}, {})

    def places_of(self, ids: Ints) -> npt.NDArray[np.int32]:
        """Where partitions of these ids are."""
        if len(self.ids) and int(self.ids[-1]) - int(self.ids[0]) + 1 == len(self.ids):
            # No id between them is another table's: nothing has to be searched.
            places = ids - self.ids[0]
        else:
            places = self.ids.searchsorted(ids)
        return np.asarray(places, np.int32)

    def bounds(self, scheme: PartitionScheme, schema: pa.Schema) -> dict[str, list[StatColumn]]:
        """What the values say of the columns they come from, of partitions of one row each."""
        # By what decides them: the columns' names and types.
        key = tuple((k.column, schema.field(k.column).type) for k in scheme.keys)
        found = self.known.get(key)
        if found is None:
            ones = np.ones(len(self.ids), np.int64)
            with drawn_from(lasting_pool):
                bounds = partition_bounds(self.values, ones, scheme, schema)
            found = {name: [stat_column(b) for b in held] for name, held in bounds.items()}
            self.known[key] = found
        return found


class Totals(NamedTuple):
    """A snapshot's files added up per partition: how many, their bytes and their rows.

    Attributes:
        whole: The same three over all partitions.
    """

    files: Ints
    size: Ints
    rows: Ints
    whole: tuple[int, int, int]

    @classmethod
    def of(cls, files: Ints, size: Ints, rows: Ints) -> Totals:
        """Totals from those of each partition."""
        return cls(files, size, rows, (int(files.sum()), int(size.sum()), int(rows.sum())))


class FileColumns(NamedTuple):
    """All files that a version ever had, by number.

    Attributes:
        seq: The snapshot up to which this is complete.
        epoch: How often the files were numbered anew.
        size: (files,) bytes; `rows`, `position` (of the stream) and `begin` (the first snapshot
            that shows the file) likewise; of 32 bits each, where that is enough.
        partition: (files,) index into `partitions`.
        profile: (files,) index into `profiles`.
        block_rows: (blocks,) rows of each 1,024 files.
        low_partition: (blocks,) least partition of each 1,024 files; `high_partition` the greatest.
    """

    seq: int
    epoch: int
    size: Ints
    rows: Ints
    position: Ints
    begin: Ints
    partition: npt.NDArray[np.int32]
    profile: npt.NDArray[np.unsignedinteger[Any]]
    profiles: tuple[Profile, ...]
    partitions: Partitions
    block_rows: Ints
    low_partition: npt.NDArray[np.int32]
    high_partition: npt.NDArray[np.int32]
    stats: Stats
    hashes: Hashes
    runs: RunCache
    totals: Totals

    @property
    def height(self) -> int:
        """How many files."""
        return len(self.size)

    def live(self, view: View, rows: Rows | slice) -> npt.NDArray[np.bool_]:
        """Which of the rows the view shows."""
        begin, end = self.begin[rows], self.end(rows)
        if view.own < 0:
            return np.asarray((begin <= view.base) & (end > view.base))
        begun = (begin <= view.base) | (begin == view.own)
        return np.asarray(begun & (end > view.base) & (end != view.own))

    def end(self, rows: Rows | slice) -> Ints:
        """First snapshot that no longer shows each of the rows; the greatest integer while live.

        A file ends with its partition.
        """
        return np.asarray(self.partitions.end[self.partition[rows]])

    def rows_since(self, rows: Rows) -> Ints:
        """First snapshot from which on each of the files' rows were shown, rewritten or not."""
        begin = self.begin[rows]
        if all(profile.rows_since is None for profile in self.profiles):
            return begin
        known = np.array([-1 if p.rows_since is None else p.rows_since for p in self.profiles])
        found = known[self.profile[rows]]
        return np.where(found < 0, begin, found)

    def shows_all(self, view: View) -> bool:
        """Whether every file is live in the view, known without looking at each."""
        return view.own < 0 and view.base >= self.seq and self.totals.whole[0] == self.height

    def totals_of(self, view: View) -> Totals:
        """The view's files added up; costs nothing for the latest snapshot."""
        if view.own < 0 and view.base >= self.seq:
            return self.totals
        rows = np.flatnonzero(self.live(view, slice(None)))
        return _totals(self, rows)

    def paths(self, view: View, rows: Rows) -> pa.Array:
        """The rows' paths, below the catalog's root or absolute."""
        return self.runs.take(view, ("path", self.stats.version_id, self.epoch), rows)

    def locations(self, view: View, rows: Rows) -> pa.Array:
        """The rows' locations, as readers open them."""
        return self.runs.take(view, ("location", self.stats.version_id, self.epoch), rows)

    def hashes_of(self, view: View, rows: Rows, *, once: bool = False) -> pa.Array:
        """The rows' hashes, 16 bytes each; `once` where nobody will ask for them again."""
        column = ("hash", self.stats.version_id, self.epoch)
        return self.runs.take(view, column, rows, once=once)

    def hash_sum(self, view: View, rows: Rows, *, once: bool = False) -> int:
        """The sum of the rows' 128-bit hashes modulo 2^128."""
        if len(rows) <= FEW:
            column = ("hash", self.stats.version_id, self.epoch)
            hashes = self.runs.values(view, column, rows)
            return sum(int.from_bytes(held, "little") for held in hashes) % 2**128
        return _added(self.hashes_of(view, rows, once=once))

    def hash_total(self, view: View) -> int:
        """The same for every file of the latest snapshot; costs what changed since last asked."""
        return self.hashes.total(view, self)


def _totals(columns: FileColumns, rows: Rows | slice) -> Totals:
    partition, size, records = columns.partition[rows], columns.size[rows], columns.rows[rows]
    # Files of one partition mostly stand together: they are added up first, which costs a fifth.
    edges = np.flatnonzero(partition[1:] != partition[:-1]) + 1
    starts = np.concatenate([np.zeros(min(len(partition), 1), np.int64), edges])
    held, count = partition[starts], len(columns.partitions.ids)
    files = np.diff(starts, append=len(partition))
    sums = (files, *(_sums_from(starts, values) for values in (size, records)))
    # Sums of float64 are exact below 2^53, which bytes and rows of one partition stay under.
    return Totals.of(*(np.bincount(held, s, count).astype(np.int64) for s in sums))


def _sums_from(starts: Rows, values: Ints) -> Ints:
    """The values from each start to the next one added up."""
    return (
        np.add.reduceat(values, starts, dtype=np.int64) if len(starts) else values.astype(np.int64)
    )


def _added(hashes: pa.Array) -> int:
    """128-bit numbers, less significant byte first, added up modulo 2^128."""
    if not len(hashes):
        return 0
    raw = np.frombuffer(hashes.buffers()[1], "<u4")
    limbs = raw[4 * hashes.offset :][: 4 * len(hashes)].reshape(-1, 4)
    sums = limbs.sum(axis=0, dtype=np.uint64)
    return sum(int(part) << (32 * i) for i, part in enumerate(sums)) % 2**128


class Hashes:
    """The hashes of a version's live files added up, kept from one commit to the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Of how many files, after how many partitions had ended, and the sum.
        self._known = (0, 0, 0)

    def total(self, view: View, columns: FileColumns) -> int:
        """The sum for the latest snapshot that `columns` knows."""
        ended = int(np.count_nonzero(columns.partitions.end != _LIVE))
        with self._lock:
            count, before, value = self._known
            if before == ended and count <= columns.height:
                added = columns.hash_sum(view, np.arange(count, columns.height), once=True)
                value = (value + added) % 2**128
            else:
                live = np.flatnonzero(columns.end(slice(None)) == _LIVE)
                value = columns.hash_sum(view, live, once=True)
            self._known = columns.height, ended, value
        return value


class _Growing:
    """Arrays that grow together; views that were handed out stay as they are."""

    def __init__(self) -> None:
        self._held: dict[str, npt.NDArray[Any]] = {}

    def append(
        self, count: int, arrays: dict[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        """Write entries behind the first `count` of every array; the arrays up to there."""
        end = count + len(next(iter(arrays.values())))
        for name, values in arrays.items():
            held = self._held.get(name)
            if held is None and not count:
                # What is read first needs no room to grow, and no copy.
                self._held[name] = values
                continue
            if held is None or len(held) < end or not np.can_cast(values.dtype, held.dtype):
                wider = values.dtype if held is None else np.promote_types(held.dtype, values.dtype)
                grown = np.empty(end + end // 4, wider)
                if held is not None:
                    grown[:count] = held[:count]
                self._held[name] = held = grown
            held[count:end] = values
        return {name: held[:end] for name, held in self._held.items()}


class _Known(NamedTuple):
    columns: FileColumns
    growing: _Growing


class ColumnCache:
    """FileColumns of the tables in use, the least recently used given up first; threads share it.

    Args:
        locate: Makes locations, which readers can open, of paths as the ledger keeps them.
        limit_files: How many files' columns to keep, over all tables.
    """

    def __init__(
        self, locate: Callable[[pa.Array], pa.Array], limit_files: int = 20_000_000
    ) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._limit_files = limit_files
        self._runs = RunCache(locate)

    def peek(self, version_id: int) -> FileColumns | None:
        """What is in memory of the version, however old."""
        known = self._known.get(version_id)
        return None if known is None else known.columns

    def get(self, view: View, version: Version) -> FileColumns:
        """The version's files, at least up to what the view sees."""
        seq = view.last if view.last >= 0 else latest(view.db)
        known = self._known.get(version.version_id)
        epoch = _epoch(view.db, version.version_id)
        if view.own >= 0:
            return self._private(view, version, known, epoch)
        if known is not None and known.columns.seq >= seq and known.columns.epoch == epoch:
            return known.columns
        with self._lock:
            known = self._known.get(version.version_id)
            if known is not None and known.columns.epoch > epoch:
                # The view is older than the last numbering: it gets its own copy.
                return _extend(view.db, version, self._runs, None, seq, epoch).columns
            if known is not None and known.columns.epoch < epoch:
                known = None
            if known is None or known.columns.seq < seq:
                known = _extend(view.db, version, self._runs, known, seq, epoch)
                self._known[version.version_id] = known
            self._known.move_to_end(version.version_id)
            self._shrink()
        return known.columns

    def _private(
        self, view: View, version: Version, known: _Known | None, epoch: int
    ) -> FileColumns:
        """What a transaction sees, its own files included, which nobody else may."""
        if known is not None and known.columns.epoch == epoch:
            growing = _Growing()
            growing.append(0, {name: getattr(known.columns, name).copy() for name in _ARRAYS})
            mine = known.columns._replace(stats=Stats(version.version_id), hashes=Hashes())
            known = _Known(mine, growing)
        else:
            known = None
        columns = _extend(view.db, version, self._runs, known, view.own, epoch).columns
        rows = np.flatnonzero(columns.live(view, slice(None)))
        return columns._replace(totals=_totals(columns, rows))

    def _shrink(self) -> None:
        held = sum(k.columns.height for k in self._known.values())
        while held > self._limit_files and len(self._known) > 1:
            _, gone = self._known.popitem(last=False)
            held -= gone.columns.height


def _epoch(db: apsw.Connection, version_id: int) -> int:
    row = db.execute("SELECT epoch FROM numbering WHERE version_id = ?", (version_id,)).fetchone()
    return 0 if row is None else int(row[0])


@drawn_from(lasting_pool)
def _extend(
    db: apsw.Connection,
    version: Version,
    cache: RunCache,
    known: _Known | None,
    seq: int,
    epoch: int,
) -> _Known:
    """What is known, brought up to date with what `db` sees."""
    growing = _Growing() if known is None else known.growing
    old = None if known is None else known.columns
    first = 0 if old is None else old.height
    partitions = (
        load_partitions(db, version, None)
        if old is None
        else load_partitions(db, version, old.partitions, old.seq)
    )
    end = file_count(db, version.version_id)
    runs = core_runs(db, version.version_id, first, end)
    profiles = {} if old is None else {p: i for i, p in enumerate(old.profiles)}
    arrays = growing.append(first, _core_arrays(runs, partitions, profiles))
    low, high = _partition_blocks(arrays["partition"], old)
    if len(runs) > _MANY_RUNS:
        del runs
        # What reading took, which would stay with the process.
        pa.default_memory_pool().release_unused()
    columns = FileColumns(
        seq=seq,
        epoch=epoch,
        **arrays,
        profiles=tuple(profiles),
        partitions=partitions,
        block_rows=_sums_from(np.arange(0, len(arrays["rows"]), BLOCK), arrays["rows"]),
        low_partition=low,
        high_partition=high,
        stats=Stats(version.version_id) if old is None else old.stats,
        hashes=Hashes() if old is None else old.hashes,
        runs=cache,
        totals=Totals.of(*(np.zeros(0, np.int64),) * 3),
    )
    return _Known(columns._replace(totals=_new_totals(columns, old)), growing)


def _numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    return lean_numpy(in_one_piece(table.column(name)))


def _core_arrays(
    runs: list[Run], partitions: Partitions, profiles: dict[Profile, int]
) -> dict[str, npt.NDArray[Any]]:
    """Runs of `CORE` as arrays; profiles that are new are added to `profiles`."""
    parts: dict[str, list[npt.NDArray[Any]]] = {n: [np.zeros(0, np.int32)] for n in _ARRAYS}
    parts["profile"] = [np.zeros(0, np.uint8)]
    for _, table in runs:
        whole = table.combine_chunks()
        for name in ("size", "rows", "position", "begin"):
            parts[name].append(_numbers(whole, name))
        parts["partition"].append(partitions.places_of(_numbers(whole, "partition")))
        for chunk in whole.column("profile").chunks:
            codes = [
                profiles.setdefault(msgspec.json.decode(text, type=Profile), len(profiles))
                for text in chunk.dictionary.to_pylist()
            ]
            # Most tables have few: the fewer, the smaller their numbers.
            width = np.min_scalar_type(len(profiles))
            parts["profile"].append(np.array(codes, width)[lean_numpy(chunk.indices)])
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}


def _partition_blocks(
    partition: npt.NDArray[np.int32], old: FileColumns | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    whole = 0 if old is None else old.height // BLOCK
    fresh = partition[whole * BLOCK :]
    low, high = block_extreme(fresh, "min"), block_extreme(fresh, "max")
    if old is None:
        return low, high
    return (
        np.concatenate([old.low_partition[:whole], low]),
        np.concatenate([old.high_partition[:whole], high]),
    )


def _new_totals(columns: FileColumns, old: FileColumns | None) -> Totals:
    """Totals of the latest snapshot, from the earlier ones where nothing ended since."""
    known = 0 if old is None else len(old.partitions.ids)
    same = old is not None and columns.partitions is old.partitions
    ended = (
        old is not None
        and not same
        and not np.array_equal(columns.partitions.end[:known], old.partitions.end)
    )
    # Also partitions that began and ended meanwhile.
    ended = ended or bool((columns.partitions.end[known:] != _LIVE).any())
    if old is None or ended:
        some = bool((columns.partitions.end != _LIVE).any())
        return _totals(
            columns, np.flatnonzero(columns.end(slice(None)) == _LIVE) if some else slice(None)
        )
    added = _totals(columns, slice(old.height, columns.height))
    grown = [np.zeros_like(added.files) for _ in range(3)]
    for into, before, more in zip(grown, old.totals[:3], added[:3], strict=True):
        into[:] = more
        into[: len(before)] += before
    return Totals.of(*grown)


def load_partitions(
    db: apsw.Connection, version: Version, old: Partitions | None, seen: int = -1
) -> Partitions:
    """A version's partitions as `db` sees them.

    Args:
        db: The ledger.
        version: Whose.
        old: What is known of them: it saves reading that.
        seen: Up to which snapshot their ends are known, too; -1 for none.
    """
    after = int(old.ids[-1]) if old is not None and len(old.ids) else 0
    # None at all may be of another partition scheme, which a version takes while it holds no files.
    parts = [old] if after and old is not None else []
    if old is None:
        parts = [_from_run(run) for run in partition_runs(db, version.version_id)]
        after = int(parts[-1].ids[-1]) if parts else 0
    later = later_partitions(db, version.version_id, after, sum(len(part.ids) for part in parts))
    found = db.execute(
        f"SELECT partition_id, uuid, begin_seq, partition_values {later} ORDER BY partition_id"
    ).fetchall()
    ended = db.execute(
        "SELECT partition_id, end_seq FROM partition WHERE version_id = ? AND end_seq > ?",
        (version.version_id, seen),
    ).fetchall()
    if old is not None and not found and not ended:
        return old
    # By the scheme that is the latest: a view from before the version took it has no partitions, but
    # what is loaded for it serves every view.
    parts.append(_from_run(partition_table(found, *divided_by(db, version.version_id))))
    held = Partitions.of(
        np.concatenate([p.ids for p in parts]),
        pa.concat_arrays([p.uuids for p in parts]),
        np.concatenate([p.begin for p in parts]),
        np.concatenate([p.end for p in parts]),
        pa.concat_tables([p.values for p in parts]).combine_chunks(),
    )
    if ended:
        ids, seqs = np.array(ended, np.int64).T
        held.end[np.searchsorted(held.ids, ids)] = seqs
    return held


def _from_run(table: pa.Table) -> Partitions:
    joined = table.combine_chunks()
    ids = _numbers(joined, "id")
    uuids = in_one_piece(joined.column("uuid"))
    live = np.full(len(ids), _LIVE)
    begin = _numbers(joined, "begin")
    return Partitions.of(ids, uuids, begin, live, joined.drop_columns(["id", "uuid", "begin"]))
