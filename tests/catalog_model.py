"""What must a catalog hold after some operations? Plain dicts and lists, and no code of the planner's.

An operation is a method of `State`, so that a transaction is a list of names and arguments: applied
to a copy of the snapshot it began at they show what it sees, applied to the latest state they show
what its commit leaves. What is refused raises the error that the planner raises.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from io_core.errors import (
    AlreadyExistsError,
    ConcurrentModificationError,
    NotFoundError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from tests.catalog_parts import WIDER, Column, File, Namespace, Shape, Staged, Table, V, Version

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from io_core.model import WriteSession
    from planner_client.transaction import Transaction
    from tests.catalog_parts import Row

__all__ = ["Session", "Snapshot", "State", "Txn", "applied"]

CREATING = ("auto", "create")


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

    def version(self, namespace: str, table: str, version: str | None) -> Version:
        """A version that is there."""
        found = self.table(namespace, table).version(version)
        if found is None:
            raise NotFoundError(version or "active")
        return found

    def existing(
        self, namespace: str, table: str, version: str | None, mode: str
    ) -> Version | None:
        """The version that is written into; None where the table is missing, or what `create` makes."""
        try:
            found = self.table(namespace, table)
        except NotFoundError:
            return None
        if mode == "create" and version is not None:
            return found.version(version)
        return self.version(namespace, table, version)

    def make(
        self,
        namespace: str,
        table: str,
        version: str | None,
        uid: int,
        shape: Shape,
    ) -> Version:
        """Make a version that is missing, of a table that may be missing too; `uid` is for that."""
        found = self.namespace(namespace).tables.setdefault(table, Table(uid))
        made = Version(version or "1", *shape)
        if shape.plain:
            made.columns, made.known = (), frozenset()
        found.versions[made.name] = made
        return made

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
        self,
        namespace: str,
        table: str,
        version: str | None,
        uid: int,
        *,
        shape: Shape,
        lifecycle: str,
    ) -> None:
        """Make a table, or a version of one that is there."""
        found = self.namespace(namespace).tables.get(table)
        if found is not None and (version is None or version in found.versions):
            raise AlreadyExistsError(table)
        made = self.make(namespace, table, version, uid, shape)
        made.lifecycle = lifecycle

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

    def add_column(
        self, namespace: str, table: str, version: str | None, column: str, mark: int, type: str
    ) -> None:
        """Add a column, which is null in all rows."""
        found = self.version(namespace, table, version)
        found.check_schema()
        found.take(column, mark)
        found.columns = (*found.columns, Column(column, mark, type))

    def rename_column(
        self, namespace: str, table: str, version: str | None, column: str, to: str
    ) -> None:
        """Call a column otherwise; it may be called again what it was called before."""
        found = self.version(namespace, table, version)
        at = found.column(column)
        columns = list(found.columns)
        found.take(to, columns[at].mark)
        columns[at] = columns[at]._replace(name=to, renamed=True)
        found.columns = tuple(columns)

    def remove_column(self, namespace: str, table: str, version: str | None, column: str) -> None:
        """Remove a column."""
        found = self.version(namespace, table, version)
        at = found.column(column)
        found.columns = found.columns[:at] + found.columns[at + 1 :]

    def update_type(
        self,
        namespace: str,
        table: str,
        version: str | None,
        column: str,
        to: str,
        *,
        forced: bool,
    ) -> None:
        """Give a column another type, which holds all that the old one held unless it is forced."""
        found = self.version(namespace, table, version)
        columns = list(found.columns)
        at = next((i for i, c in enumerate(columns) if c.name == column), None)
        if at is not None and columns[at].type == to:
            return
        at = found.column(column)
        if not forced and to not in WIDER[columns[at].type]:
            raise SchemaValidationError(to)
        columns[at] = columns[at]._replace(type=to, retyped=True)
        found.columns = tuple(columns)

    def divide(self, namespace: str, table: str, version: str | None) -> None:
        """Divide the rows to come by `p`; a version that had files stays as it is."""
        found = self.version(namespace, table, version)
        found.check_schema()
        if found.filled:
            raise SchemaValidationError(table)
        found.parted = True

    def sort_by(
        self, namespace: str, table: str, version: str | None, columns: tuple[str, ...]
    ) -> None:
        """Say how files to come are sorted."""
        found = self.version(namespace, table, version)
        found.check_schema()
        if not {*columns} <= {"k", "p", *(c.name for c in found.columns)}:
            raise SchemaValidationError(table)
        found.sorted_by = columns

    def set_lifecycle(
        self, namespace: str, table: str, version: str | None, lifecycle: str
    ) -> None:
        """Say whether a version is what the table's name alone means."""
        self.version(namespace, table, version).lifecycle = lifecycle

    def describe_table(self, namespace: str, table: str, mark: int) -> None:
        """Set a property."""
        self.table(namespace, table).properties["mark"] = mark

    def stage(
        self,
        namespace: str,
        table: str,
        version: str | None,
        mode: str,
        *,
        shape: Shape,
        external: bool = False,
        makes_namespace: bool = True,
    ) -> Staged:
        """Open a session; `shape` says what to make where the table is missing."""
        found = self.existing(namespace, table, version, mode)
        named = (namespace, table)
        if found is None:
            if mode not in CREATING:
                raise NotFoundError(table)
            if not makes_namespace:
                self.namespace(namespace)
            columns = () if shape.plain else (V,)
            table_there = self.tables().get(named)
            uid = None if table_there is None else table_there.uid
            return Staged(*named, version, mode, uid, shape, columns, external, makes_namespace)
        if mode == "create":
            raise AlreadyExistsError(table)
        wrong = {"add": found.keyed, "append": found.keyed}
        wrong |= {"merge": not found.keyed, "delete": not found.keyed}
        wrong |= {"replace_partition": not found.parted}
        if wrong.get(mode):
            raise SchemaValidationError(mode)
        uid = self.table(*named).uid
        return Staged(*named, found.name, mode, uid, *found.told, external, makes_namespace)

    def commit(self, staged: Staged, files: Sequence[File], uid: int) -> None:
        """Commit a session; `uid` is for the table that it may make."""
        named = (staged.namespace, staged.table, staged.version)
        table = self.tables().get(named[:2])
        if staged.uid is not None and (table is None or table.uid != staged.uid):
            raise ConcurrentModificationError(staged.table)
        try:
            found = self.existing(*named, staged.mode)
        except NotFoundError:
            # It was there when the session was staged, or could be made.
            raise ConcurrentModificationError(staged.table) from None
        if found is None:
            if staged.makes_namespace:
                self.namespaces.setdefault(staged.namespace, Namespace())
            found = self.make(*named, uid, staged.shape)
            found.columns = staged.columns
        elif staged.mode == "create":
            raise AlreadyExistsError(staged.table)
        if found.told != staged.told:
            raise ConcurrentModificationError(staged.table)
        if staged.mode == "replace":
            found.files = []
        if staged.mode == "replace_partition":
            touched = {found.partition(file) for file in files}
            found.files = [f for f in found.files if found.partition(f) not in touched]
        if {f.path for f in found.files} & {f.path for f in files if f.path}:
            raise RequestRejectedError(staged.table)
        found.files = [*found.files, *files]
        found.filled = True

    def write_data(
        self,
        namespace: str,
        table: str,
        version: str | None,
        mode: str,
        rows: Sequence[Row],
        uid: int,
    ) -> None:
        """Write rows that are in the call itself, a file for each partition; it has no path yet."""
        staged = self.stage(namespace, table, version, mode, shape=Shape())
        if self.existing(namespace, table, version, mode) is None:
            # JSON's integers are of this type.
            staged = replace(staged, columns=(V._replace(type="int64"),))
        parts: dict[int | None, list[Row]] = {}
        for row in rows:
            parts.setdefault(row[1] if staged.shape.parted else None, []).append(row)
        files = [File("", 0, tuple(held), mode == "delete") for held in parts.values()]
        self.commit(staged, files, uid)

    def add_files(
        self,
        namespace: str,
        table: str,
        version: str | None,
        mode: str,
        shape: Shape,
        files: Sequence[File],
        uid: int,
    ) -> None:
        """Register files where they are."""
        named = (namespace, table, version)
        found = self.tables().get(named[:2])
        held = None if found is None else found.version(version)
        if held is None and mode not in CREATING:
            raise NotFoundError(table)
        if held is not None and held.plain:
            raise UnsupportedError(table)
        self.commit(self.stage(*named, mode, shape=shape, external=True), files, uid)

    def truncate(self, namespace: str, table: str, version: str | None) -> None:
        """Remove all files."""
        self.version(namespace, table, version).files = []

    def rollback(self, namespace: str, table: str, version: str | None, then: State) -> None:
        """Make a version's files, columns and sort scheme again what they were."""
        found, uid = self.version(namespace, table, version), self.table(namespace, table).uid
        table_then = next((t for t in then.tables().values() if t.uid == uid), None)
        old = None if table_then is None else table_then.version(found.name)
        if old is None:
            raise NotFoundError(table)
        found.files, found.columns = list(old.files), old.columns
        found.sorted_by = old.sorted_by


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

    def __init__(
        self, handle: Transaction, base: Snapshot, expires_ns: int, owner: str | None = None
    ) -> None:
        self.id = handle.transaction_id
        self.base = base
        self.owner = owner
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
