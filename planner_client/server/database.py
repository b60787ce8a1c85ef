"""One SQLite file: who makes it, in which form, and whose are its connections?

Threads, processes and forked children of one machine share a file. Its mode and its tables are
settled under a lock on its directory, by whoever comes first: SQLite changes the journal's mode
only for a connection that is alone, and asks the others for no patience.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

import apsw

from io_core.errors import CatalogRootError, PlannerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Borrowed", "Database", "Form"]

_BUSY_MS = 60_000
_PIECE = 2**20


class Form(NamedTuple):
    """What a file is to be.

    Attributes:
        name: What people call it.
        application_id: Tells it from files of others.
        version: Of its format; files of later ones are refused.
        fill: Makes its tables, in a transaction; None refuses a file that has none.
        mode: Permissions it is made with.
    """

    name: str
    application_id: int
    version: int
    fill: Callable[[apsw.Connection], None] | None
    mode: int = 0o644


class Database:
    """A file in WAL mode; forked children open their own connections.

    What is durable is on the disk before its caller hears of it, but not before others see it: the
    log is flushed when the next writer may go on already, so that one flush serves many commits.

    Args:
        path: Where it is, or is to be; its directory exists.
        form: What it is to be.

    Raises:
        CatalogRootError: It is none of ours, a newer release's, or cannot be made.
    """

    def __init__(self, path: Path, form: Form) -> None:
        self.path = path
        self.form = form
        self._writing = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._pid = os.getpid()
        # Whether the disk failed to take the log, and was not made to since.
        self._doubtful = False
        try:
            with _alone_in(path.parent):
                if form.fill is not None:
                    # Made by us, so that it is at no moment open to more than its mode says.
                    with contextlib.suppress(FileExistsError):
                        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, form.mode))
                with self.borrowed() as db:
                    self._settle(db)
        except (OSError, PlannerUnavailableError) as error:
            raise CatalogRootError(f"cannot open {form.name} {path}: {error}") from error

    def _settle(self, db: apsw.Connection) -> None:
        """Bring a file that nobody else settles meanwhile into its form, or refuse it."""
        form, mark = self.form, db.pragma("application_id")
        (objects,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        blank = objects == 0 and mark == 0
        if not blank and mark != form.application_id:
            raise CatalogRootError(f"{self.path} is not {form.name} of this project")
        version = db.pragma("user_version")
        if version > form.version:
            raise CatalogRootError(
                f"{self.path.parent} was made by a newer release ({form.name} of format {version}, "
                f"this one reads up to {form.version}): upgrade deltacat-sources"
            )
        if blank and form.fill is None:
            raise CatalogRootError(
                f"{self.path.parent} is not a catalog: {self.path.name} is empty"
            )
        db.pragma("journal_mode", "wal")
        if blank and form.fill is not None:
            db.execute("BEGIN IMMEDIATE")
            form.fill(db)
            db.pragma("application_id", form.application_id)
            db.pragma("user_version", form.version)
            db.execute("COMMIT")

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(_BUSY_MS)
        # Else SQLite prepares a statement anew whenever it is bound to other values: with STAT4 it
        # looks at them to choose among indexes, and preparing takes ten times as long as running.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        # Commits are flushed by `_flush`; what SQLite copies from its log, and the log's head, by it.
        db.pragma("synchronous", "normal")
        db.pragma("foreign_keys", "on")
        return db

    def borrowed(self, *, reading: bool = False) -> Borrowed:
        """A connection that nobody else uses meanwhile; connections outlive threads.

        Args:
            reading: Whether to begin a transaction, which sees one state of the file.
        """
        return Borrowed(self, reading=reading)

    def take(self) -> apsw.Connection:
        """A connection that is idle, or a new one."""
        if self._pid != os.getpid():
            # A forked child must neither use nor close its parent's connections.
            self._inherited = self._idle
            self._idle, self._writing, self._pid = [], threading.Lock(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def give_back(self, db: apsw.Connection) -> None:
        """Undo what was not committed, and keep the connection for others."""
        if db.in_transaction:
            db.execute("ROLLBACK")
        self._idle.append(db)

    def explained(self, error: apsw.Error) -> CatalogRootError | PlannerUnavailableError:
        """What a caller is told of an error of SQLite's."""
        if isinstance(error, apsw.NotADBError):
            return CatalogRootError(f"{self.path} is not {self.form.name} of this project: {error}")
        return PlannerUnavailableError(
            f"{self.form.name} {self.path} cannot be used: {error}; nothing was changed"
        )

    @contextlib.contextmanager
    def locked(self, *, durable: bool = True) -> Iterator[apsw.Connection]:
        """A write transaction: durable when the block ends, undone when it raises.

        Args:
            durable: False leaves flushing to the next durable one: a crash of the process takes
                nothing away, one of the machine may.
        """
        with self.borrowed() as db:
            with self._writing:
                db.execute("BEGIN IMMEDIATE")
                yield db
                if db.in_transaction:
                    db.execute("COMMIT")
            if durable:
                self._flush(db)

    def flush(self) -> None:
        """Have all that can be seen outlive a crash of the machine, whoever wrote it.

        Raises:
            PlannerUnavailableError: The disk fails.
        """
        with self.borrowed() as db:
            self._flush(db)

    def _flush(self, db: apsw.Connection) -> None:
        # While `db` is open, so is the log.
        log = os.open(f"{self.path}-wal", os.O_RDWR)
        try:
            if not self._doubtful:
                with contextlib.suppress(OSError):
                    os.fdatasync(log)
                    return
            self._doubtful = True
            # The system takes what it failed to write for written: another flush alone would succeed,
            # and lose it. Nobody adds to the log meanwhile, nor begins it anew.
            db.execute("BEGIN IMMEDIATE")
            _write_again(log)
            os.fdatasync(log)
            self._doubtful = False
        except (OSError, apsw.Error) as error:
            raise PlannerUnavailableError(
                f"{self.form.name} {self.path} cannot be flushed to the disk: {error}; what was asked "
                "for may be done, and a crash of the machine may undo it: when the disk is well, send "
                "it again under the same operation_id"
            ) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            os.close(log)

    def close(self) -> None:
        """Close the connections that are idle."""
        if self._pid == os.getpid():
            while self._idle:
                self._idle.pop().close()


def _write_again(log: int) -> None:
    """Write a file's bytes where they are, so that the system has to bring them to the disk."""
    at = 0
    while piece := os.pread(log, _PIECE, at):
        at += os.pwrite(log, piece, at)


class Borrowed:
    """A connection for the time of a block. A class, since every plan borrows one.

    Raises:
        CatalogRootError: The file is no database.
        PlannerUnavailableError: It cannot be used.
    """

    __slots__ = ("_database", "_db", "_reading")

    def __init__(self, database: Database, *, reading: bool) -> None:
        self._database = database
        self._reading = reading
        self._db: apsw.Connection | None = None

    def __enter__(self) -> apsw.Connection:
        """Borrow it."""
        try:
            db = self._db = self._database.take()
            if self._reading:
                db.execute("BEGIN")
        except apsw.Error as error:
            if self._db is not None:
                self._database.give_back(self._db)
            raise self._database.explained(error) from error
        return db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Give it back; what SQLite refused is told in our words."""
        if self._db is not None:
            self._database.give_back(self._db)
        if isinstance(error, apsw.Error):
            raise self._database.explained(error) from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the directory's lock, which every thread and process that opens a file in it takes.

    A file of its own would be one more to keep, and the database itself must not be opened but by
    SQLite: closing it once would drop the locks that the process holds on it.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        # Said, not left to closing: a child that was forked meanwhile has the directory open too.
        fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)
