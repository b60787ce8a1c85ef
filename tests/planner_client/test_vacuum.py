"""Does vacuum take every file that nobody needs, and never one that somebody does?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import DeltaCATError, NotFoundError, RequestRejectedError
from io_core.formats import parquet
from io_core.model import WriteEntry
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.server.check import check
from planner_client.server.maintenance import run_vacuum
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import DAY_NS, Amount, VacuumReport, vacuum
from planner_client.transport import InProcessTransport
from tests.serving import serving

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
SCHEMA = pa.schema([("p", pa.int64()), ("x", pa.int64())])
MINUTE_NS = 60 * 10**9
NOTHING = Amount()


class Clock:
    """A time that passes when it is told to; it begins now, so that files are of its time."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        # Each look at it is later than the one before.
        self.now_ns += 1000
        return self.now_ns

    def days(self, count: float) -> None:
        self.now_ns += round(count * DAY_NS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def planner(tmp_path: Path, clock: Clock) -> EmbeddedPlanner:
    return EmbeddedPlanner(tmp_path / "catalog", clock_ns=clock)


@pytest.fixture
def catalog(planner: EmbeddedPlanner) -> Catalog:
    """A table partitioned by p."""
    found = Catalog(InProcessTransport(planner), None)
    found.create_table(
        **WHERE,
        schema=SCHEMA,
        partition_scheme={"keys": [{"key": ["p"]}]},
        auto_create_namespace=True,
    )
    return found


def rows(*values: tuple[int, int]) -> pa.Table:
    return pa.table({"p": [p for p, _ in values], "x": [x for _, x in values]}, schema=SCHEMA)


def replace(catalog: Catalog, p: int, x: int) -> None:
    catalog.write(rows((p, x)), **WHERE, mode="replace_partition")


def on_disk(planner: EmbeddedPlanner) -> set[str]:
    return {str(p) for p in (planner.root / "data").rglob("*") if p.is_file()}


def read(catalog: Catalog, **how: Any) -> list[tuple[int, int]]:
    return sorted((r["p"], r["x"]) for r in catalog.read(**WHERE, **how).to_pylist())


def planned(catalog: Catalog, **how: Any) -> set[str]:
    return set(catalog.plan(**WHERE, **how).paths)


def sound(planner: EmbeddedPlanner) -> bool:
    return check(planner, deep=True).findings == ()


# --- what goes ------------------------------------------------------------------------------------


def test_files_go_that_only_expired_snapshots_show(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    for x in range(3):
        replace(catalog, 1, x)
        replace(catalog, 2, x)
    clock.days(8)
    replace(catalog, 1, 9)
    assert len(on_disk(planner)) == 7
    report = vacuum(planner)
    assert (report.expired.files, report.purged, report.abandoned) == (4, NOTHING, NOTHING)
    assert report.expired.size > 4 * 100
    assert report.expired_snapshots == 6
    # The state of a week ago can still be read.
    assert read(catalog, as_of=clock.now_ns - 7 * DAY_NS + 1) == [(1, 2), (2, 2)]
    assert read(catalog) == [(1, 9), (2, 2)]
    assert len(on_disk(planner)) == 3
    assert sound(planner)


def test_a_snapshot_that_expired_is_said_to_be_gone(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    then_ns = clock()
    replace(catalog, 1, 1)
    clock.days(8)
    vacuum(planner)
    for call in (catalog.read, catalog.plan):
        with pytest.raises(RequestRejectedError, match="snapshot 2 has expired") as caught:
            call(**WHERE, as_of=then_ns)
        assert (caught.value.code, caught.value.status) == ("snapshot_expired", 410)
    with pytest.raises(RequestRejectedError, match="has expired"):
        catalog.rollback_table(**WHERE, as_of=then_ns)
    assert read(catalog) == [(1, 1)]


def test_the_latest_snapshot_stays_however_old_it_is(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    clock.days(1000)
    assert vacuum(planner, keep_ns=0, grace_ns=0).expired == NOTHING
    assert read(catalog) == [(1, 0)]


def test_the_horizon_never_moves_back(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    for x in range(3):
        replace(catalog, 1, x)
    clock.days(1)
    assert vacuum(planner, keep_ns=0).horizon == 4
    assert vacuum(planner, keep_ns=365 * DAY_NS).horizon == 4


def test_keys_beside_a_data_file_go_with_it(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    keyed: dict[str, Any] = {"namespace": "ns", "table": "k"}
    catalog.write(pa.table({"id": [1, 2]}), **keyed, merge_keys=["id"])
    catalog.write(pa.table({"id": [3]}), **keyed, mode="replace")
    assert sum(path.endswith(".keys") for path in on_disk(planner)) == 2
    clock.days(8)
    assert vacuum(planner, grace_ns=10**6 * DAY_NS).expired.files == 2
    (path,) = catalog.plan(**keyed).paths
    assert on_disk(planner) == {path, f"{path}.keys"}


def test_a_purged_table_goes_at_once_and_a_dropped_one_stays_in_time(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    catalog.write(rows((1, 1)), namespace="ns", table="dropped")
    kept = set(catalog.plan(namespace="ns", table="dropped").paths)
    then_ns = clock()
    catalog.rename_table(**WHERE, new_name="later")
    catalog.drop_table(namespace="ns", table="dropped")
    catalog.drop_table(namespace="ns", table="later", purge=True)
    assert vacuum(planner).purged == NOTHING, "a plan still holds it"
    clock.days(1)
    assert vacuum(planner).purged.files == 1
    assert on_disk(planner) == kept
    assert catalog.read(namespace="ns", table="dropped", as_of=then_ns).num_rows == 1
    with pytest.raises(NotFoundError, match="its earlier snapshots are gone"):
        catalog.read(**WHERE, as_of=then_ns)
    assert sound(planner)


def test_what_was_staged_and_never_committed_goes_after_the_grace_time(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    aborted, expired = catalog.stage(**WHERE), catalog.stage(**WHERE)
    for session in (aborted, expired):
        OpenSink(catalog, session, "op").write(rows((1, 5)))
    catalog.abort(session=aborted)
    assert vacuum(planner).abandoned == NOTHING
    clock.days(0.9)
    young = vacuum(planner)
    assert (young.abandoned, young.recent.files) == (NOTHING, 2)
    clock.days(0.2)
    assert vacuum(planner).abandoned.files == 2
    assert on_disk(planner) == planned(catalog)
    assert not os.path.exists(aborted.data_dir)
    assert os.path.exists(os.path.dirname(aborted.data_dir))


def test_a_path_that_vacuum_took_cannot_be_committed(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    session = catalog.stage(**WHERE)
    entries = OpenSink(catalog, session, "op").write(rows((1, 5)))
    clock.days(2)
    vacuum(planner)
    with pytest.raises(RequestRejectedError, match="expired"):
        catalog.commit(session=session, entries=entries)
    assert catalog.get_session(session_id=session.session_id).status == "ABORTED"
    assert on_disk(planner) == set()


# --- what stays -----------------------------------------------------------------------------------


def test_a_plan_that_was_handed_out_stays_readable(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    held = planned(catalog)
    replace(catalog, 1, 1)
    clock.now_ns += 59 * MINUTE_NS
    vacuum(planner, keep_ns=0, grace_ns=0)
    assert held <= on_disk(planner)
    clock.now_ns += 30 * MINUTE_NS
    assert vacuum(planner, keep_ns=0, grace_ns=0).expired.files == 1
    assert on_disk(planner) == planned(catalog)


def test_a_scan_of_an_older_snapshot_is_held_page_by_page(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    catalog.write(rows(*((p, 0) for p in range(6))), **WHERE)
    then_ns = clock()
    replace(catalog, 1, 1)
    clock.days(3)
    first = catalog.plan(**WHERE, as_of=then_ns, limit=3)
    vacuum(planner, keep_ns=0, grace_ns=0)
    rest = catalog.plan(**WHERE, as_of=then_ns, limit=3, offset=3)
    assert {*first.paths, *rest.paths} <= on_disk(planner)
    assert len({*first.paths, *rest.paths}) == 6
    clock.days(1)
    vacuum(planner, keep_ns=0)
    with pytest.raises(RequestRejectedError, match="has expired"):
        catalog.plan(**WHERE, as_of=then_ns)


def test_a_transaction_reads_its_snapshot_to_the_end(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    reading = catalog.transaction()
    replace(catalog, 1, 1)
    for _ in range(5):
        clock.now_ns += 50 * MINUTE_NS
        reading.heartbeat()
    vacuum(planner, keep_ns=0, grace_ns=0)
    assert read(catalog, transaction=reading) == [(1, 0)]
    reading.commit()
    assert vacuum(planner, keep_ns=0, grace_ns=0).expired.files == 1
    assert read(catalog) == [(1, 1)]


def test_staged_files_of_open_sessions_stay_however_old(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    session = catalog.stage(**WHERE)
    entries = OpenSink(catalog, session, "op").write(rows((1, 5)))
    for _ in range(40):
        clock.now_ns += 55 * MINUTE_NS
        catalog.heartbeat(session=session)
    report = vacuum(planner, grace_ns=0)
    assert (report.abandoned, report.recent) == (NOTHING, NOTHING)
    catalog.commit(session=session, entries=entries)
    assert read(catalog) == [(1, 5)]


def test_files_attached_to_a_transaction_stay_until_it_ends(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock, tmp_path: Path
) -> None:
    # One staged, and one that lay in the data directory before.
    other = planner.root / "data" / "loose.parquet"
    other.parent.mkdir(exist_ok=True)
    parquet.write(rows((2, 6)), str(other))
    transaction = catalog.transaction()
    for path, values in ((None, (1, 5)), (other, (2, 6))):
        session = catalog.stage(**WHERE, transaction=transaction, allow_external_entries=True)
        entries = OpenSink(catalog, session, "op").write(rows(values))
        if path is not None:
            os.unlink(entries[0].path)
            entries = [WriteEntry(str(path), 1, partition_values=[2])]
        catalog.commit(session=session, entries=entries, transaction=transaction)
    for _ in range(40):
        clock.now_ns += 55 * MINUTE_NS
        transaction.heartbeat()
    assert vacuum(planner, grace_ns=0).abandoned == NOTHING
    transaction.commit()
    assert read(catalog) == [(1, 5), (2, 6)]


def test_files_that_a_rollback_brought_back_stay(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    catalog.write(rows((1, 0), (2, 0)), **WHERE)
    then_ns = clock()
    held = planned(catalog)
    catalog.write(rows((1, 1)), **WHERE, mode="replace")
    clock.days(1)
    catalog.rollback_table(**WHERE, as_of=then_ns)
    clock.days(30)
    report = vacuum(planner, keep_ns=0, grace_ns=0)
    assert (report.expired.files, report.abandoned) == (1, NOTHING)
    assert on_disk(planner) == planned(catalog) == held
    assert read(catalog) == [(1, 0), (2, 0)]
    assert sound(planner)


def test_files_outside_of_the_data_directory_are_never_touched(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.parquet"
    parquet.write(rows((1, 7)), str(mine))
    session = catalog.stage(**WHERE, allow_external_entries=True)
    catalog.commit(session=session, entries=[WriteEntry(str(mine), 1, partition_values=[1])])
    (planner.root / "notes.txt").write_text("kept")
    replace(catalog, 1, 8)
    (planner.root / "data" / "elsewhere").symlink_to(tmp_path)
    clock.days(30)
    vacuum(planner, keep_ns=0, grace_ns=0)
    assert mine.exists()
    assert (planner.root / "notes.txt").exists()
    assert read(catalog) == [(1, 8)]


def test_a_file_that_was_committed_through_a_link_stays(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock, tmp_path: Path
) -> None:
    staged = catalog.stage(**WHERE)
    (entry,) = OpenSink(catalog, staged, "op").write(rows((1, 7)))
    catalog.abort(session=staged)
    folder, link = tmp_path / "linked", tmp_path / "link.parquet"
    folder.symlink_to(staged.data_dir)
    link.symlink_to(entry.path)
    for path in (folder / os.path.basename(entry.path), link):
        session = catalog.stage(**WHERE, allow_external_entries=True)
        catalog.commit(session=session, entries=[WriteEntry(str(path), 1, partition_values=[1])])
        clock.days(2)
        vacuum(planner, grace_ns=0)
        assert os.path.exists(entry.path)
        replace(catalog, 1, 0)
    clock.days(2)
    vacuum(planner, keep_ns=0, grace_ns=0)
    assert not os.path.exists(entry.path)


def dataset(folder: Path) -> Path:
    """Shaped like a Lance dataset."""
    for name in ("_versions/1.manifest", "data/a.lance", "data/b.lance"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"rows")
    return folder


def test_a_dataset_that_is_a_folder_stays_or_goes_as_a_whole(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    lance: dict[str, Any] = {"namespace": "ns", "table": "l"}
    catalog.create_table(**lance)
    whole = catalog.stage(**lance, format="lance")
    parts = catalog.stage(**lance, format="lance")
    folders = [dataset(Path(s.data_dir) / "d.lance") for s in (whole, parts)]
    catalog.commit(session=whole, entries=[WriteEntry(str(folders[0]), 2)])
    catalog.commit(session=parts, entries=[WriteEntry(str(folders[1] / "data/a.lance"), 1)])
    left = catalog.stage(**lance, format="lance")
    folders.append(dataset(Path(left.data_dir) / "d.lance"))
    clock.days(2)
    report = vacuum(planner, grace_ns=0)
    assert report.abandoned == Amount(files=3, size=12)
    assert [f.exists() for f in folders] == [True, True, False]
    assert len(on_disk(planner)) == 6
    catalog.truncate_table(**lance)
    clock.days(9)
    assert vacuum(planner).expired.files == 6
    assert on_disk(planner) == set()


# --- the ledger -----------------------------------------------------------------------------------


def test_planners_with_columns_in_memory_see_the_files_renumbered(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    other = Catalog(InProcessTransport(EmbeddedPlanner(planner.root, clock_ns=clock)), None)
    for p in range(40):
        catalog.write(rows((p, 0), (p, 1)), **WHERE, max_rows_per_file=1)
        if p % 3 == 0:
            replace(catalog, p // 2, 100 + p)
    wanted = [read(c, filter_predicate={"gt": ["x", 50]}) for c in (catalog, other)]
    assert wanted[0] == wanted[1] != []
    before = read(catalog)
    clock.days(8)
    gone = vacuum(planner)
    assert gone.expired.files > 10
    for reader in (
        catalog,
        other,
        Catalog(InProcessTransport(EmbeddedPlanner(planner.root)), None),
    ):
        plan = reader.plan(**WHERE, filter_predicate={"gt": ["x", 50]}, include_stats=True)
        assert plan.total_files == len(wanted[0])
        assert min(plan.column("min:x")) > 50
        assert read(reader) == before
        reader.write(rows((99, 1)), **WHERE)
        assert (99, 1) in read(reader)
        before = read(reader)
    assert sound(planner)


def test_statistics_and_columns_of_large_commits_survive(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    many = rows(*((p, 10 * p + i) for p in range(300) for i in range(4)))
    catalog.write(many, **WHERE, max_rows_per_file=1)
    catalog.alter_table(
        **WHERE,
        schema_updates={"operations": [{"op": "add", "field": {"name": "y", "type": "int64"}}]},
    )
    for p in (0, 150, 299):
        session_rows = pa.table({"p": [p], "x": [-p], "y": [p]})
        catalog.write(session_rows, **WHERE, mode="replace_partition")
    wanted = read(catalog)
    id_before = catalog.plan(**WHERE).snapshot_id
    clock.days(8)
    assert vacuum(planner).expired.files == 12
    plan = catalog.plan(**WHERE, include_stats=True)
    assert (plan.snapshot_id, read(catalog)) == (id_before, wanted)
    assert plan.column("min:x") == plan.column("max:x")
    assert sum(y is not None for y in plan.column("min:y")) == 3
    assert catalog.plan(**WHERE, filter_predicate={"eq": ["x", -150]}).total_files == 1
    assert sound(planner)


def test_dead_rows_follow_their_files(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    keyed: dict[str, Any] = {"namespace": "ns", "table": "k"}
    scheme = {"keys": [{"key": ["p"]}]}
    catalog.create_table(**keyed, schema=SCHEMA, partition_scheme=scheme, merge_keys=["x"])
    for p in (0, 1, 0, 1):
        catalog.write(rows(*((p, x) for x in range(20))), **keyed)
    catalog.write(rows((0, 7)), **keyed, mode="replace_partition")
    catalog.write(rows((1, 3), (1, 4)), **keyed, mode="delete")
    before = catalog.read(**keyed).sort_by("x").to_pylist()
    assert len(before) == 19
    clock.days(8)
    assert vacuum(planner).expired.files == 4
    assert catalog.read(**keyed).sort_by("x").to_pylist() == before
    catalog.write(rows((1, 5)), **keyed, mode="delete")
    assert catalog.read(**keyed).num_rows == 18
    assert sound(planner)


def test_what_is_old_leaves_the_ledger_and_what_is_needed_stays(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    for x in range(3):
        replace(catalog, 1, x)
    catalog.plan(**WHERE)
    transaction = catalog.transaction()
    catalog.create_namespace(namespace="n", transaction=transaction)
    transaction.commit()
    clock.days(8)
    replace(catalog, 2, 0)
    writing = catalog.stage(**WHERE)
    tables = ("operation", "change", "write_session", "txn", "txn_operation", "lease", "partition")

    def held() -> dict[str, int]:
        with planner.store.read() as db:
            count = "SELECT count(*) FROM {}"
            return {t: db.execute(count.format(t)).fetchone()[0] for t in tables}

    before = held()
    vacuum(planner, keep_ns=0)
    after = held()
    assert all(after[t] < before[t] for t in tables), (before, after)
    # What the open session may conflict with is still known.
    entries = OpenSink(catalog, writing, "op").write(rows((2, 1)))
    catalog.commit(session=writing, entries=entries)
    assert sound(planner)


def test_a_conflict_is_still_found_after_vacuum(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    replace(catalog, 1, 0)
    writing = catalog.stage(**WHERE, mode="replace_partition")
    replace(catalog, 1, 1)
    clock.now_ns += 50 * MINUTE_NS
    vacuum(planner, keep_ns=0)
    entries = OpenSink(catalog, writing, "op").write(rows((1, 2)))
    with pytest.raises(DeltaCATError, match="another commit came first"):
        catalog.commit(session=writing, entries=entries)


# --- how it goes about it -------------------------------------------------------------------------


def snapshot_of(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.stat().st_size)
        for p in root.rglob("*")
        if not p.name.endswith("-shm")
    }


def test_a_dry_run_tells_the_truth_and_changes_nothing(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock
) -> None:
    for x in range(3):
        replace(catalog, 1, x)
    catalog.write(rows((1, 1)), namespace="ns", table="gone")
    catalog.drop_table(namespace="ns", table="gone", purge=True)
    left = catalog.stage(**WHERE)
    OpenSink(catalog, left, "op").write(rows((1, 5)))
    clock.days(8)
    before = snapshot_of(planner.root)
    told = vacuum(planner, dry_run=True)
    assert snapshot_of(planner.root) == before
    assert catalog.get_session(session_id=left.session_id).status == "OPEN"
    done = vacuum(planner)
    assert told == VacuumReport(True, *(getattr(done, f) for f in done.__struct_fields__[1:]))
    assert [a.files for a in (done.expired, done.purged, done.abandoned)] == [2, 1, 1]


def test_negative_times_are_refused(planner: EmbeddedPlanner) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        vacuum(planner, keep_ns=-1)
    with pytest.raises(ValueError, match="must not be negative"):
        vacuum(planner, grace_ns=-1)


# Dies between the commit of the ledger and the first file that it deletes.
DYING = """
import os, signal, sys
from planner_client.server import vacuum
from planner_client.server.maintenance import run_vacuum
from planner_client.server.planner import EmbeddedPlanner
planner = EmbeddedPlanner(sys.argv[1])
def say(text):
    if text.startswith("deleting"):
        os.kill(os.getpid(), signal.SIGKILL)
vacuum.vacuum(planner, keep_ns=0, grace_ns=0, say=say)
"""


def test_what_a_crash_leaves_over_goes_the_next_time(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    client = Client(root)
    for x in range(3):
        client.catalog.write(pa.table({"x": [x]}), **WHERE, mode="replace" if x else "auto")
    killed = subprocess.run([sys.executable, "-c", DYING, str(root)], check=False)
    assert killed.returncode == -9
    planner = EmbeddedPlanner(root)
    assert len(on_disk(planner)) == 3
    assert sound(planner)
    report = vacuum(planner, keep_ns=0, grace_ns=0)
    assert (report.expired, report.abandoned.files) == (NOTHING, 2)
    assert client.catalog.read(**WHERE).to_pylist() == [{"x": 2}]
    assert len(on_disk(planner)) == 1


VACUUMING = """
import sys
from planner_client.server.maintenance import run_vacuum
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
planner = EmbeddedPlanner(sys.argv[1])
deleted = 0
print("ready", flush=True)
while not sys.stdin.closed:
    report = vacuum(planner, keep_ns=0, grace_ns=0)
    assert not report.failed, report.failed
    deleted += report.expired.files + report.abandoned.files
    print(deleted, flush=True)
    if sys.stdin.readline() != "again\\n":
        break
"""


@pytest.mark.parametrize("way", ["embedded", "http"])
def test_others_commit_plan_and_scan_while_vacuum_runs_again_and_again(
    tmp_path: Path, way: str
) -> None:
    root = tmp_path / "catalog"
    if way == "embedded":
        _churn(Client(root), root)
        return
    with serving(root) as url:
        _churn(Client(url), root)


def _churn(client: Client, root: Path) -> None:
    catalog = client.catalog
    catalog.create_table(
        **WHERE,
        schema=SCHEMA,
        partition_scheme={"keys": [{"key": ["p"]}]},
        auto_create_namespace=True,
    )
    catalog.write(rows(*((p, 0) for p in range(5))), **WHERE)
    failures: list[BaseException] = []
    done = threading.Event()

    def scan() -> None:
        try:
            while not done.is_set():
                assert len(read(catalog)) == 5
        except BaseException as error:  # noqa: BLE001  # shown by the test
            failures.append(error)

    reader = threading.Thread(target=scan)
    reader.start()
    command = [sys.executable, "-c", VACUUMING, str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        for x in range(1, 5):
            for p in range(5):
                replace(catalog, p, x)
            child.stdin.write("again\n")
            child.stdin.flush()
            assert int(child.stdout.readline()) >= 0
        child.stdin.close()
        child.stdout.read()
    done.set()
    reader.join()
    assert (failures, child.returncode) == ([], 0)
    assert read(catalog) == [(p, 4) for p in range(5)]
    assert sound(EmbeddedPlanner(root))


@pytest.mark.parametrize("moment", ["looking at the data", "files; looking at", "deleting 3 files"])
def test_what_others_do_while_vacuum_runs_is_safe(
    planner: EmbeddedPlanner, catalog: Catalog, clock: Clock, moment: str
) -> None:
    loose = [planner.root / "data" / "imported" / f"{i}.parquet" for i in range(3)]
    loose[0].parent.mkdir(parents=True)
    for i, file in enumerate(loose):
        parquet.write(rows((i, 1)), str(file))
    clock.days(2)
    opened: list[Any] = []

    def work(text: str) -> None:
        if moment not in text or opened:
            return
        session = catalog.stage(**WHERE, allow_external_entries=True)
        catalog.commit(
            session=session, entries=[WriteEntry(str(loose[0]), 1, partition_values=[0])]
        )
        catalog.write(rows((1, 5)), **WHERE)
        writing = catalog.stage(**WHERE)
        opened.append((writing, OpenSink(catalog, writing, "op").write(rows((2, 5)))))

    # Only what nothing referred to by then may go.
    assert vacuum(planner, keep_ns=0, grace_ns=0, say=work).abandoned.files == 2
    session, entries = opened[0]
    catalog.commit(session=session, entries=entries)
    assert read(catalog) == [(0, 1), (1, 5), (2, 5)]
    assert [file.exists() for file in loose] == [True, False, False]


def test_the_command_shows_first_and_deletes_when_told(
    planner: EmbeddedPlanner, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    for x in range(3):
        replace(catalog, 1, x)
    command = ["--catalog-root", str(planner.root), "--keep", "0", "--grace", "0"]
    for more in ([], ["--dry-run"]):
        assert run_vacuum([*command, *more]) == 0
        shown = capsys.readouterr().out
        assert "would delete 2 files" in shown
        assert "add --yes to delete" in shown
    assert len(on_disk(planner)) == 3
    assert run_vacuum([*command, "--yes"]) == 0
    assert "deleted 2 files" in capsys.readouterr().out
    assert len(on_disk(planner)) == 1
    for wrong in (["--keep", "7 weeks"], ["--keep", "7"], ["--yes", "--dry-run"]):
        with pytest.raises(SystemExit):
            run_vacuum([*command, *wrong])
    assert "'7 weeks' is no time: write 7d, 12h, 30m, 45s or 0" in capsys.readouterr().err


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "replace_partition", "replace"]), st.integers(0, 2)),
        st.tuples(st.just("truncate"), st.just(0)),
        st.tuples(st.just("rollback"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 4)),
        st.tuples(st.just("vacuum"), st.integers(0, 5)),
    ),
    min_size=3,
    max_size=14,
)


class Story:
    """A table whose every state is remembered, by the time that it is read at."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.planner = EmbeddedPlanner(root, clock_ns=self.clock)
        self.catalog = Catalog(InProcessTransport(self.planner), None)
        scheme = {"keys": [{"key": ["p"]}]}
        self.catalog.create_table(
            **WHERE, schema=SCHEMA, partition_scheme=scheme, auto_create_namespace=True
        )
        self.states: list[tuple[int, list[tuple[int, int]]]] = [(self.clock(), [])]
        self.next_x = 0
        self.kept_since_ns = 0

    def do(self, step: str, number: int) -> None:
        now = self.states[-1][1]
        if step == "wait":
            self.clock.days(number)
        elif step == "vacuum":
            self.vacuum(number)
        elif step == "rollback":
            self.roll_back(number)
        elif step == "truncate":
            self.catalog.truncate_table(**WHERE)
            self.remember([])
        else:
            self.next_x += 1
            row = number, self.next_x
            mode: Any = step
            self.catalog.write(rows(row), **WHERE, mode=mode)
            kept = {"add": now, "replace": []}.get(step, [r for r in now if r[0] != number])
            self.remember([*kept, row])

    def remember(self, state: list[tuple[int, int]]) -> None:
        self.states.append((self.clock(), sorted(state)))

    def roll_back(self, steps: int) -> None:
        time_ns, state = self.states[-min(steps, len(self.states))]
        if self.state_at(time_ns) is not None:
            self.catalog.rollback_table(**WHERE, as_of=time_ns)
            self.remember(state)

    def state_at(self, time_ns: int) -> list[tuple[int, int]] | None:
        """None where it has expired."""
        try:
            return read(self.catalog, as_of=time_ns)
        except RequestRejectedError as error:
            if error.code != "snapshot_expired":
                raise
            return None

    def vacuum(self, days: int) -> None:
        self.kept_since_ns = max(self.kept_since_ns, self.clock.now_ns - days * DAY_NS)
        vacuum(self.planner, keep_ns=days * DAY_NS, grace_ns=0)
        for time_ns, state in self.states:
            found = self.state_at(time_ns)
            assert found == state or (found is None and time_ns < self.kept_since_ns)
        assert read(self.catalog) == self.states[-1][1]
        assert sound(self.planner)


@given(steps=STEPS)
def test_whatever_happened_every_state_that_is_kept_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    story = Story(tmp_path_factory.mktemp("story") / "catalog")
    for step, number in steps:
        story.do(step, number)
    story.vacuum(0)
    story.clock.days(1)
    story.vacuum(0)
    # A day later nobody holds anything: what is there is what the table shows.
    story.clock.days(1)
    vacuum(story.planner, keep_ns=0, grace_ns=0)
    assert on_disk(story.planner) == planned(story.catalog)
