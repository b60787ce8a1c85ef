"""The planner over HTTP: every endpoint of the protocol, every error in its envelope."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from io_core.errors import DeltaCATError, RequestRejectedError
from io_core.plan import ReadPlan
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import HEALTH
from planner_client.server.answers import Answer, Asked, answer_of, refusal, request_id_of
from planner_client.server.auth import Guard
from planner_client.server.hosting import HostedCatalogs
from planner_client.server.limits import Limits, check_nesting
from planner_client.server.logs import LOGGER, Served
from planner_client.server.metrics import METRICS_TYPE, Metrics
from planner_client.server.openapi import OPENAPI_PATH, openapi_json
from planner_client.server.openapi_page import reading_page
from planner_client.server.routing import Found, Router, query_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.server.auth import Principal
    from planner_client.server.logs import RequestLog
    from planner_client.server.planner import EmbeddedPlanner

    # Any: ASGI's untyped messages.
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = ["App", "build_app"]

T = TypeVar("T")

EXPIRY_INTERVAL_S = 60.0
# Larger bodies are decoded, and longer plans encoded, by a thread: the loop serves others meanwhile.
_SMALL_BODY = 32 * 2**10
_SHORT_PLAN = 1000
# All bodies held at once may be as large as this many of the largest.
_LARGEST_AT_ONCE = 4
# The caller hung up before it had sent its request: nobody gets this answer, the log tells of it.
_HUNG_UP = 499


def build_app(planner: EmbeddedPlanner, guard: Guard | None = None) -> App:
    """The ASGI application that serves one planner; without a guard to whoever can reach it."""
    guard = guard or Guard()
    return App(HostedCatalogs({planner.name: planner}, guard), guard)


class _HungUpError(Exception):
    """The caller closed the connection while it was sending."""


class _Call:
    """One request under way, and what will be noted of it."""

    __slots__ = ("caller", "endpoint", "headers", "held_bytes", "id", "receive", "scope")

    def __init__(self, scope: Message, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.headers = _headers(scope["headers"])
        self.id = request_id_of(self.headers)
        self.endpoint = "-"
        self.caller: str | None = None
        self.held_bytes = 0


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; one sent twice is joined, so that it passes for neither."""
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


