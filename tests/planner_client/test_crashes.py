"""Does a commit that was acknowledged outlive every crash, whole and once; and one that was not?"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import apsw
import pyarrow as pa
import pytest
from hypothesis import settings

from io_core.errors import PlannerUnavailableError
from io_core.formats.parquet import write
from planner_client import Client
from planner_client.calls import new_operation
from planner_client.catalog import Catalog
from planner_client.protocol.writes import COMMIT, STAGE, StageRequest
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.store import LEDGER
from planner_client.transport import HttpTransport, InProcessTransport
from tests.committing import ASIDE, NAMESPACE, Ended, Nursery, Task, commit_number, files_after
from tests.memory import in_memory
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from io_core.model import WriteSession
    from planner_client.protocol.endpoint import Endpoint, Request

TABLES = ("t", "u", "r")
# "check" takes a first look only.
IS_QUICK = settings().max_examples < 60
COMMITS = 500 if IS_QUICK else 10_000
COMMITS_HTTP = 60 if IS_QUICK else 500
EVERY = 5
POINTS = [
    # Statements, in the order in which commits run them.
    "BEGIN IMMEDIATE",
    "SELECT body FROM write_session",
    "UPDATE partition SET end_seq",
    "INSERT INTO partition",
    "INSERT INTO segment",
    "DELETE FROM segment",
    "INSERT INTO revision",
    "INSERT INTO change",
    "INSERT OR REPLACE INTO write_session",
    "INSERT INTO operation",
    "SAVEPOINT replay",
    "ROLLBACK TO replay",
    "SAVEPOINT apply",
    "RELEASE apply",
    "UPDATE txn",
    "COMMIT",
    # What happens to the file.
    "commit hook",
    "torn write",
    "before sync",
    "after sync",
    "before flush",
    "after flush",
    "checkpoint",
    "answer",
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as found:
        yield found


@pytest.fixture
def file(place: Path) -> str:
    """A data file of one row."""
    path = str(place / "one.parquet")
    write(pa.table({"x": [1]}), path)
    return path


@pytest.fixture
def root(place: Path) -> Path:
    """A catalog of three empty tables, and of a namespace beside them."""
    client = Client(place / "catalog")
    for table in TABLES:
        client.catalog.create_table(
            namespace=NAMESPACE,
            table=table,
            schema=pa.schema([("x", pa.int64())]),
            auto_create_namespace=True,
        )
    client.catalog.create_namespace(namespace=ASIDE)
    client.close()
    return place / "catalog"


def names_in(catalog: Catalog, table: str) -> list[str]:
    paths = catalog.plan(namespace=NAMESPACE, table=table).paths
    return [path.rpartition("/")[2].removesuffix(".parquet") for path in paths]


def settle(root: Path, ended: Ended, count: int, every: int) -> int:
    """After a crash: nothing acknowledged is lost, nothing is torn, and what hung comes out once.

    Returns:
        How many commits there are now.
    """
    planner = EmbeddedPlanner(root)
    catalog = Catalog(InProcessTransport(planner), None)
    assert quick_check(root) == "ok"
    count = max([count, *(number + 1 for number in ended.acknowledged)])
    before = {table: names_in(catalog, table) for table in TABLES}
    possible = [files_after(count, every), files_after(count + 1, every)]
    assert {table: set(names) for table, names in before.items()} in possible
    if ended.in_flight is not None:
        assert ended.in_flight.number == count
        assert ended.in_flight.again(planner) == "COMMITTED"
        assert ended.in_flight.again(planner) == "COMMITTED"
        count += 1
    for table, wanted in files_after(count, every).items():
        names = names_in(catalog, table)
        assert (len(names), set(names)) == (len(wanted), wanted)
    planner.close()
    return count


def quick_check(root: Path) -> object:
    db = apsw.Connection(str(root / LEDGER))
    try:
        return db.pragma("quick_check")
    finally:
        db.close()


def assert_sound(root: Path) -> None:
    planner = EmbeddedPlanner(root)
    assert check(planner).findings == ()
    planner.close()


# --- the ledger in the process that dies ----------------------------------------------------------


def test_kills_at_random_lose_no_commit_and_tear_none(
    nursery: Nursery, root: Path, file: str
) -> None:
    choose = random.Random(7)
    count = acknowledged = rounds = 0
    while acknowledged < COMMITS:
        task = Task(str(root), file, count, every=20)
        ended = nursery.run(task, kill_after=choose.randint(1, 1000))
        assert ended.signal == signal.SIGKILL
        acknowledged += len(ended.acknowledged)
        count = settle(root, ended, count, 20)
        rounds += 1
    assert rounds > 1
    assert_sound(root)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_point_of_a_commit_leaves_all_of_it_or_nothing(
    nursery: Nursery, root: Path, file: str, point: str
) -> None:
    count, every = 0, EVERY
    for nth in (1, 3):
        task = Task(
            str(root), file, count, every=every, last=count + 200, point=point, nth=nth, often=True
        )
        ended = nursery.run(task)
        assert ended.signal == signal.SIGKILL, f"no commit passes {point!r}"
        count = settle(root, ended, count, every)
    # And it goes on.
    ended = nursery.run(Task(str(root), file, count, every=every, last=count + every))
    assert len(ended.acknowledged) == every
    settle(root, ended, count, every)
    assert_sound(root)


# --- a server that dies ---------------------------------------------------------------------------


class Committing(threading.Thread):
    """A client that commits again and again; each commit until it is told that it happened."""

    def __init__(self, url: str, file: str) -> None:
        super().__init__()
        self._transport = HttpTransport(url, headers={}, timeout_s=10)
        self._file = file
        # One for each commit that was acknowledged.
        self.acknowledged = threading.Semaphore(0)
        self.answers: list[str] = []
        self.repeats = 0

    def run(self) -> None:
        for number in range(COMMITS_HTTP):
            stage = StageRequest(
                namespace=NAMESPACE, table="t", mode="append", operation_id=new_operation()
            )
            session: WriteSession = self._until_answered(STAGE, stage)
            request = commit_number(session, [str(number)], self._file)
            self.answers.append(self._until_answered(COMMIT, request).status)
            self.acknowledged.release()

    # Any: each endpoint has its own response.
    def _until_answered(self, endpoint: Endpoint[Any, Any], request: Request) -> Any:
        while True:
            try:
                return self._transport.call(endpoint, request)
            except PlannerUnavailableError:
                self.repeats += 1


def test_a_server_that_is_killed_again_and_again_commits_each_write_once(
    root: Path, file: str
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    client = Committing(f"http://127.0.0.1:{port}", file)
    kills = 2 if IS_QUICK else 5
    client.start()
    for _ in range(kills):
        with served(root, "--port", str(port)) as server:
            for _ in range(COMMITS_HTTP // (kills + 1)):
                assert client.acknowledged.acquire(timeout=120), "no commit for two minutes"
            os.kill(server.process.pid, signal.SIGKILL)
    with served(root, "--port", str(port)):
        client.join(timeout=300)
    assert client.answers == ["COMMITTED"] * COMMITS_HTTP
    catalog = Client(root).catalog
    assert names_in(catalog, "t") == [str(number) for number in range(COMMITS_HTTP)]
    assert quick_check(root) == "ok"
    assert_sound(root)
