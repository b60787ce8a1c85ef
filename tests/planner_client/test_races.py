"""Many processes write one table at once: does every append arrive once, and every loser learn of it?"""

from __future__ import annotations

import collections
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import ConcurrentModificationError
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.calls import new_operation
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
PROCESSES = 8
APPENDS = 50
SCHEME = {"keys": [{"key": ["p"]}]}
# Say that they are ready, and write once the line comes that starts them all.
APPENDING = f"""
import sys
import pyarrow as pa
from planner_client import Client
who, targets = int(sys.argv[1]), sys.argv[2:]
clients = [Client(target) for target in targets]
for client in clients:
    client.catalog.table_exists(namespace="ns", table="t")
print("ready", flush=True)
sys.stdin.readline()
for n in range({APPENDS}):
    client = clients[n % len(clients)]
    mode = "append" if n % 3 else "add"
    rows = pa.table({{"who": [who], "n": [n]}})
    client.catalog.write(rows, namespace="ns", table="t", mode=mode)
"""
UPSERTS = 5
# Adds one to every key of its partition, UPSERTS times; says how often it lost.
COUNTING = f"""
import sys
import pyarrow as pa
from io_core.errors import ConcurrentModificationError
from planner_client import Client
who, partition, target = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
client, lost = Client(target), 0
print("ready", flush=True)
sys.stdin.readline()
for n in range({UPSERTS}):
    while True:
        tx = client.transaction()
        held = client.catalog.read(
            namespace="ns", table="t", filter_predicate={{"eq": ["p", partition]}}, transaction=tx
        )
        rows = pa.table(
            {{
                "k": held.column("k"),
                "p": held.column("p"),
                "total": [v + 1 for v in held.column("total").to_pylist()],
            }}
        )
        client.catalog.write(rows, namespace="ns", table="t", mode="merge", transaction=tx)
        try:
            tx.commit()
            break
        except ConcurrentModificationError as error:
            assert error.code == "concurrent_modification", error.code
            lost += 1
print(lost, flush=True)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A root and the URL of a server that has it open too."""
    root = tmp_path_factory.mktemp("races") / "catalog"
    with serving(root) as url:
        yield root, url


def run_at_once(code: str, arguments: list[list[str]]) -> list[str]:
    """Run the code in processes that begin at one moment; what each printed at last."""
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *each], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        for each in arguments
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300) for process in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), [err for _, err in said]
    return [out.strip() for out, _ in said]


def test_of_appends_of_many_processes_none_fails_none_is_lost_and_none_is_twice(
    served: tuple[Path, str],
) -> None:
    root, url = served
    client = Client(root)
    schema = pa.schema([("who", pa.int64()), ("n", pa.int64())])
    client.catalog.create_table(**WHERE, schema=schema, auto_create_namespace=True)
    # A third by the server, a third by itself, a third in turns.
    targets = [[url], [str(root)], [str(root), url]]
    run_at_once(APPENDING, [[str(i), *targets[i % 3]] for i in range(PROCESSES)])
    wanted = {(who, n): 1 for who in range(PROCESSES) for n in range(APPENDS)}
    plans = []
    for each in (client, Client(root), Client(url)):
        rows = each.catalog.read(**WHERE).to_pylist()
        assert collections.Counter((row["who"], row["n"]) for row in rows) == wanted
        plans.append(each.catalog.plan(**WHERE))
    assert len({plan.snapshot_id for plan in plans}) == 1
    positions = plans[0].column("stream_position")
    assert len(set(positions)) == PROCESSES * APPENDS
    assert check(EmbeddedPlanner(root)).findings == ()
    client.catalog.drop_table(**WHERE)


def test_of_concurrent_upserts_each_loser_is_told_and_a_retry_succeeds(
    served: tuple[Path, str],
) -> None:
    root, url = served
    client = Client(root)
    start = pa.table({"k": [1, 2, 1, 2], "p": [0, 0, 1, 1], "total": [0] * 4})
    client.catalog.write(start, **WHERE, merge_keys=["k"], partition_scheme=SCHEME)
    # Three for partition 0, one for partition 1.
    places = [(0, url), (0, str(root)), (0, url), (1, str(root))]
    lost = run_at_once(COUNTING, [[str(i), str(p), t] for i, (p, t) in enumerate(places)])
    assert lost[3] == "0"
    rows = client.catalog.read(**WHERE).to_pylist()
    assert sorted((r["k"], r["p"], r["total"]) for r in rows) == [
        (1, 0, 3 * UPSERTS),
        (1, 1, UPSERTS),
        (2, 0, 3 * UPSERTS),
        (2, 1, UPSERTS),
    ]
    assert check(EmbeddedPlanner(root)).findings == ()
    client.catalog.drop_table(**WHERE)


def test_of_sessions_that_were_staged_together_exactly_one_commits(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"k": [0], "by": [0]}), **WHERE, merge_keys=["k"])
    barrier = threading.Barrier(6)
    outcomes: list[str] = []

    def upsert(by: int) -> None:
        session = client.catalog.stage(**WHERE, mode="merge")
        barrier.wait(timeout=60)
        try:
            rows = pa.table({"k": [0], "by": [by]})
            sink = OpenSink(client, session, new_operation())
            sink.run(lambda: sink.write(rows))
            outcomes.append("won")
        except ConcurrentModificationError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=upsert, args=(by,)) for by in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == ["concurrent_modification"] * 5 + ["won"]
    # Whoever lost reads again and writes with a new session.
    client.catalog.write(pa.table({"k": [0], "by": [7]}), **WHERE, mode="merge")
    assert client.catalog.read(**WHERE).column("by").to_pylist() == [7]
