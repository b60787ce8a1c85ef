"""Paths, locations and hashes of files: which runs of them are in memory, and where those begin?"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.formats.pool import drawn_from, lasting_pool
from io_core.lean_arrow import in_one_piece, lean_array, lean_numbers, lean_scalar, prefixed
from planner_client.server.segments import hash_runs, path_runs
from planner_client.server.statistics import consecutive

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.server.store import View

__all__ = ["FEW", "Folded", "RunCache", "folded"]

Rows = npt.NDArray[np.int64]
_RUN_BYTES = 32 * 2**20
# Folders of fewer files in a row are not worth a piece of their own.
_LEAST = 64
# Said, since Arrow fails where no end is.
_LONGEST = 2**31 - 1
# So few values are put together one by one.
FEW = 16
_MOST_LAYOUTS = 1_000


class Folded(NamedTuple):
    """Values of consecutive files, cut behind the folders that many in a row have in common.

    Attributes:
        folders: What values begin with; empty where they stand as they are.
        ends: (folders,) where the values of each end.
        rest: (files,) what follows the folder.
    """

    folders: tuple[str, ...]
    ends: tuple[int, ...]
    rest: pa.Array

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return int(self.rest.nbytes) + sum(map(len, self.folders))

    def take(self, rows: Rows) -> list[pa.Array]:
        """The values of rows, which ascend, piece by piece."""
        if len(self.folders) == 1:
            return [self._piece(self.folders[0], rows)]
        edges = [0, *rows.searchsorted(np.array(self.ends)).tolist()]
        pairs = zip(self.folders, itertools.pairwise(edges), strict=True)
        return [self._piece(folder, rows[i:j]) for folder, (i, j) in pairs if j > i]

    def _piece(self, folder: str, rows: Rows) -> pa.Array:
        run = consecutive(rows)
        if run is not None:
            found = self.rest.slice(run.start, len(rows))
        else:
            found = self.rest.take(lean_numbers(rows))
        return prefixed(folder, found) if folder else found

    def value(self, row: int) -> Any:
        """The value of one row, text or bytes. Of few rows Arrow would cost more than all of the rest."""
        value = self.rest[row].as_py()
        folder = self.folders[bisect.bisect_right(self.ends, row)]
        return folder + value if folder else value


def folded(paths: pa.Array, locate: Callable[[pa.Array], pa.Array]) -> Folded:
    """Paths as locations, folder by folder; as they are where folders change all the time.

    Args:
        paths: At least one.
        locate: Makes locations of paths.
    """
    folders, ends, parts, at = [], [], [], 0
    while at < len(paths):
        folder = paths[at].as_py().rpartition("/")[0] + "/"
        end = _end_of(paths, at, folder)
        if end - at < _LEAST and end < len(paths):
            return Folded(("",), (len(paths),), locate(paths))
        folders.append(locate(lean_array([folder], pa.string()))[0].as_py())
        ends.append(end)
        rest = paths.slice(at, end - at).cast(pa.binary())
        parts.append(pc.binary_slice(rest, len(folder.encode()), _LONGEST).cast(pa.string()))
        at = end
    return Folded(tuple(folders), tuple(ends), pa.concat_arrays(parts))


def _end_of(paths: pa.Array, start: int, folder: str) -> int:
    """Where the first path from `start` on is that is not in the folder."""
    at, size = start, _LEAST
    while at < len(paths):
        first = pc.index(
            pc.starts_with(paths.slice(at, size), folder), lean_scalar(False, pa.bool_())
        ).as_py()
        if first >= 0:
            return at + int(first)
        # Twice as many each time: to look through all that is left for each folder would be quadratic.
        at, size = at + size, 2 * size
    return len(paths)


class _Layout(NamedTuple):
    """Where the runs of a column begin and end, in order and without gaps."""

    starts: list[int]
    ends: list[int]


class RunCache:
    """Paths and hashes of files, decoded run by run as plans list them; threads share it.

    Args:
        locate: Makes locations, which readers can open, of paths as the ledger keeps them.
        limit_bytes: How much to keep, over all tables.
    """

    def __init__(
        self, locate: Callable[[pa.Array], pa.Array], limit_bytes: int = _RUN_BYTES
    ) -> None:
        self._locate = locate
        self._lock = threading.Lock()
        self._runs: OrderedDict[tuple[object, ...], Folded] = OrderedDict()
        self._layouts: OrderedDict[tuple[str, int, int], _Layout] = OrderedDict()
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def take(
        self, view: View, column: tuple[str, int, int], rows: Rows, *, once: bool = False
    ) -> pa.Array:
        """One column of the rows, in their order.

        Args:
            view: Where to read what is not here yet.
            column: `path`, `location` or `hash`, the version's id, and its numbers' epoch.
            rows: Numbers of files.
            once: Whether nobody will ask for them again, so that they need not be kept.
        """
        if not len(rows):
            return pa.nulls(0, _RUN_TYPES[column[0]])
        if len(rows) <= FEW:
            return lean_array(self.values(view, column, rows), _RUN_TYPES[column[0]])
        order = None
        if consecutive(rows) is None and not bool((rows[1:] >= rows[:-1]).all()):
            order = np.argsort(rows, kind="stable")
        parts = self._taken(view, column, rows if order is None else rows[order], once=once)
        # Also of one piece a copy: a slice would keep all of its run in memory.
        joined = pa.concat_arrays(parts)
        if order is None:
            return joined
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return joined.take(lean_numbers(back))

    # Any: texts, or the bytes of hashes.
    def values(self, view: View, column: tuple[str, int, int], rows: Rows) -> list[Any]:
        """The same of few rows, as Python values."""
        found, run, first, end = [], None, 0, 0
        for row in rows.tolist():
            while run is None or not first <= row < end:
                run, first, end = self._holding(view, column, row)
            found.append(run.value(row - first))
        return found

    def _taken(
        self, view: View, column: tuple[str, int, int], rows: Rows, *, once: bool
    ) -> list[pa.Array]:
        """The rows, which ascend, piece by piece."""
        parts, at, last = [], 0, int(rows[-1])
        while at < len(rows):
            run, first, end = self._holding(view, column, int(rows[at]), once=once)
            until = len(rows) if last < end else int(rows.searchsorted(end))
            parts.append(run.take(rows[at:until] - first))
            at = until
        return list(itertools.chain.from_iterable(parts))

    def _holding(
        self, view: View, column: tuple[str, int, int], row: int, *, once: bool = False
    ) -> tuple[Folded, int, int]:
        """The run that has a row, and which rows it has: from a first one to before an end."""
        layout = self._layout(view, column, row)
        while True:
            index = bisect.bisect_right(layout.starts, row) - 1
            first, end = layout.starts[index], layout.ends[index]
            run = self._run(view, column, slice(first, end), once=once)
            if run is not None:
                return run, first, end
            # Folded since, or not yet as far as this view can tell.
            layout = self._read_layout(view, column)

    def _layout(self, view: View, column: tuple[str, int, int], last: int) -> _Layout:
        """Where the runs of the column are, at least as far as the file `last`."""
        known = self._layouts.get(column) if view.own < 0 else None
        if known is not None and last < known.ends[-1]:
            return known
        return self._read_layout(view, column)

    def _read_layout(self, view: View, column: tuple[str, int, int]) -> _Layout:
        name, version_id, _ = column
        held = view.db.execute(
            "SELECT first, first + files FROM segment WHERE version_id = ? AND name IN (?, '*')"
            " ORDER BY first",
            (version_id, _STORED[name]),
        ).fetchall()
        found = _Layout([first for first, _ in held], [end for _, end in held])
        if view.own < 0:
            with self._lock:
                self._layouts[column] = found
                self._layouts.move_to_end(column)
                while len(self._layouts) > _MOST_LAYOUTS:
                    self._layouts.popitem(last=False)
        return found

    def _run(
        self, view: View, column: tuple[str, int, int], files: slice, *, once: bool
    ) -> Folded | None:
        """One run; None where the ledger no longer holds it as such."""
        # What a transaction staged is in no run that another one may see.
        shared, key = view.own < 0, (*column, files.start, files.stop)
        with self._lock:
            run = self._runs.get(key) if shared else None
            if run is not None:
                self._runs.move_to_end(key)
                return run
        name, version_id, _ = column
        with drawn_from(lasting_pool):
            run = self._read(view, name, version_id, files)
        if run is None or once:
            return run
        with self._lock:
            if shared and key not in self._runs:
                self._runs[key] = run
                self._bytes += run.nbytes
                while self._bytes > self._limit_bytes and len(self._runs) > 1:
                    self._bytes -= self._runs.popitem(last=False)[1].nbytes
        return run

    def _read(self, view: View, name: str, version_id: int, files: slice) -> Folded | None:
        found = _READERS[name](view.db, version_id, files.start, files.stop)
        if [(r.first, r.first + len(r.table)) for r in found] != [(files.start, files.stop)]:
            return None
        values = in_one_piece(found[0].table.column(_STORED[name]))
        if name == "hash":
            return Folded(("",), (len(values),), values)
        return folded(values, self._locate if name == "location" else _as_they_are)


def _as_they_are(paths: pa.Array) -> pa.Array:
    return paths


_READERS = {"path": path_runs, "location": path_runs, "hash": hash_runs}
_STORED = {"path": "path", "location": "path", "hash": "hash"}
_RUN_TYPES = {"path": pa.string(), "location": pa.string(), "hash": pa.binary(16)}
