"""Does the planner refuse what no client of ours would send, in its envelope, and go on?"""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import apsw
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from io_core.schema import encode_schema
from planner_client import Client
from planner_client.server.app import build_app
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteSession

# Any, here and below: JSON.
Json = dict[str, Any]

NS = "/v1/namespaces"
TABLES = f"{NS}/ns/tables"
TABLE = f"{TABLES}/t"
PLAN = f"{TABLE}/plan"
PARTED = f"{TABLES}/parted"
ROWS = pa.table({"x": pa.array([1, 2], pa.int64()), "s": ["a", "b"]})
HUGE = 2**200
DEEP = 900


class Served(NamedTuple):
    """A planner, its URL and its catalog's root."""

    url: str
    root: Path

    def send(self, method: str, path: str, **sent: Any) -> requests.Response:
        return requests.request(method, self.url + path, timeout=60, **sent)

    def stage(self, table: str = "t", **fields: Any) -> WriteSession:
        return Client(self.url).catalog.stage(namespace="ns", table=table, **fields)

    def commit(self, session: WriteSession, entry: Json) -> requests.Response:
        """Commit one entry: a file that is there, and is what `entry` leaves out."""
        path = Path(session.data_dir) / "f.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ROWS, path)
        body = {
            "session_version": session.session_version,
            "entries": [{"path": str(path), "record_count": ROWS.num_rows, **entry}],
        }
        path_of_call = f"/v1/write-sessions/{session.session_id}/commit"
        return self.send("POST", path_of_call, data=json.dumps(body))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("hostile") / "catalog"
    catalog = Client(root).catalog
    catalog.write(ROWS, namespace="ns", table="t")
    parted = {"keys": [{"key": ["x"]}]}
    for table in ("parted", "flipped"):
        catalog.write(ROWS, namespace="ns", table=table, partition_scheme=parted)
    with listening(build_app(EmbeddedPlanner(root))) as url:
        yield Served(url, root)


@pytest.fixture(autouse=True)
def _the_planner_goes_on(served: Served) -> Iterator[None]:
    """After each test the planner still answers, and its ledger is sound."""
    yield
    assert served.send("GET", "/health").json()["status"] == "ok"
    for table in ("t", "parted"):
        plan = served.send("POST", f"{TABLES}/{table}/plan?include_column_stats=true")
        assert plan.status_code == 200, plan.text
    ledger = apsw.Connection(str(served.root / "catalog.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    assert ledger.pragma("integrity_check") == "ok"
    ledger.close()


# Any: the error of an envelope.
def refused(answer: requests.Response, *statuses: int) -> Json:
    """The error, which is the caller's fault and says so as every other does."""
    assert answer.status_code in (statuses or (400,)), (answer.status_code, answer.text[:500])
    assert answer.headers["Content-Type"] == "application/json"
    error: Json = answer.json()["error"]
    assert set(error) == {"code", "message", "retryable", "details", "request_id"}
    assert error["code"] != "internal_server_error"
    assert "Traceback" not in answer.text
    return error


# --- numbers --------------------------------------------------------------------------------------

NUMBERS = [
    ("POST", f"{PLAN}?{field}=%s")
    for field in (
        "as_of", "file_offset", "max_files", "row_limit", "snapshot", "since", "since_as_of",
        "transaction_version",
    )
]
NUMBERS += [
    ("GET", f"{TABLE}/preview?limit=%s"),
    ("GET", f"{NS}?limit=%s"),
    ("GET", f"{TABLES}?limit=%s"),
    ("GET", f"{TABLE}/versions?limit=%s"),
]


@pytest.mark.parametrize("number", ["-1", "0", str(2**63 - 1), str(2**63), str(2**64), str(HUGE), "1e3", "NaN", "", "٣", "9" * 5000])
@pytest.mark.parametrize(("method", "path"), NUMBERS, ids=[path for _, path in NUMBERS])
def test_a_number_is_taken_or_refused_however_large(
    method: str, path: str, number: str, served: Served
) -> None:
    answer = served.send(method, path % quote(number))
    assert answer.status_code in {200, 400, 404, 409, 410}, answer.text[:300]
    if answer.status_code != 200:
        refused(answer, answer.status_code)


@pytest.mark.parametrize("number", [HUGE, -HUGE, 2**63, -(2**63) - 1, 2**64, 1.5, "1", True, None, [1]])
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


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "; ;"])
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
        served.send("POST", f"{TABLE}/rename?new_name=a&new_namespace={quote('no' + name, safe='')}"),
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
    for path in (f"/v1/write-sessions/{quoted}", f"/v1/transactions/{quoted}", f"/v1/catalogs/{quoted}"):
        refused(served.send("GET", path), 400, 404)
    refused(served.send("POST", f"{PLAN}?transaction_id={quoted}"), 400, 404)


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/v1/..%2f..%2fetc", "//", "/v1//tables", "/%00", "/%ff", "/v1/namespaces/%FF", "/v1/namespaces/%", "/" + "a/" * 5000, "/v1/namespaces/ns/tables/t/plan/"])
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


