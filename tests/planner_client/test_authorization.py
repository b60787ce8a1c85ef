"""Does a planner with users let everybody do what they may, and nothing else, over HTTP?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import requests

from io_core.errors import NotFoundError, PermissionDeniedError
from planner_client.protocol import ENDPOINTS
from planner_client.protocol.auth import InitialGrant
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.protocol.endpoint import Endpoint, Request
from planner_client.server.auth import AuthStore, Guard
from planner_client.server.auth_store import By
from planner_client.server.authorize import RULES
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.roles import Role, Scope
from tests.guarded import BY, ROWS, RUNS, SCOPES, Served, guarding, make_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READER, WRITER, ADMIN = Role.READER, Role.WRITER, Role.ADMIN


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A planner without namespaces: what is allowed finds nothing, and changes nothing."""
    with guarding(tmp_path_factory.mktemp("empty") / "catalog") as served:
        yield served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with guarding(tmp_path / "catalog") as found:
        make_tables(found)
        yield found


# --- who may call what ----------------------------------------------------------------------------

ANYONE, NOBODY = "anyone", "nobody"
# The least role, and the narrowest scope that it counts on.
NEEDS: dict[str, tuple[Role, str] | str] = {
    "whoami": ANYONE,
    "list_catalogs": ANYONE,
    "server_endpoints": ANYONE,
    "get_catalog": ANYONE,
    "create_namespace": (WRITER, "catalog"),
    "list_namespaces": ANYONE,
    "get_namespace": (READER, "table"),
    "namespace_exists": (READER, "table"),
    "alter_namespace": (ADMIN, "namespace"),
    "drop_namespace": (ADMIN, "namespace"),
    "create_table": (WRITER, "table"),
    "list_tables": (READER, "table"),
    "describe_table": (READER, "table"),
    "table_exists": (READER, "table"),
    "list_table_versions": (READER, "table"),
    "table_history": (READER, "table"),
    "alter_table": (ADMIN, "table"),
    "rename_table": (ADMIN, "namespace"),
    "drop_table": (ADMIN, "table"),
    "truncate_table": (WRITER, "table"),
    "rollback_table": (ADMIN, "table"),
    "plan": (READER, "table"),
    "preview": (READER, "table"),
    # The table's namespace is missing here, and would be made.
    "write_inline": (WRITER, "catalog"),
    "stage": (WRITER, "table"),
    # Of a session or a transaction that does not exist.
    "get_session": (WRITER, "catalog"),
    "heartbeat": (WRITER, "catalog"),
    "commit": (WRITER, "catalog"),
    "abort": (WRITER, "catalog"),
    "begin_transaction": ANYONE,
    "get_transaction": (ADMIN, "catalog"),
    "heartbeat_transaction": (ADMIN, "catalog"),
    "commit_transaction": (ADMIN, "catalog"),
    "abort_transaction": (ADMIN, "catalog"),
    "create_user": NOBODY,
    "issue_token": NOBODY,
    "revoke_token": NOBODY,
    "create_grant": (ADMIN, "table"),
    "revoke_grant": (ADMIN, "table"),
    "list_grants": ANYONE,
}
_FIELDS: dict[str, Any] = {
    **RUNS,
    "catalog_name": "default",
    "session_id": "none",
    "session_version": 1,
    "entries": [],
    "mode": "append",
    "new_name": "walks",
    "as_of": 1,
    "user_id": "ghost",
    "token_id": "none",
    "user": "ghost",
    "role": "READER",
    "scope_type": "table",
    "scope_name": "robots.runs",
    "initial_grant": InitialGrant("READER"),
    "data": {"x": [1]},
}
# Of transactions the id is a field of the path; elsewhere it would bind the call to one.
_TRANSACTION = {"transaction_id": "none", "transaction_version": 1}


