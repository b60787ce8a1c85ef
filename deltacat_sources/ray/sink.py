"""How does Ray Data write a table? Workers stage files, the driver commits those that came back, once.

A task that dies is run again and writes files of other names; what it left behind is named in no
commit, and goes with `vacuum`.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from ray.data import DataContext, Dataset
from ray.data.block import BlockAccessor
from ray.data.datasource import Datasink

from deltacat_sources.ray.gathering import PARTITION, Layout, gathered, sorting_in_tasks
from io_core.errors import DeltaCATError, NotFoundError, SchemaValidationError
from io_core.layout import check_layout, creation_of
from io_core.model import TableRef, WriteEntry
from io_core.schema import encode_schema
from io_core.sink import DEFAULT_ROWS_PER_FILE, OpenSink, write_batches
from planner_client import connect
from planner_client.calls import new_operation
from planner_client.transaction import ambient

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from ray.data._internal.execution.interfaces import TaskContext
    from ray.data.block import Block
    from ray.data.datasource import WriteResult

    from io_core.model import WriteMode, WriteSession
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["DeltaCatDatasink", "Written", "write_deltacat"]

# Decoded bytes that a task gets; Parquet files mostly take a quarter of it.
_TASK_BYTES = 128 * 2**20


class Written(NamedTuple):
    """What one task wrote: its number and its files. Tasks that died return nothing.

    `errors_allowed` is what the task's `DataContext` says of blocks that may fail.
    """

    task: int
    entries: list[WriteEntry]
    errors_allowed: int


class _Asked(NamedTuple):
    """What a sink was asked for; stays on the driver."""

    client: Client
    transaction: Transaction | None
    partition_by: str | Sequence[str] | None
    merge_keys: str | Sequence[str] | None
    create: bool | Mapping[str, object]


class DeltaCatDatasink(Datasink[Written]):
    """A table as a sink of Ray Data, for `Dataset.write_datasink`: all rows in one commit, or none.

    The session opens on the driver when the first block is there, and the driver commits when the
    last task is done. Tasks partition and sort their rows as the table wants them, and describe
    their files; each writes at least one file per partition of its rows, so that a dataset that is
    sorted by the partition columns makes fewer files: `write_deltacat` sorts. A dataset without rows
    commits nothing, whatever the mode. Rows of an earlier task come before those of a later one.

    Args:
        table: `"namespace.table"`. Modes `auto` and `create` make it from the first block's schema,
            and its namespace, where it is absent.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        mode: What the rows mean to those that are there: `add`, `append`, `replace`,
            `replace_partition`, `merge` by the table's merge keys, `delete` by them, `create`, or
            `auto`, which is `merge` on a table with merge keys and `add` on others.
        transaction: An open transaction of the planner's; the rows become visible with it.
        partition_by: Columns whose values divide a table that is created.
        merge_keys: Columns that identify a row of a table that is created.
        create: Whether `auto` may make the table; or what else to make it with, in the protocol's
            words: `partition_scheme`, `sort_scheme`, `table_description` and others.
        min_rows_per_file: Give each task so many rows at least, so that files are not small.
        min_bytes: The same in bytes in memory; None means 128 MiB, where no rows are asked for.
        max_rows_per_file: Where files roll, if their size has not made them roll before.

    Attributes:
        committed: The session of the last write, once it is committed: `files_registered`,
            `total_records`, `snapshot`; None before, and where there was nothing to commit.

    Raises:
        CatalogRootError: `planner` is a directory and no catalog.
        ValueError: Both of `min_rows_per_file` and `min_bytes`, or one that is not positive.
    """

    def __init__(
        self,
        table: str | TableRef,
        *,
        planner: Client | str | os.PathLike[str] | None = None,
        mode: WriteMode = "auto",
        transaction: Transaction | None = None,
        partition_by: str | Sequence[str] | None = None,
        merge_keys: str | Sequence[str] | None = None,
        create: bool | Mapping[str, object] = True,
        min_rows_per_file: int | None = None,
        min_bytes: int | None = None,
        max_rows_per_file: int = DEFAULT_ROWS_PER_FILE,
    ) -> None:
        _check_least(min_rows_per_file, min_bytes)
        self.table = TableRef.parse(table)
        self.mode: WriteMode = mode
        self.committed: WriteSession | None = None
        client = connect(planner)
        # Ray opens the session in a thread of its own, which is in nobody's block.
        found = ambient(client.catalog.calls) if transaction is None else transaction
        self._asked: _Asked | None = _Asked(client, found, partition_by, merge_keys, create)
        self._min_rows, self._min_bytes = min_rows_per_file, min_bytes
        self._rows_per_file = max_rows_per_file
        self._session: WriteSession | None = None
        self._sink: OpenSink | None = None
        self._open = contextlib.ExitStack()

    def __repr__(self) -> str:
        return f"DeltaCatDatasink({self.table}, mode={self.mode!r})"

    def __getstate__(self) -> dict[str, Any]:
        """What workers get: the session, which holds no keys, and nobody to commit it with."""
        driver = {"_asked": None, "_sink": None, "_open": None, "committed": None}
        return {**vars(self), **driver}

    def layout(self) -> Layout | None:
        """How the rows are best divided among tasks; None for as they come. Asks the planner."""
        client, transaction, partition_by, merge_keys, create = self._on_driver()
        try:
            found = client.catalog.describe_table(
                namespace=self.table.namespace,
                table=self.table.table,
                include_stats=False,
                transaction=transaction,
            )
        except NotFoundError:
            properties = {} if isinstance(create, bool) else create
            return None if merge_keys else Layout.of_creation(partition_by, properties)
        return Layout.of_table(found)

    @property
    def min_rows_per_write(self) -> int | None:
        """Rows that each task gets at least."""
        return self._min_rows

    @property
    def min_bytes_per_write(self) -> int | None:
        """Bytes that each task gets at least; None where rows say it."""
        if self._min_rows is not None:
            return None
        return _TASK_BYTES if self._min_bytes is None else self._min_bytes

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Open the write session. Runs on the driver.

        Raises:
            ValueError: The `DataContext` lets blocks fail: their rows would be missing.
            SchemaValidationError: The mode or the layout does not fit the table.
            NotFoundError: No such table, and the mode does not create one.
        """
        _check_errors_allowed(DataContext.get_current().max_errored_blocks)
        self.committed = self._session = self._sink = None
        client, transaction, partition_by, merge_keys, _ = asked = self._on_driver()
        known = None if schema is None else _announced(schema)
        try:
            session = client.stage(
                namespace=self.table.namespace,
                table=self.table.table,
                mode=self.mode,
                create_if_missing=self._creation(known, asked),
                schema_serialized=None if not known else encode_schema(known),
                transaction=transaction,
            )
        except NotFoundError:
            if known:
                raise
            return  # nothing is known of rows, and there may be none
        self._session = session
        self._sink = OpenSink(client, session, new_operation(), self._rows_per_file)
        check_layout(session, partition_by, merge_keys)
        self._open = contextlib.ExitStack()
        self._open.enter_context(client.heartbeating(session))
        # Ctrl-C tells a sink nothing.
        weakref.finalize(self, self._open.close)

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> Written:
        """Stage the rows of one task in new files. Runs on workers, several times where some die.

        Raises:
            SchemaValidationError: The rows do not fit the table.
        """
        tables = (BlockAccessor.for_block(block).to_arrow() for block in blocks)
        filled = (_plain(table) for table in tables if table.num_rows)
        allowed = DataContext.get_current().max_errored_blocks
        if self._session is not None:
            entries = write_batches(self._session, filled, self._rows_per_file)
            return Written(ctx.task_idx, entries, allowed)
        if any(True for _ in filled):
            # Ray's first block had no schema, or Ray 2.60 fused this with a shuffle, and skipped the start.
            raise SchemaValidationError(
                f"no schema was told to write {self.table} with: materialize() the dataset first, "
                "or leave min_rows_per_file out"
            )
        return Written(ctx.task_idx, [], allowed)

    def on_write_complete(self, write_result: WriteResult[Written]) -> None:
        """Commit the files of the tasks that returned. Runs on the driver.

        Raises:
            ValueError: The dataset's own `DataContext` lets blocks fail.
            DeltaCATError: Other rows were staged than went in; nothing was committed.
            ConcurrentModificationError: Another commit came first.
        """
        self._open.close()
        written = sorted(write_result.write_returns, key=lambda w: w.task)
        for each in written:
            _check_errors_allowed(each.errors_allowed)
        entries = [entry for each in written for entry in each.entries]
        _check_whole(entries, write_result.num_rows, self.table)
        sink = self._sink
        if sink is None:
            return
        if not entries:
            sink.abort("the dataset has no rows")
            self._sink = None
            return
        self.committed = sink.commit(entries)

    def on_write_failed(self, error: Exception) -> None:
        """Close the session and delete what it staged, unless it is committed. Runs on the driver."""
        self._open.close()
        sink, self._sink = self._sink, None
        if sink is None:
            return
        try:
            # First the session: once it is closed, no late task's file can become visible.
            sink.abort(f"{type(error).__name__}: {error}"[:500])
        except Exception as second:  # noqa: BLE001  # the first error is what matters
            error.add_note(
                f"write session {sink.session.session_id} could not be aborted: {second}"
            )

    def _on_driver(self) -> _Asked:
        if self._asked is None:
            raise DeltaCATError(f"{self!r} was pickled: only the one that was made can commit")
        return self._asked

    def _creation(self, known: pa.Schema | None, asked: _Asked) -> dict[str, Any] | None:
        # Any: the protocol's free-form properties.
        creates = self.mode == "create" or (self.mode == "auto" and asked.create is not False)
        if not creates or not known:
            return None
        wanted = creation_of(known, asked.partition_by, asked.merge_keys)
        return wanted | ({} if isinstance(asked.create, bool) else dict(asked.create))


