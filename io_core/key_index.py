"""Which rows does a commit kill? An index from keys to rows, per partition, in sorted runs.

A run holds the keys of the rows that one or more commits added: 16 bytes a row, a code
(`io_core.key_codes`) and a location, sorted by code. A commit probes every run with its own keys,
marks what it finds as dead, and adds a run. Deletes only mark. An index is not kept on disk: it is
made again from the files' keys, without the rows in the delete sets (`index_of`); one of those that
is missing there is merely killed twice.

`kills` gives what `io_core.merge` gives, as positions: all rows of a partition, less those that its
commits killed, are the rows that survive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.deletes import Positions
from io_core.errors import DataFileError, UnsupportedError
from io_core.keys import equal_rows, last_of_each, row_codes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from io_core.key_codes import Code, KeyCodes

__all__ = [
    "FetchKeys",
    "KeyIndex",
    "Kills",
    "Locations",
    "NewFile",
    "Rank",
    "Run",
    "can_index",
    "index_of",
    "kills",
    "rows_at",
    "tidy",
]

# (rows,) int64: the file's ordinal in the upper half, the row's position in the lower.
Locations = npt.NDArray[np.int64]
# What reads the keys of some rows of a file: (ordinal, positions ascending) -> the key's columns,
# in the table's types, a row per position.
FetchKeys = Callable[[int, Positions], pa.Table]
# The place of each of some rows among them; the highest wins (`io_core.merge_order.ranks`).
Rank = Callable[[Locations], Locations]

# Which elements of another array.
_Indices = npt.NDArray[np.int64]

_ROW_BITS = 32
_ROW = (1 << _ROW_BITS) - 1
# A run is merged with the one after it unless it is this many times as long.
_TIER = 4
_NONE = np.empty(0, np.uint32)


class Run(NamedTuple):
    """Keys of the rows that some commits added, ascending by code. Never changed.

    Attributes:
        codes: (entries,) uint64, ascending.
        locations: (entries,) int64.
        exact: Whether equal codes mean equal keys, see `KeyCodes`.
        first: Stream position of the first commit in it; `last` that of the last.
        dead: A bit per entry, least significant first: the row is dead, and stays it.
    """

    codes: Code
    locations: Locations
    exact: bool
    first: int
    last: int
    dead: npt.NDArray[np.uint8]

    @property
    def entries(self) -> int:
        """How many rows it has added, less those that a merge of runs dropped."""
        return len(self.codes)


class KeyIndex(NamedTuple):
    """What is known of a partition's keys. A value: a commit makes a new one of it.

    Attributes:
        keys: The `fingerprint` of the codes in it.
        position: The stream position up to which all commits are in it.
        runs: Oldest first.
    """

    keys: str
    position: int = -1
    runs: tuple[Run, ...] = ()


class NewFile(NamedTuple):
    """A file of a commit.

    Attributes:
        ordinal: What names the file within its partition: 0 to 2^31 - 1, of data files forever.
        keys: A code per row, in row order; see `io_core.key_files`.
        is_delete: Whether its rows delete keys.
    """

    ordinal: int
    keys: KeyCodes
    is_delete: bool = False


class Kills(NamedTuple):
    """What a commit does to a partition.

    Attributes:
        positions: Ordinal -> rows that die by this commit, ascending; its own files' rows among
            them, where a later row of it has the same key. Files without any are left out.
        after: The index with this commit in it.
        run: The run that the commit added; None where it added no row.
    """

    positions: dict[int, Positions]
    after: KeyIndex
    run: Run | None


class _Probes(NamedTuple):
    """Keys to look for, ascending by code, and where each can be read."""

    codes: Code
    locations: Locations
    exact: bool


def can_index(delete_columns: Sequence[str], merge_keys: Sequence[str]) -> bool:
    """Whether a delete by these columns deletes by key.

    The rows of any other are not found by an index: from its position on, the partition's delete
    sets are not complete.
    """
    return set(delete_columns) == set(merge_keys)


def kills(
    index: KeyIndex,
    position: int,
    keys: str,
    files: Sequence[NewFile],
    fetch_keys: FetchKeys,
    rank: Rank | None = None,
) -> Kills:
    """The rows that die by the commit at one stream position, and the index after it.

    Of the commit's rows of one key the last lives: merge order, file order, row order. Older rows of its
    keys, and of the keys that it deletes, die. A delete leaves the rows of its own position alone.
    Rows that are marked dead are not named again.

    Args:
        index: Of all earlier positions of the partition.
        position: Of the commit: above that of the index.
        keys: `fingerprint` of the files' codes.
        files: All files that the partition has at this position, in file order.
        fetch_keys: Reads the keys of some rows of a file, this commit's own files included.
            Called where codes are not exact alone: once per file that holds such rows.
        rank: The table's merge order; None where it has none. Called where several rows of the
            commit share a code, with those.

    Raises:
        ValueError: The position is not above the index's, or the codes do not compare to its own.
    """
    if position <= index.position:
        raise ValueError(f"position {position} is not above {index.position}, that of the index")
    if keys != index.keys:
        raise ValueError(f"codes of {keys} do not compare to the index's, of {index.keys}")
    added = _gather([f for f in files if not f.is_delete])
    order = np.argsort(added.codes)
    added = _Probes(added.codes[order], added.locations[order], added.exact)
    lives = _last_of_each_key(added, order, fetch_keys, rank)
    killed = [added.locations[~lives]]
    fresh = _Probes(added.codes[lives], added.locations[lives], added.exact)
    probes = _with_deletes(fresh, _gather([f for f in files if f.is_delete]))
    hits = _hits(index.runs, probes, fetch_keys)
    killed += [run.locations[found] for run, found in zip(index.runs, hits, strict=True)]
    runs = [_marked(run, found) for run, found in zip(index.runs, hits, strict=True)]
    new = _run(fresh, position) if len(fresh.codes) else None
    after = KeyIndex(keys, position, (*runs, new) if new else tuple(runs))
    return Kills(dict(_by_file(np.concatenate(killed))), after, new)


def tidy(index: KeyIndex, most: int | None = None) -> KeyIndex:
    """Merge neighbouring runs of like size, and drop the dead of them; the same index, in fewer runs.

    Runs grow fourfold from the newest to the oldest, so there are few, and an entry is rewritten
    seldom.

    Args:
        index: Left as it is.
        most: Entries of the longest run to make; None is any number. A merge takes about 20 ns an
            entry: a commit that has to be quick leaves the large ones for later.
    """
    runs = list(index.runs)
    i = len(runs) - 1
    while i > 0:
        older, newer = runs[i - 1], runs[i]
        size = older.entries + newer.entries
        if older.entries < _TIER * newer.entries and (most is None or size <= most):
            runs[i - 1 : i + 1] = [_merged(older, newer)]
            i = len(runs)
        i -= 1
    return index._replace(runs=tuple(runs))


def index_of(
    keys: str, position: int, files: Sequence[NewFile], dead: Mapping[int, Positions]
) -> KeyIndex:
    """An index made anew, of the rows that live at a position: what it found until then is given.

    Rows that are dead and not given cost room, and are killed once more when their key comes again.

    Args:
        keys: `fingerprint` of the files' codes.
        position: Up to which all commits are in it.
        files: All data files up to there, without those of deletes.
        dead: Ordinal -> dead rows; files that are not there are passed over.

    Raises:
        DataFileError: A dead row that its file does not have.
    """
    rows = _gather(files)
    lives = np.ones(len(rows.codes), np.bool_)
    start = 0
    for file in files:
        end = start + len(file.keys.codes)
        gone = dead.get(file.ordinal, _NONE)
        if len(gone) and int(gone.max()) >= end - start:
            raise DataFileError(
                f"row {gone.max()} is said to be dead, of a file with {end - start}"
            )
        lives[start:end][gone] = False
        start = end
    codes, locations = rows.codes[lives], rows.locations[lives]
    if not len(codes):
        return KeyIndex(keys, position)
    order = np.argsort(codes)
    return KeyIndex(
        keys,
        position,
        (_run(rows._replace(codes=codes[order], locations=locations[order]), position),),
    )


# --- a commit's own rows ----------------------------------------------------------------------------


def _gather(files: Sequence[NewFile]) -> _Probes:
    """The keys of all rows of some files, in reading order."""
    codes = [np.empty(0, np.uint64), *(f.keys.codes for f in files)]
    locations = [np.empty(0, np.int64)]
    for file in files:
        if len(file.keys.codes) > _ROW + 1:
            raise UnsupportedError("files of more than 2^32 rows are not supported")
        start = file.ordinal << _ROW_BITS
        locations.append(np.arange(start, start + len(file.keys.codes), dtype=np.int64))
    exact = all(f.keys.exact for f in files)
    return _Probes(np.concatenate(codes), np.concatenate(locations), exact)


def _last_of_each_key(
    rows: _Probes, order: _Indices, fetch: FetchKeys, rank: Rank | None
) -> npt.NDArray[np.bool_]:
    """Which rows no other one of the same commit replaces.

    Args:
        rows: Ascending by code.
        order: The place of each row in reading order.
        fetch: As `kills` has it.
        rank: Likewise.
    """
    lives = np.ones(len(order), np.bool_)
    same = rows.codes[1:] == rows.codes[:-1]
    if not same.any():
        return lives
    shared = np.zeros(len(order), np.bool_)
    shared[1:] |= same
    shared[:-1] |= same
    # In reading order, so that the last is the last written.
    doubtful = np.flatnonzero(shared)
    doubtful = doubtful[np.argsort(order[doubtful])]
    if rows.exact:
        groups = row_codes([pa.chunked_array([rows.codes[doubtful]])])
    else:
        groups = row_codes(rows_at(rows.locations[doubtful], fetch).columns)
    if rank is not None:
        best = np.argsort(rank(rows.locations[doubtful]), kind="stable")
        doubtful, groups = doubtful[best], groups[best]
    lives[doubtful] = False
    lives[doubtful[last_of_each(groups)]] = True
    return lives


def _with_deletes(added: _Probes, deleted: _Probes) -> _Probes:
    if not len(deleted.codes):
        return added
    codes = np.concatenate([added.codes, deleted.codes])
    locations = np.concatenate([added.locations, deleted.locations])
    order = np.argsort(codes)
    return _Probes(codes[order], locations[order], added.exact and deleted.exact)


# --- runs ---------------------------------------------------------------------------------------------


def _run(rows: _Probes, position: int) -> Run:
    marks = _no_marks(len(rows.codes))
    return Run(rows.codes, rows.locations, rows.exact, position, position, marks)


def _no_marks(entries: int) -> npt.NDArray[np.uint8]:
    return np.zeros((entries + 7) // 8, np.uint8)


def _is_marked(run: Run, entries: _Indices) -> npt.NDArray[np.bool_]:
    bits: npt.NDArray[np.uint8] = run.dead[entries >> 3] >> (entries & 7).astype(np.uint8)
    return (bits & 1).view(np.bool_)


def _marked(run: Run, entries: _Indices) -> Run:
    if not len(entries):
        return run
    dead = run.dead.copy()
    np.bitwise_or.at(dead, entries >> 3, np.uint8(1) << (entries & 7).astype(np.uint8))
    return run._replace(dead=dead)


def _hits(runs: Sequence[Run], probes: _Probes, fetch: FetchKeys) -> list[_Indices]:
    """Each run's entries, once each, whose key is among the probes and whose row is not yet dead."""
    pairs = [_pairs(run, probes.codes) for run in runs]
    doubtful = [i for i, run in enumerate(runs) if not (run.exact and probes.exact)]
    ours = [probes.locations[pairs[i][0]] for i in doubtful]
    theirs = [runs[i].locations[pairs[i][1]] for i in doubtful]
    size = sum(map(len, ours))
    if size:
        keys = rows_at(np.concatenate([*ours, *theirs]), fetch)
        equal = equal_rows(keys.slice(0, size), keys.slice(size))
        ends = np.cumsum([len(part) for part in ours])
        for i, found in zip(doubtful, np.split(equal, ends[:-1]), strict=True):
            pairs[i] = pairs[i][0][found], pairs[i][1][found]
    return [_distinct(entry) for _, entry in pairs]


