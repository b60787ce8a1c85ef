"""Does vacuum tell first, outlive a crash, and leave others alone who use the catalog meanwhile?"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import RequestRejectedError
from io_core.formats import parquet
from io_core.model import WriteEntry
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.server.maintenance import COMMANDS
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import DAY_NS, Amount, VacuumReport, vacuum
from tests.serving import serving
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

if TYPE_CHECKING:
    from pathlib import Path

    from planner_client.catalog import Catalog

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
    assert catalog.get_write_session(left.session_id).status == "OPEN"
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
from planner_client.server.maintenance import COMMANDS
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
from planner_client.server.maintenance import COMMANDS
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
    scheme = {"keys": [{"key": ["p"]}]}
    catalog.create_table(
        **WHERE, schema=SCHEMA, partition_scheme=scheme, auto_create_namespace=True
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
    reader.join(timeout=120)
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
        assert COMMANDS["vacuum"]([*command, *more]) == 0
        shown = capsys.readouterr().out
        assert "would delete 2 files" in shown
        assert "add --yes to delete" in shown
    assert len(on_disk(planner)) == 3
    assert COMMANDS["vacuum"]([*command, "--yes"]) == 0
    assert "deleted 2 files" in capsys.readouterr().out
    assert len(on_disk(planner)) == 1
    for wrong in (["--keep", "7 weeks"], ["--keep", "7"], ["--yes", "--dry-run"]):
        with pytest.raises(SystemExit):
            COMMANDS["vacuum"]([*command, *wrong])
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


class Story(Place):
    """A table whose every state is remembered, by the time that it is read at."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
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
