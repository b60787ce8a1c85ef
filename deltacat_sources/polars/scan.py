"""How Polars reads a table: a frame that asks the planner for files when its query is resolved.

The frame's own readers are Polars', wherever they give exactly the table's rows
(`deltacat_sources.polars.frames`): projection, remaining filters and slices go on into them.

Types are those of Polars (docs/types.md). A column that Polars cannot hold is refused when the
frame is built.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import polars as pl

from deltacat_sources.opening import check_plan, open_scan
from deltacat_sources.polars.expression import from_predicate
from deltacat_sources.polars.origin import Origin, note_origin
from deltacat_sources.polars.resolver import LazyFrameResolver, Resolver
from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.predicate import bind
from io_core.predicate_like import as_predicate
from io_core.schema import check_columns

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pyarrow as pa

    from io_core.model import TableRef
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate
    from io_core.predicate_like import PredicateLike
    from planner_client import Client
    from planner_client.transaction import Transaction

__all__ = ["read_deltacat", "scan_deltacat"]

# What is relied on, beside the resolver itself; Polars marks both as unstable.
_SCAN_ARGUMENTS = {
    "schema",
    "glob",
    "hive_partitioning",
    "missing_columns",
    "extra_columns",
    "cast_options",
    "row_index_name",
    "include_file_paths",
}
_RESOLVER_ARGUMENTS = {
    "projection",
    "limit",
    "filters",
    "filter_columns",
    "existing_resolved_version_key",
}


def _probe() -> None:
    for function, needed in (
        (pl.scan_parquet, _SCAN_ARGUMENTS),
        (LazyFrameResolver.resolve_lazyframe, _RESOLVER_ARGUMENTS),
    ):
        missing = needed - inspect.signature(function).parameters.keys()
        if missing:
            raise UnsupportedError(
                f"polars {pl.__version__}: {function.__qualname__} lacks {', '.join(sorted(missing))}; "
                "install polars>=2.1,<2.2"
            )


_probe()


def scan_deltacat(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    as_of: int | None = None,
    table_version: str | None = None,
    transaction: Transaction | None = None,
    plan: ReadPlan | None = None,
    columns: Sequence[str] | None = None,
    predicate: PredicateLike | None = None,
    row_index_name: str | None = None,
    include_file_paths: str | None = None,
    changes_since: int | None = None,
) -> pl.LazyFrame:
    """Lazily read a table, in its order.

    Makes one small call to the planner, for the schema and the snapshot: the frame shows that one
    snapshot however often and in however many places of a query it is used. Files are planned when
    a query runs, with its filters, its projection and its limit; several tables of one query at the
    same time. The frame serialises (with cloudpickle) and holds no open file. See docs/polars.md.

    Args:
        table: `"namespace.table"`.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.
        table_version: A version of the table; None means the latest active one.
        transaction: Show what this open transaction of the planner's sees, also what it does later.
        plan: Read the files of a plan (or page of one) made before; no planner is asked.
        columns: The frame's columns, in order; None means all.
        predicate: Rows to keep, as JSON `{"gt": ["x", 3]}`, SQL `"x > 3"` or a pyarrow expression; in this
            project's meaning (NaN above all numbers, nulls ignored in lists), before `columns`.
        row_index_name: Add a first column that numbers the frame's rows, from 0. A query's filters
            are then not pushed, since they would change the numbers; `predicate` is.
        include_file_paths: Add a last column with each row's file.
        changes_since: A snapshot: show only rows of files that were added after it.

    Raises:
        NotFoundError: No such namespace, table or version.
        SchemaValidationError: An unknown column, or a name that a column has already.
        PredicateError: The predicate is malformed or does not fit the schema.
        UnsupportedError: A column of a type that Polars cannot hold.
        ValueError: `plan` is given together with what chooses another, or is of another table.
        DataFileError: When a query runs: a file is missing or damaged.
    """
    chosen = (planner, as_of, table_version, transaction, changes_since)
    opened = _opened(table, chosen, plan, columns, predicate)
    return _framed(opened, columns, row_index_name, include_file_paths)


class _Opened(NamedTuple):
    """Where rows come from, the table's header, and the predicate, unbound."""

    origin: Origin
    header: ReadPlan
    predicate: Predicate | None


_Chosen: TypeAlias = """tuple[
    Client | str | os.PathLike[str] | None, int | None, str | None, Transaction | None, int | None
]"""


def _opened(
    table: str | TableRef,
    chosen: _Chosen,
    plan: ReadPlan | None,
    columns: Sequence[str] | None,
    predicate: PredicateLike | None,
) -> _Opened:
    if plan is not None:
        check_plan(plan, table, chosen)
        check_columns(columns or (), plan.schema)
        return _Opened(Origin(None, plan), plan, as_predicate(predicate))
    planner, as_of, table_version, transaction, since = chosen
    scan, header = open_scan(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        columns=columns,
        predicate=predicate,
        transaction=transaction,
        since=since,
    )
    return _Opened(Origin(scan), header, scan.predicate)


def _framed(
    opened: _Opened,
    columns: Sequence[str] | None,
    row_index_name: str | None,
    include_file_paths: str | None,
) -> pl.LazyFrame:
    origin, header, own = opened
    _check_added(header.schema, row_index_name, include_file_paths)
    frame = Resolver(origin, header, path_column=include_file_paths).frame()
    if own is not None:
        frame = frame.filter(from_predicate(bind(own, header.schema), header.schema))
    if columns is not None:
        frame = frame.select(*columns, *([include_file_paths] if include_file_paths else []))
    if row_index_name is not None:
        frame = frame.with_row_index(row_index_name)
    if origin.plan is None or own is None:
        note_origin(frame, origin)
    return frame


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
    row_index_name: str | None = None,
    include_file_paths: str | None = None,
    changes_since: int | None = None,
) -> pl.DataFrame:
    """Read a table into memory: `scan_deltacat`, collected.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> rows = pa.table({"month": [1, 2], "origin": ["JFK", "EWR"]})
        >>> made = client.catalog.write(rows, namespace="air", table="flights")
        >>> january = {"eq": ["month", 1]}
        >>> read_deltacat("air.flights", planner=client, predicate=january)["origin"].to_list()
        ['JFK']
    """
    return scan_deltacat(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        transaction=transaction,
        plan=plan,
        columns=columns,
        predicate=predicate,
        row_index_name=row_index_name,
        include_file_paths=include_file_paths,
        changes_since=changes_since,
    ).collect()


def _check_added(schema: pa.Schema, *names: str | None) -> None:
    added = [name for name in names if name is not None]
    for name in added:
        if name in schema.names or added.count(name) > 1:
            raise SchemaValidationError(f"there is a column {name!r} already: use another name")
