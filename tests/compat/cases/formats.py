"""Which file formats does a published client write to our planner and read back?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

TABLE = pa.table({"id": [1, 2, 3], "name": ["x", "y", None], "score": [0.5, None, 2.5]})
MORE = pa.table({"id": [4], "name": ["z"], "score": [4.5]})
ROWS: list[dict[str, Any]] = [*TABLE.to_pylist(), *MORE.to_pylist()]
FIELDS: list[dict[str, object]] = [
    {"name": "id", "type": "int64"},
    {"name": "name", "type": "string"},
    {"name": "score", "type": "double"},
]


def _survives(at: Place, format_: str, *, is_filtered: bool = True) -> None:
    at.write(TABLE, "t", format=format_)
    at.write(MORE, "t", format=format_)
    plan = at.plan("t")
    assert {file.content_type for file in plan.all_files()} == {format_}
    assert plan.content_type == format_
    assert (plan.total_records, plan.total_files) == (4, 2)
    assert at.rows("t") == ROWS
    assert at.read("t", columns=["score"]).column_names == ["score"]
    if is_filtered:
        assert at.rows("t", filter_predicate={"gte": ["id", 3]}) == ROWS[2:]


def parquet(at: Place) -> None:
    _survives(at, "parquet")


def feather(at: Place) -> None:
    # The clients' own readers of Feather and ORC take no filter.
    _survives(at, "feather", is_filtered=False)


def orc(at: Place) -> None:
    _survives(at, "orc", is_filtered=False)


def avro(at: Place) -> None:
    _survives(at, "avro")


def lance(at: Place) -> None:
    _survives(at, "lance")


def a_lance_dataset_is_read_as_one(at: Place) -> None:
    at.write(TABLE, "t", format="lance")
    found = at.read("t", read_as="lance")
    assert found.count_rows() == 3
    assert found.to_table().to_pylist() == TABLE.to_pylist()


def a_lance_dataset_stays_where_it_is(at: Place) -> None:
    from lance import write_dataset

    path = str(at.folder / "given.lance")
    write_dataset(TABLE, path)
    at.write(path, "t", format="lance", create_if_missing={"schema": TABLE.schema})
    assert [file.path for file in at.plan("t").all_files()] == [path]
    assert at.rows("t") == TABLE.to_pylist()


def a_lance_table_with_keys_is_merged(at: Place) -> None:
    at.create("t", [{"name": "id", "type": "int64", "is_merge_key": True}, FIELDS[1]])
    for name in ("old", "new"):
        at.write(pa.table({"id": [1], "name": [name]}), "t", mode="merge", format="lance")
    at.write(pa.table({"id": [2], "name": ["b"]}), "t", mode="merge", format="lance")
    assert at.rows("t") == [{"id": 1, "name": "new"}, {"id": 2, "name": "b"}]


def a_lance_table_has_partitions(at: Place) -> None:
    scheme = {"keys": [{"key": ["name"], "transform": "identity"}]}
    at.create("t", FIELDS[:2], partition_scheme=scheme)
    table = pa.table({"id": [1, 2, 3], "name": ["a", "b", "a"]})
    at.write(table, "t", mode="add", format="lance")
    assert at.rows("t") == table.to_pylist()
    assert sorted(task.partition_values for task in at.plan("t").scan_tasks) == [["a"], ["b"]]


def one_table_holds_several_formats(at: Place) -> None:
    at.create("t", FIELDS)
    formats = ("parquet", "feather", "orc", "avro")
    for number, format_ in enumerate(formats):
        one = pa.table({"id": [number], "name": [format_], "score": [0.5]})
        at.write(one, "t", mode="add", format=format_)
    found = {file.content_type for file in at.plan("t").all_files()}
    assert found == set(formats)
    assert [row["name"] for row in at.rows("t")] == list(formats)


def text_formats_are_refused_where_there_is_a_schema(at: Place) -> None:
    at.create("t", FIELDS)
    for format_ in ("csv", "tsv", "psv", "json"):
        with refused("schema_validation", 400):
            at.write(TABLE, "t", mode="add", format=format_)


def _is_kept_as_a_file(at: Place, format_: str) -> None:
    # Delimited text knows no nulls.
    full = TABLE.filter(pc.field("score").is_valid() & pc.field("name").is_valid())
    at.write(full, "t", format=format_)
    at.write(MORE, "t", format=format_)
    listed = at.read("t")
    assert listed["meta_content_type"].to_pylist() == [format_, format_]
    assert listed["meta_content_encoding"].to_pylist() == ["gzip", "gzip"]
    assert listed["meta_record_count"].to_pylist() == [1, 1]
    found = at.catalog.from_manifest_table(listed, schema=TABLE.schema).to_pylist()
    assert sorted(found, key=lambda row: int(row["id"])) == [ROWS[0], ROWS[3]]


def csv(at: Place) -> None:
    _is_kept_as_a_file(at, "csv")


def tsv(at: Place) -> None:
    _is_kept_as_a_file(at, "tsv")


def psv(at: Place) -> None:
    _is_kept_as_a_file(at, "psv")


def json(at: Place) -> None:
    _is_kept_as_a_file(at, "json")
