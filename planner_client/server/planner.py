"""The planner of one catalog root: it checks a call, runs its handler, and remembers its outcome."""

from __future__ import annotations

import hashlib
import os
import time
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import NotFoundError, RequestRejectedError, UnsupportedError
from io_core.storage import local_path
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import (
    CatalogInfo,
    Catalogs,
    GetCatalog,
    Health,
    HealthRequest,
    ListCatalogs,
)
from planner_client.server import catalog, planning, writes
from planner_client.server.columns import ColumnCache
from planner_client.server.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.server.store import Write

__all__ = ["HANDLERS", "EmbeddedPlanner"]

Res = TypeVar("Res")

DEFAULT_CATALOG = "default"


def _health(planner: EmbeddedPlanner, request: HealthRequest) -> Health:
    with planner.store.read() as db:
        catalog.current_seq(db)
    return Health("ok", installed_version("deltacat-sources"))


def _list_catalogs(planner: EmbeddedPlanner, request: ListCatalogs) -> Catalogs:
    return Catalogs([planner.info])


def _get_catalog(planner: EmbeddedPlanner, request: GetCatalog) -> CatalogInfo:
    planner.check_catalog(request.catalog_name)
    return planner.info


# Any: each handler takes its own request; those of mutations take the transaction too.
HANDLERS: dict[str, Callable[..., Any]] = {
    "health": _health,
    "list_catalogs": _list_catalogs,
    "get_catalog": _get_catalog,
    "create_namespace": catalog.create_namespace,
    "list_namespaces": catalog.list_namespaces,
    "get_namespace": catalog.get_namespace,
    "namespace_exists": catalog.namespace_exists,
    "create_table": catalog.create_table,
    "list_tables": catalog.list_tables,
    "describe_table": catalog.describe_table,
    "table_exists": catalog.table_exists,
    "list_table_versions": catalog.list_table_versions,
    "plan": planning.plan,
    "stage": writes.stage,
    "get_session": writes.get_session,
    "heartbeat": writes.heartbeat,
    "commit": writes.commit,
    "abort": writes.abort,
}
_WRITES = frozenset({"heartbeat", "abort"} | {e.name for e in ENDPOINTS if e.mutates})


class EmbeddedPlanner:
    """A planner in this process. Threads share it; after a fork the child goes on with its own state.

    Args:
        root: The catalog's directory, on a local disk.
        create: Make a catalog there if the directory is absent or empty.
        clock_ns: The time, in nanoseconds since the epoch.

    Raises:
        CatalogRootError: No catalog there, or one that this release must not open.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        create: bool = True,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = Path(local_path(os.fspath(root))).absolute()
        self.store = Store(self.root, create=create, clock_ns=clock_ns)
        self._columns = ColumnCache()
        self._pid = os.getpid()

    @property
    def columns(self) -> ColumnCache:
        """Files of the tables in use, as columns."""
        if self._pid != os.getpid():
            # The parent's threads may hold the old cache's lock for ever.
            self._columns, self._pid = ColumnCache(), os.getpid()
        return self._columns

    @property
    def info(self) -> CatalogInfo:
        """What the protocol tells of this catalog."""
        data = str(self.root / "data")
        return CatalogInfo(DEFAULT_CATALOG, str(self.root), data_root=data, is_default=True)

    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        """Run one call of the protocol.

        A mutation that names its operation is remembered: a repeated one returns the first
        result, and another request under the same id is refused.

        Raises:
            DeltaCATError: Whatever the call is refused for.
        """
        self.check_catalog(request.catalog)
        if request.transaction_id is not None:
            raise UnsupportedError("transactions are not supported yet: leave transaction_id out")
        handler = HANDLERS[endpoint.name]
        try:
            if endpoint.name not in _WRITES:
                result: Res = handler(self, request)
                return result
            with self.store.write() as write:
                return self._mutate(endpoint, request, handler, write)
        except (ValueError, OverflowError) as error:
            # A number that SQLite or MessagePack cannot hold comes as an OverflowError.
            if type(error) in (ValueError, OverflowError):
                raise RequestRejectedError(str(error), code="invalid_request") from error
            raise

    def _mutate(
        self,
        endpoint: Endpoint[Any, Res],
        request: Request,
        handler: Callable[..., Res],
        write: Write,
    ) -> Res:
        operation = request.operation_id
        if operation is None:
            return handler(self, request, write)
        digest = hashlib.blake2b(msgspec.msgpack.encode(request), digest_size=16).digest()
        found = write.db.execute(
            "SELECT endpoint, request_hash, response FROM operation WHERE operation_id = ?",
            (operation,),
        ).fetchone()
        if found is not None:
            if (found[0], found[1]) != (endpoint.name, digest):
                raise RequestRejectedError(
                    f"operation {operation} was used for another request: mint a new operation_id",
                    code="operation_conflict",
                    status=409,
                )
            return msgspec.json.decode(found[2], type=endpoint.response)
        result = handler(self, request, write)
        write.db.execute(
            "INSERT INTO operation VALUES (?, ?, ?, ?, ?)",
            (operation, endpoint.name, digest, msgspec.json.encode(result), write.clock_ns()),
        )
        return result

    def check_catalog(self, name: str | None) -> None:
        """Raise unless `name` is this planner's catalog, or none was named."""
        if name not in (None, DEFAULT_CATALOG):
            raise NotFoundError.of("catalog", name, [DEFAULT_CATALOG])

    def data_dir(self, table: str, session: str) -> str:
        """Where a session stages its files; no other session has the same place."""
        return str(self.root / "data" / table / session)

    def relative(self, path: str) -> str:
        """A file's path as the ledger keeps it: below the root, or absolute if it is elsewhere."""
        plain = os.path.normpath(local_path(path))
        prefix = str(self.root) + os.sep
        return plain.removeprefix(prefix)

    def absolute(self, paths: pa.ChunkedArray) -> pa.ChunkedArray:
        """The reverse of `relative`, for many files."""
        prefix = pa.scalar(f"{self.root}{os.sep}")
        below = pc.binary_join_element_wise(prefix, paths, "")
        return pc.if_else(pc.starts_with(paths, os.sep), paths, below)

    def close(self) -> None:
        """Close connections to the ledger; the planner stays usable and opens new ones."""
        self.store.close()
