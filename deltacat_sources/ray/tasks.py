"""What does one task read, and how are the files of a plan packed into tasks?

A task gets files that follow each other, about 128 MiB of decoded rows. Files whose rows merge by key
stay together by partition; where all of a partition's dead rows are known, each of its files is read
by itself. Parquet files that are larger than a task are divided by rows, where their row groups begin
if this project wrote them.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray

from io_core import deletes
from io_core.formats.content import content_type_of
from io_core.formats.parquet import ROW_GROUP_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray.data.expressions import Expr

    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = [
    "TASKS_PER_CPU",
    "Share",
    "decoded_bytes",
    "first_rows",
    "living_rows",
    "most_tasks",
    "narrowest",
    "without_gone",
]

_Integers = npt.NDArray[np.int64]

# What a task should hold in memory, as Ray's blocks do by default; less where there are many
# workers for few bytes.
_TARGET_BYTES = 128 * 2**20
_LEAST_BYTES = 32 * 2**20
# Of a table that makes more, the tasks are larger: each costs its driver, and gives blocks as it reads.
TASKS_PER_CPU = 16
# Decoded bytes per byte of Parquet, where rows times the width of their columns say less.
_EXPANSION = 3
# What opening a file costs, as the bytes that could have been decoded meanwhile.
_OPEN_BYTES = 256 * 2**10


class Share(NamedTuple):
    """What one task reads. Carries its files only, and pickles small.

    Rows have to pass `predicate`, which the plan's `residual` speaks for, and Ray's `expr`, which
    it does not. `needed` are the columns to read for `columns` and `expr`; `limit` is the most rows
    to return.
    """

    plan: ReadPlan
    columns: tuple[str, ...]
    needed: tuple[str, ...]
    predicate: Predicate | None
    expr: Expr | None
    limit: int | None = None

    def divided(self, parallelism: int) -> list[Share]:
        """The same rows in the same order, as several tasks; about so many, and at least one."""
        least = 2 * _cpus()
        target = _TARGET_BYTES
        if parallelism >= least:
            total = int(self.decoded_bytes().sum())
            target = min(max(total // least, _LEAST_BYTES), _TARGET_BYTES)
        whole = self if parallelism == 1 else self._with_parts(target)
        cuts = _cuts(whole.plan, whole.decoded_bytes(), parallelism, target)
        return [
            self._replace(plan=whole.plan.with_files(whole.plan.files.slice(start, end - start)))
            for start, end in itertools.pairwise(cuts)
        ]

    def decoded_bytes(self) -> _Integers:
        """Bytes in memory of what is read of each file, shape (files,): an estimate."""
        columns = ("content_length", "record_count")
        stored, rows = (self.plan.files.column(name).to_numpy() for name in columns)
        whole = decoded_bytes(self.plan.schema, self.needed, stored, rows)
        parts: _Integers = whole * _listed_rows(self.plan) // np.maximum(rows, 1)
        return parts

    def runs(self) -> Iterator[tuple[ReadPlan, bool]]:
        """Consecutive files, and whether every living row of them is known to be in the result."""
        if self.expr is not None or self.predicate is None or _merging(self.plan).any():
            yield self.plan, self.expr is None and self.predicate is None
            return
        files, start = self.plan.files, 0
        for residual, run in itertools.groupby(files.column("residual").to_pylist()):
            length = sum(1 for _ in run)
            yield self.plan.with_files(files.slice(start, length)), residual is False
            start += length

    def row_count(self) -> int | None:
        """Rows in the result, where no file needs to be opened to know."""
        rows = 0
        for plan, certain in self.runs():
            living = living_rows(plan) if certain else None
            if living is None:
                return None
            rows += living
        return rows if self.limit is None else min(rows, self.limit)

    def _with_parts(self, target: int) -> Share:
        """With large Parquet files as several parts of about the target's size."""
        sizes, free = self.decoded_bytes(), ~_merging(self.plan)
        parts = []
        for i in np.flatnonzero(free & (sizes > 3 * target // 2)).tolist():
            file = self.plan.files.slice(i, 1).to_pylist()[0]
            if _is_divisible(file):
                bounds = _bounds(file["record_count"], math.ceil(sizes[i] / target))
                parts.append((i, bounds))
        if not parts:
            return self
        return self._replace(plan=_divided(self.plan, dict(parts)))


def living_rows(plan: ReadPlan) -> int | None:
    """Rows of the files of a plan, without dead ones; None where a merge has to find those."""
    if _merging(plan).any():
        return None
    rows = _listed_rows(plan)
    if not plan.requires_merge:
        return int(rows.sum())
    found = int(rows[_is_data(plan)].sum())
    for file in _with_dead(plan).to_pylist():
        if file.get("first_row") is None:
            found -= deletes.count(file["deletes"])
        else:
            mask = deletes.live_mask(file["deletes"], file["record_count"])
            found -= int((~mask[file["first_row"] : file["end_row"]]).sum())
    return found


def without_gone(plan: ReadPlan) -> ReadPlan:
    """A plan without files that have no row left: where dead rows are known, delete files too."""
    if not plan.requires_merge or not plan.files.num_rows:
        return plan
    data = _is_data(plan)
    keep = _merging(plan) | data
    held = plan.files.column("deletes")
    for i in np.flatnonzero(keep & data & (pc.binary_length(held).fill_null(0).to_numpy() > 0)):
        keep[i] = deletes.count(held[i].as_py()) < plan.files.column("record_count")[i].as_py()
    return plan.with_files(plan.files.filter(pa.array(keep)))


def first_rows(shares: list[Share], limit: int) -> list[Share]:
    """The shares that hold the first `limit` rows, each with its part of them; all are counted."""
    kept = []
    for share in shares:
        part = min(limit, share.row_count() or 0)
        kept.append(share._replace(limit=part))
        limit -= part
        if not limit:
            break
    return kept


def most_tasks(least: int) -> int:
    """How many tasks a read is divided into at most: `least`, or more where the cluster is large."""
    return max(least, TASKS_PER_CPU * _cpus())


def decoded_bytes(
    schema: pa.Schema, columns: Sequence[str], stored: _Integers, rows: _Integers
) -> _Integers:
    """Bytes in memory of some columns of each file, from its bytes on disk and its rows; shape (files,)."""
    share = len(columns) / max(1, len(schema))
    width = _fixed_width(schema, columns)
    decoded: _Integers = np.maximum(stored * _EXPANSION * share, rows * width).astype(np.int64)
    return decoded


def narrowest(schema: pa.Schema) -> str:
    """A column that is cheap to read when only the number of rows is asked for."""
    names: list[str] = schema.names
    return min(names, key=lambda name: _fixed_width(schema, [name]) or math.inf)


def _fixed_width(schema: pa.Schema, columns: Sequence[str]) -> float:
    """Bytes per row of those columns whose values all have one width."""
    width = 0.0
    for name in columns:
        try:
            width += schema.field(name).type.bit_width / 8
        except ValueError:  # text, binary and nested values have none
            continue
    return width


def _listed_rows(plan: ReadPlan) -> _Integers:
    """Rows to read of each file, dead ones too; shape (files,)."""
    rows: _Integers = plan.files.column("record_count").to_numpy()
    if "first_row" not in plan.files.column_names:
        return rows
    part = pc.subtract(plan.files.column("end_row"), plan.files.column("first_row"))
    listed: _Integers = pc.coalesce(part, plan.files.column("record_count")).to_numpy()
    return listed


def _is_data(plan: ReadPlan) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.not_equal(
        plan.files.column("delta_type"), "delete"
    ).to_numpy()
    return found


def _with_dead(plan: ReadPlan) -> pa.Table:
    """The files with dead rows that are known: what tells which."""
    names = ("record_count", "deletes", "first_row", "end_row")
    files = plan.files.select([n for n in names if n in plan.files.column_names])
    some = pc.greater(pc.binary_length(files.column("deletes")), 0)
    return files.filter(pc.and_(some.fill_null(False), pa.array(_is_data(plan))))


def _groups(plan: ReadPlan) -> _Integers:
    """The number of each file's partition, in order; shape (files,)."""
    ids = plan.files.column("partition_id").combine_chunks().dictionary_encode().indices.to_numpy()
    found: _Integers = np.cumsum(np.diff(ids, prepend=ids[:1]) != 0)
    return found


def _merging(plan: ReadPlan) -> npt.NDArray[np.bool_]:
    """Of each file whether its rows merge by key with those of others; shape (files,)."""
    if not plan.requires_merge or not plan.files.num_rows:
        return np.zeros(plan.files.num_rows, np.bool_)
    unknown = plan.files.column("deletes").is_null().to_numpy() & _is_data(plan)
    groups = _groups(plan)
    merging: npt.NDArray[np.bool_] = np.bincount(groups, weights=unknown)[groups] > 0
    return merging


# Any: one row of a plan's table of files.
def _is_divisible(file: dict[str, object]) -> bool:
    encoding = file["content_encoding"]
    is_parquet = content_type_of(str(file["content_type"])).name == "parquet"
    return is_parquet and encoding in (None, "identity")


def _bounds(rows: int, count: int) -> list[int]:
    """Where to divide a file into parts, at row groups as this project writes them."""
    wanted = (rows * i / count for i in range(1, count))
    inner = {round(at / ROW_GROUP_ROWS) * ROW_GROUP_ROWS for at in wanted}
    return [0, *sorted(at for at in inner if 0 < at < rows), rows]


def _divided(plan: ReadPlan, parts: dict[int, list[int]]) -> ReadPlan:
    """A plan whose files at some places are divided at bounds; the others are read whole."""
    places: list[int] = []
    firsts: list[int | None] = []
    ends: list[int | None] = []
    for i in range(plan.files.num_rows):
        for start, end in itertools.pairwise(parts[i]) if i in parts else [(None, None)]:
            places.append(i)
            firsts.append(start)
            ends.append(end)
    files = plan.files.take(pa.array(places))
    files = files.append_column("first_row", pa.array(firsts, pa.int64()))
    return plan.with_files(files.append_column("end_row", pa.array(ends, pa.int64())))


def _cuts(plan: ReadPlan, sizes: _Integers, parallelism: int, target: int) -> list[int]:
    """Where to cut the files into tasks of about equal bytes, in order; merge groups stay whole.

    Begins with 0, ends with the number of files.
    """
    begins = np.ones(plan.files.num_rows, np.bool_)
    merging = _merging(plan)
    if merging.any():
        begins = ~merging | (np.diff(_groups(plan), prepend=-1) != 0)
    starts = np.flatnonzero(begins)
    costs = np.add.reduceat(sizes + _OPEN_BYTES, starts)
    total = int(costs.sum())
    least = 2 * _cpus()
    count = min(parallelism, max(math.ceil(total / target), least))
    middles = np.cumsum(costs) - costs / 2
    tasks = (middles / total * count).astype(np.int64)
    firsts = np.flatnonzero(np.diff(tasks, prepend=-1))
    if parallelism >= least:
        # A task's output waits until a block is full: short tasks at first, of 1, 2, 4, ... files,
        # let Dataset.limit stop after a few (ray 2.60 does not push it into a datasource).
        ramp = 2 ** np.arange(32) - 1
        firsts = np.union1d(firsts, ramp[ramp < np.append(firsts, len(costs))[1]])
    return [*(int(starts[i]) for i in firsts), plan.files.num_rows]


def _cpus() -> int:
    return int(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1
