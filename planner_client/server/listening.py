"""How does the server listen? With uvicorn, with bounds where uvicorn has none."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from planner_client.server.app import App

__all__ = ["MAX_HEAD_BYTES", "SILENCE_S", "BoundedHeads", "configured"]

# The longest URL that the published clients send is 64 KiB.
MAX_HEAD_BYTES = 128 * 2**10
# Long enough for a large commit; what is not acknowledged by then is cut off.
_PATIENCE_S = 60
# Longer than clients pause between calls, so that they find their connections open.
_KEEP_ALIVE_S = 75
# How long a caller may pause in the middle of a request.
SILENCE_S = 60.0
# For a caller to read what it was sent last.
_LINGER_S = 1.0


def _refusal(status: bytes, code: str, message: str) -> bytes:
    """A whole answer in the protocol's envelope, to what never became a request."""
    error = {"code": code, "message": message, "retryable": False, "details": {}}
    # Nothing names the request: its headers were not read.
    body = msgspec.json.encode({"error": {**error, "request_id": secrets.token_hex(16)}})
    return (
        b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b"
    ) % (status, len(body), body)


def configured(
    app: App,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
) -> uvicorn.Config:
    """What uvicorn needs to know; it logs through `logging`, as that is set up."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedHeads,
        ws="none",
        lifespan="on",
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_PATIENCE_S,
    )


class BoundedHeads(HttpToolsProtocol):
    """A connection whose requests' heads, URL and headers together, have a bound; and its end, too.

    The parser collects a head until it is whole, so one without end would fill the memory. A caller
    that falls silent in the middle of a request would hold the connection for ever.
    """

    _in_head = False
    _head_bytes = 0
    _refused = False
    # From the start, and from each request's first byte, until the request is whole.
    _in_request = True
    _heard_s = 0.0
    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self._heard_s = self.loop.time()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._watching is not None:
            self._watching.cancel()

    def on_message_begin(self) -> None:
        """Start counting with what comes next."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._in_request = True

    def on_message_complete(self) -> None:
        """From here on the caller waits for us."""
        self._in_request = False
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Stop counting."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse `data`; give up on a head that is too long."""
        if self._refused:
            return
        self._heard_s = self.loop.time()
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                b"431 Request Header Fields Too Large",
                "request_too_large",
                f"URL and headers are longer than {MAX_HEAD_BYTES} bytes: "
                "send a long predicate in the body",
            )

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not take for HTTP."""
        self._refuse(b"400 Bad Request", "invalid_request", f"{msg} Send HTTP/1.1.")

    def shutdown(self) -> None:
        """Close, once no request is under way."""
        super().shutdown()
        if self.scheme == "https":
            # TLS has the other side agree to the end, which one that is idle does half a minute late.
            self.loop.call_later(_LINGER_S, self._cut)

    def _last(self) -> RequestResponseCycle | None:
        """The last request; before the first there is none, whatever uvicorn's annotation says."""
        return self.cycle

    def _watch(self) -> None:
        """Close where a request does not go on, unless an earlier one is still being answered."""
        silent_s = self.loop.time() - self._heard_s if self._in_request else 0.0
        last = self._last()
        answering = last is not None and not last.response_complete and not last.more_body
        if silent_s >= SILENCE_S and not answering:
            self.transport.close()
            return
        wait_s = max(SILENCE_S - silent_s, _LINGER_S)
        self._watching = self.loop.call_later(wait_s, self._watch)

    def _cut(self) -> None:
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _refuse(self, status: bytes, code: str, message: str) -> None:
        self._refused = True
        self.transport.write(_refusal(status, code, message))
        last = self._last()
        if last is not None and not last.response_complete:
            # After this nothing more can be written.
            last.disconnected = True
            last.message_event.set()
        # Closed at once, what the caller still sends would make it lose the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
