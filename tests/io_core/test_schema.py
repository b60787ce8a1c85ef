"""Do schemas travel unchanged, get their ids, and take older files in?"""

from __future__ import annotations

import base64
import pickle
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.defaults import FUTURE_DEFAULT, PAST_DEFAULT
from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.literal import dump_literal
from io_core.schema import (
    FIELD_ID,
    SchemaField,
    align,
    assign_field_ids,
    check_columns,
    decode_schema,
    encode_schema,
    fields_of,
    merge_keys_of,
    needs_alignment,
    schema_of,
)

PLAIN = [
    pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
    pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.binary(),
    pa.large_string(), pa.large_binary(), pa.string_view(), pa.binary_view(), pa.date32(),
    pa.date64(), *(pa.time32(u) for u in ("s", "ms")), *(pa.time64(u) for u in ("us", "ns")),
    *(pa.duration(u) for u in ("s", "ms", "us", "ns")),
    *(pa.timestamp(u) for u in ("s", "ms", "us", "ns")),
    pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("ms", "+02:00"),
]  # fmt: skip
OTHER = [
    pa.decimal128(12, 3),
    pa.decimal256(50, 0),
    pa.list_(pa.int8()),
    pa.struct([("a", pa.string())]),
    pa.map_(pa.string(), pa.int64()),
    pa.dictionary(pa.int32(), pa.string()),
    pa.binary(16),
]


@pytest.mark.parametrize("dtype", [*PLAIN, *OTHER], ids=str)
def test_every_arrow_type_survives_the_wire(dtype: pa.DataType) -> None:
    schema = pa.schema([("x", dtype)])
    (field,) = fields_of(schema)
    assert field.type.startswith("arrow_schema_base64:") == (dtype in OTHER)
    assert schema_of([field]).field("x").type == dtype
    assert decode_schema(encode_schema(schema)) == schema


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("double", pa.float64()),
        ("float", pa.float32()),
        ("halffloat", pa.float16()),
        ("date32[day]", pa.date32()),
        ("date64[ms]", pa.date64()),
        ("utf8", pa.string()),
        ("boolean", pa.bool_()),
        ("timestamp[us, tz=UTC]", pa.timestamp("us", "UTC")),
    ],
)
def test_the_names_that_arrow_prints_are_read_too(name: str, dtype: pa.DataType) -> None:
    assert schema_of([SchemaField("x", name)]).field("x").type == dtype


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(pa.float64(), "float64"), (pa.date32(), "date32"), (pa.bool_(), "bool"), (pa.string(), "string")],
)  # fmt: skip
def test_types_are_written_by_their_one_name(dtype: pa.DataType, name: str) -> None:
    assert fields_of(pa.schema([("x", dtype)]))[0].type == name


@given(st.data())
def test_field_lists_keep_nullability_ids_keys_and_docs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    fields = [
        SchemaField(
            f"c{i}",
            data.draw(st.sampled_from(["int64", "string", "timestamp[ns]"])),
            nullable=data.draw(st.booleans()),
            field_id=i * 3 + 1,
            is_merge_key=data.draw(st.booleans()),
            consistency_type=data.draw(st.sampled_from([None, "validate"])),
            doc=data.draw(st.none() | st.text(st.characters(codec="utf-8"), min_size=1)),
        )
        for i in range(count)
    ]
    schema = schema_of(fields)
    assert fields_of(schema) == fields
    assert fields_of(decode_schema(encode_schema(schema))) == fields
    assert merge_keys_of(schema) == tuple(f.name for f in fields if f.is_merge_key)
    assert pickle.loads(pickle.dumps(fields)) == fields


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ([SchemaField("x", "int65")], "'x': unknown type 'int65'; did you mean 'int"),
        ([SchemaField("x", "timestamp[parsec]")], "unknown type"),
        ([SchemaField("x", "timestamp[us, tz=]")], "unknown type"),
        ([SchemaField("x", "arrow_schema_base64:!!")], "no base64"),
        ("AAAA", "no base64 of an Arrow IPC schema"),
        ("not base64", "no base64 of an Arrow IPC schema"),
        (pa.schema([("a", pa.int8()), ("A", pa.int8())]), "differ in case only"),
        (pa.schema([("a", pa.int8()), ("a", pa.int8())]), "several columns 'a'"),
        (pa.schema([("", pa.int8())]), "needs a name"),
        (
            [SchemaField("x", "int8", consistency_type="strict")],
            "column 'x': consistency_type 'strict' is not possible; use none or coerce or validate",
        ),
        (
            [SchemaField("x", "int8", is_merge_key=True, consistency_type="coerce")],
            "merge key 'x': consistency_type 'coerce' is not possible; use validate",
        ),
        ([SchemaField("x", "int8", past_default=300)], "'x': 300 is no value of type int8"),
        ([SchemaField("x", "int8", future_default="a")], "'x': 'a' is no value of type int8"),
        (
            pa.schema([pa.field("x", pa.int8(), metadata={PAST_DEFAULT: b"!"})]),
            "DELTACAT:past_default cannot be read",
        ),
    ],
)
def test_an_unreadable_definition_is_refused(
    definition: str | list[SchemaField] | pa.Schema, problem: str
) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        schema_of(definition)


