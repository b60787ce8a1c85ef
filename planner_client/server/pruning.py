"""From a bound predicate to the files that can hold a matching row, block by block, in columns."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import RequestRejectedError
from io_core.literal import load_array
from io_core.plan import Pruned
from io_core.predicate import Constant, Predicate, columns_of, restrict
from io_core.prune import partition_bounds, prune
from planner_client.server.statistics import BLOCK
from planner_client.server.text_keys import may_match

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from io_core.partition import Bounds
    from planner_client.server.catalog import Version
    from planner_client.server.columns import FileColumns, Totals
    from planner_client.server.statistics import StatColumn
    from planner_client.server.store import View

__all__ = ["Question", "Seen", "Survivors", "surviving"]

_MANY = 10_000
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Seen(NamedTuple):
    """A table version in a view.

    Attributes:
        dead_known: Whether the plan is to carry the files' dead rows, which all are known: no row
            merges then, and delete files need not be read.
        complete: (partitions,) otherwise, of which partitions they are known all the same; files
            of the others merge by key.
    """

    view: View
    version: Version
    columns: FileColumns
    dead_known: bool = False
    complete: Mask | None = None


class Question(NamedTuple):
    """What a plan asks of the files.

    Attributes:
        predicate: Bound; rows to keep.
        partitions: Ids or values of the partitions to look at; None for all.
        since: Only files added after this snapshot; None for all.
    """

    predicate: Predicate
    # Any: JSON of the protocol's partition filter.
    partitions: tuple[Any, ...] | None = None
    since: int | None = None


class Survivors(NamedTuple):
    """Which files are left, in reading order, and how the others went.

    Attributes:
        rows: Numbers of the files.
        residual: (files,) whether a filter still has to look at the file's rows.
        merges: Whether they merge by key.
        files: How many files, `size` their bytes, `records` their rows.
        hash: Their hashes added up.
        table_files: How many files the table has, `table_size` their bytes.
        pruned: What each step removed.
        since: The question's.
        removed: Where the question asks for changes: how many older files went meanwhile.
    """

    rows: Rows
    residual: Mask
    merges: bool
    files: int
    size: int
    records: int
    hash: int
    table_files: int
    table_size: int
    pruned: tuple[Pruned, ...]
    since: int | None = None
    removed: int | None = None


def surviving(seen: Seen, question: Question, *, listed: bool = True) -> Survivors:
    """Rule out what cannot match. Reads no data file.

    Args:
        seen: The table.
        question: What is asked of it.
        listed: False where only totals are wanted; without a predicate they cost nothing then.
    """
    columns, view = seen.columns, seen.view
    totals = columns.totals_of(view)
    all_files, all_size, all_records = totals.whole
    merges = bool(seen.version.merge_keys) and all_files > 0
    by_key = merges and not seen.dead_known
    plain = question == Question(Constant(True))
    if plain and not listed:
        return Survivors(
            rows=np.zeros(0, np.int64),
            residual=np.zeros(0, np.bool_),
            merges=merges,
            files=all_files,
            size=all_size,
            records=all_records,
            hash=_all_hashes(seen),
            table_files=all_files,
            table_size=all_size,
            pruned=(),
        )
    pruning = _Pruning(seen, question, totals, merges=by_key)
    rows, residual = pruning.run()
    order = _reading_order(columns, rows)
    if order is not None:
        rows, residual = rows[order], residual[order]
    whole = plain and len(rows) == all_files
    return Survivors(
        rows=rows,
        residual=residual,
        merges=by_key and bool(len(rows)),
        files=len(rows),
        size=all_size if whole else int(columns.size[rows].sum()),
        records=all_records if whole else int(columns.rows[rows].sum()),
        hash=_all_hashes(seen) if whole else columns.hash_sum(view, pruning.hashed(rows)),
        table_files=all_files,
        table_size=all_size,
        pruned=pruning.steps,
        since=question.since,
        removed=pruning.removed,
    )


def _all_hashes(seen: Seen) -> int:
    """The hashes of every file that the view shows, added up."""
    view, columns = seen.view, seen.columns
    if view.own < 0 and view.base >= columns.seq:
        return columns.hash_total(view)
    return columns.hash_sum(view, np.flatnonzero(columns.live(view, slice(None))))


def _reading_order(columns: FileColumns, rows: Rows) -> Rows | None:
    """Partition, then position, then entry: numbers grow with the latter two. None if they are so."""
    partition = columns.partition[rows]
    if len(rows) < 2 or bool((partition[1:] >= partition[:-1]).all()):
        return None
    return np.argsort(partition, kind="stable")


class _Pruning:
    """One question being answered."""

    def __init__(self, seen: Seen, question: Question, totals: Totals, *, merges: bool) -> None:
        self._seen = seen
        self._question = question
        self._totals = totals
        self._schema = seen.version.schema
        self._scheme = seen.version.partition_scheme
        keyed = frozenset(seen.version.merge_keys)
        self._by_partition = frozenset(k.key[0] for k in self._scheme.keys) if self._scheme else ()
        predicate = question.predicate
        # Where rows merge, only keys and partition values may rule a file out.
        self._usable = (
            restrict(predicate, keyed | frozenset(self._by_partition)) if merges else predicate
        )
        self._used = columns_of(self._usable)
        # ... and statistics of other columns would drop a newer row and revive an old one.
        self._with_stats = self._used & keyed if merges else self._used
        self._merges = merges
        self.steps: tuple[Pruned, ...] = ()
        self.removed: int | None = None

    def run(self) -> tuple[Rows, Mask]:
        """Numbers of the files that are left, ascending, and whether each needs a filter."""
        partitions = self._partition_mask()
        stats = self._stats()
        blocks = self._blocks(partitions, stats)
        rows = self._since(self._rows(blocks, partitions))
        if self._seen.dead_known:
            rows = rows[~np.isin(self._seen.columns.profile[rows], self._delete_kinds())]
        rows = self._by_text(rows, stats)
        by_partition = bool(self._used & frozenset(self._by_partition))
        if by_partition and stats and len(rows) > _MANY:
            # Partition values say nothing more of most files; of those that are left, they may.
            rows = rows[self._verdict(rows, stats, joint=False)[0]]
        may, every = self._verdict(rows, stats, joint=by_partition)
        rows, every = rows[may], every[may]
        extra = self._matching_otherwise(partitions, rows)
        self._count_steps(partitions, rows, extra)
        if len(extra):
            rows = np.union1d(rows, extra)
            every = np.zeros(len(rows), np.bool_)
        residual = ~every
        if self._usable != self._question.predicate:
            residual = np.ones(len(rows), np.bool_)
        return rows, residual

    def _by_text(self, rows: Rows, stats: dict[str, StatColumn]) -> Rows:
        """The rows without those that the first bytes of their text rule out, where they are many."""
        if len(rows) < BLOCK or self._schema is None:
            return rows
        held = self._seen.columns.stats
        keys = {n: held.keys_of(self._schema.field(n), column) for n, column in stats.items()}
        mask = may_match(self._usable, {n: k for n, k in keys.items() if k is not None}, rows)
        return rows if mask is None else rows[mask]

    def _partition_mask(self) -> Mask | None:
        """Which partitions may hold a matching row; None where nothing is known to rule one out."""
        held = self._seen.columns.partitions
        masks = []
        if self._used & frozenset(self._by_partition) and self._scheme:
            ones = np.ones(len(held.ids), np.int64)
            bounds = held.bounds(self._scheme, self._schema)
            masks.append(prune(self._usable, ones, lambda c: bounds.get(c, ())).may)
        if self._question.partitions is not None:
            masks.append(self._named_partitions(self._question.partitions))
        return functools.reduce(np.logical_and, masks) if masks else None

    # Any: JSON of the protocol's partition filter.
    def _named_partitions(self, wanted: tuple[Any, ...]) -> Mask:
        held = self._seen.columns.partitions
        mask = np.zeros(len(held.ids), np.bool_)
        uuids = {u: i for i, u in enumerate(held.uuids.to_pylist())}
        for item in wanted:
            asked = {"partition_id": item} if isinstance(item, str) else item
            if not isinstance(asked, dict) or not set(asked) & {"partition_id", "partition_values"}:
                raise RequestRejectedError(
                    f"partition_filter {item!r}: name a partition_id or partition_values",
                    code="invalid_request",
                )
            one = np.ones(len(held.ids), np.bool_)
            if asked.get("partition_id") is not None:
                one[:] = False
                if (index := uuids.get(asked["partition_id"])) is not None:
                    one[index] = True
            if asked.get("partition_values") is not None:
                one &= _equal_values(held.values, asked["partition_values"])
            mask |= one
        return mask

    def _stats(self) -> dict[str, StatColumn]:
        columns = self._seen.columns
        found: dict[str, StatColumn] = {}
        if self._schema is None:
            return found
        for name in sorted(self._with_stats):
            column = columns.stats.of(self._seen.view, self._schema.field(name), columns.height)
            if column is not None:
                found[name] = column
        return found

    def _blocks(self, partitions: Mask | None, stats: dict[str, StatColumn]) -> Mask:
        """Which blocks of files may hold one that is left."""
        columns = self._seen.columns
        count = -(-columns.height // BLOCK)
        blocks = np.ones(count, np.bool_)
        if partitions is not None and count:
            kept = np.concatenate([[0], np.cumsum(partitions)])
            blocks &= kept[columns.high_partition + 1] > kept[columns.low_partition]
        if stats:
            known = {n: s.first_blocks(columns.height) for n, s in stats.items()}
            blocks &= prune(self._usable, columns.block_rows, _one_source(known)).may
        return blocks

    def _rows(self, blocks: Mask, partitions: Mask | None) -> Rows:
        """Files of the blocks that are live, and in a partition that is left."""
        columns, view = self._seen.columns, self._seen.view
        if blocks.all():
            if partitions is None and columns.shows_all(view):
                return np.arange(columns.height)
            mask = columns.live(view, slice(None))
            if partitions is not None:
                mask &= partitions[columns.partition]
            return np.flatnonzero(mask)
        rows = (np.flatnonzero(blocks)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        rows = rows[: np.searchsorted(rows, columns.height)]
        if not columns.shows_all(view):
            rows = rows[columns.live(view, rows)]
        if partitions is not None:
            rows = rows[partitions[columns.partition[rows]]]
        return rows

    def _since(self, rows: Rows) -> Rows:
        since = self._question.since
        if since is None:
            return rows
        columns, view = self._seen.columns, self._seen.view
        old = (columns.begin <= since) & (columns.end(slice(None)) > since)
        self.removed = int((old & ~columns.live(view, slice(None))).sum())
        return rows[columns.begin[rows] > since]

    def _verdict(
        self, rows: Rows, stats: dict[str, StatColumn], *, joint: bool
    ) -> tuple[Mask, Mask]:
        """Per file: whether a row may match, and whether all do; `joint` by partitions too."""
        columns = self._seen.columns
        if isinstance(self._usable, Constant):
            full = np.full(len(rows), self._usable.value)
            return full, full
        known: dict[str, list[Bounds]] = {}
        if joint and self._scheme:
            values = columns.partitions.values.take(pa.array(columns.partition[rows]))
            known = partition_bounds(values, columns.rows[rows], self._scheme, self._schema)
        for name, column in stats.items():
            known[name] = [*known.get(name, ()), column.take(rows)]
        return prune(self._usable, columns.rows[rows], lambda c: known.get(c, ()))

    def _delete_kinds(self) -> list[int]:
        """Which profiles are those of delete files."""
        profiles = self._seen.columns.profiles
        return [i for i, p in enumerate(profiles) if p.delta_type == "delete"]

    @functools.cached_property
    def _deletes(self) -> Rows:
        """The delete files that the view shows."""
        columns, kinds = self._seen.columns, self._delete_kinds()
        if not kinds:
            return np.zeros(0, np.int64)
        mask = np.isin(columns.profile, kinds) & columns.live(self._seen.view, slice(None))
        return np.flatnonzero(mask)

    def hashed(self, rows: Rows) -> Rows:
        """The files whose hashes make the snapshot id: delete files too, though none is listed."""
        if not self._seen.dead_known or not len(self._deletes):
            return rows
        return np.union1d(rows, self._deletes)

    def _matching_otherwise(self, partitions: Mask | None, rows: Rows) -> Rows:
        """Deletes by other columns than the merge keys, whose statistics say nothing of them."""
        if not self._merges:
            return rows[:0]
        columns = self._seen.columns
        by_keys = msgspec.json.encode(list(self._seen.version.merge_keys)).decode()
        others = [
            i for i, p in enumerate(columns.profiles) if p.delete_columns not in (None, by_keys)
        ]
        if not others:
            return rows[:0]
        mask = np.isin(columns.profile, others) & columns.live(self._seen.view, slice(None))
        if partitions is not None:
            mask &= partitions[columns.partition]
        return np.setdiff1d(self._since(np.flatnonzero(mask)), rows)

    def _count_steps(self, partitions: Mask | None, rows: Rows, extra: Rows) -> None:
        """What each step removed, from the totals per partition."""
        totals, columns = self._totals, self._seen.columns
        files, size, _ = totals.whole
        steps = []
        if partitions is not None:
            kept = int(totals.files[partitions].sum()), int(totals.size[partitions].sum())
            by = self._used & frozenset(self._by_partition)
            steps.append(("partition", by, files - kept[0], size - kept[1]))
            files, size = kept
        if self._question.since is not None:
            kept_rows = self._since(
                self._rows(np.ones_like(columns.low_partition, np.bool_), partitions)
            )
            kept = len(kept_rows), int(columns.size[kept_rows].sum())
            steps.append(("since", frozenset(), files - kept[0], size - kept[1]))
            files, size = kept
        left = len(rows) + len(extra)
        left_size = int(columns.size[rows].sum() + columns.size[extra].sum())
        if self._seen.dead_known:
            gone = self._deletes
            gone = gone if partitions is None else gone[partitions[columns.partition[gone]]]
            gone = self._since(gone)
            steps.append(("deletes", frozenset(), len(gone), int(columns.size[gone].sum())))
            files, size = files - len(gone), size - int(columns.size[gone].sum())
        steps.append(("statistics", self._with_stats, files - left, size - left_size))
        self.steps = tuple(
            Pruned(name, tuple(sorted(by)), gone, gone_size)
            for name, by, gone, gone_size in steps
            if gone
        )


def _equal_values(values: pa.Table, wanted: object) -> Mask:
    """Which partitions have these values; `wanted` as the protocol writes them."""
    names = [n for n in values.column_names if n]
    given = wanted if isinstance(wanted, list) else [wanted]
    if len(given) != len(names):
        raise RequestRejectedError(
            f"partition_values {wanted!r}: the table has {len(names)} partition keys",
            code="invalid_request",
        )
    mask = np.ones(values.num_rows, np.bool_)
    for name, value in zip(names, given, strict=True):
        column = values.column(name).combine_chunks()
        one = load_array([value], column.type)
        if value is not None and one.null_count:
            raise RequestRejectedError(
                f"partition_values {wanted!r}: {value!r} is no value of type {column.type}",
                code="invalid_request",
            )
        found = column.is_null() if value is None else pc.equal(column, one[0])
        mask &= found.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _one_source(bounds: dict[str, Bounds]) -> Callable[[str], Sequence[Bounds]]:
    return lambda column: (bounds[column],) if column in bounds else ()
