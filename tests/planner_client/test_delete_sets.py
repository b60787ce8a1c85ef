"""Do plans with delete sets show the rows that a merge leaves, whatever happened, and only what is sure?"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.deletes import count, union
from io_core.errors import ConcurrentModificationError
from io_core.execute import read_plan
from io_core.formats.parquet import entry_of
from io_core.formats.parquet import write as write_parquet
from io_core.key_files import key_path
from io_core.merge_order import MERGE_ORDER, dump_merge_order
from io_core.schema import decode_schema
from planner_client import Client
from planner_client.protocol.inline import WRITE_INLINE, WriteInline
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from tests.keyed_world import DIVIDED, KEYED, WHERE, Ast, World, knows, records, row
from tests.oracle import Commit
from tests.strategies import TableSpec, histories, predicates, specs

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.plan import ReadPlan

PLAIN = [pa.int64(), pa.string(), pa.float64(), pa.date32()]
DAY_NS = 86_400 * 10**9


@pytest.fixture
def make(tmp_path: Path) -> Callable[[TableSpec], World]:
    return lambda spec: World(tmp_path / uuid.uuid4().hex, spec)


# --- any history ------------------------------------------------------------------------------------


Step = tuple[str, Any]


@st.composite
def stories(draw: st.DrawFn) -> tuple[TableSpec, list[Step], list[Ast]]:
    """A keyed table, what happens to it, and what is asked after each step."""
    spec = draw(specs(types=PLAIN, keyed=True))
    commit = histories(spec, max_commits=1, replaces=True).map(lambda h: h[0])
    who, per_file = st.integers(0, 1), st.sampled_from([1, 2, 5, 1_000_000])
    several = st.tuples(st.lists(commit, min_size=1, max_size=3), who, per_file)
    several |= st.tuples(st.lists(commit, min_size=1, max_size=1), who, per_file)
    step = st.one_of(
        st.tuples(st.just("commit"), several),
        st.tuples(st.just("commit"), several),
        st.tuples(st.just("commit"), several),
        st.tuples(st.just("crash"), st.tuples(commit, who)),
        st.tuples(st.just("rollback"), st.tuples(st.integers(0, 20), who)),
        st.tuples(st.just("truncate"), who),
        st.tuples(st.just("restart"), who),
        st.tuples(st.just("forget"), st.sampled_from([("killed",), ("kill", "killed")])),
        st.tuples(st.just("lose keys"), st.booleans()),
        st.tuples(st.just("vacuum"), st.none()),
    )
    steps = draw(st.lists(step, min_size=2, max_size=8))
    asts = draw(st.lists(predicates(spec.schema, max_leaves=3), max_size=3))
    return spec, steps, [None, *asts]


class Story(World):
    """A world to which steps happen; knows whether the latest snapshot's dead rows have to be known."""

    complete = True
    # The oldest snapshot that vacuum left.
    horizon = 0

    def happen(self, step: Step) -> None:
        what, of = step
        match what:
            case "commit":
                commits, who, per_file = of
                self.commit(*commits, who=who, per_file=per_file)
                self.complete = True
            case "crash":
                self.commit_without_advancing(*of)
                self.complete = False
            case "rollback":
                index, who = of
                kept = [p for p in self.past if p.snapshot >= self.horizon]
                self.rollback(kept[index % len(kept)], who)
                self.complete = True
            case "truncate":
                self.truncate(of)
                self.complete = True
            case "forget":
                self.forget(*of)
                self.complete = False
            case "lose keys":
                self.lose_keys(damage=of)
            case "vacuum":
                self.horizon = vacuum(self.planner, keep_ns=0, grace_ns=DAY_NS).horizon
            case "restart":
                self.restart(of)

    def lose_keys(self, *, damage: bool) -> None:
        for path in self.key_files():
            if damage:
                body = bytearray(path.read_bytes())
                body[len(body) // 2 :] = bytes(len(body) - len(body) // 2)
                path.unlink()
                path.write_bytes(body)
            else:
                path.unlink()


@given(stories())
def test_whatever_happens_sets_say_what_a_merge_says_at_every_snapshot(
    story: tuple[TableSpec, list[Step], list[Ast]],
) -> None:
    spec, steps, asts = story
    with tempfile.TemporaryDirectory() as folder:
        world = Story(Path(folder) / "catalog", spec)
        for step in steps:
            world.happen(step)
            world.check(asts)
            assert world.is_known() or not world.complete
        kept = [p for p in world.past if p.snapshot >= world.horizon]
        world.check(asts[:2], kept)
        world.restart()
        world.check(asts[:2], kept)


def test_sets_rule_out_files_by_columns_that_a_merge_may_not_look_at(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(KEYED)
    world.commit(Commit("merge", (row(1, 0, 10), row(2, 0, 20))))
    world.commit(Commit("merge", (row(1, 0, 50),)))
    ast = {"lt": ["v", 30]}
    assert len(world.plan(sets=False, ast=ast).files) == 2
    assert len(world.plan(sets=True, ast=ast).files) == 1
    world.check([ast])


def wear(world: World, times: int) -> None:
    """Kill the rows of one file one by one, so that it gets as many records, and some that join them."""
    world.commit(Commit("merge", tuple(row(k, 0, 0) for k in range(times + 1))))
    for k in range(times):
        world.commit(Commit("merge", (row(k, 0, 1),)))


def test_sets_at_earlier_snapshots_are_those_of_then(make: Callable[[TableSpec], World]) -> None:
    world = make(KEYED)
    wear(world, 36)
    assert [i for i, (whole, _) in enumerate(records(world)[0]) if whole] == [16, 32]
    for _ in range(2):
        world.check(past=world.past)
        assert all(knows(world.plan(sets=True, snapshot=p.snapshot)) for p in world.past[1:])
        world.planner = EmbeddedPlanner(world.root)


def test_a_delete_lists_no_file_and_changes_what_identifies_the_snapshot(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(KEYED)
    world.commit(Commit("merge", (row(1, 0, 1), row(None, 0, 2))))
    before = world.plan(sets=True).header.snapshot_id
    world.commit(Commit("delete", ({"k": None},)))
    plan = world.plan(sets=True)
    assert plan.files.column("delta_type").to_pylist() == ["upsert"]
    assert plan.header.snapshot_id not in (None, before)
    world.check()


def test_of_rows_of_one_key_in_one_commit_the_merge_order_says_which_lives(
    make: Callable[[TableSpec], World],
) -> None:
    order = {MERGE_ORDER: dump_merge_order("v", {"sort_order": "descending"})}
    index = KEYED.schema.get_field_index("v")
    schema = KEYED.schema.set(index, KEYED.schema.field("v").with_metadata(order))
    world = make(TableSpec(schema, ("k",), order=(("v", True),)))
    world.commit(
        Commit("merge", (row(1, 0, 3), row(1, 0, 9), row(2, 0, 1), row(1, 0, 5))), per_file=1
    )
    assert [count(held) for held in world.plan(sets=True).column("deletes")] == [1, 0, 0, 1]
    world.check()
    world.commit(Commit("merge", (row(1, 0, 4), row(1, 0, 2))), who=1)
    assert world.is_known()
    world.check(past=world.past)


# --- what is complete -------------------------------------------------------------------------------


def delete_by_value(world: World, p: int, v: int) -> None:
    """Delete the rows of a partition that have a value in a column which is no key."""
    client = world.clients[0]
    session = client.catalog.stage(**WHERE, mode="delete")
    schema = decode_schema(session.schema_serialized or "")
    schema = pa.schema([schema.field("v")])
    path = os.path.join(session.data_dir, "by-value.parquet")
    os.makedirs(session.data_dir)
    write_parquet(pa.table([[v]], schema=schema), path)
    entry = entry_of(path, schema, partition_values=[p])
    entry = msgspec.structs.replace(entry, entry_params={"equality_field_locators": ["v"]})
    client.commit(session=session, entries=[entry])


def test_a_delete_by_other_columns_leaves_its_partition_to_be_merged_until_it_is_replaced(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(DIVIDED)
    world.commit(Commit("merge", (row(1, 0, 1), row(2, 0, 2), row(3, 1, 1))))
    assert world.is_known()
    delete_by_value(world, 0, 2)
    # The oracle deletes by key.
    world.table.apply([Commit("delete", ({"k": 2, "p": 0},))])
    world.remember()
    for v in range(3):
        assert not world.is_known()
        plan = world.plan(sets=True)
        sets = {
            (p, d is None)
            for p, d in zip(*map(plan.column, ("partition:0", "deletes")), strict=True)
        }
        assert sets == {(0, True), (1, False)}
        assert plan.requires_merge
        world.check(past=world.past)
        world.commit(Commit("merge", (row(1, 0, v), row(3, 1, v))))
    world.commit(Commit("replace_partition", (row(5, 0, 5),)))
    assert world.is_known()
    world.check(past=world.past)


@pytest.mark.parametrize("who", [0, 1], ids=["same planner", "another one"])
def test_what_was_not_looked_for_after_a_commit_is_found_after_the_next(
    make: Callable[[TableSpec], World], who: int
) -> None:
    world = make(KEYED)
    world.commit(Commit("merge", (row(1, 0, 1), row(2, 0, 1))))
    world.commit_without_advancing(Commit("merge", (row(1, 0, 2),)))
    world.commit_without_advancing(Commit("delete", ({"k": 2},)))
    assert not world.is_known()
    assert knows(world.plan(sets=True, snapshot=world.past[1].snapshot))
    world.check(past=world.past)
    world.commit(Commit("merge", (row(3, 0, 3),)), who=who)
    assert world.is_known()
    assert world.plan(sets=True).files.num_rows == 3
    world.check(past=world.past)


def test_a_partition_that_cannot_be_read_does_not_keep_others_from_being_known(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(DIVIDED)
    world.commit(Commit("merge", (row(1, 0, 1), row(1, 1, 1))))
    world.restart()
    lost = [p for p in world.root.rglob("*.parquet") if entry_rows(p) == [0]]
    body = lost[0].read_bytes()
    lost[0].write_bytes(bytes(len(body)))
    Path(key_path(str(lost[0]))).unlink()
    world.commit(Commit("merge", (row(1, 0, 2), row(1, 1, 2))))
    with world.planner.store.read() as db:
        positions = [p for (p,) in db.execute("SELECT position FROM killed ORDER BY position")]
    assert positions[0] < positions[1]
    lost[0].write_bytes(body)
    world.check()
    world.commit(Commit("merge", (row(1, 1, 3),)))
    assert world.is_known()
    world.check(past=world.past)


def entry_rows(path: Path) -> list[int]:
    import pyarrow.parquet as pq

    return list(dict.fromkeys(pq.read_table(path).column("p").to_pylist()))


def test_records_that_nobody_vouches_for_are_made_anew(make: Callable[[TableSpec], World]) -> None:
    world = make(KEYED)
    wear(world, 20)
    before = records(world)
    world.forget("killed")
    for client in (0, 1):
        world.restart(client)
    world.commit(Commit("merge", (row(20, 0, 1),)))
    assert world.is_known()
    assert records(world)[0][:20] == before[0]
    assert len(records(world)[0]) == 21
    world.check(past=world.past)


def test_a_commit_stands_whatever_goes_wrong_after_it(
    make: Callable[[TableSpec], World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make(KEYED)
    with world.planner.store.locked() as db:
        db.execute("DROP TABLE killed")
    session = world.clients[0].catalog.write(
        world.arrow(Commit("merge", (row(1, 0, 1), row(1, 0, 2)))), **WHERE, mode="merge"
    )
    assert session.committed
    assert "dead rows were not looked for" in caplog.text
    assert read_plan(world.plan(sets=False)).to_pylist() == [row(1, 0, 2)]


def test_rows_written_in_a_call_are_looked_at_too(make: Callable[[TableSpec], World]) -> None:
    world = make(KEYED)
    for v in (1, 2):
        data = {"k": [1], "p": [0], "v": [v]}
        world.planner.call(WRITE_INLINE, WriteInline(**WHERE, data=data, mode="merge"))
        world.table.apply([Commit("merge", (row(1, 0, v),))])
        world.remember()
    assert world.is_known()
    world.check(past=world.past)


def test_files_keep_their_dead_rows_when_vacuum_numbers_them_anew(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(DIVIDED)
    for v in range(3):
        world.commit(Commit("merge", tuple(row(k, p, v) for k in range(v, 9) for p in range(3))))
    world.commit(Commit("replace_partition", (row(0, 0, 7), row(1, 0, 7))))
    world.commit(Commit("merge", (row(0, 0, 8), row(0, 1, 8), row(0, 2, 8))))
    listed = world.plan(sets=True)
    vacuum(world.planner, keep_ns=0, grace_ns=0)
    assert world.is_known()
    found = world.plan(sets=True)
    assert dict(dead_by_path(found)) == dict(dead_by_path(listed))
    world.check()
    world.commit(Commit("merge", tuple(row(k, p, 9) for k in range(9) for p in range(3))))
    assert world.is_known()
    world.check()


def test_vacuum_deletes_records_that_a_later_one_holds(make: Callable[[TableSpec], World]) -> None:
    world = make(KEYED)
    wear(world, 36)
    assert len(records(world)[0]) == 36
    # Before the last record that joins others, and after the first one.
    kept = world.past[-8:]
    past_ns = world.planner.store.clock_ns() - kept[0].time_ns
    kept_from = vacuum(world.planner, keep_ns=past_ns, grace_ns=DAY_NS).horizon
    assert kept_from == kept[0].snapshot
    assert len(records(world)[0]) == 20
    assert world.is_known()
    world.commit(Commit("merge", (row(36, 0, 1),)))
    world.check(past=[*kept, world.past[-1]])


def dead_by_path(plan: ReadPlan) -> list[tuple[str, bytes]]:
    files = plan.files.select(["path", "deletes"]).to_pylist()
    return [(file["path"], file["deletes"]) for file in files]


# --- several at once --------------------------------------------------------------------------------


def test_what_takes_long_is_left_to_a_thread_and_merged_until_it_is_done(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(DIVIDED)
    planner = EmbeddedPlanner(world.root)
    planner.deletes.most_at_once = 5
    rows = tuple(row(k, p, 1) for k in range(4) for p in range(2))
    world.commit_without_advancing(Commit("merge", rows))
    for v in range(3):
        data = {"k": [0, v], "p": [0, 1], "v": [v, v]}
        planner.call(WRITE_INLINE, WriteInline(**WHERE, data=data, mode="merge"))
        world.table.apply([Commit("merge", (row(0, 0, v), row(v, 1, v)))])
        world.remember()
        world.check()
    planner.deletes.settle()
    assert world.is_known()
    world.check(past=world.past)
    threads = {thread.name for thread in threading.enumerate()}
    assert "delete-sets" not in threads


def test_a_closed_planner_leaves_no_thread_and_finds_the_rest_later(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(KEYED)
    planner = EmbeddedPlanner(world.root)
    planner.deletes.most_at_once = 0
    for v in range(5):
        planner.call(
            WRITE_INLINE, WriteInline(**WHERE, data={"k": [1], "p": [0], "v": [v]}, mode="merge")
        )
        planner.close()
        assert "delete-sets" not in {thread.name for thread in threading.enumerate()}
        world.table.apply([Commit("merge", (row(1, 0, v),))])
        world.remember()
        world.check()
    world.commit(Commit("merge", (row(1, 0, 9),)))
    assert world.is_known()
    world.check(past=world.past)


def test_planners_that_take_turns_find_the_rows_of_each_other(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(DIVIDED)
    for v in range(6):
        world.commit(
            Commit("merge", tuple(row(k, p, v) for k in (0, v) for p in (0, 1))), who=v % 2
        )
        if v % 3 == 2:
            world.commit(Commit("delete", ({"k": v - 1, "p": 1},)), who=v % 2)
        assert world.is_known()
        world.check(past=world.past)


def merge_often(root: str, who: int, times: int) -> None:
    """Merge overlapping keys, and try again where another commit came first."""
    catalog = Client(root).catalog
    for v in range(times):
        rows = pa.table({"k": range(30), "p": [v % 2] * 30, "v": [100 * who + v] * 30})
        while True:
            try:
                catalog.write(rows, **WHERE, mode="merge")
                break
            except ConcurrentModificationError:
                continue


def test_processes_that_look_at_once_store_each_dead_row_once(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(DIVIDED)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=merge_often, args=(str(world.root), i, 8)) for i in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    world.clients[1].catalog.write(
        pa.table({"k": [0, 0], "p": [0, 1], "v": [-1, -1]}), **WHERE, mode="merge"
    )
    assert world.is_known()
    with_sets, without = (read_plan(world.plan(sets=s)) for s in (True, False))
    assert with_sets.equals(without)
    assert with_sets.num_rows == 60
    for bodies in records(world).values():
        last = max((i for i, (whole, _) in enumerate(bodies) if whole), default=0)
        parts = [body for _, body in bodies[last:]]
        assert sum(map(count, parts)) == count(union(parts, 30))


# Commits a delete, and dies when it begins to look for the rows that are dead by it.
DYING = """
import os, signal, sys
import pyarrow as pa
from io_core.model import TableRef
from io_core.sink import Sink
from planner_client import Client
from planner_client.server import deletes
deletes.codes_of = lambda file: os.kill(os.getpid(), signal.SIGKILL)
sink = Sink(TableRef.parse("ns.t"), Client(sys.argv[1]), "delete").open()
sink.commit(sink.write(pa.table({"k": [1]})))
"""


def test_a_planner_killed_between_a_commit_and_its_sets_leaves_both_right(
    make: Callable[[TableSpec], World],
) -> None:
    world = make(KEYED)
    world.commit(Commit("merge", (row(1, 0, 1), row(2, 0, 2))))
    before = world.past[-1].snapshot
    child = subprocess.run([sys.executable, "-c", DYING, str(world.root)], check=False, timeout=120)
    assert child.returncode == -signal.SIGKILL
    world.table.apply([Commit("delete", ({"k": 1},))])
    world.remember()
    assert world.past[-1].snapshot == before + 1
    assert not world.is_known()
    world.check()
    world.commit(Commit("merge", (row(2, 0, 3),)), who=1)
    assert world.is_known()
    world.check(past=world.past)
    assert sum(map(len, records(world).values())) == 2
