"""How do tests cut a connection at a chosen place? A proxy on loopback between client and server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["POINTS", "Cut", "Point", "cutting"]

Point = Literal["before", "in request", "after", "in answer"]
# Where a connection breaks: before a request arrives, in its middle, after it was carried out, and in
# the middle of its answer.
POINTS: tuple[Point, ...] = ("before", "in request", "after", "in answer")


class Cut:
    """What the proxy does; tests change it while it runs.

    Attributes:
        url: Where the proxy listens.
        asked: What came, as `METHOD /path`, each attempt of it.
        first: The number of the first request that is cut; None for none.
        times: How many are cut from there on.
        point: Where.
        alike: Whether only requests like the first one are cut.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.first: int | None = None
        self.times = 0
        self.point: Point = "before"
        self.alike = False
        self._lock = threading.Lock()

    def at(self, first: int | None, times: int, point: Point, *, alike: bool = False) -> None:
        """Begin anew: count from here on, and cut there."""
        with self._lock:
            self.asked, self.first, self.times = [], first, times
            self.point, self.alike = point, alike

    def decide(self, request: str) -> Point | None:
        """Where to cut a request that came; None for nowhere."""
        with self._lock:
            number = len(self.asked)
            self.asked.append(request)
            if self.first is None or number < self.first or self.times <= 0:
                return None
            if self.alike and request != self.asked[self.first]:
                return None
            self.times -= 1
            return self.point


@contextlib.contextmanager
def cutting(url: str) -> Iterator[Cut]:
    """A proxy in front of a server."""
    target = urlsplit(url)
    assert target.hostname is not None
    address = (target.hostname, target.port)

    class Handler(socketserver.BaseRequestHandler):
        """One connection of a client."""

        def handle(self) -> None:
            """Pass requests on, until one is cut."""
            with contextlib.suppress(OSError):
                _serve(self.request, address, cut)

    class Server(socketserver.ThreadingTCPServer):
        """Ends with its last connection."""

        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        cut = Cut(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield cut
        finally:
            server.shutdown()
            thread.join()


def _serve(client: socket.socket, address: tuple[str, int | None], cut: Cut) -> None:
    with socket.create_connection(address) as server:
        while request := _message(client):
            line = request.split(b"\r\n", 1)[0].decode().rsplit(" ", 1)[0].partition("?")[0]
            point = cut.decide(line)
            if point == "before":
                return
            if point == "in request":
                server.sendall(request[: len(request) // 2])
                return
            server.sendall(request)
            answer = _message(server)
            if point == "after":
                return
            if point == "in answer":
                client.sendall(answer[: len(answer) - 5])
                return
            client.sendall(answer)


def _message(source: socket.socket) -> bytes:
    """One whole request or answer; nothing where the other end is closed."""
    held = b""
    while b"\r\n\r\n" not in held:
        piece = source.recv(65536)
        if not piece:
            return b""
        held += piece
    head, _, body = held.partition(b"\r\n\r\n")
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
    length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
    while len(body) < length:
        piece = source.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body
