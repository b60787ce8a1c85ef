"""Client: one way to a planner, wherever it is: at a URL, or embedded in this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from io_core.errors import DeltaCATError, NotFoundError
from io_core.s3 import S3Settings
from planner_client.auth import Auth
from planner_client.catalog import Catalog
from planner_client.heartbeat import heartbeating
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.transport import HttpTransport, InProcessTransport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from io_core.plan import ReadPlan
    from io_core.scan import Scan
    from planner_client.protocol.catalogs import Health
    from planner_client.transaction import Transaction
    from planner_client.transport import Transport

__all__ = ["Client", "connect"]

ENVIRONMENT = "DELTACAT_PLANNER"
TOKEN_ENVIRONMENT = "DELTACAT_TOKEN"  # noqa: S105  # a variable's name

# Headers that identify a caller; they do not travel in a pickle.
_SECRET = ("authorization", "cookie", "proxy-authorization")


class Client:
    """A planner's client; a `Planner` for scans and sinks.

    Threads share it. It pickles as its address: the bearer token and headers that authorize are
    left out, and the receiving process takes its own token from the variable `DELTACAT_TOKEN`.

    Args:
        target: `http://` or `https://` URL of a planner; or the directory of a catalog, which is
            then planned by this very process.
        catalog: The catalog to use where a planner serves several; None means its default.
        bearer_token: Sent to a planner at a URL; by default the variable `DELTACAT_TOKEN`.
        user_id: Sent as `x-deltacat-user`, for planners behind a trusted proxy.
        headers: Sent with every request.
        timeout: Longest wait for a planner at a URL, in seconds.
        verify_ssl: Whether to check certificates, or the path of an authority's certificate.
        create: Whether an absent or empty directory becomes a catalog.
        data_root: `s3://bucket/prefix` for the data files of a catalog that is made here; the
            catalog remembers it, and what else is said of it. None means its own directory.
        s3: How that store is spoken to; None means AWS.
        s3_credentials: Where keys to it come from, on every machine that opens the directory:
            `static` (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), `profile`, `profile:NAME`, or
            `sts:ROLE_ARN`.

    Raises:
        CatalogRootError: The directory holds other things, or a catalog of a newer release.
        ValueError: The target is neither a URL nor a directory.

    Example:
        >>> import tempfile
        >>> with Client(tempfile.mkdtemp()) as client:
        ...     client.catalog.list_namespaces()
        []
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        catalog: str | None = None,
        bearer_token: str | None = None,
        user_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        verify_ssl: bool | str = True,
        create: bool = True,
        data_root: str | None = None,
        s3: S3Settings | None = None,
        s3_credentials: str = "static",
    ) -> None:
        self.target = os.fspath(target)
        if self.target and "://" not in self.target:
            # It travels to processes that work in other directories.
            self.target = os.path.abspath(self.target)
        self._options: dict[str, Any] = {
            "catalog": catalog,
            "user_id": user_id,
            "headers": dict(headers or {}),
            "timeout": timeout,
            "verify_ssl": verify_ssl,
        }
        store = None if data_root is None else (data_root, s3, s3_credentials)
        self._transport = self._connect(bearer_token, create=create, store=store)
        self.catalog = Catalog(self._transport, catalog)
        self.catalog.calls.client = self
        self.auth = Auth(self._transport, catalog)

    def _connect(
        self,
        bearer_token: str | None,
        *,
        create: bool,
        store: tuple[str, S3Settings | None, str] | None,
    ) -> Transport:
        scheme = urlsplit(self.target).scheme if "://" in self.target else ""
        if scheme in ("http", "https"):
            if store is not None:
                raise ValueError(
                    "data_root is for a directory: a planner at a URL has its own, see --data-root"
                )
            headers = dict(self._options["headers"])
            token = bearer_token or os.environ.get(TOKEN_ENVIRONMENT)
            if token:
                headers["Authorization"] = f"Bearer {token}"
            if self._options["user_id"]:
                headers["x-deltacat-user"] = self._options["user_id"]
            return HttpTransport(
                self.target,
                headers=headers,
                timeout_s=self._options["timeout"],
                verify=self._options["verify_ssl"],
            )
        if scheme not in ("", "file") or not self.target:
            raise ValueError(
                f"{self.target!r} is no planner: pass an http:// or https:// URL, or a directory"
            )
        # Late: a client of a remote planner needs nothing of the planner itself.
        from planner_client.server.places import DataRoot
        from planner_client.server.planner import EmbeddedPlanner

        data_root = None
        if store is not None:
            root, settings, credentials = store
            data_root = DataRoot(root, settings or S3Settings(), credentials)
        return InProcessTransport(EmbeddedPlanner(self.target, create=create, data_root=data_root))

    def __repr__(self) -> str:
        return f"Client({self.target!r})"

    def __reduce__(self) -> tuple[object, ...]:
        headers = {k: v for k, v in self._options["headers"].items() if k.lower() not in _SECRET}
        return _restore, (self.target, {**self._options, "headers": headers})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Client):
            return NotImplemented
        return (self.target, self._options) == (other.target, other._options)

    def __hash__(self) -> int:
        return hash(self.target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release this thread's connections; the client stays usable and opens new ones."""
        self._transport.close()

    def health(self) -> Health:
        """Ask whether the planner serves, and which release it is."""
        return self._transport.call(HEALTH, HealthRequest())

    def plan_scan(self, scan: Scan) -> ReadPlan:
        """Plan a scan; see `io_core.scan.Planner`."""
        return self.catalog.plan_scan(scan)

    def transaction(
        self,
        *,
        commit_message: str | None = None,
        as_of: int | None = None,
        catalog: str | None = None,
    ) -> Transaction:
        """Begin a transaction: its calls see one snapshot and their own changes, and commit together.

        In a `with` block the calls of this client belong to it; it commits at the end, or aborts if
        the block raises. Else pass it to each call as `transaction=`, and end it with `commit()` or
        `abort()`. One inside of another's block is independent of it.

        Args:
            commit_message: For people.
            as_of: Nanoseconds since the epoch: read what was committed strictly before, and write
                nothing.
            catalog: None means the client's own.

        Example:
            >>> import tempfile
            >>> client = Client(tempfile.mkdtemp())
            >>> with client.transaction(commit_message="Two at once"):
            ...     made = client.catalog.create_namespace(namespace="a")
            ...     made = client.catalog.create_namespace(namespace="b")
            >>> [found.name for found in client.catalog.list_namespaces()]
            ['a', 'b']
        """
        return self.catalog.transaction(commit_message=commit_message, as_of=as_of, catalog=catalog)

    def stage(
        self,
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        create_if_missing: dict[str, Any] | None = None,
        schema_serialized: str | None = None,
        transaction: Transaction | None = None,
    ) -> WriteSession:
        """Open a write session; see `Catalog.stage`."""
        return self.catalog.stage(
            namespace=namespace,
            table=table,
            mode=mode,
            create_if_missing=create_if_missing,
            schema_serialized=schema_serialized,
            transaction=transaction,
        )

    def commit(
        self,
        *,
        session: WriteSession,
        entries: Sequence[WriteEntry],
        operation_id: str | None = None,
    ) -> WriteSession:
        """Commit a write session; see `Catalog.commit`."""
        return self.catalog.commit(session=session, entries=entries, operation_id=operation_id)

    def abort(self, *, session: WriteSession, reason: str | None = None) -> WriteSession:
        """Abort a write session; see `Catalog.abort`."""
        return self.catalog.abort(session=session, reason=reason)

    def heartbeat(self, *, session: WriteSession) -> WriteSession:
        """Keep a write session open; see `Catalog.heartbeat`."""
        return self.catalog.heartbeat(session=session)

    def heartbeating(self, session: WriteSession) -> AbstractContextManager[None]:
        """Keep a write session open from a thread for as long as a `with` block runs."""
        return heartbeating(lambda: self.heartbeat(session=session))


def _restore(target: str, options: dict[str, Any]) -> Client:
    return Client(target, create=False, **options)


def connect(planner: Client | str | os.PathLike[str] | None = None) -> Client:
    """The client that an adapter's `planner=` means. Makes no catalog where there is none.

    Args:
        planner: A client, a URL, or a catalog's directory; None means the environment variable
            `DELTACAT_PLANNER`.

    Raises:
        CatalogRootError: The directory is no catalog.
        NotFoundError: No planner was named.
    """
    if isinstance(planner, Client):
        return planner
    target = planner if planner is not None else os.environ.get(ENVIRONMENT)
    if not target:
        raise NotFoundError(
            f"no planner: pass planner= a Client, a URL or a catalog's directory, or set {ENVIRONMENT}"
        )
    if not isinstance(target, str | os.PathLike):
        raise DeltaCATError(f"{target!r} is no planner: pass a Client, a URL or a directory")
    return Client(target, create=False)
