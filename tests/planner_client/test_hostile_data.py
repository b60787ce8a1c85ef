"""Does the planner refuse schemas, predicates, files and rows that are none, and keep its tables?"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.schema import encode_schema
from tests.hostile import HUGE, PLAN, ROWS, TABLE, TABLES, Json, Served, refused, target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteSession


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with target(tmp_path_factory.mktemp("hostile") / "catalog") as found:
        yield found


@pytest.fixture(autouse=True)
def _the_planner_goes_on(served: Served) -> Iterator[None]:
    yield
    served.check_sound()


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
    "number",
    ["1e999999999", "-1e999999999", "1e-999999999", HUGE, -HUGE, 1e308, 5e-324, "Infinity"],
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


def parquet_of(rows: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(rows, out)
    found: bytes = out.getvalue().to_pybytes()
    return found


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
    "values",
    [None, [], [1, 2], ["x"], [[1]], [{"a": 1}], [True], [2**70], [1.5], ["NaN"], ["1" * 500]],
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


WHOLE_FILE = parquet_of(ROWS)
JUNK = {
    "nothing": b"",
    "magic alone": b"PAR1",
    "zeros": b"PAR1" + b"\0" * 100 + b"PAR1",
    "footer longer than the file": b"PAR1" + b"\xff" * 8 + b"PAR1",
    "cut short": WHOLE_FILE[: len(WHOLE_FILE) // 2],
    "noise in the footer": WHOLE_FILE[:-60] + b"\xaa" * 40 + WHOLE_FILE[-20:],
    "text": b"x,s\n1,a\n",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_a_file_that_is_no_data_is_refused_or_found_out_by_who_reads_it(
    junk: bytes, served: Served
) -> None:
    session = served.stage("junk", mode="replace", create_if_missing=None)
    path = Path(session.data_dir) / "junk.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(junk)
    committed = served.commit(session, {"path": str(path)})
    if committed.status_code != 200:
        refused(committed)
        return
    read = served.send("GET", f"{TABLES}/junk/preview")
    assert refused(read)["code"] == "data_file"
    assert str(path) in read.text


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_a_file_that_is_no_data_gives_no_table_its_schema(junk: bytes, served: Served) -> None:
    session = served.stage("inferred", mode="create")
    path = Path(session.data_dir) / "junk.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(junk)
    refused(served.commit(session, {"path": str(path)}))
    assert not served.send("GET", f"{TABLES}/inferred/exists").json()["exists"]


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
    "data",
    [
        {"x": ["a"]},
        {"x": [1.5]},
        {"x": [2**63]},
        {"x": [[1]]},
        {"X": [1]},
        {"s": [1]},
        {"x": [True]},
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused(data: Any, served: Served) -> None:
    refused(served.send("POST", f"{TABLE}/write", json={"data": data}))


@pytest.mark.parametrize(
    "query", ["mode=x", "mode=", "content_type=exe", "content_type=../parquet/../x", "mode=merge"]
)
def test_rows_are_written_in_no_way_that_does_not_exist(query: str, served: Served) -> None:
    answer = served.send("POST", f"{TABLE}/write?{query}", json={"data": {"x": [1], "s": ["a"]}})
    refused(answer)


# --- a commit with damage -------------------------------------------------------------------------


@given(flips=FLIPS)
def test_a_damaged_commit_is_refused_or_whole(flips: list[tuple[int, int]], served: Served) -> None:
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
        assert (
            served.send("GET", f"/v1/write-sessions/{session.session_id}").json()["status"]
            == "OPEN"
        )
    plan = served.send("POST", f"{TABLES}/flipped/plan?include_column_stats=true")
    assert plan.status_code == 200, plan.text
