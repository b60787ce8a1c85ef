"""Whether what Ray Data does above a read of a table gives what it gives above the same rows in memory.

Each question is asked of both source interfaces, and of tables of all kinds in turn.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import ray
import ray.data
from ray.data import DataContext, Dataset
from ray.data.aggregate import Count, Max, Mean, Sum
from ray.data.context import ShuffleStrategy
from ray.data.expressions import col

from deltacat_sources.ray import DeltaCatDatasource, read_deltacat
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.object_store.store import ObjectStore

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

_COUNT = 24
_DAY_US = 86_400_000_000
ROWS = pa.table(
    {
        "k": pa.array(range(_COUNT), pa.int64()),
        "g": ["x", "y", "z", "x"] * 6,
        "v": pa.array([0.5, None, math.nan, 3.5, -0.0, 4.5] * 4, pa.float64()),
        "t": pa.array([[1, 2], [], None, [3]] * 6, pa.list_(pa.int64())),
        "when": pa.array([i * _DAY_US for i in range(_COUNT)], pa.timestamp("us")),
        "st": [{"a": i, "b": f"b{i}"} for i in range(_COUNT)],
        # Absent from the older files of one table.
        "n": pa.array([None] * 10 + [1, 1, 2, None, 3, 1, 5] * 2, pa.int32()),
    }
)

# Any: a batch, in the form that a question asks for.
Batch = Any


def plus(batch: Batch) -> Batch:
    return {**batch, "more": batch["k"] + 1}


def first_of(batch: Batch) -> Batch:
    return {"g": batch["g"][:1], "k": [batch["k"].sum()]}


def in_tasks(dataset: Dataset) -> list[int]:
    """A dataset that travels to a worker, and runs there."""

    @ray.remote(num_cpus=0)
    def keys(told: Dataset) -> list[int]:
        return sorted(row["k"] for row in told.take_all())

    found: list[int] = ray.get(keys.remote(dataset), timeout=120)
    return found


# Any: what a question gives, a dataset for one.
QUESTIONS: dict[str, Callable[[Dataset], Any]] = {
    "all": lambda d: d,
    "columns, turned twice": lambda d: d.select_columns(["n", "k", "g"]).select_columns(["g", "n"]),
    "no columns": lambda d: d.select_columns([]).count(),
    "all but some": lambda d: d.drop_columns(["t", "k", "st"]),
    "names that swap": lambda d: d.rename_columns({"k": "g", "g": "k"}).select_columns(["k", "n"]),
    "a filter by a new name": lambda d: (
        d.rename_columns({"k": "z"}).filter(expr=col("z") > 7).select_columns(["g", "z"])
    ),
    "a filter by a name that was another's": lambda d: (
        d.select_columns(["g", "k"])
        .rename_columns({"k": "n", "g": "k"})
        .filter(expr=(col("n") > 7) & (col("k") == "x"))
    ),
    "a new name after a filter": lambda d: d.filter(expr=col("k") > 7).rename_columns({"k": "z"}),
    "a column more": lambda d: d.with_column("more", col("k") * 2 + col("n")),
    "another column of the name": lambda d: (
        d.with_column("k", col("k") * 2).filter(expr=col("k") > 10).select_columns(["k", "g"])
    ),
    "a column in upper case": lambda d: (
        d.with_column("u", col("g").str.upper()).filter(expr=col("u") == "X").select_columns(["k"])
    ),
    "a filter": lambda d: d.filter(expr=col("k") >= 13),
    "a filter in words": lambda d: d.filter(expr="k > 3 and g == 'x'"),
    "a filter by a function": lambda d: d.filter(fn=lambda row: row["k"] % 3 == 1),
    "filters of both kinds": lambda d: (
        d.filter(expr=col("k") > 3).filter(fn=lambda row: row["g"] != "x").filter(expr=col("n") > 0)
    ),
    "a filter by what is not shown": lambda d: (
        d.filter(expr=col("g") == "y").select_columns(["k"]).filter(expr=col("k") > 1)
    ),
    "a filter that NaN passes or not": lambda d: (
        d.filter(expr=~(col("v") > 1)).select_columns(["k", "v"])
    ),
    "a filter by nulls": lambda d: d.filter(expr=col("n").is_null() | (col("v") == 0.0)),
    "a filter by lists of values": lambda d: (
        d.filter(expr=col("g").is_in(["x", None]) & col("n").not_in([1]))
    ),
    "a filter by sums": lambda d: d.filter(expr=col("k") + col("n") > 20),
    "a filter by fields": lambda d: d.filter(expr=col("st").struct.field("a") > 7),
    "a filter by lengths": lambda d: d.filter(expr=col("t").list.len() > 1).select_columns(["k"]),
    "a filter by days": lambda d: d.filter(expr=col("when").dt.day() > 7).select_columns(["k"]),
    "a filter that nothing passes": lambda d: (
        (found := d.filter(expr=col("k") > 1000)).count(), found.schema().names
    ),
    "a limit of what is filtered": lambda d: len(d.filter(expr=col("g") == "x").limit(4).take_all()),
    "what is filtered of a limit": lambda d: d.sort("k").limit(6).filter(expr=col("g") == "x"),
    "limits": lambda d: len(d.limit(9).select_columns(["g"]).limit(4).limit(6).take_all()),
    "a limit of what is mapped": lambda d: len(d.map(lambda row: row).limit(3).take_all()),
    "sorted": lambda d: [r["k"] for r in d.sort("k", descending=True).take_all()],
    "sorted by two": lambda d: (
        [(r["g"], r["k"]) for r in d.sort(["g", "k"], descending=[True, False]).take(9)]
    ),
    "groups": lambda d: d.groupby("g").aggregate(Sum("k"), Count(), Mean("n"), Max("when")),
    "groups by a function": lambda d: d.groupby("g").map_groups(first_of),
    "totals": lambda d: (d.sum("k"), d.min("k"), d.max("when"), d.mean("n"), round(d.std("k"), 9)),
    "a total of what is filtered": lambda d: d.filter(expr=col("g") == "x").sum("k"),
    "what is different": lambda d: sorted(d.unique("g")),
    "side by side": lambda d: (
        d.sort("k").select_columns(["k"]).zip(d.sort("k").select_columns(["g"]))
    ),
    "one below the other": lambda d: (
        d.filter(expr=col("k") < 3).union(d.filter(expr=col("k") > 20), d)
    ),
    "a filter and a limit of two": lambda d: (
        len(d.select_columns(["k"]).union(d.select_columns(["k"])).filter(expr=col("k") > 9).take(20))
    ),
    "shuffled": lambda d: d.random_shuffle(seed=3),
    "other blocks": lambda d: d.repartition(5).filter(expr=col("k") > 3),
    "blocks of some rows": lambda d: d.repartition(target_num_rows_per_block=5),
    "in parts": lambda d: [row for part in d.split(3) for row in part.take_all()],
    "in parts of a size": lambda d: (
        [part.count() for part in (*d.split(3, equal=True), *d.split_at_indices([3, 9]))]
    ),
    "to train and to test": lambda d: [p.count() for p in d.train_test_split(0.25)],
    "batches of NumPy": lambda d: (
        sorted(int(x) for b in d.iter_batches(batch_size=5, prefetch_batches=2) for x in b["k"])
    ),
    "batches of pandas, shuffled": lambda d: sorted(
        int(x)
        for b in d.iter_batches(
            batch_size=5, batch_format="pandas", local_shuffle_buffer_size=9, local_shuffle_seed=1
        )
        for x in b["k"]
    ),
    "batches of Arrow": lambda d: (
        pa.concat_tables(d.sort("k").iter_batches(batch_format="pyarrow")).to_pylist()
    ),
    "rows mapped to several": lambda d: d.flat_map(lambda row: [{"k": row["k"]}] * 2),
    "mapped as NumPy": lambda d: d.select_columns(["k", "g"]).map_batches(plus),
    "mapped as pandas": lambda d: (
        d.select_columns(["k", "g", "when"]).map_batches(plus_frame, batch_format="pandas")
    ),
    "mapped as Arrow and filtered": lambda d: d.map_batches(
        lambda rows: rows.append_column("z", rows["k"]), batch_format="pyarrow", batch_size=3
    ).filter(expr=col("z") > 7),
    "its schema": lambda d: (d.schema().names, [str(dtype) for dtype in d.schema().types]),
    "its columns": lambda d: (
        d.columns(), d.select_columns(["n", "k"]).columns(), d.rename_columns({"k": "z"}).columns()
    ),
    "counted": lambda d: (
        d.count(), d.select_columns(["g"]).count(), d.filter(expr=col("g") == "x").count()
    ),
    "a batch taken": lambda d: {name: len(values) for name, values in d.take_batch(5).items()},
    "as pandas": lambda d: d.sort("k").to_pandas().astype(str).to_dict("records"),
    "as Arrow": lambda d: (
        pa.concat_tables(ray.get(d.sort("k").to_arrow_refs(), timeout=120)).to_pylist()
    ),
    "held twice": lambda d: d.materialize().materialize().filter(expr=col("k") > 7),
    "read twice": lambda d: (d.count(), len(d.take_all()), d.count(), len(d.take_all())),
    "in a task": in_tasks,
}  # fmt: skip


def plus_frame(frame: Batch) -> Batch:
    return frame.assign(k=frame.k + 1)


def write(client: Client, table: str, rows: pa.Table, **options: Any) -> None:
    client.catalog.write(rows, namespace="ns", table=table, **options)


def keyed(client: Client, table: str, **options: Any) -> None:
    """Older rows of half the keys, which newer ones replace, and some that are deleted."""
    old = ROWS.set_column(1, "g", pa.array(["old"] * _COUNT))
    gone = old.slice(0, 3).set_column(0, "k", pa.array([100, 101, 102]))
    write(client, table, pa.concat_tables([old.slice(0, 12), gone]), merge_keys=["k"], **options)
    write(client, table, ROWS, max_rows_per_file=7)
    write(client, table, gone.select(["k"]), mode="delete")


def evolved(client: Client, table: str) -> None:
    """Older files have other names and types, a column that is gone, and lack one."""
    first = [("k", pa.int32()), ("old", pa.string()), ("v", pa.float32())]
    kept = [ROWS.schema.field(name) for name in ("t", "when", "st")]
    schema = pa.schema([*first, *kept, ("gone", pa.int64())])
    part = ROWS.slice(0, 10)
    columns = [*part.drop_columns(["n"]).columns, pa.array(range(10))]
    rows = pa.table(columns, names=schema.names).cast(schema)
    write(client, table, rows, max_rows_per_file=4)
    operations = [
        {"op": "rename", "field_locator": "old", "new_name": "g"},
        {"op": "remove", "field_locator": "gone"},
        {"op": "add", "field": {"name": "n", "type": "int32"}},
        {"op": "update_type", "field_locator": "k", "new_type": "int64"},
        {"op": "update_type", "field_locator": "v", "new_type": "float64"},
    ]
    updates = {"operations": operations, "allow_incompatible_changes": True}
    client.catalog.alter_table(namespace="ns", table=table, schema_updates=updates)
    write(client, table, ROWS.slice(10), max_rows_per_file=5)


@pytest.fixture(scope="module")
def clients(
    tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore
) -> dict[str, Client]:
    """One catalog on a disk, one whose data is on S3, each with its tables."""
    root = tmp_path_factory.mktemp("questions")
    local = Client(root / "local")
    bucket, settings = object_store.bucket(), object_store.settings
    remote = Client(root / "remote", data_root=f"{bucket}/lake", s3=settings)
    for client in (local, remote):
        for at in range(0, _COUNT, 10):
            write(client, "plain", ROWS.slice(at, 10))
        keyed(client, "keyed")
    write(local, "divided", ROWS, partition_by=["g"])
    evolved(local, "evolved")
    for at, name in enumerate(("parquet", "feather", "orc", "avro")):
        write(local, "mixed", ROWS.slice(6 * at, 6), format=name)
    return {"local": local, "S3": remote}


TABLES = (
    "plain local", "divided local", "keyed local", "evolved local", "mixed local", "keyed S3",
    "plain S3", "unproven keyed local", "unproven keyed S3",
)  # fmt: skip


def read(clients: dict[str, Client], named: str, interface: str) -> Dataset:
    """A dataset of a table. Of an unproven one nobody knows the dead rows: tasks merge."""
    *unproven, table, place = named.split()
    client = clients[place]
    # Any: the one or the other.
    told: dict[str, Any] = {"planner": client}
    if unproven:
        told = {"plan": client.catalog.plan(namespace="ns", table=table)}
    if interface == "newer":
        return read_deltacat(f"ns.{table}", **told)
    return ray.data.read_datasource(DeltaCatDatasource(f"ns.{table}", **told))


@pytest.fixture(scope="module")
def wanted() -> dict[str, object]:
    """What was asked of the rows in memory already."""
    return {}


@pytest.fixture(autouse=True)
def _sorting_in_tasks() -> Iterator[None]:
    """As this project's own writes do: Ray's default starts processes first (2.60)."""
    context = DataContext.get_current()
    before, context.shuffle_strategy = (
        context.shuffle_strategy, ShuffleStrategy.SORT_SHUFFLE_PULL_BASED,
    )  # fmt: skip
    yield
    context.shuffle_strategy = before


def answer(question: str, dataset: Dataset) -> str | list[str]:
    found = QUESTIONS[question](dataset)
    if isinstance(found, Dataset):
        found = found.take_all()
    of_rows = isinstance(found, list) and found and isinstance(found[0], dict)
    return sorted(map(repr, found)) if of_rows else repr(found)


# What Ray calls slow, and what it will drop.
@pytest.mark.filterwarnings(
    "ignore:Use 'expr' instead of 'fn'",
    "ignore:String expressions are deprecated:DeprecationWarning",
    "ignore:This API is deprecated",
)
@pytest.mark.parametrize(
    ("question", "interface", "table"),
    [
        (*asked, table)
        for asked, table in zip(
            itertools.product(QUESTIONS, ("public", "newer")), itertools.cycle(TABLES)
        )
    ],
)
def test_a_question_to_a_table_is_that_to_its_rows_in_memory(
    clients: dict[str, Client],
    wanted: dict[str, object],
    question: str,
    interface: str,
    table: str,
) -> None:
    if question not in wanted:
        blocks = [ROWS.slice(at, 8) for at in range(0, _COUNT, 8)]
        wanted[question] = answer(question, ray.data.from_arrow(blocks))
    assert answer(question, read(clients, table, interface)) == wanted[question]