# --- defaults -------------------------------------------------------------------------------------

# Any: JSON scalars.
DEFAULTS: list[tuple[pa.DataType, Any, Any]] = [
    (pa.bool_(), True, True),
    (pa.int64(), -(2**63), -(2**63)),
    (pa.float64(), "NaN", "NaN"),
    (pa.float64(), 0.1, 0.1),
    (pa.float32(), "-Infinity", "-Infinity"),
    (pa.string(), "", ""),
    (pa.string_view(), "a", "a"),
    (pa.large_binary(), "AAE=", "AAE="),
    (pa.date32(), "2024-02-29", "2024-02-29"),
    (pa.time32("s"), "01:02:03", "01:02:03"),
    (pa.timestamp("ns", "UTC"), "2024-01-01T00:00:00.000000001Z", "2024-01-01T00:00:00.000000001Z"),
    (pa.duration("ms"), "PT1.5S", "PT1.500000000S"),
    (pa.decimal128(5, 2), "1.5", "1.50"),
]


@pytest.mark.parametrize(("dtype", "given", "kept"), DEFAULTS, ids=str)
def test_defaults_of_every_kind_survive_the_wire(dtype: pa.DataType, given: Any, kept: Any) -> None:
    (shape,) = fields_of(pa.schema([("x", dtype)]))
    asked = msgspec.structs.replace(shape, past_default=given)
    schema = decode_schema(encode_schema(schema_of([asked])))
    (found,) = fields_of(assign_field_ids(schema))
    # Without one of its own, writes go on with what older rows hold.
    assert (found.past_default, found.future_default) == (kept, kept)


def test_a_future_default_stands_alone() -> None:
    (found,) = fields_of(schema_of([SchemaField("x", "int8", future_default=3)]))
    assert (found.past_default, found.future_default) == (None, 3)
    both = schema_of([SchemaField("x", "int8", past_default=2, future_default=3)])
    assert [(f.past_default, f.future_default) for f in fields_of(both)] == [(2, 3)]


def test_defaults_are_kept_as_the_published_clients_read_them() -> None:
    schema = schema_of([SchemaField("x", "binary", past_default="AAE=")])
    packed = base64.b64decode(schema.field("x").metadata[PAST_DEFAULT])
    assert msgspec.msgpack.decode(packed) == b"\x00\x01"


@pytest.mark.parametrize("dtype", OTHER[2:-1], ids=str)
def test_columns_without_literals_have_no_default(dtype: pa.DataType) -> None:
    (shape,) = fields_of(pa.schema([("x", dtype)]))
    with pytest.raises(UnsupportedError, match=r"column 'x': columns of type .* cannot have"):
        schema_of([msgspec.structs.replace(shape, past_default=1)])


# --- ids and keys ---------------------------------------------------------------------------------


def ids(schema: pa.Schema) -> list[int | None]:
    return [f.field_id for f in fields_of(schema)]


def test_ids_that_are_there_stay_and_new_ones_follow_the_greatest() -> None:
    schema = pa.schema(
        [pa.field("a", pa.int8()), pa.field("b", pa.int8(), metadata={FIELD_ID: b"7"}), pa.field("c", pa.int8())]
    )  # fmt: skip
    assert ids(assign_field_ids(schema)) == [8, 7, 9]
    assert ids(assign_field_ids(assign_field_ids(schema))) == [8, 7, 9]


def test_two_columns_with_one_id_are_refused() -> None:
    fields = [pa.field(n, pa.int8(), metadata={FIELD_ID: b"1"}) for n in "ab"]
    with pytest.raises(SchemaValidationError, match="not unique"):
        assign_field_ids(pa.schema(fields))


def test_metadata_of_libraries_does_not_reach_the_table_and_the_writers_does() -> None:
    said = {b"x": b"y"}
    notes = {b"pandas": b"{}", b"ARROW:extension:name": b"n", b"DELTACAT:no_key": b"n"}
    schema = pa.schema([pa.field("a", pa.int8(), metadata=said | notes)], metadata=said | notes)
    found = assign_field_ids(schema)
    assert found.metadata == said
    assert found.field("a").metadata == {**said, FIELD_ID: b"1"}
    assert assign_field_ids(schema.remove_metadata()).metadata is None


