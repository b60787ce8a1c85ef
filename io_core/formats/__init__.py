"""Which module reads, writes and describes a data file? One per format, chosen here and only here.

Every function takes a format's short name or its MIME type (`io_core.formats.content`).
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from io_core.errors import DataFileError, SchemaValidationError, UnsupportedError
from io_core.formats import avro, feather, json, lance, orc, parquet
from io_core.formats.checked import checksum, move, named, verified
from io_core.formats.content import (
    CONTENT_TYPES,
    FileRef,
    Selection,
    Skipped,
    content_type_of,
    file_name,
)
from io_core.formats.delimited import DIALECTS
from io_core.formats.held import restored, without_columns
from io_core.formats.statistics import count_columns, nan_counts
from io_core.formats.values import unsliced, with_null_codes
from io_core.model import WriteEntry
from io_core.storage import LOCAL, is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from io_core.storage import Storage

__all__ = [
    "CONTENT_TYPES",
    "FileRef",
    "Selection",
    "content_type_of",
    "file_name",
    "read",
    "read_batches",
    "read_pieces",
    "schema_of_file",
    "write",
    "write_new",
]


class _Room(NamedTuple):
    """What one format's module does."""

    batches: Callable[[FileRef, Sequence[str] | None, Storage], Iterator[pa.Table | Skipped]]
    write: Callable[..., None]
    schema_of: Callable[[str, Storage], pa.Schema | None]


def _no_schema(path: str, storage: Storage) -> None:
    """Text says of no column which type it has."""
    del path, storage


_ROOMS = {
    "parquet": _Room(parquet.batches, parquet.write, parquet.schema_of),
    "feather": _Room(feather.batches, feather.write, feather.schema_of),
    "orc": _Room(orc.batches, orc.write, orc.schema_of),
    "avro": _Room(avro.batches, avro.write, avro.schema_of),
    "lance": _Room(lance.batches, lance.write, lance.schema_of),
    "json": _Room(json.batches, json.write, _no_schema),
    **{name: _Room(of.batches, of.write, _no_schema) for name, of in DIALECTS.items()},
}
# What decoders of damaged bytes raise; pyarrow's errors are ValueErrors, OSErrors or such besides.
_DAMAGE = (
    pa.ArrowException,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)


def _room(content_type: str) -> _Room:
    return _ROOMS[content_type_of(content_type).name]


def read_batches(
    file: FileRef, columns: Sequence[str] | None = None, *, storage: Storage = LOCAL
) -> Iterator[pa.Table]:
    """Read some columns of one file piece by piece, in row order; see `read_pieces`."""
    return (piece for _, piece in read_pieces(file, columns, storage=storage))


def read_pieces(
    file: FileRef, columns: Sequence[str] | None = None, *, storage: Storage = LOCAL
) -> Iterator[tuple[int, pa.Table]]:
    """Read some columns of one file piece by piece, in row order; columns it lacks are left out.

    A piece is a record batch, or in text some ten thousand rows: memory does not grow with the
    file, but for Feather and ORC files whose batches or stripes are that large. An encoded file
    of a format that is read at any place is decoded into memory first. That rows are more than
    promised is noticed as they come; that they are fewer, at the end.

    Args:
        file: Which file. Of what it says to be of use all is read, and maybe more.
        columns: Top-level column names, in the result's order; None means all.
        storage: How it is reached.

    Returns:
        Each piece and how many of the rows that were asked for stand before it.

    Raises:
        DataFileError: Missing, damaged, or of another number of rows.
        SchemaValidationError: A value that the schema's type has no place for.
        UnsupportedError: An unknown format or encoding, or an extra that is not installed.
    """
    room, seen = _room(file.content_type), 0
    expected = file.records if file.rows is None else len(file.rows)
    if file.rows is not None and content_type_of(file.content_type).name != "parquet":
        raise UnsupportedError(f"data file {file.path} can only be read from its first row on")
    try:
        with verified(file, storage) as (sound, reached):
            for piece in room.batches(sound, columns, reached):
                first = seen
                seen += piece.num_rows
                if expected is not None and seen > expected:
                    problem = f"has {seen} rows or more instead of {expected}"
                    raise DataFileError.of(file.path, problem, file.plan)
                if not isinstance(piece, Skipped):
                    yield first, restored(piece, file.schema)
    except (DataFileError, SchemaValidationError, UnsupportedError):
        raise
    except FileNotFoundError:
        raise DataFileError.of(file.path, "is missing", file.plan) from None
    except _DAMAGE as error:
        raise DataFileError.of(file.path, f"is damaged ({error})", file.plan) from error
    if expected is not None and seen != expected:
        problem = f"has {seen} rows instead of {expected}"
        raise DataFileError.of(file.path, problem, file.plan)


