"""Rules of the state machine: namespaces, tables, versions, their columns and schemes change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.catalog_changes import Where, alterations, asked, changes, wheres
from tests.catalog_checks import each_version
from tests.catalog_machine.machine import CatalogMachine, whoever

if TYPE_CHECKING:
    from tests.catalog_model import State

__all__ = ["Changes"]


class Changes(CatalogMachine):
    """What changes names, and what they stand for."""

    @rule(by=whoever, where=wheres, change=changes, index=st.integers(0, 3))
    def change(self, by: int, where: Where, change: tuple[Any, ...], index: int) -> None:
        client = self.clients[by]
        txn, handle = self.running(by, index)
        if change[0].startswith("drop") and self.txns:
            # Transactions lose what is purged from the snapshot that they began at: see the conflicts.
            change = (change[0], False)
        operation, call = asked(client, where, change, next(self.uids))
        before = self.latest.state
        if txn is not None:
            self.settle(operation, txn.state)
        done = self.attempt(by, lambda: call(transaction=handle), txn, operation)
        if done is not None and change[0].startswith("drop") and change[1]:
            self.forget(before, where, whole=change[0] == "drop_namespace")

    @rule(by=whoever, pick=st.integers(0, 9), change=alterations, index=st.integers(0, 3))
    def alter(self, by: int, pick: int, change: tuple[Any, ...], index: int) -> None:
        txn = self.running(by, index)[0]
        found = [where for where, _ in each_version((txn or self.latest).state)]
        if found:
            self.change(by, Where(*found[pick % len(found)].values()), change, index)

    def settle(self, operation: tuple[str, dict[str, Any]], state: State) -> None:
        """What a transaction asked of the latest active version stays with the one that it saw."""
        name, held = operation
        if name != "create_table" and "version" in held and held["version"] is None:
            table = state.tables().get((held["namespace"], held["table"]))
            found = None if table is None else table.version(None)
            held["version"] = None if found is None else found.name

    def forget(self, before: State, where: Where, *, whole: bool) -> None:
        """What was purged is in no earlier snapshot either, whatever it was called there."""
        found = before.tables().items()
        gone = {t.uid for at, t in found if at == where[:2] or (whole and at[0] == where[0])}
        for then in self.past:
            then.state.forget(gone)

    @rule(by=whoever, where=wheres, truncate=st.booleans(), index=st.integers(0, 20))
    def reset(self, by: int, where: Where, index: int, *, truncate: bool) -> None:
        client = self.clients[by]
        if truncate:
            self.attempt(
                by, lambda: client.truncate_table(**where.sent), None, ("truncate", where.named)
            )
            return
        then = self.past[-1 - index % len(self.past)]
        if then.seq >= self.horizon:
            self.attempt(
                by,
                lambda: client.rollback_table(**where.sent, as_of=then.time_ns),
                None,
                ("rollback", {**where.named, "then": then.state}),
            )
