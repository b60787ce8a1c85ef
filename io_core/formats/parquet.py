"""Parquet files: reading columns, writing with field ids, and what a footer tells of a file."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from io_core.errors import SchemaValidationError
from io_core.field_ids import children
from io_core.formats.content import Skipped
from io_core.formats.encoding import open_random
from io_core.formats.held import in_held_types, restored, without_columns
from io_core.formats.parts import any_part
from io_core.formats.pool import opened as open_rows
from io_core.formats.row_groups import chunks_of, known_bounds, null_counts, runs_of
from io_core.literal import dump_literal, kind_of, ordinal
from io_core.model import ColumnStats, WriteEntry
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from io_core.formats.content import FileRef
    from io_core.formats.row_groups import Run
    from io_core.storage import Storage

__all__ = [
    "Footer",
    "batches",
    "entry_from",
    "entry_of",
    "footer_of",
    "hold",
    "schema_of",
    "write",
]

ROW_GROUP_ROWS = 122_880
_SAMPLED_ROWS = 8_192
# Fewer values than these are decoded sooner than they are given to threads.
_THREADED_VALUES = 1_000_000
# Of one length: a footer with one for the other is as long.
_ARROW_SCHEMA = b"ARROW:schema"
_NO_ARROW_SCHEMA = b"arrow-schema"


def hold(dtype: pa.DataType) -> pa.DataType | None:
    """As which type Parquet holds another; it has no intervals, unions and empty structs."""
    t = pa.types
    if t.is_date64(dtype):
        return pa.date32()
    if t.is_time32(dtype):
        return pa.time32("ms")
    if t.is_timestamp(dtype) and dtype.unit == "s":
        return pa.timestamp("ms", dtype.tz)
    if t.is_interval(dtype) or t.is_union(dtype):
        return None
    return None if t.is_struct(dtype) and not dtype.num_fields else dtype


def _is_odd(dtype: pa.DataType) -> bool:
    if pa.types.is_dictionary(dtype):
        return kind_of(dtype.value_type) not in ("text", "binary")
    return bool(pa.types.is_run_end_encoded(dtype) or hold(dtype) != dtype)


def _is_kept(dtype: pa.DataType) -> bool:
    return not any_part(dtype, _is_odd) and not any_part(dtype, _has_views)


def _has_views(dtype: pa.DataType) -> bool:
    """Whether views are in what pyarrow 25 slices while it writes, which it cannot do with views."""
    sliced = pa.types.is_struct(dtype) or pa.types.is_fixed_size_list(dtype)
    return sliced and any_part(dtype, _is_view)


def _is_view(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype))


def batches(
    file: FileRef, columns: Sequence[str] | None, storage: Storage
) -> Iterator[pa.Table | Skipped]:
    """Read some columns piece by piece; see `io_core.formats.read_batches`."""
    with (
        open_random(file, storage) as stored,
        open_rows(stored) as opened,
    ):
        schema = opened.schema_arrow
        found = schema.names if columns is None else [c for c in columns if c in schema.names]
        if columns is None or len(found) < len(columns) or any(_inside(schema, found)):
            _check_shape(opened.metadata, schema)
        rows = range(opened.metadata.num_rows) if file.rows is None else file.rows
        runs = runs_of(opened.metadata, schema, rows, file.wanted)
        if not found:
            yield from (
                without_columns(len(r.rows)) if r.groups else Skipped(len(r.rows)) for r in runs
            )
            return
        stored_types = pa.schema([schema.field(c) for c in found])
        # Not empty_table(), whose arrays would have pyarrow import pandas.
        yield pa.Table.from_batches([], stored_types)
        # pyarrow 25 does not read null ones as such, and statistics do not tell where there are any.
        if not any_part(pa.struct(list(stored_types)), pa.types.is_fixed_size_list):
            coded = [f.name for f in stored_types if any_part(f.type, pa.types.is_dictionary)]
            for piece in _pieces(opened, found, runs):
                yield piece if isinstance(piece, Skipped) else _sound(piece, coded)
            return
        metadata = _without_arrow_schema(stored)
        with open_rows(stored, metadata) as plain:
            for piece in _pieces(plain, found, runs):
                yield piece if isinstance(piece, Skipped) else _restored(piece, schema)


def _inside(schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Field]:
    return (child for name in columns for child in children(schema.field(name).type))


def _check_shape(metadata: pq.FileMetaData, schema: pa.Schema) -> None:
    """Look whether a footer names its columns as Arrow's schema in it does, where it holds one.

    A footer has no checksum: what it names otherwise would be missing, which reads as nulls.

    Raises:
        ValueError: It does not.
    """
    encoded = (metadata.metadata or {}).get(_ARROW_SCHEMA)
    if encoded is None:
        return
    told = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))
    if not _is_shaped_alike(pa.struct(list(told)), pa.struct(list(schema))):
        raise ValueError(f"its footer says that its columns are {_said(schema)}, and {_said(told)}")


def _said(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _is_shaped_alike(told: pa.DataType, stored: pa.DataType) -> bool:
    ours, theirs = children(told), children(stored)
    is_struct = pa.types.is_struct(told)
    if is_struct != pa.types.is_struct(stored) or len(ours) != len(theirs):
        return False
    if is_struct and [f.name for f in ours] != [f.name for f in theirs]:
        return False
    return all(_is_shaped_alike(a.type, b.type) for a, b in zip(ours, theirs, strict=True))


def _pieces(
    opened: pq.ParquetFile, columns: list[str], runs: Iterable[Run]
) -> Iterator[pa.Table | Skipped]:
    for run in runs:
        if not run.groups:
            yield Skipped(len(run.rows))
            continue
        threaded = len(run.rows) * len(columns) >= _THREADED_VALUES
        batches = opened.iter_batches(
            ROW_GROUP_ROWS, row_groups=run.groups, columns=columns, use_threads=threaded
        )
        for piece in _within(batches, run.first, run.rows):
            # A name with dots also matches inside structs: keep what was asked for.
            yield piece.select(columns)


def _within(batches: Iterator[pa.RecordBatch], first: int, rows: range) -> Iterator[pa.Table]:
    """Those of the batches' rows that are asked for; the first batch begins with row `first`."""
    for batch in batches:
        skipped = max(rows.start - first, 0)
        kept = batch.slice(skipped, max(rows.stop - first - skipped, 0))
        first += batch.num_rows
        yield pa.Table.from_batches([kept])


