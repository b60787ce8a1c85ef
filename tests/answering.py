"""How do tests see what a client sends? A server on loopback that gives the answers it is told to."""

from __future__ import annotations

import contextlib
import http.server
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Answer", "Answered", "answering"]

# Status, headers and body.
Answered = tuple[int, dict[str, str], bytes]


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as a test says, and keeps what it was asked: the headers, `:path` and `:body`."""

    answers: list[Answered]
    seen: list[dict[str, str]]

    def do_GET(self) -> None:  # the base class's name
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append({**self.headers, ":path": self.path, ":body": body.decode()})
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the base class's name

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def answering(
    *answers: Answered,
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server of another kind: gives these answers in turn, the last one for ever."""
    seen: list[dict[str, str]] = []
    handler = type("Handler", (Answer,), {"answers": list(answers), "seen": seen})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()
