"""Does Ray Data read a table's rows, and open no file that it need not?"""

from __future__ import annotations

import itertools
import math
import os
import pickle
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from ray.cloudpickle import dumps
from ray.data import DataContext
from ray.data.expressions import Expr, col, lit

from deltacat_sources.ray import DeltaCatDatasource
from docs.demo.opened import OpenedFiles
from io_core.errors import (
    CatalogRootError,
    DataFileError,
    NotFoundError,
    PredicateError,
    SchemaValidationError,
)
from io_core.model import TableRef
from io_core.s3 import S3Settings
from planner_client import Client
from tests.object_store.tls import behind_tls
from tests.ray.tables import SCHEMA, CountingClient, ids, keep, rows, table, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.object_store.store import ObjectStore


def blocks(source: DeltaCatDatasource, parallelism: int = 4) -> list[list[pa.Table]]:
    """What each task yields, run in this process as a worker would: from its pickle."""
    tasks = source.get_read_tasks(parallelism, data_context=DataContext.get_current())
    return [list(pickle.loads(dumps(task))()) for task in tasks]


def read(source: DeltaCatDatasource, parallelism: int = 4) -> pa.Table:
    return pa.concat_tables(itertools.chain.from_iterable(blocks(source, parallelism)))


def filtered(source: DeltaCatDatasource, expr: Expr) -> DeltaCatDatasource:
    found = source.apply_predicate(expr)
    assert isinstance(found, DeltaCatDatasource)
    return found


# --- what tasks return, without a cluster ----------------------------------------------------------


def test_all_rows_come_back(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    found = read(source)
    assert found.schema == SCHEMA
    assert ids(found) == list(range(95))


def test_tasks_reach_a_store_whose_authority_no_machine_knows(
    tmp_path: Path, object_store: ObjectStore
) -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    with behind_tls(object_store.url, authority) as url:
        settings = S3Settings(url, path_style=True, ca_certificates=pem)
        client = Client(tmp_path / "catalog", data_root=object_store.bucket(), s3=settings)
        source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
        assert sorted(ids(read(source))) == list(range(95))


def test_a_table_reference_and_a_directory_do_too(client: CountingClient, root: Path) -> None:
    name = table(client, rows(0, 5))
    source = DeltaCatDatasource(TableRef.parse(name), planner=root)
    assert ids(read(source)) == list(range(5))


def test_the_snapshot_is_the_one_at_construction(client: CountingClient) -> None:
    name = table(client, rows(0, 5))
    source = DeltaCatDatasource(name, planner=client)
    write(client, name, rows(5, 9))
    assert ids(read(source)) == list(range(5))
    assert ids(read(DeltaCatDatasource(name, planner=client))) == list(range(9))


def test_probes_make_no_plan(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    assert len(source.get_read_tasks(200)) == 200
    assert len(source.get_read_tasks(1)) == 1
    assert source.get_read_tasks(1)[0].metadata.num_rows == 95
    assert client.plans == []


def test_the_tasks_of_a_probe_read_everything_once(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    source = filtered(source, col("id") >= 50)
    tasks = source.get_read_tasks(7)
    assert ids(pa.concat_tables(block for task in tasks for block in task())) == list(range(50, 95))


def test_a_plan_is_made_once_for_each_predicate(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    few = filtered(source, col("id") < 10)
    for reader in (few, few, source, few):
        read(reader)
    assert len(client.plans) == 2


def test_a_filter_prunes_files_and_keeps_exact_rows(client: CountingClient, root: Path) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 200)), planner=client)
    source = filtered(source, (col("id") >= 42) & (col("s") != "s44") & (col("id") + 1 < 47))
    with OpenedFiles(root / "data") as watch:
        assert ids(read(source)) == [42, 43]
        assert len(watch.paths()) == 16
    source = filtered(source, col("id") < 50)
    with OpenedFiles(root / "data") as watch:
        assert ids(read(source)) == [42, 43]
        assert len(watch.paths()) == 1


def test_filters_that_follow_each_other_are_joined(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 50)), planner=client)
    source = filtered(filtered(source, col("id") > 10), col("id") < 13)
    assert ids(read(source)) == [11, 12]


