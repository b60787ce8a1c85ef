"""What does one of several processes do that append at once? Waits for its turn, appends, counts.

`python -m benchmarks.commit_process SIDE PLACE FIRST_KEY COUNT commit|append` commits a key of its own,
so that all is imported, prints a line when it is ready, reads a line when all are, and prints what became
of its keys as JSON.
"""

from __future__ import annotations

import collections
import logging
import sys
import time

import msgspec

from benchmarks.commit_sides import SIDES

__all__ = ["WARM_UP", "Outcome"]

# Keys from here on are the first of each process, and do not count.
WARM_UP = 10**6


class Outcome(msgspec.Struct, frozen=True):
    """What one process did: its keys that were acknowledged, why others failed, and when it was."""

    acknowledged: list[int]
    failures: dict[str, int]
    began_s: float
    ended_s: float


def _main(name: str, place: str, first: str, count: str, kind: str) -> None:
    # Peers say on standard error what they try again.
    logging.disable()
    side = next(side for side in SIDES if side.name == name)
    handle = side.open(place)
    keys = range(int(first), int(first) + int(count))
    side.append(handle, WARM_UP + keys.start)
    prepared = {} if kind == "append" else {key: side.prepare(handle, key) for key in keys}
    print("ready", flush=True)
    sys.stdin.readline()
    acknowledged, failures = [], collections.Counter[str]()
    began = time.time()
    for key in keys:
        try:
            if kind == "append":
                side.append(handle, key)
            else:
                side.commit(handle, prepared[key])
            acknowledged.append(key)
        except Exception as error:  # noqa: BLE001  # each peer has errors of its own
            failures[f"{type(error).__name__}: {error}"[:160]] += 1
    outcome = Outcome(acknowledged, dict(failures), began, time.time())
    print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
