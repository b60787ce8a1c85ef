"""What does the server write down? One line a request and one an event, as text or as JSON.

A line holds no header, no body, no path and no query: names of tables and tokens stay out of it.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["LOGGER", "RequestLog", "Served", "set_up_logging"]

Format = Literal["text", "json"]

LOGGER = logging.getLogger("planner_client.server")


class Served(NamedTuple):
    """One request as the log and the metrics tell of it."""

    request_id: str
    caller: str | None
    endpoint: str
    status: int
    seconds: float
    size_bytes: int


class RequestLog:
    """Writes a line for each request served. For the event loop's thread alone.

    Args:
        form: `text` for people, `json` for machines.
        stream: Where to.
    """

    def __init__(self, form: Format = "text", stream: TextIO = sys.stderr) -> None:
        self._form = form
        self._stream = stream

    def write(self, served: Served) -> None:
        """Write one line."""
        milliseconds = round(served.seconds * 1e3, 3)
        if self._form == "text":
            line = (
                f"{_now()} INFO {served.endpoint} {served.status} {milliseconds} ms "
                f"{served.size_bytes} B caller={served.caller or '-'} id={served.request_id}\n"
            )
        else:
            line = _json(
                {
                    "time": _now(),
                    "level": "info",
                    "request_id": served.request_id,
                    "caller": served.caller,
                    "endpoint": served.endpoint,
                    "status": served.status,
                    "ms": milliseconds,
                    "bytes": served.size_bytes,
                }
            )
        self._stream.write(line)
        self._stream.flush()


class _JsonLines(logging.Formatter):
    """Events as JSON, one line each."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _now(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _json(fields).rstrip("\n")


class _TextLines(logging.Formatter):
    """Events as text; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_now()} {super().format(record)}"


def set_up_logging(form: Format, stream: TextIO = sys.stderr) -> RequestLog:
    """Send the server's events to `stream`, and return what writes down its requests."""
    handler = logging.StreamHandler(stream)
    text = _TextLines("%(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    return RequestLog(form, stream)


def _json(fields: dict[str, object]) -> str:
    return msgspec.json.encode(fields).decode() + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
