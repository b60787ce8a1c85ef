"""Do the columns of a table's files fit together, and what they say of partitions and dead rows?"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from io_core.deletes import decode
from io_core.errors import CatalogRootError, DataFileError
from planner_client.server.columns import Profile
from planner_client.server.forgetting import file_table
from planner_client.server.partitions import partition_runs
from planner_client.server.segments import KINDS, NewFiles, core_runs, decode_columns, file_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apsw

__all__ = ["column_faults"]

_LIVE = np.iinfo(np.int64).max


def column_faults(db: apsw.Connection, version_id: int) -> list[str]:
    """What is wrong with the columns of one table version's files and partitions."""
    faults = [
        *_gaps(db, version_id),
        *_undecodable(db, version_id),
    ]
    if not faults:
        faults = [*_partition_faults(db, version_id), *_file_faults(db, version_id)]
    if not faults:
        faults += _kill_faults(db, version_id)
    return [f"table version {version_id}: {text}" for text in faults]


def _gaps(db: apsw.Connection, version_id: int) -> Iterator[str]:
    """Where a column of files, which all files have, does not cover each of them once."""
    end = file_count(db, version_id)
    names = {
        row[0] for row in db.execute("SELECT name FROM segment WHERE version_id = ?", (version_id,))
    }
    for name in sorted((names | {"core", "path", "hash"}) - {"*", "partitions"}):
        at = 0
        for first, files in db.execute(
            "SELECT first, files FROM segment WHERE version_id = ? AND name IN (?, '*')"
            " ORDER BY first",
            (version_id, name),
        ):
            if first < at or (first > at and not name.startswith("stats:")):
                yield f"segments of {name} do not meet at file {first}"
            at = int(first) + int(files)
        if at > end or (at < end and not name.startswith("stats:")):
            yield f"segments of {name} end at file {at}, not {end}"


def _undecodable(db: apsw.Connection, version_id: int) -> Iterator[str]:
    rows = db.execute(
        "SELECT name, first, files, encoding, body FROM segment WHERE version_id = ?"
        " AND name <> 'partitions'",
        (version_id,),
    )
    for name, first, files, encoding, body in rows:
        try:
            if encoding == "msgpack":
                problem = _record_fault(msgspec.msgpack.decode(body, type=NewFiles), int(files))
            else:
                held = decode_columns(encoding, body)
                held.validate(full=True)
                problem = None if len(held) == files else f"holds {len(held)} files, not {files}"
                if name.startswith("stats:") and held.column_names != list(KINDS):
                    problem = f"has columns {held.column_names}"
        except (pa.ArrowException, OSError, msgspec.MsgspecError, CatalogRootError) as error:
            problem = f"cannot be read: {error}"
        if problem:
            yield f"the segment {name} of file {first} {problem}"


def _record_fault(record: NewFiles, files: int) -> str | None:
    # Any: JSON scalars.
    columns: list[list[Any]] = [record.path, record.size, record.rows, record.partition]
    columns += [
        record.position,
        record.profile,
        *(c for parts in record.stats.values() for c in parts),
    ]
    lengths = {len(column) for column in columns} | {len(record.hash) // 16}
    return None if lengths == {files} else f"holds columns of {sorted(lengths)} files, not {files}"


def _partition_faults(db: apsw.Connection, version_id: int) -> Iterator[str]:
    """Where columns of partitions do not say what the rows say."""
    runs = [run.column("id").to_pylist() for run in partition_runs(db, version_id)]
    ids = [int(i) for run in runs for i in run]
    if ids:
        rows = db.execute(
            "SELECT partition_id FROM partition WHERE version_id = ? AND partition_id <= ?"
            " ORDER BY partition_id",
            (version_id, ids[-1]),
        ).fetchall()
        if ids != [row[0] for row in rows]:
            yield "its columns of partitions are not those of its partitions"


def _file_faults(db: apsw.Connection, version_id: int) -> Iterator[str]:
    count = file_count(db, version_id)
    if not count:
        return
    held = file_table(db, version_id, 0, count)
    spans = {
        int(row[0]): (int(row[1]), _LIVE if row[2] is None else int(row[2]))
        for row in db.execute(
            "SELECT partition_id, begin_seq, end_seq FROM partition WHERE version_id = ?",
            (version_id,),
        )
    }
    schemas = {
        row[0]
        for row in db.execute(
            "SELECT schema_id FROM table_schema WHERE version_id = ?", (version_id,)
        )
    }
    for text in held.column("profile").unique().to_pylist():
        try:
            if msgspec.json.decode(text, type=Profile).schema_id not in schemas:
                yield f"files have a schema that it does not have: {text}"
        except msgspec.MsgspecError as error:
            yield f"what files share cannot be read: {error}"
    live: set[str] = set()
    names = ("path", "size", "rows", "partition", "begin", "hash")
    for path, size, rows, partition, begin, digest in zip(
        *(held.column(name).to_pylist() for name in names), strict=True
    ):
        first, last = spans.get(partition, (None, None))
        if first is None or last is None:
            yield f"file {path} is of partition {partition}, which does not exist"
        elif not first <= begin <= last:
            yield f"file {path} begins at snapshot {begin}, outside of its partition"
        elif last == _LIVE:
            if path in live:
                yield f"file {path} is part of it twice"
            live.add(path)
        text = f"{path}\0{size}\0{rows}".encode()
        if min(size, rows) < 0 or digest != hashlib.blake2b(text, digest_size=16).digest():
            yield f"file {path} with {size} bytes and {rows} rows does not have its hash"


def _kill_faults(db: apsw.Connection, version_id: int) -> Iterator[str]:
    """Where dead rows are of no file, or of one of another size, or of no partition."""
    held = core_runs(db, version_id, 0, file_count(db, version_id))
    rows = [count for run in held for count in run.table.column("rows").to_pylist()]
    for file, seq, body in db.execute(
        "SELECT file, seq, body FROM kill WHERE version_id = ?", (version_id,)
    ):
        if not 0 <= file < len(rows):
            yield f"dead rows of file {file}, which does not exist"
            continue
        try:
            decode(body, rows[file])
        except DataFileError as error:
            yield f"the dead rows of file {file} at snapshot {seq} cannot be read: {error}"
    for (partition_id,) in db.execute(
        "SELECT partition_id FROM killed WHERE version_id = ?1 AND partition_id NOT IN"
        " (SELECT partition_id FROM partition WHERE version_id = ?1)",
        (version_id,),
    ):
        yield f"dead rows are known of partition {partition_id}, which does not exist"
