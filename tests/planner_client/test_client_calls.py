"""Does the client say every call as the protocol has it, and give back what the planner told?"""

from __future__ import annotations

import gzip
import json
import uuid
from importlib.metadata import version as installed_version
from typing import Any
from urllib.parse import parse_qs

import pyarrow as pa
import pytest

from io_core.errors import (
    AlreadyExistsError,
    DeltaCATError,
    NotFoundError,
    SchemaValidationError,
)
from io_core.model import WriteEntry
from planner_client import Client
from planner_client.protocol.plans import ARROW_STREAM
from tests.answering import answering

HEALTHY: tuple[int, dict[str, str], bytes] = (200, {}, b'{"status": "ok", "version": "9"}')


@pytest.fixture
def where(client: Client, ns: str) -> dict[str, Any]:
    """A table of three rows in three files, in a namespace that no other test uses."""
    found: dict[str, Any] = {"namespace": ns, "table": "t"}
    for x in range(3):
        client.catalog.write(
            pa.table({"x": [x], "p": ["ab"[x % 2]]}),
            **found,
            partition_scheme={"keys": [{"key": ["p"]}]},
        )
    return found


# --- namespaces and tables ------------------------------------------------------------------------


def test_a_namespace_is_made_changed_renamed_and_dropped(client: Client) -> None:
    name = f"n{uuid.uuid4().hex}"
    made = client.catalog.create_namespace(namespace=name, properties={"team": "a"})
    assert (made.namespace, made.created, made.transaction_id) == (name, True, None)
    altered = client.catalog.alter_namespace(
        namespace=name, properties={"env": "prod"}, new_name=f"{name}2"
    )
    assert (altered.altered, altered.new_name) == (True, f"{name}2")
    found = client.catalog.get_namespace(namespace=f"{name}2")
    assert found.properties == {"team": "a", "env": "prod"}
    dropped = client.catalog.drop_namespace(namespace=f"{name}2", purge=True)
    assert (dropped.dropped, dropped.purged) == (True, True)
    assert not client.catalog.namespace_exists(namespace=f"{name}2")


def test_a_table_is_changed_renamed_and_dropped(client: Client, where: dict[str, Any]) -> None:
    ns = where["namespace"]
    altered = client.catalog.alter_table(
        **where,
        table_description="about t",
        table_properties={"retention_days": "180"},
        schema_updates={"operations": [{"op": "add", "field": {"name": "y", "type": "int64"}}]},
    )
    assert altered.altered
    found = client.catalog.describe_table(**where)
    assert (found.description, found.table_properties) == ("about t", {"retention_days": "180"})
    assert [f.name for f in found.schema or []] == ["x", "p", "y"]
    assert client.catalog.read(**where).column("y").null_count == 3
    renamed = client.catalog.rename_table(**where, new_name="u")
    assert (renamed.old_name, renamed.new_name, renamed.new_namespace) == ("t", "u", ns)
    with pytest.raises(NotFoundError):
        client.catalog.describe_table(**where)
    dropped = client.catalog.drop_table(namespace=ns, table="u", purge=True)
    assert (dropped.dropped, dropped.purged) == (True, True)
    assert not client.catalog.table_exists(namespace=ns, table="u")


def test_a_table_is_emptied_and_rolled_back(client: Client, where: dict[str, Any]) -> None:
    full_ns = client.catalog.transaction().info.created_at
    assert client.catalog.truncate_table(**where).truncated
    assert client.catalog.read(**where).num_rows == 0
    rolled = client.catalog.rollback_table(**where, as_of=full_ns, commit_message="back")
    assert (rolled.rolled_back, rolled.as_of) == (True, full_ns)
    assert client.catalog.read(**where).num_rows == 3


def test_statistics_of_a_table_are_left_out_when_nobody_asks(
    client: Client, where: dict[str, Any]
) -> None:
    assert client.catalog.describe_table(**where).total_records == 3
    assert client.catalog.describe_table(**where, include_stats=False).total_records is None


def test_a_version_is_made_and_listed(client: Client, where: dict[str, Any]) -> None:
    client.catalog.create_table(**where, table_version="2", lifecycle_state="beta")
    found = [
        (v.table_version, v.lifecycle_state) for v in client.catalog.list_table_versions(**where)
    ]
    assert found == [("1", "active"), ("2", "beta")]


