"""Does a planner over HTTP answer as one in this process does, and refuse in its envelope?"""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest
import requests

from io_core.errors import (
    AlreadyExistsError,
    AuthenticationRequiredError,
    CatalogRootError,
    ConcurrentModificationError,
    DataFileError,
    DeltaCATError,
    NotFoundError,
    PermissionDeniedError,
    PlannerUnavailableError,
    PredicateError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
    error_for,
)
from io_core.model import TableRef, WriteEntry, WriteSession
from io_core.plan import plan_from_wire
from io_core.predicate import In
from io_core.scan import Scan
from planner_client import Client
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.protocol.namespaces import CREATE_NAMESPACE, CreateNamespace
from planner_client.protocol.plans import ARROW_STREAM
from planner_client.server.app import build_app
from planner_client.server.limits import MAX_BODY_BYTES
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transport import ATTEMPTS, HttpTransport
from tests.answering import Answer, answering
from tests.oracle import canonical, rows_of
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS = pa.table({"k": [1, 2, 3], "x": [0.5, float("nan"), None], "s": ["a", "b", None]})
SORTED: dict[str, Any] = {
    "namespace": "ns",
    "table": "sorted",
    "schema": ROWS.schema,
    "sort_scheme": {"keys": [{"key": ["k"], "transform": "bucket(2)"}]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("http") / "catalog"


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    with serving(root) as found:
        client = Client(found)
        scheme = {"keys": [{"key": ["s"]}]}
        client.catalog.write(ROWS, **WHERE, merge_keys=["k"], partition_scheme=scheme)
        client.catalog.write(ROWS.slice(0, 1), **WHERE, mode="delete")
        yield found


@pytest.fixture
def client(url: str) -> Client:
    return Client(url)


# --- the same answers -----------------------------------------------------------------------------


def test_a_plan_is_the_same_over_http_and_in_process(client: Client, root: Path) -> None:
    embedded = Client(root)
    options: list[dict[str, Any]] = [
        {},
        {"include_stats": True},
        {"limit": 1, "columns": ["k"]},
        {"filter_predicate": {"or": [{"eq": ["x", "NaN"]}, {"is_null": "s"}]}},
    ]
    for kwargs in options:
        assert client.catalog.plan(**WHERE, **kwargs) == embedded.catalog.plan(**WHERE, **kwargs)
    rows = [canonical(rows_of(c.catalog.read(**WHERE)), ordered=True) for c in (client, embedded)]
    assert rows[0] == rows[1]
    assert client.catalog.describe_table(**WHERE) == embedded.catalog.describe_table(**WHERE)
    assert client.catalog.list_tables(namespace="ns") == embedded.catalog.list_tables(
        namespace="ns"
    )


def test_a_client_that_takes_no_arrow_gets_the_same_plan_as_json(url: str, client: Client) -> None:
    address = f"{url}/v1/namespaces/ns/tables/t/plan?include_column_stats=true"
    answer = requests.post(address, timeout=30)
    assert answer.headers["Content-Type"].startswith("application/json")
    found, wanted = plan_from_wire(answer.content), client.catalog.plan(**WHERE, include_stats=True)
    assert found.header == msgspec.structs.replace(
        wanted.header, expires_at=found.header.expires_at
    )
    assert found.scan_tasks == wanted.scan_tasks
    arrow = requests.post(address, headers={"Accept": ARROW_STREAM}, timeout=30)
    assert arrow.headers["Content-Type"].startswith(ARROW_STREAM)


def test_a_predicate_longer_than_a_url_arrives(client: Client) -> None:
    many = {"in": ["k", list(range(2, 20_000))]}
    assert client.catalog.read(**WHERE, filter_predicate=many).column("k").to_pylist() == [2, 3]
    scan = Scan(TableRef("ns", "t"), client, predicate=In("k", tuple(range(500, 20_000))))
    assert scan.plan().total_files == 0


@pytest.mark.parametrize(
    "name", ["a b", "größe", "a%2Fb", "?x=1", "#1", "{table}", "null", "a.b", "+"]
)
def test_odd_names_survive_the_path(client: Client, name: str) -> None:
    client.catalog.create_table(
        namespace=name, table=name, schema=ROWS.schema, auto_create_namespace=True
    )
    assert client.catalog.describe_table(namespace=name, table=name).table_name == name
    assert client.catalog.get_namespace(namespace=name).name == name


# --- the same errors ------------------------------------------------------------------------------


def wrong_file(client: Client) -> None:
    session = client.catalog.stage(**WHERE)
    entry = WriteEntry(f"{session.data_dir}/absent.parquet", 1, partition_values=["a"])
    client.commit(session=session, entries=[entry])


def stale(client: Client) -> None:
    session = client.catalog.stage(**WHERE)
    client.heartbeat(session=msgspec.structs.replace(session, session_version=9))


REFUSALS: dict[str, tuple[Callable[[Client], object], type[DeltaCATError], int]] = {
    "namespace": (lambda c: c.catalog.get_namespace(namespace="nss"), NotFoundError, 404),
    "table": (lambda c: c.catalog.plan(namespace="ns", table="tt"), NotFoundError, 404),
    "session": (lambda c: c.catalog.get_write_session("ws_1"), NotFoundError, 404),
    "twice": (lambda c: c.catalog.create_namespace(namespace="ns"), AlreadyExistsError, 409),
    "stale": (stale, ConcurrentModificationError, 409),
    "name": (lambda c: c.catalog.create_namespace(namespace="../x"), RequestRejectedError, 400),
    "predicate": (
        lambda c: c.catalog.plan(**WHERE, filter_predicate={"eq": ["kk", 1]}), PredicateError, 400
    ),
    "column": (lambda c: c.catalog.plan(**WHERE, columns=["kk"]), SchemaValidationError, 400),
    "mode": (lambda c: c.catalog.stage(**WHERE, mode="append"), SchemaValidationError, 400),
    "transform": (lambda c: c.catalog.create_table(**SORTED), UnsupportedError, 400),
    "file": (wrong_file, DataFileError, 400),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_the_same_error_over_http_and_in_process(
    client: Client, root: Path, case: str
) -> None:
    call, kind, status = REFUSALS[case]
    found = []
    for way in (client, Client(root)):
        with pytest.raises(kind) as caught:
            call(way)
        found.append(caught.value)
    over_http, in_process = found
    assert type(over_http) is type(in_process) is kind
    assert (over_http.code, over_http.status) == (in_process.code, status)
    if case not in ("stale", "file"):
        assert str(over_http) == str(in_process)
        assert over_http.details == in_process.details


@pytest.mark.parametrize(
    "kind",
    [
        NotFoundError, AlreadyExistsError, ConcurrentModificationError, PermissionDeniedError,
        CatalogRootError, PredicateError, SchemaValidationError, UnsupportedError, DataFileError,
    ],
)  # fmt: skip
def test_every_code_on_the_wire_stands_for_one_error(kind: type[DeltaCATError]) -> None:
    found = error_for("why", code=kind.code, status=kind.status, details={"a": 1})
    assert type(found) is kind
    assert (str(found), found.code, found.status, found.details) == (
        "why",
        kind.code,
        kind.status,
        {"a": 1},
    )


def test_an_unknown_code_is_a_refusal_that_keeps_what_it_said() -> None:
    found = error_for("why", code="later", status=418, retryable=True, retry_after_s=2.0)
    assert isinstance(found, RequestRejectedError)
    assert (found.code, found.status, found.retryable, found.retry_after_s) == (
        "later",
        418,
        True,
        2.0,
    )


# --- bad requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/namespaces/ns/tables/a%2Fb%2Fc/d", 404, "not_found"),
        ("DELETE", "/v1/namespaces", 405, "method_not_allowed"),
    ],
)
def test_an_unknown_route_is_refused_in_the_envelope(
    url: str, method: str, path: str, status: int, code: str
) -> None:
    answer = requests.request(method, url + path, timeout=30)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["retryable"]) == (code, False)
    assert "is no endpoint of this planner" in error["message"]
    assert len(error["request_id"]) == 32


