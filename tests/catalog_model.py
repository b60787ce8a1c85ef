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

__all__ = [
    "Column",
    "File",
    "Row",
    "Session",
    "Snapshot",
    "Staged",
    "State",
    "Table",
    "Txn",
    "Version",
    "applied",
]

Row = tuple[int, int, int | None]
CREATING = ("auto", "create")


class Column(NamedTuple):
    """A column: the name it has now, what it is known by whatever its name, whether it had others."""

    name: str
    mark: int
    renamed: bool = False


class File(NamedTuple):
    """A data file: rows of `k`, `p` and `v`, all in one partition where the table has partitions."""

    path: str
    size: int
    rows: tuple[Row, ...]
    deletes: bool = False


V = Column("v", -1)


@dataclass
class Version:
    """A version of a table: merged by `k` where it is keyed, divided by `p` where it is parted.

    `columns` are those besides `k` and `p`; `known` are the names that each ever had: none is given
    to a second.
    """

    name: str
    keyed: bool
    parted: bool
    lifecycle: str = "active"
    columns: tuple[Column, ...] = (V,)
    known: frozenset[tuple[str, int]] = frozenset({("v", -1)})
    files: list[File] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, str]:
        """By number, however the versions are called."""
        return int(self.name.rpartition(".")[2]), self.name

    @property
    def value(self) -> str | None:
        """What the column of the values is called now; None where it was removed."""
        return next((c.name for c in self.columns if c.mark == V.mark), None)

    def column(self, name: str) -> int:
        """Where a column is that can be renamed or removed."""
        names = [c.name for c in self.columns]
        if name not in names:
            raise SchemaValidationError(name)
        return names.index(name)

    def take(self, name: str, mark: int) -> None:
        """Give a name to a column, which no other one ever had."""
        if any(name == known and mark != other for known, other in self.known):
            raise SchemaValidationError(name)
        self.known |= {(name, mark)}

    def partition(self, file: File) -> int | None:
        """Which partition a file is in."""
        return file.rows[0][1] if self.parted else None

    def rows(self) -> list[Row]:
        """What a read returns, in no order."""
        return sorted(map(self.shown, self.merged()), key=repr)

    def shown(self, row: Row) -> Row:
        """A row as a read returns it."""
        return row if self.value else (row[0], row[1], None)

    def merged(self) -> list[Row]:
        """The rows that no later one has replaced."""
        if not self.keyed:
            return [row for file in self.files for row in file.rows]
        held: dict[tuple[int | None, int], Row] = {}
        for file in self.files:
            for row in file.rows:
                key = self.partition(file), row[0]
                if file.deletes:
                    held.pop(key, None)
                else:
                    held[key] = row
        return list(held.values())


@dataclass
class Table:
    """A table: its properties, and its versions by name."""

    uid: int
    properties: dict[str, int] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)

    def version(self, name: str | None) -> Version | None:
        """The one of a name; without one the latest that is active."""
        if name is not None:
            return self.versions.get(name)
        active = [v for v in self.versions.values() if v.lifecycle == "active"]
        return max(active, key=lambda v: v.order, default=None)


@dataclass(frozen=True)
class Staged:
    """A write session: where to, how, what was there then; `uid` None where it is to be made."""

    namespace: str
    table: str
    version: str | None
    mode: str
    uid: int | None
    keyed: bool
    parted: bool
    columns: tuple[Column, ...]


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
        *,
        keyed: bool,
        parted: bool,
    ) -> Version:
        """Make a version that is missing, of a table that may be missing too; `uid` is for that."""
        found = self.namespace(namespace).tables.setdefault(table, Table(uid))
        made = Version(version or "1", keyed, parted)
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
        keyed: bool,
        parted: bool,
        lifecycle: str,
    ) -> None:
        """Make a table, or a version of one that is there."""
        found = self.namespace(namespace).tables.get(table)
        if found is not None and (version is None or version in found.versions):
            raise AlreadyExistsError(table)
        made = self.make(namespace, table, version, uid, keyed=keyed, parted=parted)
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
        self, namespace: str, table: str, version: str | None, column: str, mark: int
    ) -> None:
        """Add a column, which is null in all rows."""
        found = self.version(namespace, table, version)
        found.take(column, mark)
        found.columns = (*found.columns, Column(column, mark))

    def rename_column(
        self, namespace: str, table: str, version: str | None, column: str, to: str
    ) -> None:
        """Call a column otherwise; it may be called again what it was called before."""
        found = self.version(namespace, table, version)
        at = found.column(column)
        columns = list(found.columns)
        found.take(to, columns[at].mark)
        columns[at] = Column(to, columns[at].mark, renamed=True)
        found.columns = tuple(columns)

    def remove_column(self, namespace: str, table: str, version: str | None, column: str) -> None:
        """Remove a column."""
        found = self.version(namespace, table, version)
        at = found.column(column)
        found.columns = found.columns[:at] + found.columns[at + 1 :]

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
        keyed: bool,
        parted: bool,
    ) -> Staged:
        """Open a session; `keyed` and `parted` say what to make where the table is missing."""
        found = self.existing(namespace, table, version, mode)
        if found is None:
            if mode not in CREATING:
                raise NotFoundError(table)
            return Staged(namespace, table, version, mode, None, keyed, parted, (V,))
        if mode == "create":
            raise AlreadyExistsError(table)
        wrong = {"add": found.keyed, "append": found.keyed}
        wrong |= {"merge": not found.keyed, "delete": not found.keyed}
        wrong |= {"replace_partition": not found.parted}
        if wrong.get(mode):
            raise SchemaValidationError(mode)
        uid, shape = self.table(namespace, table).uid, (found.keyed, found.parted, found.columns)
        return Staged(namespace, table, found.name, mode, uid, *shape)

    def commit(self, staged: Staged, files: Sequence[File], uid: int) -> None:
        """Commit a session; `uid` is for the table that it may make."""
        named = (staged.namespace, staged.table, staged.version)
        found = self.existing(*named, staged.mode)
        if found is None:
            if staged.uid is not None:
                raise ConcurrentModificationError(staged.table)
            self.namespaces.setdefault(staged.namespace, Namespace())
            found = self.make(*named, uid, keyed=staged.keyed, parted=staged.parted)
        elif staged.mode == "create":
            raise AlreadyExistsError(staged.table)
        elif staged.uid not in (None, self.table(*named[:2]).uid):
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
        staged = self.stage(namespace, table, version, mode, keyed=False, parted=False)
        parts: dict[int | None, list[Row]] = {}
        for row in rows:
            parts.setdefault(row[1] if staged.parted else None, []).append(row)
        files = [File("", 0, tuple(held), mode == "delete") for held in parts.values()]
        self.commit(staged, files, uid)

    def truncate(self, namespace: str, table: str, version: str | None) -> None:
        """Remove all files."""
        self.version(namespace, table, version).files = []

    def rollback(self, namespace: str, table: str, version: str | None, then: State) -> None:
        """Make a version's files and columns again what they were."""
        found, uid = self.version(namespace, table, version), self.table(namespace, table).uid
        table_then = next((t for t in then.tables().values() if t.uid == uid), None)
        old = None if table_then is None else table_then.version(found.name)
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
