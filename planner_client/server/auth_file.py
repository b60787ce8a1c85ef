"""The file of users, tokens and grants: who may open it, and its tables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from io_core.errors import CatalogRootError
from planner_client.server.database import Database, Form

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import apsw

__all__ = ["AUTH_FILE", "AuthFile"]

AUTH_FILE = "auth.sqlite"
APPLICATION_ID = 0x0DE17A17
FORMAT_VERSION = 1

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
        root: The directory it stands in.

    Raises:
        CatalogRootError: It is none of ours, a newer release's, or not ours to protect.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.path = Path(root) / AUTH_FILE
        self._protect()
        # Nobody but the owner reads it; what SQLite puts beside it has the same mode.
        form = Form("the file of users and tokens", APPLICATION_ID, FORMAT_VERSION, _fill, 0o600)
        self._database = Database(self.path, form)

    def _protect(self) -> None:
        """Close to others what was left open to them."""
        try:
            if self.path.exists() and self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        except OSError as error:
            raise CatalogRootError(
                f"{self.path} cannot be kept from other users of this machine: {error}"
            ) from error

    @contextlib.contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection that nobody else uses meanwhile; each statement sees the latest state."""
        with self._database.borrowed() as db:
            yield db

    @contextlib.contextmanager
    def locked(self) -> Iterator[apsw.Connection]:
        """A change: durable when the block ends, undone when it raises."""
        with self._database.locked() as db:
            yield db
            # What other connections remember of grants is outdated.
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")

    def close(self) -> None:
        """Close the connections that are idle."""
        self._database.close()


def _fill(db: apsw.Connection) -> None:
    db.execute(_SCHEMA)
