"""Which plans need not be asked for again? Those of one snapshot, while their files are promised."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from io_core.plan import ReadPlan
    from planner_client.protocol.plans import PlanRequest

__all__ = ["RememberedPlans"]

_MOST_PLANS = 64
_MOST_FILES = 1_000


class RememberedPlans:
    """A client's latest small plans, by what was asked. Threads share it.

    What a table's snapshot holds never changes, so that a question about it has one answer. Kept are
    plans until their files are no longer promised; none that brings keys to a store, and none of rows
    that merge, since a later plan of the same snapshot may know which of them are dead.
    """

    def __init__(self) -> None:
        self._plans: dict[bytes, ReadPlan] = {}

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
        if known is None or not _is_promised(known):
            known = ask(request)
        if _is_promised(known) and _is_plain(known):
            self._plans[question] = known
        for oldest in list(self._plans)[:-_MOST_PLANS]:
            self._plans.pop(oldest, None)
        return known


def _is_promised(plan: ReadPlan) -> bool:
    until = plan.header.expires_at
    return until is not None and time.time_ns() < until


def _is_plain(plan: ReadPlan) -> bool:
    return (
        plan.files.num_rows <= _MOST_FILES
        and not plan.requires_merge
        and not plan.credentials
        and not plan.header.storage_bindings
    )