# --- schemas and predicates -----------------------------------------------------------------------


def raw_schema(old: bytes, new: bytes, schema: pa.Schema) -> str:
    """A schema as it is sent, with some bytes in it replaced."""
    raw = base64.b64decode(encode_schema(schema))
    assert old in raw
    return base64.b64encode(raw.replace(old, new)).decode()


def metadata(key: str, value: bytes) -> str:
    return encode_schema(pa.schema([pa.field("a", pa.int64(), metadata={key.encode(): value})]))


NESTED = pa.schema([("a", pa.list_(pa.struct([("inner", pa.int8())])))])
BAD_SCHEMAS: dict[str, Any] = {
    "no base64": "!",
    "no schema": base64.b64encode(b"x" * 100).decode(),
    "nothing": "",
    "name": raw_schema(b"quaint", b"qu\xffint", pa.schema([("quaint", pa.int64())])),
    "inner name": raw_schema(b"inner", b"in\xffer", NESTED),
    "zone": raw_schema(b"UTC", b"U\xffC", pa.schema([("a", pa.timestamp("us", "UTC"))])),
    "doc": metadata("DELTACAT:doc", b"\xff"),
    "id": metadata("PARQUET:field_id", b"one"),
    "negative id": metadata("PARQUET:field_id", b"-1"),
    "huge id": metadata("PARQUET:field_id", b"9" * 30),
    "default": metadata("DELTACAT:past_default", b"\xff"),
    "scale": encode_schema(pa.schema([("a", pa.decimal128(5, 10**9))])),
    "no columns": encode_schema(pa.schema([])),
    "no fields": [],
    "two of one name": [{"name": "a", "type": "int8"}, {"name": "A", "type": "int8"}],
    "type of no field": [{"name": "a", "type": f"arrow_schema_base64:{encode_schema(pa.schema([]))}"}],
    "unknown type": [{"name": "a", "type": "int8" * 10_000}],
    "huge field id": [{"name": "a", "type": "int8", "field_id": HUGE}],
    "empty name": [{"name": "", "type": "int8"}],
    "zone of nowhere": [{"name": "a", "type": "timestamp[us, tz=]"}],
}  # fmt: skip


@pytest.mark.parametrize("schema", BAD_SCHEMAS.values(), ids=BAD_SCHEMAS)
def test_a_schema_that_is_none_is_refused_before_anything_is_made(
    schema: Any, served: Served
) -> None:
    made = served.send("POST", TABLES, json={"table": "bad", "schema_def": schema})
    refused(made)
    missing = {"mode": "create", "create_if_missing": {"schema_def": schema}}
    refused(served.send("POST", f"{TABLES}/bad/write-sessions", json=missing))
    assert not served.send("GET", f"{TABLES}/bad/exists").json()["exists"]


