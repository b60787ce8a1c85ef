"""Which DeltaCAT tables does a dataset read, and how? Looked up in Ray's own optimised plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deltacat_sources.ray.planning import Reading
from deltacat_sources.ray.scan import DeltaCatDatasource
from io_core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.data import Dataset

    from deltacat_sources.ray.explanation import Explanation

__all__ = ["explain"]


def explain(dataset: Dataset) -> list[Explanation]:
    """What was pushed down to each table that a dataset reads, and how its tasks are packed.

    Plans, and reads no row. The tables come in the order in which Ray's plan names them.

    Raises:
        UnsupportedError: This release of Ray keeps its plans elsewhere.
    """
    try:
        from ray.data._internal.logical.optimizers import LogicalOptimizer

        plan = LogicalOptimizer().optimize(dataset._logical_plan)  # noqa: SLF001  # no public way
        operators = list(plan.dag.post_order_iter())
    except (ImportError, AttributeError) as error:
        raise UnsupportedError(f"this Ray's plans cannot be looked at: {error}") from error
    return list(_explained(operators))


# Any: Ray's operators, and what of ours they hold.
def _explained(operators: list[Any]) -> Iterator[Explanation]:
    for operator in operators:
        source = getattr(operator, "datasource", None)
        if isinstance(source, DeltaCatDatasource):
            yield source.explain()
        reading = getattr(getattr(operator, "scanner", None), "reading", None)
        if isinstance(reading, Reading):
            yield operator.scanner.explain()
