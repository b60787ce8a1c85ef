"""Does an index kill exactly the rows that a merge leaves out?"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.deletes import Positions, decode, encode, union
from io_core.errors import DataFileError
from io_core.key_codes import KeyCodes, fingerprint, key_codes
from io_core.key_index import (
    KeyIndex,
    Kills,
    NewFile,
    Run,
    can_index,
    index_of,
    kills,
    tidy,
)
from tests.oracle import Commit, canonical, rows_of, table_of
from tests.plain_merge import Delta, merge
from tests.strategies import TYPES, TableSpec, histories

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_TYPES = [t for t in TYPES if not pa.types.is_floating(t)]
INT = "1;k:int"


class Table:
    """A partition as a planner keeps it: its files, its index, and what each position killed."""

    def __init__(self, keys: Sequence[str], collisions: int | None = None) -> None:
        self.keys = tuple(keys)
        self.collisions = collisions
        self.deltas: list[Delta] = []
        self.kills: list[tuple[int, dict[int, Positions]]] = []
        self.index: KeyIndex | None = None
        self.fetched: list[int] = []

    def fetch(self, ordinal: int, rows: Positions) -> pa.Table:
        self.fetched.append(ordinal)
        assert rows.tolist() == sorted(set(rows.tolist()))
        return self.deltas[ordinal].rows.select(self.keys).take(rows)

    def codes(self, rows: pa.Table) -> KeyCodes:
        found = key_codes([rows.column(k) for k in self.keys])
        if self.collisions is None:
            return found
        return KeyCodes(found.codes % np.uint64(self.collisions), exact=False)

    def commit(self, deltas: Sequence[Delta]) -> Kills:
        first, position = len(self.deltas), deltas[0].position
        self.deltas += deltas
        name = fingerprint(deltas[0].rows.schema, self.keys)
        files = [
            NewFile(first + i, self.codes(d.rows), bool(d.delete_columns))
            for i, d in enumerate(deltas)
        ]
        done = kills(self.index or KeyIndex(name), position, name, files, self.fetch)
        self.index = done.after
        self.kills.append((position, done.positions))
        return done

    def dead(self, ordinal: int, up_to: int) -> Positions:
        rows = self.deltas[ordinal].rows.num_rows
        found = [encode(k[ordinal], rows) for p, k in self.kills if p <= up_to and ordinal in k]
        return decode(union(found, rows), rows)

    def live(self, up_to: int) -> pa.Table:
        """The partition's rows at a position: all of each file, less those killed until then."""
        parts = []
        for ordinal, delta in enumerate(self.deltas):
            if not delta.delete_columns and delta.position <= up_to:
                mask = np.ones(delta.rows.num_rows, np.bool_)
                mask[self.dead(ordinal, up_to)] = False
                parts.append(delta.rows.filter(pa.array(mask)))
        return pa.concat_tables(parts)


class History(NamedTuple):
    """Commits, and the same as files, position by position."""

    spec: TableSpec
    commits: tuple[Commit, ...]
    positions: list[list[Delta]]


@st.composite
def written(draw: st.DrawFn) -> History:
    types = draw(st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=3))
    fields = [(f"k{i}", t) for i, t in enumerate(types)]
    spec = TableSpec(pa.schema([*fields, ("v", pa.int64())]), tuple(name for name, _ in fields))
    commits = draw(histories(spec, max_commits=8))
    positions = [[Delta(spec.schema.empty_table(), 0)]]
    for position, commit in enumerate(commits, start=1):
        is_delete = commit.mode == "delete"
        table = table_of(commit.rows, spec.delete_schema if is_delete else spec.schema)
        cuts = sorted(draw(st.lists(st.integers(0, len(table)), max_size=2)))
        columns = spec.merge_keys if is_delete else ()
        parts = itertools.pairwise([0, *cuts, len(table)])
        positions.append([Delta(table.slice(a, b - a), position, columns) for a, b in parts])
    return History(spec, commits, positions)


