"""Numbers made of bounds: they rule out nothing that the bounds themselves would keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from io_core.partition import Bounds
from io_core.predicate import And, Compare, In, Not, Or
from io_core.prune import prune
from planner_client.server.bound_keys import may_match, number_keys
from planner_client.server.text_keys import is_text, text_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.predicate import CompareOp

TEXT = st.text("ab\u00e9\U0001f600\0", max_size=12) | st.text("0", max_size=9).map(
    lambda tail: "shared/prefix/" + tail
)
PAIRS = st.lists(
    st.none() | st.tuples(TEXT, TEXT).map(lambda pair: tuple(sorted(pair, key=str.encode)))
)
OPS: tuple[CompareOp, ...] = ("eq", "lt", "lte", "gt", "gte")


def bounds_of(pairs: Sequence[Any], dtype: pa.DataType) -> Bounds:
    low, high = (
        pa.array([None if pair is None else literal(pair[side], dtype) for pair in pairs], dtype)
        for side in (0, 1)
    )
    counts = np.zeros(len(pairs), np.int64)
    return Bounds(low, high, counts, counts - 1, exact=False)


def literal(value: str, dtype: pa.DataType) -> str | bytes:
    return value if dtype in (pa.string(), pa.large_string()) else value.encode()


def kept(pair: tuple[str, str] | None, op: CompareOp, value: str) -> bool:
    """Whether a file with these bounds may hold a matching value, by comparing the text."""
    if pair is None:
        return True
    low, high, raw = pair[0].encode(), pair[1].encode(), value.encode()
    match op:
        case "eq":
            return low <= raw <= high
        case "lt":
            return low < raw
        case "lte":
            return low <= raw
        case "gt":
            return high > raw
    return high >= raw


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
@given(
    pieces=st.lists(PAIRS.filter(bool), min_size=1, max_size=3), value=TEXT, cut=st.integers(0, 3)
)
def test_no_file_is_ruled_out_that_its_bounds_would_keep(
    dtype: pa.DataType, pieces: list[list[Any]], value: str, cut: int
) -> None:
    bounds = tuple(bounds_of(piece, dtype) for piece in pieces)
    # Extended piece by piece, as commits do, the numbers are those of all pieces at once.
    early = text_keys(bounds[:cut]) if bounds[:cut] else None
    keys = text_keys(bounds, early)
    whole = text_keys(bounds)
    asked = pa.scalar(literal(value, dtype), dtype)
    for pairs, key, same in zip(pieces, keys.keys, whole.keys, strict=True):
        assert key.low.tolist() == same.low.tolist()
        assert key.high.tolist() == same.high.tolist()
        for op in OPS:
            mask = may_match(Compare(op, "c", asked), {"c": key})
            assert mask is not None
            for pair, may in zip(pairs, mask.tolist(), strict=True):
                assert may or not kept(pair, op, value)


NUMBERS = (pa.int8(), pa.uint64(), pa.float64(), pa.date32(), pa.timestamp("ns"), pa.duration("s"))


def numbers_of(dtype: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_floating(dtype):
        return st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0])
    low, high = (0, 2**64 - 1) if dtype == pa.uint64() else (-100, 100)
    return st.integers(low, high)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@given(data=st.data())
def test_numbers_rule_out_what_bounds_do(dtype: pa.DataType, data: st.DataObject) -> None:
    number = numbers_of(dtype)
    pairs = data.draw(st.lists(st.tuples(number, number).map(sorted), min_size=1))
    nans = np.array(data.draw(st.lists(st.integers(-1, 1), min_size=len(pairs))))[: len(pairs)]
    plain = dtype if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) else None
    width = plain or (pa.int32() if dtype.bit_width == 32 else pa.int64())
    low, high = (pa.array([p[side] for p in pairs], width).view(dtype) for side in (0, 1))
    rows = np.full(len(pairs), 5)
    bounds = Bounds(low, high, rows * 0, nans, exact=True)
    keys = number_keys(bounds)
    assert keys is not None
    asked = pa.array([data.draw(number)], width).view(dtype)[0]
    for op in OPS:
        predicate = Compare(op, "c", asked)
        mask = may_match(predicate, {"c": keys})
        wanted = prune(predicate, rows, lambda _: (bounds,)).may
        if mask is None:
            assert op in ("gt", "gte")
            assert pa.types.is_floating(dtype)
            assert nans.any()
            continue
        assert not (wanted & ~mask).any()
        if op in ("eq", "lte", "gte"):
            assert mask.tolist() == wanted.tolist()


def test_bounds_of_which_one_is_unknown_become_no_numbers() -> None:
    known, unknown = pa.array([1, 2]), pa.array([1, None])
    counts = np.zeros(2, np.int64)
    assert number_keys(Bounds(known, unknown, counts, counts, exact=True)) is None
    assert number_keys(Bounds(known, known, counts, counts, exact=True)) is not None


def test_files_are_told_apart_by_what_follows_the_shared_beginning() -> None:
    names = [f"s3-like/prefix/name-{i:04d}" for i in range(1000)]
    bounds = bounds_of([(name, name + "z") for name in names], pa.string())
    (keys,) = text_keys((bounds,)).keys
    found = may_match(Compare("eq", "c", pa.scalar(names[7])), {"c": keys})
    assert found is not None
    assert np.flatnonzero(found).tolist() == [7]
    several = may_match(In("c", (pa.scalar(names[3]), pa.scalar("zzz"))), {"c": keys})
    assert several is not None
    assert np.flatnonzero(several).tolist() == [3]
    part = may_match(Compare("eq", "c", pa.scalar(names[7])), {"c": keys.cut(slice(5, 9))})
    assert part is not None
    assert np.flatnonzero(part).tolist() == [2]


def test_what_numbers_cannot_say_rules_out_nothing() -> None:
    (key,) = text_keys((bounds_of([("a", "b"), ("c", "d")], pa.string()),)).keys
    keys = {"c": key}
    early, other = Compare("eq", "c", pa.scalar("a")), Compare("eq", "n", pa.scalar(1))
    assert may_match(other, keys) is None
    assert may_match(Compare("neq", "c", pa.scalar("a")), keys) is None
    assert may_match(Not(In("c", (pa.scalar("a"),))), keys) is None
    assert may_match(Or((early, other)), keys) is None
    joined = may_match(And((early, other)), keys)
    assert joined is not None
    assert joined.tolist() == [True, False]


def test_numbers_are_made_of_text_and_bytes_alone() -> None:
    assert is_text(pa.string())
    assert is_text(pa.large_binary())
    assert not is_text(pa.int64())
    assert not is_text(pa.string_view())
