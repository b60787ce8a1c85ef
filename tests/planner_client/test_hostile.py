"""Does the planner refuse what no client of ours would ask, in its envelope, and go on?"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from planner_client import Client
from planner_client.server import listening
from tests.hostile import HUGE, NS, PLAN, ROWS, TABLE, TABLES, Served, refused, target

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = 900


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with target(tmp_path_factory.mktemp("hostile") / "catalog") as found:
        yield found


@pytest.fixture(autouse=True)
def _the_planner_goes_on(served: Served) -> Iterator[None]:
    yield
    served.check_sound()


# --- numbers --------------------------------------------------------------------------------------

NUMBERS = [
    ("POST", f"{PLAN}?{field}=%s")
    for field in (
        "as_of",
        "file_offset",
        "max_files",
        "row_limit",
        "snapshot",
        "since",
        "since_as_of",
        "transaction_version",
    )
]
NUMBERS += [
    ("GET", f"{TABLE}/preview?limit=%s"),
    ("GET", f"{NS}?limit=%s"),
    ("GET", f"{TABLES}?limit=%s"),
    ("GET", f"{TABLE}/versions?limit=%s"),
]


@pytest.mark.parametrize(
    "number",
    [
        "-1",
        "0",
        str(2**63 - 1),
        str(2**63),
        str(2**64),
        str(HUGE),
        "1e3",
        "NaN",
        "",
        "٣",
        "9" * 5000,
    ],
)
@pytest.mark.parametrize(("method", "path"), NUMBERS, ids=[path for _, path in NUMBERS])
def test_a_number_is_taken_or_refused_however_large(
    method: str, path: str, number: str, served: Served
) -> None:
    answer = served.send(method, path % quote(number))
    assert answer.status_code in {200, 400, 404, 409, 410}, answer.text[:300]
    if answer.status_code != 200:
        refused(answer, answer.status_code)


@pytest.mark.parametrize(
    "number", [HUGE, -HUGE, 2**63, -(2**63) - 1, 2**64, 1.5, "1", True, None, [1]]
)
def test_a_number_in_a_body_is_taken_or_refused_however_large(number: Any, served: Served) -> None:
    session = served.stage(mode="append")
    path = f"/v1/write-sessions/{session.session_id}/heartbeat"
    answers = [
        served.send("POST", f"{TABLE}/rollback", json={"as_of": number}),
        served.send("POST", "/v1/transactions", json={"as_of": number}),
        served.send("POST", path, json={"session_version": number}),
        served.send("POST", NS, json={"namespace": "numbers", "properties": {"n": number}}),
    ]
    for answer in answers:
        assert answer.status_code < 500, answer.text


# --- JSON and text --------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "empty list": b"[]",
    "text": b'"x"',
    "null": b"null",
    "number": b"1",
    "cut short": b'{"namespace": "a',
    "two values": b'{"namespace": "a"}{}',
    "NaN": b'{"namespace": NaN}',
    "UTF-16": '{"namespace": "a"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + b'{"namespace": "a"}',
    "invalid UTF-8": b'{"namespace": "\xff\xfe"}',
    "cut UTF-8": b'{"namespace": "\xe2\x82"}',
    "lone surrogate": b'{"namespace": "\\ud800"}',
    "control character": b'{"namespace": "a\x01b"}',
    "NUL": b"\x00",
    "deep lists": b'{"namespace": ' + b"[" * 100_000,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "form": b"namespace=a",
    "number too large": b'{"namespace": "a", "properties": {"n": 1e999}}',
    "number too long": b'{"namespace": "a", "properties": {"n": ' + b"9" * 5000 + b"}}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", [NS, TABLES, f"{TABLE}/write-sessions", f"{TABLE}/write"])
def test_a_body_that_is_no_request_is_refused(path: str, body: bytes, served: Served) -> None:
    refused(served.send("POST", path, data=body))


@pytest.mark.parametrize("depth", [DEEP, 7000])
@pytest.mark.parametrize("field", ["filter_predicate", "partition_filter", "columns"])
def test_json_in_the_query_is_refused_however_it_nests(
    field: str, depth: int, served: Served
) -> None:
    for opening, closing in (("[", "]"), ('{"not":', "}")):
        text = opening * depth + "1" + closing * depth
        refused(served.send("POST", f"{PLAN}?{field}={text}"))


@pytest.mark.parametrize(
    "query",
    ["filter_predicate=%FF", "filter_predicate={", "columns=1", "columns=[1]", "columns=[%22nope%22]",
     "partition_filter={}", "partition_filter=[1]", "partition_filter=[[1,2],null]", "include_files=maybe",
     "plan_token=%00", "plan_token=AAAA", "plan_token=é", "snapshot=1&as_of=1", "table_version=%00",
     "filter_predicate=%7B%22gt%22%3A%5B%22x%22%2C%22%5Cud800%22%5D%7D", "catalog=..%2F..", "catalog=%00"],
)  # fmt: skip
def test_a_query_that_asks_nothing_is_refused(query: str, served: Served) -> None:
    refused(served.send("POST", f"{PLAN}?{query}"), 400, 404)


def test_of_a_field_that_is_there_twice_the_last_one_counts_and_unknown_ones_are_let_be(
    served: Served,
) -> None:
    body = b'{"namespace": "../up", "namespace": "twice", "unknown": {"a": [1]}}'
    assert served.send("POST", f"{NS}?no=such", data=body).json()["namespace"] == "twice"
    twice = served.send("POST", f"{PLAN}?max_files=0&max_files=1")
    assert twice.json()["returned_files"] == 1


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "; ;"]
)
def test_json_is_read_as_such_whatever_it_is_called(kind: str, served: Served) -> None:
    sent = {"data": b'{"namespace": "ns"}', "headers": {"Content-Type": kind}}
    assert refused(served.send("POST", NS, **sent), 409)["code"] == "already_exists"


# --- names ----------------------------------------------------------------------------------------

NAMES = {
    "up": "..",
    "path": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "backslash": "..\\x",
    "hidden": ".hidden",
    "NUL": "a\x00b",
    "line": "a\r\nX-Evil: 1",
    "delete": "a\x7f",
    "empty": "",
    "long": "n" * 256,
    "very long": "n" * 50_000,
}
ODD_NAMES = {
    "quote": "a'; DROP TABLE revision; --",
    "double quote": 'a" OR "1"="1',
    "percent": "%s%n%00",
    "like": "_%",
    "right to left": "a\u202eb",
    "zero width": "a\u200bb",
    "composed": "é",
    "decomposed": "e\u0301",
    "wide": "表",
    "emoji": "🦀",
    "sharp": "ß#?&=+ ",
    "longest": "n" * 255,
    "star": "*",
    "line separator": "a\u2028b",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_could_climb_or_mislead_is_refused_wherever_it_stands(
    name: str, served: Served
) -> None:
    stage = {"mode": "create", "create_if_missing": {}}
    quoted = quote(name, safe="")
    answers = [
        served.send("POST", NS, json={"namespace": name}),
        served.send("PUT", f"{NS}/ns", json={"new_name": name}),
        served.send("POST", TABLES, json={"table": name}),
        served.send("POST", f"{TABLE}/rename?new_name={quoted}"),
        served.send(
            "POST", f"{TABLE}/rename?new_name=a&new_namespace={quote('no' + name, safe='')}"
        ),
    ]
    if name not in ("", ".."):
        # Those two a client resolves before it sends them.
        answers += [
            served.send("POST", f"{NS}/{quoted}/tables", json={"table": "t"}),
            served.send("POST", f"{TABLES}/{quoted}/write-sessions", json=stage),
            served.send("POST", f"{TABLES}/{quoted}/write", json={"data": {"x": [1]}}),
        ]
    for answer in answers:
        refused(answer, 400, 404)
    assert "X-Evil" not in {name for answer in answers for name in answer.headers}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_an_odd_name_is_a_name_like_any_other(name: str, served: Served) -> None:
    catalog = Client(served.url).catalog
    catalog.create_namespace(namespace=name)
    catalog.write(ROWS, namespace=name, table=name)
    assert catalog.read(namespace=name, table=name).equals(ROWS)
    assert [t.name for t in catalog.list_tables(namespace=name)] == [name]
    (path,) = catalog.plan(namespace=name, table=name).paths
    assert Path(path).is_relative_to(served.root / "data")
    catalog.drop_namespace(namespace=name)


@pytest.mark.parametrize("name", [*NAMES.values(), *ODD_NAMES.values()], ids=[*NAMES, *ODD_NAMES])
def test_an_id_that_is_none_is_not_found(name: str, served: Served) -> None:
    if name in {"", ".."}:
        name = f"{name}%2F"
    quoted = quote(name, safe="%")
    for path in (
        f"/v1/write-sessions/{quoted}",
        f"/v1/transactions/{quoted}",
        f"/v1/catalogs/{quoted}",
    ):
        refused(served.send("GET", path), 400, 404)
    refused(served.send("POST", f"{PLAN}?transaction_id={quoted}"), 400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/v1/..%2f..%2fetc",
        "//",
        "/v1//tables",
        "/%00",
        "/%ff",
        "/v1/namespaces/%FF",
        "/v1/namespaces/%",
        "/" + "a/" * 5000,
        "/v1/namespaces/ns/tables/t/plan/",
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, served: Served) -> None:
    raw = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    status, body = spoken(served, raw)
    assert status in {400, 404, 405}
    assert set(json.loads(body)) == {"error"}


@pytest.mark.parametrize("operation", ["", "x" * 256, "x" * 50_000])
def test_an_operation_id_has_a_bound(operation: str, served: Served) -> None:
    answer = served.send("POST", f"{NS}?operation_id={operation}", json={"namespace": "bounded"})
    assert "1 to 255" in refused(answer)["message"]
    refused(served.send("GET", f"{NS}/bounded"), 404)


@pytest.mark.parametrize("operation", [*ODD_NAMES.values(), "\x00", "a\r\nb", "../x"], ids=ascii)
def test_an_operation_id_of_any_shape_makes_a_call_happen_once(
    operation: str, served: Served
) -> None:
    sent = {"params": {"operation_id": operation}, "json": {"namespace": "once"}}
    first, again = (served.send("POST", NS, **sent) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert served.send("DELETE", f"{NS}/once").status_code == 200


# --- the wire -------------------------------------------------------------------------------------


def spoken(served: Served, raw: bytes) -> tuple[int, bytes]:
    """The status and body that come back for these very bytes."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(raw)
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head, "no answer"
    return int(head.split()[1]), body


