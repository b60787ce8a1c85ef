"""Is a merge order what its schema says, in whichever words, and the same in a plan?"""

from __future__ import annotations

import base64
import datetime as dt
import math
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from io_core.errors import SchemaValidationError
from io_core.merge_order import (
    EVENT_TIME,
    MERGE_ORDER,
    MergePlan,
    MergeSortKey,
    OrderKey,
    merge_order_of,
    merge_plan,
    order_keys,
    ranks,
)
from io_core.schema import SchemaField, assign_field_ids, fields_of, schema_of


def packed(order: object) -> dict[bytes, bytes]:
    return {MERGE_ORDER: base64.b64encode(msgspec.msgpack.encode(order))}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("descending", "descending"),
        ("SortOrder.DESCENDING", "descending"),
        ("DESC", "descending"),
        ("ascending", "ascending"),
        ("SortOrder.ASCENDING", "ascending"),
    ],
)
def test_a_sort_order_may_be_spelt_as_an_enums_member(word: str, meant: str) -> None:
    (field,) = fields_of(schema_of([SchemaField("x", "int8", merge_order={"sort_order": word})]))
    assert field.merge_order == {"sort_order": meant, "null_order": "at_end"}
    (field,) = fields_of(
        pa.schema([pa.field("x", pa.int8(), metadata=packed({"sort_order": word}))])
    )
    assert field.merge_order == {"sort_order": meant, "null_order": "at_end"}
    keys = order_keys(MergePlan((MergeSortKey(("x",), word),)))
    assert keys == (OrderKey("x", keeps_largest=meant == "ascending"),)


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({"sort_order": "upwards"}, "sort_order 'upwards' is unknown; use ascending or"),
        ({"sort_order": "SortOrder.UP"}, "sort_order 'SortOrder.UP' is unknown"),
        ({}, "sort_order None is unknown"),
        ({"sort_order": "asc", "null_order": "first"}, "null_order 'first' is unknown"),
        ({"sort_order": "asc", "nulls": "at_end"}, "merge_order has no 'nulls'"),
    ],
)
def test_an_order_in_other_words_is_refused(order: dict[str, Any], problem: str) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        schema_of([SchemaField("x", "int8", merge_order=order)])
    with pytest.raises(SchemaValidationError, match=problem):
        schema_of(pa.schema([pa.field("x", pa.int8(), metadata=packed(order))]))


@pytest.mark.parametrize("text", [b"e30=", b"%", b"", base64.b64encode(b"\x01")])
def test_metadata_that_cannot_be_read_is_refused(text: bytes) -> None:
    with pytest.raises(SchemaValidationError, match=r"column 'x': DELTACAT:merge_order cannot be"):
        schema_of(pa.schema([pa.field("x", pa.int8(), metadata={MERGE_ORDER: text})]))


def test_a_plan_of_an_unknown_order_is_refused() -> None:
    with pytest.raises(SchemaValidationError, match="column 'x': sort_order 'up' is unknown"):
        order_keys(MergePlan((MergeSortKey(("x",), "up"),)))


@pytest.mark.parametrize(
    "dtype", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.float16()]
)
def test_columns_without_an_order_decide_nothing(dtype: pa.DataType) -> None:
    for metadata in (packed({"sort_order": "asc"}), {EVENT_TIME: b"true"}):
        with pytest.raises(SchemaValidationError, match=r"'x' is of type .*: only numbers, texts"):
            schema_of(pa.schema([pa.field("x", dtype, metadata=metadata)]))


@pytest.mark.parametrize("what", [{"is_event_time": True}, {"merge_order": {"sort_order": "asc"}}])
def test_what_decides_is_taken_exactly_and_keeps_its_flags(what: dict[str, Any]) -> None:
    with pytest.raises(SchemaValidationError, match="merge order 'x': consistency_type 'coerce'"):
        schema_of([SchemaField("x", "int8", consistency_type="coerce", **what)])
    held = assign_field_ids(schema_of([SchemaField("x", "int8", **what)]))
    (field,) = fields_of(held)
    assert (field.is_event_time, bool(field.merge_order)) == (
        "is_event_time" in what,
        "merge_order" in what,
    )
    assert merge_order_of(held) == (OrderKey("x", keeps_largest="is_event_time" in what),)


def test_declared_orders_come_in_schema_order_and_before_event_time() -> None:
    event = pa.field("at", pa.timestamp("us"), metadata={EVENT_TIME: b"true"})
    up = pa.field("up", pa.int8(), metadata=packed({"sort_order": "ascending"}))
    down = pa.field("down", pa.string(), metadata=packed({"sort_order": "descending"}))
    assert merge_order_of(pa.schema([event])) == (OrderKey("at"),)
    found = pa.schema([event, down, pa.field("k", pa.int8()), up])
    assert merge_order_of(found) == (OrderKey("down"), OrderKey("up", keeps_largest=False))
    plan = merge_plan(found)
    assert plan == MergePlan((MergeSortKey(("down",)), MergeSortKey(("up",), "descending")))
    assert order_keys(plan) == merge_order_of(found)
    assert merge_plan(pa.schema([pa.field("k", pa.int8())])) is None
    assert order_keys(None) == ()


# Any: values of the type, ascending.
ORDERED: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int64(), [-(2**63), 0, 2**63 - 1]),
    (pa.uint64(), [0, 2**64 - 1]),
    (pa.float64(), [-math.inf, -1.5, 0.0, math.inf, math.nan]),
    (pa.bool_(), [False, True]),
    (pa.string_view(), ["", "B", "a", "é"]),
    (pa.binary(), [b"", b"\x00", b"\xff"]),
    (pa.decimal128(5, 2), [Decimal("-1.5"), Decimal("0.01")]),
    (pa.date32(), [dt.date(1, 1, 1), dt.date(2025, 3, 1)]),
    (pa.timestamp("ns", "Europe/Berlin"), [-1, 0, 1]),
    (pa.time32("s"), [0, 86_399]),
    (pa.duration("us"), [-1, 1]),
]


@pytest.mark.parametrize(("dtype", "values"), ORDERED, ids=str)
def test_values_rank_as_they_compare_and_null_above_all(
    dtype: pa.DataType, values: list[Any]
) -> None:
    table = pa.table({"v": pa.array([*values, None, *values, None], dtype)})
    up = list(range(len(values) + 1))
    assert ranks(table, [OrderKey("v")]).tolist() == up * 2
    plain = [v for v in values if v == v]
    down = [*reversed(range(len(plain))), *range(len(plain), len(values) + 1)]
    assert ranks(table, [OrderKey("v", keeps_largest=False)]).tolist() == down * 2


def test_a_further_column_decides_among_equals() -> None:
    table = pa.table({"a": [1, 1, 2, 1], "b": ["x", "y", "x", "x"]})
    assert ranks(table, [OrderKey("a"), OrderKey("b")]).tolist() == [0, 1, 2, 0]
    assert ranks(table, [OrderKey("a"), OrderKey("b", False)]).tolist() == [1, 0, 2, 1]


def test_negative_zero_ties_with_zero() -> None:
    assert ranks(pa.table({"v": [0.0, -0.0]}), [OrderKey("v")]).tolist() == [0, 0]
