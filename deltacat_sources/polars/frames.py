"""Which lazy frame gives the rows of a plan? Polars' own readers, wherever they give them exactly.

Files of one kind that stand together become one scan; the scans of a plan stand one below the other,
in reading order. Dead rows that a plan knows are left out by a scan itself
(`deltacat_sources.polars.dead`); partitions that have to be merged by key are merged by Polars
(`deltacat_sources.polars.merging`). What remains is read through Arrow, lazily.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from polars.io.plugins import register_io_source

from deltacat_sources.polars.dead import MOST_NUMBERED, DeadRows, without_dead
from deltacat_sources.polars.lanes import ARROW, feather_fits, lane_of
from deltacat_sources.polars.merging import Partition, merged
from deltacat_sources.polars.remembered import built
from deltacat_sources.polars.scans import Files
from deltacat_sources.polars.types import polars_schema, shown
from io_core import deletes
from io_core.errors import UnsupportedError
from io_core.execute import execute
from io_core.lean_arrow import lean_array
from io_core.looked import looking_at
from io_core.storage import engine_location

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deltacat_sources.polars.lanes import Lane
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["Reading", "frame_of"]

# Of a file that are read as quickly as skipped.
_FEW_ROWS = 10_000
_KIND = ("content_type", "content_encoding", "schema_id")


class Reading(NamedTuple):
    """What a query wants of a plan.

    Attributes:
        columns: Names of the columns that it uses; None means all.
        filtered: Whether it filters rows: then other columns are best decoded late.
        row_limit: Enough rows; None where nobody knows.
        path_column: The name under which each row's file is shown.
        keys: Rows wanted, said by the merge keys alone, bound: where rows merge, others may be left
            out.
    """

    columns: frozenset[str] | None = None
    filtered: bool = False
    row_limit: int | None = None
    path_column: str | None = None
    keys: Predicate | None = None

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The table's columns that are read: one at least, by which rows are counted."""
        found = [f for f in schema if self.columns is None or f.name in self.columns]
        return pa.schema(found or [schema.field(0)])


def frame_of(plan: ReadPlan, reading: Reading) -> pl.LazyFrame:
    """The rows of a plan, in reading order. Looks at the files, and reads no row.

    Raises:
        DataFileError: A file is missing, damaged, or does not fit its delete set.
        UnsupportedError: A page of a plan whose rows merge, or files of an unknown format.
    """
    with looking_at(plan):
        return built(plan, reading, lambda: _frame_of(plan, reading))


def _frame_of(plan: ReadPlan, reading: Reading) -> pl.LazyFrame:
    parts = _Parts(plan, reading)
    frames = list(parts.frames())
    if not frames:
        return pl.LazyFrame(schema=parts.shape)
    return frames[0] if len(frames) == 1 else pl.concat(frames)


class _Parts:
    """A plan being taken apart into scans."""

    def __init__(self, plan: ReadPlan, reading: Reading) -> None:
        self._plan = plan
        self._reading = reading
        self._wanted = reading.schema(plan.schema)
        self.shape = dict(polars_schema(self._wanted))
        if reading.path_column is not None:
            self.shape[reading.path_column] = pl.String()

    def frames(self) -> Iterator[pl.LazyFrame]:
        """One frame per run of files that are read together."""
        left = self._reading.row_limit
        for run, known in _runs(self._plan):
            if not known:
                yield self._merge(run)
                continue
            files, alive = _living(run)
            kept, left = (files, None) if left is None else _limited(files, alive, left)
            yield from self._scans(kept)
            if left == 0:
                return

    def _scans(self, files: pa.Table) -> Iterator[pl.LazyFrame]:
        for lane, run in self._by_lane(files, self._wanted):
            if lane is ARROW:
                yield self._through_arrow(run)
                continue
            dead = DeadRows(
                run["record_count"].to_pylist(), run["deletes"].to_pylist(), repr(self._plan)
            )
            yield without_dead(
                self._files(run, lane),
                dead,
                filtered=self._reading.filtered,
                path_column=self._reading.path_column,
            )

    def _files(self, files: pa.Table, lane: Lane) -> Files:
        most = pc.max(files["record_count"]).as_py() or 0
        # Of rows that merge, the planner judges the keys alone.
        settled = not self._plan.requires_merge and most <= _FEW_ROWS
        return Files(files["path"].to_pylist(), lane, self._plan.storage, is_settled=settled)

    def _by_lane(self, files: pa.Table, wanted: pa.Schema) -> Iterator[tuple[Lane, pa.Table]]:
        """Files of one lane that stand together."""
        lanes = self._lanes(files, wanted)
        for lane, places in itertools.groupby(range(len(lanes)), key=lanes.__getitem__):
            start, *rest = places
            yield lane, files.slice(start, 1 + len(rest))

    def _lanes(self, files: pa.Table, wanted: pa.Schema) -> list[Lane]:
        kinds = list(zip(*(files[name].to_pylist() for name in _KIND), strict=True))
        known = {
            kind: lane_of(
                self._plan, wanted, content_type=kind[0], encoding=kind[1], schema_id=kind[2]
            )
            for kind in set(kinds)
        }
        if all(lane.reader == "parquet" for lane in known.values()):
            return [known[kind] for kind in kinds]
        storage, paths = self._plan.storage, files["path"].to_pylist()
        found = [(known[kind], path) for kind, path in zip(kinds, paths, strict=True)]
        return [
            ARROW if lane.reader == "feather" and not feather_fits(lane, path, storage) else lane
            for lane, path in found
        ]

    def _through_arrow(self, files: pa.Table) -> pl.LazyFrame:
        plan = self._plan.with_files(files)
        return register_io_source(
            _ArrowRows(plan, self._wanted.names, self._reading.path_column),
            schema=self.shape,
            explain_name=f"Arrow: {plan.header.namespace}.{plan.header.table}",
        )

    def _merge(self, files: pa.Table) -> pl.LazyFrame:
        """One partition of which nobody knows which rows are dead."""
        data = files.filter(pc.not_equal(files["delta_type"], "delete"))
        if not data.num_rows:
            return pl.LazyFrame(schema=self.shape)
        records = data["record_count"].to_pylist()
        rows = self._as_one_scan(data, self._wanted)
        if rows is None or sum(records) > MOST_NUMBERED:
            return self._merged_by_arrow(files)
        keys = pa.schema([self._plan.schema.field(key) for key in self._plan.merge_keys])
        keyed = self._as_one_scan(data, keys)
        return merged(
            Partition(self._plan.with_files(files), rows, keyed, records, self._reading.keys),
            filtered=self._reading.filtered,
            path_column=self._reading.path_column,
        )

    def _as_one_scan(self, files: pa.Table, wanted: pa.Schema) -> Files | None:
        """All of some files, if one scan of Polars' Parquet reader takes them."""
        (lane, _), *others = self._by_lane(files, wanted)
        return None if others or lane.reader != "parquet" else self._files(files, lane)

    def _merged_by_arrow(self, files: pa.Table) -> pl.LazyFrame:
        if self._reading.path_column is not None:
            raise UnsupportedError(
                f"{self._plan!r}: which file a row is from is not known of a partition that has to be "
                "merged through Arrow: leave include_file_paths out"
            )
        return self._through_arrow(files)


