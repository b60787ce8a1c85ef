"""Which plans need not be asked for again? Those of one snapshot, while their files are promised."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.plan import ReadPlan
    from planner_client.protocol.plans import PlanRequest

__all__ = ["RememberedPlans"]

_MOST_PLANS = 64
_MOST_BYTES = 32 * 2**20
# One that takes more of it is not kept: it would be all there is.
_LARGEST_PART = 4


class RememberedPlans:
    """A client's latest small plans, by what was asked. Threads share it.

    What a table's snapshot holds never changes, so that a question about it has one answer. Kept are
    plans until their files are no longer promised; none that brings keys to a store, and none of rows
    that merge, since a later plan of the same snapshot may know which of them are dead.
    """

    def __init__(self) -> None:
        self._plans: dict[bytes, _Kept] = {}

    def of(self, request: PlanRequest, ask: Callable[[PlanRequest], ReadPlan]) -> ReadPlan:
        """The answer to a question, asked where it is not known.

        Args:
            request: The question; remembered only where it names its snapshot.
            ask: Sends it.
        """
        if request.snapshot is None:
            return ask(request)
        question = msgspec.json.encode(request)
        # Taken out and put back: the oldest stand first.
        known = self._plans.pop(question, None)
        if known is not None and _is_promised(known.plan):
            self._plans[question] = known
            return known.plan
        plan = ask(request)
        found = _Kept(plan, plan.files.nbytes)
        if found.size <= _MOST_BYTES // _LARGEST_PART and _is_promised(plan) and _is_plain(plan):
            self._plans[question] = found
            self._trim()
        return plan

    def _trim(self) -> None:
        """Let the oldest go, so that they are few and small together."""
        size = 0
        for count, (question, kept) in enumerate(reversed(list(self._plans.items())), start=1):
            size += kept.size
            if count > _MOST_PLANS or size > _MOST_BYTES:
                self._plans.pop(question, None)


class _Kept(NamedTuple):
    """A plan, and how many bytes its files take."""

    plan: ReadPlan
    size: int


def _is_promised(plan: ReadPlan) -> bool:
    until = plan.header.expires_at
    return until is not None and time.time_ns() < until


def _is_plain(plan: ReadPlan) -> bool:
    stored = plan.credentials or plan.header.storage_bindings
    return not plan.requires_merge and not stored
