"""What has a commit to be told of Parquet files that are there already? Footers are read, no rows.

Where the files are partitioned, each holds rows of one partition: its path says so as Hive writes it
(`day=2024-05-01/part-0.parquet`), or its statistics do, where a column has one value in all rows.
"""

from __future__ import annotations

import concurrent.futures
import glob
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import DataFileError, SchemaValidationError
from io_core.formats.parquet import Footer, entry_from, footer_of
from io_core.literal import dump_array, kind_of, load_array
from io_core.partition import transform, value_type
from io_core.schema import FROM_PARTITION, merge_keys_of, same_layout
from io_core.storage import is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from io_core.model import ColumnStats, PartitionKey, PartitionScheme, WriteEntry
    from io_core.storage import Storage

__all__ = ["Found", "common_schema", "entries_of", "files_named", "footers_of", "with_paths"]

_AT_ONCE = 16
_ENDINGS = (".parquet", ".pq")
_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# Writers cut longer texts: what is left are bounds, and no values.
_WHOLE_BYTES = 64
# Of these, values between two are of one partition if both ends are.
_ORDERED = ("identity", "truncate", "year")


class Found(NamedTuple):
    """A file that is there, and its footer."""

    path: str
    footer: Footer


def files_named(
    given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], storage: Storage
) -> list[str]:
    """The Parquet files that paths, directories and patterns stand for, each once, in their order.

    Of a directory all files below it count that end in .parquet or .pq, but for those that it or a
    folder in it hides by a name that begins with `.` or `_`.

    Args:
        given: Local paths or `s3://` URIs; `*`, `?`, `[...]` and `**` make a pattern.
        storage: How they are reached.

    Raises:
        DataFileError: Nothing is there; names it.
    """
    asked = [given] if isinstance(given, str | os.PathLike) else list(given)
    found: dict[str, None] = {}
    for one in [os.fspath(path) for path in asked]:
        place = one if is_s3(one) else os.path.abspath(local_path(one))
        files = sorted(_expanded(place, storage))
        if not files:
            raise DataFileError(f"{one}: no Parquet file is there")
        found |= dict.fromkeys(files)
    if not found:
        raise SchemaValidationError("an empty list names no file to add")
    return list(found)


def _expanded(place: str, storage: Storage) -> Iterator[str]:
    if is_s3(place):
        yield from _in_store(place, storage)
    elif os.path.isdir(place):
        yield from (f.location for f in storage.files_below(place) if _is_data(f.location, place))
    elif os.path.exists(place):
        yield place
    else:
        yield from (f for f in glob.glob(place, recursive=True) if os.path.isfile(f))


def _in_store(place: str, storage: Storage) -> Iterator[str]:
    scheme, _, _ = place.partition("://")
    folder = place.rstrip("/") + "/"
    if any(character in place for character in "*?["):
        files, key = storage.filesystem(place)
        # Arrow's view of a store has no patterns; what it wraps has.
        yield from (f"{scheme}://{found}" for found in files.handler.fs.glob(key))
        return
    below = [f.location for f in storage.files_below(folder) if _is_data(f.location, folder)]
    yield from below or [place]


def _is_data(path: str, folder: str) -> bool:
    parts = path[len(folder) :].strip("/").split("/")
    return path.lower().endswith(_ENDINGS) and not any(part[:1] in "._" for part in parts)


def footers_of(paths: Sequence[str], storage: Storage, *, progress: bool | None) -> list[Found]:
    """Every file's footer, some read at a time.

    Args:
        paths: Which files.
        storage: How they are reached.
        progress: Whether to show a bar (extra `progress`); None shows one in a terminal.

    Raises:
        DataFileError: A file is missing or no Parquet; names it.
    """

    def read(path: str) -> Found:
        try:
            return Found(path, footer_of(path, storage))
        except FileNotFoundError:
            raise DataFileError(f"file {path} is not there") from None
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(f"file {path} cannot be read as Parquet: {error}") from error

    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            return list(_counted(pool.map(read, paths), len(paths), progress=progress))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _counted(found: Iterator[Found], total: int, *, progress: bool | None) -> Iterator[Found]:
    """The same, counted by a bar; without tqdm (the extra `progress`) by none."""
    try:
        # Late: an extra.
        from tqdm import tqdm
    except ImportError:
        return found
    off = None if progress is None else not progress
    return iter(tqdm(found, total=total, desc="footers", unit=" files", disable=off))


