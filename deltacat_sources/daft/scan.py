"""How does Daft read a table? A frame over a source that plans what each query asks for.

The frame is pinned to one snapshot when it is built; the files are planned when a query runs
(`deltacat_sources.daft.source`), and read by Daft's own Parquet reader wherever that gives exactly
the table's rows (`deltacat_sources.daft.tasks`).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import daft
from daft.io.source import DataSource, DataSourceTask

from deltacat_sources.daft.predicate import to_daft
from deltacat_sources.daft.source import TableSource
from deltacat_sources.opening import check_plan, open_scan
from io_core.errors import UnsupportedError
from io_core.predicate import bind, parse
from io_core.schema import check_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from daft.io import IOConfig

    from io_core.model import TableRef
    from io_core.plan import ReadPlan
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["read_deltacat"]


def _probe() -> None:
    needed = {"pushdowns", "num_rows", "size_bytes", "storage_config", "iceberg_delete_files"}
    missing = needed - inspect.signature(DataSourceTask.parquet).parameters.keys()
    if not hasattr(DataSource, "supports_count_pushdown"):
        missing.add("supports_count_pushdown")
    if missing:
        raise UnsupportedError(
            f"daft {daft.__version__}: its data sources lack {', '.join(sorted(missing))}; "
            "install daft>=0.7.26,<0.8"
        )


_probe()


def read_deltacat(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    as_of: int | None = None,
    table_version: str | None = None,
    transaction: Transaction | None = None,
    plan: ReadPlan | None = None,
    columns: Sequence[str] | None = None,
    predicate: Mapping[str, object] | None = None,
    changes_since: int | None = None,
    io_config: IOConfig | None = None,
) -> daft.DataFrame:
    """Lazily read a table.

    Makes one small call to the planner, for the schema and the snapshot: the frame shows that one
    snapshot however often it is used. The files are planned when a query runs, with its filters,
    its columns and its limit, once per distinct query. `count_rows()` opens no file, unless rows have
    to be merged to be counted. `explain(show_all=True)` shows what was pushed and which files are left.

    Daft's filters mean what Daft means, over files: its reader skips row groups by footers that
    leave NaN out, so that `x > 5` can miss NaN. `predicate` does not.

    Args:
        table: `"namespace.table"`.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.
        table_version: A version of the table; None means the latest active one.
        transaction: Show what this open transaction of the planner's sees, also what it does later.
        plan: Read the files of a plan that was made before, here or elsewhere; no planner is asked.
        columns: The frame's columns, in order; None means all.
        predicate: Rows to keep, as the planner's JSON tree, such as `{"gt": ["x", 3]}`; in this
            project's meaning (NaN above all numbers, nulls ignored in lists), before `columns`. Daft
            hands a source no predicate with a function, such as `startswith`: said here, it prunes.
        changes_since: A snapshot: show only rows of files that were added after it; see "Changes" in
            docs/semantics.md.
        io_config: How Daft's own reader reaches a store, instead of what the plan says: its keys are
            then not renewed, and files are not looked at before they are read.

    Raises:
        NotFoundError: No such namespace, table or version.
        SchemaValidationError: An unknown column.
        PredicateError: The predicate is malformed or does not fit the schema.
        TransactionError: The transaction is closed, or `as_of` is given too.
        UnsupportedError: A column of a type that Daft cannot hold.
        CatalogRootError: `planner` is a directory and no catalog.
        ValueError: `plan` is given together with what chooses another, or is of another table.
        DataFileError: When a query runs: a file is missing or has another size.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> _ = client.catalog.create_namespace(namespace="air")
        >>> months = pa.table({"month": [1, 2]})
        >>> _ = client.catalog.write(months, namespace="air", table="flights", mode="auto")
        >>> flights = read_deltacat("air.flights", planner=client)
        >>> flights.where(daft.col("month") == 1).to_pydict()
        {'month': [1]}
    """
    if plan is None:
        scan, header = open_scan(
            table,
            planner=planner,
            as_of=as_of,
            table_version=table_version,
            columns=columns,
            predicate=predicate,
            transaction=transaction,
            since=changes_since,
        )
        source, own = TableSource(scan, header, io_config), scan.predicate
    else:
        check_plan(plan, table, (planner, as_of, table_version, transaction, changes_since))
        check_columns(columns or (), plan.schema)
        source, own = TableSource(None, plan, io_config), parse(predicate)
    frame = source.read()
    if own is not None:
        frame = frame.where(to_daft(bind(own, source.arrow_schema)))
    return frame if columns is None else frame.select(*columns)
