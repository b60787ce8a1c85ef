"""Do files of every format give back what was written, or refuse it before anything is?"""

from __future__ import annotations

import math
import os
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from io_core.errors import SchemaValidationError
from io_core.formats import (
    CONTENT_TYPES,
    FileRef,
    file_name,
    read,
    write,
)
from io_core.literal import kind_of, load_array
from tests.same_rows import assert_same, order_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from io_core.model import ColumnStats

FORMATS = list(CONTENT_TYPES)
TYPED = [name for name, kind in CONTENT_TYPES.items() if kind.has_types]
DELIMITED = ["csv", "tsv", "psv", "unescaped_tsv"]
NAN = float("nan")
DAY = 86_400

# Seconds within the years that nanoseconds can hold.
SECONDS = st.sampled_from([0, 1, -1, 1_740_830_400, -2_000_000_000]) | st.integers(
    -8 * 10**9, 8 * 10**9
)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
TEXT = st.sampled_from(
    [
        "",
        "a",
        "a,b",
        "a\tb",
        "a|b",
        'q"q',
        '"',
        "line\nend",
        "\r\n",
        " ",
        "null",
        "NaN",
        "日本",
        "\0",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
BINARY = st.binary(max_size=6)


def _instants(unit: str) -> st.SearchStrategy[int]:
    scale = PER_SECOND[unit]
    return st.builds(lambda s, rest: s * scale + rest % scale, SECONDS, st.integers(0, 10**9))


def _clock(unit: str) -> st.SearchStrategy[int]:
    return st.integers(0, DAY * PER_SECOND[unit] - 1)


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    top = 10**precision - 1
    return st.integers(-top, top).map(lambda n: Decimal(f"{n}E-{scale}"))


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.sampled_from([low, high, 0]) | st.integers(low, high)


# Any: values of the type, times as their integers.
FLAT: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
    **{t: _integers(t.bit_width, signed=True) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{t: _integers(t.bit_width, signed=False) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{t: st.floats(width=t.bit_width) for t in (pa.float16(), pa.float32(), pa.float64())},
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), TEXT),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), BINARY),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.date32(): SECONDS.map(lambda s: s // DAY),
    pa.date64(): SECONDS.map(lambda s: s // DAY * DAY * 1000),
    **{pa.time32(u): _clock(u) for u in ("s", "ms")},
    **{pa.time64(u): _clock(u) for u in ("us", "ns")},
    **{pa.timestamp(u, z): _instants(u) for u in PER_SECOND for z in (None, "UTC", "Europe/Berlin")},
    **{pa.duration(u): _instants(u) for u in PER_SECOND},
    pa.month_day_nano_interval(): st.tuples(*[st.integers(-9, 9)] * 3),
    pa.decimal32(9, 2): _decimals(9, 2),
    pa.decimal64(18, 0): _decimals(18, 0),
    pa.decimal128(38, 9): _decimals(38, 9),
    pa.decimal256(60, 20): _decimals(60, 20),
}  # fmt: skip
_TEMPORAL = (pa.types.is_time, pa.types.is_duration)


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    keys = st.sampled_from([pa.string(), pa.int32()])
    return st.one_of(
        st.builds(pa.list_, inner),
        st.builds(pa.large_list, inner),
        st.builds(lambda item: pa.list_(item, 2), inner),
        st.builds(lambda parts: pa.struct(list(zip("abc", parts, strict=False))), st.lists(inner, max_size=2)),
        st.builds(pa.map_, keys, inner),
    )  # fmt: skip


DICTIONARIES = st.sampled_from(
    [pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64())]
)
FLAT_TYPES = st.sampled_from(list(FLAT))
NESTED_TYPES = _nested(st.recursive(FLAT_TYPES, _nested, max_leaves=2))
TYPES = FLAT_TYPES | NESTED_TYPES | DICTIONARIES


