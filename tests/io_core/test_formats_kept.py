"""Do files of every format have the rows, columns, statistics, headers and encodings they should?"""

from __future__ import annotations

import bz2
import gzip
import os
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from io_core.errors import DataFileError, SchemaValidationError, UnsupportedError
from io_core.formats import (
    CONTENT_TYPES,
    FileRef,
    content_type_of,
    file_name,
    read,
    read_batches,
    schema_of_file,
    write,
)
from io_core.formats.statistics import count_columns
from io_core.literal import load_array
from io_core.model import ColumnStats
from io_core.schema import FIELD_ID
from tests.same_rows import assert_same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS = list(CONTENT_TYPES)
TYPED = [name for name, kind in CONTENT_TYPES.items() if kind.has_types]
DELIMITED = ["csv", "tsv", "psv", "unescaped_tsv"]
NAN = float("nan")

# --- pieces, columns, rows ------------------------------------------------------------------------

TABLE = pa.table({"a": [1, 2, None], "b": ["x", "", None], "c": [1.5, NAN, None]})


def written(folder: Path, kind: str, table: pa.Table = TABLE) -> FileRef:
    path = f"{folder}/{uuid.uuid4().hex}{file_name(kind)}"
    entry = write(table, path, kind)
    return FileRef(path, kind, entry.content_encoding, table.num_rows, "the plan", table.schema)


PLAIN = [kind for kind in FORMATS if kind != "unescaped_tsv"]


@pytest.mark.parametrize("kind", PLAIN)
def test_columns_come_in_the_order_asked_for_and_unknown_ones_are_left_out(
    tmp_path: Path, kind: str
) -> None:
    found = read(written(tmp_path, kind), ["c", "other", "a"])
    assert_same(found, TABLE.select(["c", "a"]))


@pytest.mark.parametrize("kind", PLAIN)
def test_no_column_still_has_its_rows(tmp_path: Path, kind: str) -> None:
    found = read(written(tmp_path, kind), [])
    assert (found.num_columns, found.num_rows) == (0, 3)
    assert read(written(tmp_path, kind), ["other"]).num_rows == 3


@pytest.mark.parametrize("kind", PLAIN)
def test_a_file_without_rows_has_its_columns(tmp_path: Path, kind: str) -> None:
    empty = TABLE.schema.empty_table()
    assert_same(read(written(tmp_path, kind, empty)), empty)


# An ORC stripe holds more rows than a test wants to write.
@pytest.mark.parametrize("kind", [kind for kind in PLAIN if kind != "orc"])
def test_pieces_are_the_rows_in_order(tmp_path: Path, kind: str) -> None:
    rows = 200_000
    table = pa.table({"n": pa.array(range(rows), pa.int64()), "t": ["some text"] * rows})
    pieces = list(read_batches(written(tmp_path, kind, table), ["n"]))
    assert max(piece.num_rows for piece in pieces) < rows
    assert pa.concat_tables(pieces).column("n").to_pylist() == list(range(rows))


@pytest.mark.parametrize("kind", PLAIN)
def test_a_table_in_many_chunks_is_one_file(tmp_path: Path, kind: str) -> None:
    table = pa.concat_tables([TABLE, TABLE.slice(1), TABLE.slice(0, 0)])
    assert_same(read(written(tmp_path, kind, table)), table)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_data_file_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, kind)
    with pytest.raises(FileExistsError):
        write(TABLE.slice(1), file.path, kind)
    assert_same(read(file), TABLE)


@pytest.mark.parametrize("kind", TYPED)
def test_a_typed_file_tells_its_schema_and_needs_none(tmp_path: Path, kind: str) -> None:
    table = pa.table(
        {"n": pa.array([1], pa.int32()), "t": pa.array([5], pa.timestamp("us", "UTC"))}
    )
    file = written(tmp_path, kind, table)
    found = schema_of_file(file.path, CONTENT_TYPES[kind].mime)
    assert found is not None
    assert found.names == ["n", "t"]
    assert found.field("n").type == pa.int32()
    assert pa.types.is_timestamp(found.field("t").type)
    assert read(FileRef(file.path, kind)).column("n").to_pylist() == [1]


@pytest.mark.parametrize("kind", ["json", *DELIMITED])
def test_text_tells_no_schema(tmp_path: Path, kind: str) -> None:
    assert schema_of_file(str(tmp_path / "a"), kind) is None


