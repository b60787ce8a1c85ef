"""client.catalog.write: the rows of whatever holds some go into a table, all of them in one commit."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from io_core.errors import SchemaValidationError
from io_core.layout import check_layout, creation_of
from io_core.model import PartitionScheme, SortScheme, TableRef
from io_core.schema import encode_schema
from io_core.sink import DEFAULT_ROWS_PER_FILE, OpenSink
from planner_client.calls import built, new_operation
from planner_client.given import counted, mapped, of_kind, one_or_more
from planner_client.heartbeat import heartbeating
from planner_client.rows import engine_of, rows_of
from planner_client.updating import Part, Updates
from planner_client.within import Within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from io_core.model import WriteEntry, WriteMode, WriteSession
    from io_core.plan import ReadPlan
    from planner_client.rows import Rows
    from planner_client.transaction import Transaction

__all__ = ["Asked", "Writing"]


class Asked(NamedTuple):
    """Where rows are to go, and how. `create` is what to make the table with, besides its schema."""

    table: TableRef
    mode: WriteMode
    format: str
    merge_keys: Sequence[str]
    partition_by: Sequence[str] | None
    # Any: the protocol's free-form properties.
    create: dict[str, Any]
    rows_per_file: int | None
    transaction: Transaction | None
    catalog: str | None

    @property
    def creates(self) -> bool:
        """Whether the table is made where it is absent."""
        return self.mode in ("auto", "create")


class Writing(Within):
    """Rows into tables."""

    def write(
        self,
        data: object,
        *,
        namespace: str,
        table: str,
        mode: WriteMode = "auto",
        merge_keys: str | Sequence[str] | None = None,
        partition_by: str | Sequence[str] | None = None,
        partition_scheme: PartitionScheme | Mapping[str, Any] | None = None,
        sort_scheme: SortScheme | Mapping[str, Any] | None = None,
        create_if_missing: Mapping[str, Any] | None = None,
        format: str = "parquet",  # the protocol's name
        schema: pa.Schema | None = None,
        update_columns: str | Sequence[str] | None = None,
        table_version: str | None = None,
        max_rows_per_file: int | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> WriteSession:
        """Write rows and commit them, once. Streams: memory does not grow with the data.

        Whatever goes wrong, Ctrl-C included, closes the session, removes what it staged and is raised
        again: nothing is visible. Frames of Polars, Daft and Ray are written by their own engine.

        Args:
            data: A pyarrow table, batch, reader or dataset; a frame of pandas, Polars (lazy too) or
                Daft, a Ray dataset; a NumPy array; anything with `__arrow_c_stream__` or
                `__arrow_c_array__`; the path of a local file (Parquet, CSV, TSV, PSV, Feather, JSON
                with one object a line, ORC, Avro) or Lance directory, or a list of such paths.
                Columns that the table has and the rows lack become null; unknown ones are added to
                the table, or refused where its `schema_evolution_mode` is not auto.
            namespace: Where the table is.
            table: Its name; the modes auto and create make it where it is absent.
            mode: auto, create, add, append, replace, replace_partition, merge or delete.
            merge_keys: Columns that identify a row of a table that this write makes.
            partition_by: Columns whose values divide a table that this write makes.
            partition_scheme: The same in the protocol's words, with transforms.
            sort_scheme: How the files of a table that this write makes are sorted.
            create_if_missing: What else to make it with, in the protocol's words.
            format: Of the files. Formats without types (csv, tsv, psv, json) make schemaless tables.
            schema: The columns to take, and their types; a NumPy array without names needs it.
            update_columns: Change these columns alone, of the rows whose merge keys the data brings:
                what else they hold is read and kept, in one transaction; keys that the table lacks
                become new rows. Data of more than four million rows or 64 MiB is taken part by
                part, and for each the files are read that its keys may be in: few, where the data is
                sorted by them. For the modes merge and auto.
            table_version: None means the latest active one.
            max_rows_per_file: Where files roll, if their size has not made them roll before.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Returns:
            The committed session: `files_registered`, `total_records`, `snapshot`.

        Raises:
            SchemaValidationError: The rows, the layout or the mode do not fit the table.
            NotFoundError: No such table, and the mode does not make one.
            ConcurrentModificationError: Another commit came first.
        """
        if schema is not None:
            of_kind("schema", schema, pa.Schema, "a pyarrow.Schema")
        if partition_by is not None and partition_scheme is not None:
            raise SchemaValidationError("partition_by and partition_scheme exclude each other")
        given = {"partition_scheme": partition_scheme, "sort_scheme": sort_scheme}
        create = mapped("create_if_missing", create_if_missing)
        create |= {name: scheme for name, scheme in given.items() if scheme is not None}
        asked = Asked(
            TableRef(namespace, table, table_version),
            mode,
            format,
            one_or_more("merge_keys", merge_keys),
            one_or_more("partition_by", partition_by) or None,
            create,
            counted("max_rows_per_file", max_rows_per_file, least=1),
            transaction,
            catalog,
        )
        if update_columns is not None:
            names = one_or_more("update_columns", update_columns)
            if not names:
                raise SchemaValidationError(
                    "update_columns names no column to change: name one, or leave it out to write "
                    "whole rows"
                )
            if mode not in ("auto", "merge"):
                raise SchemaValidationError(
                    f"update_columns merges: it does not go with mode {mode!r}"
                )
            return self._update(rows_of(data, schema), names, asked)
        return self._by_engine(data, asked, schema) or self._by_arrow(rows_of(data, schema), asked)

    def _update(self, rows: Rows, columns: Sequence[str], asked: Asked) -> WriteSession:
        """Write rows that bring some columns; see `write`."""
        ref = asked.table
        with self._within(asked.transaction, asked.catalog, f"update {ref}") as (found, is_own):

            def plan(**more: Any) -> ReadPlan:
                return self.plan(
                    namespace=ref.namespace,
                    table=ref.table,
                    table_version=ref.table_version,
                    transaction=found,
                    **more,
                )

            updates = Updates(rows, plan(include_files=False), columns)

            def staged(sink: OpenSink) -> list[WriteEntry]:
                def written(part: Part) -> list[WriteEntry]:
                    there = plan(filter_predicate=part.predicate, delete_sets=True)
                    return sink.write_batches(part.merged(there))

                # Each part in files of its own: a later file's rows count. By map(), which lets go
                # of a part before the next one is gathered.
                return [*itertools.chain.from_iterable(map(written, updates.parts()))]

            session = self._staged(ref, "merge", found, staged, rows_per_file=asked.rows_per_file)
        if not is_own:
            return session
        # Not asked for: where that got no answer, what is committed would be an error.
        return msgspec.structs.replace(
            session,
            status="COMMITTED",
            committed=True,
            attached=False,
            snapshot=found.info.snapshot,
        )

    def _by_engine(self, data: Any, asked: Asked, schema: pa.Schema | None) -> WriteSession | None:
        """Let a frame's own engine write it; None where there is none, or it cannot write this.

        Any: an engine's frame.
        """
        engine, client = engine_of(data), self._calls.client
        plain = (asked.format, asked.table.table_version, asked.catalog) == ("parquet", None, None)
        if engine is None or client is None or not plain or schema is not None:
            return None
        options: dict[str, Any] = {
            "planner": client,
            "mode": asked.mode,
            "transaction": asked.transaction,
            "partition_by": asked.partition_by,
            "merge_keys": asked.merge_keys or None,
            "create": asked.create or True,
        }
        if asked.rows_per_file is not None:
            options["max_rows_per_file"] = asked.rows_per_file
        # Late: who writes no frame of an engine needs none.
        if engine == "polars":
            from deltacat_sources.polars import sink_deltacat

            session: WriteSession = sink_deltacat(data.lazy(), asked.table, lazy=False, **options)
            return session
        if engine == "daft":
            from deltacat_sources.daft import write_deltacat

            return write_deltacat(data, asked.table, **options)
        from deltacat_sources.ray import write_deltacat as write_dataset

        # None where there are no rows: they are written as others that are none.
        return write_dataset(data, asked.table, **options)

    def _by_arrow(self, rows: Rows, asked: Asked) -> WriteSession:
        create = None
        if asked.creates:
            create = creation_of(rows.schema, asked.partition_by, asked.merge_keys) | asked.create
        session = self.stage(
            namespace=asked.table.namespace,
            table=asked.table.table,
            mode=asked.mode,
            format=asked.format,
            table_version=asked.table.table_version,
            create_if_missing=create,
            schema_serialized=encode_schema(rows.schema),
            transaction=asked.transaction,
            catalog=asked.catalog,
        )
        sink = OpenSink(
            self, session, new_operation(), asked.rows_per_file or DEFAULT_ROWS_PER_FILE
        )

        def staged() -> list[WriteEntry]:
            with heartbeating(lambda: self.heartbeat(session=session)):
                check_layout(session, asked.partition_by, asked.merge_keys or None)
                _check_schemes(session, asked.create)
                # What never fits is refused before the first row is asked for.
                return sink.write_batches(
                    itertools.chain([rows.schema.empty_table()], rows.batches)
                )

        return sink.run(staged)


# Any: the protocol's free-form properties.
def _check_schemes(session: WriteSession, create: Mapping[str, Any]) -> None:
    """Refuse a scheme that is asked for and that a table which is there does not have."""
    kinds: tuple[tuple[str, type[PartitionScheme | SortScheme]], ...] = (
        ("partition_scheme", PartitionScheme),
        ("sort_scheme", SortScheme),
    )
    for name, kind in kinds:
        if create.get(name) is None:
            continue
        there: PartitionScheme | SortScheme | None = getattr(session, name)
        if _plain(built(create[name], kind)) != _plain(there):
            raise SchemaValidationError(
                f"{session.namespace}.{session.table} has another {name} than the one that is asked "
                f"for: {there!r}; leave {name} out"
            )


def _plain(scheme: PartitionScheme | SortScheme | None) -> list[object]:
    if scheme is None:
        return []
    replace = msgspec.structs.replace
    return [replace(key, transform=key.transform or "identity") for key in scheme.keys]
