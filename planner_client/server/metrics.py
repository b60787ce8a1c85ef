"""What does the server tell Prometheus? Counts, times and sizes; never the name of a table."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from planner_client.server.hosting import HostedCatalogs
    from planner_client.server.logs import Served

__all__ = ["METRICS_TYPE", "Metrics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. A warm plan takes a fraction of a millisecond, a large commit seconds.
_BUCKETS = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip
# Calls that put files into a table or make a transaction visible.
_COMMITS = frozenset({"commit", "write_inline", "commit_transaction"})


class Metrics:
    """Counts requests, and asks each catalog for its own figures when it is scraped.

    Args:
        catalogs: The catalogs that are served.
    """

    def __init__(self, catalogs: HostedCatalogs) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests, by endpoint and status.", True)
        self._seconds = Histogram(
            "deltacat_request_seconds",
            "Time from a request's head to its answer.",
            ["endpoint"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._bytes = self._counter("response_bytes", "Bytes of answers' bodies.")
        self._listed = self._counter("plan_files_listed", "Files that plans listed.")
        self._pruned = self._counter("plan_files_pruned", "Files that plans ruled out.")
        self._commits = self._counter("commits", "Commits that were acknowledged.")
        self._count = functools.cache(self._requests.labels)
        self._time = functools.cache(self._seconds.labels)
        self._registry.register(_CatalogGauges(catalogs))

    def _counter(self, name: str, text: str, by_endpoint: bool = False) -> Counter:  # noqa: FBT001, FBT002  # private
        labels = ("endpoint", "status") if by_endpoint else ()
        return Counter(f"deltacat_{name}", text, labels, registry=self._registry)

    def note(self, served: Served) -> None:
        """Count a request that was answered."""
        self._count(served.endpoint, str(served.status)).inc()
        self._time(served.endpoint).observe(served.seconds)
        self._bytes.inc(served.size_bytes)
        if served.endpoint in _COMMITS and served.status < 300:
            self._commits.inc()

    def note_plan(self, listed: int, pruned: int) -> None:
        """Count the files of a plan."""
        self._listed.inc(listed)
        self._pruned.inc(pruned)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class _CatalogGauges(Collector):
    """Each catalog's own figures, by the catalog's name; read when asked for."""

    def __init__(self, catalogs: HostedCatalogs) -> None:
        self._catalogs = catalogs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for catalog, planner in self._catalogs:
            for name, value in planner.gauges().items():
                if name not in families:
                    text = f"{name.replace('_', ' ').capitalize()}, by catalog."
                    families[name] = GaugeMetricFamily(f"deltacat_{name}", text, labels=["catalog"])
                families[name].add_metric([catalog], value)
        yield from families.values()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing ahead of time: the planner decides what it counts."""
        return ()
