"""What does the application refuse for its size? Bodies, nesting, plans as JSON, and crowds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from io_core.errors import RequestRejectedError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_BODY_BYTES", "MAX_NESTING", "Limits", "check_nesting"]

MAX_BODY_BYTES = 256 * 2**20
# Of objects and lists in a body. What is stored is encoded again below other frames, so that
# nesting as deep as the interpreter can just read could not be sent back.
MAX_NESTING = 200

_BRACKETS = b"{}[]"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"{[")] = 1
_STEPS[list(b"}]")] = -1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one request, and all of them at once, may take.

    Attributes:
        max_body_bytes: Of a request.
        max_json_files: In a plan as JSON; longer ones have to be asked for in pages, or as Arrow.
        threads: Calls that are run at once.
        max_waiting: Calls that may wait for one of the threads; what comes on top is told to
            come again.
    """

    max_body_bytes: int = MAX_BODY_BYTES
    max_json_files: int = 200_000
    threads: int = 16
    max_waiting: int = 1000


def check_nesting(body: bytes) -> None:
    """Raise unless a JSON body's objects and lists nest less than 200 deep.

    Raises:
        RequestRejectedError: They nest deeper.
    """
    if body.count(b"{") + body.count(b"[") <= MAX_NESTING:
        return
    # Brackets in strings count too here: a bound, told in a fraction of the time that parsing takes.
    steps = _STEPS[np.frombuffer(body.translate(None, _OTHERS), np.uint8)]
    deepest = int(np.cumsum(steps, dtype=np.int64).max())
    if deepest > MAX_NESTING and _nests_deeper(body):
        raise RequestRejectedError(
            f"the body's objects and lists nest deeper than {MAX_NESTING} levels: flatten it",
            code="invalid_request",
        )


def _nests_deeper(body: bytes) -> bool:
    try:
        level: list[Any] = [msgspec.json.decode(body)]
    except RecursionError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False  # refused where the request is decoded, with the place
    for _ in range(MAX_NESTING + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


# Any: whatever JSON holds.
def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
