"""How does a person read the OpenAPI document? One page, made here, that asks nobody else for anything."""

from __future__ import annotations

import functools
import itertools
from html import escape
from typing import TYPE_CHECKING, Any

from planner_client.server.openapi import OPENAPI_PATH, openapi_document

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["reading_page"]

# Any, here and below: JSON.
Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
code { font: 13px ui-monospace, monospace; }
summary { cursor: pointer; padding: .25rem 0; }
summary b { display: inline-block; width: 4.5rem; }
details { border-bottom: 1px solid #8884; }
details > div { padding: 0 0 .75rem 1rem; }
table { border-collapse: collapse; }
td { padding: .15rem 1rem .15rem 0; vertical-align: top; }
"""


@functools.cache
def reading_page() -> bytes:
    """The page, as HTML."""
    return "".join(_page(openapi_document())).encode()


def _page(document: Json) -> Iterator[str]:
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    yield "<!doctype html><html lang=en><meta charset=utf-8>"
    yield f"<meta name=viewport content='width=device-width'><title>{title}</title>"
    yield f"<style>{_STYLE}</style><h1>{title}</h1><p>{escape(info['summary'])}"
    yield f"<p>{_text(info['description'])} For programs: <a href={OPENAPI_PATH}>OpenAPI</a>."
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in (tag["name"] for tag in document["tags"]):
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        for method, path, operation in operations:
            if tag in operation["tags"]:
                yield from _operation(method, path, operation)
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f"<details id={escape(name)}><summary><code>{escape(name)}</code></summary><div>"
        yield f"<p>{_text(schema.get('description', ''))}"
        yield from _fields(schema)
        yield "</div></details>"


def _operation(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"<details id={escape(operation['operationId'])}><summary><b>{method.upper()}</b>"
    yield f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary><div>"
    yield f"<p>{_text(operation['description'])}"
    if operation["parameters"]:
        yield "<h4>Parameters</h4><table>"
        for parameter in operation["parameters"]:
            content = parameter.get("content", {}).get("application/json", parameter)
            note = "JSON; " if "content" in parameter else ""
            need = "required" if parameter["required"] else ""
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}"
            yield f"<td>{note}{_type(content['schema'])}<td>{need} "
            yield _text(parameter.get("description", ""))
        yield "</table>"
    if "requestBody" in operation:
        yield "<h4>Body</h4>"
        yield from _fields(operation["requestBody"]["content"]["application/json"]["schema"])
    yield "<h4>Answers</h4><table>"
    for status, answer in operation["responses"].items():
        kinds = [
            f"<code>{escape(kind)}</code> {_type(content['schema'])}"
            for kind, content in answer["content"].items()
        ]
        yield f"<tr><td>{status}<td>{_text(answer['description'])}<td>{'<br>'.join(kinds)}"
    yield "</table></div></details>"


def _fields(schema: Json) -> Iterator[str]:
    parts = [schema, *schema.get("allOf", [])]
    yield "".join(f"<p>Like {_type(part)}, and:" for part in parts if "$ref" in part)
    fields = itertools.chain.from_iterable(p.get("properties", {}).items() for p in parts)
    required = {name for part in parts for name in part.get("required", ())}
    yield "<table>"
    for name, field in fields:
        need = "required" if name in required else ""
        yield f"<tr><td><code>{escape(name)}</code><td>{_type(field)}<td>{need}"
    yield "</table>"


def _type(schema: Json) -> str:
    """A type in a few words; other schemas are links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(schema.get("type", "any"))


def _text(text: str) -> str:
    """Prose with `code` in it."""
    pieces = escape(text).split("`")
    marked = (f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))
    return "".join(marked).replace("\n\n", "<p>")
