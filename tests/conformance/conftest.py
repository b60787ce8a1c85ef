"""Every engine, through every way to a planner: the fixtures that conformance tests ask for."""

from __future__ import annotations

import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from planner_client import Client
from tests.conformance.engines import ENGINES, DaftOnRay, Engine, start_on_ray
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.object_store.store import ObjectStore

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A planner in this process."""
    return Client(tmp_path_factory.mktemp("embedded") / "catalog")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A planner in another process, over HTTP."""
    with serving(tmp_path_factory.mktemp("served") / "catalog") as url:
        yield Client(url)


@pytest.fixture(scope="session")
def embedded_s3(tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore) -> Client:
    """A planner in this process, whose data is on S3."""
    root = tmp_path_factory.mktemp("embedded_s3") / "catalog"
    return Client(root, data_root=f"{object_store.bucket()}/lake", s3=object_store.settings)


@pytest.fixture(scope="session")
def served_s3(
    tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore
) -> Iterator[Client]:
    """A planner in another process, whose data is on S3."""
    store = ("--data-root", object_store.bucket(), "--s3-endpoint", object_store.url)
    with serving(tmp_path_factory.mktemp("served_s3") / "catalog", *store) as url:
        yield Client(url)


@pytest.fixture(params=["embedded", "http", "embedded-s3", "http-s3"])
def planner(request: pytest.FixtureRequest) -> Client:
    """A client, once for each way to its planner and each kind of storage."""
    name = request.param.replace("http", "served").replace("-", "_")
    client: Client = request.getfixturevalue(name)
    return client


@pytest.fixture
def fresh() -> Callable[[], str]:
    """Names of tables that are not there yet: the planners of this session are shared."""
    return lambda: f"ns{next(_NUMBERS)}.table"


@pytest.fixture(scope="session")
def on_ray(cluster: None) -> Iterator[ProcessPoolExecutor]:
    """A process whose Daft runs on this one's cluster."""
    import ray

    address = ray.get_runtime_context().gcs_address
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawning, start_on_ray, (address,)) as process:
        yield process


@pytest.fixture(
    params=[
        pytest.param(engine, id=engine.name, marks=[pytest.mark.cluster] * ("ray" in engine.name))
        for engine in ENGINES
    ]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine in turn."""
    found: Engine = request.param
    if found.name.startswith("ray"):
        request.getfixturevalue("cluster")
    if isinstance(found, DaftOnRay):
        found.process = request.getfixturevalue("on_ray")
    return found


class Tally:
    """Counts the examples of one test; the run's last lines add them up."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._counted: list[Any] = ["", 0, 0]
        # The report takes the list as it is when the test ends, also to another process.
        record("conformance", self._counted)

    def count(self, engine: str, questions: int) -> None:
        """One more table, and so many questions to it."""
        self._counted[0] = engine
        self._counted[1] += 1
        self._counted[2] += questions


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Where a property test counts its examples."""
    return Tally(record_property)
