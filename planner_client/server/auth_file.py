"""The file of users, tokens and grants: who may open it, its format, its connections."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from io_core.errors import CatalogRootError, PlannerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AUTH_FILE", "AuthFile"]

AUTH_FILE = "auth.sqlite"
APPLICATION_ID = 0x0DE17A17
FORMAT_VERSION = 1
_BUSY_MS = 60_000

# held_grant: namespace and tbl are '' where the scope is wider; role is 1 READER, 2 WRITER, 3 ADMIN.
# outcome: answers, without tokens, to calls that named themselves; a key is its caller's own.
_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0);
CREATE TABLE user(
    user_id TEXT PRIMARY KEY, display_name TEXT, email TEXT, created_ns INTEGER NOT NULL,
    created_by TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE token(
    token_id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES user, hash BLOB NOT NULL UNIQUE,
    label TEXT, last_four TEXT NOT NULL, created_ns INTEGER NOT NULL, created_by TEXT NOT NULL,
    revoked_ns INTEGER, revoked_by TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX token_of ON token(user_id);
CREATE TABLE held_grant(
    user_id TEXT NOT NULL, catalog TEXT NOT NULL, namespace TEXT NOT NULL, tbl TEXT NOT NULL,
    role INTEGER NOT NULL, granted_ns INTEGER NOT NULL, granted_by TEXT NOT NULL,
    PRIMARY KEY(user_id, catalog, namespace, tbl)) STRICT, WITHOUT ROWID;
CREATE TABLE outcome(
    caller TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, request_hash BLOB NOT NULL,
    response BLOB NOT NULL, created_ns INTEGER NOT NULL,
    PRIMARY KEY(caller, key)) STRICT, WITHOUT ROWID;
"""


class AuthFile:
    """One SQLite file, in WAL mode with full synchronisation, for its owner's eyes alone.

    Threads and processes share it; a forked child opens its own connections.

    Args:
        root: The directory it stands in; it is made if absent.

    Raises:
        CatalogRootError: It is none of ours, a newer release's, or not ours to protect.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.path = Path(root) / AUTH_FILE
        self._lock = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._pid = os.getpid()
        self._protect()
        try:
            with self.read() as db:
                db.pragma("journal_mode", "wal")
            with self.locked() as db:
                self._prepare(db)
        except PlannerUnavailableError as error:
            raise CatalogRootError(str(error)) from error

    def _protect(self) -> None:
        """Nobody but the owner reads it; what SQLite puts beside it has the same mode."""
        try:
            # Made by us, so that it is at no moment open to others.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        except OSError as error:
            raise CatalogRootError(
                f"{self.path} cannot be kept from other users of this machine: {error}"
            ) from error

    def _prepare(self, db: apsw.Connection) -> None:
        (objects,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        version = db.pragma("user_version")
        if objects == 0:
            db.execute(_SCHEMA)
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", FORMAT_VERSION)
        elif db.pragma("application_id") != APPLICATION_ID:
            raise CatalogRootError(f"{self.path} holds no users and tokens of this project")
        elif version > FORMAT_VERSION:
            raise CatalogRootError(
                f"{self.path} was made by a newer release (format {version}, this one reads up to "
                f"{FORMAT_VERSION}): upgrade deltacat-sources"
            )

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(_BUSY_MS)
        db.pragma("synchronous", "full")
        db.pragma("foreign_keys", "on")
        return db

    @contextlib.contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection that nobody else uses meanwhile; each statement sees the latest state."""
        if self._pid != os.getpid():
            # A forked child must neither use nor close its parent's connections.
            self._inherited = self._idle
            self._idle, self._lock, self._pid = [], threading.Lock(), os.getpid()
        db = None
        try:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._connect()
            yield db
        except apsw.NotADBError as error:
            raise CatalogRootError(f"{self.path} is no SQLite file: {error}") from error
        except apsw.Error as error:
            raise PlannerUnavailableError(
                f"users and tokens in {self.path} cannot be used: {error}; nothing was changed"
            ) from error
        finally:
            if db is not None:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                self._idle.append(db)

    @contextlib.contextmanager
    def locked(self) -> Iterator[apsw.Connection]:
        """A change: durable when the block ends, undone when it raises."""
        with self.read() as db, self._lock:
            db.execute("BEGIN IMMEDIATE")
            yield db
            # What other connections remember of grants is outdated.
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
            db.execute("COMMIT")

    def close(self) -> None:
        """Close the connections that are idle."""
        if self._pid == os.getpid():
            while self._idle:
                self._idle.pop().close()