def test_a_table_restricts_its_content_types(client: Client, where: dict[str, Any]) -> None:
    ns = where["namespace"]
    client.catalog.create_table(namespace=ns, table="one", content_type="parquet")
    assert client.catalog.describe_table(namespace=ns, table="one").content_types == ["parquet"]
    with pytest.raises(SchemaValidationError, match="content_type and content_types exclude"):
        client.catalog.create_table(
            namespace=ns, table="two", content_type="parquet", content_types=["orc"]
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"lifecycle_state": "sleeping"},
        {"schema_updates": {"operations": [{"op": "invent"}]}},
        {"partition_updates": {"keys": "x"}},
    ],
)
def test_a_change_that_the_protocol_does_not_know_is_refused_by_its_name(
    client: Client, where: dict[str, Any], wrong: dict[str, Any]
) -> None:
    with pytest.raises(SchemaValidationError, match=rf"\$\.{next(iter(wrong))}"):
        client.catalog.alter_table(**where, **wrong)


def test_a_name_that_is_taken_is_refused(client: Client, where: dict[str, Any]) -> None:
    client.catalog.create_table(namespace=where["namespace"], table="u")
    with pytest.raises(AlreadyExistsError):
        client.catalog.rename_table(**where, new_name="u")


# --- plans and writes -----------------------------------------------------------------------------


def test_a_plan_is_of_the_partitions_that_are_asked_for(
    client: Client, where: dict[str, Any]
) -> None:
    chosen = [{"partition_values": ["a"]}]
    assert client.catalog.plan(**where, partition_filter=chosen).total_files == 2
    assert client.catalog.read(**where, partition_filter=chosen).column("x").to_pylist() == [0, 2]


def test_a_plan_of_changes_holds_what_was_added(client: Client, where: dict[str, Any]) -> None:
    before = client.catalog.plan(**where, include_files=False)
    client.catalog.write(pa.table({"x": [7], "p": ["c"]}), **where)
    changes = client.catalog.plan(**where, since=before.snapshot)
    assert client.catalog.read(plan=changes).column("x").to_pylist() == [7]


def test_later_pages_of_a_plan_stay_at_its_snapshot(client: Client, where: dict[str, Any]) -> None:
    first = client.catalog.plan(**where, limit=2)
    client.catalog.truncate_table(**where)
    second = client.catalog.plan(
        **where,
        limit=2,
        offset=first.header.next_file_offset or 0,
        plan_token=first.header.plan_token,
    )
    assert len({*(f.path for f in first.all_files()), *(f.path for f in second.all_files())}) == 3


def test_entries_may_be_plain_dictionaries(client: Client, where: dict[str, Any]) -> None:
    session = client.catalog.stage(**where, mode="add", write_key="k", owner_key="me")
    with pytest.raises(SchemaValidationError, match="path"):
        client.catalog.commit(session=session, entries=[{"record_count": 1}])
    path = f"{session.data_dir}/absent.parquet"
    for entries in ([{"path": path, "record_count": 1}], [WriteEntry(path, 1)]):
        with pytest.raises(DeltaCATError, match=r"absent\.parquet"):
            client.catalog.commit(session=session, entries=entries)


