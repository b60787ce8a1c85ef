"""Which rows survive a merge?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.keys import last_of_each, row_codes
from io_core.merge import MergeFile, living
from io_core.merge_order import OrderKey
from tests.oracle import Commit, Row, canonical, rows_of, table_of
from tests.plain_merge import Delta, merge
from tests.strategies import TYPES, TableSpec, histories
from tests.tapes import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEYED = pa.schema([("k", pa.int64()), ("v", pa.string())])


# Any: the values of one row.
def rows(*values: tuple[Any, ...], schema: pa.Schema = KEYED) -> pa.Table:
    return table_of([dict(zip(schema.names, v, strict=True)) for v in values], schema)


# Any: as above.
def merged(*deltas: Delta, keys: tuple[str, ...] = ("k",)) -> list[tuple[Any, ...]]:
    """The rows that live, by their keys alone, and by a merge of the whole rows."""
    found = [tuple(row.values()) for row in lived(deltas, keys).to_pylist()]
    assert found == [tuple(row.values()) for row in merge(deltas, keys).to_pylist()]
    return found


def lived(
    deltas: Sequence[Delta],
    keys: Sequence[str],
    order: Sequence[OrderKey] = (),
    matching: pc.Expression | None = None,
) -> pa.Table:
    schema = next(d.rows.schema for d in deltas if not d.delete_columns)

    def read(file: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        rows = deltas[file].rows.select(columns)
        wanted = pa.schema([schema.field(c) for c in columns])
        # Two rows at a time.
        yield from (rows.slice(i, 2).cast(wanted) for i in range(0, max(1, len(rows)), 2))

    files = [MergeFile(d.position, d.delete_columns) for d in deltas]
    masks = living(files, keys, read, order=order, matching=matching)
    held = zip(deltas, masks, strict=True)
    return pa.concat_tables(d.rows.filter(m) for d, m in held if not d.delete_columns)


def keys_of(*values: int | None) -> pa.Table:
    return pa.table({"k": pa.array(values, pa.int64())})


@st.composite
def keyed_specs(draw: st.DrawFn) -> TableSpec:
    types = draw(st.lists(st.sampled_from([pa.int64(), pa.string(), pa.date32()]), min_size=1))
    fields = [(f"k{i}", t) for i, t in enumerate(types[:3])]
    values = [(f"v{i}", draw(st.sampled_from(list(TYPES)))) for i in range(2)]
    order = draw(st.dictionaries(st.sampled_from(["v0", "v1"]), st.booleans()))
    schema = pa.schema([*fields, *values])
    return TableSpec(schema, tuple(n for n, _ in fields), order=tuple(sorted(order.items())))


@st.composite
def deletes_by_values(draw: st.DrawFn, spec: TableSpec) -> Commit:
    """A delete by other columns than the keys, or by one of them."""
    by = draw(st.lists(st.sampled_from(spec.schema.names), min_size=1, max_size=2, unique=True))
    pools = {n: st.sampled_from([*TYPES[spec.schema.field(n).type], None]) for n in by}
    rows = draw(st.lists(st.fixed_dictionaries(pools), max_size=4))
    return Commit("delete", tuple(rows), () if set(by) == set(spec.merge_keys) else tuple(by))


@st.composite
def files(draw: st.DrawFn, spec: TableSpec, history: Sequence[Commit]) -> list[Delta]:
    """The history as files: each commit cut into one to three of one position."""
    deltas = []
    for position, commit in enumerate(history, start=1):
        by = commit.by or (spec.merge_keys if commit.mode == "delete" else ())
        names = by or spec.schema.names
        table = table_of(commit.rows, pa.schema([spec.schema.field(n) for n in names]))
        cuts = sorted(draw(st.lists(st.integers(0, len(table)), max_size=2)))
        for start, end in zip([0, *cuts], [*cuts, len(table)], strict=True):
            deltas.append(Delta(table.slice(start, end - start), position, by))
    return deltas


@examples(5000)
@given(st.data())
def test_what_lives_is_what_the_oracles_dict_holds(data: st.DataObject) -> None:
    spec = data.draw(keyed_specs())
    history = list(data.draw(histories(spec)))
    for _ in range(data.draw(st.integers(0, 2))):
        history.insert(data.draw(st.integers(0, len(history))), data.draw(deletes_by_values(spec)))
    deltas = [Delta(spec.schema.empty_table(), 0), *data.draw(files(spec, history))]
    wanted = spec.table().apply(history)
    order = [OrderKey(*one) for one in spec.order]
    got = rows_of(lived(deltas, spec.merge_keys, order))
    assert canonical(got, ordered=True) == canonical(wanted, ordered=True)
    if not order:
        plain = rows_of(merge(deltas, spec.merge_keys))
        assert canonical(plain, ordered=True) == canonical(wanted, ordered=True)


def test_a_null_key_equals_a_null_key_and_not_the_empty_string() -> None:
    schema = pa.schema([("k", pa.string()), ("v", pa.int64())])
    first = rows((None, 1), ("", 2), schema=schema)
    second = rows((None, 3), schema=schema)
    assert merged(Delta(first, 1), Delta(second, 2)) == [("", 2), (None, 3)]


def test_a_value_whose_code_is_that_of_null_is_another_key() -> None:
    looks_null = 0x9E6C_63D0_876A_9A5B - 2**64
    for first, second in ((None, looks_null), (looks_null, None)):
        found = merged(Delta(rows((first, "a")), 1), Delta(rows((second, "b")), 2))
        assert found == [(first, "a"), (second, "b")]


def test_composite_keys_are_tuples_and_not_joined_texts() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.string()), ("v", pa.int64())])
    table = rows(("a|b", "c", 1), ("a", "b|c", 2), ("a", None, 3), (None, "a", 4), schema=schema)
    assert len(merged(Delta(table, 1), keys=("a", "b"))) == 4


def test_a_delete_removes_lower_positions_and_a_later_upsert_revives_the_key() -> None:
    old, new = rows((1, "old"), (2, "old")), rows((1, "new"))
    gone = Delta(keys_of(1, 2, 7), 2, ("k",))
    assert merged(Delta(old, 1), gone) == []
    assert merged(Delta(old, 1), gone, Delta(new, 3)) == [(1, "new")]


def test_a_delete_leaves_rows_of_its_own_position() -> None:
    assert merged(Delta(rows((1, "a")), 2), Delta(keys_of(1), 2, ("k",))) == [(1, "a")]


def test_a_delete_by_other_columns_leaves_rows_of_its_own_position() -> None:
    by_value = [Delta(pa.table({"v": [v]}), at, ("v",)) for v, at in (("a", 2), ("b", 3))]
    assert merged(Delta(rows((1, "a"), (2, "b"), (3, "c")), 2), *by_value) == [(1, "a"), (3, "c")]


def test_the_first_position_is_that_of_any_other_row() -> None:
    by_value = Delta(pa.table({"v": ["b"]}), 1, ("v",))
    assert merged(Delta(rows((1, "a"), (2, "b")), 0), by_value) == [(1, "a")]
    assert merged(Delta(rows((1, "a"), (2, "b")), 0), Delta(keys_of(2), 1, ("k",))) == [(1, "a")]


def test_a_delete_of_a_replaced_version_does_not_bring_the_older_one_back() -> None:
    first, second = rows((1, "a")), rows((1, "b"))
    by_value = Delta(pa.table({"v": ["b"]}), 3, ("v",))
    assert merged(Delta(first, 1), Delta(second, 2), by_value) == []


def test_a_delete_by_other_columns_matches_only_the_rows_that_win() -> None:
    first, second = rows((1, "a"), (2, "a")), rows((1, "b"))
    by_value = Delta(pa.table({"v": ["a", None]}), 3, ("v",))
    assert merged(Delta(first, 1), Delta(second, 2), by_value) == [(1, "b")]


def test_deletes_of_different_columns_work_side_by_side() -> None:
    table = rows((1, "a"), (2, "b"), (3, None), (4, "d"))
    by_key = Delta(keys_of(1), 2, ("k",))
    by_value = Delta(pa.table({"v": pa.array([None, "b"])}), 3, ("v",))
    assert merged(Delta(table, 1), by_key, by_value) == [(4, "d")]


def test_a_delete_matches_whole_tuples_and_not_each_column_alone() -> None:
    schema = pa.schema([("k", pa.int64()), ("l", pa.string())])
    table = rows((1, "a"), (1, "b"), (2, "a"), (2, "b"), schema=schema)
    gone = Delta(rows((1, "a"), (2, "b"), schema=schema), 2, ("k", "l"))
    assert merged(Delta(table, 1), gone, keys=("k", "l")) == [(1, "b"), (2, "a")]


def test_of_one_key_at_one_position_the_later_file_and_then_the_later_row_wins() -> None:
    one = rows((1, "first"), (1, "second"), (2, "x"))
    two = rows((1, "third"), (1, "fourth"))
    assert merged(Delta(one, 5), Delta(two, 5)) == [(2, "x"), (1, "fourth")]


def test_a_delete_file_may_be_of_a_narrower_type_than_the_table() -> None:
    gone = Delta(pa.table({"k": pa.array([1], pa.int8())}), 2, ("k",))
    assert merged(Delta(rows((1, "a"), (2, "b")), 1), gone) == [(2, "b")]


def test_an_empty_delete_file_removes_nothing() -> None:
    assert merged(Delta(rows((1, "a")), 1), Delta(keys_of(), 2, ("k",))) == [(1, "a")]


def test_the_workings_of_an_example_history() -> None:
    first = rows((1, "a1"), (2, "b1"), (3, "c1"))
    deltas = [
        Delta(first, 1),
        Delta(rows((2, "b2"), (4, "d2")), 2),
        Delta(keys_of(1, 4), 3, ("k",)),
        Delta(rows((1, "a4")), 4),
    ]
    assert merged(*deltas) == [(3, "c1"), (2, "b2"), (1, "a4")]


def test_merge_order_decides_within_a_position_and_never_against_a_higher_one() -> None:
    schema = pa.schema([("k", pa.int64()), ("v", pa.int64())])
    one = rows((1, 5), (1, 9), (2, 1), (1, 7), schema=schema)
    two = rows((1, 9), (2, 0), (3, 3), schema=schema)
    for largest, wanted in ((True, [(2, 1), (1, 9), (3, 3)]), (False, [(1, 5), (2, 0), (3, 3)])):
        found = lived([Delta(one, 4), Delta(two, 4)], ["k"], [OrderKey("v", largest)])
        assert [tuple(row.values()) for row in found.to_pylist()] == wanted
    later = rows((1, 0), schema=schema)
    found = lived([Delta(one, 4), Delta(later, 5)], ["k"], [OrderKey("v")])
    assert found.to_pylist() == [{"k": 2, "v": 1}, {"k": 1, "v": 0}]


def test_rows_that_their_keys_rule_out_take_no_part() -> None:
    old, new = rows((1, "a"), (2, "b"), (3, "c")), rows((2, "d"), (4, "e"))
    deltas = [Delta(old, 1), Delta(new, 2), Delta(keys_of(3), 3, ("k",))]
    for ast, wanted in (
        (pc.field("k") >= 2, [(2, "d"), (4, "e")]),
        (pc.field("k") == 1, [(1, "a")]),
        (pc.field("k") > 9, []),
    ):
        found = lived(deltas, ["k"], matching=ast)
        assert [tuple(row.values()) for row in found.to_pylist()] == wanted


def test_keys_without_codes_are_compared_themselves() -> None:
    held = [pa.MonthDayNano([1, 0, 0]), None, pa.MonthDayNano([0, 1, 0])]
    table = pa.table({"k": pa.array(held * 2, pa.month_day_nano_interval()), "v": range(6)})
    assert lived([Delta(table, 1)], ["k"]).column("v").to_pylist() == [3, 4, 5]


def test_only_the_keys_are_read_of_rows_that_nothing_else_decides_on() -> None:
    read_columns = []
    held = [rows((1, "a"), (2, "b")), rows((2, "c")), keys_of(7)]

    def read(file: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        read_columns.append((file, *columns))
        yield held[file].select(columns)

    files = [MergeFile(1), MergeFile(2), MergeFile(3, ("k",))]
    masks = living(files, ["k"], read, order=[OrderKey("v")])
    assert [mask.tolist() for mask in masks] == [[True, False], [True], []]
    assert sorted(read_columns) == [(0, "k"), (1, "k"), (2, "k")]


# --- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "codes"),
    [([1, None, 1, None], [0, 1, 0, 1]), (["", None, ""], [0, 1, 0]), ([], [])],
)
def test_rows_share_a_code_where_their_values_are_equal(
    values: list[object], codes: list[int]
) -> None:
    dtype = pa.string() if values and isinstance(values[0], str) else pa.int64()
    assert row_codes([pa.chunked_array([pa.array(values, dtype)])]).tolist() == codes


@given(st.lists(st.tuples(*[st.sampled_from(["", "a", "b", None])] * 3), max_size=20))
def test_codes_partition_rows_as_tuples_do(drawn: list[tuple[str | None, ...]]) -> None:
    columns = [pa.chunked_array([pa.array([r[i] for r in drawn], pa.string())]) for i in range(3)]
    codes = row_codes(columns).tolist()
    assert len(set(zip(codes, drawn, strict=True))) == len(set(codes)) == len(set(drawn))


def test_many_wide_key_columns_do_not_overflow_their_codes() -> None:
    column = pa.chunked_array([pa.array(range(5000))])
    codes = row_codes([column] * 8)
    assert len(set(codes.tolist())) == 5000
    assert codes.min() >= 0


def test_the_last_row_of_each_code_is_found_in_order() -> None:
    codes = np.array([5, 0, 5, 3, 0])
    assert last_of_each(codes).tolist() == [2, 3, 4]
    assert last_of_each(np.array([], np.int64)).tolist() == []


def test_views_and_dictionaries_are_keys_like_their_values() -> None:
    values = pa.array(["a", None, "a"])
    for dtype in (pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert row_codes([pa.chunked_array([values.cast(dtype)])]).tolist() == [0, 1, 0]


def test_a_merge_of_chunked_rows_equals_that_of_whole_ones() -> None:
    parts: list[Row] = [{"k": i % 3, "v": str(i)} for i in range(9)]
    whole = table_of(parts, KEYED)
    chunked = pa.concat_tables([whole.slice(i, 1) for i in range(9)])
    assert merge([Delta(chunked, 1)], ["k"]).equals(merge([Delta(whole, 1)], ["k"]))
