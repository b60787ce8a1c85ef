"""JSON files: one object per line, values as literals have them (io_core.literal), always gzipped.

Times are ISO-8601 texts, decimals texts, bytes base64, NaN and infinities texts; structs are
objects, lists lists, maps lists of pairs. Read with a schema; without one as JSON's own types.
"""

from __future__ import annotations

import itertools
from typing import IO, TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core.formats.encoding import open_gzipped, open_stream
from io_core.formats.held import held_type, in_held_types
from io_core.formats.text import LONGEST_ROW, check_years, dump_text_array, hold_text, load_exact
from io_core.formats.values import from_values, to_values, unsliced
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["batches", "dump_rows", "hold", "objects", "write"]

_PIECE_ROWS = 16_384


def hold(dtype: pa.DataType) -> pa.DataType | None:
    """As which type JSON holds another: all but intervals and unions."""
    return dtype if pa.types.is_nested(dtype) and not pa.types.is_union(dtype) else hold_text(dtype)


def batches(file: FileRef, columns: Sequence[str] | None, storage: Storage) -> Iterator[pa.Table]:
    """Read some columns piece by piece; see `io_core.formats.read_batches`.

    A schema's columns all count as there: a line that lacks one has null. Without a schema all of
    the file is one piece, since any line may have another column.
    """
    with open_stream(file, storage) as lines:
        rows = objects(lines)
        if file.schema is None:
            found = list(rows)
            names = list(dict.fromkeys(itertools.chain.from_iterable(found)))
            wanted = names if columns is None else [c for c in columns if c in names]
            arrays = [pa.array([row.get(name) for row in found]) for name in wanted]
            yield _table(arrays, wanted, len(found))
            return
        names = file.schema.names
        wanted = names if columns is None else [c for c in columns if c in names]
        first = True
        while (piece := list(itertools.islice(rows, _PIECE_ROWS))) or first:
            arrays = [_column(piece, name, file.schema.field(name).type) for name in wanted]
            yield _table(arrays, wanted, len(piece))
            first = False


def _table(arrays: list[pa.Array], names: Sequence[str], rows: int) -> pa.Table:
    return (
        pa.table(arrays, names=list(names)) if names else pa.table({"": pa.nulls(rows)}).select([])
    )


# Any: JSON.
def objects(lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of a file, one a line; empty lines count for nothing."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    while line := lines.readline(LONGEST_ROW + 1):
        if len(line) > LONGEST_ROW:
            raise ValueError(f"a line has more than {LONGEST_ROW} bytes")
        if line.strip():
            yield decode(line)


def _column(rows: Sequence[dict[str, Any]], name: str, dtype: pa.DataType) -> pa.Array:
    held = held_type(dtype, hold)
    if held is None:
        raise ValueError(f"column {name!r}: JSON has no place for {dtype}")
    try:
        return from_values([row.get(name) for row in rows], held, load_exact)
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"column {name!r}: {error}") from error


def write(table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
    """Write one file, gzipped, with all columns in every line.

    Raises:
        FileExistsError: The path is taken.
        SchemaValidationError: JSON has no place for a column's type.
    """
    encode = msgspec.json.Encoder().encode_lines
    # Before the file is made.
    held = _held(table)
    with open_gzipped(path, storage) as out:
        for piece in _dumped(held):
            out.write(encode(piece))


# Any: JSON.
def dump_rows(table: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """A table's rows as plain values that JSON knows, some thousand at a time.

    Raises:
        SchemaValidationError: JSON has no place for a column's type.

    Example:
        >>> next(dump_rows(pa.table({"day": pa.array([0], pa.date32())})))
        [{'day': '1970-01-01'}]
    """
    return _dumped(_held(table))


def _held(table: pa.Table) -> pa.Table:
    held = in_held_types(table, hold, "json")
    check_years(held, "json")
    return held


def _dumped(held: pa.Table) -> Iterator[list[dict[str, Any]]]:
    names = held.schema.names
    for batch in held.to_batches(max_chunksize=_PIECE_ROWS):
        piece = unsliced(pa.Table.from_batches([batch])).combine_chunks()
        parts = [to_values(c.chunk(0), dump_text_array) for c in piece.columns]
        yield [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
