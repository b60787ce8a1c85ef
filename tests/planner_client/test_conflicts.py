"""Which of two concurrent writes may commit second: the matrix, cell by cell, as the documentation has it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pytest

from io_core.errors import ConcurrentModificationError, NotFoundError
from io_core.sink import OpenSink
from planner_client.catalog import Catalog
from planner_client.server.conflicts import MATRIX
from planner_client.server.planner import EmbeddedPlanner
from planner_client.transport import InProcessTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteSession
    from planner_client.transaction import Transaction

DOCUMENTED = Path(__file__).parents[2] / "docs" / "transactions.md"
WORDS = {"never": "never", "partition": "same partition", "always": "always", "name": "same name"}
DATA = ("add", "append", "upsert", "replace_partition", "replace")
MODES: dict[str, Any] = dict(zip(DATA, DATA, strict=True)) | {"upsert": "merge"}
# A table takes either rows with keys or rows without.
NEVER_MEET = ({"add", "upsert"}, {"append", "upsert"})
SCHEME = {"keys": [{"key": ["p"]}]}
_NUMBERS = itertools.count()


def documented() -> dict[tuple[str, str], str]:
    """The matrix of the documentation: mine, theirs, and when they conflict."""
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in DOCUMENTED.read_text().splitlines()
        if line.count("|") > 10
    ]
    kinds = rows[0][1:]
    assert [row[0] for row in rows[2:]] == kinds
    return {
        (row[0], theirs): WORDS[word]
        for row in rows[2:]
        for theirs, word in zip(kinds, row[1:], strict=True)
    }


class Cell(NamedTuple):
    """One trial: what I do, what they do, in the same partition (or of the same name) or not."""

    mine: str
    theirs: str
    same: bool
    conflict: bool

    def __str__(self) -> str:
        return f"{self.mine}-{self.theirs}-{'same' if self.same else 'other'}"


def cells() -> Iterator[Cell]:
    for (mine, theirs), when in documented().items():
        if {mine, theirs} in NEVER_MEET:
            continue
        yield Cell(mine, theirs, same=True, conflict=when != "never")
        if {mine, theirs} <= set(DATA) or when == "same name":
            yield Cell(mine, theirs, same=False, conflict=when == "always")


class Side:
    """One of two clients; each has a planner of its own on the one root."""

    def __init__(self, root: Path, who: str, key: int) -> None:
        self.planner = EmbeddedPlanner(root)
        self.catalog = Catalog(InProcessTransport(self.planner), None)
        self.who = who
        self.key = key

    @property
    def snapshot(self) -> float:
        return self.planner.gauges()["snapshot"]

    def do(self, kind: str, where: dict[str, Any], partition: int, tx: Transaction | None) -> None:
        """Do what a kind of change stands for."""
        catalog = self.catalog
        match kind:
            case "alter":
                field = {"name": self.who, "type": "int64"}
                updates = {"operations": [{"op": "add", "field": field}]}
                catalog.alter_table(**where, schema_updates=updates, transaction=tx)
            case "describe":
                catalog.alter_table(**where, table_properties={self.who: 1}, transaction=tx)
            case "drop":
                catalog.drop_table(**where, transaction=tx)
            case "create":
                catalog.create_table(**where, table_version="2", transaction=tx)
            case "namespace":
                namespace = where["namespace"]
                catalog.alter_namespace(
                    namespace=namespace, properties={self.who: 1}, transaction=tx
                )
            case _:
                rows = pa.table({"k": [self.key], "p": [partition]})
                catalog.write(rows, **where, mode=MODES[kind], table_version="1", transaction=tx)

    def is_visible(self, kind: str, where: dict[str, Any], by: Side) -> bool:
        """Whether what `by` did can be seen."""
        catalog = self.catalog
        match kind:
            case "alter":
                return by.who in schema_names(catalog, where)
            case "describe":
                found = catalog.describe_table(**where, table_version="1")
                return by.who in (found.table_properties or {})
            case "drop":
                return not catalog.table_exists(**where)
            case "create":
                return catalog.table_exists(**where, table_version="2")
            case "namespace":
                found_ns = catalog.get_namespace(namespace=where["namespace"])
                return by.who in (found_ns.properties or {})
        return by.key in keys(catalog, where)


def keys(catalog: Catalog, where: dict[str, Any]) -> list[int]:
    found = catalog.read(**where, table_version="1").column("k").to_pylist()
    return sorted(found)


def schema_names(catalog: Catalog, where: dict[str, Any]) -> list[str]:
    return [f.name for f in catalog.describe_table(**where, table_version="1").schema or ()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conflicts") / "catalog"


@pytest.fixture(scope="module")
def mine(root: Path) -> Side:
    return Side(root, "mine", 100)


@pytest.fixture(scope="module")
def theirs(root: Path) -> Side:
    return Side(root, "theirs", 200)


def make(side: Side, *, keyed: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """A namespace of two tables alike, each with a row in partitions 0 and 1."""
    namespace = f"n{next(_NUMBERS)}"
    both: list[dict[str, Any]] = [{"namespace": namespace, "table": name} for name in ("t", "u")]
    rows = pa.table({"k": [0, 1], "p": [0, 1]})
    for where in both:
        side.catalog.write(
            rows, **where, merge_keys=["k"] if keyed else (), partition_scheme=SCHEME
        )
    return both[0], both[1]


# --- the matrix -----------------------------------------------------------------------------------


def test_the_documented_matrix_is_the_one_in_force() -> None:
    found = documented()
    assert {(m, t): found[m, t] for m in MATRIX for t in MATRIX} == {
        (m, t): when for m, row in MATRIX.items() for t, when in row.items()
    }


@pytest.mark.parametrize("cell", list(cells()), ids=str)
def test_of_two_transactions_the_second_commits_as_the_matrix_says(
    cell: Cell, mine: Side, theirs: Side
) -> None:
    where, other = make(mine, keyed="upsert" in {cell.mine, cell.theirs})
    named = {cell.mine, cell.theirs} & {"create", "namespace"}
    there = where if cell.same or not named else other
    one, two = mine.catalog.transaction(), theirs.catalog.transaction()
    mine.do(cell.mine, where, 0, one)
    theirs.do(cell.theirs, there, 0 if cell.same else 1, two)
    two.commit()
    before = mine.snapshot
    if cell.conflict:
        with pytest.raises(ConcurrentModificationError, match="was aborted: ") as caught:
            one.commit()
        assert caught.value.details["conflict_class"] == "retryable_stale_read"
        assert caught.value.details["blocker_outcome"] == "committed"
        assert caught.value.details["transaction_id"] == one.transaction_id
        assert one.get().status == "ABORTED"
        assert mine.snapshot == before
    else:
        one.commit()
        assert mine.snapshot > before
        assert theirs.is_visible(cell.mine, where, mine)
    assert mine.is_visible(cell.theirs, there, theirs)


@pytest.mark.parametrize("kind", [*DATA, "alter", "describe", "drop"])
def test_changes_of_two_tables_never_conflict(kind: str, mine: Side, theirs: Side) -> None:
    where, other = make(mine, keyed=kind == "upsert")
    one, two = mine.catalog.transaction(), theirs.catalog.transaction()
    mine.do(kind, where, 0, one)
    theirs.do(kind, other, 0, two)
    two.commit()
    one.commit()
    assert theirs.is_visible(kind, where, mine)
    assert mine.is_visible(kind, other, theirs)


def test_changes_of_two_versions_of_one_table_never_conflict(mine: Side, theirs: Side) -> None:
    where, _ = make(mine, keyed=False)
    mine.catalog.create_table(
        **where, schema=pa.schema([("k", pa.int64())]), table_version="2", lifecycle_state="beta"
    )
    one, two = mine.catalog.transaction(), theirs.catalog.transaction()
    mine.do("replace", where, 0, one)
    rows = pa.table({"k": [7]})
    theirs.catalog.write(rows, **where, mode="replace", table_version="2", transaction=two)
    two.commit()
    one.commit()
    assert keys(mine.catalog, where) == [100]
    assert mine.catalog.read(**where, table_version="2").column("k").to_pylist() == [7]


def test_a_namespace_that_was_renamed_or_dropped_is_a_conflict_for_data(
    mine: Side, theirs: Side
) -> None:
    for change in ("renamed", "dropped"):
        where, _ = make(mine, keyed=False)
        tx = mine.catalog.transaction()
        mine.do("add", where, 0, tx)
        if change == "renamed":
            theirs.catalog.alter_namespace(
                namespace=where["namespace"], new_name=f"{where['namespace']}_renamed"
            )
        else:
            theirs.catalog.drop_namespace(namespace=where["namespace"])
        with pytest.raises(ConcurrentModificationError):
            tx.commit()
        assert tx.status == "ABORTED" or tx.get().status == "ABORTED"
        assert not mine.catalog.namespace_exists(namespace=where["namespace"])


def test_a_table_that_was_renamed_is_a_conflict_under_both_names(mine: Side, theirs: Side) -> None:
    where, _ = make(mine, keyed=False)
    writing, making = mine.catalog.transaction(), mine.catalog.transaction()
    mine.do("add", where, 0, writing)
    taken = {**where, "table": "taken"}
    mine.catalog.create_table(**taken, transaction=making)
    theirs.catalog.rename_table(**where, new_name="taken")
    for tx in (writing, making):
        with pytest.raises(ConcurrentModificationError):
            tx.commit()
    assert keys(mine.catalog, taken) == [0, 1]


@pytest.mark.parametrize("done", ["add", "alter", "describe"])
def test_a_table_that_was_purged_is_a_conflict_too(mine: Side, theirs: Side, done: str) -> None:
    where, _ = make(mine, keyed=False)
    tx = mine.catalog.transaction()
    mine.do(done, where, 0, tx)
    # Gone from the snapshot that the transaction began at, too.
    theirs.catalog.drop_table(**where, purge=True)
    with pytest.raises(ConcurrentModificationError, match="was aborted") as caught:
        tx.commit()
    assert caught.value.details["conflict_class"] == "retryable_stale_read"
    assert mine.catalog.get_transaction(tx.transaction_id).status == "ABORTED"
    assert not mine.catalog.table_exists(**where)


def test_a_conflict_in_one_table_undoes_the_work_in_all_of_them(mine: Side, theirs: Side) -> None:
    where, other = make(mine, keyed=True)
    tx = mine.catalog.transaction()
    mine.do("upsert", other, 0, tx)
    mine.do("describe", other, 0, tx)
    mine.do("upsert", where, 0, tx)
    theirs.do("upsert", where, 0, None)
    with pytest.raises(ConcurrentModificationError) as caught:
        tx.commit()
    assert caught.value.details["blocking_snapshot"] == theirs.snapshot
    assert keys(mine.catalog, other) == [0, 1]
    assert not theirs.is_visible("describe", other, mine)
    assert keys(mine.catalog, where) == [0, 1, 200]


def test_write_skew_is_possible(mine: Side, theirs: Side) -> None:
    where, other = make(mine, keyed=False)
    one, two = mine.catalog.transaction(), theirs.catalog.transaction()
    assert mine.catalog.read(**other, transaction=one).num_rows == 2
    mine.do("replace", where, 0, one)
    assert theirs.catalog.read(**where, transaction=two).num_rows == 2
    theirs.do("replace", other, 0, two)
    one.commit()
    two.commit()
    assert [keys(mine.catalog, w) for w in (where, other)] == [[100], [200]]


# --- sessions outside of transactions -------------------------------------------------------------


def staged(side: Side, kind: str, where: dict[str, Any], partition: int) -> tuple[Any, ...]:
    """A session and its entries, which are yet to be committed."""
    session = side.catalog.stage(**where, mode=MODES[kind])
    rows = pa.table({"k": [side.key], "p": [partition]})
    return session, OpenSink(side.catalog, session, "unused").write(rows)


def commit(side: Side, session: WriteSession, entries: list[Any]) -> WriteSession:
    return side.catalog.commit(session=session, entries=entries)


@pytest.mark.parametrize("partition", [0, 1])
@pytest.mark.parametrize(
    ("kind", "other_kind"),
    [pair for pair in itertools.product(DATA, DATA) if {*pair} not in NEVER_MEET],
)
def test_a_session_conflicts_with_what_was_committed_since_it_was_staged(
    kind: str, other_kind: str, partition: int, mine: Side, theirs: Side
) -> None:
    where, _ = make(mine, keyed="upsert" in {kind, other_kind})
    session, entries = staged(mine, kind, where, 0)
    theirs.do(other_kind, where, partition, None)
    # By itself an append takes its place when it commits.
    when = MATRIX["add" if kind == "append" else kind][other_kind]  # type: ignore[index]  # a kind
    if when == "always" or (when == "same partition" and partition == 0):
        before = mine.snapshot
        with pytest.raises(
            ConcurrentModificationError, match="another commit came first"
        ) as caught:
            commit(mine, session, entries)
        assert caught.value.details["conflict_class"] == "retryable_stale_read"
        assert caught.value.details["blocking_snapshot"] == before
        assert mine.snapshot == before
        session, entries = staged(mine, kind, where, 0)
    done = commit(mine, session, entries)
    assert done.committed
    assert mine.key in keys(theirs.catalog, where)


def test_appends_take_their_place_when_they_commit(mine: Side, theirs: Side) -> None:
    where, _ = make(mine, keyed=False)
    first = staged(mine, "append", where, 0)
    second = staged(theirs, "append", where, 0)
    commit(theirs, *second)
    commit(mine, *first)
    rows = mine.catalog.read(**where, filter_predicate={"eq": ["p", 0]})
    assert rows.column("k").to_pylist() == [0, 200, 100]


@pytest.mark.parametrize("kind", ["alter", "drop"])
def test_a_session_is_refused_by_a_table_of_another_shape(
    kind: str, mine: Side, theirs: Side
) -> None:
    where, _ = make(mine, keyed=False)
    session, entries = staged(mine, "add", where, 0)
    theirs.do(kind, where, 0, None)
    before = mine.snapshot
    with pytest.raises((ConcurrentModificationError, NotFoundError)):
        commit(mine, session, entries)
    assert mine.snapshot == before
    assert mine.catalog.get_write_session(session.session_id).status == "OPEN"


@pytest.mark.parametrize("kind", ["add", "upsert", "replace"])
def test_a_session_is_refused_by_another_table_of_the_same_name(
    kind: str, mine: Side, theirs: Side
) -> None:
    where, _ = make(mine, keyed=kind == "upsert")
    session, entries = staged(mine, kind, where, 0)
    theirs.catalog.drop_table(**where)
    theirs.catalog.write(
        pa.table({"k": [9], "p": [0]}),
        **where,
        merge_keys=["k"] if kind == "upsert" else (),
        partition_scheme=SCHEME,
    )
    with pytest.raises(ConcurrentModificationError, match="was dropped and made again"):
        commit(mine, session, entries)
    assert keys(theirs.catalog, where) == [9]


def test_two_sessions_may_make_one_table_and_both_fill_it(mine: Side, theirs: Side) -> None:
    namespace = f"n{next(_NUMBERS)}"
    rows = pa.table({"k": [1], "p": [0]})
    missing: dict[str, Any] = {"namespace": namespace, "table": "new"}
    schema: list[dict[str, Any]] = [{"name": name, "type": "int64"} for name in ("k", "p")]
    opened = [
        (side, side.catalog.stage(**missing, create_if_missing={"schema_def": schema}))
        for side in (mine, theirs)
    ]
    for side, session in opened:
        commit(side, session, OpenSink(side.catalog, session, "unused").write(rows))
    assert keys(mine.catalog, {**missing}) == [1, 1]


def test_the_documented_words_are_all_explained() -> None:
    text = DOCUMENTED.read_text()
    explained = set(re.findall(r"^- `(.+?)`: ", text, re.MULTILINE))
    assert explained == set(WORDS)
