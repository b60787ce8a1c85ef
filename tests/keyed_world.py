"""A keyed table that two clients write and damage, beside the oracle's: what its rows have to be."""

from __future__ import annotations

import copy
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from io_core.execute import read_plan
from io_core.key_files import key_path
from io_core.model import TableRef
from io_core.predicate import parse
from io_core.scan import Scan
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server import shared
from planner_client.server.planner import EmbeddedPlanner
from tests.oracle import Commit, Row, Table, answer, canonical, rows_of, table_of
from tests.strategies import TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.plan import ReadPlan

__all__ = ["DIVIDED", "KEYED", "WHERE", "Ast", "Past", "World", "knows", "records", "row"]

# Any: keyword arguments of every call, and the wire's JSON.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
REF = TableRef.parse("ns.t")
Ast = dict[str, Any] | None
SCHEMA = pa.schema([("k", pa.int64()), ("p", pa.int64()), ("v", pa.int64())])
KEYED = TableSpec(SCHEMA, ("k",))
DIVIDED = TableSpec(SCHEMA, ("k",), ("p",))


def row(k: int | str | None, p: int, v: int) -> Row:
    return {"k": k, "p": p, "v": v}


class Past(NamedTuple):
    """A snapshot that was, the moment after it, and what the oracle had then."""

    snapshot: int
    time_ns: int
    table: Table


class World:
    """One keyed table, two clients that write it, and the oracle's."""

    def __init__(self, root: Path, spec: TableSpec) -> None:
        self.root = root
        self.spec = spec
        self.clients = [self.open(), self.open()]
        # Plans for itself, and never writes.
        self.planner = EmbeddedPlanner(root)
        self.clients[0].catalog.create_table(
            **WHERE,
            schema=spec.schema,
            merge_keys=spec.merge_keys,
            partition_scheme=spec.partition_scheme,
            auto_create_namespace=True,
        )
        self.table = spec.table()
        self.past: list[Past] = []
        self.remember()

    def open(self) -> Client:
        """A client as another process has it: with a planner of its own."""
        shared._OPENED.clear()
        return Client(self.root)

    def remember(self) -> None:
        """Keep the latest snapshot for later questions."""
        with self.planner.store.read() as db:
            query = "SELECT seq, committed_ns FROM revision ORDER BY seq DESC LIMIT 1"
            snapshot, time_ns = db.execute(query).fetchone()
        self.past.append(Past(snapshot, time_ns + 1, copy.deepcopy(self.table)))

    def commit(self, *commits: Commit, who: int = 0, per_file: int = 1_000_000) -> None:
        """Write, and several writes in one transaction."""
        client = self.clients[who]
        if len(commits) == 1:
            self.write(client, commits[0], per_file)
        else:
            with client.transaction():
                for commit in commits:
                    self.write(client, commit, per_file)
        self.table.apply(commits)
        self.remember()

    def write(self, client: Client, commit: Commit, per_file: int) -> None:
        client.catalog.write(
            self.arrow(commit), **WHERE, mode=commit.mode, max_rows_per_file=per_file
        )

    def arrow(self, commit: Commit) -> pa.Table:
        is_delete = commit.mode == "delete"
        return table_of(commit.rows, self.spec.delete_schema if is_delete else self.spec.schema)

    def staged(self, commit: Commit, who: int = 0) -> tuple[OpenSink, list[Any]]:
        """A write whose files lie there, not yet committed."""
        client = self.clients[who]
        session = client.catalog.stage(**WHERE, mode=commit.mode)
        sink = OpenSink(client, session, f"op_{uuid.uuid4().hex}")
        return sink, list(sink.write(self.arrow(commit)))

    def commit_without_advancing(self, commit: Commit, who: int = 0) -> None:
        """As a crash right after a commit leaves it: its files cannot be read at that moment."""
        sink, entries = self.staged(commit, who)
        held = {entry.path: Path(entry.path).read_bytes() for entry in entries}
        for path, body in held.items():
            Path(path).write_bytes(bytes(len(body)))
            os.unlink(key_path(path))
        sink.commit(entries)
        for path, body in held.items():
            Path(path).write_bytes(body)
        self.table.apply([commit])
        self.remember()

    def rollback(self, to: Past, who: int = 0) -> None:
        self.clients[who].catalog.rollback_table(**WHERE, as_of=to.time_ns)
        self.table = copy.deepcopy(to.table)
        self.remember()

    def truncate(self, who: int = 0) -> None:
        self.clients[who].catalog.truncate_table(**WHERE)
        self.table = self.spec.table()
        self.remember()

    def restart(self, who: int = 0) -> None:
        self.clients[who].close()
        self.clients[who] = self.open()

    def forget(self, *tables: str) -> None:
        """Take what is derived out of the ledger."""
        with self.planner.store.locked() as db:
            for table in tables:
                db.execute(f"DELETE FROM {table}")

    def key_files(self) -> list[Path]:
        return sorted(self.root.rglob("*.keys"))

    def plan(self, *, sets: bool, snapshot: int | None = None, ast: Ast = None) -> ReadPlan:
        request = PlanRequest(**WHERE, snapshot=snapshot, filter_predicate=ast, delete_sets=sets)
        return self.planner.call(PLAN, request)

    def is_known(self) -> bool:
        """Whether a plan of the latest snapshot carries dead rows."""
        return knows(self.plan(sets=True))

    def check(self, asts: Sequence[Ast] = (None,), past: Sequence[Past] | None = None) -> None:
        """Compare plans with sets, plans without, and the oracle."""
        for then in self.past[-1:] if past is None else past:
            for ast in asts:
                wanted = answer(then.table.rows(), self.spec.schema, ast=ast)
                for sets in (True, False):
                    plan = self.plan(sets=sets, snapshot=then.snapshot, ast=ast)
                    found = rows_of(read_plan(plan, predicate=parse(ast)))
                    what = f"snapshot {then.snapshot}, sets {sets}, {ast}"
                    assert canonical(found, ordered=True) == canonical(wanted, ordered=True), what
        self.check_scan()

    def check_scan(self) -> None:
        """What a user's scan shows."""
        plan = Scan(REF, self.clients[0]).plan()
        assert canonical(rows_of(read_plan(plan))) == canonical(self.table.rows())


def knows(plan: ReadPlan) -> bool:
    """Whether a plan carries the dead rows of each of its files."""
    return bool(plan.files.column("deletes").null_count == 0)


def records(world: World) -> dict[int, list[tuple[int, bytes]]]:
    """Kill records by file, in order."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    with world.planner.store.read() as db:
        for file, whole, body in db.execute("SELECT file, whole, body FROM kill ORDER BY kill_id"):
            found.setdefault(file, []).append((whole, body))
    return found
