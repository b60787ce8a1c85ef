"""Do codes tell keys apart as merging does, and never change?"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import UnsupportedError
from io_core.key_codes import fingerprint, key_codes
from io_core.keys import row_codes
from tests.oracle import table_of
from tests.strategies import TYPES

KEY_TYPES = [t for t in TYPES if not pa.types.is_floating(t)]
# Whose value is the code that null has.
LOOKS_NULL = 0x9E6C_63D0_876A_9A5B - 2**64

TEXT_CODES = [
    0xD34402EDF2A39352,
    0xB570A7AED0B11F00,
    0x50F25EC524BC8240,
    0x9F191A2A96741BD3,
    0xB2323B17C3B43573,
]
PAIR_CODES = [
    0x14B04E55A26CCFF7,
    0x9E2130BE257F0500,
    0x486712837E2508BD,
    0x561DF1D0B661E45B,
    0x4E6D22741206D1C7,
]
DECIMAL_CODES = [0x79F3A3ACA8A91D16]


# Any: values of the type.
def column(values: list[Any], dtype: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, dtype)])


def codes(*columns: pa.ChunkedArray) -> list[int]:
    return list(key_codes(columns).codes.tolist())


@given(st.data(), st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=3))
def test_rows_have_equal_codes_where_their_keys_are_equal(
    data: st.DataObject, types: list[pa.DataType]
) -> None:
    schema = pa.schema([(str(i), t) for i, t in enumerate(types)])
    row = st.fixed_dictionaries({f.name: st.sampled_from([*TYPES[f.type], None]) for f in schema})
    table = table_of(data.draw(st.lists(row, max_size=30)), schema)
    start = data.draw(st.integers(0, len(table)))
    chunked = pa.concat_tables([table.slice(start), table.slice(0, start)])
    expected = row_codes(chunked.columns).tolist()
    found = codes(*chunked.columns)
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


def test_codes_are_the_same_on_every_machine_and_in_every_release() -> None:
    text = column(["", "a", "key-00000000abcd", "x" * 300, None], pa.string())
    number = column([0, 1, -1, 2**62, None], pa.int64())
    assert codes(text) == TEXT_CODES
    assert codes(number, text) == PAIR_CODES
    assert codes(column([Decimal("1.50")], pa.decimal128(10, 2))) == DECIMAL_CODES
    assert codes(number)[:4] == [0, 1, 2**64 - 1, 2**62]


@pytest.mark.parametrize(
    ("values", "types"),
    [
        ([0, 1, 100, None], [pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()]),
        (
            ["", "a", "b" * 400, None],
            [
                pa.string(),
                pa.large_string(),
                pa.string_view(),
                pa.dictionary(pa.int8(), pa.string()),
            ],
        ),
        ([b"", b"\0", b"\0\0", None], [pa.binary(), pa.large_binary(), pa.binary_view()]),
        ([b"abcd", None], [pa.binary(), pa.binary(4)]),
        (
            [Decimal("0.50"), Decimal("-1.25"), None],
            [pa.decimal128(4, 2), pa.decimal128(38, 2), pa.decimal256(60, 2)],
        ),
        ([dt.datetime(2024, 5, 1), None], [pa.timestamp("us"), pa.timestamp("us", "UTC")]),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
# Any: values of the types.
def test_codes_depend_on_values_and_not_on_how_they_are_stored(
    values: list[Any], types: list[pa.DataType], alone: bool
) -> None:
    other = [] if alone else [column(["x"] * len(values), pa.string())]
    found = [codes(column(values, t), *other) for t in types]
    assert found == [found[0]] * len(types)
    assert len({fingerprint(pa.schema([("k", t)]), ["k"]) for t in types}) == 1
    assert len(set(found[0])) == len(values)


def test_what_stands_under_a_null_is_not_looked_at() -> None:
    offsets, data = pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"abc")
    hidden = pa.StringArray.from_buffers(3, offsets, data, pa.py_buffer(b"\x05"))
    assert codes(pa.chunked_array([hidden])) == codes(column(["a", None, "c"], pa.string()))
    dtype, words = pa.decimal256(76, 0), np.arange(12, dtype=np.int64)
    number = pa.Array.from_buffers(dtype, 3, [pa.py_buffer(b"\x05"), pa.py_buffer(words)])
    clean = pa.chunked_array([pa.array(number.to_pylist(), dtype)])
    assert codes(pa.chunked_array([number])) == codes(clean)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (pa.date32(), pa.int32()),
        (pa.time32("s"), pa.int32()),
        *((t, pa.int64()) for t in (pa.int64(), pa.uint64(), pa.date64(), pa.time64("ns"))),
        *((t, pa.int64()) for t in (pa.duration("ms"), pa.timestamp("s"), pa.bool_())),
        (pa.timestamp("ns", "Europe/Berlin"), pa.int64()),
    ],
)
def test_one_column_of_at_most_64_bits_is_its_own_code(
    dtype: pa.DataType, stored: pa.DataType
) -> None:
    values = [0, 86_400_000, None] if dtype == pa.date64() else [0, 1, None]
    found = key_codes([column(values, stored).cast(dtype)])
    assert found.exact
    assert found.codes[:2].tolist() == values[:2]
    assert found.codes[2] not in values


def test_hashed_keys_and_a_value_that_looks_like_null_are_not_exact() -> None:
    number, text = column([1, 2], pa.int64()), column(["a", "b"], pa.string())
    assert not key_codes([text]).exact
    assert not key_codes([number, number]).exact
    assert not key_codes([column([1, LOOKS_NULL], pa.int64())]).exact
    assert codes(column([LOOKS_NULL], pa.int64())) == codes(column([None], pa.int64()))


def test_a_tuple_is_not_its_values_in_a_row() -> None:
    first = column(["ab", "a", "", "abc", None, ""], pa.string())
    second = column(["c", "bc", "abc", "", "", None], pa.string())
    assert len(set(codes(first, second))) == 6
    assert set(codes(first, second)).isdisjoint(codes(second, first)[:2])


def test_codes_spread_over_all_bits() -> None:
    found = key_codes([column([f"{i:08d}" for i in range(20_000)], pa.string())]).codes
    for shift in range(0, 64, 8):
        counts = np.bincount(
            (found >> np.uint64(shift) & np.uint64(255)).astype(int), minlength=256
        )
        assert counts.min() > 30
        assert counts.max() < 140


def test_many_rows_are_coded_as_each_alone() -> None:
    values = [str(i % 977) * (i % 41) for i in range(70_000)]
    whole = codes(column(values, pa.string()))
    assert whole[65_530:65_545] == codes(column(values[65_530:65_545], pa.string()))


def test_a_fingerprint_tells_apart_what_does_not_compare_and_outlives_a_rename() -> None:
    ids = {b"PARQUET:field_id": b"7"}
    named = pa.schema([pa.field("a", pa.int64(), metadata=ids), ("b", pa.timestamp("us"))])
    renamed = pa.schema([pa.field("z", pa.int32(), metadata=ids), ("b", pa.timestamp("us"))])
    finer = pa.schema([pa.field("a", pa.int64(), metadata=ids), ("b", pa.timestamp("ns"))])
    assert fingerprint(named, ["a", "b"]) == fingerprint(renamed, ["z", "b"])
    assert fingerprint(named, ["a", "b"]) != fingerprint(finer, ["a", "b"])
    assert fingerprint(named, ["a", "b"]) != fingerprint(named, ["b", "a"])


def test_types_that_cannot_be_keys_are_refused() -> None:
    for dtype in (pa.float64(), pa.list_(pa.int8()), pa.month_day_nano_interval()):
        with pytest.raises(UnsupportedError, match="cannot be indexed as keys"):
            fingerprint(pa.schema([("k", dtype)]), ["k"])
        with pytest.raises(UnsupportedError, match="cannot be indexed as keys"):
            key_codes([column([], dtype)])


def test_no_rows_have_no_codes() -> None:
    assert codes(column([], pa.string()), column([], pa.decimal128(3, 1))) == []
    assert codes(pa.chunked_array([], pa.int64())) == []
