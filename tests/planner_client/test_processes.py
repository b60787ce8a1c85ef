"""Can a notebook, a script and a server use one catalog at once, and a fork go on with its client?"""

from __future__ import annotations

import collections
import multiprocessing
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from planner_client import Client
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
PROCESSES = 4
APPENDS = 10
SCHEMA = pa.schema([("who", pa.string()), ("n", pa.int64())])

# Appends ten times, each a commit of its own, to the planner it is told.
APPENDING = f"""
import sys
import pyarrow as pa
from planner_client import Client
client, who = Client(sys.argv[1]), sys.argv[2]
for n in range({APPENDS}):
    client.catalog.write(pa.table({{"who": [who], "n": [n]}}), namespace="ns", table="t", mode="append")
"""


def make(client: Client) -> None:
    client.catalog.create_table(**WHERE, schema=SCHEMA, auto_create_namespace=True)


def append(client: Client, who: str, count: int = APPENDS) -> None:
    for n in range(count):
        client.catalog.write(pa.table({"who": [who], "n": [n]}), **WHERE, mode="append")


def written(client: Client) -> collections.Counter[tuple[str, int]]:
    rows = client.catalog.read(**WHERE).to_pylist()
    return collections.Counter((row["who"], row["n"]) for row in rows)


def test_processes_and_a_server_write_one_catalog_at_once_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    root = tmp_path / "catalog"
    notebook = Client(root)
    make(notebook)
    assert written(notebook) == {}
    with serving(root) as url:
        targets = [str(root)] * (PROCESSES - 1) + [url]
        children = [
            subprocess.Popen(
                [sys.executable, "-c", APPENDING, target, f"p{i}"],
                stderr=subprocess.PIPE,
                text=True,
            )
            for i, target in enumerate(targets)
        ]
        append(notebook, "notebook")
        failures = [child.communicate(timeout=300)[1] for child in children]
        assert [c.returncode for c in children] == [0] * PROCESSES, failures
        names = ["notebook", *(f"p{i}" for i in range(PROCESSES))]
        wanted = {(who, n): 1 for who in names for n in range(APPENDS)}
        assert written(notebook) == wanted
        assert written(Client(url)) == wanted
        assert written(Client(root)) == wanted
        plans = [client.catalog.plan(**WHERE) for client in (notebook, Client(url), Client(root))]
        assert len({p.snapshot_id for p in plans}) == 1
        positions = plans[0].column("stream_position")
        assert len(set(positions)) == len(positions) == APPENDS * (PROCESSES + 1)


def _appended_in_fork(client: Client, count: int) -> None:
    # Runs in the child: whatever goes wrong there becomes its exit code.
    # The parent writes on meanwhile.
    assert sum(written(client).values()) >= count
    append(client, "child", 3)


@pytest.mark.parametrize("way", ["embedded", "http"])
def test_a_forked_child_goes_on_with_the_same_client(tmp_path: Path, way: str) -> None:
    root = tmp_path / "catalog"
    make(Client(root))
    if way == "embedded":
        _fork_and_write(Client(root))
        return
    with serving(root) as url:
        _fork_and_write(Client(url))


def _fork_and_write(client: Client) -> None:
    append(client, "parent", 2)
    child = multiprocessing.get_context("fork").Process(target=_appended_in_fork, args=(client, 2))
    with warnings.catch_warnings():
        # Arrow's own threads run in this process, as in everybody's notebook.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    append(client, "parent too", 2)
    child.join(timeout=120)
    assert child.exitcode == 0
    append(client, "parent at last", 1)
    assert sum(written(client).values()) == 2 + 3 + 2 + 1
    assert set(written(client).values()) == {1}


def test_threads_share_a_client(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    make(client)
    threads = [threading.Thread(target=append, args=(client, f"t{i}", 5)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert written(client) == {(f"t{i}", n): 1 for i in range(4) for n in range(5)}
