"""Which clients of a process share a planner? Those of one directory: what it learnt is learnt once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakSet

from io_core.storage import local_path
from planner_client.server.places import names_store
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.store import FORMAT_VERSION, LEDGER

if TYPE_CHECKING:
    from planner_client.protocol.endpoint import Endpoint, Request

__all__ = ["SharedPlanner"]

Res = TypeVar("Res")

# Directories whose planners are kept although nobody has a client of them just now.
_MOST_KEPT = 4


class _Opened(NamedTuple):
    """A planner, the file that was its ledger when it was opened, and whose clients use it."""

    planner: EmbeddedPlanner
    ledger: tuple[int, int]
    users: WeakSet[SharedPlanner]


# By directory, the one opened last at the end. No lock, which a forked child could find taken: of two
# threads that open a directory at once each has a planner of its own.
_OPENED: dict[str, _Opened] = {}


class SharedPlanner:
    """One client's part of the planner of a directory. Threads share it, and forked children.

    A planner whose data is in a store is its client's alone: it holds keys of the environment that the
    client was made in.

    Args:
        root: The catalog's directory.
        create: Make a catalog there if the directory is absent or empty.

    Raises:
        CatalogRootError: No catalog there, or one that this release must not open.
    """

    def __init__(self, root: str, *, create: bool) -> None:
        self._root = os.path.realpath(local_path(root))
        self._held = _known(self._root) or _opened(self._root, create=create)
        self._held.users.add(self)

    def call(self, endpoint: Endpoint[Any, Res], request: Request) -> Res:
        """Run one call of the protocol; see `EmbeddedPlanner.call`."""
        return self._held.planner.call(endpoint, request)

    def close(self) -> None:
        """Leave the planner; the last one closes its connections. It stays usable."""
        held = self._held
        held.users.discard(self)
        if not held.users:
            if _OPENED.get(self._root) is held:
                del _OPENED[self._root]
            held.planner.close()


def _known(root: str) -> _Opened | None:
    """The planner of a directory, if that is the catalog that it was opened for."""
    found = _OPENED.get(root)
    # The planner has the ledger open: no other file can be of its number.
    if found is None or found.ledger != _number(root):
        return None
    with found.planner.store.read() as db:
        # Somebody may have upgraded it since, or said that its data is to be in a store.
        is_same = db.pragma("user_version") == FORMAT_VERSION and not names_store(db)
    return found if is_same else None


def _opened(root: str, *, create: bool) -> _Opened:
    planner = EmbeddedPlanner(root, create=create)
    found = _Opened(planner, _number(root), WeakSet())
    if planner.place is None:
        _OPENED.pop(root, None)
        _OPENED[root] = found
        for oldest in list(_OPENED)[:-_MOST_KEPT]:
            _OPENED.pop(oldest, None)
    return found


def _number(root: str) -> tuple[int, int]:
    """What tells the ledger from any other file that is there at the time."""
    try:
        found = os.stat(os.path.join(root, LEDGER))
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino
