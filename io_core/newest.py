"""Which rows does a later row of the same key replace? Found by sorting one word per row.

The word has a part of the key's code (`io_core.key_codes`) above, and the row's number below: after
sorting, rows of one key stand together, in the order of their numbers. Where part and code do not
settle that keys are equal, the keys themselves are compared, of those rows alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.keys import equal_rows, row_codes

if TYPE_CHECKING:
    from io_core.key_codes import KeyCodes

__all__ = ["KeysAt", "Numbers", "Replaced", "best_of_each", "replaced"]

# (rows,) int64: which rows, by number.
Numbers = npt.NDArray[np.int64]
# What reads the keys of some rows, in the order given.
KeysAt = Callable[[Numbers], pa.Table]

# Words worked on together: few enough for a processor's cache, where whole arrays would be memory anew
# for every step.
_AT_ONCE = 1 << 16
# Odd, so that no two codes become one; its bits are spread, so that the upper ones tell codes apart.
_FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)


class Replaced(NamedTuple):
    """Rows, and for each the next row of the same key; a key's pairs stand together, oldest first."""

    rows: Numbers
    by: Numbers


def replaced(keys: KeyCodes, keys_at: KeysAt) -> Replaced:
    """The rows of whose key there is a later row.

    Takes about 20 ns a row, and 9 bytes, besides the codes.

    Args:
        keys: The code of each row's key, in order.
        keys_at: Reads keys; called once, and only where codes are not exact.

    Example:
        >>> from io_core.key_codes import KeyCodes
        >>> codes = KeyCodes(np.array([7, 8, 7], np.uint64), exact=True)
        >>> replaced(codes, keys_at=lambda rows: pa.table({}))
        Replaced(rows=array([0]), by=array([2]))
    """
    codes, count = keys.codes, len(keys.codes)
    if not count:
        return Replaced(np.empty(0, np.int64), np.empty(0, np.int64))
    bits = np.uint64(count.bit_length())
    words, whole = _words(codes, bits)
    words.sort()
    mask = (np.uint64(1) << bits) - np.uint64(1)
    pair = _alike(words, mask)
    older, newer = ((words[at] & mask).view(np.int64) for at in (pair, pair + 1))
    del words
    if whole and keys.exact:
        return Replaced(older, newer)
    return _confirmed(older, newer, keys, keys_at)


def _words(codes: npt.NDArray[np.uint64], bits: np.uint64) -> tuple[npt.NDArray[np.uint64], bool]:
    """The words, unsorted, and whether what they have of each code tells codes apart."""
    signed = codes.view(np.int64)
    low, high = signed.min(), signed.max()
    whole = int(high) - int(low) < 1 << (64 - int(bits))
    words = np.empty_like(codes)
    numbers = np.arange(min(_AT_ONCE, len(codes)), dtype=np.uint64)
    for start in range(0, len(codes), _AT_ONCE):
        part, given = words[start : start + _AT_ONCE], codes[start : start + _AT_ONCE]
        if whole:
            np.subtract(given, low.view(np.uint64), out=part)
        else:
            np.multiply(given, _FACTOR, out=part)
            part >>= bits
        part <<= bits
        part |= numbers[: len(part)] + np.uint64(start)
    return words, whole


def _alike(words: npt.NDArray[np.uint64], mask: np.uint64) -> Numbers:
    """Where the next word differs in its row's number alone."""
    found = np.empty(len(words) - 1, np.bool_)
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        end = start + len(part)
        np.less_equal(words[start + 1 : end + 1] ^ words[start:end], mask, out=part)
    return np.flatnonzero(found)


def _confirmed(older: Numbers, newer: Numbers, keys: KeyCodes, keys_at: KeysAt) -> Replaced:
    """The pairs whose keys are equal, and of rows that met others' keys the pairs that they missed."""
    if not len(older):
        return Replaced(older, newer)
    # Rows that met, in the order of the words: each pair's first, and the second where a run ends.
    ends = np.append(older[1:] != newer[:-1], True)
    met = np.repeat(older, 1 + ends)
    met[np.flatnonzero(ends) + np.cumsum(ends)[ends]] = newer[ends]
    found = pa.table({"": keys.codes[met]}) if keys.exact else keys_at(met)
    first = np.arange(len(older)) + np.cumsum(ends) - ends
    equal = _equal_to_next(found)[first]
    if equal.all():
        return Replaced(older, newer)
    groups = row_codes(found.columns)
    order = np.lexsort((met, groups))
    same = np.flatnonzero(groups[order[1:]] == groups[order[:-1]])
    return Replaced(met[order[same]], met[order[same + 1]])


def _equal_to_next(keys: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether each row but the last has the next one's key; null equals null."""
    return equal_rows(keys.slice(0, max(len(keys) - 1, 0)), keys.slice(1))


def best_of_each(
    pairs: Replaced, group: npt.NDArray[np.int64], rank: Callable[[Numbers], Numbers]
) -> tuple[Numbers, Numbers]:
    """Where the last rows of a key are of one group, the best of them wins, and not the last.

    Args:
        pairs: What `replaced` found.
        group: (rows,) by number: which rows are to be ranked against each other; -1 is none of them.
        rank: The place of each of some rows, given ascending, among them; the highest is the best.

    Returns:
        Rows that win though another replaces them, and rows that lose though none does.
    """
    rows, by = pairs
    ends = np.append(rows[1:] != by[:-1], True)[: len(rows)]
    tied = (group[rows] == group[by]) & (group[rows] >= 0)
    key = np.cumsum(ends) - ends
    # Pairs from the last one of their key on backwards, as far as they tie.
    open_ = np.flatnonzero(~tied)
    broken = np.searchsorted(open_, np.arange(len(rows))) < np.searchsorted(
        open_, np.flatnonzero(ends)[key] + 1
    )
    tied &= ~broken
    if not tied.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    last = tied & ends
    members = np.concatenate([rows[tied], by[last]])
    keys = np.concatenate([key[tied], key[last]])
    order = np.argsort(members)
    members, keys = members[order], keys[order]
    order = np.lexsort((members, rank(members), keys))
    best = members[order[np.append(np.diff(keys[order]) != 0, True)]]
    lasts = by[last]
    return np.setdiff1d(best, lasts), np.setdiff1d(lasts, best)
