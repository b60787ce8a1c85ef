"""Does the server bound what a caller can make it hold, and say so in its envelope?"""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import socket
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pyarrow as pa
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import RequestRejectedError
from io_core.plan import plan_from_ipc, plan_from_wire
from planner_client import Client
from planner_client.protocol.plans import ARROW_STREAM
from planner_client.server.app import App
from planner_client.server.auth import Guard
from planner_client.server.hosting import HostedCatalogs
from planner_client.server.limits import MAX_NESTING, Limits, check_nesting
from planner_client.server.listening import MAX_HEAD_BYTES
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = 40
BODY_BYTES = 100_000
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
PLAN_PATH = "/v1/namespaces/ns/tables/t/plan"


@contextlib.contextmanager
def limited(root: Path, limits: Limits) -> Iterator[str]:
    guard = Guard()
    catalogs = HostedCatalogs({"default": EmbeddedPlanner(root)}, guard)
    with listening(App(catalogs, guard, limits=limits)) as url:
        yield url


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("limits") / "catalog"
    rows = pa.table({"p": list(range(FILES)), "x": list(range(FILES))})
    Client(root).catalog.write(rows, **WHERE, partition_scheme={"keys": [{"key": ["p"]}]})
    with limited(root, Limits(max_body_bytes=BODY_BYTES, max_json_files=FILES)) as found:
        yield found