def test_nan_is_what_it_is_to_pyarrow(client: CountingClient) -> None:
    data = rows(0, 50)
    source = DeltaCatDatasource(table(client, data), planner=client)
    for expr in (
        col("x") > 10,
        ~(col("x") > 10),
        col("x") != 10,
        col("x").not_in([10.0, None]),
        col("x").is_in([math.nan]),
        col("s").is_in(["s1", None]),
        col("s").not_in(["s1"]),
    ):
        assert ids(read(filtered(source, expr))) == keep(data, expr), expr


def test_a_float_beside_an_integer_column_is_no_error(client: CountingClient) -> None:
    data = pa.table({"id": [2**24, 2**24 + 1, 2**60]})
    source = DeltaCatDatasource(table(client, data, schema=data.schema), planner=client)
    assert ids(read(filtered(source, col("id") > 2**24 + 0.5))) == [2**24 + 1, 2**60]


def test_a_predicate_of_ours_has_our_nan(client: CountingClient) -> None:
    source = DeltaCatDatasource(
        table(client, rows(0, 20)), planner=client, predicate={"gt": ["x", 7]}
    )
    assert ids(read(source)) == [0, 7, 14, 15, 16, 17, 18, 19]


@pytest.mark.parametrize("predicate", [{"gte": ["id", 85]}, "id >= 85", pc.field("id") >= 85])
def test_a_predicate_is_said_as_json_sql_or_by_pyarrow(
    client: CountingClient, root: Path, predicate: Any
) -> None:
    name = table(client, rows(0, 95))
    source = DeltaCatDatasource(name, planner=client, predicate=predicate)
    with OpenedFiles(root / "data") as watch:
        assert ids(read(source)) == list(range(85, 95))
        assert len(watch.paths()) == 2


def test_a_pyarrow_predicate_that_cannot_be_said_is_refused(client: CountingClient) -> None:
    # Never widened: nothing would filter again.
    name = table(client, rows(0, 5))
    with pytest.raises(PredicateError):
        DeltaCatDatasource(name, planner=client, predicate=pc.field("id") + 1 > 85)


def test_a_predicate_and_a_filter_both_hold(client: CountingClient) -> None:
    source = DeltaCatDatasource(
        table(client, rows(0, 40)), planner=client, predicate={"gte": ["id", 18]}
    )
    assert ids(read(filtered(source, col("part") == 0))) == list(range(18, 40, 3))


def test_columns_come_in_the_order_asked_for(client: CountingClient) -> None:
    name = table(client, rows(0, 15))
    source = DeltaCatDatasource(name, planner=client, columns=["s", "id"])
    assert read(source).column_names == ["s", "id"]
    swapped = source.apply_projection({"id": "id", "s": "s"})
    assert read(swapped).column_names == ["id", "s"]
    assert read(source.apply_projection({"id": "id"})).column_names == ["id"]
    assert read(source.apply_projection(None)).column_names == ["s", "id"]


def test_a_filter_reads_columns_that_are_not_in_the_result(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 40)), planner=client)
    source = filtered(source, col("x") > 18).apply_projection({"s": "s"})
    assert read(source).column("s").to_pylist() == ["s37", "s38", "s39"]


def test_a_limit_counts_rows_and_opens_one_file(client: CountingClient, root: Path) -> None:
    name = table(client, rows(0, 200))
    with OpenedFiles(root / "data") as watch:
        assert ids(read(DeltaCatDatasource(name, planner=client, limit=10))) == list(range(10))
        assert len(watch.paths()) == 1
        assert read(DeltaCatDatasource(name, planner=client, limit=25)).num_rows == 25
        assert len(watch.paths()) == 3
        assert read(DeltaCatDatasource(name, planner=client, limit=999)).num_rows == 200


def test_a_limit_counts_rows_after_the_predicate(client: CountingClient, root: Path) -> None:
    source = DeltaCatDatasource(
        table(client, rows(0, 200)), planner=client, predicate={"eq": ["part", 1]}, limit=5
    )
    with OpenedFiles(root / "data") as watch:
        assert ids(read(source)) == [1, 4, 7, 10, 13]
        assert len(watch.paths()) == 2


def test_a_limit_of_no_rows_asks_for_no_plan(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 20)), planner=client, limit=0)
    assert read(source).schema == SCHEMA
    assert read(source).num_rows == 0
    assert client.plans == []


def test_a_filter_is_not_pushed_below_a_limit(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 20)), planner=client, limit=10)
    assert source.apply_predicate(col("id") > 5) is source


