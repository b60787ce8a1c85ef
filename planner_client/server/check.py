"""Is a catalog sound: its ledger in itself, and the files that the ledger says are there?"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from io_core.errors import CatalogRootError, DataFileError
from io_core.formats.footer import schema_of_file
from planner_client.server.columns import Profile
from planner_client.server.forgetting import file_table
from planner_client.server.invariants import broken_rules, damage
from planner_client.server.leases import horizon
from planner_client.server.partitions import partition_runs
from planner_client.server.retention import writers
from planner_client.server.segments import KINDS, NewFiles, decode_columns, file_count
from planner_client.server.stored import Unreferenced
from planner_client.server.vacuum import Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import apsw

    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["CheckReport", "ShownFile", "check", "shown_files"]

_LIVE = np.iinfo(np.int64).max


class CheckReport(msgspec.Struct, frozen=True):
    """What is wrong with a catalog: nothing, if there are no findings.

    Attributes:
        findings: One sentence each.
        files: How many files were looked at.
        unreferenced: Files in the data directory that no snapshot shows and no writer holds, which
            is no fault: vacuum removes them.
    """

    findings: tuple[str, ...]
    files: int
    unreferenced: Amount


class ShownFile(NamedTuple):
    """A file that a snapshot which can be read shows: its path as the ledger has it."""

    path: str
    size: int
    rows: int
    content_type: str


def check(
    planner: EmbeddedPlanner, *, deep: bool = False, say: Callable[[str], None] = lambda _: None
) -> CheckReport:
    """Compare the ledger with itself and with what is stored. Others may read and write meanwhile.

    Args:
        planner: The catalog's planner.
        deep: Also open every file: it has to be whole, and Parquet of as many rows as were committed.
        say: Told what happens, for people.
    """
    unreferenced = Unreferenced(planner.root)
    say("checking the ledger")
    with planner.store.read() as db:
        findings = damage(db)
        if findings:
            return CheckReport(tuple(findings), 0, Amount())
        findings += broken_rules(db)
        for version_id in _versions(db):
            findings += _columns_faults(db, version_id)
        if findings:
            # Whatever the ledger says of files may be wrong as well.
            return CheckReport(tuple(findings), 0, Amount())
        unreferenced.look(db, writers(db, planner.store.clock_ns()), {})
        shown = shown_files(db)
    say(f"checking {len(shown):,} files")
    faults = {
        path: text for path, file in shown.items() if (text := _fault(planner.root, file, deep))
    }
    if faults:
        # Vacuum may have removed some meanwhile, which no snapshot shows any more.
        with planner.store.read() as db:
            still = shown_files(db)
        findings += [text for path, text in faults.items() if path in still]
    size = sum(item.size for item in unreferenced.items.values())
    files = sum(item.files for item in unreferenced.items.values())
    return CheckReport(tuple(findings), len(shown), Amount(files, size))


def _versions(db: apsw.Connection) -> list[int]:
    rows = db.execute("SELECT DISTINCT version_id FROM table_version ORDER BY version_id")
    return [int(row[0]) for row in rows]


def shown_files(db: apsw.Connection) -> dict[str, ShownFile]:
    """Files that a snapshot shows which can be read, by path."""
    purged = {
        int(row[0])
        for row in db.execute(
            "SELECT v.version_id FROM table_version v JOIN tbl t ON t.table_id = v.table_id"
            " WHERE t.purged = 1"
        )
    }
    found: dict[str, ShownFile] = {}
    kinds: dict[str, str] = {}
    for version_id in _versions(db):
        count = file_count(db, version_id)
        if version_id in purged or not count:
            continue
        ids = [
            int(row[0])
            for row in db.execute(
                "SELECT partition_id FROM partition WHERE version_id = ?"
                " AND (end_seq IS NULL OR end_seq > ?)",
                (version_id, horizon(db)),
            )
        ]
        held = file_table(db, version_id, 0, count)
        held = held.filter(pa.array(np.isin(held.column("partition").to_numpy(), ids)))
        for chunk in held.select(["path", "size", "rows", "profile"]).to_batches():
            rows = zip(*(column.to_pylist() for column in chunk.columns), strict=True)
            for path, size, records, profile in rows:
                if profile not in kinds:
                    kinds[profile] = msgspec.json.decode(profile, type=Profile).content_type
                found[path] = ShownFile(path, size, records, kinds[profile])
    return found


def _fault(root: Path, file: ShownFile, deep: bool) -> str | None:  # noqa: FBT001  # private
    path = os.path.join(root, file.path)
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if stat.S_ISDIR(found.st_mode):
        return None if file.content_type == "lance" else f"{path}: is a directory"
    if found.st_size != file.size:
        return f"{path}: has {found.st_size} bytes, was committed with {file.size}"
    if not deep:
        return None
    try:
        if file.content_type != "parquet":
            schema_of_file(path, file.content_type)
            return None
        rows = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError, DataFileError) as error:
        return f"{path}: is damaged: {error}"
    return None if rows == file.rows else f"{path}: has {rows} rows, was committed with {file.rows}"


# --- the columns of files -------------------------------------------------------------------------


def _columns_faults(db: apsw.Connection, version_id: int) -> list[str]:
    faults = [
        *_gaps(db, version_id),
        *_undecodable(db, version_id),
    ]
    if not faults:
        faults = [*_partition_faults(db, version_id), *_file_faults(db, version_id)]
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
