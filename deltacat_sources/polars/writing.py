"""How does Polars' own streaming writer write a table's files, and which tables can it write exactly?

It takes identity partitions, sort schemes, and types that it stores without change. Statistics come from
the footers, NaN is counted on the way.
"""

from __future__ import annotations

import inspect
import json
import operator
import os
import uuid
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import polars as pl
import pyarrow as pa

from deltacat_sources.polars.types import polars_schema
from io_core.defaults import filled
from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.field_ids import carry_ids, loosened
from io_core.formats.parquet import entry_of
from io_core.key_files import KeyedFile, derive_keys
from io_core.literal import dump_array
from io_core.s3 import polars_options
from io_core.schema import decode_schema
from io_core.storage import engine_location

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polars.io.partition import FileProviderArgs, SinkedPathsCallbackArgs

    from io_core.model import WriteEntry, WriteSession
    from io_core.sink import OpenSink
    from io_core.storage import Storage

__all__ = ["is_native", "write_native"]

# As rows take in memory; files are smaller, mostly by far.
_BYTES_PER_FILE = 128 * 2**20
_ROWS_PER_PIECE = 100_000


def _probe() -> None:
    needed = {"arrow_schema", "sinked_paths_callback"}
    if missing := needed - inspect.signature(pl.LazyFrame.sink_parquet).parameters.keys():
        raise UnsupportedError(
            f"polars {pl.__version__}: sink_parquet lacks {', '.join(sorted(missing))}; "
            "install polars>=2.1,<2.2"
        )


_probe()


def is_native(schema: pl.Schema, target: pa.Schema, session: WriteSession) -> bool:
    """Whether Polars' own writer gives exactly the table's rows."""
    if filled(target, schema):
        return False
    parts = session.partition_scheme.keys if session.partition_scheme else ()
    if any(key.transform not in (None, "identity") for key in parts):
        return False
    # Floats have two zeros and many NaN, which Arrow and Polars tell apart, and order, differently.
    placed = [key.key[0] for key in parts] + [by.name for by in _order(session, target)]
    if any(pa.types.is_floating(target.field(name).type) for name in placed):
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


class _By(NamedTuple):
    """A column that rows are sorted by."""

    name: str
    descending: bool = False
    nulls_last: bool = True


def _order(session: WriteSession, target: pa.Schema) -> list[_By]:
    """How rows stand in each file: by the sort scheme, and what it leaves equal by the merge keys."""
    scheme = session.sort_scheme
    if scheme is None or not scheme.keys:
        return []
    found = [
        _By(key.key[0], key.sort_order == "descending", key.null_order == "at_end")
        for key in scheme.keys
        # Deletes hold keys alone.
        if key.key[0] in target.names
    ]
    listed = {by.name for by in found}
    return found + [_By(key) for key in session.merge_keys or () if key not in listed]


def write_native(lf: pl.LazyFrame, target: pa.Schema, sink: OpenSink) -> list[WriteEntry]:
    """Write a frame of exactly the table's columns under a session, and describe its files.

    A table with a sort scheme gets a piece of the frame at a time, sorted, each in files of its own.
    """
    order = _order(sink.session, target)
    entries: list[WriteEntry] = []
    for piece in _pieces(lf, sink.rows_per_file) if order else [lf]:
        rows = piece if not order else _sorted(piece, order)
        entries += _write(rows, target, sink)
    _check_required(entries, target, sink.session)
    return entries


def _pieces(lf: pl.LazyFrame, rows: int) -> Iterator[pl.LazyFrame]:
    """Frames of a file's size each, of rows that stand together."""
    waiting: list[pl.DataFrame] = []
    size = height = 0
    for batch in lf.collect_batches(chunk_size=_ROWS_PER_PIECE, maintain_order=True):
        for start in range(0, batch.height, step := min(rows, _ROWS_PER_PIECE)):
            part = batch.slice(start, step)
            if waiting and (height + part.height > rows or size >= _BYTES_PER_FILE):
                yield pl.concat(waiting).lazy()
                waiting, size, height = [], 0, 0
            waiting.append(part)
            size += int(part.estimated_size())
            height += part.height
    if waiting:
        yield pl.concat(waiting).lazy()


def _sorted(piece: pl.LazyFrame, order: Sequence[_By]) -> pl.LazyFrame:
    return piece.sort(
        [by.name for by in order],
        descending=[by.descending for by in order],
        nulls_last=[by.nulls_last for by in order],
        maintain_order=True,
    )


def _write(lf: pl.LazyFrame, target: pa.Schema, sink: OpenSink) -> list[WriteEntry]:
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
    return _entries(names, counter, written, target, session)


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
        entry = msgspec.structs.replace(
            entry,
            schema_id=session.schema_id,
            sort_scheme_id=session.sort_scheme.id if session.sort_scheme else None,
        )
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
