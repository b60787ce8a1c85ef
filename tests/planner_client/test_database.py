"""Can everybody make and open one SQLite file at the same moment?"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import apsw
import pytest

from planner_client.server.auth_file import AUTH_FILE
from planner_client.server.database import Database, Form
from planner_client.server.store import LEDGER

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 4
THREADS = 2
CATALOGS = 60
OPEN = {
    LEDGER: "Store(root, create=True, clock_ns=time.time_ns).close()",
    AUTH_FILE: "AuthFile(root).close()",
}

# Opens what is below each directory it is told, from many threads; says what went wrong.
OPENING = f"""
import sys, threading, time
from pathlib import Path
from planner_client.server.auth_file import AuthFile
from planner_client.server.store import Store

def open_it(root, barrier, said):
    barrier.wait(timeout=60)
    try:
        OPEN
        said.append("open")
    except Exception as error:
        said.append(repr(error).replace(chr(10), " "))

for line in sys.stdin:
    said, barrier = [], threading.Barrier({THREADS})
    who = [
        threading.Thread(target=open_it, args=(Path(line.strip()), barrier, said))
        for _ in range({THREADS})
    ]
    for thread in who:
        thread.start()
    for thread in who:
        thread.join(timeout=120)
    print(";".join(said), flush=True)
"""

# Writes without patience.
WRITING = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
try:
    db.execute("INSERT INTO t VALUES (2)")
    print("written")
except apsw.Error as error:
    print(type(error).__name__)
"""


def fill(db: apsw.Connection) -> None:
    db.execute("CREATE TABLE t(x)")


FORM = Form("the test's file", 0x0DE1, 1, fill)


@pytest.mark.parametrize("name", [LEDGER, AUTH_FILE])
def test_many_threads_of_many_processes_make_a_file_at_once(tmp_path: Path, name: str) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPENING.replace("OPEN", OPEN[name])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    said: list[str] = []
    for number in range(CATALOGS):
        root = tmp_path / str(number)
        root.mkdir()
        for child in children:
            assert child.stdin is not None
            child.stdin.write(f"{root}\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            said += child.stdout.readline().strip().split(";")
    for child in children:
        child.communicate(timeout=120)
    assert set(said) == {"open"}
    assert len(said) == CATALOGS * PROCESSES * THREADS


@pytest.mark.parametrize("name", [LEDGER, AUTH_FILE])
def test_opening_another_one_drops_no_lock_of_this_process(tmp_path: Path, name: str) -> None:
    first = Database(tmp_path / name, FORM)
    write = [sys.executable, "-c", WRITING, str(tmp_path / name)]
    with first.locked() as db:
        db.execute("INSERT INTO t VALUES (1)")
        Database(tmp_path / name, FORM).close()
        tried = subprocess.run(write, capture_output=True, text=True, check=False)
        assert tried.stdout.strip() == "BusyError"
    tried = subprocess.run(write, capture_output=True, text=True, check=False)
    assert tried.stdout.strip() == "written"


def test_a_file_without_its_mode_is_brought_back_to_it(tmp_path: Path) -> None:
    Database(tmp_path / "one", FORM).close()
    db = apsw.Connection(str(tmp_path / "one"))
    db.pragma("journal_mode", "delete")
    db.close()
    opened = [Database(tmp_path / "one", FORM)]
    threads = [
        threading.Thread(target=lambda: opened.append(Database(tmp_path / "one", FORM)))
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(opened) == 1 + THREADS
    with opened[0].borrowed() as held:
        assert held.pragma("journal_mode") == "wal"
