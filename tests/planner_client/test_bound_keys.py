"""Numbers made of bounds: they rule out nothing that the bounds themselves would keep.

Where they say that they are final, they say what the bounds would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from io_core.partition import Bounds
from io_core.predicate import And, Compare, Constant, In, IsNull, Not, Or, Predicate
from io_core.prune import prune
from planner_client.server.bound_keys import Keys, judge, number_keys
from planner_client.server.column_keys import PIECE, ColumnKeys
from planner_client.server.statistics import stat_column
from planner_client.server.text_keys import is_text, shared_prefix, text_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.predicate import CompareOp

TEXT = st.text("ab\u00e9\U0001f600\0", max_size=12) | st.text("0", max_size=9).map(
    lambda tail: "shared/prefix/" + tail
)
PAIRS = st.lists(
    st.none() | st.tuples(TEXT, TEXT).map(lambda pair: tuple(sorted(pair, key=str.encode)))
)
OPS: tuple[CompareOp, ...] = ("eq", "neq", "lt", "lte", "gt", "gte")


def spread(said: Any, count: int) -> list[bool]:
    """An answer for each file, where one may stand for all."""
    return [bool(said)] * count if isinstance(said, bool) else said.tolist()


def keys_of(bounds: Bounds) -> Keys:
    return text_keys(bounds, shared_prefix([bounds]))


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
        case "neq":
            return True
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
    blocks = bounds[0]
    early = ColumnKeys.of(bounds[:cut], blocks)
    first = [early.piece(number) for number in range(len(bounds[:cut]))]
    assert all(first)
    held = early.extended(bounds, blocks)
    whole = ColumnKeys.of(bounds, blocks)
    asked = pa.scalar(literal(value, dtype), dtype)
    for number, pairs in enumerate(pieces):
        key, same = held.piece(number), whole.piece(number)
        assert key is not None
        assert same is not None
        assert key.low.tolist() == same.low.tolist()
        assert key.high.tolist() == same.high.tolist()
        rows = np.full(len(pairs), 5)
        for op in OPS:
            predicate = Compare(op, "c", asked)
            said = judge(predicate, {"c": key})
            for pair, may in zip(pairs, spread(said.may, len(pairs)), strict=True):
                assert may or not kept(pair, op, value)
            assert not any(spread(said.every, len(pairs)))
            if said.final:
                exact = prune(predicate, rows, lambda _, n=number: (bounds[n],))  # type: ignore[misc]  # a default
                assert spread(said.may, len(pairs)) == exact.may.tolist()
                assert not exact.every.any()


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
    nulls = rows * 0 if data.draw(st.booleans()) else rows - 4
    bounds = Bounds(low, high, nulls, nans, exact=True)
    keys = number_keys(bounds)
    assert keys is not None
    values = st.integers(0, len(pairs) - 1).map(lambda i: pairs[i][0]) | number
    one, other = pa.array([data.draw(values), data.draw(values)], width).view(dtype)
    leaves = [Compare(op, "c", one) for op in OPS]
    more = And((leaves[-1], Compare("lt", "c", other))), Or((leaves[0], Compare("gt", "c", other)))
    others: list[Predicate] = [In("c", (one, other)), *more, Constant(True), Constant(False)]
    for predicate in (*leaves, *others):
        said = judge(predicate, {"c": keys})
        exact = prune(predicate, rows, lambda _: (bounds,))
        may, every = (np.array(spread(side, len(pairs))) for side in said[:2])
        assert not (exact.may & ~may).any()
        assert not (every & ~exact.every).any()
        if said.final:
            assert may.tolist() == exact.may.tolist()
            assert every.tolist() == exact.every.tolist()
        coarse = judge(predicate, {"c": keys.cut(slice(len(pairs)))})
        assert not (exact.may & ~np.array(spread(coarse.may, len(pairs)))).any()
    assert keys.decisive == (not nulls.any() and (keys.topped or not pa.types.is_floating(dtype)))
    assert keys.decisive <= judge(more[0], {"c": keys}).final


def test_numbers_of_files_of_several_pieces_stand_in_the_order_asked_for() -> None:
    count = PIECE + 10
    low = pa.array(np.arange(count) * 2)
    column = stat_column(
        Bounds(low, low, np.zeros(count, np.int64), np.zeros(count, np.int64), exact=True)
    )
    rows = np.array([PIECE + 3, 5, PIECE - 1, 0])
    keys = column.keys.take(rows)
    assert keys is not None
    assert keys.low.tolist() == keys.high.tolist() == (rows * 2).tolist()
    assert keys.decisive
    assert column.keys.known
    whole = column.keys.whole
    assert whole is not None
    assert (whole.low, whole.high) == (0, 2 * (count - 1))


def test_bounds_of_which_one_is_unknown_become_no_numbers() -> None:
    known, unknown = pa.array([1, 2]), pa.array([1, None])
    counts = np.zeros(2, np.int64)
    assert number_keys(Bounds(known, unknown, counts, counts, exact=True)) is None
    assert number_keys(Bounds(known, known, counts, counts, exact=True)) is not None


def test_files_are_told_apart_by_what_follows_the_shared_beginning() -> None:
    names = [f"s3-like/prefix/name-{i:04d}" for i in range(1000)]
    bounds = bounds_of([(name, name + "z") for name in names], pa.string())
    keys = keys_of(bounds)
    found = judge(Compare("eq", "c", pa.scalar(names[7])), {"c": keys})
    assert np.flatnonzero(found.may).tolist() == [7]
    several = judge(In("c", (pa.scalar(names[3]), pa.scalar("zzz"))), {"c": keys})
    assert np.flatnonzero(several.may).tolist() == [3]
    part = judge(Compare("eq", "c", pa.scalar(names[7])), {"c": keys.cut(slice(5, 9))})
    assert np.flatnonzero(part.may).tolist() == [2]


def test_what_numbers_cannot_say_rules_out_nothing() -> None:
    key = keys_of(bounds_of([("a", "b"), ("c", "d")], pa.string()))
    keys = {"c": key}
    early, other = Compare("eq", "c", pa.scalar("a")), Compare("eq", "n", pa.scalar(1))
    nothing = (True, False, False)
    assert judge(other, keys) == nothing
    assert judge(Compare("neq", "c", pa.scalar("a")), keys) == nothing
    assert judge(Not(In("c", (pa.scalar("a"),))), keys) == nothing
    assert judge(IsNull("c"), keys) == nothing
    either = judge(Or((early, other)), keys)
    assert spread(either.may, 2) == [True, True]
    assert not either.final
    joined = judge(And((early, other)), keys)
    assert spread(joined.may, 2) == [True, False]
    assert not joined.final


def test_a_text_between_two_bounds_needs_no_look_at_them() -> None:
    key = keys_of(bounds_of([("a", "c"), ("d", "e")], pa.string()))
    between, bound = (judge(Compare("eq", "c", pa.scalar(v)), {"c": key}) for v in ("b", "c"))
    assert between.final
    assert not bound.final
    assert not judge(Compare("lt", "c", pa.scalar("b")), {"c": key}).final
    some = keys_of(bounds_of([("a", "c"), None], pa.string()))
    assert not judge(Compare("eq", "c", pa.scalar("b")), {"c": some}).final


def test_numbers_are_made_of_text_and_bytes_alone() -> None:
    assert is_text(pa.string())
    assert is_text(pa.large_binary())
    assert not is_text(pa.int64())
    assert not is_text(pa.string_view())
