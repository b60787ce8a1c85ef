"""Does a read give the same rows in every form, and refuse what a form cannot show?"""

from __future__ import annotations

import io
import math
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given

from io_core import formats
from io_core.errors import (
    DataFileError,
    PredicateError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.plan import ReadPlan
from planner_client import Client
from planner_client.arrays import to_numpy
from planner_client.wanted import with_bar
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from planner_client.forms import ReadAs

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-(2**63), 2**63 - 1),
    "f": st.sampled_from([0.5, -1.0, math.inf, 1e300]),
    "s": st.sampled_from(["", "a", "é", "NaN"]),
    "b": st.booleans(),
    "t": st.datetimes(),
}
TYPES = {
    "i": pa.int64(),
    "f": pa.float64(),
    "s": pa.string(),
    "b": pa.bool_(),
    "t": pa.timestamp("us"),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("reads"))


def fresh() -> dict[str, Any]:
    return {"namespace": "n", "table": f"t{uuid.uuid4().hex}"}


@pytest.fixture
def where(client: Client) -> dict[str, Any]:
    """A table of six rows in three files."""
    found = fresh()
    for start in (0, 2, 4):
        rows = pa.table({"x": [start, start + 1], "y": [f"r{start}", None]})
        client.catalog.write(rows, **found)
    return found


@pytest.fixture
def keyed(client: Client) -> dict[str, Any]:
    """A table of three rows, one of them written twice."""
    found = fresh()
    client.catalog.write(pa.table({"k": [1, 2], "v": ["a", "b"]}), **found, merge_keys=["k"])
    client.catalog.write(pa.table({"k": [2, 3], "v": ["c", "d"]}), **found)
    return found


# Any: whatever a form is.
def as_arrow(form: str, found: Any, schema: pa.Schema) -> pa.Table:
    """What a form holds, with the types that a plain read gives."""
    match form:
        case "record_batch_reader":
            return found.read_all()
        case "pandas":
            return pa.Table.from_pandas(found, schema=schema, preserve_index=False)
        case "polars":
            return found.collect().to_arrow().cast(schema)
        case "daft":
            return found.to_arrow().cast(schema)
        case "numpy":
            # A null among numbers is NaN, and no number here is.
            columns = [
                [None if value != value else value for value in found[:, number].tolist()]
                for number in range(len(schema))
            ]
            return pa.Table.from_arrays(
                [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
            )
    return found


ORDERED: tuple[Any, ...] = ("pyarrow", "record_batch_reader", "pandas", "polars", "numpy")


@st.composite
def tables(draw: st.DrawFn) -> list[pa.Table]:
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True))
    # An integer beside a null is a float to pandas and numpy: others are null here.
    row = st.fixed_dictionaries({n: KINDS[n] if n == "i" else KINDS[n] | st.none() for n in names})
    schema = pa.schema([(n, TYPES[n]) for n in names])
    parts = draw(st.lists(st.lists(row, max_size=5), min_size=1, max_size=3))
    return [pa.Table.from_pylist(part, schema=schema) for part in parts]


@given(parts=tables(), limit=st.none() | st.integers(0, 9), offset=st.integers(0, 4))
def test_every_form_has_the_same_rows_types_and_order(
    client: Client, parts: list[pa.Table], limit: int | None, offset: int
) -> None:
    where = fresh()
    for part in parts:
        client.catalog.write(part, **where)
    whole = pa.concat_tables(parts).slice(offset, limit)
    for form in ORDERED:
        if form == "numpy" and not fits_an_array(whole):
            continue
        found = client.catalog.read(**where, read_as=form, limit=limit, offset=offset)
        assert as_arrow(form, found, whole.schema).to_pylist() == whole.to_pylist(), form
    daft = client.catalog.read(**where, read_as="daft", limit=limit, offset=offset)
    assert daft.count_rows() == len(whole)
    held = daft.to_arrow().cast(whole.schema).to_pylist()
    every = pa.concat_tables(parts).to_pylist()
    assert all(row in every for row in held)


def fits_an_array(table: pa.Table) -> bool:
    try:
        to_numpy(table)
    except UnsupportedError:
        return False
    return True


