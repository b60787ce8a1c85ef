"""Rules of the state machine: files are staged and committed, registered, or come as rows in a call."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from io_core.schema import encode_schema
from tests.catalog_changes import KEYED, SCHEMA, SCHEME, Where, shapes, wheres
from tests.catalog_machine.machine import HOUR_NS, CatalogMachine, outcome, who, whoever
from tests.catalog_model import Session
from tests.catalog_parts import File, Row, Shape, V

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.model import WriteEntry
    from tests.catalog_parts import Column

__all__ = ["Writes"]

# Which of the modes that fit the table, or which one at all.
picks = st.integers(0, 3) | st.sampled_from(
    ["auto", "create", "merge", "delete", "add", "append", "replace", "replace_partition"]
)
rows = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2))


class Writes(CatalogMachine):
    """What brings rows."""

    def stage(
        self,
        by: int,
        where: Where,
        mode: Any,
        shape: Shape,
        index: int,
        *,
        external: bool = False,
    ) -> Session | None:
        client = self.clients[by]
        txn, handle = self.running(by, index)
        # Who may not make namespaces makes none on the way.
        makes = self.barred(by, None, ("create_namespace", {"namespace": ""})) is None
        model = {**where.named, "mode": mode, "shape": shape, "makes_namespace": makes}
        model |= {"external": external}
        create = {
            "schema_def": encode_schema(KEYED if shape.keyed else SCHEMA),
            "partition_scheme": SCHEME if shape.parted else None,
        }
        more: dict[str, Any] = {"allow_external_entries": external, "transaction": handle}
        answer = self.attempt(
            by,
            lambda: client.stage(
                **where.sent,
                mode=mode,
                create_if_missing={} if shape.plain else create,
                **more,
            ),
            txn,
            ("stage", model),
        )
        if txn is not None and txn.operations[-1:] and txn.operations[-1][0] == "stage":
            # It changes nothing by itself.
            txn.operations.pop()
        if answer is None:
            return None
        state = self.latest.state if txn is None else txn.state
        staged = state.stage(**model)
        session = Session(answer, staged, self.latest.seq, self.now_ns + HOUR_NS)
        self.sessions[answer.session_id] = session
        return session

    def commit(self, by: int, session: Session, values: Sequence[Row]) -> None:
        """Commit files of one row each through a session that is open."""
        staged, bound = session.staged, session.session.transaction_id
        txn = self.txns.get(bound or "")
        entries, files = self.stage_files(session, values)
        operation = ("commit", {"staged": staged, "files": files, "uid": next(self.uids)})
        answer = self.attempt(
            by,
            lambda: self.clients[by].commit(session=session.session, entries=entries),
            txn,
            operation,
            may_conflict=txn is None and self.latest.seq > session.base,
        )
        if answer is not None:
            assert (answer.committed, answer.attached) == (txn is None, txn is not None)
            del self.sessions[session.session.session_id]

    def stage_files(
        self, session: Session, values: Sequence[Row]
    ) -> tuple[list[WriteEntry], list[File]]:
        staged = session.staged
        deletes = staged.mode == "delete"
        os.makedirs(session.session.data_dir, exist_ok=True)
        # Of files that say nothing of themselves a schemaless table wants nothing to be so.
        value = V if staged.shape.plain else staged.value
        entries, files = [], []
        for row in values:
            held = self.held(row, None if deletes else value, deletes=deletes)
            path = f"{session.session.data_dir}/{uuid.uuid4().hex}.parquet"
            os.link(held.path, path)
            partition = [row[1]] if staged.shape.parted else None
            entries.append(msgspec.structs.replace(held, path=path, partition_values=partition))
            files.append(File(path, held.content_length or 0, (row,), deletes))
        return entries, files

    def held(self, row: Row, value: Column | None, *, deletes: bool = False) -> WriteEntry:
        """A file of a row, or of its key alone."""
        if deletes:
            return self.pool.entry(row, ["k"])
        if value is None:
            return self.pool.entry(row, ["k", "p"])
        return self.pool.entry(row, ["k", "p", value.name], value.type)

    def mode(self, where: Where, pick: int | str) -> Any:
        """A mode that is picked, or one that surely fits the table as it is."""
        table = self.latest.state.tables().get(where[:2])
        found = None if table is None else table.version(where.version)
        if isinstance(pick, str) or found is None:
            return "auto" if isinstance(pick, int) else pick
        last = "replace_partition" if found.parted else "replace"
        fitting = (
            ("merge", "auto", "delete", last) if found.keyed else ("add", "append", "auto", last)
        )
        return fitting[pick]

    @rule(
        by=whoever,
        where=wheres,
        shape=shapes,
        index=st.integers(0, 5),
        writes=st.lists(
            st.tuples(picks, st.lists(rows, min_size=1, max_size=3)), min_size=2, max_size=5
        ),
    )
    def write(
        self,
        by: int,
        where: Where,
        shape: Shape,
        index: int,
        writes: list[tuple[int | str, list[Row]]],
    ) -> None:
        for pick, values in writes:
            session = self.stage(by, where, self.mode(where, pick), shape, index)
            if session is not None:
                self.commit(by, session, values)

    @rule(by=whoever, where=wheres, pick=picks, values=st.lists(rows, min_size=1, max_size=3))
    def write_data(self, by: int, where: Where, pick: int | str, values: list[Row]) -> None:
        client, mode = self.clients[by], self.mode(where, pick)
        table = self.latest.state.tables().get(where[:2])
        found = None if table is None else table.version(where.version)
        value = V if found is None or found.plain else found.value
        names = ("k", "p", None if value is None else value.name)
        # What is left out is null.
        data = {n: list(c) for n, c in zip(names, zip(*values, strict=True), strict=True) if n}
        model = {**where.named, "mode": mode, "rows": values, "uid": next(self.uids)}
        done = self.attempt(
            by,
            lambda: client.write_data(**where.sent, mode=mode, data=data),
            None,
            ("write_data", model),
        )
        if done is not None:
            assert done.records == len(values)
            self.learn_paths(where)

    def learn_paths(self, where: Where) -> None:
        """The planner chose where its files are: the model learns that, once."""
        version = self.latest.state.version(*where)
        plan = self.clients[0].plan(**where.sent)
        known = {f.path for f in version.files}
        values = plan.column("partition:0") if version.parted else [None] * len(plan.paths)
        new = {
            value: (path, size)
            for path, size, value in zip(
                plan.paths, plan.column("content_length"), values, strict=True
            )
            if path not in known
        }
        version.files = [
            f if f.path else File(*new[version.partition(f)], f.rows, f.deletes)
            for f in version.files
        ]

    @rule(
        by=whoever,
        where=wheres,
        pick=picks,
        shape=shapes,
        index=st.integers(0, 3),
        external=st.booleans(),
    )
    def begin_write(
        self,
        by: int,
        where: Where,
        pick: int | str,
        shape: Shape,
        index: int,
        *,
        external: bool,
    ) -> None:
        self.stage(by, where, self.mode(where, pick), shape, index, external=external)

    @precondition(lambda self: self.sessions)
    @rule(by=whoever, index=st.integers(0, 9), values=st.lists(rows, min_size=1, max_size=3))
    def end_write(self, by: int, index: int, values: list[Row]) -> None:
        session = list(self.sessions.values())[index % len(self.sessions)]
        self.commit(by, session, values)

    @precondition(lambda self: self.sessions)
    @rule(by=whoever, index=st.integers(0, 9), abort=st.booleans())
    def keep_or_abort(self, by: int, index: int, *, abort: bool) -> None:
        session = list(self.sessions.values())[index % len(self.sessions)]
        txn = self.txns.get(session.session.transaction_id or "")
        client, call = self.clients[by], ("commit", {"staged": session.staged})
        answer, error = outcome(
            client.abort if abort else client.heartbeat, session=session.session
        )
        if (barred := self.barred(by, txn, call)) is not None:
            assert type(error) is barred
            return
        assert answer.status == ("ABORTED" if abort else "OPEN")
        if abort:
            del self.sessions[session.session.session_id]
        else:
            session.expires_ns = self.now_ns + HOUR_NS

    @rule(
        by=who,
        where=wheres,
        pick=picks,
        shape=shapes,
        values=st.lists(rows, min_size=1, max_size=3),
        again=st.booleans(),
    )
    def add_files(
        self,
        by: int,
        where: Where,
        pick: int | str,
        shape: Shape,
        values: list[Row],
        *,
        again: bool,
    ) -> None:
        """Files that lie elsewhere; perhaps one that is part of the table already."""
        # Any: a mode. Keys to delete are no rows of a table.
        mode: Any = self.mode(where, pick)
        mode = "merge" if mode == "delete" else mode
        table = self.latest.state.tables().get(where[:2])
        found = None if table is None else table.version(where.version)
        files = [self.file_elsewhere(row, V if found is None else found.value) for row in values]
        if again and found is not None:
            files += [f for f in found.files if self.elsewhere.get(f.path) == found.columns][:1]
        self.elsewhere |= {f.path: (V,) if found is None else found.columns for f in files}
        model = {**where.named, "mode": mode, "shape": shape._replace(plain=False), "files": files}
        layout: dict[str, Any] = {}
        if found is None:
            layout |= {"merge_keys": ["k"]} if shape.keyed else {}
            layout |= {"partition_by": ["p"]} if shape.parted else {}
        self.attempt(
            by,
            lambda: self.clients[by].add_files(
                [f.path for f in files], **where.sent, mode=mode, **layout
            ),
            None,
            ("add_files", model | {"uid": next(self.uids)}),
        )

    def file_elsewhere(self, row: Row, value: Column | None) -> File:
        held = self.held(row, value)
        os.makedirs(self.outside, exist_ok=True)
        path = f"{self.outside}/{uuid.uuid4().hex}.parquet"
        os.link(held.path, path)
        return File(path, held.content_length or 0, (row,))
