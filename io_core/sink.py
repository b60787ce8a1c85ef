"""Sink: one write as a value, from open through batches to one commit or an abort."""

from __future__ import annotations

import os
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core.defaults import FUTURE_DEFAULT, filled
from io_core.errors import SchemaValidationError, UnsupportedError, nearest
from io_core.formats import parquet
from io_core.key_files import KeyedFile, write_keys
from io_core.literal import dump_array
from io_core.model import SortScheme, TableRef, WriteEntry, WriteMode, WriteSession
from io_core.partition import split
from io_core.scan import Planner
from io_core.schema import align, check_exact, decode_schema
from io_core.storage import local_path, persist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "DEFAULT_ROWS_PER_FILE",
    "OpenSink",
    "Sink",
    "conform",
    "delete_staged",
    "write_files",
    "write_schema",
]

DEFAULT_ROWS_PER_FILE = 4_000_000


class Sink(msgspec.Struct, frozen=True, omit_defaults=True):
    """A write to one table that has not begun. Immutable; pickles with its planner.

    Attributes:
        table: Where to write.
        planner: Who commits.
        mode: What the rows mean to what is there.
        create_if_missing: As the protocol has it: schema and schemes of the table to create.
        rows_per_file: Where files roll.
    """

    table: TableRef
    planner: Planner
    mode: WriteMode = "auto"
    # Any: the protocol's free-form properties.
    create_if_missing: dict[str, Any] | None = None
    rows_per_file: int = DEFAULT_ROWS_PER_FILE

    def open(self) -> OpenSink:
        """Open a write session. Nothing becomes visible by it.

        Raises:
            NotFoundError: No such table, and the mode does not create one.
            SchemaValidationError: The mode does not fit the table.
        """
        session = self.planner.stage(
            namespace=self.table.namespace,
            table=self.table.table,
            mode=self.mode,
            create_if_missing=self.create_if_missing,
        )
        return OpenSink(self.planner, session, f"op_{uuid.uuid4().hex}", self.rows_per_file)


class OpenSink(msgspec.Struct, frozen=True):
    """A write under way. Pickles, so that workers can call `write`; the driver commits once.

    Attributes:
        planner: Who commits.
        session: The write session; its `data_dir` takes the files.
        operation_id: Makes the commit happen once, however often it is sent.
        rows_per_file: Where files roll.
    """

    planner: Planner
    session: WriteSession
    operation_id: str
    rows_per_file: int = DEFAULT_ROWS_PER_FILE

    def write(self, rows: pa.Table) -> list[WriteEntry]:
        """Write rows into new files: conformed, partitioned and sorted as the table wants them.

        Names are unique per call, so that a retried task never overwrites another's file.

        Raises:
            SchemaValidationError: The rows do not fit the table.
        """
        return write_files(self.session, rows, self.rows_per_file)

    def commit(self, entries: Sequence[WriteEntry]) -> WriteSession:
        """Make all entries part of the table, durably, once; call it on one machine only.

        Raises:
            ConcurrentModificationError: Another commit came first.
        """
        persist(local_path(e.path) for e in entries)
        return self.planner.commit(
            session=self.session, entries=entries, operation_id=self.operation_id
        )

    def abort(self, reason: str) -> None:
        """Close the session and delete what it staged; nothing of it ever was visible."""
        self.planner.abort(session=self.session, reason=reason)
        delete_staged(self.session)

    def run(self, write: Callable[[], Sequence[WriteEntry]]) -> WriteSession:
        """Write and commit; whatever goes wrong, Ctrl-C included, aborts and is raised again.

        Where an abort is refused after the commit was tried, the files stay: the commit may have
        happened, and only its answer been lost.

        Args:
            write: Stages all files and describes them.
        """
        committing = False
        try:
            entries = write()
            committing = True
            return self.commit(entries)
        except BaseException as error:
            try:
                if not committing:
                    # First of all: a full disk may be what went wrong.
                    delete_staged(self.session)
                self.abort(f"{type(error).__name__}: {error}"[:500])
            except Exception as second:  # noqa: BLE001  # the first error is what matters
                error.add_note(
                    f"write session {self.session.session_id} could not be aborted: {second}"
                )
            raise


