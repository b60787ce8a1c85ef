"""client.auth: who one is, and, for those who administer the planner, users, tokens and grants."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from io_core.errors import RequestRejectedError, SchemaValidationError
from planner_client.calls import Resource
from planner_client.given import one_of
from planner_client.protocol.auth import (
    CREATE_GRANT,
    CREATE_USER,
    ISSUE_TOKEN,
    LIST_GRANTS,
    REVOKE_GRANT,
    REVOKE_TOKEN,
    WHOAMI,
    CreateGrant,
    CreateUser,
    InitialGrant,
    IssueToken,
    ListGrants,
    RevokeGrant,
    RevokeToken,
    TokenToIssue,
    WhoamiRequest,
)

if TYPE_CHECKING:
    from planner_client.protocol.auth import (
        Granted,
        GrantInfo,
        IssuedToken,
        Revoked,
        TokenRevoked,
        UserCreated,
        Whoami,
    )
    from planner_client.protocol.endpoint import Endpoint, Request

__all__ = ["Auth"]

Res = TypeVar("Res")


class Auth(Resource):
    """Identity and permissions at a planner. No call of it belongs to a transaction.

    Roles are READER, WRITER and ADMIN; each may do what the ones before it may. They are granted
    on a scope: `resource_type` catalog, namespace or table, and `resource_name`, which is `*` for
    every catalog, a catalog's name, `ns` or `catalog/ns`, `ns.table`, `ns/table` or
    `catalog/ns/table`. A name without a catalog is one in the client's own.

    Args:
        transport: Where calls go.
        catalog: The client's own; None means the planner's default.
    """

    def _call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        # Any: each endpoint has its own request.
        return self._calls.send(endpoint, request, None)

    def whoami(self) -> Whoami:
        """Who the planner takes the caller for, and what they were granted.

        `auth_configured` is False where it authenticates nobody: everybody may do everything.
        """
        return self._call(WHOAMI, WhoamiRequest())

    def create_user(
        self,
        *,
        user_id: str,
        role: str | None = None,
        resource_type: str = "catalog",
        resource_name: str = "*",
        display_name: str | None = None,
        email: str | None = None,
        issue_token: bool = False,
        token_label: str | None = None,
        idempotency_key: str | None = None,
        initial_role: str | None = None,
        issue_token_label: str | None = None,
    ) -> UserCreated:
        """Make a user with one grant. Needs ADMIN on the catalog `*`.

        Args:
            user_id: 1 to 255 characters without slashes and spaces, such as an e-mail address.
            role: What the user may do.
            resource_type: Where: catalog, namespace or table.
            resource_name: Its name.
            display_name: For people.
            email: For people.
            issue_token: Also make a token; it is in the answer's `token`, and shown this once.
            token_label: What the token is for.
            idempotency_key: Calls with the same key make one user; an answer that repeats an
                earlier one holds no token. By default every call has a key of its own.
            initial_role: The same as `role`; one of them is needed.
            issue_token_label: The same as `issue_token` with this `token_label`.

        Raises:
            AlreadyExistsError: There is a user of this id.
            PermissionDeniedError: The caller may not.
        """
        label = one_of(token_label=token_label, issue_token_label=issue_token_label)
        issues = issue_token or issue_token_label is not None
        granted = one_of(role=role, initial_role=initial_role)
        if granted is None:
            raise SchemaValidationError("role is None: a user begins with one, such as 'READER'")
        request = CreateUser(
            user_id=user_id,
            initial_grant=InitialGrant(granted, resource_type, resource_name),
            display_name=display_name,
            email=email,
            issue_token=TokenToIssue(label) if issues else None,
            idempotency_key=_key(idempotency_key),
        )
        created = self._call(CREATE_USER, request)
        if created.token is None or not created.token.replayed or idempotency_key is not None:
            return created
        return msgspec.structs.replace(created, token=self._instead_of(created.token))

    def issue_token(
        self, *, user_id: str, label: str | None = None, idempotency_key: str | None = None
    ) -> IssuedToken:
        """Make a token for a user. Needs ADMIN on the catalog `*`.

        It is shown this once, in the answer's `token`, and in no repr or pickle of the answer.

        Args:
            user_id: Whose it will be.
            label: What it is for.
            idempotency_key: Calls with the same key make one token; an answer that repeats an
                earlier one (`replayed`) holds none. By default every call has a key of its own.

        Raises:
            NotFoundError: No such user.
            PermissionDeniedError: The caller may not.
        """
        request = IssueToken(user_id=user_id, label=label, idempotency_key=_key(idempotency_key))
        issued = self._call(ISSUE_TOKEN, request)
        if not issued.replayed or idempotency_key is not None:
            return issued
        return self._instead_of(issued)

    def _instead_of(self, lost: IssuedToken) -> IssuedToken:
        """A token in place of one whose answer was lost on the way: nobody can know that one."""
        self.revoke_token(user_id=lost.user_id, token_id=lost.token_id)
        return self.issue_token(user_id=lost.user_id, label=lost.label)

    def revoke_token(self, *, user_id: str, token_id: str) -> TokenRevoked:
        """Let a token work no longer, from its next use on.

        One's own, or with ADMIN on the catalog `*` anybody's.

        Raises:
            NotFoundError: The user has no such token.
            RequestRejectedError: Nobody could administer the planner any longer.
        """
        return self._call(REVOKE_TOKEN, RevokeToken(user_id=user_id, token_id=token_id))

    def grant(
        self,
        *,
        user_id: str,
        role: str,
        resource_type: str = "catalog",
        resource_name: str = "*",
    ) -> Granted:
        """Give a user a role, in place of the one they have on that very scope.

        Needs ADMIN on it. Grants go by name: neither user nor table need exist yet.

        Raises:
            PermissionDeniedError: The caller may not.
            RequestRejectedError: Nobody could administer the planner any longer.
        """
        request = CreateGrant(
            user=user_id, role=role, scope_type=resource_type, scope_name=resource_name
        )
        return self._call(CREATE_GRANT, request)

    def revoke(
        self, *, user_id: str, resource_type: str = "catalog", resource_name: str = "*"
    ) -> Revoked:
        """Take back what a user was granted on this very scope. Needs ADMIN on it.

        Raises:
            PermissionDeniedError: The caller may not.
            RequestRejectedError: Nobody could administer the planner any longer.
        """
        request = RevokeGrant(user=user_id, scope_type=resource_type, scope_name=resource_name)
        return self._call(REVOKE_GRANT, request)

    def list_grants(self, *, user_id: str | None = None) -> list[GrantInfo]:
        """Grants on scopes that the caller administers, and their own; of one user where named."""
        return self._call(LIST_GRANTS, ListGrants(user=user_id)).grants


def _key(given: object) -> str:
    if given is None:
        return uuid.uuid4().hex
    if (
        not isinstance(given, str)
        or not given
        or not given.isascii()
        or not given.isprintable()
        or given != given.strip()
    ):
        raise RequestRejectedError(
            f"idempotency_key {given!r} cannot travel in a header: use printable ASCII without "
            "spaces around it",
            code="invalid_request",
        )
    return given
