"""A disk that is full or fails: is the client told, does the ledger stay sound, does it go on later?"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from typing import TYPE_CHECKING, Any

import apsw
import pyarrow as pa
import pytest

from io_core.errors import DeltaCATError, PlannerUnavailableError
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transport import InProcessTransport
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from io_core.model import WriteEntry, WriteSession

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


class Disk(apsw.VFS):
    """SQLite's own file system, whose calls can be made to fail, and the planner's flushes.

    Attributes:
        fails: Asked before each write, sync and flush: which call, and of which file; raises to fail.
    """

    def __init__(self) -> None:
        self.fails: Callable[[str, str], None] = lambda call, path: None
        self._flush = os.fdatasync
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's name
        return DiskFile(self, name, flags)

    def flush(self, file: int) -> None:
        """Stand in the place of `os.fdatasync`."""
        self.fails("flush", os.readlink(f"/proc/self/fd/{file}"))
        self._flush(file)


class DiskFile(apsw.VFSFile):
    """A file on it."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = str(name if isinstance(name, str | None) else name.filename())

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # SQLite's name
        self._disk.fails("write", self._path)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's name
        self._disk.fails("sync", self._path)
        super().xSync(flags)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    found = Disk()
    monkeypatch.setattr(os, "fdatasync", found.flush)
    yield found
    found.unregister()


@pytest.fixture
def planner(disk: Disk, tmp_path: Path) -> Iterator[EmbeddedPlanner]:
    """A catalog on the disk, with a table of one row."""
    found = EmbeddedPlanner(tmp_path / "catalog")
    catalog_of(found).write(pa.table({"x": [0]}), **WHERE)
    yield found
    disk.fails = lambda call, path: None
    found.close()


def catalog_of(planner: EmbeddedPlanner) -> Catalog:
    return Catalog(InProcessTransport(planner), None)


def xs(planner: EmbeddedPlanner) -> list[int]:
    return sorted(catalog_of(planner).read(**WHERE).column("x").to_pylist())


def staged(planner: EmbeddedPlanner) -> tuple[WriteSession, list[WriteEntry]]:
    catalog = catalog_of(planner)
    session = catalog.stage(**WHERE)
    return session, OpenSink(catalog, session, "unused").write(pa.table({"x": [1]}))


def failing(call: str, suffix: str, error: Exception, nth: int = 1) -> Callable[[str, str], None]:
    """What makes a call on a file fail, from its nth time on."""
    left = [nth]

    def fails(called: str, path: str) -> None:
        if called == call and path.endswith(suffix):
            left[0] -= 1
            if left[0] <= 0:
                raise error

    return fails


@pytest.mark.parametrize("nth", [1, 2, 3, 6, 9])
def test_a_commit_that_the_disk_refuses_is_an_error_and_changes_nothing(
    disk: Disk, planner: EmbeddedPlanner, nth: int
) -> None:
    session, entries = staged(planner)
    catalog = catalog_of(planner)
    snapshot = planner.gauges()["snapshot"]
    for _ in range(3):
        disk.fails = failing("write", "-wal", apsw.FullError("no room"), nth)
        with pytest.raises(PlannerUnavailableError, match=r"nothing was changed") as caught:
            catalog.commit(session=session, entries=entries, operation_id="op_1")
        assert caught.value.status == 503
    disk.fails = lambda call, path: None
    assert planner.gauges()["snapshot"] == snapshot
    assert xs(planner) == xs(EmbeddedPlanner(planner.root)) == [0]
    assert check(planner).findings == ()
    done = catalog.commit(session=session, entries=entries, operation_id="op_1")
    assert catalog.commit(session=session, entries=entries, operation_id="op_1") == done
    assert xs(planner) == xs(EmbeddedPlanner(planner.root)) == [0, 1]
    assert check(planner).findings == ()


LOST = OSError(errno.EIO, "the disk lost what it had")