def _sound(table: pa.Table, coded: Sequence[str]) -> pa.Table:
    """The rows, unless a dictionary's index leads anywhere in memory: Arrow does not look."""
    for name in coded:
        table.column(name).validate(full=True)
    return table


def _restored(table: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return restored(table, schema)
    except SchemaValidationError as error:
        raise ValueError(f"its columns do not fit its own types: {error}") from error


def _without_arrow_schema(stored: pa.NativeFile) -> pq.FileMetaData:
    """The footer as one that does not name Arrow's types: fixed-size lists are lists then."""
    size = stored.size()
    stored.seek(size - 8)
    length = int.from_bytes(stored.read(4), "little")
    stored.seek(size - 8 - length)
    footer = stored.read(length).replace(_ARROW_SCHEMA, _NO_ARROW_SCHEMA)
    ends = length.to_bytes(4, "little") + b"PAR1"
    return pq.read_metadata(pa.BufferReader(b"PAR1" + footer + ends))


def write(table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
    """Write one file; field ids in the schema's metadata become the file's own.

    Raises:
        FileExistsError: The path is taken: data files are never overwritten.
        SchemaValidationError: Parquet has no place for a column's type.
    """
    held = in_held_types(table, hold, "parquet", is_kept=_is_kept)
    with storage.open_output(path) as out:
        try:
            pq.write_table(
                held,
                out,
                compression="zstd",
                use_dictionary=_repeating(held),
                row_group_size=ROW_GROUP_ROWS,
                write_page_index=True,
                write_page_checksum=True,
            )
        except pa.ArrowNotImplementedError as error:
            raise SchemaValidationError(f"rows cannot be written as parquet: {error}") from error


def _repeating(table: pa.Table) -> bool | list[str]:
    """Which columns get a dictionary: not numbers that hardly repeat, where it only costs.

    For a million different floats it took twice the time of writing, and a quarter more bytes.
    """
    if any(pa.types.is_nested(field.type) for field in table.schema):
        # Inner columns would have to be named one by one.
        return True
    return [
        field.name for field in table.schema if not _is_number(field.type) or _repeats(table, field)
    ]


def _is_number(dtype: pa.DataType) -> bool:
    t = pa.types
    return bool(
        t.is_integer(dtype)
        or t.is_float32(dtype)
        or t.is_float64(dtype)
        or t.is_timestamp(dtype)
        or t.is_duration(dtype)
    )


def _repeats(table: pa.Table, field: pa.Field) -> bool:
    head = table.column(field.name).slice(0, _SAMPLED_ROWS)
    return bool(pc.count_distinct(head).as_py() * 2 <= len(head))


def schema_of(path: str, storage: Storage) -> pa.Schema:
    """A file's own schema, from its footer."""
    with storage.open_input(path) as stored:
        return pq.read_schema(stored)


def entry_of(
    path: str,
    schema: pa.Schema,
    *,
    partition_values: list[Any] | None = None,
    nan_counts: Mapping[str, int] | None = None,
    sort_scheme_id: str | None = None,
    storage: Storage = LOCAL,
) -> WriteEntry:
    """Describe one written file from its footer. Reads no data.

    Args:
        path: Local path or `file://` URI, named in the entry as it is.
        schema: The table's schema: which columns get statistics, and their types.
        partition_values: JSON scalars in the scheme's order.
        nan_counts: NaN per floating point column, counted while writing.
        sort_scheme_id: The sort scheme that the file's rows follow.
        storage: How the file is reached.
    """
    footer = footer_of(path, storage)
    return entry_from(
        path,
        footer,
        schema,
        partition_values=partition_values,
        nan_counts=nan_counts,
        sort_scheme_id=sort_scheme_id,
    )


class Footer(NamedTuple):
    """What one file says of itself, read once."""

    size: int
    metadata: pq.FileMetaData
    schema: pa.Schema


def footer_of(path: str, storage: Storage = LOCAL) -> Footer:
    """Read a file's footer, and no data.

    Raises:
        OSError: It cannot be read.
        pyarrow.ArrowInvalid: It is no Parquet file.
    """
    with storage.open_input(path) as stored:
        size, metadata = stored.size(), pq.read_metadata(stored)
    return Footer(size, metadata, metadata.schema.to_arrow_schema())


def entry_from(
    path: str,
    footer: Footer,
    schema: pa.Schema,
    *,
    partition_values: list[Any] | None = None,
    nan_counts: Mapping[str, int] | None = None,
    sort_scheme_id: str | None = None,
) -> WriteEntry:
    """The same from a footer that was read before; see `entry_of`."""
    metadata, counted = footer.metadata, nan_counts or {}
    chunks = chunks_of(metadata)
    stats = {
        field.name: _column_stats(footer, chunks[field.name], field, counted.get(field.name))
        for field in schema
        if field.name in chunks and kind_of(field.type) != "other"
    }
    return WriteEntry(
        path=path,
        record_count=metadata.num_rows,
        content_length=footer.size,
        content_type="parquet",
        column_stats=stats,
        partition_values=partition_values,
        sort_scheme_id=sort_scheme_id,
    )


def _column_stats(
    footer: Footer, index: int, field: pa.Field, nan_count: int | None
) -> ColumnStats:
    metadata = footer.metadata
    groups = [
        metadata.row_group(g).column(index).statistics
        for g in range(metadata.num_row_groups)
        if metadata.row_group(g).num_rows
    ]
    nulls = null_counts(groups)
    null_count = None if nulls.null_count else sum(nulls.to_pylist())
    # One row group without bounds leaves the file without them, unless all its values are null.
    bounded = [s for s in groups if s is None or not (s.has_null_count and s.num_values == 0)]
    column, stored = metadata.schema.column(index), footer.schema.field(field.name).type
    lows, highs = (known_bounds(bounded, column, stored, field.type, s) for s in ("min", "max"))
    if not bounded or lows.null_count or highs.null_count:
        return ColumnStats(None, None, null_count, nan_count)
    low, high = min(lows, key=ordinal), max(highs, key=ordinal)
    return ColumnStats(dump_literal(low), dump_literal(high), null_count, nan_count)
