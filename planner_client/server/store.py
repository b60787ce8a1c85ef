"""The ledger: one SQLite file per catalog root, its connections, its sequence, its operations.

Several processes of one machine may have one root open: SQLite's locks order their writes, every
write begins with BEGIN IMMEDIATE, and readers see one snapshot for as long as they read. After a
fork the child opens its own connections.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from io_core.errors import CatalogRootError, PlannerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LEDGER", "Store", "Write"]

LEDGER = "catalog.sqlite"
APPLICATION_ID = 0x0DE17ACA
FORMAT_VERSION = 1
# SQLite before this could lose a WAL reset under load.
_OLDEST_SQLITE = (3, 51, 3)
_BUSY_MS = 60_000
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "fuse.sshfs",
    "ceph",
    "lustre",
    "glusterfs",
    "afs",
}

Row = tuple[Any, ...]

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- The one sequence. A row is a committed change; its number is the snapshot that first shows it.
CREATE TABLE revision(
    seq INTEGER PRIMARY KEY, committed_ns INTEGER NOT NULL UNIQUE, message TEXT) STRICT;

-- Rows of the objects below are visible from begin_seq on and until before end_seq.
CREATE TABLE namespace(
    namespace_id INTEGER PRIMARY KEY, name TEXT NOT NULL, properties TEXT,
    begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE UNIQUE INDEX namespace_live ON namespace(name) WHERE end_seq IS NULL;

CREATE TABLE tbl(
    table_id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, namespace_id INTEGER NOT NULL,
    name TEXT NOT NULL, description TEXT, properties TEXT,
    begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE UNIQUE INDEX tbl_live ON tbl(namespace_id, name) WHERE end_seq IS NULL;

CREATE TABLE table_version(
    version_id INTEGER PRIMARY KEY, stream_uuid TEXT NOT NULL UNIQUE, table_id INTEGER NOT NULL,
    version TEXT NOT NULL, number INTEGER NOT NULL, lifecycle_state TEXT NOT NULL,
    description TEXT, properties TEXT, content_types TEXT,
    partition_scheme TEXT, sort_scheme TEXT,
    begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE UNIQUE INDEX table_version_live ON table_version(table_id, version) WHERE end_seq IS NULL;

-- Arrow IPC schema messages; field ids, merge keys and docs are in the fields' metadata.
CREATE TABLE table_schema(
    version_id INTEGER NOT NULL, schema_id INTEGER NOT NULL, arrow BLOB NOT NULL,
    begin_seq INTEGER NOT NULL, PRIMARY KEY(version_id, schema_id)) STRICT, WITHOUT ROWID;

-- partition_values: JSON list, null where the table is unpartitioned.
CREATE TABLE partition(
    partition_id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, version_id INTEGER NOT NULL,
    partition_values TEXT, begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE UNIQUE INDEX partition_live
    ON partition(version_id, coalesce(partition_values, '')) WHERE end_seq IS NULL;

-- path: relative to the root where the file is below it. hash: what snapshot ids add up.
CREATE TABLE file(
    file_id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL,
    partition_id INTEGER NOT NULL, path TEXT NOT NULL, content_type TEXT NOT NULL,
    content_encoding TEXT NOT NULL, content_length INTEGER NOT NULL, record_count INTEGER NOT NULL,
    delta_type TEXT NOT NULL, stream_position INTEGER NOT NULL, delete_columns TEXT,
    schema_id INTEGER NOT NULL, sort_scheme_id TEXT, hash BLOB NOT NULL,
    begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE INDEX file_version ON file(version_id, file_id);
CREATE INDEX file_ended ON file(version_id, end_seq) WHERE end_seq IS NOT NULL;
CREATE UNIQUE INDEX file_path ON file(path) WHERE end_seq IS NULL;

-- Statistics of a run of file ids, by field id, in columns; see docs/ledger.md.
CREATE TABLE segment(
    version_id INTEGER NOT NULL, first_file_id INTEGER NOT NULL, last_file_id INTEGER NOT NULL,
    encoding TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY(version_id, first_file_id)) STRICT, WITHOUT ROWID;

-- The outcome of every mutation that named itself, stored in the mutation's own transaction.
CREATE TABLE operation(
    operation_id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, request_hash BLOB NOT NULL,
    response BLOB NOT NULL, created_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- body: the session and what its creator asked for, as JSON.
CREATE TABLE write_session(
    session_id TEXT PRIMARY KEY, session_version INTEGER NOT NULL, status TEXT NOT NULL,
    expires_ns INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""


class Write:
    """A write transaction under way; everything in it happens or nothing does."""

    def __init__(self, db: apsw.Connection, clock_ns: Callable[[], int]) -> None:
        self.db = db
        self.clock_ns = clock_ns
        self._seq: int | None = None

    def seq(self, message: str | None = None) -> int:
        """This transaction's place in the sequence; its time is after every earlier one's."""
        if self._seq is None:
            seq, last_ns = self.db.execute(
                "SELECT coalesce(max(seq), 0), coalesce(max(committed_ns), 0) FROM revision"
            ).fetchone()
            self._seq = int(seq) + 1
            self.db.execute(
                "INSERT INTO revision VALUES (?, ?, ?)",
                (self._seq, max(int(last_ns) + 1, self.clock_ns()), message),
            )
        return self._seq

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row and return its id."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self.db.execute(f"INSERT INTO {table}({names}) VALUES ({marks})", tuple(values.values()))
        return int(self.db.last_insert_rowid())


class Store:
    """The ledger of one catalog root.

    Args:
        root: The catalog's directory.
        create: Make a catalog there if the directory is absent or empty.
        clock_ns: The time, in nanoseconds since the epoch.

    Raises:
        CatalogRootError: No catalog, one of a newer release, or one on a network file system.
    """

    def __init__(self, root: Path, *, create: bool, clock_ns: Callable[[], int]) -> None:
        self.root = root
        self.clock_ns = clock_ns
        self._lock = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._pid = os.getpid()
        _check_sqlite()
        self._open(create=create)

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.root / LEDGER

    def _open(self, *, create: bool) -> None:
        if not self.path.exists():
            _check_vacant(self.root, create=create)
            self.root.mkdir(parents=True, exist_ok=True)
        _refuse_network(self.root)
        # Also what another process is just about to fill, or died before it filled.
        if self._is_blank():
            self._create(create=create)
        with self.read() as db:
            version = db.pragma("user_version")
            if db.pragma("application_id") != APPLICATION_ID:
                raise CatalogRootError(f"{self.path} is not a ledger of this project")
            if version > FORMAT_VERSION:
                raise CatalogRootError(
                    f"{self.root} was made by a newer release (ledger format {version}, this one "
                    f"reads up to {FORMAT_VERSION}): upgrade deltacat-sources"
                )

    def _is_blank(self) -> bool:
        if not self.path.exists():
            return True
        with self.read() as db:
            (objects,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return bool(objects == 0 and db.pragma("application_id") == 0)

    def _create(self, *, create: bool) -> None:
        # Under the write lock, so that of two processes that find nothing one makes the tables.
        if not create:
            raise CatalogRootError(f"{self.root} is not a catalog: its ledger is empty")
        with self._borrowed() as db:
            db.pragma("journal_mode", "wal")
        with self.write() as write:
            db = write.db
            if db.pragma("user_version"):
                return
            db.execute(_SCHEMA)
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", FORMAT_VERSION)
            write.insert("meta", key="catalog_id", value=str(uuid.uuid4()))

    def _connect(self) -> apsw.Connection:
        try:
            db = apsw.Connection(str(self.path))
            db.set_busy_timeout(_BUSY_MS)
            db.pragma("synchronous", "full")
            db.pragma("foreign_keys", "on")
        except apsw.Error as error:
            raise CatalogRootError(f"cannot open the ledger {self.path}: {error}") from error
        return db

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[apsw.Connection]:
        """A connection that nobody else uses meanwhile; connections outlive threads."""
        if self._pid != os.getpid():
            # A forked child must neither use nor close its parent's connections.
            self._inherited = self._idle
            self._idle, self._lock, self._pid = [], threading.Lock(), os.getpid()
        try:
            db = self._idle.pop()
        except IndexError:
            db = self._connect()
        try:
            yield db
        except apsw.NotADBError as error:
            raise CatalogRootError(
                f"{self.path} is not a ledger of this project: {error}"
            ) from error
        except apsw.Error as error:
            raise PlannerUnavailableError(
                f"the ledger {self.path} cannot be used: {error}; nothing was changed"
            ) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._idle.append(db)

    @contextlib.contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """One consistent view of the ledger, whoever writes meanwhile."""
        with self._borrowed() as db:
            db.execute("BEGIN")
            yield db

    @contextlib.contextmanager
    def write(self) -> Iterator[Write]:
        """A write transaction: durable when the block ends, undone when it raises."""
        with self._borrowed() as db, self._lock:
            db.execute("BEGIN IMMEDIATE")
            yield Write(db, self.clock_ns)
            db.execute("COMMIT")

    def close(self) -> None:
        """Close the connections that are idle."""
        if self._pid == os.getpid():
            while self._idle:
                self._idle.pop().close()


def _check_sqlite() -> None:
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < _OLDEST_SQLITE:
        raise CatalogRootError(
            f"SQLite {apsw.sqlite_lib_version()} may lose writes; upgrade apsw to bring a newer one"
        )


def _check_vacant(root: Path, *, create: bool) -> None:
    if root.exists() and not root.is_dir():
        raise CatalogRootError(f"{root} is no directory: a catalog is a directory")
    held: Sequence[str] = sorted(os.listdir(root)) if root.exists() else []
    if held and LEDGER not in held:
        raise CatalogRootError(
            f"{root} is not a catalog: it holds {held[0]!r} but no {LEDGER}; "
            "name a catalog's directory, or an empty one to make a catalog in"
        )
    if not create:
        raise CatalogRootError(
            f"{root} is not a catalog: {'it is empty' if root.exists() else 'no such directory'}; "
            f"planner_client.Client({str(root)!r}) makes one there"
        )


def _refuse_network(root: Path) -> None:
    kind = _file_system(root)
    if kind in _NETWORK:
        raise CatalogRootError(
            f"{root} is on a network file system ({kind}), where SQLite's locks do not hold: "
            "keep the catalog on a local disk and serve it with python -m planner_client.server"
        )


def _file_system(root: Path) -> str:
    """Type of the file system that holds `root`; empty where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    best, kind = "", ""
    resolved = str(root.resolve())
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