@pytest.mark.parametrize("form", [*ORDERED, "daft"])
def test_every_form_takes_columns_and_a_predicate(
    client: Client, keyed: dict[str, Any], form: Any
) -> None:
    found = client.catalog.read(**keyed, read_as=form, columns=["v"], filter_predicate="k >= 2")
    assert as_arrow(form, found, pa.schema([("v", pa.string())])).to_pydict() == {"v": ["c", "d"]}


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_read_is_a_ray_dataset(client: Client, keyed: dict[str, Any]) -> None:
    read = client.catalog.read
    found = read(**keyed, read_as="ray_dataset", columns=["v"], filter_predicate="k >= 2")
    assert sorted(row["v"] for row in found.take_all()) == ["c", "d"]
    assert read(**keyed, read_as="ray_dataset", limit=2).count() == 2
    assert read(**keyed, read_as="ray_dataset", offset=1).count() == 2


def test_one_parquet_file_is_opened_lazily(client: Client) -> None:
    where = fresh()
    client.catalog.write(pa.table({"x": [1, 2]}), **where)
    found = client.catalog.read(**where, read_as="pyarrow_parquet")
    assert found.metadata.num_rows == 2
    assert found.read().column("x").to_pylist() == [1, 2]


def test_one_lance_dataset_is_opened_lazily(client: Client) -> None:
    where = fresh()
    client.catalog.write(pa.table({"x": [1, 2]}), **where, format="lance")
    found = client.catalog.read(**where, read_as="lance")
    assert found.count_rows("x > 1") == 1


@pytest.mark.parametrize("form", ["pyarrow_parquet", "lance"])
@pytest.mark.parametrize("options", [{}, {"limit": 1}, {"columns": ["x"]}], ids=str)
def test_a_table_of_several_files_is_no_one_file(
    client: Client, where: dict[str, Any], form: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match="cannot be read as one"):
        client.catalog.read(**where, read_as=form, **options)


def test_a_file_with_dead_rows_is_not_opened_as_it_is(client: Client) -> None:
    where = fresh()
    client.catalog.write(pa.table({"k": [1, 2]}), **where, merge_keys=["k"])
    client.catalog.write(pa.table({"k": [2]}), **where, mode="delete")
    with pytest.raises(UnsupportedError, match="cannot be read as one"):
        client.catalog.read(**where, read_as="pyarrow_parquet")


def test_a_file_that_is_gone_is_named(client: Client) -> None:
    where = fresh()
    client.catalog.write(pa.table({"k": [1]}), **where)
    plan = client.catalog.plan(**where)
    (path,) = plan.paths
    gone = plan.files.set_column(0, "path", pa.array([f"{path}.gone"]))
    with pytest.raises(DataFileError, match="is missing"):
        client.catalog.read(plan=plan.with_files(gone), read_as="pyarrow_parquet")


