"""Do Parquet files that are there become part of a table, where they lie, and only what fits?"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from deltacat_sources.daft import read_deltacat
from deltacat_sources.polars import scan_deltacat
from io_core.errors import (
    ConcurrentModificationError,
    DataFileError,
    DeltaCATError,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from planner_client import Client
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from tests.same_rows import assert_same
from tests.serving import served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.storage import Storage
    from tests.object_store.store import ObjectStore

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS = pa.table(
    {"id": [1, 2, 3, 4], "day": ["mon", "mon", "tue", None], "v": [1.5, 2.0, None, 4.0]}
)
IDS = [1, 2, 3, 4]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "catalog")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("added") / "catalog") as found:
        yield found


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A directory of files as other programs leave it: one for each day, named after it."""
    root = tmp_path / "lake"
    for name, rows in {
        "day=mon": ROWS.slice(0, 2),
        "day=tue": ROWS.slice(2, 1),
        "day=__HIVE_DEFAULT_PARTITION__": ROWS.slice(3),
    }.items():
        (root / name).mkdir(parents=True)
        pq.write_table(rows, root / name / "part-0.parquet")
        (root / name / "_SUCCESS").touch()
        (root / name / ".part-0.parquet.crc").touch()
    (root / "_temporary").mkdir()
    pq.write_table(ROWS, root / "_temporary" / "left.parquet")
    return root


def ids(client: Client, **where: Any) -> list[int]:
    found: list[int] = client.catalog.read(**(where or WHERE)).column("id").to_pylist()
    return sorted(found)


def snapshot_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


# --- which files ----------------------------------------------------------------------------------


def test_a_directory_makes_a_table_of_its_files_where_they_lie(client: Client, lake: Path) -> None:
    before = snapshot_of(lake)
    done = client.catalog.add_files(lake, **WHERE)
    assert (done.files_registered, done.total_records, done.committed) == (3, 4, True)
    assert_same(client.catalog.read(**WHERE).sort_by("id"), ROWS)
    assert {f.path for f in client.catalog.plan(**WHERE).all_files()} == {
        str(p) for p in lake.glob("day=*/part-0.parquet")
    }
    assert snapshot_of(lake) == before
    assert not list(Path(client.target).rglob("*.parquet"))


def test_over_http_the_same(url: str, lake: Path) -> None:
    client = Client(url)
    assert client.catalog.add_files(lake, **WHERE, partition_by="day").total_records == 4
    assert ids(client) == IDS


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("day=*/part-*.parquet", IDS),
        ("day=mon/part-0.parquet", [1, 2]),
        ("**/part-0.parquet", IDS),
        ("day=[mt]*/*.parquet", [1, 2, 3]),
    ],
)
def test_a_pattern_or_a_file_names_files(
    client: Client, lake: Path, pattern: str, found: list[int]
) -> None:
    client.catalog.add_files(str(lake / pattern), **WHERE)
    assert ids(client) == found


def test_a_list_names_each_file_once(client: Client, lake: Path) -> None:
    one = lake / "day=mon" / "part-0.parquet"
    done = client.catalog.add_files([one, lake, f"file://{one}"], **WHERE)
    assert done.files_registered == 3


@pytest.mark.parametrize("name", ["absent", "absent/*.parquet", "day=mon/_SUCCESS", "empty"])
def test_what_is_no_parquet_file_is_named_and_nothing_is_added(
    client: Client, lake: Path, name: str
) -> None:
    (lake / "empty").mkdir()
    with pytest.raises(DataFileError, match=name.rsplit("/", maxsplit=1)[-1].replace("*", r"\*")):
        client.catalog.add_files([lake / "day=mon", lake / name], **WHERE)
    assert not client.catalog.namespace_exists(namespace="ns")


def test_an_empty_list_is_refused(client: Client) -> None:
    with pytest.raises(SchemaValidationError, match="empty list"):
        client.catalog.add_files([], **WHERE)


