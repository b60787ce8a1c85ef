"""Do updates change some columns of some keys, and nothing else, whatever memory holds?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from io_core.errors import SchemaValidationError
from planner_client import Client
from tests.changed_table import ROWS, WHERE, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUE = pa.scalar(bytes(92), pa.binary(92))


@pytest.fixture
def client(purged: Client) -> Client:
    return purged


@pytest.mark.parametrize("layout", ["keyed", "both"])
def test_some_columns_of_some_keys_change(client: Client, layout: str) -> None:
    make(client, layout, ROWS.append_column("w", pa.array([str(i) for i in range(10)])))
    new = pa.table({"id": [4, 4, 5, 50], "v": [0, 40, None, 500]})
    if layout == "both":
        new = new.append_column("p", pa.array(["a", "a", "b", "c"]))
    done = client.catalog.write(new, **WHERE, update_columns="v")
    assert done.total_records == 3
    found = {row["id"]: row for row in client.catalog.read(**WHERE).to_pylist()}
    assert found[4] == {"id": 4, "p": "a", "v": 40, "w": "4"}
    assert found[5] == {"id": 5, "p": "b", "v": None, "w": "5"}
    assert (found[50]["v"], found[50]["w"]) == (500, None)
    assert found[6]["v"] == 6
    assert len(found) == 11


def test_without_partition_columns_a_key_is_found_in_whichever_partition(client: Client) -> None:
    make(client, "both")
    client.catalog.write(pa.table({"id": [1], "p": ["z"], "v": [0]}), **WHERE)
    client.catalog.write(pa.table({"id": [1], "v": [11]}), **WHERE, update_columns=["v"])
    found = client.catalog.read(**WHERE, filter_predicate="id = 1")
    assert sorted(found.column("p").to_pylist()) == ["b", "z"]
    assert found.column("v").to_pylist() == [11, 11]


@pytest.mark.parametrize("sort", [None, {"keys": [{"key": ["v"], "sort_order": "descending"}]}])
def test_of_an_update_that_memory_does_not_hold_the_last_row_of_a_key_counts(
    client: Client, sort: Any
) -> None:
    schema = pa.schema([("id", pa.int64()), ("v", pa.string())])
    there = pa.table({"id": [1, 2], "v": ["", ""], "w": [10, 20]})
    client.catalog.write(there, **WHERE, merge_keys="id", sort_scheme=sort)

    def parts() -> Iterator[pa.RecordBatch]:
        # 36 MB each: every other one begins a new part.
        for text, ids in (("a", [1, 2, 3]), ("b", [1, 3, 4]), ("z", [3, 1]), ("c", [1])):
            values = [text * (36_000_000 // len(ids)) for _ in ids]
            yield pa.record_batch([pa.array(ids, pa.int64()), values], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, parts())
    client.catalog.write(reader, **WHERE, update_columns="v")
    found = client.catalog.read(**WHERE).sort_by("id")
    assert found.select(["id", "w"]).to_pydict() == {
        "id": [1, 2, 3, 4],
        "w": [10, 20, None, None],
    }
    assert [v[0] for v in found.column("v").to_pylist()] == ["c", "a", "z", "b"]


def test_memory_does_not_grow_with_an_update(tmp_path: Path) -> None:
    client, seen = Client(tmp_path / "catalog"), list[int]()
    schema = pa.schema([("id", pa.int64()), ("v", pa.binary(92))])

    def pieces() -> Iterator[pa.RecordBatch]:
        for start in range(0, 2_000_000, 100_000):
            seen.append(pa.total_allocated_bytes())
            ids = np.arange(start, start + 100_000)
            yield pa.record_batch([ids, pa.repeat(VALUE, 100_000)], schema=schema)

    before = pa.total_allocated_bytes()
    hows: list[dict[str, Any]] = [{"merge_keys": "id"}, {"update_columns": "v"}]
    for how in hows:
        reader = pa.RecordBatchReader.from_batches(schema, pieces())
        done = client.catalog.write(reader, **WHERE, **how, max_rows_per_file=200_000)
        assert done.total_records == 2_000_000
    # A third of the rows is a part, and the rows of a file wait for their end.
    assert max(seen) - before < 100_000_000


@pytest.mark.parametrize("as_reader", [False, True])
def test_keys_in_no_order_are_found_in_every_part(tmp_path: Path, as_reader: bool) -> None:
    client, count = Client(tmp_path / "catalog"), 1_000
    ids = np.random.default_rng(0).permutation(count)
    there = pa.table({"id": np.arange(count), "v": pa.nulls(count, pa.string()), "w": ids})
    client.catalog.write(there, **WHERE, merge_keys="id", max_rows_per_file=200)
    # 100 MB, in two parts; the last of two rows of a key counts.
    values = pa.array([f"{i:04}" * 12_500 for i in range(2 * count)])
    new = pa.table({"id": np.concatenate([ids, ids[::-1]]), "v": values})
    data = pa.RecordBatchReader.from_batches(new.schema, new.to_batches(700)) if as_reader else new
    client.catalog.write(data, **WHERE, update_columns=["v"])
    found = client.catalog.read(**WHERE).sort_by("id")
    last = {id_: f"{2 * count - 1 - i:04}" for i, id_ in enumerate(ids.tolist())}
    texts = pc.utf8_slice_codeunits(found["v"], 0, 4).to_pylist()
    assert texts == [last[i] for i in range(count)]
    assert found["w"].equals(there["w"])


KEYS: dict[str, pa.Array] = {
    "uuid": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([b"0" * 16, b"1" * 16, b"2" * 16], pa.binary(16))
    ),
    "decimal32": pa.array(["1.5", None, "2.5"]).cast(pa.decimal128(5, 2)).cast(pa.decimal32(5, 2)),
    "view": pa.array(["a", None, ""], pa.string_view()),
    "binary view": pa.array([b"a", None, b""], pa.binary_view()),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "bool": pa.array([True, None, False]),
    "nanoseconds": pa.array([1, None, 2], pa.timestamp("ns", "UTC")),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_type_are_found(tmp_path: Path, kind: str) -> None:
    client = Client(tmp_path / "catalog")
    rows = pa.table({"id": KEYS[kind], "v": [1, 2, 3], "w": [10, 20, 30]})
    client.catalog.write(rows, **WHERE, merge_keys="id")
    client.catalog.write(rows.slice(1), **WHERE)
    new = pa.table({"id": KEYS[kind].slice(1), "v": [7, 8]})
    client.catalog.write(new, **WHERE, update_columns="v")
    assert client.catalog.delete(predicate="v = 7", **WHERE).rows_deleted == 1
    found = {row["w"]: row for row in client.catalog.read(**WHERE).to_pylist()}
    one, _, last = KEYS[kind].to_pylist()
    assert found == {10: {"id": one, "v": 1, "w": 10}, 30: {"id": last, "v": 8, "w": 30}}


def test_rows_of_one_key_are_told_apart_by_their_partitions_numbers(client: Client) -> None:
    at = [1.5, 2.5, math.nan, None]
    rows = pa.table({"id": [1, 1, 1, 1], "p": at, "v": [0, 0, 0, 0], "w": [0, 1, 2, 3]})
    client.catalog.write(rows, **WHERE, merge_keys="id", partition_by="p")
    new = pa.table({"id": [1, 1, 1, 1, 1], "p": [None, *at[:3], 3.5], "v": [40, 10, 20, 30, 50]})
    client.catalog.write(new, **WHERE, update_columns=["v"])
    found = client.catalog.read(**WHERE).to_pylist()
    assert {row["w"]: row["v"] for row in found} == {0: 10, 1: 20, 2: 30, 3: 40, None: 50}


@pytest.mark.parametrize(
    ("data", "columns", "mode", "says"),
    [
        ({"id": [1], "v": [1]}, ["nope"], "auto", "nope"),
        ({"id": [1], "v": [1]}, [], "auto", "names no column to change"),
        ({"id": [1]}, ["v"], "auto", "the rows lack v"),
        ({"v": [1]}, ["v"], "auto", "the rows lack id"),
        ({"id": [1], "v": [1]}, ["id"], "auto", "says which row"),
        ({"id": [1], "v": [1], "more": [1]}, ["v"], "auto", "more"),
        ({"id": [1], "v": [1]}, ["v"], "add", "does not go with mode 'add'"),
        ({"id": [1], "v": ["x"]}, ["v"], "merge", "column 'v'"),
    ],
)
def test_an_update_that_cannot_be_is_refused(
    client: Client, data: dict[str, Any], columns: list[str], mode: Any, says: str
) -> None:
    make(client, "keyed")
    with pytest.raises(SchemaValidationError, match=says):
        client.catalog.write(pa.table(data), **WHERE, mode=mode, update_columns=columns)
    assert client.catalog.read(**WHERE).sort_by("id").equals(ROWS)


def test_a_table_without_keys_has_no_updates(client: Client) -> None:
    make(client)
    with pytest.raises(SchemaValidationError, match="has no merge keys"):
        client.catalog.write(ROWS, **WHERE, update_columns=["v"])
