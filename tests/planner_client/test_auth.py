"""Are users, tokens and grants kept safely, changed at once, and never told to who should not know?"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import re
import stat
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from io_core.errors import (
    AlreadyExistsError,
    CatalogRootError,
    NotFoundError,
    PlannerUnavailableError,
    RequestRejectedError,
    UnsupportedError,
)
from planner_client.protocol.auth import (
    CREATE_USER,
    ISSUE_TOKEN,
    CreateUser,
    InitialGrant,
    IssuedToken,
    IssueToken,
    TokenToIssue,
    UserCreated,
)
from planner_client.server.auth_store import AuthStore, By, HeldGrant
from planner_client.server.roles import (
    EVERYWHERE,
    Principal,
    Role,
    Scope,
    parse_role,
    parse_scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ADMIN = By("admin", "default")
TABLE = Scope("default", "robots", "runs")
TOKEN = re.compile(r"dct_[A-Za-z0-9_-]{43}")


@pytest.fixture
def first(tmp_path: Path) -> str:
    """The first token of a store below `tmp_path`."""
    token = AuthStore(tmp_path).bootstrap()
    assert token is not None
    return token


@pytest.fixture
def store(tmp_path: Path, first: str) -> AuthStore:
    return AuthStore(tmp_path)


def user(name: str, key: str | None = None, *, token: bool = True) -> CreateUser:
    return CreateUser(
        user_id=name,
        initial_grant=InitialGrant("READER"),
        issue_token=TokenToIssue("laptop") if token else None,
        idempotency_key=key,
    )


def make(store: AuthStore, name: str, role: Role = Role.READER, scope: Scope = TABLE) -> str:
    """Make a user; its token."""
    created = store.create_user(user(name), role, scope, ADMIN)
    assert created.token is not None
    return created.token.token


def known(store: AuthStore, token: str) -> Principal:
    found = store.principal(token)
    assert found is not None
    return found


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("auth.sqlite*")))


# --- the first user -------------------------------------------------------------------------------


def test_the_first_start_makes_an_admin_and_later_ones_do_not(tmp_path: Path) -> None:
    token = AuthStore(tmp_path).bootstrap()
    assert token is not None
    assert TOKEN.fullmatch(token)
    again = AuthStore(tmp_path)
    assert again.bootstrap() is None
    assert known(again, token).user_id == "admin"
    assert known(again, token).may(Role.ADMIN, Scope("any"))


def test_of_threads_that_start_at_once_one_makes_the_first_user(tmp_path: Path) -> None:
    made: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: made.append(AuthStore(tmp_path).bootstrap()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(token is None for token in made) == [False] + [True] * 7


def test_a_lost_admin_token_is_replaced_on_the_host(store: AuthStore, first: str) -> None:
    store.create_user(user("eve"), Role.ADMIN, EVERYWHERE, ADMIN)
    store.grant("admin", Role.READER, EVERYWHERE, ADMIN)
    token = store.new_admin_token()
    assert token != first
    assert known(store, token).may(Role.ADMIN, EVERYWHERE)


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_stands_on_disk_in_no_readable_form(tmp_path: Path, store: AuthStore) -> None:
    token = make(store, "bob")
    key = IssueToken(user_id="bob", label="robot", idempotency_key="k")
    other = store.issue_token(key, ADMIN).token
    held = on_disk(tmp_path)
    assert b"bob" in held
    for text in (token, other):
        assert text.encode() not in held
        assert text.removeprefix("dct_")[:16].encode() not in held


def test_nobody_else_on_the_machine_reads_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = AuthStore(tmp_path)
        store.bootstrap()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
    (tmp_path / "auth.sqlite").chmod(0o644)
    AuthStore(tmp_path)
    assert stat.S_IMODE((tmp_path / "auth.sqlite").stat().st_mode) == 0o600


def test_a_revoked_token_works_no_longer_and_others_do(store: AuthStore, tmp_path: Path) -> None:
    first, second = make(store, "bob"), store.issue_token(IssueToken(user_id="bob"), ADMIN)
    elsewhere = AuthStore(tmp_path)
    assert known(elsewhere, second.token).user_id == "bob"
    assert store.revoke_token("bob", second.token_id, ADMIN)
    assert elsewhere.principal(second.token) is None
    assert store.principal(second.token) is None
    assert known(elsewhere, first).user_id == "bob"
    assert not store.revoke_token("bob", second.token_id, ADMIN)


def test_what_is_no_token_is_nobody(store: AuthStore, first: str) -> None:
    for text in ("", "dct_", first[:-1], first + "A", first.upper(), "é", "\x00", "x" * 10_000):
        assert store.principal(text) is None


def test_a_token_of_nobody_cannot_be_issued_or_revoked(store: AuthStore, first: str) -> None:
    with pytest.raises(NotFoundError, match=r"'bob'.*create it first"):
        store.issue_token(IssueToken(user_id="bob"), ADMIN)
    issued = store.issue_token(IssueToken(user_id="admin"), ADMIN)
    make(store, "bob")
    with pytest.raises(NotFoundError, match="'bob' has no token"):
        store.revoke_token("bob", issued.token_id, ADMIN)
    assert known(store, issued.token).user_id == "admin"


def test_an_answer_with_a_token_shows_it_in_no_repr_and_no_pickle(store: AuthStore) -> None:
    created = store.create_user(user("bob"), Role.READER, TABLE, ADMIN)
    assert created.token is not None
    token = created.token.token
    for shown in (repr(created), str(created.token), repr(store), f"{store.principal(token)}"):
        assert token not in shown
    for value in (created, created.token):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert token.encode() not in pickle.dumps(value, protocol)
    copy: UserCreated = pickle.loads(pickle.dumps(created))
    assert copy == msgspec.structs.replace(
        created, token=msgspec.structs.replace(created.token, token="")
    )
    assert created.token.last_four == token[-4:]
    assert msgspec.json.decode(msgspec.json.encode(created), type=UserCreated) == created


# --- users and grants -----------------------------------------------------------------------------


def test_a_user_is_made_once(store: AuthStore) -> None:
    token = make(store, "bob")
    with pytest.raises(AlreadyExistsError, match="'bob' already exists"):
        store.create_user(user("bob"), Role.ADMIN, EVERYWHERE, ADMIN)
    assert not known(store, token).may(Role.WRITER, TABLE)


@pytest.mark.parametrize(
    "name", ["", "a/b", "a b", "..", ".", "a\n", "a\\b", "a\x7f", "a\u2028b", "x" * 256]
)
def test_a_name_that_a_path_or_header_would_mangle_is_refused(store: AuthStore, name: str) -> None:
    with pytest.raises(RequestRejectedError, match="cannot name a user"):
        store.create_user(user(name), Role.READER, EVERYWHERE, ADMIN)
    with pytest.raises(RequestRejectedError, match="cannot name a user"):
        store.grant(name, Role.READER, EVERYWHERE, ADMIN)


def test_a_text_that_is_too_long_is_refused(store: AuthStore) -> None:
    long = "x" * 256
    requests = [
        msgspec.structs.replace(user("bob"), display_name=long),
        msgspec.structs.replace(user("bob"), email=long),
        msgspec.structs.replace(user("bob"), issue_token=TokenToIssue(long)),
        user("bob", key=long),
    ]
    for request in requests:
        with pytest.raises(RequestRejectedError, match="256 characters is too long"):
            store.create_user(request, Role.READER, EVERYWHERE, ADMIN)
    assert make(store, "bob")


def test_granting_again_replaces_the_role_and_holds_at_once(
    store: AuthStore, tmp_path: Path
) -> None:
    token, elsewhere = make(store, "bob"), AuthStore(tmp_path)
    assert not known(elsewhere, token).may(Role.WRITER, TABLE)
    store.grant("bob", Role.ADMIN, TABLE, ADMIN)
    assert known(elsewhere, token).may(Role.ADMIN, TABLE)
    store.grant("bob", Role.WRITER, TABLE, ADMIN)
    assert not known(elsewhere, token).may(Role.ADMIN, TABLE)
    assert store.revoke("bob", TABLE)
    assert not store.revoke("bob", TABLE)
    assert not known(elsewhere, token).may(Role.READER, TABLE)
    assert known(elsewhere, token).grants == {}


def test_grants_are_listed_with_who_made_them_and_when(tmp_path: Path) -> None:
    store = AuthStore(tmp_path, clock_ns=itertools.count(10**18, 10**9).__next__)
    store.bootstrap()
    store.grant("bob", Role.WRITER, TABLE, By("carol", "default"))
    (held,) = store.grants("bob")
    assert held == HeldGrant("bob", Role.WRITER, TABLE, held.granted_ns, "carol")
    assert msgspec.to_builtins(held.info("default")) == {
        "user_id": "bob",
        "role": "WRITER",
        "scope_type": "table",
        "scope_name": "robots.runs",
        "granted_at": "2001-09-09T01:46:42.000+00:00",
        "granted_by": "carol",
    }
    assert [grant.user_id for grant in store.grants()] == ["admin", "bob"]


def test_somebody_can_always_administer_the_planner(store: AuthStore, first: str) -> None:
    (token_id,) = tokens_of(store, "admin")

    def last(change: Callable[[], object]) -> None:
        with pytest.raises(RequestRejectedError, match="make another ADMIN") as refused:
            change()
        assert refused.value.code == "last_admin"

    last(lambda: store.revoke("admin", EVERYWHERE))
    last(lambda: store.grant("admin", Role.WRITER, EVERYWHERE, ADMIN))
    last(lambda: store.revoke_token("admin", token_id, ADMIN))
    # One who has no token, or is no ADMIN of everything, is none who could take over.
    store.grant("proxied", Role.ADMIN, EVERYWHERE, ADMIN)
    make(store, "bob", Role.ADMIN, Scope("default"))
    last(lambda: store.revoke_token("admin", token_id, ADMIN))
    assert known(store, first).may(Role.ADMIN, EVERYWHERE)
    make(store, "eve", Role.ADMIN, EVERYWHERE)
    assert store.revoke_token("admin", token_id, ADMIN)
    assert store.principal(first) is None


def tokens_of(store: AuthStore, user_id: str) -> list[str]:
    db = apsw.Connection(str(store.path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("SELECT token_id FROM token WHERE user_id = ?", (user_id,)).fetchall()
    db.close()
    return [token_id for (token_id,) in rows]


# --- calls that name themselves -------------------------------------------------------------------


def test_a_repeated_key_makes_one_token_and_tells_it_once(store: AuthStore, tmp_path: Path) -> None:
    request = IssueToken(user_id="admin", label="robot", idempotency_key="k-1")
    issued = store.issue_token(request, ADMIN)
    again = AuthStore(tmp_path).issue_token(request, ADMIN)
    assert again == msgspec.structs.replace(issued, token="", replayed=True)
    assert len(tokens_of(store, "admin")) == 2


def test_a_repeated_key_makes_one_user(store: AuthStore) -> None:
    created = store.create_user(user("bob", "k"), Role.READER, TABLE, ADMIN)
    again = store.create_user(user("bob", "k"), Role.READER, TABLE, ADMIN)
    assert created.token is not None
    assert again.token is not None
    assert (again.user, again.grant) == (created.user, created.grant)
    assert (again.token.token, again.token.replayed) == ("", True)
    assert again.token.token_id == created.token.token_id
    plain = store.create_user(user("eve", "l", token=False), Role.READER, TABLE, ADMIN)
    repeated = store.create_user(user("eve", "l", token=False), Role.READER, TABLE, ADMIN)
    assert plain == repeated


def test_a_key_stands_for_one_request_of_one_caller(store: AuthStore) -> None:
    first = store.issue_token(IssueToken(user_id="admin", idempotency_key="k"), ADMIN)
    with pytest.raises(RequestRejectedError, match="another request") as refused:
        store.issue_token(IssueToken(user_id="admin", label="x", idempotency_key="k"), ADMIN)
    assert (refused.value.code, refused.value.status) == ("operation_conflict", 409)
    with pytest.raises(RequestRejectedError, match="another request"):
        store.create_user(user("bob", "k"), Role.READER, TABLE, ADMIN)
    other = IssueToken(user_id="admin", idempotency_key="k")
    assert store.issue_token(other, By("eve", "default")).token_id != first.token_id


def test_a_refused_call_leaves_its_key_free(store: AuthStore) -> None:
    request = IssueToken(user_id="bob", idempotency_key="k")
    with pytest.raises(NotFoundError):
        store.issue_token(request, ADMIN)
    make(store, "bob")
    assert not store.issue_token(request, ADMIN).replayed


def test_a_key_travels_in_its_header() -> None:
    request = IssueToken(user_id="bob@example.com", label="x", idempotency_key="k-1")
    encoded = ISSUE_TOKEN.encode(request)
    assert encoded.headers == {"Idempotency-Key": "k-1"}
    assert encoded.path == "/v1/auth/users/bob%40example.com/tokens"
    assert msgspec.json.decode(encoded.body or b"") == {"label": "x"}
    assert CREATE_USER.encode(user("bob")).headers == {}
    found = ISSUE_TOKEN.decode(
        {"user_id": "bob@example.com"}, {}, b'{"label": "x"}', encoded.headers
    )
    assert found == request
    assert ISSUE_TOKEN.decode({"user_id": "bob"}, {}, b"") == IssueToken(user_id="bob")


# --- processes ------------------------------------------------------------------------------------

REVOKING = """
import sys
from planner_client.server.auth_store import AuthStore, By
store = AuthStore(sys.argv[1])
print(store.revoke_token("bob", sys.argv[2], By("admin", "default")), flush=True)
"""


def test_a_token_revoked_by_another_process_works_no_longer_at_once(
    store: AuthStore, tmp_path: Path
) -> None:
    created = store.create_user(user("bob"), Role.READER, TABLE, ADMIN)
    assert created.token is not None
    assert store.principal(created.token.token) is not None
    command = [sys.executable, "-c", REVOKING, str(tmp_path), created.token.token_id]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"
    assert store.principal(created.token.token) is None


GRANTING = """
import sys
from planner_client.server.auth_store import AuthStore, By
from planner_client.server.roles import Role, Scope
store, who = AuthStore(sys.argv[1]), sys.argv[2]
for n in range(20):
    store.grant(who, Role.READER, Scope("default", f"ns{n}"), By("admin", "default"))
