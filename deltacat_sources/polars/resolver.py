"""What of a query reaches the planner, and when? A resolver that Polars asks for a table's rows.

Polars asks once per table and query, from several threads at once where there are several tables: with
the filters, the columns and the limit that its optimiser has pushed down. The answer is an ordinary lazy
frame, which Polars goes on optimising; it applies all filters again, so that planning may only widen.
"""

from __future__ import annotations

import functools
import io
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import msgspec
import polars as pl

from deltacat_sources.polars.frames import Reading, frame_of
from deltacat_sources.polars.names import ROWS, below, lowered, raised, shown
from deltacat_sources.polars.origin import Origin, proven_rows
from deltacat_sources.polars.remembered import said
from deltacat_sources.polars.types import polars_schema
from io_core.errors import UnsupportedError
from io_core.predicate import Constant, bind, columns_of, conjoin, restrict
from io_core.schema import decode_schema

try:
    from polars.lazyframe.resolver import LazyFrameResolver, ResolvedLazyFrameProps
except ImportError as error:
    raise UnsupportedError(
        f"polars {pl.__version__} has no LazyFrameResolver: install polars>=2.1,<2.2"
    ) from error

if TYPE_CHECKING:
    from polars.lazyframe.resolver import FilterExpr

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["LazyFrameResolver", "Pushdown", "Resolution", "Resolver", "observed"]


class Pushdown(NamedTuple):
    """What Polars pushed down to one table.

    Attributes:
        filters: One conjunct each.
        translated: What each says to the planner; None for nothing, and the filter stays.
        columns: Names of the columns that are used; None means all.
        limit: Rows; None means all.
        row_limit: The part of the limit that the planner was told; None where rows are filtered or
            merged before they are counted.
        counted: How many rows there are, where a query wants nothing else and a plan proves it: then
            no file is opened.
    """

    filters: tuple[pl.Expr, ...] = ()
    translated: tuple[Predicate | None, ...] = ()
    columns: tuple[str, ...] | None = None
    limit: int | None = None
    row_limit: int | None = None
    counted: int | None = None


class Resolution(NamedTuple):
    """One table's part of a query: what was pushed down, and what was planned for it."""

    pushdown: Pushdown
    plan: ReadPlan


class _Copying(threading.local):
    """What a thread copies frames with: resolvers stand in a copy by their place in `held`."""

    held: list[Resolver] | None = None
    noted: list[Resolution] | None = None


_COPYING = _Copying()


def observed(frame: pl.LazyFrame) -> tuple[pl.LazyFrame, list[Resolution]]:
    """A copy of a frame, and a list to which its tables add how they are resolved, planned anew.

    A copy, since Polars resolves in threads of its own: nothing else tells one query from another.

    Raises:
        UnsupportedError: A part of the query, such as a function, cannot be copied.
    """
    held: list[Resolver] = []
    noted: list[Resolution] = []
    _COPYING.held, _COPYING.noted = held, noted
    try:
        copied = pl.LazyFrame.deserialize(io.BytesIO(frame.serialize()))
    except (pl.exceptions.PolarsError, pickle.PickleError, TypeError, AttributeError) as error:
        raise UnsupportedError(
            f"the query cannot be copied to look at what is planned for it: {error}; "
            "ask of the frame before that part"
        ) from error
    finally:
        _COPYING.held = _COPYING.noted = None
    return copied, noted


def _copy(place: int) -> Resolver:
    assert _COPYING.held is not None
    found = Resolver.__new__(Resolver)
    vars(found).update(vars(_COPYING.held[place]), _noted=_COPYING.noted)
    return found