def _plain(table: pa.Table) -> pa.Table:
    """The rows as a table takes them: what pandas or Ray keep in a schema is not the table's."""
    rows = table.drop_columns([PARTITION]) if PARTITION in table.column_names else table
    fields = [f.remove_metadata() for f in rows.schema]
    return pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))


def _check_least(rows: int | None, size: int | None) -> None:
    if rows is not None and size is not None:
        raise ValueError(f"min_rows_per_file is {rows} and min_bytes {size}: give one of them")
    for name, value in {"min_rows_per_file": rows, "min_bytes": size}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: give 1 or more")


def _check_errors_allowed(blocks: int) -> None:
    if blocks:
        raise ValueError(
            f"DataContext.max_errored_blocks is {blocks}: a failed block's rows would be missing from "
            "a commit that looks whole; set it to 0 to write"
        )


def _check_whole(entries: Sequence[WriteEntry], rows: int, table: TableRef) -> None:
    staged = sum(entry.record_count for entry in entries)
    if staged != rows:
        raise DeltaCATError(
            f"{staged:,} rows of {rows:,} were staged for {table}, and nothing was committed: "
            "write again, and report it if it happens again"
        )


def _announced(schema: pa.Schema) -> pa.Schema:
    """What the planner makes room for: columns without a type of their own need none."""
    kept = [f for f in schema if not pa.types.is_null(f.type) and f.name != PARTITION]
    return pa.schema([f.remove_metadata() for f in kept])


