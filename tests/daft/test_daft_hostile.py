"""Whether what cannot work is refused by name, and leaves neither rows nor files."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import daft
import numpy as np
import pyarrow as pa
import pytest
from daft import DataType, col

from deltacat_sources.daft import read_deltacat, write_deltacat
from io_core.errors import ConcurrentModificationError, DeltaCATError, SchemaValidationError
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Any: what no type checker would let a caller pass.
WRONG: list[Any] = [
    *(5, -1, 0, 1.5, float("nan"), 2**70, True, b"x", "", "a/b", "\0", "\ud800"),
    *([], ["zz"], [5], (), {}, {1: 2}, {"a": object()}, object(), len, pa.table({"x": [1]})),
]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    write_deltacat(daft.from_pydict({"id": [1, 2]}), "ns.t", planner=found, merge_keys="id")
    return found


@pytest.mark.parametrize("call", [read_deltacat, write_deltacat], ids=lambda call: call.__name__)
def test_a_wrong_argument_is_refused_by_an_error_that_names_it(
    client: Client, call: Callable[..., Any]
) -> None:
    right = {"df": daft.from_pydict({"id": [3]}), "table": "ns.t", "planner": client}
    taken = inspect.signature(call).parameters
    failures = []
    for name in taken:
        for value in WRONG:
            arguments = {key: one for key, one in right.items() if key in taken} | {name: value}
            try:
                found = call(**arguments)
                _ = found.to_pydict() if call is read_deltacat else found
            except DeltaCATError:
                pass
            except ValueError as error:
                failures += [] if name == "table" else [f"{name}={value!r:.40}: {error!r}"]
            except Exception as error:  # noqa: BLE001  # any other is what is looked for
                failures.append(f"{name}={value!r:.40}: {error!r}")
    assert not failures, "\n".join(failures)


# A table, and what it cannot take.
FRAMES: dict[str, tuple[str, Callable[[], daft.DataFrame]]] = {
    "no columns": ("new", lambda: daft.from_pydict({})),
    "Python's objects": ("new", lambda: daft.from_pydict({"id": [object()]})),
    "an embedding": (
        "new",
        lambda: daft.from_pydict({"id": [[1.0, 2.0]]}).select(
            col("id").cast(DataType.embedding(DataType.float32(), 2))
        ),
    ),
    "tensors of many shapes": (
        "new",
        lambda: daft.from_pydict({"id": [np.ones((2, 2)), np.ones((3, 1))]}),
    ),
    "nothing in a struct": ("new", lambda: daft.from_pydict({"id": [{}]})),
    "a text for a number": ("t", lambda: daft.from_pydict({"id": ["a"]})),
    "a fraction for a number": ("t", lambda: daft.from_pydict({"id": [1.5]})),
    "too large a number": (
        "t",
        lambda: daft.from_arrow(pa.table({"id": pa.array([2**63], pa.uint64())})),
    ),
    "no key": ("t", lambda: daft.from_pydict({"other": [1]})),
    "nulls of no type": ("t", lambda: daft.from_pydict({"id": [None]})),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_cannot_be_written_leaves_nothing(
    client: Client, tmp_path: Path, name: str
) -> None:
    table, frame = FRAMES[name]
    before = on_disk(tmp_path)
    with pytest.raises(SchemaValidationError, match=r"column|rows lack"):
        write_deltacat(frame(), f"ns.{table}", planner=client)
    assert on_disk(tmp_path) == before
    assert sorted(read_deltacat("ns.t", planner=client).to_pydict()["id"]) == [1, 2]
    assert not client.catalog.table_exists(namespace="ns", table="new")


def on_disk(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.suffix in (".parquet", ".keys")}


def test_null_is_a_key_like_any_other(client: Client) -> None:
    for _ in range(2):
        rows = daft.from_arrow(pa.table({"id": pa.array([None, 2], pa.int64())}))
        write_deltacat(rows, "ns.t", planner=client)
    assert sorted(map(str, read_deltacat("ns.t", planner=client).to_pydict()["id"])) == [
        "1",
        "2",
        "None",
    ]


def test_a_frame_of_no_rows_changes_no_row(client: Client) -> None:
    none = daft.from_pydict({"id": [1]}).where(daft.lit(False))
    for mode in ("auto", "merge", "delete"):
        assert write_deltacat(none, "ns.t", planner=client, mode=mode).total_records == 0
    assert sorted(read_deltacat("ns.t", planner=client).to_pydict()["id"]) == [1, 2]


def test_a_thousand_partitions_are_a_thousand_files(client: Client) -> None:
    ids = daft.range(1_000)
    written = write_deltacat(ids, "ns.many", planner=client, partition_by="id")
    assert (written.files_registered, written.total_records) == (1_000, 1_000)
    frame = read_deltacat("ns.many", planner=client)
    assert frame.where(col("id") == 777).to_pydict() == {"id": [777]}
    assert frame.agg(col("id").sum()).to_pydict() == {"id": [sum(range(1_000))]}


def test_an_interrupt_while_rows_are_written_leaves_nothing(client: Client, tmp_path: Path) -> None:
    before = on_disk(tmp_path)

    @daft.func
    def interrupted(x: int) -> int:
        if x == 70_000:
            os.kill(os.getpid(), signal.SIGINT)
        return x

    rows = daft.range(200_000).select(interrupted(col("id")).alias("id"))
    with pytest.raises(KeyboardInterrupt):
        write_deltacat(rows, "ns.t", planner=client, max_rows_per_file=1_000)
    assert on_disk(tmp_path) == before
    assert sorted(read_deltacat("ns.t", planner=client).to_pydict()["id"]) == [1, 2]


_IN_A_THREAD = """
import os, signal, sys, threading
import daft
from deltacat_sources.daft import write_deltacat
from planner_client import Client

