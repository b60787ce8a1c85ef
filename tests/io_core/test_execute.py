"""Are a plan's rows the same with delete sets as merged, and never wrong ones?"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.deletes import encode, union
from io_core.errors import DataFileError, UnsupportedError
from io_core.execute import execute, read_plan
from io_core.formats import parquet
from io_core.key_codes import fingerprint
from io_core.key_files import KeyedFile, codes_of, columns_at, keys_at
from io_core.key_index import KeyIndex, NewFile, kills, rows_at
from io_core.merge_order import merge_plan, ranks
from io_core.plan import FILE_COLUMNS, PlanHeader, ReadPlan
from io_core.predicate import parse
from io_core.schema import encode_schema
from tests.oracle import Commit, answer, canonical, rows_of, table_of
from tests.strategies import TableSpec, histories, queries, specs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from io_core.deletes import Positions
    from io_core.key_index import Locations
    from io_core.merge_order import OrderKey

BOTH_OF_TWO = encode(np.array([0, 1], np.uint32), 2)
KEYED = TableSpec(pa.schema([("k", pa.int64()), ("v", pa.string())]), ("k",))


def planned(folder: Path, spec: TableSpec, history: Sequence[Commit]) -> ReadPlan:
    """The history as files, one per commit and partition, and the plan that lists them all."""
    listed: list[dict[str, Any]] = []
    for position, commit in enumerate(history, start=1):
        is_delete = commit.mode == "delete"
        names = spec.partition_columns
        for place in dict.fromkeys(tuple(row[n] for n in names) for row in commit.rows):
            rows = [row for row in commit.rows if tuple(row[n] for n in names) == place]
            table = table_of(rows, spec.delete_schema if is_delete else spec.schema)
            path = f"{folder}/{len(listed)}.parquet"
            parquet.write(table, path)
            listed.append(
                {
                    "path": path,
                    "content_type": "parquet",
                    "record_count": len(rows),
                    "delta_type": "delete" if is_delete else "upsert",
                    "stream_position": position,
                    "partition_id": repr(place),
                    "residual": True,
                }
            )
    order = list(dict.fromkeys(file["partition_id"] for file in listed))
    listed.sort(key=lambda file: order.index(file["partition_id"]))
    header = PlanHeader(
        "ns",
        "t",
        schema_serialized=encode_schema(spec.schema),
        merge_keys=list(spec.merge_keys),
        requires_mor=True,
        mor_plan=merge_plan(spec.schema),
    )
    return ReadPlan(header, pa.Table.from_pylist(listed, schema=FILE_COLUMNS))


def with_sets(plan: ReadPlan, sets: Sequence[bytes | None]) -> ReadPlan:
    index = plan.files.schema.get_field_index("deletes")
    held = pa.array(sets, pa.binary())
    return ReadPlan(plan.header, plan.files.set_column(index, "deletes", held))


def keys_in(files: list[KeyedFile], ordinal: int, places: Positions) -> pa.Table:
    return keys_at(files[ordinal], places)


def order_in(
    files: list[KeyedFile], order: Sequence[OrderKey], ordinal: int, places: Positions
) -> pa.Table:
    return columns_at(files[ordinal], [key.column for key in order], places)


def rank(files: list[KeyedFile], order: Sequence[OrderKey], locations: Locations) -> Locations:
    return ranks(rows_at(locations, functools.partial(order_in, files, order)), order)


def delete_sets(plan: ReadPlan) -> list[bytes | None]:
    """What each file's rows lost by, commit by commit, as a planner computes it; null for deletes."""
    sets: list[bytes | None] = []
    for group in plan.groups():
        rows = group.files.to_pylist()
        files = [
            KeyedFile(r["path"], r["record_count"], plan.schema, plan.merge_keys) for r in rows
        ]
        name = fingerprint(plan.schema, plan.merge_keys)
        index, dead = KeyIndex(name), [b""] * len(rows)

        fetch = functools.partial(keys_in, files)
        by = functools.partial(rank, files, plan.merge_order) if plan.merge_order else None
        for i, row in enumerate(rows):
            new = NewFile(i, codes_of(files[i]), row["delta_type"] == "delete")
            done = kills(index, row["stream_position"], name, [new], fetch, by)
            index = done.after
            for ordinal, places in done.positions.items():
                records = rows[ordinal]["record_count"]
                dead[ordinal] = union([dead[ordinal], encode(places, records)], records)
        kinds = [r["delta_type"] for r in rows]
        sets += [None if k == "delete" else d for k, d in zip(kinds, dead, strict=True)]
    return sets


