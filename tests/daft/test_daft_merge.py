"""Whether rows that a plan knows to be dead stay away, whatever Daft is asked."""

from __future__ import annotations

import gc
import io
import os
from typing import TYPE_CHECKING, Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from daft import col, lit

from deltacat_sources.daft import read_deltacat
from io_core.errors import DataFileError
from io_core.execute import read_plan
from io_core.model import TableRef
from io_core.scan import Scan
from planner_client import Client
from planner_client.server.deletes import advance
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from io_core.plan import ReadPlan

ROWS = 3_000
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.int64()), ("s", pa.string())])


class Planned(Client):
    """A client whose plans go through a function first."""

    change: Callable[[ReadPlan], ReadPlan] | None = None

    def plan_scan(self, scan: Scan) -> ReadPlan:
        plan = super().plan_scan(scan)
        return plan if self.change is None or not scan.include_files else self.change(plan)


def rows(ids: range, x: int) -> pa.Table:
    held = list(ids)
    columns = {"id": held, "x": [x + i for i in held], "s": [f"s{i % 7}" for i in held]}
    return pa.table(columns, schema=SCHEMA)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """Three files of which each later one kills rows of the others, and a file of deletes."""
    client = Planned(tmp_path_factory.mktemp("keyed") / "catalog")
    client.catalog.create_table(
        namespace="ns", table="t", schema=SCHEMA, merge_keys=["id"], auto_create_namespace=True
    )
    for data in (rows(range(ROWS), 0), rows(range(ROWS // 2), 10**6)):
        client.catalog.write(data, namespace="ns", table="t", mode="merge")
    client.catalog.write(
        rows(range(0, ROWS, 3), 2 * 10**6), namespace="ns", table="t", mode="merge"
    )
    gone = pa.table({"id": list(range(5, ROWS, 11))})
    client.catalog.write(gone, namespace="ns", table="t", mode="delete")
    return client


@pytest.fixture(params=["known", "unknown"])
def either(request: pytest.FixtureRequest, keyed: Planned) -> Planned:
    """The table as the planner says it, and as one that has not found the dead rows yet."""
    if request.param == "known":
        return keyed
    client = Planned(keyed.target)
    client.change = without_sets
    return client


def without_sets(plan: ReadPlan) -> ReadPlan:
    files = plan.files
    at = files.column_names.index("deletes")
    nothing = pa.nulls(files.num_rows, pa.binary())
    return plan.with_files(files.set_column(at, "deletes", nothing))


def alive(client: Client) -> pa.Table:
    return read_plan(planned(client))


def test_the_planner_says_which_rows_are_dead(keyed: Planned) -> None:
    plan = planned(keyed)
    data = plan.files.filter(pc.not_equal(plan.files["delta_type"], "delete"))
    assert data["deletes"].null_count == 0
    assert any(data["deletes"].to_pylist())


def planned(client: Client) -> ReadPlan:
    return Scan(TableRef.parse("ns.t"), client).plan()


@pytest.mark.parametrize("least", [None, 0, 10**6, 2 * 10**6])
def test_answers_are_those_of_the_rows_that_live(either: Planned, least: int | None) -> None:
    wanted = alive(either)
    frame = read_deltacat("ns.t", planner=either)
    if least is not None:
        wanted, frame = wanted.filter(pc.field("x") >= least), frame.where(col("x") >= least)
    assert frame.count_rows() == wanted.num_rows
    assert sorted(frame.to_pydict()["id"]) == sorted(wanted["id"].to_pylist())
    assert frame.sum("x").to_pydict()["x"] == [pc.sum(wanted["x"]).as_py()]
    assert frame.agg(col("s").count()).to_pydict()["s"] == [wanted.num_rows]
    assert frame.agg(col("id").count_distinct()).to_pydict()["id"] == [wanted.num_rows]
    assert len(frame.select(lit(7)).to_pydict()["literal"]) == wanted.num_rows
    found = daft.sql("SELECT count(*) AS n, min(x) AS a, max(x) AS b FROM frame", frame=frame)
    low, high = pc.min_max(wanted["x"]).values()
    assert found.to_pydict() == {"n": [wanted.num_rows], "a": [low.as_py()], "b": [high.as_py()]}


@pytest.mark.parametrize("limit", [1, 10, 500, 1_400, 2_000, ROWS])
def test_a_limit_counts_rows_that_live(either: Planned, limit: int) -> None:
    wanted = alive(either)
    found = read_deltacat("ns.t", planner=either).limit(limit).to_arrow()
    assert found.num_rows == min(limit, wanted.num_rows)
    assert set(found["x"].to_pylist()) <= set(wanted["x"].to_pylist())


def test_a_limit_reads_the_files_that_hold_it(keyed: Planned) -> None:
    text = explained(read_deltacat("ns.t", planner=keyed).limit(10))
    assert "Num Scan Tasks = 1" in text


def explained(frame: daft.DataFrame) -> str:
    held = io.StringIO()
    frame.explain(show_all=True, file=held)
    return held.getvalue()


def test_counting_opens_no_file_where_the_plan_knows_the_dead(
    keyed: Planned, tmp_path: Path
) -> None:
    client = Planned(keyed.target)
    client.change = lambda plan: elsewhere(plan, str(tmp_path))
    assert read_deltacat("ns.t", planner=client).count_rows() == alive(keyed).num_rows


def elsewhere(plan: ReadPlan, folder: str) -> ReadPlan:
    """The plan with paths where nothing is."""
    paths = pa.array([f"{folder}/{i}.parquet" for i in range(plan.files.num_rows)])
    return plan.with_files(plan.files.set_column(0, "path", paths))


def test_an_iterator_outlives_its_frame(keyed: Planned) -> None:
    batches = read_deltacat("ns.t", planner=keyed).where(col("x") >= 0).to_arrow_iter()
    gc.collect()
    assert sum(batch.num_rows for batch in batches) == alive(keyed).num_rows


def test_a_damaged_delete_set_names_its_file(keyed: Planned) -> None:
    client = Planned(keyed.target)
    client.change = damaged
    with pytest.raises((DataFileError, daft.exceptions.DaftCoreException), match="delete set"):
        read_deltacat("ns.t", planner=client).sum("x").collect()


def damaged(plan: ReadPlan) -> ReadPlan:
    sets = [None if held is None else held[:-1] + b"x" for held in plan.column("deletes")]
    at = plan.files.column_names.index("deletes")
    return plan.with_files(plan.files.set_column(at, "deletes", pa.array(sets, pa.binary())))


def test_a_plan_made_before_is_read_without_a_planner(keyed: Planned) -> None:
    frame = read_deltacat("ns.t", plan=planned(keyed))
    assert frame.count_rows() == alive(keyed).num_rows
    assert frame.where(col("id") == 3).to_pydict()["x"] == [2 * 10**6 + 3]


def test_a_plan_of_another_table_is_refused(keyed: Planned) -> None:
    with pytest.raises(ValueError, match="is of another table"):
        read_deltacat("ns.u", plan=planned(keyed))
    with pytest.raises(ValueError, match="asks no planner"):
        read_deltacat("ns.t", plan=planned(keyed), planner=keyed)


# --- files of every shape ---------------------------------------------------------------------------


def keyed_table(folder: Path, data: pa.Table, *newer: pa.Table, file_rows: int = 10**7) -> Client:
    """A table of one file, and of one for each upsert."""
    client = Client(folder / "catalog")
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}  # Any: of any call
    client.catalog.create_table(
        **where, schema=data.schema, merge_keys=["id"], auto_create_namespace=True
    )
    for rows_ in (data, *newer):
        client.catalog.write(rows_, **where, mode="merge", max_rows_per_file=file_rows)
    return client


def test_a_large_file_is_masked_row_group_by_row_group(tmp_path: Path) -> None:
    ids = np.arange(1_200_000)
    data = pa.table({"id": ids, "x": ids % 1000, "y": ids * 2})
    newer = pa.table({"id": ids[::5], "x": ids[::5] * 0 - 1, "y": ids[::5]})
    keyed_table(tmp_path, data, newer).close()
    planner = EmbeddedPlanner(tmp_path / "catalog")
    advance(planner, None)
    planner.deletes.settle()
    planner.close()
    client = Client(tmp_path / "catalog")
    assert all(held is not None for held in planned(client).column("deletes"))
    frame = read_deltacat("ns.t", planner=client)
    wanted = pa.concat_tables([data.filter(pa.array(ids % 5 != 0)), newer])
    assert frame.sum("y").to_pydict()["y"] == [pc.sum(wanted["y"]).as_py()]
    assert frame.where(col("x") == 5).to_pydict()["id"] == []
    assert sorted(frame.where(col("x") == 7).to_pydict()["y"]) == [2 * i for i in ids[7::1000]]
    assert frame.limit(1_100_000).to_arrow()["id"].combine_chunks().unique().__len__() == 1_100_000


def test_a_filter_keeps_nan_where_a_file_holds_dead_rows(tmp_path: Path) -> None:
    data = pa.table({"id": [1, 2, 3], "x": [float("nan"), 1.0, 9.0], "s": ["a", "b", "c"]})
    client = keyed_table(tmp_path, data, pa.table({"id": [3], "x": [0.0], "s": ["d"]}))
    frame = read_deltacat("ns.t", planner=client)
    assert frame.where(~(col("x") <= 5)).to_pydict()["s"] in (["a"], [])
    mine = read_deltacat("ns.t", planner=client, predicate={"gt": ["x", 5]})
    assert mine.to_pydict()["s"] == ["a"]


def test_a_file_that_lacks_a_column_shows_nulls_beside_its_dead_rows(tmp_path: Path) -> None:
    data = pa.table({"id": [1, 2, 3], "x": [10, 20, 30]})
    client = keyed_table(tmp_path, data)
    newer = pa.table({"id": [2, 4], "x": [21, 40], "s": ["b", None]})
    client.catalog.write(newer, namespace="ns", table="t", mode="merge")
    frame = read_deltacat("ns.t", planner=client)
    assert sorted(frame.where(col("s").is_null()).to_pydict()["x"]) == [10, 30, 40]
    assert frame.where(col("s") == "b").to_pydict() == {"id": [2], "x": [21], "s": ["b"]}
    assert sorted(map(str, frame.select("s").to_pydict()["s"])) == ["None", "None", "None", "b"]


def test_a_file_of_another_number_of_rows_is_named(tmp_path: Path) -> None:
    data = pa.table({"id": [1, 2, 3], "x": [1, 2, 3]})
    client = keyed_table(tmp_path, data, pa.table({"id": [3], "x": [4]}))
    plan = planned(client)
    short = pa.table({"id": [1, 2], "x": [1, 2]})
    pq.write_table(short, plan.paths[0])
    size = pa.array([os.stat(path).st_size for path in plan.paths])
    at = plan.files.column_names.index("content_length")
    changed = plan.with_files(plan.files.set_column(at, "content_length", size))
    with pytest.raises(Exception, match=f"{plan.paths[0]}.*has 2 rows where 3"):
        read_deltacat("ns.t", plan=changed).to_arrow()


def test_many_files_with_dead_rows_are_read_at_once(tmp_path: Path) -> None:
    ids = list(range(400))
    data = pa.table({"id": ids, "x": ids})
    newer = pa.table({"id": ids[::2], "x": [-i for i in ids[::2]]})
    client = keyed_table(tmp_path, data, newer, file_rows=10)
    left = read_deltacat("ns.t", planner=client)
    right = read_deltacat("ns.t", planner=client).where(col("x") <= 0).select("id")
    assert sorted(left.join(right, on="id").to_pydict()["x"]) == sorted(-i for i in ids[::2])


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "a*b", "a[b]", "a?b", "é"])
def test_a_path_is_taken_as_it_stands(tmp_path: Path, name: str) -> None:
    data = pa.table({"id": [1, 2, 3], "x": [1, 2, 3]})
    client = keyed_table(tmp_path / name, data, pa.table({"id": [3], "x": [9]}))
    frame = read_deltacat("ns.t", planner=client)
    assert sorted(frame.where(col("x") > 1).to_pydict()["x"]) == [2, 9]