def test_an_unknown_form_is_refused_with_the_nearest(client: Client, where: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="did you mean"):
        client.catalog.read(**where, read_as="panda")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "library", "extra"),
    [
        ("pandas", "pandas", "pandas"),
        ("polars", "polars", r"deltacat-sources\[polars\]"),
        ("daft", "daft", r"deltacat-sources\[daft\]"),
        ("ray_dataset", "ray", r"deltacat-sources\[ray\]"),
        ("lance", "lance", r"deltacat-sources\[lance\]"),
    ],
)
def test_a_form_whose_library_is_missing_says_what_to_install(
    client: Client, monkeypatch: pytest.MonkeyPatch, form: Any, library: str, extra: str
) -> None:
    for name in [n for n in sys.modules if n.startswith("deltacat_sources.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UnsupportedError, match=f"pip install '?{extra}"):
        client.catalog.read(namespace="n", table="never asked for", read_as=form)


# --- plans ----------------------------------------------------------------------------------------


def test_rows_are_counted_where_a_plan_counts_files(client: Client, where: dict[str, Any]) -> None:
    assert client.catalog.read(**where, limit=3, offset=1)["x"].to_pylist() == [1, 2, 3]
    assert client.catalog.plan(**where, limit=1, offset=1).files.num_rows == 1


def test_both_names_of_a_plans_page_mean_the_same(client: Client, where: dict[str, Any]) -> None:
    plan = client.catalog.plan
    assert plan(**where, max_files=1, file_offset=1) == plan(**where, limit=1, offset=1)
    stats = plan(**where, include_column_stats=True)
    assert stats == plan(**where, include_stats=True)
    assert stats.all_files()[0].column_stats
    with pytest.raises(SchemaValidationError, match="limit=1 and max_files=2"):
        plan(**where, limit=1, max_files=2)


def test_a_page_of_a_plan_is_read_as_that_page(client: Client, where: dict[str, Any]) -> None:
    page = client.catalog.plan(**where, limit=1, offset=2)
    assert client.catalog.read(plan=page)["x"].to_pylist() == [4, 5]


def test_a_plan_without_files_is_not_read_as_an_empty_table(
    client: Client, where: dict[str, Any]
) -> None:
    plan = client.catalog.plan(**where, include_files=False)
    with pytest.raises(SchemaValidationError, match="lists no files"):
        client.catalog.read(plan=plan)


@pytest.mark.parametrize(
    "beside", [{"table": "other"}, {"as_of": 1}, {"partition_filter": []}, {"root": "r"}], ids=str
)
def test_a_plan_goes_with_nothing_that_chooses_another(
    client: Client, where: dict[str, Any], beside: dict[str, Any]
) -> None:
    plan = client.catalog.plan(**where)
    with pytest.raises(SchemaValidationError):
        client.catalog.read(plan=plan, **beside)


def test_a_saved_plan_is_read_elsewhere_by_any_engine(
    client: Client, keyed: dict[str, Any], tmp_path: Path
) -> None:
    from deltacat_sources.daft import read_deltacat
    from deltacat_sources.polars import scan_deltacat

    plan = client.catalog.plan(**keyed, delete_sets=True)
    plan.save(tmp_path / "saved.plan")
    client.catalog.write(pa.table({"k": [9], "v": ["later"]}), **keyed)
    loaded = ReadPlan.load(tmp_path / "saved.plan")
    assert loaded == plan
    rows = {"k": [1, 2, 3], "v": ["a", "c", "d"]}
    assert client.catalog.read(plan=loaded).to_pydict() == rows
    name = f"{keyed['namespace']}.{keyed['table']}"
    assert scan_deltacat(name, plan=loaded).collect().to_dict(as_series=False) == rows
    assert read_deltacat(name, plan=loaded).sort("k").to_pydict() == rows
    schema = pa.schema([("k", pa.int64()), ("v", pa.string())])
    forms: tuple[ReadAs, ...] = ("pandas", "polars", "daft", "record_batch_reader")
    for form in forms:
        found = as_arrow(form, client.catalog.read(plan=loaded, read_as=form), schema)
        assert found.sort_by("k").to_pydict() == rows
    assert client.catalog.load_plan(tmp_path / "saved.plan") == plan


@pytest.mark.parametrize("held", [None, b"", b"something else", b"half"], ids=str)
def test_what_is_no_saved_plan_is_refused(
    client: Client, where: dict[str, Any], tmp_path: Path, held: bytes | None
) -> None:
    path = tmp_path / "plan"
    if held == b"half":
        client.catalog.plan(**where).save(path)
        path.write_bytes(path.read_bytes()[:200])
    elif held is not None:
        path.write_bytes(held)
    with pytest.raises(DataFileError, match="plan"):
        ReadPlan.load(path)


def test_every_page_of_a_plan_is_followed(client: Client, where: dict[str, Any]) -> None:
    # A planner that hands out two files at a time, whatever it is asked.
    calls = client.catalog.calls
    asked: list[int] = []

    class Paging:
        def call(self, endpoint: Any, request: Any) -> Any:
            import msgspec

            if endpoint.name == "plan" and request.max_files is None:
                asked.append(request.file_offset)
                request = msgspec.structs.replace(request, max_files=2)
            return client.catalog.calls.transport.call(endpoint, request)

        def close(self) -> None: ...

    from planner_client.catalog import Catalog

    paged = Catalog(Paging(), calls.catalog)
    assert paged.read(**where)["x"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert asked == [0, 2]
    whole = paged.plan(**where)
    assert (whole.header.truncated, whole.files.num_rows) == (False, 3)


# --- what is wrong is told before anything is sent --------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"filter_predicate": "x >"}, {"filter_predicate": pc.field("x") + 1}, {"limit": -1}],
    ids=str,
)
def test_what_is_wrong_by_itself_is_told_before_any_request(wrong: dict[str, Any]) -> None:
    # Nobody listens there.
    nowhere = Client("http://127.0.0.1:9")
    with pytest.raises((PredicateError, SchemaValidationError)):
        nowhere.catalog.read(namespace="n", table="t", **wrong)
    if "filter_predicate" in wrong:
        with pytest.raises(PredicateError):
            nowhere.catalog.plan(namespace="n", table="t", **wrong)


def test_a_reader_checks_its_columns_when_it_is_made(client: Client, where: dict[str, Any]) -> None:
    with pytest.raises(SchemaValidationError, match="z"):
        client.catalog.read(**where, read_as="record_batch_reader", columns=["z"])


@pytest.mark.parametrize("wrong", [{"limit": "1"}, {"offset": 1.5}, {"columns": "x"}], ids=str)
def test_arguments_of_another_kind_are_refused_by_name(
    client: Client, where: dict[str, Any], wrong: dict[str, Any]
) -> None:
    with pytest.raises(SchemaValidationError, match=next(iter(wrong))):
        client.catalog.read(**where, **wrong)


def test_rows_without_columns_are_counted_in_every_form(
    client: Client, where: dict[str, Any]
) -> None:
    assert client.catalog.read(**where, columns=[]).num_rows == 6
    assert client.catalog.read(**where, columns=[], read_as="numpy").shape == (6, 0)
    reader = client.catalog.read(**where, columns=[], read_as="record_batch_reader")
    assert sum(batch.num_rows for batch in reader) == 6


def test_what_is_no_manifest_is_refused_by_its_type(client: Client) -> None:
    with pytest.raises(SchemaValidationError, match="a int is no manifest table"):
        client.catalog.from_manifest_table(5)


# --- schemaless tables ------------------------------------------------------------------------------


@pytest.fixture
def schemaless(client: Client) -> dict[str, Any]:
    found = fresh()
    client.catalog.create_table(**found, auto_create_namespace=True)
    session = client.catalog.stage(**found, mode="add", format="csv")
    entries = [
        formats.write(
            pa.table({"x": [start, start + 1]}), f"{session.data_dir}/{start}.csv.gz", "csv"
        )
        for start in (0, 2)
    ]
    client.catalog.commit(session=session, entries=entries)
    return found


@pytest.mark.parametrize("form", ORDERED)
def test_a_schemaless_table_is_its_files_in_every_form(
    client: Client, schemaless: dict[str, Any], form: Any
) -> None:
    plain = client.catalog.read(**schemaless)
    assert plain["meta_content_type"].to_pylist() == ["csv", "csv"]
    found = client.catalog.read(**schemaless, read_as=form, columns=["path"])
    paths = as_arrow(form, found, pa.schema([("path", pa.string())]))
    assert paths.to_pydict() == {"path": plain["path"].to_pylist()}


def test_a_schemaless_table_is_no_file(client: Client, schemaless: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="read them as 'pyarrow'"):
        client.catalog.read(**schemaless, read_as="lance")


def test_rows_of_a_manifest_come_in_every_form(client: Client, schemaless: dict[str, Any]) -> None:
    listed = client.catalog.read(**schemaless)
    schema = pa.schema([("x", pa.int64())])
    read = client.catalog.from_manifest_table
    assert read(listed, schema=schema)["x"].to_pylist() == [0, 1, 2, 3]
    assert read(listed.slice(1), schema=schema, read_as="numpy").tolist() == [[2], [3]]
    polars = client.catalog.read(**schemaless, read_as="polars").collect()
    found = read(polars.filter(pl.col("path").is_not_null()), schema=schema, read_as="polars")
    assert found.collect()["x"].to_list() == [0, 1, 2, 3]


# --- arrays and the bar ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        ({"a": pa.array([1], pa.int8()), "b": pa.array([2], pa.int32())}, np.int32),
        ({"a": pa.array([1], pa.int8()), "b": pa.array([0.5], pa.float32())}, np.float32),
        ({"a": pa.array([1, None], pa.int64())}, np.float64),
        ({"a": pa.array([True, False])}, np.bool_),
        ({"a": pa.array([True, None])}, np.object_),
        ({"a": pa.array(["x"]), "b": pa.array([1])}, np.object_),
        ({"a": pa.array([[1, 2], [3, 4]])}, np.object_),
    ],
)
def test_an_array_takes_the_least_type_that_holds_all(columns: dict[str, Any], dtype: Any) -> None:
    table = pa.table(columns)
    found = to_numpy(table)
    assert (found.dtype, found.shape) == (np.dtype(dtype), (len(table), len(columns)))
    held = [[None if value != value else value for value in column] for column in found.T.tolist()]
    assert held == list(table.to_pydict().values())


