"""Which keys open a store right now? They are renewed before they expire, once for all who need them.

Keys stay in the memory of the process that got them. `Keys` and `Credentials` show none in a repr,
and neither pickles: what travels is a name and a way to get keys, and the process that receives it
asks for its own, by its own right.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Protocol

from io_core.errors import CredentialsError, DeltaCATError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Credentials", "Keys", "Refresh", "renew", "shared"]

# Keys are renewed when a fifth of their time is left, but not earlier than this before their end.
_EARLIEST_NS = 300 * 10**9
# How long to go on with valid keys after an attempt to renew them failed.
_PAUSE_NS = 10 * 10**9
# Of how many plans and write sessions the ways to get new keys are remembered.
_MOST_WAYS = 16


class Keys:
    """What a store takes a caller for. Shows nothing of it in a repr, and does not pickle.

    Attributes:
        access_key_id: Whose.
        secret_access_key: What proves it.
        session_token: What goes with keys that expire.
        expires_at_ns: When they do, in nanoseconds since the epoch; None for never.
    """

    __slots__ = ("access_key_id", "expires_at_ns", "secret_access_key", "session_token")

    def __init__(
        self,
        access_key_id: str,
        secret_access_key: str,
        session_token: str | None = None,
        expires_at_ns: int | None = None,
    ) -> None:
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.session_token = session_token
        self.expires_at_ns = expires_at_ns

    def __repr__(self) -> str:
        return f"Keys(expires_at_ns={self.expires_at_ns})"

    def __reduce__(self) -> str:
        raise TypeError("keys do not pickle: each process asks for its own")


class Refresh(Protocol):
    """How to get new keys; pickles where the credentials are to travel."""

    def __call__(self) -> Keys:
        """Keys that are valid for a while. May take as long as a request."""


class Credentials:
    """Keys that renew themselves. Threads and forked children share it; it does not pickle.

    Args:
        name: Which keys, in any process: `shared` knows them by it.
        refresh: Gets new ones; called by one thread at a time.
        keys: Those at hand, if any.
        clock_ns: The time, in nanoseconds since the epoch.

    Example:
        >>> credentials = Credentials("mine", lambda: Keys("id", "secret"))
        >>> credentials.current().access_key_id
        'id'
        >>> credentials
        Credentials('mine')
    """

    def __init__(
        self,
        name: str,
        refresh: Refresh,
        *,
        keys: Keys | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self._ways = [refresh]
        self._keys = keys
        self._clock_ns = clock_ns
        self._lifetime_ns = _lifetime_ns(keys, clock_ns())
        self._not_before_ns = 0
        self._begin()

    def _begin(self) -> None:
        # Locks alone, which an interrupt never leaves behind: a condition's may stay taken.
        self._guard = threading.Lock()
        self._renewal = threading.Lock()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Credentials({self.name!r})"

    def __reduce__(self) -> str:
        raise TypeError("credentials do not pickle: each process asks for its own")

    def offer(self, refresh: Refresh, keys: Keys | None = None) -> None:
        """Remember a way to get keys, to be tried first, and take what came by it if it lasts longer.

        Whatever the other ways were for may be over by now: a write session, a table.
        """
        self._settle()
        with self._guard:
            if self._ways[-1] != refresh:
                others = [way for way in self._ways if way != refresh]
                self._ways = [*others, refresh][-_MOST_WAYS:]
        if keys is not None:
            self.accept(keys)

    def accept(self, keys: Keys) -> None:
        """Take keys that came unasked, if they last longer."""
        self._settle()
        with self._guard:
            if self._keys is None or _end(keys) >= _end(self._keys):
                self._take(keys)

    def current(self) -> Keys:
        """Keys that are valid now. While one thread renews them, others go on with what is valid.

        Raises:
            CredentialsError: There are none, and no new ones can be had.
        """
        self._settle()
        keys, now_ns = self._keys, self._clock_ns()
        valid = keys is not None and _end(keys) > now_ns
        if keys is not None and valid and (self._renewal.locked() or not self._is_due(now_ns)):
            return keys
        with self._renewal:
            keys, now_ns = self._keys, self._clock_ns()
            if keys is not None and _end(keys) > now_ns and not self._is_due(now_ns):
                return keys
            return self._renewed()

    def _renewed(self) -> Keys:
        found: Keys | None = None
        problem: Exception | None = None
        try:
            found, problem = _first(self._ways[::-1])
        finally:
            with self._guard:
                if found is not None:
                    self._take(found)
                self._not_before_ns = self._clock_ns() + _PAUSE_NS
                held = self._keys
        if held is None or _end(held) <= self._clock_ns():
            said = "they had expired when they came" if problem is None else str(problem)
            raise CredentialsError(
                f"no valid credentials for {self.name}: {said}; ask whoever runs the planner"
            ) from problem
        return held

    def _take(self, keys: Keys) -> None:
        self._keys = keys
        self._lifetime_ns = _lifetime_ns(keys, self._clock_ns())
        self._not_before_ns = 0

    def _is_due(self, now_ns: int) -> bool:
        if self._keys is None or self._keys.expires_at_ns is None or now_ns < self._not_before_ns:
            return False
        return self._keys.expires_at_ns - now_ns <= min(_EARLIEST_NS, self._lifetime_ns // 5)

    def _settle(self) -> None:
        if self._pid != os.getpid():
            # A thread of the parent may have held the old ones for ever.
            self._begin()


def _first(ways: list[Refresh]) -> tuple[Keys | None, Exception | None]:
    """Keys by the first way that leads to some; else why the first of all did not."""
    problem: Exception | None = None
    for way in ways:
        try:
            return way(), None
        except (DeltaCATError, OSError) as error:
            problem = problem or error
    return None, problem


def _end(keys: Keys) -> float:
    return float("inf") if keys.expires_at_ns is None else keys.expires_at_ns


def _lifetime_ns(keys: Keys | None, now_ns: int) -> int:
    if keys is None or keys.expires_at_ns is None:
        return 0
    return max(0, keys.expires_at_ns - now_ns)


_SHARED: dict[str, Credentials] = {}
# Each holds its ways to new keys, and they hold a planner, which a process that opens many should not keep.
_MOST_SHARED = 128


def shared(name: str, refresh: Refresh, keys: Keys | None = None) -> Credentials:
    """This process's credentials of a name, which all of its readers and writers share.

    Those of many later names let them go: whoever has them goes on with them.

    Args:
        name: Which keys.
        refresh: Gets new ones.
        keys: What just came, if anything did.
    """
    # One step of the interpreter: of two threads that find none, one makes it.
    found = _SHARED.get(name) or _SHARED.setdefault(name, Credentials(name, refresh, keys=keys))
    found.offer(refresh, keys)
    for oldest in list(_SHARED)[:-_MOST_SHARED]:
        _SHARED.pop(oldest, None)
    return found


def renew(name: str, keys: Keys) -> None:
    """Give keys that came unasked to those of this process who use them; nobody else needs them."""
    found = _SHARED.get(name)
    if found is not None:
        found.accept(keys)
