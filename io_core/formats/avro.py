"""Avro object container files: blocks of rows, read and written by fastavro (the extra `avro`).

The container is taken apart here and only rows are left to fastavro, with all logical types away:
so nanoseconds, decimals and far years come out exactly, and no block can grow without a bound.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.formats.avro_blocks import Container, open_container
from io_core.formats.avro_types import (
    arrow_schema,
    avro_schema,
    dump_raw,
    hold,
    load_raw,
    without_logical_types,
)
from io_core.formats.encoding import open_stream
from io_core.formats.held import held_type, in_held_types, restored, without_columns
from io_core.formats.parts import any_part
from io_core.formats.values import from_values, to_values, unsliced
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["batches", "hold", "schema_of", "write"]

# The types before they became Avro's, as base64 of an Arrow IPC schema.
_ARROW_SCHEMA = "deltacat.arrow_schema"
_PIECE_ROWS = 16_384
_BLOCK_BYTES = 1 << 18


# Any: fastavro's module.
def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError as error:
        raise UnsupportedError(
            "Avro files need fastavro: install deltacat-sources[avro]"
        ) from error
    return fastavro


def batches(file: FileRef, columns: Sequence[str] | None, storage: Storage) -> Iterator[pa.Table]:
    """Read some columns piece by piece, a block each; see `io_core.formats.read_batches`."""
    fastavro = _fastavro()
    decode = fastavro.schemaless_reader
    with open_stream(file, storage) as stored:
        container = open_container(stored)
        try:
            plain = fastavro.parse_schema(without_logical_types(container.schema))
        except fastavro.schema.SchemaParseException as error:
            raise ValueError(f"its schema is none: {error}") from error
        held = arrow_schema(container.schema)
        whole = _own_schema(container, held)
        found = held.names if columns is None else [c for c in columns if c in held.names]
        yield pa.schema([(name, whole.field(name).type) for name in found]).empty_table()
        for rows, body in container.blocks(file.records):
            # Many rows are one array of them: a call per block instead of one per row.
            source = io.BytesIO(body)
            values = decode(source, {"type": "array", "items": plain}, None)
            if len(values) != rows or source.read(1):
                raise ValueError("a block has other rows than it says")
            if not found:
                yield without_columns(rows)
                continue
            arrays = [
                from_values([v[name] for v in values], held.field(name).type, load_raw)
                for name in found
            ]
            try:
                yield restored(pa.table(arrays, names=found), whole)
            except SchemaValidationError as error:
                raise ValueError(f"its rows do not fit its own types: {error}") from error


def _own_schema(container: Container, held: pa.Schema) -> pa.Schema:
    """The types that the file's columns had when they were written, as far as it says."""
    kept = container.metadata.get(_ARROW_SCHEMA)
    if kept is None:
        return held
    given = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kept, validate=True)))
    same = given.names == held.names and all(
        held_type(f.type, hold) == of for f, of in zip(given, held.types, strict=True)
    )
    if not same:
        raise ValueError("its two schemas contradict each other")
    return given


def write(table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
    """Write one file; field ids stand beside its fields.

    Raises:
        FileExistsError: The path is taken.
        SchemaValidationError: Avro has no place for a column's type or name.
    """
    fastavro = _fastavro()
    held = in_held_types(table, hold, "avro")
    schema = avro_schema(held.schema)
    for column in held.columns:
        if any_part(column.type, pa.types.is_map):
            # Before anything is written: a map of Avro has each key once.
            for chunk in column.chunks:
                to_values(chunk, dump_raw, _once)
    kept = base64.b64encode(table.schema.serialize().to_pybytes()).decode()
    with storage.open_output(path) as out:
        fastavro.writer(
            out,
            schema,
            _rows(held),
            codec="deflate",
            sync_interval=_BLOCK_BYTES,
            metadata={_ARROW_SCHEMA: kept},
        )


def _rows(held: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in held.to_batches(max_chunksize=_PIECE_ROWS):
        piece = unsliced(pa.Table.from_batches([batch])).combine_chunks()
        parts = [to_values(c.chunk(0), dump_raw, dict) for c in piece.columns]
        for row in zip(*parts, strict=True):
            yield dict(zip(held.schema.names, row, strict=True))


def _once(pairs: list[Any]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SchemaValidationError("a map has a key twice, for which avro has no place")
    return found


def schema_of(path: str, storage: Storage) -> pa.Schema:
    """A file's own schema, from its header."""
    with storage.open_input(path) as stored:
        container = open_container(io.BufferedReader(stored))
        return _own_schema(container, arrow_schema(container.schema))
