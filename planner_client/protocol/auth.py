"""Declarations: who one is, users, their tokens, and what they are granted.

A token is shown once, in the answer that issues it. It stands in no `repr` and in no pickle of
that answer.
"""

from __future__ import annotations

import msgspec

from planner_client.protocol.endpoint import Endpoint, Header, Query, Request

__all__ = [
    "CREATE_GRANT",
    "CREATE_USER",
    "ISSUE_TOKEN",
    "LIST_GRANTS",
    "REVOKE_GRANT",
    "REVOKE_TOKEN",
    "WHOAMI",
    "CreateGrant",
    "CreateUser",
    "Grant",
    "GrantInfo",
    "Granted",
    "Grants",
    "InitialGrant",
    "IssueToken",
    "IssuedToken",
    "ListGrants",
    "RevokeGrant",
    "RevokeToken",
    "Revoked",
    "TokenRevoked",
    "TokenToIssue",
    "User",
    "UserCreated",
    "Whoami",
    "WhoamiRequest",
]

_USERS = "/v1/auth/users"
_GRANTS = "/v1/auth/grants"


class WhoamiRequest(Request, frozen=True, kw_only=True):
    """No fields of its own."""


class Grant(msgspec.Struct, frozen=True):
    """A role (READER, WRITER or ADMIN) on a catalog, a namespace or a table."""

    role: str
    scope_type: str
    scope_name: str


class Whoami(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who the caller is; nobody where the planner authenticates nobody."""

    user_id: str | None = None
    auth_configured: bool = False
    grants: list[Grant] = []


class InitialGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a new user may do at first."""

    role: str
    scope_type: str = "catalog"
    scope_name: str = "*"


class TokenToIssue(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token that a new user gets at once; `label` says what it is for."""

    label: str | None = None


class CreateUser(Request, frozen=True, kw_only=True):
    """A user to make. The same `idempotency_key` makes it once."""

    user_id: str
    initial_grant: InitialGrant
    display_name: str | None = None
    email: str | None = None
    issue_token: TokenToIssue | None = None
    idempotency_key: Header[str | None] = None


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user. Times are ISO-8601, in UTC, here and below."""

    user_id: str
    created_at: str | None = None
    created_by: str | None = None
    disabled: bool = False
    display_name: str | None = None
    email: str | None = None


class GrantInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A grant, whose it is, and who made it."""

    user_id: str
    role: str
    scope_type: str
    scope_name: str
    granted_at: str | None = None
    granted_by: str | None = None


class IssuedToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token, this once: the planner keeps a hash of it and cannot tell it again.

    `token` is empty in a repeated answer (`replayed`), and in a pickle of any.
    """

    token: str
    token_id: str
    user_id: str
    created_at: str | None = None
    created_by: str | None = None
    issued: bool = True
    label: str | None = None
    last_four: str | None = None
    replayed: bool = False

    def __repr__(self) -> str:
        return (
            f"IssuedToken(token_id={self.token_id!r}, user_id={self.user_id!r}, "
            f"label={self.label!r}, last_four={self.last_four!r}, replayed={self.replayed})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        _, *rest = msgspec.structs.astuple(self)
        return IssuedToken, ("", *rest)


class UserCreated(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user that was made, what it was granted, and its token where one was asked for."""

    user: User
    grant: GrantInfo
    token: IssuedToken | None = None


class IssueToken(Request, frozen=True, kw_only=True):
    """A token to make for a user. The same `idempotency_key` makes it once."""

    user_id: str
    label: str | None = None
    idempotency_key: Header[str | None] = None


class RevokeToken(Request, frozen=True, kw_only=True):
    """The token that is to work no longer."""

    user_id: str
    token_id: str


class TokenRevoked(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token that works no longer; `revoked` is False where it had been revoked before."""

    token_id: str
    user_id: str
    revoked: bool
    revoked_by: str | None = None


class CreateGrant(Request, frozen=True, kw_only=True):
    """A role to grant; it replaces the one that the user has on that very scope."""

    user: str
    role: str
    scope_type: str = "catalog"
    scope_name: str = "*"


class Granted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A grant that was made."""

    granted: bool
    user: str
    role: str
    scope_type: str
    scope_name: str
    granted_by: str | None = None


class ListGrants(Request, frozen=True, kw_only=True):
    """Whose grants to list; everybody's without a user."""

    user: Query[str | None] = None


class Grants(msgspec.Struct, frozen=True, omit_defaults=True):
    """The grants that the caller may see; `info` says why there are none."""

    count: int = 0
    grants: list[GrantInfo] = []
    info: str | None = None


class RevokeGrant(Request, frozen=True, kw_only=True):
    """The scope on which a user is to have no role of its own any longer."""

    user: str
    scope_type: str = "catalog"
    scope_name: str = "*"


class Revoked(msgspec.Struct, frozen=True, omit_defaults=True):
    """A grant that was taken back; `revoked` is False where there was none."""

    revoked: bool
    user: str
    scope_type: str
    scope_name: str
    revoked_by: str | None = None


WHOAMI = Endpoint("whoami", "GET", "/v1/auth/whoami", WhoamiRequest, Whoami)
CREATE_USER = Endpoint("create_user", "POST", _USERS, CreateUser, UserCreated)
ISSUE_TOKEN = Endpoint(
    "issue_token", "POST", f"{_USERS}/{{user_id}}/tokens", IssueToken, IssuedToken
)
REVOKE_TOKEN = Endpoint(
    "revoke_token", "DELETE", f"{_USERS}/{{user_id}}/tokens/{{token_id}}", RevokeToken, TokenRevoked
)
CREATE_GRANT = Endpoint("create_grant", "POST", _GRANTS, CreateGrant, Granted)
LIST_GRANTS = Endpoint("list_grants", "GET", _GRANTS, ListGrants, Grants)
REVOKE_GRANT = Endpoint("revoke_grant", "DELETE", _GRANTS, RevokeGrant, Revoked)
