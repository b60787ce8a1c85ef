"""Whether rows that a plan knows to be dead stay away, whatever Daft is asked."""

from __future__ import annotations

import gc
import glob
import io
import tempfile
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from daft import col, lit

from deltacat_sources.daft import read_deltacat
from io_core.errors import DataFileError
from io_core.execute import read_plan
from io_core.model import TableRef
from io_core.scan import Scan
from planner_client import Client

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


def test_position_files_go_with_the_frame(keyed: Planned) -> None:
    pattern = f"{tempfile.gettempdir()}/deltacat-positions-*"
    before = set(glob.glob(pattern))
    frame = read_deltacat("ns.t", planner=keyed)
    frame.sum("x").collect()
    assert set(glob.glob(pattern)) - before
    del frame
    gc.collect()
    assert set(glob.glob(pattern)) <= before


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
