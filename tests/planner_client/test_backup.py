"""Is a backup one moment of a catalog that is in use, and a catalog itself?"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import apsw
import pyarrow as pa
import pytest

from io_core.errors import CatalogRootError, RequestRejectedError
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.server.__main__ import main
from planner_client.server.auth_store import AuthStore
from planner_client.server.backup import backup
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.store import LEDGER
from planner_client.server.vacuum import vacuum
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from planner_client.catalog import Catalog

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    for x in range(3):
        found.catalog.write(pa.table({"x": [x]}), **WHERE)
    return found


@pytest.fixture
def planner(client: Client) -> EmbeddedPlanner:
    return EmbeddedPlanner(client.target)


def values(client: Client, **how: Any) -> list[int]:
    return sorted(client.catalog.read(**WHERE, **how).column("x").to_pylist())


@pytest.mark.parametrize("data", ["copy", "link"])
def test_a_copy_is_a_catalog_of_its_own(
    client: Client, planner: EmbeddedPlanner, tmp_path: Path, data: Any
) -> None:
    then_ns = time.time_ns()
    client.catalog.write(pa.table({"x": [9]}), **WHERE, mode="replace")
    report = backup(planner, tmp_path / "to" / "copy", data=data)
    assert (report.snapshot, report.data.files, report.external) == (4, 4, 0)
    client.catalog.write(pa.table({"x": [10]}), **WHERE)
    copy = Client(tmp_path / "to" / "copy", create=False)
    assert values(copy) == [9]
    assert values(copy, as_of=then_ns) == [0, 1, 2]
    copy.catalog.write(pa.table({"x": [11]}), **WHERE)
    assert (values(copy), values(client)) == ([9, 11], [9, 10])
    assert check(EmbeddedPlanner(copy.target), deep=True).findings == ()
    db = apsw.Connection(str(tmp_path / "to" / "copy" / LEDGER))
    assert db.pragma("journal_mode") == "wal"
    db.close()
    # The copied file is another one, the linked one the same.
    paths = (p for p in copy.catalog.plan(**WHERE).paths)
    links = {os.stat(path).st_nlink for path in paths}
    assert links == ({1} if data == "copy" else {1, 2})


def test_without_its_data_a_copy_is_the_ledger_alone(
    client: Client, planner: EmbeddedPlanner, tmp_path: Path
) -> None:
    backup(planner, tmp_path / "copy")
    assert os.listdir(tmp_path / "copy") == [LEDGER]
    copied = Client(tmp_path / "copy").catalog.plan(**WHERE)
    assert copied.snapshot_id == client.catalog.plan(**WHERE).snapshot_id


def test_keys_beside_data_files_are_copied_with_them(client: Client, tmp_path: Path) -> None:
    client.catalog.write(pa.table({"id": [1]}), namespace="ns", table="k", merge_keys=["id"])
    backup(EmbeddedPlanner(client.target), tmp_path / "copy", data="copy")
    (path,) = Client(tmp_path / "copy").catalog.plan(namespace="ns", table="k").paths
    assert os.path.exists(f"{path}.keys")


def test_nothing_is_overwritten_and_nothing_is_put_into_the_catalog(
    client: Client, planner: EmbeddedPlanner, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    for place in (tmp_path / "full", tmp_path, tmp_path / "full" / "thesis.txt", planner.root):
        with pytest.raises(CatalogRootError, match="a backup overwrites nothing"):
            backup(planner, place)
    with pytest.raises(CatalogRootError, match="is inside of the catalog"):
        backup(planner, planner.root / "data" / "copy")
    (tmp_path / "empty").mkdir()
    backup(planner, tmp_path / "empty")
    assert values(client) == [0, 1, 2]


def test_a_copy_that_fails_leaves_nothing_behind(
    client: Client, planner: EmbeddedPlanner, tmp_path: Path
) -> None:
    os.unlink(client.catalog.plan(**WHERE).paths[1])
    with pytest.raises(FileNotFoundError):
        backup(planner, tmp_path / "backups" / "copy", data="copy")
    assert os.listdir(tmp_path / "backups") == []
    with planner.store.read() as db:
        far = "SELECT count(*) FROM lease WHERE expires_ns > ?"
        assert db.execute(far, (time.time_ns() + 86_400 * 10**9,)).fetchone() == (0,)


def test_what_was_staged_does_not_go_on_in_the_copy(
    client: Client, planner: EmbeddedPlanner, tmp_path: Path
) -> None:
    session = client.catalog.stage(**WHERE)
    entries = OpenSink(client, session, "op").write(pa.table({"x": [5]}))
    transaction = client.catalog.transaction()
    bound = client.catalog.stage(**WHERE, transaction=transaction)
    more = OpenSink(client, bound, "op2").write(pa.table({"x": [6]}))
    client.catalog.commit(session=bound, entries=more, transaction=transaction)
    backup(planner, tmp_path / "copy", data="copy")
    copy = Client(tmp_path / "copy")
    with pytest.raises(RequestRejectedError, match="is ABORTED"):
        copy.catalog.commit(session=session, entries=entries)
    assert check(EmbeddedPlanner(copy.target)).findings == ()
    # Here both do.
    client.catalog.commit(session=session, entries=entries)
    transaction.commit()
    assert (values(client), values(copy)) == ([0, 1, 2, 5, 6], [0, 1, 2])


def test_users_are_copied_only_when_asked_for(
    client: Client, planner: EmbeddedPlanner, tmp_path: Path
) -> None:
    with pytest.raises(CatalogRootError, match="there are no users to copy"):
        backup(planner, tmp_path / "none", auth=True)
    token = AuthStore(planner.root).bootstrap()
    assert token is not None
    backup(planner, tmp_path / "without")
    assert os.listdir(tmp_path / "without") == [LEDGER]
    backup(planner, tmp_path / "with", auth=True)
    copied = tmp_path / "with" / "auth.sqlite"
    assert copied.stat().st_mode & 0o777 == 0o600
    assert AuthStore(tmp_path / "with").bootstrap() is None


def churn(catalog: Catalog, done: threading.Event) -> None:
    """Replace two tables again and again; at every snapshot both hold the same."""
    x = 0
    while not done.is_set():
        x += 1
        with catalog.transaction():
            for name in ("t", "other"):
                mode: Any = "auto" if name == "other" and x == 1 else "replace"
                catalog.write(pa.table({"x": [x]}), namespace="ns", table=name, mode=mode)


def test_a_copy_made_while_others_write_and_vacuum_is_one_moment(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    with serving(root) as url:
        remote = Client(url).catalog
        remote.write(pa.table({"x": [0]}), **WHERE, mode="create")
        done = threading.Event()

        writer = threading.Thread(target=churn, args=(remote, done))
        writer.start()
        planner = EmbeddedPlanner(root)
        copies = []
        for i in range(4):
            copies.append(tmp_path / f"copy{i}")
            backup(planner, copies[-1], data="copy")
            vacuum(planner, keep_ns=0, grace_ns=0)
        done.set()
        writer.join()
    for copy in copies:
        assert check(EmbeddedPlanner(copy), deep=True).findings == ()
        found = Client(copy).catalog
        if found.table_exists(namespace="ns", table="other"):
            both = [found.read(namespace="ns", table=t).to_pylist() for t in ("t", "other")]
            assert both[0] == both[1]


def test_the_command_copies_what_it_is_told(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["backup", "--catalog-root", client.target]
    assert main([*command, "--with-data", str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().out.startswith("copied snapshot 3 and 3 files")
    assert values(Client(tmp_path / "copy")) == [0, 1, 2]
    assert main([*command, "--link-data", str(tmp_path / "copy")]) == 2
    assert "a backup overwrites nothing" in capsys.readouterr().err
    os.unlink(client.catalog.plan(**WHERE).paths[0])
    assert main([*command, "--with-data", str(tmp_path / "other")]) == 2
    assert "error: nothing was copied: [Errno 2]" in capsys.readouterr().err
