"""Is every JSON literal resolved by the type of the column that it is compared with?"""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.literal import dump_array, dump_literal, kind_of, load_array, locate, ordinal
from tests.oracle import canonical, rows_of, table_of
from tests.strategies import TYPES, wire_literal

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        (True, pa.bool_(), True),
        (5, pa.int8(), 5),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        ("7", pa.int64(), 7),
        (2.0, pa.int32(), 2),
        (Decimal(3), pa.int32(), 3),
        (0.5, pa.float32(), 0.5),
        (3, pa.float64(), 3.0),
        ("Infinity", pa.float64(), math.inf),
        ("-Infinity", pa.float32(), -math.inf),
        ("1.50", pa.decimal128(5, 2), Decimal("1.50")),
        (1.5, pa.decimal128(5, 2), Decimal("1.50")),
        (2, pa.decimal256(50, 3), Decimal("2.000")),
        ("é", pa.string(), "é"),
        ("a", pa.large_string(), "a"),
        ("YWI=", pa.binary(), b"ab"),
        (b"ab", pa.large_binary(), b"ab"),
        ("YWI=", pa.binary(2), b"ab"),
        ("a", pa.string_view(), "a"),
        (b"a", pa.binary_view(), b"a"),
        ("1.5", pa.decimal64(9, 2), Decimal("1.50")),
        ("2025-03-01", pa.date32(), dt.date(2025, 3, 1)),
        (dt.date(2025, 3, 1), pa.date64(), dt.date(2025, 3, 1)),
        ("2025-03-01T00:00:00", pa.date32(), dt.date(2025, 3, 1)),
        ("12:30", pa.time32("s"), dt.time(12, 30)),
        ("12:30:00.000001", pa.time64("us"), dt.time(12, 30, 0, 1)),
        ("2025-03-01", pa.timestamp("s"), dt.datetime(2025, 3, 1)),
        ("2025-03-01 12:00:00", pa.timestamp("us"), dt.datetime(2025, 3, 1, 12)),
        (dt.datetime(2025, 3, 1, 12), pa.timestamp("us"), dt.datetime(2025, 3, 1, 12)),
        ("PT1M30S", pa.duration("s"), dt.timedelta(seconds=90)),
        ("-P1DT1H", pa.duration("us"), -dt.timedelta(days=1, hours=1)),
        (dt.timedelta(seconds=1), pa.duration("ms"), dt.timedelta(seconds=1)),
    ],
)
def test_a_literal_of_the_columns_kind_is_a_value_of_its_type(
    value: object, dtype: pa.DataType, wanted: object
) -> None:
    scalar, exact = locate(value, dtype)
    assert exact
    assert scalar is not None
    assert scalar.type == dtype
    assert scalar.as_py() == wanted


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-01T13:00:00+01:00",
        "2025-03-01T12:00:00Z",
        "2025-03-01T12:00:00",
        "2025-03-01T07:00:00-0500",
    ],
)
def test_a_zoned_column_reads_offsets_and_takes_text_without_a_zone_as_utc(text: str) -> None:
    scalar, exact = locate(text, pa.timestamp("us", BERLIN))
    assert exact
    assert scalar is not None
    assert scalar.value == 1_740_830_400 * 10**6


def test_nanoseconds_are_read_with_all_nine_digits() -> None:
    scalar, exact = locate("1970-01-01T00:00:00.123456789", pa.timestamp("ns"))
    assert exact
    assert scalar is not None
    assert scalar.value == 123_456_789