client, is_done = Client(sys.argv[1]), threading.Event()

@daft.func
def interrupted(x: int) -> int:
    if x == 70_000:
        os.kill(os.getpid(), signal.SIGINT)
    return x

def write():
    rows = daft.range(200_000).select(interrupted(daft.col("id")).alias("id"))
    try:
        if sys.argv[2] == "sink":
            write_deltacat(rows, "ns.t", planner=client, mode="replace")
        else:
            client.catalog.write(
                rows, namespace="ns", table="t", mode="replace", format="feather"
            )
        print("written", flush=True)
    except KeyboardInterrupt as error:
        print(error, flush=True)
    is_done.set()

threading.Thread(target=write, daemon=True).start()
while not is_done.is_set():
    try:
        is_done.wait(60)
    except KeyboardInterrupt:
        pass
os._exit(0)
"""


@pytest.mark.parametrize("way", ["sink", "client"])
def test_an_interrupt_of_a_write_in_a_thread_is_no_end_of_its_rows(
    client: Client, tmp_path: Path, way: str
) -> None:
    before = on_disk(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", _IN_A_THREAD, client.target, way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Daft ended the query before its last row" in done.stdout, done.stdout + done.stderr
    assert on_disk(tmp_path) == before
    assert sorted(read_deltacat("ns.t", planner=client).to_pydict()["id"]) == [1, 2]


@pytest.mark.parametrize("keys", [[], ["id"]], ids=["plain", "keyed"])
def test_of_several_writers_at_once_each_writes_all_of_its_rows_or_none(
    client: Client, tmp_path: Path, keys: list[str]
) -> None:
    schema = pa.schema([("id", pa.int64())])
    client.catalog.create_table(namespace="ns", table="many", schema=schema, merge_keys=keys)

    def written(first: int) -> set[int]:
        ids = list(range(first, first + 10))
        try:
            write_deltacat(daft.from_pydict({"id": ids}), "ns.many", planner=Client(client.target))
        except ConcurrentModificationError:
            return set()
        return set(ids)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(written, range(0, 80, 10), timeout=120))
    found = read_deltacat("ns.many", planner=client).to_pydict()["id"]
    assert sorted(found) == sorted(set[int]().union(*done))
    assert found
    assert all(done) or keys
    named = {os.path.basename(path) for path in plan_paths(client)}
    staged = {p.name for p in on_disk(tmp_path) if p.suffix == ".parquet"}
    assert named <= staged
    assert len(staged) == len(named) + 1


def plan_paths(client: Client) -> list[str]:
    return client.catalog.plan(namespace="ns", table="many").paths
