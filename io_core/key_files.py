"""Where are the keys of a data file? Beside it, in `<path>.keys`, or in its own columns.

Sinks of keyed tables leave the keys beside what they write, so that a commit opens no data file. A
key file is an Arrow IPC file, uncompressed, to be memory-mapped: the code of each row
(`io_core.key_codes`), and where codes are not exact the key's columns, of which a commit looks at
single rows. It is worth nothing but speed: one that is missing, damaged or of other keys is passed
over, and the keys are read from the data file.
"""

from __future__ import annotations

import mmap
import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from io_core.errors import DataFileError, UnsupportedError
from io_core.formats import FileRef, read
from io_core.key_codes import KeyCodes, fingerprint, key_codes
from io_core.schema import align, without_views
from io_core.storage import LOCAL, Storage, is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.deletes import Positions

__all__ = [
    "KeyedFile",
    "codes_of",
    "columns_at",
    "derive_keys",
    "key_path",
    "keys_at",
    "write_keys",
]

_METADATA = b"deltacat:keys"
_OFFSETS = {
    pa.string(): np.int32,
    pa.binary(): np.int32,
    pa.large_string(): np.int64,
    pa.large_binary(): np.int64,
}


class KeyedFile(msgspec.Struct, frozen=True):
    """A data file, or a delete file, of a table with merge keys.

    Attributes:
        path: Local path or URI.
        records: Its rows; None where nobody says.
        schema: The table's, with field ids.
        merge_keys: The table's, in their order.
        storage: How it is reached.
    """

    path: str
    records: int | None
    # Any: pyarrow has no types.
    schema: pa.Schema
    merge_keys: tuple[str, ...]
    storage: Storage = LOCAL

    def key_schema(self) -> pa.Schema:
        """The key's columns, in the types that keys are compared in."""
        types = [self.schema.field(key).type for key in self.merge_keys]
        plain = [t.value_type if pa.types.is_dictionary(t) else t for t in types]
        return pa.schema(list(zip(self.merge_keys, map(without_views, plain), strict=True)))


class _Head(msgspec.Struct, frozen=True):
    """What a key file says of itself: what its codes are made of, and their CRC-32."""

    keys: str
    exact: bool
    check: int


def key_path(path: str) -> str:
    """Where the keys of a data file are: a local path, or on S3 beside it.

    Example:
        >>> key_path("file:///data/a.parquet"), key_path("s3://bucket/a.parquet")
        ('/data/a.parquet.keys', 's3://bucket/a.parquet.keys')
    """
    return f"{path if is_s3(path) else local_path(path)}.keys"


