"""What does a client ask of a planner? A proxy on loopback that writes down every request."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.compat.calls import CASE_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Asked", "recording"]

# Of the connection, not of the call.
_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}


class Asked(NamedTuple):
    """One request as it came: the query's values as text, the body as JSON."""

    case: str
    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]  # Any: JSON
    headers: dict[str, str]


class _Proxy(http.server.BaseHTTPRequestHandler):
    target: str
    asked: list[Asked]

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k.lower(): v for k, v in self.headers.items() if k.lower() not in _HOP}
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        parsed = json.loads(body) if body else {}
        case = headers.pop(CASE_HEADER)
        self.asked.append(Asked(case, str(self.command), url.path, query, parsed, headers))
        connection = http.client.HTTPConnection(self.target)
        connection.request(str(self.command), self.path, body, headers)
        answer = connection.getresponse()
        held = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(held)))
        self.end_headers()
        self.wfile.write(held)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass_on  # noqa: N815  # the base class's names

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def recording(url: str) -> Iterator[tuple[str, list[Asked]]]:
    """A proxy before the planner at a URL: its own URL, and what it was asked so far."""
    asked: list[Asked] = []
    fields = {"target": urlsplit(url).netloc, "asked": asked}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("P", (_Proxy,), fields)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