def test_a_commit_that_the_disk_does_not_take_is_an_error_and_happens_once_when_sent_again(
    disk: Disk, planner: EmbeddedPlanner
) -> None:
    session, entries = staged(planner)
    catalog = catalog_of(planner)
    disk.fails = failing("flush", "-wal", LOST)
    for _ in range(3):
        with pytest.raises(PlannerUnavailableError, match="same operation_id") as caught:
            catalog.commit(session=session, entries=entries, operation_id="op_1")
        assert caught.value.status == 503
        # Who asks what became of it is not told that all is well.
        with pytest.raises(PlannerUnavailableError, match="flushed"):
            catalog.get_write_session(session.session_id)
        assert xs(planner) == [0, 1]
    disk.fails = lambda call, path: None
    done = catalog.commit(session=session, entries=entries, operation_id="op_1")
    assert (done.status, catalog.get_write_session(session.session_id).status) == (
        "COMMITTED",
        "COMMITTED",
    )
    assert xs(planner) == xs(EmbeddedPlanner(planner.root)) == [0, 1]
    assert check(planner).findings == ()


def test_what_a_flush_lost_is_written_again_before_it_is_acknowledged(
    disk: Disk, planner: EmbeddedPlanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, entries = staged(planner)
    log = planner.root / "catalog.sqlite-wal"
    written: list[int] = []
    write = os.pwrite

    def noted(file: int, data: bytes, at: int) -> int:
        written.append(len(data))
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", noted)
    catalog = catalog_of(planner)
    left = [1]

    def fails(call: str, path: str) -> None:
        if call == "flush" and path.endswith("-wal") and left and left.pop():
            raise LOST

    disk.fails = fails
    # The disk fails once: for a system that is told once, all of the log is on it now.
    assert catalog.commit(session=session, entries=entries).status == "COMMITTED"
    assert sum(written) == log.stat().st_size
    catalog.create_namespace(namespace="more")
    assert len(written) == 1
    assert check(planner).findings == ()


def test_a_crash_after_a_failing_flush_leaves_the_commit_whole_or_not_there(
    disk: Disk, planner: EmbeddedPlanner, tmp_path: Path
) -> None:
    session, entries = staged(planner)
    log = planner.root / "catalog.sqlite-wal"
    before = log.stat().st_size
    disk.fails = failing("flush", "-wal", LOST)
    with pytest.raises(PlannerUnavailableError):
        catalog_of(planner).commit(session=session, entries=entries, operation_id="op_1")
    after = log.stat().st_size
    assert after > before
    disk.fails = lambda call, path: None
    # What the disk may have of the log: none of the commit, half of it, all of it.
    for index, (kept, wanted) in enumerate(
        [(before, [0]), ((before + after) // 2, [0]), (after, [0, 1])]
    ):
        crashed = tmp_path / f"crashed{index}"
        shutil.copytree(planner.root, crashed, ignore=shutil.ignore_patterns("*-shm"))
        os.truncate(crashed / log.name, kept)
        restarted = EmbeddedPlanner(crashed)
        assert xs(restarted) == wanted
        catalog_of(restarted).commit(session=session, entries=entries, operation_id="op_1")
        assert xs(restarted) == [0, 1]
        assert check(restarted).findings == ()
        restarted.close()


def test_a_full_disk_plans_on_without_a_lease(disk: Disk, planner: EmbeddedPlanner) -> None:
    disk.fails = failing("write", "-wal", apsw.FullError("no room"))
    fresh = EmbeddedPlanner(planner.root)
    plan = catalog_of(fresh).plan(**WHERE)
    assert (plan.total_files, plan.header.expires_at) == (1, None)
    disk.fails = lambda call, path: None
    assert catalog_of(fresh).plan(**WHERE).header.expires_at is not None
    fresh.close()


def test_a_transaction_that_the_disk_refuses_can_be_committed_later(
    disk: Disk, planner: EmbeddedPlanner
) -> None:
    catalog = catalog_of(planner)
    tx = catalog.transaction()
    for table in ("t", "u"):
        catalog.write(pa.table({"x": [1]}), namespace="ns", table=table, transaction=tx)
    disk.fails = failing("write", "-wal", apsw.FullError("no room"), 4)
    with pytest.raises(PlannerUnavailableError, match="nothing was changed"):
        tx.commit()
    assert xs(planner) == [0]
    assert not catalog.table_exists(namespace="ns", table="u")
    disk.fails = lambda call, path: None
    assert tx.commit().status == "COMMITTED"
    assert xs(planner) == [0, 1]
    assert catalog.read(namespace="ns", table="u").num_rows == 1


# --- files that may not grow, of the ledger and of data alike ---------------------------------------


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stored(root: Path) -> set[Path]:
    return {path for path in (root / "data").rglob("*") if path.is_file()}


def test_a_write_that_finds_no_room_fails_and_leaves_nothing_behind(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"x": [0]}), **WHERE)
    before = stored(tmp_path / "catalog")
    rows = pa.table({"x": pa.array(int.from_bytes(os.urandom(7)) for _ in range(400_000))})
    # Room for what the ledger notes of the attempt, and not for the file.
    room = (tmp_path / "catalog" / "catalog.sqlite-wal").stat().st_size + 400_000
    with no_file_beyond(room), pytest.raises(OSError, match=r"(?i)file too large"):
        client.catalog.write(rows, **WHERE, mode="add")
    assert stored(tmp_path / "catalog") == before
    assert client.catalog.read(**WHERE).num_rows == 1
    client.catalog.write(rows, **WHERE, mode="add")
    assert client.catalog.read(**WHERE).num_rows == 400_001


def test_a_ledger_that_cannot_grow_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"x": [0]}), **WHERE)
    log = tmp_path / "catalog" / "catalog.sqlite-wal"
    with no_file_beyond(log.stat().st_size):
        for _ in range(3):
            with pytest.raises(PlannerUnavailableError, match="nothing was changed"):
                client.catalog.create_namespace(namespace="more")
        # What is there can be read, by who read it before.
        assert client.catalog.namespace_exists(namespace="ns")
        assert not client.catalog.namespace_exists(namespace="more")
    client.catalog.create_namespace(namespace="more")
    assert check(EmbeddedPlanner(tmp_path / "catalog")).findings == ()


