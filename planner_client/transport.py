"""The only place that sends: over HTTP, or to a planner in this process."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import threading
import time
import uuid
import weakref
from collections import deque
from email.utils import parsedate_to_datetime
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec
import requests

from io_core.errors import DataFileError, DeltaCATError, PlannerUnavailableError, error_for
from io_core.plan import ReadPlan, plan_from_ipc, plan_from_wire
from planner_client.connection import connection
from planner_client.protocol.checked import checked
from planner_client.protocol.endpoint import NEXT_PAGE, Page
from planner_client.protocol.plans import ARROW_STREAM, PlanRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from planner_client.connection import Connection
    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.shared import SharedPlanner

__all__ = ["HttpTransport", "InProcessTransport", "LateTransport", "Transport"]

Res = TypeVar("Res")

# To look the release up takes as long as all else that a client's making does.
_AGENT = f"deltacat-sources/{installed_version('deltacat-sources')}"
ATTEMPTS = 4
_BACKOFF_S = 0.5
_BACKOFF_CAP_S = 8.0
# No attempt begins later after the first one.
_BUDGET_S = 60.0
# requests' ways to say that an address, a proxy or a certificate is wrong.
_HOPELESS = (
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidProxyURL,
)
_RETRYABLE = (429, 502, 503, 504)
# The name of a request: ours when it leaves, and in the planner's logs and refusals.
REQUEST_ID = "x-request-id"
# What names an operation where the protocol has no operation_id.
IDEMPOTENCY_KEY = "Idempotency-Key"


class Transport(Protocol):
    """Sends a request to a planner and returns its answer."""

    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        """One call of the protocol.

        Raises:
            DeltaCATError: The planner refused, or did not answer.
        """

    def close(self) -> None:
        """Release connections."""


class InProcessTransport:
    """The same handlers as over HTTP, without encoding."""

    def __init__(self, planner: EmbeddedPlanner | SharedPlanner) -> None:
        self._planner = planner

    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        """Run the handler here."""
        return self._planner.call(endpoint, checked(request))

    def close(self) -> None:
        """Close connections to the ledger."""
        self._planner.close()


class LateTransport:
    """A transport that is opened by the first call.

    Much that brings a client along never asks it: a task that reads files whose keys it has. And
    what opens a ledger must not be stopped midway, as tasks of Ray are, by an interrupt of the main
    thread wherever that is.
    """

    def __init__(self, opening: Callable[[], Transport]) -> None:
        self._opening = opening
        self._opened: Transport | None = None
        self._alone = threading.Lock()

    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        """Open it, once, and pass the call on."""
        with self._alone:
            if self._opened is None:
                self._opened = self._opening()
        return self._opened.call(endpoint, request)

    def close(self) -> None:
        """Close it, if it was opened."""
        if self._opened is not None:
            self._opened.close()


class HttpTransport:
    """A planner behind a URL. Threads share it, and its connections, one call at a time each.

    Reads, plans, heartbeats, aborts, and mutations that name their operation are sent again, up to four times within a
    minute, when the planner cannot be reached or says that it is busy; other calls are sent once.

    Args:
        url: The planner's base URL.
        headers: Sent with every request.
        timeout_s: Longest wait for a connection, and for each piece of an answer.
        verify: Whether to check TLS certificates, or the path of an authority's certificate.
        follow_redirects: Whether to go where a planner redirects to.
        sleep: How to wait between attempts.
        clock: Seconds that pass.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float = 30.0,
        verify: bool | str = True,
        follow_redirects: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = dict(headers)
        self._timeout_s = timeout_s
        self._verify = verify
        self._follow_redirects = follow_redirects
        self._sleep = sleep
        self._clock = clock
        # Those that no call uses. Not one per thread: engines ask from new threads.
        self._idle: deque[Connection] = deque()
        # In use or not: closing means them all.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        """Send the request and decode the answer."""
        request = checked(request)
        encoded = endpoint.encode(request)
        wants_plan = endpoint.response is ReadPlan
        name = uuid.uuid4().hex
        # An Arrow stream compresses its own buffers, and a plan's header is small.
        headers = {REQUEST_ID: name, "Accept-Encoding": "identity" if wants_plan else "gzip"}
        if wants_plan and not (isinstance(request, PlanRequest) and not request.include_files):
            # Keys to a store travel in JSON alone.
            headers["Accept"] = f"{ARROW_STREAM}, application/json"
        if encoded.body is not None:
            headers["Content-Type"] = "application/json"
        repeats = (
            endpoint.method == "GET"
            or endpoint.repeats
            or wants_plan
            or request.operation_id is not None
            or IDEMPOTENCY_KEY in encoded.headers
        )
        try:
            place = encoded.path + (f"?{urlencode(encoded.query)}" if encoded.query else "")
            response = self._send(
                ATTEMPTS if repeats else 1,
                lambda held: held.prepared(
                    endpoint.method, place, headers | encoded.headers, encoded.body
                ),
            )
            return self._answer(endpoint, response, wants_plan=wants_plan)
        except DeltaCATError as error:
            # What the planner's logs call it: as the planner says, else as it was asked to.
            error.request_id = error.request_id or name
            error.add_note(f"request {error.request_id} to {self.url}")
            raise

    def _answer(
        self, endpoint: Endpoint[Any, Res], response: requests.Response, *, wants_plan: bool
    ) -> Res:
        """What a response says."""
        if response.status_code >= 400:
            raise _rejection(response)
        if response.status_code >= 300 or response.request.method != endpoint.method:
            place = response.headers.get("Location") or response.url
            raise DeltaCATError(
                f"{self.url} redirects to {place}, where the call cannot be made as it is: "
                "make the client with that URL"
            )
        try:
            if wants_plan:
                return _plan(response)  # type: ignore[return-value]  # Res is ReadPlan here
            answer = msgspec.json.decode(response.content, type=endpoint.response)
        except (msgspec.MsgspecError, ValueError, KeyError, OSError, RecursionError) as error:
            raise DeltaCATError(
                f"{self.url} gave an answer that cannot be read: {error}"
            ) from error
        if isinstance(answer, list):
            return Page(answer, response.headers.get(NEXT_PAGE))  # type: ignore[return-value]  # Res is a list here
        return answer

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection that is the caller's alone: the one used last, or a new one."""
        # A forked child must not share its parent's sockets.
        held = None
        while held is None or held.pid != os.getpid():
            try:
                held = self._idle.pop()
            except IndexError:
                held = self._connection()
        try:
            yield held
        finally:
            self._idle.append(held)

    def _connection(self) -> Connection:
        if isinstance(self._verify, str) and not os.path.exists(self._verify):
            raise DataFileError(f"verify_ssl is {self._verify!r}, where no certificate is")
        headers = {"User-Agent": _AGENT, **self._headers}
        made = connection(self.url, headers, verify=self._verify)
        self._sessions.add(made.session)
        return made

    def _send(
        self, attempts: int, prepared: Callable[[Connection], requests.PreparedRequest]
    ) -> requests.Response:
        ends = self._clock() + _BUDGET_S
        for attempt in range(1, attempts + 1):
            # Spread out, so that clients that lost one planner do not come back at once.
            spread = random.uniform(0.5, 1)  # noqa: S311  # not a secret
            wait_s = spread * min(_BACKOFF_CAP_S, _BACKOFF_S * 2 ** (attempt - 1))
            try:
                with self._connected() as held:
                    response = held.send(
                        prepared(held),
                        timeout_s=self._timeout_s,
                        follow_redirects=self._follow_redirects,
                    )
            except _HOPELESS as error:
                raise PlannerUnavailableError(
                    f"{self.url} cannot be asked: {_reason(error)}"
                ) from error
            except requests.RequestException as error:
                if attempt == attempts or self._clock() + wait_s > ends:
                    raise PlannerUnavailableError(
                        f"no planner answers at {self.url} ({type(error).__name__}); is it running? "
                        "start one with: python -m planner_client.server --catalog-root DIR"
                    ) from error
            else:
                wait_s = max(wait_s, _retry_after_s(response) or 0)
                is_last = attempt == attempts or self._clock() + wait_s > ends
                if response.status_code not in _RETRYABLE or is_last:
                    return response
            self._sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the connections of all threads; those that go on open new ones."""
        for session in list(self._sessions):
            session.close()


def _reason(error: Exception) -> str:
    """Why asking again is of no use."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "its certificate is not trusted; pass the path of its authority's as verify_ssl=, or set "
            "DELTACAT_VERIFY_SSL"
        )
    return f"{type(error).__name__}: {error}"


