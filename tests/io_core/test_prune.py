"""Does pruning rule out the files that it can, and never one that holds a matching row?"""

from __future__ import annotations

import itertools
import os
import tempfile
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.formats.parquet import entry_of
from io_core.formats.statistics import nan_counts
from io_core.literal import load_array
from io_core.model import ColumnStats, PartitionKey, PartitionScheme
from io_core.partition import transform, value_type
from io_core.predicate import Not, bind, parse
from io_core.prune import Verdict, file_bounds, partition_bounds, prune
from tests.oracle import Row, matches, table_of
from tests.strategies import TYPES, predicates

if TYPE_CHECKING:
    from collections.abc import Sequence

INT = pa.schema([("x", pa.int64())])
FLOAT = pa.schema([("x", pa.float64())])
TEXT = pa.schema([("x", pa.string())])
_NUMBERS = itertools.count()

# Any: the JSON AST, and JSON scalars.
Ast = dict[str, Any]
Stats = dict[str, ColumnStats]


def columns_of_stats(stats: Sequence[Stats], records: Sequence[int], schema: pa.Schema) -> pa.Table:
    """Statistics as a plan has them: one row per file."""
    table = pa.table({"record_count": pa.array(records, pa.int64())})
    for field in schema:
        found = [s.get(field.name, ColumnStats()) for s in stats]
        for kind, dtype in (
            ("min", field.type), ("max", field.type), ("null_count", pa.int64()), ("nan_count", pa.int64())
        ):  # fmt: skip
            values = load_array([getattr(s, kind) for s in found], dtype)
            table = table.append_column(f"{kind}:{field.name}", values)
    return table


def judge(ast: Ast, files: pa.Table, schema: pa.Schema) -> Verdict:
    parsed = parse(ast)
    assert parsed is not None

    def bounds(column: str) -> list[Any]:
        kinds = ("min", "max", "null_count", "nan_count")
        stats = files.select([f"{kind}:{column}" for kind in kinds]).rename_columns(kinds)
        return [file_bounds(stats)]

    return prune(bind(parsed, schema), files.column("record_count").to_numpy(), bounds)


def verdict(ast: Ast, schema: pa.Schema, *stats: ColumnStats, records: int = 3) -> list[str]:
    """`none`, `some` or `all` for each file."""
    files = columns_of_stats([{"x": s} for s in stats], [records] * len(stats), schema)
    may, every = judge(ast, files, schema)
    return ["none" if not m else "all" if e else "some" for m, e in zip(may, every, strict=True)]


# --- soundness ------------------------------------------------------------------------------------


@st.composite
def doubted(draw: st.DrawFn, stats: ColumnStats) -> ColumnStats:
    """The statistics with some parts missing, and text bounds truncated as some writers do."""
    cut = draw(st.sampled_from([None, 1, 2, 64]))
    low, high = stats.min, stats.max
    if isinstance(low, str) and isinstance(high, str) and cut is not None and _is_text(low, high):
        # A prefix is below; above is the prefix with its last character raised.
        short = high[:cut]
        raisable = len(high) > cut and ord(short[-1]) < 0xD7FF
        low, high = low[:cut], short[:-1] + chr(ord(short[-1]) + 1) if raisable else high
    dropped = draw(st.sets(st.sampled_from(["min", "max", "null_count", "nan_count"]), max_size=2))
    kept = msgspec.structs.asdict(stats) | {"min": low, "max": high} | dict.fromkeys(dropped)
    return ColumnStats(**kept)


def _is_text(low: str, high: str) -> bool:
    """Whether these are no other literals in text form, which nobody truncates."""
    known = set(TYPES[pa.string()])
    return low in known and high in known


