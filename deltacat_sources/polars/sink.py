"""How Polars writes a table: its own streaming Parquet writer, then one commit.

Polars' writer takes every table that it can write exactly as it is: identity partitions, no sort
scheme, types that it stores without change. Other tables, and frames whose columns have to be
checked value by value to fit, go through Arrow in batches; the rows are the same.
"""

from __future__ import annotations

import inspect
import json
import operator
import os
import uuid
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import msgspec
import polars as pl
import pyarrow as pa

from deltacat_sources.polars.creation import announced, creation
from deltacat_sources.polars.types import polars_schema
from io_core.defaults import filled
from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.field_ids import carry_ids, loosened
from io_core.formats.parquet import entry_of
from io_core.growth import unknown_column
from io_core.key_files import KeyedFile, derive_keys
from io_core.layout import check_layout
from io_core.literal import dump_array
from io_core.model import TableRef
from io_core.s3 import polars_options
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
from io_core.storage import engine_location
from planner_client import connect
from planner_client.calls import new_operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars.io.partition import FileProviderArgs, SinkedPathsCallbackArgs

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from io_core.storage import Storage
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["sink_deltacat", "write_deltacat"]

# As rows take in memory; files are smaller, mostly by far.
_BYTES_PER_FILE = 128 * 2**20
_ROWS_PER_BATCH = 1_000_000


def _probe() -> None:
    needed = {"arrow_schema", "sinked_paths_callback"}
    if missing := needed - inspect.signature(pl.LazyFrame.sink_parquet).parameters.keys():
        raise UnsupportedError(
            f"polars {pl.__version__}: sink_parquet lacks {', '.join(sorted(missing))}; "
            "install polars>=2.1,<2.2"
        )


_probe()


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
    ref, client = TableRef.parse(table), connect(planner)
    asked = _Asked(
        ref, client, mode, transaction, partition_by, merge_keys, create, max_rows_per_file
    )
    if lazy:
        return pl.defer(lambda: _summary(_sunk(lf, asked)), schema=_SUMMARY)
    return _sunk(lf, asked)


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
    if _is_native(schema, target, sink.session):
        return _write_native(_conformed(lf, schema, target), target, sink)
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


def _is_native(schema: pl.Schema, target: pa.Schema, session: WriteSession) -> bool:
    """Whether Polars' own writer gives exactly the table's rows."""
    if session.sort_scheme is not None and session.sort_scheme.keys:
        return False
    if filled(target, schema):
        return False
    keys = session.partition_scheme.keys if session.partition_scheme else ()
    for key in keys:
        dtype = target.field(key.key[0]).type
        # Floats have two zeros and many NaN, which Arrow and Polars may tell apart differently.
        if key.transform not in (None, "identity") or pa.types.is_floating(dtype):
            return False
    if not all(_is_stored_exactly(f.type) for f in target):
        return False
    nested = [f for f in target if pa.types.is_nested(f.type)]
    if any(not f.nullable or f.type != loosened(f.type) for f in nested):
        # Whether they, or what is required inside of them, hold nulls is not in the footers.
        return False
    types = polars_schema(target)
    return all(_casts_exactly(schema[n], types[n]) for n in target.names if n in schema)


def _is_stored_exactly(dtype: pa.DataType) -> bool:
    t = pa.types
    if (
        t.is_struct(dtype)
        or t.is_list(dtype)
        or t.is_large_list(dtype)
        or t.is_fixed_size_list(dtype)
    ):
        inner = [dtype.field(i).type for i in range(dtype.num_fields)]
        return bool(inner) and all(_is_stored_exactly(i) for i in inner)
    if t.is_timestamp(dtype) or t.is_duration(dtype):
        return bool(dtype.unit != "s")
    tests = (
        t.is_boolean,
        t.is_integer,
        t.is_float32,
        t.is_float64,
        t.is_date32,
        t.is_decimal128,
        t.is_string,
        t.is_large_string,
        t.is_string_view,
        t.is_binary,
        t.is_large_binary,
        t.is_binary_view,
    )
    return any(test(dtype) for test in tests) or dtype == pa.time64("ns")


