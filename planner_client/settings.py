"""What is a client set to: by its arguments, or where they say nothing by the environment?

=========================  =======================================================================
`DELTACAT_PLANNER`         the planner: a URL, or a catalog's directory
`DELTACAT_CATALOG`         `catalog`
`DELTACAT_TOKEN`           `bearer_token`
`DELTACAT_USER`            `user_id`
`DELTACAT_TIMEOUT`         `timeout`, in seconds
`DELTACAT_VERIFY_SSL`      `verify_ssl`: `true`, `false`, or an authority's certificate
`DELTACAT_WORKER_ID`       `worker_id`
`DELTACAT_WORKER_TAGS`     `worker_tags`, with commas between them
=========================  =======================================================================

Proxies are those of the usual variables (`HTTPS_PROXY`, `NO_PROXY` and so on).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from io_core.errors import NotFoundError, SchemaValidationError
from planner_client.given import listed
from planner_client.protocol.checked import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PLANNER_ENVIRONMENT", "TOKEN_ENVIRONMENT", "Settings", "headers_of"]

PLANNER_ENVIRONMENT = "DELTACAT_PLANNER"
TOKEN_ENVIRONMENT = "DELTACAT_TOKEN"  # noqa: S105  # a variable's name
_SAID = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?|")

# Of a planner, without its scheme: it would pass for a directory.
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}(/.*)?")

# Headers that may identify a caller: they are shown nowhere, and do not travel in a pickle.
_SECRET = re.compile(
    r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE
)


class Settings(msgspec.Struct, frozen=True):
    """A client's settings but for its token, which nothing holds that can be shown or pickled.

    Attributes:
        target: A planner's URL, or the absolute path of a catalog's directory.
        catalog: Which catalog calls go to; None means the planner's default.
        user_id: Who calls, for planners behind a proxy that they trust.
        headers: Sent with every request.
        timeout: Longest wait for a connection and for each piece of an answer, in seconds.
        verify_ssl: Whether to check certificates, or the path of an authority's certificate.
        follow_redirects: Whether to go where a planner redirects to.
        worker_id: What its process is called where it claims work; None means by host and number.
        worker_tags: What work it takes.
    """

    target: str
    catalog: str | None
    user_id: str | None
    headers: dict[str, str]
    timeout: float
    verify_ssl: bool | str
    follow_redirects: bool
    worker_id: str | None
    worker_tags: tuple[str, ...]

    @classmethod
    def of(
        cls,
        target: str | os.PathLike[str] | None,
        *,
        catalog: str | None,
        user_id: str | None,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        verify_ssl: bool | str | None,
        follow_redirects: bool,
        worker_id: str | None,
        worker_tags: Sequence[str] | None,
    ) -> Settings:
        """The arguments, and in place of those that are None what the environment says.

        Raises:
            NotFoundError: No planner is named.
            SchemaValidationError: A setting that cannot be.
        """
        said = os.environ.get
        tags: Sequence[str] = said("DELTACAT_WORKER_TAGS", "").split(",")
        if worker_tags is not None:
            tags = listed("worker_tags", worker_tags, str) or []
        return cls(
            target=_target(target),
            catalog=_text("catalog", catalog) or said("DELTACAT_CATALOG") or None,
            user_id=_text("user_id", user_id) or said("DELTACAT_USER") or None,
            headers=_headers(headers),
            timeout=_timeout(said("DELTACAT_TIMEOUT") or 30.0 if timeout is None else timeout),
            verify_ssl=_verify(said("DELTACAT_VERIFY_SSL") if verify_ssl is None else verify_ssl),
            follow_redirects=_switch("follow_redirects", follow_redirects),
            worker_id=_text("worker_id", worker_id) or said("DELTACAT_WORKER_ID") or None,
            worker_tags=tuple(tag.strip() for tag in tags if tag.strip()),
        )

    def without_secrets(self) -> Settings:
        """The same, without headers that identify a caller."""
        headers = {k: v for k, v in self.headers.items() if not _SECRET.search(k)}
        return msgspec.structs.replace(self, headers=headers)

    # Any: of each field's own type.
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What a repr tells: of headers that may identify a caller their names."""
        shown = {k: "..." if _SECRET.search(k) else v for k, v in self.headers.items()}
        fields = msgspec.structs.asdict(self) | {"headers": shown}
        return list(fields.items())

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({said})"


