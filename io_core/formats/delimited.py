"""Delimited text (CSV, TSV, PSV, unescaped TSV): flat columns, no header when written, gzipped.

Null is nothing between two delimiters, the empty text is `""`; text is always quoted. Unescaped TSV
knows no quotes: there nothing is null, and texts with a tab or a line's end cannot stand.
"""

from __future__ import annotations

import codecs
import functools
from typing import IO, TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from io_core.errors import SchemaValidationError
from io_core.formats.encoding import open_gzipped, open_stream
from io_core.formats.held import held_type, in_held_types, without_columns
from io_core.formats.text import LONGEST_ROW, check_years, dump_text_array, hold_text, load_exact
from io_core.literal import kind_of
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["DIALECTS", "Dialect", "hold", "row_blocks"]

_PIECE_ROWS = 65_536
_BLOCK_BYTES = 1 << 20
_TEXT = pa.large_string()


class Dialect(msgspec.Struct, frozen=True):
    """One kind of delimited text."""

    name: str
    delimiter: str
    quoted: bool = True

    def batches(
        self, file: FileRef, columns: Sequence[str] | None, storage: Storage
    ) -> Iterator[pa.Table]:
        """Read some columns piece by piece; see `io_core.formats.read_batches`.

        With a schema, its columns in their order are the file's; a first line that names them is a
        header. Without one the first line is the header, and all columns are text.
        """
        schema = file.schema
        with open_stream(file, storage) as lines:
            first = True
            for texts in self._texts(lines, None if schema is None else schema.names):
                piece = texts
                if first and schema is not None and _is_header(piece):
                    piece = piece.slice(1)
                first = first and not texts.num_rows
                found = piece.schema.names
                wanted = found if columns is None else [c for c in columns if c in found]
                piece = piece.select(wanted) if wanted else without_columns(piece.num_rows)
                yield piece if schema is None else _typed(piece, schema)

    def _texts(self, lines: IO[bytes], names: Sequence[str] | None) -> Iterator[pa.Table]:
        """The file's cells, null where there is nothing; at least one piece."""
        parse = csv.ParseOptions(
            delimiter=self.delimiter,
            quote_char='"' if self.quoted else False,
            newlines_in_values=self.quoted,
            # In a table of one column it is a null.
            ignore_empty_lines=False,
        )
        convert = csv.ConvertOptions(
            default_column_type=_TEXT,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        if names is not None:
            yield pa.schema([(name, _TEXT) for name in names]).empty_table()
        for number, block in enumerate(row_blocks(lines, quoted=self.quoted)):
            # Arrow drops one that a text begins with: further on it is a cell's own.
            marked = number and block.startswith(codecs.BOM_UTF8)
            text = codecs.BOM_UTF8 + block if marked else block
            read = csv.ReadOptions(use_threads=False, block_size=len(text), column_names=names)
            piece = csv.read_csv(pa.BufferReader(text), read, parse, convert)
            names = piece.schema.names
            yield piece
        if names is None:
            raise ValueError("it is empty, without a header")

    def write(self, table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
        """Write one file, gzipped, without a header.

        Raises:
            FileExistsError: The path is taken.
            SchemaValidationError: Text has no place for a column's type or for a value.
        """
        if not table.num_columns:
            raise SchemaValidationError(f"{self.name} has no place for rows without columns")
        held = in_held_types(table, hold, self.name)
        check_years(held, self.name)
        texts = pa.table([_as_text(c) for c in held.columns], names=held.schema.names)
        self._check(texts)
        if _is_header(texts):
            # It would be taken for the header: the line that is one gets it back.
            texts = pa.concat_tables([texts.slice(0, 1), texts])
        options = csv.WriteOptions(include_header=False, delimiter=self.delimiter)
        with open_gzipped(path, storage) as out:
            if not self.quoted and _begins_with_mark(texts):
                out.write(codecs.BOM_UTF8)
            for piece in texts.to_batches(max_chunksize=_PIECE_ROWS):
                if self.quoted:
                    csv.write_csv(piece, out, options)
                else:
                    out.write(_joined(piece, self.delimiter))

    def _check(self, texts: pa.Table) -> None:
        sizes = [pc.fill_null(pc.binary_length(c), 0).cast(pa.int64()) for c in texts.columns]
        # Each quote may become two.
        longest = 2 * (pc.max(functools.reduce(pc.add, sizes)).as_py() or 0)
        if longest + 4 * len(sizes) > LONGEST_ROW:
            raise SchemaValidationError(
                f"a row has {longest // 2} bytes of text, more than {self.name} is read back with: "
                "write parquet instead"
            )
        if self.quoted:
            return
        for name, column in zip(texts.schema.names, texts.columns, strict=True):
            bad = pc.match_substring_regex(column, "^$|[\t\r\n]")
            if pc.any(bad).as_py():
                raise SchemaValidationError(
                    f"column {name!r}: {self.name} has no place for empty texts, nor for ones with "
                    "a tab or a line's end"
                )


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("csv", ","),
        Dialect("tsv", "\t"),
        Dialect("psv", "|"),
        Dialect("unescaped_tsv", "\t", quoted=False),
    )
}


