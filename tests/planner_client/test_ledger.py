"""Is the ledger what it says it is, and does it outlive a kill?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pyarrow as pa
import pytest

from io_core.errors import CatalogRootError
from planner_client import Client, connect
from planner_client.server.store import APPLICATION_ID, FORMAT_VERSION, LEDGER

if TYPE_CHECKING:
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS_PER_COMMIT = 3

# Commits until it is killed; says each number once its commit was acknowledged.
COMMITTING = f"""
import sys
import pyarrow as pa
from planner_client import Client
client = Client(sys.argv[1])
for i in range(int(sys.argv[2]), 10**9):
    rows = pa.table({{"i": [i] * {ROWS_PER_COMMIT}}})
    client.catalog.write(rows, namespace="ns", table="t", max_rows_per_file=1)
    print(i, flush=True)
"""


def pragma(root: Path, name: str) -> object:
    db = apsw.Connection(str(root / LEDGER))
    try:
        return db.pragma(name)
    finally:
        db.close()


def test_the_ledger_carries_its_format_and_its_project(tmp_path: Path) -> None:
    root = tmp_path / "new" / "catalog"
    Client(root)
    assert pragma(root, "user_version") == FORMAT_VERSION == 2
    assert pragma(root, "application_id") == APPLICATION_ID
    assert pragma(root, "journal_mode") == "wal"


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.close()
    db = apsw.Connection(str(tmp_path / "catalog" / LEDGER))
    db.pragma("user_version", FORMAT_VERSION + 1)
    db.close()
    with pytest.raises(
        CatalogRootError, match=r"newer release \(the ledger of format 3.*: upgrade"
    ):
        Client(tmp_path / "catalog")
    assert pragma(tmp_path / "catalog", "user_version") == FORMAT_VERSION + 1


@pytest.mark.parametrize("statement", ["CREATE TABLE other(x)", "PRAGMA application_id = 77"])
def test_a_foreign_sqlite_file_is_refused_and_left_alone(tmp_path: Path, statement: str) -> None:
    db = apsw.Connection(str(tmp_path / LEDGER))
    db.execute(statement)
    db.close()
    before = (tmp_path / LEDGER).read_bytes()
    with pytest.raises(CatalogRootError, match="is not the ledger of this project"):
        Client(tmp_path)
    assert (tmp_path / LEDGER).read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(b"text, and enough of it to be no header at all" * 10)
    with pytest.raises(CatalogRootError, match=r"ledger .*: file is not a database"):
        Client(tmp_path)


def test_a_ledger_that_was_never_filled_is_filled_now(tmp_path: Path) -> None:
    (tmp_path / LEDGER).touch()
    with pytest.raises(CatalogRootError, match=r"is not a catalog: catalog\.sqlite is empty"):
        connect(tmp_path)
    assert Client(tmp_path).catalog.list_namespaces() == []


def test_a_directory_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CatalogRootError, match=r"is not a catalog: it holds 'thesis.txt' but no"):
        Client(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    with pytest.raises(CatalogRootError, match="is no directory"):
        Client(tmp_path / "thesis.txt")


def test_connecting_makes_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(CatalogRootError, match="is not a catalog: no such directory"):
        connect(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogRootError, match="is not a catalog: it is empty"):
        connect(tmp_path / "empty")
    assert os.listdir(tmp_path / "empty") == []


@pytest.mark.parametrize("attempt", range(5))
def test_many_may_make_one_catalog_at_the_same_moment(tmp_path: Path, attempt: int) -> None:
    failed: list[Exception] = []
    barrier = threading.Barrier(6)

    def open_it() -> None:
        barrier.wait(timeout=60)
        try:
            Client(tmp_path / "catalog").catalog.list_namespaces()
        except CatalogRootError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert failed == []


def test_a_killed_writer_loses_no_commit_and_tears_none(tmp_path: Path) -> None:
    root, said = tmp_path / "catalog", 0
    watching = Client(root)
    watching.catalog.create_table(
        **WHERE, schema=pa.schema([("i", pa.int64())]), auto_create_namespace=True
    )
    for acknowledged in (1, 5, 3):
        command = [sys.executable, "-c", COMMITTING, str(root), str(said)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [int(child.stdout.readline()) for _ in range(acknowledged)]
            child.send_signal(signal.SIGKILL)
            # What it said before the kill reached it counts as well.
            lines += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        said = lines[-1] + 1
        found = watching.catalog.read(**WHERE).column("i").to_pylist()
        assert set(range(said)) <= set(found)
        assert {i: found.count(i) for i in found} == dict.fromkeys(found, ROWS_PER_COMMIT)
        assert len(set(found)) in (said, said + 1)
        said = len(set(found))
    assert pragma(root, "integrity_check") == "ok"
    watching.catalog.write(pa.table({"i": [said]}), **WHERE)


def test_the_ledger_keeps_what_later_releases_need(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"x": [1.0, float("nan")]}), **WHERE)
    db = apsw.Connection(str(tmp_path / "catalog" / LEDGER))
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"meta", "revision", "operation", "change", "segment", "write_session"} <= tables
    ((name, files, body),) = db.execute("SELECT name, files, body FROM segment").fetchall()
    assert (name, files) == ("*", 1)
    record = msgspec.msgpack.decode(body)
    assert record["path"][0].startswith("data/")
    assert len(record["hash"]) == 16
    (operations,) = db.execute("SELECT count(*) FROM operation").fetchone()
    assert operations == 2
    db.close()
    plan = client.catalog.plan(**WHERE, include_stats=True)
    assert plan.column("nan_count:x") == [1]
