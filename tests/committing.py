"""Processes that commit until they are killed, by a test or by themselves at a chosen point.

Run as a module it starts one such process per line of its input, a fork of itself, so that each
costs milliseconds. They say what they try before they try it, and what was acknowledged after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import apsw
import msgspec

from io_core.model import WriteEntry
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.namespaces import ALTER_NAMESPACE, AlterNamespace
from planner_client.protocol.transactions import (
    BEGIN,
    COMMIT_TRANSACTION,
    BeginTransaction,
    CommitTransaction,
)
from planner_client.protocol.writes import COMMIT, STAGE, CommitRequest, StageRequest
from planner_client.server import segments
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from planner_client.protocol.endpoint import Endpoint, Request

__all__ = [
    "ASIDE",
    "NAMESPACE",
    "Ended",
    "Nursery",
    "Task",
    "Tried",
    "commit_number",
    "files_after",
    "named",
]

NAMESPACE = "ns"
ASIDE = "aside"
_REPLACING = 2
_TWO_TABLES = 4
_ENDPOINTS = {endpoint.name: endpoint for endpoint in ENDPOINTS}


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process is to do.

    Attributes:
        root: The catalog.
        file: A data file to link wherever one is staged.
        first: The first commit's number; they go on from there.
        every: Of so many commits one replaces a table, and one is a transaction over two.
        last: The one after the last one.
        point: Where in a commit to die: the beginning of a statement, or `commit hook`,
            `torn write`, `before sync`, `after sync` (of SQLite's), `before flush`, `after flush` (of the
            planner's), `checkpoint`, `answer`; empty for nowhere.
        nth: How often to pass it first.
        often: Fold and checkpoint after few commits.
    """

    root: str
    file: str
    first: int
    every: int
    last: int = 2**31
    point: str = ""
    nth: int = 1
    often: bool = False


class Tried(msgspec.Struct, frozen=True):
    """A call whose answer may get lost: sent again it has to give the first one's result."""

    number: int
    endpoint: str
    # Any: the request, as JSON.
    request: dict[str, Any]

    def again(self, planner: EmbeddedPlanner) -> str:
        """Send it again; the status of what it committed."""
        endpoint = _ENDPOINTS[self.endpoint]
        answer = planner.call(endpoint, msgspec.convert(self.request, endpoint.request))
        return str(answer.status)


class Ended(msgspec.Struct, frozen=True):
    """What came of a process: numbers that were acknowledged, what it tried last, how it ended."""

    acknowledged: tuple[int, ...]
    tried: Tried | None
    signal: int

    @property
    def in_flight(self) -> Tried | None:
        """What was tried and not acknowledged."""
        known = self.tried is None or self.tried.number in self.acknowledged
        return None if known else self.tried


def named(number: int, every: int) -> dict[str, list[str]]:
    """Which files a commit adds, by table; see `Task.every`."""
    if number % every == _REPLACING:
        return {"r": [f"{number}-0"]}
    if number % every == _TWO_TABLES:
        return {"t": [f"{number}-0"], "u": [f"{number}-1"]}
    return {"t": [f"{number}-0", f"{number}-1"]}


def files_after(count: int, every: int) -> dict[str, set[str]]:
    """What the tables hold after so many commits."""
    found: dict[str, set[str]] = {"t": set(), "u": set(), "r": set()}
    for number in range(count):
        for table, names in named(number, every).items():
            if table == "r":
                # The whole table is replaced.
                found[table].clear()
            found[table].update(names)
    return found


