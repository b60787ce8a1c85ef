"""Does the planner do what a dict does, whatever is called in whichever order, by two clients at once?"""

from __future__ import annotations

import itertools
import os
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from io_core.errors import (
    ConcurrentModificationError,
    DeltaCATError,
    NotFoundError,
    RequestRejectedError,
    TransactionError,
)
from io_core.schema import encode_schema
from planner_client.catalog import Catalog
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server import segments
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from planner_client.transport import InProcessTransport
from tests.catalog_changes import (
    KEYED,
    SCHEMA,
    SCHEME,
    Where,
    alterations,
    asked,
    changes,
    lifecycles,
    wheres,
)
from tests.catalog_checks import Checks, each_version
from tests.catalog_model import File, Row, Session, Snapshot, State, Txn, V, applied
from tests.linked_files import Pool
from tests.memory import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from io_core.model import WriteEntry
    from planner_client.transaction import Transaction

HOUR_NS = 3600 * 10**9
STEPS = 40

who = st.integers(0, 1)
# Which of the modes that fit the table, or which one at all.
picks = st.integers(0, 3) | st.sampled_from(
    ["auto", "create", "merge", "delete", "add", "append", "replace", "replace_partition"]
)
rows = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2))
kinds = st.tuples(st.booleans(), st.booleans())


# Any: the call's arguments and its answer.
def outcome(
    call: Callable[..., Any], *arguments: Any, **named: Any
) -> tuple[Any, DeltaCATError | None]:
    """A call's answer, or what it was refused for."""
    try:
        return call(*arguments, **named), None
    except DeltaCATError as error:
        return None, error


