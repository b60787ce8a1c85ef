"""What does bad input get? A clear error, before any file is opened, in every engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from docs.demo.opened import OpenedFiles
from io_core.errors import (
    CatalogRootError,
    DataFileError,
    NotFoundError,
    PlannerUnavailableError,
    PredicateError,
    SchemaValidationError,
)
from planner_client import Client
from tests.strategies import Query

if TYPE_CHECKING:
    from tests.conformance.engines import Engine
    from tests.object_store.store import ObjectStore

_SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
_ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]}, schema=_SCHEMA)
_BAD_PREDICATES = [
    ({"equals": ["id", 1]}, r"at \$: unknown operator 'equals'; did you mean 'eq'\?"),
    ({"and": [{"eq": ["id", 1]}, {"gt": ["id"]}]}, r"at \$\.and\[1\]\.gt: expected \[column, value\]"),
    ({"not": {"eq": ["ids", 1]}}, r"at \$\.not\.eq: unknown column 'ids'; did you mean 'id'\?"),
    ({"lt": ["id", "abc"]}, r"at \$\.lt, column 'id': 'abc' is no number literal .* type int64"),
]  # fmt: skip


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A catalog with one small table."""
    client = Client(tmp_path / "catalog")
    client.catalog.write(_ROWS, namespace="ns", table="people", mode="create")
    return client


@pytest.fixture(params=["local", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, client: Client) -> Client:
    """The same catalog, on each kind of storage."""
    if request.param == "local":
        return client
    store: ObjectStore = request.getfixturevalue("object_store")
    there = Client(tmp_path / "on_s3", data_root=store.bucket(), s3=store.settings)
    there.catalog.write(_ROWS, namespace="ns", table="people", mode="create")
    return there


def _data(client: Client) -> Path:
    return Path(client.target) / "data"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("nss.people", r"namespace 'nss' not found; did you mean 'ns'\?"),
        ("ns.poeple", r"table ns\.poeple not found; did you mean 'people'\?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(
    engine: Engine, client: Client, table: str, message: str
) -> None:
    with pytest.raises(NotFoundError, match=message):
        engine.read(client, table, Query())


@pytest.mark.parametrize(("predicate", "message"), _BAD_PREDICATES)
def test_a_bad_predicate_names_its_place_before_a_file_is_opened(
    engine: Engine, client: Client, predicate: dict[str, object], message: str
) -> None:
    with OpenedFiles(_data(client)) as opened, pytest.raises(PredicateError, match=message):
        engine.read(client, "ns.people", Query(predicate))
    assert opened.paths() == []


def test_an_unknown_column_is_answered_with_the_nearest_one(engine: Engine, client: Client) -> None:
    message = r"unknown column 'nam'; did you mean 'name'\?"
    with (
        OpenedFiles(_data(client)) as opened,
        pytest.raises(SchemaValidationError, match=message),
    ):
        _scan(engine.words, client, columns=["nam"])
    assert opened.paths() == []


def test_a_directory_that_is_no_catalog_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CatalogRootError, match=r"is not a catalog: it holds 'notes.txt'"):
        Client(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_adapter_makes_no_catalog_where_there_is_none(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(CatalogRootError, match="no such directory"):
        _scan(engine.words, str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def _scan(engine: str | None, planner: Client | str, columns: list[str] | None = None) -> object:
    match engine:
        case "polars":
            from deltacat_sources.polars import scan_deltacat

            return scan_deltacat("ns.people", planner=planner, columns=columns)
        case "daft":
            from deltacat_sources.daft import read_deltacat

            return read_deltacat("ns.people", planner=planner, columns=columns)
        case "ray":
            from deltacat_sources.ray import DeltaCatDatasource

            return DeltaCatDatasource("ns.people", planner=planner, columns=columns)
        case "ray-newer":
            from deltacat_sources.ray import read_deltacat as read_by_ray

            return read_by_ray("ns.people", planner=planner, columns=columns)
    from planner_client import connect

    return connect(planner).catalog.read(namespace="ns", table="people", columns=columns)


def test_a_planner_that_does_not_answer_is_named(engine: Engine) -> None:
    # Port 9 of loopback: nobody listens there.
    silent = Client("http://127.0.0.1:9")
    with pytest.raises(
        PlannerUnavailableError, match=r"no planner answers at http://127\.0\.0\.1:9"
    ):
        engine.read(silent, "ns.people", Query())


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_a_damaged_file_is_named_with_the_plan_that_lists_it(
    engine: Engine, stored: Client, damage: str
) -> None:
    plan = stored.catalog.plan(namespace="ns", table="people")
    (path,), storage = plan.paths, plan.storage
    with storage.open_input(path) as opened:
        whole = opened.read()
    storage.delete([path])
    if damage != "missing":
        with storage.open_output(path) as out:
            out.write(whole[:-20] if damage == "truncated" else b"\0" * len(whole))
    with pytest.raises(
        Exception, match=r"data file .*ReadPlan\(ns\.people at snapshot 1"
    ) as raised:
        engine.read(stored, "ns.people", Query())
    assert path in str(raised.value)
    if not engine.name.startswith("ray"):
        # Ray wraps what its tasks raise.
        assert isinstance(raised.value, DataFileError)