def unmarked(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(run._replace(dead=np.zeros_like(run.dead)) for run in runs)


def reopened(table: Table) -> KeyIndex:
    """The table's index, made again from its files and the dead rows."""
    assert table.index is not None
    name, position, _ = table.index
    files = [
        NewFile(i, table.codes(delta.rows))
        for i, delta in enumerate(table.deltas)
        if not delta.delete_columns
    ]
    dead = {file.ordinal: table.dead(file.ordinal, position) for file in files}
    return index_of(name, position, files, dead)


def rows(*values: tuple[object, object]) -> pa.Table:
    ids, texts = zip(*values, strict=True) if values else ((), ())
    return pa.table({"k": pa.array(ids, pa.int64()), "v": pa.array(texts, pa.string())})


def keys_of(*values: int | None) -> pa.Table:
    return pa.table({"k": pa.array(values, pa.int64())})


def named(done: Kills) -> dict[int, list[int]]:
    return {ordinal: positions.tolist() for ordinal, positions in done.positions.items()}


def living(index: KeyIndex) -> list[int]:
    return [r.entries - int(np.unpackbits(r.dead).sum()) for r in index.runs]


@given(written(), st.data())
def test_what_no_commit_killed_is_what_the_oracles_dict_leaves_at_every_position(
    history: History, data: st.DataObject
) -> None:
    table = Table(history.spec.merge_keys)
    for deltas in history.positions:
        table.commit(deltas)
        assert table.index is not None
        match data.draw(st.sampled_from(["go on", "tidy", "tidy a little", "reopen"])):
            case "tidy":
                table.index = tidy(table.index)
            case "tidy a little":
                table.index = tidy(table.index, most=5)
            case "reopen":
                table.index = reopened(table)
    for position in range(len(history.commits) + 1):
        wanted = history.spec.table().apply(history.commits[:position])
        assert canonical(rows_of(table.live(position)), ordered=True) == canonical(
            wanted, ordered=True
        )


@given(written(), st.integers(1, 3), st.data())
def test_codes_that_many_keys_share_kill_no_other_key(
    history: History, collisions: int, data: st.DataObject
) -> None:
    table = Table(history.spec.merge_keys, collisions)
    for deltas in history.positions:
        table.commit(deltas)
        if data.draw(st.booleans()):
            table.index = tidy(table.index or KeyIndex(""))
    wanted = history.spec.table().apply(history.commits)
    got = rows_of(table.live(len(history.commits)))
    assert canonical(got, ordered=True) == canonical(wanted, ordered=True)


@given(written(), st.data())
def test_upserts_and_deletes_at_one_position_are_what_they_are_to_a_merge(
    history: History, data: st.DataObject
) -> None:
    together: dict[int, list[Delta]] = {}
    for deltas in history.positions:
        position = max(together, default=0) + data.draw(st.integers(0, 1))
        together.setdefault(position, []).extend(d._replace(position=position) for d in deltas)
    table = Table(history.spec.merge_keys)
    for deltas in together.values():
        table.commit(deltas)
    assert table.live(max(together)).equals(merge(table.deltas, history.spec.merge_keys))


@given(written())
def test_no_row_is_killed_twice_and_an_index_holds_what_lives(history: History) -> None:
    table = Table(history.spec.merge_keys)
    for deltas in history.positions:
        table.commit(deltas)
    named_rows = [
        (ordinal, row) for _, k in table.kills for ordinal, found in k.items() for row in found
    ]
    assert len(named_rows) == len(set(named_rows))
    assert table.index is not None
    assert sum(living(table.index)) == table.live(len(history.commits)).num_rows
    assert sum(r.entries for r in tidy(table.index).runs) >= sum(living(table.index))


def test_a_commit_names_the_older_rows_that_die_and_its_own_that_lose() -> None:
    table = Table(["k"])
    assert named(table.commit([Delta(rows((1, "a"), (2, "b"), (1, "c")), 1)])) == {0: [0]}
    assert named(table.commit([Delta(rows((3, "d")), 2)])) == {}
    later = [Delta(rows((2, "e"), (4, "f")), 3), Delta(rows((1, "g"), (4, "h")), 3)]
    assert named(table.commit(later)) == {0: [1, 2], 2: [1]}


def test_a_delete_kills_older_rows_and_a_later_upsert_revives_the_key() -> None:
    table = Table(["k"])
    table.commit([Delta(rows((1, "a"), (None, "b"), (3, "c")), 1)])
    done = table.commit([Delta(keys_of(None, 1, 1, 7), 2, ("k",))])
    assert named(done) == {0: [0, 1]}
    assert done.run is None
    assert named(table.commit([Delta(rows((1, "d")), 3)])) == {}
    assert named(table.commit([Delta(keys_of(1), 4, ("k",))])) == {2: [0]}


def test_a_delete_leaves_rows_of_its_own_position() -> None:
    table = Table(["k"])
    table.commit([Delta(rows((1, "a")), 1)])
    done = table.commit([Delta(rows((1, "b")), 2), Delta(keys_of(1), 2, ("k",))])
    assert named(done) == {0: [0]}


def test_exact_codes_are_believed_and_others_ask_each_file_once() -> None:
    old, new = rows((1, "a"), (2, "b")), rows((2, "c"), (1, "d"), (2, "e"))
    sure, unsure = Table(["k"]), Table(["v"])
    for table in (sure, unsure):
        table.commit([Delta(old, 1)])
        table.commit([Delta(new, 2)])
    assert (sure.fetched, unsure.fetched) == ([], [])
    unsure.commit([Delta(rows((5, "a"), (6, "c"), (7, "d")), 3)])
    assert unsure.fetched == [0, 1, 2]


def test_a_value_that_looks_like_null_is_told_from_null_by_the_keys() -> None:
    looks_null = 0x9E6C_63D0_876A_9A5B - 2**64
    table = Table(["k"])
    table.commit([Delta(rows((None, "a"), (looks_null, "b")), 1)])
    assert named(table.commit([Delta(keys_of(looks_null), 2, ("k",))])) == {0: [1]}
    assert named(table.commit([Delta(keys_of(None), 3, ("k",))])) == {0: [0]}
    for first, second in ((None, looks_null), (looks_null, None)):
        apart = Table(["k"])
        apart.commit([Delta(rows((first, "a")), 1)])
        assert named(apart.commit([Delta(rows((second, "b")), 2)])) == {}


def test_a_tidy_index_has_few_runs_and_forgets_the_dead() -> None:
    table = Table(["k"])
    for position in range(1, 400):
        # Ten keys, rewritten again and again, beside one new key in each commit.
        table.commit([Delta(rows(*((k, "x") for k in [*range(10), 10 + position])), position)])
        table.index = tidy(table.index or KeyIndex(INT))
        assert len(table.index.runs) <= 8
        assert sum(r.entries for r in table.index.runs) <= 4 * (position + 10)


def test_tidying_can_leave_long_runs_for_later() -> None:
    table = Table(["k"])
    for position, count in enumerate([100, 100, 3, 3]):
        table.commit([Delta(rows(*((position * 100 + i, "x") for i in range(count))), position)])
    assert table.index is not None
    assert [r.entries for r in tidy(table.index, most=50).runs] == [100, 100, 6]
    whole = tidy(table.index).runs
    assert [r.entries for r in whole] == [200, 6]
    assert [(r.first, r.last) for r in whole] == [(0, 1), (2, 3)]


def test_a_commit_leaves_the_index_it_was_given_as_it_is() -> None:
    table = Table(["k"])
    before = table.commit([Delta(rows((1, "a")), 1)]).after
    table.commit([Delta(keys_of(1), 2, ("k",))])
    assert living(before) == [1]
    assert before.position == 1


def test_without_its_marks_an_index_kills_a_row_twice_and_no_other() -> None:
    table = Table(["k"])
    table.commit([Delta(rows((1, "a"), (2, "b")), 1)])
    table.commit([Delta(keys_of(1), 2, ("k",))])
    assert table.index is not None
    table.index = table.index._replace(runs=unmarked(table.index.runs))
    assert named(table.commit([Delta(rows((1, "c")), 3)])) == {0: [0]}
    assert table.live(3).to_pylist() == [{"k": 2, "v": "b"}, {"k": 1, "v": "c"}]


def test_an_index_made_anew_holds_the_rows_that_live_and_passes_over_files_that_are_not_there() -> (
    None
):
    files = [NewFile(3, key_codes([pa.chunked_array([[1, 2]])]))]
    dead = {7: np.array([0, 1], np.uint32), 3: np.array([1], np.uint32)}
    assert living(index_of(INT, 5, files, dead)) == [1]
    assert living(index_of(INT, 5, files, {})) == [2]
    assert index_of(INT, 5, files, {3: np.array([0, 1], np.uint32)}) == KeyIndex(INT, 5)


def test_a_dead_row_that_a_file_does_not_have_is_refused() -> None:
    files = [NewFile(0, key_codes([pa.chunked_array([[1, 2]])]))]
    with pytest.raises(DataFileError, match="row 2 is said to be dead, of a file with 2"):
        index_of(INT, 5, files, {0: np.array([2], np.uint32)})


def test_a_row_takes_16_bytes_of_an_index() -> None:
    codes = key_codes([pa.chunked_array([pa.array(range(10_000))])])
    run = kills(KeyIndex(INT), 1, INT, [NewFile(0, codes)], Table(["k"]).fetch).run
    assert isinstance(run, Run)
    assert run.codes.nbytes + run.locations.nbytes == 16 * 10_000


@pytest.mark.parametrize(
    ("position", "keys", "problem"),
    [(3, INT, "position 3 is not above 3"), (4, "1;k:text", "codes of 1;k:text do not compare")],
)
def test_positions_ascend_and_codes_have_to_compare(position: int, keys: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        kills(KeyIndex(INT, 3), position, keys, [], Table(["k"]).fetch)


def test_only_deletes_by_the_merge_keys_are_found_by_an_index() -> None:
    assert can_index(["b", "a"], ["a", "b"])
    assert not can_index(["a"], ["a", "b"])
    assert not can_index(["a", "v"], ["a"])
