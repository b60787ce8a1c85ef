"""Is a catalog sound: its ledger in itself, and the files that the ledger says are there?"""

from __future__ import annotations

import functools
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from io_core.errors import DataFileError
from io_core.formats import schema_of_file
from io_core.storage import LOCAL
from planner_client.server.column_rules import column_faults
from planner_client.server.columns import Profile
from planner_client.server.dead_row_faults import dead_row_faults
from planner_client.server.forgetting import file_table
from planner_client.server.invariants import broken_rules, damage
from planner_client.server.leases import horizon
from planner_client.server.retention import writers
from planner_client.server.segments import file_count
from planner_client.server.stored import Unreferenced
from planner_client.server.vacuum import Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import apsw

    from io_core.storage import Storage
    from planner_client.server.places import S3Place
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.stored import Item

__all__ = ["CheckReport", "ShownFile", "check", "shown_files"]


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
        deep: Also open every file: it has to be whole, and Parquet of as many rows as were committed;
            and read the keys of keyed tables: their known dead rows have to be those of a merge.
        say: Told what happens, for people.
    """
    unreferenced = Unreferenced(planner.root, planner.place)
    # Before anything is taken out of it.
    listed = {item.path: item for item in unreferenced.items.values()}
    say("checking the ledger")
    with planner.store.read() as db:
        findings = damage(db)
        if findings:
            return CheckReport(tuple(findings), 0, Amount())
        findings += broken_rules(db)
        for version_id in _versions(db):
            findings += column_faults(db, version_id)
        if findings:
            # Whatever the ledger says of files may be wrong as well.
            return CheckReport(tuple(findings), 0, Amount())
        unreferenced.look(db, writers(db, planner.store.clock_ns()), {})
        shown = shown_files(db)
    say(f"checking {len(shown):,} files")
    look = functools.partial(_fault, planner, deep=deep)
    if planner.place is not None:
        look = functools.partial(_fault_in_store, planner.place, listed, deep=deep)
    faults = {path: text for path, file in shown.items() if (text := look(file))}
    if faults:
        # Vacuum may have removed some meanwhile, which no snapshot shows any more.
        with planner.store.read() as db:
            still = shown_files(db)
        findings += [text for path, text in faults.items() if path in still]
    elif deep:
        say("checking dead rows")
        findings += dead_row_faults(planner)
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


def _fault_in_store(
    place: S3Place, listed: Mapping[str, Item], file: ShownFile, *, deep: bool
) -> str | None:
    location = place.absolute(file.path)
    item = listed.get(file.path)
    if item is not None and item.folder:
        return None if file.content_type == "lance" else f"{location}: is a directory"
    try:
        # What was committed since the store was listed is asked for by itself.
        size = place.storage.size(location) if item is None else item.size
    except OSError as error:
        return f"{location}: {error.strerror or 'is not there'}"
    if size != file.size:
        return f"{location}: has {size} bytes, was committed with {file.size}"
    return _damage_of(location, file, place.storage) if deep else None


def _fault(planner: EmbeddedPlanner, file: ShownFile, *, deep: bool) -> str | None:
    path = os.path.join(planner.root, file.path)
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if stat.S_ISDIR(found.st_mode):
        return None if file.content_type == "lance" else f"{path}: is a directory"
    if found.st_size != file.size:
        return f"{path}: has {found.st_size} bytes, was committed with {file.size}"
    return _damage_of(path, file, LOCAL) if deep else None


def _damage_of(path: str, file: ShownFile, storage: Storage) -> str | None:
    try:
        if file.content_type != "parquet":
            schema_of_file(path, file.content_type, storage=storage)
            return None
        with storage.open_input(path) as opened:
            rows = pq.read_metadata(opened).num_rows
    except (pa.ArrowException, OSError, DataFileError) as error:
        return f"{path}: is damaged: {error}"
    return None if rows == file.rows else f"{path}: has {rows} rows, was committed with {file.rows}"
