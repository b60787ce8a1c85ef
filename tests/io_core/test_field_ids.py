"""Does every column keep its number, however deep it lies, and does it stand in the files?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltacat_sources.polars import write_deltacat
from io_core.errors import SchemaValidationError
from io_core.evolve import SchemaOperation, SchemaUpdates, evolve
from io_core.field_ids import all_field_ids, carry_ids, fill_ids
from io_core.schema import SchemaField, assign_field_ids, encode_schema
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

POINT = pa.struct([("x", pa.int8()), ("tags", pa.list_(pa.string()))])
NESTED = pa.schema(
    [
        ("id", pa.int64()),
        ("points", pa.list_(POINT)),
        ("by_name", pa.map_(pa.string(), POINT)),
        ("pair", pa.list_(pa.float32(), 2)),
        ("last", pa.string()),
    ]
)
ROW: dict[str, Any] = {
    "id": 1,
    "points": [{"x": 1, "tags": ["a"]}],
    "by_name": [("k", {"x": 2, "tags": []})],
    "pair": [0.5, 1.5],
    "last": "z",
}
# As a Parquet footer shows them: name and number, in the order of the footer.
IN_FILES = [
    ("id", 1),
    ("points", 2),
    ("element", 6),
    ("x", 7),
    ("tags", 8),
    ("element", 9),
    ("by_name", 3),
    ("key", 10),
    ("value", 11),
    ("x", 12),
    ("tags", 13),
    ("element", 14),
    ("pair", 4),
    ("element", 15),
    ("last", 5),
]


def stored_ids(path: str) -> list[tuple[str, int]]:
    """Every number in a Parquet footer itself; names of lists' items differ from writer to writer."""
    text = str(pq.ParquetFile(path).schema)
    found = re.findall(r"field_id=(\d+) (\w+)", text)
    return [("element" if name == "item" else name, int(number)) for number, name in found]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


def test_arrows_files_carry_the_ids_of_everything_inside(client: Client) -> None:
    rows = pa.Table.from_pylist([ROW], schema=NESTED)
    client.catalog.write(rows, namespace="ns", table="t")
    plan = client.catalog.plan(namespace="ns", table="t")
    assert stored_ids(plan.paths[0]) == IN_FILES
    assert sorted(all_field_ids(plan.schema)) == list(range(1, 16))


def test_polars_files_carry_the_ids_of_everything_inside(client: Client) -> None:
    schema = pa.schema([f for f in NESTED if f.name != "by_name"])
    client.catalog.create_table(
        namespace="ns", table="t", schema=schema, auto_create_namespace=True
    )
    frame = pl.DataFrame(
        {k: [v] for k, v in ROW.items() if k != "by_name"},
        schema_overrides={
            "points": pl.List(pl.Struct({"x": pl.Int8, "tags": pl.List(pl.String)})),
            "pair": pl.Array(pl.Float32, 2),
        },
    )
    write_deltacat(frame, "ns.t", planner=client)
    plan = client.catalog.plan(namespace="ns", table="t")
    wanted = [("id", 1), ("points", 2), ("element", 5), ("x", 6), ("tags", 7), ("element", 8)]
    assert stored_ids(plan.paths[0]) == [*wanted, ("pair", 3), ("element", 9), ("last", 4)]
    assert client.catalog.read(namespace="ns", table="t").to_pylist() == frame.to_dicts()


def test_a_wider_type_keeps_the_ids_of_what_was_inside() -> None:
    old = assign_field_ids(NESTED)
    wider = pa.struct([("new", pa.int8()), ("tags", pa.large_list(pa.string())), ("x", pa.int16())])
    text = encode_schema(pa.schema([("f", pa.list_(wider))]))
    name = f"arrow_schema_base64:{text}"
    updates = SchemaUpdates(
        (SchemaOperation("update_type", field_locator="points", new_type=name),)
    )
    inside = evolve(old, updates).field("points").type.value_field
    assert inside.metadata == old.field("points").type.value_field.metadata
    ids = {f.name: int(f.metadata[b"PARQUET:field_id"]) for f in inside.type}
    assert ids == {"new": 16, "tags": 8, "x": 7}


def test_an_added_column_gets_ids_that_nothing_ever_had() -> None:
    schema = assign_field_ids(NESTED)
    text = encode_schema(
        pa.schema([("f", pa.list_(pa.field("item", pa.int8(), metadata={"a": "b"})))])
    )
    field = SchemaField("more", f"arrow_schema_base64:{text}")
    remove = SchemaOperation("remove", field_locator="by_name")
    updates = SchemaUpdates((remove, SchemaOperation("add", field=field)), True)
    added = evolve(schema, updates).field("more")
    assert added.metadata == {b"PARQUET:field_id": b"16"}
    assert added.type.value_field.metadata == {b"PARQUET:field_id": b"17"}


def test_ids_that_are_there_stay() -> None:
    once = fill_ids(NESTED)
    assert fill_ids(once).equals(once, check_metadata=True)


def test_two_columns_of_one_id_are_refused_however_deep() -> None:
    seven = {b"PARQUET:field_id": b"7"}
    item = pa.field("item", pa.int8(), metadata=seven)
    schema = pa.schema([pa.field("a", pa.list_(item)), pa.field("b", pa.int8(), metadata=seven)])
    with pytest.raises(SchemaValidationError, match="field ids are not unique"):
        fill_ids(schema)


def test_ids_of_another_types_parts_are_not_taken_over() -> None:
    old = fill_ids(pa.schema([("a", POINT)])).field("a").type
    found = carry_ids(old, pa.struct([("y", pa.int8()), ("tags", pa.list_(pa.string()))]))
    assert found.field("y").metadata is None
    assert found.field("tags").metadata == old.field("tags").metadata