def request(head: str, body: bytes = b"", *, close: bool = True) -> bytes:
    end = "Connection: close\r\n" if close else ""
    return f"{head}\r\n{end}\r\n".encode("latin-1") + body


POST = f"POST {NS} HTTP/1.1\r\nHost: a"
NAMED = b'{"namespace": "ns"}'
BAD_REQUESTS = {
    "two lengths": request(f"{POST}\r\nContent-Length: 19\r\nContent-Length: 5", NAMED),
    "length and chunks": request(
        f"{POST}\r\nContent-Length: 19\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"
    ),
    "negative length": request(f"{POST}\r\nContent-Length: -1", NAMED),
    "length of text": request(f"{POST}\r\nContent-Length: many", NAMED),
    "length without end": request(f"{POST}\r\nContent-Length: {'9' * 40}", NAMED),
    "bad chunk": request(f"{POST}\r\nTransfer-Encoding: chunked", b"zz\r\nabc\r\n"),
    "unknown coding": request(f"{POST}\r\nTransfer-Encoding: magic", NAMED),
    "space before the colon": request(f"{POST}\r\nContent-Length : 19", NAMED),
    "folded header": request(f"{POST}\r\nX-A: 1\r\n 2\r\nContent-Length: 0"),
    "NUL in a header": request(f"{POST}\r\nX-A: a\0b\r\nContent-Length: 0"),
    "no version": request(f"POST {NS}"),
    "unknown version": request(f"GET {NS} HTTP/9.9\r\nHost: a"),
    "unknown method": request(f"HACK {NS} HTTP/1.1\r\nHost: a"),
    "method of another protocol": request(f"PROPFIND {NS} HTTP/1.1\r\nHost: a"),
    "CONNECT": request("CONNECT a:80 HTTP/1.1\r\nHost: a"),
    "star": request("OPTIONS * HTTP/1.1\r\nHost: a"),
    "bytes in the path": request("GET /v1/\xff\xfe HTTP/1.1\r\nHost: a"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("raw", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_what_is_no_http_is_refused_in_the_envelope(raw: bytes, served: Served) -> None:
    status, body = spoken(served, raw)
    assert 400 <= status < 500
    assert json.loads(body)["error"]["code"]


@pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\nX-Evil: 1", "é".encode(), b"\xff" * 200])
def test_what_a_header_says_does_not_become_a_header(value: bytes, served: Served) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    raw = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Request-Id: %s\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(raw % value)
        answer = connection.makefile("rb").read().lower()
    assert b"x-evil" not in answer
    assert answer.startswith((b"http/1.1 200", b"http/1.1 400"))


def test_a_websocket_is_not_spoken_here(served: Served) -> None:
    asked = "Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Key: a"
    status, body = spoken(served, request(f"GET /none HTTP/1.1\r\nHost: a\r\n{asked}", close=False))
    assert status == 404
    assert set(json.loads(body)) == {"error"}


def test_requests_in_one_go_are_each_answered_in_turn(served: Served) -> None:
    one = request("GET /health HTTP/1.1\r\nHost: a", close=False)
    last = request("GET /none HTTP/1.1\r\nHost: a")
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(one * 20 + last)
        answer = connection.makefile("rb").read()
    assert answer.count(b"HTTP/1.1 200") == 20
    assert answer.count(b"HTTP/1.1 404") == 1


def test_a_body_that_never_comes_keeps_nobody_else_waiting(served: Served) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    held = []
    for _ in range(50):
        connection = socket.create_connection((host, int(port)), timeout=60)
        connection.sendall(request(f"{POST}\r\nContent-Length: 1000", b"{"))
        held.append(connection)
    assert served.send("GET", "/health").status_code == 200
    for connection in held:
        connection.close()
    assert served.send("GET", "/health").status_code == 200


def test_who_falls_silent_within_a_request_is_hung_up_on_and_nobody_else_is(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENCE_S", 0.1)
    host, _, port = served.url.removeprefix("http://").partition(":")
    health = request("GET /health HTTP/1.1\r\nHost: a", close=False)
    with socket.create_connection((host, int(port)), timeout=60) as idle:
        idle.sendall(health)
        assert idle.recv(2**16).startswith(b"HTTP/1.1 200")
        for said in (b"", b"GET /hea", request(f"{POST}\r\nContent-Length: 1000", b"{")):
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                connection.sendall(said)
                assert connection.recv(2**16) == b""
        idle.sendall(health)
        assert idle.recv(2**16).startswith(b"HTTP/1.1 200")
