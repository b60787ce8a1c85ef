"""client.catalog: a few rows in the call itself, shown or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from io_core.errors import PlannerUnavailableError, SchemaValidationError
from io_core.predicate import dump
from io_core.predicate_like import as_predicate
from planner_client.calls import Resource, built, new_operation
from planner_client.protocol.checked import shown
from planner_client.protocol.inline import PREVIEW, WRITE_INLINE, Preview, WriteInline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from io_core.model import WriteMode
    from io_core.predicate_like import PredicateLike
    from planner_client.protocol.inline import Previewed, WrittenInline
    from planner_client.transaction import Transaction

__all__ = ["Inline"]


class Inline(Resource):
    """Calls that carry rows."""

    def preview(
        self,
        *,
        namespace: str,
        table: str,
        table_version: str | None = None,
        limit: int = 10,
        filter_predicate: PredicateLike | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> Previewed:
        """A table's first rows, read by the planner: for a look, not for reading a table.

        Args:
            namespace: Where the table is.
            table: Its name.
            table_version: None means the latest active one.
            limit: Most rows to show.
            filter_predicate: Rows to keep, see `io_core.predicate_like.as_predicate`.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
        """
        request = Preview(
            namespace=namespace,
            table=table,
            table_version=table_version,
            limit=limit,
            filter_predicate=dump(as_predicate(filter_predicate)),
        )
        return self._calls.read(PREVIEW, request, transaction=transaction, catalog=catalog)

    def write_data(
        self,
        *,
        namespace: str,
        table: str,
        data: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
        mode: WriteMode = "auto",
        content_type: str | None = None,
        table_version: str | None = None,
        operation_id: str | None = None,
        catalog: str | None = None,
    ) -> WrittenInline:
        """Write a few rows that travel in the call; the planner makes their file.

        For less than 10,000 rows; `write` takes any number. No transaction can hold it.

        Args:
            namespace: Where the table is.
            table: Its name; the modes auto and create make it where it is absent.
            data: Lists by column, or one dictionary a row, where a missing value is null.
            mode: auto, create, add, append, replace, replace_partition, merge or delete.
            content_type: Of the file; None means the table's own.
            table_version: None means the latest active one.
            operation_id: Makes a call that is made again return the first one's result.
            catalog: None means the client's own.

        Raises:
            SchemaValidationError: The rows or the mode do not fit the table.
            NotFoundError: No such table, and the mode does not make one.
            TransactionError: Called in a transaction's block.
            PlannerUnavailableError: It says by which `operation_id` to call again, and learn whether
                the rows were written.
        """
        self._calls.outside("write_data")
        operation = operation_id or new_operation()
        fields = {
            "namespace": namespace,
            "table": table,
            "data": _columns(data),
            "mode": mode,
            "content_type": content_type,
            "table_version": table_version,
        }
        request = built(fields, WriteInline)
        try:
            return self._calls.mutate(
                WRITE_INLINE, request, catalog=catalog, operation_id=operation
            )
        except PlannerUnavailableError as error:
            error.add_note(
                f"the same call with operation_id={operation!r} tells what became of it, and writes "
                "nothing twice"
            )
            raise


# Any: rows of whatever JSON holds.
def _columns(data: Any) -> Mapping[str, Sequence[Any]]:
    """Rows as lists by column, the columns in order of their first appearance."""
    if isinstance(data, Mapping):
        return data
    rows = data if isinstance(data, Iterable) and not isinstance(data, str | bytes) else [data]
    if not all(isinstance(row, Mapping) for row in rows):
        raise SchemaValidationError(
            f"data is {shown(data)}: give lists by column, or one dictionary a row; write() takes frames"
        )
    names = dict.fromkeys(name for row in data for name in row)
    return {name: [row.get(name) for row in data] for name in names}
