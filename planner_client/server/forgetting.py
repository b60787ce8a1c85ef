"""How do files that nobody may read leave the ledger? Those that stay are numbered anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from io_core.literal import kind_of
from io_core.model import PartitionScheme
from io_core.schema import FIELD_ID
from planner_client.server.catalog import loads, schemas_of
from planner_client.server.kill_records import renumber_kills
from planner_client.server.partitions import fold_partitions
from planner_client.server.segments import (
    CORE,
    Run,
    core_runs,
    file_count,
    hash_runs,
    insert_columns,
    path_runs,
    stats_runs,
)
from planner_client.server.store import View, latest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apsw
    import numpy.typing as npt

__all__ = ["file_table", "forget", "paths_in", "paths_of"]

_RUN = 65_536


def paths_of(
    db: apsw.Connection, version_id: int, first: int, without: Sequence[int]
) -> Iterator[list[str]]:
    """Paths of a version's files from one on, as the ledger has them, a run at a time.

    Args:
        db: The ledger.
        version_id: Which version.
        first: The number of the first file.
        without: Partitions to leave out.
    """
    end = file_count(db, version_id)
    for start in range(first, end, _RUN):
        held = file_table(db, version_id, start, min(start + _RUN, end))
        if without:
            held = held.filter(
                ~np.isin(held.column("partition").to_numpy(), np.array(without, np.int64))
            )
        yield held.column("path").to_pylist()


def paths_in(db: apsw.Connection, version_id: int, partition_ids: Sequence[int]) -> list[str]:
    """Paths of the files of some partitions."""
    ids = np.array(partition_ids, np.int64)
    found: list[str] = []
    end = file_count(db, version_id)
    for start in range(0, end, _RUN):
        held = file_table(db, version_id, start, min(start + _RUN, end))
        mine = np.isin(held.column("partition").to_numpy(), ids)
        found += held.column("path").filter(pa.array(mine)).to_pylist()
    return found


def file_table(db: apsw.Connection, version_id: int, first: int, end: int) -> pa.Table:
    """`CORE`, `path` and `hash` of the files from `first` on and before `end`."""
    core = _joined(core_runs(db, version_id, first, end), first, end, CORE)
    for runs in (path_runs, hash_runs):
        found = runs(db, version_id, first, end)
        table = _joined(found, first, end, found[0].table.schema if found else pa.schema([]))
        for name in table.column_names:
            core = core.append_column(name, table.column(name))
    return core


def _joined(runs: Sequence[Run], first: int, end: int, schema: pa.Schema) -> pa.Table:
    parts = []
    for run in sorted(runs, key=lambda r: r.first):
        skip = max(first - run.first, 0)
        parts.append(run.table.slice(skip, end - run.first - skip).cast(schema))
    return pa.concat_tables([schema.empty_table(), *parts]).unify_dictionaries()


def forget(db: apsw.Connection, version_id: int, partition_ids: Sequence[int]) -> None:
    """Take ended partitions of one version out of the ledger, with their files.

    Args:
        db: The ledger, within a write transaction.
        version_id: Which version.
        partition_ids: Partitions that nobody may read.
    """
    end = file_count(db, version_id)
    core = _joined(core_runs(db, version_id, 0, end), 0, end, CORE)
    gone = np.isin(core.column("partition").to_numpy(), np.array(partition_ids, np.int64))
    start = end
    if gone.any():
        start = _boundary(db, version_id, int(gone.argmax()))
        _renumber(db, version_id, start, gone[start:])
    db.executemany("DELETE FROM partition WHERE partition_id = ?", [(i,) for i in partition_ids])
    renumber_kills(db, version_id, start, gone[start:])
    # Columns of what is a row as well: made again while they are worth it.
    db.execute("DELETE FROM segment WHERE version_id = ? AND name = 'partitions'", (version_id,))
    db.execute(
        "INSERT INTO numbering VALUES (?, 1) ON CONFLICT(version_id) DO UPDATE SET epoch = epoch + 1",
        (version_id,),
    )
    (scheme,) = db.execute(
        "SELECT partition_scheme FROM table_version WHERE version_id = ? ORDER BY row_id DESC LIMIT 1",
        (version_id,),
    ).fetchone()
    schema = schemas_of(View(db, latest(db)), version_id)[-1]
    fold_partitions(db, version_id, schema, loads(scheme, PartitionScheme))


def _boundary(db: apsw.Connection, version_id: int, number: int) -> int:
    """The last number up to `number` at which a run of every column begins."""
    while True:
        (first,) = db.execute(
            "SELECT min(first) FROM segment WHERE version_id = ?1 AND name <> 'partitions'"
            " AND first < ?2 AND first + files > ?2",
            (version_id, number),
        ).fetchone()
        if first is None:
            return number
        number = int(first)


def _renumber(
    db: apsw.Connection, version_id: int, start: int, gone: npt.NDArray[np.bool_]
) -> None:
    """Write the files from `start` on anew without those that are gone."""
    end = start + len(gone)
    held = file_table(db, version_id, start, end)
    stays = pa.array(~gone)
    held = held.filter(stays)
    columns = {
        "core": held.select(CORE.names),
        "path": held.select(["path"]),
        "hash": held.select(["hash"]),
    }
    for field in schemas_of(View(db, latest(db)), version_id)[-1] or ():
        runs = (
            [] if kind_of(field.type) == "other" else stats_runs(db, version_id, field, start, end)
        )
        if runs:
            columns[f"stats:{field.metadata[FIELD_ID].decode()}"] = _whole(runs, start, end).filter(
                stays
            )
    db.execute(
        "DELETE FROM segment WHERE version_id = ? AND name <> 'partitions' AND first >= ?",
        (version_id, start),
    )
    for at in range(0, len(held), _RUN):
        run = {name: table.slice(at, _RUN) for name, table in columns.items()}
        run["core"] = _with_own_profiles(run["core"])
        insert_columns(db, version_id, start + at, run)


def _whole(runs: Sequence[Run], start: int, end: int) -> pa.Table:
    """Statistics of the files from `start` on and before `end`; unknown where no run has any."""
    shape = runs[0].table.schema
    parts, at = [shape.empty_table()], start
    for first, table in [*runs, Run(end, shape.empty_table())]:
        parts += [pa.table([pa.nulls(first - at, f.type) for f in shape], schema=shape), table]
        at = first + len(table)
    return pa.concat_tables(parts)


def _with_own_profiles(core: pa.Table) -> pa.Table:
    """The same files, without what only files that went had."""
    profile = core.column("profile").cast(pa.string()).combine_chunks().dictionary_encode()
    return core.set_column(core.schema.get_field_index("profile"), "profile", profile)