def _casts_exactly(dtype: pl.DataType, target: pl.DataType) -> bool:
    """Whether Polars' strict cast either keeps every value or raises."""
    if dtype in (target, pl.Null) or (dtype.is_integer() and target.is_integer()):
        return True
    if target == pl.Float64:
        return dtype in (pl.Float32, pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
    return target == pl.String and isinstance(dtype, pl.Categorical | pl.Enum)


def _conformed(lf: pl.LazyFrame, schema: pl.Schema, target: pa.Schema) -> pl.LazyFrame:
    """The frame with the table's columns, in its order and types."""
    columns = []
    for name, dtype in polars_schema(target).items():
        if name not in schema:
            columns.append(pl.lit(None, dtype=dtype).alias(name))
        else:
            columns.append(pl.col(name) if schema[name] == dtype else pl.col(name).cast(dtype))
    return lf.select(columns)


class _Staged(NamedTuple):
    """A file that Polars' writer asked a name for."""

    order: int
    keys: pl.DataFrame


class _Names:
    """Names files uniquely and remembers which partition each belongs to."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.staged: dict[str, _Staged] = {}

    def __call__(self, args: FileProviderArgs) -> str:
        """A new path, which no other attempt can choose."""
        path = os.path.join(self._folder, f"{uuid.uuid4().hex}.parquet")
        self.staged[path] = _Staged(args.index_in_partition, args.partition_keys)
        return path


class _NanCounter:
    """Lets batches through and counts the NaN of each floating point column."""

    def __init__(self, schema: pl.Schema) -> None:
        self.columns = [name for name, dtype in schema.items() if dtype.is_float()]
        # Lists take appends from many threads.
        self._counts: list[tuple[int, ...]] = []

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The batch as it came."""
        if batch.height:
            self._counts.append(batch.select(pl.col(self.columns).is_nan().sum()).row(0))
        return batch

    def found(self) -> list[str]:
        """Columns that hold NaN somewhere."""
        totals = [sum(column) for column in zip(*self._counts, strict=True)]
        return [name for name, total in zip(self.columns, totals, strict=False) if total]


def _write_native(lf: pl.LazyFrame, target: pa.Schema, sink: OpenSink) -> list[WriteEntry]:
    session = sink.session
    folder = engine_location(session.data_dir).rstrip("/")
    store = session.storage.store_for([session.data_dir])
    # Without options Polars would look for its own credentials.
    options, provider = (None, None) if store is None else polars_options(store)
    if store is None:
        os.makedirs(folder, exist_ok=True)
    schema = polars_schema(target)
    names, counter = _Names(folder), _NanCounter(schema)
    written = _Written(session.storage)
    keys = [k.key[0] for k in session.partition_scheme.keys] if session.partition_scheme else []
    if counter.columns:
        lf = lf.map_batches(counter, schema=schema, streamable=True)
    lf.sink_parquet(
        pl.PartitionBy(
            folder,
            key=keys or None,
            include_key=True if keys else None,
            file_path_provider=names,
            max_rows_per_file=sink.rows_per_file,
            approximate_bytes_per_file=_BYTES_PER_FILE,
        ),
        arrow_schema=_export_schema(target),
        sinked_paths_callback=written,
        engine="streaming",
        storage_options=options,
        credential_provider=provider,
    )
    entries = _entries(names, counter, written, target, session)
    _check_required(entries, target, session)
    return entries


class _Written:
    """Keeps the paths of the files that hold rows."""

    def __init__(self, storage: Storage) -> None:
        self.paths: list[str] = []
        self._storage = storage

    def __call__(self, args: SinkedPathsCallbackArgs) -> None:
        """Called once, after the last file is closed."""
        for sinked in args.paths:
            if sinked.num_rows:
                self.paths.append(sinked.path)
            else:
                self._storage.delete([sinked.path])


def _export_schema(target: pa.Schema) -> pa.Schema:
    """The types that Polars exports, with the table's field ids: what its writer takes."""
    exported = pl.DataFrame(schema=polars_schema(target)).to_arrow().schema
    return pa.schema(
        [f.with_type(carry_ids(f.type, e.type)) for e, f in zip(exported, target, strict=True)]
    )


def _entries(
    names: _Names, counter: _NanCounter, written: _Written, target: pa.Schema, session: WriteSession
) -> list[WriteEntry]:
    storage = session.storage
    counted = _nan_counts(written.paths, counter, storage)
    whole, merge_keys = decode_schema(session.schema_serialized or ""), session.merge_keys
    found = []
    for path in written.paths:
        order, keys = names.staged[path]
        values = None
        if session.partition_scheme is not None:
            values = [
                dump_array(keys[n].to_arrow().cast(target.field(n).type))[0] for n in keys.columns
            ]
        entry = entry_of(
            f"{session.data_dir.rstrip('/')}/{os.path.basename(path)}",
            target,
            partition_values=values,
            nan_counts=counted[path],
            storage=storage,
        )
        entry = msgspec.structs.replace(entry, schema_id=session.schema_id)
        if merge_keys:
            # A commit looks for the file's keys beside it; rows passed in batches of many files.
            derive_keys(KeyedFile(path, entry.record_count, whole, tuple(merge_keys), storage))
        found.append((json.dumps(values), order, entry))
    # Reading order is that of the entries: rows of one partition stay in the frame's order.
    return [entry for _, _, entry in sorted(found, key=operator.itemgetter(0, 1))]


def _nan_counts(
    paths: list[str], counter: _NanCounter, storage: Storage
) -> dict[str, dict[str, int]]:
    """NaN per file and column: none where the whole write had none, else read from the files."""
    counts = {path: dict.fromkeys(counter.columns, 0) for path in paths}
    found = counter.found()
    store = storage.store_for(paths)
    options, provider = (None, None) if store is None else polars_options(store)
    for path in paths if found else ():
        frame = pl.scan_parquet(
            path, glob=False, storage_options=options, credential_provider=provider
        )
        row = frame.select(pl.col(found).is_nan().sum()).collect().row(0)
        counts[path].update(zip(found, row, strict=True))
    return counts


def _check_required(entries: list[WriteEntry], target: pa.Schema, session: WriteSession) -> None:
    for field in target:
        if field.nullable:
            continue
        for entry in entries:
            stats = (entry.column_stats or {}).get(field.name)
            if stats is None or stats.null_count != 0:
                raise SchemaValidationError(
                    f"column {field.name!r} of {session.namespace}.{session.table} is required "
                    "and the frame holds nulls in it"
                )


def _write_batches(lf: pl.LazyFrame, sink: OpenSink) -> list[WriteEntry]:
    entries: list[WriteEntry] = []
    for batch in lf.collect_batches(chunk_size=_ROWS_PER_BATCH, maintain_order=True):
        if batch.height:
            entries += sink.write(batch.to_arrow())
    return entries