# Any: the error of a JSON envelope.
def error_of(answer: requests.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


# --- size -----------------------------------------------------------------------------------------


def test_a_body_that_announces_too_much_is_refused_unread(url: str) -> None:
    answer = requests.post(f"{url}/v1/namespaces", data=b" " * (BODY_BYTES + 1), timeout=30)
    error = error_of(answer, 413)
    assert error["code"] == "request_too_large"
    assert str(BODY_BYTES) in error["message"]


def test_a_body_in_chunks_is_refused_when_it_has_grown_too_long(url: str) -> None:
    chunks = (b" " * 1000 for _ in range(BODY_BYTES // 1000 + 1))
    assert requests.post(f"{url}/v1/namespaces", data=chunks, timeout=30).status_code == 413


def test_a_body_just_within_the_limit_is_read(url: str) -> None:
    body = b'{"namespace": "padded"}'.ljust(BODY_BYTES)
    assert requests.post(f"{url}/v1/namespaces", data=body, timeout=30).status_code == 201


def test_a_body_that_is_compressed_is_refused_in_so_many_words(url: str) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = requests.post(f"{url}/v1/namespaces", data=b"x", headers=headers, timeout=30)
    assert "gzip" in error_of(answer, 415)["message"]


@pytest.mark.parametrize("head", [b"GET /v1/catalogs?", b"GET / HTTP/1.1\r\nX-Long: "])
def test_a_head_without_end_is_refused_in_the_envelope(url: str, head: bytes) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head)
        # A head is counted from the second read on, and a read takes up to 256 KiB.
        connection.sendall(b"a" * (MAX_HEAD_BYTES + 2**19))
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert msgspec.json.decode(body)["error"]["code"] == "request_too_large"


def test_a_url_as_long_as_the_published_clients_send_is_read(url: str) -> None:
    answer = requests.get(f"{url}/v1/catalogs?x={'a' * 65_000}", timeout=30)
    assert answer.status_code == 200


def test_a_plan_of_too_many_files_for_json_is_refused_and_comes_as_pages_or_as_arrow(
    tmp_path: Path,
) -> None:
    rows = pa.table({"p": [1, 2, 3]})
    Client(tmp_path / "c").catalog.write(rows, **WHERE, partition_scheme={"keys": [{"key": ["p"]}]})
    with limited(tmp_path / "c", Limits(max_json_files=2)) as url:
        refused = error_of(requests.post(url + PLAN_PATH, timeout=30), 413)
        assert (refused["code"], refused["details"]) == (
            "plan_too_large",
            {"files": 3, "max_files": 2},
        )
        page = requests.post(f"{url}{PLAN_PATH}?max_files=2", timeout=30)
        assert plan_from_wire(page.content).header.returned_files == 2
        arrow = requests.post(url + PLAN_PATH, headers={"Accept": ARROW_STREAM}, timeout=30)
        assert plan_from_ipc(arrow.content).header.returned_files == 3


# --- nesting --------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_what_was_stored_can_be_sent_back_however_it_nests(url: str) -> None:
    answers = {}
    for depth in (100, MAX_NESTING, 900, 100_000):
        body = b'{"namespace": "n%d", "properties": %s}' % (depth, nested(depth - 1))
        answers[depth] = requests.post(f"{url}/v1/namespaces", data=body, timeout=30)
    assert [a.status_code for a in answers.values()] == [201, 201, 400, 413]
    assert "nest deeper" in error_of(answers[900], 400)["message"]
    known = requests.get(f"{url}/v1/namespaces", timeout=30)
    assert {"n100", f"n{MAX_NESTING}"} <= {n["name"] for n in known.json()}


_JSON = st.recursive(
    st.sampled_from(["[[[", "}}", '"{', 1, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("{"), inner),
    max_leaves=5,
)


# Any: JSON.
def depth_of(value: Any) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth_of, inner), default=0)
    return 0


@given(_JSON, st.integers(MAX_NESTING - 5, MAX_NESTING + 5))
def test_nesting_is_what_counts_and_not_brackets_in_text(value: Any, wrapped: int) -> None:
    for _ in range(wrapped):
        value = [value, "[" * 5]
    body = msgspec.json.encode(value)
    # An empty container holds nothing that would be too deep.
    too_deep = depth_of(value) > MAX_NESTING + 1
    if too_deep:
        with pytest.raises(RequestRejectedError, match="nest deeper"):
            check_nesting(body)
    elif depth_of(value) <= MAX_NESTING:
        check_nesting(body)


@pytest.mark.parametrize(
    "body", [b"", b"[" * 300, b'"' + b"[" * 300, b"}" * 300, b"\xff" + b"[" * 300]
)
def test_what_is_no_json_is_left_to_the_decoder(body: bytes) -> None:
    check_nesting(body)


# --- crowds ---------------------------------------------------------------------------------------


def test_who_comes_when_too_many_wait_is_told_to_come_again(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    with (
        limited(root, Limits(threads=1, max_waiting=1)) as url,
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
        ledger = apsw.Connection(str(root / "catalog.sqlite"))
        ledger.execute("BEGIN IMMEDIATE")
        calls = [
            pool.submit(
                requests.post, f"{url}/v1/namespaces", json={"namespace": f"n{i}"}, timeout=60
            )
            for i in range(3)
        ]
        # Two wait for the ledger; the third one's answer comes first.
        done, _ = concurrent.futures.wait(calls, return_when="FIRST_COMPLETED")
        ledger.execute("ROLLBACK")
        ledger.close()
        (refused,) = (call.result() for call in done)
        assert sorted(c.result().status_code for c in calls) == [201, 201, 503]
    error = error_of(refused, 503)
    assert (error["code"], error["retryable"]) == ("service_unavailable", True)
    assert refused.headers["Retry-After"] == "1"


# --- compression and request ids ------------------------------------------------------------------


def plan_bytes(url: str, **headers: str) -> tuple[str | None, bytes]:
    """A plan's coding, and its bytes as they came."""
    with requests.post(url + PLAN_PATH, headers=headers, timeout=30, stream=True) as answer:
        assert answer.status_code == 200
        return answer.headers.get("Content-Encoding"), answer.raw.read(decode_content=False)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("gzip, zstd", "zstd"),
        ("ZSTD;q=0.5", "zstd"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=0.0", None),
        ("*", "gzip"),
        ("gzip;q=0, *", None),
        ("identity", None),
        ("br", None),
        ("", None),
    ],
)
def test_json_is_compressed_as_asked(url: str, accept: str, coding: str | None) -> None:
    plain = plan_from_wire(plan_bytes(url, **{"Accept-Encoding": "identity"})[1])
    found, raw = plan_bytes(url, **{"Accept-Encoding": accept})
    assert found == coding
    if coding is not None:
        raw = pa.input_stream(pa.BufferReader(raw), compression=coding).read()
    assert plan_from_wire(raw).scan_tasks == plain.scan_tasks


def test_clients_decode_what_is_compressed(url: str) -> None:
    answer = requests.post(url + PLAN_PATH, headers={"Accept-Encoding": "gzip"}, timeout=30)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(plan_from_wire(answer.content).all_files()) == FILES


def test_a_small_answer_is_not_compressed(url: str) -> None:
    answer = requests.get(f"{url}/health", headers={"Accept-Encoding": "gzip"}, timeout=30)
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "coding"), [("gzip", None), ("gzip, zstd", None), ("zstd", "zstd")]
)
def test_an_arrow_stream_is_compressed_again_for_who_asks_for_zstd_alone(
    url: str, accept: str, coding: str | None
) -> None:
    found, raw = plan_bytes(url, **{"Accept": ARROW_STREAM, "Accept-Encoding": accept})
    assert found == coding
    if coding is not None:
        raw = pa.input_stream(pa.BufferReader(raw), compression=coding).read()
    assert plan_from_ipc(raw).header.returned_files == FILES


def test_a_request_keeps_the_id_that_its_caller_gave(url: str) -> None:
    answer = requests.get(f"{url}/v1/none", headers={"X-Request-Id": "job-7:a.b_c"}, timeout=30)
    assert answer.headers["X-Request-Id"] == "job-7:a.b_c"
    assert answer.json()["error"]["request_id"] == "job-7:a.b_c"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "é".encode(), "a/b"])
def test_an_id_that_could_not_stand_in_a_log_is_replaced(url: str, given: str | bytes) -> None:
    answer = requests.get(f"{url}/health", headers={"X-Request-Id": given}, timeout=30)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_every_answer_says_which_build_gave_it(url: str) -> None:
    version = Client(url).health().version
    for path in ("/health", "/v1/none", PLAN_PATH):
        assert requests.get(url + path, timeout=30).headers["X-DeltaCAT-Server-Build-Id"] == version
