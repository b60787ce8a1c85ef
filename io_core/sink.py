"""Sink: one write as a value, from open through batches to one commit or an abort."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import shutil
import uuid
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core import formats
from io_core.defaults import FUTURE_DEFAULT, filled
from io_core.errors import (
    PlannerUnavailableError,
    RequestRejectedError,
    SchemaValidationError,
    UnsupportedError,
)
from io_core.growth import Growth, grow, unknown_column
from io_core.key_files import KeyedFile, write_keys
from io_core.literal import dump_array
from io_core.model import SortScheme, TableRef, WriteEntry, WriteMode, WriteSession
from io_core.partition import split
from io_core.required import null_in_required
from io_core.rolling import Rolled, Rolling
from io_core.scan import Planner
from io_core.schema import Consistency, align, check_exact, decode_schema, encode_schema
from io_core.storage import is_s3, local_path, persist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

__all__ = [
    "DEFAULT_ROWS_PER_FILE",
    "OpenSink",
    "Sink",
    "conform",
    "delete_staged",
    "growth_of",
    "warn_of_lacking",
    "write_batches",
    "write_files",
    "write_schema",
]

DEFAULT_ROWS_PER_FILE = 4_000_000
_FILES_IN_FLIGHT = 2


class Sink(msgspec.Struct, frozen=True, omit_defaults=True):
    """A write to one table that has not begun. Immutable; pickles with its planner.

    Attributes:
        table: Where to write.
        planner: Who commits.
        mode: What the rows mean to what is there.
        create_if_missing: As the protocol has it: schema and schemes of the table to create.
        rows_per_file: Where files roll.
        rows_schema: What the rows will look like, where that is known: the session's schema has
            room for them, if the table lets writes change it.
    """

    table: TableRef
    planner: Planner
    mode: WriteMode = "auto"
    # Any: the protocol's free-form properties.
    create_if_missing: dict[str, Any] | None = None
    rows_per_file: int = DEFAULT_ROWS_PER_FILE
    rows_schema: pa.Schema | None = None

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
            schema_serialized=None if self.rows_schema is None else encode_schema(self.rows_schema),
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

    def write_batches(self, batches: Iterable[pa.Table | pa.RecordBatch]) -> list[WriteEntry]:
        """Write rows as they come, like `write`; what waits for its file stays within bounds.

        A file is written when it has `rows_per_file` rows or 256 MiB of them in memory; where more
        than 512 MiB wait over all partitions, the fullest is written as it is. The schema of the
        first batch is that of all.
        """
        return write_batches(self.session, batches, self.rows_per_file)

    def commit(self, entries: Sequence[WriteEntry]) -> WriteSession:
        """Make all entries part of the table, durably, once; call it on one machine only.

        Raises:
            ConcurrentModificationError: Another commit came first.
        """
        # What a store acknowledged is there for good.
        persist(local_path(e.path) for e in entries if not is_s3(e.path))
        return self.planner.commit(
            session=self.session, entries=entries, operation_id=self.operation_id
        )

    def abort(self, reason: str) -> None:
        """Close the session and delete what it staged; nothing of it ever was visible."""
        self.planner.abort(session=self.session, reason=reason)
        delete_staged(self.session)

    def run(self, write: Callable[[], Sequence[WriteEntry]]) -> WriteSession:
        """Write and commit; whatever goes wrong, Ctrl-C included, aborts and is raised again.

        Where a commit gets no answer, what became of it is found out: by aborting, which either ends
        the session or is refused, since it is committed. Where that gets no answer either, the files
        stay, and the error says how to ask.

        Args:
            write: Stages all files and describes them.
        """
        entries: Sequence[WriteEntry] | None = None
        try:
            entries = write()
            return self.commit(entries)
        except BaseException as error:
            if entries is None:
                # First of all: a full disk may be what went wrong.
                delete_staged(self.session)
            try:
                self.abort(f"{type(error).__name__}: {error}"[:500])
            except RequestRejectedError as refused:
                self._left(error, refused)
                if isinstance(error, PlannerUnavailableError) and refused.code == "session_closed":
                    # Sent again, the operation tells what it came to the first time.
                    with contextlib.suppress(PlannerUnavailableError):
                        return self.commit(entries or [])
            except Exception as second:  # noqa: BLE001  # the first error is what matters
                self._left(error, second)
            raise

    def _left(self, error: BaseException, second: Exception) -> None:
        """Say of an error what else is known of the session."""
        name = self.session.session_id
        error.add_note(
            f"write session {name} could not be aborted: {second}; "
            f"client.catalog.get_write_session({name!r}) tells what became of it"
        )


def write_files(session: WriteSession, rows: pa.Table, rows_per_file: int) -> list[WriteEntry]:
    """Stage rows under a session, in new files; see `OpenSink.write`.

    Raises:
        SchemaValidationError: The session's format has no place for a column of the table.
    """
    return write_batches(session, [rows], rows_per_file)


def write_batches(
    session: WriteSession,
    batches: Iterable[pa.Table | pa.RecordBatch],
    rows_per_file: int,
    *,
    pool: Executor | None = None,
) -> list[WriteEntry]:
    """Stage rows under a session as they come; see `OpenSink.write_batches`.

    Args:
        session: Where to.
        batches: The rows.
        rows_per_file: Where files roll.
        pool: Threads that write files while more rows come, three of them waiting at most. None
            writes each before going on.

    Returns:
        The files in the order of their partitions' first rows, whichever was full first.
    """
    rows = (pa.Table.from_batches([b]) if isinstance(b, pa.RecordBatch) else b for b in batches)
    first = next(rows, None)
    if first is None:
        return []
    files = _Files.of(session, first.schema)
    written: list[tuple[int, WriteEntry]] = []
    writing: deque[tuple[int, Future[WriteEntry]]] = deque()
    for rolled in _rolled(itertools.chain([first], rows), files, Rolling(rows_per_file)):
        if pool is None:
            written.append((rolled.partition, files.write(rolled)))
            continue
        writing.append((rolled.partition, pool.submit(files.write, rolled)))
        if len(writing) > _FILES_IN_FLIGHT:
            partition, future = writing.popleft()
            written.append((partition, future.result()))
    written += [(partition, future.result()) for partition, future in writing]
    return [entry for _, entry in sorted(written, key=operator.itemgetter(0))]


def _rolled(batches: Iterable[pa.Table], files: _Files, rolling: Rolling) -> Iterator[Rolled]:
    for rows in batches:
        conformed = conform(rows, files.schema, files.session)
        for values, part in _partitions(conformed, files.session, files.schema):
            yield from rolling.add(values, part)
    yield from rolling.finish()


class _Files(NamedTuple):
    """What all files of one write have in common.

    Attributes:
        session: Whose they are.
        schema: What they look like.
        schema_id: Where the planner knows that schema: it need not look into such files.
    """

    session: WriteSession
    schema: pa.Schema
    schema_id: int | None

    @classmethod
    def of(cls, session: WriteSession, rows: pa.Schema) -> _Files:
        schema = write_schema(session, rows)
        whole = session.schema_serialized
        known = whole is not None and schema.equals(write_schema(session), check_metadata=True)
        return cls(session, schema, session.schema_id if known else None)

    def write(self, rolled: Rolled) -> WriteEntry:
        """Write one file, sorted, with its keys beside it where a commit looks for them."""
        session, scheme = self.session, self.session.sort_scheme
        merge_keys = tuple(session.merge_keys or ())
        rows = _sorted(rolled.rows, scheme, merge_keys)
        entry = formats.write_new(
            rows,
            session.data_dir,
            session.format,
            storage=session.storage,
            schema=self.schema,
            partition_values=rolled.values,
            sort_scheme_id=scheme.id if scheme else None,
        )
        if merge_keys and session.format == "parquet":
            whole = decode_schema(session.schema_serialized or "")
            write_keys(
                KeyedFile(entry.path, rows.num_rows, whole, merge_keys, session.storage), rows
            )
        return msgspec.structs.replace(entry, schema_id=self.schema_id)


def delete_staged(session: WriteSession) -> None:
    """Remove the files of a session that was aborted, as far as they are there."""
    if is_s3(session.data_dir):
        storage = session.storage
        storage.delete([file.location for file in storage.files_below(session.data_dir)])
        return
    folder = local_path(session.data_dir)
    if not os.path.isdir(folder):
        return
    for found in os.scandir(folder):
        if found.is_dir(follow_symlinks=False):
            # A Lance dataset.
            shutil.rmtree(found.path)
        else:
            os.unlink(found.path)
    os.rmdir(folder)


def write_schema(session: WriteSession, rows: pa.Schema | None = None) -> pa.Schema:
    """What each staged file has to look like: the table's schema, or for deletes its keys.

    Args:
        session: Where to.
        rows: The rows' schema: where the table lets writes change its own, there is room for them. A
            schemaless table takes them as they are.

    Raises:
        UnsupportedError: The table is schemaless, and nothing is known of the rows.
    """
    if session.schema_serialized is None:
        if rows is None:
            raise UnsupportedError(f"table {session.namespace}.{session.table} is schemaless")
        return rows
    schema = decode_schema(session.schema_serialized)
    if session.mode != "delete":
        return schema if rows is None else grow(schema, rows, growth_of(session), numbered=False)
    names = [*(session.merge_keys or ())]
    scheme = session.partition_scheme
    names += [k.key[0] for k in scheme.keys if k.key[0] not in names] if scheme else []
    return pa.schema([f for f in schema if f.name in names])


def growth_of(session: WriteSession) -> Growth:
    """How a write may change the table's schema; another planner's, that says nothing, not at all."""
    schemes = (session.partition_scheme, session.sort_scheme)
    return Growth(
        adds_columns=session.schema_evolution_mode == "auto",
        consistency=msgspec.convert(session.schema_consistency_type or "coerce", Consistency),
        pinned={key.key[0] for scheme in schemes if scheme for key in scheme.keys},
    )


def conform(rows: pa.Table, schema: pa.Schema, session: WriteSession) -> pa.Table:
    """Rows in the table's shape: its columns in its order and types, with its field ids.

    Columns that are missing hold their future default, or become null (a merge warns: it replaces
    whole rows); a delete keeps key columns alone. Types are cast only where nothing is lost.

    Raises:
        SchemaValidationError: An unknown column, a missing one that is required or a key, a null
            in a required column, or values that do not fit.
    """
    if session.schema_serialized is None:
        return rows
    name = f"{session.namespace}.{session.table}"
    known = (
        schema.names
        if session.mode != "delete"
        else decode_schema(session.schema_serialized or "").names
    )
    for column in rows.column_names:
        if column not in known:
            raise unknown_column(name, column, known)
        if rows.column_names.count(column) > 1:
            raise SchemaValidationError(f"the rows have several columns {column!r}: rename one")
    keys = {*(session.merge_keys or ())}
    required = keys | {f.name for f in schema if not f.nullable}
    if session.mode == "delete":
        keys = required = set(schema.names)
    optional = filled(schema, rows.column_names) - keys
    missing = [n for n in schema.names if n not in rows.column_names and n not in optional]
    if lacking := [c for c in missing if c in required]:
        raise SchemaValidationError(f"the rows lack {', '.join(lacking)}, which {name} requires")
    warn_of_lacking(session, missing, stacklevel=4)
    check_exact(rows.schema, schema, default=growth_of(session).consistency)
    aligned = align(rows, schema, default=FUTURE_DEFAULT)
    for field in schema:
        if empty := null_in_required(aligned.column(field.name), field):
            raise SchemaValidationError(f"column {empty!r} of {name} is required and holds nulls")
    return pa.Table.from_arrays(aligned.columns, schema=schema)


def warn_of_lacking(session: WriteSession, missing: Sequence[str], *, stacklevel: int) -> None:
    """Warn where rows are merged that lack columns of the table.

    Args:
        session: What they are written in.
        missing: The columns, those with a default left out.
        stacklevel: As `warnings.warn` has it, counted from here.
    """
    merges = session.mode == "merge" or (
        session.mode == "auto" and session.table_exists and session.merge_keys
    )
    if missing and merges:
        warnings.warn(
            f"a merge into {session.namespace}.{session.table} replaces whole rows: "
            f"{', '.join(missing)} become null; client.catalog.write(update_columns=...) changes some "
            "columns only",
            stacklevel=stacklevel,
        )


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
    # Deletes hold keys alone.
    listed = [key.key[0] for key in scheme.keys if key.key[0] in rows.column_names]
    keys = [(k.key[0], k.sort_order, k.null_order) for k in scheme.keys if k.key[0] in listed]
    keys += [(key, "ascending", "at_end") for key in merge_keys if key not in listed]
    return rows.take(pc.sort_indices(rows, sort_keys=keys)) if keys else rows