@pytest.mark.parametrize("form", ["numpy", "pandas"])
def test_a_date_that_python_has_none_of_is_refused_with_what_to_do(
    client: Client, form: Any
) -> None:
    where: dict[str, Any] = {"namespace": "ns", "table": "far"}
    client.catalog.write(pa.table({"x": pa.array([2**31 - 1], pa.date32())}), **where)
    with pytest.raises(UnsupportedError, match=f"read_as='{form}'.*read as 'pyarrow'"):
        client.catalog.read(**where, read_as=form)


def test_an_integer_that_no_float_holds_is_not_rounded_in_an_array() -> None:
    with pytest.raises(UnsupportedError, match="'a' are too great"):
        to_numpy(pa.table({"a": [2**53 + 1], "b": [0.5]}))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pieces() -> Iterator[pa.Table]:
    yield pa.table({"x": [1, 2]})
    yield pa.table({"x": [3]})


def test_a_long_read_shows_how_far_it_is_in_a_terminal() -> None:
    out = Terminal()
    found = list(with_bar(pieces(), 3, out=out, after_s=0))
    assert [len(piece) for piece in found] == [2, 1]
    assert "/3.00" in out.getvalue()


def test_no_bar_is_shown_outside_of_a_terminal_or_without_tqdm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, out = io.StringIO(), Terminal()
    assert len(list(with_bar(pieces(), 3, out=plain, after_s=0))) == 2
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert len(list(with_bar(pieces(), 3, out=out, after_s=0))) == 2
    assert plain.getvalue() == out.getvalue() == ""