def request_of(endpoint: Endpoint[Any, Any]) -> Request:
    """A request about the namespace and table that the users were granted roles on."""
    known = _FIELDS | (_TRANSACTION if "{transaction_id}" in endpoint.path else {})
    if endpoint.name == "begin_transaction":
        known = {}
    if endpoint.name == "create_namespace":
        # Whoever may call it is told that this is no name.
        known = {"namespace": "a/b"}
    if endpoint.name == "alter_namespace":
        # To rename one takes more.
        known = RUNS
    if endpoint.name == "create_user":
        known = known | {"user_id": "a b"}
    names = {field.encode_name for field in msgspec.structs.fields(endpoint.request)}
    request: Request = endpoint.request(**{k: v for k, v in known.items() if k in names})
    return request


def allowed(need: tuple[Role, str] | str) -> set[str]:
    """Which of the users may, the first ADMIN and the stranger aside."""
    if need == NOBODY:
        return set()
    role, narrowest = (READER, "table") if isinstance(need, str) else need
    wide_enough = list(SCOPES)[: list(SCOPES).index(narrowest) + 1]
    return {f"{r.name}-{kind}" for r in Role if r >= role for kind in wide_enough}


GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.name != "health"]


def test_every_call_has_a_rule_and_every_rule_a_call() -> None:
    names = {endpoint.name for endpoint in ENDPOINTS}
    assert set(RULES) == names
    assert set(NEEDS) == names - {"health"}


@pytest.mark.parametrize("endpoint", GUARDED, ids=lambda e: e.name)
def test_a_call_is_open_to_the_least_role_on_the_narrowest_scope_and_to_no_less(
    endpoint: Endpoint[Any, Any], empty: Served
) -> None:
    users = [name for name in empty.tokens if name not in {"admin", "stranger"}]
    answers = {name: empty.ask(name, endpoint, request_of(endpoint)) for name in users}
    passed = {name for name, answer in answers.items() if answer.status_code not in {401, 403}}
    assert passed == allowed(NEEDS[endpoint.name])
    assert {answer.status_code for answer in answers.values()} <= {200, 201, 400, 403, 404, 409}


@pytest.mark.parametrize("endpoint", GUARDED, ids=lambda e: e.name)
def test_the_first_admin_may_call_everything(endpoint: Endpoint[Any, Any], empty: Served) -> None:
    answer = empty.ask("admin", endpoint, request_of(endpoint))
    assert answer.status_code in {200, 201, 400, 404, 409}


@pytest.mark.parametrize("endpoint", GUARDED, ids=lambda e: e.name)
def test_nobody_may_call_anything(endpoint: Endpoint[Any, Any], empty: Served) -> None:
    answer = empty.ask(None, endpoint, request_of(endpoint))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "authentication_required"


def test_anybody_may_ask_for_health(empty: Served) -> None:
    assert empty.ask(None, HEALTH, HealthRequest()).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
def test_what_is_no_call_of_the_protocol_needs_a_token_too(path: str, empty: Served) -> None:
    headers = {"Authorization": f"Bearer {empty.tokens['stranger']}"}
    assert requests.get(empty.url + path, timeout=60).status_code == 401
    assert requests.get(empty.url + path, headers=headers, timeout=60).status_code == 200


def test_a_call_without_a_rule_is_closed_to_everybody(tmp_path: Path) -> None:
    planner, store = EmbeddedPlanner(tmp_path / "c"), AuthStore(tmp_path)
    first = store.bootstrap()
    guard = Guard(store)
    later = Endpoint("later", "GET", "/v1/later", HealthRequest, HEALTH.response)
    principal = guard.principal(f"Bearer {first}")
    with pytest.raises(PermissionDeniedError, match="nobody was allowed to call later"):
        guard.call(planner, later, HealthRequest(), principal)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic {}",
        "{}",
        "Bearer {}x",
        "Bearer {} {}",
        "Bearer é",
    ],
)
def test_what_holds_no_known_token_is_401(header: str, empty: Served) -> None:
    token = empty.tokens["admin"]
    sent = {"Authorization": header.format(token, token).encode("latin-1")}
    answer = requests.get(f"{empty.url}/v1/catalogs", headers=sent, timeout=60)
    assert answer.status_code == 401
    assert token not in answer.text


def test_the_scheme_of_a_token_is_read_in_any_case(empty: Served) -> None:
    headers = {"Authorization": f"bearer  {empty.tokens['admin']}"}
    assert requests.get(f"{empty.url}/v1/catalogs", headers=headers, timeout=60).ok


