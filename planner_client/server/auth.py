"""The planner's guard: who calls, what they may, and the calls on users, tokens and grants.

What a server does with a request::

    principal = guard.principal(authorization, user)            # 401 where nobody known calls
    result = guard.call(planner, endpoint, request, principal)  # 403 where they may not
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from io_core.errors import (
    AuthenticationRequiredError,
    NotFoundError,
    RequestRejectedError,
    without_hint,
)
from planner_client.protocol.auth import Grant, Granted, Grants, Revoked, TokenRevoked, Whoami
from planner_client.server.auth_store import AuthStore, By
from planner_client.server.authorize import OPEN, Call, authorize, narrowed, visible
from planner_client.server.roles import (
    Principal,
    Role,
    Scope,
    check_user_id,
    parse_role,
    parse_scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.protocol.auth import (
        CreateGrant,
        CreateUser,
        IssuedToken,
        IssueToken,
        ListGrants,
        RevokeGrant,
        RevokeToken,
        UserCreated,
    )
    from planner_client.protocol.endpoint import Endpoint, Request
    from planner_client.server.authorize import Guarded

__all__ = ["UNCONFIGURED", "AuthStore", "Guard", "Principal"]

Res = TypeVar("Res")


class Guard:
    """Lets through what the caller may do. Threads share it.

    Args:
        store: Users, tokens and grants; None: nobody is authenticated, everything is allowed.
        trust_user_header: Believe the header `x-deltacat-user`, since a proxy in front sets it.

    Raises:
        ValueError: A header is to be trusted, yet nobody can be granted anything.
    """

    def __init__(self, store: AuthStore | None = None, *, trust_user_header: bool = False) -> None:
        if trust_user_header and store is None:
            raise ValueError("trust_user_header needs a store of grants: pass store=")
        self._store = store
        self._trust_user_header = trust_user_header

    def __repr__(self) -> str:
        return f"Guard({self._store!r}, trust_user_header={self._trust_user_header})"

    def principal(self, authorization: str | None, user: str | None = None) -> Principal | None:
        """Who calls; to be asked for every route but `/health`, whatever it serves.

        Args:
            authorization: The header of that name.
            user: The header `x-deltacat-user`: where it is trusted, it counts before a token.

        Returns:
            None where nobody is authenticated.

        Raises:
            AuthenticationRequiredError: No token, or none that the planner knows. The answer's
                status is 401 and it has the header `WWW-Authenticate: Bearer`.
        """
        if self._store is None:
            return None
        if self._trust_user_header and user:
            try:
                return self._store.user(check_user_id(user))
            except RequestRejectedError as error:
                raise AuthenticationRequiredError(f"x-deltacat-user: {error}") from None
        scheme, _, token = (authorization or "").partition(" ")
        found = self._store.principal(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise AuthenticationRequiredError(
                "this planner answers to known callers alone: "
                + (
                    "the token sent is unknown or was revoked; ask an ADMIN for another"
                    if token
                    else "send a token, with Client(..., bearer_token=) or the variable DELTACAT_TOKEN"
                )
            )
        return found

    def call(
        self,
        planner: Guarded,
        endpoint: Endpoint[Any, Res],
        request: Request,
        principal: Principal | None,
    ) -> Res:
        """Run one call if the caller may; of a list they get what they may read.

        Answers the calls on users, tokens and grants itself.

        Raises:
            AuthenticationRequiredError: Nobody was authenticated, and should be.
            PermissionDeniedError: They may not; tells nothing of whether the thing exists.
        """
        if self._store is None:
            return planner.call(endpoint, request, caller=None)
        if endpoint.name in OPEN:
            return planner.call(endpoint, request, caller=None)
        if principal is None:
            raise AuthenticationRequiredError(f"{endpoint.name} needs a token: send one")
        call = Call(request, principal, request.catalog or planner.info.name, planner)
        authorize(endpoint, call)
        answer = _ANSWERS.get(endpoint.name)
        if answer is not None:
            own: Res = answer(self._store, call)
            return own
        try:
            result = planner.call(endpoint, narrowed(call), caller=principal.user_id)
        except NotFoundError as error:
            if principal.may(Role.READER, Scope(call.catalog)):
                raise
            # The name offered instead may be one that they must not know of.
            raise NotFoundError(without_hint(str(error)), details=error.details) from None
        shown: Res = visible(endpoint, call, result)
        return shown


def _by(call: Call) -> By:
    return By(call.principal.user_id, call.catalog)


def _whoami(store: AuthStore, call: Call) -> Whoami:
    grants = [
        Grant(role.name, scope.kind, scope.name_in(call.catalog))
        for scope, role in call.principal.grants.items()
    ]
    return Whoami(call.principal.user_id, auth_configured=True, grants=grants)


def _create_user(store: AuthStore, call: Call) -> UserCreated:
    request: CreateUser = call.request
    first = request.initial_grant
    scope = parse_scope(first.scope_type, first.scope_name, call.catalog)
    return store.create_user(request, parse_role(first.role), scope, _by(call))


def _issue_token(store: AuthStore, call: Call) -> IssuedToken:
    request: IssueToken = call.request
    return store.issue_token(request, _by(call))


def _revoke_token(store: AuthStore, call: Call) -> TokenRevoked:
    request: RevokeToken = call.request
    revoked = store.revoke_token(request.user_id, request.token_id, _by(call))
    return TokenRevoked(
        request.token_id, request.user_id, revoked=revoked, revoked_by=call.principal.user_id
    )


def _create_grant(store: AuthStore, call: Call) -> Granted:
    request: CreateGrant = call.request
    scope = parse_scope(request.scope_type, request.scope_name, call.catalog)
    role = parse_role(request.role)
    store.grant(request.user, role, scope, _by(call))
    return Granted(
        granted=True,
        user=request.user,
        role=role.name,
        scope_type=scope.kind,
        scope_name=scope.name_in(call.catalog),
        granted_by=call.principal.user_id,
    )


def _revoke_grant(store: AuthStore, call: Call) -> Revoked:
    request: RevokeGrant = call.request
    scope = parse_scope(request.scope_type, request.scope_name, call.catalog)
    return Revoked(
        revoked=store.revoke(request.user, scope),
        user=request.user,
        scope_type=scope.kind,
        scope_name=scope.name_in(call.catalog),
        revoked_by=call.principal.user_id,
    )


def _list_grants(store: AuthStore, call: Call) -> Grants:
    request: ListGrants = call.request
    me = call.principal
    shown = [
        held.info(call.catalog)
        for held in store.grants(request.user)
        if held.user_id == me.user_id or me.may(Role.ADMIN, held.scope)
    ]
    return Grants(len(shown), shown)


# Any: each takes its own request, and gives its own answer.
_ANSWERS: dict[str, Callable[[AuthStore, Call], Any]] = {
    "whoami": _whoami,
    "create_user": _create_user,
    "issue_token": _issue_token,
    "revoke_token": _revoke_token,
    "create_grant": _create_grant,
    "revoke_grant": _revoke_grant,
    "list_grants": _list_grants,
}


def _nobody(planner: object, request: Request) -> Whoami:
    return Whoami()


def _no_grants(planner: object, request: Request) -> Grants:
    return Grants(info="this planner authenticates nobody: everybody may do everything")


def _no_users(planner: object, request: Request) -> NoReturn:
    raise RequestRejectedError(
        "this planner authenticates nobody, so it has no users, tokens or grants: serve the catalog "
        "with python -m planner_client.server --auth",
        code="auth_not_configured",
    )


# What a planner answers by itself to these calls: one in this process, or served without users.
UNCONFIGURED: dict[str, Callable[[object, Any], Any]] = {
    **dict.fromkeys(_ANSWERS, _no_users),
    "whoami": _nobody,
    "list_grants": _no_grants,
}
