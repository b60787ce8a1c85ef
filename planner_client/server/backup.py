"""How is a catalog copied while it is in use, so that the copy is one moment of it?"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import apsw
import msgspec

from io_core.errors import CatalogRootError
from io_core.storage import persist
from planner_client.server import sessions, transactions
from planner_client.server.auth_file import AUTH_FILE
from planner_client.server.check import shown_files
from planner_client.server.leases import horizon
from planner_client.server.places import DATA
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.store import LEDGER, latest
from planner_client.server.stored import SIDECAR
from planner_client.server.vacuum import DAY_NS, Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BackupReport", "backup"]

# Longer than any copy takes; it ends with the copy, and a crashed one's ends by itself.
_LEASE_NS = 7 * DAY_NS


class BackupReport(msgspec.Struct, frozen=True):
    """What was copied.

    Attributes:
        path: The copy's directory.
        snapshot: The latest snapshot in it.
        data: Data files in it.
        external: Data files that it refers to where they are, outside of the catalog's directory.
    """

    path: str
    snapshot: int
    data: Amount
    external: int


def backup(
    planner: EmbeddedPlanner,
    to: str | os.PathLike[str],
    *,
    data: Literal["none", "copy", "link"] = "none",
    auth: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> BackupReport:
    """Copy a catalog as it is at one moment. Others may read and write meanwhile.

    The copy is a catalog: every snapshot that can be read here can be read there, if its files are
    there too. What was staged and not committed is not part of it: open sessions and transactions
    are aborted in the copy. It appears whole, at the end, or not at all.

    Args:
        planner: The catalog's planner.
        to: Directory to make; one that exists must be empty.
        data: Whether to copy the data files too, or to make hard links of them: quick and small,
            but only on the same disk, which both are then lost with.
        auth: Whether to copy users and the hashes of their tokens.
        say: Told what happens, for people.

    Raises:
        CatalogRootError: The directory holds something, or is part of the catalog; or data that is
            in a store was to be copied.
        OSError: Something cannot be copied or linked.
    """
    target = Path(to).absolute()
    _check_target(planner, target, data)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    try:
        with _leased(planner):
            say("copying the ledger")
            with planner.store.read() as db:
                # Begins the read: the copy is of this moment.
                snapshot = latest(db)
                _copy_database(db, partial / LEDGER)
            amount, external = _settled(planner, partial, data, say)
        if auth:
            _copy_auth(planner.root / AUTH_FILE, partial / AUTH_FILE)
        persist(os.path.join(folder, n) for folder, _, names in os.walk(partial) for n in names)
        partial.rename(target)
        persist([str(target / LEDGER)])
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return BackupReport(str(target), snapshot, amount, external)


def _check_target(planner: EmbeddedPlanner, target: Path, data: str) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CatalogRootError(
            f"{target} exists: a backup overwrites nothing, name a new directory"
        )
    if data != "none" and planner.place is not None:
        raise CatalogRootError(
            f"the data is in {planner.place.root}: copy it with the store's own means, and the "
            "ledger with this"
        )
    if target.resolve().is_relative_to(planner.root.resolve()):
        raise CatalogRootError(f"{target} is inside of the catalog: name a directory elsewhere")


@contextlib.contextmanager
def _leased(planner: EmbeddedPlanner) -> Iterator[None]:
    """Hold everything that can be read now, so that vacuum leaves its files alone."""
    with planner.store.locked() as db:
        db.execute(
            "INSERT INTO lease(first, last, expires_ns) VALUES (?, NULL, ?)",
            (horizon(db), planner.store.clock_ns() + _LEASE_NS),
        )
        lease_id = db.last_insert_rowid()
    try:
        yield
    finally:
        with planner.store.locked() as db:
            db.execute("DELETE FROM lease WHERE lease_id = ?", (lease_id,))


def _copy_database(source: apsw.Connection, path: Path) -> None:
    """A copy of what `source` sees, whoever writes meanwhile."""
    copy = apsw.Connection(str(path))
    try:
        copy.pragma("synchronous", "full")
        with copy.backup("main", source, "main") as copying:
            copying.step()
    finally:
        copy.close()


def _settled(
    planner: EmbeddedPlanner,
    partial: Path,
    data: Literal["none", "copy", "link"],
    say: Callable[[str], None],
) -> tuple[Amount, int]:
    """End in the copy what cannot go on there, and bring its files; says how many."""
    copy = EmbeddedPlanner(partial, create=False, clock_ns=planner.store.clock_ns)
    with copy.store.locked() as db:
        (over_ns,) = db.execute(
            "SELECT max(expires_ns) + 1 FROM (SELECT expires_ns FROM txn WHERE status = 'RUNNING'"
            " UNION ALL SELECT expires_ns FROM write_session WHERE status = 'OPEN')"
        ).fetchone()
        if over_ns is not None:
            transactions.expire(db, over_ns)
            sessions.expire(db, over_ns)
        db.execute("DELETE FROM lease")
        shown = shown_files(db)
    copy.close()
    inside = [file for file in shown.values() if file.path.startswith(f"{DATA}{os.sep}")]
    external = len(shown) - len(inside)
    if data == "none":
        return Amount(), external
    say(f"copying {len(inside):,} files")
    for file in inside:
        _bring(planner.root / file.path, partial / file.path, link=data == "link")
    return Amount(len(inside), sum(file.size for file in inside)), external


def _bring(source: Path, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copied = os.link if link else shutil.copy2
    if source.is_dir():
        shutil.copytree(source, target, copy_function=copied)
        return
    copied(source, target)
    keys = source.with_name(source.name + SIDECAR)
    if keys.exists():
        copied(keys, target.with_name(target.name + SIDECAR))


def _copy_auth(source: Path, target: Path) -> None:
    if not source.exists():
        raise CatalogRootError(f"{source} does not exist: there are no users to copy")
    # Made by us, so that it is at no moment open to others.
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    held = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        _copy_database(held, target)
    finally:
        held.close()
