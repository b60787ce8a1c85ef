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
from typing import TYPE_CHECKING

import msgspec

from io_core.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PLANNER_ENVIRONMENT", "TOKEN_ENVIRONMENT", "Settings"]

PLANNER_ENVIRONMENT = "DELTACAT_PLANNER"
TOKEN_ENVIRONMENT = "DELTACAT_TOKEN"  # noqa: S105  # a variable's name
_SAID = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

# Headers that identify a caller; they do not travel in a pickle.
_SECRET = ("authorization", "cookie", "proxy-authorization")


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
            ValueError: A setting that cannot be.
        """
        said = os.environ.get
        tags = said("DELTACAT_WORKER_TAGS", "").split(",") if worker_tags is None else worker_tags
        return cls(
            target=_target(target),
            catalog=catalog or said("DELTACAT_CATALOG") or None,
            user_id=user_id or said("DELTACAT_USER") or None,
            headers=dict(headers or {}),
            timeout=_timeout(said("DELTACAT_TIMEOUT") or 30.0 if timeout is None else timeout),
            verify_ssl=_verify(said("DELTACAT_VERIFY_SSL")) if verify_ssl is None else verify_ssl,
            follow_redirects=follow_redirects,
            worker_id=worker_id or said("DELTACAT_WORKER_ID") or None,
            worker_tags=tuple(tag.strip() for tag in tags if tag.strip()),
        )

    def without_secrets(self) -> Settings:
        """The same, without headers that identify a caller."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _SECRET}
        return msgspec.structs.replace(self, headers=headers)


def _target(given: str | os.PathLike[str] | None) -> str:
    target = os.environ.get(PLANNER_ENVIRONMENT) if given is None else os.fspath(given)
    if target is None or (given is None and not target):
        raise NotFoundError(
            f"no planner: pass a URL or a catalog's directory, or set {PLANNER_ENVIRONMENT}"
        )
    # A directory travels to processes that work in other ones.
    return os.path.abspath(target) if target and "://" not in target else target


def _timeout(given: float | str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"timeout is {given!r}: give a number of seconds above 0")
    return seconds


def _verify(text: str | None) -> bool | str:
    return True if not text else _SAID.get(text.lower(), text)
