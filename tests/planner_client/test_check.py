"""Does check find what is wrong with a catalog, and nothing where nothing is?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from io_core.deletes import encode
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.store import LEDGER

if TYPE_CHECKING:
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
SCHEMA = pa.schema([("p", pa.int64()), ("x", pa.int64())])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with some of everything: partitions, ended ones, sessions, a transaction."""
    folder = tmp_path_factory.mktemp("made")
    client = Client(folder / "catalog")
    catalog = client.catalog
    catalog.create_table(
        **WHERE,
        schema=SCHEMA,
        partition_scheme={"keys": [{"key": ["p"]}]},
        auto_create_namespace=True,
    )
    for i in range(70):
        catalog.write(pa.table({"p": [i % 3], "x": [i]}), **WHERE)
    catalog.write(pa.table({"p": [1], "x": [7]}), **WHERE, mode="replace_partition")
    catalog.write(pa.table({"p": [2], "x": [8]}), **WHERE)
    keyed: dict[str, Any] = {"namespace": "ns", "table": "k"}
    catalog.write(pa.table({"id": [1, 2]}), **keyed, merge_keys=["id"])
    catalog.write(pa.table({"id": [1]}), **keyed, mode="delete")
    catalog.rename_table(**keyed, new_name="keyed")
    transaction = catalog.transaction()
    session = catalog.stage(**WHERE, transaction=transaction)
    entries = OpenSink(client, session, "op").write(pa.table({"p": [9], "x": [9]}))
    catalog.commit(session=session, entries=entries, transaction=transaction)
    catalog.stage(**WHERE)
    client.close()
    return folder / "catalog"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    shutil.copytree(made, tmp_path / "catalog")
    return tmp_path / "catalog"


def findings(root: Path, *, deep: bool = False) -> tuple[str, ...]:
    return check(EmbeddedPlanner(root, create=False), deep=deep).findings


def spoil(root: Path, *statements: str) -> None:
    db = apsw.Connection(str(root / LEDGER))
    for statement in statements:
        db.execute(statement)
    db.close()


def a_file(root: Path) -> str:
    return Client(root).catalog.plan(**WHERE).paths[0]


def test_a_sound_catalog_has_no_findings(root: Path) -> None:
    report = check(EmbeddedPlanner(root), deep=True)
    assert report.findings == ()
    assert report.files == 74
    assert report.unreferenced.files == 0


def test_files_that_nothing_refers_to_are_counted_and_no_fault(root: Path) -> None:
    (root / "data" / "left.parquet").write_bytes(b"12345")
    report = check(EmbeddedPlanner(root))
    assert report.findings == ()
    assert (report.unreferenced.files, report.unreferenced.size) == (1, 5)


def test_a_missing_file_is_found(root: Path) -> None:
    path = a_file(root)
    os.unlink(path)
    assert findings(root) == (f"{path}: No such file or directory",)


def test_a_file_of_another_size_is_found(root: Path) -> None:
    path = a_file(root)
    with open(path, "ab") as file:
        file.write(b"x")
    (found,) = findings(root)
    assert found.startswith(f"{path}: has ")


def test_a_directory_in_the_place_of_a_file_is_found(root: Path) -> None:
    path = a_file(root)
    os.unlink(path)
    os.mkdir(path)
    assert findings(root) == (f"{path}: is a directory",)