PLAN_PATH = "/v1/namespaces/ns/tables/t/plan"
BODY_MARKER = "?filter_predicate=%7B%22__deltacat_filter_predicate_body__%22%3Atrue%7D"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/namespaces", b""),
        ("/v1/namespaces", b"{"),
        ("/v1/namespaces", b"[]"),
        ("/v1/namespaces", b"null"),
        ("/v1/namespaces", b'{"namespace": 5}'),
        ("/v1/namespaces", b'{"namespace": null}'),
        ("/v1/namespaces", b'{"namespace": "\xff"}'),
        ("/v1/namespaces", b'{"namespace": "\\ud800"}'),
        ("/v1/namespaces", b'{"namespace": "a", "properties": []}'),
        ("/v1/namespaces", b'{"namespace":' + b"[" * 100_000),
        ("/v1/namespaces/ns/tables", b'{"table": "x", "schema_def": "!!"}'),
        ("/v1/namespaces/ns/tables", b'{"table": "x", "schema_def": [{}]}'),
        ("/v1/namespaces/ns/tables/t/write-sessions", b'{"mode": "upsert"}'),
        ("/v1/write-sessions/ws_1/commit", b'{"session_version": 1, "entries": [{"path": 1}]}'),
        ("/v1/write-sessions/ws_1/commit", b'{"session_version": 1e300, "entries": []}'),
        (f"{PLAN_PATH}?max_files=many", b""),
        (f"{PLAN_PATH}?max_files=-1", b""),
        (f"{PLAN_PATH}?columns=%5B1", b""),
        (f"{PLAN_PATH}?columns=%5B1%5D", b""),
        (f"{PLAN_PATH}?as_of=-{10**30}", b""),
        (f"{PLAN_PATH}?as_of={10**30}", b""),
        (f"{PLAN_PATH}?snapshot={10**30}", b""),
        (f"{PLAN_PATH}?filter_predicate=%7B%22eq%22%3A%5B%22k%22%5D%7D", b""),
        (f"{PLAN_PATH}?filter_predicate=%FF", b""),
        (f"{PLAN_PATH}{BODY_MARKER}", b'{"filter_predicate": ' + b'{"not":' * 500 + b"1" + b"}" * 501),
        (f"{PLAN_PATH}{BODY_MARKER}", b'{"filter_predicate": {"eq": ["k", {}]}}'),
        (f"{PLAN_PATH}{BODY_MARKER}", b'{"filter_predicate": {"eq": [["k"], 1]}}'),
        (f"{PLAN_PATH}{BODY_MARKER}", b'{"filter_predicate": 5}'),
    ],
)  # fmt: skip
def test_a_malformed_request_is_the_callers_fault(url: str, path: str, body: bytes) -> None:
    answer = requests.post(url + path, data=body, timeout=30)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert error["code"]