def flipped(raw: bytes, flips: list[tuple[int, int]]) -> bytes:
    """The bytes with some of them changed."""
    damaged = bytearray(raw)
    for place, byte in flips:
        damaged[place % len(raw)] = byte
    return bytes(damaged)


FLIPS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)
WHOLE = pa.schema(
    [
        pa.field("a", pa.int64(), metadata={"DELTACAT:doc": "text", "PARQUET:field_id": "3"}),
        pa.field("n", NESTED.field(0).type),
        pa.field("t", pa.timestamp("us", "UTC")),
        pa.field("d", pa.decimal128(10, 2)),
    ]
)


@given(flips=FLIPS)
def test_a_schema_with_damaged_bytes_is_refused_or_kept(
    flips: list[tuple[int, int]], served: Served
) -> None:
    raw = flipped(base64.b64decode(encode_schema(WHOLE)), flips)
    sent = {"table": "damaged", "schema_def": base64.b64encode(raw).decode()}
    answer = served.send("POST", TABLES, json=sent)
    if answer.status_code != 201:
        refused(answer)
        return
    described = served.send("GET", f"{TABLES}/damaged")
    assert described.status_code == 200, described.text
    assert served.send("POST", f"{TABLES}/damaged/plan").status_code == 200
    assert served.send("DELETE", f"{TABLES}/damaged").status_code == 200


BAD_PREDICATES: dict[str, Any] = {
    "list": [1],
    "two operators": {"gt": ["x", 1], "lt": ["x", 2]},
    "no operator": {"like": ["x", "%"]},
    "no column": {"gt": [1, 2]},
    "unknown column": {"gt": ["../x", 1]},
    "wrong kind": {"gt": ["x", "soon"]},
    "nested value": {"eq": ["x", {"a": [1]}]},
    "long text": {"eq": ["x", "9" * 10_000]},
    "too deep": json.loads('{"not":' * 100 + '{"is_null": "x"}' + "}" * 100),
    "too long a list": {"in": ["x", [1] * 100_001]},
    "and of one": {"and": [{"is_null": "x"}]},
}


@pytest.mark.parametrize("predicate", BAD_PREDICATES.values(), ids=BAD_PREDICATES)
def test_a_predicate_that_is_none_is_refused_in_query_and_body(
    predicate: Any, served: Served
) -> None:
    marker = '{"__deltacat_filter_predicate_body__":true}'
    body = {"filter_predicate": predicate}
    refused(served.send("POST", f"{PLAN}?filter_predicate={marker}", json=body))
    text = json.dumps(predicate)
    if len(text) < 50_000:
        refused(served.send("POST", PLAN, params={"filter_predicate": text}))
        refused(served.send("GET", f"{TABLE}/preview", params={"filter_predicate": text}))


@pytest.mark.parametrize(
    "number", ["1e999999999", "-1e999999999", "1e-999999999", HUGE, -HUGE, 1e308, 5e-324, "Infinity"]
)
@pytest.mark.parametrize("op", ["eq", "neq", "lt", "gte"])
def test_a_number_beyond_every_type_is_compared_all_the_same(
    op: str, number: Any, served: Served
) -> None:
    params = {"filter_predicate": json.dumps({op: ["x", number]})}
    assert served.send("POST", PLAN, params=params).status_code == 200


def test_a_list_as_long_as_allowed_is_planned(served: Served) -> None:
    marker = '{"__deltacat_filter_predicate_body__":true}'
    body = {"filter_predicate": {"in": ["x", list(range(2, 100_002))]}}
    answer = served.send("POST", f"{PLAN}?filter_predicate={marker}", json=body)
    assert answer.json()["total_files"] == 1


# --- entries --------------------------------------------------------------------------------------