def test_a_short_read_shows_no_bar() -> None:
    out = Terminal()
    list(with_bar(pieces(), 3, out=out))
    assert out.getvalue() == ""


@pytest.mark.parametrize("over_http", [False, True], ids=["embedded", "http"])
def test_a_read_imports_no_pandas(tmp_path: Path, *, over_http: bool) -> None:
    where = fresh()
    asked: list[dict[str, Any] | None] = [
        None,
        {"gte": ["k", 2]},
        {"in": ["f", [0, 1.5]]},
        {"or": [{"eq": ["t", "a"]}, {"gt": ["f", "Infinity"]}]},
        {"and": [{"lt": ["at", "2025-03-01"]}, {"between": ["m", "0.5", 10]}, {"eq": ["b", True]}]},
        {"not": {"eq": ["d", "2025-03-01"]}},
        {"is_null": "raw"},
    ]
    code = f"""
import sys
from planner_client import Client
client = Client(sys.argv[1])
for asked in {asked!r}:
    print(client.catalog.read(**{where!r}, filter_predicate=asked).num_rows)
print("pandas" in sys.modules)
"""
    rows = pa.table(
        {
            "k": [1, 2],
            "f": [0.0, 2.0],
            "t": ["a", "b"],
            "at": pa.array([0, 1], pa.timestamp("us")),
            "m": pa.array([1, 2]).cast(pa.decimal128(21, 2)),
            "b": [True, False],
            "d": pa.array([0, 1], pa.date32()),
            "raw": [b"x", None],
        }
    )
    with serving(tmp_path / "served") as url:
        writer = Client(url)
        writer.catalog.write(rows, **where, merge_keys=["k"])
        writer.catalog.write(rows.slice(1), **where)
        planner = url if over_http else f"{tmp_path}/served"
        command = [sys.executable, "-c", code, planner]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["2", "1", "1", "1", "1", "2", "1", "False"]


# --- over HTTP ------------------------------------------------------------------------------------


def test_a_remote_planner_is_read_in_every_form(tmp_path: Path) -> None:
    with serving(tmp_path / "served") as url, Client(url) as remote:
        where = fresh()
        remote.catalog.write(pa.table({"x": [1, 2]}), **where)
        for form in ORDERED:
            found = remote.catalog.read(**where, read_as=form, filter_predicate=pc.field("x") > 1)
            rows = as_arrow(form, found, pa.schema([("x", pa.int64())]))
            assert rows.to_pydict() == {"x": [2]}
