"""The ledger: one SQLite file per catalog root, its connections, its sequence, its operations.

Several processes of one machine may have one root open: SQLite's locks order their writes, every
write begins with BEGIN IMMEDIATE, and readers see one snapshot for as long as they read. After a
fork the child opens its own connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import msgspec

from io_core.errors import CatalogRootError
from planner_client.server.database import Database, Form
from planner_client.server.upgrade import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from planner_client.server.conflicts import Change

__all__ = ["AT", "FORMAT_VERSION", "LEDGER", "Store", "View", "Write", "at", "latest"]

LEDGER = "catalog.sqlite"
APPLICATION_ID = 0x0DE17ACA
FORMAT_VERSION = 2
# SQLite before this could lose a WAL reset under load.
_OLDEST_SQLITE = (3, 51, 3)
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
    seq INTEGER PRIMARY KEY, committed_ns INTEGER NOT NULL UNIQUE, message TEXT,
    transaction_id TEXT) STRICT;

-- What each revision did, as far as another writer may conflict with it. table_id 0: names.
CREATE TABLE change(
    change_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, table_id INTEGER NOT NULL,
    body BLOB NOT NULL) STRICT;
CREATE INDEX change_of ON change(table_id, seq);

-- Rows of the objects below are visible from begin_seq on and until before end_seq. Changing an
-- object ends its row and begins another one with the same object id.
CREATE TABLE namespace(
    row_id INTEGER PRIMARY KEY, namespace_id INTEGER NOT NULL, name TEXT NOT NULL, properties TEXT,
    begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE INDEX namespace_name ON namespace(name);
CREATE INDEX namespace_of ON namespace(namespace_id);

-- purged: dropped for good; older snapshots do not keep its files.
CREATE TABLE tbl(
    row_id INTEGER PRIMARY KEY, table_id INTEGER NOT NULL, uuid TEXT NOT NULL,
    namespace_id INTEGER NOT NULL, name TEXT NOT NULL, description TEXT, properties TEXT,
    purged INTEGER NOT NULL DEFAULT 0, begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE INDEX tbl_name ON tbl(namespace_id, name);
CREATE INDEX tbl_of ON tbl(table_id);

CREATE TABLE table_version(
    row_id INTEGER PRIMARY KEY, version_id INTEGER NOT NULL, stream_uuid TEXT NOT NULL,
    table_id INTEGER NOT NULL, version TEXT NOT NULL, number INTEGER NOT NULL,
    lifecycle_state TEXT NOT NULL, description TEXT, properties TEXT, content_types TEXT,
    partition_scheme TEXT, sort_scheme TEXT,
    begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE INDEX table_version_name ON table_version(table_id, version);
CREATE INDEX table_version_of ON table_version(version_id);

-- Arrow IPC schema messages, null where schemaless; what the table knows of a column is in its
-- field's metadata.
CREATE TABLE table_schema(
    version_id INTEGER NOT NULL, schema_id INTEGER NOT NULL, arrow BLOB,
    begin_seq INTEGER NOT NULL, PRIMARY KEY(version_id, schema_id)) STRICT;

-- partition_values: JSON list, null where the table is unpartitioned. A file ends with its partition.
CREATE TABLE partition(
    partition_id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, version_id INTEGER NOT NULL,
    partition_values TEXT, begin_seq INTEGER NOT NULL, end_seq INTEGER) STRICT;
CREATE INDEX partition_values_of ON partition(version_id, partition_values);
CREATE INDEX partition_ended ON partition(version_id, end_seq) WHERE end_seq IS NOT NULL;

-- Data files, in columns. A version's files are numbered from 0 on; a segment holds one column, or
-- all of them, of a run of files. Smaller segments are folded into larger ones.
CREATE TABLE segment(
    segment_id INTEGER PRIMARY KEY, version_id INTEGER NOT NULL, name TEXT NOT NULL,
    first INTEGER NOT NULL, files INTEGER NOT NULL, encoding TEXT NOT NULL,
    body BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX segment_of ON segment(version_id, name, first);

-- Rows of data files that died, by the file's number: those of one commit, or (whole) all so far.
-- Derived from the files; seq is the snapshot that first shows them dead.
CREATE TABLE kill(
    kill_id INTEGER PRIMARY KEY, version_id INTEGER NOT NULL, file INTEGER NOT NULL,
    seq INTEGER NOT NULL, whole INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX kill_of ON kill(version_id, file, kill_id);

-- Up to which stream position a partition's dead rows are known.
CREATE TABLE killed(
    version_id INTEGER NOT NULL, partition_id INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY(version_id, partition_id)) STRICT, WITHOUT ROWID;

-- How often a version's files were numbered anew.
CREATE TABLE numbering(version_id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;

-- The outcome of every mutation that named itself, stored in the mutation's own transaction.
CREATE TABLE operation(
    operation_id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, request_hash BLOB NOT NULL,
    response BLOB NOT NULL, created_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- body: the session and what its creator asked for, as JSON. base_seq: the snapshot it began at.
CREATE TABLE write_session(
    session_id TEXT PRIMARY KEY, session_version INTEGER NOT NULL, status TEXT NOT NULL,
    transaction_id TEXT, base_seq INTEGER NOT NULL, expires_ns INTEGER NOT NULL,
    body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX write_session_open ON write_session(expires_ns) WHERE status = 'OPEN';
CREATE INDEX write_session_bound ON write_session(transaction_id) WHERE transaction_id IS NOT NULL;

CREATE TABLE txn(
    transaction_id TEXT PRIMARY KEY, transaction_version INTEGER NOT NULL, status TEXT NOT NULL,
    base_seq INTEGER NOT NULL, as_of_ns INTEGER, message TEXT, caller TEXT,
    created_ns INTEGER NOT NULL, heartbeat_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL,
    finalized_ns INTEGER, snapshot INTEGER, reason TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX txn_running ON txn(expires_ns) WHERE status = 'RUNNING';

-- What a running transaction did so far: replayed to show it to itself, and once more to commit.
CREATE TABLE txn_operation(
    transaction_id TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY(transaction_id, number)) STRICT;

-- Snapshots first to last (null: and all later ones) that plans which were handed out still read.
CREATE TABLE lease(
    lease_id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER,
    expires_ns INTEGER NOT NULL) STRICT;
CREATE INDEX lease_expiry ON lease(expires_ns);
"""

