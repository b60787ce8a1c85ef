"""What the further parameters of scan_deltacat, the frames' namespace and SQL contexts do."""

from __future__ import annotations

import asyncio
import io
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any, assert_type
from xml.etree import ElementTree as ET

import polars as pl
import pyarrow as pa
import pytest

from deltacat_sources.polars import (
    DeltaCatFrame,
    Explanation,
    read_deltacat,
    scan_deltacat,
    sink_deltacat,
    sql_context,
)
from docs.demo.opened import OpenedFiles
from io_core.errors import (
    NotFoundError,
    SchemaValidationError,
    TransactionError,
    UnsupportedError,
)
from io_core.model import WriteSession
from planner_client import Client
from planner_client.server.app import build_app
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from pathlib import Path

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Four files of ten rows."""
    found = Client(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    for i in range(4):
        found.catalog.write(rows(i * 10), **WHERE)
    return found


def rows(start: int) -> pa.Table:
    return pa.table({"id": range(start, start + 10), "x": [float(i % 7) for i in range(10)]})


def test_a_plan_that_was_made_before_is_read_without_a_planner(client: Client) -> None:
    plan = client.catalog.plan(**WHERE, filter_predicate={"gte": ["id", 20]})
    client.catalog.write(rows(100), **WHERE)
    travelled = pickle.loads(pickle.dumps(plan))
    frame = scan_deltacat("ns.t", plan=travelled)
    assert frame.collect()["id"].to_list() == list(range(20, 40))
    assert frame.filter(pl.col("id") == 25).collect().height == 1
    assert read_deltacat(
        "ns.t", plan=plan, predicate={"lt": ["id", 22]}, columns=["id"]
    ).rows() == [
        (20,),
        (21,),
    ]
    assert frame.deltacat.plan() == plan  # type: ignore[attr-defined]


def test_a_page_of_a_plan_is_read_as_far_as_it_goes(client: Client) -> None:
    page = client.catalog.plan(**WHERE, limit=2, offset=1)
    assert scan_deltacat("ns.t", plan=page).collect()["id"].to_list() == list(range(10, 30))


@pytest.mark.parametrize("other", ["planner", "as_of", "changes_since"])
def test_a_plan_leaves_nothing_to_choose(client: Client, other: str) -> None:
    plan = client.catalog.plan(**WHERE)
    value = {"planner": client, "as_of": 1, "changes_since": 1}[other]
    with pytest.raises(ValueError, match="asks no planner"):
        scan_deltacat("ns.t", plan=plan, **{other: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"of another table than ns\.other"):
        scan_deltacat("ns.other", plan=plan)


def test_changes_are_the_rows_that_were_added_since(client: Client) -> None:
    frame = scan_deltacat("ns.t", planner=client)
    seen = DeltaCatFrame(frame).plan().snapshot
    client.catalog.write(rows(100), **WHERE)
    changes = scan_deltacat("ns.t", planner=client, changes_since=seen)
    client.catalog.write(rows(200), **WHERE)
    assert changes.collect()["id"].to_list() == list(range(100, 110))
    assert changes.filter(pl.col("id") > 107).collect().height == 2
    assert DeltaCatFrame(changes).count() == 10


def test_a_frame_of_a_transaction_shows_what_it_does_later(client: Client) -> None:
    outside = scan_deltacat("ns.t", planner=client)
    with client.transaction() as transaction:
        inside = scan_deltacat("ns.t", planner=client, transaction=transaction)
        assert inside.collect().height == 40
        client.catalog.write(rows(100), **WHERE)
        assert inside.collect().height == 50
        assert outside.collect().height == 40
    with pytest.raises(TransactionError):
        scan_deltacat("ns.t", planner=client, transaction=transaction)


def test_rows_are_numbered_after_our_predicate(client: Client) -> None:
    frame = scan_deltacat(
        "ns.t", planner=client, row_index_name="n", predicate={"gte": ["id", 15]}, columns=["id"]
    )
    assert frame.head(2).collect().rows() == [(0, 15), (1, 16)]
    assert frame.filter(pl.col("id") == 30).collect().rows() == [(15, 30)]


@pytest.mark.parametrize("name", ["row_index_name", "include_file_paths"])
def test_an_added_column_needs_a_name_of_its_own(client: Client, name: str) -> None:
    with pytest.raises(SchemaValidationError, match="there is a column 'x' already"):
        scan_deltacat("ns.t", planner=client, **{name: "x"})  # type: ignore[arg-type]


def test_a_count_opens_no_file_where_the_plan_proves_it(client: Client, tmp_path: Path) -> None:
    whole = scan_deltacat("ns.t", planner=client)
    half = scan_deltacat("ns.t", planner=client, predicate={"gte": ["id", 20]})
    with OpenedFiles(tmp_path / "catalog" / "data") as opened:
        assert DeltaCatFrame(whole).count() == 40
        assert DeltaCatFrame(half).count() == 20
        assert DeltaCatFrame(scan_deltacat("ns.t", plan=client.catalog.plan(**WHERE))).count() == 40
    assert opened.paths() == []
    assert DeltaCatFrame(whole.filter(pl.col("id") > 35)).count() == 4
    part = scan_deltacat("ns.t", planner=client, predicate={"gte": ["id", 25]})
    assert DeltaCatFrame(part).count() == 15


def test_dead_rows_do_not_count(client: Client, tmp_path: Path) -> None:
    keyed: dict[str, Any] = {"namespace": "ns", "table": "k"}
    client.catalog.write(rows(0), **keyed, merge_keys=["id"])
    client.catalog.write(rows(5), **keyed, mode="merge")
    frame = scan_deltacat("ns.k", planner=client)
    with OpenedFiles(tmp_path / "catalog" / "data") as opened:
        assert DeltaCatFrame(frame).count() == 15
    assert opened.paths() == []
    assert DeltaCatFrame(scan_deltacat("ns.k", plan=client.catalog.plan(**keyed))).count() == 15
    assert "dead rows known and left out: 5" in str(DeltaCatFrame(frame).explain())


def test_an_explanation_says_what_was_pushed_and_what_stayed(client: Client) -> None:
    frame = scan_deltacat("ns.t", planner=client)
    asked = frame.filter(pl.col("id") >= 20, pl.col("x") % 2 == 0).select("id").head(3)
    found = DeltaCatFrame(asked).explain()
    assert isinstance(found, Explanation)
    text = str(found)
    assert "pushed as {'gte': ['id', 20]}" in text
    assert 'filter [([(col("x")) % (2.0)]) == (0.0)]: stays in Polars' in text
    assert "columns: 2 of 2" in text
    assert "in the table: 4 files" in text
    assert "(-2 files)" in text
    assert "to read: 2 files" in text
    assert "Parquet SCAN" in text
    picture = found._repr_html_()
    assert "<svg" in picture
    assert "to read" in picture


def test_an_explanation_calls_columns_as_the_frame_does(client: Client) -> None:
    asked = scan_deltacat("ns.t", planner=client).filter(pl.col("id").is_in([3, 4]))
    assert 'filter col("id").is_in([[3, 4]]): pushed' in str(DeltaCatFrame(asked).explain())


def test_a_notebook_shows_an_explanation_as_a_picture(client: Client) -> None:
    frame = scan_deltacat("ns.t", planner=client)
    asked = frame.filter(pl.col("id") < 10, pl.col("x") % 2 < 1)
    markup = DeltaCatFrame(asked).explain()._repr_html_()
    page = ET.fromstring(markup)
    (picture,) = page.iter("{http://www.w3.org/2000/svg}svg")
    widths = [int(bar.attrib["width"]) for bar in picture if bar.tag.endswith("rect")]
    words = [text.text or "" for text in picture if text.tag.endswith("text")]
    # In the table, after each step, to read: a bar each, as long as the bytes that are left.
    assert widths[0] > widths[-1] > 0
    assert widths == sorted(widths, reverse=True)
    assert "4 files" in words[2]
    assert any("pushed as {'lt': ['id', 10]}" in word for word in words)
    assert any("stays in Polars" in word for word in words)
    assert "Parquet SCAN" in "".join(page.itertext())


def test_an_explanation_covers_every_table_of_a_query(client: Client) -> None:
    frame = scan_deltacat("ns.t", planner=client)
    joined = frame.filter(pl.col("id") < 10).join(frame.filter(pl.col("id") > 5), on="id")
    plans = DeltaCatFrame(joined).plans()
    assert sorted(plan.files.num_rows for plan in plans) == [1, 4]
    assert len({plan.snapshot for plan in plans}) == 1
    with pytest.raises(ValueError, match="reads 2 tables"):
        DeltaCatFrame(joined).plan()


def test_an_explanation_leaves_out_what_others_ask_meanwhile(client: Client) -> None:
    others: list[pl.LazyFrame] = []

    class Interrupted(Client):
        def plan_scan(self, scan: Any) -> Any:
            for other in others:
                assert other.collect().height == 10
                assert DeltaCatFrame(other).plan().files.num_rows == 1
            return super().plan_scan(scan)

    frame = scan_deltacat("ns.t", planner=Interrupted(client.target))
    others.append(scan_deltacat("ns.t", planner=client).filter(pl.col("id") < 10))
    found = DeltaCatFrame(frame.filter(pl.col("id") >= 10)).plans()
    assert [plan.files.num_rows for plan in found] == [3]


def test_a_query_that_cannot_be_copied_is_explained_as_far_as_it_can(client: Client) -> None:
    lock = threading.Lock()

    def holding(rows: pl.DataFrame) -> pl.DataFrame:
        with lock:
            return rows

    frame = scan_deltacat("ns.t", planner=client)
    assert DeltaCatFrame(frame.map_batches(lambda rows: rows)).plan().files.num_rows == 4
    with pytest.raises(UnsupportedError, match="ask of the frame before that part"):
        DeltaCatFrame(frame.map_batches(holding)).explain()


def test_a_snapshot_id_is_that_of_the_planned_files(client: Client) -> None:
    frame = scan_deltacat("ns.t", planner=client)
    assert DeltaCatFrame(frame).snapshot_id == client.catalog.plan(**WHERE).snapshot_id
    assert frame.deltacat.snapshot_id == DeltaCatFrame(frame).snapshot_id  # type: ignore[attr-defined]


def test_a_reused_frame_is_planned_once(client: Client) -> None:
    asked: list[object] = []

    class Counting(Client):
        def plan_scan(self, scan: Any) -> Any:
            asked.append(scan)
            return super().plan_scan(scan)

    frame = scan_deltacat("ns.t", planner=Counting(client.target)).filter(pl.col("id") == 15)
    assert [frame.collect().height for _ in range(3)] == [1, 1, 1]
    assert len(asked) == 2


def test_type_checkers_see_what_each_call_returns(client: Client) -> None:
    # mypy checks what is claimed here; a name that is attached to Polars is the same function.
    frame = scan_deltacat("ns.t", planner=client)
    assert_type(frame, pl.LazyFrame)
    assert_type(read_deltacat("ns.t", planner=client), pl.DataFrame)
    assert_type(sink_deltacat(frame.head(1), "ns.t", planner=client), WriteSession)
    assert_type(sink_deltacat(frame, "ns.t", planner=client, lazy=True), pl.LazyFrame)
    assert_type(DeltaCatFrame(frame).count(), int)
    assert_type(sql_context(client).execute("SELECT 1"), pl.LazyFrame)
    attached = (vars(pl)["scan_deltacat"], vars(pl.LazyFrame)["sink_deltacat"])
    assert attached == (scan_deltacat, sink_deltacat)


def test_sql_sees_every_table_of_a_catalog(client: Client) -> None:
    client.catalog.write(pa.table({"id": [3], "name": ["c"]}), namespace="ns", table="names")
    context = sql_context(client)
    query = 'SELECT n.name, t.x FROM "ns.t" t JOIN "ns.names" n ON t.id = n.id WHERE t.id < 10'
    assert context.execute(query).collect().rows() == [("c", 3.0)]
    client.catalog.write(rows(100), **WHERE)
    assert context.execute('SELECT count(*) FROM "ns.t"', eager=True).item() == 50
    short = sql_context(client, namespace="ns")
    found = DeltaCatFrame(short.execute("SELECT x FROM t WHERE id = 15")).plan()
    assert found.files.num_rows == 1
    with pytest.raises(pl.exceptions.SQLInterfaceError):
        context.execute("SELECT * FROM nothing").collect()
    with pytest.raises(NotFoundError):
        sql_context(client, namespace="nss").execute("SELECT 1")


def test_sql_shows_the_past_and_frames_that_were_registered(client: Client) -> None:
    before = time.time_ns()
    client.catalog.write(rows(100), **WHERE)
    context = sql_context(client, namespace="ns", as_of=before)
    context.register("wanted", pl.LazyFrame({"id": [3, 103]}))
    found = context.execute("SELECT t.id FROM t JOIN wanted w ON t.id = w.id", eager=True)
    assert found.rows() == [(3,)]


def test_a_callers_token_stands_in_nothing_that_a_frame_shows_or_sends(
    client: Client, tmp_path: Path
) -> None:
    client.close()
    secret = "s3cret-token"
    with (
        listening(build_app(EmbeddedPlanner(tmp_path / "catalog"))) as url,
        Client(url, bearer_token=secret) as asking,
    ):
        frame = scan_deltacat("ns.t", planner=asking).filter(pl.col("id") > 35)
        sink = sink_deltacat(frame, "ns.copy", planner=asking, lazy=True)
        explained = DeltaCatFrame(frame).explain()
        shown = [repr(frame), frame.explain(), repr(explained), explained._repr_html_()]
        shown += [repr(vars(frame)), repr(asking), sink.explain(), repr(sink)]
        sent = [asked.serialize() for asked in (frame, sink)]
        for text in [*shown, *(one.decode("latin-1") for one in sent)]:
            assert secret not in text
        again, written = (pl.LazyFrame.deserialize(io.BytesIO(one)) for one in sent)
        assert again.collect()["id"].to_list() == [36, 37, 38, 39]
        assert written.collect()["total_records"].item() == 4


class Gathered:
    """Lets plans go only when so many are asked for at once."""

    def __init__(self, app: Any, together: int) -> None:
        self.armed = False
        self._app = app
        self._together = together
        self._waiting = 0
        self._all_here = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.armed and "plan" in scope.get("path", ""):
            self._waiting += 1
            if self._waiting == self._together:
                self._all_here.set()
            await asyncio.wait_for(self._all_here.wait(), timeout=60)
        await self._app(scope, receive, send)


def test_the_tables_of_a_query_are_planned_at_the_same_time(client: Client, tmp_path: Path) -> None:
    client.close()
    app = Gathered(build_app(EmbeddedPlanner(tmp_path / "catalog")), together=3)
    with listening(app) as url:  # type: ignore[arg-type]  # any ASGI application
        frames = [scan_deltacat("ns.t", planner=Client(url)) for _ in range(3)]
        parts = [f.filter(pl.col("id") >= 10 * i) for i, f in enumerate(frames)]
        app.armed = True
        assert pl.concat(parts).select(pl.len()).collect().item() == 40 + 30 + 20