def values_of(dtype: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that `pa.array` takes for a type, nulls among them."""
    t = pa.types
    if dtype in FLAT:
        found = FLAT[dtype]
    elif t.is_dictionary(dtype):
        found = FLAT[dtype.value_type]
    elif t.is_struct(dtype):
        found = st.fixed_dictionaries({f.name: values_of(f.type) for f in dtype})
    elif t.is_map(dtype):
        pairs = st.tuples(FLAT[dtype.key_type], values_of(dtype.item_type))
        found = st.lists(pairs, max_size=2, unique_by=lambda pair: pair[0])
    elif t.is_fixed_size_list(dtype):
        found = st.lists(values_of(dtype.value_type), min_size=2, max_size=2)
    else:
        found = st.lists(values_of(dtype.value_type), max_size=3)
    return st.none() | found


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Any table of one or two columns; some are slices of larger ones."""
    columns = {}
    rows = draw(st.integers(0, 5))
    skip = draw(st.sampled_from([0, 0, 1])) if rows else 0
    for name in draw(st.sampled_from([("x",), ("x", "y_2")])):
        dtype = draw(TYPES)
        values = draw(st.lists(values_of(dtype), min_size=rows, max_size=rows))
        columns[name] = pa.array(values, dtype)
    return pa.table(columns).slice(skip)


def parts(dtype: pa.DataType) -> list[pa.DataType]:
    """A type and all that are inside of it."""
    below = [dtype.value_type] if pa.types.is_dictionary(dtype) else []
    below += [dtype.field(i).type for i in range(dtype.num_fields)]
    return [dtype, *(inner for part in below for inner in parts(part))]


def _is_empty_struct(t: pa.DataType) -> bool:
    return pa.types.is_struct(t) and not t.num_fields


def _no_orc(t: pa.DataType) -> bool:
    is_ = pa.types
    other = t in {pa.null(), pa.uint64()} or is_.is_time(t) or is_.is_duration(t)
    return other or is_.is_interval(t) or (is_.is_decimal(t) and t.precision > 38)


def _no_avro(t: pa.DataType) -> bool:
    is_ = pa.types
    other = t in {pa.uint64(), pa.time64("ns")} or is_.is_duration(t) or is_.is_interval(t)
    return bool(other) or _is_empty_struct(t) or (is_.is_map(t) and t.key_type != pa.string())


def _no_interval(t: pa.DataType) -> bool:
    return bool(pa.types.is_interval(t))


def _no_lance(t: pa.DataType) -> bool:
    is_ = pa.types
    if is_.is_fixed_size_list(t):
        item = t.value_type
        nested = is_.is_nested(item) and not is_.is_fixed_size_list(item)
        return bool(nested or is_.is_null(item)) or kind_of(item) in {"text", "binary"}
    return _no_interval(t) or _is_empty_struct(t)


def _no_delimited(t: pa.DataType) -> bool:
    return _no_interval(t) or (pa.types.is_nested(t) and not pa.types.is_dictionary(t))


# What each format cannot hold, said once more and not taken from the code.
CANNOT: dict[str, Callable[[pa.DataType], bool]] = {
    "parquet": lambda t: _no_interval(t) or _is_empty_struct(t),
    "feather": lambda t: False,
    "orc": _no_orc,
    "avro": _no_avro,
    "lance": _no_lance,
    "json": _no_interval,
    **dict.fromkeys(DELIMITED, _no_delimited),
}


def cannot_hold(kind: str, dtype: pa.DataType) -> bool:
    below = parts(dtype)
    nothing_inside = pa.types.is_nested(dtype) and pa.null() in below
    return (nothing_inside and kind != "feather") or any(map(CANNOT[kind], below))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.mark.parametrize("kind", FORMATS)
@settings(
    # Of all formats together, thousands.
    max_examples=settings.default.max_examples * 9,  # type: ignore[union-attr]  # conftest sets it
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(table=tables())
def test_what_is_written_is_read_again_or_refused_by_its_type(
    folder: Path, kind: str, table: pa.Table
) -> None:
    path = f"{folder}/{uuid.uuid4().hex}{file_name(kind)}"
    cannot = any(cannot_hold(kind, dtype) for dtype in table.schema.types)
    unsaid = kind == "unescaped_tsv" and any(map(_is_unsayable, table.columns))
    if cannot or unsaid:
        with pytest.raises(SchemaValidationError):
            write(table, path, kind)
        assert not os.path.exists(path)
        return
    entry = write(table, path, kind)
    assert entry.record_count == table.num_rows
    file = FileRef(path, kind, entry.content_encoding, table.num_rows, "the plan", table.schema)
    assert_same(read(file), table)
    assert_stats_hold(entry.column_stats or {}, table)


def _is_unsayable(column: pa.ChunkedArray) -> bool:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = kind_of(column.type)
    if kind not in {"text", "binary"} and not pa.types.is_fixed_size_binary(column.type):
        return False
    values = [v for v in column.to_pylist() if v is not None]
    return any(len(v) == 0 for v in values) or (
        kind == "text" and any(c in v for v in values for c in "\t\r\n")
    )


def assert_stats_hold(stats: dict[str, ColumnStats], table: pa.Table) -> None:
    for name, of in stats.items():
        column = table.column(name)
        assert of.null_count == column.null_count
        bounds = load_array([of.min, of.max], column.type)
        if pa.types.is_floating(column.type):
            values = column.to_pylist()
            assert of.nan_count == sum(v is not None and math.isnan(v) for v in values)
        for value in column:
            is_nan = (
                pa.types.is_floating(value.type) and value.is_valid and math.isnan(value.as_py())
            )
            if is_nan or not value.is_valid:
                continue
            low, high, own = (order_of(v) for v in (bounds[0], bounds[1], value))
            assert low is None or low <= own
            assert high is None or own <= high
