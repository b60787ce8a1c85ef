"""What plans remember: is it bounded by bytes, and does it ever change an answer?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.plan import plan_from_wire, plan_to_ipc, plan_to_wire
from planner_client import Client
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.places import DataRoot
from planner_client.server.plan_cache import PlanCache
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    import pytest

    from io_core.plan import ReadPlan

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


def planner_of(root: Path) -> EmbeddedPlanner:
    client = Client(root)
    for x in range(3):
        client.catalog.write(pa.table({"x": [x]}), **WHERE)
    return EmbeddedPlanner(root)


def asked(planner: EmbeddedPlanner, least: int | None = None) -> ReadPlan:
    predicate = None if least is None else {"gte": ["x", least]}
    found: ReadPlan = planner.call(PLAN, PlanRequest(**WHERE, filter_predicate=predicate))
    return found


def test_the_same_question_gets_the_same_plan_without_planning_again(tmp_path: Path) -> None:
    planner = planner_of(tmp_path / "c")
    first = asked(planner, 1)
    held = planner.plans.size_bytes
    assert held > 0
    assert asked(planner, 1) is first
    assert planner.plans.size_bytes == held


def test_what_is_kept_stays_below_the_limit_and_the_oldest_goes_first(tmp_path: Path) -> None:
    planner = planner_of(tmp_path / "c")
    first = asked(planner)
    entry = planner.plans.size_bytes
    cache = PlanCache(limit_bytes=4 * entry)
    for number in range(20):
        cache.keep_answer((number,), first)
        assert cache.size_bytes <= 4 * entry
    assert cache.answer((0,), first.header.expires_at) is None
    assert cache.answer((19,), first.header.expires_at) is first
    # Kept again under the same name it counts once.
    before = cache.size_bytes
    cache.keep_answer((19,), first)
    assert cache.size_bytes == before


def test_what_small_plans_are_counted_as_is_about_what_they_take(tmp_path: Path) -> None:
    planner = planner_of(tmp_path / "c")
    asked(planner, 0)
    before, counted = _resident_bytes(), planner.plans.size_bytes
    for least in range(1, 2_001):
        asked(planner, least)
    grown = _resident_bytes() - before
    assert grown < 2 * (planner.plans.size_bytes - counted)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_plan_that_would_fill_the_cache_is_not_kept_and_drives_nothing_out(
    tmp_path: Path,
) -> None:
    first = asked(planner_of(tmp_path / "c"))
    cache = PlanCache(limit_bytes=2**17)
    cache.keep_answer(("small",), first)
    held = cache.size_bytes
    assert held
    large = first.with_files(pa.concat_tables([first.files] * 1000).combine_chunks())
    assert cache.keep_answer(("large",), large) is large
    assert cache.answer(("large",), None) is None
    assert cache.size_bytes == held
    # One that has grown takes its older self along.
    cache.keep_answer(("small",), large)
    assert (cache.answer(("small",), None), cache.size_bytes) == (None, 0)


def test_plans_of_a_store_are_encoded_once_and_their_keys_are_in_no_encoded_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "whose")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "first-secret")
    planner = EmbeddedPlanner(tmp_path / "c", data_root=DataRoot("s3://bucket/lake"))
    Client(tmp_path / "c").catalog.create_table(
        **WHERE, schema=pa.schema([("x", pa.int64())]), auto_create_namespace=True
    )
    first, second = asked(planner), asked(planner)
    assert first is not second
    assert first.encoded_arrow is second.encoded_arrow
    assert first.encoded_tasks is second.encoded_tasks
    assert first.encoded_arrow == plan_to_ipc(second)
    assert b"first-secret" not in first.encoded_arrow + first.encoded_tasks
    assert first.header.storage_bindings
    told = plan_from_wire(plan_to_wire(first)).credentials or {}
    assert [c.secret_access_key for c in told.values()] == ["first-secret"]
