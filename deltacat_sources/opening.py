"""How does every adapter open a table? Arguments checked and the snapshot pinned, before any file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from io_core.model import TableRef
from io_core.plan import ReadPlan
from io_core.predicate_like import as_predicate
from io_core.scan import Scan
from io_core.schema import check_columns
from planner_client import connect
from planner_client.given import listed, of_kind
from planner_client.transaction import Transaction

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from io_core.predicate_like import PredicateLike
    from planner_client import Client

__all__ = ["check_plan", "open_scan"]


def open_scan(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None,
    as_of: int | None,
    table_version: str | None,
    columns: Sequence[str] | None,
    predicate: PredicateLike | None,
    transaction: Transaction | None = None,
    since: int | None = None,
) -> tuple[Scan, ReadPlan]:
    """Make one small call to the planner: the table's schema, and the snapshot that it shows now.

    `transaction` is shown as it goes on; `since` shows only what was added after that snapshot.

    Returns:
        A scan of all columns, pinned to that snapshot, with the predicate; and the plan's header.
        The columns are only checked: to project is the engine's part.

    Raises:
        NotFoundError: No such namespace, table or version; or no planner was named.
        SchemaValidationError: An unknown column.
        PredicateError: The predicate is malformed or does not fit the schema.
        CatalogRootError: `planner` is a directory and no catalog.
        PlannerUnavailableError: No planner answers.
    """
    ref = TableRef.parse(table, table_version)
    names = listed("columns", columns, str)
    if transaction is not None:
        of_kind("transaction", transaction, Transaction, "what client.transaction() returned")
    scan, header = Scan(
        ref,
        connect(planner),
        predicate=as_predicate(predicate),
        as_of=as_of,
        transaction_id=None if transaction is None else transaction.transaction_id,
        since=since,
    ).pinned()
    check_columns(names or (), header.schema)
    return scan, header


def check_plan(plan: ReadPlan, table: str | TableRef, others: Sequence[object]) -> None:
    """Refuse a plan of another table, or one together with what would choose another.

    Args:
        plan: What a user passed.
        table: The table that it was passed with.
        others: Arguments that have to be None beside it: planner, as_of and such.

    Raises:
        ValueError: It does not go with them.
    """
    of_kind("plan", plan, ReadPlan, "what client.catalog.plan() returned")
    ref, header = TableRef.parse(table), plan.header
    if (ref.namespace, ref.table) != (header.namespace, header.table):
        raise ValueError(f"{plan!r} is of another table than {ref}: pass the one or the other")
    if any(other is not None for other in others):
        raise ValueError(
            f"{plan!r} says what to read, and asks no planner: leave out planner, as_of, "
            "table_version, transaction and changes_since"
        )
