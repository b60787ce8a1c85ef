"""Does the server keep to its OpenAPI document, whatever is sent and whoever sends it?

schemathesis makes requests from the document itself. What it cannot guess, such as the id of a
write session that is open, is put into the document as a value that a field may have.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from io_core.schema import encode_schema
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import HEALTH
from tests.guarded import guarding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy
    from schemathesis import APIOperation, Case

    from tests.guarded import Served

# Any, here and below: JSON.
Json = dict[str, Any]
AnyEndpoint = Any

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
KEYED = pa.schema([("k", pa.int64()), ("day", pa.date32()), ("x", pa.float64())])
ROWS = pa.table({"k": [1, 2], "day": pa.array([1, 2], pa.date32()), "x": [0.5, None]})
BY_DAY = {"keys": [{"key": ["day"]}]}
READER = "READER-table"
# No request names these, so that no answer to a reader may: another table and namespace of theirs,
# a column, a property's value.
HIDDEN = ("unasked", "faraway", "whisper", "murmur")
# What the ledger keeps for everybody; transactions and what they did are their owner's.
KEPT = (
    "revision", "change", "namespace", "tbl", "table_version", "table_schema", "partition",
    "segment", "write_session",
)  # fmt: skip
# How many sessions and transactions there are for requests to use up.
OPEN = 3
# What the document leaves open, by field.
VALUES: dict[str, list[Any]] = {
    "namespace": ["robots"],
    "table": ["runs", "keyed", "free"],
    "catalog_name": ["default"],
    "table_version": ["1"],
    "session_version": [1],
    "transaction_version": [1, 2, 3],
    "filter_predicate": [{"gt": ["k", 1]}, {"in": ["day", ["1970-01-02"]]}, {"is_null": "x"}],
    "partition_filter": [["1970-01-02"]],
    "columns": [["k", "x"]],
    "schema_def": [[{"name": "a", "type": "int64"}], encode_schema(KEYED)],
    "type": ["int64", "timestamp[us, tz=UTC]", "decimal128(5, 2)", "date32"],
    "partition_scheme": [BY_DAY, {"keys": [{"key": ["k"], "transform": "bucket(4)"}]}],
    "data": [{"k": [1], "day": ["2025-03-01"], "x": [1.5]}, {"x": []}],
    "mode": ["auto", "append", "merge", "delete", "replace"],
    "partition_values": [["1970-01-02"]],
    "record_count": [2],
    "user_id": ["ghost"],
    "user": ["ghost"],
    "role": ["READER", "ADMIN"],
    "scope_type": ["table", "namespace"],
    "scope_name": ["robots.runs", "robots"],
    "as_of": [1, 2**62],
}

by_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)


class Fuzzed(NamedTuple):
    """A planner with users and tables, and where its catalog is."""

    served: Served
    root: Path

    def kept(self) -> list[list[tuple[Any, ...]]]:
        """What is in the ledger, and who may do what."""
        found = []
        for file, tables in (("catalog.sqlite", KEPT), ("auth.sqlite", ("user", "grant", "token"))):
            db = apsw.Connection(str(self.root / file), flags=apsw.SQLITE_OPEN_READONLY)
            found += [db.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables]
            db.close()
        return found


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """For requests that may change everything."""
    root = tmp_path_factory.mktemp("fuzz") / "catalog"
    with guarding(root) as served:
        yield Fuzzed(served, root)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """For requests that may read one table, beside others that they must not hear of."""
    root = tmp_path_factory.mktemp("read") / "catalog"
    with guarding(root) as served:
        admin = served.client("admin").catalog
        for namespace, table in (("robots", "unasked"), ("faraway", "t")):
            admin.write(pa.table({"whisper": ["murmur"]}), namespace=namespace, table=table)
            admin.alter_table(
                namespace=namespace, table=table, table_properties={"whisper": "murmur"}
            )
        yield Fuzzed(served, root)


# --- what is asked --------------------------------------------------------------------------------


def make(fuzzed: Fuzzed, user: str) -> dict[str, list[Any]]:
    """Make tables, sessions and transactions to ask about; by field, the values that name them."""
    client = fuzzed.served.client("admin")
    admin = client.catalog
    where: Json = {"namespace": "robots", "fail_if_exists": False, "auto_create_namespace": True}
    admin.create_table(
        **where, table="keyed", schema=KEYED, merge_keys=["k"], partition_scheme=BY_DAY
    )
    admin.create_table(**where, table="runs", schema=KEYED, partition_scheme=BY_DAY)
    admin.create_table(**where, table="free")
    sessions, files = [], []
    for _ in range(OPEN):
        session = admin.stage(namespace="robots", table="free", mode="append")
        sessions.append(session.session_id)
        files.append(str(Path(session.data_dir) / "f.parquet"))
        Path(session.data_dir).mkdir(parents=True)
        pq.write_table(ROWS, files[-1])
    begun = [fuzzed.served.client(user).transaction().transaction_id for _ in range(OPEN)]
    return {**VALUES, "session_id": sessions, "path": files, "transaction_id": begun}


def operation_of(
    fuzzed: Fuzzed, endpoint: AnyEndpoint, known: dict[str, list[Any]]
) -> APIOperation[Any, Any, Any, Any]:
    """The endpoint in the server's own document, whose fields may be what is there."""
    token = fuzzed.served.tokens["admin"]
    headers = {"Authorization": f"Bearer {token}"}
    document: Json = requests.get(f"{fuzzed.served.url}/openapi.json", headers=headers, timeout=60).json()
    for schema in document["components"]["schemas"].values():
        hint(schema.get("properties", {}), known)
    for operation in (o for methods in document["paths"].values() for o in methods.values()):
        for parameter in operation["parameters"]:
            holder = parameter.get("content", {}).get("application/json", parameter)
            hinted = {parameter["name"]: holder["schema"]}
            hint(hinted, known | {"catalog": ["default"]})
            holder["schema"] = hinted[parameter["name"]]
        for body in operation.get("requestBody", {}).get("content", {}).values():
            hint(body["schema"]["properties"], known)
    return schemathesis.openapi.from_dict(document).find_operation_by_id(endpoint.name)


