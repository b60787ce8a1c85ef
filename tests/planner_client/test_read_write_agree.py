"""Does what is written come back, of any input, in any format and form, for any rows?

With its columns in their order, their types, the rows in their order, nulls and NaN as they were, and
what the columns say of themselves: that they are required, keys, or described.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from typing import TYPE_CHECKING, Any

import daft
import duckdb
import narwhals
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import ray.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from io_core import formats
from io_core.formats import FileRef
from io_core.plan import ReadPlan
from io_core.schema import DOC, without_views
from planner_client import Client
from tests.oracle import canonical, rows_of, table_of
from tests.same_rows import assert_same
from tests.strategies import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from planner_client.forms import ReadAs
    from tests.oracle import Row

NUMBERS = itertools.count()
NAMES = ("x", "y", "größe x", "Value_4", "z", "a.b")
# Lance takes no dots, Avro nothing but ASCII; ORC has no times.
PLAIN_NAMES = ("x", "y", "Value_4", "z")
NESTED = (
    pa.list_(pa.int64()),
    pa.struct([("a", pa.int32()), ("b", pa.string())]),
    pa.list_(pa.struct([("a", pa.timestamp("us"))])),
)
VALUES: dict[pa.DataType, list[Any]] = {
    NESTED[0]: [[], [1, None], [2**62]],
    NESTED[1]: [{"a": 1, "b": None}, {"a": None, "b": "é"}],
    NESTED[2]: [[], [{"a": None}]],
}


# What a column or a schema says of itself; keys are the writer's own.
_WORDS = st.text("aé:µ", min_size=1, max_size=3)
SAID = st.none() | st.dictionaries(_WORDS, _WORDS, min_size=1, max_size=2)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(tmp_path_factory.mktemp("agree") / "catalog")


@st.composite
def tables(
    draw: st.DrawFn, *, nested: bool = True, times: bool = True, names: tuple[str, ...] = NAMES
) -> pa.Table:
    """1 to 5 columns of any type, 0 to 8 rows, in one chunk or several; some columns are required."""
    kinds = [t for t in TYPES if times or not pa.types.is_time(t)] + list(NESTED if nested else ())
    fields, columns = [], {}
    height = draw(st.integers(0, 8))
    for name in names[: draw(st.integers(1, len(names)))]:
        dtype = draw(st.sampled_from(kinds))
        required = draw(st.booleans()) and dtype in TYPES
        pool: list[Any] = list(TYPES.get(dtype) or VALUES[dtype])
        value = st.sampled_from(pool if required else [*pool, None])
        columns[name] = draw(st.lists(value, min_size=height, max_size=height))
        fields.append(pa.field(name, dtype, nullable=not required, metadata=draw(SAID)))
    schema = pa.schema(fields, metadata=draw(SAID))
    rows: list[Row] = [{n: values[i] for n, values in columns.items()} for i in range(height)]
    whole = table_of(rows, schema)
    cut = draw(st.integers(0, height))
    return pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])


def said(schema: pa.Schema) -> list[Any]:
    """What a schema and its columns say of themselves."""
    return [schema.metadata or {}, *((f.name, f.metadata or {}) for f in schema)]


def fresh() -> dict[str, Any]:
    return {"namespace": "ns", "table": f"t{next(NUMBERS)}"}


class Stream:
    """Hands over a stream by the PyCapsule interface alone."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)


EXACT: dict[str, Callable[[pa.Table], Any]] = {
    "table": lambda rows: rows,
    "reader": lambda rows: rows.to_reader(),
    "dataset": ds.dataset,
    "stream": Stream,
    "pandas": lambda rows: rows.to_pandas(types_mapper=pd.ArrowDtype),
}


# Frames of pandas have no place for it.
KEEP_METADATA = EXACT.keys() - {"pandas"}


def thorough(share: float = 0.5) -> settings:
    most = settings.default.max_examples if settings.default else 0
    return settings(max_examples=max(5, int(most * share)))


def plain(rows: pa.Table) -> pa.Table:
    """The rows without what their columns say of themselves."""
    return rows.cast(pa.schema([pa.field(f.name, f.type) for f in rows.schema]))