def common_schema(found: Sequence[Found]) -> pa.Schema:
    """The columns of all files, for a table that is made of them; a column has one type in all.

    Raises:
        SchemaValidationError: Two files differ; names both.
    """
    fields: dict[str, tuple[pa.Field, str]] = {}
    for path, footer in found:
        for field in _plain(footer.schema):
            known, first = fields.setdefault(field.name, (field, path))
            if not same_layout(known.type, field.type):
                raise SchemaValidationError(
                    f"column {field.name!r} is {known.type} in {first} and {field.type} in {path}: "
                    "write the rows of one of them, instead of adding it as it is"
                )
    return pa.schema([field.with_nullable(True) for field, _ in fields.values()])


def with_paths(
    schema: pa.Schema, found: Sequence[Found], columns: Sequence[str], known: pa.Schema | None
) -> pa.Schema:
    """The files' columns, and those that files lack whose paths say them, as Hive writes it.

    Args:
        schema: What the files have in common.
        found: The files.
        columns: Those that partition the table by their values.
        known: The table's schema; None where it is to be made: numbers become int64, others text.
    """
    fields = {field.name: field for field in schema}
    for name in columns:
        lacking = [path for path, footer in found if name not in footer.schema.names]
        said = [text for text in (_said_by(path, name) for path in lacking) if text is not None]
        if not said:
            continue
        if name not in fields:
            is_number = all(text == _HIVE_NULL or _NUMBER.fullmatch(text) for text in said)
            dtype = pa.int64() if is_number else pa.string()
            if known is not None and name in known.names:
                dtype = known.field(name).type
            fields[name] = pa.field(name, dtype)
        fields[name] = fields[name].with_metadata({FROM_PARTITION: b"true"})
    return pa.schema(list(fields.values()))


def _plain(schema: pa.Schema) -> pa.Schema:
    """What a file says, but for what only its own writer's table means by it."""
    return pa.schema([field.remove_metadata() for field in schema])


class _Table(NamedTuple):
    """What files are added to. `schema_id` is what entries say whose files have its schema."""

    name: str
    schema: pa.Schema
    scheme: PartitionScheme | None
    schema_id: int | None


def entries_of(
    found: Sequence[Found],
    name: str,
    schema: pa.Schema,
    scheme: PartitionScheme | None,
    schema_id: int | None,
) -> list[WriteEntry]:
    """Describe the files for a commit, after comparing each with its table.

    Args:
        found: The files.
        name: The table's name, for errors.
        schema: Its schema.
        scheme: How it is partitioned.
        schema_id: What entries say whose files have no other columns and types than the table.

    Raises:
        SchemaValidationError: A file lacks what the table requires, or holds rows of several
            partitions; names the file.
    """
    table = _Table(name, schema, scheme, schema_id)
    return [_entry(one, table) for one in found]


def _entry(file: Found, table: _Table) -> WriteEntry:
    path, footer = file
    entry = entry_from(path, footer, table.schema)
    stats = entry.column_stats or {}
    there = {field.name: field.type for field in footer.schema}
    _check_required(path, there, stats, table)
    fits = all(
        name in table.schema.names and same_layout(table.schema.field(name).type, dtype)
        for name, dtype in there.items()
    )
    values = None
    if table.scheme is not None:
        values = [_value(path, key, entry, there, table) for key in table.scheme.keys]
    return msgspec.structs.replace(
        entry, partition_values=values, schema_id=table.schema_id if fits else None
    )


def _check_required(
    path: str, there: dict[str, pa.DataType], stats: dict[str, ColumnStats], table: _Table
) -> None:
    keys = merge_keys_of(table.schema)
    for field in table.schema:
        if (
            field.name not in there
            and field.name not in keys
            and _is_filled(field.name, table.schema)
        ):
            continue
        if field.name not in there and (field.name in keys or not field.nullable):
            raise SchemaValidationError(
                f"file {path} lacks {field.name}, which {table.name} requires"
            )
        nulls = stats[field.name].null_count if field.name in stats else None
        if not field.nullable and nulls != 0:
            raise SchemaValidationError(
                f"column {field.name!r} of {table.name} is required, and file {path} "
                + ("does not say whether it holds nulls" if nulls is None else "holds nulls in it")
            )