class Resolver(LazyFrameResolver):
    """A table as a scan shows it, or the files of a plan that was made before. Pickles with either.

    Args:
        origin: A pinned scan, whose predicate stands above the frame and is known to the planner from
            here; or a plan.
        header: The table's header, as pinning returned it, or the plan itself.
        path_column: The name under which each row's file is shown.
    """

    def __init__(
        self,
        origin: Origin,
        header: ReadPlan,
        *,
        path_column: str | None = None,
    ) -> None:
        self._scan, self._plan = origin
        self._noted: list[Resolution] | None = None
        self._path_column = path_column
        self._header = header
        if header.files.num_rows:
            self._header = header.with_files(header.files.slice(0, 0))
        self._schema = _shape(header.header.schema_serialized or "", path_column)
        self._keys = header.merge_keys
        self._merges = header.requires_merge

    def frame(self) -> pl.LazyFrame:
        """The table's columns, lazily.

        Below them the resolver has one more, of nulls: where no column is used, as by `pl.len()`, Polars
        asks for the first one, and only this tells it from a query that wants that column.
        """
        return raised(self.lazy(), self._schema)

    # Any: what pickle takes.
    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Travel with the planner; in a copy that `observed` makes, stand for itself."""
        if _COPYING.held is None:
            return super().__reduce_ex__(protocol)
        _COPYING.held.append(self)
        return _copy, (len(_COPYING.held) - 1,)

    def schema(self) -> dict[str, pl.DataType]:
        """The whole table's schema behind the column of nulls; projection comes with the query."""
        return {ROWS: pl.Null(), **{below(name): dtype for name, dtype in self._schema.items()}}

    def resolve_lazyframe(
        self,
        *,
        projection: list[str] | None,
        limit: int | None,
        filters: list[FilterExpr],
        filter_columns: list[str],
        existing_resolved_version_key: str | None = None,
        **_: object,
    ) -> tuple[pl.LazyFrame | None, ResolvedLazyFrameProps]:
        """Plan the query's files and hand them to readers. Polars applies the filters again."""
        if _is_fresh(existing_resolved_version_key):
            return None, ResolvedLazyFrameProps(version_key=existing_resolved_version_key)
        pushdown = self._pushed(projection, limit, filters, filter_columns)
        if pushdown.counted is not None and self._noted is None:
            found = _nulls(pushdown.counted)
            return found, ResolvedLazyFrameProps(version_key=self._version_key(self._header))
        predicate = conjoin(p for p in pushdown.translated if p is not None)
        plan = self._planned(pushdown, predicate)
        if self._noted is not None:
            self._noted.append(Resolution(pushdown, plan))
        if pushdown.counted is not None:
            frame = _nulls(pushdown.counted)
        else:
            names = self._schema if pushdown.columns is None else pushdown.columns
            frame = lowered(
                frame_of(plan, self._reading(pushdown, predicate, limit)),
                names,
                with_rows=projection is None or ROWS in projection,
            )
        return frame, ResolvedLazyFrameProps(version_key=self._version_key(plan))

    def _pushed(
        self,
        projection: list[str] | None,
        limit: int | None,
        filters: list[FilterExpr],
        filter_columns: list[str],
    ) -> Pushdown:
        columns = None
        if projection is not None:
            used = dict.fromkeys([*projection, *filter_columns])
            columns = tuple(shown(name) for name in used if name != ROWS)
        return Pushdown(
            tuple(f.expr for f in filters),
            tuple(said(f, self._header) for f in filters),
            columns,
            limit,
            # The planner counts rows before filters and merges.
            None if filters or self._merges else limit,
            self._counted(limit) if projection == [ROWS] and not filters else None,
        )

    def _planned(self, pushdown: Pushdown, predicate: Predicate | None) -> ReadPlan:
        if self._plan is not None:
            return self._plan
        assert self._scan is not None
        columns = None
        if pushdown.columns is not None:
            own = columns_of(self._scan.predicate)
            used = dict.fromkeys([*pushdown.columns, *own])
            columns = [c for c in used if c != self._path_column] or None
        narrowed = self._scan.narrowed(
            columns=columns, predicate=predicate, row_limit=pushdown.row_limit
        )
        return narrowed.plan()

    def _reading(
        self, pushdown: Pushdown, predicate: Predicate | None, limit: int | None
    ) -> Reading:
        own = None if self._scan is None else self._scan.predicate
        return Reading(
            columns=None if pushdown.columns is None else frozenset(pushdown.columns),
            filtered=bool(pushdown.filters),
            row_limit=None if pushdown.filters or own is not None else limit,
            path_column=self._path_column,
            keys=self._of_keys(conjoin([own, predicate])),
        )

    def _of_keys(self, predicate: Predicate | None) -> Predicate | None:
        """What the merge keys alone decide: it may go below a merge."""
        if predicate is None or not self._merges:
            return None
        found = restrict(bind(predicate, self._header.schema), frozenset(self._keys))
        return None if isinstance(found, Constant) else found

    def _counted(self, limit: int | None) -> int | None:
        """How many rows there are, at most so many, if a plan proves it without a file."""
        scan = self._scan
        if scan is not None and scan.predicate is not None:
            # It stands above the frame.
            scan = msgspec.structs.replace(scan, predicate=None)
        rows = proven_rows(Origin(scan, self._plan))
        return rows if rows is None or limit is None else min(rows, limit)

    def _version_key(self, plan: ReadPlan) -> str | None:
        """What Polars hands back when the frame is collected again: until when it may be reused."""
        if self._scan is None:
            return str(_ALWAYS)
        if self._scan.transaction_id is not None:
            # The transaction may have changed the table since.
            return "0"
        expires_at = plan.header.expires_at
        return str(_ALWAYS if expires_at is None else expires_at)


@functools.lru_cache(maxsize=256)
def _shape(schema_serialized: str, path_column: str | None) -> dict[str, pl.DataType]:
    """The types of a frame's columns, which frames of one schema share."""
    found = dict(polars_schema(decode_schema(schema_serialized)))
    if path_column is not None:
        found[path_column] = pl.String()
    return found


def _nulls(rows: int) -> pl.LazyFrame:
    """So many rows of nothing, which take no memory."""
    return pl.LazyFrame({ROWS: pl.Series([None], dtype=pl.Null).new_from_index(0, rows)})


# The end of the clock's range.
_ALWAYS = 2**63 - 1


def _is_fresh(version_key: str | None) -> bool:
    """Whether the files of an earlier plan of the same question are surely still there."""
    return version_key is not None and time.time_ns() < int(version_key)
