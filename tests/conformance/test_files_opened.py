"""How many data files does a question open? Counted from outside every engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from docs.demo.opened import OpenedFiles
from io_core.formats import parquet
from planner_client import Client
from tests.serving import serving
from tests.strategies import Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.engines import Engine

FILES = 2000
ROWS = 10
_SCHEMA = pa.schema([("id", pa.int64()), ("value", pa.float64())])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with one table of 2,000 files of ten rows, ids ascending."""
    root = tmp_path_factory.mktemp("wide") / "catalog"
    client = Client(root)
    client.catalog.create_table(
        namespace="ns", table="wide", schema=_SCHEMA, auto_create_namespace=True
    )
    session = client.stage(namespace="ns", table="wide", mode="append")
    folder = Path(session.data_dir)
    folder.mkdir(parents=True)
    described = client.catalog.describe_table(namespace="ns", table="wide")
    assert described.schema_serialized is not None
    entries = []
    for number in range(FILES):
        ids = range(number * ROWS, (number + 1) * ROWS)
        rows = pa.table({"id": list(ids), "value": [i / 2 for i in ids]}, schema=_SCHEMA)
        path = str(folder / f"{number:05}.parquet")
        parquet.write(rows, path)
        entries.append(parquet.entry_of(path, _SCHEMA, nan_counts={"value": 0}))
    client.commit(session=session, entries=entries)
    return root


@pytest.fixture(scope="module")
def wide_served(root: Path) -> Iterator[Client]:
    with serving(root) as url:
        yield Client(url)


@pytest.fixture(params=["embedded", "http"])
def wide(request: pytest.FixtureRequest, root: Path) -> Client:
    """The table of 2,000 files, through each way to its planner."""
    if request.param == "embedded":
        return Client(root)
    client: Client = request.getfixturevalue("wide_served")
    return client


def _opened(root: Path, engine: Engine, planner: Client, query: Query) -> tuple[pa.Table, int]:
    with OpenedFiles(root / "data") as opened:
        found = engine.ask(planner, "ns.wide", query, _SCHEMA)
    return found, len(opened.paths())


def test_a_point_predicate_opens_one_file_of_2000(engine: Engine, wide: Client, root: Path) -> None:
    found, opened = _opened(root, engine, wide, Query({"eq": ["id", 4711]}))
    assert found.to_pylist() == [{"id": 4711, "value": 2355.5}]
    assert opened == 1


def test_a_range_opens_the_files_that_hold_it(engine: Engine, wide: Client, root: Path) -> None:
    query = Query({"between": ["id", 100, 119]}, columns=("value",))
    found, opened = _opened(root, engine, wide, query)
    assert sorted(found["value"].to_pylist()) == [i / 2 for i in range(100, 120)]
    assert opened == 2


def test_a_limit_of_10_opens_one_file_of_2000(engine: Engine, wide: Client, root: Path) -> None:
    with OpenedFiles(root / "data") as opened:
        found = engine.head(wide, "ns.wide", 10)
    assert found.num_rows == 10
    assert len(opened.paths()) == 1


def test_a_predicate_that_nothing_matches_opens_no_file(
    engine: Engine, wide: Client, root: Path
) -> None:
    found, opened = _opened(root, engine, wide, Query({"eq": ["id", -1]}))
    assert found.num_rows == 0
    assert opened == 0
