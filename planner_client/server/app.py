"""The planner over HTTP: every endpoint of the protocol as a route, every error in its envelope."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from io_core.errors import DeltaCATError, RequestRejectedError
from io_core.plan import ReadPlan, plan_to_ipc, plan_to_wire
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.plans import ARROW_STREAM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request as HttpRequest

    from planner_client.protocol.endpoint import Endpoint
    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["build_app"]

MAX_BODY_BYTES = 256 * 2**20


def build_app(planner: EmbeddedPlanner) -> Starlette:
    """The ASGI application that serves `planner`."""
    routes = [
        Route(endpoint.path, _serve(planner, endpoint), methods=[endpoint.method])
        for endpoint in ENDPOINTS
    ]
    return Starlette(
        routes=routes, exception_handlers={HTTPException: _no_route, Exception: _failed}
    )


# Any: each endpoint has its own request and response.
def _serve(
    planner: EmbeddedPlanner, endpoint: Endpoint[Any, Any]
) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def serve(http: HttpRequest) -> Response:
        try:
            body = await _body(http)
            request = endpoint.decode(http.path_params, http.query_params, body)
            accept = http.headers.get("accept", "")
            return await run_in_threadpool(_answer, planner, endpoint, request, accept)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            return _refusal(RequestRejectedError(str(error), code="invalid_request"))
        except DeltaCATError as error:
            return _refusal(error)

    return serve


async def _body(http: HttpRequest) -> bytes:
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise RequestRejectedError(
                f"the request's body is larger than {MAX_BODY_BYTES} bytes", status=413
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _answer(
    planner: EmbeddedPlanner, endpoint: Endpoint[Any, Any], request: Any, accept: str
) -> Response:
    result = planner.call(endpoint, request)
    if not isinstance(result, ReadPlan):
        content = msgspec.json.encode(result)
        return Response(content, endpoint.status, media_type="application/json")
    if ARROW_STREAM in accept:
        return Response(plan_to_ipc(result), media_type=ARROW_STREAM)
    return Response(plan_to_wire(result), media_type="application/json")


def _refusal(error: DeltaCATError) -> Response:
    envelope = {
        "error": {
            "code": error.code,
            "message": str(error),
            "retryable": getattr(error, "retryable", False),
            "details": error.details,
            "request_id": uuid.uuid4().hex,
        }
    }
    return Response(msgspec.json.encode(envelope), error.status, media_type="application/json")


async def _no_route(http: HttpRequest, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = "method_not_allowed" if status == 405 else "not_found"
    message = f"{http.method} {http.url.path} is no endpoint of this planner"
    return _refusal(RequestRejectedError(message, code=code, status=status))


async def _failed(http: HttpRequest, error: Exception) -> Response:
    return _refusal(
        DeltaCATError(f"the planner failed on {http.method} {http.url.path}; see its log")
    )