def read(
    file: FileRef, columns: Sequence[str] | None = None, *, storage: Storage = LOCAL
) -> pa.Table:
    """Read some columns of one file; see `read_batches`. No column still has its rows."""
    pieces = list(read_batches(file, columns, storage=storage))
    if not pieces or not pieces[0].num_columns:
        return without_columns(sum(piece.num_rows for piece in pieces))
    return pa.concat_tables(pieces)


def write(
    table: pa.Table,
    path: str,
    content_type: str = "parquet",
    *,
    storage: Storage = LOCAL,
    schema: pa.Schema | None = None,
    partition_values: list[Any] | None = None,
    sort_scheme_id: str | None = None,
) -> WriteEntry:
    """Write one file and describe it. Statistics are the footer's, or counted over the table.

    Args:
        table: The rows; field ids are in its schema's metadata.
        path: Where; see `file_name`.
        content_type: The format.
        storage: How the place is reached.
        schema: The table's schema: which columns get statistics, and their types; None means the
            rows' own.
        partition_values: JSON scalars in the scheme's order.
        sort_scheme_id: The sort scheme that the rows follow.

    Raises:
        FileExistsError: The path is taken: data files are never overwritten.
        SchemaValidationError: Several columns have one name, or the format has no place for a
            column's type; nothing was written.
    """
    kind = content_type_of(content_type)
    if twice := [n for n in table.schema.names if table.schema.names.count(n) > 1]:
        raise SchemaValidationError(f"there are several columns {twice[0]!r}: rename one")
    described = table.schema if schema is None else schema
    _ROOMS[kind.name].write(unsliced(with_null_codes(table)), path, storage=storage)
    if kind.name == "parquet":
        return parquet.entry_of(
            path,
            described,
            partition_values=partition_values,
            nan_counts=nan_counts(table),
            sort_scheme_id=sort_scheme_id,
            storage=storage,
        )
    is_folder = kind.name == "lance"
    return WriteEntry(
        path=path,
        record_count=table.num_rows,
        content_length=lance.size(path, storage) if is_folder else storage.size(path),
        content_type=kind.name,
        content_encoding=kind.written_encoding,
        column_stats=count_columns(table, described),
        partition_values=partition_values,
        sort_scheme_id=sort_scheme_id,
    )


def write_new(
    table: pa.Table,
    folder: str,
    content_type: str = "parquet",
    *,
    storage: Storage = LOCAL,
    schema: pa.Schema | None = None,
    partition_values: list[Any] | None = None,
    sort_scheme_id: str | None = None,
) -> WriteEntry:
    """Write one file under a new name, which tells its checksum where the format has none; see `write`.

    Args:
        table: The rows.
        folder: Where.
        content_type: The format.
        storage: How the place is reached.
        schema: The table's.
        partition_values: JSON scalars in the scheme's order.
        sort_scheme_id: The sort scheme that the rows follow.

    Raises:
        SchemaValidationError: As `write` does; nothing was written.
    """
    described = functools.partial(
        write,
        table,
        content_type=content_type,
        schema=schema,
        partition_values=partition_values,
        sort_scheme_id=sort_scheme_id,
    )
    name, folder = file_name(content_type), folder.rstrip("/")
    if content_type_of(content_type).name == "parquet":
        return described(f"{folder}/{name}", storage=storage)
    with contextlib.ExitStack() as stack:
        far = is_s3(folder)
        near = stack.enter_context(tempfile.TemporaryDirectory()) if far else local_path(folder)
        entry = described(f"{near}/{name}")
        path = f"{folder}/{named(name, checksum(entry.path))}"
        move(entry.path, path, storage)
    return msgspec.structs.replace(entry, path=path)


def schema_of_file(path: str, content_type: str, *, storage: Storage = LOCAL) -> pa.Schema | None:
    """Read a file's own schema, and no rows; None where files of the format have none.

    Raises:
        DataFileError: Missing or damaged.
    """
    try:
        return _room(content_type).schema_of(path, storage)
    except _DAMAGE as error:
        raise DataFileError(f"data file {path} is damaged: {error}") from None