def test_rays_own_limit_reaches_the_planner(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 200)), planner=client)
    tasks = source.get_read_tasks(4, per_task_row_limit=7, data_context=DataContext.get_current())
    assert [block.num_rows for task in tasks for block in task()] == [7]
    assert [scan.row_limit for scan in client.plans] == [7]


@pytest.mark.parametrize("expr", [col("part") == 1, col("part") + 1 == 2])
def test_rays_own_limit_does_not_reach_the_planner_past_a_filter(
    client: CountingClient, expr: Expr
) -> None:
    source = filtered(DeltaCatDatasource(table(client, rows(0, 200)), planner=client), expr)
    tasks = source.get_read_tasks(4, per_task_row_limit=7, data_context=DataContext.get_current())
    assert [scan.row_limit for scan in client.plans] == [None]
    assert sum(block.num_rows for task in tasks for block in task()) >= 7


def test_merged_rows_are_filtered_and_limited_after_the_merge(client: CountingClient) -> None:
    name = table(client, rows(0, 30), merge_keys=["id"])
    write(client, name, rows(10, 20).set_column(3, SCHEMA.field("s"), pa.array(["new"] * 10)))
    write(client, name, pa.table({"id": [3, 11]}), mode="delete")
    whole = [i for i in range(30) if i not in (3, 11)]
    source = DeltaCatDatasource(name, planner=client)
    assert ids(read(source)) == whole
    assert ids(read(filtered(source, col("s") == "s12"))) == []
    assert ids(read(filtered(source, col("s") == "new"))) == [i for i in whole if 10 <= i < 20]
    assert read(source.apply_projection({"x": "x"})).num_rows == len(whole)
    assert read(source.apply_projection({})).num_rows == len(whole)
    limited = read(DeltaCatDatasource(name, planner=client, limit=15))
    assert limited.num_rows == 15
    assert set(ids(limited)) <= set(whole)


def test_a_merge_group_is_never_divided(client: CountingClient) -> None:
    name = table(
        client,
        merge_keys=["id"],
        partition_scheme={"keys": [{"key": ["part"], "transform": "identity"}]},
    )
    for _ in range(4):
        write(client, name, rows(0, 30))
    tasks = blocks(DeltaCatDatasource(name, planner=client), parallelism=50)
    held = [set(pa.concat_tables(task).column("part").to_pylist()) for task in tasks]
    assert sorted(part for parts in held for part in parts) == [0, 1, 2]
    assert ids(pa.concat_tables(itertools.chain(*tasks))) == list(range(30))


def test_a_partition_rules_files_out(client: CountingClient, root: Path) -> None:
    scheme = {"keys": [{"key": ["part"], "transform": "identity"}]}
    name = table(client, rows(0, 30), partition_scheme=scheme)
    source = filtered(DeltaCatDatasource(name, planner=client), col("part") == 2)
    with OpenedFiles(root / "data") as watch:
        assert ids(read(source)) == list(range(2, 30, 3))
        assert len(watch.paths()) == 1


def test_rows_are_counted_without_opening_a_file(client: CountingClient, root: Path) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    sources = {
        95: source,
        40: filtered(source, col("id") < 40),
        20: DeltaCatDatasource(
            TableRef.parse(str(source.reading.table)), planner=client, predicate={"lt": ["id", 20]}
        ),
    }
    with OpenedFiles(root / "data") as watch:
        for count, reader in sources.items():
            assert read(reader.apply_projection({})).num_rows == count
        assert watch.paths() == []


def test_only_files_that_need_it_are_opened_to_count(client: CountingClient, root: Path) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    counted = filtered(source, col("id") < 45).apply_projection({})
    with OpenedFiles(root / "data") as watch:
        assert read(counted).num_rows == 45
        assert len(watch.paths()) == 1


@pytest.mark.parametrize("expr", [col("x") > 1, col("id") + 1 > 0, col("x").is_in([0.0, 1.0])])
def test_a_widened_filter_is_always_applied(client: CountingClient, expr: Expr) -> None:
    data = rows(1, 60)
    source = DeltaCatDatasource(table(client, data), planner=client)
    counted = filtered(source, expr).apply_projection({})
    assert read(counted).num_rows == len(keep(data, expr))


