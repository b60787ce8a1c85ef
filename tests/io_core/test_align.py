"""Are rows of an older file, in the table's schema of today, value by value what they were?"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.defaults import PAST_DEFAULT, load_default
from io_core.errors import SchemaValidationError
from io_core.evolve import SchemaOperation, SchemaUpdates, evolve
from io_core.schema import (
    SchemaField,
    align,
    assign_field_ids,
    encode_schema,
    names_in_file,
)
from tests.tapes import examples

if TYPE_CHECKING:
    from collections.abc import Callable


class Widening(NamedTuple):
    """A type, one that it widens to, values of it, and what they are afterwards."""

    old: pa.DataType
    new: pa.DataType
    values: st.SearchStrategy[Any]
    # Any, here and below: Python values of Arrow's.
    become: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _midnight(value: dt.date) -> dt.datetime:
    return dt.datetime.combine(value, dt.time())


_DATES = st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1))
_SECONDS = st.integers(-(10**9), 10**9)
_WHOLE_TIMES = st.builds(dt.time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))


def _bits(width: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    low = -(2 ** (width - 1)) if signed else 0
    return st.integers(low, low + 2**width - 1)


_FLAT = [
    Widening(pa.int8(), pa.int32(), _bits(8), _same),
    Widening(pa.int32(), pa.int64(), _bits(32), _same),
    Widening(pa.int64(), pa.int64(), _bits(64), _same),
    Widening(pa.uint16(), pa.uint64(), _bits(16, signed=False), _same),
    Widening(pa.int8(), pa.float32(), _bits(8), float),
    Widening(pa.int32(), pa.float64(), _bits(32), float),
    Widening(pa.float16(), pa.float64(), st.floats(width=16, allow_nan=False), _same),
    Widening(pa.float32(), pa.float64(), st.floats(width=32, allow_nan=False), _same),
    Widening(pa.bool_(), pa.bool_(), st.booleans(), _same),
    Widening(pa.string(), pa.large_string(), st.text(max_size=3), _same),
    Widening(pa.string(), pa.string_view(), st.text(max_size=20), _same),
    Widening(pa.binary(), pa.large_binary(), st.binary(max_size=3), _same),
    Widening(pa.date32(), pa.date64(), _DATES, _same),
    Widening(pa.date32(), pa.timestamp("us"), _DATES, _midnight),
    Widening(pa.time32("s"), pa.time64("us"), _WHOLE_TIMES, _same),
    Widening(
        pa.timestamp("s"),
        pa.timestamp("us"),
        _SECONDS.map(lambda s: dt.datetime(1970, 1, 1) + dt.timedelta(seconds=s)),
        _same,
    ),
    Widening(
        pa.timestamp("ms", "UTC"),
        pa.timestamp("us", "UTC"),
        _SECONDS.map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC)),
        _same,
    ),
    Widening(
        pa.duration("s"), pa.duration("ms"), _SECONDS.map(lambda s: dt.timedelta(seconds=s)), _same
    ),
    Widening(
        pa.decimal128(5, 2),
        pa.decimal128(12, 4),
        st.integers(-99_999, 99_999).map(lambda n: Decimal(n).scaleb(-2)),
        _same,
    ),
    Widening(
        pa.decimal32(4, 1),
        pa.decimal256(40, 3),
        st.integers(-9_999, 9_999).map(lambda n: Decimal(n).scaleb(-1)),
        _same,
    ),
]


def _or_none(become: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else become(value)


def _lists(of: Widening, wrap_old: Any, wrap_new: Any) -> Widening:
    values = st.lists(st.none() | of.values, max_size=3)
    each = _or_none(of.become)
    return Widening(wrap_old(of.old), wrap_new(of.new), values, lambda v: [each(i) for i in v])


def _pairs(of: Widening) -> Widening:
    values = st.lists(st.none() | of.values, min_size=2, max_size=2)
    each = _or_none(of.become)
    return Widening(
        pa.list_(of.old, 2), pa.list_(of.new, 2), values, lambda v: [each(i) for i in v]
    )


def _maps(of: Widening) -> Widening:
    values = st.dictionaries(st.text(max_size=2), st.none() | of.values, max_size=3)
    each = _or_none(of.become)
    return Widening(
        pa.map_(pa.string(), of.old),
        pa.map_(pa.string(), of.new),
        values.map(lambda v: list(v.items())),
        lambda v: [(key, each(value)) for key, value in v],
    )


def _structs(parts: tuple[Widening, ...], *, first: bool) -> Widening:
    names = [f"f{i}" for i in range(len(parts))]
    old = [(n, p.old) for n, p in zip(names, parts, strict=True)]
    new = [(n, p.new) for n, p in zip(names, parts, strict=True)]
    added = [("added", pa.list_(pa.int8()))]
    values = st.fixed_dictionaries(
        {n: st.none() | p.values for n, p in zip(names, parts, strict=True)}
    )
    each = {n: _or_none(p.become) for n, p in zip(names, parts, strict=True)}
    return Widening(
        pa.struct(old),
        pa.struct(added + new if first else new + added),
        values,
        lambda v: {**{n: each[n](v[n]) for n in names}, "added": None},
    )


def _nested(of: Widening) -> list[Widening]:
    return [
        _lists(of, pa.list_, pa.large_list),
        _lists(of, pa.list_, pa.list_),
        _pairs(of),
        _maps(of),
        _structs((of, _FLAT[0]), first=True),
        _structs((_FLAT[8], of), first=False),
    ]


# Made once: strategies that are made while an example is drawn cost most of its time.
_INSIDE = [outer for of in _FLAT for outer in _nested(of)]
_DEEPER = [outer for of in _INSIDE[::7] for outer in _nested(of)]
WIDENINGS = st.sampled_from(_FLAT) | st.sampled_from(_INSIDE) | st.sampled_from(_DEEPER)


class Column(NamedTuple):
    """A column of the older file, and what happened to it since."""

    widening: Widening
    widened: bool
    name: str
    removed: bool

    def operations(self, old: str) -> list[SchemaOperation]:
        """What an alteration of the table did to it."""
        done = []
        if self.widened and self.widening.new != self.widening.old:
            field = pa.schema([("f", self.widening.new)])
            name = f"arrow_schema_base64:{encode_schema(field)}"
            done.append(SchemaOperation("update_type", field_locator=old, new_type=name))
        if self.name != old:
            done.append(SchemaOperation("rename", field_locator=old, new_name=self.name))
        if self.removed:
            done.append(SchemaOperation("remove", field_locator=self.name))
        return done


_ADDED = [
    SchemaField("plain", "string"),
    SchemaField("seven", "int64", past_default=7),
    SchemaField("day", "date32", past_default="2024-02-29", future_default="2025-01-01"),
]


@st.composite
def evolutions(draw: st.DrawFn) -> tuple[list[Column], list[SchemaField], list[SchemaOperation]]:
    """Columns of an older file, columns that were added since, and all alterations in some order."""
    widenings = draw(st.lists(WIDENINGS, min_size=1, max_size=3))
    columns = [
        Column(
            widening,
            draw(st.booleans()),
            draw(st.sampled_from([f"c{i}", f"n{i}"])),
            # The last one of a table stays.
            bool(i) and draw(st.booleans()),
        )
        for i, widening in enumerate(widenings)
    ]
    added = draw(st.lists(st.sampled_from(_ADDED), unique_by=lambda f: f.name))
    operations = [o for i, c in enumerate(columns) for o in c.operations(f"c{i}")]
    operations += [SchemaOperation("add", field=field) for field in added]
    return columns, added, operations


# Cheap: no file, no planner.
@examples(5000)
@given(st.data(), evolutions())
def test_an_older_files_rows_are_what_they_were_value_by_value(
    data: st.DataObject, evolution: tuple[list[Column], list[SchemaField], list[SchemaOperation]]
) -> None:
    columns, added, operations = evolution
    old = assign_field_ids(pa.schema([(f"c{i}", c.widening.old) for i, c in enumerate(columns)]))
    new = old
    if operations:
        updates = SchemaUpdates(tuple(operations), allow_incompatible_changes=True)
        new = evolve(old, updates, history=[old])
    rows = data.draw(
        st.lists(st.tuples(*(st.none() | c.widening.values for c in columns)), max_size=4)
    )
    file = pa.table(
        [
            pa.array(values, c.widening.old)
            for values, c in zip(_across(rows, columns), columns, strict=True)
        ],
        schema=old,
    )
    held = names_in_file(new, old)
    found = align(file.select(list(held.values())).rename_columns(list(held)), new)
    assert found.schema.equals(pa.schema([(f.name, f.type) for f in new]))
    assert found.to_pylist() == [_expected(row, columns, added, new) for row in rows]


def _across(rows: list[tuple[Any, ...]], columns: list[Column]) -> list[list[Any]]:
    return [[row[i] for row in rows] for i in range(len(columns))]


def _expected(
    row: tuple[Any, ...], columns: list[Column], added: list[SchemaField], schema: pa.Schema
) -> dict[str, Any]:
    wanted = {}
    for value, column in zip(row, columns, strict=True):
        become = _or_none(column.widening.become if column.widened else _same)
        if not column.removed:
            wanted[column.name] = become(value)
    for field in added:
        default = load_default(schema.field(field.name), PAST_DEFAULT)
        wanted[field.name] = None if default is None else default.as_py()
    return wanted


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([300]), pa.int8()),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([1.5]), pa.int64()),
        (pa.array([1], pa.timestamp("ms")), pa.timestamp("s")),
        (pa.array([2**40], pa.timestamp("s")), pa.timestamp("ns")),
        (pa.array([Decimal("1.25")]), pa.decimal128(4, 1)),
        (pa.array(["a"]), pa.int64()),
        (pa.array([b"\xff"]), pa.string()),
        (pa.array([[1, 2, 3]]), pa.list_(pa.int64(), 2)),
        (pa.array([[300]]), pa.list_(pa.int8())),
        (pa.array([{"a": 300}]), pa.struct([("a", pa.int8())])),
        (
            pa.array([{"a": 1}]),
            pa.struct([("a", pa.int8()), pa.field("b", pa.int8(), nullable=False)]),
        ),
    ],
)
def test_what_would_change_a_value_names_the_column(values: pa.Array, dtype: pa.DataType) -> None:
    with pytest.raises(SchemaValidationError, match=r"column 'c': .* does not fit "):
        align(pa.table({"c": values}), pa.schema([("c", dtype)]))
