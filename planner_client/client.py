"""Client: one way to a planner, wherever it is: at a URL, or embedded in this process."""

from __future__ import annotations

import functools
import os
import socket
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

from io_core.errors import DeltaCATError, NotFoundError, SchemaValidationError
from io_core.s3 import S3Settings
from planner_client.auth import Auth
from planner_client.catalog import Catalog
from planner_client.given import of_kind
from planner_client.heartbeat import heartbeating
from planner_client.later import Later
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.settings import PLANNER_ENVIRONMENT, TOKEN_ENVIRONMENT, Settings, headers_of
from planner_client.transaction import innermost
from planner_client.transport import HttpTransport, InProcessTransport, LateTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from io_core.plan import ReadPlan
    from io_core.scan import Scan
    from planner_client.protocol.catalogs import Health
    from planner_client.transaction import Transaction
    from planner_client.transport import Transport

__all__ = ["Client", "connect"]

Params = ParamSpec("Params")
Res = TypeVar("Res")


class Client:
    """A planner's client; a `Planner` for scans and sinks.

    Threads share it. It pickles as its settings: the bearer token and headers that authorize are
    left out, and the receiving process takes its own token from the variable `DELTACAT_TOKEN`. There
    it opens its planner when the first call is made.

    What is None here is taken from the environment, see `planner_client.settings`.

    Args:
        target: `http://` or `https://` URL of a planner; or the directory of a catalog, which is
            then planned by this very process; None means the variable `DELTACAT_PLANNER`.
        catalog: The catalog to use where a planner serves several; None means its default.
        user_id: Sent as `x-deltacat-user`, for planners behind a trusted proxy.
        bearer_token: Sent to a planner at a URL.
        headers: Sent with every request.
        verify_ssl: Whether to check certificates, or the path of an authority's certificate.
        follow_redirects: Whether to go where a planner redirects to.
        timeout: Longest wait for a connection to a planner at a URL, and for each piece of an
            answer, in seconds; 30 by default.
        worker_id: What this process is called where it claims work; by default its host and number.
        worker_tags: What work it takes.
        create: Whether an absent or empty directory becomes a catalog.
        data_root: `s3://bucket/prefix` for the data files of a catalog that is made here; the
            catalog remembers it, and what else is said of it. None means its own directory.
        s3: How that store is spoken to; None means AWS.
        s3_credentials: Where keys to it come from, on every machine that opens the directory:
            `static` (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), `profile`, `profile:NAME`, or
            `sts:ROLE_ARN`.

    Attributes:
        catalog: Namespaces, tables, plans, reads and writes.
        auth: Who one is, users, tokens and grants.
        jobs: Not there yet, as `subscriptions`, `publications`, `transforms` and `pipelines` are
            not: their calls raise `UnsupportedError`.

    Raises:
        CatalogRootError: The directory holds other things, or a catalog of a newer release.
        NotFoundError: No planner is named.
        SchemaValidationError: The target is neither a URL nor a directory, or a setting cannot be.

    Example:
        >>> import tempfile
        >>> with Client(tempfile.mkdtemp()) as client:
        ...     client.catalog.list_namespaces()
        []
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | None = None,
        *,
        catalog: str | None = None,
        user_id: str | None = None,
        bearer_token: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify_ssl: bool | str | None = None,
        follow_redirects: bool = True,
        timeout: float | None = None,
        worker_id: str | None = None,
        worker_tags: Sequence[str] | None = None,
        create: bool = True,
        data_root: str | None = None,
        s3: S3Settings | None = None,
        s3_credentials: str = "static",
    ) -> None:
        settings = Settings.of(
            target,
            catalog=catalog,
            user_id=user_id,
            headers=headers,
            timeout=timeout,
            verify_ssl=verify_ssl,
            follow_redirects=follow_redirects,
            worker_id=worker_id,
            worker_tags=worker_tags,
        )
        store = None if data_root is None else (data_root, s3, s3_credentials)
        self._begin(settings, _transport(settings, bearer_token, create=create, store=store))

    def _begin(self, settings: Settings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self.catalog = Catalog(transport, settings.catalog)
        self.catalog.calls.client = self
        self.auth = Auth(transport, settings.catalog)
        self.auth.calls.client = self
        self.jobs = Later("jobs")
        self.subscriptions = Later("subscriptions")
        self.publications = Later("publications")
        self.transforms = Later("transforms")
        self.pipelines = Later("pipelines")

    @property
    def target(self) -> str:
        """The planner's URL, or the catalog's directory."""
        return self._settings.target

    @property
    def settings(self) -> Settings:
        """What it is set to, but for its token."""
        return self._settings

    @property
    def worker_id(self) -> str:
        """What this process is called where it claims work."""
        return self._settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"

    def __repr__(self) -> str:
        return f"Client({self.target!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._settings.without_secrets(),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Client):
            return NotImplemented
        return self._settings == other._settings

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Release all connections; the client stays usable and opens new ones."""
        self._transport.close()

    async def aclose(self) -> None:
        """The same from a coroutine, which goes on meanwhile."""
        await self.run(self.close)

    async def run(
        self, call: Callable[Params, Res], *arguments: Params.args, **named: Params.kwargs
    ) -> Res:
        """Make one of this client's calls in a thread, so that the event loop goes on meanwhile.

        A transaction's block around it counts for the call too.

        Example:
            >>> import asyncio, tempfile
            >>> async def names() -> list[str]:
            ...     async with Client(tempfile.mkdtemp()) as client:
            ...         made = await client.run(client.catalog.create_namespace, namespace="a")
            ...         found = await client.run(client.catalog.list_namespaces)
            ...     return [namespace.name for namespace in found]
            >>> asyncio.run(names())
            ['a']
        """
        # Late: importing it takes some 20 ms, and whoever is in a coroutine has it.
        import asyncio

        return await asyncio.to_thread(call, *arguments, **named)

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