class _ArrowRows:
    """Yields a plan's rows, a batch of a file at a time, as Polars asks for them."""

    def __init__(self, plan: ReadPlan, columns: Sequence[str], path_column: str | None) -> None:
        self._plan = plan
        self._columns = list(columns)
        self._path_column = path_column

    def __call__(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        """Frames of rows. Polars means `n_rows` to count before `predicate`."""
        added = [] if self._path_column is None else [self._path_column]
        asked = [*self._columns, *added] if with_columns is None else with_columns
        rows = self._with_paths(n_rows) if set(asked) & set(added) else self._rows(asked, n_rows)
        for frame in rows:
            # To select nothing would lose how many rows there are.
            kept = frame.select(asked) if asked else pl.DataFrame(height=frame.height)
            yield kept if predicate is None else kept.filter(predicate)

    def _rows(self, columns: list[str], n_rows: int | None) -> Iterator[pl.DataFrame]:
        for rows in execute(self._plan, columns=columns or self._columns[:1], row_limit=n_rows):
            yield shown(rows)

    def _with_paths(self, n_rows: int | None) -> Iterator[pl.DataFrame]:
        left = n_rows
        for place, path in enumerate(self._plan.paths):
            file = self._plan.with_files(self._plan.files.slice(place, 1))
            for rows in execute(file, columns=self._columns, row_limit=left):
                left = None if left is None else left - rows.num_rows
                yield shown(rows).with_columns(
                    pl.lit(engine_location(path)).alias(self._path_column or "")
                )


def _runs(plan: ReadPlan) -> Iterator[tuple[pa.Table, bool]]:
    """Files that stand together, and whether it is known which of their rows are dead.

    Where it is not, they are one partition: all of it, or it cannot be merged.
    """
    if not plan.requires_merge:
        yield plan.files, True
        return
    groups = [(group.files, _is_known(group.files)) for group in plan.groups()]
    if plan.header.truncated and not all(known for _, known in groups):
        raise UnsupportedError(
            f"{plan!r} is one page of a table whose rows merge: plan without a page size to read it"
        )
    for known, together in itertools.groupby(groups, key=operator.itemgetter(1)):
        if known:
            yield pa.concat_tables(files for files, _ in together), True
        else:
            yield from together


def _is_known(files: pa.Table) -> bool:
    unknown = pc.and_(pc.is_null(files["deletes"]), pc.not_equal(files["delta_type"], "delete"))
    return not pc.any(unknown).as_py()


def _living(files: pa.Table) -> tuple[pa.Table, list[int]]:
    """Data files that hold rows which live, and how many."""
    sets, records = files["deletes"].to_pylist(), files["record_count"].to_pylist()
    if not any(sets) and "delete" not in files["delta_type"].to_pylist():
        return files, records
    alive = [rows - deletes.count(held or b"") for rows, held in zip(records, sets, strict=True)]
    kept = [
        i
        for i, (kind, rows) in enumerate(zip(files["delta_type"].to_pylist(), alive, strict=True))
        if rows and kind != "delete"
    ]
    return files.take(lean_array(kept, pa.int64())), [alive[i] for i in kept]


def _limited(files: pa.Table, alive: list[int], limit: int) -> tuple[pa.Table, int]:
    """The first files that hold so many rows, and how many are still wanted then."""
    for place, rows in enumerate(alive):
        limit -= min(limit, rows)
        if not limit:
            return files.slice(0, place + 1), 0
    return files, limit