class App:
    """The ASGI application. One event loop runs it; calls that take time run in threads.

    Args:
        catalogs: What to serve; the application closes them when it ends.
        guard: Tells who calls.
        limits: What is refused for its size.
        log: Writes down each request; None writes nothing.
        expiry_interval_s: How often sessions and transactions that expired are ended.
    """

    def __init__(
        self,
        catalogs: HostedCatalogs,
        guard: Guard,
        *,
        limits: Limits | None = None,
        log: RequestLog | None = None,
        expiry_interval_s: float = EXPIRY_INTERVAL_S,
    ) -> None:
        self._catalogs = catalogs
        self._guard = guard
        self._limits = limits or Limits()
        self._log = log
        self._expiry_interval_s = expiry_interval_s
        self._router = Router(ENDPOINTS)
        self._metrics = Metrics(catalogs)
        self._threads = concurrent.futures.ThreadPoolExecutor(self._limits.threads, "planner")
        self._running = 0
        self._held_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or see to the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        started = time.perf_counter()
        call = _Call(scope, receive)
        answer = await self._answered(call)
        if answer.status != _HUNG_UP:
            head = answer.head(call.id)
            await send({"type": "http.response.start", "status": answer.status, "headers": head})
            await send({"type": "http.response.body", "body": answer.body})
        seconds = time.perf_counter() - started
        served = Served(
            call.id, call.caller, call.endpoint, answer.status, seconds, len(answer.body)
        )
        self._metrics.note(served)
        if self._log is not None:
            self._log.write(served)

    # --- one request ------------------------------------------------------------------------------

    async def _answered(self, call: _Call) -> Answer:
        try:
            return await self._answer(call)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            return refusal(RequestRejectedError(str(error), code="invalid_request"), call.id)
        except DeltaCATError as error:
            return refusal(error, call.id)
        except _HungUpError:
            return Answer(_HUNG_UP, b"")
        except Exception:  # noqa: BLE001  # the last place that can answer; why is for the log alone
            LOGGER.exception("request %s to %s failed", call.id, call.endpoint)
            message = f"the planner failed; its log says why, under the request's id {call.id}"
            return refusal(DeltaCATError(message), call.id)
        finally:
            self._held_bytes -= call.held_bytes

    async def _answer(self, call: _Call) -> Answer:
        page = _PAGES.get(call.scope["path"])
        if page is not None and call.scope["method"] in {"GET", "HEAD"}:
            call.endpoint = page
            return await self._page(call, page)
        found = self._router.find(call.scope["method"], call.scope["raw_path"])
        call.endpoint = found.endpoint.name
        principal = None if found.endpoint is HEALTH else self._principal(call)
        body = await self._body(call)
        if len(body) > _SMALL_BODY:
            return await self._in_thread(self._decode_and_run, call, found, body, principal)
        request = _decode(call, found, body)
        planner = self._catalogs.planner(found.fields.get("catalog_name"), request.catalog)
        if not planner.is_warm(found.endpoint, request):
            return await self._in_thread(self._run, call, found, request, principal)
        # Handing a call to a thread and back costs more than such a call takes.
        result = self._catalogs.call(planner, found.endpoint, request, principal)
        if isinstance(result, ReadPlan) and result.files.num_rows > _SHORT_PLAN:
            return await self._in_thread(self._encode, call, found.endpoint, result)
        return self._encode(call, found.endpoint, result)

    async def _page(self, call: _Call, page: str) -> Answer:
        self._principal(call)
        match page:
            case "openapi":
                return Answer(200, openapi_json())
            case "docs":
                return Answer(200, reading_page(), "text/html; charset=utf-8")
        return Answer(200, await self._in_thread(self._metrics.text), METRICS_TYPE)

    def _principal(self, call: _Call) -> Principal | None:
        headers = call.headers
        principal = self._guard.principal(
            headers.get("authorization"), headers.get("x-deltacat-user")
        )
        call.caller = None if principal is None else principal.user_id
        return principal

    async def _body(self, call: _Call) -> bytes:
        coding = call.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise RequestRejectedError(
                f"a body with content-encoding {coding!r} is not understood: send it as it is",
                code="invalid_request",
                status=415,
            )
        announced = call.headers.get("content-length", "")
        self._hold(call, int(announced) if announced.isdigit() else 0)
        chunks, size, more = [], 0, True
        while more:
            message = await call.receive()
            if message["type"] == "http.disconnect":
                raise _HungUpError
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
            self._hold(call, size)
        return b"".join(chunks)

    def _hold(self, call: _Call, size: int) -> None:
        limit = self._limits.max_body_bytes
        if size > limit:
            raise RequestRejectedError(
                f"the request's body is larger than {limit} bytes: send less at once",
                code="request_too_large",
                status=413,
            )
        more = max(size - call.held_bytes, 0)
        self._held_bytes += more
        call.held_bytes += more
        if self._held_bytes > _LARGEST_AT_ONCE * limit:
            raise _busy("the bodies of the requests under way fill the memory set aside for them")

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        # Any: the function's own arguments.
        if self._running >= self._limits.threads + self._limits.max_waiting:
            raise _busy(f"{self._running} calls are running or waiting")
        self._running += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, function, *arguments)
        finally:
            self._running -= 1

    # --- in a thread, or on the loop where it is quick ----------------------------------------------

    def _decode_and_run(
        self, call: _Call, found: Found, body: bytes, principal: Principal | None
    ) -> Answer:
        return self._run(call, found, _decode(call, found, body), principal)

    def _run(
        self, call: _Call, found: Found, request: Request, principal: Principal | None
    ) -> Answer:
        planner = self._catalogs.planner(found.fields.get("catalog_name"), request.catalog)
        result = self._catalogs.call(planner, found.endpoint, request, principal)
        return self._encode(call, found.endpoint, result)

    # Any: each endpoint has its own response.
    def _encode(self, call: _Call, endpoint: Endpoint[Any, Any], result: Any) -> Answer:
        if isinstance(result, ReadPlan):
            ruled_out = sum(step.files for step in result.header.pruned)
            self._metrics.note_plan(result.header.returned_files, ruled_out)
        headers = call.headers
        asked = Asked(
            headers.get("accept", ""),
            headers.get("accept-encoding", ""),
            self._limits.max_json_files,
        )
        return answer_of(endpoint, result, asked)

    # --- start and end ----------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        expiring = asyncio.create_task(self._expire())
        await receive()
        expiring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await expiring
        # Calls that are acknowledged have ended; one that outlasted the server's patience ends here.
        self._threads.shutdown()
        self._catalogs.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._expiry_interval_s)
            for name, planner in self._catalogs:
                try:
                    await loop.run_in_executor(self._threads, planner.expire)
                except Exception:  # noqa: BLE001  # the next round tries again
                    LOGGER.exception("could not end what has expired in catalog %s", name)


# Pages that are no part of the protocol, by the name that log and metrics have for them.
_PAGES = {OPENAPI_PATH: "openapi", "/docs": "docs", "/metrics": "metrics"}


def _decode(call: _Call, found: Found, body: bytes) -> Request:
    check_nesting(body)
    text = call.scope["query_string"]
    query = query_of(text) if text else {}
    headers: dict[str, str] = {}
    if "header" in found.endpoint.places.values():
        headers = {name.title(): value for name, value in call.headers.items()}
    # Any: each endpoint has its own request.
    request: Request = found.endpoint.decode(found.fields, query, body, headers)
    return request


def _busy(why: str) -> RequestRejectedError:
    return RequestRejectedError(
        f"the planner is busy: {why}; try again",
        code="service_unavailable",
        status=503,
        retryable=True,
        retry_after_s=1,
    )