def write_keys(file: KeyedFile, rows: pa.Table) -> None:
    """Leave the keys of a data file beside it; none where a key's type has no codes.

    Args:
        file: Which file.
        rows: All of its rows, in their order; at least the key's columns.
    """
    try:
        name = fingerprint(file.schema, file.merge_keys)
    except UnsupportedError:
        # Such a table is merged by its readers.
        return
    keys = align(rows, file.key_schema())
    codes, exact = key_codes(keys.columns)
    head = _Head(name, exact, zlib.crc32(codes.data))
    kept = [] if exact else keys.columns
    table = pa.table([codes, *kept], names=["code", *(str(i) for i in range(len(kept)))])
    table = table.replace_schema_metadata({_METADATA: msgspec.json.encode(head)})
    # Keys may be derived again, in place of damaged ones.
    with (
        file.storage.open_output(key_path(file.path), replace=True) as out,
        pa.ipc.new_file(out, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks())


def derive_keys(file: KeyedFile) -> None:
    """Leave the keys of a data file beside it, read back from it: for writers that never see rows.

    Args:
        file: Which file.

    Raises:
        DataFileError: The data file is missing or damaged, or lacks a key column.
    """
    write_keys(file, _read(file))


def codes_of(file: KeyedFile) -> KeyCodes:
    """The code of each of the file's rows, in row order: from its key file, or from the file.

    Raises:
        DataFileError: The data file is missing or damaged, or lacks a key column.
    """
    found = _open(file)
    if found is None:
        return key_codes(_read(file).columns)
    head, table = found
    codes = table.column("code").to_numpy()
    if zlib.crc32(codes.data) != head.check:
        return key_codes(_read(file).columns)
    return KeyCodes(codes, head.exact)


def keys_at(file: KeyedFile, rows: Positions) -> pa.Table:
    """The keys of some rows: what `io_core.key_index.kills` asks for, once a file has an ordinal.

    Args:
        file: Which file.
        rows: Positions in it.

    Raises:
        DataFileError: The data file is missing or damaged, or lacks a key column.
    """
    found = _open(file)
    if found is not None and not found[0].exact and _is_sound(found[1], rows):
        taken = found[1].take(rows)
        keys = taken.drop_columns("code").rename_columns(list(file.merge_keys))
        # Keys that do not give their codes are damaged.
        if np.array_equal(key_codes(keys.columns).codes, taken.column("code").to_numpy()):
            return keys
    return _read(file).take(rows)


def columns_at(file: KeyedFile, columns: Sequence[str], rows: Positions) -> pa.Table:
    """Other columns of some rows, from the data file.

    Args:
        file: Which file.
        columns: Which columns; what the file lacks is filled in.
        rows: Positions in it.

    Raises:
        DataFileError: The data file is missing or damaged.
    """
    asked = FileRef(file.path, records=file.records, plan="the ledger, as a file to be merged")
    fields = map(file.schema.field, columns)
    wanted = pa.schema([field.with_type(without_views(field.type)) for field in fields])
    return align(read(asked, columns, storage=file.storage).take(rows), wanted)


def _open(file: KeyedFile) -> tuple[_Head, pa.Table] | None:
    """The file's key file, mapped into memory; None where there is none that fits."""
    try:
        table = pa.ipc.open_file(_body(file)).read_all()
        head = msgspec.json.decode((table.schema.metadata or {})[_METADATA], type=_Head)
        names = table.schema.names
        table.validate()
    except (pa.ArrowException, OSError, KeyError, ValueError, msgspec.MsgspecError):
        return None
    kept = [] if head.exact else file.key_schema().types
    fits = (
        head.keys == fingerprint(file.schema, file.merge_keys)
        and names == ["code", *map(str, range(len(kept)))]
        and table.schema.types == [pa.uint64(), *kept]
        and file.records in {None, table.num_rows}
    )
    return (head, table) if fits else None


def _body(file: KeyedFile) -> pa.Buffer:
    """All of the key file: mapped where it is local, else in memory."""
    path = key_path(file.path)
    if is_s3(path):
        with file.storage.open_input(path) as stored:
            return stored.read_buffer()
    with open(path, "rb") as stored:
        return pa.py_buffer(mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ))


def _is_sound(table: pa.Table, rows: Positions) -> bool:
    """Whether some rows can be read: a damaged offset would lead anywhere in memory."""
    if not len(rows) or int(rows.max()) >= table.num_rows:
        return False
    for column in table.columns:
        if column.num_chunks != 1 or column.chunk(0).offset:
            return False
        if column.type in _OFFSETS:
            _, offsets, data = column.chunk(0).buffers()
            ends = np.frombuffer(offsets, _OFFSETS[column.type])
            start, end = ends[rows], ends[rows.astype(np.int64) + 1]
            if not ((start >= 0) & (start <= end) & (end <= (data.size if data else 0))).all():
                return False
    return True


def _read(file: KeyedFile) -> pa.Table:
    """The key's columns of the data file itself."""
    plan = f"the ledger, as a file of a table keyed by {', '.join(file.merge_keys)}"
    asked = FileRef(path=file.path, content_type="parquet", records=file.records, plan=plan)
    found = read(asked, file.merge_keys, storage=file.storage)
    # Read as null, a missing key would kill the rows whose key is null.
    if lacking := [key for key in file.merge_keys if key not in found.column_names]:
        raise DataFileError.of(file.path, f"lacks the column {lacking[0]!r}", plan)
    return align(found, file.key_schema())
