"""Does a delete set say which rows are dead, and refuse to say it of another file?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.deletes import Positions, count, decode, encode, live_mask, union
from io_core.errors import DataFileError

ROWS = 5_000


def positions(*values: int) -> Positions:
    return np.array(values, np.uint32)


def spread(dead: int, rows: int = ROWS) -> Positions:
    """So many positions, from the first row to the last."""
    return np.unique(np.linspace(0, rows - 1, dead).astype(np.uint32))


@st.composite
def sets(draw: st.DrawFn, rows: int) -> Positions:
    """Few, many, all, none; scattered and in blocks."""
    kind = draw(st.sampled_from(["scattered", "block", "share"]))
    if kind == "scattered":
        found = draw(st.sets(st.integers(0, rows - 1), max_size=40)) if rows else set()
        return np.array(sorted(found), np.uint32)
    if kind == "block":
        start, end = sorted(draw(st.tuples(*[st.integers(0, rows)] * 2)))
        return np.arange(start, end, dtype=np.uint32)
    seed = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0.001, 0.02, 0.04, 0.5, 1.0]))
    return np.flatnonzero(seed.random(rows) < share).astype(np.uint32)


@given(st.data(), st.sampled_from([0, 1, 7, 8, 9, 255, 256, 70_000, 5_000_000]))
def test_a_set_comes_back_as_it_was(data: st.DataObject, rows: int) -> None:
    dead = data.draw(sets(rows))
    raw = encode(dead, rows)
    assert decode(raw, rows).tolist() == dead.tolist()
    assert decode(raw, rows).dtype == np.uint32
    assert count(raw) == len(dead)
    assert np.flatnonzero(~live_mask(raw, rows)).tolist() == dead.tolist()
    assert len(live_mask(raw, rows)) == rows


@pytest.mark.parametrize("rows", [2_000, 20_000, 2_000_000, 200_000_000, 2**32 - 1])
def test_gaps_of_any_length_come_back(rows: int) -> None:
    dead = np.array([0, *range(rows - 20, rows - 8), rows - 1], np.uint32)
    assert decode(encode(dead, rows), rows).tolist() == dead.tolist()


@given(st.data(), st.sampled_from([1, 300, 70_000]))
def test_a_union_holds_what_is_dead_in_any_set(data: st.DataObject, rows: int) -> None:
    parts = data.draw(st.lists(sets(rows), max_size=4))
    whole = sorted({p for part in parts for p in part.tolist()})
    assert decode(union([encode(p, rows) for p in parts], rows), rows).tolist() == whole


@pytest.mark.parametrize("counts", [(2_000, 2_500), (2_500, 3, 2_000), (3, 40), (40, 2_000)])
def test_a_union_takes_sets_however_they_are_written(counts: tuple[int, ...]) -> None:
    parts = [spread(n) for n in counts]
    found = decode(union([encode(p, ROWS) for p in parts], ROWS), ROWS)
    assert found.tolist() == np.unique(np.concatenate(parts)).tolist()


def test_no_dead_rows_take_no_bytes() -> None:
    assert encode(positions(), ROWS) == b""
    assert union([b"", b""], ROWS) == b""
    assert live_mask(b"", 3).tolist() == [True] * 3


@pytest.mark.parametrize(
    ("dead", "rows", "most"),
    [
        (positions(0, 4_999), ROWS, 21),
        (spread(1_000_000, 4_000_000), 4_000_000, 200_000),
        (spread(4_000, 4_000_000), 4_000_000, 4_000),
        (np.arange(4_000_000, dtype=np.uint32), 4_000_000, 1_000),
        (np.arange(100_000, dtype=np.uint32), 4_000_000, 1_000),
    ],
)
def test_a_set_is_small(dead: Positions, rows: int, most: int) -> None:
    assert len(encode(dead, rows)) <= most


@pytest.mark.parametrize("dead", [spread(3), spread(40), spread(2_000)])
def test_a_set_is_bound_to_its_files_number_of_rows(dead: Positions) -> None:
    raw = encode(dead, ROWS)
    for use in (decode, live_mask):
        with pytest.raises(DataFileError, match=r"of a file with 5000 rows.* with one of 4999"):
            use(raw, ROWS - 1)
    with pytest.raises(DataFileError, match="with one of 5001"):
        union([raw, raw], ROWS + 1)


@pytest.mark.parametrize("dead", [spread(3), spread(40), spread(2_000)])
def test_a_set_with_any_byte_changed_is_refused(dead: Positions) -> None:
    raw = encode(dead, ROWS)
    for i in range(len(raw)):
        changed = raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]
        with pytest.raises(DataFileError):
            decode(changed, ROWS)
    for cut in range(1, len(raw)):
        with pytest.raises(DataFileError, match="damaged"):
            decode(raw[:cut], ROWS)


@pytest.mark.parametrize(
    "dead", [positions(3, 2), positions(2, 2), positions(2, ROWS)], ids=["order", "twice", "beyond"]
)
def test_positions_that_are_no_set_of_the_files_rows_are_refused(dead: Positions) -> None:
    with pytest.raises(ValueError, match="below 5000"):
        encode(dead, ROWS)


def test_a_file_of_too_many_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than"):
        encode(positions(1), 2**32)
