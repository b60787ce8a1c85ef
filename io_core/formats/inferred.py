"""Which types have the columns of a text file that nobody described, and what are its rows?

For files that people have, not for those of tables: delimited text with a header in its first line,
JSON with one object a line. A file is read twice, piece by piece: once for its types, which hold every
value of all pieces, and once for its rows.
"""

from __future__ import annotations

import itertools
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from io_core.formats.content import FileRef
from io_core.formats.delimited import DIALECTS, row_blocks
from io_core.formats.encoding import open_stream
from io_core.formats.json import objects
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["inferred_batches", "inferred_schema", "joined_schema"]

_PIECE_ROWS = 16_384
# Values that numbers, times and others have in common.
_ANY = pa.string()


def inferred_schema(path: str, content_type: str) -> pa.Schema:
    """The narrowest types that hold every value; columns in order of their first appearance.

    A delimited column whose values have no other type in common is text.

    Raises:
        ValueError: The text is malformed, or a JSON column has values of several types.
        OSError: The file cannot be read.
    """
    found: pa.Schema | None = None
    for piece in _pieces(path, content_type, None):
        found = piece.schema if found is None else joined_schema(found, piece.schema, content_type)
    return pa.schema([]) if found is None else found


def inferred_batches(path: str, content_type: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The file's rows as columns of these types, piece by piece.

    Raises:
        ValueError: A value that a type has no place for.
        OSError: The file cannot be read.
    """
    return _pieces(path, content_type, schema)


def joined_schema(one: pa.Schema, other: pa.Schema, content_type: str) -> pa.Schema:
    """The columns of both, each of the narrowest type that holds the values of both.

    Raises:
        ValueError: There is none, and what the format says cannot be read as text instead.
    """
    fields = {field.name: field for field in one}
    for field in other:
        known = fields.get(field.name, field)
        try:
            pair = [pa.schema([known]), pa.schema([field])]
            fields[field.name] = pa.unify_schemas(pair, promote_options="permissive").field(0)
        except pa.ArrowException:
            if content_type not in DIALECTS:
                raise ValueError(
                    f"column {field.name!r} is {known.type} in some rows and {field.type} in others"
                ) from None
            fields[field.name] = pa.field(field.name, _ANY)
    return pa.schema(list(fields.values()))


def _pieces(path: str, content_type: str, schema: pa.Schema | None) -> Iterator[pa.Table]:
    with open_stream(FileRef(path, content_type), LOCAL) as lines:
        if content_type in DIALECTS:
            yield from _delimited(lines, content_type, schema)
            return
        rows = objects(lines)
        while piece := list(itertools.islice(rows, _PIECE_ROWS)):
            names = dict.fromkeys(itertools.chain.from_iterable(piece))
            if schema is not None:
                yield pa.table([_objects_column(piece, f) for f in schema], schema=schema)
            else:
                yield pa.table({n: pa.array([row.get(n) for row in piece]) for n in names})


# Any: JSON.
def _objects_column(rows: list[dict[str, Any]], field: pa.Field) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    as_text = pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type)
    if as_text and all(value is None or isinstance(value, str) for value in values):
        # JSON has no other way to say a date.
        return pa.array(values, pa.string()).cast(field.type)
    return pa.array(values, field.type)


def _delimited(lines: IO[bytes], dialect: str, schema: pa.Schema | None) -> Iterator[pa.Table]:
    of = DIALECTS[dialect]
    parse = csv.ParseOptions(
        delimiter=of.delimiter,
        quote_char='"' if of.quoted else False,
        newlines_in_values=of.quoted,
    )
    convert = csv.ConvertOptions(
        column_types=schema,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    names: list[str] | None = None
    for block in row_blocks(lines, quoted=of.quoted):
        read = csv.ReadOptions(use_threads=False, block_size=len(block), column_names=names)
        piece = csv.read_csv(pa.BufferReader(block), read, parse, convert)
        names = piece.schema.names
        yield piece
    if names is None:
        raise ValueError("it is empty, without a header")
