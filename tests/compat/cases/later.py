"""What do later releases ask for that the first one cannot?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from tests.compat.place import Place

FIELDS: list[dict[str, object]] = [{"name": "id", "type": "int64"}]


def a_few_rows_are_shown(at: Place) -> None:
    at.write(pa.table({"id": [1, 2, 3], "name": ["x", "y", None]}), "t")
    found = at.catalog.preview(namespace=at.namespace, table="t", limit=2)
    assert found["sample_rows"] == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]
    assert found["sample_size"] == 2
    assert found["total_rows"] == 3
    assert [field["name"] for field in found["schema"]] == ["id", "name"]


def tables_come_in_pages(at: Place) -> None:
    names = [f"t{number}" for number in range(5)]
    for name in names:
        at.create(name, FIELDS)
    found: list[str] = []
    pages = 0
    token: str | None = None
    while pages == 0 or token:
        page = at.catalog.list_tables(namespace=at.namespace, limit=2, next_token=token)
        found += [table.name for table in page]
        token = page.next_token
        pages += 1
    assert (sorted(found), pages) == (names, 3)


def namespaces_come_in_pages(at: Place) -> None:
    page = at.catalog.list_namespaces(limit=1)
    assert len(page) == 1
    every = [found.name for found in at.catalog.list_namespaces()]
    if len(every) > 1:
        assert page.next_token
        rest = at.catalog.list_namespaces(limit=1000, next_token=page.next_token)
        assert [page[0].name, *(found.name for found in rest)] == every


def a_long_filter_travels_in_the_body(at: Place) -> None:
    at.write(pa.table({"id": [1, 2, 3]}), "t")
    wanted = {"in": ["id", [2, *range(100, 4000)]]}
    plan = at.plan("t", filter_predicate=wanted, filter_predicate_transport="body")
    assert at.catalog.read(plan=plan).to_pydict() == {"id": [2]}


def counts_are_exact_on_request(at: Place) -> None:
    at.write(pa.table({"id": [1, 2, 3]}), "t")
    for options in ({"exact_stats": True}, {"include_stats": True}):
        found = at.describe("t", **options)
        assert (found.total_records, found.total_files) == (3, 1)


def the_schema_is_described_in_full(at: Place) -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("ns"))])
    at.catalog.create_table(namespace=at.namespace, table="t", schema=schema)
    found = at.describe("t").schema_serialized
    assert found


def a_binary_column_survives(at: Place) -> None:
    at.write(pa.table({"id": [1], "blob": pa.array([b"\x00\xff"], pa.binary())}), "t")
    assert at.rows("t") == [{"id": 1, "blob": b"\x00\xff"}]


def the_newer_row_hides_the_older_one_from_a_filter(at: Place) -> None:
    at.create(
        "t",
        [{"name": "id", "type": "int64", "is_merge_key": True}, {"name": "v", "type": "string"}],
    )
    for value in ("old", "new"):
        at.write(pa.table({"id": [1], "v": [value]}), "t", mode="merge")
    assert at.rows("t", filter_predicate={"eq": ["v", "old"]}) == []
