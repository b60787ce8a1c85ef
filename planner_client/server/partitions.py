"""A version's partitions on disk: a row each, and columns of many, which are read at once.

The rows are what counts; the columns are made from them once they have become many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core.lean_arrow import lean_array
from io_core.literal import load_array
from io_core.model import PartitionScheme
from io_core.partition import value_type
from planner_client.server.catalog import loads
from planner_client.server.segments import decode_columns, encode_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

__all__ = ["divided_by", "fold_partitions", "later_partitions", "partition_runs", "partition_table"]

_NAME = "partitions"
_MANY = 1024


# Any: the ledger's values.
def partition_table(
    rows: Sequence[tuple[Any, ...]], schema: pa.Schema | None, scheme: PartitionScheme | None
) -> pa.Table:
    """Rows of (id, uuid, begin, values as JSON) in columns: `id`, `uuid`, `begin`, `partition:<i>`.

    Where the table is unpartitioned, one column without a name stands for the values.
    """
    ids, uuids, begin, texts = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns: dict[str, pa.Array] = {
        "id": lean_array(ids, pa.int64()),
        "uuid": lean_array(uuids, pa.string()),
        "begin": lean_array(begin, pa.int64()),
    }
    if scheme is None or schema is None:
        columns[""] = pa.nulls(len(ids))
        return pa.table(columns)
    # Of a transaction that does not see the scheme, partitions of its own have no values.
    none = msgspec.json.encode([None] * len(scheme.keys)).decode()
    values = msgspec.json.decode(f"[{','.join(text or none for text in texts)}]")
    for i, key in enumerate(scheme.keys):
        columns[f"partition:{i}"] = load_array(
            [value[i] for value in values], value_type(key, schema)
        )
    return pa.table(columns)


def divided_by(
    db: apsw.Connection, version_id: int
) -> tuple[pa.Schema | None, PartitionScheme | None]:
    """The schema and the partition scheme that a version has after all that `db` sees."""
    (arrow,) = db.execute(
        "SELECT arrow FROM table_schema WHERE version_id = ? ORDER BY schema_id DESC LIMIT 1",
        (version_id,),
    ).fetchone()
    (scheme,) = db.execute(
        "SELECT partition_scheme FROM table_version WHERE version_id = ? ORDER BY row_id DESC LIMIT 1",
        (version_id,),
    ).fetchone()
    schema = None if arrow is None else pa.ipc.read_schema(pa.py_buffer(arrow))
    return schema, loads(scheme, PartitionScheme)


def partition_runs(db: apsw.Connection, version_id: int) -> list[pa.Table]:
    """The columns that there are, in order of partition ids; later partitions are rows alone."""
    found = db.execute(
        "SELECT encoding, body FROM segment WHERE version_id = ? AND name = ? ORDER BY first",
        (version_id, _NAME),
    )
    return [decode_columns(encoding, body) for encoding, body in found]


def later_partitions(db: apsw.Connection, version_id: int, after: int, known: int) -> str:
    """FROM and WHERE of a version's partitions above an id, which cost what is new of them.

    Args:
        db: The ledger.
        version_id: Whose.
        after: The id.
        known: How many of the version's partitions have that id or a lower one, or fewer.
    """
    (newest,) = db.execute("SELECT coalesce(max(partition_id), 0) FROM partition").fetchone()
    # SQLite would go through all of the version's, whose index is not in the order of ids; the plus
    # makes it walk the ids, of which other tables may have taken more since than this one has.
    walked = "+" if newest - after <= known else ""
    return f"FROM partition WHERE {walked}version_id = {version_id:d} AND partition_id > {after:d}"


def fold_partitions(
    db: apsw.Connection,
    version_id: int,
    schema: pa.Schema | None,
    scheme: PartitionScheme | None,
) -> None:
    """Make columns of the partitions that are rows alone, if they are many."""
    runs, following = db.execute(
        "SELECT count(*), coalesce(max(first + files), 0) FROM segment"
        " WHERE version_id = ? AND name = ?",
        (version_id, _NAME),
    ).fetchone()
    # Each run was made of so many at least.
    later = later_partitions(db, version_id, following - 1, runs * _MANY)
    (alone,) = db.execute(f"SELECT count(*) {later}").fetchone()
    if alone < _MANY:
        return
    found = db.execute(
        f"SELECT partition_id, uuid, begin_seq, partition_values {later} ORDER BY partition_id"
    ).fetchall()
    first, last = int(found[0][0]), int(found[-1][0])
    body = encode_columns(partition_table(found, schema, scheme))
    db.execute(
        "INSERT INTO segment(version_id, name, first, files, encoding, body) VALUES (?,?,?,?,?,?)",
        (version_id, _NAME, first, last - first + 1, "arrow", body),
    )
