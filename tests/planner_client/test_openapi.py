"""Does the OpenAPI document say what the server does, and does the page show all of it?"""

from __future__ import annotations

import html.parser
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

from planner_client.protocol import ENDPOINTS
from planner_client.protocol.endpoint import header_name
from planner_client.protocol.plans import ARROW_STREAM
from planner_client.server.app import build_app
from planner_client.server.openapi import openapi_document
from planner_client.server.openapi_page import reading_page
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from planner_client.protocol.endpoint import Endpoint

# Any: JSON, and each endpoint has its own request.
Json = dict[str, Any]
AnyEndpoint = Any

DOCUMENT = openapi_document()
BY_NAME: dict[str, Json] = {
    operation["operationId"]: operation
    for methods in DOCUMENT["paths"].values()
    for operation in methods.values()
}
by_name = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root: Path = tmp_path_factory.mktemp("openapi") / "catalog"
    with listening(build_app(EmbeddedPlanner(root))) as found:
        yield found


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_reference_leads_somewhere() -> None:
    found = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert found <= set(DOCUMENT["components"]["schemas"])


def test_every_endpoint_is_there_once() -> None:
    found = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert found == {(e.method, e.path) for e in ENDPOINTS}
    assert set(BY_NAME) == {e.name for e in ENDPOINTS}


@by_name
def test_every_field_is_where_it_travels(endpoint: Endpoint[AnyEndpoint, AnyEndpoint]) -> None:
    operation = BY_NAME[endpoint.name]
    said = {(p["in"], p["name"]) for p in operation["parameters"]}
    body = operation.get("requestBody", {"content": {"application/json": {"schema": {}}}})
    said |= {
        ("body", n) for n in body["content"]["application/json"]["schema"].get("properties", {})
    }
    for field, place in endpoint.places.items():
        if field == "operation_id" and not endpoint.mutates and place == "query":
            assert ("query", field) not in said
            continue
        name = header_name(field) if place == "header" else field
        places = {"json": ("query",), "long": ("query", "body")}.get(place, (place,))
        assert {(p, name) for p in places} <= said
    assert operation["description"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    assert {str(endpoint.status), "4XX", "5XX"} == set(operation["responses"])


def test_a_plan_comes_as_json_or_as_arrow_and_takes_a_predicate_in_either_place() -> None:
    plan = BY_NAME["plan"]
    assert set(plan["responses"]["200"]["content"]) == {"application/json", ARROW_STREAM}
    assert not plan["requestBody"]["required"]
    (predicate,) = [p for p in plan["parameters"] if p["name"] == "filter_predicate"]
    assert "__deltacat_filter_predicate_body__" in predicate["description"]


def test_tokens_are_asked_for_except_for_health() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    assert [name for name, o in BY_NAME.items() if o.get("security") == []] == ["health"]


def test_the_server_gives_the_document_and_the_page(url: str) -> None:
    answer = requests.get(f"{url}/openapi.json", timeout=30)
    assert (answer.status_code, answer.json()) == (200, DOCUMENT)
    page = requests.get(f"{url}/docs", timeout=30)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.content == reading_page()


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, and what can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href":
                self.links.add(str(value))
            if name == "src":
                self.loads.append(str(value))
            if name == "id":
                self.anchors.add(str(value))


def test_the_page_shows_every_endpoint_and_needs_nobody_else() -> None:
    text = reading_page().decode()
    page = Page(text)
    assert {e.name for e in ENDPOINTS} <= page.anchors
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.anchors
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert page.loads == []
    assert "http" not in text.replace("http-equiv", "")
