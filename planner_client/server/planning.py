"""From a plan request to the files that can hold a matching row, in columns all the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import RequestRejectedError, UnsupportedError
from io_core.plan import FILE_COLUMNS, PlanHeader, Pruned, ReadPlan
from io_core.predicate import Constant, Predicate, bind, columns_of, parse, restrict
from io_core.prune import Mask, Verdict, file_bounds, partition_bounds, prune
from io_core.schema import check_columns, encode_schema, fields_of
from planner_client.server.catalog import Version, current_seq, find_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from io_core.partition import Bounds
    from planner_client.protocol.plans import PlanRequest
    from planner_client.server.columns import FileColumns
    from planner_client.server.planner import EmbeddedPlanner

__all__ = ["plan", "resolve_snapshot"]

Rows = npt.NDArray[np.int64]


class _Seen(NamedTuple):
    """A table version at a snapshot."""

    version: Version
    columns: FileColumns
    snapshot: int


class _Page(NamedTuple):
    """Which survivors a plan lists, and how many there are to page through."""

    listed: slice
    reachable: int


class _Survivors(NamedTuple):
    """Which files are left, in reading order, and how the others went."""

    rows: Rows
    residual: Mask
    merges: bool
    table_files: int
    table_bytes: int
    pruned: tuple[Pruned, ...]


def plan(planner: EmbeddedPlanner, request: PlanRequest) -> ReadPlan:
    """Handle `plan`."""
    if request.partition_filter is not None:
        raise UnsupportedError("partition_filter is not supported yet; use filter_predicate")
    if request.file_offset < 0 or (request.max_files is not None and request.max_files < 1):
        raise RequestRejectedError("file_offset must be at least 0 and max_files at least 1")
    if request.row_limit is not None and request.row_limit < 0:
        raise RequestRejectedError("row_limit must be at least 0")
    with planner.store.read() as db:
        snapshot = resolve_snapshot(db, request.snapshot, request.as_of, planner.store.clock_ns())
        version = find_version(
            db, request.namespace, request.table, request.table_version, snapshot
        )
        check_columns(request.columns or (), version.schema)
        predicate = parse(request.filter_predicate)
        bound = Constant(True) if predicate is None else bind(predicate, version.schema)
        columns = planner.columns.get(
            db, version.version_id, version.schema, version.partition_scheme
        )
        seen = _Seen(version, columns, snapshot)
        left = _prune(seen, bound)
        page = _page(seen, left, request) if request.include_files else _Page(slice(0, 0), 0)
        header = _header(seen, left, page, request)
        files = _files(planner, db, seen, left, page.listed, request)
    return ReadPlan(header, files)


def resolve_snapshot(
    db: apsw.Connection, snapshot: int | None, as_of: int | None, now_ns: int
) -> int:
    """The place in the sequence that a request asks for; the latest by default.

    Raises:
        RequestRejectedError: A snapshot that is not there yet, or a time in the future.
    """
    latest = current_seq(db)
    if as_of is not None:
        if snapshot is not None:
            raise RequestRejectedError("as_of and snapshot exclude each other: pass one")
        if as_of > now_ns:
            raise RequestRejectedError(f"as_of {as_of} lies in the future (now is {now_ns} ns)")
        query = "SELECT coalesce(max(seq), 0) FROM revision WHERE committed_ns < ?"
        return int(db.execute(query, (as_of,)).fetchone()[0])
    if snapshot is None:
        return latest
    if not 0 <= snapshot <= latest:
        raise RequestRejectedError(f"snapshot {snapshot} does not exist: the latest is {latest}")
    return snapshot


def _prune(seen: _Seen, bound: Predicate) -> _Survivors:
    version, columns, snapshot = seen
    files = columns.files
    sizes = files.column("content_length").to_numpy()
    records = files.column("record_count").to_numpy()
    live = columns.live(snapshot)
    merges = bool(version.merge_keys) and bool(live.any())
    by_partition = partition_bounds(files, version.partition_scheme, version.schema)
    usable = _usable(bound, version, by_partition) if merges else bound
    keys = frozenset(version.merge_keys)

    def bounds(column: str) -> Sequence[Bounds]:
        # Where rows merge, statistics of other columns would drop a newer row and revive an old one.
        stats = columns.stats.of(version.schema.field(column))
        known = (
            None if stats is None or (merges and column not in keys) else file_bounds(stats, column)
        )
        return [*by_partition.get(column, ()), *([known] if known is not None else [])]

    from_partitions = prune(usable, records, lambda c: by_partition.get(c, ())).may & live
    verdict = prune(usable, records, bounds)
    kept = (verdict.may | _matches_otherwise(columns, version)) & from_partitions
    used = columns_of(usable)
    steps = (
        _step("partition", used & by_partition.keys(), live & ~from_partitions, sizes),
        _step("statistics", used & keys if merges else used, from_partitions & ~kept, sizes),
    )
    rows = np.flatnonzero(kept)
    order = np.lexsort((rows, _positions(columns)[rows], columns.partition[rows]))
    rows = rows[order]
    return _Survivors(
        rows=rows,
        residual=_residual(bound, usable, verdict)[rows],
        merges=merges and bool(len(rows)),
        table_files=int(live.sum()),
        table_bytes=int(sizes[live].sum()),
        pruned=tuple(step for step in steps if step.files),
    )


def _matches_otherwise(columns: FileColumns, version: Version) -> Mask:
    """Which files are deletes by other columns than the merge keys.

    Statistics of the keys say nothing of the rows that those remove.
    """
    names = columns.files.column("delete_columns")
    by_keys = pc.equal(names, msgspec.json.encode(list(version.merge_keys)).decode())
    return np.asarray(pc.invert(by_keys).fill_null(False).to_numpy())


def _usable(bound: Predicate, version: Version, partitions: dict[str, Any]) -> Predicate:
    """Where rows merge, only keys and partition values may rule a file out."""
    return restrict(bound, frozenset(version.merge_keys) | frozenset(partitions))


def _positions(columns: FileColumns) -> Rows:
    return np.asarray(columns.files.column("stream_position").to_numpy())


def _residual(bound: Predicate, usable: Predicate, verdict: Verdict) -> Mask:
    if bound != usable:
        return np.ones(len(verdict.every), np.bool_)
    return ~verdict.every


def _step(name: str, columns: frozenset[str], gone: Mask, sizes: Rows) -> Pruned:
    return Pruned(name, tuple(sorted(columns)), int(gone.sum()), int(sizes[gone].sum()))


def _page(seen: _Seen, left: _Survivors, request: PlanRequest) -> _Page:
    """Which survivors to list: a page of files, never through a merge group, with enough rows."""
    rows = left.rows
    if request.row_limit is not None and not left.merges:
        rows = rows[: _enough(seen.columns, left, request.row_limit)]
    start = min(request.file_offset, len(rows))
    end = len(rows) if request.max_files is None else min(start + request.max_files, len(rows))
    if left.merges:
        partitions = seen.columns.partition[rows]
        if 0 < start < len(rows) and partitions[start - 1] == partitions[start]:
            raise RequestRejectedError(
                f"file_offset {start} lies inside a group of files that merge: "
                "continue at the last page's next_file_offset"
            )
        while 0 < end < len(rows) and partitions[end - 1] == partitions[end]:
            end += 1
    return _Page(slice(start, end), len(rows))


def _enough(columns: FileColumns, left: _Survivors, limit: int) -> int:
    """How many files, in order, surely hold `limit` matching rows."""
    records = columns.files.column("record_count").to_numpy()[left.rows]
    sure = np.cumsum(np.where(left.residual, 0, records))
    return int(np.searchsorted(sure, max(limit, 0), side="left")) + 1 if limit > 0 else 0


def _header(seen: _Seen, left: _Survivors, page: _Page, request: PlanRequest) -> PlanHeader:
    version, columns, snapshot = seen
    following = page.listed.stop
    truncated = following < page.reachable
    return PlanHeader(
        namespace=version.namespace,
        table=version.table,
        table_version=version.version,
        stream_id=version.stream_uuid,
        schema=fields_of(version.schema),
        schema_serialized=encode_schema(version.schema),
        schema_id=version.schema_id,
        merge_keys=list(version.merge_keys),
        partition_scheme=version.partition_scheme,
        sort_scheme=version.sort_scheme,
        requires_mor=left.merges,
        total_files=len(left.rows),
        returned_files=following - page.listed.start,
        total_records=_total(columns, "record_count", left.rows),
        total_bytes=_total(columns, "content_length", left.rows),
        truncated=truncated,
        next_file_offset=following if truncated else None,
        snapshot_id=_snapshot_id(columns, left.rows),
        snapshot=snapshot,
        table_files=left.table_files,
        table_bytes=left.table_bytes,
        pruned=left.pruned,
    )


def _total(columns: FileColumns, name: str, rows: Rows) -> int:
    return int(columns.files.column(name).to_numpy()[rows].sum())


def _snapshot_id(columns: FileColumns, rows: Rows) -> str | None:
    """Sum of the files' hashes modulo 2^128, in hex; none for no files."""
    if not len(rows):
        return None
    limbs = columns.hashes[rows].sum(axis=0, dtype=np.uint64)
    total = sum(int(limb) << (32 * i) for i, limb in enumerate(limbs))
    return f"{total % 2**128:032x}"