def test_a_log_that_cannot_be_copied_back_costs_no_commit(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"x": [0]}), **WHERE)

    def grow(times: int) -> None:
        for i in range(times):
            client.catalog.alter_table(**WHERE, table_properties={"text": str(i % 10) * 200_000})

    grow(40)
    ledger = tmp_path / "catalog" / "catalog.sqlite"
    db = apsw.Connection(str(ledger))
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()
    size = ledger.stat().st_size
    # The log passes the size at which it is copied back, and the ledger cannot grow.
    with no_file_beyond(size - 2**20):
        grow(14)
        log = tmp_path / "catalog" / "catalog.sqlite-wal"
        assert log.stat().st_size > 4.2 * 2**20
        assert ledger.stat().st_size == size
    grow(1)
    # Now it can.
    told = client.catalog.describe_table(**WHERE).table_properties or {}
    assert told["text"] == "0" * 200_000
    assert ledger.stat().st_size > size
    assert check(EmbeddedPlanner(tmp_path / "catalog")).findings == ()


def test_a_server_on_a_full_disk_answers_503_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    root = tmp_path / "catalog"
    Client(root).catalog.write(pa.table({"x": [0]}), **WHERE)
    with served(root) as server:
        client, pid = Client(server.url), server.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
        with pytest.raises(DeltaCATError, match="nothing was changed") as caught:
            client.catalog.create_namespace(namespace="more")
        assert (caught.value.code, caught.value.status) == ("service_unavailable", 503)
        assert client.catalog.namespace_exists(namespace="ns")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        client.catalog.create_namespace(namespace="more")
        assert Client(root).catalog.namespace_exists(namespace="more")
    assert check(EmbeddedPlanner(root)).findings == ()