def _target(given: str | os.PathLike[str] | None) -> str:
    target = os.environ.get(PLANNER_ENVIRONMENT) if given is None else _path(given)
    if target is None or (given is None and not target):
        raise NotFoundError(
            f"no planner: pass a URL or a catalog's directory, or set {PLANNER_ENVIRONMENT}"
        )
    if target.startswith(("http://", "https://")):
        _check_url(target)
    if not target or "://" in target:
        return target
    if _ADDRESS.fullmatch(target) and not os.path.exists(target):
        raise SchemaValidationError(
            f"{target!r} looks like an address: write http://{target}, or ./{target} for a directory"
        )
    # A directory travels to processes that work in other ones.
    return os.path.abspath(_at_home(target))


def _at_home(path: str) -> str:
    return os.path.expanduser(path) if path.split("/", 1)[0] == "~" else path


def _check_url(target: str) -> None:
    """Refuse what looks like a URL and names no host; shows none that may hold a password."""
    told = "the planner's URL" if "@" in target else repr(target)
    try:
        parts = urlsplit(target)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise SchemaValidationError(f"{told} is no URL: {error}") from None
    if not is_whole:
        raise SchemaValidationError(f"{told} is no URL: write it like http://localhost:8080")


def _path(given: object) -> str:
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(path, str) or "\0" in path or not _is_text(path):
        raise SchemaValidationError(
            f"{shown(given)} is no planner: pass an http:// or https:// URL, or a directory"
        )
    return path


def _is_text(path: str) -> bool:
    try:
        # SQLite takes no other names.
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _timeout(given: Any) -> float:
    # Any: whatever a caller passed.
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    # More than the clock of a socket holds is no time either.
    if not 0 < seconds < 2**31:
        raise SchemaValidationError(f"timeout is {shown(given)}: give a number of seconds above 0")
    return seconds


def _verify(given: object) -> bool | str:
    if given is None or isinstance(given, bool):
        return given is not False
    said = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(said, str):
        raise SchemaValidationError(
            f"verify_ssl is {shown(given)}: give True, False, or the path of a certificate"
        )
    return _SAID.get(said.lower(), said) if said else True


def _switch(name: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise SchemaValidationError(f"{name} is {shown(given)}: give True or False")
    return given


def _text(name: str, given: object) -> str | None:
    if given is not None and not isinstance(given, str):
        # Not the value: a token may be bytes.
        raise SchemaValidationError(f"{name} is a {type(given).__name__}: give text")
    return given


def _headers(given: object) -> dict[str, str]:
    if given is not None and not isinstance(given, Mapping):
        raise SchemaValidationError(f"headers is a {type(given).__name__}: give a dictionary")
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SchemaValidationError(f"{shown(name)} cannot be the name of a header")
        _value(f"the header {name}", value)
    return dict(given or {})


def _value(name: str, given: object) -> str:
    """What can travel in a header; the refusal does not show it, which may be a secret."""
    if not isinstance(given, str) or not _VALUE.fullmatch(given):
        raise SchemaValidationError(
            f"{name} cannot travel in a header: give printable ASCII, without a space or a newline at "
            "either end"
        )
    return given


def headers_of(settings: Settings, bearer_token: str | None) -> dict[str, str]:
    """What a client of these settings, and of this token, sends with every request.

    Raises:
        SchemaValidationError: One cannot be sent; shows no value, which may be a secret.
    """
    sent = dict(settings.headers)
    token = _text("bearer_token", bearer_token) or os.environ.get(TOKEN_ENVIRONMENT)
    if token:
        sent["Authorization"] = f"Bearer {_value('bearer_token', token)}"
    if settings.user_id:
        sent["x-deltacat-user"] = _value("user_id", settings.user_id)
    return sent