# --- what is not told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [e for e in GUARDED if {"namespace", "table"} & set(e.places) and e.name != "create_namespace"],
    ids=lambda e: e.name,
)
def test_a_refusal_does_not_tell_whether_the_thing_exists(
    endpoint: Endpoint[Any, Any], served: Served
) -> None:
    there = request_of(endpoint)
    absent = msgspec.structs.replace(there, namespace="ghosts")
    answers = [served.ask("stranger", endpoint, request) for request in (there, absent)]
    assert [answer.status_code for answer in answers] == [403, 403]
    told = [answer.json()["error"] for answer in answers]
    assert told[0]["message"] == told[1]["message"].replace("ghosts", "robots")
    assert (told[0]["code"], told[0]["details"]) == (told[1]["code"], told[1]["details"])


def test_a_name_that_one_may_not_know_is_not_offered_instead(served: Served) -> None:
    bob = served.client("READER-table").catalog
    served.store.grant("READER-table", READER, Scope("default", "robots", "run"), BY)
    with pytest.raises(NotFoundError, match=r"robots\.run not found(\n|$)"):
        bob.describe_table(namespace="robots", table="run")
    with pytest.raises(NotFoundError, match="did you mean 'runs'"):
        served.client("READER-catalog").catalog.describe_table(namespace="robots", table="run")


def test_lists_hold_what_one_may_read(served: Served) -> None:
    def seen(name: str) -> tuple[list[str], list[str]]:
        catalog = served.client(name).catalog
        namespaces = [found.name for found in catalog.list_namespaces()]
        return namespaces, [found.name for found in catalog.list_tables(namespace="robots")]

    assert seen("READER-catalog") == (["robots", "secret"], ["runs", "runs2"])
    assert seen("READER-namespace") == (["robots"], ["runs", "runs2"])
    assert seen("READER-table") == (["robots"], ["runs"])
    assert served.client("stranger").catalog.list_namespaces() == []
    assert [c.name for c in served.client("stranger").catalog.list_catalogs()] == ["default"]
    served.store.revoke("stranger", Scope("default", "elsewhere", "t"))
    assert served.client("stranger").catalog.list_catalogs() == []
    with pytest.raises(PermissionDeniedError, match=r"'stranger' may not call list_tables"):
        served.client("stranger").catalog.list_tables(namespace="robots")


def test_pages_are_cut_from_what_one_may_read(served: Served) -> None:
    for table in ("a", "b", "c", "d"):
        served.client("admin").catalog.create_table(
            namespace="robots", table=table, schema=ROWS.schema
        )
    for table in ("b", "d"):
        served.store.grant("READER-table", READER, Scope("default", "robots", table), BY)
    headers = {"Authorization": f"Bearer {served.tokens['READER-table']}"}
    pages: list[list[str]] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        url = f"{served.url}/v1/namespaces/robots/tables"
        answer = requests.get(url, params=query, headers=headers, timeout=60)
        pages.append([found["name"] for found in answer.json()])
        if "x-deltacat-next-token" not in answer.headers:
            break
        query["next_token"] = answer.headers["x-deltacat-next-token"]
    assert pages == [["b", "d"], ["runs"]]


def test_a_role_in_one_catalog_is_none_in_another(served: Served) -> None:
    served.client("admin", "lab").catalog.write(ROWS, **RUNS)
    for name in ("READER-catalog", "ADMIN-table"):
        with pytest.raises(PermissionDeniedError, match="needs READER on table 'robots"):
            served.client(name, "lab").catalog.read(**RUNS)
        assert [c.name for c in served.client(name).catalog.list_catalogs()] == ["default"]
        with pytest.raises(PermissionDeniedError, match="catalog 'lab'"):
            served.client(name).catalog.get_catalog(catalog="lab")
    auth = served.client("admin", "lab").auth
    auth.grant(
        user_id="stranger", role="READER", resource_type="table", resource_name="robots.runs"
    )
    assert served.client("stranger", "lab").catalog.read(**RUNS).equals(ROWS)
    assert [g.scope_name for g in served.client("stranger").auth.whoami().grants] == [
        "elsewhere.t",
        "lab/robots/runs",
    ]
    with pytest.raises(PermissionDeniedError):
        served.client("stranger").catalog.read(**RUNS)


