"""Which files does a made-up table have, from which every side's metadata is made?

A table of files that do not exist: one row per file, with its name, size, number of rows, partition
and the bounds and null count of four columns. Files come 100 to a day and 10 to a bucket of it,
10,000 rows each. Where the table is clustered, `id`, `value` and `time` grow with the files; where it
is not, each is shuffled across them by itself. Ten files at a time share a range of `name`, and
they are spread over the table either way.
"""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FILES_PER_COMMIT",
    "FIRST_DAY",
    "PARTITION_COLUMNS",
    "QUERIES",
    "ROWS_PER_FILE",
    "SCHEMA",
    "STATISTICS",
    "Condition",
    "Query",
    "Shape",
    "expected",
    "make_files",
]

ROWS_PER_FILE = 10_000
FILES_PER_DAY = 100
BUCKETS_PER_DAY = 10
FILES_PER_COMMIT = 10_000
FIRST_DAY = dt.date(2000, 1, 1)
PARTITION_COLUMNS = ("day", "bucket")
STATISTICS = ("id", "value", "name", "time")
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("value", pa.float64()),
        ("name", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("bucket", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Shape:
    """How many files a table has, and whether its columns follow their order."""

    files: int
    clustered: bool = True

    def __str__(self) -> str:
        return f"{self.files:,} files{'' if self.clustered else ', unclustered'}"

    @property
    def key(self) -> str:
        """A name for directories and tables."""
        return f"{'clustered' if self.clustered else 'shuffled'}_{self.files}"


def make_files(shape: Shape) -> pa.Table:
    """One row per file, in order of day and bucket; the same for the same shape.

    Its columns: `name` (32 hex digits), `size_bytes`, `rows`, `day`, `bucket`, and of each column
    in `STATISTICS` `min:<c>`, `max:<c>` and `null_count:<c>`.
    """
    n, seed = shape.files, np.random.default_rng(7)
    index = np.arange(n)
    digits = seed.bytes(16 * n).hex()
    low_id, value, moment = (
        index if shape.clustered else seed.permutation(n) for _ in ("id", "value", "time")
    )
    columns: dict[str, pa.Array] = {
        "name": pa.array([digits[i : i + 32] for i in range(0, 32 * n, 32)]),
        "size_bytes": pa.array(seed.integers(2**20, 2**26, n)),
        "rows": pa.array(np.full(n, ROWS_PER_FILE)),
        "day": pa.array(_epoch_day() + index // FILES_PER_DAY, pa.int32()).cast(pa.date32()),
        "bucket": pa.array(_buckets(index), pa.int32()),
    }
    seconds = 86_400 // FILES_PER_DAY
    began = _epoch_day() * 86_400 + moment * seconds
    bounds = {
        "id": (low_id * ROWS_PER_FILE, low_id * ROWS_PER_FILE + ROWS_PER_FILE - 1, index * 0),
        "value": (value * 1.0, value + 0.999, index % 7),
        "time": (began * 10**6, (began + seconds) * 10**6 - 1, index * 0),
    }
    for column, (low, high, nulls) in bounds.items():
        dtype = SCHEMA.field(column).type
        columns |= _statistics(column, pa.array(low).cast(dtype), pa.array(high).cast(dtype), nulls)
    groups = _group(index, n)
    low_name, high_name = ([f"name-{g:07d}-{end}" for g in groups] for end in ("aaaa", "zzzz"))
    columns |= _statistics("name", pa.array(low_name), pa.array(high_name), index % 3)
    return pa.table(columns)


def _statistics(
    column: str, low: pa.Array, high: pa.Array, nulls: npt.NDArray[np.int64]
) -> dict[str, pa.Array]:
    return {f"min:{column}": low, f"max:{column}": high, f"null_count:{column}": pa.array(nulls)}


def _epoch_day() -> int:
    return (FIRST_DAY - dt.date(1970, 1, 1)).days


def _buckets(index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return index % FILES_PER_DAY // (FILES_PER_DAY // BUCKETS_PER_DAY)


def _group(index: npt.NDArray[np.int64], files: int) -> npt.NDArray[np.int64]:
    """Which range of names a file has: ten files each, far apart, since 7919 is prime."""
    return np.asarray(index * 7919 % max(files // 10, 1))


# --- the questions ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """`column op value`, where `op` is `=`, `>=` or `<=`."""

    column: str
    op: str
    value: Any  # Any: of the column's own type


@dataclass(frozen=True)
class Query:
    """A question: its name, and the conditions that all have to hold; none for every file."""

    name: str

    def conditions(self, files: int) -> tuple[Condition, ...]:
        """For a table of so many files, about its middle."""
        return _conditions(self.name, files)


# Kept, so that no side's time holds it.
@functools.cache
def _conditions(name: str, files: int) -> tuple[Condition, ...]:
    middle = files // 2 // 10 * 10
    day = FIRST_DAY + dt.timedelta(days=middle // FILES_PER_DAY)
    bucket = int(_buckets(np.array([middle]))[0])
    first = middle * ROWS_PER_FILE
    match name:
        case "partition":
            return (Condition("day", "=", day), Condition("bucket", "=", bucket))
        case "statistics":
            last = first + 10 * ROWS_PER_FILE - 1
            return (Condition("id", ">=", first), Condition("id", "<=", last))
        case "string":
            return (Condition("name", "=", f"name-{files // 20:07d}-mmmm"),)
    return ()


# Ten files answer each of the first three, whatever the table's size.
QUERIES = (Query("partition"), Query("statistics"), Query("string"), Query("full"))


def expected(files: pa.Table, query: Query) -> frozenset[str]:
    """Names of the files that a query has to find, by looking at each."""
    keep = pa.array(np.ones(files.num_rows, np.bool_))
    for condition in query.conditions(files.num_rows):
        for column, test in _tests(condition):
            keep = pc.and_(keep, test(files.column(column), condition.value))
    return frozenset(files.column("name").filter(keep).to_pylist())


# Any: functions of pyarrow.compute.
def _tests(condition: Condition) -> Iterator[tuple[str, Any]]:
    """What a file's columns have to satisfy so that a row of it can match."""
    name = condition.column
    if name in PARTITION_COLUMNS:
        yield name, pc.equal
        return
    if condition.op in {"=", ">="}:
        yield f"max:{name}", pc.greater_equal
    if condition.op in {"=", "<="}:
        yield f"min:{name}", pc.less_equal
