"""What lies in a catalog's data directory, and which of it does nothing refer to?"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from planner_client.server.forgetting import paths_of
from planner_client.server.places import DATA
from planner_client.server.segments import file_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import apsw

    from planner_client.server.places import S3Place
    from planner_client.server.retention import Writers

__all__ = ["SIDECAR", "Item", "Unreferenced", "remove", "stored"]

# What a sink leaves beside a data file is worth nothing without it.
SIDECAR = ".keys"
# A folder that holds this one is a Lance dataset: it stays, or goes, as a whole.
_DATASET = "_versions"
# data, a table's directory, a session's directory.
_DEPTH = 2


class Item(NamedTuple):
    """One thing below the data directory: a file, a link, or a dataset that is a folder.

    Attributes:
        path: Below the catalog's root, as the ledger has it.
        files: How many files it consists of; `size` their bytes.
        changed_ns: When it last changed, in nanoseconds since the epoch.
        folder: Whether it is a dataset.
    """

    path: str
    files: int
    size: int
    changed_ns: int
    folder: bool = False

    @property
    def session(self) -> str:
        """The write session whose directory it is in; empty where it is in none."""
        parts = self.path.split("/")
        return parts[2] if len(parts) > _DEPTH else ""


def stored(root: Path, place: S3Place | None = None) -> Iterator[Item]:
    """Everything below the data directory. Links are not followed; what goes meanwhile is left out.

    Args:
        root: The catalog's directory.
        place: The store that holds its data instead.
    """
    if place is not None:
        yield from _in_store(place)
        return
    folders = [DATA] if (root / DATA).is_dir() else []
    while folders:
        folder = folders.pop()
        entries = _entries(root / folder)
        deep = folder.count("/") >= _DEPTH
        if deep and any(entry.name == _DATASET for entry in entries):
            yield _dataset(root, folder)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not (entry.is_symlink() and entry.is_dir()):
                yield from _item(entry, path)


def _in_store(place: S3Place) -> Iterator[Item]:
    datasets: dict[str, Item] = {}
    plain = []
    for file in place.storage.files_below(place.absolute(DATA)):
        path = file.location.removeprefix(f"{place.root}/")
        item = Item(path, 1, file.size, file.changed_ns)
        folder, found, _ = path.partition(f"/{_DATASET}/")
        if found and folder not in datasets:
            datasets[folder] = Item(folder, 0, 0, 0, folder=True)
        plain.append(item)
    for item in plain:
        above = next((f for f in _folders(item.path) if f in datasets), None)
        if above is None:
            yield item
            continue
        _, files, size, changed_ns, _ = datasets[above]
        datasets[above] = Item(
            above, files + 1, size + item.size, max(changed_ns, item.changed_ns), folder=True
        )
    yield from datasets.values()


def _folders(path: str) -> Iterator[str]:
    """Folders that a path is in, from a session's directory down."""
    parts = path.split("/")
    yield from ("/".join(parts[:depth]) for depth in range(_DEPTH + 1, len(parts)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _item(entry: os.DirEntry[str], path: str) -> Iterator[Item]:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    yield Item(path, 1, found.st_size, found.st_mtime_ns)


def _dataset(root: Path, path: str) -> Item:
    files, size, changed_ns = 0, 0, 0
    for folder, _, names in os.walk(root / path):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            files, size = files + 1, size + found.st_size
            changed_ns = max(changed_ns, found.st_mtime_ns)
    return Item(path, files, size, changed_ns, folder=True)


def remove(root: Path, item: Item, place: S3Place | None = None) -> None:
    """Delete an item, and its directory where that becomes empty; links are deleted, not followed.

    Args:
        root: The catalog's directory.
        item: What to delete.
        place: The store that holds its data instead.

    Raises:
        OSError: It cannot be deleted.
    """
    if place is not None:
        location = place.absolute(item.path)
        below = place.storage.files_below(location) if item.folder else ()
        place.storage.delete([f.location for f in below] if item.folder else [location])
        return
    path = root / item.path
    if item.folder:
        shutil.rmtree(path, ignore_errors=False)
    else:
        path.unlink(missing_ok=True)
    # Never a table's directory: a writer may be about to make one of its own in it.
    while len((path := path.parent).relative_to(root).parts) > _DEPTH:
        try:
            path.rmdir()
        except OSError:
            return


class Unreferenced:
    """Items that nothing refers to: at first all that are there, fewer with each look at the ledger.

    What appears later is not in it, so that files of writers that begin meanwhile are safe.

    Args:
        root: The catalog's directory.
        place: The store that holds its data instead.
    """

    def __init__(self, root: Path, place: S3Place | None = None) -> None:
        self._root = root
        self._real = os.path.realpath(root / DATA)
        self.items = {item.path: item for item in stored(root, place)}
        self._datasets = any(item.folder for item in self.items.values())
        self._sessions: dict[str, list[str]] = {}
        for item in self.items.values():
            self._sessions.setdefault(item.session, []).append(item.path)
        # How far each version was looked at.
        self._seen: dict[int, tuple[tuple[int, ...], int]] = {}
        self._real_folders: dict[str, str] = {}
        self._whole: set[str] = set()

    def look(
        self, db: apsw.Connection, writers: Writers, without: Mapping[int, Sequence[int]]
    ) -> None:
        """Take out what the ledger refers to, or writers may still commit, as far as it is new.

        Args:
            db: The ledger.
            writers: Who may still commit what.
            without: By table version: partitions that do not count.
        """
        for session_id in writers.sessions:
            for path in self._sessions.pop(session_id, ()):
                self.items.pop(path, None)
        self.spare(writers.paths)
        for version_id, mark in _marks(db).items():
            before, count = self._seen.get(version_id, ((), 0))
            if mark == before:
                continue
            first = count if mark[:1] == before[:1] else 0
            self._seen[version_id] = mark, file_count(db, version_id)
            for paths in paths_of(db, version_id, first, without.get(version_id, ())):
                self.spare(paths)

    def spare(self, paths: Iterable[str]) -> None:
        """Take out files that are referred to, with what belongs to them."""
        for path in paths:
            inside = self._inside(path) if path.startswith(os.sep) else path
            if self.items.pop(inside, None) is not None:
                self.items.pop(f"{inside}{SIDECAR}", None)
            elif inside.startswith(f"{DATA}/"):
                self._spare_folder(inside)

    def _inside(self, path: str) -> str:
        """An absolute path below the root where a link leads it there."""
        folder, name = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        below = real.removeprefix(f"{self._real}{os.sep}")
        return real if below == real else f"{DATA}/{below}"

    def _spare_folder(self, path: str) -> None:
        """A path that is no item: all of a folder, or a part of a dataset, or gone."""
        self.items.pop(f"{path}{SIDECAR}", None)
        if path not in self._whole and os.path.isdir(self._root / path):
            self._whole.add(path)
            for below in [p for p in self.items if p.startswith(f"{path}/")]:
                del self.items[below]
        while self._datasets and path != DATA:
            path = os.path.dirname(path)
            self.items.pop(path, None)


def _marks(db: apsw.Connection) -> dict[int, tuple[int, ...]]:
    """By version: the epoch of its numbers, and two numbers that change when files are added."""
    rows = db.execute(
        "SELECT version_id, name, max(first) FROM segment WHERE name IN ('core', '*')"
        " GROUP BY version_id, name"
    ).fetchall()
    epochs = dict(db.execute("SELECT version_id, epoch FROM numbering").fetchall())
    firsts = {(version_id, name): first for version_id, name, first in rows}
    return {
        version_id: (
            epochs.get(version_id, 0),
            *(firsts.get((version_id, n), -1) for n in ("core", "*")),
        )
        for version_id, _ in firsts
    }
