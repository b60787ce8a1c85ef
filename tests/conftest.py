"""What every test gets: hypothesis profiles, a settled environment, one process for clusters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.object_store.store import KEYS, ObjectStore, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

# The Makefile chooses: "check" for a first look, "ci" for every change, "full" for make test-full.
# Only "full" looks for new examples; the others try the same ones in every run. "broken" is for runs
# that are meant to fail (tests/test_broken_rules.py), where the least example is of no use.
for _name, _examples, _derandomize in (
    ("check", 10, True),
    ("ci", 60, True),
    ("full", 1000, False),
    ("broken", 10, True),
):
    settings.register_profile(
        _name,
        max_examples=_examples,
        derandomize=_derandomize,
        # An example may start an engine or sync to disk: how long that takes says nothing.
        deadline=None,
        phases=(Phase.explicit, Phase.generate) if _name == "broken" else tuple(Phase),
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Before any engine is imported, and inherited by the processes that tests start.
os.environ |= {
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tokens would be written to the home directory.
    "RAY_AUTH_MODE": "disabled",
    # Else Daft takes Ray's runner as soon as another test of the process has started a cluster.
    "DAFT_RUNNER": "native",
    # What planners hand out: wherever one is opened, in a worker of Ray too.
    **KEYS,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all tests marked `cluster` in one process of a parallel run, for one cluster in all."""
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(autouse=True)
def _no_planner_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own planner stays out of the tests."""
    for name in [name for name in os.environ if name.startswith("DELTACAT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 on loopback, one for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with joined(shared) as store:
        yield store


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine, one for all tests of a process."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how many random tables and questions each engine answered as the oracle does."""
    totals: dict[str, list[int]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "conformance":
                engine, tables, questions = value
                held = totals.setdefault(engine, [0, 0])
                held[0] += tables
                held[1] += questions
    if totals:
        terminalreporter.section("examples that agree with the oracle")
    for engine, (tables, questions) in totals.items():
        terminalreporter.line(f"{engine:<8}{tables:>8,} tables{questions:>9,} questions")
