"""Who may do what where: roles, the scopes they are granted on, and a caller who holds some."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, NamedTuple

from io_core.errors import RequestRejectedError, UnsupportedError, nearest
from io_core.model import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EVERYWHERE", "Principal", "Role", "Scope", "check_user_id", "parse_role", "parse_scope"]

ANY_CATALOG = "*"
_USER_ID = re.compile(r"[^\s/\\.\x00-\x1f\x7f][^\s/\\\x00-\x1f\x7f]{0,254}")


class Role(enum.IntEnum):
    """What a grant allows; each role allows what the ones before it do."""

    READER = 1
    WRITER = 2
    ADMIN = 3


class Scope(NamedTuple):
    """A catalog, a namespace or a table, by name, whether or not it exists.

    Attributes:
        catalog: Its name, or `*` for every catalog.
        namespace: None means the whole catalog.
        table: None means the whole namespace.
    """

    catalog: str
    namespace: str | None = None
    table: str | None = None

    @property
    def kind(self) -> str:
        """What the protocol calls a scope of this type."""
        if self.table is not None:
            return "table"
        return "catalog" if self.namespace is None else "namespace"

    def name_in(self, catalog: str) -> str:
        """The scope as the protocol names it where `catalog` is the one that is talked of.

        Example:
            >>> Scope("default", "robots", "runs").name_in("default")
            'robots.runs'
            >>> Scope("lab", "robots", "v1.runs").name_in("default")
            'lab/robots/v1.runs'
        """
        if self.namespace is None:
            return self.catalog
        parts = [part for part in (self.namespace, self.table) if part is not None]
        if self.catalog != catalog:
            return "/".join((self.catalog, *parts))
        return ("/" if any("." in part for part in parts) else ".").join(parts)

    def upwards(self) -> Iterator[Scope]:
        """This scope and those that contain it: a role on any of them counts."""
        if self.table is not None:
            yield self
        if self.namespace is not None:
            yield Scope(self.catalog, self.namespace)
        if self.catalog != ANY_CATALOG:
            yield Scope(self.catalog)
        yield EVERYWHERE


EVERYWHERE = Scope(ANY_CATALOG)


class Principal:
    """A caller whose identity is established. Immutable; threads share it.

    Args:
        user_id: Who it is.
        grants: Its role on each scope that it was granted one on.
    """

    def __init__(self, user_id: str, grants: Mapping[Scope, Role]) -> None:
        self.user_id = user_id
        self.grants = dict(grants)
        # What holds something that the caller was granted a role on: its name is no secret.
        self._around = {above for scope in grants for above in scope.upwards()} - {EVERYWHERE}

    def __repr__(self) -> str:
        return f"Principal({self.user_id!r})"

    def may(self, role: Role, scope: Scope) -> bool:
        """Whether the caller has this role, or a higher one, on the scope or on one above it."""
        return any(self.grants.get(above, 0) >= role for above in scope.upwards())

    def sees(self, scope: Scope) -> bool:
        """Whether the caller may know of the scope: reads it, or something within it."""
        return scope in self._around or self.may(Role.READER, scope)


def parse_role(text: str) -> Role:
    """The role that a request names, in any case.

    Raises:
        RequestRejectedError: There is no such role.
    """
    try:
        return Role[text.upper()]
    except KeyError:
        raise RequestRejectedError(
            f"unknown role {text!r}{nearest(text.upper(), Role.__members__)}: "
            "use READER, WRITER or ADMIN",
            code="invalid_request",
        ) from None


def parse_scope(kind: str, name: str, catalog: str) -> Scope:
    """The scope that a request names.

    A name without a catalog means `catalog`. Names hold no slash but may hold dots, so a slash
    always separates, and a dot only where nothing else can be meant.

    Args:
        kind: `catalog`, `namespace` or `table`, in any case.
        name: For a catalog `*` (or nothing), which is every catalog, or its name; for a namespace
            `ns` or `catalog/ns`; for a table `ns.t`, `ns/t` or `catalog/ns/t`.
        catalog: The catalog that the request addresses.

    Raises:
        RequestRejectedError: The name is none of these.
        UnsupportedError: Roles on a table's version.

    Example:
        >>> parse_scope("table", "robots.runs", "default")
        Scope(catalog='default', namespace='robots', table='runs')
        >>> parse_scope("TABLE", "lab/robots/v1.runs", "default")
        Scope(catalog='lab', namespace='robots', table='v1.runs')
    """
    parts = name.split("/")
    match kind.lower():
        case "catalog":
            if name in ("", ANY_CATALOG):
                return EVERYWHERE
            if len(parts) == 1:
                return Scope(_named("catalog", name))
        case "namespace":
            if len(parts) <= 2:
                return Scope(*_within(catalog, parts, 1))
        case "table":
            if len(parts) == 1:
                parts = name.split(".")
                if len(parts) == 2:
                    return Scope(*_within(catalog, parts, 2))
            elif len(parts) <= 3:
                return Scope(*_within(catalog, parts, 2))
        case "table_version":
            raise UnsupportedError(
                "roles on a version of a table are not supported: name the table"
            )
        case _:
            raise RequestRejectedError(
                f"unknown scope type {kind!r}: use catalog, namespace or table",
                code="invalid_request",
            )
    raise RequestRejectedError(
        f"{name!r} names no {kind.lower()}: write a catalog as '*' or its name, a namespace as 'ns' "
        "or 'catalog/ns', a table as 'ns.table', 'ns/table' or 'catalog/ns/table'",
        code="invalid_request",
    )


def _within(catalog: str, parts: list[str], names: int) -> list[str]:
    """The catalog's name and those below it."""
    whole = parts if len(parts) > names else [catalog, *parts]
    kinds = ("catalog", "namespace", "table")
    return [_named(kind, part) for kind, part in zip(kinds, whole, strict=False)]


def _named(kind: str, name: str) -> str:
    if name == ANY_CATALOG:
        raise RequestRejectedError(
            f"'*' names no {kind} in a scope: a role on everything is one on the catalog '*'",
            code="invalid_request",
        )
    try:
        return check_name(kind, name)
    except ValueError as error:
        raise RequestRejectedError(str(error), code="invalid_request") from None


def check_user_id(user_id: str) -> str:
    """Return `user_id` if it can name a user.

    Raises:
        RequestRejectedError: It cannot: it is empty, too long, or holds what a path or a header
            would mangle.
    """
    if not _USER_ID.fullmatch(user_id):
        raise RequestRejectedError(
            f"{user_id!r} cannot name a user: use 1 to 255 characters without slashes, spaces or "
            "control characters, not beginning with a dot",
            code="invalid_request",
        )
    return user_id