BAD_ENTRIES: dict[str, Json] = {
    "outside": {"path": "/etc/passwd"},
    "above": {"path": "{data_dir}/../../../catalog.sqlite"},
    "relative": {"path": "f.parquet"},
    "empty": {"path": ""},
    "NUL": {"path": "{data_dir}/f\0.parquet"},
    "missing": {"path": "{data_dir}/none.parquet"},
    "longest": {"path": "{data_dir}/" + "f" * 5000},
    "directory": {"path": "{data_dir}"},
    "scheme": {"path": "s3://bucket/f.parquet"},
    "host": {"path": "file://elsewhere{data_dir}/f.parquet"},
    "broken address": {"path": "file://[{data_dir}/f.parquet"},
    "number as path": {"path": 1},
    "negative rows": {"record_count": -1},
    "rows beyond int64": {"record_count": 2**63},
    "rows at the edge of int64": {"record_count": 2**63 - 1},
    "rows without end": {"record_count": HUGE},
    "half a row": {"record_count": 1.5},
    "no rows": {"record_count": None},
    "negative size": {"content_length": -1},
    "wrong size": {"content_length": 7},
    "huge size": {"content_length": HUGE},
    "stats as a list": {"column_stats": [1]},
    "stats as a number": {"column_stats": {"x": 1}},
    "count as text": {"column_stats": {"x": {"null_count": "many"}}},
    "negative count": {"column_stats": {"x": {"null_count": -1}}},
    "count above the rows": {"column_stats": {"x": {"null_count": 3}}},
    "count without end": {"column_stats": {"x": {"nan_count": HUGE}}},
    "values of no list": {"partition_values": {"x": 1}},
    "locators of no list": {"entry_params": {"equality_field_locators": "x"}},
    "no locators": {"entry_params": {"equality_field_locators": []}},
}


def in_place(entry: Json, session: WriteSession) -> Json:
    path = entry.get("path")
    if not isinstance(path, str):
        return entry
    return {**entry, "path": path.replace("{data_dir}", session.data_dir)}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_an_entry_that_is_not_what_it_says_is_refused_and_the_session_stays(
    entry: Json, served: Served
) -> None:
    session = served.stage(mode="append")
    refused(served.commit(session, in_place(entry, session)))
    assert served.commit(session, {}).json()["committed"]


BOUNDS: dict[str, Any] = {
    "text": "soon",
    "list": [1, [2]],
    "object": {"a": {"b": None}},
    "truth": True,
    "NaN": "NaN",
    "huge": 2**70,
    "a number of any length": "1e999999999",
    "beyond int64": 2**63,
    "half": 1.5,
    "reversed": 10**6,
}


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_statistics_that_do_not_fit_their_column_are_unknown_or_refused(
    bound: Any, served: Served
) -> None:
    session = served.stage(mode="append")
    stats = {"x": {"min": bound, "max": bound}, "s": {"min": bound}, "unknown": {"min": bound}}
    answer = served.commit(session, {"column_stats": stats})
    if answer.status_code != 200:
        refused(answer)
    described = served.send("GET", TABLE)
    assert described.status_code == 200


@pytest.mark.parametrize(
    "values", [None, [], [1, 2], ["x"], [[1]], [{"a": 1}], [True], [2**70], [1.5], ["NaN"], ["1" * 500]]
)
def test_partition_values_that_do_not_fit_the_scheme_are_refused(
    values: Any, served: Served
) -> None:
    session = served.stage("parted", mode="append")
    refused(served.commit(session, {"partition_values": values}))


@pytest.mark.parametrize("kind", ["file", "directory", "loop"])
def test_a_link_out_of_the_sessions_directory_is_refused(
    kind: str, served: Served, tmp_path: Path
) -> None:
    session = served.stage(mode="append")
    inside = Path(session.data_dir)
    inside.mkdir(parents=True)
    pq.write_table(ROWS, tmp_path / "f.parquet")
    link = inside / "link"
    link.symlink_to({"file": tmp_path / "f.parquet", "directory": tmp_path, "loop": link}[kind])
    path = link / "f.parquet" if kind == "directory" else link
    refused(served.commit(session, {"path": str(path)}))