# Any, from here on: a JSON scalar.
def _value(
    path: str,
    key: PartitionKey,
    entry: WriteEntry,
    there: dict[str, pa.DataType],
    table: _Table,
) -> Any:
    """The one partition value of a file's rows."""
    name = key.key[0]
    said = _said_by(path, name) if key.transform in (None, "identity") else None
    if name not in there and (said is None or not _is_filled(name, table.schema)):
        raise SchemaValidationError(
            f"file {path} lacks the column {name!r}, by which {table.name} is partitioned, and its "
            f"path does not say it as {name}=...: write the rows instead"
        )
    wanted = value_type(key, table.schema)
    stats = (entry.column_stats or {}).get(name)
    known = _told_by(stats, key, entry.record_count, table.schema)
    if said is None:
        if known is None:
            raise SchemaValidationError(
                f"file {path} does not say that its rows are of one partition: {_range(name, stats)}; "
                f"split it by {name!r}, or write its rows"
            )
        return known[0]
    named = _parsed(path, name, said, wanted)
    if known is not None and known[0] != named:
        raise SchemaValidationError(
            f"file {path} is named after {name}={said}, and its rows have {known[0]!r}"
        )
    if known is None and stats is not None and not _may_be(named, stats, wanted):
        raise SchemaValidationError(
            f"file {path} is named after {name}={said}, and holds others: {_range(name, stats)}"
        )
    return named


def _is_filled(name: str, schema: pa.Schema) -> bool:
    """Whether readers take the column from the partition where a file lacks it."""
    return FROM_PARTITION in (schema.field(name).metadata or {})


def _said_by(path: str, column: str) -> str | None:
    """What a path says of a column, as Hive writes it."""
    for part in reversed(path.split("/")[:-1]):
        name, equals, value = part.partition("=")
        if equals and unquote(name) == column:
            return unquote(value)
    return None


def _parsed(path: str, name: str, text: str, dtype: pa.DataType) -> Any:
    if text == _HIVE_NULL:
        return None
    try:
        plain = pa.array([text], pa.string())
        held = (
            plain.cast(dtype) if kind_of(dtype) in ("bool", "number") else load_array([text], dtype)
        )
    except pa.ArrowException:
        held = pa.nulls(1, dtype)
    if held.null_count:
        raise SchemaValidationError(f"file {path}: {name}={text} is no value of type {dtype}")
    return dump_array(held)[0]


def _told_by(
    stats: ColumnStats | None, key: PartitionKey, records: int, schema: pa.Schema
) -> tuple[Any] | None:
    """The partition value that statistics prove for all rows; None where they prove none."""
    if stats is None or stats.null_count is None:
        return None
    if stats.null_count == records:
        return (None,)
    if stats.null_count or stats.min is None or stats.max is None:
        return None
    if _is_cut(stats.min) or _is_cut(stats.max):
        return None
    dtype = schema.field(key.key[0]).type
    if pa.types.is_floating(dtype):
        # Rows that are NaN are in no bounds.
        return None
    ordered = (key.transform or "identity").partition("(")[0].strip() in _ORDERED
    if stats.min != stats.max and not ordered:
        return None
    ends = pa.chunked_array([load_array([stats.min, stats.max], dtype)])
    low, high = dump_array(transform(key, ends, value_type(key, schema)).combine_chunks())
    return (low,) if low == high else None


def _is_cut(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode()) >= _WHOLE_BYTES


def _may_be(value: Any, stats: ColumnStats, dtype: pa.DataType) -> bool:
    """Whether all rows may have the value: not where bounds are two values, or nulls are others."""
    if stats.min is None or stats.max is None:
        return True
    if value is None or stats.null_count:
        return False
    low, at, high = load_array([stats.min, value, stats.max], dtype)
    if not pc.and_(pc.less_equal(low, at), pc.less_equal(at, high)).as_py():
        return False
    return _is_cut(stats.min) or _is_cut(stats.max) or bool(stats.min == stats.max)


def _range(name: str, stats: ColumnStats | None) -> str:
    if stats is None or stats.min is None:
        return f"it has no statistics of {name!r}"
    nulls = f", {stats.null_count} nulls" if stats.null_count else ""
    return f"{name!r} is {stats.min!r} to {stats.max!r}{nulls}"
