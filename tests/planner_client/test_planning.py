"""Does a plan hold the files that can match, in order, in pages, at one snapshot?"""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from io_core.errors import (
    NotFoundError,
    PredicateError,
    RequestRejectedError,
    SchemaValidationError,
)
from io_core.execute import read_plan
from io_core.formats.parquet import entry_of, write
from io_core.model import TableRef
from io_core.predicate import Compare, parse
from io_core.scan import Planner, Scan
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transport import InProcessTransport

if TYPE_CHECKING:
    from pathlib import Path

    from io_core.plan import ReadPlan

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
TABLE = TableRef("ns", "t")
NUMBERS = pa.table({"x": list(range(12)), "p": [i // 3 for i in range(12)]})
_NAMES = itertools.count()


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """An unkeyed table of six files of two rows each: x is 0 to 11."""
    found = Client(tmp_path / "catalog")
    found.catalog.write(NUMBERS, **WHERE, max_rows_per_file=2)
    return found


@pytest.fixture
def keyed(tmp_path: Path) -> Client:
    """A keyed table of four partitions: three upserts of one row each, then one of the first row."""
    found = Client(tmp_path / "keyed")
    scheme = {"keys": [{"key": ["p"]}]}
    found.catalog.write(
        NUMBERS, **WHERE, merge_keys=["x"], partition_scheme=scheme, max_rows_per_file=1
    )
    found.catalog.write(NUMBERS.slice(0, 1), **WHERE)
    return found


def pages(client: Client, size: int, **kwargs: Any) -> list[ReadPlan]:
    # Any: what `plan` takes.
    found, offset = [], 0
    while True:
        page = client.catalog.plan(**WHERE, limit=size, offset=offset, **kwargs)
        found.append(page)
        if page.header.next_file_offset is None:
            return found
        offset = page.header.next_file_offset


# --- pruning --------------------------------------------------------------------------------------


def test_statistics_leave_the_files_that_can_match(client: Client) -> None:
    plan = client.catalog.plan(**WHERE, filter_predicate={"between": ["x", 3, 6]})
    assert [client.catalog.plan(**WHERE).paths[i] for i in (1, 2, 3)] == plan.paths
    assert plan.column("residual") == [True, False, True]
    assert (plan.total_files, plan.total_records, plan.header.table_files) == (3, 6, 6)
    assert [(s.step, s.columns, s.files) for s in plan.header.pruned] == [("statistics", ("x",), 3)]


def test_a_false_predicate_leaves_nothing_to_read(client: Client) -> None:
    plan = client.catalog.plan(**WHERE, filter_predicate={"eq": ["x", 1.5]})
    assert (plan.paths, plan.total_files, plan.snapshot_id) == ([], 0, None)
    assert read_plan(plan).num_rows == 0
    assert read_plan(plan).column_names == ["x", "p"]


def test_where_rows_merge_only_keys_and_partitions_rule_files_out(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"k": [1, 2], "v": ["old", "old"]}), **WHERE, merge_keys=["k"])
    client.catalog.write(pa.table({"k": [1], "v": ["new"]}), **WHERE)
    by_value = {"eq": ["v", "old"]}
    assert client.catalog.plan(**WHERE, filter_predicate=by_value).total_files == 2
    assert client.catalog.read(**WHERE, filter_predicate=by_value).to_pylist() == [
        {"k": 2, "v": "old"}
    ]
    either = {"or": [by_value, {"eq": ["k", 7]}]}
    assert client.catalog.plan(**WHERE, filter_predicate=either).total_files == 2
    both = {"and": [by_value, {"eq": ["k", 7]}]}
    assert client.catalog.plan(**WHERE, filter_predicate=both).total_files == 0
    assert client.catalog.plan(**WHERE, filter_predicate={"eq": ["k", 1]}).column("residual") == [
        True,
        False,
    ]


def test_a_column_that_a_merging_table_is_divided_by_rules_out_partitions_and_no_files(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "catalog")
    scheme = {"keys": [{"key": ["p"], "transform": "truncate(10)"}]}
    old = pa.table({"k": [1, 2, 3], "p": [1, 2, 30]})
    client.catalog.write(old, **WHERE, merge_keys=["k"], partition_scheme=scheme)
    client.catalog.write(pa.table({"k": [1], "p": [9]}), **WHERE)
    low = {"lt": ["p", 5]}
    assert client.catalog.plan(**WHERE, filter_predicate=low).total_files == 2
    found = client.catalog.read(**WHERE, filter_predicate=low)
    assert found.to_pylist() == [{"k": 2, "p": 2}]


@pytest.mark.parametrize(
    ("dtype", "values", "literal", "transforms"),
    [
        (pa.string_view(), ["abc", "b", None], "abc", ["identity", "truncate(1)", "bucket(4)"]),
        (pa.binary_view(), [b"abc", b"b", None], "YWJj", ["identity", "truncate(1)", "bucket(4)"]),
        (pa.decimal64(9, 2), ["1.25", "2.00", None], "1.25", ["identity", "bucket(4)"]),
        (pa.float16(), [1.5, 2.0, None], 1.5, ["void"]),
    ],
)
def test_types_that_arrow_hardly_knows_divide_a_table_too(
    tmp_path: Path, dtype: pa.DataType, values: list[Any], literal: object, transforms: list[str]
) -> None:
    client = Client(tmp_path / "catalog")
    table = pa.table({"p": pa.array(values).cast(dtype), "n": [1, 2, 3]})
    for i, transform in enumerate(transforms):
        where: dict[str, Any] = {"namespace": "ns", "table": f"t{i}"}
        scheme = {"keys": [{"key": ["p"], "transform": transform}]}
        client.catalog.write(table, **where, partition_scheme=scheme)
        assert sorted(client.catalog.read(**where).column("n").to_pylist()) == [1, 2, 3]
        if dtype != pa.float16():
            found = client.catalog.read(**where, filter_predicate={"eq": ["p", literal]})
            assert found.column("n").to_pylist() == [1]


def test_partitions_rule_out_delete_files_with_their_data(keyed: Client) -> None:
    keyed.catalog.write(NUMBERS.slice(0, 1), **WHERE, mode="delete")
    plan = keyed.catalog.plan(**WHERE, filter_predicate={"eq": ["p", 3]})
    assert (plan.total_files, set(plan.column("delta_type"))) == (3, {"upsert"})


def test_a_delete_by_another_column_is_not_ruled_out_by_the_keys_it_happens_to_hold(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(pa.table({"k": [1, 2], "v": ["a", "b"]}), **WHERE, merge_keys=["k"])
    session = client.catalog.stage(**WHERE, mode="delete", allow_external_entries=True)
    path = str(tmp_path / "gone.parquet")
    write(pa.table({"k": [99], "v": ["a"]}), path)
    entry = entry_of(path, client.catalog.plan(**WHERE).schema)
    params = {"equality_field_locators": ["v"]}
    fields = {f: getattr(entry, f) for f in entry.__struct_fields__} | {"entry_params": params}
    client.commit(session=session, entries=[type(entry)(**fields)])
    one = {"eq": ["k", 1]}
    assert client.catalog.read(**WHERE).to_pylist() == [{"k": 2, "v": "b"}]
    assert client.catalog.read(**WHERE, filter_predicate=one).num_rows == 0
    assert client.catalog.plan(**WHERE, filter_predicate=one).total_files == 2


@pytest.mark.parametrize(
    ("predicate", "problem"),
    [
        ({"eq": ["y", 1]}, "unknown column 'y'"),
        ({"eq": ["x", "abc"]}, "'abc' is no number literal"),
        ({"and": [{"eq": ["x", 1]}]}, r"\$\.and: expected two or more"),
    ],
)
def test_a_wrong_predicate_is_refused_before_any_file_is_looked_at(
    client: Client, predicate: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PredicateError, match=problem):
        client.catalog.plan(**WHERE, filter_predicate=predicate)
    with pytest.raises(PredicateError, match=problem):
        client.catalog.read(**WHERE, filter_predicate=predicate)


def test_unknown_columns_are_refused_by_plans_reads_and_scans(client: Client) -> None:
    with pytest.raises(SchemaValidationError, match="unknown column 'xx'"):
        client.catalog.plan(**WHERE, columns=["xx"])
    with pytest.raises(SchemaValidationError, match="unknown column 'xx'"):
        client.catalog.read(**WHERE, columns=["x", "xx"])
    with pytest.raises(SchemaValidationError, match="unknown column 'xx'"):
        Scan(TABLE, client, columns=("xx",)).pinned()
    with pytest.raises(PredicateError, match="unknown column 'xx'"):
        Scan(TABLE, client, predicate=Compare("eq", "xx", 1)).pinned()


def test_statistics_come_on_request_for_the_columns_asked_for(client: Client) -> None:
    assert not [n for n in client.catalog.plan(**WHERE).files.column_names if ":" in n]
    found = client.catalog.plan(**WHERE, include_stats=True, columns=["x"]).files.column_names
    assert {n for n in found if ":" in n} == {"min:x", "max:x", "null_count:x", "nan_count:x"}


def test_a_header_costs_no_files(client: Client) -> None:
    plan = client.catalog.plan(**WHERE, include_files=False)
    assert (plan.paths, plan.total_files, plan.header.returned_files) == ([], 6, 0)
    assert not plan.header.truncated
    assert plan.snapshot_id == client.catalog.plan(**WHERE).snapshot_id


def test_a_partition_filter_that_names_nothing_is_refused(tmp_path: Path, client: Client) -> None:
    request = PlanRequest(namespace="ns", table="t", partition_filter=[{}])
    with pytest.raises(RequestRejectedError, match="name a partition_id or partition_values"):
        EmbeddedPlanner(tmp_path / "catalog").call(PLAN, request)


def test_ruling_out_by_text_imports_no_datasets(client: Client, tmp_path: Path) -> None:
    rows = pa.table({"name": ["a", "b", "c"], "m": [1, 2, 3]})
    client.catalog.write(rows, namespace="ns", table="texts", max_rows_per_file=1)
    code = """
import sys
from planner_client import Client
plan = Client(sys.argv[1]).catalog.plan(
    namespace="ns", table="texts", filter_predicate={"eq": ["name", "b"]}
)
print(plan.files.num_rows, "pyarrow.acero" in sys.modules, "pyarrow.dataset" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "catalog")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["1", "False", "False"]


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 100])
def test_pages_cover_every_file_once_in_order(client: Client, size: int) -> None:
    whole = client.catalog.plan(**WHERE)
    found = pages(client, size)
    assert [p for page in found for p in page.paths] == whole.paths
    assert len(found) == -(-6 // size)
    assert all(p.total_files == 6 and p.snapshot_id == whole.snapshot_id for p in found)
    assert [p.header.returned_files for p in found] == [len(p.paths) for p in found]
    assert [p.header.truncated for p in found] == [True] * (len(found) - 1) + [False]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_pages_never_split_files_that_merge(keyed: Client, size: int) -> None:
    whole = keyed.catalog.plan(**WHERE)
    found = pages(keyed, size)
    assert [p for page in found for p in page.paths] == whole.paths
    partitions = [set(page.column("partition_id")) for page in found]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(partitions, 2))


def test_an_offset_inside_of_a_merge_group_is_refused(keyed: Client) -> None:
    with pytest.raises(RequestRejectedError, match="continue at the last page's next_file_offset"):
        keyed.catalog.plan(**WHERE, offset=1)


def test_a_page_beyond_the_end_is_empty(client: Client) -> None:
    page = client.catalog.plan(**WHERE, limit=2, offset=99)
    assert (page.paths, page.header.truncated, page.total_files) == ([], False, 6)


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1, -1)])
def test_pages_of_no_size_are_refused(client: Client, limit: int, offset: int) -> None:
    with pytest.raises(RequestRejectedError, match="file_offset must be at least 0"):
        client.catalog.plan(**WHERE, limit=limit, offset=offset)


# --- row limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "files"), [(0, 0), (1, 1), (2, 1), (3, 2), (12, 6), (10**30, 6)])
def test_a_row_limit_leaves_just_enough_files(client: Client, rows: int, files: int) -> None:
    plan = Scan(TABLE, client, row_limit=rows).plan()
    assert len(plan.paths) == files
    assert not plan.header.truncated
    assert plan.paths == client.catalog.plan(**WHERE).paths[:files]


def test_a_row_limit_counts_only_files_whose_rows_all_match(client: Client) -> None:
    between = parse({"between": ["x", 3, 6]})
    plan = Scan(TABLE, client, predicate=between, row_limit=2).plan()
    assert plan.column("residual") == [True, False]


def test_a_row_limit_is_paged_like_everything_else(client: Client) -> None:
    first = Scan(TABLE, client, row_limit=5, max_files=2).plan()
    assert (len(first.paths), first.header.next_file_offset) == (2, 2)
    second = Scan(TABLE, client, row_limit=5, max_files=2, file_offset=2).plan()
    assert (len(second.paths), second.header.next_file_offset) == (1, None)


def test_a_row_limit_is_not_used_where_rows_merge(keyed: Client) -> None:
    assert Scan(TABLE, keyed, row_limit=1).plan().total_files == 13
    assert len(Scan(TABLE, keyed, row_limit=1).plan().paths) == 13


def test_a_negative_row_limit_is_refused(client: Client) -> None:
    with pytest.raises(RequestRejectedError, match="row_limit"):
        Scan(TABLE, client, row_limit=-1).plan()


def test_a_narrowed_scan_drops_its_limit_where_a_predicate_stands(client: Client) -> None:
    assert isinstance(client, Planner)
    scan = Scan(TABLE, client).narrowed(columns=["x"], row_limit=3)
    assert (scan.columns, scan.row_limit) == (("x",), 3)
    narrowed = scan.narrowed(predicate=Compare("gt", "x", 1), row_limit=3)
    assert (narrowed.row_limit, narrowed.predicate) == (None, Compare("gt", "x", 1))


def test_reads_count_rows_after_everything_else(keyed: Client) -> None:
    keep = {"gt": ["x", 4]}
    found = keyed.catalog.read(**WHERE, filter_predicate=keep, columns=["x"], limit=3, offset=1)
    assert found.column("x").to_pylist() == [6, 7, 8]
    assert keyed.catalog.read(**WHERE, limit=0).num_rows == 0


# --- time -----------------------------------------------------------------------------------------


class Clock:
    """A clock that tests set, in nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> Catalog:
    """A table made at 10**18 ns, with one commit 1000 ns and one 2000 ns later."""
    planner = EmbeddedPlanner(tmp_path / "timed", clock_ns=clock)
    found = Catalog(InProcessTransport(planner), None)
    found.create_table(**WHERE, schema=NUMBERS.schema, auto_create_namespace=True)
    for i in range(2):
        clock.now_ns += 1000
        found.write(NUMBERS.slice(i, 1), **WHERE)
    return found


@pytest.mark.parametrize(("after", "rows"), [(1, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 2)])
def test_a_time_shows_what_was_committed_strictly_before(
    timed: Catalog, clock: Clock, after: int, rows: int
) -> None:
    clock.now_ns += 10_000
    assert timed.read(**WHERE, as_of=10**18 + after).num_rows == rows


def test_a_time_before_the_table_does_not_know_it(timed: Catalog) -> None:
    for as_of in (10**9, 10**12, 10**15):
        with pytest.raises(RequestRejectedError, match="close to 1970: it counts nanoseconds"):
            timed.plan(**WHERE, as_of=as_of)
    for as_of in (10**18, 0, -5):
        with pytest.raises(NotFoundError, match="namespace 'ns' not found"):
            timed.plan(**WHERE, as_of=as_of)


def test_the_future_is_refused(timed: Catalog, clock: Clock) -> None:
    with pytest.raises(RequestRejectedError, match="lies in the future"):
        timed.plan(**WHERE, as_of=clock.now_ns + 1)


def test_commits_keep_their_order_when_the_clock_goes_back(timed: Catalog, clock: Clock) -> None:
    clock.now_ns -= 1500
    timed.write(NUMBERS.slice(2, 1), **WHERE)
    clock.now_ns += 10_000
    assert timed.read(**WHERE, as_of=10**18 + 2001).num_rows == 2
    assert timed.read(**WHERE, as_of=10**18 + 2002).num_rows == 3


def test_a_replaced_table_is_still_there_in_the_past(timed: Catalog, clock: Clock) -> None:
    clock.now_ns += 1000
    before = timed.plan(**WHERE)
    timed.write(NUMBERS.slice(5, 1), **WHERE, mode="replace")
    clock.now_ns += 1000
    assert timed.read(**WHERE).column("x").to_pylist() == [5]
    assert timed.read(**WHERE, as_of=10**18 + 2500).column("x").to_pylist() == [0, 1]
    assert timed.plan(**WHERE, as_of=10**18 + 2500).snapshot_id == before.snapshot_id


def test_a_pinned_scan_sees_its_snapshot_while_others_commit(client: Client) -> None:
    scan, header = Scan(TABLE, client).pinned()
    before = scan.plan()
    client.catalog.write(NUMBERS, **WHERE)
    client.catalog.write(NUMBERS, **WHERE, mode="replace")
    assert (scan.snapshot, scan.plan()) == (header.snapshot, before)
    assert read_plan(scan.plan()).num_rows == 12
    assert client.catalog.read(plan=before).num_rows == 12
    assert Scan(TABLE, client).plan().total_files == 1


def test_a_snapshot_that_is_not_there_yet_is_refused(client: Client) -> None:
    latest = client.catalog.plan(**WHERE).snapshot
    assert latest is not None
    for snapshot in (latest + 1, -1):
        with pytest.raises(RequestRejectedError, match=f"snapshot {snapshot} does not exist"):
            Scan(TABLE, client, snapshot=snapshot).plan()
    with pytest.raises(RequestRejectedError, match="exclude each other"):
        Scan(TABLE, client, snapshot=latest, as_of=1).plan()


# --- order ----------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4), min_size=1, max_size=4
    )
)
def test_rows_come_by_partition_and_then_in_the_order_of_commits(
    tmp_path: Path, commits: list[list[str]]
) -> None:
    client = Client(tmp_path / f"catalog{next(_NAMES)}")
    scheme = {"keys": [{"key": ["p"]}]}
    numbers = itertools.count()
    rows = [[(p, next(numbers)) for p in commit] for commit in commits]
    for commit in rows:
        table = pa.table({"p": [p for p, _ in commit], "n": [n for _, n in commit]})
        client.catalog.write(table, **WHERE, partition_scheme=scheme, max_rows_per_file=1)
    every = [row for commit in rows for row in commit]
    first_seen = list(dict.fromkeys(p for p, _ in every))
    wanted = sorted(every, key=lambda row: (first_seen.index(row[0]), row[1]))
    found = client.catalog.read(**WHERE)
    assert list(zip(*(c.to_pylist() for c in found.columns), strict=True)) == wanted
    positions = client.catalog.plan(**WHERE).column("stream_position")
    assert len(set(positions)) == len(commits)