def test_many_footers_are_read_with_a_bar_on_request(
    client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many").mkdir()
    for i in range(50):
        pq.write_table(pa.table({"id": [i]}), tmp_path / "many" / f"{i:03}.parquet")
    client.catalog.add_files(tmp_path / "many", **WHERE, progress=True)
    assert "50/50" in capfd.readouterr().err
    assert client.catalog.read(**WHERE).column("id").to_pylist() == list(range(50))


# --- partitions -----------------------------------------------------------------------------------


def test_paths_and_statistics_say_which_partition_a_file_is(client: Client, lake: Path) -> None:
    client.catalog.add_files(lake, **WHERE, partition_by="day")
    found = {
        tuple(p.partition_values or ()) for p in client.catalog.plan(**WHERE).partition_summaries()
    }
    assert found == {("mon",), ("tue",), (None,)}
    plan = client.catalog.plan(**WHERE, filter_predicate={"eq": ["day", "tue"]})
    assert plan.total_files == 1


def test_statistics_alone_say_it_through_a_transform(client: Client, tmp_path: Path) -> None:
    at = [dt.datetime(2024, 1, 5), dt.datetime(2024, 11, 6)]
    pq.write_table(pa.table({"id": [1, 2], "at": at}), tmp_path / "a.parquet")
    client.catalog.create_table(
        **WHERE,
        schema=pa.schema([("id", pa.int64()), ("at", pa.timestamp("us"))]),
        partition_scheme={"keys": [{"key": ["at"], "transform": "year"}]},
        auto_create_namespace=True,
    )
    client.catalog.add_files(tmp_path / "a.parquet", **WHERE)
    (found,) = client.catalog.plan(**WHERE).partition_summaries()
    assert found.partition_values == [2024]


@pytest.mark.parametrize(
    ("rows", "name", "says"),
    [
        (
            ROWS.slice(0, 3),
            "x.parquet",
            r"not say that its rows are of one partition: 'day' is 'mon'",
        ),
        (ROWS.slice(0, 3), "day=mon/x.parquet", r"named after day=mon, and holds others"),
        (ROWS.slice(2, 2), "x.parquet", r"one partition: .* 1 nulls"),
        (ROWS.slice(2, 2), "day=tue/x.parquet", r"named after day=tue, and holds others"),
        (ROWS.slice(0, 2), "day=wed/x.parquet", r"named after day=wed, and its rows have 'mon'"),
        (ROWS.select(["id", "v"]), "x.parquet", r"lacks the column 'day'"),
        (ROWS.select(["id", "v"]), "month=1/x.parquet", r"lacks the column 'day'"),
    ],
)
def test_a_file_of_several_partitions_is_refused_by_its_name(
    client: Client, tmp_path: Path, rows: pa.Table, name: str, says: str
) -> None:
    client.catalog.write(ROWS, **WHERE, partition_by="day")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows, path)
    with pytest.raises(SchemaValidationError, match=says) as caught:
        client.catalog.add_files(path, **WHERE)
    assert str(path) in str(caught.value)
    assert ids(client) == IDS


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    """A directory as Hive and Spark write it: the files lack the columns that the paths say."""
    root = tmp_path / "hive"
    for year, city, ids in ((2023, "a b", [1, 2]), (2024, "a b", [3]), (2024, None, [4])):
        name = "__HIVE_DEFAULT_PARTITION__" if city is None else "a%20b"
        (root / f"year={year}" / f"city={name}").mkdir(parents=True)
        path = root / f"year={year}" / f"city={name}" / "part.parquet"
        pq.write_table(pa.table({"id": ids}), path)
    return root


HIVE = [
    {"id": 1, "year": 2023, "city": "a b"},
    {"id": 2, "year": 2023, "city": "a b"},
    {"id": 3, "year": 2024, "city": "a b"},
    {"id": 4, "year": 2024, "city": None},
]


def test_columns_that_paths_alone_say_are_read_from_them(client: Client, hive: Path) -> None:
    client.catalog.add_files(hive, **WHERE, partition_by=["year", "city"])
    found = client.catalog.read(**WHERE).sort_by("id")
    assert found.schema.types == [pa.int64(), pa.int64(), pa.string()]
    assert found.to_pylist() == HIVE
    assert scan_deltacat("ns.t", planner=client).sort("id").collect().to_dicts() == HIVE
    assert read_deltacat("ns.t", planner=client).sort("id").to_pylist() == HIVE
    one = client.catalog.read(**WHERE, columns=["year"], filter_predicate="year = 2023")
    assert one.to_pydict() == {"year": [2023, 2023]}
    frame = scan_deltacat("ns.t", planner=client).filter(pl.col("year") == 2024).select("id")
    assert sorted(frame.collect()["id"]) == [3, 4]
    frame = scan_deltacat("ns.t", planner=client).select("year").sort("year")
    assert frame.collect()["year"].to_list() == [2023, 2023, 2024, 2024]


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_ray_reads_such_columns_too(client: Client, hive: Path) -> None:
    client.catalog.add_files(hive, **WHERE, partition_by=["year", "city"])
    found = client.catalog.read(**WHERE, read_as="ray_dataset").take_all()
    assert sorted(found, key=lambda row: row["id"]) == HIVE