def _plan(response: requests.Response) -> ReadPlan:
    if response.headers.get("Content-Type", "").startswith(ARROW_STREAM):
        return plan_from_ipc(response.content)
    return plan_from_wire(response.content)


def _retry_after_s(response: requests.Response) -> float | None:
    """Seconds, whether it says so or names a time."""
    text = response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    zoned = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return max((zoned - dt.datetime.now(dt.UTC)).total_seconds(), 0)


def _rejection(response: requests.Response) -> DeltaCATError:
    """The error that an answer stands for, in either envelope of the protocol."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError):
        body = {"detail": response.text[:200]}
    envelope = body.get("error") if isinstance(body, dict) else None
    if isinstance(envelope, dict):
        error = error_for(
            str(envelope.get("message", "")),
            code=str(envelope.get("code", "")),
            status=response.status_code,
            retryable=bool(envelope.get("retryable")),
            retry_after_s=_retry_after_s(response),
            details=envelope.get("details") or {},
        )
        named = envelope.get("request_id")
        error.request_id = None if named is None else str(named)
        return error
    status = response.status_code
    code = {401: "authentication_required", 403: "permission_denied", 404: "not_found"}
    detail = body.get("detail", body) if isinstance(body, dict) else body
    return error_for(
        f"the planner refused ({status}): {detail}",
        code=code.get(status, "request_rejected"),
        status=status,
        retryable=status in (423, 429, 503, 504),
        retry_after_s=_retry_after_s(response),
    )
