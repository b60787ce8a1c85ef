"""Are the keys beside a data file those in it, and passed over where they are not?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import DataFileError
from io_core.formats import parquet
from io_core.key_files import KeyedFile, codes_of, key_path, keys_at, write_keys
from io_core.model import TableRef
from io_core.schema import assign_field_ids, without_views
from io_core.sink import Sink
from planner_client import Client
from tests.oracle import table_of
from tests.strategies import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_TYPES = [*(t for t in TYPES if not pa.types.is_floating(t)), pa.string_view()]
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string()), ("v", pa.int8())])
ROWS = pa.table(
    [[3, 1, None, 2, 3], ["x", None, "", "é" * 40, "y"], [1, 2, 3, 4, 5]], schema=SCHEMA
)
PLACES = np.array([1, 3, 4], np.uint32)


def keyed(path: str, *keys: str, schema: pa.Schema = SCHEMA, records: int | None = 5) -> KeyedFile:
    return KeyedFile(path, records, schema, keys)


@pytest.fixture(params=[("a",), ("b",), ("b", "a")], ids="+".join)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> KeyedFile:
    """A data file with its keys beside it."""
    found = keyed(str(tmp_path / "f.parquet"), *request.param)
    parquet.write(ROWS, found.path)
    write_keys(found, ROWS)
    return found


def codes_without_key_file(file: KeyedFile) -> list[int]:
    os.unlink(key_path(file.path))
    return list(codes_of(file).codes.tolist())


@given(st.data(), st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=3))
def test_keys_beside_a_file_are_those_in_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, types: list[pa.DataType]
) -> None:
    schema = pa.schema([(str(i), without_views(t)) for i, t in enumerate(types)])
    pools = [TYPES[pa.string() if t == pa.string_view() else t] for t in types]
    row = st.tuples(*(st.sampled_from([*pool, None]) for pool in pools))
    drawn = data.draw(st.lists(row, min_size=1, max_size=9))
    rows = table_of([dict(zip(schema.names, r, strict=True)) for r in drawn], schema)
    stored = pa.schema(list(zip(schema.names, types, strict=True)))
    found = KeyedFile(
        str(tmp_path_factory.mktemp("f") / "f"), len(rows), stored, tuple(stored.names)
    )
    parquet.write(rows.cast(stored), found.path)
    write_keys(found, rows.cast(stored))
    places = np.array(sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)))), np.uint32)
    beside, keys = codes_of(found), keys_at(found, places)
    os.unlink(key_path(found.path))
    assert (beside.codes.tolist(), beside.exact) == (codes_of(found).codes.tolist(), beside.exact)
    assert keys.equals(keys_at(found, places))
    assert keys.equals(rows.take(places))


def test_with_keys_beside_it_a_data_file_is_not_opened(file: KeyedFile) -> None:
    codes, exact = codes_of(file)
    expected = codes.tolist(), exact, keys_at(file, PLACES)
    os.truncate(file.path, 0)
    codes, exact = codes_of(file)
    assert (codes.tolist(), exact) == expected[:2]
    if not exact:
        assert keys_at(file, PLACES).equals(expected[2])


def test_keys_whose_type_has_no_codes_leave_no_file(tmp_path: Path) -> None:
    schema = pa.schema([("k", pa.month_day_nano_interval())])
    found = keyed(str(tmp_path / "f.parquet"), "k", schema=schema)
    write_keys(found, schema.empty_table())
    assert os.listdir(tmp_path) == []


def cut(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 20)


def empty(path: str) -> None:
    os.truncate(path, 0)


def other(path: str) -> None:
    pq.write_table(ROWS, path)


def foreign(path: str) -> None:
    with pa.ipc.new_file(path, SCHEMA) as writer:
        writer.write_table(ROWS)


@pytest.mark.parametrize("spoil", [cut, empty, other, foreign, os.unlink])
def test_what_is_no_key_file_is_passed_over(file: KeyedFile, spoil: Callable[[str], None]) -> None:
    expected = codes_of(file).codes.tolist()
    spoil(key_path(file.path))
    assert codes_of(file).codes.tolist() == expected
    assert keys_at(file, PLACES).equals(ROWS.take([1, 3, 4]).select(file.merge_keys))


def test_no_changed_byte_gives_other_keys_or_reads_beyond_them(file: KeyedFile) -> None:
    with open(key_path(file.path), "rb") as opened:
        raw = opened.read()
    codes = codes_of(file).codes.tolist()
    keys = keys_at(file, PLACES)
    # Every byte would take long, and every field is longer than five or near a longer one.
    for i in range(0, len(raw), 5):
        with open(key_path(file.path), "wb") as opened:
            opened.write(raw[:i] + bytes([raw[i] ^ 0xFF]) + raw[i + 1 :])
        assert codes_of(file).codes.tolist() == codes
        assert keys_at(file, PLACES).equals(keys)


@pytest.mark.parametrize(
    "use",
    [
        lambda f: keyed(f.path, *reversed(f.merge_keys), "v"),
        lambda f: keyed(f.path, *f.merge_keys, schema=assign_field_ids(SCHEMA)),
    ],
    ids=["other keys", "other columns"],
)
def test_keys_of_another_table_are_passed_over(
    file: KeyedFile, use: Callable[[KeyedFile], KeyedFile]
) -> None:
    asked = use(file)
    beside = codes_of(asked).codes.tolist()
    assert beside == codes_without_key_file(asked)


def test_keys_of_another_number_of_rows_are_passed_over(file: KeyedFile) -> None:
    write_keys(file, ROWS.slice(1))
    beside = codes_of(file).codes.tolist()
    assert beside == codes_without_key_file(file)


def test_a_file_of_a_narrower_type_has_the_codes_of_the_tables(tmp_path: Path) -> None:
    found = keyed(str(tmp_path / "f.parquet"), "a", "b")
    wide = codes_of_rows(found, ROWS)
    os.unlink(found.path)
    narrow = ROWS.set_column(0, "a", ROWS.column("a").cast(pa.int8()))
    assert codes_of_rows(found, narrow) == wide


def codes_of_rows(file: KeyedFile, rows: pa.Table) -> list[int]:
    parquet.write(rows, file.path)
    return list(codes_of(file).codes.tolist())


def test_a_data_file_without_a_key_column_or_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "f.parquet")
    parquet.write(ROWS.select(["a", "v"]), path)
    with pytest.raises(DataFileError, match="lacks the column 'b'"):
        codes_of(keyed(path, "a", "b"))
    with pytest.raises(DataFileError, match="has 5 rows instead of 6"):
        codes_of(keyed(path, "a", records=6))
    with pytest.raises(DataFileError, match="is missing"):
        codes_of(keyed(path + "x", "a"))


@pytest.mark.parametrize("mode", ["merge", "delete"])
def test_a_sink_leaves_the_keys_of_a_keyed_table_and_removes_them_when_aborted(
    tmp_path: Path, mode: str
) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.create_table(
        namespace="ns",
        table="t",
        schema=SCHEMA,
        merge_keys=["b"],
        partition_scheme={"keys": [{"key": ["v"]}]},
        auto_create_namespace=True,
    )
    sink = Sink(TableRef("ns", "t"), client, "delete" if mode == "delete" else "merge").open()
    entries = sink.write(ROWS)
    schema = client.catalog.plan(namespace="ns", table="t").schema
    for entry in entries:
        file = KeyedFile(entry.path, entry.record_count, schema, ("b",))
        os.rename(entry.path, f"{entry.path}.away")
        assert len(codes_of(file).codes) == entry.record_count
        assert keys_at(file, np.array([0], np.uint32)).num_rows == 1
    sink.abort("only a test")
    assert not os.path.exists(sink.session.data_dir)
