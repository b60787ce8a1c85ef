"""client.catalog: rows of a table, in the form that the caller works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core import manifest
from io_core.errors import SchemaValidationError
from io_core.execute import result_schema
from io_core.plan import ReadPlan
from io_core.predicate import bind
from io_core.predicate_like import as_predicate
from io_core.storage import LOCAL, is_s3
from planner_client.forms import form_of
from planner_client.given import counted, listed, of_kind
from planner_client.plans import Plans
from planner_client.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from io_core.predicate_like import PredicateLike
    from io_core.storage import Storage
    from planner_client.forms import ReadAs
    from planner_client.transaction import Transaction

__all__ = ["Reads"]


class Reads(Plans):
    """Reads of rows."""

    def read(
        self,
        *,
        namespace: str | None = None,
        table: str | None = None,
        plan: ReadPlan | None = None,
        read_as: ReadAs = "pyarrow",
        table_version: str | None = None,
        as_of: int | None = None,
        partition_filter: Sequence[Any] | None = None,
        filter_predicate: PredicateLike | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        preferred_root: str | None = None,
        root: str | None = None,
        transaction: Transaction | None = None,
        catalog: str | None = None,
    ) -> Any:
        """Rows of a table in reading order, merged where the table has merge keys.

        Of a schemaless table the rows are its files: `from_manifest_table` reads what is in them.
        A long read into memory shows a bar in a terminal (extra `progress`).

        Args:
            namespace: Where the table is; left out with `plan`.
            table: Its name; left out with `plan`.
            plan: A plan made before, or one page of one; its own predicate only chose files.
            read_as: `pyarrow` (a Table), `record_batch_reader`, `pandas`, `polars` (a LazyFrame),
                `numpy` (an array of rows and columns), `daft`, `ray_dataset`; `lance` and
                `pyarrow_parquet` open the one file of a plan, where it holds the table's rows as they are.
            table_version: None means the latest active one.
            as_of: Nanoseconds since the epoch; what was committed strictly before.
            partition_filter: The partitions to read, by id or by `{"partition_values": [...]}`.
            filter_predicate: Rows to keep: JSON `{"gt": ["x", 3]}`, SQL `"x > 3"` or a pyarrow
                expression.
            columns: The result's columns, in order; None means all.
            limit: Most rows to return, counted after merge and filter. Daft and Ray return any.
            offset: Rows to leave out before those.
            preferred_root: The data root whose files to read, if all of the table is there.
            root: The same.
            transaction: See `Client.transaction`.
            catalog: None means the client's own.

        Returns:
            What `read_as` says.

        Raises:
            NotFoundError: No such table.
            PredicateError: The predicate is malformed or does not fit the schema.
            SchemaValidationError: An unknown column; or a plan beside what chooses another, or one
                without files.
            UnsupportedError: An unknown form, one whose library is missing, or that cannot hold the rows.
            DataFileError: A data file is missing or damaged.

        Example:
            >>> import tempfile
            >>> import pyarrow as pa
            >>> from planner_client import Client
            >>> catalog = Client(tempfile.mkdtemp()).catalog
            >>> rows = pa.table({"id": [1, 2, 3], "task": ["pick", "place", "pick"]})
            >>> session = catalog.write(rows, namespace="robotics", table="episodes")
            >>> found = catalog.read(
            ...     namespace="robotics",
            ...     table="episodes",
            ...     filter_predicate={"eq": ["task", "pick"]},
            ...     columns=["id"],
            ... )
            >>> found["id"].to_pylist()
            [1, 3]
        """
        form = form_of(read_as)
        chosen = listed("columns", columns, str)
        wanted = Wanted(
            None if chosen is None else tuple(chosen),
            as_predicate(filter_predicate),
            counted("limit", limit, least=0),
            counted("offset", offset, least=0) or 0,
        )
        if plan is None:
            if namespace is None or table is None:
                raise SchemaValidationError("read needs namespace and table, or a plan")
            plan = self.plan(
                namespace=namespace,
                table=table,
                table_version=table_version,
                as_of=as_of,
                partition_filter=partition_filter,
                filter_predicate=wanted.predicate,
                preferred_root=preferred_root,
                root=root,
                delete_sets=True,
                transaction=transaction,
                catalog=catalog,
            )
        else:
            choosing = {
                "table_version": table_version,
                "as_of": as_of,
                "partition_filter": partition_filter,
                "preferred_root": preferred_root,
                "root": root,
            }
            _check_plan(plan, namespace, table, choosing)
            plan = self._opened(plan, catalog)
        schema = result_schema(plan)
        result_schema(plan, wanted.columns)
        if wanted.predicate is not None and schema.names:
            bind(wanted.predicate, schema)
        return form.read(plan, wanted)

    def from_manifest_table(
        self,
        manifest_table: Any,
        *,
        read_as: ReadAs = "pyarrow",
        schema: pa.Schema | None = None,
        columns: Sequence[str] | None = None,
        catalog: str | None = None,
    ) -> Any:
        """Rows of the files that a manifest table lists, in its rows' order.

        Args:
            manifest_table: What reading a schemaless table gave, or some rows of it, or a table with
                a `path` in each row; as Arrow or anything that has Arrow's PyCapsule interface.
            read_as: As for `read`; the rows are in memory.
            schema: What the rows are to look like: text has no types without it. None: columns of one
                name take the widest of their types, absent ones are null.
            columns: Which to read, in order; None means all.
            catalog: None means the client's own.

        Raises:
            DataFileError: A file is missing, damaged, or of another number of rows.
            SchemaValidationError: A row without a path, or files whose columns do not go together.
        """
        form = form_of(read_as)
        # Any: pandas' and others' frames too.
        try:
            found = pa.table(manifest_table)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise SchemaValidationError(
                f"a {type(manifest_table).__name__} is no manifest table: {error}"
            ) from error
        rows = manifest.from_manifest_table(
            found,
            schema=schema,
            columns=listed("columns", columns, str),
            storage=self._storage_of(found, catalog),
        )
        return form.of_table(rows)

    def _storage_of(self, listed: pa.Table, catalog: str | None) -> Storage:
        """How a manifest's files are reached: on S3 as the table's planner says."""
        source = manifest.source_of(listed)
        paths = listed.column("path") if "path" in listed.column_names else ()
        if source is None or not any(is_s3(path.as_py() or "") for path in paths):
            return LOCAL
        plan = self.plan(
            namespace=source.namespace,
            table=source.table,
            table_version=source.table_version,
            include_files=False,
            catalog=catalog,
        )
        return plan.storage


def _check_plan(
    plan: ReadPlan, namespace: str | None, table: str | None, choosing: Mapping[str, object]
) -> None:
    header = of_kind("plan", plan, ReadPlan, "what client.catalog.plan() returned").header
    for name, given, own in (
        ("namespace", namespace, header.namespace),
        ("table", table, header.table),
    ):
        if given not in (None, own):
            raise SchemaValidationError(
                f"{plan!r} is of another table than {name}={given!r}: pass the one or the other"
            )
    used = [name for name, value in choosing.items() if value is not None]
    if used:
        raise SchemaValidationError(
            f"{plan!r} says what to read: give {', '.join(used)} to plan() instead"
        )
    if not plan.files.num_rows and header.total_files and not header.returned_files:
        raise SchemaValidationError(
            f"{plan!r} lists no files: plan with include_files, and from a file_offset below "
            f"{header.total_files}"
        )
