"""What must a catalog hold after some operations? Plain dicts and lists, and no code of the planner's.

An operation is a method of `State`, so that a transaction is a list of names and arguments: applied
to a copy of the snapshot it began at they show what it sees, applied to the latest state they show
what its commit leaves. What is refused raises the error that the planner raises.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    NotFoundError,
    SchemaValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from io_core.model import WriteSession
    from planner_client.transaction import Transaction

__all__ = ["File", "Row", "Session", "Snapshot", "Staged", "State", "Table", "Txn", "applied"]

Row = tuple[int, int, int]
CREATING = ("auto", "create")


class File(NamedTuple):
    """A data file: rows of `k`, `p` and `v`, all in one partition where the table has partitions."""

    path: str
    size: int
    rows: tuple[Row, ...]
    deletes: bool = False


@dataclass
class Table:
    """A table: merged by `k` where it is keyed, divided by `p` where it is parted.

    `columns` are those that were added, each with a mark of its own; `known` are the names that it
    ever had for one: none is given to a second.
    """

    uid: int
    keyed: bool
    parted: bool
    columns: tuple[tuple[str, int], ...] = ()
    known: frozenset[str] = frozenset()
    properties: dict[str, int] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)

    def partition(self, file: File) -> int | None:
        """Which partition a file is in."""
        return file.rows[0][1] if self.parted else None

    def rows(self) -> list[Row]:
        """What a read returns, in no order."""
        if not self.keyed:
            return sorted(row for file in self.files for row in file.rows)
        held: dict[tuple[int | None, int], Row] = {}
        for file in self.files:
            for row in file.rows:
                key = self.partition(file), row[0]
                if file.deletes:
                    held.pop(key, None)
                else:
                    held[key] = row
        return sorted(held.values())


@dataclass(frozen=True)
class Staged:
    """A write session: where to, how, what the table was then; `uid` None where it is to be made."""

    namespace: str
    table: str
    mode: str
    uid: int | None
    keyed: bool
    parted: bool
    columns: tuple[tuple[str, int], ...]


@dataclass
class Namespace:
    """A namespace: its properties, and its tables by name."""

    properties: dict[str, int] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)


# Any: arguments of the operation.
Operation = tuple[str, dict[str, Any]]


class State:
    """A catalog at one moment."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {}

    def namespace(self, name: str) -> Namespace:
        """A namespace that is there."""
        if name not in self.namespaces:
            raise NotFoundError(name)
        return self.namespaces[name]

    def table(self, namespace: str, table: str) -> Table:
        """A table that is there."""
        tables = self.namespace(namespace).tables
        if table not in tables:
            raise NotFoundError(table)
        return tables[table]

    def tables(self) -> dict[tuple[str, str], Table]:
        """All tables, by both names."""
        return {
            (name, table): found
            for name, namespace in self.namespaces.items()
            for table, found in namespace.tables.items()
        }

    def find(self, uid: int) -> Table | None:
        """A table whatever it is called."""
        return next((t for t in self.tables().values() if t.uid == uid), None)

    def forget(self, uids: Collection[int]) -> None:
        """Be as if tables had never been."""
        for namespace in self.namespaces.values():
            namespace.tables = {n: t for n, t in namespace.tables.items() if t.uid not in uids}

    # --- operations -------------------------------------------------------------------------------

    def create_namespace(self, namespace: str) -> None:
        """Make a namespace."""
        if namespace in self.namespaces:
            raise AlreadyExistsError(namespace)
        self.namespaces[namespace] = Namespace()

    def describe_namespace(self, namespace: str, mark: int) -> None:
        """Set a property."""
        self.namespace(namespace).properties["mark"] = mark

    def rename_namespace(self, namespace: str, new_name: str) -> None:
        """Call it otherwise."""
        found = self.namespace(namespace)
        if new_name in self.namespaces:
            raise AlreadyExistsError(new_name)
        self.namespaces[new_name] = found
        del self.namespaces[namespace]

    def drop_namespace(self, namespace: str) -> None:
        """Drop it with its tables."""
        self.namespace(namespace)
        del self.namespaces[namespace]

    def create_table(
        self, namespace: str, table: str, uid: int, *, keyed: bool, parted: bool
    ) -> None:
        """Make a table."""
        tables = self.namespace(namespace).tables
        if table in tables:
            raise AlreadyExistsError(table)
        tables[table] = Table(uid, keyed, parted)

    def rename_table(self, namespace: str, table: str, to: tuple[str, str]) -> None:
        """Give it another name, in another namespace perhaps."""
        found = self.table(namespace, table)
        tables = self.namespace(to[0]).tables
        if to[1] in tables:
            raise AlreadyExistsError(to[1])
        tables[to[1]] = found
        del self.namespaces[namespace].tables[table]

    def drop_table(self, namespace: str, table: str) -> None:
        """Drop it."""
        self.table(namespace, table)
        del self.namespaces[namespace].tables[table]

    def add_column(self, namespace: str, table: str, column: str, mark: int) -> None:
        """Add a column, which is null in all rows."""
        found = self.table(namespace, table)
        if column in found.known:
            raise SchemaValidationError(column)
        found.known |= {column}
        found.columns = (*found.columns, (column, mark))

    def remove_column(self, namespace: str, table: str, column: str) -> None:
        """Remove a column that was added."""
        found = self.table(namespace, table)
        if column not in dict(found.columns):
            raise SchemaValidationError(column)
        found.columns = tuple(c for c in found.columns if c[0] != column)

    def describe_table(self, namespace: str, table: str, mark: int) -> None:
        """Set a property."""
        self.table(namespace, table).properties["mark"] = mark

    def stage(self, namespace: str, table: str, mode: str, *, keyed: bool, parted: bool) -> Staged:
        """Open a session; `keyed` and `parted` say what to make where the table is missing."""
        try:
            found = self.table(namespace, table)
        except NotFoundError:
            if mode not in CREATING:
                raise
            return Staged(namespace, table, mode, None, keyed, parted, ())
        if mode == "create":
            raise AlreadyExistsError(table)
        wrong = {"add": found.keyed, "append": found.keyed}
        wrong |= {"merge": not found.keyed, "delete": not found.keyed}
        wrong |= {"replace_partition": not found.parted}
        if wrong.get(mode):
            raise SchemaValidationError(mode)
        return Staged(namespace, table, mode, found.uid, found.keyed, found.parted, found.columns)

    def commit(self, staged: Staged, files: Sequence[File], uid: int) -> None:
        """Commit a session; `uid` is for the table that it may make."""
        held = self.namespaces.get(staged.namespace)
        found = None if held is None else held.tables.get(staged.table)
        if found is None:
            if staged.uid is not None:
                raise ConcurrentModificationError(staged.table)
            found = Table(uid, staged.keyed, staged.parted)
            self.namespaces.setdefault(staged.namespace, Namespace()).tables[staged.table] = found
        elif staged.mode == "create":
            raise AlreadyExistsError(staged.table)
        elif staged.uid not in (None, found.uid):
            raise ConcurrentModificationError(staged.table)
        shape = (found.keyed, found.parted, found.columns)
        if shape != (staged.keyed, staged.parted, staged.columns):
            raise ConcurrentModificationError(staged.table)
        if staged.mode == "replace":
            found.files = []
        if staged.mode == "replace_partition":
            touched = {found.partition(file) for file in files}
            found.files = [f for f in found.files if found.partition(f) not in touched]
        found.files = [*found.files, *files]

    def truncate(self, namespace: str, table: str) -> None:
        """Remove all files."""
        self.table(namespace, table).files = []

    def rollback(self, namespace: str, table: str, then: State) -> None:
        """Make a table's files and columns again what they were."""
        found = self.table(namespace, table)
        old = then.find(found.uid)
        if old is None:
            raise NotFoundError(table)
        found.files, found.columns = list(old.files), old.columns


class Snapshot(NamedTuple):
    """A state that was, its number, and a time at which it was the latest."""

    seq: int
    time_ns: int
    state: State


class Session:
    """An open write session of the planner's, and what the model has of it."""

    def __init__(self, session: WriteSession, staged: Staged, base: int, expires_ns: int) -> None:
        self.session = session
        self.staged = staged
        self.base = base
        self.expires_ns = expires_ns


class Txn:
    """A running transaction, and what the model has of it."""

    def __init__(self, handle: Transaction, base: Snapshot, expires_ns: int) -> None:
        self.id = handle.transaction_id
        self.base = base
        self.is_historic = handle.as_of is not None
        self.operations: list[tuple[str, dict[str, Any]]] = []
        self.expires_ns = expires_ns

    @property
    def state(self) -> State:
        """What it sees."""
        return applied(self.base.state, *self.operations)


def applied(state: State, *operations: Operation) -> State:
    """A copy of the state after operations."""
    changed = copy.deepcopy(state)
    for name, arguments in operations:
        getattr(changed, name)(**arguments)
    return changed
