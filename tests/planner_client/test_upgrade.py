"""Does a root of the last release go on under this one: its rows, its history, its writers?

`roots/format-1.tar.gz` was made by release 0.1.0. ns.p is partitioned by m: five commits of two
rows each, then m = 1 was replaced. ns.k has the key id: three rows, then id 2 was deleted. A session
that merges into ns.k is open.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pyarrow as pa
import pytest

from io_core.errors import CatalogRootError, PlannerUnavailableError
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.store import FORMAT_VERSION, LEDGER
from planner_client.server.vacuum import vacuum
from planner_client.transport import InProcessTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

# Any, here and below: keyword arguments of every call; JSON scalars.
PARTITIONED: dict[str, Any] = {"namespace": "ns", "table": "p"}
KEYED: dict[str, Any] = {"namespace": "ns", "table": "k"}
LAST_COMMIT_NS = 1795418259853923626
BEFORE_REPLACING_NS = 1795418259738187260
ARCHIVE = Path(__file__).parent / "roots" / "format-1.tar.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def pragma(root: Path, name: str) -> object:
    db = apsw.Connection(str(root / LEDGER))
    try:
        return db.pragma(name)
    finally:
        db.close()


def rows(client: Client, **how: Any) -> list[tuple[Any, ...]]:
    found = client.catalog.read(**PARTITIONED, **how).to_pylist()
    return sorted(
        (r["id"], r["m"], "nan" if math.isnan(r["x"]) else r["x"], r["s"], r["l"]) for r in found
    )


def pair(id: int, m: int) -> list[tuple[Any, ...]]:
    return [(id, m, 1.5, "a", [1]), (id + 1, m, "nan", None, [])]


NOW = sorted([*pair(0, 0), *pair(2, 0), *pair(4, 0), (99, 1, 7.0, "z", [1])])
THEN = sorted([*pair(0, 0), *pair(2, 0), *pair(4, 0), *pair(1, 1), *pair(3, 1)])


def is_whole(root: Path) -> bool:
    client = Client(root, create=False)
    keyed = client.catalog.read(**KEYED).sort_by("id").to_pylist()
    assert keyed == [{"id": 1, "v": "a"}, {"id": 3, "v": "c"}]
    return rows(client) == NOW and check(EmbeddedPlanner(root), deep=True).findings == ()


def test_rows_are_what_they_were_now_and_then(root: Path) -> None:
    assert pragma(root, "user_version") == 1
    client = Client(root, create=False)
    assert pragma(root, "user_version") == FORMAT_VERSION
    assert is_whole(root)
    assert rows(client, as_of=BEFORE_REPLACING_NS) == THEN
    assert client.catalog.read(**KEYED, as_of=LAST_COMMIT_NS).num_rows == 3


def test_plans_prune_by_the_old_statistics_and_name_the_old_snapshots(root: Path) -> None:
    plan = Client(root).catalog.plan
    found = plan(**PARTITIONED, filter_predicate={"gte": ["id", 4]})
    assert sorted(found.column("record_count")) == [1, 2]
    assert plan(**PARTITIONED, filter_predicate={"eq": ["m", 1]}).total_files == 1
    stats = plan(**PARTITIONED, include_stats=True)
    assert stats.column("min:id") == [0, 2, 4, 99]
    assert stats.column("null_count:s") == [1, 1, 1, 0]
    hashes = [
        bytes(row[0])
        for row in old_rows(root, "SELECT hash FROM file WHERE version_id = 1 AND end_seq IS NULL")
    ]
    whole = sum(int.from_bytes(h, "little") for h in hashes) % 2**128
    assert plan(**PARTITIONED).snapshot_id == f"{whole:032x}"


def old_rows(root: Path, query: str) -> list[Any]:
    """What the ledger in the archive says."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root.parent / "again", filter="data")
    db = apsw.Connection(str(root.parent / "again" / LEDGER))
    try:
        return list(db.execute(query))
    finally:
        db.close()


def test_writes_go_on(root: Path) -> None:
    client = Client(root)
    catalog = client.catalog
    catalog.write(pa.table({"id": [1, 4], "v": ["A", "d"]}), **KEYED)
    catalog.write(pa.table({"id": [3]}), **KEYED, mode="delete")
    found = catalog.read(**KEYED).sort_by("id").to_pylist()
    assert found == [{"id": 1, "v": "A"}, {"id": 4, "v": "d"}]
    more = pa.table({"id": [7], "m": [0], "x": [0.5], "s": ["n"], "l": [[2]]})
    catalog.write(more, **PARTITIONED)
    catalog.write(more, **PARTITIONED, mode="replace_partition")
    assert rows(client) == [(7, 0, 0.5, "n", [2]), (99, 1, 7.0, "z", [1])]
    catalog.rollback_table(**PARTITIONED, as_of=BEFORE_REPLACING_NS)
    assert rows(client) == THEN
    positions = catalog.plan(**PARTITIONED).column("stream_position")
    assert positions == [2, 4, 6, 3, 5]
    assert check(EmbeddedPlanner(root), deep=True).findings == ()


