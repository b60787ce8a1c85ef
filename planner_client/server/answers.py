"""What goes back over HTTP? Results as JSON or Arrow, refusals in their envelope, compressed if asked."""

from __future__ import annotations

import functools
import re
import secrets
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import pyarrow as pa

from io_core.errors import DeltaCATError, RequestRejectedError, UnsupportedError
from io_core.plan import ReadPlan, plan_to_wire
from planner_client.protocol.endpoint import NEXT_PAGE, Page
from planner_client.protocol.plans import ARROW_STREAM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner_client.protocol.endpoint import Endpoint

__all__ = ["Answer", "Asked", "answer_of", "refusal", "request_id_of"]

JSON = "application/json"
Coding = Literal["gzip", "zstd"]

# Smaller bodies fit a few packets: compressing them costs more than it saves.
_WORTH_COMPRESSING = 4096
# Paths of files repeat each other: the fastest level already takes most of it.
_LEVEL = 1
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RETRY_STATUS = frozenset({429, 503, 504})
_BUILD = ("x-deltacat-server-build-id", version("deltacat-sources"))


class Asked(NamedTuple):
    """What a request says about its answer.

    Attributes:
        accept: Media types, as the header has them.
        accept_encoding: Codings of the content, as the header has them.
        max_json_files: How many files a plan may list as JSON.
    """

    accept: str
    accept_encoding: str
    max_json_files: int


class Answer(NamedTuple):
    """A status, a body, and headers beside the usual ones."""

    status: int
    body: bytes
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """All of its headers, as ASGI has them."""
        usual = (
            ("content-type", self.media_type),
            ("content-length", str(len(self.body))),
            ("x-request-id", request_id),
            _BUILD,
        )
        return [(n.encode("latin-1"), v.encode("latin-1")) for n, v in (*usual, *self.headers)]


def request_id_of(headers: Mapping[str, str]) -> str:
    """The id that the caller gave the request, if it is short and plain; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


# Any: each endpoint has its own request and response.
def answer_of(endpoint: Endpoint[Any, Any], result: Any, asked: Asked) -> Answer:
    """Encode what an endpoint's handler returned.

    Raises:
        RequestRejectedError: A plan of more files than one may get as JSON.
        UnsupportedError: A plan as JSON of files that call columns by other names than the table.
    """
    if not isinstance(result, ReadPlan):
        token = result.next_token if isinstance(result, Page) else None
        headers = () if token is None else ((NEXT_PAGE, token),)
        return _compressed(
            Answer(endpoint.status, msgspec.json.encode(result), JSON, headers), asked
        )
    if ARROW_STREAM in asked.accept:
        return _compressed(Answer(endpoint.status, result.encoded_arrow, ARROW_STREAM), asked)
    files = result.files.num_rows
    if files > asked.max_json_files:
        raise RequestRejectedError(
            f"the plan lists {files:,} files; as JSON one answer holds at most "
            f"{asked.max_json_files:,}: ask for pages with max_files, narrow the predicate, or "
            f"accept {ARROW_STREAM}",
            code="plan_too_large",
            status=413,
            details={"files": files, "max_files": asked.max_json_files},
        )
    if result.has_other_names:
        # Clients that know JSON alone match columns by name: they would find null, and never know.
        raise UnsupportedError(
            f"a column of {result.header.namespace}.{result.header.table} was renamed, and older files "
            f"have it under its former name: read it with a client that accepts {ARROW_STREAM}"
        )
    return _compressed(Answer(endpoint.status, plan_to_wire(result)), asked)


def refusal(error: DeltaCATError, request_id: str) -> Answer:
    """Put an error into the protocol's envelope."""
    rejected = error if isinstance(error, RequestRejectedError) else None
    repeats = error.status in _RETRY_STATUS
    envelope = {
        "error": {
            "code": error.code,
            "message": str(error),
            "retryable": repeats or (rejected is not None and rejected.retryable),
            "details": error.details,
            "request_id": request_id,
        }
    }
    headers: list[tuple[str, str]] = []
    wait_s = rejected.retry_after_s if rejected else None
    if repeats or wait_s is not None:
        headers.append(("retry-after", str(max(1, round(wait_s or 1)))))
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    methods = error.details.get("methods")
    if error.status == 405 and isinstance(methods, list):
        headers.append(("allow", ", ".join(methods)))
    return Answer(error.status, msgspec.json.encode(envelope), JSON, tuple(headers))


def _compressed(answer: Answer, asked: Asked) -> Answer:
    if not asked.accept_encoding or len(answer.body) < _WORTH_COMPRESSING:
        return answer
    coding, only = _coding(asked.accept_encoding)
    # An Arrow stream is compressed inside: again only for callers that ask for zstd and nothing else.
    if coding is None or (answer.media_type == ARROW_STREAM and not (only and coding == "zstd")):
        return answer
    packed = pa.Codec(coding, compression_level=_LEVEL).compress(answer.body, asbytes=True)
    headers = (*answer.headers, ("content-encoding", coding), ("vary", "accept-encoding"))
    return answer._replace(body=packed, headers=headers)


@functools.lru_cache(maxsize=256)
def _coding(accept: str) -> tuple[Coding | None, bool]:
    """Which of our codings a header accepts, zstd before gzip, and whether it names only one."""
    found: dict[str, bool] = {}
    for part in accept.lower().split(","):
        name, *parameters = part.replace(" ", "").split(";")
        found[name] = not any(re.fullmatch(r"q=0(\.0*)?", p) for p in parameters)
    wanted = [name for name, accepted in found.items() if accepted and name != "identity"]
    everything = "*" in wanted
    if "zstd" in wanted:
        return "zstd", len(wanted) == 1
    if "gzip" in wanted or (everything and "gzip" not in found):
        return "gzip", False
    return None, False
