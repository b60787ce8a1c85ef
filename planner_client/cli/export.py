"""How do rows become a file of a user's own? By the ending of its name, and whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
import uuid
from typing import IO, TYPE_CHECKING, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from io_core.errors import UnsupportedError
from io_core.formats.json import dump_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["CsvPieces", "saved"]


class _Pieces(Protocol):
    """Writes rows as they come."""

    def write(self, piece: pa.Table) -> None: ...

    def close(self) -> None: ...


class CsvPieces:
    """Rows as delimited text with a header; nested columns as JSON in a cell."""

    def __init__(self, out: IO[bytes], schema: pa.Schema, delimiter: str = ",") -> None:
        self._out = out
        self._delimiter = delimiter
        self.write(schema.empty_table(), header=True)

    def write(self, piece: pa.Table, *, header: bool = False) -> None:
        """Write some rows."""
        options = csv.WriteOptions(include_header=header, delimiter=self._delimiter)
        text = pa.BufferOutputStream()
        csv.write_csv(_flat(piece), text, options)
        self._out.write(text.getvalue())

    def close(self) -> None:
        """Nothing is left to write."""


def _flat(piece: pa.Table) -> pa.Table:
    """Rows as numbers, truth values and texts alone."""
    t = pa.types
    is_plain = [
        t.is_integer(f.type) or t.is_float32(f.type) or t.is_float64(f.type) or t.is_boolean(f.type)
        or t.is_string(f.type) or t.is_large_string(f.type)
        for f in piece.schema
    ]  # fmt: skip
    for i, field in enumerate(piece.schema):
        if not is_plain[i]:
            texts = [
                v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode()
                for rows in dump_rows(piece.select([i]))
                for v in (row[field.name] for row in rows)
            ]
            piece = piece.set_column(i, field.name, pa.array(texts, pa.large_string()))
    return piece


class _JsonPieces:
    """Rows as objects, one a line."""

    def __init__(self, out: IO[bytes], schema: pa.Schema) -> None:
        del schema
        self._out = out
        self._encode = msgspec.json.Encoder().encode_lines

    def write(self, piece: pa.Table) -> None:
        for rows in dump_rows(piece):
            self._out.write(self._encode(rows))

    def close(self) -> None: ...


class _ParquetPieces:
    """Rows as Parquet."""

    def __init__(self, out: IO[bytes], schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(out, schema)

    def write(self, piece: pa.Table) -> None:
        self._writer.write_table(piece)

    def close(self) -> None:
        self._writer.close()


class _FeatherPieces:
    """Rows as Feather, which is Arrow's own file."""

    def __init__(self, out: IO[bytes], schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_file(
            out, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
        )

    def write(self, piece: pa.Table) -> None:
        self._writer.write_table(piece)

    def close(self) -> None:
        self._writer.close()


_KINDS: dict[str, Callable[[IO[bytes], pa.Schema], _Pieces]] = {
    ".parquet": _ParquetPieces,
    ".feather": _FeatherPieces,
    ".arrow": _FeatherPieces,
    ".csv": CsvPieces,
    ".tsv": lambda out, schema: CsvPieces(out, schema, "\t"),
    ".json": _JsonPieces,
    ".jsonl": _JsonPieces,
    ".ndjson": _JsonPieces,
}
_TEXT = {".csv", ".tsv", ".json", ".jsonl", ".ndjson"}


def saved(path: str, schema: pa.Schema, pieces: Iterable[pa.Table]) -> int:
    """Write rows to a file, in place of one that is there; returns how many.

    The file is there when all rows are: whatever goes wrong leaves what was there before.

    Raises:
        UnsupportedError: The name's ending says no format, or its directory is not there.
    """
    name = path.lower()
    is_zipped = name.endswith(".gz")
    ending = os.path.splitext(name.removesuffix(".gz"))[1]
    if ending not in _KINDS or (is_zipped and ending not in _TEXT):
        raise UnsupportedError(
            f"{path}: its ending says no format; known: {', '.join(_KINDS)}, and text with .gz"
        )
    folder, base = os.path.split(path)
    if folder and not os.path.isdir(folder):
        raise UnsupportedError(f"{path}: {folder} is no directory; make it first")
    partial = os.path.join(folder, f".{base}.{uuid.uuid4().hex[:8]}.part")
    rows = 0
    try:
        with open(partial, "wb") as raw, _zipped(raw) if is_zipped else raw as out:
            writer = _KINDS[ending](out, schema)
            for piece in pieces:
                writer.write(piece)
                rows += piece.num_rows
            writer.close()
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
    return rows


def _zipped(raw: IO[bytes]) -> IO[bytes]:
    # It is a file of bytes, and typed as a class of its own.
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="wb", mtime=0))