def test_an_open_session_goes_on(root: Path) -> None:
    planner = EmbeddedPlanner(root, clock_ns=lambda: LAST_COMMIT_NS + 60 * 10**9)
    catalog = Catalog(InProcessTransport(planner), None)
    (session_id,) = (
        row[0]
        for row in old_rows(root, "SELECT session_id FROM write_session WHERE status = 'OPEN'")
    )
    session = catalog.get_write_session(session_id)
    assert (session.status, session.mode, session.merge_keys) == ("OPEN", "merge", ["id"])
    catalog.heartbeat(session=session)
    assert catalog.commit(session=session, entries=[]).status == "COMMITTED"


def test_a_repeated_operation_of_before_returns_its_first_result(root: Path) -> None:
    ((operation_id, response),) = old_rows(
        root, "SELECT operation_id, response FROM operation WHERE endpoint = 'commit' LIMIT 1"
    )
    Client(root)
    db = apsw.Connection(str(root / LEDGER))
    kept = "SELECT response FROM operation WHERE operation_id = ?"
    assert db.execute(kept, (operation_id,)).fetchone() == (response,)
    db.close()


def test_vacuum_takes_what_was_replaced_before(root: Path) -> None:
    planner = EmbeddedPlanner(root)
    assert vacuum(planner, keep_ns=0, grace_ns=0).expired.files == 2
    assert is_whole(root)


# Opens a catalog; at a statement that begins so, it is killed, or says that it got there.
OPENING = """
import os, signal, sys
import apsw
from planner_client import Client
root, statement, what = sys.argv[1:]
def trace(cursor, sql, bindings):
    if sql.startswith(statement):
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        print("upgrades", flush=True)
    return True
apsw.connection_hooks.append(lambda db: db.set_exec_trace(trace))
print("ready", flush=True)
sys.stdin.readline()
Client(root, create=False)
"""


def opening(root: Path, statement: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPENING, str(root), statement, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "statement", ["INSERT INTO meta", "INSERT INTO segment", "DROP TABLE old_file", "COMMIT"]
)
def test_a_crash_in_the_middle_leaves_the_old_root(root: Path, statement: str) -> None:
    with opening(root, statement, "die") as child:
        child.communicate("\n")
    assert child.returncode == -9
    assert pragma(root, "user_version") == 1
    assert pragma(root, "integrity_check") == "ok"
    assert is_whole(root)
    assert pragma(root, "user_version") == FORMAT_VERSION


@pytest.fixture
def full_disk() -> Iterator[list[str]]:
    """While the list names a statement, the disk is full at it."""
    statements: list[str] = []

    # Any: apsw's cursor and bindings.
    def trace(_cursor: Any, sql: str, _bindings: Any) -> bool:
        if any(sql.startswith(s) for s in statements):
            raise apsw.FullError("database or disk is full")
        return True

    def hook(db: apsw.Connection) -> None:
        db.set_exec_trace(trace)

    apsw.connection_hooks.append(hook)
    yield statements
    apsw.connection_hooks.remove(hook)


def test_a_full_disk_leaves_the_old_root(root: Path, full_disk: list[str]) -> None:
    full_disk.append("INSERT INTO segment")
    with pytest.raises(PlannerUnavailableError, match="disk is full; nothing was changed"):
        Client(root)
    assert pragma(root, "user_version") == 1
    full_disk.clear()
    assert is_whole(root)


def test_of_several_that_open_it_at_once_one_upgrades(root: Path) -> None:
    children = [opening(root, "ALTER TABLE tbl", "tell") for _ in range(3)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert sorted(said) == ["", "", "upgrades\n"]
    assert is_whole(root)


def test_a_newer_format_is_refused_and_left_alone(root: Path) -> None:
    db = apsw.Connection(str(root / LEDGER))
    db.pragma("user_version", FORMAT_VERSION + 1)
    db.close()
    before = (root / LEDGER).read_bytes()
    with pytest.raises(CatalogRootError, match="was made by a newer release"):
        Client(root)
    assert (root / LEDGER).read_bytes() == before
