"""Does `client.catalog.write` take whatever holds rows, and does the same come back?"""

from __future__ import annotations

import gzip
import math
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import daft
import duckdb
import lance
import narwhals
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
import ray

from io_core.errors import (
    DataFileError,
    DeltaCATError,
    NotFoundError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.manifest import from_manifest_table, manifest_table
from planner_client import Client
from tests.same_rows import assert_same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS = pa.table({"id": [1, 2, 3], "name": ["a", None, ""], "score": [1.5, math.nan, None]})
PIECE_ROWS = 500_000
PIECE_BYTES = PIECE_ROWS * 8


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


class OneBatch:
    """Hands over one batch alone."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return ROWS.combine_chunks().to_batches()[0].__arrow_c_array__(requested_schema)


class Stream:
    """Hands over a stream, once."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return ROWS.__arrow_c_stream__(requested_schema)


def relation() -> duckdb.DuckDBPyRelation:
    return duckdb.connect().from_arrow(ROWS)


INPUTS: dict[str, Callable[[], Any]] = {
    "table": lambda: ROWS,
    "batch": lambda: ROWS.to_batches()[0],
    "reader": ROWS.to_reader,
    "dataset": lambda: ds.dataset(ROWS),
    "scanner": lambda: ds.dataset(ROWS).scanner(),
    "polars": lambda: pl.DataFrame(ROWS),
    "polars, lazy": lambda: pl.DataFrame(ROWS).lazy(),
    "daft": lambda: daft.from_arrow(ROWS),
    "duckdb": relation,
    "narwhals": lambda: narwhals.from_native(ROWS),
    "stream": Stream,
    "array": OneBatch,
}


@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_written_comes_back(client: Client, kind: str) -> None:
    done = client.catalog.write(INPUTS[kind](), **WHERE)
    assert (done.total_records, done.files_registered) == (3, 1)
    assert_same(client.catalog.read(**WHERE), ROWS)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("options", [{"format": "orc"}, {"table_version": "1"}], ids=str)
def test_what_an_engine_cannot_write_itself_is_written_by_arrow(
    client: Client, kind: str, options: dict[str, Any]
) -> None:
    client.catalog.write(ROWS.slice(0, 0), **WHERE)
    client.catalog.write(INPUTS[kind](), **WHERE, **options)
    assert_same(client.catalog.read(**WHERE), ROWS)


@pytest.mark.parametrize("kind", INPUTS)
def test_what_a_table_is_made_with_does_not_depend_on_who_holds_the_rows(
    client: Client, kind: str
) -> None:
    made: dict[str, Any] = {
        "merge_keys": "id",
        "partition_by": "name",
        "sort_scheme": {"keys": [{"key": ["score"], "sort_order": "descending"}]},
        "create_if_missing": {"table_description": "about t"},
    }
    client.catalog.write(INPUTS[kind](), **WHERE, **made)
    done = client.catalog.write(INPUTS[kind](), **WHERE, **made, max_rows_per_file=1)
    assert done.files_registered == 3
    found = client.catalog.describe_table(**WHERE)
    assert (found.merge_keys, found.description) == (["id"], "about t")
    assert [key.key for key in found.partition_scheme.keys] == [("name",)]  # type: ignore[union-attr]
    assert [key.sort_order for key in found.sort_scheme.keys] == ["descending"]  # type: ignore[union-attr]
    assert sorted(client.catalog.read(**WHERE).column("id").to_pylist()) == [1, 2, 3]


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_ray_dataset_comes_back(client: Client) -> None:
    client.catalog.write(ray.data.from_arrow(ROWS), **WHERE)
    client.catalog.write(ray.data.from_arrow(ROWS), **WHERE, mode="add", format="orc")
    found = client.catalog.read(**WHERE).sort_by("id")
    assert found.column("id").to_pylist() == [1, 1, 2, 2, 3, 3]
    assert found.schema.types == ROWS.schema.types


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_dataset_without_rows_replaces_what_is_there_as_any_other_input_does(
    client: Client,
) -> None:
    client.catalog.write(ROWS, **WHERE)
    none = ray.data.from_arrow(ROWS.slice(0, 0))
    assert client.catalog.write(none, **WHERE, mode="replace").committed
    assert client.catalog.read(**WHERE).num_rows == 0


def test_a_frame_of_pandas_comes_back_with_its_missing_values(client: Client) -> None:
    frame = pd.DataFrame(
        {
            "id": pd.array([1, None], dtype="Int64"),
            "x": [1.5, None],
            "at": pd.to_datetime(["2024-01-01", None]),
            "kind": pd.Categorical(["a", None]),
        }
    )
    client.catalog.write(frame, **WHERE)
    found = client.catalog.read(**WHERE)
    assert found.column("id").to_pylist() == [1, None]
    assert found.column("x").to_pylist() == [1.5, None]
    assert found.column("at").null_count == 1
    assert found.column("kind").to_pylist() == ["a", None]
    assert found.schema.types[:3] == [pa.int64(), pa.float64(), pa.timestamp("us")]
    assert pa.types.is_dictionary(found.schema.field("kind").type)


def test_the_named_index_of_a_frame_is_a_column_and_an_unnamed_one_is_none(client: Client) -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    client.catalog.write(frame, **WHERE)
    client.catalog.write(frame.rename_axis(None), **WHERE, mode="replace")
    assert client.catalog.read(**WHERE).column("key").to_pylist() == [None, None]
    assert client.catalog.read(**WHERE).column_names == ["key", "x"]


NAIVE, AWARE = pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01", tz="UTC")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([date(2024, 1, 1), datetime(2024, 1, 1, 3)], "date32.day. only with a loss"),
        ([NAIVE, None, AWARE], "timestamp.us. only with a loss"),
        ([b"x", "y"], "binary only with a loss"),
        ([2**70], "too large"),
        ([1, "x"], "column x"),
    ],
)
def test_a_column_of_objects_that_arrow_would_change_is_refused(
    client: Client, values: list[Any], said: str
) -> None:
    with pytest.raises(SchemaValidationError, match=said):
        client.catalog.write(pd.DataFrame({"x": pd.Series(values, dtype=object)}), **WHERE)
    assert not client.catalog.table_exists(**WHERE)


