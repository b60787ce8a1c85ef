"""client.catalog.delete and overwrite: rows that a predicate finds go, or others take their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from io_core.defaults import FUTURE_DEFAULT
from io_core.errors import PredicateError, SchemaValidationError, UnsupportedError
from io_core.execute import execute
from io_core.model import TableRef
from io_core.predicate import bind, columns_of, dump
from io_core.predicate_arrow import to_arrow
from io_core.predicate_like import as_predicate
from io_core.schema import align, without_views
from planner_client.adding import Adding
from planner_client.rewriting import Rewriting
from planner_client.rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteEntry, WriteMode
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate
    from io_core.predicate_like import PredicateLike
    from io_core.sink import OpenSink
    from planner_client.rows import Rows
    from planner_client.transaction import Transaction

__all__ = ["Changed", "Changing"]

# More partitions than that are asked for all at once: a request's line is not endless.
_MOST_NAMED = 500


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a table by a delete or an overwrite.

    Attributes:
        rows_deleted: Rows that went. Of a keyed table, those that were shown.
        rows_written: Rows that came in their place.
        files_rewritten: Files that were read and written anew without their rows.
        snapshot: The first one that shows it; None where nothing changed, or inside of a transaction.
    """

    rows_deleted: int = 0
    rows_written: int = 0
    files_rewritten: int = 0
    snapshot: int | None = None