def test_numbers_that_nothing_can_hold_are_the_callers_fault(client: Client) -> None:
    session = client.catalog.stage(**WHERE)
    body = {"session_version": 1, "entries": [{"path": "x", "record_count": 10**20}]}
    address = f"{client.target}/v1/write-sessions/{session.session_id}/commit"
    answer = requests.post(address, json=body | {"operation_id": "big"}, timeout=30)
    assert answer.status_code == 400


def test_a_body_that_is_too_large_is_refused_before_it_is_held(tmp_path: Path) -> None:
    app = build_app(EmbeddedPlanner(tmp_path / "catalog"))
    chunk = b" " * 2**20
    sent, answers = 0, []

    async def receive() -> dict[str, object]:
        nonlocal sent
        sent += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    # Any: ASGI's untyped messages.
    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": "/v1/namespaces", "raw_path": b"/v1/namespaces", "root_path": "", "scheme": "http",
        "query_string": b"", "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert answers[0]["status"] == 413
    assert sent <= MAX_BODY_BYTES + 2 * len(chunk)


# --- planners that do not answer ------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_nobody_there_is_said_with_the_address_and_what_to_do() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    waits: list[float] = []
    transport = HttpTransport(url, headers={}, sleep=waits.append)
    with pytest.raises(PlannerUnavailableError, match=r"is it running.*--catalog-root") as caught:
        transport.call(HEALTH, HealthRequest())
    assert url in str(caught.value)
    assert len(waits) == ATTEMPTS - 1
    assert waits == sorted(waits)


def test_a_mutation_that_names_no_operation_is_sent_once() -> None:
    waits: list[float] = []
    transport = HttpTransport(f"http://127.0.0.1:{closed_port()}", headers={}, sleep=waits.append)
    with pytest.raises(PlannerUnavailableError):
        transport.call(CREATE_NAMESPACE, CreateNamespace(namespace="a"))
    assert waits == []
    with pytest.raises(PlannerUnavailableError):
        transport.call(CREATE_NAMESPACE, CreateNamespace(namespace="a", operation_id="op"))
    assert len(waits) == ATTEMPTS - 1


