"""How do a partition's rows come to few tasks, so that they make few large files?

Each task that writes makes a file per partition of its rows: of rows as they come, tasks times
partitions. Sorted by partition, and within it by the table's own order, they make tasks plus partitions.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from ray.data.context import ShuffleStrategy

from io_core.errors import DeltaCATError
from io_core.model import PartitionKey, PartitionScheme, SortScheme
from io_core.partition import transform, value_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ray.data import DataContext, Dataset

    from planner_client.protocol.tables import TableDescription

__all__ = ["PARTITION", "Layout", "gathered", "sorting_in_tasks"]

# Stands between names of partition values, and in no column's name.
_MARK = "\x1f"
# A column that names each row's partition; the sink leaves it out. An operator that did would be
# fused with the write and the shuffle, and Ray then never starts the write (2.60).
PARTITION = f"{_MARK}partition"


class Layout(NamedTuple):
    """How a table's rows are divided and ordered."""

    partitions: PartitionScheme
    order: SortScheme | None = None

    @classmethod
    def of_table(cls, table: TableDescription) -> Layout | None:
        """That of a table; None where rows are best left as they come.

        Rows with merge keys are: the later of two of one key counts.
        """
        scheme = table.partition_scheme
        if scheme is None or not scheme.keys or table.merge_keys:
            return None
        return cls(scheme, table.sort_scheme)

    @classmethod
    def of_creation(
        cls, partition_by: str | Sequence[str] | None, properties: Mapping[str, object]
    ) -> Layout | None:
        """That of a table which is made by these columns, or in the protocol's words."""
        names = [partition_by] if isinstance(partition_by, str) else partition_by or ()
        scheme = PartitionScheme(tuple(PartitionKey((name,)) for name in names))
        try:
            if "partition_scheme" in properties:
                scheme = msgspec.convert(properties["partition_scheme"], PartitionScheme)
            order = msgspec.convert(properties.get("sort_scheme"), SortScheme | None)
        except msgspec.ValidationError:
            return None  # the planner says what is wrong
        return cls(scheme, order) if scheme.keys else None


def gathered(dataset: Dataset, layout: Layout) -> Dataset:
    """The rows in order of partitions, those of each by the table's order. Lazy, and a shuffle.

    They have a column `PARTITION` more.
    """
    keys = layout.order.keys if layout.order else ()
    # Of columns that the rows lack, the write says what becomes.
    names = set(dataset.columns() or ()) if keys else set()
    order = [key for key in keys if key.key[0] in names]
    columns = [PARTITION, *(key.key[0] for key in order)]
    descending = [False, *(key.sort_order == "descending" for key in order)]
    marked = dataset.map_batches(_marked, batch_format="pyarrow", fn_args=(layout.partitions,))
    return marked.sort(columns, descending)


@contextlib.contextmanager
def sorting_in_tasks(context: DataContext) -> Iterator[None]:
    """Sort in tasks where nobody chose otherwise.

    Ray's default (2.60) starts processes first: 20 seconds for a few thousand rows on two cores, where
    tasks take a fraction of one.
    """
    chosen = context.shuffle_strategy
    if chosen == ShuffleStrategy.SHUFFLE_V2:
        context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    try:
        yield
    finally:
        context.shuffle_strategy = chosen


def _marked(rows: pa.Table, scheme: PartitionScheme) -> pa.Table:
    """With a column that names each row's partition."""
    texts = [_values(rows, key) for key in scheme.keys]
    return rows.append_column(PARTITION, pc.binary_join_element_wise(*texts, _MARK))


def _values(rows: pa.Table, key: PartitionKey) -> pa.Array:
    """A text for each partition value; one for all where there is none: the write says why."""
    try:
        column = rows.column(key.key[0])
        values = transform(key, column, value_type(key, rows.schema)).combine_chunks()
        encoded = values.dictionary_encode(null_encoding="encode")
    except (KeyError, pa.ArrowException, DeltaCATError):
        return pa.repeat("", rows.num_rows)
    return pa.array([repr(value) for value in encoded.dictionary.to_pylist()], pa.string()).take(
        encoded.indices
    )