def write_files(session: WriteSession, rows: pa.Table, rows_per_file: int) -> list[WriteEntry]:
    """Stage rows under a session, in new files; see `OpenSink.write`.

    Raises:
        UnsupportedError: The session is for files of another format than Parquet.
    """
    if session.format != "parquet":
        raise UnsupportedError(
            f"rows are written as parquet alone: stage {session.format!r} files yourself, and commit them"
        )
    schema = write_schema(session)
    conformed = conform(rows, schema, session)
    merge_keys = tuple(session.merge_keys or ())
    folder = session.data_dir.rstrip("/")
    entries = []
    for values, part in _partitions(conformed, session, schema):
        for start in range(0, part.num_rows, rows_per_file):
            piece = _sorted(part.slice(start, rows_per_file), session.sort_scheme, merge_keys)
            path = f"{folder}/{uuid.uuid4().hex}.parquet"
            os.makedirs(local_path(folder), exist_ok=True)
            parquet.write(piece, path)
            if merge_keys:
                # A commit looks for the file's keys beside it.
                whole = decode_schema(session.schema_serialized or "")
                write_keys(KeyedFile(path, piece.num_rows, whole, merge_keys), piece)
            entries.append(
                parquet.entry_of(
                    path,
                    schema,
                    partition_values=values,
                    nan_counts=parquet.nan_counts(piece),
                    sort_scheme_id=session.sort_scheme.id if session.sort_scheme else None,
                )
            )
    return entries


def delete_staged(session: WriteSession) -> None:
    """Remove the files of a session that was aborted, as far as they are there."""
    folder = local_path(session.data_dir)
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


def write_schema(session: WriteSession) -> pa.Schema:
    """What each staged file has to look like: the table's schema, or for deletes its keys."""
    if session.schema_serialized is None:
        raise UnsupportedError(f"table {session.namespace}.{session.table} is schemaless")
    schema = decode_schema(session.schema_serialized)
    if session.mode != "delete":
        return schema
    names = [*(session.merge_keys or ())]
    scheme = session.partition_scheme
    names += [k.key[0] for k in scheme.keys if k.key[0] not in names] if scheme else []
    return pa.schema([f for f in schema if f.name in names])


def conform(rows: pa.Table, schema: pa.Schema, session: WriteSession) -> pa.Table:
    """Rows in the table's shape: its columns in its order and types, with its field ids.

    Columns that are missing hold their future default, or become null (a merge warns: it replaces
    whole rows); a delete keeps key columns alone. Types are cast only where nothing is lost.

    Raises:
        SchemaValidationError: An unknown column, a missing one that is required or a key, a null
            in a required column, or values that do not fit.
    """
    name = f"{session.namespace}.{session.table}"
    known = (
        schema.names
        if session.mode != "delete"
        else decode_schema(session.schema_serialized or "").names
    )
    for column in rows.column_names:
        if column not in known:
            raise SchemaValidationError(
                f"{name} has no column {column!r}{nearest(column, known)}; it has: {', '.join(known)}"
            )
    keys = {*(session.merge_keys or ())}
    required = keys | {f.name for f in schema if not f.nullable}
    if session.mode == "delete":
        keys = required = set(schema.names)
    optional = filled(schema, rows.column_names) - keys
    missing = [n for n in schema.names if n not in rows.column_names and n not in optional]
    if lacking := [c for c in missing if c in required]:
        raise SchemaValidationError(f"the rows lack {', '.join(lacking)}, which {name} requires")
    if missing and session.mode == "merge":
        warnings.warn(
            f"merge into {name} replaces whole rows: {', '.join(missing)} become null", stacklevel=3
        )
    check_exact(rows.schema, schema)
    aligned = align(rows, schema, default=FUTURE_DEFAULT)
    for field in schema:
        if not field.nullable and aligned.column(field.name).null_count:
            raise SchemaValidationError(
                f"column {field.name!r} of {name} is required and holds nulls"
            )
    return aligned.cast(schema)


def _partitions(
    rows: pa.Table, session: WriteSession, schema: pa.Schema
) -> Iterator[tuple[list[Any] | None, pa.Table]]:
    if session.partition_scheme is None:
        yield None, rows
        return
    for values, part in split(rows, session.partition_scheme, schema):
        yield [dump_array(c.combine_chunks())[0] for c in values.columns], part


def _sorted(rows: pa.Table, scheme: SortScheme | None, merge_keys: Sequence[str]) -> pa.Table:
    """Rows in the scheme's order, those that it leaves equal in the order of the merge keys."""
    if scheme is None:
        return rows
    keys = [(key.key[0], key.sort_order, key.null_order) for key in scheme.keys]
    listed = {key.key[0] for key in scheme.keys}
    keys += [(key, "ascending", "at_end") for key in merge_keys if key not in listed]
    return rows.take(pc.sort_indices(rows, sort_keys=keys))
