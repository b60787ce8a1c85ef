"""Who may do what? A dict of what was granted, and what each operation of the catalog's model needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.catalog_model import State

__all__ = [
    "ADMIN",
    "CATALOG",
    "EVERYTHING",
    "READER",
    "ROLES",
    "WRITER",
    "Rights",
    "Token",
    "needs",
]

# The names above, from the outermost one inwards; none at all is every catalog.
Scope = tuple[str, ...]
READER, WRITER, ADMIN = 1, 2, 3
ROLES = {READER: "READER", WRITER: "WRITER", ADMIN: "ADMIN"}
EVERYTHING: Scope = ()
CATALOG: Scope = ("default",)


class Token(NamedTuple):
    """Whose it is, what it is called, whether it works."""

    user: str
    token_id: str
    works: bool = True


class Rights:
    """Users, their tokens, and the role that each was granted on a scope."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.tokens: dict[str, Token] = {}
        self.grants: dict[tuple[str, Scope], int] = {}

    def user(self, token: str) -> str | None:
        """Whose token it is; None if it does not work."""
        held = self.tokens.get(token)
        return held.user if held is not None and held.works else None

    def may(self, user: str, role: int, scope: Scope) -> bool:
        """Whether the user has the role on the scope, or on one around it."""
        return any(self.grants.get((user, scope[:n]), 0) >= role for n in range(len(scope) + 1))

    def sees(self, user: str, scope: Scope) -> bool:
        """Whether the user may know of it: reads it, or has a role on something within it."""
        within = any(u == user and at[: len(scope)] == scope for u, at in self.grants)
        return within or self.may(user, READER, scope)

    def admins(self) -> set[str]:
        """Who may do everything, and can show it."""
        able = {token.user for token in self.tokens.values() if token.works}
        return {user for user in able if self.may(user, ADMIN, EVERYTHING)}


# Any: arguments of the operation.
def needs(
    name: str, held: dict[str, Any], state: State, *, again: bool = False
) -> Iterator[tuple[int, Scope]]:
    """Roles and scopes that an operation needs.

    Args:
        name: The operation, a method of the model's state.
        held: Its arguments.
        state: The catalog as it is.
        again: Whether it is asked when the operation's transaction commits.
    """
    if name in ("stage", "commit"):
        staged = held.get("staged")
        held = held if staged is None else vars(staged)
        yield WRITER, (*CATALOG, held["namespace"], held["table"])
        # A session was allowed when it was staged, and is asked again by its transaction alone.
        if held.get("external") and (again or name == "stage"):
            yield ADMIN, CATALOG
        if again and held["mode"] == "create" and held["namespace"] not in state.namespaces:
            yield WRITER, CATALOG
        return
    namespace: Scope = (*CATALOG, held["namespace"])
    match name:
        case "create_namespace":
            yield WRITER, CATALOG
        case "describe_namespace" | "drop_namespace":
            yield ADMIN, namespace
        case "rename_namespace":
            yield ADMIN, namespace
            yield WRITER, CATALOG
        case "create_table" | "truncate":
            yield WRITER, (*namespace, held["table"])
        case "write_data":
            yield WRITER, (*namespace, held["table"])
            if held["namespace"] not in state.namespaces:
                yield WRITER, CATALOG
        case "rename_table":
            yield ADMIN, (*namespace, held["table"])
            yield WRITER, (*CATALOG, *held["to"])
        case _:
            yield ADMIN, (*namespace, held["table"])