def paged(plan: ReadPlan) -> ReadPlan:
    return ReadPlan(msgspec.structs.replace(plan.header, truncated=True), plan.files)


@pytest.fixture
def plan(tmp_path: Path) -> ReadPlan:
    history = [
        Commit("merge", ({"k": 1, "v": "a"}, {"k": 2, "v": "b"}, {"k": None, "v": "c"})),
        Commit("merge", ({"k": 2, "v": "d"}, {"k": 3, "v": "e"})),
        Commit("delete", ({"k": 3}, {"k": None})),
        Commit("merge", ({"k": 3, "v": "f"},)),
    ]
    return planned(tmp_path, KEYED, history)


@given(st.data())
def test_rows_are_the_same_with_delete_sets_and_without(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    spec = data.draw(specs(keyed=True))
    history = data.draw(histories(spec))
    query = data.draw(queries(spec.schema))
    plan = planned(tmp_path_factory.mktemp("plan"), spec, history)
    options: dict[str, Any] = {
        "columns": query.columns,
        "predicate": parse(query.ast),
        "row_limit": query.limit,
        "row_offset": query.offset,
    }
    sets = delete_sets(plan)
    # Some partitions come with their sets, the others merge.
    some = [None if data.draw(st.booleans()) else s for s in sets]
    wanted = answer(
        spec.table().apply(history),
        spec.schema,
        ast=query.ast,
        columns=query.columns,
        limit=query.limit,
        offset=query.offset,
    )
    for asked in (plan, with_sets(plan, sets), with_sets(plan, some)):
        found = rows_of(read_plan(asked, **options))
        assert canonical(found, ordered=True) == canonical(wanted, ordered=True)


def test_with_delete_sets_neither_delete_files_nor_wholly_dead_ones_are_opened(
    plan: ReadPlan,
) -> None:
    sets = delete_sets(plan)
    sets[1], sets[2] = BOTH_OF_TWO, b""
    paths = ["missing" if i in {1, 2} else path for i, path in enumerate(plan.paths)]
    moved = ReadPlan(plan.header, plan.files.set_column(0, "path", pa.array(paths)))
    rows = read_plan(with_sets(moved, sets))
    assert rows.to_pylist() == [{"k": 1, "v": "a"}, {"k": 3, "v": "f"}]


@pytest.mark.parametrize(
    ("first", "end", "wanted"), [(0, 2, [1]), (1, 3, [None]), (1, 2, []), (0, 3, [1, None])]
)
def test_a_part_of_a_file_leaves_out_its_own_dead_rows(
    plan: ReadPlan, first: int, end: int, wanted: list[int | None]
) -> None:
    second = encode(np.array([1], np.uint32), 3)
    part = with_sets(ReadPlan(plan.header, plan.files.slice(0, 1)), [second]).files
    part = part.append_column("first_row", pa.array([first], pa.int64()))
    part = part.append_column("end_row", pa.array([end], pa.int64()))
    assert read_plan(ReadPlan(plan.header, part)).column("k").to_pylist() == wanted


def test_with_delete_sets_a_page_is_read_by_itself(plan: ReadPlan) -> None:
    sets = delete_sets(plan)
    first = paged(with_sets(plan, sets))
    assert read_plan(ReadPlan(first.header, first.files.slice(0, 1))).to_pylist() == [
        {"k": 1, "v": "a"}
    ]
    with pytest.raises(UnsupportedError, match="one page of a table whose rows merge"):
        read_plan(paged(with_sets(plan, [None, *sets[1:]])))
    with pytest.raises(UnsupportedError, match="one page of a table whose rows merge"):
        read_plan(paged(plan))


def test_keys_are_not_read_with_delete_sets(plan: ReadPlan) -> None:
    sets = delete_sets(plan)
    path = plan.paths[0]
    table = pa.table({"v": ["a", "b", "c"]})
    other = path.replace("0.parquet", "without-keys.parquet")
    parquet.write(table, other)
    files = plan.files.set_column(0, "path", pa.array([other, *plan.paths[1:]]))
    rows = read_plan(with_sets(ReadPlan(plan.header, files), sets), columns=["v"])
    assert rows.column("v").to_pylist() == ["a", "d", "f"]


def test_a_delete_set_of_another_file_drops_no_row(plan: ReadPlan) -> None:
    sets = delete_sets(plan)
    sets[0] = encode(np.array([0, 1], np.uint32), 40)
    with pytest.raises(DataFileError, match=r"0\.parquet does not fit its delete set.*40 rows"):
        read_plan(with_sets(plan, sets))


def read_by(plan: ReadPlan, folder: Path, by: Sequence[str], rows: pa.Table) -> pa.Table:
    """The plan's rows with a last delete by some columns."""
    path = f"{folder}/by-{'-'.join(by)}.parquet"
    parquet.write(rows, path)
    delete = {
        "path": path,
        "content_type": "parquet",
        "record_count": len(rows),
        "delta_type": "delete",
        "stream_position": 99,
        "partition_id": plan.column("partition_id")[0],
        "delete_columns": json.dumps(by),
    }
    listed = pa.Table.from_pylist([delete], schema=FILE_COLUMNS)
    return read_plan(ReadPlan(plan.header, pa.concat_tables([plan.files, listed])))


def test_a_delete_by_other_columns_is_read_beside_the_merge(plan: ReadPlan, tmp_path: Path) -> None:
    found = read_by(plan, tmp_path, ["v"], pa.table({"v": ["a", "b"]}))
    assert found.to_pylist() == [{"k": 2, "v": "d"}, {"k": 3, "v": "f"}]
    found = read_by(plan, tmp_path, ["v", "k"], pa.table({"k": [2, 3], "v": ["d", "d"]}))
    assert found.column("k").to_pylist() == [1, 3]


@pytest.mark.parametrize("by", [["k"], ["v"], ["v", "k"]])
def test_a_delete_that_lacks_a_column_it_matches_by_deletes_nothing_in_silence(
    plan: ReadPlan, tmp_path: Path, by: list[str]
) -> None:
    with pytest.raises(DataFileError, match=r"lacks the column '[kv]'"):
        read_by(plan, tmp_path, by, pa.table({"w": [1]}))


def test_a_file_that_lacks_its_key_is_damaged(plan: ReadPlan, tmp_path: Path) -> None:
    path = f"{tmp_path}/keyless.parquet"
    parquet.write(pa.table({"v": ["a"]}), path)
    files = plan.files.set_column(0, "path", pa.array([path, *plan.paths[1:]]))
    with pytest.raises(DataFileError, match="lacks the column 'k'"):
        read_plan(
            ReadPlan(plan.header, files.set_column(4, "record_count", pa.array([1, 2, 2, 1])))
        )


def test_rows_come_batch_by_batch_and_files_behind_the_limit_stay_closed(tmp_path: Path) -> None:
    count = 3 * parquet.ROW_GROUP_ROWS
    rows = pa.table({"k": np.arange(count), "v": pa.array(["x"] * count)})
    parquet.write(rows, f"{tmp_path}/0.parquet")
    listed = {
        "path": f"{tmp_path}/0.parquet",
        "content_type": "parquet",
        "record_count": count,
        "delta_type": "upsert",
        "stream_position": 1,
        "partition_id": "p",
        "deletes": b"",
    }
    behind = {**listed, "path": "missing", "stream_position": 2}
    files = pa.Table.from_pylist([listed, behind], schema=FILE_COLUMNS)
    header = PlanHeader(
        "ns",
        "t",
        schema_serialized=encode_schema(KEYED.schema),
        merge_keys=["k"],
        requires_mor=True,
    )
    pieces = list(execute(ReadPlan(header, files), row_limit=count))
    assert [len(piece) for piece in pieces if len(piece)] == [parquet.ROW_GROUP_ROWS] * 3
    assert list(execute(ReadPlan(header, files), row_limit=0)) == []


def test_of_a_partition_whose_keys_are_not_asked_for_no_row_is_read(
    plan: ReadPlan, tmp_path: Path
) -> None:
    damaged = f"{tmp_path}/keys-alone.parquet"
    parquet.write(pa.table({"k": pa.array([1, 2, None], pa.int64())}), damaged)
    files = plan.files.set_column(0, "path", pa.array([damaged, *plan.paths[1:]]))
    asked = ReadPlan(plan.header, files)
    found = read_plan(asked, predicate=parse({"eq": ["k", 3]}))
    assert found.to_pylist() == [{"k": 3, "v": "f"}]
    assert read_plan(asked, predicate=parse({"gt": ["k", 7]})).num_rows == 0