def _files(
    planner: EmbeddedPlanner,
    db: apsw.Connection,
    seen: _Seen,
    left: _Survivors,
    page: slice,
    request: PlanRequest,
) -> pa.Table:
    version, columns, _ = seen
    extra = [n for n in columns.files.column_names if n.startswith("partition:")]
    plain = [n for n in FILE_COLUMNS.names if n in columns.files.column_names]
    rows = left.rows[page]
    files = columns.files.select([*plain, *extra]).take(rows)
    paths = planner.absolute(files.column("path"))
    files = files.set_column(files.column_names.index("path"), "path", paths)
    files = files.append_column(
        "partition_id", _partition_ids(db, version, columns.partition[rows])
    )
    files = files.append_column("residual", pa.array(left.residual[page], pa.bool_()))
    files = files.select([*FILE_COLUMNS.names, *extra])
    if request.include_column_stats:
        for name in dict.fromkeys(request.columns or version.schema.names):
            stats = columns.stats.of(version.schema.field(name))
            if stats is not None:
                taken = stats.take(rows)
                files = pa.table(
                    [*files.columns, *taken.columns],
                    names=[*files.column_names, *taken.column_names],
                )
    return files


def _partition_ids(db: apsw.Connection, version: Version, partitions: Rows) -> pa.Array:
    distinct, inverse = np.unique(partitions, return_inverse=True)
    known = dict(
        db.execute(
            "SELECT partition_id, uuid FROM partition WHERE version_id = ?", (version.version_id,)
        ).fetchall()
    )
    names = pa.array([known[int(p)] for p in distinct], pa.string())
    return pc.take(names, pa.array(inverse.reshape(-1)))