@pytest.mark.parametrize("kind", TYPED)
def test_field_ids_stand_in_the_file(tmp_path: Path, kind: str) -> None:
    schema = pa.schema([pa.field("n", pa.int64(), metadata={FIELD_ID: b"7"})])
    found = schema_of_file(written(tmp_path, kind, pa.table({"n": [1]}, schema=schema)).path, kind)
    assert found is not None
    assert found.field("n").metadata[FIELD_ID] == b"7"


def test_field_ids_stand_beside_avros_fields(tmp_path: Path) -> None:
    import fastavro

    schema = pa.schema([pa.field("n", pa.int64(), metadata={FIELD_ID: b"7"})])
    path = written(tmp_path, "avro", pa.table({"n": [1]}, schema=schema)).path
    with open(path, "rb") as stored:
        # Any: a schema as JSON has it.
        schema_there: Any = fastavro.reader(stored).writer_schema
    assert schema_there["fields"][0]["field-id"] == 7


# --- statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_described_with_statistics(tmp_path: Path, kind: str) -> None:
    table = pa.table({"n": [3, None, 1], "f": [NAN, 2.0, None], "t": ["b", "a", None]})
    path = f"{tmp_path}/{file_name(kind)}"
    entry = write(table, path, kind, partition_values=[7], sort_scheme_id="s")
    assert entry.column_stats == {
        "n": ColumnStats(1, 3, 1),
        "f": ColumnStats(2.0, 2.0, 1, 1),
        "t": ColumnStats("a", "b", 1),
    }
    assert (entry.content_type, entry.record_count) == (kind, 3)
    assert (entry.partition_values, entry.sort_scheme_id) == ([7], "s")
    assert (entry.content_encoding or "identity") == CONTENT_TYPES[kind].written_encoding
    assert entry.content_length == _size(path)


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.stat(path).st_size
    walked = [(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(os.stat(os.path.join(*of)).st_size for of in walked)


def test_counted_bounds_that_are_long_are_left_out() -> None:
    table = pa.table({"t": ["a", "b" * 5000]})
    assert count_columns(table, table.schema) == {"t": ColumnStats("a", None, 0)}


def test_counted_bounds_are_in_the_tables_types() -> None:
    table = pa.table({"n": pa.array([1, 300], pa.int16())})
    schema = pa.schema([("n", pa.float64()), ("absent", pa.int8())])
    assert count_columns(table, schema) == {"n": ColumnStats(1.0, 300.0, 0)}


# --- what types alone do not decide ---------------------------------------------------------------

FAR = pa.table({"x": pa.array([10**15 * 400], pa.timestamp("us"))})


@pytest.mark.parametrize("kind", ["orc", "json", *DELIMITED])
def test_years_that_a_format_cannot_hold_are_refused(tmp_path: Path, kind: str) -> None:
    path = f"{tmp_path}/{file_name(kind)}"
    with pytest.raises(SchemaValidationError, match="column 'x'"):
        write(FAR, path, kind)
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["parquet", "feather", "avro", "lance"])
def test_far_years_are_kept_by_formats_of_integers(tmp_path: Path, kind: str) -> None:
    assert_same(read(written(tmp_path, kind, FAR)), FAR)


@pytest.mark.parametrize("kind", ["orc", "avro", "lance", "json", *DELIMITED])
def test_list_views_are_refused_where_they_would_lose_items(tmp_path: Path, kind: str) -> None:
    table = pa.table({"x": pa.array([[1], None], pa.list_view(pa.int64()))})
    with pytest.raises(SchemaValidationError, match="list_view"):
        write(table, f"{tmp_path}/a", kind)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_list_views_are_kept_where_they_can_be(tmp_path: Path, kind: str) -> None:
    table = pa.table({"x": pa.array([[1], None, [2, None]], pa.list_view(pa.int64()))})
    assert read(written(tmp_path, kind, table)).column("x").to_pylist() == [[1], None, [2, None]]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "feather"])
@pytest.mark.parametrize("inside", [False, True])
def test_fixed_lists_of_no_items_are_refused(tmp_path: Path, kind: str, *, inside: bool) -> None:
    none = pa.list_(pa.int8(), 0)
    column = pa.array([{"l": []}], pa.struct([("l", none)])) if inside else pa.array([[]], none)
    with pytest.raises(SchemaValidationError, match="has no place for"):
        written(tmp_path, kind, pa.table({"l": column, "n": [1]}))