@pytest.mark.parametrize("kind", EXACT)
def test_arrow_data_comes_back_exactly(client: Client, kind: str) -> None:
    @thorough()
    @given(tables())
    def property_(rows: pa.Table) -> None:
        where = fresh()
        client.catalog.write(EXACT[kind](rows), **where, max_rows_per_file=3)
        found = client.catalog.read(**where)
        assert_same(found, plain(rows))
        if kind in KEEP_METADATA:
            assert said(found.schema) == said(rows.schema)
        reader = client.catalog.read(**where, read_as="record_batch_reader")
        assert said(reader.schema) == said(found.schema)
        assert_same(reader.read_all(), found)

    property_()


@pytest.mark.parametrize("format", ["parquet", "feather", "orc", "avro", "lance"])
def test_every_format_with_types_gives_back_the_tables_own(client: Client, format: str) -> None:
    @thorough()
    @given(tables(names=PLAIN_NAMES, times=format != "orc"))
    def property_(rows: pa.Table) -> None:
        where = fresh()
        client.catalog.write(rows, **where, format=format)
        found = client.catalog.read(**where)
        assert_same(found, plain(rows))
        assert said(found.schema) == said(rows.schema)

    property_()


FILES: dict[str, Callable[[pa.Table, str], object]] = {
    "x.parquet": pq.write_table,
    "x.feather": pyarrow.feather.write_feather,
    "x.orc": lambda rows, path: formats.write(rows, path, "orc"),
    "x.avro": lambda rows, path: formats.write(rows, path, "avro"),
    "x.lance": lambda rows, path: formats.write(rows, path, "lance"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_back_as_its_own_reader_reads_it(
    client: Client, tmp_path: Path, name: str
) -> None:
    @thorough(0.25)
    @given(tables(names=PLAIN_NAMES, times=name != "x.orc"))
    def property_(rows: pa.Table) -> None:
        folder, where = tmp_path / str(next(NUMBERS)), fresh()
        folder.mkdir()
        path = str(folder / name)
        FILES[name](rows, path)
        client.catalog.write(path, **where)
        pieces = formats.read_batches(FileRef(path, name.partition(".")[2]))
        wanted = pa.concat_tables([plain(piece) for piece in pieces])
        assert_same(client.catalog.read(**where), wanted)

    property_()


TEXT_VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.bool_(): st.booleans(),
    # Texts that no format has to quote, and that are not null in one that cannot.
    pa.string(): st.text("aé0 ", min_size=1, max_size=4),
    pa.date32(): st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)),
    pa.timestamp("us"): st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
}
DELIMITERS = {"x.csv": ",", "x.tsv": "\t", "x.psv": "|"}


@st.composite
def text_tables(draw: st.DrawFn) -> pa.Table:
    # Of one column alone a null would be an empty line, which is no row.
    types = draw(st.lists(st.sampled_from(sorted(TEXT_VALUES, key=str)), min_size=1, max_size=4))
    types.append(pa.int64())
    height = draw(st.integers(1, 5))
    columns = [
        pa.array(draw(st.lists(TEXT_VALUES[t] | st.none(), min_size=height, max_size=height)), t)
        for t in types
    ]
    columns[-1] = pa.array(range(height), pa.int64())
    return pa.Table.from_arrays(columns, [f"c{i}" for i in range(len(types))])