def test_a_few_rows_are_written_and_shown(client: Client, where: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = [{"x": 7, "p": "a"}, {"x": 8}]
    written = client.catalog.write_data(**where, data=rows, mode="add")
    assert (written.written, written.records) == (True, 2)
    found = client.catalog.preview(**where, filter_predicate={"gt": ["x", 6]})
    assert sorted(row["x"] for row in found.sample_rows) == [7, 8]
    assert {"x": 8, "p": None} in found.sample_rows
    assert client.catalog.preview(**where, limit=1).sample_size == 1
    with client.transaction():
        client.catalog.write(pa.table({"x": [9], "p": ["a"]}), **where)
        assert client.catalog.preview(**where).total_rows == 6


WRITTEN: tuple[int, dict[str, str], bytes] = (
    200,
    {},
    b'{"table": "t", "written": true, "records": 2}',
)


@pytest.mark.parametrize(
    "data",
    [{"x": [1, None], "y": [None, "b"]}, [{"x": 1}, {"y": "b"}]],
    ids=["columns", "rows"],
)
def test_rows_that_are_written_inline_travel_by_column(data: Any) -> None:
    with answering(WRITTEN) as (url, seen), Client(url) as client:
        written = client.catalog.write_data(namespace="ns", table="t", data=data, mode="add")
    assert (written.written, written.records) == (True, 2)
    assert json.loads(seen[0][":body"]) == {"data": {"x": [1, None], "y": [None, "b"]}}
    path, _, query = seen[0][":path"].partition("?")
    assert path == "/v1/namespaces/ns/tables/t/write"
    assert "mode=add" in query
    assert "operation_id=op_" in query


def test_a_preview_asks_for_rows_that_match() -> None:
    body = b'{"sample_rows": [{"x": 7}], "sample_size": 1, "total_rows": 3, "later": 1}'
    with answering((200, {}, body)) as (url, seen), Client(url) as client:
        found = client.catalog.preview(
            namespace="ns", table="t", limit=5, filter_predicate={"eq": ["x", 7]}
        )
    assert (found.sample_rows, found.total_rows) == ([{"x": 7}], 3)
    path, _, query = seen[0][":path"].partition("?")
    assert path == "/v1/namespaces/ns/tables/t/preview"
    assert parse_qs(query) == {"limit": ["5"], "filter_predicate": ['{"eq":["x",7]}']}


# --- on the wire ----------------------------------------------------------------------------------


def test_a_list_that_comes_in_pages_is_followed_to_its_end() -> None:
    pages: list[tuple[int, dict[str, str], bytes]] = [
        (200, {"x-deltacat-next-token": "two"}, b'[{"name": "a"}]'),
        (200, {"x-deltacat-next-token": "3/3"}, b'[{"name": "b"}]'),
        (200, {}, b'[{"name": "c"}]'),
    ]
    with answering(*pages) as (url, seen), Client(url) as client:
        assert [found.name for found in client.catalog.list_namespaces()] == ["a", "b", "c"]
    assert [request[":path"] for request in seen] == [
        "/v1/namespaces",
        "/v1/namespaces?next_token=two",
        "/v1/namespaces?next_token=3%2F3",
    ]


def test_every_request_says_who_sends_it_and_its_own_id() -> None:
    with answering(HEALTHY) as (url, seen), Client(url) as client:
        client.health()
        client.health()
    agent = f"deltacat-sources/{installed_version('deltacat-sources')}"
    assert {request["User-Agent"] for request in seen} == {agent}
    assert len({request["x-request-id"] for request in seen}) == 2


def test_attempts_of_one_request_have_one_id() -> None:
    with answering((502, {}, b""), HEALTHY) as (url, seen), Client(url) as client:
        client.health()
    assert len(seen) == 2
    assert len({request["x-request-id"] for request in seen}) == 1


def test_a_request_with_an_idempotency_key_is_sent_again() -> None:
    gone: tuple[int, dict[str, str], bytes] = (404, {}, b"")
    with (
        answering((503, {}, b""), gone) as (url, seen),
        pytest.raises(NotFoundError),
        Client(url) as client,
    ):
        client.auth.create_user(user_id="me", role="READER")
    assert len({request["Idempotency-Key"] for request in seen}) == 1
    assert len(seen) == 2


def test_an_error_carries_the_planners_name_of_the_request(targets: dict[str, str]) -> None:
    body = b'{"error": {"code": "not_found", "message": "gone", "request_id": "r7"}}'
    with answering((404, {}, body)) as (url, _), Client(url) as client:
        with pytest.raises(NotFoundError) as caught:
            client.health()
        assert caught.value.request_id == "r7"
    with pytest.raises(NotFoundError) as found:
        Client(targets["http"]).catalog.get_namespace(namespace="absent")
    assert found.value.request_id
    with pytest.raises(NotFoundError) as found:
        Client(targets["embedded"]).catalog.get_namespace(namespace="absent")
    assert found.value.request_id is None


def test_json_may_be_compressed_and_arrow_is_as_it_is() -> None:
    packed = gzip.compress(b'[{"name": "a"}]')
    with answering((200, {"Content-Encoding": "gzip"}, packed)) as (url, seen):
        client = Client(url)
        assert client.catalog.list_namespaces()[0].name == "a"
        client.close()
    assert seen[0]["Accept-Encoding"] == "gzip"
    with (
        answering((404, {}, b"")) as (url, seen),
        pytest.raises(NotFoundError),
        Client(url) as client,
    ):
        client.catalog.plan(namespace="ns", table="t")
    assert seen[0]["Accept"].startswith(ARROW_STREAM)
    assert seen[0]["Accept-Encoding"] == "identity"
