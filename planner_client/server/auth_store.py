"""What is known of users, their tokens and grants, and how it changes.

It is kept in a file of its own, so that copies and backups of the ledger hold no credentials. A
token is kept as its SHA-256 alone: it is 256 random bits, which no dictionary holds, so a slow hash
would protect nothing and cost every request.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from io_core.errors import AlreadyExistsError, NotFoundError, RequestRejectedError
from planner_client.protocol.auth import (
    CreateUser,
    GrantInfo,
    IssuedToken,
    IssueToken,
    User,
    UserCreated,
)
from planner_client.server.auth_file import AuthFile
from planner_client.server.roles import EVERYWHERE, Principal, Role, Scope, check_user_id

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import apsw

__all__ = ["FIRST_USER", "AuthStore", "By", "HeldGrant"]

FIRST_USER = "admin"
_PREFIX = "dct_"
_LONGEST_TEXT = 255
_CACHED = 1024

Res = TypeVar("Res", IssuedToken, UserCreated)

_GENERATION = "SELECT value FROM meta WHERE key = 'generation'"
_GRANTS = "SELECT user_id, role, catalog, namespace, tbl, granted_ns, granted_by FROM held_grant"
# Those who may do everything, and can show it.
_ADMINS = """
SELECT count(*) FROM held_grant g WHERE g.catalog = '*' AND g.role = 3
AND EXISTS (SELECT 1 FROM token t WHERE t.user_id = g.user_id AND t.revoked_ns IS NULL)
"""


class By(NamedTuple):
    """Who changes something, and the catalog that the request addresses: it names scopes."""

    user_id: str
    catalog: str


class HeldGrant(NamedTuple):
    """One grant: whose, what, where, since when and by whom."""

    user_id: str
    role: Role
    scope: Scope
    granted_ns: int
    granted_by: str

    def info(self, catalog: str) -> GrantInfo:
        """The grant as the protocol tells it where `catalog` is the one that is talked of."""
        return GrantInfo(
            self.user_id,
            self.role.name,
            self.scope.kind,
            self.scope.name_in(catalog),
            granted_at=_iso(self.granted_ns),
            granted_by=self.granted_by,
        )


class AuthStore:
    """Users, tokens and grants of one server. Threads and processes share it, forks too.

    Changes are durable when a call returns, and hold from the next request on, in every process.

    Args:
        root: The directory of the server's default catalog.
        clock_ns: The time, in nanoseconds since the epoch.

    Attributes:
        path: The file.

    Raises:
        CatalogRootError: The file there is none of ours, a newer release's, or not ours to protect.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._file = AuthFile(root)
        self.path = self._file.path
        self._clock_ns = clock_ns
        # By user: what held at which generation of the file.
        self._known: dict[str, tuple[int, Principal]] = {}

    def __repr__(self) -> str:
        return f"AuthStore({str(self.path)!r})"

    def close(self) -> None:
        """Close connections to the file; the store stays usable and opens new ones."""
        self._file.close()

    # --- who calls --------------------------------------------------------------------------------

    def principal(self, token: str) -> Principal | None:
        """Whose token this is; None if nobody's, or revoked.

        The token's row is read each time, so that a revoked one works no longer in any process;
        what its user was granted is read again after every change of the file.
        """
        query = f"SELECT user_id, ({_GENERATION}) FROM token WHERE hash = ? AND revoked_ns IS NULL"
        with self._file.read() as db:
            found = db.execute(query, (_hash(token),)).fetchone()
            return self._granted(db, *found) if found is not None else None

    def user(self, user_id: str) -> Principal:
        """The caller of this name, whom somebody else authenticated; may hold no grants."""
        with self._file.read() as db:
            return self._granted(db, user_id, *db.execute(_GENERATION).fetchone())

    def _granted(self, db: apsw.Connection, user_id: str, generation: int) -> Principal:
        known = self._known.get(user_id)
        if known is not None and known[0] == generation:
            return known[1]
        rows = db.execute(f"{_GRANTS} WHERE user_id = ?", (user_id,))
        found = Principal(user_id, {grant.scope: grant.role for grant in map(_grant, rows)})
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[user_id] = (generation, found)
        return found

    # --- the first user ---------------------------------------------------------------------------

    def bootstrap(self) -> str | None:
        """Make the first user, an ADMIN of every catalog, and return its token; it is shown once.

        Returns:
            None if there are users.
        """
        with self._file.locked() as db:
            (users,) = db.execute("SELECT count(*) FROM user").fetchone()
            return self._first(db) if users == 0 else None

    def new_admin_token(self) -> str:
        """A further token of the first user, an ADMIN again: the way back for who lost theirs.

        Whoever may write the catalog's directory may call it.
        """
        with self._file.locked() as db:
            return self._first(db)

    def _first(self, db: apsw.Connection) -> str:
        now_ns = self._clock_ns()
        db.execute(
            "INSERT INTO user VALUES (?, NULL, NULL, ?, ?) ON CONFLICT DO NOTHING",
            (FIRST_USER, now_ns, FIRST_USER),
        )
        _put(db, HeldGrant(FIRST_USER, Role.ADMIN, EVERYWHERE, now_ns, FIRST_USER))
        return self._token(db, FIRST_USER, "made on the planner's host", FIRST_USER).token

    # --- users and tokens -------------------------------------------------------------------------

    def create_user(self, request: CreateUser, role: Role, scope: Scope, by: By) -> UserCreated:
        """Make a user with one grant, and a token where one is asked for.

        Raises:
            AlreadyExistsError: There is a user of this id.
            RequestRejectedError: The key was used for another request.
        """
        check_user_id(request.user_id)
        for text in (request.display_name, request.email):
            _check_text(text)
        make = functools.partial(self._make_user, request=request, role=role, scope=scope, by=by)
        return self._once(request, by, make, UserCreated)

    def _make_user(
        self, db: apsw.Connection, *, request: CreateUser, role: Role, scope: Scope, by: By
    ) -> UserCreated:
        if _exists(db, request.user_id):
            raise AlreadyExistsError(
                f"user {request.user_id!r} already exists: grant it a role, or issue it a token",
                details={"user": request.user_id},
            )
        now_ns = self._clock_ns()
        user = User(
            request.user_id,
            created_at=_iso(now_ns),
            created_by=by.user_id,
            display_name=request.display_name,
            email=request.email,
        )
        db.execute(
            "INSERT INTO user VALUES (?, ?, ?, ?, ?)",
            (user.user_id, user.display_name, user.email, now_ns, by.user_id),
        )
        grant = HeldGrant(user.user_id, role, scope, now_ns, by.user_id)
        _put(db, grant)
        token = None
        if request.issue_token is not None:
            token = self._token(db, user.user_id, request.issue_token.label, by.user_id)
        return UserCreated(user, grant.info(by.catalog), token)

    def issue_token(self, request: IssueToken, by: By) -> IssuedToken:
        """Make a token.

        Raises:
            NotFoundError: No such user.
            RequestRejectedError: The key was used for another request.
        """
        make = functools.partial(self._make_token, request=request, by=by)
        return self._once(request, by, make, IssuedToken)

    def _make_token(self, db: apsw.Connection, *, request: IssueToken, by: By) -> IssuedToken:
        if not _exists(db, request.user_id):
            raise NotFoundError(
                f"user {request.user_id!r} not found: create it first",
                details={"user": request.user_id},
            )
        return self._token(db, request.user_id, request.label, by.user_id)

    def _token(self, db: apsw.Connection, user_id: str, label: str | None, by: str) -> IssuedToken:
        _check_text(label)
        now_ns = self._clock_ns()
        token = _PREFIX + secrets.token_urlsafe(32)
        issued = IssuedToken(
            token,
            str(uuid.uuid4()),
            user_id,
            created_at=_iso(now_ns),
            created_by=by,
            label=label,
            last_four=token[-4:],
        )
        db.execute(
            "INSERT INTO token VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (issued.token_id, user_id, _hash(token), label, issued.last_four, now_ns, by),
        )
        return issued

    def revoke_token(self, user_id: str, token_id: str, by: By) -> bool:
        """Let a token work no longer, from the next request on.

        Returns:
            False if it was revoked before.

        Raises:
            NotFoundError: The user has no such token.
            RequestRejectedError: It is the last one of the last ADMIN of every catalog.
        """
        with self._file.locked() as db:
            found = db.execute(
                "SELECT revoked_ns FROM token WHERE token_id = ? AND user_id = ?",
                (token_id, user_id),
            ).fetchone()
            if found is None:
                raise NotFoundError(f"user {user_id!r} has no token of the id {token_id!r}")
            if found[0] is not None:
                return False
            db.execute(
                "UPDATE token SET revoked_ns = ?, revoked_by = ? WHERE token_id = ?",
                (self._clock_ns(), by.user_id, token_id),
            )
            _keep_an_admin(db, f"token {token_id} of {user_id!r}")
            return True

    # --- grants -----------------------------------------------------------------------------------

    def grant(self, user_id: str, role: Role, scope: Scope, by: By) -> None:
        """Give a user a role on a scope, in place of the one it has there.

        The user need not exist: a proxy in front may know it, or it may be made later.

        Raises:
            RequestRejectedError: It would take the last ADMIN of every catalog its role.
        """
        check_user_id(user_id)
        with self._file.locked() as db:
            _put(db, HeldGrant(user_id, role, scope, self._clock_ns(), by.user_id))
            if scope == EVERYWHERE and role < Role.ADMIN:
                _keep_an_admin(db, f"the role ADMIN of {user_id!r}")

    def revoke(self, user_id: str, scope: Scope) -> bool:
        """Take back what a user was granted on this very scope.

        Returns:
            False if there was nothing.

        Raises:
            RequestRejectedError: It is the last ADMIN of every catalog.
        """
        with self._file.locked() as db:
            db.execute(
                "DELETE FROM held_grant "
                "WHERE user_id = ? AND catalog = ? AND namespace = ? AND tbl = ?",
                (user_id, *_columns(scope)),
            )
            found = bool(db.changes())
            if found and scope == EVERYWHERE:
                _keep_an_admin(db, f"the role ADMIN of {user_id!r}")
            return found

    def grants(self, user_id: str | None = None) -> list[HeldGrant]:
        """All grants, or those of one user, by user and scope."""
        where = "" if user_id is None else " WHERE user_id = ?"
        with self._file.read() as db:
            rows = db.execute(_GRANTS + where, () if user_id is None else (user_id,))
            return sorted(map(_grant, rows), key=lambda held: (held.user_id, _columns(held.scope)))

    # --- calls that name themselves ---------------------------------------------------------------

    def _once(
        self,
        request: CreateUser | IssueToken,
        by: By,
        make: Callable[[apsw.Connection], Res],
        kind: type[Res],
    ) -> Res:
        """Make something, or find what the same call of the same caller has made.

        A repeated answer holds no token. To tell it again the planner would have to keep what it
        can turn back into the token, and so could whoever reads the file or knows the key.
        """
        key = request.idempotency_key
        _check_text(key)
        name = kind.__name__
        with self._file.locked() as db:
            if key is None:
                return make(db)
            digest = hashlib.sha256(msgspec.json.encode(request)).digest()
            found = db.execute(
                "SELECT name, request_hash, response FROM outcome WHERE caller = ? AND key = ?",
                (by.user_id, key),
            ).fetchone()
            if found is None:
                answer = make(db)
                body = msgspec.json.encode(_replay_of(answer))
                db.execute(
                    "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?)",
                    (by.user_id, key, name, digest, body, self._clock_ns()),
                )
                return answer
            if found[:2] != (name, digest):
                raise RequestRejectedError(
                    f"Idempotency-Key {key!r} was used for another request: send a new one",
                    code="operation_conflict",
                    status=409,
                )
            return msgspec.json.decode(found[2], type=kind)


