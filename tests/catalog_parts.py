"""What is a catalog made of, in the model? Names, versions of tables, their columns and files: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from io_core.errors import SchemaValidationError

__all__ = [
    "WIDER",
    "Column",
    "File",
    "Namespace",
    "Row",
    "Shape",
    "Staged",
    "Table",
    "V",
    "Version",
]

Row = tuple[int, int, int | None]
# Each type, and those that hold every value of it.
WIDER = {"int32": {"int64", "float64"}, "int64": set[str](), "float64": set[str]()}


class Column(NamedTuple):
    """A column: the name it has now, what it is known by whatever its name, whether it had others.

    Its type too, and whether it had another one.
    """

    name: str
    mark: int
    type: str = "int32"
    renamed: bool = False
    retyped: bool = False


class Shape(NamedTuple):
    """What a version is made as: merged by `k`, divided by `p`, or without any schema."""

    keyed: bool = False
    parted: bool = False
    plain: bool = False


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
    to a second. `sorted_by` is its sort scheme; `filled` says whether it ever had a file.
    """

    name: str
    keyed: bool
    parted: bool
    plain: bool = False
    lifecycle: str = "active"
    columns: tuple[Column, ...] = (V,)
    known: frozenset[tuple[str, int]] = frozenset({("v", -1)})
    sorted_by: tuple[str, ...] | None = None
    filled: bool = False
    files: list[File] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, str]:
        """By number, however the versions are called."""
        return int(self.name.rpartition(".")[2]), self.name

    @property
    def told(self) -> tuple[Shape, tuple[Column, ...]]:
        """What a write session is told of it, and has to know."""
        return Shape(self.keyed, self.parted, self.plain), self.columns

    @property
    def value(self) -> Column | None:
        """The column of the values; None where it was removed."""
        return next((c for c in self.columns if c.mark == V.mark), None)

    def column(self, name: str) -> int:
        """Where a column is that can be changed: no scheme is made of it."""
        names = [c.name for c in self.columns]
        if name not in names or name in (self.sorted_by or ()):
            raise SchemaValidationError(name)
        return names.index(name)

    def check_schema(self) -> None:
        """Raise where it is schemaless, and stays so."""
        if self.plain:
            raise SchemaValidationError(self.name)

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
    shape: Shape
    columns: tuple[Column, ...]
    external: bool = False
    makes_namespace: bool = True

    @property
    def told(self) -> tuple[Shape, tuple[Column, ...]]:
        """What it was told of the version."""
        return self.shape, self.columns

    @property
    def value(self) -> Column | None:
        """The column of the values, as it was told."""
        return next((c for c in self.columns if c.mark == V.mark), None)


@dataclass
class Namespace:
    """A namespace: its properties, and its tables by name."""

    properties: dict[str, int] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
