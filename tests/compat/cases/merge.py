"""What does a published client read of a table whose rows have keys?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from tests.compat.place import Place

FIELDS: list[dict[str, object]] = [
    {"name": "id", "type": "int64", "is_merge_key": True},
    {"name": "value", "type": "string"},
]


def _upsert(at: Place, rows: dict[int, str | None], mode: str = "merge") -> None:
    at.write(
        pa.table({"id": list(rows), "value": pa.array(rows.values(), pa.string())}), "t", mode=mode
    )


def _delete(at: Place, *ids: int) -> None:
    at.write(pa.table({"id": ids}), "t", mode="delete")


def _held(at: Place) -> dict[int, str | None]:
    return {row["id"]: row["value"] for row in at.rows("t")}


def the_last_upsert_of_a_key_wins(at: Place) -> None:
    at.create("t", FIELDS)
    _upsert(at, {1: "a1", 2: "b1", 3: "c1"})
    _upsert(at, {2: "b2", 4: "d2"})
    _upsert(at, {2: None}, mode="auto")
    assert at.plan("t").requires_mor
    assert _held(at) == {1: "a1", 2: None, 3: "c1", 4: "d2"}


def a_deleted_key_is_gone_until_it_is_written_again(at: Place) -> None:
    at.create("t", FIELDS)
    _upsert(at, {1: "a1", 2: "b1", 3: "c1"})
    _upsert(at, {2: "b2", 4: "d2"})
    _delete(at, 1, 4, 99)
    assert _held(at) == {2: "b2", 3: "c1"}
    _upsert(at, {1: "a4"})
    assert _held(at) == {1: "a4", 2: "b2", 3: "c1"}


def a_table_may_hold_deletes_alone(at: Place) -> None:
    at.create("t", FIELDS)
    _delete(at, 1)
    assert _held(at) == {}


def deletes_name_the_keys_they_compare(at: Place) -> None:
    at.create("t", FIELDS)
    _upsert(at, {1: "a"})
    _delete(at, 1)
    (task,) = (t for t in at.plan("t").scan_tasks if t.delta_type == "delete")
    assert task.entry_params == {"equality_field_locators": ["id"]}
    assert at.plan("t").merge_keys == ["id"]


def a_key_of_two_columns(at: Place) -> None:
    key: list[dict[str, object]] = [
        {"name": "id", "type": "int64", "is_merge_key": True},
        {"name": "part", "type": "string", "is_merge_key": True},
        {"name": "value", "type": "string"},
    ]
    at.create("t", key)
    at.write(pa.table({"id": [1, 1], "part": ["a", "b"], "value": ["x", "y"]}), "t", mode="merge")
    at.write(pa.table({"id": [1], "part": ["b"], "value": ["z"]}), "t", mode="merge")
    found = at.rows("t")
    assert sorted((row["part"], row["value"]) for row in found) == [("a", "x"), ("b", "z")]


def keys_are_merged_within_their_partition(at: Place) -> None:
    at.create(
        "t",
        [*FIELDS, {"name": "day", "type": "int32"}],
        partition_scheme={"keys": [{"key": ["day"], "transform": "identity"}]},
    )
    for day, value in ((1, "old"), (2, "other"), (1, "new")):
        rows = {"id": [7], "value": [value], "day": pa.array([day], pa.int32())}
        at.write(pa.table(rows), "t", mode="merge")
    assert sorted((row["day"], row["value"]) for row in at.rows("t")) == [(1, "new"), (2, "other")]


def replacing_forgets_the_keys_of_before(at: Place) -> None:
    at.create("t", FIELDS)
    _upsert(at, {1: "a", 2: "b"})
    _delete(at, 1)
    _upsert(at, {1: "fresh"}, mode="replace")
    assert _held(at) == {1: "fresh"}


def every_frame_shows_the_merged_rows(at: Place) -> None:
    at.create("t", FIELDS)
    _upsert(at, {1: "a1", 2: "b1"})
    _upsert(at, {2: "b2"})
    _delete(at, 1)
    assert at.read("t", read_as="pandas")["value"].tolist() == ["b2"]
    assert at.read("t", read_as="polars").lazy().collect()["value"].to_list() == ["b2"]
    assert at.read("t", read_as="daft").to_pydict()["value"] == ["b2"]
    assert at.read("t", read_as="numpy").tolist() == [[2, "b2"]]


def a_merge_order_decides_within_one_write(at: Place) -> None:
    for table, order, kept in (("d", "descending", 9), ("a", "SortOrder.ASCENDING", 5)):
        ranked: dict[str, object] = {"name": "rank", "type": "int64"}
        at.create(table, [*FIELDS, ranked | {"merge_order": {"sort_order": order}}])
        for rows in ([(1, 5), (2, 1), (1, 9), (1, 7)], [(2, None), (2, 3)], [(3, 3)]):
            ids, ranks = zip(*rows, strict=True)
            written = {"id": ids, "value": ["x"] * len(ids), "rank": pa.array(ranks, pa.int64())}
            at.write(pa.table(written), table, mode="merge")
        held = {row["id"]: row["rank"] for row in at.rows(table)}
        assert held == {1: kept, 2: None, 3: 3}


def event_time_decides_where_no_order_is_declared(at: Place) -> None:
    at.create("t", [*FIELDS, {"name": "at", "type": "timestamp[us]", "is_event_time": True}])
    times = pa.array([3, 1], pa.timestamp("us"))
    at.write(pa.table({"id": [1, 1], "value": ["late", "early"], "at": times}), "t", mode="merge")
    assert [row["value"] for row in at.rows("t")] == ["late"]
    times = pa.array([0], pa.timestamp("us"))
    at.write(pa.table({"id": [1], "value": ["newer"], "at": times}), "t", mode="merge")
    assert [row["value"] for row in at.rows("t")] == ["newer"]


def a_filter_on_the_key_asks_the_merged_rows(at: Place) -> None:
    at.create("t", FIELDS)
    _upsert(at, {1: "a1", 2: "b1", 3: "c1"})
    _upsert(at, {2: "b2"})
    found = at.rows("t", filter_predicate={"lte": ["id", 2]})
    assert found == [{"id": 1, "value": "a1"}, {"id": 2, "value": "b2"}]


def a_merge_is_paged_without_tearing_its_keys(at: Place) -> None:
    at.create("t", FIELDS)
    for number in range(5):
        _upsert(at, {1: f"v{number}"})
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        plan = at.plan("t", offset=offset, limit=2)
        found += at.catalog.read(plan=plan)["value"].to_pylist()
        offset = plan.next_file_offset
    assert found == ["v4"]
