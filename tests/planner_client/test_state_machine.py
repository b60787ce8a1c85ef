"""Does the planner do what a dict does, whatever is called in whichever order, by two clients at once?

A third client, a guest, may do what it was granted, which a dict says too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis.stateful import initialize, invariant, run_state_machine_as_test

from planner_client.protocol import ENDPOINTS
from planner_client.server import segments
from planner_client.server.check import check
from tests.catalog_changes import SCHEMA, Where, lifecycles, shapes
from tests.catalog_machine.rights import Rights
from tests.catalog_machine.transactions import Transactions
from tests.catalog_machine.writes import Writes
from tests.catalog_parts import Shape
from tests.linked_files import Pool
from tests.memory import in_memory

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


STEPS = 50


class Machine(Transactions, Writes, Rights):
    """All rules, and what holds between them."""

    @initialize(first=shapes, second=shapes, lifecycle=lifecycles)
    def begin_with_a_table(self, first: Shape, second: Shape, lifecycle: str) -> None:
        self.change(0, Where("x", "a"), ("create_namespace",), 9)
        self.change(0, Where("x", "a"), ("create_table", first, "active"), 9)
        self.change(0, Where("x", "a", "2"), ("create_table", second, lifecycle), 9)

    @invariant()
    def the_catalog_is_the_model(self) -> None:
        # The other client looks now and then only: what it knows is of long ago.
        self.checks.state(self.clients[0], self.latest.state)

    def teardown(self) -> None:
        for client in self.clients[:2]:
            self.checks.state(client, self.latest.state)
            self.checks.rows(client, self.latest.state)
        assert check(self.planners[1]).findings == ()
        for planner in self.planners:
            planner.close()


def test_the_planner_does_what_a_dict_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files are kept in several ways, by how many they are: here all of them, with few.
    monkeypatch.setattr(segments, "_RECORDS", 3)
    monkeypatch.setattr(segments, "_RUNS", 3)
    with in_memory(tmp_path) as folder:
        pool = Pool(folder, SCHEMA)

        class InThisFolder(Machine):
            def __init__(self) -> None:
                super().__init__(folder, pool, Counter())

        run_state_machine_as_test(InThisFolder, settings=settings(stateful_step_count=STEPS))


def test_whatever_changes_anything_has_a_rule(tmp_path: Path) -> None:
    answered: Counter[str] = Counter()
    machine = Machine(tmp_path, Pool(tmp_path, SCHEMA), answered)
    here, row, shape = Where("x", "a"), [(0, 0, 0)], Shape(keyed=False, parted=False)
    machine.begin_with_a_table(shape, shape, "active")
    machine.write(0, here, shape, 9, [("append", row)])
    machine.write_data(0, here, "append", row)
    machine.add_files(0, here, "add", shape, row, again=False)
    machine.change(0, here, ("describe_namespace",), 9)
    machine.change(0, here, ("describe_table",), 9)
    machine.change(0, here, ("rename_table", ("x", "b")), 9)
    here = Where("x", "b")
    machine.reset(0, here, 1, truncate=False)
    machine.reset(0, here, 0, truncate=True)
    machine.begin_write(0, here, "append", shape, 9, external=False)
    for abort in (False, True):
        machine.keep_or_abort(0, 0, abort=abort)
    for how in ("commit", "abort"):
        machine.begin(0)
        machine.look_inside(0, 0, heartbeat=True)
        machine.end(0, 0, how)
    machine.make_user("u", 1, ("default",), None, guest=False)
    machine.make_token("u", None, guest=False)
    machine.revoke_token(0, guest=False)
    machine.grant("u", 2, ("default",), guest=False)
    machine.revoke("u", ("default",), guest=False)
    machine.change(0, here, ("drop_table", False), 9)
    machine.change(0, here, ("drop_namespace", False), 9)
    machine.teardown()
    reading = {"plan", "preview"}
    assert {e.name for e in ENDPOINTS if e.method != "GET"} - reading <= answered.keys()