# --- reads and writes -----------------------------------------------------------------------------


def test_a_reader_of_a_table_reads_it_and_no_other(served: Served) -> None:
    catalog = served.client("READER-table").catalog
    assert catalog.read(**RUNS).equals(ROWS)
    for namespace, table in (("robots", "runs2"), ("secret", "runs")):
        with pytest.raises(PermissionDeniedError, match="needs READER on table"):
            catalog.read(namespace=namespace, table=table)
    with pytest.raises(PermissionDeniedError, match=r"needs WRITER on table 'robots\.runs'"):
        catalog.write(ROWS, **RUNS, mode="append")


def test_a_writer_of_a_table_writes_it_and_makes_no_namespace(served: Served) -> None:
    catalog = served.client("WRITER-table").catalog
    catalog.write(ROWS, **RUNS)
    assert catalog.read(**RUNS).num_rows == 6
    served.store.grant("WRITER-table", WRITER, Scope("default", "robots", "fresh"), BY)
    catalog.write(ROWS, namespace="robots", table="fresh")
    served.store.grant("WRITER-table", WRITER, Scope("default", "ghosts", "t"), BY)
    for mode in ("auto", "create"):
        with pytest.raises(NotFoundError, match="ghosts"):
            catalog.write(ROWS, namespace="ghosts", table="t", mode=mode)
    with pytest.raises(NotFoundError, match="ghosts"):
        catalog.create_table(
            namespace="ghosts", table="t", schema=ROWS.schema, auto_create_namespace=True
        )
    with pytest.raises(PermissionDeniedError, match="needs WRITER on catalog"):
        catalog.stage(namespace="ghosts", table="t", mode="create")
    served.client("WRITER-catalog").catalog.write(ROWS, namespace="ghosts", table="t")
    assert catalog.read(namespace="ghosts", table="t").num_rows == 3


def test_a_session_belongs_to_those_who_may_write_its_table(served: Served) -> None:
    session = served.client("WRITER-table").catalog.stage(**RUNS, mode="append")
    for name in ("READER-catalog", "stranger"):
        catalog = served.client(name).catalog
        with pytest.raises(PermissionDeniedError) as there:
            catalog.get_write_session(session.session_id)
        with pytest.raises(PermissionDeniedError) as absent:
            catalog.get_write_session("none")
        assert there.value.code == absent.value.code
        with pytest.raises(PermissionDeniedError):
            catalog.heartbeat(session=session)
        with pytest.raises(PermissionDeniedError):
            catalog.commit(session=session, entries=[])
        with pytest.raises(PermissionDeniedError):
            catalog.abort(session=session)
    other = served.client("WRITER-namespace").catalog
    assert other.heartbeat(session=session).status == "OPEN"


def test_files_from_anywhere_are_for_admins_of_the_catalog(served: Served) -> None:
    with pytest.raises(PermissionDeniedError, match="needs ADMIN on catalog 'default'"):
        served.client("ADMIN-table").catalog.stage(**RUNS, allow_external_entries=True)
    served.client("ADMIN-catalog").catalog.stage(**RUNS, allow_external_entries=True)


def test_a_table_is_renamed_by_who_may_make_it_under_its_new_name(served: Served) -> None:
    catalog = served.client("ADMIN-table").catalog
    with pytest.raises(PermissionDeniedError, match=r"needs WRITER on table 'secret\.walks'"):
        catalog.rename_table(**RUNS, new_name="walks", new_namespace="secret")
    served.store.grant("ADMIN-table", WRITER, Scope("default", "secret", "walks"), BY)
    catalog.rename_table(**RUNS, new_name="walks", new_namespace="secret")
    assert catalog.read(namespace="secret", table="walks").equals(ROWS)


def test_a_namespace_is_renamed_by_who_may_make_one(served: Served) -> None:
    catalog = served.client("ADMIN-namespace").catalog
    catalog.alter_namespace(namespace="robots", properties={"a": 1})
    with pytest.raises(PermissionDeniedError, match="needs WRITER on catalog"):
        catalog.alter_namespace(namespace="robots", new_name="machines")