def _distinct(values: _Indices) -> _Indices:
    # Several times as fast as np.unique where values nearly ascend.
    ordered = np.sort(values, kind="stable")
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _pairs(run: Run, probes: Code) -> tuple[_Indices, _Indices]:
    """Every probe with every entry of its code whose row is not yet dead, both ascending."""
    codes = run.codes
    entry = np.searchsorted(codes, probes)
    inside = np.flatnonzero(entry < len(codes))
    probe = inside[codes[entry[inside]] == probes[inside]]
    entry = entry[probe]
    following = np.minimum(entry + 1, len(codes) - 1)
    many = (following > entry) & (codes[following] == probes[probe])
    if many.any():
        # Older rows of a key, in a run of several commits; hardly ever a hash that two keys share.
        ends = entry + 1
        ends[many] = np.searchsorted(codes, probes[probe[many]], "right")
        sizes = ends - entry
        firsts = np.repeat(entry - np.cumsum(sizes) + sizes, sizes)
        probe, entry = np.repeat(probe, sizes), firsts + np.arange(len(firsts))
    lives = ~_is_marked(run, entry)
    return probe[lives], entry[lives]


def _merged(older: Run, newer: Run) -> Run:
    halves = [_living(run) for run in (older, newer)]
    codes = np.concatenate([codes for codes, _ in halves])
    locations = np.concatenate([locations for _, locations in halves])
    # Two ascending halves: what a stable sort merges in one pass.
    order = np.argsort(codes, kind="stable")
    exact, marks = older.exact and newer.exact, _no_marks(len(codes))
    return Run(codes[order], locations[order], exact, older.first, newer.last, marks)


def _living(run: Run) -> tuple[Code, Locations]:
    if not run.dead.any():
        return run.codes, run.locations
    lives = ~np.unpackbits(run.dead, count=run.entries, bitorder="little").view(np.bool_)
    return run.codes[lives], run.locations[lives]


# --- locations ----------------------------------------------------------------------------------------


def _by_file(locations: Locations) -> Iterator[tuple[int, Positions]]:
    """Each file's positions, ascending."""
    if not len(locations):
        return
    ordered = np.sort(locations)
    ordinals = ordered >> _ROW_BITS
    starts = np.flatnonzero(np.diff(ordinals, prepend=ordinals[0] - 1))
    for start, rows in zip(starts.tolist(), np.split(ordered & _ROW, starts[1:]), strict=True):
        yield int(ordinals[start]), rows.astype(np.uint32)


def rows_at(locations: Locations, fetch: FetchKeys) -> pa.Table:
    """What `fetch` reads at some locations, in their order; each file is asked once."""
    distinct, places = np.unique(locations, return_inverse=True)
    found = [fetch(ordinal, rows) for ordinal, rows in _by_file(distinct)]
    return pa.concat_tables([t.cast(found[0].schema) for t in found]).take(places)
