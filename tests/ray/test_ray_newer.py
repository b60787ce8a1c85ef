"""Does Ray's newer source interface get limits and filters, and who plans where it is not there?"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import ray
import ray.data
from ray.cloudpickle import dumps, loads
from ray.data._internal.datasource_v2.interfaces.pushdown import ListFilesPushdown
from ray.data.expressions import col

from deltacat_sources.ray import explain, newer, read_deltacat
from deltacat_sources.ray.tasks import most_tasks
from docs.demo.opened import OpenedFiles
from io_core.errors import CatalogRootError
from planner_client import Client
from tests.ray.tables import SCHEMA, CountingClient, ids, keep, rows, table, write
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray without the newer interface."""
    monkeypatch.setitem(sys.modules, "deltacat_sources.ray.newer", None)
    monkeypatch.delattr(sys.modules["deltacat_sources.ray"], "newer")


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray whose newer interface no longer asks which files to leave out."""
    monkeypatch.setattr(newer, "derive_list_files_pushdown", lambda _: ListFilesPushdown())
    newer.works.cache_clear()
    yield
    newer.works.cache_clear()


def operators(dataset: Any) -> str:
    """The names of a dataset's operators."""
    return str(dataset._logical_plan.dag.dag_str)


def table_of(dataset: Any) -> pa.Table:
    blocks = ray.get(list(dataset.to_arrow_refs()))
    return pa.concat_tables([b for b in blocks if b.num_rows] or blocks)


def test_this_rays_newer_interface_is_known(client: CountingClient) -> None:
    assert newer.works()
    dataset = read_deltacat(table(client, rows(0, 20)), planner=client)
    assert "ReadFilesDeltaCat" in operators(dataset)


@pytest.mark.parametrize("how", ["absent", "another"])
def test_a_ray_without_it_reads_by_the_public_interface(
    client: CountingClient, request: pytest.FixtureRequest, how: str
) -> None:
    name = table(client, rows(0, 60))
    request.getfixturevalue(how)
    dataset = read_deltacat(name, planner=client)
    assert "ReadFiles" not in operators(dataset)
    assert ids(table_of(dataset.filter(expr=col("id") > 40))) == list(range(41, 60))
    assert len(dataset.limit(7).take_all()) == 7


def test_it_plans_once_on_the_driver_with_all_that_was_pushed(client: CountingClient) -> None:
    name = table(client, rows(0, 400))
    dataset = read_deltacat(name, planner=client)
    assert dataset.schema().base_schema == SCHEMA
    assert client.plans == []
    asked = dataset.filter(expr=col("id") >= 380).select_columns(["s"]).limit(15)
    assert len(asked.take_all()) == 15
    assert len(client.plans) == 1
    (limited,) = explain(dataset.limit(25))
    assert limited.row_limit == 25
    assert limited.plan.files.num_rows == 3
    assert "limit 25, pushed" in repr(limited)


