"""Feather files (Arrow IPC): every type as it is, in record batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from io_core.formats.encoding import open_random
from io_core.formats.held import without_columns
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["batches", "schema_of", "write"]

# A reader holds one of them, and reads no less.
BATCH_ROWS = 122_880
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def batches(file: FileRef, columns: Sequence[str] | None, storage: Storage) -> Iterator[pa.Table]:
    """Read some columns piece by piece; see `io_core.formats.read_batches`."""
    with open_random(file, storage) as stored:
        schema = pa.ipc.open_file(stored).schema
        found = schema.names if columns is None else [c for c in columns if c in schema.names]
        fields = [schema.get_field_index(c) for c in found]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        with pa.ipc.open_file(stored, options=options) as opened:
            for i in range(opened.num_record_batches):
                batch = opened.get_batch(i)
                # A damaged offset would lead anywhere in memory.
                batch.validate(full=True)
                if found:
                    yield pa.Table.from_batches([batch]).select(found)
                else:
                    yield without_columns(batch.num_rows)
            if found and not opened.num_record_batches:
                yield opened.schema.empty_table().select(found)


def write(table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
    """Write one file; field ids stay in the schema's metadata.

    Raises:
        FileExistsError: The path is taken.
    """
    with (
        storage.open_output(path) as out,
        pa.ipc.new_file(out, table.schema, options=_OPTIONS) as writer,
    ):
        writer.write_table(table.unify_dictionaries(), BATCH_ROWS)


def schema_of(path: str, storage: Storage) -> pa.Schema:
    """A file's own schema, from its footer."""
    with storage.open_input(path) as stored, pa.ipc.open_file(stored) as opened:
        return opened.schema