class Changing(Adding):
    """Rows out of tables."""

    def delete(
        self,
        *,
        predicate: PredicateLike,
        namespace: str,
        table: str,
        table_version: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> Changed:
        """Delete the rows for which a predicate is true, all of them or none.

        Of a table with merge keys their keys are deleted. Otherwise the files that hold such rows are
        written anew without them, in one transaction with what was read of them: a commit that came
        between, to one of their partitions, makes this one fail. Rows of which the predicate is
        unknown, for a null, stay.

        Args:
            predicate: JSON, SQL text or a pyarrow expression: which rows go.
            namespace: Where the table is.
            table: Its name.
            table_version: None means the latest active one.
            transaction: See `Client.transaction`; None makes one.
            catalog: None means the client's own.

        Raises:
            PredicateError: It is malformed, does not fit the schema, or is none: see `truncate_table`.
            ConcurrentModificationError: Another commit came first: nothing changed; try again.
            UnsupportedError: The table is schemaless.
        """
        ref = TableRef(namespace, table, table_version)
        with self._within(transaction, catalog, f"delete rows of {ref}") as (found, is_own):
            done = self._deleted(ref, _given(predicate), found)
        return _ended(done, found, is_own=is_own)

    def overwrite(
        self,
        data: object,
        *,
        predicate: PredicateLike,
        namespace: str,
        table: str,
        table_version: str | None = None,
        check_rows: bool = True,
        transaction: Transaction | None = None,
        catalog: str | None = None,
        **how: Any,
    ) -> Changed:
        """Delete the rows for which a predicate is true and write others, in one transaction.

        The predicate has to be true of the new rows, too: the same overwrite another time replaces
        them, and nothing else.

        Args:
            data: As `write` takes it.
            predicate: Which rows go; see `delete`.
            namespace: Where the table is.
            table: Its name.
            table_version: None means the latest active one.
            check_rows: False lets any rows take their place, and has Daft and Ray write their frames
                in their own tasks: rows that are checked pass through this process.
            transaction: See `Client.transaction`; None makes one.
            catalog: None means the client's own.
            how: As `write` takes it: `format`, `schema`, `max_rows_per_file`.

        Raises:
            PredicateError: See `delete`.
            SchemaValidationError: The rows do not fit the table or the predicate; nothing changed.
            ConcurrentModificationError: Another commit came first: nothing changed; try again.
        """
        ref, chosen = TableRef(namespace, table, table_version), _given(predicate)
        with self._within(transaction, catalog, f"overwrite {ref}") as (found, is_own):
            done = self._deleted(ref, chosen, found)
            if check_rows:
                shape = self._shape(ref, found)
                data = _checked(rows_of(data, how.pop("schema", None)), chosen, shape)
            written = self.write(
                data,
                namespace=namespace,
                table=table,
                table_version=table_version,
                transaction=found,
                **how,
            )
            done = msgspec.structs.replace(done, rows_written=written.total_records or 0)
        return _ended(done, found, is_own=is_own)

    def _shape(self, ref: TableRef, within: Transaction) -> pa.Schema:
        """The table's schema, as rows in memory have it."""
        plan = self.plan(
            namespace=ref.namespace,
            table=ref.table,
            table_version=ref.table_version,
            include_files=False,
            transaction=within,
        )
        return pa.schema([f.with_type(without_views(f.type)) for f in plan.schema])

    def _deleted(self, ref: TableRef, predicate: Predicate, within: Transaction) -> Changed:
        def plan(**asked: Any) -> ReadPlan:
            return self.plan(
                namespace=ref.namespace,
                table=ref.table,
                table_version=ref.table_version,
                transaction=within,
                **asked,
            )

        chosen = plan(filter_predicate=dump(predicate), delete_sets=True)
        if chosen.header.schema_serialized is None:
            raise UnsupportedError(
                f"table {ref} is schemaless: it has no rows to delete by predicate"
            )
        if chosen.merge_keys:
            return self._deleted_by_key(ref, chosen, predicate, within)
        shape = pa.schema([f.with_type(without_views(f.type)) for f in chosen.schema])
        is_gone = to_arrow(bind(predicate, shape), shape).expression
        rewriting = Rewriting(chosen, is_gone, sorted(columns_of(predicate)))
        if not rewriting.partitions:
            return Changed()
        named: list[Any] | None = [{"partition_id": p} for p in rewriting.partitions]
        if len(rewriting.partitions) > _MOST_NAMED or chosen.header.partition_scheme is None:
            named = None
        whole = plan(partition_filter=named, include_stats=True)
        mode: WriteMode = (
            "replace" if chosen.header.partition_scheme is None else "replace_partition"
        )
        self._staged(ref, mode, within, lambda sink: rewriting.entries(whole, sink))
        return Changed(rows_deleted=rewriting.rows, files_rewritten=rewriting.files)

    def _deleted_by_key(
        self, ref: TableRef, plan: ReadPlan, predicate: Predicate, within: Transaction
    ) -> Changed:
        scheme, names = plan.header.partition_scheme, list(plan.merge_keys)
        names += [k.key[0] for k in scheme.keys if k.key[0] not in names] if scheme else []
        pieces = execute(plan, columns=names, predicate=predicate)
        first = next((piece for piece in pieces if piece.num_rows), None)
        if first is None:
            return Changed()

        def keys(sink: OpenSink) -> list[WriteEntry]:
            return sink.write_batches(piece for part in ([first], pieces) for piece in part)

        return Changed(rows_deleted=self._staged(ref, "delete", within, keys).total_records or 0)


def _checked(rows: Rows, predicate: Predicate, shape: pa.Schema) -> pa.RecordBatchReader:
    """The rows; reading on to one of which the predicate is not true raises."""
    return pa.RecordBatchReader.from_batches(rows.schema, _inside(rows, predicate, shape))


def _inside(rows: Rows, predicate: Predicate, shape: pa.Schema) -> Iterator[pa.RecordBatch]:
    names = columns_of(predicate)
    asked = pa.schema([field for field in shape if field.name in names])
    is_inside = to_arrow(bind(predicate, asked), asked).expression
    is_outside = ~is_inside | is_inside.is_null()
    for piece in rows.batches:
        table = pa.Table.from_batches([piece]) if isinstance(piece, pa.RecordBatch) else piece
        if table.num_rows:
            outside = align(table, asked, default=FUTURE_DEFAULT).filter(is_outside)
            if outside.num_rows:
                raise SchemaValidationError(_outside(outside, predicate))
        yield from table.to_batches()


def _outside(rows: pa.Table, predicate: Predicate) -> str:
    (first,) = rows.slice(0, 1).to_pylist()
    return (
        f"a row with {first} is outside of {dump(predicate)}, whose rows it is to replace: give rows of "
        "which the predicate is true, or check_rows=False"
    )


def _given(predicate: PredicateLike) -> Predicate:
    found = as_predicate(predicate)
    if found is None:
        raise PredicateError(
            "no predicate would mean all rows: say so with client.catalog.truncate_table(), or "
            "write with mode 'replace'"
        )
    return found


def _ended(done: Changed, within: Transaction, *, is_own: bool) -> Changed:
    changed = done.rows_deleted or done.rows_written
    return msgspec.structs.replace(
        done, snapshot=within.info.snapshot if is_own and changed else None
    )