def test_a_link_in_place_of_the_sessions_directory_is_refused(
    served: Served, tmp_path: Path
) -> None:
    session = served.stage(mode="append")
    Path(session.data_dir).parent.mkdir(parents=True, exist_ok=True)
    Path(session.data_dir).symlink_to(tmp_path)
    refused(served.commit(session, {}))


def test_a_file_that_is_no_data_is_found_out_by_who_reads_it(served: Served) -> None:
    catalog = Client(served.url).catalog
    catalog.create_table(namespace="ns", table="junk", schema=ROWS.schema)
    session = served.stage("junk", mode="append")
    path = Path(session.data_dir) / "junk.parquet"
    path.parent.mkdir(parents=True)
    for junk in (b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1"):
        path.write_bytes(junk)
        opened = served.stage("junk", mode="replace")
        entry = {"path": str(path), "record_count": 1}
        session_path = f"/v1/write-sessions/{opened.session_id}/commit"
        body = {"session_version": 1, "entries": [entry]}
        refused(served.send("POST", session_path, json=body))


# --- rows in the call -----------------------------------------------------------------------------

BAD_DATA: dict[str, Any] = {
    "nothing": {},
    "lengths": {"x": [1], "y": []},
    "scalar": {"x": 1},
    "mixed": {"x": [1, "a"]},
    "mixed depth": {"x": [1, [2]]},
    "beyond int64": {"x": [HUGE]},
    "empty objects": {"x": [{}]},
    "empty name": {"": [1]},
    "case": {"x": [1], "X": [2]},
}


@pytest.mark.parametrize("data", BAD_DATA.values(), ids=BAD_DATA)
def test_rows_that_are_no_table_are_refused_and_leave_nothing_behind(
    data: Any, served: Served
) -> None:
    before = sorted(served.root.rglob("*.parquet"))
    refused(served.send("POST", f"{TABLES}/rows/write", json={"data": data}))
    assert not served.send("GET", f"{TABLES}/rows/exists").json()["exists"]
    assert sorted(served.root.rglob("*.parquet")) == before


@pytest.mark.parametrize(
    "data", [{"x": ["a"]}, {"x": [1.5]}, {"x": [2**63]}, {"x": [[1]]}, {"y": [1]}, {"s": [1]}, {"x": [True]}]
)
def test_rows_that_do_not_fit_the_table_are_refused(data: Any, served: Served) -> None:
    refused(served.send("POST", f"{TABLE}/write", json={"data": data}))


@pytest.mark.parametrize(
    "query", ["mode=x", "mode=", "content_type=exe", "content_type=../parquet/../x", "mode=merge"]
)
def test_rows_are_written_in_no_way_that_does_not_exist(query: str, served: Served) -> None:
    answer = served.send("POST", f"{TABLE}/write?{query}", json={"data": {"x": [1], "s": ["a"]}})
    refused(answer)


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


# --- a commit with damage -------------------------------------------------------------------------


@given(flips=FLIPS)
def test_a_damaged_commit_is_refused_or_whole(
    flips: list[tuple[int, int]], served: Served
) -> None:
    session = served.stage("flipped", mode="append")
    path = Path(session.data_dir) / "f.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(ROWS, path)
    entry = {
        "path": str(path),
        "record_count": 2,
        "content_length": path.stat().st_size,
        "partition_values": [1],
        "column_stats": {"x": {"min": 1, "max": 2, "null_count": 0}, "s": {"min": "a", "max": "b"}},
        "sort_scheme_id": "none",
    }
    body = {"session_version": 1, "entries": [entry], "operation_id": f"op_{session.session_id}"}
    sent = flipped(json.dumps(body).encode(), flips)
    answer = served.send("POST", f"/v1/write-sessions/{session.session_id}/commit", data=sent)
    if answer.status_code != 200:
        refused(answer, 400, 409)
        assert served.send("GET", f"/v1/write-sessions/{session.session_id}").json()["status"] == "OPEN"
    plan = served.send("POST", f"{TABLES}/flipped/plan?include_column_stats=true")
    assert plan.status_code == 200, plan.text