HEALTHY: tuple[int, dict[str, str], bytes] = (200, {}, b'{"status": "ok", "version": "9"}')


def test_a_busy_planner_is_asked_again_when_it_says_to() -> None:
    waits: list[float] = []
    with answering((503, {"Retry-After": "7"}, b""), (502, {}, b""), HEALTHY) as (url, seen):
        transport = HttpTransport(url, headers={}, sleep=waits.append)
        assert transport.call(HEALTH, HealthRequest()).version == "9"
        transport.close()
    assert len(seen) == 3
    assert waits[0] == 7
    assert 0 < waits[1] <= 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (403, b'{"detail": "no"}', PermissionDeniedError, "permission_denied"),
        (404, b"<html>not here</html>", NotFoundError, "not_found"),
        (401, b"[]", AuthenticationRequiredError, "authentication_required"),
        (500, b"", RequestRejectedError, "request_rejected"),
        (422, b'{"error": "text"}', RequestRejectedError, "request_rejected"),
        (409, b'{"error": {"code": "already_exists", "message": "there"}}', AlreadyExistsError, "already_exists"),
    ],
)  # fmt: skip
def test_refusals_of_other_servers_are_understood_too(
    status: int, body: bytes, kind: type[DeltaCATError], code: str
) -> None:
    with (
        answering((status, {}, body)) as (url, _),
        pytest.raises(kind) as caught,
        Client(url) as client,
    ):
        client.health()
    assert (type(caught.value), caught.value.code, caught.value.status) == (kind, code, status)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"status": 5, "version": "9"}'])
def test_an_answer_that_cannot_be_read_is_an_error_that_names_the_planner(body: bytes) -> None:
    with answering((200, {}, body)) as (url, _), Client(url) as client:
        with pytest.raises(DeltaCATError, match="gave an answer that cannot be read") as caught:
            client.health()
        assert url in str(caught.value)


@pytest.mark.parametrize("content_type", [ARROW_STREAM, "application/json"])
def test_a_garbled_plan_is_an_error_too(content_type: str) -> None:
    class Handler(Answer):
        answers = [(200, {"Content-Type": content_type}, b"garbage")]  # noqa: RUF012
        seen: list[dict[str, str]] = []  # noqa: RUF012

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with (
            pytest.raises(DeltaCATError, match="cannot be read"),
            Client(f"http://127.0.0.1:{server.server_port}") as client,
        ):
            client.catalog.plan(**WHERE)
        server.shutdown()
        thread.join()


def test_headers_are_sent_with_every_request() -> None:
    with answering(HEALTHY) as (url, seen):
        options: dict[str, Any] = {
            "bearer_token": "s3cret",
            "user_id": "me",
            "headers": {"X-Team": "a"},
        }
        with Client(url, **options) as client:
            client.health()
    assert (seen[0]["Authorization"], seen[0]["x-deltacat-user"], seen[0]["X-Team"]) == (
        "Bearer s3cret", "me", "a"
    )  # fmt: skip


def test_calls_from_new_threads_take_the_connection_that_others_left() -> None:
    ports: list[int] = []
    together = threading.Barrier(2, timeout=60)

    class Handler(Answer):
        protocol_version = "HTTP/1.1"
        answers = [HEALTHY]  # noqa: RUF012
        seen: list[dict[str, str]] = []  # noqa: RUF012

        def do_GET(self) -> None:  # noqa: N802  # the base class's name
            ports.append(self.client_address[1])
            if self.headers.get("X-Wait"):
                together.wait()
            super().do_GET()

    def threads(client: Client, *, at_once: int) -> int:
        ports.clear()
        for _ in range(4 // at_once):
            asking = [threading.Thread(target=client.health) for _ in range(at_once)]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join(60)
        return len(set(ports))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(url) as client, Client(url, headers={"X-Wait": "1"}) as waiting:
            found = threads(client, at_once=1), threads(waiting, at_once=2)
        server.shutdown()
        thread.join(60)
    assert found == (1, 2)


def test_a_session_travels_with_all_of_its_fields(client: Client) -> None:
    session = client.catalog.stage(**WHERE)
    again = msgspec.json.decode(msgspec.json.encode(session.info), type=WriteSession)
    assert again == session.info == client.catalog.get_write_session(session.session_id).info
