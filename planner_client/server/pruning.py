"""From a bound predicate to the files that can hold a matching row, block by block, in columns."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import RequestRejectedError
from io_core.lean_arrow import lean_numpy, lean_scalar
from io_core.literal import load_array
from io_core.plan import Pruned
from io_core.predicate import And, Constant, Predicate, columns_of, conjuncts, restrict
from io_core.prune import prune
from planner_client.server.bound_keys import judge
from planner_client.server.column_keys import PIECE
from planner_client.server.statistics import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from io_core.partition import Bounds
    from io_core.prune import Verdict
    from planner_client.server.bound_keys import Keys, Said
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


class _Chosen(NamedTuple):
    """Which partitions are left: their numbers, ascending, and (partitions,) the same as a mask."""

    numbers: Rows
    mask: Mask


class Survivors(NamedTuple):
    """Which files are left, in reading order, and how the others went.

    Attributes:
        rows: (files,) int32 numbers, since they are kept for later pages.
        residual: (files,) whether a filter still has to look at the file's rows.
        merges: Whether they merge by key.
        files: How many files, `size` their bytes, `records` their rows.
        hash: Their hashes added up.
        table_files: How many files the table has, `table_size` their bytes.
        pruned: What each step removed.
        since: The question's.
        removed: Where the question asks for changes: how many older files went meanwhile.
    """

    rows: npt.NDArray[np.int32]
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
            rows=np.zeros(0, np.int32),
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
        rows=rows.astype(np.int32),
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
        # What all rows that are left are not yet known to match: fewer at each step.
        self._open = conjuncts(self._usable)
        # ... and statistics of other columns would drop a newer row and revive an old one.
        self._with_stats = self._used & keyed if merges else self._used
        self._merges = merges
        self.steps: tuple[Pruned, ...] = ()

    def run(self) -> tuple[Rows, Mask]:
        """Numbers of the files that are left, ascending, and whether each needs a filter."""
        stats = self._stats()
        self._settle_whole(stats)
        partitions = self._chosen()
        rows = self._since(self._shown(self._candidates(partitions, stats), partitions))
        if self._seen.dead_known:
            rows = rows[~np.isin(self._seen.columns.profile[rows], self._delete_kinds())]
        rows, every = self._verdict(rows, stats)
        extra = self._matching_otherwise(partitions, rows)
        self._count_steps(partitions, rows, extra)
        if len(extra):
            rows = np.union1d(rows, extra)
            every = np.zeros(len(rows), np.bool_)
        residual = ~every
        # Equal ones mostly are the same; comparing Arrow's values costs more than all of the rest.
        whole = self._question.predicate
        if self._usable is not whole and self._usable != whole:
            residual = np.ones(len(rows), np.bool_)
        return rows, residual

    def _settle_whole(self, stats: dict[str, StatColumn]) -> None:
        """Close the conjuncts that all rows of the table match."""
        known = _with_keys((name, column.keys.whole) for name, column in stats.items())
        self._open = tuple(c for c in self._open if not judge(c, known).every)

    def _chosen(self) -> _Chosen | None:
        """Which partitions may hold a matching row; None where nothing is known to rule one out."""
        found = []
        if self._used & frozenset(self._by_partition) and self._scheme:
            found.append(self._valued_partitions())
        if self._question.partitions is not None:
            found.append(np.flatnonzero(self._named_partitions(self._question.partitions)))
        if not found:
            return None
        numbers = functools.reduce(np.intersect1d, found)
        mask = np.zeros(len(self._seen.columns.partitions.ids), np.bool_)
        mask[numbers] = True
        return _Chosen(numbers, mask)

    def _valued_partitions(self) -> Rows:
        """Which partitions their values do not rule out."""
        count, known = len(self._seen.columns.partitions.ids), self._by_value
        sizes = np.full(-(-count // BLOCK), BLOCK)
        # Where a column makes several values, one of them rules out most; all do in the end.
        one = {name: held[0] for name, held in known.items()}
        rows = self._narrowed(one, sizes, np.arange(len(sizes)), count)
        said = self._by_numbers({n: c for n, c in one.items() if len(known[n]) == 1}, rows)
        ones = np.ones(len(rows), np.int64)
        verdicts = [
            (found.may, found.every)
            if found.final
            else prune(conjunct, ones, lambda c: [s.take(rows) for s in known.get(c, ())])
            for conjunct, found in zip(self._open, said, strict=True)
        ]
        kept = _spread(_all_may(may for may, _ in verdicts), len(rows))
        # All rows of what is left are known to match the others.
        pairs = zip(self._open, verdicts, strict=True)
        self._open = tuple(
            c for c, (_, every) in pairs if not _spread(every, len(rows))[kept].all()
        )
        return rows[kept]

    def _by_numbers(self, held: Mapping[str, StatColumn], rows: Rows) -> list[Said]:
        """What numbers say of the rows, for each conjunct that is open, where they say it all."""
        used = frozenset().union(*map(columns_of, self._open))
        known = _with_keys(
            (name, column.keys.take(rows))
            for name, column in held.items()
            if name in used and column.keys.known
        )
        return [judge(conjunct, known) for conjunct in self._open]

    @functools.cached_property
    def _by_value(self) -> dict[str, list[StatColumn]]:
        """What the partitions' values say of columns."""
        assert self._scheme is not None
        return self._seen.columns.partitions.bounds(self._scheme, self._schema)

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

    def _candidates(self, partitions: _Chosen | None, stats: dict[str, StatColumn]) -> Rows:
        """Files that neither their block's partitions nor numbers rule out."""
        columns = self._seen.columns
        blocks = np.arange(-(-columns.height // BLOCK))
        if partitions is not None:
            numbers = partitions.numbers
            first = numbers.searchsorted(columns.low_partition)
            blocks = blocks[numbers.searchsorted(columns.high_partition, side="right") > first]
        return self._narrowed(stats, columns.block_rows, blocks, columns.height)

    def _narrowed(
        self, held: Mapping[str, StatColumn], sizes: Rows, blocks: Rows, count: int
    ) -> Rows:
        """Which of the first `count` things numbers do not rule out, block by block first.

        Args:
            held: What is known of columns.
            sizes: How many rows each block has.
            blocks: Those that may hold something.
            count: How many things there are.
        """
        if not held or not self._open:
            return _rows_of(blocks, count)
        if len(blocks) > 1:
            blocks = blocks[self._may(held, sizes, count)[blocks]]
        if not len(blocks):
            return np.zeros(0, np.int64)
        found, each = [], PIECE // BLOCK
        first, last = int(blocks[0]) // each, int(blocks[-1]) // each
        ends = [0, len(blocks)]
        if last > first:
            ends = blocks.searchsorted(np.arange(first, last + 2) * each).tolist()
        for piece, (start, end) in enumerate(itertools.pairwise(ends), first):
            if start == end:
                continue
            inside = blocks[start:end]
            # Blocks in between are looked at too: that costs less than to pick.
            part = slice(int(inside[0]) * BLOCK, min(int(inside[-1] + 1) * BLOCK, count))
            cut = slice(part.start - piece * PIECE, part.stop - piece * PIECE)
            known = _with_keys((n, c.keys.piece(piece)) for n, c in held.items())
            known = {name: keys.cut(cut) for name, keys in known.items()}
            mask = _all_may([judge(conjunct, known).may for conjunct in self._open])
            found.append(
                _rows_of(inside, count) if mask is True else np.flatnonzero(mask) + part.start
            )
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _may(self, held: Mapping[str, StatColumn], sizes: Rows, count: int) -> Mask:
        """Which blocks may hold something."""
        part = slice(len(sizes))
        known = _with_keys((name, column.keys.blocks) for name, column in held.items())
        known = {name: keys.cut(part) for name, keys in known.items()}
        bare = frozenset(held).difference(known)
        found = []
        for conjunct in self._open:
            may = judge(conjunct, known).may
            if may is True and not bare.isdisjoint(columns_of(conjunct)):
                bounds = {name: column.first_blocks(count) for name, column in held.items()}
                may = prune(conjunct, sizes, _one_source(bounds)).may
            found.append(may)
        return _spread(_all_may(found), len(sizes))

    def _shown(self, rows: Rows, partitions: _Chosen | None) -> Rows:
        """Those files that are live, and in a partition that is left."""
        columns, view = self._seen.columns, self._seen.view
        if not columns.shows_all(view):
            rows = rows[columns.live(view, rows)]
        if partitions is not None:
            rows = rows[partitions.mask[columns.partition[rows]]]
        return rows

    def _since(self, rows: Rows) -> Rows:
        since = self._question.since
        if since is None:
            return rows
        return rows[self._seen.columns.rows_since(rows) > since]

    @property
    def removed(self) -> int | None:
        """Where changes are asked for, how many files went that were there before."""
        since = self._question.since
        if since is None:
            return None
        columns, view = self._seen.columns, self._seen.view
        is_live = columns.live(view, slice(None))
        was_live = (columns.begin <= since) & (columns.end(slice(None)) > since)
        gone = np.flatnonzero(was_live & ~is_live)
        if not len(gone):
            return 0
        # A rewrite may have kept some as they were.
        later = np.flatnonzero(is_live & (columns.begin > since))
        kept = pc.is_in(columns.paths(view, gone), value_set=columns.paths(view, later))
        return len(gone) - int(pc.sum(kept).as_py())

    def _verdict(self, rows: Rows, stats: dict[str, StatColumn]) -> tuple[Rows, Mask]:
        """The files of which a row may match, and of each whether all do."""
        every = np.ones(len(rows), np.bool_)
        # What partitions know of a column counts as well.
        alone = {n: c for n, c in stats.items() if n not in self._by_partition}
        said = self._by_numbers(alone, rows)
        mays = [found.may for found in said if found.final]
        for found in said:
            if found.final:
                every &= found.every
        if mays:
            may = _spread(_all_may(mays), len(rows))
            rows, every = rows[may], every[may]
        left = tuple(c for c, found in zip(self._open, said, strict=True) if not found.final)
        if not left:
            return rows, every
        asked = left[0] if len(left) == 1 else And(left)
        if stats and len(rows) > _MANY:
            # Partition values say nothing more of most files; of those that are left, they may.
            may = self._pruned(asked, rows, stats, joint=False).may
            rows, every = rows[may], every[may]
        verdict = self._pruned(asked, rows, stats, joint=True)
        return rows[verdict.may], (every & verdict.every)[verdict.may]

    def _pruned(
        self, asked: Predicate, rows: Rows, stats: dict[str, StatColumn], *, joint: bool
    ) -> Verdict:
        """Judge files by all that is known of them; `joint` by partitions' values too."""
        columns, used = self._seen.columns, columns_of(asked)
        known: dict[str, list[Bounds]] = {}
        if joint and not used.isdisjoint(self._by_partition):
            partition = columns.partition[rows].astype(np.int64)
            known = {
                name: [_of_rows(column.take(partition), columns.rows[rows]) for column in held]
                for name, held in self._by_value.items()
                if name in used
            }
        for name in used & stats.keys():
            known[name] = [*known.get(name, ()), stats[name].take(rows)]
        return prune(asked, columns.rows[rows], lambda c: known.get(c, ()))

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

    def _matching_otherwise(self, partitions: _Chosen | None, rows: Rows) -> Rows:
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
            mask &= partitions.mask[columns.partition]
        return np.setdiff1d(self._since(np.flatnonzero(mask)), rows)

    def _count_steps(self, partitions: _Chosen | None, rows: Rows, extra: Rows) -> None:
        """What each step removed, from the totals per partition."""
        totals, columns = self._totals, self._seen.columns
        files, size, _ = totals.whole
        steps = []
        if partitions is not None:
            left = partitions.numbers
            kept = int(totals.files[left].sum()), int(totals.size[left].sum())
            by = self._used & frozenset(self._by_partition)
            steps.append(("partition", by, files - kept[0], size - kept[1]))
            files, size = kept
        if self._question.since is not None:
            kept_rows = self._since(self._shown(np.arange(columns.height), partitions))
            kept = len(kept_rows), int(columns.size[kept_rows].sum())
            steps.append(("since", frozenset(), files - kept[0], size - kept[1]))
            files, size = kept
        left_files = len(rows) + len(extra)
        left_size = int(columns.size[rows].sum() + columns.size[extra].sum())
        if self._seen.dead_known:
            gone = self._deletes
            gone = gone if partitions is None else gone[partitions.mask[columns.partition[gone]]]
            gone = self._since(gone)
            steps.append(("deletes", frozenset(), len(gone), int(columns.size[gone].sum())))
            files, size = files - len(gone), size - int(columns.size[gone].sum())
        steps.append(("statistics", self._with_stats, files - left_files, size - left_size))
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
        mask &= lean_numpy(found.fill_null(lean_scalar(False, pa.bool_())))
    return mask


def _rows_of(blocks: Rows, count: int) -> Rows:
    """Numbers of all in the blocks, of which there are so many in all."""
    if not len(blocks):
        return np.zeros(0, np.int64)
    first, last = int(blocks[0]), int(blocks[-1])
    if last - first + 1 == len(blocks):
        return np.arange(first * BLOCK, min((last + 1) * BLOCK, count))
    rows = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    return rows[: rows.searchsorted(count)]


def _all_may(parts: Iterable[Mask | bool]) -> Mask | bool:
    """Where no part rules out all rows."""
    # NumPy takes far longer to join a mask with what is true of all than two masks.
    told = [part for part in parts if part is not True]
    return functools.reduce(operator.and_, told) if told else True


def _spread(mask: Mask | bool, count: int) -> Mask:  # noqa: FBT001  # private
    """One answer for each, where one may stand for all."""
    # NumPy's own way to say so takes ten times as long.
    return mask if isinstance(mask, np.ndarray) else np.full(count, mask)


def _with_keys(keys: Iterable[tuple[str, Keys | None]]) -> dict[str, Keys]:
    return {name: held for name, held in keys if held is not None}


def _of_rows(bounds: Bounds, rows: Rows) -> Bounds:
    """What is known of partitions of one row each, for files of so many."""
    nulls, nans = (
        np.where(counts > 0, rows, counts) for counts in (bounds.null_count, bounds.nan_count)
    )
    return bounds._replace(null_count=nulls, nan_count=nans)


def _one_source(bounds: dict[str, Bounds]) -> Callable[[str], Sequence[Bounds]]:
    return lambda column: (bounds[column],) if column in bounds else ()
