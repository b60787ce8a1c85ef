"""What does a published client do with a table that has no schema, only files?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv

from tests.compat.place import refused

if TYPE_CHECKING:
    from tests.compat.place import Place

TABLE = pa.table({"id": [1, 2, 3], "name": ["x", "y", "z"]})


def it_has_no_schema(at: Place) -> None:
    at.create("t", None)
    assert not at.describe("t").schema
    plan = at.plan("t")
    assert plan.schema is None
    assert plan.schema_serialized is None


def it_lists_no_file_at_first(at: Place) -> None:
    at.create("t", None)
    assert at.read("t").num_rows == 0


def it_lists_its_files(at: Place) -> None:
    at.create("t", None)
    at.write(TABLE, "t", mode="add", format="csv")
    (row,) = at.read("t").to_pylist()
    assert row["path"].endswith(".csv.gz")
    assert row["meta_record_count"] == 3
    assert row["meta_content_type"] == "csv"
    assert row["meta_content_encoding"] == "gzip"
    assert row["meta_content_length"] > 0


def its_files_are_opened_on_request(at: Place) -> None:
    at.create("t", None)
    for format_ in ("parquet", "feather", "orc", "avro", "csv", "tsv", "psv", "json"):
        at.write(TABLE, "t", mode="add", format=format_)
    listed = at.read("t")
    assert listed.num_rows == 8
    found = at.catalog.from_manifest_table(listed, schema=TABLE.schema)
    assert found.num_rows == 24
    assert set(found["name"].to_pylist()) == {"x", "y", "z"}


def it_is_listed_in_every_frame(at: Place) -> None:
    at.create("t", None)
    at.write(TABLE, "t", mode="add", format="json")
    for frame in ("pandas", "polars", "daft"):
        found = at.read("t", read_as=frame)
        columns = found.collect_schema().names() if frame == "polars" else found.columns
        assert "path" in [getattr(column, "name", lambda c=column: c)() for column in columns]


def a_write_makes_one_when_told_so(at: Place) -> None:
    at.write(TABLE, "t", format="csv", create_if_missing={"schema": None})
    assert at.read("t").num_rows == 1
    assert at.plan("t").schema is None


def a_file_given_by_its_path(at: Place) -> None:
    path = str(at.folder / "given.csv")
    pa_csv.write_csv(TABLE, path)
    at.write(path, "t", format="csv", create_if_missing={"schema": None})
    (row,) = at.read("t").to_pylist()
    assert row["path"] == path
    assert row["meta_content_encoding"] == "identity"


def it_takes_appends_and_is_replaced(at: Place) -> None:
    at.create("t", None)
    at.write(TABLE, "t", mode="append", format="json")
    at.write(TABLE, "t", mode="append", format="json")
    assert at.read("t").num_rows == 2
    at.write(TABLE, "t", mode="replace", format="parquet")
    assert at.read("t")["meta_content_type"].to_pylist() == ["parquet"]


def it_takes_no_merge(at: Place) -> None:
    at.create("t", None)
    with refused("schema_validation", 400):
        at.write(TABLE, "t", mode="merge", format="parquet")
