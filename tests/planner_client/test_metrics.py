"""Do the server's figures tell what happened, and does it look after what expired?"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from planner_client import Client
from planner_client.server.app import App, build_app
from planner_client.server.auth import Guard
from planner_client.server.hosting import HostedCatalogs
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "hidden_ns", "table": "hidden_t"}
ROWS = pa.table({"p": [1, 2, 3]})


def figures(url: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values."""
    answer = requests.get(f"{url}/metrics", timeout=30)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_figures_count_requests_plans_and_commits(tmp_path: Path) -> None:
    with listening(build_app(EmbeddedPlanner(tmp_path / "catalog"))) as url:
        client = Client(url)
        client.catalog.write(ROWS, **WHERE, partition_scheme={"keys": [{"key": ["p"]}]})
        client.catalog.plan(**WHERE, filter_predicate={"eq": ["p", 2]})
        requests.get(f"{url}/v1/namespaces/none", timeout=30)
        size = len(requests.get(f"{url}/health", timeout=30).content)
        found = figures(url)
        assert found["deltacat_requests_total", "commit", "200"] == 1
        assert found["deltacat_requests_total", "plan", "200"] == 1
        assert found["deltacat_requests_total", "get_namespace", "404"] == 1
        assert found["deltacat_request_seconds_count", "plan"] == 1
        assert 0 < found["deltacat_request_seconds_sum", "plan"] < 60
        assert found["deltacat_response_bytes_total",] > size
        assert found["deltacat_commits_total",] == 1
        assert found["deltacat_plan_files_listed_total",] == 1
        assert found["deltacat_plan_files_pruned_total",] == 2
        assert found["deltacat_ledger_bytes", "default"] > 0
        assert found["deltacat_open_write_sessions", "default"] == 0
        client.catalog.stage(**WHERE, mode="append")
        again = figures(url)
        assert again["deltacat_open_write_sessions", "default"] == 1
        assert again["deltacat_requests_total", "metrics", "200"] == 1


def test_no_figure_names_a_table_or_a_path(tmp_path: Path) -> None:
    with listening(build_app(EmbeddedPlanner(tmp_path / "catalog"))) as url:
        Client(url).catalog.write(ROWS, **WHERE)
        requests.get(f"{url}/v1/hidden_path", timeout=30)
        assert "hidden" not in requests.get(f"{url}/metrics", timeout=30).text


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_figures_are_only_read(tmp_path: Path, method: str) -> None:
    with listening(build_app(EmbeddedPlanner(tmp_path / "catalog"))) as url:
        assert requests.request(method, f"{url}/metrics", timeout=30).status_code == 404


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns


class Watched(EmbeddedPlanner):
    """A planner that tells when it has looked for what expired."""

    looked: threading.Event

    def expire(self) -> None:
        try:
            super().expire()
        finally:
            self.looked.set()

    def wait_for_looks(self, count: int) -> None:
        for _ in range(count):
            self.looked.clear()
            self.looked.wait()


def test_what_expires_is_ended_by_the_server_itself(tmp_path: Path) -> None:
    clock = Clock()
    planner = Watched(tmp_path / "catalog", clock_ns=clock)
    planner.looked = threading.Event()
    guard = Guard()
    app = App(HostedCatalogs({"default": planner}, guard), guard, expiry_interval_s=0.01)
    with listening(app) as url:
        client = Client(url)
        client.catalog.create_table(**WHERE, schema=ROWS.schema, auto_create_namespace=True)
        session = client.catalog.stage(**WHERE, mode="append")
        assert client.catalog.get_write_session(session.session_id).status == "OPEN"
        clock.ahead_ns = 10**9 * 3600 * 24 * 365
        # The second look to end from here on began after the clock was moved.
        planner.wait_for_looks(2)
        assert figures(url)["deltacat_open_write_sessions", "default"] == 0


def test_a_look_that_fails_does_not_end_the_looking(tmp_path: Path) -> None:
    planner = Watched(tmp_path / "catalog", clock_ns=Clock())
    planner.looked = threading.Event()
    guard = Guard()
    ledger = planner.store.path
    app = App(HostedCatalogs({"default": planner}, guard), guard, expiry_interval_s=0.01)
    with listening(app):
        planner.wait_for_looks(1)
        planner.store.clock_ns = None  # type: ignore[assignment]  # now every look raises
        planner.wait_for_looks(3)
    assert ledger.is_file()