@pytest.mark.parametrize(
    "values", [[date(2024, 1, 1), None], [NAIVE, None], [AWARE, None], [b"x", None], ["x", None]]
)
def test_a_column_of_objects_of_one_kind_comes_back(client: Client, values: list[Any]) -> None:
    client.catalog.write(pd.DataFrame({"x": pd.Series(values, dtype=object)}), **WHERE)
    assert client.catalog.read(**WHERE)["x"].to_pylist() == values


def test_an_index_named_like_a_column_is_refused(client: Client) -> None:
    frame = pd.DataFrame({"x": [1]}, index=pd.Index([2], name="x"))
    with pytest.raises(SchemaValidationError, match="cannot insert x, already exists"):
        client.catalog.write(frame, **WHERE)


def test_objects_of_python_in_a_frame_of_polars_are_refused(client: Client) -> None:
    frame = pl.DataFrame({"x": [1], "what": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(SchemaValidationError, match="'what' is of type Object"):
        client.catalog.write(frame, **WHERE)


# --- NumPy ----------------------------------------------------------------------------------------


def test_an_array_of_one_or_two_dimensions_takes_its_columns_from_a_schema(client: Client) -> None:
    client.catalog.write(np.arange(3), **WHERE, schema=pa.schema([("x", pa.int16())]))
    assert_same(client.catalog.read(**WHERE), pa.table({"x": pa.array([0, 1, 2], pa.int16())}))
    two = pa.schema([("a", pa.float64()), ("b", pa.float32())])
    client.catalog.write(np.arange(4.0).reshape(2, 2), namespace="ns", table="u", schema=two)
    wanted = pa.table({"a": [0.0, 2.0], "b": pa.array([1.0, 3.0], pa.float32())})
    assert_same(client.catalog.read(namespace="ns", table="u"), wanted)


def test_an_array_of_records_has_names_of_its_own_and_a_mask_is_null(client: Client) -> None:
    client.catalog.write(np.array([(1, 2.5)], dtype=[("u", "i4"), ("v", "f8")]), **WHERE)
    assert client.catalog.read(**WHERE).to_pylist() == [{"u": 1, "v": 2.5}]
    masked = np.ma.masked_array([1, 2], mask=[False, True])
    one = pa.schema([("x", pa.int64())])
    client.catalog.write(masked, namespace="ns", table="u", schema=one)
    assert client.catalog.read(namespace="ns", table="u").column("x").to_pylist() == [1, None]


@pytest.mark.parametrize(
    ("array", "schema", "says"),
    [
        (np.arange(3), None, r"shape \(3,\) has no names of columns: pass schema="),
        (np.zeros((2, 2)), pa.schema([("x", pa.float64())]), "2 columns, and schema= has 1"),
        (np.zeros((1, 1, 1)), pa.schema([("x", pa.float64())]), "of 3 dimensions"),
        (np.array([1.5]), pa.schema([("x", pa.int64())]), "column 'x' of the array"),
        (np.array([(1,)], [("u", "i4")]), pa.schema([("x", pa.int64())]), "the array lacks x"),
        (np.array([1j]), pa.schema([("x", pa.float64())]), "column 'x' of the array"),
    ],
)
def test_an_array_that_cannot_be_columns_is_refused(
    client: Client, array: Any, schema: pa.Schema | None, says: str
) -> None:
    with pytest.raises(SchemaValidationError, match=says):
        client.catalog.write(array, **WHERE, schema=schema)
    assert not client.catalog.namespace_exists(namespace="ns")


# --- files ----------------------------------------------------------------------------------------


def _csv(delimiter: str) -> Callable[[Path], object]:
    lines = [["id", "name", "score"], ["1", "a", "1.5"], ["2", "", "nan"], ["3", '""', ""]]
    text = "\n".join(delimiter.join(line) for line in lines) + "\n"
    return lambda path: path.write_text(text)


def _gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(b'id,name,score\n1,a,1.5\n2,,nan\n3,"",\n'))


def _json(path: Path) -> None:
    path.write_text('{"id": 1, "name": "a", "score": 1.5}\n{"id": 2, "score": null}\n')


def _avro(path: Path) -> None:
    from io_core import formats

    formats.write(ROWS, str(path), "avro")


FILES: dict[str, Callable[[Path], object]] = {
    "x.parquet": lambda path: pq.write_table(ROWS, path),
    "x.feather": lambda path: pyarrow.feather.write_feather(ROWS, path),
    "x.arrow": lambda path: pyarrow.feather.write_feather(ROWS, path),
    "x.orc": lambda path: pyarrow.orc.write_table(ROWS, path),
    "x.avro": _avro,
    "x.lance": lambda path: lance.write_dataset(ROWS, path),
    "x.CSV": _csv(","),
    "x.tsv": _csv("\t"),
    "x.psv": _csv("|"),
    "x.csv.gz": _gzipped,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_is_written_by_its_path(
    client: Client, tmp_path: Path, name: str, as_text: bool
) -> None:
    path = tmp_path / name
    FILES[name](path)
    client.catalog.write(str(path) if as_text else path, **WHERE)
    assert_same(client.catalog.read(**WHERE), ROWS)


def test_json_has_columns_that_some_lines_lack(client: Client, tmp_path: Path) -> None:
    _json(tmp_path / "x.jsonl")
    client.catalog.write(tmp_path / "x.jsonl", **WHERE)
    assert client.catalog.read(**WHERE).to_pylist() == [
        {"id": 1, "name": "a", "score": 1.5},
        {"id": 2, "name": None, "score": None},
    ]
    assert client.catalog.read(**WHERE).schema.types == ROWS.schema.types


def test_files_of_several_kinds_are_written_in_their_order(client: Client, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x.parquet", "x.CSV", "x.lance")]
    for path in paths:
        FILES[path.name](path)
    client.catalog.write(paths, **WHERE)
    assert_same(client.catalog.read(**WHERE), pa.concat_tables([ROWS] * 3))


def test_files_with_other_columns_and_types_become_what_holds_all(
    client: Client, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"x": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [2**40], "y": ["b"]}), tmp_path / "b.parquet")
    client.catalog.write([tmp_path / "a.parquet", tmp_path / "b.parquet"], **WHERE)
    assert_same(client.catalog.read(**WHERE), pa.table({"x": [1, 2**40], "y": [None, "b"]}))


def test_text_has_the_narrowest_type_of_its_whole_file(client: Client, tmp_path: Path) -> None:
    many = "".join(f"{i},0{i}\n" for i in range(200_000))
    (tmp_path / "x.csv").write_text(f"n,code\n{many}1.5,x\n")
    client.catalog.write(tmp_path / "x.csv", **WHERE)
    found = client.catalog.read(**WHERE)
    assert found.schema.types == [pa.float64(), pa.string()]
    assert found.column("code")[7].as_py() == "07"
    assert found.num_rows == 200_001


def test_a_schema_says_which_columns_of_a_file_to_take_and_as_what(
    client: Client, tmp_path: Path
) -> None:
    _csv(",")(tmp_path / "x.csv")
    wanted = pa.schema([("name", pa.string()), ("id", pa.string())])
    client.catalog.write(tmp_path / "x.csv", **WHERE, schema=wanted)
    assert client.catalog.read(**WHERE).column_names == ["name", "id"]
    assert client.catalog.read(**WHERE).column("id").to_pylist() == ["1", "2", "3"]


def _malformed(path: Path) -> None:
    path.write_text("a,b\n1,2\n3\n")


def _not_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1 no footer")


@pytest.mark.parametrize(
    ("name", "make", "error", "says"),
    [
        ("absent.parquet", lambda path: None, DataFileError, r"absent\.parquet is not there"),
        ("x.parquet", _not_parquet, DataFileError, r"x\.parquet is damaged"),
        ("x.csv", _malformed, DataFileError, r"x\.csv cannot be read: .*columns"),
        ("e.csv", lambda path: path.touch(), DataFileError, r"e\.csv cannot be read: it is empty"),
        ("x.json", lambda p: p.write_text("[1]"), DataFileError, r"x\.json cannot be read"),
        (
            "y.json",
            lambda p: p.write_text('{"a": 1}\n{"a": "b"}'),
            DataFileError,
            r"y\.json cannot be read",
        ),
        ("x.txt", lambda path: path.touch(), UnsupportedError, r"x\.txt: its name does not say"),
        ("folder.csv", lambda path: path.mkdir(), UnsupportedError, "is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(
    client: Client,
    tmp_path: Path,
    name: str,
    make: Callable[[Path], object],
    error: type[Exception],
    says: str,
) -> None:
    make(tmp_path / name)
    with pytest.raises(error, match=says):
        client.catalog.write(tmp_path / name, **WHERE)
    assert not client.catalog.namespace_exists(namespace="ns")


def test_a_file_that_lacks_what_the_schema_names_is_refused(client: Client, tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet"):
        FILES[name.replace("csv", "CSV")](tmp_path / name)
        with pytest.raises(SchemaValidationError, match=rf"{name} lacks other"):
            client.catalog.write(
                tmp_path / name, **WHERE, schema=pa.schema([("other", pa.int64())])
            )


def test_a_file_elsewhere_is_refused_with_what_to_do(client: Client) -> None:
    with pytest.raises(UnsupportedError, match="add_files"):
        client.catalog.write("s3://bucket/x.parquet", **WHERE)
    with pytest.raises(SchemaValidationError, match="empty list"):
        client.catalog.write([], **WHERE)


# --- formats without types ------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["csv", "tsv", "psv", "json"])
def test_text_makes_a_schemaless_table_whose_files_are_read_by_a_manifest(
    client: Client, format: str
) -> None:
    client.catalog.write(ROWS, **WHERE, format=format)
    client.catalog.write(pl.DataFrame(ROWS), **WHERE, format=format)
    assert client.catalog.describe_table(**WHERE).schema is None
    listed = manifest_table(client.catalog.plan(**WHERE))
    assert_same(from_manifest_table(listed, schema=ROWS.schema), pa.concat_tables([ROWS, ROWS]))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"a": [1]}, [{"a": 1}], 7, None, pl.Series([1])], ids=repr)
def test_what_holds_no_rows_is_refused(client: Client, data: object) -> None:
    with pytest.raises(SchemaValidationError, match=r"holds no rows|hands over no rows"):
        client.catalog.write(data, **WHERE)


def test_a_layout_that_the_table_does_not_have_is_refused(client: Client) -> None:
    client.catalog.write(ROWS, **WHERE, merge_keys=["id"])
    for wrong in (
        {"merge_keys": ["name"]},
        {"partition_by": "name"},
        {"partition_scheme": {"keys": [{"key": ["name"]}]}},
        {"sort_scheme": {"keys": [{"key": ["name"]}]}},
    ):
        with pytest.raises(SchemaValidationError, match=r"leave .* out"):
            client.catalog.write(ROWS, **WHERE, **wrong)
    with pytest.raises(SchemaValidationError, match="exclude each other"):
        client.catalog.write(ROWS, **WHERE, partition_by="name", partition_scheme={"keys": []})


def test_rows_that_do_not_fit_are_refused_before_the_first_is_asked_for(client: Client) -> None:
    client.catalog.write(ROWS, **WHERE)
    client.catalog.alter_table(
        **WHERE, table_version_properties={"schema_evolution_mode": "manual"}
    )
    wrong = pa.schema([("other", pa.int64())])

    asked: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        asked.append(1)
        yield pa.record_batch({"other": [1]})

    with pytest.raises(SchemaValidationError, match="other"):
        client.catalog.write(pa.RecordBatchReader.from_batches(wrong, batches()), **WHERE)
    assert not asked


def test_a_stream_that_breaks_off_leaves_nothing(client: Client) -> None:
    client.catalog.write(ROWS, **WHERE)

    def broken() -> Iterator[pa.RecordBatch]:
        yield ROWS.to_batches()[0]
        raise OSError("the line went dead")

    reader = pa.RecordBatchReader.from_batches(ROWS.schema, broken())
    with pytest.raises(OSError, match="the line went dead"):
        client.catalog.write(reader, **WHERE, max_rows_per_file=1)
    assert client.catalog.read(**WHERE).num_rows == 3
    assert len(list(Path(client.target).glob("data/*/*/*.parquet"))) == 1


@pytest.mark.parametrize("mode", ["add", "append", "replace", "merge", "delete"])
def test_modes_that_make_no_table_need_one(client: Client, mode: Any) -> None:
    with pytest.raises(NotFoundError):
        client.catalog.write(ROWS, **WHERE, mode=mode)


@pytest.mark.parametrize("data", [pl.DataFrame(ROWS), ROWS, daft.from_arrow(ROWS)], ids=type)
def test_every_mode_does_the_same_whoever_holds_the_rows(client: Client, data: Any) -> None:
    client.catalog.write(data, **WHERE, mode="create")
    with pytest.raises(DeltaCATError, match="already exists"):
        client.catalog.write(data, **WHERE, mode="create")
    for mode in ("add", "append", "auto"):
        client.catalog.write(data, **WHERE, mode=mode)
    assert client.catalog.read(**WHERE).num_rows == 12
    client.catalog.write(data, **WHERE, mode="replace")
    assert client.catalog.read(**WHERE).num_rows == 3
    keyed: dict[str, Any] = {"namespace": "ns", "table": "k"}
    client.catalog.write(data, **keyed, merge_keys=["id"], partition_by=["name"])
    client.catalog.write(data, **keyed, mode="merge")
    client.catalog.write(data, **keyed, mode="replace_partition")
    assert client.catalog.read(**keyed).num_rows == 3
    client.catalog.write(data, **keyed, mode="delete")
    assert client.catalog.read(**keyed).num_rows == 0


@pytest.mark.parametrize("data", [pl.DataFrame(ROWS), ROWS, daft.from_arrow(ROWS)], ids=type)
@pytest.mark.parametrize("mode", ["auto", "merge"])
def test_a_merge_that_lacks_columns_warns_and_says_what_to_do_instead(
    client: Client, data: Any, mode: Any
) -> None:
    more = ROWS.append_column("more", pa.array([1, 2, 3]))
    client.catalog.write(more, **WHERE, merge_keys=["id"])
    with pytest.warns(
        UserWarning, match=r"replaces whole rows: more become null; .*update_columns"
    ):
        client.catalog.write(data, **WHERE, mode=mode)


# --- memory ---------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_a_stream(client: Client) -> None:
    seen: list[int] = []

    def pieces() -> Iterator[pa.RecordBatch]:
        for i in range(40):
            seen.append(pa.total_allocated_bytes())
            yield pa.record_batch({"x": pa.array(np.arange(i, i + PIECE_ROWS))})

    reader = pa.RecordBatchReader.from_batches(pa.schema([("x", pa.int64())]), pieces())
    before = pa.total_allocated_bytes()
    done = client.catalog.write(reader, **WHERE, max_rows_per_file=2 * PIECE_ROWS)
    assert (done.total_records, done.files_registered) == (40 * PIECE_ROWS, 20)
    # Two pieces wait for their file, one is on its way; a Parquet writer holds some of its own.
    assert max(seen) - before < 8 * PIECE_BYTES


def test_memory_does_not_grow_with_a_text_file(client: Client, tmp_path: Path) -> None:
    line = f"1,{'x' * 90}\n".encode()
    with (tmp_path / "x.csv").open("wb") as out:
        out.write(b"a,b\n")
        for _ in range(40):
            out.write(line * 20_000)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    from planner_client.rows import rows_of

    rows = rows_of(tmp_path / "x.csv")
    held = [pool.bytes_allocated() - before for _ in rows.batches]
    assert max(held) < 16 * 2**20
