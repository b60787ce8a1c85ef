"""ORC files: by stripes, in the few types that ORC has."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import orc

from io_core.formats.content import FileRef
from io_core.formats.encoding import open_stream
from io_core.formats.held import in_held_types, without_columns
from io_core.formats.orc_process import decoded, schema_in
from io_core.storage import LOCAL, is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.storage import Storage

__all__ = ["batches", "hold", "schema_of", "write"]

_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
}


def hold(dtype: pa.DataType) -> pa.DataType | None:
    """As which type ORC holds another; it has no times, durations, decimals beyond 38 digits."""
    t = pa.types
    if dtype in _WIDER:
        return _WIDER[dtype]
    if t.is_timestamp(dtype):
        return pa.timestamp("ns", None if dtype.tz is None else "UTC")
    if t.is_fixed_size_binary(dtype):
        return pa.binary()
    if t.is_decimal(dtype):
        small = dtype.precision <= 38
        return pa.decimal128(dtype.precision, dtype.scale) if small else None
    if t.is_fixed_size_list(dtype) or t.is_large_list(dtype):
        return pa.list_(dtype.value_field)
    plain = t.is_signed_integer(dtype) or t.is_floating(dtype) or t.is_boolean(dtype)
    plain = plain or t.is_string(dtype) or t.is_binary(dtype) or t.is_date32(dtype)
    return dtype if plain or t.is_list(dtype) or t.is_struct(dtype) or t.is_map(dtype) else None


def batches(file: FileRef, columns: Sequence[str] | None, storage: Storage) -> Iterator[pa.Table]:
    """Read some columns piece by piece; see `io_core.formats.read_batches`."""
    wanted = None if columns is None else tuple(columns)
    with _as_local(file, storage) as path:
        for piece in decoded(path, wanted):
            # Without any of the columns its rows come as nulls of no name.
            is_count = piece.schema.names == [""]
            yield without_columns(piece.num_rows) if is_count else piece


@contextmanager
def _as_local(file: FileRef, storage: Storage) -> Iterator[str]:
    """A path at which another process finds the file's bytes, decoded."""
    if file.encoding == "identity" and not is_s3(file.path):
        path = local_path(file.path)
        # Errors are this process's own, which knows their kinds.
        storage.open_input(path).close()
        yield path
        return
    with open_stream(file, storage) as stored, tempfile.NamedTemporaryFile() as copy:
        shutil.copyfileobj(stored, copy)
        copy.flush()
        yield copy.name


def write(table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
    """Write one file; field ids become attributes of its columns.

    Raises:
        FileExistsError: The path is taken.
        SchemaValidationError: ORC has no place for a column's type.
    """
    held = in_held_types(table, hold, "orc")
    with storage.open_output(path) as out:
        orc.write_table(held, out, compression="zstd")


def schema_of(path: str, storage: Storage) -> pa.Schema:
    """A file's own schema, from its footer."""
    with _as_local(FileRef(path, "orc", "identity"), storage) as local:
        return schema_in(local)
