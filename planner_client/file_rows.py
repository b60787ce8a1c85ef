"""Which rows do files of this machine hold that somebody hands over to be written?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from io_core import formats
from io_core.errors import DataFileError, SchemaValidationError, UnsupportedError
from io_core.formats import FileRef
from io_core.formats.content import CONTENT_TYPES, content_type_of
from io_core.formats.inferred import inferred_batches, inferred_schema, joined_schema
from io_core.schema import align
from io_core.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["file_kind", "rows_of_files"]

_MORE_ENDINGS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".arrow": "feather",
    ".ipc": "feather",
    ".pq": "parquet",
}
_ENDINGS = {kind.extension: name for name, kind in reversed(CONTENT_TYPES.items())} | _MORE_ENDINGS
_ENCODED = (".gz", ".bz2")
_MALFORMED = (pa.ArrowException, ValueError, OSError)


class _File(NamedTuple):
    path: str
    kind: str
    schema: pa.Schema


def file_kind(path: str) -> str:
    """The format of a file, by how its name ends; compressed text ends in `.gz` or `.bz2` besides.

    Raises:
        UnsupportedError: It ends in none that is known.

    Example:
        >>> file_kind("runs/2024.csv.gz"), file_kind("grasps.lance")
        ('csv', 'lance')
    """
    stem, ending = os.path.splitext(path.rstrip("/"))
    if ending.lower() in _ENCODED:
        ending = os.path.splitext(stem)[1]
    kind = _ENDINGS.get(ending.lower())
    if kind is None:
        raise UnsupportedError(
            f"{path}: its name does not say which format it has; known endings: "
            f"{', '.join(sorted(_ENDINGS))}"
        )
    return kind


def rows_of_files(
    paths: Sequence[str | os.PathLike[str]], schema: pa.Schema | None
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """The rows of files, one file after the other, and what they look like. Reads them as they go.

    Columns are matched by name, have the widest of their types, and are null where a file has none.
    Text files are read once more before, for their types.

    Args:
        paths: Local files, or Lance directories.
        schema: The columns to take, and their types; None means all that the files have.

    Raises:
        DataFileError: A file is missing or damaged.
        SchemaValidationError: No file at all, or files whose columns do not go together.
        UnsupportedError: A name that does not say the format, or a path that is not local.
    """
    if not paths:
        raise SchemaValidationError("an empty list names no file to write")
    places = [_place(os.fspath(path)) for path in paths]
    files = [_File(path, file_kind(path), _schema_of(path, schema)) for path in places]
    if schema is not None:
        return schema, (piece for file in files for piece in _rows(file, schema, strict=True))
    # Text of one kind becomes text where its types differ; whatever else there is has types.
    kind = files[0].kind if len({file.kind for file in files}) == 1 else ""
    whole = files[0].schema
    for file in files[1:]:
        try:
            whole = joined_schema(whole, file.schema, kind)
        except ValueError as error:
            raise SchemaValidationError(f"file {file.path}: {error}; pass schema=") from None
    return whole, (piece for file in files for piece in _rows(file, whole, strict=False))


def _place(path: str) -> str:
    if "://" in path and not path.startswith("file://"):
        raise UnsupportedError(
            f"{path} is not on this machine: read it with an engine and write what that returns, "
            "or register it where it lies with client.catalog.add_files()"
        )
    found = local_path(path)
    if not os.path.exists(found):
        raise DataFileError(f"file {path} is not there")
    if os.path.isdir(found) and file_kind(found) != "lance":
        raise UnsupportedError(f"{path} is a directory: pass the list of its files")
    return found


def _schema_of(path: str, wanted: pa.Schema | None) -> pa.Schema:
    """The file's columns, without what only its own writer's table means by them."""
    kind = file_kind(path)
    try:
        if content_type_of(kind).has_types:
            found = formats.schema_of_file(path, kind)
        elif wanted is not None:
            return wanted
        else:
            found = inferred_schema(path, kind)
    except _MALFORMED as error:
        raise _damaged(path, error) from error
    return pa.schema([field.remove_metadata() for field in found or ()])


def _rows(file: _File, wanted: pa.Schema, *, strict: bool) -> Iterator[pa.Table]:
    """One file's rows; `strict` refuses it where it lacks a column, which is null otherwise."""
    shape = pa.schema([pa.field(f.name, f.type) for f in wanted])
    if content_type_of(file.kind).has_types:
        pieces: Iterator[pa.Table] = formats.read_batches(FileRef(file.path, file.kind))
    else:
        # Read as the types that they are to have: texts that look like numbers stay as they are.
        types = [shape.field(name) for name in file.schema.names if name in shape.names]
        pieces = inferred_batches(file.path, file.kind, pa.schema(types))
    try:
        for piece in pieces:
            lacking = [name for name in shape.names if name not in piece.schema.names]
            if strict and lacking:
                raise SchemaValidationError(
                    f"file {file.path} lacks {', '.join(lacking)}, which schema= names"
                )
            yield align(piece, shape)
    except SchemaValidationError:
        raise
    except _MALFORMED as error:
        raise _damaged(file.path, error) from error


def _damaged(path: str, error: Exception) -> DataFileError:
    if isinstance(error, DataFileError):
        return error
    return DataFileError(f"file {path} cannot be read: {error}")
