"""Does the server keep to its OpenAPI document, whatever is sent and whoever sends it?

schemathesis makes requests from the document itself; in most of them fields that it cannot guess,
such as the id of a write session that is open, are then given what is there.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import apsw
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from io_core.errors import NotFoundError
from io_core.schema import encode_schema
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.catalogs import HEALTH
from tests.guarded import guarding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy
    from schemathesis import Case, Response
    from schemathesis.specs.openapi.schemas import OpenApiSchema

    from tests.guarded import Served

# Any, here and below: JSON.
Json = dict[str, Any]
AnyEndpoint = Any
AnyCase: TypeAlias = "Case[Any]"

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
# What is there, and what makes sense, by field.
VALUES: dict[str, list[Any]] = {
    "namespace": ["robots"],
    "table": ["runs", "keyed", "free"],
    "catalog_name": ["default"],
    "table_version": ["1"],
    "session_version": [1],
    "transaction_version": [1, 2],
    "filter_predicate": [{"gt": ["k", 1]}, {"in": ["day", ["1970-01-02"]]}, {"is_null": "x"}],
    "partition_filter": [["1970-01-02"]],
    "columns": [["k", "x"]],
    "schema_def": [[{"name": "a", "type": "int64"}], encode_schema(KEYED)],
    "partition_scheme": [BY_DAY, {"keys": [{"key": ["k"], "transform": "bucket(4)"}]}],
    "data": [{"k": [1], "day": ["2025-03-01"], "x": [1.5]}, {"x": []}],
    "mode": ["auto", "append", "merge", "delete", "replace"],
    "limit": [1],
    "user_id": ["ghost"],
    "user": ["ghost"],
    "role": ["READER", "WRITER"],
    "initial_grant": [{"role": "READER"}],
    "scope_type": ["table"],
    "scope_name": ["robots.runs"],
    "as_of": [1, 2**62],
    "new_name": ["renamed"],
    "new_namespace": ["robots"],
}

by_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)


class Fuzzed(NamedTuple):
    """A planner with users and tables, where its catalog is, and the document that it gives."""

    served: Served
    root: Path
    document: OpenApiSchema

    def kept(self) -> list[list[tuple[Any, ...]]]:
        """What is in the ledger, and who may do what."""
        found = []
        for file, tables in (
            ("catalog.sqlite", KEPT),
            ("auth.sqlite", ("user", "held_grant", "token")),
        ):
            db = apsw.Connection(str(self.root / file), flags=apsw.SQLITE_OPEN_READONLY)
            found += [db.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables]
            db.close()
        return found


def document_of(served: Served) -> OpenApiSchema:
    headers = {"Authorization": f"Bearer {served.tokens['stranger']}"}
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json", headers=headers)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """For requests that may change everything."""
    root = tmp_path_factory.mktemp("fuzz") / "catalog"
    with guarding(root) as served:
        yield Fuzzed(served, root, document_of(served))


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
        yield Fuzzed(served, root, document_of(served))


# --- what is asked --------------------------------------------------------------------------------


def make(fuzzed: Fuzzed, user: str) -> dict[str, list[Any]]:
    """Make tables, sessions and transactions to ask about; by field, the values that name them."""
    client = fuzzed.served.client("admin")
    admin = client.catalog
    for table in ("keyed", "runs", "free"):
        # Whatever became of it: without an active version it is there, and cannot be used.
        with contextlib.suppress(NotFoundError):
            admin.drop_table(namespace="robots", table=table)
    where: Json = {"namespace": "robots", "auto_create_namespace": True}
    parted: Json = {**where, "schema": KEYED, "partition_scheme": BY_DAY}
    admin.create_table(**parted, table="keyed", merge_keys=["k"])
    admin.create_table(**parted, table="runs")
    admin.create_table(**where, table="free")
    for table in ("keyed", "runs"):
        admin.write(ROWS, namespace="robots", table=table)
    sessions, entries = [], []
    for _ in range(OPEN):
        session = admin.stage(namespace="robots", table="free", mode="append")
        path = Path(session.data_dir) / "f.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(ROWS, path)
        sessions.append(session.session_id)
        entries.append([{"path": str(path), "record_count": 2}])
    begun = [fuzzed.served.client(user).transaction().transaction_id for _ in range(OPEN)]
    return {**VALUES, "session_id": sessions, "entries": entries, "transaction_id": begun}


def aimed(case: AnyCase, endpoint: AnyEndpoint, picked: Json) -> AnyCase:
    """The request, about what is there."""
    for name in ("catalog", "transaction_id", "transaction_version"):
        case.query.pop(name, None)
    for name, value in picked.items():
        match endpoint.places[name]:
            case "path":
                case.path_parameters[name] = value
            case "query":
                case.query[name] = value
            case "json" | "long":
                case.query[name] = json.dumps(value)
            case "body" if isinstance(case.body, dict):
                case.body[name] = value
    return case


def asked(fuzzed: Fuzzed, endpoint: AnyEndpoint, user: str) -> SearchStrategy[AnyCase]:
    """Requests as the document has them, and such as it does not."""
    operation = fuzzed.document.find_operation_by_id(endpoint.name)
    cases = st.one_of(
        operation.as_strategy(GenerationMode.POSITIVE),
        operation.as_strategy(GenerationMode.NEGATIVE),
    )
    needed = {f.encode_name for f in msgspec.structs.fields(endpoint.request) if f.required}
    known = {n: v for n, v in make(fuzzed, user).items() if n in endpoint.places}
    picked = st.fixed_dictionaries(
        {n: st.sampled_from(v) for n, v in known.items() if n in needed},
        optional={n: st.sampled_from(v) for n, v in known.items() if n not in needed},
    )
    aims = st.builds(aimed, cases, st.just(endpoint), picked)
    return st.one_of(aims, aims, aims, cases)


def fewer(share: int) -> settings:
    """A part of the profile's examples, for each endpoint."""
    return settings(max_examples=max(settings().max_examples // share, 5))


def answered(case: AnyCase, fuzzed: Fuzzed, session: requests.Session) -> Response:
    """The answer to a request, which is what the document says."""
    # Among wrong requests are some with other tokens: those of other tests.
    headers = {name: value for name, value in session.headers.items() if name == "Authorization"}
    case.headers.pop("Authorization", None)
    answer = case.call(fuzzed.served.url, session=session, headers=headers, timeout=60)
    case.validate_response(answer, checks=CHECKS)
    assert "Traceback" not in (answer.text or "")
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
    @fewer(4)
    @given(case=asked(fuzzed, endpoint, "admin"))
    def ask(case: AnyCase) -> None:
        answered(case, fuzzed, session)

    with speaking(fuzzed, "admin") as session:
        ask()


@by_endpoint
def test_a_reader_changes_nothing_and_hears_of_nothing_else(
    endpoint: AnyEndpoint, read: Fuzzed
) -> None:
    cases = asked(read, endpoint, READER)
    before = read.kept()
    admin = read.served.client("admin").catalog
    others = [admin.describe_table(namespace="robots", table=t) for t in ("keyed", "unasked")]
    hidden = [*HIDDEN, *(str(other.table_id) for other in others)]

    @fewer(6)
    @given(case=cases)
    def ask(case: AnyCase) -> None:
        text = answered(case, read, session).text or ""
        assert [word for word in hidden if word in text] == []

    with speaking(read, READER) as session:
        ask()
    assert read.kept() == before


@by_endpoint
def test_without_a_token_only_health_is_told(endpoint: AnyEndpoint, read: Fuzzed) -> None:
    cases = asked(read, endpoint, READER)
    before = read.kept()
    expected = {200, 400, 404} if endpoint is HEALTH else {401}

    @fewer(12)
    @given(case=cases)
    def ask(case: AnyCase) -> None:
        assert answered(case, read, session).status_code in expected

    with speaking(read, None) as session:
        ask()
    assert read.kept() == before
