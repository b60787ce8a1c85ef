"""What is in a schemaless table? Its files as a manifest table, and their rows on request.

A manifest table has one row per file, in the order of deltas and entries: `path`, what the file is
(`meta_content_type`, `meta_content_encoding`), its size (`meta_content_length`,
`meta_source_content_length`, `meta_record_count`), and where it stands (`stream_position`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core import formats
from io_core.errors import SchemaValidationError
from io_core.formats import FileRef
from io_core.model import TableRef
from io_core.schema import align
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.plan import ReadPlan
    from io_core.storage import Storage

__all__ = ["from_manifest_table", "manifest_table", "source_of", "with_source"]

# Survives filters and selections: keys to a store are asked for by it.
_SOURCE_KEY = b"deltacat:manifest-of"
_FROM_PLAN = ("content_encoding", "content_length", "content_type", "record_count")


def manifest_table(plan: ReadPlan) -> pa.Table:
    """A plan's files as a manifest table; without a file it has no column either.

    Works for plans of any table; of a schemaless one it is all that can be read without more.
    """
    files = plan.files
    if not files.num_rows:
        return pa.table({})
    columns = {f"meta_{name}": files.column(name) for name in _FROM_PLAN}
    columns |= {
        "id": pa.nulls(files.num_rows, pa.string()),
        "mandatory": pa.array([True] * files.num_rows),
        "meta_source_content_length": pa.nulls(files.num_rows, pa.int64()),
        "path": files.column("path"),
        "stream_position": files.column("stream_position"),
    }
    return pa.table({name: columns[name] for name in sorted(columns)})


def with_source(table: pa.Table, plan: ReadPlan) -> pa.Table:
    """A manifest table that notes whose files it lists; see `source_of`."""
    header = plan.header
    source = TableRef(header.namespace, header.table, header.table_version)
    return table.replace_schema_metadata({_SOURCE_KEY: msgspec.json.encode(source)})


def source_of(table: pa.Table) -> TableRef | None:
    """The table whose files a manifest table lists; None where that was lost on the way."""
    raw = (table.schema.metadata or {}).get(_SOURCE_KEY)
    return None if raw is None else msgspec.json.decode(raw, type=TableRef)


def from_manifest_table(
    table: pa.Table,
    *,
    schema: pa.Schema | None = None,
    columns: Sequence[str] | None = None,
    storage: Storage = LOCAL,
) -> pa.Table:
    """Read the files of a manifest table, one after the other in its rows' order.

    Args:
        table: With a `path` in each row; `content_type` (else Parquet), `content_encoding` (else
            identity) and `record_count` count by these names or with `meta_` before them. Filter
            it first to read some files only.
        schema: What the rows are to look like. Text has no types without it, and delimited files
            of this project and of the published clients have no header, so that they need one.
            None: columns of one name take the widest of their types, absent ones are null.
        columns: Which to read, in order; None means all.
        storage: How the files are reached.

    Raises:
        DataFileError: A file is missing, damaged, or of another number of rows.
        SchemaValidationError: A row without a path, or files whose columns do not go together.
    """
    found = []
    for number, row in enumerate(_described(table)):
        if not row["path"]:
            raise SchemaValidationError(f"row {number} of the manifest table has no path")
        file = FileRef(
            path=row["path"],
            content_type=row["content_type"] or "parquet",
            content_encoding=row["content_encoding"] or "identity",
            records=row["record_count"],
            plan=f"row {number} of a manifest table",
            schema=schema,
        )
        rows = formats.read(file, columns, storage=storage)
        wanted = _selected(schema, columns)
        found.append(rows if wanted is None else align(rows, wanted))
    if not found:
        wanted = _selected(schema, columns)
        return pa.table({}) if wanted is None else align(wanted.empty_table(), wanted)
    try:
        whole = pa.concat_tables(found, promote_options="permissive")
    except pa.ArrowException as error:
        raise SchemaValidationError(
            f"the files' columns do not go together: {error}; pass schema= to say what they are"
        ) from error
    return (
        whole if columns is None else whole.select([c for c in columns if c in whole.schema.names])
    )


def _selected(schema: pa.Schema | None, columns: Sequence[str] | None) -> pa.Schema | None:
    if schema is None or columns is None:
        return schema
    return pa.schema([schema.field(name) for name in columns])


# Any: cells.
def _described(table: pa.Table) -> list[dict[str, Any]]:
    names = ("path", "content_type", "content_encoding", "record_count")
    held = {}
    for name in names:
        known = next((n for n in (f"meta_{name}", name) if n in table.schema.names), None)
        held[name] = [None] * table.num_rows if known is None else table.column(known).to_pylist()
    return [dict(zip(names, row, strict=True)) for row in zip(*held.values(), strict=True)]