def stats_of(table: pa.Table, *, counted: bool) -> Stats:
    """From the footer of a real file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{next(_NUMBERS)}.parquet")
        pq.write_table(table, path, row_group_size=3)
        counts = nan_counts(table) if counted else None
        return entry_of(path, table.schema, nan_counts=counts).column_stats or {}


@given(st.data())
def test_no_file_with_a_matching_row_is_ruled_out_and_all_means_every_row(
    data: st.DataObject,
) -> None:
    types = data.draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=2))
    schema = pa.schema([(f"c{i}", t) for i, t in enumerate(types)])
    columns = {f.name: st.sampled_from([*TYPES[f.type], None]) for f in schema}
    file = st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=6)
    held: list[list[Row]] = data.draw(st.lists(file, min_size=1, max_size=4))
    tables = [table_of(rows, schema) for rows in held]
    stats = [stats_of(t, counted=data.draw(st.booleans())) for t in tables]
    stats = [{c: data.draw(doubted(s)) for c, s in found.items()} for found in stats]
    files = columns_of_stats(stats, [len(rows) for rows in held], schema)
    for ast in data.draw(st.lists(predicates(schema), min_size=8, max_size=15)):
        may, every = judge(ast, files, schema)
        for i, rows in enumerate(held):
            results = [matches(ast, row, schema) is True for row in rows]
            assert may[i] or not any(results), (ast, rows, stats[i])
            assert not every[i] or all(results), (ast, rows, stats[i])


@given(st.data())
def test_a_partition_with_a_matching_row_is_never_ruled_out(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(list(TYPES)))
    dated = pa.types.is_date(dtype) or pa.types.is_timestamp(dtype)
    texts = ["identity", "void", "bucket(4)"]
    texts += ["year", "month", "day"] * dated + ["truncate(10)"] * pa.types.is_integer(dtype)
    scheme = PartitionScheme((PartitionKey(("x",), data.draw(st.sampled_from(texts))),))
    schema = pa.schema([("x", dtype)])
    rows = [
        {"x": v} for v in data.draw(st.lists(st.sampled_from([*TYPES[dtype], None]), min_size=1))
    ]
    parts = list(_split(rows, scheme, schema))
    files = pa.table(
        {
            "record_count": pa.array([len(part) for _, part in parts], pa.int64()),
            "partition:0": pa.concat_arrays([v for v, _ in parts]),
        }
    )
    known = partition_bounds(files, files.column("record_count").to_numpy(), scheme, schema)
    for ast in data.draw(st.lists(predicates(schema), min_size=8, max_size=15)):
        parsed = parse(ast)
        assert parsed is not None
        records = files.column("record_count").to_numpy()
        may, every = prune(bind(parsed, schema), records, lambda c: known.get(c, []))
        for i, (_, part) in enumerate(parts):
            results = [matches(ast, row, schema) is True for row in part]
            assert may[i] or not any(results), (ast, part, scheme)
            assert not every[i] or all(results), (ast, part, scheme)


def _split(
    rows: list[Row], scheme: PartitionScheme, schema: pa.Schema
) -> list[tuple[pa.Array, list[Row]]]:
    from io_core.partition import split

    table = table_of(rows, schema).append_column("n", pa.array(range(len(rows))))
    return [
        (v.column("0").combine_chunks(), [rows[n] for n in part.column("n").to_pylist()])
        for v, part in split(table, scheme, schema)
    ]


# --- pruning does happen --------------------------------------------------------------------------

LOW, MID, HIGH = (ColumnStats(a, b, 0) for a, b in ((1, 9), (10, 19), (20, 29)))
ONE = ColumnStats(5, 5, 0)


@pytest.mark.parametrize(
    ("ast", "wanted"),
    [
        ({"eq": ["x", 15]}, ["none", "some", "none", "none"]),
        ({"eq": ["x", 5]}, ["some", "none", "none", "all"]),
        ({"neq": ["x", 5]}, ["some", "all", "all", "none"]),
        ({"gt": ["x", 19]}, ["none", "none", "all", "none"]),
        ({"gte": ["x", 19]}, ["none", "some", "all", "none"]),
        ({"lt": ["x", 10]}, ["all", "none", "none", "all"]),
        ({"lte": ["x", 10]}, ["all", "some", "none", "all"]),
        ({"between": ["x", 10, 19]}, ["none", "all", "none", "none"]),
        ({"not": {"between": ["x", 10, 19]}}, ["all", "none", "all", "all"]),
        ({"in": ["x", [0, 15, 40]]}, ["none", "some", "none", "none"]),
        ({"in": ["x", [5]]}, ["some", "none", "none", "all"]),
        ({"not": {"in": ["x", [5]]}}, ["some", "all", "all", "none"]),
        ({"in": ["x", []]}, ["none", "none", "none", "none"]),
        ({"is_null": "x"}, ["none", "none", "none", "none"]),
        ({"not": {"is_null": "x"}}, ["all", "all", "all", "all"]),
        ({"or": [{"lt": ["x", 5]}, {"gt": ["x", 25]}]}, ["some", "none", "some", "none"]),
        ({"and": [{"gt": ["x", 5]}, {"lt": ["x", 15]}]}, ["some", "some", "none", "none"]),
        ({"eq": ["x", 15.5]}, ["none", "none", "none", "none"]),
    ],
)
def test_bounds_rule_files_out(ast: Ast, wanted: list[str]) -> None:
    assert verdict(ast, INT, LOW, MID, HIGH, ONE) == wanted


def test_a_long_list_rules_out_as_a_short_one_does() -> None:
    outside = list(range(100, 200))
    assert verdict({"in": ["x", outside]}, INT, LOW, MID) == ["none", "none"]
    assert verdict({"in": ["x", [*outside, 15]]}, INT, LOW, MID, ColumnStats()) == [
        "none", "some", "some"
    ]  # fmt: skip
    half_known = [ColumnStats(min=150), ColumnStats(min=250), ColumnStats(max=50)]
    assert verdict({"in": ["x", outside]}, INT, *half_known) == ["some", "none", "none"]
    assert verdict({"in": ["x", outside]}, INT, ColumnStats(max=100)) == ["some"]


@pytest.mark.parametrize(
    ("schema", "low", "high", "inside", "outside"),
    [
        (TEXT, "b", "d", "c", "e"),
        (pa.schema([("x", pa.binary())]), "Yg==", "ZA==", "Yw==", "ZQ=="),
        (pa.schema([("x", pa.date32())]), "2025-01-01", "2025-01-31", "2025-01-15", "2025-02-01"),
        (pa.schema([("x", pa.time64("us"))]), "10:00", "11:00", "10:30", "12:00"),
        (pa.schema([("x", pa.time32("s"))]), "10:00", "11:00", "10:30", "12:00"),
        (pa.schema([("x", pa.timestamp("ns", "UTC"))]), "2025-01-01", "2025-01-31", "2025-01-02", "2025-02-01"),
        (pa.schema([("x", pa.decimal128(9, 2))]), "1.00", "2.00", "1.50", "2.01"),
        (pa.schema([("x", pa.duration("us"))]), "PT1S", "PT9S", "PT5S", "PT10S"),
        (FLOAT, 1.0, 2.0, 1.5, 2.5),
        (pa.schema([("x", pa.uint64())]), 2**63, 2**63 + 9, 2**63 + 1, 2**64 - 1),
    ],
)  # fmt: skip
def test_points_and_long_lists_rule_out_by_bounds_of_every_type(
    schema: pa.Schema, low: object, high: object, inside: object, outside: object
) -> None:
    stats = ColumnStats(low, high, 0, 0)
    assert verdict({"eq": ["x", inside]}, schema, stats) == ["some"]
    assert verdict({"eq": ["x", outside]}, schema, stats) == ["none"]
    far = [_shifted(outside, i) for i in range(40)]
    assert verdict({"in": ["x", far]}, schema, stats) == ["none"]
    assert verdict({"in": ["x", [*far, inside]]}, schema, stats) == ["some"]


def _shifted(value: object, by: int) -> object:
    """Forty values outside of the bounds, whatever the kind."""
    match value:
        case "ZQ==":
            return f"{'ZQ==' if by == 0 else 'Z' + 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[by % 26] + 'ab'}"
        case "e":
            return f"e{by}"
        case "2025-02-01":
            return f"2026-01-{by % 28 + 1:02d}"
        case "12:00":
            return f"12:{by:02d}"
        case "2.01":
            return f"3.{by:02d}"
        case "PT10S":
            return f"PT{10 + by}S"
        case float():
            return value + by
        case int():
            return value - by
    raise AssertionError(value)


def test_a_column_without_nulls_rules_out_is_null_and_one_of_nulls_rules_out_the_rest() -> None:
    nulls, mixed, unknown = ColumnStats(null_count=3), ColumnStats(1, 2, 1), ColumnStats(1, 2)
    assert verdict({"is_null": "x"}, INT, nulls, mixed, unknown) == ["all", "some", "some"]
    assert verdict({"gt": ["x", 0]}, INT, nulls, mixed, unknown) == ["none", "some", "some"]
    assert verdict({"not": {"in": ["x", [7]]}}, INT, nulls, mixed) == ["none", "some"]
    assert verdict({"not": {"is_null": "x"}}, INT, nulls, mixed, unknown) == [
        "none",
        "some",
        "some",
    ]
    for op in ("eq", "neq"):
        assert verdict({op: ["x", "NaN"]}, FLOAT, nulls, mixed) == ["none", "some"]


def test_nothing_known_rules_nothing_out() -> None:
    for op in ("eq", "neq", "gt", "gte", "lt", "lte"):
        assert verdict({op: ["x", 1]}, INT, ColumnStats()) == ["some"]


def test_of_a_file_of_one_row_whose_nulls_nobody_counted_nothing_is_known_of_nulls() -> None:
    for op in ("eq", "neq", "gt", "gte", "lt", "lte"):
        assert verdict({op: ["x", 1]}, INT, ColumnStats(), records=1) == ["some"]
    for ast in ({"is_null": "x"}, {"not": {"is_null": "x"}}):
        assert verdict(ast, INT, ColumnStats(), records=1) == ["some"]
        assert verdict(ast, INT, ColumnStats(), ColumnStats(1, 2, 0), records=1)[0] == "some"


def test_statistics_in_several_pieces_rule_out_as_in_one() -> None:
    stats = [{"x": ColumnStats(low, low + 1, 0)} for low in (0, 10, 20, 30)]
    whole = columns_of_stats(stats, [3] * 4, INT)
    halves = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    thirds = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    assert [t.column("min:x").num_chunks for t in (whole, halves, thirds)] == [1, 2, 3]
    for files in (whole, halves, thirds):
        may, every = judge({"gte": ["x", 20]}, files, INT)
        assert may.tolist() == [False, False, True, True]
        assert every.tolist() == [False, False, True, True]
    none = pa.table([pa.chunked_array([], f.type) for f in whole.schema], schema=whole.schema)
    assert [len(found) for found in judge({"gte": ["x", 20]}, none, INT)] == [0, 0]


def test_each_of_several_sources_rules_out_and_proves_for_itself() -> None:
    nothing = ColumnStats()
    kinds = ("min", "max", "null_count", "nan_count")
    sources = []
    for known in ((LOW, nothing, HIGH, nothing), (nothing, LOW, nothing, HIGH)):
        files = columns_of_stats([{"x": stats} for stats in known], [3] * 4, INT)
        sources.append(file_bounds(files.select([f"{k}:x" for k in kinds]).rename_columns(kinds)))
    parsed = parse({"gt": ["x", 19]})
    assert parsed is not None
    may, every = prune(bind(parsed, INT), np.full(4, 3), lambda _: sources)
    assert may.tolist() == [False, False, True, True]
    assert every.tolist() == [False, False, True, True]


def test_a_max_rules_out_floats_only_where_nan_was_counted() -> None:
    counted, with_nan, uncounted = (ColumnStats(0.0, 1.0, 0, n) for n in (0, 1, None))
    assert verdict({"gt": ["x", 5]}, FLOAT, counted, with_nan, uncounted) == [
        "none",
        "some",
        "some",
    ]
    assert verdict({"lt": ["x", 5]}, FLOAT, counted, with_nan, uncounted) == ["all", "some", "some"]
    assert verdict({"gte": ["x", 0]}, FLOAT, counted, with_nan) == ["all", "all"]
    assert verdict({"gte": ["x", 5]}, FLOAT, counted, with_nan, uncounted) == [
        "none",
        "some",
        "some",
    ]
    assert verdict({"eq": ["x", "NaN"]}, FLOAT, counted, with_nan) == ["none", "some"]
    assert verdict({"neq": ["x", "NaN"]}, FLOAT, counted, with_nan) == ["all", "some"]
    only_nan = ColumnStats(null_count=0, nan_count=3)
    assert verdict({"eq": ["x", "NaN"]}, FLOAT, only_nan) == ["all"]


def test_one_bound_of_two_rules_out_on_its_side_and_proves_no_value() -> None:
    for schema, more in ((INT, {}), (FLOAT, {"nan_count": 0})):
        low = ColumnStats(min=5, null_count=0, **more)
        high = ColumnStats(max=5, null_count=0, **more)
        for ast, wanted in (
            ({"lt": ["x", 5]}, ["none", "some"]),
            ({"gt": ["x", 5]}, ["some", "none"]),
            ({"gte": ["x", 5]}, ["all", "some"]),
            ({"lte": ["x", 5]}, ["some", "all"]),
            ({"eq": ["x", 5]}, ["some", "some"]),
            ({"neq": ["x", 5]}, ["some", "some"]),
            ({"not": {"in": ["x", [5, 6]]}}, ["some", "some"]),
        ):
            assert verdict(ast, schema, low, high) == wanted, ast


def test_bounds_that_are_nan_are_no_bounds() -> None:
    poisoned = [ColumnStats("NaN", "NaN", 0, 0), ColumnStats(0.0, "NaN", 0, 0)]
    assert verdict({"eq": ["x", 7]}, FLOAT, *poisoned) == ["some", "some"]
    assert verdict({"eq": ["x", -7]}, FLOAT, *poisoned) == ["some", "some"]


def test_zeros_of_both_signs_are_one_value_to_bounds() -> None:
    negative, positive = ColumnStats(-0.0, -0.0, 0, 0), ColumnStats(0.0, 0.0, 0, 0)
    assert verdict({"eq": ["x", 0.0]}, FLOAT, negative, positive) == ["all", "all"]
    assert verdict({"lt": ["x", 0.0]}, FLOAT, negative) == ["none"]
    many = [float(v) for v in range(100, 140)]
    assert verdict({"in": ["x", [*many, 0.0]]}, FLOAT, negative) == ["some"]


def test_equal_text_bounds_prove_nothing_because_they_may_be_truncated() -> None:
    stats = ColumnStats("abc", "abc", 0)
    assert verdict({"neq": ["x", "abc"]}, TEXT, stats) == ["some"]
    assert verdict({"eq": ["x", "abc"]}, TEXT, stats) == ["some"]
    assert verdict({"not": {"in": ["x", ["abc"]]}}, TEXT, stats) == ["some"]
    assert verdict({"eq": ["x", "abd"]}, TEXT, stats) == ["none"]


def test_an_unbound_tree_is_not_judged() -> None:
    parsed = parse({"not": {"not": {"eq": ["x", 1]}}})
    assert isinstance(parsed, Not)
    with pytest.raises(TypeError, match="not a bound predicate"):
        prune(parsed, np.array([1]), lambda _: [])


# --- partition values -----------------------------------------------------------------------------


# Any: JSON scalars.
def partitions(
    ast: Ast, transform: str, dtype: pa.DataType, values: list[Any], records: int = 2
) -> list[str]:
    schema = pa.schema([("x", dtype)])
    scheme = PartitionScheme((PartitionKey(("x",), transform),))
    held = load_array(values, value_type(scheme.keys[0], schema))
    files = pa.table({"record_count": [records] * len(values), "partition:0": held})
    known = partition_bounds(files, files.column("record_count").to_numpy(), scheme, schema)
    parsed = parse(ast)
    assert parsed is not None
    rows = files.column("record_count").to_numpy()
    may, every = prune(bind(parsed, schema), rows, lambda c: known.get(c, []))
    return ["none" if not m else "all" if e else "some" for m, e in zip(may, every, strict=True)]


@pytest.mark.parametrize(
    ("ast", "transform", "dtype", "values", "wanted"),
    [
        ({"eq": ["x", "b"]}, "identity", pa.string(), ["a", "b", None], ["none", "all", "none"]),
        ({"neq": ["x", "b"]}, "identity", pa.string(), ["a", "b", None], ["all", "none", "none"]),
        ({"is_null": "x"}, "identity", pa.string(), ["a", None], ["none", "all"]),
        ({"gt": ["x", 5]}, "identity", pa.float64(), [1.0, "NaN", None], ["none", "some", "none"]),
        ({"eq": ["x", 0]}, "identity", pa.float64(), [-0.0, 0.0], ["all", "all"]),
        ({"lt": ["x", "2024-06-01"]}, "year", pa.date32(), [2023, 2024, 2025], ["all", "some", "none"]),
        ({"gte": ["x", "2025-01-01"]}, "year", pa.timestamp("ns"), [2024, 2025, None], ["none", "all", "none"]),
        ({"eq": ["x", 15]}, "truncate(10)", pa.int64(), [0, 10, 20], ["none", "some", "none"]),
        ({"lt": ["x", 0]}, "truncate(10)", pa.int64(), [-10, 0, 10], ["all", "some", "none"]),
        ({"eq": ["x", 1]}, "bucket(8)", pa.int64(), [3, 1, None], ["some", "none", "none"]),
        ({"eq": ["x", 1.0]}, "bucket(8)", pa.int64(), [3, 5], ["some", "none"]),
        ({"eq": ["x", 1]}, "bucket(8)", pa.float64(), [3, 5], ["none", "some"]),
        ({"eq": ["x", "NaN"]}, "bucket(8)", pa.float64(), [3, None], ["some", "none"]),
        ({"neq": ["x", "NaN"]}, "bucket(8)", pa.float64(), [3, None], ["some", "none"]),
        ({"in": ["x", ["a", None]]}, "bucket(8)", pa.string(), [7, 1], ["some", "none"]),
        ({"neq": ["x", 1]}, "bucket(8)", pa.int64(), [3, 1, None], ["some", "some", "none"]),
        ({"gt": ["x", 1]}, "bucket(8)", pa.int64(), [3, 1], ["some", "some"]),
        ({"not": {"in": ["x", [1]]}}, "bucket(8)", pa.int64(), [3, 1], ["some", "some"]),
        ({"is_null": "x"}, "bucket(8)", pa.int64(), [3, None], ["none", "all"]),
        ({"eq": ["x", 34]}, "bucket(16, iceberg)", pa.int64(), [3, 4], ["some", "none"]),
        ({"eq": ["x", "2025-01-01"]}, "bucket(8)", pa.timestamp("us"), [6, 7], ["some", "none"]),
        ({"eq": ["x", "2025-01-01"]}, "bucket(8)", pa.timestamp("us", "UTC"), [6, 7], ["some", "some"]),
        ({"eq": ["x", "2025-06-01"]}, "month", pa.date32(), [5, 6], ["none", "some"]),
        ({"gt": ["x", "2025-06-01"]}, "month", pa.date32(), [5, 6], ["some", "some"]),
        ({"between": ["x", "2025-06-01", "2025-06-30"]}, "month", pa.date32(), [5, 6], ["some", "some"]),
        ({"in": ["x", ["2025-06-01", "2024-05-02"]]}, "day", pa.date32(), [1, 2, 3], ["some", "some", "none"]),
        ({"eq": ["x", "2025-06-01T13:30:00"]}, "hour", pa.timestamp("ms"), [13, 14], ["some", "none"]),
        ({"eq": ["x", "2025-06-01T13:30:00Z"]}, "hour", pa.timestamp("ms", "UTC"), [13, 14], ["some", "none"]),
        ({"eq": ["x", "2025-06-01T13:30:00Z"]}, "hour", pa.timestamp("ms", "Asia/Tokyo"), [13, 22], ["some", "some"]),
        ({"lt": ["x", "2025-01-01T00:00:00Z"]}, "year", pa.timestamp("s", "Asia/Tokyo"), [2024, 2025, 2026], ["some", "some", "none"]),
        ({"is_null": "x"}, "month", pa.date32(), [5, None], ["none", "all"]),
        ({"eq": ["x", "abc"]}, "truncate(2)", pa.string(), ["ab", "abc", "b", None], ["some", "none", "none", "none"]),
        ({"gt": ["x", "b"]}, "truncate(2)", pa.string(), ["ab", "b", "ba"], ["none", "some", "all"]),
        ({"lt": ["x", "b"]}, "truncate(2)", pa.string(), ["ab", "b"], ["all", "none"]),
        ({"eq": ["x", "abc"]}, "truncate(2)", pa.string_view(), ["ab", "b", None], ["some", "none", "none"]),
        ({"gt": ["x", "b"]}, "identity", pa.string_view(), ["a", "c"], ["none", "all"]),
        ({"eq": ["x", "YWJj"]}, "truncate(2)", pa.binary(), ["YWI=", "YWM="], ["some", "none"]),
        ({"is_null": "x"}, "void", pa.int64(), [None], ["some"]),
        ({"eq": ["x", 1]}, "void", pa.int64(), [None], ["some"]),
    ],
)  # fmt: skip
def test_partition_values_rule_files_out(
    ast: Ast, transform: str, dtype: pa.DataType, values: list[Any], wanted: list[str]
) -> None:
    assert partitions(ast, transform, dtype, values) == wanted


def test_zeros_of_both_signs_fall_into_two_buckets_and_are_one_value() -> None:
    assert transform_of("bucket(64)", pa.float64(), [0.0, -0.0]) == [7, 25]
    found = partitions({"eq": ["x", 0]}, "bucket(64)", pa.float64(), [7, 25, 15])
    assert found == ["some", "some", "none"]
    for other in (1, -1.5):
        found = partitions({"eq": ["x", other]}, "bucket(64)", pa.float64(), [7, 25])
        assert found == ["none", "none"]
    found = partitions({"in": ["x", [-0.0]]}, "bucket(64)", pa.float64(), [7, 25, 15])
    assert found == ["some", "some", "none"]


@pytest.mark.parametrize("dtype", [pa.binary(), pa.large_binary()])
def test_bytes_have_a_bucket_that_all_writers_agree_on_in_icebergs_hash_alone(
    dtype: pa.DataType,
) -> None:
    ast = {"eq": ["x", "YWJj"]}
    for text, wanted in (("bucket(16, iceberg)", "none"), ("bucket(16)", "some")):
        (held,) = transform_of(text, dtype, [b"abc"])
        found = partitions(ast, text, dtype, [held, (held + 1) % 16])
        assert found == ["some", wanted]


def test_of_a_bucket_with_one_row_nobody_knows_whether_it_is_nan() -> None:
    for ast in ({"eq": ["x", "NaN"]}, {"neq": ["x", "NaN"]}):
        assert partitions(ast, "bucket(8)", pa.float64(), [3], records=1) == ["some"]


def test_a_long_list_finds_its_buckets_as_a_short_one_does() -> None:
    for dtype in (pa.int64(), pa.string(), pa.large_string()):
        values = [str(i) if dtype != pa.int64() else i for i in range(40)]
        held = set(transform_of("bucket(1000)", dtype, values))
        wanted = ["some" if b in held else "none" for b in range(1000)]
        assert partitions({"in": ["x", values]}, "bucket(1000)", dtype, list(range(1000))) == wanted


# Any: values of the column's type.
def transform_of(text: str, dtype: pa.DataType, values: list[Any]) -> list[Any]:
    key = PartitionKey(("x",), text)
    column = pa.chunked_array([pa.array(values, dtype)])
    found = transform(key, column, value_type(key, pa.schema([("x", dtype)])))
    return list(found.to_pylist())
