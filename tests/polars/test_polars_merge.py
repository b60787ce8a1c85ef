"""Does Polars leave out dead rows as the Arrow lane does, whether a plan knows them or not?"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from deltacat_sources.polars import scan_deltacat
from deltacat_sources.polars.dead import DeadRows, LiveRows, without_dead
from deltacat_sources.polars.lanes import Column, Lane
from deltacat_sources.polars.scans import Files
from deltacat_sources.polars.types import shown
from io_core import deletes
from io_core.errors import DataFileError, UnsupportedError
from io_core.execute import read_plan
from io_core.merge_order import MERGE_ORDER, dump_merge_order
from io_core.plan import ReadPlan
from io_core.storage import LOCAL
from planner_client import Client
from tests.conformance.test_rows import build as make
from tests.oracle import answer, canonical, rows_of
from tests.strategies import Case, cases, to_polars

if TYPE_CHECKING:
    from pathlib import Path

    from polars._typing import EngineType

ENGINES: list[EngineType] = ["in-memory", "streaming"]
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("merge") / "catalog")


def unknowing(client: Client, table: str) -> ReadPlan:
    """A plan that does not know which rows are dead."""
    namespace, name = table.split(".")
    plan = client.catalog.plan(namespace=namespace, table=name)
    assert not plan.files.num_rows or plan.files["deletes"].null_count == plan.files.num_rows
    return plan


def build(client: Client, case: Case) -> str:
    table = f"merge{next(_NUMBERS)}.table"
    make(client, table, case)
    return table


@settings(suppress_health_check=list(HealthCheck))
@given(cases(engine="polars"))
def test_a_plan_without_delete_sets_gives_the_oracles_rows(client: Client, case: Case) -> None:
    schema = case.spec.schema
    table = build(client, case)
    plan = unknowing(client, table)
    for query in case.queries:
        frame = scan_deltacat(table, plan=plan)
        if query.ast is not None:
            frame = frame.filter(to_polars(query.ast, schema))
        if query.limit is not None or query.offset:
            frame = frame.slice(query.offset, query.limit)
        found = frame.select(query.columns or schema.names).collect(engine="streaming")
        wanted = answer(
            case.rows(),
            schema,
            ast=query.ast,
            columns=query.columns,
            limit=query.limit,
            offset=query.offset,
            dialect="polars",
        )
        assert canonical(rows_of(found.to_arrow()), ordered=True) == canonical(wanted, ordered=True)


def keyed(client: Client, rows: int = 1_000) -> str:
    """A table of which upserts hit one row in ten and deletes one in a hundred, twice."""
    namespace = f"keyed{next(_NUMBERS)}"
    client.catalog.create_namespace(namespace=namespace)
    ids = range(rows)
    first = pa.table({"id": ids, "v": [float(i) for i in ids], "t": [f"row {i}" for i in ids]})
    where: dict[str, Any] = {"namespace": namespace, "table": "t"}
    client.catalog.write(first, **where, merge_keys=["id"])
    for turn in range(2):
        newer = first.filter(pa.array([i % 10 == turn for i in ids]))
        newer = newer.set_column(1, "v", pa.array([-float(turn + 1)] * len(newer)))
        client.catalog.write(newer, **where, mode="merge")
        gone = first.select(["id"]).filter(pa.array([i % 100 == turn for i in ids]))
        client.catalog.write(gone, **where, mode="delete")
    return f"{namespace}.t"


def arrow_rows(plan: ReadPlan) -> pl.DataFrame:
    return shown(read_plan(plan))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("known", [True, False])
def test_dead_rows_are_left_out_without_arrow(
    client: Client, engine: EngineType, known: bool
) -> None:
    table = keyed(client)
    frame = (
        scan_deltacat(table, planner=client)
        if known
        else scan_deltacat(table, plan=unknowing(client, table))
    )
    expected = arrow_rows(unknowing(client, table))
    assert expected.height == 980
    assert "Arrow" not in frame.explain()
    assert_frame_equal(frame.collect(engine=engine), expected)
    assert_frame_equal(frame.slice(95, 20).collect(engine=engine), expected.slice(95, 20))
    assert_frame_equal(frame.tail(3).collect(engine=engine), expected.tail(3))
    assert frame.select("v").sum().collect(engine=engine).item() == expected["v"].sum()
    assert frame.select(pl.len()).collect(engine=engine).item() == expected.height
    for asked in (pl.col("v") < 0, pl.col("id") == 10, pl.col("t") > "row 5"):
        assert_frame_equal(frame.filter(asked).collect(engine=engine), expected.filter(asked))


def test_a_filter_decides_how_dead_rows_are_left_out(client: Client) -> None:
    frame = scan_deltacat(keyed(client), planner=client)
    assert "ROW_INDEX" not in frame.explain()
    assert "ROW_INDEX" in frame.filter(pl.col("v") < 0).explain()


def test_a_limit_opens_the_first_files_whose_rows_live(client: Client) -> None:
    table = keyed(client)
    frame = scan_deltacat(table, planner=client)
    assert frame.head(10).explain().count(".parquet") == 1
    assert frame.head(10).collect().height == 10


def test_a_key_predicate_goes_below_a_merge(client: Client) -> None:
    table = keyed(client)
    frame = scan_deltacat(table, plan=unknowing(client, table)).filter(pl.col("id") == 11)
    assert "SEMI JOIN" in frame.explain()
    assert frame.collect()["v"].to_list() == [-2.0]


def test_a_page_whose_rows_merge_is_refused(client: Client) -> None:
    table = keyed(client)
    whole = unknowing(client, table)
    header = msgspec.structs.replace(whole.header, truncated=True)
    page = ReadPlan(header, whole.files.slice(0, 1))
    with pytest.raises(UnsupportedError, match="one page of a table whose rows merge"):
        scan_deltacat(table, plan=page).collect()


def test_a_delete_set_of_another_file_is_refused(client: Client) -> None:
    table = keyed(client)
    namespace, name = table.split(".")
    plan = client.catalog.plan(namespace=namespace, table=name, delete_sets=True)
    wrong = [deletes.encode(deletes.decode(deletes.encode(_few(), 7), 7), 7)] * plan.files.num_rows
    index = plan.files.schema.get_field_index("deletes")
    damaged = plan.with_files(plan.files.set_column(index, "deletes", pa.array(wrong, pa.binary())))
    frame = scan_deltacat(table, plan=damaged)
    with pytest.raises(DataFileError, match="does not fit its delete set"):
        frame.filter(pl.col("v") < 0).collect()
    with pytest.raises(Exception, match="does not fit its delete set"):
        frame.collect()


def _few() -> deletes.Positions:
    return np.array([0, 3], np.uint32)


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_forms_leave_out_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder: Path = tmp_path_factory.mktemp("forms")
    counts = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=4))
    paths, sets, expected, start = [], [], [], 0
    for number, rows in enumerate(counts):
        paths.append(str(folder / f"{number}.parquet"))
        values = range(start, start + rows)
        pl.DataFrame({"x": values}).write_parquet(paths[-1], row_group_size=7)
        dead = sorted(data.draw(st.sets(st.integers(0, rows - 1))))
        sets.append(deletes.encode(np.array(dead, np.uint32), rows))
        expected += [v for i, v in enumerate(values) if i not in dead]
        start += rows
    lane = Lane("parquet", (Column("x", pl.Int64(), "x", pl.Int64()),))
    files, dead_rows = Files(paths, lane, LOCAL), DeadRows(counts, sets, "no plan")
    for filtered in (False, True):
        frame = without_dead(files, dead_rows, filtered=filtered, path_column=None)
        assert frame.collect()["x"].to_list() == expected
        assert frame.filter(pl.col("x") > 20).collect()["x"].to_list() == [
            v for v in expected if v > 20
        ]


def test_a_vector_answers_for_any_of_its_files(tmp_path: Path) -> None:
    lane = Lane("parquet", (Column("x", pl.Int64(), "x", pl.Int64()),))
    files = Files(["/a", "/b", "/c"], lane, LOCAL)
    one = deletes.encode(np.array([1], np.uint32), 3)
    live = LiveRows(files, DeadRows([3, 2, 3], [one, None, b""], "no plan"))
    asked = pl.DataFrame({"path": ["/b", "/a"]})
    assert live(asked)["selection_vector"].to_list() == [None, [True, False, True]]


def test_a_file_that_lacks_its_key_is_refused(client: Client) -> None:
    table = keyed(client)
    plan = unknowing(client, table)
    pl.DataFrame({"v": [1.0], "t": ["x"]}).write_parquet(plan.paths[0])
    plan = plan.with_files(
        plan.files.set_column(
            plan.files.schema.get_field_index("content_length"),
            "content_length",
            pa.array([0] * plan.files.num_rows, pa.int64()),
        )
    )
    with pytest.raises(pl.exceptions.PolarsError, match="id"):
        scan_deltacat(table, plan=plan).collect()


def test_a_file_with_other_rows_than_planned_is_refused(client: Client) -> None:
    table = keyed(client)
    plan = unknowing(client, table)
    index = plan.files.schema.get_field_index("record_count")
    counts = plan.files["record_count"].to_pylist()
    wrong = plan.files.set_column(index, "record_count", pa.array([counts[0] - 1, *counts[1:]]))
    frame = scan_deltacat(table, plan=plan.with_files(wrong)).filter(pl.col("v") < 0)
    with pytest.raises(Exception, match="rows instead of"):
        frame.collect()


@pytest.mark.parametrize("filtered", [False, True])
def test_polars_follows_a_tables_merge_order(client: Client, filtered: bool) -> None:
    namespace = f"ordered{next(_NUMBERS)}"
    client.catalog.create_namespace(namespace=namespace)
    order = {MERGE_ORDER: dump_merge_order("v", {"sort_order": "descending"})}
    schema = pa.schema([("id", pa.int64()), pa.field("v", pa.int64(), metadata=order)])
    where: dict[str, Any] = {"namespace": namespace, "table": "t"}
    rows = pa.table({"id": [1, 2, 3, 3], "v": [5, 6, 9, 7]}, schema)
    client.catalog.write(rows, **where, merge_keys=["id"])
    client.catalog.write(pa.table({"id": [1], "v": [8]}), **where, mode="merge")
    plan = unknowing(client, f"{namespace}.t")
    frame = scan_deltacat(f"{namespace}.t", plan=plan)
    frame = frame.filter(pl.col("v") > 6) if filtered else frame
    assert "Arrow" not in frame.explain()
    assert sorted(frame.collect().rows()) == [(1, 8), *([] if filtered else [(2, 6)]), (3, 9)]
