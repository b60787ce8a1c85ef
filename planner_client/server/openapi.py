"""What does the OpenAPI document say? The table of endpoints, projected: nothing is said twice."""

from __future__ import annotations

import functools
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from io_core.model import ScanTask
from io_core.plan import PlanHeader, ReadPlan
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import HEALTH
from planner_client.protocol.endpoint import BODY_MARKER, NEXT_PAGE, header_name
from planner_client.protocol.plans import ARROW_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planner_client.protocol.endpoint import Endpoint

__all__ = ["OPENAPI_PATH", "openapi_document", "openapi_json"]

# Any, here and below: JSON.
Json = dict[str, Any]

OPENAPI_PATH = "/openapi.json"
_JSON = "application/json"
_SCHEMAS = "#/components/schemas/"
_SUMMARY = "Reads and writes DeltaCAT tables: catalogs, namespaces, tables, plans, writes."
_ERROR: Json = {
    "type": "object",
    "description": "Why a request was refused.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "retryable", "details", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "The error's name, for programs."},
                "message": {"type": "string", "description": "What happened and what to do."},
                "retryable": {
                    "type": "boolean",
                    "description": "The same request may succeed later.",
                },
                "details": {"type": "object"},
                "request_id": {"type": "string", "description": "Stands in the server's log too."},
            },
        }
    },
}


def openapi_document() -> Json:
    """The OpenAPI 3.1 document of every endpoint."""
    document: Json = msgspec.json.decode(openapi_json())
    return document


@functools.cache
def openapi_json() -> bytes:
    """The document as JSON."""
    schemas = _schemas()
    paths: dict[str, Json] = {}
    for endpoint in ENDPOINTS:
        # The request's own schema is taken apart: its fields travel in several places.
        request = schemas[endpoint.request.__name__]
        operation = _operation(endpoint, request)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    requests = {endpoint.request.__name__ for endpoint in ENDPOINTS}
    kept = {name: schema for name, schema in schemas.items() if name not in requests}
    plan = {"scan_tasks": {"type": "array", "items": {"$ref": f"{_SCHEMAS}ScanTask"}}}
    kept["Plan"] = {
        "title": "Plan",
        "description": "A plan as JSON: its header, and its files by delta and partition.",
        "allOf": [{"$ref": f"{_SCHEMAS}PlanHeader"}, {"type": "object", "properties": plan}],
    }
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "DeltaCAT planner",
            "summary": _SUMMARY,
            "description": "Every answer carries `x-request-id`: the caller's, where it sent a short "
            "plain one, else a new one. Bodies from 4 KB are compressed for callers that accept "
            "zstd or gzip.",
            "version": version("deltacat-sources"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(_tag(e) for e in ENDPOINTS)],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": kept | {"Error": _ERROR},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token that an administrator issued; needed where the server "
                    "authenticates its callers.",
                }
            },
        },
    }
    return msgspec.json.encode(document)


def _schemas() -> dict[str, Json]:
    types: list[Any] = [PlanHeader, ScanTask]
    for endpoint in ENDPOINTS:
        types += [endpoint.request]
        types += [] if endpoint.response is ReadPlan else [endpoint.response]
    _, found = msgspec.json.schema_components(
        types, ref_template=f"{_SCHEMAS}{{name}}", schema_hook=_any_json
    )
    return found


def _any_json(kind: type) -> Json:
    if kind is object:
        return {"description": "Any JSON."}
    raise NotImplementedError


def _tag(endpoint: Endpoint[Any, Any]) -> str:
    return endpoint.request.__module__.rpartition(".")[2]


def _operation(endpoint: Endpoint[Any, Any], request: Json) -> Json:
    summary, _, rest = request["description"].partition("\n\n")
    operation: Json = {
        "operationId": endpoint.name,
        "tags": [_tag(endpoint)],
        "summary": _title(endpoint.name),
        "description": "\n\n".join(part for part in (summary, rest) if part),
        "parameters": list(_parameters(endpoint, request)),
        "responses": {
            str(endpoint.status): _response(endpoint),
            "4XX": _refused("The caller's fault: the request is refused."),
            "5XX": _refused("The planner's fault, or it is busy."),
        },
    }
    body = _body(endpoint, request)
    if body is not None:
        operation["requestBody"] = body
    if endpoint is HEALTH:
        operation["security"] = []
    return operation


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _parameters(endpoint: Endpoint[Any, Any], request: Json) -> Iterator[Json]:
    for field, place in endpoint.places.items():
        if place == "body" or (field == "operation_id" and not endpoint.mutates):
            continue
        schema = _without_null(request["properties"][field])
        parameter: Json = {
            "name": header_name(field) if place == "header" else field,
            "in": place if place in {"path", "header"} else "query",
            "required": field in request["required"] and place != "long",
        }
        if place in {"json", "long"}:
            parameter["content"] = {_JSON: {"schema": schema}}
        else:
            parameter["schema"] = schema
        if place == "long":
            parameter["description"] = (
                f"Where it is long it travels in the body; here stands {json.dumps(BODY_MARKER)} then."
            )
        yield parameter


def _without_null(schema: Json) -> Json:
    """Outside of bodies, what is null is left out."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k != "anyOf" and (k, v) != ("default", None)}
    if not options:
        return rest
    return rest | (options[0] if len(options) == 1 else {"anyOf": options})


def _body(endpoint: Endpoint[Any, Any], request: Json) -> Json | None:
    inside = [f for f, place in endpoint.places.items() if place in {"body", "long"}]
    if not inside:
        return None
    required = [f for f in request["required"] if f in inside and endpoint.places[f] == "body"]
    schema: Json = {
        "type": "object",
        "properties": {field: request["properties"][field] for field in inside},
    }
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {_JSON: {"schema": schema}}}


def _response(endpoint: Endpoint[Any, Any]) -> Json:
    if endpoint.response is ReadPlan:
        return {
            "description": "The plan: as JSON, or as an Arrow stream for callers that accept one.",
            "content": {
                _JSON: {"schema": {"$ref": f"{_SCHEMAS}Plan"}},
                ARROW_STREAM: {"schema": {"contentMediaType": ARROW_STREAM}},
            },
        }
    (schema,), _ = msgspec.json.schema_components(
        [endpoint.response], ref_template=f"{_SCHEMAS}{{name}}", schema_hook=_any_json
    )
    response: Json = {"description": "Done.", "content": {_JSON: {"schema": schema}}}
    if schema.get("type") == "array":
        response["headers"] = {
            NEXT_PAGE: {
                "description": "Where the list goes on: send it as next_token. Absent on the last page.",
                "schema": {"type": "string"},
            }
        }
    return response


def _refused(text: str) -> Json:
    return {
        "description": text,
        "content": {_JSON: {"schema": {"$ref": f"{_SCHEMAS}Error"}}},
    }
