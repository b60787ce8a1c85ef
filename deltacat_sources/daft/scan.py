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

from deltacat_sources.daft.expression import to_daft
from deltacat_sources.daft.source import TableSource
from deltacat_sources.opening import check_plan, open_scan
from io_core.errors import UnsupportedError
from io_core.predicate import bind
from io_core.predicate_like import as_predicate
from io_core.schema import check_columns
from planner_client.given import listed

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from daft.io import IOConfig

    from io_core.model import TableRef
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate
    from io_core.predicate_like import PredicateLike
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["read_deltacat"]


def _probe() -> None:
    needed = {"pushdowns", "num_rows", "size_bytes", "storage_config"}
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
    predicate: PredicateLike | None = None,
    changes_since: int | None = None,
    io_config: IOConfig | None = None,
) -> daft.DataFrame:
    """Lazily read a table, as it is at one snapshot; see docs/engines.md.

    Makes one small call to the planner; the files are planned when a query runs, with its filters, its
    columns and its limit. Daft's filters mean what Daft means: over files they can miss NaN.

    Args:
        table: `"namespace.table"`.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.
        table_version: A version of the table; None means the latest active one.
        transaction: Show what this open transaction of the planner's sees, also what it does later.
        plan: Read the files of a plan that was made before; no planner is asked.
        columns: The frame's columns, in order; None means all.
        predicate: Rows to keep, as JSON `{"gt": ["x", 3]}`, SQL `"x > 3"` or a pyarrow expression; in this
            project's meaning, before `columns`. Daft hands a source no predicate with a function,
            such as `startswith`: said here, it prunes.
        changes_since: A snapshot: show only rows of files that were added after it.
        io_config: How Daft's own reader reaches a store, instead of what the plan says.

    Raises:
        DeltaCATError: What `open_scan` raises; and when a query runs, `DataFileError` for a file
            that is missing or has another size.
        ValueError: `plan` is given together with what chooses another, or is of another table.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> made = client.catalog.write(pa.table({"n": [1, 2]}), namespace="air", table="t")
        >>> read_deltacat("air.t", planner=client).where(daft.col("n") == 1).to_pydict()
        {'n': [1]}
    """
    if plan is not None:
        check_plan(plan, table, (planner, as_of, table_version, transaction, changes_since))
        check_columns(listed("columns", columns, str) or (), plan.schema)
        return _shown(TableSource(None, plan, io_config), as_predicate(predicate), columns)
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
    return _shown(TableSource(scan, header, io_config), scan.predicate, columns)


def _shown(
    source: TableSource, predicate: Predicate | None, columns: Sequence[str] | None
) -> daft.DataFrame:
    frame = source.read()
    if predicate is not None:
        frame = frame.where(to_daft(bind(predicate, source.arrow_schema)))
    return frame if columns is None else frame.select(*columns)
