"""What does a published client see of the past?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

KEYED: list[dict[str, object]] = [
    {"name": "id", "type": "int64", "is_merge_key": True},
    {"name": "value", "type": "string"},
]


def _upsert(at: Place, ids: list[int], value: str) -> int:
    """Write, and say when it was there."""
    at.write(pa.table({"id": ids, "value": [value] * len(ids)}), "t", mode="merge")
    return time.time_ns()


def _held(at: Place, **options: object) -> dict[int, str]:
    return {row["id"]: row["value"] for row in at.rows("t", **options)}


def a_read_sees_the_table_as_it_was(at: Place) -> None:
    at.create("t", KEYED)
    created = time.time_ns()
    first = _upsert(at, [1, 2], "a")
    second = _upsert(at, [2, 3], "b")
    at.write(pa.table({"id": [1]}), "t", mode="delete")
    assert _held(at, as_of=created) == {}
    assert _held(at, as_of=first) == {1: "a", 2: "a"}
    assert _held(at, as_of=second) == {1: "a", 2: "b", 3: "b"}
    assert _held(at) == {2: "b", 3: "b"}


def a_plan_of_the_past_keeps_its_fingerprint(at: Place) -> None:
    at.create("t", KEYED)
    then = _upsert(at, [1], "a")
    before = at.plan("t").snapshot_id
    _upsert(at, [2], "b")
    assert at.plan("t", as_of=then).snapshot_id == before


def a_table_is_not_found_before_it_was_created(at: Place) -> None:
    before = time.time_ns()
    at.create("t", KEYED)
    with refused("not_found", 404):
        at.read("t", as_of=before)


def what_was_replaced_is_still_read(at: Place) -> None:
    at.create("t", KEYED)
    then = _upsert(at, [1], "a")
    at.write(pa.table({"id": [9], "value": ["z"]}), "t", mode="replace")
    assert _held(at) == {9: "z"}
    assert _held(at, as_of=then) == {1: "a"}


def a_schema_of_the_past_is_read_with_it(at: Place) -> None:
    at.write(pa.table({"id": [1]}), "t")
    then = time.time_ns()
    update = {"operations": [{"op": "add", "field": {"name": "more", "type": "string"}}]}
    at.catalog.alter_table(namespace=at.namespace, table="t", schema_updates=update)
    at.write(pa.table({"id": [2], "more": ["x"]}), "t", mode="add")
    assert at.read("t").column_names == ["id", "more"]
    assert at.read("t", as_of=then).column_names == ["id"]


def a_dropped_table_is_read_as_it_was(at: Place) -> None:
    at.create("t", KEYED)
    then = _upsert(at, [1], "a")
    at.catalog.drop_table(namespace=at.namespace, table="t")
    assert _held(at, as_of=then) == {1: "a"}


def a_transaction_stands_in_the_past(at: Place) -> None:
    at.create("t", KEYED)
    then = _upsert(at, [1], "a")
    _upsert(at, [2], "b")
    at.create("later", KEYED)
    with at.client.transaction(as_of=then) as tx:
        assert tx.state.as_of == then
        assert _held(at) == {1: "a"}
        assert [t.name for t in at.catalog.list_tables(namespace=at.namespace)] == ["t"]
        assert not at.catalog.table_exists(namespace=at.namespace, table="later")
    assert _held(at) == {1: "a", 2: "b"}


def nothing_is_written_into_the_past(at: Place) -> None:
    at.create("t", KEYED)
    then = time.time_ns()
    tx = at.client.transaction(as_of=then)
    with refused("read_only_transaction", 400):
        at.write(pa.table({"id": [1], "value": ["a"]}), "t", mode="merge", transaction=tx)
    with refused("read_only_transaction", 400):
        at.create("u", KEYED, transaction=tx)
    with refused("read_only_transaction", 400):
        at.catalog.drop_table(namespace=at.namespace, table="t", transaction=tx)
    tx.abort()
    assert _held(at) == {}
