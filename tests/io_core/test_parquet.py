"""Do data files carry what later reads rely on: field ids, and statistics that are true?"""

from __future__ import annotations

import datetime as dt
import math
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from io_core import formats
from io_core.errors import DataFileError
from io_core.formats import FileRef
from io_core.formats.parquet import entry_of, write
from io_core.formats.statistics import nan_counts
from io_core.literal import load_array
from io_core.model import ColumnStats
from io_core.schema import assign_field_ids
from tests.oracle import table_of
from tests.strategies import TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAN = float("nan")
MORE_TYPES: dict[pa.DataType, list[Any]] = {
    pa.uint64(): [0, 2**63, 2**64 - 1],
    pa.large_string(): ["", "a", "l" * 70],
    pa.large_binary(): [b"", b"\xff" * 70],
    pa.date64(): [dt.date(1969, 12, 31), dt.date(2025, 3, 1)],
    pa.time32("s"): [0, 86_399 * 10**9],
    pa.time32("ms"): [0, 10**6],
    pa.time64("ns"): [0, 1, 86_399 * 10**9 + 999],
    pa.timestamp("s"): [-(10**9), 0, 10**18],
    pa.timestamp("ms", "UTC"): [-(10**6), 0, 10**18],
    pa.duration("ns"): [0, -(10**9), 9 * 86_400 * 10**9],
    pa.decimal128(38, 0): [0, 10**37, -(10**37)],
    pa.decimal256(50, 3): [0, 10**40, -1],
}
ALL_TYPES = {**TYPES, **MORE_TYPES}


def read(path: str, columns: Sequence[str], *, records: int | None, plan: str) -> pa.Table:
    return formats.read(FileRef(path, records=records, plan=plan), columns)


def stats_of(path: Path, table: pa.Table) -> ColumnStats:
    write(table, str(path))
    stats = entry_of(str(path), table.schema, nan_counts=nan_counts(table)).column_stats
    assert stats is not None
    return stats["x"]


# Any: a value of the column's type.
def true_bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    plain = column.filter(pc.equal(column, column)).drop_null()
    if pa.types.is_duration(column.type):
        plain = plain.cast(pa.int64())
    found = pc.min_max(plain)
    return found["min"].cast(column.type), found["max"].cast(column.type)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_statistics_are_the_datas_own_for_every_type(tmp_path: Path, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(list(ALL_TYPES)))
    values = data.draw(st.lists(st.sampled_from([*ALL_TYPES[dtype], None]), max_size=8))
    table = table_of([{"x": v} for v in values], pa.schema([("x", dtype)]))
    path = tmp_path / f"{len(os.listdir(tmp_path))}.parquet"
    found = stats_of(path, table)
    assert found.null_count == values.count(None)
    nans = sum(isinstance(v, float) and math.isnan(v) for v in values)
    assert found.nan_count == (nans if pa.types.is_floating(dtype) else None)
    low, high = true_bounds(table.column("x"))
    bounds = load_array([found.min, found.max], dtype)
    assert bounds[0].equals(low) or (low.as_py() == 0 == bounds[0].as_py())
    assert bounds[1].equals(high) or (high.as_py() == 0 == bounds[1].as_py())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_files_of_other_writers_never_claim_more_than_is_true(
    tmp_path: Path, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from(list(ALL_TYPES)))
    values = data.draw(st.lists(st.sampled_from([*ALL_TYPES[dtype], None]), min_size=1, max_size=8))
    table = table_of([{"x": v} for v in values], pa.schema([("x", dtype)]))
    path = str(tmp_path / f"{len(os.listdir(tmp_path))}.parquet")
    statistics = data.draw(st.booleans())
    pq.write_table(table, path, row_group_size=2, write_statistics=statistics)
    stats = (entry_of(path, table.schema).column_stats or {})["x"]
    low, high = true_bounds(table.column("x"))
    bounds = load_array([stats.min, stats.max], dtype)
    assert pc.less_equal(bounds[0], low).as_py() is not False
    assert pc.greater_equal(bounds[1], high).as_py() is not False
    assert stats.null_count in (None, values.count(None))
    assert stats.nan_count is None
    assert statistics or stats == ColumnStats()


def test_a_row_group_of_nulls_leaves_the_others_bounds(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [None, None, 5, 7]}), path, row_group_size=2)
    stats = entry_of(path, pa.schema([("x", pa.int64())])).column_stats
    assert stats == {"x": ColumnStats(5, 7, 2)}


def test_a_float_row_group_of_nan_alone_leaves_no_bounds(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.0, 2.0, NAN, NAN]}), path, row_group_size=2)
    stats = (entry_of(path, pa.schema([("x", pa.float64())])).column_stats or {})["x"]
    assert (stats.min, stats.max, stats.null_count) == (None, None, 0)


