"""Are only those rows of a Parquet file left out that nobody wants, and are those left out?"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from io_core import deletes, formats
from io_core.errors import DataFileError
from io_core.execute import read_plan
from io_core.formats import FileRef, Selection, parquet
from io_core.plan import FILE_COLUMNS, PlanHeader, ReadPlan
from io_core.predicate import bind, parse
from io_core.predicate_arrow import to_arrow
from io_core.schema import encode_schema, without_views
from tests.oracle import Row, canonical, matches, rows_of, table_of
from tests.tapes import ALL_TYPES, Tape, examples, tapes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from io_core.prune import Mask

NAN = float("nan")
# Any: the JSON AST.
Ast = dict[str, Any]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 4)


def selection(ast: Ast | None, schema: pa.Schema, live: Mask | None = None) -> Selection:
    parsed = None if ast is None else parse(ast)
    bound = None if parsed is None else bind(parsed, schema)
    return Selection(schema, {name: name for name in schema.names}, bound, live)


def read_rows(file: FileRef) -> dict[int, Row]:
    """What is read, by its number among the rows that are asked for."""
    found: dict[int, Row] = {}
    for first, piece in formats.read_pieces(file):
        found |= dict(enumerate(rows_of(piece), first))
    return found


def written(tape: Tape, table: pa.Table, path: str) -> None:
    """The table as a file of ours, or of a writer that says less."""
    if os.path.exists(path):
        os.unlink(path)
    if tape.chance(2):
        parquet.write(table, path)
        return
    pq.write_table(
        table,
        path,
        row_group_size=1 + tape.below(5),
        write_statistics=tape.pick([True, True, False, list(table.schema.names[:1])]),
        store_schema=tape.pick([True, False]),
    )


# Text and bytes are as they are; the others are wider in the table than in the file.
WIDER = {
    pa.int8(): pa.int32(),
    pa.int32(): pa.int64(),
    pa.uint8(): pa.uint16(),
    pa.float32(): pa.float64(),
    pa.string(): pa.large_string(),
    pa.timestamp("ms"): pa.timestamp("us"),
    pa.decimal128(12, 3): pa.decimal128(20, 3),
}


def in_table(tape: Tape, field: pa.Field) -> pa.Field:
    """The column as its table has it."""
    dtype = WIDER.get(field.type, field.type) if tape.chance(2) else field.type
    return field.with_type(without_views(dtype))


@settings(examples(400), suppress_health_check=list(HealthCheck))
@given(tapes(400))
def test_every_row_that_is_wanted_is_read_whatever_the_writer_says(
    tmp_path: Path, tape: Tape
) -> None:
    stored = tape.schema(list(ALL_TYPES), 2)
    rows = [row for _ in range(4) for row in tape.rows(stored, 6)]
    path = f"{tmp_path}/a.parquet"
    table = table_of(rows, stored)
    written(tape, table.append_column("number", pa.array(range(len(rows)))), path)
    schema = pa.schema([in_table(tape, field) for field in stored])
    for _ in range(4):
        start = tape.below(len(rows)) if tape.chance(2) else 0
        cut = range(start, start + 1 + tape.below(len(rows) - start)) if start else None
        asked = rows if cut is None else rows[cut.start : cut.stop]
        live = np.array([not tape.chance(2) for _ in asked]) if tape.chance(2) else None
        ast = tape.ast(stored)
        wanted = selection(ast, schema, live)
        found = read_rows(FileRef(path, records=len(rows), rows=cut, wanted=wanted))
        for number, row in enumerate(asked):
            if (live is None or live[number]) and matches(ast, row, schema):
                assert number in found, (ast, row)
        before = 0 if cut is None else cut.start
        assert all(row["number"] == before + number for number, row in found.items())


def test_row_groups_without_a_match_are_not_read(tmp_path: Path) -> None:
    table = pa.table({"x": range(40), "t": [f"{i:02}" for i in range(40)]})
    path = f"{tmp_path}/a.parquet"
    parquet.write(table, path)
    asked: list[tuple[Ast, Sequence[int]]] = [
        ({"eq": ["x", 17]}, range(16, 20)),
        ({"and": [{"gte": ["x", 6]}, {"lt": ["t", "12"]}]}, range(4, 12)),
        ({"in": ["t", ["00", "39"]]}, [*range(4), *range(36, 40)]),
        ({"gt": ["x", 99]}, []),
        ({"is_null": "x"}, []),
        ({"not": {"between": ["x", 4, 35]}}, [*range(4), *range(36, 40)]),
    ]
    for ast, wanted in asked:
        found = read_rows(FileRef(path, records=40, wanted=selection(ast, table.schema)))
        assert list(found) == list(wanted), ast


def test_row_groups_whose_rows_are_all_dead_are_not_read(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.parquet"
    table = pa.table({"x": range(20)})
    parquet.write(table, path)
    live = np.zeros(20, np.bool_)
    live[[5, 19]] = True
    wanted = selection(None, table.schema, live)
    assert list(read_rows(FileRef(path, records=20, wanted=wanted))) == [
        *range(4, 8),
        *range(16, 20),
    ]
    part = selection({"lt": ["x", 18]}, table.schema, live[3:9])
    found = read_rows(FileRef(path, records=20, rows=range(3, 9), wanted=part))
    assert list(found) == [1, 2, 3, 4]


def test_few_bytes_are_read_of_a_file_of_which_few_rows_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 4_000)
    noise = np.random.default_rng(1).random(400_000)
    table = pa.table({"x": range(400_000), "f": noise})
    parquet.write(table, f"{tmp_path}/a.parquet")
    plan = plan_of([f"{tmp_path}/a.parquet"], table.schema, [400_000])
    taken: dict[str, int] = {}
    # First once, for what is imported by the way.
    for name, ast in [("first", {"eq": ["x", 7]}), ("one", {"eq": ["x", 2_001]}), ("all", None)]:
        before = bytes_read()
        rows = read_plan(plan, predicate=None if ast is None else parse(ast))
        taken[name] = bytes_read() - before
        assert rows.num_rows == (400_000 if ast is None else 1)
    assert taken["one"] < taken["all"] / 20


def bytes_read() -> int:
    """What this process asked its files for."""
    with open("/proc/self/io", encoding="ascii") as counts:
        return int(counts.readline().split()[1])


def test_nan_is_above_every_bound_of_a_footer(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.parquet"
    table = pa.table({"f": [1.0, NAN, 2.0, 0.5, 7.0, 7.0, 7.0, 7.0]})
    parquet.write(table, path)
    wanted = selection({"gt": ["f", 5]}, table.schema)
    assert list(read_rows(FileRef(path, records=8, wanted=wanted))) == list(range(8))
    wanted = selection({"lt": ["f", 0.6]}, table.schema)
    assert list(read_rows(FileRef(path, records=8, wanted=wanted))) == list(range(4))


def test_a_column_that_the_file_lacks_rules_nothing_out(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.parquet"
    parquet.write(pa.table({"x": range(8)}), path)
    schema = pa.schema([("x", pa.int64()), ("later", pa.int64())])
    wanted = selection({"and": [{"is_null": "later"}, {"lt": ["x", 3]}]}, schema)
    assert list(read_rows(FileRef(path, records=8, wanted=wanted))) == list(range(4))


def test_a_column_of_another_kind_than_the_tables_rules_nothing_out(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.parquet"
    pq.write_table(pa.table({"x": pa.array(range(8), pa.int64())}), path, row_group_size=4)
    for dtype, ast in [(pa.timestamp("us"), {"lt": ["x", "1970-01-01"]}), (pa.string(), {"lt": ["x", ""]})]:  # fmt: skip
        wanted = selection(ast, pa.schema([("x", dtype)]))
        assert len(read_rows(FileRef(path, records=8, wanted=wanted))) == 8


def test_rows_that_are_left_out_count_as_the_files(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.parquet"
    table = pa.table({"x": range(12)})
    parquet.write(table, path)
    wanted = selection({"eq": ["x", 1]}, table.schema)
    for records in (11, 13):
        with pytest.raises(DataFileError, match=f"instead of {records}"):
            read_rows(FileRef(path, records=records, wanted=wanted))
    assert formats.read(FileRef(path, records=12, wanted=wanted), []).num_rows == 4


def plan_of(
    paths: list[str],
    schema: pa.Schema,
    records: list[int],
    *,
    keys: list[str] | None = None,
    sets: list[bytes] | None = None,
) -> ReadPlan:
    rows = [
        {
            "path": path,
            "content_type": "parquet",
            "record_count": count,
            "delta_type": "upsert" if keys else "append",
            "stream_position": position,
            "partition_id": "p",
            "deletes": None if sets is None else sets[position],
        }
        for position, (path, count) in enumerate(zip(paths, records, strict=True))
    ]
    header = PlanHeader(
        "ns", "t", schema_serialized=encode_schema(schema), merge_keys=keys, requires_mor=bool(keys)
    )
    return ReadPlan(header, pa.Table.from_pylist(rows, schema=FILE_COLUMNS))


@pytest.mark.parametrize("known", [False, True], ids=["merged", "with delete sets"])
def test_no_row_group_of_newer_rows_is_ruled_out_by_another_column_than_the_keys(
    tmp_path: Path, *, known: bool
) -> None:
    schema = pa.schema([("k", pa.int64()), ("v", pa.int64())])
    old = pa.table({"k": range(12), "v": [1] * 12}, schema=schema)
    new = pa.table({"k": [3, 8], "v": [2, 2]}, schema=schema)
    paths = [f"{tmp_path}/{name}.parquet" for name in ("old", "new")]
    for table, path in zip((old, new), paths, strict=True):
        parquet.write(table, path)
    sets = [deletes.encode(np.array([3, 8], np.uint32), 12), b""] if known else None
    plan = plan_of(paths, schema, [12, 2], keys=["k"], sets=sets)
    for column, value, wanted in [
        ("v", 1, [k for k in range(12) if k not in {3, 8}]),
        ("v", 2, [3, 8]),
        ("k", 8, [8]),
    ]:
        found = read_plan(plan, columns=["k"], predicate=parse({"eq": [column, value]}))
        assert sorted(found["k"].to_pylist()) == wanted


@settings(examples(100), suppress_health_check=list(HealthCheck))
@given(tapes(300))
def test_a_merged_read_with_a_predicate_is_the_whole_read_filtered(
    tmp_path: Path, tape: Tape
) -> None:
    types = [pa.int64(), pa.string(), pa.float64(), pa.date32()]
    schema = pa.schema([("k", pa.int64()), ("a", tape.pick(types)), ("b", tape.pick(types))])
    paths, counts = [f"{tmp_path}/{next(_NUMBERS)}.parquet" for _ in range(3)], []
    for path in paths:
        rows = [row for _ in range(3) for row in tape.rows(schema, 5)]
        parquet.write(table_of(rows, schema), path)
        counts.append(len(rows))
    plan = plan_of(paths, schema, counts, keys=["k"] if tape.chance(2) else None)
    whole = read_plan(plan)
    for _ in range(5):
        predicate = parse(tape.ast(schema))
        assert predicate is not None
        said = to_arrow(bind(predicate, schema), schema)
        found, wanted = read_plan(plan, predicate=predicate), whole.filter(said.expression)
        assert canonical(rows_of(found), ordered=True) == canonical(rows_of(wanted), ordered=True)


_NUMBERS = itertools.count()
