"""From an older ledger to this release's format, forwards, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from io_core.literal import kind_of
from planner_client.server.segments import CORE, KINDS, insert_columns, stats_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apsw

__all__ = ["upgrade"]

_OLD = (
    "namespace",
    "tbl",
    "table_version",
    "table_schema",
    "partition",
    "file",
    "segment",
    "write_session",
)
_RUN = 65_536
# From format 1: rows of the old table into the new one of the same name.
_COPIES = (
    (
        "INSERT INTO namespace(row_id, namespace_id, name, properties, begin_seq, end_seq)"
        " SELECT namespace_id, namespace_id, name, properties, begin_seq, end_seq FROM old_namespace"
    ),
    (
        "INSERT INTO tbl(row_id, table_id, uuid, namespace_id, name, description, properties, begin_seq,"
        " end_seq) SELECT table_id, table_id, uuid, namespace_id, name, description, properties,"
        " begin_seq, end_seq FROM old_tbl"
    ),
    (
        "INSERT INTO table_version SELECT version_id, version_id, stream_uuid, table_id, version, number,"
        " lifecycle_state, description, properties, content_types, partition_scheme, sort_scheme,"
        " begin_seq, end_seq FROM old_table_version"
    ),
    "INSERT INTO table_schema SELECT version_id, schema_id, arrow, begin_seq FROM old_table_schema",
    (
        "INSERT INTO partition SELECT partition_id, uuid, version_id, partition_values, begin_seq,"
        " end_seq FROM old_partition"
    ),
)


def upgrade(db: apsw.Connection, schema: str) -> None:
    """Bring a ledger of format 1 to format 2; `db` is within a write transaction.

    Args:
        db: The ledger.
        schema: The statements that make this release's tables.
    """
    for table in _OLD:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    # They keep what they hold; the new statements would make them again.
    for table in ("meta", "revision", "operation"):
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    db.execute(schema)
    db.execute("INSERT INTO meta SELECT key, value FROM old_meta")
    db.execute("INSERT INTO revision SELECT seq, committed_ns, message, NULL FROM old_revision")
    db.execute("INSERT INTO operation SELECT * FROM old_operation")
    for statement in _COPIES:
        db.execute(statement)
    for (version_id,) in db.execute("SELECT version_id FROM old_table_version").fetchall():
        _copy_files(db, version_id)
    _copy_sessions(db)
    for table in (*_OLD, "meta", "revision", "operation"):
        db.execute(f"DROP TABLE old_{table}")


def _copy_files(db: apsw.Connection, version_id: int) -> None:
    (arrow,) = db.execute(
        "SELECT arrow FROM old_table_schema WHERE version_id = ? ORDER BY schema_id DESC LIMIT 1",
        (version_id,),
    ).fetchone()
    schema = pa.ipc.read_schema(pa.py_buffer(arrow))
    rows = db.execute(
        "SELECT file_id, content_length, record_count, partition_id, stream_position, begin_seq,"
        " content_type, content_encoding, delta_type, delete_columns, schema_id, sort_scheme_id,"
        " hash, path FROM old_file WHERE version_id = ? ORDER BY file_id",
        (version_id,),
    ).fetchall()
    stats = dict(_old_stats(db, version_id))
    for first in range(0, len(rows), _RUN):
        run = rows[first : first + _RUN]
        columns = {
            "core": _core(run),
            "path": pa.table({"path": [row[13] for row in run]}),
            "hash": pa.table({"hash": pa.array([row[12] for row in run], pa.binary(16))}),
        }
        for field in schema:
            field_id = field.metadata[b"PARQUET:field_id"].decode()
            if kind_of(field.type) != "other":
                held = [stats.get((row[0], field_id), (None,) * 4) for row in run]
                parts = [list(part) for part in zip(*held, strict=True)]
                columns[f"stats:{field_id}"] = stats_table(parts, field.type)
        insert_columns(db, version_id, first, columns)


# Any: the ledger's values.
def _core(rows: list[tuple[Any, ...]]) -> pa.Table:
    numbers = np.array([row[1:6] for row in rows], np.int64).reshape(-1, 5).T
    profiles = [msgspec.json.encode(list(row[6:12])).decode() for row in rows]
    arrays = [
        *(pa.array(column) for column in numbers),
        pa.array(profiles, pa.string()).dictionary_encode(),
    ]
    return pa.table(arrays, schema=CORE)


# Any: JSON scalars.
def _old_stats(
    db: apsw.Connection, version_id: int
) -> Iterator[tuple[tuple[int, str], tuple[Any, ...]]]:
    """Statistics by file and field id, in the order of `KINDS`."""
    found = db.execute(
        "SELECT first_file_id, body FROM old_segment WHERE version_id = ?", (version_id,)
    ).fetchall()
    for first, body in found:
        for field_id, parts in msgspec.msgpack.decode(body).items():
            for i, held in enumerate(zip(*parts[: len(KINDS)], strict=True)):
                yield (first + i, field_id), held


def _copy_sessions(db: apsw.Connection) -> None:
    """Sessions go on; what they conflict with is what is committed from now on."""
    (base,) = db.execute("SELECT coalesce(max(seq), 0) FROM revision").fetchone()
    found = db.execute(
        "SELECT session_id, session_version, status, expires_ns, body FROM old_write_session"
    ).fetchall()
    for session_id, version, status, expires_ns, body in found:
        kept = msgspec.json.decode(body) | {"base": base}
        db.execute(
            "INSERT INTO write_session VALUES (?, ?, ?, NULL, ?, ?, ?)",
            (session_id, version, status, base, expires_ns, msgspec.json.encode(kept)),
        )
