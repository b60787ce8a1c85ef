"""Does a ledger agree with itself? Every rule that its tables keep, and what breaks one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import apsw
import msgspec
import pyarrow as pa

from io_core.model import PartitionScheme, SortScheme
from planner_client.server.catalog import loads
from planner_client.server.conflicts import Change
from planner_client.server.leases import horizon
from planner_client.server.sessions import Kept
from planner_client.server.store import latest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["broken_rules", "damage"]


class _Rule(NamedTuple):
    """A query that finds rows which break a rule, and how to put it; `{0}` is the first column."""

    text: str
    query: str


# Which rows of one thing must not be visible at the same time: table, what makes them one, its name.
_ALONE = (
    ("namespace", "namespace_id", "namespace {0}"),
    ("namespace", "name", "the name of namespace {0!r}"),
    ("tbl", "table_id", "table {0}"),
    ("tbl", "namespace_id || '.' || name", "the name of table {0!r}"),
    ("table_version", "version_id", "table version {0}"),
    ("table_version", "table_id || '.' || version", "the name of table version {0!r}"),
    ("partition", "version_id || ' ' || coalesce(partition_values, '')", "partition {0!r}"),
)
_SPANNING = ("namespace", "tbl", "table_version", "partition")
# What is there now must be part of what is there now: table, its parent, and the parent's id.
_PARENTS = (
    ("tbl", "namespace", "namespace_id"),
    ("table_version", "tbl", "table_id"),
    ("partition", "table_version", "version_id"),
)
_RULES = (
    _Rule(
        "snapshot {0} was committed no later than the one before",
        "SELECT seq FROM (SELECT seq, committed_ns, lag(committed_ns) OVER (ORDER BY seq) AS before"
        " FROM revision) WHERE committed_ns <= before",
    ),
    _Rule(
        "meta lacks catalog_id",
        "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = 'catalog_id')",
    ),
    _Rule(
        "table version {0} has no schema",
        "SELECT DISTINCT version_id FROM table_version WHERE version_id NOT IN"
        " (SELECT version_id FROM table_schema)",
    ),
    _Rule(
        "segments of table version {0}, which does not exist",
        "SELECT DISTINCT version_id FROM segment WHERE version_id NOT IN"
        " (SELECT version_id FROM table_version)",
    ),
    _Rule(
        "write session {0} has status {1!r}",
        "SELECT session_id, status FROM write_session"
        " WHERE status NOT IN ('OPEN', 'ATTACHED', 'COMMITTED', 'ABORTED')",
    ),
    _Rule(
        "write session {0} is {1}, but its transaction {2} does not run",
        "SELECT session_id, status, transaction_id FROM write_session"
        " WHERE status IN ('OPEN', 'ATTACHED') AND transaction_id IS NOT NULL AND transaction_id"
        " NOT IN (SELECT transaction_id FROM txn WHERE status = 'RUNNING')",
    ),
    _Rule(
        "write session {0} is attached to no transaction",
        "SELECT session_id FROM write_session WHERE status = 'ATTACHED' AND transaction_id IS NULL",
    ),
    _Rule(
        "transaction {0} has status {1!r}",
        "SELECT transaction_id, status FROM txn"
        " WHERE status NOT IN ('RUNNING', 'COMMITTED', 'ABORTED')",
    ),
    _Rule(
        "transaction {0} is {1} since no time",
        "SELECT transaction_id, status FROM txn WHERE status <> 'RUNNING' AND finalized_ns IS NULL",
    ),
    _Rule(
        "operations of transaction {0}, which does not exist",
        "SELECT DISTINCT transaction_id FROM txn_operation WHERE transaction_id NOT IN"
        " (SELECT transaction_id FROM txn)",
    ),
    _Rule(
        "operations of transaction {0} are not numbered from 1 on",
        "SELECT transaction_id FROM txn_operation GROUP BY transaction_id"
        " HAVING min(number) <> 1 OR max(number) <> count(*)",
    ),
    _Rule(
        "the outcome of operation {0} is no JSON",
        "SELECT operation_id FROM operation WHERE NOT json_valid(CAST(response AS TEXT))",
    ),
)
# What names a snapshot: table, column.
_SNAPSHOTS = (
    *((table, column) for table in _SPANNING for column in ("begin_seq", "end_seq")),
    ("table_schema", "begin_seq"),
    ("change", "seq"),
)
_AT_MOST = (
    ("write_session", "base_seq"),
    ("txn", "base_seq"),
    ("txn", "snapshot"),
    ("lease", "first"),
)


def damage(db: apsw.Connection) -> list[str]:
    """What SQLite itself finds wrong with the file."""
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
    except apsw.CorruptError as error:
        return [f"SQLite cannot read the ledger: {error}"]
    return [f"SQLite: {text}" for text in found if text != "ok"]


def broken_rules(db: apsw.Connection) -> Iterator[str]:
    """What contradicts something else in the ledger, files and their columns left aside."""
    for rule in (*_RULES, *_rules_of_time()):
        for row in db.execute(rule.query):
            yield rule.text.format(*row)
    for table, column in _AT_MOST:
        for (value,) in db.execute(
            f"SELECT {column} FROM {table} WHERE {column} > ?", (latest(db),)
        ):
            yield f"{table} has {column} {value}, but the latest snapshot is {latest(db)}"
    if horizon(db) > latest(db):
        yield f"the horizon is {horizon(db)}, but the latest snapshot is {latest(db)}"
    yield from _undecodable(db)


def _rules_of_time() -> Iterator[_Rule]:
    for table in _SPANNING:
        yield _Rule(
            f"{table} row {{0}} ends before it begins",
            f"SELECT rowid FROM {table} WHERE end_seq < begin_seq",
        )
    for table, column in _SNAPSHOTS:
        yield _Rule(
            f"{table} has {column} {{0}}, which is no snapshot",
            f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"
            f" AND {column} NOT IN (SELECT seq FROM revision)",
        )
    for table, key, text in _ALONE:
        yield _Rule(
            f"{text} is there twice at snapshot {{1}}",
            f"SELECT one, begin_seq FROM (SELECT {key} AS one, begin_seq,"
            f" lag(coalesce(end_seq, {2**62})) OVER (PARTITION BY {key} ORDER BY begin_seq) AS before"
            f" FROM {table} WHERE end_seq IS NULL OR end_seq > begin_seq) WHERE before > begin_seq",
        )
    for table, parent, key in _PARENTS:
        yield _Rule(
            f"{table} row {{0}} is live in {parent} {{1}}, which is not",
            f"SELECT rowid, {key} FROM {table} WHERE end_seq IS NULL AND {key} NOT IN"
            f" (SELECT {key} FROM {parent} WHERE end_seq IS NULL)",
        )


def _undecodable(db: apsw.Connection) -> Iterator[str]:
    for seq, body in db.execute("SELECT seq, body FROM change"):
        try:
            msgspec.msgpack.decode(body, type=Change)
        except msgspec.MsgspecError as error:
            yield f"a change of snapshot {seq} cannot be read: {error}"
    for version_id, schema_id, arrow in db.execute(
        "SELECT version_id, schema_id, arrow FROM table_schema WHERE arrow IS NOT NULL"
    ):
        try:
            pa.ipc.read_schema(pa.py_buffer(arrow))
        except (pa.ArrowException, OSError) as error:
            yield f"schema {schema_id} of table version {version_id} cannot be read: {error}"
    for version_id, *schemes in db.execute(
        "SELECT version_id, partition_scheme, sort_scheme FROM table_version"
    ):
        try:
            loads(schemes[0], PartitionScheme)
            loads(schemes[1], SortScheme)
        except msgspec.MsgspecError as error:
            yield f"a scheme of table version {version_id} cannot be read: {error}"
    yield from _sessions(db)


def _sessions(db: apsw.Connection) -> Iterator[str]:
    rows = db.execute(
        "SELECT session_id, session_version, status, transaction_id, base_seq, body"
        " FROM write_session"
    )
    for session_id, version, status, transaction_id, base, body in rows:
        try:
            kept = msgspec.json.decode(body, type=Kept)
        except msgspec.MsgspecError as error:
            yield f"write session {session_id} cannot be read: {error}"
            continue
        said = kept.session
        if (said.session_id, said.session_version, said.status, said.transaction_id, kept.base) != (
            session_id,
            version,
            status,
            transaction_id,
            base,
        ):
            yield f"write session {session_id} is not what its row says"