"""


def test_processes_that_grant_at_once_lose_nothing(store: AuthStore, tmp_path: Path) -> None:
    command = [sys.executable, "-c", GRANTING, str(tmp_path)]
    children = [subprocess.Popen([*command, f"user{n}"]) for n in range(3)]
    assert [child.wait() for child in children] == [0] * 3
    for n in range(3):
        assert len(store.grants(f"user{n}")) == 20
        assert len(store.user(f"user{n}").grants) == 20


def _ask(store: AuthStore, token: str, answers: Any) -> None:
    # Any: multiprocessing's queue.
    found = store.principal(token)
    answers.put(None if found is None else found.user_id)


def test_a_fork_goes_on_with_its_own_connections(store: AuthStore, first: str) -> None:
    known(store, first)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_ask, args=(store, first, answers))
    with warnings.catch_warnings():
        # Arrow's own threads run in this process, as in everybody's notebook.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    assert answers.get(timeout=60) == "admin"
    child.join()
    assert known(store, first).user_id == "admin"
    store.close()
    assert known(store, first).user_id == "admin"


# --- files that are not ours ----------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "auth.sqlite").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(CatalogRootError, match=r"auth\.sqlite"):
        AuthStore(tmp_path)


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "auth.sqlite"))
    db.execute("CREATE TABLE theirs(x)")
    db.close()
    with pytest.raises(
        CatalogRootError, match="is not the file of users and tokens of this project"
    ):
        AuthStore(tmp_path)
    db = apsw.Connection(str(tmp_path / "auth.sqlite"))
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    db.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    AuthStore(tmp_path).close()
    db = apsw.Connection(str(tmp_path / "auth.sqlite"))
    db.pragma("user_version", 2)
    db.close()
    with pytest.raises(CatalogRootError, match=r"newer release.*upgrade"):
        AuthStore(tmp_path)


def test_a_store_that_fails_knows_nobody_rather_than_everybody(tmp_path: Path) -> None:
    store = AuthStore(tmp_path)
    token = store.bootstrap()
    assert token is not None
    db = apsw.Connection(str(tmp_path / "auth.sqlite"))
    db.execute("DROP TABLE held_grant")
    db.close()
    with pytest.raises(PlannerUnavailableError, match="nothing was changed") as failed:
        store.principal(token)
    assert token not in str(failed.value)


def test_there_is_no_store_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CatalogRootError, match="absent"):
        AuthStore(tmp_path / "absent")


# --- scopes and roles -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "scope"),
    [
        ("catalog", "*", EVERYWHERE),
        ("catalog", "", EVERYWHERE),
        ("CATALOG", "lab", Scope("lab")),
        ("namespace", "robots", Scope("here", "robots")),
        ("namespace", "a.b", Scope("here", "a.b")),
        ("Namespace", "lab/robots", Scope("lab", "robots")),
        ("table", "robots.runs", Scope("here", "robots", "runs")),
        ("table", "robots/v1.runs", Scope("here", "robots", "v1.runs")),
        ("TABLE", "lab/robots/runs", Scope("lab", "robots", "runs")),
    ],
)
def test_a_scope_is_read_in_every_form(kind: str, name: str, scope: Scope) -> None:
    assert parse_scope(kind, name, "here") == scope


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("catalog", "a/b"),
        ("namespace", ""),
        ("namespace", "*"),
        ("namespace", "*/robots"),
        ("namespace", "a/b/c"),
        ("namespace", "a/"),
        ("table", "runs"),
        ("table", "a.b.c"),
        ("table", "a/b/c/d"),
        ("table", "robots.*"),
        ("table", "robots/"),
        ("table", "../x"),
        ("row", "x"),
    ],
)
def test_a_scope_that_could_mean_two_things_or_none_is_refused(kind: str, name: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        parse_scope(kind, name, "here")
    assert refused.value.code == "invalid_request"


def test_roles_on_a_version_are_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="name the table"):
        parse_scope("table_version", "a.b.1", "here")


def test_a_role_is_read_in_any_case_and_misspelt_gets_the_nearest() -> None:
    assert parse_role("writer") is Role.WRITER
    with pytest.raises(RequestRejectedError, match="did you mean 'WRITER'"):
        parse_role("writr")


NAMES = st.sampled_from(["a", "b", "a.b", "b.c"])
SCOPES = st.one_of(
    st.just(EVERYWHERE),
    st.tuples(NAMES).map(lambda names: Scope(*names)),
    st.tuples(NAMES, NAMES).map(lambda names: Scope(*names)),
    st.tuples(NAMES, NAMES, NAMES).map(lambda names: Scope(*names)),
)


@given(SCOPES, NAMES)
def test_a_scope_is_read_as_it_is_written(scope: Scope, here: str) -> None:
    assert parse_scope(scope.kind, scope.name_in(here), here) == scope


def contains(outer: Scope, inner: Scope) -> bool:
    """The slow truth: part by part."""
    if outer == EVERYWHERE:
        return True
    return all(o is None or o == i for o, i in zip(outer, inner, strict=True))


@given(st.dictionaries(SCOPES, st.sampled_from(Role), max_size=4), SCOPES, st.sampled_from(Role))
def test_a_role_counts_on_its_scope_and_everything_within(
    grants: dict[Scope, Role], asked: Scope, role: Role
) -> None:
    principal = Principal("bob", grants)
    held = [r for scope, r in grants.items() if contains(scope, asked)]
    assert principal.may(role, asked) == any(r >= role for r in held)
    around = asked != EVERYWHERE and any(contains(asked, scope) for scope in grants)
    assert principal.sees(asked) == (bool(held) or around)


def test_issued_tokens_are_all_different(store: AuthStore) -> None:
    issued: list[IssuedToken] = [
        store.issue_token(IssueToken(user_id="admin"), ADMIN) for _ in range(20)
    ]
    assert len({one.token for one in issued}) == len({one.token_id for one in issued}) == 20
    assert all(TOKEN.fullmatch(one.token) for one in issued)