def test_statistics_are_of_top_level_columns_even_where_a_nested_one_has_the_same_path(
    tmp_path: Path,
) -> None:
    table = pa.table({"a.b": [1, 2], "a": [{"b": 50}, {"b": 60}], "l": [[1], [2]]})
    write(table, str(tmp_path / "a.parquet"))
    entry = entry_of(str(tmp_path / "a.parquet"), table.schema)
    assert entry.column_stats == {"a.b": ColumnStats(1, 2, 0)}


def test_a_file_with_narrower_columns_gives_bounds_in_the_tables_types(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    write(
        pa.table({"x": pa.array([1, 300], pa.int16()), "t": pa.array([1, 2], pa.timestamp("ms"))}),
        path,
    )
    schema = pa.schema([("x", pa.int64()), ("t", pa.timestamp("ns")), ("absent", pa.int8())])
    assert entry_of(path, schema).column_stats == {
        "x": ColumnStats(1, 300, 0),
        "t": ColumnStats("1970-01-01T00:00:00.001000000", "1970-01-01T00:00:00.002000000", 0),
    }


def test_an_entry_tells_size_rows_and_what_the_caller_knows(tmp_path: Path) -> None:
    path = str(tmp_path / "a b.parquet")
    write(pa.table({"x": [1.0, NAN]}), path)
    uri = f"file://{path.replace(' ', '%20')}"
    entry = entry_of(
        uri, pa.schema([("x", pa.float64())]), partition_values=[7], nan_counts={"x": 1}, sort_scheme_id="s"
    )  # fmt: skip
    assert (entry.path, entry.record_count, entry.content_length) == (uri, 2, os.stat(path).st_size)
    assert (entry.partition_values, entry.sort_scheme_id, entry.content_type) == (
        [7],
        "s",
        "parquet",
    )
    assert (entry.column_stats or {})["x"].nan_count == 1


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_is_counted_and_null_is_not(dtype: pa.DataType) -> None:
    table = pa.table({"x": pa.array([NAN, None, 1.0, NAN], dtype), "n": [1, 2, 3, 4]})
    assert nan_counts(table) == {"x": 2}
    assert nan_counts(table.slice(0, 0)) == {"x": 0}


def test_field_ids_stand_in_the_footer_of_nested_tables_too(tmp_path: Path) -> None:
    schema = assign_field_ids(
        pa.schema([("a", pa.int64()), ("s", pa.struct([("b", pa.string())]))])
    )
    write(schema.empty_table(), str(tmp_path / "a.parquet"))
    found = pq.ParquetFile(tmp_path / "a.parquet").schema_arrow
    assert [f.metadata[b"PARQUET:field_id"] for f in found] == [b"1", b"2"]


def test_a_data_file_is_never_overwritten(tmp_path: Path) -> None:
    table = pa.table({"x": [1]})
    write(table, str(tmp_path / "a.parquet"))
    before = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(FileExistsError):
        write(pa.table({"x": [2]}), str(tmp_path / "a.parquet"))
    assert (tmp_path / "a.parquet").read_bytes() == before


# --- reading --------------------------------------------------------------------------------------


def test_columns_that_a_file_lacks_are_left_out(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    write(pa.table({"a": [1], "b": [2]}), path)
    assert read(path, ["b", "new"], records=1, plan="p").to_pydict() == {"b": [2]}


def test_no_column_still_has_its_rows(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    write(pa.table({"a": [1, 2, 3]}), path)
    assert read(path, [], records=3, plan="p").num_rows == 3


def test_a_dotted_name_reads_its_own_column_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    write(pa.table({"a": [{"b": 50}], "a.b": [1]}), path)
    assert read(path, ["a.b"], records=1, plan="p").to_pydict() == {"a.b": [1]}
    assert read(path, ["a"], records=1, plan="p").to_pydict() == {"a": [{"b": 50}]}


def test_a_file_of_only_absent_columns_keeps_its_rows(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    write(pa.table({"a": [1, 2]}), path)
    assert read(path, ["new"], records=2, plan="p").num_rows == 2


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b"garbage that is no parquet", "is damaged"),
        (b"PAR1" + b"\xff" * 40 + b"\x24\x00\x00\x00PAR1", "is damaged"),
    ],
)
def test_a_missing_or_damaged_file_is_named_with_its_plan(
    tmp_path: Path, damage: bytes | None, problem: str
) -> None:
    path = tmp_path / "a.parquet"
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(DataFileError, match=problem) as caught:
        read(str(path), ["x"], records=None, plan="the plan")
    assert str(path) in str(caught.value)
    assert "the plan" in str(caught.value)
    assert caught.value.details == {"path": str(path), "plan": "the plan"}


def test_a_file_of_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    write(pa.table({"x": [1, 2]}), path)
    with pytest.raises(DataFileError, match="has 2 rows instead of 3"):
        read(path, ["x"], records=3, plan="p")


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(pa.table({"x": list(range(1000))}), str(path))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataFileError, match="is damaged"):
        read(str(path), ["x"], records=1000, plan="p")
