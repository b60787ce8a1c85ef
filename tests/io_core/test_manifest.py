"""Are a schemaless table's files listed as they are, and their rows read in the files' order?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from io_core import formats
from io_core.errors import DataFileError, SchemaValidationError
from io_core.execute import read_plan
from io_core.manifest import from_manifest_table, manifest_table
from io_core.plan import FILE_COLUMNS, PlanHeader, ReadPlan
from io_core.predicate import parse

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["csv", "json", "parquet", "avro", "feather"]
SCHEMA = pa.schema([("n", pa.int64()), ("t", pa.string())])


@pytest.fixture
def plan(tmp_path: Path) -> ReadPlan:
    listed = []
    for number, kind in enumerate(KINDS):
        path = f"{tmp_path}/{formats.file_name(kind)}"
        rows = pa.table({"n": [number, None], "t": [kind, ""]}, schema=SCHEMA)
        entry = formats.write(rows, path, kind)
        listed.append(
            {
                "path": path,
                "content_type": kind,
                "content_encoding": entry.content_encoding or "identity",
                "content_length": entry.content_length,
                "record_count": 2,
                "stream_position": number + 1,
            }
        )
    return ReadPlan(PlanHeader("ns", "t"), pa.Table.from_pylist(listed, schema=FILE_COLUMNS))


def test_a_manifest_table_has_the_protocols_columns_in_file_order(plan: ReadPlan) -> None:
    table = manifest_table(plan)
    assert table.schema.names == [
        "id",
        "mandatory",
        "meta_content_encoding",
        "meta_content_length",
        "meta_content_type",
        "meta_record_count",
        "meta_source_content_length",
        "path",
        "stream_position",
    ]
    assert table.column("meta_content_type").to_pylist() == KINDS
    assert table.column("path").to_pylist() == plan.paths
    assert table.column("stream_position").to_pylist() == [1, 2, 3, 4, 5]


def test_a_schemaless_plan_reads_as_its_manifest_table(plan: ReadPlan) -> None:
    assert read_plan(plan) == manifest_table(plan)
    kept = read_plan(
        plan,
        columns=["path", "stream_position"],
        predicate=parse({"gt": ["stream_position", 2]}),
        row_limit=2,
        row_offset=1,
    )
    assert kept == manifest_table(plan).select(["path", "stream_position"]).slice(3, 2)
    assert read_plan(ReadPlan(plan.header, plan.files.slice(0, 0))).num_columns == 0
    with pytest.raises(SchemaValidationError, match="'n'"):
        read_plan(plan, columns=["n"])


def test_no_file_is_a_table_without_columns(plan: ReadPlan) -> None:
    empty = ReadPlan(plan.header, plan.files.slice(0, 0))
    assert manifest_table(empty).num_columns == 0
    assert from_manifest_table(manifest_table(empty)).num_columns == 0
    assert from_manifest_table(manifest_table(empty), schema=SCHEMA).schema.names == ["n", "t"]


def test_files_of_mixed_formats_are_read_in_row_order(plan: ReadPlan) -> None:
    found = from_manifest_table(manifest_table(plan), schema=SCHEMA)
    assert found.to_pylist() == [
        row for i, kind in enumerate(KINDS) for row in ({"n": i, "t": kind}, {"n": None, "t": ""})
    ]
    assert from_manifest_table(manifest_table(plan), schema=SCHEMA, columns=["t"]).to_pydict() == {
        "t": [text for kind in KINDS for text in (kind, "")]
    }


def test_bare_names_do_too_and_a_filtered_table_reads_its_files_only(plan: ReadPlan) -> None:
    table = manifest_table(plan)
    bare = table.rename_columns([name.removeprefix("meta_") for name in table.schema.names])
    assert from_manifest_table(bare.slice(2, 1), schema=SCHEMA).column("n").to_pylist() == [2, None]


def test_without_a_schema_columns_take_the_widest_type(tmp_path: Path) -> None:
    paths = [f"{tmp_path}/{number}.parquet" for number in range(2)]
    formats.write(pa.table({"a": pa.array([1], pa.int32())}), paths[0])
    formats.write(pa.table({"a": [2.5], "b": ["x"]}), paths[1])
    found = from_manifest_table(pa.table({"path": paths}))
    assert found.to_pydict() == {"a": [1.0, 2.5], "b": [None, "x"]}
    assert from_manifest_table(pa.table({"path": paths}), columns=["b"]).to_pydict() == {
        "b": [None, "x"]
    }


def test_columns_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    paths = [f"{tmp_path}/{number}.parquet" for number in range(2)]
    formats.write(pa.table({"a": [1]}), paths[0])
    formats.write(pa.table({"a": ["x"]}), paths[1])
    with pytest.raises(SchemaValidationError, match="schema="):
        from_manifest_table(pa.table({"path": paths}))


@pytest.mark.parametrize("path", [None, ""])
def test_a_row_without_a_path_is_refused(path: str | None) -> None:
    with pytest.raises(SchemaValidationError, match="row 0"):
        from_manifest_table(pa.table({"path": pa.array([path], pa.string())}))


def test_a_missing_file_is_named_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="row 0 of a manifest table"):
        from_manifest_table(pa.table({"path": [str(tmp_path / "gone")]}))