def test_damage_within_a_file_is_found_by_looking_into_it(root: Path) -> None:
    path = a_file(root)
    with open(path, "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"12345678")
    assert findings(root) == ()
    (found,) = findings(root, deep=True)
    assert found.startswith(f"{path}: is damaged: ")


def test_a_file_of_other_rows_is_found_by_looking_into_it(root: Path) -> None:
    client = Client(root)
    table: dict[str, Any] = {"namespace": "ns", "table": "padded"}
    session = client.catalog.stage(**table, mode="create", create_if_missing={"schema_def": None})
    os.makedirs(session.data_dir)
    path = f"{session.data_dir}/a.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), path)
    client.commit(session=session, entries=[{"path": path, "record_count": 3}])  # type: ignore[list-item]
    assert findings(root) == ()
    assert findings(root, deep=True) == (f"{path}: has 2 rows, was committed with 3",)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE revision SET committed_ns = 5 WHERE seq = 9", "snapshot 9 was committed no later"),
        ("DELETE FROM meta WHERE key = 'catalog_id'", "meta lacks catalog_id"),
        ("INSERT INTO meta VALUES ('horizon', '9999')", "the horizon is 9999, but the latest"),
        ("DELETE FROM table_schema WHERE version_id = 1", "table version 1 has no schema"),
        ("DELETE FROM table_version WHERE version_id = 1", "segments of table version 1, which"),
        ("DELETE FROM namespace", "tbl row 1 is live in namespace 1, which is not"),
        ("UPDATE partition SET end_seq = 1 WHERE partition_id = 3", "partition row 3 ends before"),
        ("UPDATE tbl SET begin_seq = 999 WHERE row_id = 1", "tbl has begin_seq 999, which is no"),
        (
            "UPDATE tbl SET name = 't' WHERE name = 'keyed'",
            "the name of table '1.t' is there twice",
        ),
        ("UPDATE tbl SET end_seq = NULL", "table 2 is there twice at snapshot"),
        (
            "INSERT INTO partition SELECT 99, 'u', 1, '[0]', 1, NULL",
            "partition '1 [0]' is there twice",
        ),
        ("UPDATE write_session SET status = 'HALF'", "has status 'HALF'"),
        ("UPDATE write_session SET session_version = 9", "is not what its row says"),
        ("UPDATE write_session SET body = x'7b'", "cannot be read: Input data was truncated"),
        ("UPDATE write_session SET base_seq = 999", "write_session has base_seq 999, but the"),
        ("DELETE FROM txn", "operations of transaction tx_"),
        ("UPDATE txn SET status = 'ABORTED'", "is ATTACHED, but its transaction tx_"),
        ("UPDATE txn SET status = 'ABORTED'", "is ABORTED since no time"),
        ("UPDATE txn_operation SET number = 3", "are not numbered from 1 on"),
        ("UPDATE operation SET response = x'78'", "is no JSON"),
        ("UPDATE change SET body = x'78' WHERE seq = 2", "a change of snapshot 2 cannot be read"),
        ("UPDATE table_schema SET arrow = x'78'", "schema 0 of table version 1 cannot be read"),
        ("UPDATE table_version SET partition_scheme = 'x'", "a scheme of table version 1 cannot"),
        ("DELETE FROM segment WHERE name = 'path'", "segments of path do not meet at file 64"),
        ("DELETE FROM segment WHERE name = 'hash'", "segments of hash do not meet at file 64"),
        ("UPDATE segment SET first = 999 WHERE name = '*' AND first = 66", "do not meet at file"),
        ("UPDATE segment SET files = 1 WHERE name = 'core'", "the segment core of file 0 holds"),
        ("UPDATE segment SET body = x'78' WHERE name = 'core'", "segment core of file 0 cannot be"),
        ("UPDATE segment SET body = x'78' WHERE name = '*'", "of file 64 cannot be read"),
        ("UPDATE segment SET encoding = 'new' WHERE name = 'path'", "upgrade deltacat-sources"),
        ("DELETE FROM partition WHERE partition_id = 1", "is of partition 1, which does not exist"),
        ("INSERT INTO kill VALUES (99, 1, 999, 1, 0, x'')", "dead rows of file 999, which does"),
        ("INSERT INTO kill VALUES (99, 1, 0, 1, 0, x'78')", "dead rows of file 0 at snapshot 1"),
        ("INSERT INTO killed VALUES (1, 999, 1)", "dead rows are known of partition 999"),
        ("UPDATE partition SET begin_seq = 60 WHERE partition_id = 1", "outside of its partition"),
    ],
)
def test_every_broken_rule_is_found(root: Path, statement: str, problem: str) -> None:
    assert findings(root) == ()
    spoil(root, statement)
    found = findings(root)
    assert any(problem in text for text in found), found


# Any: JSON scalars.
@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("size", [1], "with 1 bytes and 1 rows does not have its hash"),
        ("path", ["data/other"], "file data/other with"),
        ("hash", b"0" * 16, "does not have its hash"),
        ("rows", [1, 2], "holds columns of [1, 2] files, not 1"),
        ("profile", ["{}"], "what files share cannot be read"),
    ],
)
def test_a_spoiled_record_of_files_is_found(
    root: Path, field: str, value: Any, problem: str
) -> None:
    db = apsw.Connection(str(root / LEDGER))
    segment_id, body = db.execute(
        "SELECT segment_id, body FROM segment WHERE name = '*' AND version_id = 1"
        " ORDER BY first DESC LIMIT 1"
    ).fetchone()
    record = msgspec.msgpack.decode(body) | {field: value}
    statement = "UPDATE segment SET body = ? WHERE segment_id = ?"
    db.execute(statement, (msgspec.msgpack.encode(record), segment_id))
    db.close()
    found = findings(root)
    assert any(problem in text for text in found), found


def test_a_ledger_whose_pages_are_damaged_is_found(root: Path) -> None:
    spoil(root, "PRAGMA wal_checkpoint(TRUNCATE)")
    with (root / LEDGER).open("r+b") as file:
        file.seek(4096 * 6)
        file.write(b"\xff" * 4096 * 3)
    found = findings(root)
    assert found
    assert all(text.startswith("SQLite") for text in found)


def test_the_command_exits_with_1_where_something_is_wrong(root: Path) -> None:
    command = [sys.executable, "-m", "planner_client.server", "check", "--catalog-root", str(root)]
    sound = subprocess.run([*command, "--deep"], capture_output=True, text=True, check=False)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.startswith("sound: the ledger, and 74 files")
    os.unlink(a_file(root))
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stdout.startswith("wrong: ")


def test_dead_rows_that_were_lost_are_found_by_reading_the_keys(root: Path) -> None:
    spoil(root, "DELETE FROM kill")
    assert findings(root) == ()
    (found,) = findings(root, deep=True)
    assert found.startswith("ns.keyed, partition ")
    assert "the dead rows that are known are not those that a merge finds" in found
    spoil(root, "DELETE FROM killed")
    assert findings(root, deep=True) == ()


def test_a_living_row_that_is_said_to_be_dead_is_found_by_reading_the_keys(root: Path) -> None:
    both = encode(np.array([0, 1]), 2).hex()
    spoil(root, f"UPDATE kill SET body = x'{both}', whole = 1")
    (found,) = findings(root, deep=True)
    assert found.startswith("ns.keyed, partition ")
