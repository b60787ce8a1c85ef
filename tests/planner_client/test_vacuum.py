"""Does vacuum take every file that nobody needs, and never one that somebody does?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from io_core.errors import DeltaCATError, NotFoundError, RequestRejectedError
from io_core.formats import parquet
from io_core.model import WriteEntry
from io_core.sink import OpenSink
from planner_client.catalog import Catalog
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import DAY_NS, Amount, vacuum
from planner_client.transport import InProcessTransport
from tests.vacuumed import (
    SCHEMA,
    WHERE,
    Clock,
    Place,
    on_disk,
    planned,
    read,
    replace,
    rows,
    sound,
)

MINUTE_NS = 60 * 10**9
NOTHING = Amount()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "catalog")


@pytest.fixture
def clock(place: Place) -> Clock:
    return place.clock


@pytest.fixture
def planner(place: Place) -> EmbeddedPlanner:
    return place.planner


@pytest.fixture
def catalog(place: Place) -> Catalog:
    return place.catalog


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
    assert catalog.get_write_session(session.session_id).status == "ABORTED"
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
    # What it planned may be read a while longer.
    assert vacuum(planner, keep_ns=0, grace_ns=0).expired.files == 0
    clock.now_ns += 90 * MINUTE_NS
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