@pytest.mark.parametrize(
    ("value", "dtype", "below"),
    [
        (1.5, pa.int32(), 1),
        (-1.5, pa.int32(), -2),
        (300, pa.int8(), 127),
        (2**70, pa.uint64(), 2**64 - 1),
        ("Infinity", pa.int64(), 2**63 - 1),
        (2**53 + 1, pa.float64(), 2.0**53),
        (16777217, pa.float32(), 16777216.0),
        (10**400, pa.float64(), 1.7976931348623157e308),
        ("0.0005", pa.decimal128(12, 3), Decimal("0.000")),
        ("1e30", pa.decimal128(5, 2), Decimal("999.99")),
        ("2025-03-01T12:00:00", pa.date32(), dt.date(2025, 3, 1)),
        ("2025-03-01T00:00:00.5", pa.timestamp("s"), dt.datetime(2025, 3, 1)),
        ("1969-12-31T23:59:59.5", pa.timestamp("s"), dt.datetime(1969, 12, 31, 23, 59, 59)),
        ("12:00:00.000000001", pa.time64("us"), dt.time(12)),
        ("PT0.5S", pa.duration("s"), dt.timedelta(0)),
        (b"abc", pa.binary(2), b"ab"),
        (b"b", pa.binary(2), b"a\xff"),
        (b"b\x00", pa.binary(3), b"a\xff\xff"),
    ],
)
def test_a_literal_between_two_values_is_placed_after_the_lower_one(
    value: object, dtype: pa.DataType, below: object
) -> None:
    scalar, exact = locate(value, dtype)
    assert not exact
    assert scalar is not None
    assert scalar.as_py() == below


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (-1, pa.uint8()),
        (-300, pa.int8()),
        ("-Infinity", pa.int64()),
        (-(10**40), pa.decimal128(12, 3)),
        ("0001-01-01", pa.timestamp("ns")),
        (b"", pa.binary(2)),
        (b"\x00", pa.binary(2)),
    ],
)
def test_a_literal_below_the_whole_type_has_no_value_below_it(
    value: object, dtype: pa.DataType
) -> None:
    assert locate(value, dtype) == (None, False)


@pytest.mark.parametrize(
    ("value", "dtype", "kind"),
    [
        ("abc", pa.int64(), "number"),
        (True, pa.int64(), "number"),
        (1, pa.bool_(), "bool"),
        ("1.5", pa.float64(), "number"),
        (1, pa.string(), "text"),
        ("not base64!", pa.binary(), "binary"),
        (3, pa.timestamp("us"), "timestamp"),
        ("2025-13-01", pa.date32(), "date"),
        ("soon", pa.timestamp("us"), "timestamp"),
        ("", pa.date32(), "date"),
        ("12:00", pa.timestamp("us"), "timestamp"),
        ("2025-03-01", pa.time64("us"), "time"),
        ("2025-03-01T00:00:00Z", pa.timestamp("us"), "timestamp"),
        ("2025-03-01Z", pa.date32(), "date"),
        ("P", pa.duration("s"), "duration"),
        (5, pa.duration("s"), "duration"),
    ],
)
def test_a_literal_of_another_kind_is_refused_by_value_and_type(
    value: object, dtype: pa.DataType, kind: str
) -> None:
    with pytest.raises(ValueError, match="literal for a column of type") as caught:
        locate(value, dtype)
    assert repr(value) in str(caught.value)
    assert kind in str(caught.value)
    assert str(dtype) in str(caught.value)


@pytest.mark.parametrize("dtype", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.null()])
def test_a_nested_column_can_be_compared_with_nothing(dtype: pa.DataType) -> None:
    assert kind_of(dtype) == "other"
    with pytest.raises(ValueError, match="cannot be compared"):
        locate(1, dtype)


def test_half_floats_are_not_compared_because_arrow_cannot() -> None:
    assert kind_of(pa.float16()) == "other"


def test_nan_is_refused_by_an_integer_column() -> None:
    with pytest.raises(ValueError, match="NaN cannot be compared"):
        locate("NaN", pa.int64())


