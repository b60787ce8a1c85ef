"""Does a client ask a question about one snapshot once, and everything that may change again?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest

from io_core.model import TableRef
from io_core.plan import ReadPlan
from io_core.predicate import Compare
from io_core.scan import Scan
from planner_client import Client, remembered
from planner_client.protocol.plans import PlanRequest
from planner_client.remembered import RememberedPlans

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ASKED = PlanRequest(namespace="ns", table="t", snapshot=1)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    found = Client(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    found.catalog.write(pa.table({"id": [1, 2]}), **WHERE)
    return found


def planned(client: Client, **predicate: Any) -> ReadPlan:
    scan, _ = Scan(TableRef("ns", "t"), client, **predicate).pinned()
    return scan.plan()


def test_a_question_about_one_snapshot_is_asked_once(client: Client) -> None:
    first = planned(client)
    assert planned(client).files is first.files
    assert planned(client, predicate=Compare("gt", "id", 1)).files is not first.files
    client.catalog.write(pa.table({"id": [3]}), **WHERE)
    assert planned(client).files.num_rows == 2


def merging(client: Client) -> ReadPlan:
    keyed: dict[str, Any] = {"namespace": "ns", "table": "keyed"}
    rows = pa.table({"id": [1, 2]})
    client.catalog.write(rows, **keyed, merge_keys=["id"])
    client.catalog.write(rows, **keyed, mode="merge")
    return client.catalog.plan(**keyed)


def until(client: Client, expires_at: int | None) -> ReadPlan:
    plan = client.catalog.plan(**WHERE)
    return ReadPlan(msgspec.structs.replace(plan.header, expires_at=expires_at), plan.files)


@pytest.mark.parametrize(
    "answered",
    [merging, lambda c: until(c, time.time_ns() - 1), lambda c: until(c, None)],
    ids=["merging", "over", "never promised"],
)
def test_what_may_be_answered_otherwise_later_is_asked_again(
    client: Client, answered: Callable[[Client], ReadPlan]
) -> None:
    plan, asked = answered(client), []

    def ask(request: PlanRequest) -> ReadPlan:
        asked.append(request)
        return plan

    plans = RememberedPlans()
    assert plans.of(ASKED, ask) is plan
    assert plans.of(ASKED, ask) is plan
    assert len(asked) == 2


def test_a_question_that_names_no_snapshot_is_asked_again(client: Client) -> None:
    plan, asked = client.catalog.plan(**WHERE), []
    request = PlanRequest(namespace="ns", table="t")

    def ask(request: PlanRequest) -> ReadPlan:
        asked.append(request)
        return plan

    plans = RememberedPlans()
    plans.of(request, ask)
    plans.of(request, ask)
    assert len(asked) == 2


def test_few_plans_are_remembered_and_the_latest_ones(client: Client) -> None:
    plan = client.catalog.plan(**WHERE)
    asked: list[int | None] = []

    def ask(request: PlanRequest) -> ReadPlan:
        asked.append(request.snapshot)
        return plan

    plans = RememberedPlans()
    for snapshot in [*range(1, 66), 2, 65, 1]:
        plans.of(msgspec.structs.replace(ASKED, snapshot=snapshot), ask)
    assert asked == [*range(1, 66), 1]


def test_plans_are_remembered_that_are_small_together(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, asked = client.catalog.plan(**WHERE), []
    size = plan.files.nbytes

    def ask(request: PlanRequest) -> ReadPlan:
        asked.append(request.snapshot)
        return plan

    plans = RememberedPlans()
    monkeypatch.setattr(remembered, "_MOST_BYTES", 5 * size)
    for snapshot in [*range(1, 7), 6, 2, 1]:
        plans.of(msgspec.structs.replace(ASKED, snapshot=snapshot), ask)
    assert asked == [*range(1, 7), 1]
    monkeypatch.setattr(remembered, "_MOST_BYTES", 3 * size)
    for _ in range(2):
        plans.of(msgspec.structs.replace(ASKED, snapshot=9), ask)
    assert asked == [*range(1, 7), 1, 9, 9]
