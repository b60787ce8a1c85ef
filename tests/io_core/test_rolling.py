"""Rows become files of the right size, and what waits for them stays within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given

from io_core.rolling import Rolling

if TYPE_CHECKING:
    from io_core.rolling import Rolled


def numbers(first: int, count: int) -> pa.Table:
    return pa.table({"n": pa.array(range(first, first + count), pa.int64())})


def ints(rolled: list[Rolled]) -> list[list[int]]:
    return [file.rows.column("n").to_pylist() for file in rolled]


def test_files_roll_at_a_number_of_rows_over_several_batches() -> None:
    rolling = Rolling(4)
    early = [*rolling.add(None, numbers(0, 3)), *rolling.add(None, numbers(3, 6))]
    assert ints(early) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert ints(list(rolling.finish())) == [[8]]
    assert list(rolling.finish()) == []


def test_files_roll_at_their_bytes_as_well() -> None:
    rolling = Rolling(10**9, file_bytes=800)
    early = list(rolling.add(None, numbers(0, 1000)))
    assert [800 <= file.rows.nbytes < 900 for file in early] == [True] * 9
    assert ints(early)[0][0] == 0


def test_where_too_much_waits_the_fullest_partition_is_written_first() -> None:
    rolling = Rolling(10**9, waiting_bytes=100)
    assert list(rolling.add([1], numbers(0, 3))) == []
    assert list(rolling.add([2], numbers(10, 8))) == []
    (early,) = rolling.add([1], numbers(3, 2))
    assert (early.values, ints([early])) == ([2], [[*range(10, 18)]])
    assert ints(list(rolling.finish())) == [[0, 1, 2, 3, 4]]


@given(
    batches=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40))),
    rows=st.integers(1, 30),
    size=st.integers(1, 400),
    waiting=st.integers(0, 600),
)
def test_every_row_ends_in_one_file_of_its_partition_in_order(
    batches: list[tuple[int, int]], rows: int, size: int, waiting: int
) -> None:
    rolling = Rolling(rows, file_bytes=size, waiting_bytes=waiting)
    given_rows: dict[int, list[int]] = {}
    found: dict[int, list[int]] = {}
    rolled: list[Rolled] = []
    at = 0
    for partition, count in batches:
        given_rows.setdefault(partition, []).extend(range(at, at + count))
        rolled += rolling.add([partition], numbers(at, count))
        at += count
    for file in [*rolled, *rolling.finish()]:
        assert file.values is not None
        assert 0 < file.rows.num_rows <= rows
        found.setdefault(file.values[0], []).extend(file.rows.column("n").to_pylist())
    assert found == {partition: held for partition, held in given_rows.items() if held}