def test_a_table_with_such_files_goes_on_as_any_other(client: Client, hive: Path) -> None:
    typed = pa.schema([("id", pa.int64()), ("year", pa.int32()), ("city", pa.string())])
    more = pa.table({"id": [9], "year": [2025], "city": ["c"]}, schema=typed)
    client.catalog.write(more, **WHERE, partition_by=["year", "city"])
    client.catalog.add_files(hive, **WHERE)
    client.catalog.write(more.set_column(0, "id", pa.array([10])), **WHERE)
    assert ids(client) == [1, 2, 3, 4, 9, 10]
    assert client.catalog.read(**WHERE).schema.field("year").type == pa.int32()
    client.catalog.delete(predicate="year = 2023 AND id = 1", **WHERE)
    client.catalog.delete(predicate="city IS NULL", **WHERE)
    found = client.catalog.read(**WHERE).sort_by("id").to_pylist()
    assert found == [
        {"id": 2, "year": 2023, "city": "a b"},
        {"id": 3, "year": 2024, "city": "a b"},
        {"id": 9, "year": 2025, "city": "c"},
        {"id": 10, "year": 2025, "city": "c"},
    ]
    operations = [{"op": "rename", "field_locator": "id", "new_name": "n"}]
    client.catalog.alter_table(**WHERE, schema_updates={"operations": operations})
    assert client.catalog.read(**WHERE).sort_by("n").column("year").to_pylist() == [
        2023,
        2024,
        2025,
        2025,
    ]
    assert scan_deltacat("ns.t", planner=client).collect()["year"].sum() == 8097


def test_a_key_has_to_be_in_the_file_itself(client: Client, hive: Path) -> None:
    with pytest.raises(SchemaValidationError, match="lacks year, which"):
        client.catalog.add_files(
            hive, **WHERE, merge_keys=["id", "year"], partition_by=["year", "city"]
        )


def test_a_path_is_believed_where_there_are_no_statistics(client: Client, tmp_path: Path) -> None:
    (tmp_path / "n=7").mkdir()
    pq.write_table(
        pa.table({"id": [1], "n": [7]}), tmp_path / "n=7" / "x.parquet", write_statistics=False
    )
    client.catalog.add_files(tmp_path / "n=7", **WHERE, partition_by="n")
    assert client.catalog.plan(**WHERE).partition_summaries()[0].partition_values == [7]
    (tmp_path / "n=seven").mkdir()
    pq.write_table(
        pa.table({"id": [1], "n": [7]}), tmp_path / "n=seven" / "x.parquet", write_statistics=False
    )
    with pytest.raises(SchemaValidationError, match="n=seven is no value of type int64"):
        client.catalog.add_files(tmp_path / "n=seven", **WHERE)


def test_long_texts_that_writers_cut_prove_no_partition(client: Client, tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2], "p": ["x" * 70, "x" * 71]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(SchemaValidationError, match="does not say that its rows are of one"):
        client.catalog.add_files(tmp_path / "x.parquet", **WHERE, partition_by="p")


# --- schemas --------------------------------------------------------------------------------------


def test_a_file_that_does_not_fit_its_table_is_refused_by_its_name(
    client: Client, tmp_path: Path
) -> None:
    client.catalog.write(pa.table({"id": [1], "v": ["a"]}), **WHERE)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["one"], "v": ["a"]}), path)
    with pytest.raises(SchemaValidationError, match=r"column 'id' of ns\.t is int64"):
        client.catalog.add_files(path, **WHERE)
    assert ids(client) == [1]


def test_files_that_differ_make_no_table(client: Client, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "b.parquet")
    says = r"'id' is int64 in .*a\.parquet and string in .*b\.parquet"
    with pytest.raises(SchemaValidationError, match=says):
        client.catalog.add_files([tmp_path / "a.parquet", tmp_path / "b.parquet"], **WHERE)