def row_blocks(lines: IO[bytes], *, quoted: bool) -> Iterator[bytes]:
    """A file's text in pieces of whole rows, some bytes each.

    Arrow's own reader of streams reads ahead in threads that outlive it: they crash the process
    where a reader stops early (pyarrow 25).
    """
    rest = b""
    while piece := lines.read(max(_BLOCK_BYTES, len(rest))):
        rest += piece
        end = _end_of_rows(rest, quoted=quoted)
        if end:
            yield rest[:end]
        rest = rest[end:]
        if len(rest) > LONGEST_ROW:
            raise ValueError(f"a row has more than {LONGEST_ROW} bytes")
    if rest:
        yield rest


def _end_of_rows(text: bytes, *, quoted: bool) -> int:
    """Where the last whole row ends: at a line's end that stands in no quotes."""
    if not quoted or b'"' not in text:
        return text.rfind(b"\n") + 1
    found = np.frombuffer(text, np.uint8)
    is_inside = np.bitwise_xor.accumulate(found == ord('"'))
    ends = np.flatnonzero((found == ord("\n")) & ~is_inside)
    return int(ends[-1]) + 1 if len(ends) else 0


def hold(dtype: pa.DataType) -> pa.DataType | None:
    """As which type delimited text holds another: flat ones alone."""
    if pa.types.is_decimal(dtype) and dtype.bit_width < 128:
        return pa.decimal128(dtype.precision, dtype.scale)
    return None if pa.types.is_nested(dtype) else hold_text(dtype)


def _is_header(piece: pa.Table) -> bool:
    first = [column[0].as_py() for column in piece.columns] if piece.num_rows else None
    return bool(first == piece.schema.names)


def _begins_with_mark(texts: pa.Table) -> bool:
    """Whether the first cell begins with what readers drop at a text's beginning."""
    first = texts.column(0)[0].as_py() if texts.num_rows else None
    return bool(first and first.encode().startswith(codecs.BOM_UTF8))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = kind_of(column.type)
    if kind in ("bool", "number", "text"):
        return column.cast(_TEXT)
    texts = [pa.array(dump_text_array(chunk), _TEXT) for chunk in column.chunks]
    return pa.chunked_array(texts, _TEXT)


def _joined(piece: pa.RecordBatch, delimiter: str) -> bytes:
    lines = pc.binary_join_element_wise(
        *piece.columns, pa.scalar(delimiter, _TEXT), null_handling="replace", null_replacement=""
    )
    return "".join(f"{line}\n" for line in lines.to_pylist()).encode()


def _typed(piece: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cells as the values that they stand for."""
    for i, name in enumerate(piece.schema.names):
        dtype = held_type(schema.field(name).type, hold)
        if dtype is None:
            raise ValueError(f"column {name!r}: no text stands for {schema.field(name).type}")
        column = piece.column(i)
        try:
            if kind_of(dtype) in ("bool", "number", "text"):
                column = column.cast(dtype)
            else:
                loaded = [load_exact(c.to_pylist(), dtype) for c in column.chunks]
                column = pa.chunked_array(loaded, dtype)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from error
        piece = piece.set_column(i, pa.field(name, dtype), column)
    return piece