# --- transactions ---------------------------------------------------------------------------------


def test_a_transaction_belongs_to_who_began_it(served: Served) -> None:
    writer = served.client("WRITER-namespace")
    transaction = writer.transaction()
    writer.catalog.create_table(
        namespace="robots", table="draft", schema=ROWS.schema, transaction=transaction
    )
    other = served.client("ADMIN-namespace").catalog
    with pytest.raises(PermissionDeniedError, match="none that 'ADMIN-namespace' began"):
        other.get_transaction(transaction.transaction_id)
    bound = {"transaction_id": transaction.transaction_id, "transaction_version": "2"}
    headers = {"Authorization": f"Bearer {served.tokens['ADMIN-namespace']}"}
    listed = requests.get(
        f"{served.url}/v1/namespaces/robots/tables", params=bound, headers=headers, timeout=60
    )
    assert listed.status_code == 403
    assert "draft" not in listed.text
    served.client("ADMIN-catalog").catalog.get_transaction(transaction.transaction_id)
    transaction.commit()
    assert other.describe_table(namespace="robots", table="draft").table_name == "draft"


def test_a_session_within_a_transaction_belongs_to_who_began_that(served: Served) -> None:
    writer = served.client("WRITER-table")
    transaction = writer.transaction()
    session = writer.catalog.stage(**RUNS, transaction=transaction)
    other = served.client("WRITER-namespace").catalog
    with pytest.raises(PermissionDeniedError, match="none that 'WRITER-namespace' began"):
        other.commit(session=session, entries=[])
    with pytest.raises(PermissionDeniedError):
        other.get_write_session(session.session_id)
    writer.catalog.commit(session=session, entries=[])
    transaction.commit()


def test_in_a_transaction_one_may_do_no_more_than_outside(served: Served) -> None:
    client = served.client("READER-table")
    with pytest.raises(PermissionDeniedError), client.transaction():
        client.catalog.drop_table(**RUNS)
    assert client.catalog.read(**RUNS).equals(ROWS)


@pytest.mark.parametrize("what", ["files", "a column", "a table"])
def test_what_was_revoked_meanwhile_is_not_committed(served: Served, what: str) -> None:
    client = served.client("ADMIN-table" if what == "a column" else "WRITER-namespace")
    grant = ("ADMIN-table", "table") if what == "a column" else ("WRITER-namespace", "namespace")
    transaction = client.transaction()
    match what:
        case "files":
            client.catalog.write(ROWS, **RUNS, transaction=transaction)
        case "a column":
            added = {"operations": [{"op": "add", "field": {"name": "y", "type": "int64"}}]}
            client.catalog.alter_table(**RUNS, schema_updates=added, transaction=transaction)
        case _:
            client.catalog.create_table(
                namespace="robots", table="new", schema=ROWS.schema, transaction=transaction
            )
    served.store.revoke(grant[0], SCOPES[grant[1]])
    with pytest.raises(PermissionDeniedError, match="may not call commit_transaction"):
        transaction.commit()
    admin = served.client("admin").catalog
    assert admin.read(**RUNS).equals(ROWS)
    assert not admin.table_exists(namespace="robots", table="new")
    assert admin.get_transaction(transaction.transaction_id).status == "RUNNING"


def test_a_heartbeat_brings_nothing_to_those_who_lost_their_role(served: Served) -> None:
    client = served.client("WRITER-table")
    transaction = client.transaction()
    client.catalog.stage(**RUNS, mode="append", transaction=transaction)
    transaction.heartbeat()
    served.store.grant("WRITER-table", Role.READER, SCOPES["table"], By("admin", "default"))
    with pytest.raises(PermissionDeniedError, match="may not call heartbeat_transaction"):
        transaction.heartbeat()
    served.store.revoke("WRITER-table", SCOPES["table"])
    plain = served.client("READER-table").transaction()
    plain.heartbeat()
    served.store.revoke("READER-table", SCOPES["table"])
    with pytest.raises(PermissionDeniedError, match="may not call heartbeat_transaction"):
        plain.heartbeat()