class Machine(RuleBasedStateMachine):
    """Two clients of one catalog, and the model."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        super().__init__()
        self.root = folder / uuid.uuid4().hex
        self.pool = pool
        # Files are older than the catalog's clock says, so vacuum takes what nobody holds.
        self.now_ns = 2 * 10**18
        self.uids = itertools.count(1)
        self.latest = Snapshot(0, self.tick(), State())
        self.past = [self.latest]
        self.horizon = 0
        self.sessions: dict[str, Session] = {}
        self.txns: dict[str, Txn] = {}
        self.checks = Checks()
        self.planners = [self.open(), self.open()]
        self.clients = [Catalog(InProcessTransport(p), None) for p in self.planners]

    @initialize(first=kinds, second=kinds, lifecycle=lifecycles)
    def begin_with_a_table(
        self, first: tuple[bool, bool], second: tuple[bool, bool], lifecycle: str
    ) -> None:
        self.change(0, Where("x", "a"), ("create_namespace",), 9)
        self.change(0, Where("x", "a"), ("create_table", *first, "active"), 9)
        self.change(0, Where("x", "a", "2"), ("create_table", *second, lifecycle), 9)

    def open(self) -> EmbeddedPlanner:
        return EmbeddedPlanner(self.root, clock_ns=self.tick)

    def tick(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    # --- what stands between the rules and the planner ----------------------------------------------

    def attempt(
        self,
        call: Callable[[], Any],
        txn: Txn | None,
        *operations: tuple[str, dict[str, Any]],
        may_conflict: bool = False,
    ) -> Any:
        """Make a call; it has to end as the model does. Returns its answer, None where refused."""
        expected: type[DeltaCATError] | None = None
        state = self.latest.state if txn is None else txn.state
        try:
            state = applied(state, *operations)
        except DeltaCATError as error:
            expected = type(error)
        answer, refused = outcome(call)
        if refused is not None:
            is_conflict = isinstance(refused, ConcurrentModificationError)
            known = (
                expected is not None or may_conflict if is_conflict else expected is type(refused)
            )
            assert known, refused
            assert self.snapshot() == self.latest.seq
            return None
        assert expected is None
        if txn is None:
            self.remember(state)
        else:
            txn.operations += operations
        return answer

    def snapshot(self) -> int:
        return int(self.planners[0].gauges()["snapshot"])

    def remember(self, state: State) -> None:
        """The planner made a snapshot, or had no reason to."""
        seq = self.snapshot()
        if seq == self.latest.seq:
            assert state.tables() == self.latest.state.tables()
            return
        self.latest = Snapshot(seq, self.tick(), state)
        self.past.append(self.latest)

    def running(self, index: int, client: Catalog) -> tuple[Txn, Transaction] | tuple[None, None]:
        """One of the running transactions, or none, for a call in it."""
        found = [t for t in self.txns.values() if not t.is_historic]
        if index >= len(found):
            return None, None
        return found[index], client.get_transaction(found[index].id)

    # --- namespaces and tables ----------------------------------------------------------------------

    @rule(by=who, where=wheres, change=changes, index=st.integers(0, 3))
    def change(self, by: int, where: Where, change: tuple[Any, ...], index: int) -> None:
        client = self.clients[by]
        txn, handle = self.running(index, client)
        if change[0].startswith("drop") and self.txns:
            # Transactions lose what is purged from the snapshot that they began at: see the conflicts.
            change = (change[0], False)
        operation, call = asked(client, where, change, next(self.uids))
        before = self.latest.state
        if txn is not None:
            self.settle(operation, txn.state)
        done = self.attempt(lambda: call(transaction=handle), txn, operation)
        if done is not None and change[0].startswith("drop") and change[1]:
            self.forget(before, where, whole=change[0] == "drop_namespace")

    @rule(by=who, pick=st.integers(0, 9), change=alterations, index=st.integers(0, 3))
    def alter(self, by: int, pick: int, change: tuple[Any, ...], index: int) -> None:
        txn = self.running(index, self.clients[by])[0]
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

    @rule(by=who, where=wheres, truncate=st.booleans(), index=st.integers(0, 20))
    def reset(self, by: int, where: Where, index: int, *, truncate: bool) -> None:
        client = self.clients[by]
        if truncate:
            self.attempt(
                lambda: client.truncate_table(**where.sent), None, ("truncate", where.named)
            )
            return
        then = self.past[-1 - index % len(self.past)]
        if then.seq >= self.horizon:
            self.attempt(
                lambda: client.rollback_table(**where.sent, as_of=then.time_ns),
                None,
                ("rollback", {**where.named, "then": then.state}),
            )

    # --- writes -------------------------------------------------------------------------------------

    def stage(
        self,
        client: Catalog,
        where: Where,
        mode: Any,
        kind: tuple[bool, bool],
        index: int,
    ) -> Session | None:
        txn, handle = self.running(index, client)
        keyed, parted = kind
        model = {**where.named, "mode": mode, "keyed": keyed, "parted": parted}
        create = {
            "schema_def": encode_schema(KEYED if keyed else SCHEMA),
            "partition_scheme": SCHEME if parted else None,
        }
        answer = self.attempt(
            lambda: client.stage(
                **where.sent, mode=mode, create_if_missing=create, transaction=handle
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

    def commit(self, client: Catalog, session: Session, values: Sequence[Row]) -> None:
        """Commit files of one row each through a session that is open."""
        staged, bound = session.staged, session.session.transaction_id
        txn = self.txns.get(bound or "")
        entries, files = self.stage_files(session, values)
        operation = ("commit", {"staged": staged, "files": files, "uid": next(self.uids)})
        answer = self.attempt(
            lambda: client.commit(session=session.session, entries=entries),
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
        value = next((c.name for c in staged.columns if c.mark == V.mark), None)
        names = ["k", "p", value] if value else ["k", "p"]
        entries, files = [], []
        for row in values:
            held = self.pool.entry(row, names[:1] if deletes else names)
            path = f"{session.session.data_dir}/{uuid.uuid4().hex}.parquet"
            os.link(held.path, path)
            partition = [row[1]] if staged.parted else None
            entries.append(msgspec.structs.replace(held, path=path, partition_values=partition))
            files.append(File(path, held.content_length or 0, (row,), deletes))
        return entries, files

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
        by=who,
        where=wheres,
        kind=kinds,
        index=st.integers(0, 5),
        writes=st.lists(
            st.tuples(picks, st.lists(rows, min_size=1, max_size=3)), min_size=2, max_size=5
        ),
    )
    def write(
        self,
        by: int,
        where: Where,
        kind: tuple[bool, bool],
        index: int,
        writes: list[tuple[int | str, list[Row]]],
    ) -> None:
        client = self.clients[by]
        for pick, values in writes:
            session = self.stage(client, where, self.mode(where, pick), kind, index)
            if session is not None:
                self.commit(client, session, values)

    @rule(by=who, where=wheres, pick=picks, values=st.lists(rows, min_size=1, max_size=3))
    def write_data(self, by: int, where: Where, pick: int | str, values: list[Row]) -> None:
        client, mode = self.clients[by], self.mode(where, pick)
        table = self.latest.state.tables().get(where[:2])
        found = None if table is None else table.version(where.version)
        names = ("k", "p", "v" if found is None else found.value)
        # What is added is null, whether it is said or not; of merges the planner wants to be told.
        data = {c.name: [None] * len(values) for c in (found.columns if found else ())}
        data |= {n: list(c) for n, c in zip(names, zip(*values, strict=True), strict=True) if n}
        model = {**where.named, "mode": mode, "rows": values, "uid": next(self.uids)}
        done = self.attempt(
            lambda: client.write_data(**where.sent, mode=mode, data=data),
            None,
            ("write_data", model),
        )
        if done is not None:
            assert done.records == len(values)
            self.learn_paths(client, where)

    def learn_paths(self, client: Catalog, where: Where) -> None:
        """The planner chose where its files are: the model learns that, once."""
        version = self.latest.state.version(*where)
        plan = client.plan(**where.sent)
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

    @rule(by=who, where=wheres, pick=picks, kind=kinds, index=st.integers(0, 3))
    def begin_write(
        self,
        by: int,
        where: Where,
        pick: int | str,
        kind: tuple[bool, bool],
        index: int,
    ) -> None:
        self.stage(self.clients[by], where, self.mode(where, pick), kind, index)

    @precondition(lambda self: self.sessions)
    @rule(by=who, index=st.integers(0, 9), values=st.lists(rows, min_size=1, max_size=3))
    def end_write(self, by: int, index: int, values: list[Row]) -> None:
        session = list(self.sessions.values())[index % len(self.sessions)]
        self.commit(self.clients[by], session, values)

    @precondition(lambda self: self.sessions)
    @rule(by=who, index=st.integers(0, 9), abort=st.booleans())
    def keep_or_abort(self, by: int, index: int, *, abort: bool) -> None:
        session = list(self.sessions.values())[index % len(self.sessions)]
        if abort:
            assert self.clients[by].abort(session=session.session).status == "ABORTED"
            del self.sessions[session.session.session_id]
        else:
            assert self.clients[by].heartbeat(session=session.session).status == "OPEN"
            session.expires_ns = self.now_ns + HOUR_NS

    # --- transactions -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.txns) < 3)
    @rule(by=who)
    def begin(self, by: int) -> None:
        handle = self.clients[by].transaction(commit_message="tried")
        self.txns[handle.transaction_id] = Txn(handle, self.latest, self.now_ns + HOUR_NS)

    @precondition(lambda self: len(self.txns) < 3)
    @rule(by=who, index=st.integers(0, 20))
    def begin_in_the_past(self, by: int, index: int) -> None:
        then = self.past[-1 - index % len(self.past)]
        handle, error = outcome(self.clients[by].transaction, as_of=then.time_ns)
        if error is not None:
            self.check_expired(error, then)
            return
        self.txns[handle.transaction_id] = Txn(handle, then, self.now_ns + HOUR_NS)
        with pytest.raises(RequestRejectedError, match="it reads, and writes nothing"):
            self.clients[by].create_namespace(namespace="z", transaction=handle)

    @precondition(lambda self: self.txns)
    @rule(by=who, index=st.integers(0, 2), how=st.sampled_from(["commit", "commit", "abort"]))
    def end(self, by: int, index: int, how: str) -> None:
        txn = list(self.txns.values())[index % len(self.txns)]
        handle = self.clients[by].get_transaction(txn.id)
        self.end_sessions(txn)
        if how == "abort":
            assert handle.abort().status == "ABORTED"
            assert self.snapshot() == self.latest.seq
        else:
            self.attempt(
                handle.commit,
                None,
                *txn.operations,
                may_conflict=self.latest.seq > txn.base.seq,
            )
        del self.txns[txn.id]

    @precondition(lambda self: len(self.txns) < 3)
    @rule(
        by=who,
        inside=alterations,
        outside=alterations,
        picks=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    )
    def race(
        self, by: int, inside: tuple[Any, ...], outside: tuple[Any, ...], picks: tuple[int, int]
    ) -> None:
        """A transaction changes a version, and the other client one that it did not see."""
        self.begin(by)
        running = [t for t in self.txns.values() if not t.is_historic]
        self.alter(by, picks[0], inside, len(running) - 1)
        self.alter(1 - by, picks[1], outside, len(running))
        self.end(by, len(self.txns) - 1, "commit")

    def end_sessions(self, txn: Txn) -> None:
        for session_id, session in list(self.sessions.items()):
            if session.session.transaction_id == txn.id:
                del self.sessions[session_id]

    @precondition(lambda self: self.txns)
    @rule(by=who, index=st.integers(0, 2), heartbeat=st.booleans())
    def look_inside(self, by: int, index: int, *, heartbeat: bool) -> None:
        txn = list(self.txns.values())[index % len(self.txns)]
        handle = self.clients[by].get_transaction(txn.id)
        if heartbeat:
            handle.heartbeat()
            txn.expires_ns = self.now_ns + HOUR_NS
            for session in self.sessions.values():
                if session.session.transaction_id == txn.id:
                    session.expires_ns = self.now_ns + HOUR_NS
        self.checks.state(self.clients[by], txn.state, handle)
        self.checks.rows(self.clients[by], txn.state, transaction=handle)

    # --- time ---------------------------------------------------------------------------------------

    @rule(by=who, index=st.integers(0, 20), by_time=st.booleans())
    def travel(self, by: int, index: int, *, by_time: bool) -> None:
        then = self.past[-1 - index % len(self.past)]
        pin: dict[str, Any] = {"as_of": then.time_ns} if by_time else {"snapshot": then.seq}
        for where, version in each_version(then.state):
            request = PlanRequest(**where, **pin)
            plan, error = outcome(self.planners[by].call, PLAN, request)
            if version is None:
                assert isinstance(error, NotFoundError) or then.seq < self.horizon
            elif error is None:
                assert plan.snapshot == then.seq
                self.checks.plan(plan, version)
            else:
                self.check_expired(error, then)
        if by_time and then.seq >= self.horizon:
            self.checks.rows(self.clients[by], then.state, as_of=then.time_ns)

    def check_expired(self, error: DeltaCATError, then: Snapshot) -> None:
        """A snapshot is refused only once vacuum has gone past it."""
        assert error.code == "snapshot_expired"
        assert then.seq < self.horizon

    @rule(by=who)
    def read(self, by: int) -> None:
        self.checks.state(self.clients[by], self.latest.state)
        self.checks.rows(self.clients[by], self.latest.state)

    @rule(
        by=who, what=st.sampled_from(["restart", "wait", "wait", "vacuum"]), much=st.integers(0, 3)
    )
    def operate(self, by: int, what: str, much: int) -> None:
        """What happens seldom."""
        match what:
            case "restart":
                self.restart(by)
            case "wait":
                self.wait(by, (0.4, 0.4, 0.4, 2.0)[much], expire=much % 2 == 1)
            case "vacuum":
                self.vacuum(by, (0, 0, 1, 100)[much])

    def restart(self, by: int) -> None:
        self.planners[by].close()
        self.planners[by] = self.open()
        self.clients[by] = Catalog(InProcessTransport(self.planners[by]), None)

    def wait(self, by: int, hours: float, *, expire: bool) -> None:
        self.now_ns += int(hours * HOUR_NS)
        if expire:
            self.planners[by].expire()
        for txn in list(self.txns.values()):
            if txn.expires_ns < self.now_ns:
                self.end_sessions(txn)
                self.refuse(self.beat, self.clients[by], txn.id)
                del self.txns[txn.id]
        for session_id, session in list(self.sessions.items()):
            if session.expires_ns < self.now_ns:
                self.refuse(self.clients[by].heartbeat, session=session.session)
                del self.sessions[session_id]

    def beat(self, client: Catalog, transaction_id: str) -> None:
        client.get_transaction(transaction_id).heartbeat()

    # Any: the call's arguments.
    def refuse(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """What is over is refused."""
        _, error = outcome(call, *arguments, **named)
        assert isinstance(error, TransactionError) or (error is not None and error.status == 410)

    def vacuum(self, by: int, keep_hours: int) -> None:
        report = vacuum(self.planners[by], keep_ns=keep_hours * HOUR_NS, grace_ns=0)
        assert report.failed == ()
        assert self.horizon <= report.horizon <= self.latest.seq
        self.horizon = report.horizon

    # --- always -------------------------------------------------------------------------------------

    @invariant()
    def the_catalog_is_the_model(self) -> None:
        # The other client looks now and then only: what it knows is of long ago.
        self.checks.state(self.clients[0], self.latest.state)

    def teardown(self) -> None:
        for client in self.clients:
            self.checks.state(client, self.latest.state)
            self.checks.rows(client, self.latest.state)
        assert check(self.planners[1]).findings == ()
        for planner in self.planners:
            planner.close()


def test_the_planner_does_what_a_dict_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files are kept in several ways, by how many they are: here all of them, with few.
    monkeypatch.setattr(segments, "_RECORDS", 3)
    monkeypatch.setattr(segments, "_RUNS", 3)
    with in_memory(tmp_path) as folder:
        pool = Pool(folder, SCHEMA)

        class InThisFolder(Machine):
            def __init__(self) -> None:
                super().__init__(folder, pool)

        run_state_machine_as_test(InThisFolder, settings=settings(stateful_step_count=STEPS))
