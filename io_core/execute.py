"""From a plan to rows with Arrow alone: the slow, sure way that every engine's lane must equal."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core import deletes
from io_core.described import described
from io_core.errors import DataFileError, SchemaValidationError, UnsupportedError
from io_core.formats import FileRef, Selection, read_pieces
from io_core.lean_arrow import booleans
from io_core.manifest import manifest_table
from io_core.merge import MergeFile, living
from io_core.predicate import Constant, bind, columns_of, restrict
from io_core.predicate_arrow import matching, to_arrow
from io_core.schema import FROM_PARTITION, align, check_columns, names_in_file, without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow.compute as pc

    from io_core.merge import Mask
    from io_core.plan import ReadPlan
    from io_core.predicate import Predicate

__all__ = ["Merging", "described_schema", "execute", "read_plan", "result_schema"]

# Any: one row of a plan's table of files.
_File = dict[str, Any]
# Rows of a file, and how many of its rows stand before them.
_Numbered = tuple[int, pa.Table]

# Keys of a partition that are kept between the merge and the rows.
_KEPT_BYTES = 256 * 2**20
_OF_PARTITION = "partition"


def execute(
    plan: ReadPlan,
    *,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    row_limit: int | None = None,
    row_offset: int = 0,
) -> Iterator[pa.Table]:
    """Read a plan's rows piece by piece, a batch of a file at a time.

    A schemaless table's rows are its files (`io_core.manifest.manifest_table`).

    Rows come in reading order (partition, position, entry, row). Columns that only the predicate
    needs are read and dropped again. Opens files as it goes, and holds one batch; where a partition
    merges by key, the keys of all of its files are read before its first row
    (`io_core.merge.living`).

    Args:
        plan: All files of it; a page that is not the last is refused where rows merge. Partitions
            whose files all come with their dead rows (the plan's column `deletes`) do not.
        columns: The result's columns, in order; None means all.
        predicate: Rows to keep, unbound, in this project's meaning; applied after the merge.
        row_limit: Most rows to return, counted after everything else.
        row_offset: Rows to leave out before those.

    Raises:
        DataFileError: A file is missing or damaged.
        PredicateError: The predicate does not fit the plan's schema.
        SchemaValidationError: An unknown column.
    """
    schema = _schema(plan)
    wanted = list(schema.names if columns is None else columns)
    check_columns(wanted, schema)
    if not schema.names:
        return
    working = pa.schema([f.with_type(without_views(f.type)) for f in schema])
    bound = None if predicate is None else bind(predicate, working)
    needed = frozenset(wanted) | columns_of(bound)
    # One column at least: tables without any lose count of their rows.
    read_schema = pa.schema([f for f in working if f.name in needed] or [working.field(0)])
    shape = _shape(schema, wanted)
    skip, left = row_offset, row_limit
    if left == 0:
        return
    for piece in _pieces(plan, read_schema, bound):
        rows = piece if bound is None else matching(piece, bound)
        if skip:
            dropped = min(skip, rows.num_rows)
            rows, skip = rows.slice(dropped), skip - dropped
        if left is not None:
            rows = rows.slice(0, left)
            left -= rows.num_rows
        found = rows.select(wanted)
        yield found if not wanted or found.schema == shape else found.cast(shape)
        if left == 0:
            return


def read_plan(
    plan: ReadPlan,
    *,
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    row_limit: int | None = None,
    row_offset: int = 0,
    watched: Callable[[Iterator[pa.Table]], Iterator[pa.Table]] = iter,
) -> pa.Table:
    """All rows of a plan as one table; see `execute`. The pieces pass through `watched`."""
    # Not empty_table(), whose arrays would have pyarrow import pandas.
    empty = pa.Table.from_batches([], described_schema(plan, columns))
    pieces = execute(
        plan, columns=columns, predicate=predicate, row_limit=row_limit, row_offset=row_offset
    )
    if not empty.num_columns:
        rows = sum(piece.num_rows for piece in watched(pieces))
        return pa.table({"": pa.nulls(rows)}).select([])
    return pa.concat_tables([empty, *watched(pieces)])


def result_schema(plan: ReadPlan, columns: Sequence[str] | None = None) -> pa.Schema:
    """What the rows of `execute` look like.

    Raises:
        SchemaValidationError: An unknown column.
    """
    schema = _schema(plan)
    wanted = list(schema.names if columns is None else columns)
    check_columns(wanted, schema)
    return _shape(schema, wanted)


def described_schema(plan: ReadPlan, columns: Sequence[str] | None = None) -> pa.Schema:
    """The same with what was said of the columns and the table when it was made.

    Raises:
        SchemaValidationError: An unknown column.
    """
    return described(result_schema(plan, columns), _schema(plan))


def _schema(plan: ReadPlan) -> pa.Schema:
    return manifest_table(plan).schema if plan.header.schema_serialized is None else plan.schema


def _shape(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([pa.field(c, schema.field(c).type) for c in columns])


def _of_keys(predicate: Predicate, plan: ReadPlan) -> pc.Expression | None:
    """What the merge keys alone decide of a predicate: it may go below the merge."""
    found = restrict(predicate, frozenset(plan.merge_keys))
    return None if isinstance(found, Constant) else to_arrow(found, _schema(plan)).expression


def _pieces(plan: ReadPlan, schema: pa.Schema, wanted: Predicate | None) -> Iterator[pa.Table]:
    """Aligned rows that live, batch by batch, before filter and projection.

    Args:
        plan: Whose files.
        schema: What to read of them.
        wanted: Bound: which rows are wanted. Where rows merge, others may be left out.
    """
    if plan.header.schema_serialized is None:
        yield manifest_table(plan).select(schema.names)
        return
    if plan.header.truncated and plan.requires_merge and not _has_delete_sets(_rows(plan)):
        raise UnsupportedError(
            f"{plan!r} is one page of a table whose rows merge: plan without a page size to read it"
        )
    if not plan.requires_merge:
        for row in _rows(plan):
            found = _read(plan, row, schema, Selection(schema, {}, wanted))
            yield from (piece for _, piece in found)
        return
    for group in plan.groups():
        rows = _rows(group)
        if not _has_delete_sets(rows):
            yield from Merging(group).read(schema, wanted)
            continue
        for row, mask in _known(plan, rows):
            selection = Selection(schema, {}, wanted, mask)
            yield from _masked(_read(plan, row, schema, selection), mask)


def _has_delete_sets(rows: Sequence[_File]) -> bool:
    """Whether the plan says of every data file which of its rows are dead: nothing merges then."""
    return all(isinstance(r["deletes"], bytes) for r in rows if r["delta_type"] != "delete")


def _known(plan: ReadPlan, rows: Sequence[_File]) -> Iterator[tuple[_File, Mask | None]]:
    """Each data file and which of its rows live, as the plan says; None where all do."""
    for row in rows:
        dead, records = row["deletes"], row["record_count"]
        if row["delta_type"] == "delete" or (dead and deletes.count(dead) == records):
            continue
        try:
            yield row, _part(deletes.live_mask(dead, records), row) if dead else None
        except DataFileError as error:
            problem = f"does not fit its delete set: {error}"
            raise DataFileError.of(row["path"], problem, repr(plan)) from error


def _part(mask: Mask, row: _File) -> Mask:
    return mask if row["first_row"] is None else mask[row["first_row"] : row["end_row"]]


class Merging:
    """A partition whose rows merge by key.

    The keys of its files are read first, and kept as far as there is room: so none is read twice
    for the sake of the merge.

    Args:
        plan: Of this partition's files alone, all of them.
        keys_of: What reads the merge keys of a data file, by its place among the data files, in the
            table's types; None reads them here, one file after the other.
    """

    def __init__(
        self, plan: ReadPlan, keys_of: Callable[[int], Iterator[pa.Table]] | None = None
    ) -> None:
        self._plan = plan
        self._rows = _rows(plan)
        self._by = [_delete_columns(plan, row) for row in self._rows]
        self._data = list(itertools.accumulate((not by for by in self._by), initial=0))
        self._keys_of = keys_of
        self._working = {f.name: f.with_type(without_views(f.type)) for f in plan.schema}
        self._kept: dict[int, pa.Table] = {}
        self._room = _KEPT_BYTES

    def living(self, wanted: Predicate | None = None) -> list[Mask]:
        """Which rows of each file live (`io_core.merge.living`), in the order of the plan's files.

        Args:
            wanted: Bound. Rows that it rules out by the merge keys alone count as dead.
        """
        early = None if wanted is None else _of_keys(wanted, self._plan)
        keys, order = self._plan.merge_keys, self._plan.merge_order
        positions = [row["stream_position"] for row in self._rows]
        files = list(map(MergeFile, positions, self._by))
        return living(files, keys, self._columns, order=order, matching=early)

    def read(self, schema: pa.Schema, wanted: Predicate | None) -> Iterator[pa.Table]:
        """The rows that live; see `living`. Of those that `wanted` rules out some may be missing."""
        if all(self._by):
            return
        for file, mask in enumerate(self.living(wanted)):
            if mask.any():
                # Who lives is known: other columns than keys may rule rows out by now.
                selection = Selection(schema, {}, wanted, mask)
                yield from _masked(self._numbered(file, schema.names, selection), mask)
            self._kept.pop(file, None)

    def _columns(self, file: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """All rows of a file, piece by piece."""
        return (piece for _, piece in self._numbered(file, columns))

    def _numbered(
        self, file: int, columns: Sequence[str], selection: Selection | None = None
    ) -> Iterator[_Numbered]:
        kept = self._kept.get(file)
        if kept is None and selection is None and set(columns) == set(self._plan.merge_keys):
            if self._keys_of is not None and not self._by[file]:
                return _counted(self._keys_of(self._data[file]))
            return self._keeping(file, columns)
        others = [c for c in columns if kept is None or c not in kept.column_names]
        if kept is None:
            return self._stored(file, others, selection)
        if not others:
            return iter([(0, kept.select(columns))])
        return _beside(self._stored(file, others, selection), kept, columns)

    def _keeping(self, file: int, columns: Sequence[str]) -> Iterator[_Numbered]:
        pieces: list[pa.Table] = []
        for first, piece in self._stored(file, columns):
            self._room -= piece.nbytes
            if self._room >= 0:
                pieces.append(piece)
            yield first, piece
        if pieces and self._room >= 0:
            self._kept[file] = pa.concat_tables(pieces)

    def _stored(
        self, file: int, columns: Sequence[str], selection: Selection | None = None
    ) -> Iterator[_Numbered]:
        wanted = pa.schema([self._working[c] for c in columns])
        required = frozenset(self._by[file] or self._plan.merge_keys)
        return _read(self._plan, self._rows[file], wanted, selection, required)


def _counted(pieces: Iterator[pa.Table]) -> Iterator[_Numbered]:
    first = 0
    for piece in pieces:
        yield first, piece
        first += len(piece)


def _beside(
    pieces: Iterator[_Numbered], kept: pa.Table, columns: Sequence[str]
) -> Iterator[_Numbered]:
    """Pieces of a file with the columns of it that were kept."""
    for first, piece in pieces:
        beside = kept.slice(first, len(piece))
        sources = [piece if c in piece.column_names else beside for c in columns]
        held = [source.column(c) for source, c in zip(sources, columns, strict=True)]
        yield first, pa.table(held, names=list(columns))


def _masked(pieces: Iterator[_Numbered], mask: Mask | None) -> Iterator[pa.Table]:
    """The rows that live."""
    for first, piece in pieces:
        part = None if mask is None else mask[first : first + len(piece)]
        if part is None or part.all():
            yield piece
        elif part.any():
            yield piece.filter(booleans(part))


def _rows(plan: ReadPlan) -> list[_File]:
    names = [
        "path",
        "content_type",
        "content_encoding",
        "record_count",
        "delta_type",
        "stream_position",
        "delete_columns",
        "deletes",
        "schema_id",
    ]
    parts = ["first_row", "end_row"]
    there = [name for name in parts if name in plan.files.column_names]
    whole = dict.fromkeys(parts)
    values = _partition_values(plan)
    return [
        {**whole, _OF_PARTITION: value, **row}
        for value, row in zip(values, plan.files.select([*names, *there]).to_pylist(), strict=True)
    ]


def _partition_values(plan: ReadPlan) -> list[dict[str, pa.Scalar]]:
    """Of each file the columns that it may lack since its partition says their value."""
    scheme = plan.header.partition_scheme
    columns = {
        key.key[0]: plan.files.column(f"partition:{i}")
        for i, key in enumerate(scheme.keys if scheme else ())
        if key.transform in (None, "identity")
        and FROM_PARTITION in (plan.schema.field(key.key[0]).metadata or {})
    }
    return [{n: column[i] for n, column in columns.items()} for i in range(plan.files.num_rows)]


def _delete_columns(plan: ReadPlan, row: _File) -> tuple[str, ...]:
    """What a delete file matches by; nothing for data."""
    if row["delta_type"] != "delete":
        return ()
    locators = row["delete_columns"]
    return tuple(json.loads(locators)) if locators else plan.merge_keys


def _read(
    plan: ReadPlan,
    row: _File,
    schema: pa.Schema,
    wanted: Selection | None = None,
    required: frozenset[str] = frozenset(),
) -> Iterator[_Numbered]:
    """Columns of a file batch by batch, as the table has them, and how many rows stand before each."""
    writer = plan.writer_schema(row["schema_id"])
    if wanted is not None:
        wanted = wanted._replace(names=names_in_file(wanted.schema, writer))
    file = FileRef(
        path=row["path"],
        content_type=row["content_type"],
        content_encoding=row["content_encoding"],
        records=row["record_count"],
        plan=repr(plan),
        schema=plan.schema if writer is None else writer,
        rows=None if row["first_row"] is None else range(row["first_row"], row["end_row"]),
        wanted=wanted,
    )
    names = {theirs: ours for ours, theirs in names_in_file(schema, writer).items()}
    for first, stored in read_pieces(file, list(names), storage=plan.storage):
        piece = stored.rename_columns([names[c] for c in stored.column_names])
        for name, value in row[_OF_PARTITION].items():
            if name in schema.names and name not in piece.column_names:
                piece = piece.append_column(name, pa.repeat(value, piece.num_rows))
        # Read as null, a missing key would match the rows whose key is null.
        if lacking := (required & frozenset(schema.names)).difference(piece.column_names):
            problem = f"lacks the column {min(lacking)!r}"
            raise DataFileError.of(file.path, problem, file.plan)
        if not piece.num_rows:
            continue
        try:
            yield first, align(piece, schema)
        except SchemaValidationError as error:
            raise SchemaValidationError(f"{plan!r}: file {file.path}: {error}") from None
