"""How does Polars' SQL see a catalog? Every table under its name, scanned when a query names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import polars as pl

from deltacat_sources.polars.scan import scan_deltacat
from planner_client import connect

if TYPE_CHECKING:
    import os

    from planner_client import Client

__all__ = ["CatalogContext", "sql_context"]


def sql_context(
    planner: Client | str | os.PathLike[str] | None = None,
    *,
    namespace: str | None = None,
    as_of: int | None = None,
) -> CatalogContext:
    """A SQL context over the tables of a catalog.

    Each query shows its tables as they are when it is executed. Its conditions reach the planner as
    filters do. A table is `"namespace.table"` (one quoted name), and with `namespace=` just `table`.

    Args:
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        namespace: Whose tables alone; None means those of all namespaces.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> made = client.catalog.write(pa.table({"month": [1, 2]}), namespace="air", table="flights")
        >>> context = sql_context(client)
        >>> context.execute('SELECT max(month) AS last FROM "air.flights"').collect().item()
        2
    """
    return CatalogContext(connect(planner), namespace, as_of)


class CatalogContext(pl.SQLContext[pl.LazyFrame]):
    """Polars' SQL context, which knows the tables of a catalog too; see `sql_context`."""

    def __init__(self, client: Client, namespace: str | None, as_of: int | None) -> None:
        super().__init__()
        self._client = client
        self._namespace = namespace
        self._as_of = as_of

    @overload  # type: ignore[override]  # a context of lazy frames alone
    def execute(self, query: str, *, eager: Literal[False] | None = ...) -> pl.LazyFrame: ...

    @overload
    def execute(self, query: str, *, eager: Literal[True]) -> pl.DataFrame: ...

    @overload
    def execute(self, query: str, *, eager: bool | None) -> pl.LazyFrame | pl.DataFrame: ...

    def execute(self, query: str, *, eager: bool | None = None) -> pl.LazyFrame | pl.DataFrame:
        """Run a query over the catalog's tables, and over frames that were registered.

        Names are looked up first: a call per namespace, and one per table that the query's text names.

        Args:
            query: In Polars' SQL.
            eager: Whether to collect the result.
        """
        for name, table in self._tables():
            if name.lower() in query.lower():
                frame = scan_deltacat(table, planner=self._client, as_of=self._as_of)
                self.register(name, frame)
        found = super().execute(query, eager=False)
        return found.collect() if eager else found

    def _tables(self) -> list[tuple[str, str]]:
        """What a query calls a table, and the table."""
        catalog, only = self._client.catalog, self._namespace
        if only is not None:
            listed = catalog.list_tables(namespace=only)
            return [(found.name, f"{only}.{found.name}") for found in listed]
        names = [
            f"{space.name}.{found.name}"
            for space in catalog.list_namespaces()
            for found in catalog.list_tables(namespace=space.name)
        ]
        return [(name, name) for name in names]