def as_text(rows: pa.Table, path: Path) -> None:
    if path.suffix == ".json":
        lines = [json.dumps(row, default=str, ensure_ascii=False) for row in rows.to_pylist()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    options = pyarrow.csv.WriteOptions(delimiter=DELIMITERS[path.name], quoting_style="none")
    pyarrow.csv.write_csv(rows, path, options)


@pytest.mark.parametrize("name", [*DELIMITERS, "x.json"])
def test_a_text_file_comes_back_as_the_types_that_its_schema_says(
    client: Client, tmp_path: Path, name: str
) -> None:
    @thorough(0.25)
    @given(text_tables())
    def property_(rows: pa.Table) -> None:
        folder, where = tmp_path / str(next(NUMBERS)), fresh()
        folder.mkdir()
        as_text(rows, folder / name)
        client.catalog.write(folder / name, **where, schema=rows.schema)
        assert_same(client.catalog.read(**where), rows)

    property_()


ENGINES: dict[str, tuple[Callable[[pa.Table], Any], Callable[[Any], pa.Table]]] = {
    "polars": (pl.DataFrame, lambda frame: frame.to_arrow()),
    "polars, lazy": (
        lambda rows: pl.DataFrame(rows).lazy(),
        lambda lazy: lazy.collect().to_arrow(),
    ),
    "daft": (daft.from_arrow, lambda frame: frame.to_arrow()),
    "duckdb": (duckdb.connect().from_arrow, lambda relation: relation.to_arrow_table()),
    "narwhals": (
        lambda rows: narwhals.from_native(pl.DataFrame(rows)),
        lambda frame: frame.to_arrow(),
    ),
}


def kinds(rows: pa.Table) -> dict[str, pa.DataType]:
    """The columns' types in order, however wide the offsets of texts are."""
    narrow = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    plain_types = {f.name: without_views(f.type) for f in rows.schema}
    return {name: narrow.get(dtype, dtype) for name, dtype in plain_types.items()}


@pytest.mark.parametrize("kind", ENGINES)
def test_an_engines_frame_comes_back_as_the_engine_holds_it(client: Client, kind: str) -> None:
    make, held = ENGINES[kind]

    @thorough()
    @given(tables(nested=False))
    def property_(rows: pa.Table) -> None:
        where, frame = fresh(), make(plain(rows))
        client.catalog.write(frame, **where)
        found, wanted = client.catalog.read(**where), held(frame)
        assert kinds(found) == kinds(wanted)
        assert canonical(rows_of(found), ordered=True) == canonical(rows_of(wanted), ordered=True)

    property_()


FORMS: dict[ReadAs, tuple[Callable[[Any], pa.Table], Callable[[pa.Table], pa.Table]]] = {
    "polars": (lambda lazy: lazy.collect().to_arrow(), lambda rows: pl.DataFrame(rows).to_arrow()),
    "daft": (lambda frame: frame.to_arrow(), lambda rows: daft.from_arrow(rows).to_arrow()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_rows(client: Client, form: ReadAs) -> None:
    back, wanted = FORMS[form]

    @thorough()
    @given(tables(nested=False))
    def property_(rows: pa.Table) -> None:
        where = fresh()
        client.catalog.write(rows, **where, max_rows_per_file=3)
        found = back(client.catalog.read(**where, read_as=form))
        assert found.column_names == rows.column_names
        whole = wanted(plain(rows))
        assert canonical(rows_of(found), ordered=True) == canonical(rows_of(whole), ordered=True)

    property_()


OPENED: dict[ReadAs, tuple[str, Callable[[Any], pa.Table]]] = {
    "lance": ("lance", lambda dataset: dataset.to_table()),
    "pyarrow_parquet": ("parquet", lambda file: file.read()),
}


@pytest.mark.parametrize("form", OPENED)
def test_the_one_file_of_a_plan_holds_the_same_rows(client: Client, form: ReadAs) -> None:
    format_, back = OPENED[form]

    @thorough(0.25)
    @given(tables(names=PLAIN_NAMES, nested=False).filter(lambda rows: rows.num_rows > 0))
    def property_(rows: pa.Table) -> None:
        where = fresh()
        client.catalog.write(rows, **where, format=format_)
        found = back(client.catalog.read(**where, read_as=form))
        assert found.column_names == rows.column_names
        assert canonical(rows_of(found), ordered=True) == canonical(rows_of(rows), ordered=True)

    property_()


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_dataset_of_ray_goes_in_and_out_with_the_same_rows(client: Client) -> None:
    @thorough(0.1)
    @given(tables(nested=False).filter(lambda rows: rows.num_rows > 0))
    def property_(rows: pa.Table) -> None:
        where = fresh()
        client.catalog.write(ray.data.from_arrow(plain(rows)), **where)
        found = client.catalog.read(**where, read_as="ray_dataset")
        back = pa.concat_tables(ray.get(found.to_arrow_refs()))
        assert back.column_names == rows.column_names
        assert canonical(rows_of(back)) == canonical(rows_of(rows))
        read = client.catalog.read(**where)
        assert canonical(rows_of(read)) == canonical(rows_of(rows))

    property_()


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_saved_plan_is_read_by_ray(client: Client, tmp_path: Path) -> None:
    where = fresh()
    client.catalog.write(pa.table({"x": [1, 2]}), **where)
    client.catalog.plan(**where).save(tmp_path / "saved.plan")
    client.catalog.truncate_table(**where)
    loaded = ReadPlan.load(tmp_path / "saved.plan")
    found = client.catalog.read(plan=loaded, read_as="ray_dataset")
    assert pa.concat_tables(ray.get(found.to_arrow_refs()))["x"].to_pylist() == [1, 2]


def items(rows: Iterable[Iterable[object]]) -> list[tuple[str, ...]]:
    return [tuple(map(repr, row)) for row in rows]


def test_pandas_and_numpy_hold_the_same_rows(client: Client) -> None:
    @thorough()
    @given(tables(nested=False))
    def property_(rows: pa.Table) -> None:
        where, wanted = fresh(), plain(rows)
        client.catalog.write(rows, **where, max_rows_per_file=3)
        frame = client.catalog.read(**where, read_as="pandas")
        pd.testing.assert_frame_equal(frame, wanted.to_pandas())
        array = client.catalog.read(**where, read_as="numpy")
        assert array.shape == wanted.shape
        # All of one kind of number, they are an array of it: see below.
        if array.dtype == object:
            assert items(array) == items(row.values() for row in wanted.to_pylist())

    property_()


NUMBERS_OF_NUMPY = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


@pytest.mark.parametrize("dtype", NUMBERS_OF_NUMPY)
def test_an_array_of_numbers_comes_back_as_it_was(client: Client, dtype: str) -> None:
    @thorough(0.1)
    @given(arrays(np.dtype(dtype), array_shapes(min_dims=2, max_dims=2, max_side=4)))
    def property_(given_: np.ndarray[Any, Any]) -> None:
        where = fresh()
        kind = pa.from_numpy_dtype(given_.dtype)
        schema = pa.schema([(f"c{i}", kind) for i in range(given_.shape[1])])
        client.catalog.write(given_, **where, schema=schema)
        assert client.catalog.read(**where).schema == schema
        found = client.catalog.read(**where, read_as="numpy")
        assert found.dtype == given_.dtype
        np.testing.assert_array_equal(found, given_)

    property_()


@given(tables(nested=False), st.data())
def test_what_columns_say_of_themselves_comes_back(
    client: Client, rows: pa.Table, data: st.DataObject
) -> None:
    can_be_key = [f.name for f in rows.schema if not pa.types.is_floating(f.type)]
    keys = data.draw(st.lists(st.sampled_from(can_be_key), unique=True)) if can_be_key else []
    fields = [
        f.with_metadata({**(f.metadata or {}), DOC: f"about {f.name}".encode()})
        for f in rows.schema
    ]
    where = fresh()
    client.catalog.write(rows.cast(pa.schema(fields)), **where, merge_keys=keys)
    found = client.catalog.describe_table(**where)
    assert [f.name for f in found.schema or []] == rows.column_names
    assert [f.nullable for f in found.schema or []] == [f.nullable for f in rows.schema]
    assert [f.doc for f in found.schema or []] == [f"about {n}" for n in rows.column_names]
    assert {f.name for f in found.schema or [] if f.is_merge_key} == set(keys)
    plan = client.catalog.plan(**where)
    assert plan.schema.types == rows.schema.types


def test_what_a_later_write_says_counts_for_its_new_columns_alone(client: Client) -> None:
    where = fresh()
    first = pa.schema([pa.field("x", pa.int8(), metadata={"unit": "mm"})], metadata={"of": "first"})
    client.catalog.write(pa.table({"x": [1]}, schema=first), **where)
    later = pa.schema(
        [
            pa.field("x", pa.int8(), metadata={"unit": "inch"}),
            pa.field("y", pa.int8(), metadata={"unit": "s"}),
        ],
        metadata={"of": "later"},
    )
    client.catalog.write(pa.table({"x": [2], "y": [3]}, schema=later), **where)
    operation = {"op": "rename", "field_locator": "x", "new_name": "z"}
    client.catalog.alter_table(**where, schema_updates={"operations": [operation]})
    found = client.catalog.read(**where)
    assert found.to_pydict() == {"z": [1, 2], "y": [None, 3]}
    expected = [{b"of": b"first"}, ("z", {b"unit": b"mm"}), ("y", {b"unit": b"s"})]
    assert said(found.schema) == expected
    assert said(client.catalog.read(**where, columns=["y"]).schema) == [expected[0], expected[2]]


def test_notes_of_libraries_are_not_kept(client: Client) -> None:
    where = fresh()
    notes = {"pandas": "{}", "PARQUET:field_id": "9", "_PL_CATEGORICAL2": "x", "unit": "mm"}
    schema = pa.schema([pa.field("x", pa.int8(), metadata=notes)], metadata=notes)
    client.catalog.write(pa.table({"x": [1]}, schema=schema), **where)
    found = client.catalog.read(**where)
    assert said(found.schema) == [{b"unit": b"mm"}, ("x", {b"unit": b"mm"})]
    assert client.catalog.read(**where, read_as="pandas")["x"].tolist() == [1]