@pytest.mark.parametrize("kind", ["parquet", "feather", "orc", "avro", "lance", "json"])
def test_tensors_are_kept_null_ones_too(tmp_path: Path, kind: str) -> None:
    dtype = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    storage = pa.array([[1, 2, 3, 4], None, [5, 6, 7, None]], dtype.storage_type)
    table = pa.table({"x": pa.ExtensionArray.from_storage(dtype, storage)})
    found = read(written(tmp_path, kind, table))
    assert found.schema.field("x").type == dtype
    held = found.column("x").combine_chunks().storage.to_pylist()
    assert held == [[1, 2, 3, 4], None, [5, 6, 7, None]]


@pytest.mark.parametrize("inside", [False, True])
def test_null_arrays_of_parquet_come_back_with_every_other_type(
    tmp_path: Path, inside: bool
) -> None:
    array = pa.list_(pa.int8(), 2)
    dtype = pa.struct([("v", array)]) if inside else array
    values: list[Any] = [[1, 2], None, [3, None]]
    table = pa.table(
        {
            "x": pa.array([{"v": v} for v in values] if inside else values, dtype),
            "zoned": pa.array([1, 2, None], pa.timestamp("ns", "Europe/Berlin")),
            "large": pa.array(["a", None, "b"], pa.large_string()),
            "took": pa.array([1, None, 3], pa.duration("us")),
            "kind": pa.array(["a", None, "a"]).dictionary_encode(),
        }
    )
    file = written(tmp_path, "parquet", table)
    assert_same(read(file), table)
    assert_same(read(FileRef(file.path)), table)


_VIEW = pa.string_view()
_LONG = "longer than what a view holds"


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pa.struct([("a", _VIEW)]), [None, {"a": None}, {"a": _LONG}]),
        (pa.list_(_VIEW), [None, [_LONG, None], []]),
        (pa.list_(pa.struct([("a", _VIEW)])), [None, [{"a": _LONG}, None], []]),
        (pa.large_list(pa.struct([("a", _VIEW)])), [None, [{"a": _LONG}, None], []]),
        (pa.list_(pa.struct([("a", _VIEW)]), 2), [None, [{"a": "x"}, {"a": _LONG}], [None] * 2]),
        (pa.list_view(_VIEW), [[_LONG, None], None, []]),
        (pa.map_(_VIEW, pa.binary_view()), [None, [("", None), (_LONG, b"x")], []]),
        (pa.map_(pa.string(), pa.struct([("a", _VIEW)])), [[("", {"a": None})], None, []]),
    ],
    ids=str,
)
def test_views_inside_of_others_are_written_to_parquet_whole_and_in_pieces(
    tmp_path: Path, dtype: pa.DataType, values: list[object]
) -> None:
    whole = pa.array(values, dtype)
    pieces = pa.chunked_array([whole.slice(1), whole.slice(0, 2)])
    for column in (whole, whole.slice(1), pieces):
        table = pa.table({"x": column})
        assert_same(read(written(tmp_path, "parquet", table)), table)


def test_avro_refuses_names_that_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(SchemaValidationError, match="'größe x'"):
        write(pa.table({"größe x": [1]}), f"{tmp_path}/a.avro", "avro")


def test_lance_refuses_names_with_dots(tmp_path: Path) -> None:
    with pytest.raises(SchemaValidationError, match=r"'a\.b'"):
        write(pa.table({"a.b": [1]}), f"{tmp_path}/a.lance", "lance")


def test_avro_refuses_a_map_with_a_key_twice_before_writing(tmp_path: Path) -> None:
    twice = pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    with pytest.raises(SchemaValidationError, match="twice"):
        write(pa.table({"m": twice}), f"{tmp_path}/a.avro", "avro")
    assert not os.listdir(tmp_path)


def test_delimited_text_refuses_rows_without_columns_and_rows_without_end(tmp_path: Path) -> None:
    with pytest.raises(SchemaValidationError, match="without columns"):
        write(pa.table({"x": [1]}).select([]), f"{tmp_path}/a.csv", "csv")
    with pytest.raises(SchemaValidationError, match="bytes of text"):
        write(pa.table({"x": ["l" * 34_000_000]}), f"{tmp_path}/a.csv", "csv")
    assert not os.listdir(tmp_path)


