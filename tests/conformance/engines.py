"""How does each engine read a table? One small face for all of them, so that tests are said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from tests.strategies import Query, to_daft, to_polars, to_ray

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from planner_client import Client
    from tests.oracle import Dialect
    from tests.strategies import Engine as Words

__all__ = ["ENGINES", "Arrow", "DaftOnRay", "Engine", "start_on_ray"]

# A query on a cluster that takes longer will not end.
_LONGEST_S = 300


class Engine(Protocol):
    """One way to read a table.

    Attributes:
        name: As in a test's id.
        words: Whose frames and expressions it is asked with; None: it has none.
        dialect: What the engine's own expressions mean where engines differ; None: it has none.
        keeps_order: Whether a limit returns the first rows, not just so many.
        examples: Times as many examples as other property tests have; what the engine can afford.
    """

    name: str
    words: Words | None
    dialect: Dialect | None
    keeps_order: bool
    examples: float

    def read(self, planner: Client, table: str, query: Query) -> pa.Table:
        """Answer a query whose predicate is this project's own."""

    def ask(self, planner: Client, table: str, query: Query, schema: pa.Schema) -> pa.Table:
        """Answer a query in the engine's own words: its filter, its projection, its limit."""

    def head(self, planner: Client, table: str, rows: int) -> pa.Table:
        """Some first rows, as the engine's users are told to ask for them."""


class Arrow:
    """The Arrow lane: client.read."""

    name = "arrow"
    words: Words | None = None
    dialect: Dialect | None = None
    keeps_order = True
    examples = 2.0

    def read(self, planner: Client, table: str, query: Query) -> pa.Table:
        namespace, name = table.split(".")
        return planner.catalog.read(
            namespace=namespace,
            table=name,
            filter_predicate=query.ast,
            columns=query.columns,
            limit=query.limit,
            offset=query.offset,
        )

    def ask(self, planner: Client, table: str, query: Query, schema: pa.Schema) -> pa.Table:
        return self.read(planner, table, query)

    def head(self, planner: Client, table: str, rows: int) -> pa.Table:
        return self.read(planner, table, Query(limit=rows))


class Polars:
    """pl.scan_deltacat."""

    name = "polars"
    words: Words | None = "polars"
    dialect: Dialect | None = "polars"
    keeps_order = True
    examples = 2.0

    def read(self, planner: Client, table: str, query: Query) -> pa.Table:
        from deltacat_sources.polars import scan_deltacat

        return _polars(scan_deltacat(table, planner=planner, predicate=query.ast), query)

    def ask(self, planner: Client, table: str, query: Query, schema: pa.Schema) -> pa.Table:
        from deltacat_sources.polars import scan_deltacat

        frame = scan_deltacat(table, planner=planner)
        if query.ast is not None:
            frame = frame.filter(to_polars(query.ast, schema))
        return _polars(frame, query)

    def head(self, planner: Client, table: str, rows: int) -> pa.Table:
        return self.read(planner, table, Query(limit=rows))


# Any: an engine's own, untyped frame.
def _polars(frame: Any, query: Query) -> pa.Table:
    if query.limit is not None or query.offset:
        frame = frame.slice(query.offset, query.limit)
    if query.columns is not None:
        frame = frame.select(query.columns)
    return frame.collect().to_arrow()


class Daft:
    """daft.read_deltacat, on Daft's native runner."""

    name = "daft"
    words: Words | None = "daft"
    dialect: Dialect | None = "daft"
    keeps_order = False
    examples = 1.0

    def read(self, planner: Client, table: str, query: Query) -> pa.Table:
        from deltacat_sources.daft import read_deltacat

        return _daft(read_deltacat(table, planner=planner, predicate=query.ast), query)

    def ask(self, planner: Client, table: str, query: Query, schema: pa.Schema) -> pa.Table:
        from deltacat_sources.daft import read_deltacat

        frame = read_deltacat(table, planner=planner)
        if query.ast is not None:
            frame = frame.where(to_daft(query.ast, schema))
        return _daft(frame, query)

    def head(self, planner: Client, table: str, rows: int) -> pa.Table:
        return self.read(planner, table, Query(limit=rows))


class DaftOnRay(Daft):
    """The same on Daft's Ray runner, in a process of its own: a process has one runner for good.

    Attributes:
        process: Where it runs, begun with `start_on_ray`.
    """

    name = "daft-ray"
    examples = 0.1
    process: Executor

    def read(self, planner: Client, table: str, query: Query) -> pa.Table:
        return self.process.submit(Daft.read, Daft(), planner, table, query).result(_LONGEST_S)

    def ask(self, planner: Client, table: str, query: Query, schema: pa.Schema) -> pa.Table:
        asked = self.process.submit(Daft.ask, Daft(), planner, table, query, schema)
        return asked.result(_LONGEST_S)


def start_on_ray(address: str) -> None:
    """Make Ray's the runner of this process's Daft.

    Args:
        address: Of the cluster.
    """
    import daft
    import ray

    ray.init(address=address, log_to_driver=False)
    daft.set_runner_ray()


# Any: an engine's own, untyped frame.
def _daft(frame: Any, query: Query) -> pa.Table:
    if query.limit is not None:
        frame = frame.limit(query.limit + query.offset)
    if query.columns is not None:
        frame = frame.select(*query.columns)
    found: pa.Table = frame.to_arrow()
    return found.slice(query.offset)


class Ray:
    """DeltaCatDatasource, on a cluster of this machine."""

    name = "ray"
    words: Words | None = "ray"
    dialect: Dialect | None = "arrow"
    keeps_order = False
    examples = 0.2

    def read(self, planner: Client, table: str, query: Query) -> pa.Table:
        return _ray(self._dataset(table, planner=planner, predicate=query.ast), query)

    def ask(self, planner: Client, table: str, query: Query, schema: pa.Schema) -> pa.Table:
        dataset = self._dataset(table, planner=planner)
        if query.ast is not None:
            dataset = dataset.filter(expr=to_ray(query.ast, schema))
        return _ray(dataset, query)

    def head(self, planner: Client, table: str, rows: int) -> pa.Table:
        # Of Dataset.limit this interface hears nothing: how many tasks have begun is Ray's to say.
        return _ray(self._dataset(table, planner=planner, limit=rows), Query())

    def _dataset(self, table: str, **options: Any) -> Any:
        import ray.data

        from deltacat_sources.ray import DeltaCatDatasource

        return ray.data.read_datasource(DeltaCatDatasource(table, **options))


class RayNewer(Ray):
    """Ray Data by the newer of its source interfaces, as `read_deltacat` reads where it is there."""

    name = "ray-newer"

    def head(self, planner: Client, table: str, rows: int) -> pa.Table:
        return _ray(self._dataset(table, planner=planner), Query(limit=rows))

    def _dataset(self, table: str, **options: Any) -> Any:
        from deltacat_sources.ray import newer, read_deltacat

        assert newer.works()
        return read_deltacat(table, **options)


# Any: an engine's own, untyped frame.
def _ray(dataset: Any, query: Query) -> pa.Table:
    import ray

    if query.limit is not None:
        dataset = dataset.limit(query.limit + query.offset)
    if query.columns is not None:
        dataset = dataset.select_columns(list(query.columns))
    blocks = ray.get(list(dataset.to_arrow_refs()))
    filled = [block for block in blocks if block.num_rows]
    found = pa.concat_tables(filled) if filled else blocks[0] if blocks else pa.table({})
    return found.slice(query.offset)


ENGINES: tuple[Engine, ...] = (Arrow(), Polars(), Daft(), DaftOnRay(), Ray(), RayNewer())
