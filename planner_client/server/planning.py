"""From a plan request to a plan: which snapshot, which question, which page of the answer."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import RequestRejectedError, UnsupportedError
from io_core.lean_arrow import booleans, lean_array, lean_numbers
from io_core.literal import kind_of
from io_core.plan import FILE_COLUMNS, PlanHeader, ReadPlan
from io_core.predicate import Constant, bind, parse
from io_core.schema import check_columns
from planner_client.server.catalog import expect_table
from planner_client.server.columns import Profile
from planner_client.server.kill_records import complete_partitions, count_progress
from planner_client.server.leases import check_retained
from planner_client.server.places import ROOT
from planner_client.server.pruning import Question, Seen, Survivors, surviving
from planner_client.server.segments import KINDS
from planner_client.server.statistics import known_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import apsw
    import numpy.typing as npt

    from planner_client.protocol.plans import PlanRequest
    from planner_client.server.catalog import Version
    from planner_client.server.columns import FileColumns, Rows
    from planner_client.server.plan_cache import Known
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.statistics import StatColumn
    from planner_client.server.store import View

__all__ = ["plan", "resolve_time"]

# What pins a plan to a snapshot, which is part of an answer's key by itself.
_UNPINNED: dict[str, None] = dict.fromkeys(("snapshot", "as_of", "plan_token", "operation_id"))


# Below lies what means the beginning of time; above, and far from now, a time in another unit.
_SMALL_NS = 10**8


class _Token(msgspec.Struct, frozen=True, array_like=True):
    """What a plan token says: the snapshot, and which question it was given for."""

    snapshot: int
    question: bytes


class _Page(NamedTuple):
    """Which survivors a plan lists, and how many there are to page through."""

    listed: slice
    reachable: int


def plan(planner: EmbeddedPlanner, request: PlanRequest) -> ReadPlan:
    """Handle `plan`."""
    # Of this thread alone: a busy machine makes no plan slow.
    began_s = time.thread_time()
    found = _plan(planner, request)
    planner.plans.timed(request, time.thread_time() - began_s, found.files.num_rows)
    return found


def _plan(planner: EmbeddedPlanner, request: PlanRequest) -> ReadPlan:
    _check_numbers(request)
    question = _question_digest(request)
    snapshot = _pinned(planner, request, question)
    with planner.view(request, snapshot=snapshot, as_of=request.as_of, leased=True) as view:
        known = planner.plans.version(view, request)
        name = f"{request.namespace}.{request.table}"
        expect_table(name, known.version.table_uuid, request.expected_table_id)
        columns = planner.columns.get(view, known.version)
        dead_known, complete = False, None
        if request.delete_sets:
            dead_known, complete = _dead_known(planner, view, known.version, columns)
        seen = Seen(view, known.version, columns, dead_known, complete)
        # What a transaction sees is its own, and changes under the same snapshot.
        key = _answer_key(seen, request) if request.transaction_id is None else None
        expires_at = planner.leases.until(planner.store.clock_ns())
        found = None if key is None else planner.plans.answer(key, expires_at)
        if found is None:
            found = _answer(planner, seen, known, request, question)
            if key is not None:
                planner.plans.keep_answer(key, found)
    unpinned = snapshot is None and request.as_of is None and request.transaction_id is None
    if found.header.truncated and request.file_offset == 0 and unpinned:
        planner.plans.paged(planner.caller, question, view.base, planner.store.clock_ns())
    return found


def _answer_key(seen: Seen, request: PlanRequest) -> tuple[object, ...]:
    """What decides every byte of a plan, but for how long its files are leased."""
    plain = msgspec.structs.replace(request, **_UNPINNED)
    digest = hashlib.blake2b(msgspec.json.encode(plain), digest_size=16).digest()
    return seen.version.version_id, seen.columns.epoch, seen.view.base, seen.dead_known, digest


def _answer(
    planner: EmbeddedPlanner, seen: Seen, known: Known, request: PlanRequest, question: bytes
) -> ReadPlan:
    left = _survivors(planner, seen, request, question)
    page = _page(seen, left, request) if request.include_files else _Page(slice(0, 0), 0)
    files = _files(planner, seen, left, page.listed, request)
    header = _header(planner, seen, known, left, page, request)
    if seen.dead_known and (pc.max(pc.binary_length(files["deletes"])).as_py() or 0) > 0:
        # For whoever does not look at dead rows: they would read them.
        header = msgspec.structs.replace(header, requires_mor=True)
    if seen.view.own < 0:
        token = _Token(seen.view.base, question)
        header = msgspec.structs.replace(header, plan_token=_write_token(token))
    if planner.place is not None:
        header = planner.place.told_in(header)
    return ReadPlan(header, files)


def _check_numbers(request: PlanRequest) -> None:
    if request.file_offset < 0 or (request.max_files is not None and request.max_files < 1):
        raise RequestRejectedError("file_offset must be at least 0 and max_files at least 1")
    if request.row_limit is not None and request.row_limit < 0:
        raise RequestRejectedError("row_limit must be at least 0")
    pins = [request.snapshot, request.as_of, request.plan_token, request.transaction_id]
    if sum(pin is not None for pin in pins) > 1:
        raise RequestRejectedError(
            "snapshot, as_of, plan_token and transaction_id exclude each other: pass one"
        )
    if request.since is not None and request.since_as_of is not None:
        raise RequestRejectedError("since and since_as_of exclude each other: pass one")


def _question_digest(request: PlanRequest) -> bytes:
    """What a plan is asked, its page and what is listed of each file left aside."""
    asked = (
        request.namespace,
        request.table,
        request.table_version,
        request.partition_filter,
        request.filter_predicate,
        request.since,
        request.since_as_of,
        request.delete_sets,
    )
    # MessagePack has no room for large whole numbers, which a predicate may compare with.
    return hashlib.blake2b(msgspec.json.encode(asked), digest_size=12).digest()


def _write_token(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode().rstrip("=")


def _pinned(planner: EmbeddedPlanner, request: PlanRequest, question: bytes) -> int | None:
    """The snapshot that the request is tied to, by itself or by its earlier pages."""
    if request.plan_token is not None:
        text = request.plan_token
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            token = msgspec.msgpack.decode(raw, type=_Token)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            raise RequestRejectedError(
                f"{text[:80]!r} is no plan_token: pass one that a plan carried",
                code="invalid_request",
            ) from None
        if token.question != question:
            raise RequestRejectedError(
                "the plan_token was given for another predicate, table or filter: "
                "plan anew without it",
                code="plan_token_mismatch",
            )
        return token.snapshot
    unpinned = request.as_of is None and request.transaction_id is None
    if request.snapshot is None and unpinned and request.file_offset > 0:
        return planner.plans.paging(planner.caller, question, planner.store.clock_ns())
    return request.snapshot


def resolve_time(db: apsw.Connection, as_of: int, now_ns: int) -> int:
    """The snapshot at a time: what was committed strictly before.

    Raises:
        RequestRejectedError: A time in the future, or one that counts seconds, milli- or microseconds.
    """
    if _SMALL_NS < as_of < now_ns // 100:
        raise RequestRejectedError(
            f"as_of {as_of} lies close to 1970: it counts nanoseconds since the epoch, as "
            "time.time_ns() does"
        )
    if as_of > now_ns:
        raise RequestRejectedError(f"as_of {as_of} lies in the future (now is {now_ns} ns)")
    query = "SELECT coalesce(max(seq), 0) FROM revision WHERE committed_ns < ?"
    return int(db.execute(query, (as_of,)).fetchone()[0])


def _survivors(
    planner: EmbeddedPlanner, seen: Seen, request: PlanRequest, question: bytes
) -> Survivors:
    view, version = seen.view, seen.version
    key = (
        version.version_id,
        seen.columns.epoch,
        view.base,
        question,
        request.include_files,
        seen.dead_known,
    )
    known = planner.plans.survivors(key) if view.own < 0 else None
    if request.columns:
        _check_columns(request.columns, seen)
    if known is not None:
        return known
    left = surviving(seen, _ask(planner, seen, request), listed=request.include_files)
    if view.own < 0:
        planner.plans.keep(key, left)
    return left


def _check_columns(columns: list[str], seen: Seen) -> None:
    if seen.version.schema is None:
        raise UnsupportedError(
            f"table {seen.version.namespace}.{seen.version.table} is schemaless: it has no columns "
            "to choose or filter by"
        )
    check_columns(columns, seen.version.schema)


def _ask(planner: EmbeddedPlanner, seen: Seen, request: PlanRequest) -> Question:
    predicate = parse(request.filter_predicate)
    if predicate is not None and seen.version.schema is None:
        _check_columns([], seen)
    bound = Constant(True) if predicate is None else bind(predicate, seen.version.schema)
    since = request.since
    if request.since_as_of is not None:
        since = resolve_time(seen.view.db, request.since_as_of, planner.store.clock_ns())
    if since is not None:
        check_retained(seen.view.db, since, planner.store.clock_ns())
        if since > seen.view.base:
            raise RequestRejectedError(
                f"since {since} lies after the plan's snapshot {seen.view.base}"
            )
    partitions = request.partition_filter
    return Question(bound, None if partitions is None else tuple(partitions), since)


def _page(seen: Seen, left: Survivors, request: PlanRequest) -> _Page:
    """Which survivors to list: a page of files, never through a merge group, with enough rows."""
    rows = left.rows
    if request.row_limit is not None and not seen.version.merge_keys:
        rows = rows[: _enough(seen.columns, left, request.row_limit)]
    start = min(request.file_offset, len(rows))
    end = len(rows) if request.max_files is None else min(start + request.max_files, len(rows))
    if left.merges:
        partitions = seen.columns.partition
        if 0 < start < len(rows) and partitions[rows[start - 1]] == partitions[rows[start]]:
            raise RequestRejectedError(
                f"file_offset {start} lies inside a group of files that merge: "
                "continue at the last page's next_file_offset"
            )
        if 0 < end < len(rows):
            group = partitions[rows[end - 1]]
            # Reading order is by partition: the group ends where the next one begins.
            rest = partitions[rows[end:]] != group
            end += int(rest.argmax()) if rest.any() else len(rest)
    return _Page(slice(start, end), len(rows))


def _enough(columns: FileColumns, left: Survivors, limit: int) -> int:
    """How many files, in order, surely hold `limit` matching rows."""
    sure = np.cumsum(np.where(left.residual, 0, columns.rows[left.rows]))
    return int(np.searchsorted(sure, limit, side="left")) + 1 if limit > 0 else 0


def _dead_known(
    planner: EmbeddedPlanner, view: View, version: Version, columns: FileColumns
) -> tuple[bool, npt.NDArray[np.bool_] | None]:
    """Whether it is known of every file which of its rows are dead; else of which partitions."""
    if not version.merge_keys or view.own >= 0:
        return False, None
    # Of one snapshot it stays known, unless what was found out is thrown away.
    found_out = count_progress(view.db, version.version_id)
    key = (version.version_id, columns.epoch, view.base, found_out)
    if planner.plans.is_complete(key):
        return True, None
    rows = np.flatnonzero(columns.live(view, slice(None)))
    complete = complete_partitions(view.db, version, columns, rows)
    if not complete[columns.partition[rows]].all():
        return False, complete
    planner.plans.note_complete(key)
    return True, None


def _header(  # what a header is made of
    planner: EmbeddedPlanner,
    seen: Seen,
    known: Known,
    left: Survivors,
    page: _Page,
    request: PlanRequest,
) -> PlanHeader:
    view, version, columns = seen[:3]
    following = page.listed.stop
    truncated = following < page.reachable
    return PlanHeader(
        namespace=version.namespace,
        table=version.table,
        table_version=version.version,
        stream_id=version.stream_uuid,
        schema=known.fields,
        schema_serialized=known.serialized,
        schema_id=version.schema_id,
        schemas_serialized_by_id=known.older,
        merge_keys=list(version.merge_keys),
        mor_plan=known.merge,
        partition_scheme=version.partition_scheme,
        sort_scheme=version.sort_scheme,
        content_type=_content_type(columns),
        # Without its files nobody can tell: rows may be dead, or not.
        requires_mor=left.merges
        or (seen.dead_known and left.files > 0 and not request.include_files),
        total_files=left.files,
        returned_files=following - page.listed.start,
        total_records=left.records,
        total_bytes=left.size,
        truncated=truncated,
        next_file_offset=following if truncated else None,
        # Absent where there is no file: to the published clients it would mean metadata alone.
        snapshot_id=f"{left.hash:032x}" if left.files else None,
        snapshot=view.base,
        table_files=left.table_files,
        table_bytes=left.table_size,
        pruned=left.pruned,
        since=left.since,
        removed_files=left.removed,
        expires_at=planner.leases.until(planner.store.clock_ns()),
        # One root has all files, whichever others are asked for; and no recipe has a manifest.
        preferred_root_used=None
        if request.preferred_root is None
        else request.preferred_root == ROOT,
        available_recipes=None if request.recipe_hash is None or not left.files else [],
        transaction_id=request.transaction_id,
        transaction_version_seen=request.transaction_version,
    )


def _content_type(columns: FileColumns) -> str:
    held = {p.content_type for p in columns.profiles}
    return held.pop() if len(held) == 1 else "mixed" if held else "parquet"


def _files(
    planner: EmbeddedPlanner, seen: Seen, left: Survivors, page: slice, request: PlanRequest
) -> pa.Table:
    view, version, columns = seen[:3]
    rows = left.rows[page].astype(np.int64)
    shared = _shared_columns(columns, rows)
    arrays: dict[str, pa.Array] = {
        "path": columns.locations(view, rows),
        # Made wide by numpy, which takes a third of the time that Arrow does.
        "content_length": lean_numbers(columns.size[rows].astype(np.int64)),
        "record_count": lean_numbers(columns.rows[rows].astype(np.int64)),
        "stream_position": lean_numbers(columns.position[rows].astype(np.int64)),
        "residual": booleans(left.residual[page]),
        "deletes": _dead(planner, seen, rows),
        **shared,
    }
    names = [*FILE_COLUMNS.names, *(name for name in shared if name.startswith("partition:"))]
    if request.include_column_stats and version.schema is not None:
        for column in dict.fromkeys(request.columns or version.schema.names):
            field = version.schema.field(column)
            if kind_of(field.type) != "other":
                held = columns.stats.of(view, field, columns.height)
                for kind, values in zip(KINDS, _statistics(held, field.type, rows), strict=True):
                    names.append(f"{kind}:{column}")
                    arrays[names[-1]] = values
    # By way of a batch, which takes half the time that a table of its own takes.
    batch = pa.RecordBatch.from_arrays([arrays[name] for name in names], names=names)
    return pa.Table.from_batches([batch])


def _statistics(held: StatColumn | None, dtype: pa.DataType, rows: Rows) -> Iterator[pa.Array]:
    """What is known of a column of each file, as `KINDS` has it; null where nothing is."""
    if held is None:
        yield from (pa.nulls(len(rows), t) for t in (dtype, dtype, pa.int64(), pa.int64()))
        return
    known = held.take(rows)
    yield from (known.low, known.high)
    yield from (known_counts(c) for c in (known.null_count, known.nan_count))


def _dead(planner: EmbeddedPlanner, seen: Seen, rows: Rows) -> pa.Array:
    """Dead rows of each file; null where they are not known."""
    of_which = rows
    if not seen.dead_known:
        if seen.complete is None or not seen.complete.any():
            return pa.nulls(len(rows), pa.binary())
        of_which = rows[seen.complete[seen.columns.partition[rows]]]
    version_id, epoch = seen.version.version_id, seen.columns.epoch
    found = dict.fromkeys(of_which.tolist(), b"")
    found |= planner.deletes.dead.get(seen.view, version_id, epoch, of_which)
    return lean_array([found.get(row) for row in rows.tolist()], pa.binary())


def _shared_columns(columns: FileColumns, rows: Rows) -> dict[str, pa.Array]:
    """The columns that files of one delta, or of one partition, share."""
    return {
        **_spread(columns.profile[rows], _profile_values(columns.profiles)),
        **_spread(columns.partition[rows], columns.partitions.told),
    }


def _spread(codes: npt.NDArray[Any], values: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Each array's values by number; they mostly are of one number, which costs least."""
    count = len(codes)
    if count and bool((codes == codes[0]).all()):
        place = int(codes[0])
        return {name: pa.repeat(held[place], count) for name, held in values.items()}
    index = lean_numbers(codes)
    return {name: held.take(index) for name, held in values.items()}


@functools.lru_cache(maxsize=1024)
def _profile_values(profiles: tuple[Profile, ...]) -> dict[str, pa.Array]:
    """What each profile says, as columns of `FILE_COLUMNS`."""
    names = set(FILE_COLUMNS.names) & set(Profile.__struct_fields__)
    return {
        name: lean_array([getattr(p, name) for p in profiles], FILE_COLUMNS.field(name).type)
        for name in names
    }