def hint(properties: Json, known: dict[str, list[Any]]) -> None:
    """Let each field be one of the values that are known for it."""
    for name, schema in properties.items():
        if name in known:
            properties[name] = {"anyOf": [{"enum": known[name]}, schema]}


def asked(operation: APIOperation[Any, Any, Any, Any]) -> SearchStrategy[Case]:
    """Requests as the document has them, and such as it does not."""
    return operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(
        GenerationMode.NEGATIVE
    )


def answered(case: Case, fuzzed: Fuzzed, session: requests.Session) -> requests.Response:
    """The answer to a request, which is what the document says."""
    answer = case.call(base_url=fuzzed.served.url, session=session, timeout=60)
    case.validate_response(answer, checks=CHECKS)
    assert "Traceback" not in answer.text
    return answer


# --- what is answered -----------------------------------------------------------------------------


def speaking(fuzzed: Fuzzed, user: str | None) -> requests.Session:
    session = requests.Session()
    if user is not None:
        session.headers["Authorization"] = f"Bearer {fuzzed.served.tokens[user]}"
    return session


@by_endpoint
def test_whatever_is_asked_is_answered_as_the_document_says(
    endpoint: AnyEndpoint, fuzzed: Fuzzed
) -> None:
    operation = operation_of(fuzzed, endpoint, make(fuzzed, "admin"))

    @given(case=asked(operation))
    def ask(case: Case) -> None:
        answered(case, fuzzed, session)

    with speaking(fuzzed, "admin") as session:
        ask()


@by_endpoint
def test_a_reader_changes_nothing_and_hears_of_nothing_else(
    endpoint: AnyEndpoint, read: Fuzzed
) -> None:
    operation = operation_of(read, endpoint, make(read, READER))
    before = read.kept()
    admin = read.served.client("admin").catalog
    hidden = [
        *HIDDEN,
        *(admin.describe_table(namespace="robots", table=t).table_id for t in ("keyed", "unasked")),
    ]

    @given(case=asked(operation))
    def ask(case: Case) -> None:
        text = answered(case, read, session).text
        assert [word for word in hidden if word in text] == []

    with speaking(read, READER) as session:
        ask()
    assert read.kept() == before


@by_endpoint
def test_without_a_token_only_health_is_told(endpoint: AnyEndpoint, read: Fuzzed) -> None:
    operation = operation_of(read, endpoint, make(read, READER))
    before = read.kept()
    expected = {200, 400} if endpoint is HEALTH else {401}

    @given(case=asked(operation))
    def ask(case: Case) -> None:
        assert answered(case, read, session).status_code in expected

    with speaking(read, None) as session:
        ask()
    assert read.kept() == before
