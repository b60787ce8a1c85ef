"""How does Daft write a table? Few files whatever the frame's partitions, then one commit.

On the native runner the frame streams into files of this process, in its order. On Ray, rows are
gathered first (by partition value, or into large batches) and workers write them: a task that dies is
run again under new names, and only what the last run of each task reports is committed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import daft
import pyarrow as pa
from daft.io.sink import DataSink, WriteResult
from daft.recordbatch import MicroPartition
from daft.runners import get_or_infer_runner_type

from deltacat_sources.daft.batches import batches_of
from deltacat_sources.daft.types import table_schema
from io_core.errors import DeltaCATError
from io_core.layout import check_layout, creation_of
from io_core.model import TableRef
from io_core.schema import encode_schema
from io_core.sink import OpenSink, conform, write_batches, write_schema
from planner_client import connect
from planner_client.calls import new_operation
from planner_client.given import counted, mapped, of_kind, one_or_more

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["write_deltacat", "written_by_workers"]

# Files are written while more rows come, which larger ones would have to wait for.
ROWS_PER_FILE = 1_000_000
_ROWS_PER_BATCH = 2**17
_WRITERS = 2


def write_deltacat(
    df: daft.DataFrame,
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    mode: WriteMode = "auto",
    transaction: Transaction | None = None,
    partition_by: str | Sequence[str] | None = None,
    merge_keys: str | Sequence[str] | None = None,
    create: bool | Mapping[str, object] = True,
    max_rows_per_file: int = ROWS_PER_FILE,
) -> WriteSession:
    """Run a query and write its rows into a table: all of them in one commit, or none.

    Files are partitioned and sorted as the table is, and roll by rows and size: how many they are does
    not depend on the frame's partitions. Columns are matched by name. Whatever goes wrong, Ctrl-C
    included, removes what was staged and is raised again. On Ray rows have no order: of several rows
    of one key in a frame, any may win.

    Args:
        df: What to write.
        table: `"namespace.table"`; modes `auto` and `create` make it where it is absent.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        mode: `add`, `append`, `replace`, `replace_partition`, `merge` or `delete` by the table's merge
            keys, `create`; or `auto`: `merge` on a table with merge keys, else `add`.
        transaction: An open transaction of the planner's; the rows become visible with it.
        partition_by: Columns whose values divide a table that is created.
        merge_keys: Columns that identify a row of a table that is created.
        create: Whether `auto` may make the table; or what else to make it with, in the protocol's words.
        max_rows_per_file: Where files roll, if their size has not made them roll before.

    Returns:
        The committed session: `files_registered`, `total_records`, `snapshot`.

    Raises:
        DeltaCATError: `SchemaValidationError` where the frame does not fit, `NotFoundError` where no
            table is to be made, `ConcurrentModificationError` where another commit came first.
    """
    of_kind("df", df, daft.DataFrame, "a Daft frame")
    rows = counted("max_rows_per_file", max_rows_per_file, least=1) or ROWS_PER_FILE
    keys = None if merge_keys is None else one_or_more("merge_keys", merge_keys)
    parts = None if partition_by is None else one_or_more("partition_by", partition_by)
    more = {} if isinstance(create, bool) else mapped("create", create)
    schema, client = table_schema(df.schema()), connect(planner)
    wanted = None
    if mode == "create" or (mode == "auto" and create is not False):
        wanted = creation_of(schema, parts, keys) | more
    session = _stage(client, TableRef.parse(table), mode, wanted, schema, transaction)
    sink = OpenSink(client, session, new_operation(), rows)

    def staged() -> list[WriteEntry]:
        with client.heartbeating(session):
            check_layout(session, parts, keys)
            # What never fits is refused before the frame runs.
            conform(schema.empty_table(), write_schema(session, schema), session)
            return written_by_workers(df, sink) if _runs_on_ray() else _here(df, sink)

    return sink.run(staged)


def _stage(
    client: Client,
    ref: TableRef,
    mode: WriteMode,
    # Any: the protocol's free-form properties.
    wanted: dict[str, Any] | None,
    schema: pa.Schema,
    transaction: Transaction | None,
) -> WriteSession:
    announced = pa.schema([field for field in schema if not pa.types.is_null(field.type)])
    return client.stage(
        namespace=ref.namespace,
        table=ref.table,
        mode=mode,
        create_if_missing=wanted,
        schema_serialized=encode_schema(announced),
        transaction=transaction,
    )


def _runs_on_ray() -> bool:
    return bool(get_or_infer_runner_type() == "ray")


def _here(df: daft.DataFrame, sink: OpenSink) -> list[WriteEntry]:
    """Daft reads, and threads write: a file is whole before it is written."""
    # Gathered by Daft: a frame of many small files comes in as many small batches.
    batches = (pa.Table.from_batches([batch]) for batch in batches_of(df, _ROWS_PER_BATCH))
    with ThreadPoolExecutor(_WRITERS) as pool:
        return write_batches(sink.session, batches, sink.rows_per_file, pool=pool)


def written_by_workers(df: daft.DataFrame, sink: OpenSink) -> list[WriteEntry]:
    """Run a query and have those who run its tasks write into a sink, in large batches.

    Returns:
        What to commit: of a task that ran twice, the files of one run.
    """
    workers = _Workers(sink)
    _gathered(df, sink).write_sink(workers)
    return workers.entries


def _gathered(df: daft.DataFrame, sink: OpenSink) -> daft.DataFrame:
    """The frame with rows together that go into one file, as far as that can be told."""
    scheme = sink.session.partition_scheme
    keys = scheme.keys if scheme else ()
    plain = [key.key[0] for key in keys if key.transform in (None, "identity")]
    gathered = df.repartition(None, *plain) if plain else df
    # Without it a task would write each piece that it is handed.
    return gathered.into_batches(sink.rows_per_file)


class _Written(NamedTuple):
    """What one task wrote, or what kept it from writing."""

    entries: list[WriteEntry]
    error: DeltaCATError | None = None


class _Workers(DataSink[_Written]):
    """Daft's view of a write under way; travels to workers."""

    def __init__(self, sink: OpenSink) -> None:
        self._sink = sink
        self.entries: list[WriteEntry] = []

    def name(self) -> str:
        """The table, as Daft's progress shows it."""
        return f"DeltaCAT {self._sink.session.namespace}.{self._sink.session.table}"

    def schema(self) -> daft.Schema:
        """One number: the files."""
        return daft.Schema.from_pyarrow_schema(pa.schema([("files", pa.int64())]))

    def write(self, micropartitions: Iterator[MicroPartition]) -> Iterator[WriteResult[_Written]]:
        """Write one task's rows into new files."""
        batches = (part.to_arrow() for part in micropartitions)
        try:
            entries = self._sink.write_batches(batches)
        except DeltaCATError as error:
            # Raised, it would reach the driver as text alone, after more tries.
            yield WriteResult(_Written([], error), 0, 0)
            return
        rows = sum(entry.record_count or 0 for entry in entries)
        size = sum(entry.content_length or 0 for entry in entries)
        yield WriteResult(_Written(entries), size, rows)

    def finalize(self, write_results: list[WriteResult[_Written]]) -> MicroPartition:
        """Keep what the tasks wrote; the commit is the driver's."""
        for found in write_results:
            if found.result.error is not None:
                raise found.result.error
            self.entries += found.result.entries
        counted = pa.table({"files": pa.array([len(self.entries)], pa.int64())})
        return MicroPartition.from_arrow(counted)