# --- headers, encodings, names --------------------------------------------------------------------


def ref(path: Path, body: bytes, kind: str, *fields: str, **of: Any) -> FileRef:
    path.write_bytes(body)
    schema = pa.schema([(name, pa.int64()) for name in fields]) if fields else None
    return FileRef(str(path), kind, schema=schema, **of)


@pytest.mark.parametrize(
    ("kind", "mark"), [("csv", ","), ("tsv", "\t"), ("psv", "|"), ("unescaped_tsv", "\t")]
)
def test_a_first_line_that_names_the_columns_is_a_header(
    tmp_path: Path, kind: str, mark: str
) -> None:
    body = f"a{mark}b\n1{mark}2\n".encode()
    assert read(ref(tmp_path / "h", body, kind, "a", "b", records=1)).to_pydict() == {
        "a": [1],
        "b": [2],
    }
    assert read(ref(tmp_path / "n", body[4:], kind, "a", "b", records=1)).to_pydict() == {
        "a": [1],
        "b": [2],
    }
    with pytest.raises(DataFileError, match="as a scalar of type int64"):
        read(ref(tmp_path / "o", body, kind, "b", "a"))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_first_row_that_names_the_columns_is_a_row(tmp_path: Path, kind: str, times: int) -> None:
    table = pa.table({"t": ["t"] * times + ["u"], "true": [True] * times + [False]})
    assert_same(read(written(tmp_path, kind, table)), table)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mark_of_byte_order_that_a_text_begins_with_is_kept(tmp_path: Path, kind: str) -> None:
    # Many megabytes: whatever is read at once begins with one too.
    table = pa.table({"t": ["\ufeff" + "x" * 5000] * 500, "n": range(500)})
    for rows in (table, table.slice(0, 1), table.select(["t"])):
        assert_same(read(written(tmp_path, kind, rows)), rows)