# Which rows of the objects a view shows; bound to its base and its own number.
AT = "(begin_seq <= ?1 OR begin_seq = ?2) AND (end_seq IS NULL OR (end_seq > ?1 AND end_seq <> ?2))"


def at(alias: str) -> str:
    """`AT` for one of several tables."""
    return re.sub(r"\b(begin_seq|end_seq)\b", rf"{alias}.\1", AT)


class View(NamedTuple):
    """What a request sees of the ledger.

    Attributes:
        db: A connection within a transaction of SQLite.
        base: The snapshot whose objects it sees.
        own: The number under which its own changes are written, seen besides; -1 for none.
        last: The latest snapshot there is, where that is known.
    """

    db: apsw.Connection
    base: int
    own: int = -1
    last: int = -1

    @property
    def at(self) -> tuple[int, int]:
        """What the first two parameters of a query with `AT` are bound to."""
        return self.base, self.own


class Write:
    """A write under way; everything in it happens or nothing does.

    Args:
        db: A connection within a write transaction of SQLite.
        clock_ns: The time, in nanoseconds since the epoch.
        base: The snapshot that it sees.
        own: The number of the snapshot that it makes.
        positions: How many stream positions it may take; the last one is `own`.
    """

    def __init__(
        self,
        db: apsw.Connection,
        clock_ns: Callable[[], int],
        *,
        base: int,
        own: int,
        positions: int = 1,
    ) -> None:
        self.db = db
        self.clock_ns = clock_ns
        self.view = View(db, base, own)
        self.own = own
        self.changes: list[Change] = []
        # Set by a transaction, so that replaying its operations gives the same ids.
        self.seed: str | None = None
        self._minted = 0
        self._position = own - positions

    def uuid(self) -> str:
        """A new id; within a transaction the same one at every replay."""
        if self.seed is None:
            return str(uuid.uuid4())
        self._minted += 1
        text = f"{self.seed}:{self._minted}".encode()
        return str(uuid.UUID(bytes=hashlib.blake2b(text, digest_size=16).digest(), version=4))

    def seeded(self, seed: str) -> None:
        """Derive ids from `seed` from here on."""
        self.seed, self._minted = seed, 0

    def position(self) -> int:
        """The stream position of the next delta: after every earlier one's."""
        self._position += 1
        return self._position

    def change(self, change: Change) -> None:
        """Say what is changed; a write that says nothing makes no snapshot."""
        self.changes.append(change)

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row and return its id."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self.db.execute(f"INSERT INTO {table}({names}) VALUES ({marks})", tuple(values.values()))
        return int(self.db.last_insert_rowid())

    def new_id(self, table: str, column: str) -> int:
        """The next id of a kind of objects."""
        (last,) = self.db.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()
        return int(last) + 1

    def record(self, message: str | None = None, transaction_id: str | None = None) -> None:
        """Make what was changed a snapshot; its time is after every earlier one's."""
        if not self.changes:
            return
        (last_ns,) = self.db.execute(
            "SELECT coalesce(max(committed_ns), 0) FROM revision"
        ).fetchone()
        self.db.execute(
            "INSERT INTO revision VALUES (?, ?, ?, ?)",
            (
                self.own,
                max(int(last_ns) + 1, self.clock_ns()),
                message or str(self.changes[0]),
                transaction_id,
            ),
        )
        self.db.executemany(
            "INSERT INTO change(seq, table_id, body) VALUES (?, ?, ?)",
            [(self.own, c.table_id, msgspec.msgpack.encode(c)) for c in self.changes],
        )


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
        _check_sqlite()
        if not self.path.exists():
            _check_vacant(root, create=create)
            _make(root)
        _refuse_network(root)
        form = Form("the ledger", APPLICATION_ID, FORMAT_VERSION, _fill if create else None)
        self._database = Database(self.path, form)
        with self.read() as db:
            outdated = db.pragma("user_version") < FORMAT_VERSION
        if outdated:
            self._upgrade()

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.root / LEDGER

    def _upgrade(self) -> None:
        # Under the write lock, so that of two processes that find an old ledger one upgrades it.
        with self.locked() as db:
            if db.pragma("user_version") < FORMAT_VERSION:
                upgrade(db, _SCHEMA)
                db.pragma("user_version", FORMAT_VERSION)

    def read(self) -> AbstractContextManager[apsw.Connection]:
        """One consistent view of the ledger, whoever writes meanwhile."""
        return self._database.borrowed(reading=True)

    def locked(self, *, durable: bool = True) -> AbstractContextManager[apsw.Connection]:
        """A write transaction of SQLite: durable when the block ends, undone when it raises.

        Args:
            durable: False leaves flushing to the next durable one: a crash of the process takes
                nothing away, one of the machine may.
        """
        return self._database.locked(durable=durable)

    def flush(self) -> None:
        """Have all that can be seen outlive a crash of the machine, whoever wrote it."""
        self._database.flush()

    @contextlib.contextmanager
    def write(self) -> Iterator[Write]:
        """A write on the latest snapshot; what it says it changed becomes the next one."""
        with self.locked() as db:
            base = latest(db)
            write = Write(db, self.clock_ns, base=base, own=base + 1)
            yield write
            write.record()

    def close(self) -> None:
        """Close the connections that are idle."""
        self._database.close()


def _fill(db: apsw.Connection) -> None:
    db.execute(_SCHEMA)
    db.execute("INSERT INTO meta VALUES ('catalog_id', ?)", (str(uuid.uuid4()),))


def latest(db: apsw.Connection) -> int:
    """The latest snapshot."""
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM revision").fetchone()[0])


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


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogRootError(
            f"{root} cannot be made: {error.strerror}; name a directory that you can write to"
        ) from error


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