def test_keys_come_in_schema_order_from_marks_and_arguments() -> None:
    schema = schema_of([SchemaField("a", "int8"), SchemaField("b", "int8", is_merge_key=True)])
    assert merge_keys_of(assign_field_ids(schema, ["a"])) == ("a", "b")


def test_an_unknown_key_offers_the_nearest_column() -> None:
    with pytest.raises(SchemaValidationError, match="unknown merge key 'idd'; did you mean 'id'"):
        assign_field_ids(pa.schema([("id", pa.int8())]), ["idd"])


@pytest.mark.parametrize(
    "dtype", [pa.float32(), pa.list_(pa.int8()), pa.struct([("a", pa.int8())])]
)
def test_floats_and_nested_columns_cannot_be_keys(dtype: pa.DataType) -> None:
    with pytest.raises(SchemaValidationError, match="cannot be keys"):
        assign_field_ids(pa.schema([("k", dtype)]), ["k"])


def test_an_unknown_column_is_refused_with_the_nearest_and_all_names() -> None:
    schema = pa.schema([("month", pa.int8()), ("day", pa.int8())])
    with pytest.raises(SchemaValidationError, match=r"'mont'; did you mean 'month'.*: month, day"):
        check_columns(["day", "mont"], schema)


# --- alignment ------------------------------------------------------------------------------------


def test_an_older_file_takes_the_tables_shape() -> None:
    schema = pa.schema([pa.field("b", pa.int64(), nullable=False), pa.field("new", pa.string()), pa.field("a", pa.float64())])  # fmt: skip
    old = pa.table(
        {"a": pa.array([1, None], pa.int8()), "b": pa.array([3, 4], pa.int16()), "gone": [0, 0]}
    )
    found = align(old, schema)
    assert found.to_pylist() == [{"b": 3, "new": None, "a": 1.0}, {"b": 4, "new": None, "a": None}]
    assert found.schema == pa.schema([("b", pa.int64()), ("new", pa.string()), ("a", pa.float64())])


@pytest.mark.parametrize(("dtype", "given", "kept"), DEFAULTS, ids=str)
@pytest.mark.parametrize("rows", [0, 2])
def test_a_column_that_a_file_lacks_holds_its_past_default(
    dtype: pa.DataType, given: Any, kept: Any, rows: int
) -> None:
    (shape,) = fields_of(pa.schema([("x", dtype)]))
    schema = schema_of([msgspec.structs.replace(shape, past_default=given)])
    found = align(pa.table({"a": [1] * rows}), schema)
    assert found.schema.field("x").type == dtype
    assert [dump_literal(value) for value in found.column("x")] == [kept] * rows


def test_a_write_fills_in_the_future_default_and_a_stored_null_stays() -> None:
    schema = schema_of([SchemaField("x", "int8", past_default=1, future_default=2)])
    lacking = pa.table({"a": [0]})
    assert align(lacking, schema).column("x").to_pylist() == [1]
    assert align(lacking, schema, default=FUTURE_DEFAULT).column("x").to_pylist() == [2]
    stored = pa.table({"x": pa.array([None], pa.int8())})
    assert align(stored, schema).column("x").to_pylist() == [None]


def test_only_columns_that_older_files_hold_otherwise_need_alignment() -> None:
    plain = schema_of([SchemaField("a", "int8"), SchemaField("b", "int8", future_default=1)])
    assert not needs_alignment(plain)
    filled = schema_of([SchemaField("a", "int8"), SchemaField("b", "int8", past_default=1)])
    assert needs_alignment(filled)
    assert needs_alignment(filled, ["b"])
    assert not needs_alignment(filled, ["a"])


def test_a_cast_that_would_lose_is_refused() -> None:
    with pytest.raises(SchemaValidationError, match="column 'a': int64 does not fit int8"):
        align(pa.table({"a": [300]}), pa.schema([("a", pa.int8())]))
    with pytest.raises(SchemaValidationError, match="does not fit"):
        align(pa.table({"a": [1.5]}), pa.schema([("a", pa.int8())]))
    with pytest.raises(SchemaValidationError, match="does not fit"):
        align(pa.table({"a": ["x"]}), pa.schema([("a", pa.list_(pa.int8()))]))


def test_no_columns_keep_the_number_of_rows() -> None:
    assert align(pa.table({"a": [1, 2, 3]}), pa.schema([])).num_rows == 3
