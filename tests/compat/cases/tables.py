"""What does a published client do with tables: create, describe, alter, rename, drop, truncate, roll back?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

FIELDS: list[dict[str, object]] = [
    {"name": "id", "type": "int64", "nullable": False},
    {"name": "score", "type": "float64", "doc": "between 0 and 1"},
]
KEYED: list[dict[str, object]] = [
    {"name": "id", "type": "int64", "is_merge_key": True},
    {"name": "score", "type": "float64"},
]


def _some(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "score": [number / 10 for number in ids]})


def a_table_is_described_as_it_was_created(at: Place) -> None:
    result = at.create(
        "t", KEYED, table_description="what it holds", table_properties={"team": "vision"}
    )
    assert (result.created, result.table, result.namespace) == (True, "t", at.namespace)
    found = at.describe("t")
    assert found.table_name == "t"
    assert found.table_version == result.table_version == "1"
    fields = {field["name"]: field for field in found.schema}
    assert list(fields) == ["id", "score"]
    types = [pa.type_for_alias(field["type"]) for field in found.schema]
    assert types == [pa.int64(), pa.float64()]
    assert fields["id"]["is_merge_key"]
    assert not fields["score"].get("is_merge_key")
    assert found.merge_keys == ["id"]
    assert found.description == "what it holds"
    assert found.table_properties == {"team": "vision"}
    assert found.lifecycle_state == "active"


def a_table_takes_an_arrow_schema(at: Place) -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("n", pa.int8())])
    at.catalog.create_table(namespace=at.namespace, table="t", schema=schema)
    assert [f["name"] for f in at.describe("t").schema] == ["id", "at", "n"]
    assert at.read("t").schema.remove_metadata() == schema


def a_table_takes_partition_and_sort_schemes(at: Place) -> None:
    at.create(
        "t",
        FIELDS,
        partition_scheme={"keys": [{"key": ["id"], "transform": "bucket(4)"}]},
        sort_scheme={"keys": [{"key": ["score"], "sort_order": "descending"}]},
    )
    found = at.describe("t")
    assert found.partition_scheme["keys"][0]["key"] == ["id"]
    assert found.partition_scheme["keys"][0]["transform"] == "bucket(4)"
    assert found.sort_scheme["keys"][0]["key"] == ["score"]
    assert found.sort_scheme["keys"][0]["sort_order"] == "descending"


def a_table_is_created_once(at: Place) -> None:
    at.create("t", FIELDS)
    with refused("already_exists", 409):
        at.create("t", FIELDS)
    assert not at.create("t", FIELDS, fail_if_exists=False).created


def a_table_needs_its_namespace(at: Place) -> None:
    with refused("not_found", 404):
        at.catalog.create_table(namespace="nowhere", table="t", schema_def=FIELDS)
    at.catalog.create_table(
        namespace="made_with_its_table", table="t", schema_def=FIELDS, auto_create_namespace=True
    )
    assert at.catalog.namespace_exists(namespace="made_with_its_table")


def tables_are_listed(at: Place) -> None:
    at.create("a", FIELDS)
    at.create("b", FIELDS, table_description="the other one")
    found = at.catalog.list_tables(namespace=at.namespace)
    assert sorted(table.name for table in found) == ["a", "b"]
    assert {table.latest_version for table in found} == {"1"}
    assert at.catalog.table_exists(namespace=at.namespace, table="a")
    assert not at.catalog.table_exists(namespace=at.namespace, table="c")


def a_missing_table_is_not_found(at: Place) -> None:
    for call in (at.describe, at.read, at.plan):
        with refused("not_found", 404):
            call("t")
    with refused("not_found", 404):
        at.catalog.drop_table(namespace=at.namespace, table="t")


def a_second_version_stands_beside_the_first(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    assert at.create("t", KEYED, table_version="2").created
    at.write(_some(2), "t", mode="merge")
    found = at.catalog.list_table_versions(namespace=at.namespace, table="t")
    assert sorted(info.version for info in found) == ["1", "2"]
    assert [row["id"] for row in at.rows("t")] == [2]
    assert [row["id"] for row in at.rows("t", table_version="1")] == [1]
    assert at.catalog.table_exists(namespace=at.namespace, table="t", table_version="1")
    assert not at.catalog.table_exists(namespace=at.namespace, table="t", table_version="3")


def a_column_is_added(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    update = {"operations": [{"op": "add", "field": {"name": "note", "type": "string"}}]}
    result = at.catalog.alter_table(namespace=at.namespace, table="t", schema_updates=update)
    assert result.altered
    at.write(pa.table({"id": [2], "score": [0.2], "note": ["new"]}), "t", mode="add")
    assert at.rows("t") == [
        {"id": 1, "score": 0.1, "note": None},
        {"id": 2, "score": 0.2, "note": "new"},
    ]


def a_write_adds_a_column(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    at.write(pa.table({"id": [2], "score": [0.2], "note": ["new"]}), "t", mode="add")
    assert at.rows("t") == [
        {"id": 1, "score": 0.1, "note": None},
        {"id": 2, "score": 0.2, "note": "new"},
    ]


def a_renamed_column_is_refused_where_it_would_be_null(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    update = {"operations": [{"op": "rename", "field_locator": "score", "new_name": "mark"}]}
    at.catalog.alter_table(namespace=at.namespace, table="t", schema_updates=update)
    with refused("unsupported", 400):
        at.rows("t")
    at.write(pa.table({"id": [2], "mark": [0.2]}), "t", mode="replace")
    assert at.rows("t") == [{"id": 2, "mark": 0.2}]


def descriptions_and_properties_change(at: Place) -> None:
    at.create("t", FIELDS)
    at.catalog.alter_table(
        namespace=at.namespace,
        table="t",
        table_description="better words",
        table_properties={"team": "audio"},
    )
    found = at.describe("t")
    assert found.description == "better words"
    assert found.table_properties == {"team": "audio"}


def a_sort_scheme_comes_later(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(2), "t", mode="append")
    scheme = {"keys": [{"key": ["id"], "sort_order": "ascending"}]}
    at.catalog.alter_table(namespace=at.namespace, table="t", sort_scheme=scheme)
    at.write(_some(1), "t", mode="append")
    assert at.describe("t").sort_scheme["keys"][0]["key"] == ["id"]
    assert [row["id"] for row in at.rows("t")] == [1, 2]


def a_deprecated_version_is_read_by_its_name_alone(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    at.catalog.alter_table(
        namespace=at.namespace, table="t", table_version="1", lifecycle_state="deprecated"
    )
    with refused("not_found", 404):
        at.read("t")
    assert at.describe("t", table_version="1").lifecycle_state == "deprecated"
    assert [row["id"] for row in at.rows("t", table_version="1")] == [1]


def a_renamed_table_keeps_its_rows(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    result = at.catalog.rename_table(namespace=at.namespace, table="t", new_name="u")
    assert (result.old_name, result.new_name) == ("t", "u")
    assert [row["id"] for row in at.rows("u")] == [1]
    with refused("not_found", 404):
        at.read("t")


def a_table_takes_no_name_that_is_taken(at: Place) -> None:
    at.create("t", FIELDS)
    at.create("u", FIELDS)
    with refused("already_exists", 409):
        at.catalog.rename_table(namespace=at.namespace, table="t", new_name="u")


def a_dropped_table_is_gone(at: Place) -> None:
    for purge in (False, True):
        at.create("t", FIELDS)
        at.write(_some(1), "t", mode="add")
        assert at.catalog.drop_table(namespace=at.namespace, table="t", purge=purge).dropped
        assert not at.catalog.table_exists(namespace=at.namespace, table="t")
        with refused("not_found", 404):
            at.read("t")


def a_dropped_tables_rows_do_not_return_with_its_name(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    at.catalog.drop_table(namespace=at.namespace, table="t")
    at.create("t", FIELDS)
    assert at.rows("t") == []


def truncating_leaves_the_table_empty(at: Place) -> None:
    at.create("t", KEYED)
    at.write(_some(1, 2), "t", mode="merge")
    result = at.catalog.truncate_table(namespace=at.namespace, table="t")
    assert result.truncated
    assert at.rows("t") == []
    at.write(_some(3), "t", mode="merge")
    assert [row["id"] for row in at.rows("t")] == [3]


def rolling_back_restores_the_rows_of_then(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1), "t", mode="add")
    then = time.time_ns()
    at.write(_some(2), "t", mode="add")
    result = at.catalog.rollback_table(namespace=at.namespace, table="t", as_of=then)
    assert (result.rolled_back, result.table) == (True, "t")
    assert [row["id"] for row in at.rows("t")] == [1]
    at.write(_some(3), "t", mode="add")
    assert [row["id"] for row in at.rows("t")] == [1, 3]


def a_description_counts_what_the_table_holds(at: Place) -> None:
    at.create("t", FIELDS)
    at.write(_some(1, 2), "t", mode="add")
    at.write(_some(3), "t", mode="add")
    found = at.describe("t")
    assert (found.total_records, found.total_files) == (3, 2)


def declared_content_types_bind_the_writers(at: Place) -> None:
    at.create("t", FIELDS, content_types=["parquet"], default_content_type="parquet")
    assert at.describe("t").content_types == ["parquet"]
    at.write(_some(1), "t", mode="add")
    with refused("schema_validation", 400):
        at.write(_some(2), "t", mode="add", format="orc")