def test_columns_that_some_files_lack_are_null_there_and_new_ones_are_added(
    client: Client, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [2], "v": ["x"]}), tmp_path / "b.parquet")
    client.catalog.add_files(tmp_path / "a.parquet", **WHERE)
    client.catalog.add_files(tmp_path / "b.parquet", **WHERE)
    found = client.catalog.read(**WHERE).sort_by("id")
    assert found.column("v").to_pylist() == [None, "x"]


def test_what_a_table_requires_has_to_be_in_each_file(client: Client, tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("v", pa.string())])
    client.catalog.create_table(**WHERE, schema=schema, auto_create_namespace=True)
    for rows, says in (
        (pa.table({"v": ["a"]}), r"x\.parquet lacks id, which ns\.t requires"),
        (pa.table({"id": pa.array([1, None])}), r"x\.parquet holds nulls in it"),
    ):
        pq.write_table(rows, tmp_path / "x.parquet")
        with pytest.raises(SchemaValidationError, match=says):
            client.catalog.add_files(tmp_path / "x.parquet", **WHERE)


def test_every_engine_reads_what_was_added_narrower_types_included(
    client: Client, tmp_path: Path
) -> None:
    client.catalog.write(pa.table({"id": [1], "v": ["a"]}), **WHERE)
    narrow = pa.table({"v": pa.array(["b"], pa.large_string()), "id": pa.array([2], pa.int32())})
    pq.write_table(narrow, tmp_path / "x.parquet")
    client.catalog.add_files(tmp_path / "x.parquet", **WHERE)
    wanted = {"id": [1, 2], "v": ["a", "b"]}
    assert client.catalog.read(**WHERE).to_pydict() == wanted
    frame = scan_deltacat("ns.t", planner=client)
    assert frame.collect().to_dict(as_series=False) == wanted
    read = read_deltacat("ns.t", planner=client)
    assert read.sort("id").to_pydict() == wanted


# --- keys, modes, transactions --------------------------------------------------------------------


def test_files_of_a_keyed_table_merge_and_get_no_file_beside_them(
    client: Client, tmp_path: Path
) -> None:
    client.catalog.write(pa.table({"id": [1, 2], "v": ["old", "old"]}), **WHERE, merge_keys=["id"])
    (tmp_path / "more").mkdir()
    pq.write_table(pa.table({"id": [2, 3], "v": ["new", "new"]}), tmp_path / "more" / "x.parquet")
    client.catalog.add_files(tmp_path / "more", **WHERE)
    assert client.catalog.read(**WHERE).sort_by("id").to_pydict() == {
        "id": [1, 2, 3],
        "v": ["old", "new", "new"],
    }
    assert [p.name for p in (tmp_path / "more").iterdir()] == ["x.parquet"]
    assert check(EmbeddedPlanner(Path(client.target))).findings == ()


def test_a_file_is_added_once(client: Client, lake: Path) -> None:
    client.catalog.add_files(lake, **WHERE)
    with pytest.raises(RequestRejectedError, match="is part of the table already"):
        client.catalog.add_files(lake / "day=mon", **WHERE)
    client.catalog.add_files(lake / "day=mon", **WHERE, mode="replace")
    assert ids(client) == [1, 2]


def test_a_transaction_takes_files_in(client: Client, lake: Path) -> None:
    with client.transaction():
        client.catalog.add_files(lake, **WHERE)
        assert ids(client) == IDS
        with pytest.raises(NotFoundError):
            Client(client.target).catalog.read(**WHERE)
    assert ids(Client(client.target)) == IDS


def test_modes_and_layouts_mean_what_they_do_for_rows(client: Client, lake: Path) -> None:
    with pytest.raises(NotFoundError):
        client.catalog.add_files(lake, **WHERE, mode="add")
    client.catalog.add_files(lake, **WHERE, mode="create")
    with pytest.raises(DeltaCATError, match="already exists"):
        client.catalog.add_files(lake, **WHERE, mode="create")
    with pytest.raises(SchemaValidationError, match="leave partition_by out"):
        client.catalog.add_files(lake, **WHERE, partition_by="day")
    client.catalog.write(pa.table({"a": [1]}), namespace="ns", table="plain", format="csv")
    with pytest.raises(UnsupportedError, match="schemaless"):
        client.catalog.add_files(lake, namespace="ns", table="plain")