def test_a_decimal_text_of_endless_digits_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no number literal"):
        locate("1" * 101, pa.decimal128(38, 0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (Decimal("1.50"), "1.50"),
        (b"ab", "YWI="),
        (dt.date(2025, 3, 1), "2025-03-01"),
        (dt.time(12), "12:00:00"),
        (dt.datetime(2025, 3, 1, tzinfo=dt.UTC), "2025-03-01T00:00:00+00:00"),
        (dt.timedelta(seconds=-1.5), "-PT1.500000000S"),
        (np.int64(3), 3),
        (np.float64("nan"), "NaN"),
        (pa.scalar(1, pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
        (pa.scalar(None, pa.int8()), None),
    ],
)
def test_python_numpy_and_arrow_values_are_written_as_json_scalars(
    value: object, text: object
) -> None:
    assert dump_literal(value) == text


def test_a_date_in_milliseconds_that_is_no_whole_day_keeps_its_time() -> None:
    noon = pa.array([43_200_000, 0, None], pa.int64()).cast(pa.date64())
    assert dump_array(noon) == ["1970-01-01T12:00:00.000", "1970-01-01T00:00:00.000", None]
    assert dump_array(noon.slice(1)) == ["1970-01-01", None]
    assert [ordinal(s) for s in load_array(dump_array(noon), pa.date64())] == [43_200_000, 0, None]


def test_values_stand_in_the_order_of_their_type() -> None:
    days = pa.array([dt.date(2025, 1, 1), dt.date(2024, 1, 1), None], pa.date32())
    assert [ordinal(s) for s in days] == [20089, 19723, None]
    assert ordinal(pa.scalar(-1, pa.duration("ns"))) == -1
    assert ordinal(pa.scalar("é")) == "é"


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), 1 + 2j])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be a literal"):
        dump_literal(value)


# Any: values of one type, in the oracle's form.
def columns() -> st.SearchStrategy[tuple[pa.DataType, list[Any]]]:
    def values(dtype: pa.DataType) -> st.SearchStrategy[tuple[pa.DataType, list[Any]]]:
        return st.lists(st.sampled_from([*TYPES[dtype], None])).map(lambda v: (dtype, v))

    return st.sampled_from(list(TYPES)).flatmap(values)


@given(columns())
def test_arrays_survive_the_way_through_json_scalars(drawn: tuple[pa.DataType, list[Any]]) -> None:
    dtype, values = drawn
    schema = pa.schema([("x", dtype)])
    table = table_of([{"x": v} for v in values], schema)
    dumped = dump_array(table.column("x").combine_chunks())
    again = pa.table({"x": load_array(dumped, dtype)})
    assert canonical(rows_of(again), ordered=True) == canonical(rows_of(table), ordered=True)


@given(columns())
def test_each_value_is_located_at_itself(drawn: tuple[pa.DataType, list[Any]]) -> None:
    dtype, values = drawn
    plain = [v for v in values if v is not None and v == v]
    found = [locate(wire_literal(v, dtype), dtype) for v in plain]
    schema = pa.schema([("x", dtype)])
    scalars = [s.as_py() for s in table_of([{"x": v} for v in plain], schema).column("x")]
    assert all(place.exact for place in found)
    assert [None if p.scalar is None else p.scalar.as_py() for p in found] == scalars


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ("soon", pa.date32()),
        ("2025-01-01T12:00:00", pa.date32()),
        ("2025-01-01T00:00:00.000000001", pa.timestamp("us")),
        ("0001-01-01T00:00:00", pa.timestamp("ns")),
        ("2025-01-01T00:00:00Z", pa.timestamp("us")),
        (300, pa.int8()),
        (1.5, pa.int64()),
        (0.1, pa.float32()),
        ([1], pa.int64()),
        ("x", pa.list_(pa.int8())),
    ],
)
def test_a_bound_that_does_not_fit_exactly_is_unknown(value: object, dtype: pa.DataType) -> None:
    assert load_array([value], dtype).to_pylist() == [None]


def test_one_bound_that_does_not_fit_leaves_the_others_as_they_are() -> None:
    assert load_array([1, "soon", 3], pa.int8()).to_pylist() == [1, None, 3]
    mixed = load_array(["2025-01-01", "soon", None], pa.date32()).to_pylist()
    assert mixed == [dt.date(2025, 1, 1), None, None]