def test_metadata_has_row_counts_only_where_they_are_exact(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)

    def counts(reader: DeltaCatDatasource) -> list[int | None]:
        tasks = reader.get_read_tasks(4, data_context=DataContext.get_current())
        assert all(task.metadata.size_bytes for task in tasks)
        return [task.metadata.num_rows for task in tasks]

    assert sum(filter(None, counts(source))) == 95
    assert counts(filtered(source, col("x") > 40)) != [None]
    assert None in counts(filtered(source, col("id") < 45))
    assert None not in counts(filtered(source, col("id") < 40))
    assert source.get_read_tasks(1)[0].metadata.num_rows == 95
    assert filtered(source, col("id") < 40).get_read_tasks(1)[0].metadata.num_rows is None


def test_an_empty_table_has_its_columns(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client), planner=client)
    assert read(source).schema == SCHEMA
    assert read(source).num_rows == 0
    assert source.get_read_tasks(1)[0].schema == SCHEMA


def test_a_filter_that_nothing_passes_leaves_the_columns(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 20)), planner=client)
    for expr in (col("id") < 0, col("id") + 1 < 0):
        found = read(filtered(source, expr).apply_projection({"s": "s"}))
        assert found.schema == pa.schema([SCHEMA.field("s")])
        assert found.num_rows == 0


def test_tasks_are_about_equal_and_keep_the_order(client: CountingClient) -> None:
    name = table(client, rows(0, 640))
    tasks = blocks(DeltaCatDatasource(name, planner=client), parallelism=200)
    first = [task[0].column("id")[0].as_py() for task in tasks]
    assert first == sorted(first)
    # Short ones first, so that a limit above can stop early; then the rest.
    assert [sum(block.num_rows for block in task) for task in tasks[:3]] == [10, 20, 40]
    assert sum(block.num_rows for task in tasks for block in task) == 640
    assert len(blocks(DeltaCatDatasource(name, planner=client), parallelism=1)) == 1


def test_blocks_double_and_are_of_one_chunk(client: CountingClient) -> None:
    words = pa.array(["a", "b"] * 35).dictionary_encode()
    data = rows(0, 70).append_column("word", words)
    name = table(client, data, schema=data.schema)
    (task,) = blocks(DeltaCatDatasource(name, planner=client), parallelism=1)
    assert [block.num_rows for block in task] == [10, 20, 40]
    assert {column.num_chunks for block in task for column in block.columns} == {1}
    assert pa.concat_tables(task).drop("x").equals(data.drop("x"))


def test_a_task_carries_its_own_files_and_no_planner(client: CountingClient) -> None:
    name = table(client, rows(0, 640))
    tasks = DeltaCatDatasource(name, planner=client).get_read_tasks(
        4, data_context=DataContext.get_current()
    )
    pickled = [dumps(task) for task in tasks]
    assert all(len(raw) < 8_000 for raw in pickled)
    assert not any(b"planner" in raw for raw in pickled)
    assert sum(raw.count(b".parquet") for raw in pickled) <= 64
    # Ray names the function of a task that it finds too large.
    assert all(task.read_fn.__name__ for task in tasks)


def test_it_pickles_with_its_filter(client: CountingClient, root: Path) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 20)), planner=Client(root))
    again = pickle.loads(dumps(filtered(source, col("id") > 15)))
    assert ids(read(again)) == [16, 17, 18, 19]


def test_it_says_what_it_reads(client: CountingClient) -> None:
    name = table(client, rows(0, 20))
    assert repr(DeltaCatDatasource(name, planner=client)).startswith(
        f"DeltaCatDatasource({name} at"
    )


def test_sizes_follow_the_columns(client: CountingClient) -> None:
    source = DeltaCatDatasource(table(client, rows(0, 95)), planner=client)
    assert source.estimate_inmemory_data_size() >= 95 * (8 + 4 + 8)
    narrow = source.apply_projection({"part": "part"})
    assert isinstance(narrow, DeltaCatDatasource)
    assert 95 * 4 <= narrow.estimate_inmemory_data_size() < source.estimate_inmemory_data_size()


VALUES = st.sampled_from([-2, -1, 0, 1, 2, 3, 5, 8, None])
FLOATS = st.sampled_from([math.nan, -0.0, 0.0, 1.0, 2.5, math.inf, None])
TEXTS = st.sampled_from(["", "a", "b", "s1", None])
BATCHES = st.lists(st.tuples(st.integers(0, 12), VALUES, FLOATS, TEXTS), min_size=1, max_size=6)
HISTORIES = st.lists(st.tuples(st.booleans(), BATCHES), min_size=1, max_size=4)