def test_a_session_that_was_replaced_meanwhile_loses(client: Client, lake: Path) -> None:
    client.catalog.add_files(lake, **WHERE)
    late = client.catalog.stage(**WHERE, mode="add", allow_external_entries=True)
    client.catalog.write(ROWS, **WHERE, mode="replace")
    pq.write_table(ROWS, lake / "more.parquet")
    with pytest.raises(ConcurrentModificationError):
        late.commit([late.entry(str(lake / "more.parquet"), records=4)])


# --- whose the files are --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["replace", "truncate", "drop", "purge", "purge namespace"])
def test_vacuum_never_deletes_a_file_that_was_added(client: Client, lake: Path, end: str) -> None:
    before = snapshot_of(lake)
    client.catalog.add_files(lake, **WHERE)
    client.catalog.write(ROWS, **WHERE)
    match end:
        case "replace":
            client.catalog.write(ROWS, **WHERE, mode="replace")
        case "truncate":
            client.catalog.truncate_table(**WHERE)
        case "purge namespace":
            client.catalog.drop_namespace(namespace="ns", purge=True)
        case _:
            client.catalog.drop_table(**WHERE, purge=end == "purge")
    planner = EmbeddedPlanner(Path(client.target))
    report = vacuum(planner, keep_ns=0, grace_ns=0)
    assert report.expired.files + report.purged.files == 1
    assert snapshot_of(lake) == before


def test_only_an_admin_adds_files(tmp_path: Path, lake: Path) -> None:
    with served(tmp_path / "catalog", "--auth", "on") as server:
        admin = Client(server.url, bearer_token=server.first_token())
        made = admin.auth.create_user(user_id="ann", role="WRITER", issue_token=True)
        ann = Client(server.url, bearer_token=made.token.token)  # type: ignore[union-attr]
        ann.catalog.write(ROWS, **WHERE)
        with pytest.raises(PermissionDeniedError):
            ann.catalog.add_files(lake, **WHERE)
        admin.catalog.add_files(lake, **WHERE)
        assert len(ids(ann)) == 8


# --- S3 -------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, object_store: ObjectStore) -> tuple[Client, str, Storage]:
    root = f"{object_store.bucket()}/lake"
    storage = object_store.storage(root)
    for i, rows in enumerate((ROWS.slice(0, 2), ROWS.slice(2, 1))):
        with storage.open_output(f"{root}/outside/day={'mt'[i]}/{i}.parquet") as out:
            pq.write_table(rows, out)
    with storage.open_output(f"{root}/outside/_SUCCESS") as out:
        out.write(b"")
    client = Client(tmp_path / "catalog", data_root=root, s3=object_store.settings)
    return client, root, storage


@pytest.mark.parametrize("where", ["outside", "outside/", "outside/*/*.parquet"])
def test_files_below_a_data_root_are_added_where_they_lie(
    store: tuple[Client, str, Storage], where: str
) -> None:
    client, root, storage = store
    before = sorted(f.location for f in storage.files_below(root))
    done = client.catalog.add_files(f"{root}/{where}", **WHERE)
    assert (done.files_registered, done.total_records) == (2, 3)
    assert ids(client) == [1, 2, 3]
    client.catalog.drop_table(**WHERE, purge=True)
    vacuum(EmbeddedPlanner(Path(client.target)), keep_ns=0, grace_ns=0)
    assert sorted(f.location for f in storage.files_below(root)) == before


def test_what_no_reader_of_the_catalog_could_reach_is_refused(
    store: tuple[Client, str, Storage], client: Client, lake: Path
) -> None:
    in_store, root, _ = store
    with pytest.raises(UnsupportedError, match="is on this machine"):
        in_store.catalog.add_files(lake, **WHERE)
    with pytest.raises(DataFileError, match="absent"):
        in_store.catalog.add_files(f"{root}/absent", **WHERE)
    with pytest.raises(DeltaCATError, match="no plan or write session brought"):
        in_store.catalog.add_files("s3://other/x.parquet", **WHERE)
    local = Client(lake.parent / "local")
    with pytest.raises(UnsupportedError, match="is in a store"):
        local.catalog.add_files(f"{root}/outside", **WHERE)


def test_a_table_of_added_files_is_read_by_arrows_own_dataset_too(
    client: Client, lake: Path
) -> None:
    client.catalog.add_files(lake, **WHERE)
    files = [f.path for f in client.catalog.plan(**WHERE).all_files()]
    assert ds.dataset(files).to_table().num_rows == 4