class Nursery:
    """The process that starts the others."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.committing"],
            stdin=pipe,
            stdout=pipe,
            cwd=Path(__file__).parents[1],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def run(self, task: Task, *, kill_after: int | None = None) -> Ended:
        """Run a task to its end; `kill_after` kills it once so many commits were acknowledged."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(task) + b"\n")
        self._process.stdin.flush()
        pid, acknowledged, tried, alive = 0, [], None, True
        for what, rest in self._said():
            match what:
                case b"pid":
                    pid = int(rest)
                case b"try":
                    tried = msgspec.json.decode(rest, type=Tried)
                case b"ack":
                    acknowledged.append(int(rest))
                case b"ended":
                    return Ended(tuple(acknowledged), tried, int(rest))
            if alive and kill_after is not None and len(acknowledged) >= kill_after:
                os.kill(pid, signal.SIGKILL)
                alive = False
        raise AssertionError("the nursery ended")

    def _said(self) -> Iterator[tuple[bytes, bytes]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, _, rest = line.partition(b" ")
            yield what, rest


# --- in the processes -----------------------------------------------------------------------------


def _say(what: str, rest: bytes) -> None:
    # One call each: what a kill cuts short is a whole line or none.
    os.write(1, what.encode() + b" " + rest + b"\n")


def _serve() -> None:
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(KeyboardInterrupt):
                _work(task)
            os._exit(0)
        _say("pid", str(pid).encode())
        status = os.waitpid(pid, 0)[1]
        _say("ended", str(os.WTERMSIG(status)).encode())


def _work(task: Task) -> None:
    end = _End(task)
    planner = EmbeddedPlanner(task.root)
    for number in range(task.first, task.last):
        endpoint, request = _begun(planner, number, task)
        tried = Tried(number, endpoint.name, msgspec.to_builtins(request))
        _say("try", msgspec.json.encode(tried))
        end.armed = True
        planner.call(endpoint, request)
        end.passes("answer")
        end.armed = False
        _say("ack", str(number).encode())


def _begun(planner: EmbeddedPlanner, number: int, task: Task) -> tuple[Endpoint[Any, Any], Request]:
    """A commit, but for its last call."""
    held, file = named(number, task.every), task.file
    if len(held) == 1:
        ((table, names),) = held.items()
        return COMMIT, _staged(planner, table, names, file)
    txn = planner.call(BEGIN, BeginTransaction())
    within = {"transaction_id": txn.transaction_id}
    version = txn.transaction_version
    for table, names in held.items():
        request = _staged(planner, table, names, file, **within, transaction_version=version)
        request = msgspec.structs.replace(request, transaction_version=version + 1)
        version = planner.call(COMMIT, request).transaction_version or 0
    # Somebody else commits meanwhile: the transaction has to look whether that conflicts.
    aside = {"number": number}
    planner.call(ALTER_NAMESPACE, AlterNamespace(namespace=ASIDE, properties=aside))
    last = CommitTransaction(
        **within, transaction_version=version, operation_id=f"op-{txn.transaction_id}"
    )
    return COMMIT_TRANSACTION, last


# Any: the transaction's fields.
def _staged(
    planner: EmbeddedPlanner, table: str, names: list[str], file: str, **within: Any
) -> CommitRequest:
    mode: Any = "replace" if table == "r" else "add"
    request = StageRequest(namespace=NAMESPACE, table=table, mode=mode, **within)
    return commit_number(planner.call(STAGE, request), names, file)


def commit_number(session: Any, names: list[str], file: str) -> CommitRequest:
    """Stage a link to the file under each name, and ask to commit them."""
    os.makedirs(session.data_dir)
    entries = []
    for name in names:
        path = f"{session.data_dir}/{name}.parquet"
        os.link(file, path)
        entries.append(WriteEntry(path, record_count=1))
    return CommitRequest(
        session_id=session.session_id,
        session_version=session.session_version,
        entries=entries,
        operation_id=f"op-{session.session_id}",
    )


class _End:
    """Ends this process without warning at a task's point, once it is armed."""

    def __init__(self, task: Task) -> None:
        self._point = task.point
        self._left = task.nth
        self.armed = False
        self._vfs: _Storage | None = None
        if task.point:
            apsw.connection_hooks.append(self._hook)
            self._vfs = _Storage(self)
            self._flush = os.fdatasync
            os.fdatasync = self._flushing
        if task.often:
            segments._RECORDS, segments._RUNS = 4, 3
            apsw.connection_hooks.append(lambda db: db.wal_autocheckpoint(10))

    def _hook(self, db: apsw.Connection) -> None:
        db.exec_trace = self._statement
        if self._point == "commit hook":
            db.set_commit_hook(self._committing)

    def _statement(self, cursor: object, statement: str, bindings: object) -> bool:
        self.passes(statement[: len(self._point)])
        return True

    def _committing(self) -> bool:
        self.passes("commit hook")
        return False

    # Any: what has a file's number, or is one.
    def _flushing(self, fd: Any) -> None:
        self.passes("before flush")
        self._flush(fd)
        self.passes("after flush")

    def passes(self, point: str, before: Callable[[], object] = lambda: None) -> None:
        """Die if this is the point; do something as the last thing."""
        if self.armed and self._point and point == self._point:
            self._left -= 1
            if not self._left:
                before()
                os.kill(os.getpid(), signal.SIGKILL)


class _Storage(apsw.VFS):
    """SQLite's own file system, with points to die at."""

    def __init__(self, end: _End) -> None:
        self._end = end
        super().__init__("dying", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's name
        return _StorageFile(self._end, name, flags)


class _StorageFile(apsw.VFSFile):
    def __init__(self, end: _End, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._end = end
        path = name if isinstance(name, str | None) else name.filename()
        self._is_log = str(path).endswith("-wal")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # SQLite's name
        half = bytes(data)[: len(data) // 2]
        write = super().xWrite
        self._end.passes(
            "torn write" if self._is_log else "checkpoint", lambda: write(half, offset)
        )
        write(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's name
        self._end.passes("before sync")
        super().xSync(flags)
        self._end.passes("after sync")


if __name__ == "__main__":
    _serve()