def write_deltacat(
    dataset: Dataset,
    table: str | TableRef,
    *,
    gather: bool = True,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> WriteSession | None:
    """Write a dataset into a table in one commit; also `Dataset.write_deltacat`.

    Rows of a partitioned table are sorted by partition first, and within it by the table's order, so
    that they make few large files; not those of a table with merge keys, whose order says which
    counts.

    Args:
        dataset: What to write.
        table: `"namespace.table"`.
        gather: Whether rows of a partitioned table are sorted, which is a shuffle: False where a
            partition's rows stand together already.
        ray_remote_args: For the tasks that write, as `Dataset.write_datasink` takes them.
        concurrency: Most of these tasks at a time.
        options: As `DeltaCatDatasink` takes them: `planner`, `mode` and others.

    Returns:
        The committed session: `files_registered`, `total_records`, `snapshot`; None where there were
        no rows.

    Raises:
        SchemaValidationError: The rows do not fit the table; nothing was committed.
        NotFoundError: No such table, and the mode does not create one.
        ConcurrentModificationError: Another commit came first.
    """
    _check_errors_allowed(dataset.context.max_errored_blocks)
    sink = DeltaCatDatasink(table, **options)
    layout = sink.layout() if gather else None
    if layout is not None:
        dataset = gathered(dataset, layout)
    with sorting_in_tasks(dataset.context):
        dataset.write_datasink(sink, ray_remote_args=ray_remote_args, concurrency=concurrency)
    return sink.committed