def test_workers_need_no_planner(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    name = table(CountingClient(root), rows(0, 100))
    with serving(root) as url:
        dataset = read_deltacat(name, planner=Client(url)).filter(expr=col("id") < 55)
        # Ray ships what the optimiser made, which has planned by then.
        explain(dataset)
    assert ids(table_of(dataset)) == list(range(55))


def test_what_travels_holds_no_key_and_no_plan_but_its_tasks() -> None:
    client = Client("http://localhost:1", bearer_token="hush-hush")
    assert b"hush" not in dumps(client)


def test_a_scanner_pickles_with_its_planner_and_without_plans(client: CountingClient) -> None:
    dataset = read_deltacat(table(client, rows(0, 100)), planner=client)
    scanner = dataset._logical_plan.dag.scanner
    before = len(dumps(scanner))
    pruner = scanner.pushed_partition_pruner()
    assert len(dumps(scanner)) == before
    assert b"CountingClient" not in dumps(pruner)
    again = loads(dumps(scanner))
    assert again.reading.shares(4)[0].columns == scanner.reading.shares(4)[0].columns


def test_a_task_opens_no_planner(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    client = Client(root)
    dataset = read_deltacat(table(client, rows(0, 10)), planner=client)
    raw = dumps(dataset._logical_plan.dag.scanner)
    client.close()
    shutil.rmtree(root)
    # What Ray sends to every task, for a reader alone.
    sent = loads(dumps(loads(raw)))
    assert sent.create_reader() is not None
    with pytest.raises(CatalogRootError):
        sent.reading.shares(1)


def test_few_tasks_are_read_without_a_listing_and_many_with_one(
    client: CountingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_deltacat(table(client, rows(0, 60)), planner=client).filter(expr=col("id") > 7)
    unlisted = dataset.materialize()
    monkeypatch.setattr(newer, "_MOST_UNLISTED", 0)
    listed = dataset.materialize()
    assert ids(table_of(unlisted)) == ids(table_of(listed)) == list(range(8, 60))
    assert "ListFiles" not in unlisted.stats()
    assert "ListFiles" in listed.stats()


def test_a_large_cluster_gets_more_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_tasks(200) == 200
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1024.0})
    assert most_tasks(200) == 16 * 1024


def test_a_filter_and_a_limit_bound_what_each_task_reads(
    client: CountingClient, root: Path
) -> None:
    name = table(client, rows(0, 2000))
    dataset = read_deltacat(name, planner=client).filter(expr=col("x") > 1)
    with OpenedFiles(root / "data") as watch:
        found = dataset.limit(3).take_all()
        assert len(found) == 3
        assert all(row["x"] > 1 for row in found)
        assert len(watch.paths()) < 60
    assert dataset.count() == len(keep(rows(0, 2000), col("x") > 1))


def test_a_filter_above_a_limit_is_left_to_ray(client: CountingClient) -> None:
    name = table(client, rows(0, 60))
    own = read_deltacat(name, planner=client, limit=10)
    assert ids(table_of(own.filter(expr=col("id") > 7))) == [8, 9]
    rays = read_deltacat(name, planner=client).limit(10)
    assert rays.filter(expr=col("id") >= 0).count() == 10
    assert "Filter" in operators(own.filter(expr=col("id") > 7))


def test_branches_of_a_dataset_do_not_share_what_is_pushed(client: CountingClient) -> None:
    dataset = read_deltacat(table(client, rows(0, 60)), planner=client)
    low, high = dataset.filter(expr=col("id") < 5), dataset.filter(expr=col("id") > 56)
    assert ids(table_of(low.union(high))) == [0, 1, 2, 3, 4, 57, 58, 59]
    assert dataset.limit(4).union(dataset.limit(3)).count() == 7
    assert dataset.count() == 60


def test_columns_order_counts_and_merges_are_as_by_the_public_interface(
    client: CountingClient, root: Path
) -> None:
    name = table(client, rows(0, 60), merge_keys=["id"])
    write(client, name, rows(10, 20).set_column(3, SCHEMA.field("s"), pa.array(["new"] * 10)))
    dataset = read_deltacat(name, planner=client)
    assert dataset.select_columns(["s", "id"]).schema().names == ["s", "id"]
    with OpenedFiles(root / "data") as watch:
        assert dataset.count() == 60
        assert watch.paths() == []
    assert dataset.filter(expr=col("s") == "new").count() == 10
    assert dataset.limit(25).count() == 25
    ordered = read_deltacat(name, planner=client, override_num_blocks=3)
    assert ids(table_of(ordered)) == list(range(60))


def test_a_transaction_counts_what_it_shows_now(client: CountingClient) -> None:
    name = table(client, rows(0, 10))
    transaction = client.transaction()
    dataset = read_deltacat(name, planner=client, transaction=transaction)
    client.catalog.write(
        rows(10, 30), namespace="ns", table=name.removeprefix("ns."), transaction=transaction
    )
    assert dataset.count() == 30
    transaction.abort()
