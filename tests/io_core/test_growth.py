"""Which schema does a table get by a write, and is it wide enough for all that it holds?"""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import SchemaValidationError
from io_core.evolve import widens
from io_core.growth import Growth, check_file_fits, common_type, grow
from io_core.schema import SchemaField, assign_field_ids, fields_of, schema_of

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64()]
FLAT = [
    *INTEGERS,
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.decimal128(5, 2),
    pa.decimal128(9, 4),
    pa.decimal256(60, 2),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.bool_(),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time64("us"),
    pa.timestamp("s"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.duration("ms"),
    pa.null(),
]
TYPES = st.recursive(
    st.sampled_from(FLAT),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(lambda t: pa.list_(t, 2)),
        inner.map(lambda t: pa.map_(pa.string(), t)),
        st.lists(st.tuples(st.sampled_from("abc"), inner), unique_by=lambda f: f[0]).map(pa.struct),
    ),
    max_leaves=3,
)


def table(**types: pa.DataType) -> pa.Schema:
    return assign_field_ids(pa.schema(list(types.items())))


@given(TYPES, TYPES)
def test_a_common_type_holds_every_value_of_both(old: pa.DataType, new: pa.DataType) -> None:
    found = common_type(old, new)
    if found is not None:
        assert widens(old, found)
        assert widens(new, found) or found == old


@given(TYPES, TYPES)
def test_a_table_that_has_grown_does_not_grow_again(old: pa.DataType, new: pa.DataType) -> None:
    once = grow(table(a=old), pa.schema([("a", new)]), Growth())
    assert grow(once, pa.schema([("a", new)]), Growth()).equals(once, check_metadata=True)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.int64(), pa.int8(), pa.int64()),
        (pa.int8(), pa.uint8(), pa.float32()),
        (pa.int16(), pa.float32(), pa.float32()),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.int64(), pa.float64(), None),
        (pa.int64(), pa.string(), None),
        (pa.string(), pa.large_string(), pa.string()),
        (pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.null(), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.list_(pa.int8()), pa.null(), pa.list_(pa.int8())),
        (pa.date32(), pa.timestamp("us"), None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.timestamp("us"), pa.timestamp("ns"), None),
        (pa.decimal128(5, 2), pa.decimal128(5, 4), pa.decimal128(7, 4)),
        (pa.decimal128(38, 0), pa.decimal128(38, 38), pa.decimal256(76, 38)),
        (pa.decimal256(76, 0), pa.decimal256(76, 76), None),
        (
            pa.struct([("a", pa.int8()), ("b", pa.string())]),
            pa.struct([("c", pa.bool_()), ("a", pa.int16())]),
            pa.struct([("a", pa.int16()), ("b", pa.string()), ("c", pa.bool_())]),
        ),
        (pa.list_(pa.int8()), pa.list_(pa.int16()), pa.list_(pa.int16())),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3), None),
        (pa.binary(2), pa.binary(3), None),
    ],
    ids=str,
)
def test_the_common_type_is_the_narrowest(
    old: pa.DataType, new: pa.DataType, found: pa.DataType | None
) -> None:
    assert common_type(old, new) == found


def test_new_columns_come_last_and_are_nullable_with_ids_of_their_own() -> None:
    rows = pa.schema([pa.field("b", pa.list_(pa.int8()), nullable=False), ("a", pa.int8())])
    grown = grow(table(a=pa.int8()), rows, Growth())
    assert [(f.name, f.field_id, f.nullable) for f in fields_of(grown)] == [
        ("a", 1, True),
        ("b", 2, True),
    ]


def test_ids_of_former_columns_are_not_given_again() -> None:
    past = table(a=pa.int8(), gone=pa.list_(pa.int8()))
    now = pa.schema([past.field("a")])
    grown = grow(now, pa.schema([("b", pa.int8())]), Growth(history=[past]))
    assert fields_of(grown)[-1].field_id == 4


def test_no_write_loosens_what_is_required() -> None:
    item = pa.field("item", pa.int8(), nullable=False)
    grown = grow(table(a=pa.list_(item)), pa.schema([("a", pa.list_(pa.int16()))]), Growth())
    assert grown.field("a").type == pa.list_(item.with_type(pa.int16()))
    same = grow(table(a=pa.list_(item)), pa.schema([("a", pa.list_(pa.int8()))]), Growth())
    assert same == table(a=pa.list_(item))


@pytest.mark.parametrize("name", ["A", "gone"])
def test_a_name_that_cannot_be_had_is_refused(name: str) -> None:
    past = table(a=pa.int8(), gone=pa.int8())
    with pytest.raises(SchemaValidationError, match="use another name"):
        grow(pa.schema([past.field("a")]), pa.schema([(name, pa.int8())]), Growth(history=[past]))


@pytest.mark.parametrize("consistency", ["coerce", "validate"])
def test_strict_columns_keep_their_type(consistency: str) -> None:
    schema = assign_field_ids(schema_of([SchemaField("a", "int8", consistency_type=consistency)]))
    assert grow(schema, pa.schema([("a", pa.int16())]), Growth()) is schema


def test_a_merge_key_and_a_column_of_a_scheme_keep_their_type() -> None:
    schema = assign_field_ids(pa.schema([("k", pa.int8()), ("p", pa.int8())]), ["k"])
    rows = pa.schema([("k", pa.int16()), ("p", pa.int16())])
    assert grow(schema, rows, Growth(pinned={"p"})) is schema


@pytest.mark.parametrize(
    ("given_type", "held"),
    [
        (pa.int8(), pa.int64()),
        (pa.timestamp("ms"), pa.timestamp("s")),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
    ],
    ids=str,
)
def test_a_file_of_such_a_type_fits(given_type: pa.DataType, held: pa.DataType) -> None:
    check_file_fits(pa.schema([("a", given_type)]), table(a=held), "ns.t", Growth())


@pytest.mark.parametrize(
    ("given_type", "held"),
    [
        (pa.int64(), pa.int8()),
        (pa.float64(), pa.int64()),
        (pa.string(), pa.int64()),
        (pa.list_(pa.int8()), pa.int8()),
    ],
    ids=str,
)
def test_a_file_of_such_a_type_does_not_fit(given_type: pa.DataType, held: pa.DataType) -> None:
    with pytest.raises(SchemaValidationError, match=r"column 'a' of ns\.t is .*, and a file holds"):
        check_file_fits(pa.schema([("a", given_type)]), table(a=held), "ns.t", Growth())
