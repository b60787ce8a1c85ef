"""Which partition does a row belong to, and what does a partition say of its rows?"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import SchemaValidationError
from io_core.literal import dump_array, load_array
from io_core.model import PartitionKey, PartitionScheme
from io_core.partition import check_scheme, split, transform, value_bounds, value_type
from tests.oracle import table_of
from tests.strategies import TYPES

NAN = float("nan")


# Any: values of the column's type.
def transformed(text: str | None, dtype: pa.DataType, values: list[Any]) -> list[Any]:
    key = PartitionKey(("x",), text)
    schema = pa.schema([("x", dtype)])
    found = transform(key, pa.chunked_array([pa.array(values, dtype)]), value_type(key, schema))
    assert found.type == value_type(key, schema)
    return list(found.to_pylist())


def scheme(*transforms: str | None) -> PartitionScheme:
    return PartitionScheme(tuple(PartitionKey((f"x{i}",), t) for i, t in enumerate(transforms)))


@pytest.mark.parametrize(
    ("text", "dtype", "values", "wanted"),
    [
        (None, pa.string(), ["a", "", None], ["a", "", None]),
        ("Identity", pa.int64(), [1, None], [1, None]),
        ("year", pa.date32(), [dt.date(1969, 12, 31), None], [1969, None]),
        ("month", pa.timestamp("us"), [dt.datetime(2025, 6, 1)], [6]),
        ("day", pa.date64(), [dt.date(2025, 1, 1), dt.date(2025, 6, 1)], [1, 1]),
        ("hour", pa.timestamp("ns", "UTC"), [23 * 3600 * 10**9], [23]),
        ("truncate(10)", pa.int64(), [-1, 17, -17, 0, 9, None], [0, 10, -10, 0, 0, None]),
        (" TRUNCATE( 2 ) ", pa.string(), ["日本語", "a", ""], ["日本", "a", ""]),
        ("truncate(2)", pa.large_string(), ["abc"], ["ab"]),
        ("truncate(1)", pa.binary(), [b"ab", b""], [b"a", b""]),
        ("truncate(10)", pa.uint8(), [255, 9], [250, 0]),
        ("truncate(100)", pa.int8(), [-128, 127], [-100, 100]),
        ("void", pa.int32(), [1, None], [None, None]),
        ("bucket(1)", pa.int64(), [1, 7, None], [0, 0, None]),
        (f"truncate({2**31 - 1})", pa.string(), ["abc"], ["abc"]),
    ],
)
def test_a_transform_gives_each_row_its_partition_value(
    text: str, dtype: pa.DataType, values: list[Any], wanted: list[Any]
) -> None:
    assert transformed(text, dtype, values) == wanted


@pytest.mark.parametrize(
    ("dtype", "value", "bucket"),
    [
        (pa.int64(), 1, 3),
        (pa.int32(), 42, 3),
        (pa.int64(), -1, 0),
        (pa.string(), "a", 7),
        (pa.large_string(), "episode_1", 4),
        (pa.float64(), 1.0, 5),
        (pa.bool_(), True, 6),
        (pa.timestamp("us"), dt.datetime(2025, 1, 1), 6),
        (pa.date32(), dt.date(2025, 1, 1), 7),
    ],
)
def test_the_default_bucket_hashes_as_the_protocol_does(
    dtype: pa.DataType, value: object, bucket: int
) -> None:
    found = transformed("bucket(8)", dtype, [value, None, value])
    assert found == [bucket, None, bucket]
    assert transformed("bucket(8, default)", dtype, [value]) == [bucket]


@pytest.mark.parametrize(
    ("dtype", "same"),
    [
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.decimal64(5, 2), pa.decimal128(5, 2)),
        (pa.string_view(), pa.string()),
        (pa.binary_view(), pa.binary()),
    ],
)
def test_a_type_that_arrow_cannot_tell_values_of_apart_has_the_buckets_of_one_that_it_can(
    dtype: pa.DataType, same: pa.DataType
) -> None:
    values = [Decimal("1.25"), None] if pa.types.is_decimal(dtype) else [b"1.25", None]
    for text in ("bucket(1000)", "bucket(1000, iceberg)"):
        assert transformed(text, dtype, values) == transformed(text, same, values)


def test_zoned_times_are_partitioned_by_their_utc_components() -> None:
    midnight_in_berlin = 1_740_783_600 * 10**6  # 2025-02-28T23:00:00Z
    dtype = pa.timestamp("us", "Europe/Berlin")
    components = [transformed(t, dtype, [midnight_in_berlin])[0] for t in ("month", "day", "hour")]
    assert components == [2, 28, 23]


@pytest.mark.parametrize(
    ("text", "dtype", "problem"),
    [
        ("bucket", pa.int64(), "unknown partition transform 'bucket'"),
        ("truncate", pa.string(), "unknown partition transform"),
        ("truncate(0)", pa.int64(), "unknown partition transform"),
        (f"truncate({2**31})", pa.string(), "unknown partition transform"),
        ("bucket(0)", pa.int64(), "unknown partition transform"),
        (f"bucket({2**31})", pa.int64(), "unknown partition transform"),
        ("bucket(-1)", pa.int64(), "unknown partition transform"),
        ("bucket(8, hive)", pa.int64(), "unknown partition transform"),
        (f"bucket({10**20})", pa.int64(), "unknown partition transform"),
        ("year(1)", pa.date32(), "unknown partition transform"),
        ("unknown", pa.int64(), "unknown partition transform"),
        ("yaer", pa.date32(), "did you mean 'year'"),
        ("year", pa.int64(), "does not fit column 'x0' of type int64"),
        ("hour", pa.date32(), "does not fit column"),
        ("truncate(2)", pa.float64(), "does not fit column"),
        ("truncate(1000)", pa.int8(), "does not fit column 'x0' of type int8"),
        ("identity", pa.list_(pa.int8()), "does not fit column"),
    ],
)
def test_a_scheme_that_cannot_be_computed_is_refused(
    text: str, dtype: pa.DataType, problem: str
) -> None:
    with pytest.raises(SchemaValidationError, match=problem.replace("(", r"\(")):
        check_scheme(scheme(text), pa.schema([("x0", dtype)]))


@pytest.mark.parametrize(
    ("dtype", "value", "hashed"),
    [
        # Appendix B of the Iceberg specification, where the protocol agrees with it.
        (pa.int32(), 34, 2017239379),
        (pa.int64(), 34, 2017239379),
        (pa.string(), "iceberg", 1210000089),
        (pa.large_string(), "iceberg", 1210000089),
        (pa.binary(), b"\x00\x01\x02\x03", -188683207),
        # Of other types the protocol's writers hash Python's text.
        (pa.bool_(), True, 1392991556),
        (pa.string(), "2017-11-16", None),
        (pa.date32(), dt.date(2017, 11, 16), None),
    ],
)
def test_icebergs_bucket_hashes_as_the_protocols_writers_do(
    dtype: pa.DataType, value: object, hashed: int | None
) -> None:
    (found, null) = transformed("bucket(2147483647, iceberg)", dtype, [value, None])
    assert null is None
    if hashed is None:
        (text,) = transformed("bucket(2147483647, iceberg)", pa.string(), [str(value)])
        assert found == text
    else:
        assert found == (hashed & 0x7FFFFFFF) % 2147483647
    assert transformed("Bucket( 16, ICEBERG )", dtype, [value])[0] < 16


@pytest.mark.parametrize("length", range(9))
def test_icebergs_bucket_takes_bytes_of_every_length(length: int) -> None:
    wanted = [0, 1009084850, 465557343, 870159354, 1139631978, 1755028214, 1635893381, 138189574, 1239272644]  # fmt: skip
    found = transformed("bucket(2147483647, iceberg)", pa.binary(), [b"abcdefgh"[:length]])
    assert found == [wanted[length]]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_icebergs_bucket_of_many_integers_is_that_of_their_bytes(values: list[int]) -> None:
    text = "bucket(1000, iceberg)"
    raw = [v.to_bytes(8, "little", signed=True) for v in values]
    assert transformed(text, pa.int64(), values) == transformed(text, pa.binary(), raw)


def test_icebergs_bucket_takes_no_integers_beyond_its_own() -> None:
    with pytest.raises(SchemaValidationError, match="does not fit column 'x0' of type uint64"):
        check_scheme(scheme("bucket(8, iceberg)"), pa.schema([("x0", pa.uint64())]))


def test_a_scheme_needs_keys_that_are_top_level_columns() -> None:
    schema = pa.schema([("month", pa.int8()), ("s", pa.struct([("a", pa.int8())]))])
    with pytest.raises(SchemaValidationError, match="at least one key"):
        check_scheme(PartitionScheme(()), schema)
    with pytest.raises(SchemaValidationError, match=r"\['s', 'a'\]: only top-level"):
        check_scheme(PartitionScheme((PartitionKey(("s", "a")),)), schema)
    with pytest.raises(SchemaValidationError, match=r"\[\]: only top-level"):
        check_scheme(PartitionScheme((PartitionKey(()),)), schema)
    with pytest.raises(SchemaValidationError, match="did you mean 'month'"):
        check_scheme(PartitionScheme((PartitionKey(("mnth",)),)), schema)


def test_a_moment_without_a_text_has_no_bucket() -> None:
    far = pa.array([2**60], pa.timestamp("s"))
    key = PartitionKey(("x",), "bucket(8)")
    with pytest.raises(SchemaValidationError, match="keep to the years 1 to 9999"):
        transform(key, pa.chunked_array([far]), pa.int32())


# --- splitting ------------------------------------------------------------------------------------


def test_partitions_come_in_order_of_first_appearance_and_keep_their_rows_order() -> None:
    table = pa.table({"x0": ["b", "a", "b", None, "a", ""], "n": range(6)})
    parts = list(split(table, scheme(None), table.schema))
    assert [v.to_pylist() for v, _ in parts] == [[{"0": k}] for k in ("b", "a", None, "")]
    assert [p.column("n").to_pylist() for _, p in parts] == [[0, 2], [1, 4], [3], [5]]


def test_an_empty_table_has_no_partitions() -> None:
    table = pa.schema([("x0", pa.int8())]).empty_table()
    assert list(split(table, scheme(None), table.schema)) == []


def test_rows_are_split_by_all_keys_together() -> None:
    table = pa.table({"x0": ["a|b", "a", "a|b"], "x1": ["c", "b|c", "c"], "n": [0, 1, 2]})
    parts = [p.column("n").to_pylist() for _, p in split(table, scheme(None, None), table.schema)]
    assert parts == [[0, 2], [1]]


@pytest.mark.parametrize("dtype", [pa.string_view(), pa.binary_view()])
def test_rows_with_view_types_are_split_too(dtype: pa.DataType) -> None:
    views = pa.array(["a", "b", "a"]).cast(pa.string()).cast(dtype)
    for column in ("x0", "other"):
        table = pa.table({column: views, "n": [0, 1, 2]})
        if column == "other":
            table = table.append_column("x0", pa.array([1, 2, 1]))
        parts = list(split(table, scheme(None), table.schema))
        assert [p.schema for _, p in parts] == [table.schema] * 2
        assert [p.column("n").to_pylist() for _, p in parts] == [[0, 2], [1]]


def test_nan_is_one_partition() -> None:
    table = pa.table({"x0": [NAN, 1.0, NAN], "n": [0, 1, 2]})
    parts = [p.column("n").to_pylist() for _, p in split(table, scheme(None), table.schema)]
    assert parts == [[0, 2], [1]]


PARTITIONED = [
    *((None, t) for t in TYPES),
    *(("year", t) for t in TYPES if pa.types.is_date(t) or pa.types.is_timestamp(t)),
    *((f"truncate({w})", t) for t in TYPES if pa.types.is_integer(t) for w in (1, 2, 10, 100)),
    ("month", pa.date32()),
    ("bucket(4)", pa.string()),
    ("void", pa.int64()),
]


@given(st.data())
def test_a_partitions_bounds_hold_for_all_of_its_rows(data: st.DataObject) -> None:
    text, dtype = data.draw(st.sampled_from(PARTITIONED))
    drawn = data.draw(st.lists(st.sampled_from([*TYPES[dtype], None]), min_size=1, max_size=12))
    schema = pa.schema([("x0", dtype)])
    table = table_of([{"x0": v} for v in drawn], schema)
    key = scheme(text).keys[0]
    for values, part in split(table, scheme(text), schema):
        column = part.column("x0")
        found = value_bounds(key, values.column("0").combine_chunks(), np.array([len(part)]), dtype)
        if found is not None:
            low, high = found.low[0], found.high[0]
            plain = column.filter(pc.equal(column, column)).drop_null()
            image = found.image
            assert image is None or set(image.of(plain).to_pylist()) <= set(
                image.values.to_pylist()
            )
            assert pc.all(pc.less_equal(low, plain), min_count=0).as_py() is not False
            assert pc.all(pc.greater_equal(high, plain), min_count=0).as_py() is not False
            assert found.null_count[0] in (-1, column.null_count)
            assert found.nan_count[0] in (-1, len(column) - column.null_count - len(plain))


@given(st.data())
def test_splitting_loses_and_adds_no_row(data: st.DataObject) -> None:
    text, dtype = data.draw(st.sampled_from(PARTITIONED))
    drawn = data.draw(st.lists(st.sampled_from([*TYPES[dtype], None]), max_size=12))
    table = table_of([{"x0": v} for v in drawn], pa.schema([("x0", dtype)]))
    table = table.append_column("n", pa.array(range(len(drawn)), pa.int64()))
    parts = [p.column("n").to_pylist() for _, p in split(table, scheme(text), table.schema)]
    assert sorted(n for part in parts for n in part) == list(range(len(drawn)))
    assert all(part == sorted(part) for part in parts)
    assert [part[0] for part in parts] == sorted(part[0] for part in parts)


@pytest.mark.parametrize("year", [1600, 1677, 2262, 2300])
def test_a_year_that_nanoseconds_hold_only_in_part_has_no_bound_on_its_open_side(year: int) -> None:
    key, values = PartitionKey(("x",), "year"), pa.array([year], pa.int32())
    bounds = value_bounds(key, values, np.array([1]), pa.timestamp("ns"))
    assert bounds is not None
    low, high = bounds.low.to_pylist()[0], bounds.high.to_pylist()[0]
    assert (low is None, high is None) == (year != 2262, year != 1677)


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0, -9, 9), (10, 10, 19), (-10, -19, -10), (None, None, None)]
)
def test_truncated_integers_bound_both_signs(
    value: int | None, low: int | None, high: int | None
) -> None:
    key = PartitionKey(("x",), "truncate(10)")
    found = value_bounds(key, pa.array([value], pa.int64()), np.array([3]), pa.int64())
    assert found is not None
    assert (found.low[0].as_py(), found.high[0].as_py()) == (low, high)
    assert found.null_count[0] == (3 if value is None else 0)


@pytest.mark.parametrize(
    ("width", "value", "low", "high"),
    [(3, -126, -128, -126), (2, 126, 126, 127), (127, 0, -126, 126)],
)
def test_truncated_integers_bound_up_to_the_ends_of_their_type(
    width: int, value: int, low: int, high: int
) -> None:
    check_scheme(scheme(f"truncate({width})"), pa.schema([("x0", pa.int8())]))
    key = PartitionKey(("x",), f"truncate({width})")
    found = value_bounds(key, pa.array([value], pa.int8()), np.array([1]), pa.int8())
    assert found is not None
    assert (found.low[0].as_py(), found.high[0].as_py()) == (low, high)


def test_a_partition_of_floats_holds_one_value_nan_or_nulls() -> None:
    key, values = PartitionKey(("x",)), pa.array([1.5, NAN, None])
    found = value_bounds(key, values, np.array([3, 3, 3]), pa.float64())
    assert found is not None
    assert found.low.to_pylist() == found.high.to_pylist() == [1.5, None, None]
    assert found.nan_count.tolist() == [0, 3, 0]
    assert found.null_count.tolist() == [0, 0, 3]


@pytest.mark.parametrize("text", ["month", "day", "hour", "bucket(8)", "bucket(8, iceberg)"])
def test_components_and_buckets_bound_no_range_but_know_of_nulls(text: str) -> None:
    key, values = PartitionKey(("x",), text), pa.array([1, None], pa.int32())
    found = value_bounds(key, values, np.array([1, 3]), pa.timestamp("us"))
    assert found is not None
    assert found.low.null_count == found.high.null_count == 2
    assert found.null_count.tolist() == [0, 3]


def test_void_says_nothing_not_even_that_rows_are_null() -> None:
    key, values = PartitionKey(("x",), "void"), pa.nulls(1, pa.int64())
    assert value_bounds(key, values, np.array([1]), pa.int64()) is None


@pytest.mark.parametrize(
    ("prefix", "above"),
    [
        ("ab", "ac"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("", None),
        ("a\ud7ff", "a\ue000"),
        ("\ud7ffa", "\ud7ffb"),
        ("\ue000", "\ue001"),
    ],
)
def test_truncated_text_ends_before_what_follows_it(prefix: str, above: str | None) -> None:
    key = PartitionKey(("x",), "truncate(2)")
    found = value_bounds(key, pa.array([prefix, None]), np.array([1, 1]), pa.string())
    assert found is not None
    assert (found.low.to_pylist(), found.high.to_pylist()) == ([prefix, None], [above, None])


@pytest.mark.parametrize(("prefix", "above"), [(b"ab", b"ac"), (b"a\xff", b"b"), (b"\xff", None)])
def test_truncated_bytes_end_before_what_follows_them(prefix: bytes, above: bytes | None) -> None:
    key = PartitionKey(("x",), "truncate(2)")
    found = value_bounds(key, pa.array([prefix]), np.array([1]), pa.binary())
    assert found is not None
    assert (found.low.to_pylist(), found.high.to_pylist()) == ([prefix], [above])


@pytest.mark.parametrize(
    ("zone", "low", "high"),
    [
        (None, "2025-01-01T00:00:00", "2025-12-31T23:59:59"),
        ("UTC", "2025-01-01T00:00:00", "2025-12-31T23:59:59"),
        ("Europe/Berlin", "2024-12-31T00:00:00", "2026-01-01T23:59:59"),
    ],
)
def test_a_year_of_a_zoned_column_is_a_day_wider_because_writers_differ(
    zone: str | None, low: str, high: str
) -> None:
    key = PartitionKey(("x",), "year")
    dtype = pa.timestamp("s", zone)
    found = value_bounds(key, pa.array([2025], pa.int32()), np.array([1]), dtype)
    assert found is not None
    assert (dump_array(found.low), dump_array(found.high)) == (
        [low + "Z" * bool(zone)],
        [high + "Z" * bool(zone)],
    )


@pytest.mark.parametrize(
    ("unit", "second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
@pytest.mark.parametrize(("zone", "wider"), [("UTC", 0), ("Europe/Berlin", 86_400)])
def test_a_year_ends_with_its_last_moment_in_every_unit(
    unit: Any, second: int, zone: str, wider: int
) -> None:
    found = value_bounds(
        PartitionKey(("x",), "year"),
        pa.array([1971], pa.int32()),
        np.array([1]),
        pa.timestamp(unit, zone),
    )
    assert found is not None
    year = 365 * 86_400
    assert found.low.view(pa.int64()).to_pylist() == [(year - wider) * second]
    assert found.high.view(pa.int64()).to_pylist() == [(2 * year + wider) * second - 1]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pa.float64(), [-0.0, 0.0, NAN, None, float("inf")]),
        (pa.decimal128(5, 2), [Decimal("1.10"), None]),
        (pa.timestamp("ns", "UTC"), [1, -1, None]),
        (pa.string(), ["", "null", None]),
    ],
)
def test_partition_values_survive_the_way_through_json(
    dtype: pa.DataType, values: list[Any]
) -> None:
    array = pa.array(values, dtype)
    assert str(load_array(dump_array(array), dtype)) == str(array)
