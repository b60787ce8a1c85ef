"""A few rows in the call itself: a table's first ones shown, or some written."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core.defaults import FUTURE_DEFAULT, fill
from io_core.errors import RequestRejectedError, SchemaValidationError, UnsupportedError
from io_core.execute import read_plan
from io_core.literal import dump_array, kind_of, load_array
from io_core.plan import ReadPlan
from io_core.predicate import parse
from io_core.schema import (
    assign_field_ids,
    check_columns,
    decode_schema,
    encode_schema,
    merge_keys_of,
)
from io_core.sink import DEFAULT_ROWS_PER_FILE, delete_staged, write_files
from io_core.storage import is_s3, local_path, persist
from planner_client.protocol.inline import Previewed, WrittenInline
from planner_client.protocol.plans import PlanRequest
from planner_client.protocol.writes import CommitRequest, CreateIfMissing, StageRequest
from planner_client.server import planning, sessions, writes

if TYPE_CHECKING:
    from collections.abc import Collection

    from io_core.model import WriteMode
    from planner_client.protocol.inline import Preview, WriteInline
    from planner_client.server.catalog import Version
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import Write

__all__ = ["preview", "write_inline"]

_MOST_SHOWN = 10_000
_MODES: dict[str, WriteMode] = {
    "auto": "auto",
    "create": "create",
    "add": "add",
    "append": "append",
    "replace": "replace",
    "replace_partition": "replace_partition",
    "merge": "merge",
    "delete": "delete",
}


def preview(planner: EmbeddedPlanner, request: Preview) -> Previewed:
    """Handle `preview`."""
    if not 0 <= request.limit <= _MOST_SHOWN:
        raise RequestRejectedError(
            f"limit {request.limit}: a preview shows 0 to {_MOST_SHOWN:,} rows",
            code="invalid_request",
        )
    plan = planning.plan(
        planner,
        PlanRequest(
            namespace=request.namespace,
            table=request.table,
            table_version=request.table_version,
            filter_predicate=request.filter_predicate,
            delete_sets=True,
            transaction_id=request.transaction_id,
            transaction_version=request.transaction_version,
        ),
    )
    if plan.header.schema_serialized is None:
        raise UnsupportedError(
            f"table {request.namespace}.{request.table} is schemaless: plan it to see its files"
        )
    plan = ReadPlan(plan.header, plan.files, planner.storage)
    rows = read_plan(plan, predicate=parse(request.filter_predicate), row_limit=request.limit)
    columns = {name: _scalars(rows.column(name)) for name in rows.column_names}
    shown = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Previewed(
        sample_rows=shown,
        sample_size=len(shown),
        schema=plan.header.schema,
        total_rows=plan.header.total_records,
    )


# Any: JSON scalars; of nested columns what Python makes of them, as text.
def _scalars(column: pa.ChunkedArray) -> list[Any]:
    values = column.combine_chunks()
    if kind_of(values.type) != "other":
        return list(dump_array(values))
    return [None if value is None else str(value) for value in values.to_pylist()]


def write_inline(planner: EmbeddedPlanner, request: WriteInline, write: Write) -> WrittenInline:
    """Handle `write_inline`: staged, written and committed in this one call."""
    mode = request.mode.rpartition(".")[2].lower()
    if mode not in _MODES:
        raise RequestRejectedError(
            f"unknown mode {request.mode!r}: use one of {', '.join(_MODES)}",
            code="invalid_request",
        )
    kind = (request.content_type or "parquet").rpartition(".")[2].rpartition("/")[2].lower()
    if kind != "parquet":
        raise UnsupportedError(
            f"content_type {request.content_type!r}: rows in a call are written as parquet; "
            "stage files of other formats"
        )
    given = _given(request)
    staged = StageRequest(
        namespace=request.namespace,
        table=request.table,
        table_version=request.table_version,
        mode=_MODES[mode],
        create_if_missing=CreateIfMissing(schema_def=encode_schema(assign_field_ids(given.schema)))
        if mode in ("auto", "create")
        else None,
    )
    new = _unknown(sessions.find_existing(write.view, staged, staged.mode), given.schema)
    session = sessions.open_session(
        planner, msgspec.structs.replace(staged, schema_serialized=encode_schema(new)), write
    )
    sessions.keep(write.db, session)
    own = session.session if planner.place is None else planner.place.own_session(session.session)
    try:
        # What a delete lacks, besides its keys, it needs not.
        schema = None if mode == "delete" else session.session.schema_serialized
        entries = write_files(own, _typed(request, schema, given), DEFAULT_ROWS_PER_FILE)
        persist(local_path(entry.path) for entry in entries if not is_s3(entry.path))
        done = writes.commit(
            planner,
            CommitRequest(
                session_id=session.session.session_id,
                session_version=session.session.session_version,
                entries=entries,
                operation_id=f"op_{uuid.uuid4().hex}",
            ),
            write,
        )
    except BaseException:
        delete_staged(own)
        raise
    return WrittenInline(
        table=request.table,
        written=True,
        records=done.total_records or 0,
        deltas_written=done.deltas_written or 0,
    )


def _given(request: WriteInline) -> pa.Table:
    """The rows with the types that JSON has."""
    lengths = {len(values) for values in request.data.values()}
    if len(lengths) > 1 or not request.data:
        raise SchemaValidationError(
            "data is an object of columns, each a list of as many values as the others"
        )
    try:
        return pa.table(request.data)
    except (pa.ArrowException, TypeError) as error:
        raise SchemaValidationError(f"data cannot be a table: {error}") from None


def _unknown(version: Version | None, given: pa.Schema) -> pa.Schema:
    """Columns that the table lacks. What JSON makes of the others says nothing of their types."""
    known = version.schema.names if version and version.schema is not None else ()
    return pa.schema([field for field in given if field.name not in known])


def _typed(request: WriteInline, serialized: str | None, given: pa.Table) -> pa.Table:
    """The rows with the table's types, whose literals JSON writes as text."""
    if serialized is None:
        return given
    schema = decode_schema(serialized)
    check_columns(request.data, schema)
    columns = {}
    for name, values in request.data.items():
        dtype = schema.field(name).type
        if kind_of(dtype) == "other":
            columns[name] = given.column(name)
            continue
        held = load_array(values, dtype)
        wrong = [
            v
            for v, null in zip(values, held.is_null().to_pylist(), strict=True)
            if null and v is not None
        ]
        if wrong:
            raise SchemaValidationError(
                f"column {name!r}: {wrong[0]!r} is no value of type {dtype}"
            )
        columns[name] = held
    return pa.table(columns | _left_out(schema, columns, given.num_rows))


def _left_out(schema: pa.Schema, columns: Collection[str], rows: int) -> dict[str, pa.ChunkedArray]:
    """Columns that rows lack and may lack, as they will be: to leave one out is to say that.

    Who merges through a sink is warned of these, in a process where somebody reads warnings.
    """
    keys = merge_keys_of(schema)
    lacking = [f for f in schema if f.name not in columns and f.name not in keys and f.nullable]
    return {field.name: fill(field, rows, FUTURE_DEFAULT) for field in lacking}
