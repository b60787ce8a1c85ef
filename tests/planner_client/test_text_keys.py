"""Numbers made of text: they rule out nothing that the text itself would keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from io_core.partition import Bounds
from io_core.predicate import And, Compare, In, Not, Or
from planner_client.server.text_keys import is_text, may_match, text_keys

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
    assert keys.low.tolist() == whole.low.tolist()
    assert keys.high.tolist() == whole.high.tolist()
    pairs = [pair for piece in pieces for pair in piece]
    rows = np.arange(len(pairs))
    for op in OPS:
        mask = may_match(
            Compare(op, "c", pa.scalar(literal(value, dtype), dtype)), {"c": keys}, rows
        )
        assert mask is not None
        for pair, may in zip(pairs, mask.tolist(), strict=True):
            assert may or not kept(pair, op, value)


def test_files_are_told_apart_by_what_follows_the_shared_beginning() -> None:
    names = [f"s3-like/prefix/name-{i:04d}" for i in range(1000)]
    bounds = bounds_of([(name, name + "z") for name in names], pa.string())
    keys = text_keys((bounds,))
    rows = np.arange(1000)
    found = may_match(Compare("eq", "c", pa.scalar(names[7])), {"c": keys}, rows)
    assert found is not None
    assert np.flatnonzero(found).tolist() == [7]
    several = may_match(In("c", (pa.scalar(names[3]), pa.scalar("zzz"))), {"c": keys}, rows)
    assert several is not None
    assert np.flatnonzero(several).tolist() == [3]


def test_what_text_cannot_say_rules_out_nothing() -> None:
    keys = {"c": text_keys((bounds_of([("a", "b"), ("c", "d")], pa.string()),))}
    rows = np.arange(2)
    early, other = Compare("eq", "c", pa.scalar("a")), Compare("eq", "n", pa.scalar(1))
    assert may_match(other, keys, rows) is None
    assert may_match(Compare("neq", "c", pa.scalar("a")), keys, rows) is None
    assert may_match(Not(In("c", (pa.scalar("a"),))), keys, rows) is None
    assert may_match(Or((early, other)), keys, rows) is None
    joined = may_match(And((early, other)), keys, rows)
    assert joined is not None
    assert joined.tolist() == [True, False]


def test_numbers_are_made_of_text_and_bytes_alone() -> None:
    assert is_text(pa.string())
    assert is_text(pa.large_binary())
    assert not is_text(pa.int64())
    assert not is_text(pa.string_view())
