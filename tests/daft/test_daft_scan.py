"""Whether Daft reads a table as it is, opens no more files than it must, and says what is wrong."""

from __future__ import annotations

import datetime as dt
import io
import os
import subprocess
import sys
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daft import col, lit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deltacat_sources.daft
from deltacat_sources.daft import read_deltacat
from deltacat_sources.daft.types import daft_schema
from io_core.errors import (
    CatalogRootError,
    DataFileError,
    NotFoundError,
    PredicateError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.formats.parquet import entry_of
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from io_core.plan import ReadPlan
    from io_core.scan import Scan

SCHEMA = pa.schema(
    [("id", pa.int64()), ("month", pa.int32()), ("x", pa.float64()), ("name", pa.string())]
)
BY_MONTH = {"keys": [{"key": ["month"], "transform": "identity"}]}
NAN = float("nan")


class Watched(Client):
    """A client that remembers what it was asked to plan, and the answers."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        super().__init__(target)
        self.plans: list[tuple[Scan, ReadPlan]] = []

    def plan_scan(self, scan: Scan) -> ReadPlan:
        plan = super().plan_scan(scan)
        if scan.include_files:
            self.plans.append((scan, plan))
        return plan


@pytest.fixture
def client(tmp_path: Path) -> Watched:
    found = Watched(tmp_path / "catalog")
    found.catalog.create_namespace(namespace="ns")
    return found


def rows(ids: Sequence[int], month: int = 1, x: float | None = 1.0) -> pa.Table:
    return pa.table(
        {
            "id": list(ids),
            "month": [month] * len(ids),
            "x": [x] * len(ids),
            "name": [f"n{i}" for i in ids],
        },
        schema=SCHEMA,
    )


def write(client: Client, *tables: pa.Table, table: str = "t", mode: Any = "append") -> None:
    for data in tables:
        client.catalog.write(data, namespace="ns", table=table, mode=mode)


@pytest.fixture
def plain(client: Watched) -> Watched:
    """Three files of ten rows; ids and months tell them apart."""
    client.catalog.create_table(namespace="ns", table="t", schema=SCHEMA)
    write(client, *(rows(range(10 * m, 10 * m + 10), month=m) for m in range(3)))
    return client


@pytest.fixture
def keyed(client: Watched) -> Watched:
    """Two partitions; ids 0 to 9, of which 3 and 4 were upserted and 5 and 6 deleted."""
    client.catalog.create_table(
        namespace="ns", table="t", schema=SCHEMA, merge_keys=["id"], partition_scheme=BY_MONTH
    )
    for month in (0, 1):
        write(client, rows(range(month, 10, 2), month=month), mode="merge")
    write(client, pa.concat_tables([rows([3], 1, 30.0), rows([4], 0, NAN)]), mode="merge")
    gone = pa.concat_tables([rows([5], 1), rows([6], 0)]).select(["id", "month"])
    write(client, gone, mode="delete")
    return client


def ids(frame: daft.DataFrame) -> list[int]:
    return sorted(frame.to_pydict()["id"])


def as_rows(table: pa.Table) -> list[str]:
    """Rows in an order of their own, with NaN equal to itself."""
    return sorted(map(repr, table.select(sorted(table.column_names)).to_pylist()))


def test_a_frame_holds_the_tables_rows_and_columns(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    assert frame.column_names == SCHEMA.names
    found = frame.to_arrow()
    assert as_rows(found) == as_rows(plain.catalog.read(namespace="ns", table="t"))


def test_columns_choose_and_order_the_frames_columns(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain, columns=["name", "id"])
    assert frame.column_names == ["name", "id"]
    assert frame.where(col("id") == 12).to_pydict() == {"name": ["n12"], "id": [12]}


def test_a_point_filter_leaves_one_file(plain: Watched) -> None:
    assert ids(read_deltacat("ns.t", planner=plain).where(col("id") == 17)) == [17]
    ((_, plan),) = plain.plans
    assert plan.files.num_rows == 1


def test_a_filter_on_a_column_that_is_not_selected_is_applied(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain).where(col("id") >= 28).select("name")
    assert sorted(frame.to_pydict()["name"]) == ["n28", "n29"]
    ((scan, _),) = plain.plans
    assert scan.columns == ("id", "name")


def test_a_filter_by_a_long_list_reads_its_column(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain).where(col("id").is_in(range(27, 500)))
    assert sorted(frame.select("name").to_pydict()["name"]) == ["n27", "n28", "n29"]
    ((scan, _),) = plain.plans
    assert scan.columns == ("id", "name")


def test_a_limit_alone_leaves_the_files_that_hold_enough_rows(plain: Watched) -> None:
    assert read_deltacat("ns.t", planner=plain).limit(10).count_rows() == 10
    assert [plan.files.num_rows for _, plan in plain.plans] == [1]


def test_a_limit_is_not_pushed_below_a_filter(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain).where(col("id") % 10 == 7).limit(2)
    assert len(frame.to_pydict()["id"]) == 2
    assert [scan.row_limit for scan, _ in plain.plans] == [None]


def test_a_filter_above_a_limit_sees_the_limited_rows(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain).limit(10).where(col("id") >= 0)
    assert frame.count_rows() == 10


def test_rows_are_counted_without_opening_a_file(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    for path in plain.catalog.plan(namespace="ns", table="t").paths:
        os.truncate(path, 0)
    assert frame.count_rows() == 30


def test_a_filtered_count_is_exact(plain: Watched) -> None:
    assert read_deltacat("ns.t", planner=plain).where(col("id") > 4).count_rows() == 25


def test_a_count_of_a_column_leaves_nulls_out(plain: Watched) -> None:
    write(plain, rows([30], x=None))
    found = read_deltacat("ns.t", planner=plain).agg(
        col("x").count().alias("x"), col("id").sum().alias("ids"), lit(1).count().alias("all")
    )
    assert found.to_pydict() == {"x": [30], "ids": [465], "all": [31]}


def test_a_frame_of_literals_has_as_many_rows_as_the_table(keyed: Watched) -> None:
    assert len(read_deltacat("ns.t", planner=keyed).select(lit(7)).to_pydict()["literal"]) == 8


def test_an_empty_table_has_its_columns_and_no_rows(client: Watched) -> None:
    client.catalog.create_table(namespace="ns", table="t", schema=SCHEMA)
    frame = read_deltacat("ns.t", planner=client)
    assert frame.to_pydict() == {name: [] for name in SCHEMA.names}
    assert frame.count_rows() == 0
    assert frame.where(col("id") == 1).limit(3).to_pydict()["id"] == []


def test_a_filter_that_no_row_can_pass_asks_no_planner(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    assert frame.where(col("id").is_in([lit(None).cast("bigint")])).to_pydict()["id"] == []
    assert plain.plans == []


def test_repeated_queries_are_planned_once(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain).where(col("id") > 25)
    assert ids(frame) == ids(frame.where(lit(True))) == [26, 27, 28, 29]
    assert len(plain.plans) == 1


def test_a_question_that_is_asked_again_has_its_own_answer(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    whole = as_rows(plain.catalog.read(namespace="ns", table="t"))
    for _ in range(2):
        assert as_rows(frame.to_arrow()) == whole
        assert as_rows(frame.to_arrow()) == whole
        assert frame.select("month").distinct().sort("month").to_pydict() == {"month": [0, 1, 2]}
        assert frame.limit(12).to_arrow().num_rows == 12
        assert frame.limit(25).to_arrow().num_rows == 25
        assert ids(frame.where(col("id") > 27)) == [28, 29]
        assert ids(frame.where(col("id") > 27).limit(1).select("id")) in ([28], [29])
    assert len(plain.plans) == 6


def test_a_question_that_is_asked_again_notices_a_lost_file(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    assert frame.to_arrow().num_rows == 30
    os.remove(plain.plans[-1][1].paths[1])
    with pytest.raises(DataFileError, match="cannot be opened"):
        frame.to_arrow()


def test_daft_is_told_how_many_rows_and_bytes_each_task_has(plain: Watched) -> None:
    held = io.StringIO()
    read_deltacat("ns.t", planner=plain).explain(show_all=True, file=held)
    said = held.getvalue().partition("Physical Plan")[2]
    assert "Approx num rows = 30, " in said
    known = said.partition("Approx size bytes = ")[2].partition(",")[0]
    assert known.endswith("KiB")
    assert 0 < float(known.split()[0]) < 100


def test_a_frame_stays_at_its_snapshot(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    write(plain, rows([99]))
    assert frame.count_rows() == 30
    assert read_deltacat("ns.t", planner=plain).count_rows() == 31


def test_upserts_and_deletes_are_merged(keyed: Watched) -> None:
    frame = read_deltacat("ns.t", planner=keyed)
    assert ids(frame) == [0, 1, 2, 3, 4, 7, 8, 9]
    assert frame.count_rows() == 8
    assert frame.where(col("id") == 3).to_pydict()["x"] == [30.0]
    assert as_rows(frame.to_arrow()) == as_rows(keyed.catalog.read(namespace="ns", table="t"))


def test_an_old_row_does_not_come_back_by_a_filter(keyed: Watched) -> None:
    frame = read_deltacat("ns.t", planner=keyed).where((col("x") == 1.0) & (col("id") < 5))
    assert ids(frame.select("id")) == [0, 1, 2]


def test_a_limit_over_merged_rows_counts_rows_that_are_left(keyed: Watched) -> None:
    assert read_deltacat("ns.t", planner=keyed).limit(8).count_rows() == 8
    assert all(scan.row_limit is None for scan, _ in keyed.plans)


def test_a_partition_filter_leaves_the_partitions_files(keyed: Watched) -> None:
    frame = read_deltacat("ns.t", planner=keyed).where(col("month") == 1)
    assert ids(frame) == [1, 3, 7, 9]
    assert set(keyed.plans[-1][1].column("partition:0")) == {1}
    assert frame.count_rows() == 4


def test_two_reads_join(keyed: Watched) -> None:
    left = read_deltacat("ns.t", planner=keyed).where(col("month") == 1).select("id", "x")
    right = read_deltacat("ns.t", planner=keyed).select("id", "name")
    found = left.join(right, on="id").sort("id").to_pydict()
    assert found["name"] == ["n1", "n3", "n7", "n9"]


def test_sql_sees_the_frame_and_its_filters_are_pushed(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain)
    found = daft.sql("SELECT name FROM frame WHERE id = 12 AND name LIKE 'n%' LIMIT 1", frame=frame)
    assert found.to_pydict() == {"name": ["n12"]}
    assert plain.plans[-1][1].files.num_rows == 1


def test_group_by_adds_up_what_the_arrow_lane_has(keyed: Watched) -> None:
    frame = read_deltacat("ns.t", planner=keyed)
    found = frame.groupby("month").agg(col("id").sum()).sort("month").to_pydict()
    assert found == {"month": [0, 1], "id": [14, 20]}


# --- our own predicates ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "predicate",
    [
        {"gt": ["x", 5]},
        {"eq": ["x", "NaN"]},
        {"neq": ["x", 1]},
        {"not": {"in": ["x", [1, 2]]}},
        {"not": {"eq": ["x", 0]}},
        {"in": ["x", [0, 30]]},
        {"lt": ["x", 0]},
        {"not": {"between": ["x", 0, 2]}},
        {"or": [{"is_null": "x"}, {"in": ["id", [3, None]]}]},
        {"and": [{"gt": ["x", "-Infinity"]}, {"not": {"is_null": "x"}}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("table", ["plain", "keyed"])
def test_our_predicate_means_the_same_as_in_the_arrow_lane(
    table: str, predicate: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    client: Watched = request.getfixturevalue(table)
    # In one row group: Daft's reader would skip it by its footer, which leaves NaN out.
    odd = [rows([40 + i], 1, x) for i, x in enumerate([NAN, 0.0, -0.0, -1.0, None, 1.0])]
    write(client, pa.concat_tables(odd), mode="auto")
    found = read_deltacat("ns.t", planner=client, predicate=predicate, columns=["id"])
    expected = client.catalog.read(
        namespace="ns", table="t", columns=["id"], filter_predicate=predicate
    )
    assert ids(found) == sorted(expected["id"].to_pylist())


def test_our_predicate_is_pushed_to_the_planner(plain: Watched) -> None:
    assert ids(read_deltacat("ns.t", planner=plain, predicate={"eq": ["id", 5]})) == [5]
    assert plain.plans[-1][1].files.num_rows == 1


@pytest.mark.parametrize(
    "said", ["name LIKE 'n17%'", "name = 'n17' AND x < 5", "starts_with(name, 'n17')"]
)
def test_texts_that_daft_never_hands_over_prune_where_our_predicate_says_them(
    plain: Watched, said: str
) -> None:
    frame = read_deltacat("ns.t", planner=plain, predicate=said)
    assert ids(frame) == [17]
    assert plain.plans[-1][1].files.num_rows == 2
    assert ids(read_deltacat("ns.t", planner=plain).where(col("name").startswith("n17"))) == [17]
    assert plain.plans[-1][1].files.num_rows == 3


def test_a_count_over_our_predicate_is_exact(plain: Watched) -> None:
    frame = read_deltacat("ns.t", planner=plain, predicate={"gt": ["x", 0.5]})
    assert frame.where(col("id") > 4).count_rows() == 25
    assert frame.count_rows() == 30


# --- types -----------------------------------------------------------------------------------------

TYPES: list[tuple[pa.DataType, list[Any], pa.DataType | None]] = [
    (pa.bool_(), [True, False], None),
    (pa.int8(), [-128, 127], None),
    (pa.uint64(), [0, 2**64 - 1], None),
    (pa.float16(), [1.5, -2.0], None),
    (pa.float32(), [1.5, float("inf")], None),
    (pa.string(), ["", "é"], pa.large_string()),
    (pa.large_string(), ["", "é"], None),
    (pa.string_view(), ["", "a text longer than twelve bytes"], pa.large_string()),
    (pa.binary(), [b"", b"\xff"], pa.large_binary()),
    (pa.binary_view(), [b"", b"\xff"], pa.large_binary()),
    (pa.binary(2), [b"ab", b"\xff\x00"], None),
    (pa.dictionary(pa.int32(), pa.string()), ["a", "b"], pa.large_string()),
    (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)], None),
    (pa.date64(), [dt.date(1960, 1, 1), dt.date(2024, 2, 29)], pa.date32()),
    (pa.time32("s"), [dt.time(1, 2, 3)], pa.time64("us")),
    (pa.time32("ms"), [dt.time(1, 2, 3, 4000)], pa.time64("us")),
    (pa.time64("us"), [dt.time(23, 59, 59, 999999)], None),
    (pa.time64("ns"), [dt.time(23, 59, 59, 999999)], None),
    (pa.timestamp("s"), [dt.datetime(1960, 1, 1, 1)], None),
    (pa.timestamp("ms", "UTC"), [dt.datetime(1960, 1, 1, tzinfo=dt.UTC)], None),
    (pa.timestamp("us", "Europe/Berlin"), [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], None),
    (pa.timestamp("ns"), [1, -1], None),
    (pa.duration("us"), [dt.timedelta(days=-1, microseconds=1)], None),
    (pa.decimal128(38, 2), [Decimal("9" * 36 + ".99")], None),
    (pa.decimal32(5, 2), [Decimal("1.50")], pa.decimal128(5, 2)),
    (pa.decimal256(30, 2), [Decimal("1.50")], pa.decimal128(30, 2)),
    (pa.list_(pa.int8()), [[1, None], []], pa.large_list(pa.int8())),
    (pa.list_(pa.string_view()), [["a"]], pa.large_list(pa.large_string())),
    (pa.list_(pa.float32(), 2), [[1.0, 2.0]], None),
    (pa.map_(pa.string(), pa.int8()), [[("a", 1)]], pa.map_(pa.large_string(), pa.int8())),
    (pa.struct([("a", pa.int8())]), [{"a": 1}], None),
]


@pytest.mark.parametrize(("dtype", "values", "expected"), TYPES, ids=lambda value: str(value)[:40])
def test_values_of_a_type_come_back(
    client: Watched, dtype: pa.DataType, values: list[Any], expected: pa.DataType | None
) -> None:
    data = pa.table({"v": pa.array([*values, None], dtype)})
    client.catalog.create_table(namespace="ns", table="t", schema=data.schema)
    write(client, data)
    found = read_deltacat("ns.t", planner=client).where(col("v").is_null() | lit(True)).to_arrow()
    assert found.schema.field("v").type == (expected or dtype)
    assert found["v"].cast(expected or dtype).to_pylist() == data["v"].to_pylist()
    null = read_deltacat("ns.t", planner=client, predicate={"is_null": "v"})
    assert null.count_rows() == 1


def test_a_type_that_daft_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="'wide' is of type decimal256"):
        daft_schema(pa.schema([("wide", pa.decimal256(60, 2))]))


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"table": "ns.tt"}, NotFoundError, "did you mean 't'"),
        ({"table": "n.t"}, NotFoundError, "'n' not found"),
        ({"table": "t"}, ValueError, "namespace.table"),
        ({"columns": ["idd"]}, SchemaValidationError, "did you mean 'id'"),
        ({"predicate": {"gt": ["idd", 1]}}, PredicateError, "did you mean 'id'"),
        ({"predicate": {"gt": ["id", "one"]}}, PredicateError, r"\$\.gt"),
        ({"predicate": {"gtt": ["id", 1]}}, PredicateError, "did you mean 'gt'"),
        ({"predicate": ["id"]}, PredicateError, "exactly one operator"),
        ({"table_version": "7"}, NotFoundError, "7"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_any_file_is_planned(
    plain: Watched, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    arguments = {"table": "ns.t", "planner": plain, **arguments}
    with pytest.raises(error, match=says):
        read_deltacat(**arguments)
    assert plain.plans == []


def test_a_directory_that_is_no_catalog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CatalogRootError, match=str(tmp_path)):
        read_deltacat("ns.t", planner=tmp_path)


def test_a_missing_file_is_named_with_its_plan(plain: Watched) -> None:
    path = plain.catalog.plan(namespace="ns", table="t").paths[0]
    os.unlink(path)
    with pytest.raises(DataFileError, match=f"{path}.*ns.t"):
        read_deltacat("ns.t", planner=plain).collect()


def overwrite(path: str, start: int, end: int) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(b"\0" * (end - start))


@pytest.mark.parametrize("table", ["plain", "keyed"])
def test_a_file_without_its_footer_is_named_with_its_plan(
    table: str, request: pytest.FixtureRequest
) -> None:
    client: Watched = request.getfixturevalue(table)
    path = client.catalog.plan(namespace="ns", table="t").paths[0]
    overwrite(path, os.stat(path).st_size - 8, os.stat(path).st_size)
    with pytest.raises(DataFileError, match=f"{path}.*ns.t"):
        read_deltacat("ns.t", planner=client).collect()


@pytest.mark.parametrize("table", ["plain", "keyed"])
def test_a_file_with_damaged_pages_is_named(table: str, request: pytest.FixtureRequest) -> None:
    client: Watched = request.getfixturevalue(table)
    path = client.catalog.plan(namespace="ns", table="t").paths[0]
    overwrite(path, 4, 60)
    with pytest.raises(daft.exceptions.DaftCoreException, match=path):
        read_deltacat("ns.t", planner=client).collect()


# --- the rest --------------------------------------------------------------------------------------


def test_importing_the_module_gives_daft_the_name() -> None:
    assert daft.read_deltacat is deltacat_sources.daft.read_deltacat


def test_a_column_that_older_files_lack_is_null(client: Watched) -> None:
    client.catalog.create_table(namespace="ns", table="t", schema=SCHEMA)
    session = client.stage(namespace="ns", table="t", mode="append")
    os.makedirs(session.data_dir)
    path = os.path.join(session.data_dir, "narrow.parquet")
    pq.write_table(pa.table({"id": pa.array([7], pa.int32())}), path)
    client.commit(session=session, entries=[entry_of(path, SCHEMA)])
    write(client, rows([8]))
    frame = read_deltacat("ns.t", planner=client)
    assert frame.where(col("name").is_null()).to_pydict()["id"] == [7]
    assert ids(frame) == [7, 8]


@settings(suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["id", "x", "month"]), st.sampled_from([0.0, 1.0, 4.0, NAN]), st.booleans())
def test_filters_on_merged_rows_keep_what_daft_keeps_in_memory(
    keyed: Watched, column: str, value: float, negated: bool
) -> None:
    every = daft.from_arrow(keyed.catalog.read(namespace="ns", table="t"))
    keep = ~(col(column) > value) if negated else col(column) <= value
    assert ids(read_deltacat("ns.t", planner=keyed).where(keep)) == ids(every.where(keep))


_ON_RAY = """
    import sys, daft
    from daft import col
    from deltacat_sources.daft import read_deltacat
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    daft.set_runner_ray()
    for table in ("ns.plain", "ns.keyed"):
        frame = read_deltacat(table, planner=sys.argv[1])
        some = frame.where(col("x") > 5).select("id").to_pydict()["id"]
        mine = read_deltacat(table, planner=sys.argv[1], predicate={"eq": ["x", "NaN"]})
        print(table, frame.count_rows(), sorted(some), mine.count_rows(), frame.limit(3).count_rows())
    ray.shutdown()
"""


@pytest.mark.cluster
def test_the_ray_runner_reads_the_same_rows(client: Watched) -> None:
    for table, keys in (("plain", []), ("keyed", ["id"])):
        client.catalog.create_table(namespace="ns", table=table, schema=SCHEMA, merge_keys=keys)
        for data in (rows(range(4)), rows([3, 4], x=9.0), rows([5], x=NAN)):
            write(client, data, table=table, mode="auto")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_ON_RAY), client.target],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ | {"PYTHONPATH": os.getcwd(), "DAFT_RUNNER": "ray"},
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("ns.")]
    assert answers == ["ns.plain 7 [3, 4, 5] 1 3", "ns.keyed 6 [3, 4, 5] 1 3"], done.stderr
