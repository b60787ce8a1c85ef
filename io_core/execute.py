"""From a plan to rows with Arrow alone: the slow, sure way that every engine's lane must equal."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pyarrow as pa

from io_core import deletes
from io_core.errors import DataFileError, UnsupportedError
from io_core.formats import parquet
from io_core.merge import Delta, merge
from io_core.predicate import bind, columns_of, to_arrow
from io_core.schema import align, check_columns, without_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["execute", "read_plan"]


def execute(
    plan: ReadPlan,
    *,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    row_limit: int | None = None,
    row_offset: int = 0,
) -> Iterator[pa.Table]:
    """Read a plan's rows piece by piece: a file, or where rows merge a partition, at a time.

    Rows come in reading order (partition, position, entry, row). Columns that only the predicate
    or the merge needs are read and dropped again. Opens files as it goes.

    Args:
        plan: All files of it; a page that is not the last is refused where rows merge. Partitions
            whose files all come with their dead rows (the plan's column `deletes`) do not.
        columns: The result's columns, in order; None means all.
        predicate: Rows to keep, unbound, in this project's meaning; applied after the merge.
        row_limit: Most rows to return, counted after everything else.
        row_offset: Rows to leave out before those.

    Raises:
        DataFileError: A file is missing or damaged.
        PredicateError: The predicate does not fit the plan's schema.
        SchemaValidationError: An unknown column.
    """
    schema = plan.schema
    wanted = list(schema.names if columns is None else columns)
    check_columns(wanted, schema)
    working = pa.schema([f.with_type(without_views(f.type)) for f in schema])
    bound = None if predicate is None else bind(predicate, working)
    needed = frozenset(wanted) | columns_of(bound)
    # One column at least: tables without any lose count of their rows.
    read_schema = pa.schema([f for f in working if f.name in needed] or [working.field(0)])
    shape = _shape(schema, wanted)
    skip, left = row_offset, row_limit
    for piece in _pieces(plan, read_schema):
        rows = piece if bound is None else piece.filter(to_arrow(bound, read_schema))
        if skip:
            dropped = min(skip, rows.num_rows)
            rows, skip = rows.slice(dropped), skip - dropped
        if left is not None:
            rows = rows.slice(0, left)
            left -= rows.num_rows
        yield rows.select(wanted).cast(shape) if wanted else rows.select([])
        if left == 0:
            return


def read_plan(
    plan: ReadPlan,
    *,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    row_limit: int | None = None,
    row_offset: int = 0,
) -> pa.Table:
    """All rows of a plan as one table; see `execute`."""
    wanted = list(plan.schema.names if columns is None else columns)
    check_columns(wanted, plan.schema)
    empty = _shape(plan.schema, wanted).empty_table()
    pieces = execute(
        plan, columns=columns, predicate=predicate, row_limit=row_limit, row_offset=row_offset
    )
    if not wanted:
        return pa.table({"": pa.nulls(sum(piece.num_rows for piece in pieces))}).select([])
    return pa.concat_tables([empty, *pieces])


def _shape(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([pa.field(c, schema.field(c).type) for c in columns])


def _pieces(plan: ReadPlan, schema: pa.Schema) -> Iterator[pa.Table]:
    """Aligned rows of each file, or of each merged partition, before filter and projection."""
    if plan.header.truncated and plan.requires_merge and not _has_delete_sets(_rows(plan)):
        raise UnsupportedError(
            f"{plan!r} is one page of a table whose rows merge: plan without a page size to read it"
        )
    if not plan.requires_merge:
        for row in _rows(plan):
            yield _read(plan, row, schema)
        return
    for group in plan.groups():
        rows = _rows(group)
        if _has_delete_sets(rows):
            yield from _survivors(plan, rows, schema)
            continue
        by = [_delete_columns(plan, row) for row in rows]
        needed = {*schema.names, *plan.merge_keys, *itertools.chain(*by)}
        working = pa.schema(
            [f.with_type(without_views(f.type)) for f in plan.schema if f.name in needed]
        )
        deltas = [_delta(group, *of, working) for of in zip(rows, by, strict=True)]
        if not all(by):
            yield merge(deltas, plan.merge_keys).select(schema.names)


def _has_delete_sets(rows: Sequence[dict[str, object]]) -> bool:
    """Whether the plan says of every data file which of its rows are dead: nothing merges then."""
    return all(isinstance(r["deletes"], bytes) for r in rows if r["delta_type"] != "delete")


def _survivors(
    plan: ReadPlan, rows: Sequence[dict[str, object]], schema: pa.Schema
) -> Iterator[pa.Table]:
    """The rows that live, file by file."""
    for row in rows:
        dead = row["deletes"]
        if row["delta_type"] == "delete" or not isinstance(dead, bytes):
            continue
        if dead and deletes.count(dead) == row["record_count"]:
            continue
        found = _read(plan, row, schema)
        if dead:
            try:
                live = deletes.live_mask(dead, found.num_rows)
            except DataFileError as error:
                problem = f"does not fit its delete set: {error}"
                raise DataFileError.of(str(row["path"]), problem, repr(plan)) from error
            found = found.filter(pa.array(live))
        yield found


def _rows(plan: ReadPlan) -> list[dict[str, object]]:
    names = [
        "path",
        "content_type",
        "record_count",
        "delta_type",
        "stream_position",
        "delete_columns",
        "deletes",
    ]
    return list(plan.files.select(names).to_pylist())


def _delete_columns(plan: ReadPlan, row: dict[str, object]) -> tuple[str, ...]:
    """What a delete file matches by; nothing for data."""
    if row["delta_type"] != "delete":
        return ()
    locators = row["delete_columns"]
    return tuple(json.loads(str(locators))) if locators else plan.merge_keys


def _delta(
    plan: ReadPlan, row: dict[str, object], delete_columns: tuple[str, ...], schema: pa.Schema
) -> Delta:
    kept = pa.schema([schema.field(c) for c in delete_columns]) if delete_columns else schema
    rows = _read(plan, row, kept, required=delete_columns or plan.merge_keys)
    return Delta(rows, int(str(row["stream_position"])), delete_columns)


def _read(
    plan: ReadPlan, row: dict[str, object], schema: pa.Schema, required: tuple[str, ...] = ()
) -> pa.Table:
    path, records = str(row["path"]), row["record_count"]
    if row["content_type"] != "parquet":
        raise UnsupportedError(f"{path}: files of type {row['content_type']} are not supported")
    found = parquet.read(
        path, schema.names, records=records if isinstance(records, int) else None, plan=repr(plan)
    )
    # Read as null, a missing key would match the rows whose key is null.
    if lacking := [c for c in required if c not in found.column_names]:
        raise DataFileError.of(path, f"lacks the column {lacking[0]!r}", repr(plan))
    return align(found, schema)