def _replay_of(answer: Res) -> Res:
    if isinstance(answer, IssuedToken):
        return msgspec.structs.replace(answer, token="", replayed=True)
    if answer.token is None:
        return answer
    return msgspec.structs.replace(answer, token=_replay_of(answer.token))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def _columns(scope: Scope) -> tuple[str, str, str]:
    return scope.catalog, scope.namespace or "", scope.table or ""


# Any: a row of SQLite.
def _grant(row: tuple[Any, ...]) -> HeldGrant:
    user_id, role, catalog, namespace, table, granted_ns, by = row
    return HeldGrant(
        user_id, Role(role), Scope(catalog, namespace or None, table or None), granted_ns, by
    )


def _put(db: apsw.Connection, held: HeldGrant) -> None:
    db.execute(
        "INSERT OR REPLACE INTO held_grant VALUES (?, ?, ?, ?, ?, ?, ?)",
        (held.user_id, *_columns(held.scope), int(held.role), held.granted_ns, held.granted_by),
    )


def _exists(db: apsw.Connection, user_id: str) -> bool:
    found = db.execute("SELECT 1 FROM user WHERE user_id = ?", (user_id,)).fetchone()
    return found is not None


def _keep_an_admin(db: apsw.Connection, what: str) -> None:
    """Raise, and so undo the change, if nobody could administer the planner any longer."""
    (admins,) = db.execute(_ADMINS).fetchone()
    if admins == 0:
        raise RequestRejectedError(
            f"{what} is the last that can administer this planner: make another ADMIN of the "
            "catalog '*' with a token first",
            code="last_admin",
            status=409,
        )


def _check_text(text: str | None) -> None:
    if text is not None and len(text) > _LONGEST_TEXT:
        raise RequestRejectedError(
            f"a text of {len(text)} characters is too long: use at most {_LONGEST_TEXT}",
            code="invalid_request",
        )
