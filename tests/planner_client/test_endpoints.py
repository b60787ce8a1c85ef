"""Is every call of the protocol there at both ends, and does every request survive the way?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import RequestRejectedError
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.protocol.endpoint import BODY_MARKER, Endpoint, Request
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.protocol.tables import CREATE_TABLE
from planner_client.server.planner import HANDLERS, EmbeddedPlanner
from planner_client.server.routing import Router
from planner_client.server.transactions import CONTROL
from planner_client.transport import InProcessTransport

if TYPE_CHECKING:
    from pathlib import Path

Res = TypeVar("Res")


# Calls of client.auth.
AUTH = {e.name for e in ENDPOINTS if e.path.startswith("/v1/auth/")}


class Recording:
    """A transport that notes which endpoints pass through it."""

    def __init__(self, planner: EmbeddedPlanner) -> None:
        self.inner = InProcessTransport(planner)
        self.called: set[str] = set()

    # Any: each endpoint has its own request.
    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        self.called.add(endpoint.name)
        return self.inner.call(endpoint, request)

    def close(self) -> None:
        self.inner.close()


def test_every_endpoint_has_a_handler_and_every_handler_an_endpoint() -> None:
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert sorted(names) == sorted([*HANDLERS, *CONTROL])
    assert len({(e.method, e.path) for e in ENDPOINTS}) == len(ENDPOINTS)


def test_the_server_finds_every_endpoint_by_its_method_and_path() -> None:
    router = Router(ENDPOINTS)
    for endpoint in ENDPOINTS:
        found = router.find(endpoint.method, endpoint.path.encode())
        assert found.endpoint is endpoint
        assert found.fields == {n: f"{{{n}}}" for n, p in endpoint.places.items() if p == "path"}


def test_the_client_has_a_method_for_every_endpoint(tmp_path: Path) -> None:
    transport = Recording(EmbeddedPlanner(tmp_path / "catalog"))
    catalog = Catalog(transport, None)
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}
    catalog.list_catalogs()
    catalog.get_catalog(catalog="default")
    catalog.get_server_endpoints()
    catalog.create_namespace(namespace="ns")
    catalog.list_namespaces()
    catalog.get_namespace(namespace="ns")
    catalog.namespace_exists(namespace="ns")
    catalog.alter_namespace(namespace="ns", properties={"a": 1})
    catalog.create_table(**where, schema=pa.schema([("x", pa.int8())]))
    catalog.list_tables(namespace="ns")
    catalog.describe_table(**where)
    catalog.table_exists(**where)
    catalog.list_table_versions(**where)
    catalog.table_history(**where)
    catalog.plan(**where)
    catalog.write_data(**where, data={"x": [1]})
    catalog.preview(**where)
    session = catalog.heartbeat(session=catalog.stage(**where))
    catalog.get_write_session(session.session_id)
    catalog.commit(session=session, entries=[])
    catalog.abort(session=catalog.stage(**where))
    catalog.alter_table(**where, table_description="about t")
    catalog.truncate_table(**where)
    catalog.rollback_table(**where, as_of=catalog.transaction().info.created_at)
    catalog.rename_table(**where, new_name="u")
    catalog.drop_table(namespace="ns", table="u")
    catalog.drop_namespace(namespace="ns")
    tx = catalog.transaction()
    tx.heartbeat()
    tx.commit()
    catalog.get_transaction(catalog.transaction().id).abort()
    assert transport.called == {e.name for e in ENDPOINTS} - {"health"} - AUTH
    assert Client(tmp_path / "catalog").health().status == "ok"


# --- encoding -------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["null", "true", "1", "a/b", "a%2Fb", "?x=1&y", "{namespace}", " "]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)


# Any: whatever the type says.
def values(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a declared type."""
    inspect = msgspec.inspect
    match kind:
        case inspect.Metadata():
            return values(kind.type)
        case inspect.StructType():
            return st.builds(kind.cls, **{f.name: values(f.type) for f in kind.fields})
        case inspect.UnionType():
            return st.one_of([values(t) for t in kind.types])
        case inspect.ListType():
            return st.lists(values(kind.item_type), max_size=2)
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), max_size=2).map(tuple)
        case inspect.DictType():
            return st.dictionaries(_TEXT, values(kind.value_type), max_size=2)
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.StrType():
            return _TEXT
    return _JSON


# Any: each endpoint has its own request.
def over_the_wire(endpoint: Endpoint[Any, Any], request: Request) -> Request:
    """Encoded by the client, taken apart as a server does, decoded."""
    path, query, body, headers = endpoint.encode(request)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]*)", endpoint.path)
    found = re.fullmatch(pattern, path)
    assert found is not None, path
    parts = {name: unquote(text) for name, text in found.groupdict().items()}
    decoded: Request = endpoint.decode(parts, query, body or b"", headers)
    return decoded


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
def test_every_request_survives_the_way(endpoint: Endpoint[Any, Any]) -> None:
    def named(request: Request) -> bool:
        return all(getattr(request, n) for n, at in endpoint.places.items() if at == "path")

    @given(values(msgspec.inspect.type_info(endpoint.request)).filter(named))
    def property_(request: Request) -> None:
        assert over_the_wire(endpoint, request) == request

    property_()


def test_an_empty_name_is_refused_before_it_is_sent() -> None:
    with pytest.raises(RequestRejectedError, match="namespace is empty"):
        PLAN.encode(PlanRequest(namespace="", table="t"))


def test_a_long_predicate_travels_in_the_body() -> None:
    short = PlanRequest(namespace="n", table="t", filter_predicate={"in": ["x", [1]]})
    assert PLAN.encode(short).body is None
    assert PLAN.encode(short).query["filter_predicate"] == '{"in":["x",[1]]}'
    long = PlanRequest(namespace="n", table="t", filter_predicate={"in": ["x", list(range(5000))]})
    encoded = PLAN.encode(long)
    assert len(encoded.query["filter_predicate"]) < 100
    assert msgspec.json.decode(encoded.query["filter_predicate"]) == BODY_MARKER
    assert encoded.body is not None
    assert over_the_wire(PLAN, long) == long


def test_numbers_and_booleans_are_read_from_the_query() -> None:
    query = {"max_files": "3", "include_files": "false", "as_of": "5", "columns": '["a"]'}
    found = PLAN.decode({"namespace": "n", "table": "t"}, query, b"")
    assert (found.max_files, found.include_files, found.as_of, found.columns) == (
        3,
        False,
        5,
        ["a"],
    )


def test_unknown_fields_are_ignored() -> None:
    found = PLAN.decode({"namespace": "n", "table": "t"}, {"later": "1"}, b'{"new": 1}')
    assert found == PlanRequest(namespace="n", table="t")


@pytest.mark.parametrize(
    ("query", "body", "problem"),
    [
        ({"max_files": "many"}, b"", "max_files"),
        ({"columns": "[1"}, b"", "columns"),
        ({"columns": "{}"}, b"", "columns"),
        ({}, b"[]", "JSON object"),
        ({}, b"{", "body"),
        ({}, b'{"a": "\xff"}', "body"),
        ({}, b'{"a":' * 100_000, "body"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_by_field(
    query: dict[str, str], body: bytes, problem: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        PLAN.decode({"namespace": "n", "table": "t"}, query, body)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match="table"):
        CREATE_TABLE.decode({"namespace": "n"}, {}, b"{}")


def test_a_request_of_no_fields_has_no_body_and_endpoints_say_what_they_are() -> None:
    assert HEALTH.encode(HealthRequest()) == ("/health", {}, None, {})
    assert repr(HEALTH) == "Endpoint(GET /health)"
