"""How Polars reads a table: a frame that asks the planner for files when its query is resolved.

The frame's own reader is Polars': a plan whose rows need no merge becomes one `scan_parquet`, so
projection, remaining filters and slices go on into Polars' Parquet reader. A plan whose rows merge
by key is read partition by partition through Arrow, lazily.

Types are those of Polars: seconds become milliseconds, `time32` and `time64` become Time, `date64`
becomes Datetime in milliseconds, a dictionary of text becomes Categorical. A column that Polars
cannot hold is refused when the frame is built.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from deltacat_sources.opening import open_scan
from deltacat_sources.polars.predicate import from_predicate, translate
from io_core.errors import UnsupportedError
from io_core.execute import execute
from io_core.predicate import admissible, bind, columns_of
from io_core.schema import needs_alignment
from io_core.storage import check_files, local_path

try:
    from polars.lazyframe.resolver import LazyFrameResolver
except ImportError as error:
    raise UnsupportedError(
        f"polars {pl.__version__} has no LazyFrameResolver: install polars>=2.1,<2.2"
    ) from error

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from polars.lazyframe.resolver import FilterExpr

    from io_core.model import TableRef
    from io_core.plan import ReadPlan
    from io_core.scan import Scan
    from planner_client import Client

__all__ = ["polars_schema", "read_deltacat", "scan_deltacat"]

# What is relied on, beside the resolver itself; Polars marks both as unstable.
_SCAN_ARGUMENTS = {
    "schema",
    "glob",
    "hive_partitioning",
    "missing_columns",
    "extra_columns",
    "cast_options",
}
_RESOLVER_ARGUMENTS = {"projection", "limit", "filters", "filter_columns"}


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
    columns: Sequence[str] | None = None,
    predicate: Mapping[str, object] | None = None,
) -> pl.LazyFrame:
    """Lazily read a table.

    Makes one small call to the planner, for the schema and the snapshot: the frame shows that one
    snapshot however often and in however many places of a query it is used. The files are planned
    when a query runs, with its filters, its projection and its limit. Rows come in the table's
    order. The frame serialises (with cloudpickle) and holds no open file.

    Args:
        table: `"namespace.table"`.
        planner: A client, a URL or a catalog's directory; None means `DELTACAT_PLANNER`.
        as_of: Nanoseconds since the epoch: what was committed strictly before then.
        table_version: A version of the table; None means the latest active one.
        columns: The frame's columns, in order; None means all.
        predicate: Rows to keep, as the planner's JSON tree, such as `{"gt": ["x", 3]}`; in this
            project's meaning (NaN above all numbers, nulls ignored in lists), before `columns`.

    Raises:
        NotFoundError: No such namespace, table or version.
        SchemaValidationError: An unknown column.
        PredicateError: The predicate is malformed or does not fit the schema.
        UnsupportedError: A column of a type that Polars cannot hold.
        CatalogRootError: `planner` is a directory and no catalog.
        DataFileError: When a query runs: a file is missing or damaged.

    Example:
        >>> import tempfile
        >>> from planner_client import Client
        >>> client = Client(tempfile.mkdtemp())
        >>> made = client.catalog.write(
        ...     pa.table({"month": [1, 2], "origin": ["JFK", "EWR"]}), namespace="air", table="flights"
        ... )
        >>> flights = scan_deltacat("air.flights", planner=client)
        >>> flights.filter(pl.col("month") == 1).collect()["origin"].to_list()
        ['JFK']
    """
    scan, header = open_scan(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        columns=columns,
        predicate=predicate,
    )
    schema = header.schema
    frame = _Resolver(scan, schema, merges=header.requires_merge).lazy()
    if scan.predicate is not None:
        frame = frame.filter(from_predicate(bind(scan.predicate, schema), schema))
    return frame if columns is None else frame.select(columns)


def read_deltacat(
    table: str | TableRef,
    *,
    planner: Client | str | os.PathLike[str] | None = None,
    as_of: int | None = None,
    table_version: str | None = None,
    columns: Sequence[str] | None = None,
    predicate: Mapping[str, object] | None = None,
) -> pl.DataFrame:
    """Read a table into memory: `scan_deltacat`, collected."""
    return scan_deltacat(
        table,
        planner=planner,
        as_of=as_of,
        table_version=table_version,
        columns=columns,
        predicate=predicate,
    ).collect()


def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The Polars types of a table's columns: those that its rows have when they are read.

    Raises:
        UnsupportedError: A column of a type that Polars cannot hold; names it.

    Example:
        >>> polars_schema(pa.schema([("at", pa.timestamp("s"))]))
        Schema([('at', Datetime(time_unit='ms', time_zone=None))])
    """
    for field in schema:
        if not _is_representable(field.type):
            raise UnsupportedError(
                f"column {field.name!r} is of type {field.type}, which Polars cannot hold; "
                "read the table with client.catalog.read(columns=...) instead"
            )
    frame = pl.from_arrow(schema.remove_metadata().empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.schema


def _is_representable(dtype: pa.DataType) -> bool:
    t = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        return False
    if t.is_decimal256(dtype) or t.is_interval(dtype) or t.is_union(dtype):
        return False
    if t.is_run_end_encoded(dtype) or t.is_list_view(dtype) or t.is_large_list_view(dtype):
        return False
    return all(_is_representable(dtype.field(i).type) for i in range(dtype.num_fields))


class _Resolver(LazyFrameResolver):
    """A table at one snapshot; plans when Polars resolves a query."""

    def __init__(self, scan: Scan, schema: pa.Schema, *, merges: bool) -> None:
        self._scan = scan
        self._arrow_schema = schema
        self._schema = polars_schema(schema)
        self._merges = merges

    def schema(self) -> dict[str, pl.DataType]:
        """The whole table's schema; projection comes with the query."""
        return dict(self._schema)

    def resolve_lazyframe(
        self,
        *,
        projection: list[str] | None,
        limit: int | None,
        filters: list[FilterExpr],
        filter_columns: list[str],
        **_: object,
    ) -> pl.LazyFrame:
        """Plan the query's files and hand them to a reader. Polars applies the filters again."""
        predicate = admissible(
            (translate(f.expr, self._arrow_schema) for f in filters), self._arrow_schema
        )
        needed = None
        if projection is not None:
            own = columns_of(self._scan.predicate)
            needed = list(dict.fromkeys([*projection, *filter_columns, *own])) or None
        # The planner counts rows before filters and merges.
        row_limit = None if filters or self._merges else limit
        plan = self._scan.narrowed(columns=needed, predicate=predicate, row_limit=row_limit).plan()
        return _frame_of(plan, self._schema)


def _frame_of(plan: ReadPlan, schema: pl.Schema) -> pl.LazyFrame:
    if not plan.files.num_rows:
        return pl.LazyFrame(schema=schema)
    odd = set(plan.column("content_type")) - {"parquet"}
    if odd:
        raise UnsupportedError(f"{plan!r} lists files of type {', '.join(sorted(odd))}")
    check_files(plan)
    # Polars' own reader inserts nulls alone where an older file lacks a column.
    if plan.requires_merge or needs_alignment(plan.schema):
        verb = "merge" if plan.requires_merge else "align"
        return register_io_source(
            _ArrowRows(plan), schema=schema, explain_name=f"{verb} {plan.header.table}"
        )
    return pl.scan_parquet(
        [local_path(path) for path in plan.paths],
        schema=schema,
        glob=False,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(
            integer_cast="upcast",
            float_cast="upcast",
            datetime_cast="upcast",
            missing_struct_fields="insert",
            extra_struct_fields="ignore",
            categorical_to_string="allow",
        ),
    )


class _ArrowRows:
    """Yields a plan's rows, a file or merged partition at a time, as Polars asks for them."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan

    def __call__(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        """One frame per file or partition. Polars means `n_rows` to count before `predicate`."""
        for rows in execute(self._plan, columns=with_columns, row_limit=n_rows):
            frame = pl.from_arrow(rows)
            assert isinstance(frame, pl.DataFrame)
            yield frame if predicate is None else frame.filter(predicate)
