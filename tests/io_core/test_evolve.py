"""Does a schema change only as the data that is there allows, and is every other change named?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import SchemaValidationError
from io_core.evolve import SchemaOperation, SchemaUpdates, evolve, widens
from io_core.merge_order import merge_order_of
from io_core.schema import (
    SchemaField,
    align,
    assign_field_ids,
    fields_of,
    needs_alignment,
    schema_of,
)

TABLE = assign_field_ids(
    schema_of(
        [
            SchemaField("id", "int32", is_merge_key=True),
            SchemaField("day", "date32"),
            SchemaField("n", "int32", nullable=False),
            SchemaField("x", "float32", past_default=1.5, future_default=2.5),
            SchemaField("strict", "int8", consistency_type="validate"),
            SchemaField("loose", "int8", consistency_type="none"),
        ]
    )
)


def add(name: str, kind: str = "int64", **kwargs: object) -> SchemaOperation:
    return SchemaOperation("add", field=SchemaField(name, kind, **kwargs))  # type: ignore[arg-type]


def remove(name: str) -> SchemaOperation:
    return SchemaOperation("remove", field_locator=name)


def retype(name: str, kind: str) -> SchemaOperation:
    return SchemaOperation("update_type", field_locator=name, new_type=kind)


def redefine(name: str, kind: str, **kwargs: object) -> SchemaOperation:
    field = SchemaField(name, kind, **kwargs)  # type: ignore[arg-type]
    return SchemaOperation("update_type", field=field)


def change(
    *operations: SchemaOperation, schema: pa.Schema = TABLE, forced: bool = False
) -> dict[str, SchemaField]:
    updates = SchemaUpdates(operations, allow_incompatible_changes=forced)
    return {f.name: f for f in fields_of(evolve(schema, updates, pinned={"day"}))}


# --- adding ---------------------------------------------------------------------------------------


def test_an_added_column_comes_last_with_the_next_field_id() -> None:
    found = change(add("note", "string", doc="why"), add("more", nullable=False, past_default=7))
    assert list(found)[-2:] == ["note", "more"]
    assert found["note"] == SchemaField("note", "string", field_id=7, doc="why")
    assert (found["more"].field_id, found["more"].nullable) == (8, False)
    assert (found["more"].past_default, found["more"].future_default) == (7, 7)


def test_a_field_id_is_never_used_twice() -> None:
    grown = evolve(TABLE, SchemaUpdates((add("a"),)))
    shrunk = evolve(grown, SchemaUpdates((remove("a"),), allow_incompatible_changes=True))
    again = evolve(shrunk, SchemaUpdates((add("b"),)), history=[TABLE, grown, shrunk])
    assert [f.field_id for f in fields_of(again)] == [1, 2, 3, 4, 5, 6, 8]


def test_the_name_of_a_removed_column_stays_taken() -> None:
    shrunk = evolve(TABLE, SchemaUpdates((remove("x"),), allow_incompatible_changes=True))
    with pytest.raises(
        SchemaValidationError, match="'x' was removed or renamed, and older files still hold"
    ):
        evolve(shrunk, SchemaUpdates((add("X"),)), history=[TABLE, shrunk])
    with pytest.raises(SchemaValidationError, match="'x' was removed"):
        change(remove("x"), add("x"), forced=True)


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (SchemaOperation("add"), "add needs a field"),
        (add("x"), "column 'x' is there already"),
        (add("ID"), "columns 'id' and 'ID' differ in case only"),
        (add("k", is_merge_key=True), "'k' cannot become a merge key"),
        (add("k", field_id=99), "field ids are given by the planner"),
        (add("k", nullable=False), "'k' is required, and the rows that are there have no value"),
        (add("k", nullable=False, future_default=1), "give it a past_default"),
        (add("k", "int65"), "unknown type 'int65'"),
        (add("", "int8"), "needs a name"),
        (add("k", past_default="a"), "'a' is no value of type int64"),
        (add("k", consistency_type="no"), "consistency_type 'no' is not possible"),
    ],
)
def test_a_column_that_cannot_be_added_is_refused(operation: SchemaOperation, problem: str) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        change(operation)


@pytest.mark.parametrize("what", [{"is_event_time": True}, {"merge_order": {"sort_order": "asc"}}])
def test_a_merge_order_never_changes(what: dict[str, Any]) -> None:
    with pytest.raises(SchemaValidationError, match="'t' cannot get a merge order"):
        change(add("t", "timestamp[us]", **what))
    ordered = schema_of([SchemaField("k", "int64"), SchemaField("t", "int32", **what)])
    plain = SchemaField("t", "int32")
    problems = {
        remove("t"): "'t' cannot be removed: .* or the merge order",
        SchemaOperation("update_type", None, "t", "int64"): "its type int32 stays",
        SchemaOperation("update_type", plain): f"{min(what)} cannot be changed",
        SchemaOperation("rename", None, "t", new_name="u"): "its name stays",
    }
    for operation, problem in problems.items():
        with pytest.raises(SchemaValidationError, match=problem):
            evolve(ordered, SchemaUpdates((operation,), allow_incompatible_changes=True))
    described = SchemaField("t", "int32", doc="when", **what)
    changed = evolve(ordered, SchemaUpdates((SchemaOperation("update_type", described),)))
    assert merge_order_of(changed) == merge_order_of(ordered) != ()


def test_a_required_column_without_default_is_added_on_demand() -> None:
    assert not change(add("k", nullable=False), forced=True)["k"].nullable


# --- removing -------------------------------------------------------------------------------------


def test_a_column_is_removed_on_demand_only() -> None:
    assert "x" not in change(remove("x"), forced=True)
    with pytest.raises(SchemaValidationError, match="'x' cannot be removed without allow_incomp"):
        change(remove("x"))


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (remove("id"), "'id' is a merge key: a table's keys never change"),
        (remove("day"), "'day' cannot be removed: .* is made of it"),
        (remove("dya"), "unknown column 'dya'; did you mean 'day'"),
        (SchemaOperation("remove"), "remove needs a field_locator"),
    ],
)
def test_a_column_that_has_to_stay_is_never_removed(
    operation: SchemaOperation, problem: str
) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        change(operation, forced=True)


def test_the_last_column_stays() -> None:
    with pytest.raises(SchemaValidationError, match="'a' cannot be removed: it is the last one"):
        change(remove("a"), schema=pa.schema([("a", pa.int8())]), forced=True)


# --- types ----------------------------------------------------------------------------------------


def test_a_widened_column_keeps_all_but_its_type() -> None:
    found = change(retype("x", "float64"), retype("n", "int64"))
    assert found["x"] == SchemaField(
        "x", "float64", field_id=4, past_default=1.5, future_default=2.5
    )
    assert found["n"] == SchemaField("n", "int64", nullable=False, field_id=3)


def test_a_table_with_a_widened_column_needs_alignment() -> None:
    plain = pa.schema([pa.field("n", pa.int32())])
    assert not needs_alignment(evolve(plain, SchemaUpdates((add("k"),))))
    assert needs_alignment(evolve(plain, SchemaUpdates((retype("n", "int64"),))))
    assert not needs_alignment(evolve(plain, SchemaUpdates((retype("n", "int32"),))))


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (retype("n", "int16"), "'n': int32 does not widen to int16"),
        (retype("n", "uint64"), "'n': int32 does not widen to uint64"),
        (retype("n", "string"), "types may only widen"),
        (retype("id", "int64"), "'id' is a merge key, or .* is made of it"),
        (retype("day", "timestamp[us]"), "its type date32"),
        (SchemaOperation("update_type", field_locator="n"), "needs either new_type or field"),
        (
            SchemaOperation("update_type", SchemaField("n", "int64"), new_type="int64"),
            "needs either new_type or field",
        ),
        (SchemaOperation("update_type", new_type="int8"), "update_type needs a field_locator"),
        (
            SchemaOperation("update_type", SchemaField("m", "int64"), "n"),
            "'n' is not renamed by update_type",
        ),
        (redefine("id", "int32"), "'id': is_merge_key cannot be changed"),
        (redefine("n", "int32", is_merge_key=True), "'n': is_merge_key cannot be changed"),
        (redefine("n", "int32", field_id=9), "'n': field_id cannot be changed"),
        (redefine("x", "float32", past_default=3), "'x': past_default cannot be changed"),
        (redefine("n", "int32", past_default=3), "'n': past_default cannot be changed"),
        (
            redefine("loose", "int8", consistency_type="coerce"),
            "'loose': consistency_type cannot go from none to coerce",
        ),
        (
            redefine("strict", "int8", nullable=False, future_default=1),
            "'strict' cannot become required without a past and a future default",
        ),
    ],
)
def test_a_column_that_cannot_become_that_is_refused(
    operation: SchemaOperation, problem: str
) -> None:
    with pytest.raises(SchemaValidationError, match=problem):
        change(operation)


def test_a_column_is_defined_anew_as_far_as_it_may() -> None:
    found = change(
        redefine("x", "float64", nullable=False, past_default=1.5, future_default=9, doc="size"),
        redefine("n", "int32", future_default=4),
        redefine("strict", "int16", consistency_type="coerce"),
        redefine("loose", "int8", doc="kept"),
    )
    assert found["x"] == SchemaField(
        "x", "float64", nullable=False, field_id=4, past_default=1.5, future_default=9, doc="size"
    )
    assert found["n"] == SchemaField("n", "int32", field_id=3, future_default=4)
    assert found["strict"] == SchemaField("strict", "int16", field_id=5, consistency_type="coerce")
    assert found["loose"].consistency_type == "none"


def test_any_type_that_arrow_casts_to_is_taken_on_demand() -> None:
    assert change(retype("n", "string"), forced=True)["n"].type == "string"
    with pytest.raises(SchemaValidationError, match="does not widen to month"):
        change(retype("n", "arrow_schema_base64:" + _interval()), forced=True)


def _interval() -> str:
    (field,) = fields_of(pa.schema([("f", pa.month_day_nano_interval())]))
    return field.type.removeprefix("arrow_schema_base64:")


def test_no_operations_are_refused() -> None:
    with pytest.raises(SchemaValidationError, match="no operations"):
        change()


def test_of_several_operations_all_happen_or_none() -> None:
    with pytest.raises(SchemaValidationError, match="'x' cannot be removed"):
        change(add("note"), remove("x"))


# --- widening -------------------------------------------------------------------------------------

WIDER = [
    (pa.null(), pa.string()),
    (pa.int8(), pa.int64()),
    (pa.uint8(), pa.uint16()),
    (pa.float16(), pa.float64()),
    (pa.int16(), pa.float32()),
    (pa.uint32(), pa.float64()),
    (pa.decimal128(5, 2), pa.decimal128(9, 4)),
    (pa.decimal128(5, 2), pa.decimal256(40, 2)),
    (pa.date32(), pa.date64()),
    (pa.date32(), pa.timestamp("us")),
    (pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC")),
    (pa.duration("s"), pa.duration("ms")),
    (pa.time32("s"), pa.time64("ns")),
    (pa.string(), pa.large_string()),
    (pa.binary(), pa.large_binary()),
    (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int16()), ("b", pa.string())])),
    (pa.list_(pa.int8()), pa.large_list(pa.int16())),
    (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int16())),
    (pa.list_(pa.struct([("a", pa.int8())])), pa.list_(pa.struct([("a", pa.int8()), ("b", pa.int8())]))),
    (pa.list_(pa.int8(), 2), pa.list_(pa.int16(), 2)),
]  # fmt: skip
NARROWER = [
    (pa.int64(), pa.int32()),
    (pa.int8(), pa.uint8()),
    (pa.uint8(), pa.int16()),
    (pa.float64(), pa.float32()),
    (pa.float32(), pa.int64()),
    (pa.int64(), pa.float64()),
    (pa.int32(), pa.float32()),
    (pa.decimal128(5, 2), pa.decimal128(6, 4)),
    (pa.decimal128(5, 2), pa.float64()),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.timestamp("us"), pa.timestamp("ns")),
    (pa.timestamp("us"), pa.date32()),
    (pa.date32(), pa.timestamp("us", "UTC")),
    (pa.string(), pa.binary()),
    (pa.bool_(), pa.int8()),
    (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
    (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), pa.field("b", pa.int8(), nullable=False)])),
    (pa.list_(pa.int8()), pa.list_(pa.int8(), 2)),
    (pa.list_(pa.int16()), pa.list_(pa.int8())),
    (pa.list_(pa.field("item", pa.int8())), pa.list_(pa.field("item", pa.int8(), nullable=False))),
    (pa.map_(pa.int8(), pa.int8()), pa.map_(pa.int16(), pa.int8())),
    (pa.list_(pa.int8()), pa.struct([("a", pa.int8())])),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), WIDER, ids=str)
def test_types_that_hold_more_are_wider(old: pa.DataType, new: pa.DataType) -> None:
    assert widens(old, new)
    assert align(pa.table({"x": pa.nulls(2, old)}), pa.schema([("x", new)])).num_rows == 2


@pytest.mark.parametrize(("old", "new"), NARROWER, ids=str)
def test_types_that_lose_something_are_not(old: pa.DataType, new: pa.DataType) -> None:
    assert not widens(old, new)


_PLAIN = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64()),
]


@given(st.sampled_from(_PLAIN), st.sampled_from(_PLAIN), st.data())
def test_every_value_of_a_type_survives_its_widening(
    old: pa.DataType, new: pa.DataType, data: st.DataObject
) -> None:
    if pa.types.is_integer(old):
        signed = pa.types.is_signed_integer(old)
        bits = old.bit_width - signed
        numbers: st.SearchStrategy[float] = st.integers(-(2**bits) if signed else 0, 2**bits - 1)
    else:
        numbers = st.floats(width=old.bit_width, allow_nan=False)
    values = data.draw(st.lists(numbers, min_size=1))
    held = pa.array(values, old)
    if widens(old, new):
        found = align(pa.table({"x": held}), pa.schema([("x", new)]))
        assert found.column("x").to_pylist() == values
        assert not widens(new, old) or old == new