@st.composite
def filters(draw: st.DrawFn) -> Expr:
    name, values = draw(
        st.sampled_from([("id", VALUES), ("part", VALUES), ("x", FLOATS), ("s", TEXTS)])
    )
    value, column = draw(values), col(name)
    leaf = draw(
        st.sampled_from(
            [
                column == lit(value),
                column != lit(value),
                column > lit(value),
                column <= lit(value),
                column.is_null(),
                column.is_in([value]),
                column.not_in([value, draw(values)]),
            ]
        )
    )
    match draw(st.integers(0, 3)):
        case 0:
            return ~leaf
        case 1:
            return leaf & draw(filters())
        case 2:
            return leaf | draw(filters())
    return leaf


@given(keyed=st.booleans(), history=HISTORIES, exprs=st.lists(filters(), min_size=8, max_size=8))
def test_any_history_gives_the_rows_that_a_filter_in_memory_gives(
    root: Path, keyed: bool, history: list[Any], exprs: list[Expr]
) -> None:
    client = Client(root)
    name = table(client, merge_keys=["id"] if keyed else [])
    held: list[dict[str, Any]] = []
    for deletes, batch in history:
        new = [dict(zip(SCHEMA.names, row, strict=True)) for row in batch]
        if keyed:
            new = list({row["id"]: row for row in new}.values())
            gone = {row["id"] for row in new}
            held = [row for row in held if row["id"] not in gone]
        if keyed and deletes:
            write(client, name, pa.table({"id": [row["id"] for row in new]}), mode="delete")
        else:
            write(client, name, pa.Table.from_pylist(new, schema=SCHEMA))
            held += new
    data = pa.Table.from_pylist(held, schema=SCHEMA)
    source = DeltaCatDatasource(name, planner=client)
    for expr in exprs:
        try:
            wanted = data.filter(expr.to_pyarrow())
        except pa.ArrowTypeError:
            continue  # pyarrow takes no list of nothing but nulls beside text
        found = read(filtered(source, expr))
        assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, wanted.to_pylist())), expr
        counted = filtered(source, expr).apply_projection({})
        assert read(counted).num_rows == wanted.num_rows, expr


# --- errors ----------------------------------------------------------------------------------------


def test_an_unknown_table_is_named_with_the_nearest(client: CountingClient) -> None:
    name = table(client, rows(0, 5))
    with pytest.raises(NotFoundError, match="did you mean"):
        DeltaCatDatasource(name + "x", planner=client)


def test_an_unknown_column_is_named_with_the_nearest(client: CountingClient) -> None:
    name = table(client, rows(0, 5))
    with pytest.raises(SchemaValidationError, match="'idd'; did you mean 'id'"):
        DeltaCatDatasource(name, planner=client, columns=["idd"])
    with pytest.raises(SchemaValidationError, match="'idd'; did you mean 'id'"):
        DeltaCatDatasource(name, planner=client).apply_predicate(col("idd") == 1)
    narrow = DeltaCatDatasource(name, planner=client, columns=["id"])
    with pytest.raises(SchemaValidationError, match="unknown column 'x'"):
        narrow.apply_predicate(col("x") == 1)


@pytest.mark.parametrize(
    ("predicate", "place"),
    [({"gt": ["id"]}, r"\$\.gt"), ({"gt": ["id", "abc"]}, r"\$\.gt"), ({"like": 1}, r"\$")],
)
def test_a_malformed_predicate_is_refused_with_its_place(
    client: CountingClient, predicate: dict[str, Any], place: str
) -> None:
    name = table(client, rows(0, 5))
    with pytest.raises(PredicateError, match=place):
        DeltaCatDatasource(name, planner=client, predicate=predicate)


def test_a_directory_that_is_no_catalog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CatalogRootError, match=str(tmp_path)):
        DeltaCatDatasource("ns.t", planner=tmp_path)


def test_a_negative_limit_is_refused(client: CountingClient) -> None:
    with pytest.raises(ValueError, match="limit is -1"):
        DeltaCatDatasource(table(client), planner=client, limit=-1)


@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 100)])
def test_a_missing_or_damaged_file_is_named_with_the_plan(
    client: CountingClient, damage: Callable[[str], None]
) -> None:
    name = table(client, rows(0, 5))
    path = client.catalog.plan(namespace="ns", table=name.removeprefix("ns.")).paths[0]
    damage(path)
    with pytest.raises(DataFileError, match=f"{path} .* listed by .*{name}"):
        read(DeltaCatDatasource(name, planner=client))
