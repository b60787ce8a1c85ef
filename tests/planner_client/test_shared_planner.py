"""Whether clients of one directory share a planner, and none gets that of another catalog."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import os
import shutil
import weakref
from typing import TYPE_CHECKING

import apsw
import pyarrow as pa
import pytest

from io_core.errors import CatalogRootError
from planner_client import Client
from planner_client.server import shared
from planner_client.server.places import DataRoot
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.shared import SharedPlanner
from planner_client.server.store import FORMAT_VERSION, LEDGER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 120


@pytest.fixture(autouse=True)
def _nothing_opened() -> Iterator[None]:
    shared._OPENED.clear()
    yield
    shared._OPENED.clear()


def planner_of(part: SharedPlanner) -> EmbeddedPlanner:
    return part._held.planner


def names(client: Client) -> list[str]:
    return [found.name for found in client.catalog.list_namespaces()]


def make(root: Path, name: str) -> None:
    with Client(root) as client:
        client.catalog.create_namespace(namespace=name)


def test_clients_of_one_directory_share_its_planner_however_they_call_it(tmp_path: Path) -> None:
    one = SharedPlanner(str(tmp_path / "c"), create=True)
    os.symlink(tmp_path / "c", tmp_path / "link")
    for name in (f"{tmp_path}/c", f"{tmp_path}/x/../c", f"{tmp_path}/link", f"file://{tmp_path}/c"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert planner_of(SharedPlanner(name, create=False)) is planner_of(one), name


def test_a_planner_outlives_the_client_that_opened_it(tmp_path: Path) -> None:
    held = planner_of(SharedPlanner(str(tmp_path / "c"), create=True))
    gc.collect()
    assert planner_of(SharedPlanner(str(tmp_path / "c"), create=False)) is held


def test_the_last_client_that_closes_closes_the_planner(tmp_path: Path) -> None:
    one, other = (SharedPlanner(str(tmp_path / "c"), create=True) for _ in range(2))
    database, place = planner_of(one).store._database, os.path.realpath(tmp_path / "c")
    one.close()
    assert database._idle
    assert place in shared._OPENED
    other.close()
    assert not database._idle
    assert place not in shared._OPENED
    assert not (tmp_path / "c" / f"{LEDGER}-wal").exists()


def test_a_client_that_was_closed_goes_on(tmp_path: Path) -> None:
    client = Client(tmp_path / "c")
    client.catalog.create_namespace(namespace="a")
    client.close()
    other = Client(tmp_path / "c")
    other.catalog.create_namespace(namespace="b")
    assert names(client) == ["a", "b"]
    other.close()
    assert names(client) == names(other) == ["a", "b"]


def test_few_planners_are_kept_that_nobody_uses(tmp_path: Path) -> None:
    seen = [
        weakref.ref(planner_of(SharedPlanner(str(tmp_path / f"{i}"), create=True)))
        for i in range(6)
    ]
    gc.collect()
    assert [found() is not None for found in seen] == [False, False, True, True, True, True]


def test_a_directory_that_was_made_anew_is_another_catalog(tmp_path: Path) -> None:
    make(tmp_path / "c", "old")
    client = Client(tmp_path / "c")
    assert names(client) == ["old"]
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(CatalogRootError, match="not a catalog"):
        Client(tmp_path / "c", create=False)
    for name in ("new", "newer"):
        make(tmp_path / "c", name)
        assert names(Client(tmp_path / "c")) == [name]
        shutil.rmtree(tmp_path / "c")


def test_a_ledger_of_a_newer_release_is_refused_although_it_is_open(tmp_path: Path) -> None:
    client = Client(tmp_path / "c")
    assert names(client) == []
    db = apsw.Connection(str(tmp_path / "c" / LEDGER))
    db.pragma("user_version", FORMAT_VERSION + 1)
    db.close()
    with pytest.raises(CatalogRootError, match="newer release"):
        Client(tmp_path / "c")


def test_a_catalog_whose_data_is_in_a_store_by_now_is_opened_anew(tmp_path: Path) -> None:
    root = str(tmp_path / "c")
    first = SharedPlanner(root, create=True)
    EmbeddedPlanner(root, data_root=DataRoot("s3://bucket/lake"))
    one, other = SharedPlanner(root, create=False), SharedPlanner(root, create=False)
    assert planner_of(first).place is None
    assert planner_of(one).place is not None
    assert planner_of(one) is not planner_of(other)


def test_a_frame_of_a_planner_that_was_shared_sees_every_commit(tmp_path: Path) -> None:
    rows = pa.table({"x": [1]})
    writer, reader = Client(tmp_path / "c"), Client(tmp_path / "c")
    for count in (1, 2, 3):
        writer.catalog.write(rows, namespace="n", table="t")
        assert reader.catalog.plan(namespace="n", table="t").total_records == count
        again = Client(tmp_path / "c")
        assert again.catalog.plan(namespace="n", table="t").total_records == count


def test_threads_open_use_and_close_one_directory_at_once(tmp_path: Path) -> None:
    make(tmp_path / "c", "a")

    def ask(number: int) -> list[str]:
        client = Client(tmp_path / "c")
        found = names(client)
        if number % 2:
            client.close()
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(64), timeout=WAIT_S))
    assert found == [["a"]] * 64


def _used_in_a_child(root: Path, client: Client) -> None:
    mine = Client(root)
    mine.catalog.create_namespace(namespace="b")
    assert names(mine) == names(client) == ["a", "b"]
    mine.close()


def test_a_forked_child_goes_on_with_connections_of_its_own(tmp_path: Path) -> None:
    make(tmp_path / "c", "a")
    client = Client(tmp_path / "c")
    assert names(client) == ["a"]
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_used_in_a_child, args=(tmp_path / "c", client))
    child.start()
    child.join(WAIT_S)
    assert child.exitcode == 0
    assert names(client) == names(Client(tmp_path / "c")) == ["a", "b"]