def _transport(
    settings: Settings,
    bearer_token: str | None = None,
    *,
    create: bool,
    store: tuple[str, S3Settings | None, str] | None = None,
) -> Transport:
    """The way to a planner that settings mean; a directory is opened."""
    target = settings.target
    scheme = urlsplit(target).scheme if "://" in target else ""
    if scheme in ("http", "https"):
        if "@" in urlsplit(target).netloc:
            # It would stand in every repr, error and log.
            raise SchemaValidationError(
                "a planner's URL holds no user and no password: pass bearer_token=, or set "
                f"{TOKEN_ENVIRONMENT}"
            )
        if store is not None:
            raise SchemaValidationError(
                "data_root is for a directory: a planner at a URL has its own, see --data-root"
            )
        return HttpTransport(
            target,
            headers=headers_of(settings, bearer_token),
            timeout_s=settings.timeout,
            verify=settings.verify_ssl,
            follow_redirects=settings.follow_redirects,
        )
    if scheme not in ("", "file") or not target:
        raise SchemaValidationError(
            f"{target!r} is no planner: pass an http:// or https:// URL, or a directory"
        )
    # Late: a client of a remote planner needs nothing of the planner itself.
    from planner_client.server.places import DataRoot
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.shared import SharedPlanner

    if store is None:
        return InProcessTransport(SharedPlanner(target, create=create))
    root, s3, credentials = store
    for name, said in (("data_root", root), ("s3_credentials", credentials)):
        of_kind(name, said, str, "a text such as 's3://bucket/prefix' or 'static'")
    if s3 is not None:
        of_kind("s3", s3, S3Settings, "an io_core.s3.S3Settings")
    data_root = DataRoot(root, s3 or S3Settings(), credentials)
    return InProcessTransport(EmbeddedPlanner(target, create=create, data_root=data_root))


def _restore(settings: Settings) -> Client:
    options = {name: getattr(settings, name) for name in Settings.__struct_fields__}
    here = Settings.of(options.pop("target"), **options)
    client = Client.__new__(Client)
    client._begin(here, LateTransport(functools.partial(_transport, here, create=False)))  # noqa: SLF001
    return client


def connect(planner: Client | str | os.PathLike[str] | None = None) -> Client:
    """The client that an adapter's `planner=` means. Makes no catalog where there is none.

    Args:
        planner: A client, a URL, or a catalog's directory; None means the client whose transaction's
            block the caller is in, else the environment variable `DELTACAT_PLANNER`.

    Raises:
        CatalogRootError: The directory is no catalog.
        NotFoundError: No planner was named.
    """
    if isinstance(planner, Client):
        return planner
    around = innermost()
    client = None if around is None else around.client
    if planner is None and client is not None:
        return client
    target = planner if planner is not None else os.environ.get(PLANNER_ENVIRONMENT)
    if not target:
        raise NotFoundError(
            "no planner: pass planner= a Client, a URL or a catalog's directory, "
            f"or set {PLANNER_ENVIRONMENT}"
        )
    if not isinstance(target, str | os.PathLike):
        raise DeltaCATError(f"{target!r} is no planner: pass a Client, a URL or a directory")
    found = Client(target, create=False)
    # Another client of the planner would be outside of the block.
    return client if client is not None and client.target == found.target else found
