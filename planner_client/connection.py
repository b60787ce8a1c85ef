"""How does a request get to a planner behind a URL, at what is least of `requests`' cost?

What never changes between requests to one planner is found out once: the connection pool, how its
certificate is checked, whether a proxy stands between. `requests.Session` finds all of it anew for each.
What is rare, redirects, cookies and refusals, is left to it.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Connection", "connection"]


class _Answer(requests.Response):
    """An answer whose body is read in one piece, which `requests` puts together of 10 KB each."""

    @functools.cached_property
    def content(self) -> bytes:
        """The body, decompressed."""
        return b"".join(self.iter_content(None))


class _OneHost(HTTPAdapter):
    """Sends to one planner; everything that depends on its address alone is kept.

    Args:
        url: The planner's base URL.
        settings: As `requests` has them; those of each request are the same.
    """

    # Any, here and below: requests' own untyped arguments and urllib3's answers.
    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        super().__init__()
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._is_direct = select_proxy(url, settings["proxies"]) is None
        self._pool: Any = None
        self._checked: Any = None

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """The pool of the planner's connections."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(
                request, verify, proxies=proxies, cert=cert
            )
        return self._pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Tell a pool how to check certificates, once."""
        if self._checked is not conn:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]  # in its stubs
            self._checked = conn

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """What the request line says: all but the planner's address, unless to a proxy."""
        url = request.url or ""
        if self._is_direct and url.startswith(f"{self._origin}/"):
            return url.removeprefix(self._origin)
        return super().request_url(request, proxies)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The answer; one that is no plain success is for `requests` to understand."""
        if resp.status != requests.codes.ok or "Set-Cookie" in resp.headers:
            return super().build_response(req, resp)
        found = _Answer()
        found.status_code = resp.status
        found.headers = CaseInsensitiveDict(resp.headers)
        found.raw = resp
        found.url = req.url or ""
        found.request = req
        return found

    def close(self) -> None:
        """Close the connections; a request that comes after makes new ones."""
        self._pool = self._checked = None
        super().close()


class Connection(NamedTuple):
    """A connection of one process, and what all its requests share.

    Attributes:
        pid: The process.
        session: Sends what is not as usual; closing it closes the connection.
        settings: The environment's.
        blank: A request to the planner's base URL, with the headers of all.
        adapter: Sends to the planner.
    """

    pid: int
    session: requests.Session
    settings: dict[str, Any]  # Any: keyword arguments of requests
    blank: requests.PreparedRequest
    adapter: HTTPAdapter

    def prepared(
        self, method: str, place: str, headers: Mapping[str, str], body: bytes | None
    ) -> requests.PreparedRequest:
        """A request; to prepare each from scratch would take a third of what sending it does."""
        found = self.blank.copy()
        found.method = method
        found.url = f"{(found.url or '').rstrip('/')}{place}"
        found.headers.update(headers)
        if self.session.cookies:
            # A proxy's, that keeps a client with one planner.
            found.prepare_cookies(self.session.cookies)
        if body is not None:
            found.body = body
            found.headers["Content-Length"] = str(len(body))
        return found

    def send(
        self, request: requests.PreparedRequest, *, timeout_s: float, follow_redirects: bool
    ) -> requests.Response:
        """Send a request and take its whole answer.

        Raises:
            requests.RequestException: There is none.
        """
        options = {**self.settings, "timeout": timeout_s}
        answer = self.adapter.send(request, **options)
        if "Set-Cookie" in answer.headers:
            self.session.cookies.update(answer.cookies)
        if follow_redirects and answer.is_redirect:
            for followed in self.session.resolve_redirects(answer, request, **options):
                answer = followed
        # Read now, while the connection is this call's alone.
        _ = answer.content
        return answer


def connection(url: str, headers: Mapping[str, str], *, verify: bool | str) -> Connection:
    """A new connection to a planner, which it makes with the first request.

    Args:
        url: The planner's base URL.
        headers: Sent with every request.
        verify: Whether to check TLS certificates, or the path of an authority's certificate.
    """
    session = requests.Session()
    session.headers.update(headers)
    # Asked once: for every request it would cost a third of it. And a .netrc would take the place of
    # the token.
    settings = dict(session.merge_environment_settings(url, {}, None, verify, None))
    session.trust_env = False
    blank = session.prepare_request(requests.Request("GET", url))
    address = (blank.url or url).rstrip("/")
    adapter = _OneHost(address, settings)
    # With the slash: another port of the host is another address.
    session.mount(f"{address}/", adapter)
    return Connection(os.getpid(), session, settings, blank, adapter)
