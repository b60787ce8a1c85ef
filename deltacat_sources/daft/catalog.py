"""How do Daft's SQL and its sessions see a catalog? As one of Daft's own, with namespaces and tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from daft.catalog import Catalog, Identifier, NotFoundError, Table

from deltacat_sources.daft.scan import read_deltacat
from deltacat_sources.daft.sink import write_deltacat
from deltacat_sources.daft.types import table_schema
from io_core import errors
from io_core.errors import SchemaValidationError, UnsupportedError
from planner_client import connect

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import daft
    from daft.catalog import Function, Properties
    from daft.io.partitioning import PartitionField
    from daft.schema import Schema

    from planner_client import Client

__all__ = ["DeltaCatCatalog", "DeltaCatTable", "catalog"]


def catalog(
    planner: Client | str | os.PathLike[str] | None = None, *, name: str = "deltacat"
) -> DeltaCatCatalog:
    """A planner's catalog as Daft's own: for `daft.attach_catalog`, SQL and sessions.

    A query shows each table as it is when the query names it; its conditions, columns and limit reach
    the planner as those of `read_deltacat` do.

    Args:
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        name: What SQL calls it, unless it is attached under an alias.

    Example:
        >>> import daft, pyarrow as pa, tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> made = client.catalog.write(pa.table({"month": [1, 2]}), namespace="air", table="flights")
        >>> session = daft.Session()
        >>> attached = session.attach_catalog(catalog(client))
        >>> session.sql("SELECT max(month) AS last FROM deltacat.air.flights").to_pydict()
        {'last': [2]}
    """
    return DeltaCatCatalog(connect(planner), name)


class DeltaCatCatalog(Catalog):
    """A planner's catalog; see `catalog`. Names are `namespace.table`."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def name(self) -> str:
        """What SQL calls it."""
        return self._name

    def _create_function(self, ident: Identifier, function: Function | Callable[..., Any]) -> None:
        del function
        raise UnsupportedError(f"{ident}: this catalog holds tables, and no functions")

    def _get_function(self, ident: Identifier) -> Function:
        raise NotFoundError(f"function {ident}: this catalog holds tables, and no functions")

    def _create_namespace(self, ident: Identifier) -> None:
        self._client.catalog.create_namespace(namespace=_namespace(ident))

    def _drop_namespace(self, ident: Identifier) -> None:
        try:
            self._client.catalog.drop_namespace(namespace=_namespace(ident))
        except errors.NotFoundError as error:
            raise NotFoundError(str(error)) from error

    def _has_namespace(self, ident: Identifier) -> bool:
        return len(ident) == 1 and str(ident) in self._namespaces()

    def _list_namespaces(self, pattern: str | None = None) -> list[Identifier]:
        return [Identifier(name) for name in self._namespaces() if _is_like(name, pattern)]

    def _create_table(
        self,
        ident: Identifier,
        schema: Schema,
        properties: Properties | None = None,
        partition_fields: list[PartitionField] | None = None,
    ) -> Table:
        """`properties` are the arguments of `client.catalog.create_table`, such as `merge_keys`."""
        namespace, table = _table(ident)
        given = dict(properties or {})
        if partition_fields:
            given["partition_scheme"] = {"keys": list(map(_partition_key, partition_fields))}
        self._client.catalog.create_table(
            namespace=namespace,
            table=table,
            schema=table_schema(schema),
            auto_create_namespace=True,
            **given,
        )
        return DeltaCatTable(self._client, namespace, table)

    def _drop_table(self, ident: Identifier) -> None:
        namespace, table = _table(ident)
        try:
            self._client.catalog.drop_table(namespace=namespace, table=table)
        except errors.NotFoundError as error:
            raise NotFoundError(str(error)) from error

    def _get_table(self, ident: Identifier) -> Table:
        if not self._has_table(ident):
            raise NotFoundError(f"{self._client!r} has no table {ident}")
        return DeltaCatTable(self._client, *_table(ident))

    def _has_table(self, ident: Identifier) -> bool:
        if len(ident) != 2:
            return False
        namespace, table = ident
        try:
            return self._client.catalog.table_exists(namespace=namespace, table=table)
        except errors.NotFoundError:
            return False

    def _list_tables(self, pattern: str | None = None) -> list[Identifier]:
        """A pattern is SQL's of LIKE, over `namespace.table`; a namespace's name means all of its."""
        spaces = self._namespaces()
        if pattern in spaces:
            spaces, pattern = [str(pattern)], None
        return [
            Identifier(space, found.name)
            for space in spaces
            for found in self._client.catalog.list_tables(namespace=space)
            if _is_like(f"{space}.{found.name}", pattern)
        ]

    def _namespaces(self) -> list[str]:
        return [space.name for space in self._client.catalog.list_namespaces()]


class DeltaCatTable(Table):
    """A table of a catalog."""

    def __init__(self, client: Client, namespace: str, table: str) -> None:
        self._client = client
        self._full_name = f"{namespace}.{table}"
        self._name = table

    @property
    def name(self) -> str:
        """The table's name, without its namespace."""
        return self._name

    def schema(self) -> Schema:
        """The table's columns as they are now."""
        return self.read().schema()

    def read(self, **options: Any) -> daft.DataFrame:
        """The table as it is now; options are those of `read_deltacat`."""
        return read_deltacat(self._full_name, planner=self._client, **options)

    def append(self, df: daft.DataFrame, **options: Any) -> None:
        """Write in mode `auto`: merged by key where the table has merge keys, else added.

        Options are those of `write_deltacat`.
        """
        write_deltacat(df, self._full_name, planner=self._client, **{"create": False, **options})

    def overwrite(self, df: daft.DataFrame, **options: Any) -> None:
        """Replace all rows; options are those of `write_deltacat`."""
        write_deltacat(df, self._full_name, planner=self._client, mode="replace", **options)


def _namespace(ident: Identifier) -> str:
    if len(ident) != 1:
        raise SchemaValidationError(f"{ident} is no namespace's name: namespaces do not nest here")
    return str(ident)


def _table(ident: Identifier) -> tuple[str, str]:
    if len(ident) != 2:
        raise SchemaValidationError(f"{ident} is no table's name: say namespace.table")
    return ident[0], ident[1]


def _is_like(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    return re.fullmatch("".join(_like_parts(pattern)), name, re.DOTALL) is not None


def _like_parts(pattern: str) -> Iterator[str]:
    special = {"%": ".*", "_": "."}
    for escaped, plain in re.findall(r"\\(.)|(.)", pattern, re.DOTALL):
        yield re.escape(escaped) if escaped else special.get(plain, re.escape(plain))


def _partition_key(field: PartitionField) -> dict[str, Any]:
    """A key of a partition scheme, in the protocol's words."""
    source = field.source_field or field.field
    transform = field.transform
    found: dict[str, Any] = {"key": [source.name], "transform": "identity"}
    if transform is None or transform.is_identity():
        return found
    for name in ("year", "month", "day", "hour"):
        if getattr(transform, f"is_{name}")():
            return found | {"transform": name}
    raise UnsupportedError(
        f"partition field {field!r}: pass properties={{'partition_scheme': ...}} for this transform"
    )
