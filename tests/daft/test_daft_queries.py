"""Whether what Daft does above a scan is right: each query beside the same one over rows in memory."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import daft
import pytest

from deltacat_sources.daft import catalog, write_deltacat
from planner_client import Client
from tests.daft.queries import (
    QUERIES,
    ROWS,
    TABLES,
    answer,
    build,
    build_keyed,
    build_plain,
    expected,
    scanned,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.object_store.store import ObjectStore


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    found = Client(tmp_path_factory.mktemp("queries") / "catalog")
    build(found)
    return found


@pytest.fixture(scope="module")
def frames(client: Client) -> dict[str, daft.DataFrame]:
    return {table: scanned(client, table) for table in TABLES}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_a_scan_is_that_of_the_same_rows_in_memory(
    frames: dict[str, daft.DataFrame], query: str, table: str
) -> None:
    assert answer(query, frames[table]) == expected(query, table)


# --- the ways in which Daft hands rows over -------------------------------------------------------


def batches(frame: daft.DataFrame) -> list[Any]:
    return [row for batch in frame.to_arrow_iter() for row in batch.to_pylist()]


def partitions(frame: daft.DataFrame) -> list[Any]:
    # Any: a partition of whichever runner.
    found: list[Any] = list(frame.iter_partitions())
    return [row for part in found for row in part.to_arrow().to_pylist()]


def files(frame: daft.DataFrame) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        frame.write_parquet(folder)
        return list(daft.read_parquet(f"{folder}/*.parquet").to_pylist())


def abandoned(frame: daft.DataFrame) -> list[Any]:
    """All rows, after an iterator of which one was taken."""
    next(frame.iter_rows())
    return list(frame.to_pylist())


WAYS: dict[str, Callable[[daft.DataFrame], list[Any]]] = {
    "rows": lambda frame: list(frame.iter_rows()),
    "batches": batches,
    "partitions": partitions,
    "files": files,
    "kept": lambda frame: list(frame.collect().where(daft.lit(True)).to_pylist()),
    "abandoned": abandoned,
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_the_same_however_they_are_handed_over(
    client: Client, way: str, table: str
) -> None:
    found = sorted(map(repr, WAYS[way](scanned(client, table))))
    assert found == expected("all", table)[1]


@pytest.mark.parametrize("table", TABLES)
def test_a_frame_that_is_written_is_the_table_again(client: Client, table: str) -> None:
    copy = f"ns.copy of {table}"
    write_deltacat(scanned(client, table), copy, planner=client)
    # Read and replaced at once.
    write_deltacat(scanned(client, f"copy of {table}"), copy, planner=client, mode="replace")
    assert answer("all", scanned(client, f"copy of {table}"))[1] == expected("all", table)[1]


def test_sql_over_a_catalog_asks_like_sql_over_a_frame(client: Client) -> None:
    session = daft.Session()
    session.attach_catalog(catalog(client, name="lake"))
    query = (
        "WITH few AS (SELECT k, b FROM lake.ns.parts WHERE m = 1) SELECT few.b, r.z "
        "FROM few JOIN lake.ns.keyed AS r ON few.k = r.k WHERE r.day BETWEEN '2024-01-02' AND "
        "'2024-01-05' ORDER BY r.z"
    )
    rows = [row for row in ROWS.to_pylist() if row["m"] == 1 and row["day"] is not None]
    near = [row for row in rows if 2 <= row["day"].day <= 5]
    found = session.sql(query).to_pylist()
    assert found == [{"b": row["b"], "z": row["z"]} for row in reversed(near)]


# --- on S3 ----------------------------------------------------------------------------------------

_ON_S3 = (
    *("columns turned", "names exchanged", "a filter by another's name", "no column", "a day"),
    *(
        "of what is not",
        "either, by a function",
        "some of a filter, counted",
        "counted",
        "a window",
    ),
    *("a join of two filters", "without those of", "in an order that is dropped", "one of dates"),
)


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore) -> Client:
    root: Path = tmp_path_factory.mktemp("queries_on_s3")
    client = Client(root, data_root=object_store.bucket(), s3=object_store.settings)
    build_plain(client)
    build_keyed(client)
    return client


@pytest.mark.parametrize("table", ["plain", "keyed"])
def test_queries_on_s3_are_those_of_the_same_rows_in_memory(on_s3: Client, table: str) -> None:
    frame = scanned(on_s3, table)
    wrong = [query for query in _ON_S3 if answer(query, frame) != expected(query, table)]
    assert wrong == []
