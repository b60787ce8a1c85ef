"""How Polars writes a table: its own streaming Parquet writer, then one commit.

Polars' writer takes every table that it can write exactly (`deltacat_sources.polars.writing`). Other
tables, and frames whose columns have to be checked value by value to fit, go through Arrow in batches; the
rows are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import polars as pl
import pyarrow as pa

from deltacat_sources.polars.creation import announced, creation
from deltacat_sources.polars.types import check_names, polars_schema
from deltacat_sources.polars.writing import is_native, write_native
from io_core.defaults import filled
from io_core.errors import SchemaValidationError
from io_core.growth import unknown_column
from io_core.layout import check_layout
from io_core.model import TableRef
from io_core.schema import (
    check_exact,
    decode_schema,
    encode_schema,
)
from io_core.sink import (
    DEFAULT_ROWS_PER_FILE,
    OpenSink,
    growth_of,
    warn_of_lacking,
    write_schema,
)
from planner_client import connect
from planner_client.calls import new_operation

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["sink_deltacat", "write_deltacat"]

_ROWS_PER_BATCH = 1_000_000


@overload
def sink_deltacat(
    lf: pl.LazyFrame,
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = ...,
    mode: WriteMode = ...,
    transaction: Transaction | None = ...,
    partition_by: str | Sequence[str] | None = ...,
    merge_keys: str | Sequence[str] | None = ...,
    create: bool | Mapping[str, object] = ...,
    lazy: Literal[False] = ...,
    max_rows_per_file: int = ...,
) -> WriteSession: ...


@overload
def sink_deltacat(
    lf: pl.LazyFrame,
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = ...,
    mode: WriteMode = ...,
    transaction: Transaction | None = ...,
    partition_by: str | Sequence[str] | None = ...,
    merge_keys: str | Sequence[str] | None = ...,
    create: bool | Mapping[str, object] = ...,
    lazy: Literal[True],
    max_rows_per_file: int = ...,
) -> pl.LazyFrame: ...


def sink_deltacat(
    lf: pl.LazyFrame,
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    mode: WriteMode = "auto",
    transaction: Transaction | None = None,
    partition_by: str | Sequence[str] | None = None,
    merge_keys: str | Sequence[str] | None = None,
    create: bool | Mapping[str, object] = True,
    lazy: bool = False,
    max_rows_per_file: int = DEFAULT_ROWS_PER_FILE,
) -> WriteSession | pl.LazyFrame:
    """Run a query and write its rows into a table: all of them in one commit, or none.

    Streams: memory does not grow with the data. Files are partitioned as the table is, carry its
    field ids, and roll by size. Columns are matched by name; in a merge, which replaces whole
    rows, columns that the frame lacks become null, with a warning. Whatever goes wrong, Ctrl-C
    included, closes the session, removes what it staged and is raised again.

    Args:
        lf: What to write.
        table: `"namespace.table"`. Modes `auto` and `create` make it from the frame's schema, and
            its namespace, where it is absent.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        mode: What the rows mean to those that are there: `add`, `append`, `replace`,
            `replace_partition`, `merge` by the table's merge keys, `delete` by them, `create`, or
            `auto`, which is `merge` on a table with merge keys and `add` on others.
        transaction: An open transaction of the planner's; the rows become visible with it.
        partition_by: Columns whose values divide a table that is created.
        merge_keys: Columns that identify a row of a table that is created.
        create: Whether `auto` may make the table; or what else to make it with, in the protocol's words:
            `partition_scheme`, `sort_scheme`, `table_description` and others.
        lazy: Write when the returned frame is collected, once each time: one row of
            `files_registered`, `total_records` and `snapshot`.
        max_rows_per_file: Where files roll, if their size has not made them roll before.

    Returns:
        The committed session: `files_registered`, `total_records`, `snapshot`; with `lazy` a frame.

    Raises:
        SchemaValidationError: The frame does not fit the table; nothing was written.
        NotFoundError: No such table, and the mode does not create one.
        ConcurrentModificationError: Another commit came first.

    Example:
        >>> import tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> frame = pl.LazyFrame({"id": [1, 2], "month": [3, 4]})
        >>> sink_deltacat(frame, "air.flights", planner=client, partition_by="month").files_registered
        2
    """
    ref, rows = TableRef.parse(table), _at_least_one(max_rows_per_file)
    given = (mode, transaction, partition_by, merge_keys, create)
    asked = _Asked(ref, connect(planner), *given, rows)
    if lazy:
        return pl.defer(lambda: _summary(_sunk(lf, asked)), schema=_SUMMARY)
    return _sunk(lf, asked)


def _at_least_one(max_rows_per_file: int) -> int:
    if max_rows_per_file < 1:
        raise ValueError(f"max_rows_per_file is {max_rows_per_file}: give 1 or more")
    return max_rows_per_file


class _Asked(NamedTuple):
    """What `sink_deltacat` was asked for, but for the frame."""

    table: TableRef
    client: Client
    mode: WriteMode
    transaction: Transaction | None
    partition_by: str | Sequence[str] | None
    merge_keys: str | Sequence[str] | None
    create: bool | Mapping[str, object]
    max_rows_per_file: int


_SUMMARY = {"files_registered": pl.Int64(), "total_records": pl.Int64(), "snapshot": pl.Int64()}


def _summary(session: WriteSession) -> pl.DataFrame:
    found = {name: [getattr(session, name)] for name in _SUMMARY}
    return pl.DataFrame(found, schema=_SUMMARY)


def _sunk(lf: pl.LazyFrame, asked: _Asked) -> WriteSession:
    schema = lf.collect_schema()
    check_names(schema)
    partition_by, merge_keys = asked.partition_by, asked.merge_keys
    wanted = None
    if asked.mode == "create" or (asked.mode == "auto" and asked.create is not False):
        wanted = creation(schema, partition_by, merge_keys)
        wanted |= dict(asked.create) if not isinstance(asked.create, bool) else {}
    session = asked.client.stage(
        namespace=asked.table.namespace,
        table=asked.table.table,
        mode=asked.mode,
        create_if_missing=wanted,
        schema_serialized=encode_schema(announced(schema)),
        transaction=asked.transaction,
    )
    sink = OpenSink(asked.client, session, new_operation(), asked.max_rows_per_file)

    def staged() -> list[WriteEntry]:
        with asked.client.heartbeating(session):
            check_layout(session, partition_by, merge_keys)
            return _write(lf, schema, sink)

    return sink.run(staged)


def write_deltacat(
    df: pl.DataFrame,
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    mode: WriteMode = "auto",
    transaction: Transaction | None = None,
    partition_by: str | Sequence[str] | None = None,
    merge_keys: str | Sequence[str] | None = None,
    create: bool | Mapping[str, object] = True,
    max_rows_per_file: int = DEFAULT_ROWS_PER_FILE,
) -> WriteSession:
    """Write a frame into a table in one commit; see `sink_deltacat`."""
    return sink_deltacat(
        df.lazy(),
        table,
        planner=planner,
        mode=mode,
        transaction=transaction,
        partition_by=partition_by,
        merge_keys=merge_keys,
        create=create,
        max_rows_per_file=max_rows_per_file,
    )


def _write(lf: pl.LazyFrame, schema: pl.Schema, sink: OpenSink) -> list[WriteEntry]:
    target = write_schema(sink.session)
    _check_fit(schema, target, sink.session)
    if is_native(schema, target, sink.session):
        return write_native(_conformed(lf, schema, target), target, sink)
    return _write_batches(lf.select(n for n in schema if n in target.names), sink)


def _check_fit(schema: pl.Schema, target: pa.Schema, session: WriteSession) -> None:
    """Compare columns and types before anything is written.

    Raises:
        SchemaValidationError: An unknown column, a missing one that the table requires, or a type
            that never fits.
    """
    name = f"{session.namespace}.{session.table}"
    known = decode_schema(session.schema_serialized or "").names
    for column in schema:
        if column not in known:
            raise unknown_column(name, column, known)
    keys = {*(session.merge_keys or ())}
    required = keys | {f.name for f in target if not f.nullable}
    if session.mode == "delete":
        keys = required = set(target.names)
    optional = filled(target, schema) - keys
    missing = [n for n in target.names if n not in schema and n not in optional]
    if lacking := [c for c in missing if c in required]:
        raise SchemaValidationError(f"the frame lacks {', '.join(lacking)}, which {name} requires")
    for field in target:
        if field.name in schema:
            _check_type(field, schema[field.name], session)
    warn_of_lacking(session, missing, stacklevel=5)


def _check_type(field: pa.Field, dtype: pl.DataType, session: WriteSession) -> None:
    try:
        empty = pl.Series([], dtype=dtype).to_arrow()
        empty.cast(field.type)
    except (pa.ArrowException, pl.exceptions.PolarsError, NotImplementedError):
        raise SchemaValidationError(
            f"column {field.name!r} is {dtype} in the frame and {field.type} in "
            f"{session.namespace}.{session.table}: cast it first"
        ) from None
    default = growth_of(session).consistency
    check_exact(pa.schema([(field.name, empty.type)]), pa.schema([field]), default=default)


def _conformed(lf: pl.LazyFrame, schema: pl.Schema, target: pa.Schema) -> pl.LazyFrame:
    """The frame with the table's columns, in its order and types."""
    columns = []
    for name, dtype in polars_schema(target).items():
        if name not in schema:
            columns.append(pl.lit(None, dtype=dtype).alias(name))
        else:
            columns.append(pl.col(name) if schema[name] == dtype else pl.col(name).cast(dtype))
    return lf.select(columns)


def _write_batches(lf: pl.LazyFrame, sink: OpenSink) -> list[WriteEntry]:
    batches = lf.collect_batches(chunk_size=_ROWS_PER_BATCH, maintain_order=True)
    return sink.write_batches(batch.to_arrow() for batch in batches if batch.height)
