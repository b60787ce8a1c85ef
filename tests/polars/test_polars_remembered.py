"""Whether what is remembered of filters and plans is used for what it was made of, and nothing else."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest

from deltacat_sources.polars import read_deltacat, remembered, scan_deltacat
from io_core.errors import DataFileError
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHERE: dict[str, Any] = {"namespace": "n", "table": "t"}
NAME = "n.t"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    remembered._SAID.clear()
    remembered._BUILT.clear()
    yield
    remembered._SAID.clear()
    remembered._BUILT.clear()


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(tmp_path / "c")
    client.catalog.write(pa.table({"x": [1, 2, 3], "y": ["a", "b", "c"]}), **WHERE)
    return client


def above(client: Client, least: float) -> list[int]:
    found = scan_deltacat(NAME, planner=client).filter(pl.col("x") >= least).collect()
    return list(found["x"])


def test_a_frame_that_is_built_anew_translates_nothing_again(client: Client) -> None:
    assert above(client, 2) == [2, 3]
    known = dict(remembered._SAID)
    assert above(client, 2) == [2, 3]
    assert known
    assert known == remembered._SAID


def test_other_literals_and_other_types_of_them_are_other_filters(client: Client) -> None:
    for least, expected in ((2, [2, 3]), (3, [3]), (2.5, [3]), (2, [2, 3]), (-1, [1, 2, 3])):
        assert above(client, least) == expected, least


def test_a_filter_says_something_else_once_its_column_has_another_type(client: Client) -> None:
    assert above(client, 2) == [2, 3]
    other = pa.table({"x": pa.array([1.5, 2.5]), "y": ["a", "b"]})
    client.catalog.write(other, namespace="n", table="floats")
    found = scan_deltacat("n.floats", planner=client).filter(pl.col("x") >= 2).collect()
    assert found["x"].to_list() == [2.5]
    assert len(remembered._SAID) == 2


def test_a_filter_with_a_function_in_it_is_not_remembered(client: Client) -> None:
    frame = scan_deltacat(NAME, planner=client).with_columns(z=pl.col("x") + 1)
    odd = pl.col("x").map_batches(lambda s: s % 2 == 1, return_dtype=pl.Boolean)
    assert frame.filter(odd).collect()["x"].to_list() == [1, 3]
    assert not remembered._SAID


def test_what_is_remembered_of_filters_is_bounded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_MOST_SAID", 3)
    for least in range(8):
        assert above(client, least) == [x for x in (1, 2, 3) if x >= least]
        assert len(remembered._SAID) <= 3


def test_a_commit_is_seen_by_the_next_frame(client: Client) -> None:
    assert above(client, 2) == [2, 3]
    client.catalog.write(pa.table({"x": [4], "y": ["d"]}), **WHERE)
    assert above(client, 2) == [2, 3, 4]


def test_one_plan_read_in_several_ways_is_read_as_each_asks(client: Client) -> None:
    plan = client.catalog.plan(**WHERE)
    for _ in range(2):
        assert read_deltacat(NAME, plan=plan, columns=["y"]).columns == ["y"]
        assert read_deltacat(NAME, plan=plan).columns == ["x", "y"]
        paths = read_deltacat(NAME, plan=plan, include_file_paths="from")
        assert paths.columns == ["x", "y", "from"]
        assert scan_deltacat(NAME, plan=plan).head(1).collect()["x"].to_list() == [1]
        filtered = scan_deltacat(NAME, plan=plan).filter(pl.col("x") > 2).collect()
        assert filtered["x"].to_list() == [3]


def test_a_frame_is_forgotten_with_its_plan(client: Client) -> None:
    kept = client.catalog.plan(**WHERE)
    # A planner in this process keeps its answers; this one is ours alone.
    plan = kept.with_files(kept.files)
    assert read_deltacat(NAME, plan=plan).height == 3
    assert id(plan) in remembered._BUILT
    del plan
    gc.collect()
    assert not remembered._BUILT


def test_a_file_that_went_is_missed_although_its_frame_is_known(client: Client) -> None:
    plan = client.catalog.plan(**WHERE)
    assert read_deltacat(NAME, plan=plan).height == 3
    os.unlink(plan.paths[0])
    with pytest.raises(DataFileError, match="cannot be opened"):
        read_deltacat(NAME, plan=plan)


def test_rows_that_merge_are_planned_and_built_anew(tmp_path: Path) -> None:
    client = Client(tmp_path / "k")
    rows = pa.table({"k": [1, 2], "v": ["a", "b"]})
    client.catalog.create_table(
        **WHERE, schema=rows.schema, merge_keys=["k"], auto_create_namespace=True
    )
    for value in "xyz":
        client.catalog.write(pa.table({"k": [2], "v": [value]}), **WHERE, mode="merge")
        assert read_deltacat(NAME, planner=client).filter(k=2)["v"].to_list() == [value]
    plans = [found.plan() for found in remembered._BUILT.values()]
    assert not any(plan is not None and plan.requires_merge for plan in plans)
