"""Which concurrent changes exclude each other: the matrix, and the question asked of it.

A write that began at a snapshot may commit if nothing that was committed since conflicts with it.
Files that are only added never conflict with each other; ordered deltas conflict per partition.
An append outside of a transaction takes its place in the order when it commits, so that it counts
as an add there.
docs/transactions.md shows the matrix with its reasons.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw

__all__ = ["MATRIX", "Change", "Kind", "blocking", "changes_at", "conflicts"]

Kind = Literal[
    "add",
    "append",
    "upsert",
    "replace_partition",
    "replace",
    "alter",
    "describe",
    "drop",
    "create",
    "namespace",
]
_When = Literal["never", "same partition", "always"]


class Change(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """What a write does to one object.

    Attributes:
        kind: `add` unordered files; `append` ordered ones; `upsert` rows by key, or delete them;
            `replace_partition`; `replace` the whole table (also truncate and rollback); `alter` its
            schema or schemes; `describe` its properties, texts or lifecycle; `drop` it or rename it
            away; `create` a table of this name or a version; a `namespace` itself.
        namespace: Its name.
        table: The table's name; empty for namespaces.
        table_id: The ledger's; 0 for what is known by name alone (create, namespace).
        version_id: Which version's data; 0 for the table itself.
        partitions: Values of the partitions concerned, as the ledger writes them.
    """

    kind: Kind
    namespace: str
    table: str = ""
    table_id: int = 0
    version_id: int = 0
    partitions: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}{'.' if self.table else ''}{self.table}"


_DATA = frozenset({"add", "append", "upsert", "replace_partition", "replace"})
_N: _When = "never"
_P: _When = "same partition"
_A: _When = "always"
_KINDS: tuple[Kind, ...] = (
    "add",
    "append",
    "upsert",
    "replace_partition",
    "replace",
    "alter",
    "describe",
    "drop",
)
# Mine below, theirs across, both on one table.
_ROWS: dict[Kind, tuple[_When, ...]] = {
    #                     add app. ups. rep.p repl alter desc drop
    "add":               (_N, _N, _N, _P, _A, _A, _N, _A),
    "append":            (_N, _P, _P, _P, _A, _A, _N, _A),
    "upsert":            (_N, _P, _P, _P, _A, _A, _N, _A),
    "replace_partition": (_P, _P, _P, _P, _A, _A, _N, _A),
    "replace":           (_A, _A, _A, _A, _A, _A, _N, _A),
    "alter":             (_N, _N, _N, _N, _N, _A, _A, _A),
    "describe":          (_N, _N, _N, _N, _N, _A, _A, _A),
    "drop":              (_A, _A, _A, _A, _A, _A, _A, _A),
}  # fmt: skip
MATRIX: dict[Kind, dict[Kind, _When]] = {
    mine: dict(zip(_KINDS, row, strict=True)) for mine, row in _ROWS.items()
}


class _KindOf(msgspec.Struct, frozen=True, array_like=True):
    """The first of a change's fields."""

    kind: Kind


_KIND_OF = msgspec.msgpack.Decoder(_KindOf)
_NEVER: dict[Kind, frozenset[Kind]] = {
    mine: frozenset(theirs for theirs, when in row.items() if when == "never")
    for mine, row in MATRIX.items()
}


def conflicts(mine: Change, theirs: Change) -> bool:
    """Whether a write that did `mine` may not commit after `theirs`, which it did not see.

    Example:
        >>> one = Change("upsert", "a", "t", 1, 1, frozenset({"[1]"}))
        >>> conflicts(one, one), conflicts(one, Change("upsert", "a", "t", 1, 1, frozenset({"[2]"})))
        (True, False)
    """
    names = "namespace" in (mine.kind, theirs.kind)
    if names or "create" in (mine.kind, theirs.kind):
        # Names: of two that touch one name, or a namespace and what is in it, the second loses.
        both_data = {mine.kind, theirs.kind} & _DATA
        same = mine.namespace == theirs.namespace
        return same and not both_data and (names or mine.table == theirs.table)
    if mine.table_id != theirs.table_id:
        return False
    data = mine.version_id and theirs.version_id
    if data and mine.version_id != theirs.version_id:
        return False
    when = MATRIX[mine.kind][theirs.kind]
    if when == "same partition":
        return bool(mine.partitions & theirs.partitions)
    return when == "always"


def _since(db: apsw.Connection, table_id: int, base: int) -> list[tuple[int, bytes]]:
    """What was committed after `base` to a table or to names; for a name, to any table at all."""
    if table_id:
        found: list[tuple[int, bytes]] = db.execute(
            "SELECT seq, body FROM change WHERE table_id IN (0, ?) AND seq > ? ORDER BY seq",
            (table_id, base),
        ).fetchall()
        return found
    return _latest(db, base)


def _latest(db: apsw.Connection, base: int) -> list[tuple[int, bytes]]:
    """What was committed after `base`."""
    # Ids grow with snapshots: the latest ones are found without an index of their own.
    rows = db.execute("SELECT seq, body FROM change ORDER BY change_id DESC")
    return list(itertools.takewhile(lambda row: row[0] > base, rows))[::-1]


def changes_at(db: apsw.Connection, snapshot: int) -> list[Change]:
    """What a snapshot of late changed."""
    found = [body for seq, body in _latest(db, snapshot - 1) if seq == snapshot]
    return [msgspec.msgpack.decode(body, type=Change) for body in found]


def blocking(db: apsw.Connection, mine: Iterable[Change], base: int) -> tuple[Change, int] | None:
    """What was committed after `base` and conflicts with `mine`, and its snapshot; None if nothing."""
    for change in mine:
        never = _NEVER.get(change.kind, frozenset())
        # Of many writers most only add files, and in the same words: these are not looked into twice.
        harmless: set[bytes] = set()
        for seq, body in _since(db, change.table_id, base):
            if body in harmless:
                continue
            if _KIND_OF.decode(body).kind not in never:
                theirs = msgspec.msgpack.decode(body, type=Change)
                if conflicts(change, theirs):
                    return theirs, int(seq)
            harmless.add(body)
    return None