@pytest.mark.parametrize("kind", FORMATS)
def test_two_columns_of_one_name_are_refused_before_anything_is_written(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(SchemaValidationError, match="several columns 'n': rename one"):
        written(tmp_path, kind, pa.table([[1], [2], ["x"]], names=["n", "n", "t"]))
    assert not list(tmp_path.iterdir())


def test_without_a_schema_the_first_line_is_the_header_and_cells_are_text(tmp_path: Path) -> None:
    found = read(ref(tmp_path / "a.csv", b'n,t\n007,\n"",x\n', "csv"))
    assert found.to_pydict() == {"n": ["007", ""], "t": [None, "x"]}
    assert read(ref(tmp_path / "b.csv", b"n,t\n", "csv")).schema.names == ["n", "t"]


def test_files_are_written_without_a_header_and_gzipped(tmp_path: Path) -> None:
    file = written(tmp_path, "csv", pa.table({"a": [1, None], "t": ["x", ""]}))
    assert file.path.endswith(".csv.gz")
    assert file.content_encoding == "gzip"
    with gzip.open(file.path) as lines:
        assert lines.read() == b'"1","x"\n,""\n'


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    one, two = (written(tmp_path, "json").path for _ in range(2))
    with open(one, "rb") as first, open(two, "rb") as second:
        assert first.read() == second.read()


def test_without_a_schema_json_has_its_own_types(tmp_path: Path) -> None:
    body = b'{"a": 1}\n\n{"b": ["x"], "a": null}\n'
    assert read(ref(tmp_path / "a.json", body, "json")).to_pydict() == {
        "a": [1, None],
        "b": [None, ["x"]],
    }
    assert read(ref(tmp_path / "b.json", body, "json"), ["b"]).to_pydict() == {"b": [None, ["x"]]}


@pytest.mark.parametrize("kind", [k for k in PLAIN if k != "lance"])
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("bzip2", bz2.compress)]
)
def test_every_format_is_decoded(
    tmp_path: Path, kind: str, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    file = written(tmp_path, kind)
    with open(file.path, "rb") as stored:
        body = stored.read()
    plain = gzip.decompress(body) if CONTENT_TYPES[kind].written_encoding == "gzip" else body
    path = tmp_path / "encoded"
    path.write_bytes(compress(plain))
    assert_same(read(FileRef(str(path), kind, encoding, 3, "p", TABLE.schema)), TABLE)


def test_the_paths_end_says_how_a_file_is_encoded_where_nobody_does(tmp_path: Path) -> None:
    assert read(ref(tmp_path / "a.csv.gz", gzip.compress(b"1\n"), "csv", "a")).to_pydict() == {
        "a": [1]
    }
    assert read(ref(tmp_path / "a.csv.bz2", bz2.compress(b"1\n"), "csv", "a")).to_pydict() == {
        "a": [1]
    }


def test_other_encodings_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'zstd'"):
        read(ref(tmp_path / "a.csv", b"1\n", "csv", "a", content_encoding="zstd"))


def test_both_spellings_of_a_format_are_known() -> None:
    for name, kind in CONTENT_TYPES.items():
        assert content_type_of(name) is content_type_of(kind.mime) is kind
    with pytest.raises(UnsupportedError, match="did you mean 'parquet'"):
        content_type_of("parket")


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2"])
def test_avro_of_other_writers_is_read_with_its_logical_types(tmp_path: Path, codec: str) -> None:
    import fastavro

    times = {"type": "long", "logicalType": "timestamp-micros"}
    money = {
        "type": "fixed",
        "name": "m",
        "size": 4,
        "logicalType": "decimal",
        "precision": 8,
        "scale": 2,
    }
    fields = [
        {"name": "id", "type": "long"},
        {"name": "at", "type": ["null", times]},
        {"name": "kind", "type": {"type": "enum", "name": "k", "symbols": ["up", "down"]}},
        {"name": "cost", "type": money},
        {"name": "paid", "type": "m"},
        {"name": "tags", "type": {"type": "map", "values": "int"}},
    ]
    rows = [{"id": i, "at": None if i else 5, "kind": "up", "cost": Decimal("-1.25"), "paid": Decimal(7), "tags": {"a": i}} for i in range(3)]  # fmt: skip
    path = tmp_path / "a.avro"
    with path.open("wb") as out:
        fastavro.writer(out, {"type": "record", "name": "r", "fields": fields}, rows, codec=codec)
    found = read(FileRef(str(path), "avro", records=3))
    assert found.column("at").cast(pa.int64()).to_pylist() == [5, None, None]
    assert found.schema.field("at").type == pa.timestamp("us", "UTC")
    assert found.column("cost").to_pylist() == [Decimal("-1.25")] * 3
    assert found.column("paid").to_pylist() == [Decimal("7.00")] * 3
    assert found.column("kind").to_pylist() == ["up"] * 3
    assert found.column("tags").to_pylist() == [[("a", i)] for i in range(3)]


def test_another_reader_sees_avros_logical_types(tmp_path: Path) -> None:
    import fastavro

    table = pa.table(
        {"d": pa.array([Decimal("1.50")]), "t": pa.array([0], pa.timestamp("ms", "UTC"))}
    )
    with open(written(tmp_path, "avro", table).path, "rb") as stored:
        row: Any = next(iter(fastavro.reader(stored)))
    assert (row["d"], row["t"].isoformat()) == (Decimal("1.50"), "1970-01-01T00:00:00+00:00")


def test_bounds_prune_what_footers_do_not_tell(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([5, 9], pa.duration("ns"))})
    entry = write(table, f"{tmp_path}/a.feather", "feather")
    assert pc.equal(
        load_array([(entry.column_stats or {})["x"].max], pa.duration("ns"))[0], table["x"][1]
    )


@pytest.mark.parametrize("kind", ["parquet", "feather", "orc", "avro", "lance", "csv", "json"])
def test_a_null_among_a_dictionarys_values_is_a_null(tmp_path: Path, kind: str) -> None:
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0]), pa.array(["a", None]))
    table = pa.table({"n": range(4), "c": coded})
    path = f"{tmp_path}/{file_name(kind)}"
    write(table, path, kind)
    found = read(FileRef(path, kind, schema=table.schema))
    assert found["c"].to_pylist() == ["a", None, None, "a"]


def test_required_columns_of_avro_are_read_without_a_schema(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.string())])
    table = pa.table({"x": [1, 2], "y": ["a", None]}, schema=schema)
    write(table, f"{tmp_path}/a.avro", "avro")
    assert read(FileRef(f"{tmp_path}/a.avro", "avro")).to_pydict() == table.to_pydict()
