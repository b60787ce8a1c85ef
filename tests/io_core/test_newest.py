"""Is every row found that a later row of its key replaces, whatever its code has in common with others'?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.key_codes import KeyCodes
from io_core.newest import Replaced, best_of_each, replaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.newest import Numbers

# Times this, a small number stands in the upper bits of a word that is compared.
_INVERSE = pow(0x9E37_79B9_7F4A_7C15, -1, 2**64)


def pairs_of(keys: Sequence[object]) -> list[tuple[int, int]]:
    """Each row with the next one of its key, the slow way."""
    last: dict[object, int] = {}
    found = []
    for row, key in enumerate(keys):
        if key in last:
            found.append((last[key], row))
        last[key] = row
    return sorted(found)


def found_of(pairs: Replaced) -> list[tuple[int, int]]:
    return sorted(zip(pairs.rows.tolist(), pairs.by.tolist(), strict=True))


def no_keys(rows: Numbers) -> pa.Table:
    raise AssertionError("exact codes need no keys")


CODES = st.one_of(
    st.integers(0, 6),
    st.integers(2**64 - 3, 2**64 - 1),
    st.sampled_from([2**63, 2**63 - 1, 2**40]),
    st.integers(0, 3).map(lambda i: i * _INVERSE % 2**64),
)


@given(st.lists(CODES, max_size=40))
def test_exact_codes_tell_rows_apart_by_themselves(codes: list[int]) -> None:
    found = replaced(KeyCodes(np.array(codes, np.uint64), exact=True), no_keys)
    assert found_of(found) == pairs_of(codes)


@given(st.lists(st.tuples(CODES, st.sampled_from(["a", "b", None])), max_size=40))
def test_where_keys_share_a_code_the_keys_decide(rows: list[tuple[int, str | None]]) -> None:
    held = pa.table(
        {
            "code": pa.array([c for c, _ in rows], pa.uint64()),
            "k": pa.array([k for _, k in rows], pa.string()),
        }
    )
    codes = held.column("code").to_numpy()
    found = replaced(KeyCodes(codes, exact=False), held.take)
    assert found_of(found) == pairs_of(rows)


@pytest.mark.parametrize(
    "keys", [[None, "a"], ["a", None], [None, "", None], ["a", "b", None, "a"]]
)
def test_null_shares_a_code_with_other_keys_and_is_none_of_them(keys: list[str | None]) -> None:
    held = pa.table({"k": pa.array(keys, pa.string())})
    found = replaced(KeyCodes(np.zeros(len(keys), np.uint64), exact=False), held.take)
    assert found_of(found) == pairs_of(keys)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_rows_of_one_key_stand_together_oldest_first(count: int) -> None:
    found = replaced(KeyCodes(np.zeros(count, np.uint64), exact=True), no_keys)
    assert found.rows.tolist() == list(range(count - 1))
    assert found.by.tolist() == list(range(1, count))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2), st.integers(0, 2)), max_size=30))
def test_the_best_of_a_keys_last_group_wins(rows: list[tuple[int, int, int]]) -> None:
    # Groups grow with row numbers, as stream positions do.
    order = sorted(range(len(rows)), key=lambda i: rows[i][1])
    keys, groups, ranked = (np.array([rows[i][n] for i in order], np.int64) for n in range(3))
    pairs = replaced(KeyCodes(keys.view(np.uint64), exact=True), no_keys)
    best, lost = best_of_each(pairs, groups, lambda rows: ranked[rows])
    lives = np.ones(len(rows), np.bool_)
    lives[pairs.rows] = False
    lives[best], lives[lost] = True, False
    wanted = []
    for key in set(keys.tolist()):
        mine = np.flatnonzero(keys == key)
        last = [i for i in mine if groups[i] == groups[mine[-1]]]
        tied = groups[mine[-1]] >= 0
        wanted.append(max(last, key=lambda i: (ranked[i], i)) if tied else mine[-1])
    assert np.flatnonzero(lives).tolist() == sorted(wanted)
