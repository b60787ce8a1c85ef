"""Data files on disk: columns of runs of files, small runs as one record, large ones per column.

A version's files are numbered from 0 on, in the order of their commits. A commit of few files
adds one record (`*`, MessagePack); many records, and commits of many files, become Arrow columns:
`core` (what every plan looks at), `path`, `hash` and `stats:<field id>`. Folding changes no number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.errors import CatalogRootError
from io_core.lean_arrow import lean_array, lean_numbers
from io_core.literal import kind_of, load_array
from io_core.schema import FIELD_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw

    from io_core.model import ColumnStats

__all__ = [
    "CORE",
    "KINDS",
    "NewFiles",
    "Run",
    "add_files",
    "core_runs",
    "decode_columns",
    "encode_columns",
    "file_count",
    "fold",
    "fold_records",
    "hash_runs",
    "insert_columns",
    "path_runs",
    "stats_columns",
    "stats_runs",
    "stats_table",
]

CORE = pa.schema(
    [
        ("size", pa.int64()),
        ("rows", pa.int64()),
        ("partition", pa.int64()),
        ("position", pa.int64()),
        ("begin", pa.int64()),
        ("profile", pa.dictionary(pa.int32(), pa.string())),
    ]
)
_NARROWED = frozenset({"size", "rows", "partition", "position", "begin"})
KINDS = ("min", "max", "null_count", "nan_count")
# Records are folded into columns from so many on, or when they hold so many files; runs of columns
# are joined from so many on, while they are smaller than a whole one.
_RECORDS = 64
_RECORD_FILES = 1024
_RUNS = 32
_WHOLE = 32_768
_LARGEST = 65_536
_SHORT = 8_192
_ENDLESS = 2**62
_LAST = "SELECT first + files FROM segment WHERE version_id = ? AND name = ? ORDER BY first DESC LIMIT 1"
_OF_FEW = frozenset({"path", "hash"})
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_SMALL = 2**20


class NewFiles(msgspec.Struct, frozen=True, omit_defaults=True):
    """Files of one commit, in columns; all lists have one entry per file.

    Attributes:
        begin: The first snapshot that shows them.
        path: Below the catalog's root, or absolute.
        size: Bytes.
        rows: Rows, before any merge.
        partition: The ledger's ids.
        position: Stream positions.
        profile: JSON of what files of one delta share; see `planner_client.server.columns.Profile`.
        hash: 16 bytes per file, one after another.
        stats: By field id: min, max, null_count and nan_count, each a list of JSON scalars.
    """

    begin: int
    path: list[str]
    size: list[int]
    rows: list[int]
    partition: list[int]
    position: list[int]
    profile: list[str]
    hash: bytes
    # Any: JSON scalars, typed by their column.
    stats: dict[str, list[list[Any]]] = {}


class Run(NamedTuple):
    """One piece of a column, or of several: files `first` to `first + len(table)`."""

    first: int
    table: pa.Table


def stats_columns(
    schema: pa.Schema | None, stats: Sequence[dict[str, ColumnStats] | None]
) -> dict[str, list[list[Any]]]:
    """Statistics of consecutive files as columns, by field id; columns without any are left out."""
    columns = {}
    # Once per column, not per file, where one commit brings many files of few columns.
    named = {name for s in stats if s for name in s}
    for field in schema or ():
        if field.name in named:
            held = [(s or {}).get(field.name) for s in stats]
            columns[_field_id(field)] = [
                [None if c is None else getattr(c, kind) for c in held] for kind in KINDS
            ]
    return columns


def _field_id(field: pa.Field) -> str:
    text: bytes = (field.metadata or {})[FIELD_ID]
    return text.decode()


def file_count(db: apsw.Connection, version_id: int) -> int:
    """How many files the version ever had, as far as `db` sees."""
    found = (db.execute(_LAST, (version_id, name)).fetchone() for name in ("core", "*"))
    return max((int(row[0]) for row in found if row is not None), default=0)


def add_files(db: apsw.Connection, version_id: int, schema: pa.Schema | None, new: NewFiles) -> int:
    """Add files to a version and return the first one's number."""
    first = file_count(db, version_id)
    if len(new.path) >= _RECORD_FILES:
        fold_records(db, version_id, schema)
        for start in range(0, len(new.path), _LARGEST):
            insert_columns(db, version_id, first + start, _columns(_part(new, start), schema))
    else:
        _insert(db, version_id, "*", first, len(new.path), "msgpack", msgspec.msgpack.encode(new))
        fold(db, version_id, schema)
    return first


def _part(new: NewFiles, start: int) -> NewFiles:
    end = start + _LARGEST
    if start == 0 and len(new.path) <= end:
        return new
    lists = ("path", "size", "rows", "partition", "position", "profile")
    return NewFiles(
        begin=new.begin,
        hash=new.hash[16 * start : 16 * end],
        stats={f: [part[start:end] for part in parts] for f, parts in new.stats.items()},
        **{name: getattr(new, name)[start:end] for name in lists},
    )


def _insert(  # noqa: PLR0917  # a row of the ledger
    db: apsw.Connection,
    version_id: int,
    name: str,
    first: int,
    files: int,
    encoding: str,
    body: bytes,
) -> None:
    db.execute(
        "INSERT INTO segment(version_id, name, first, files, encoding, body) VALUES (?,?,?,?,?,?)",
        (version_id, name, first, files, encoding, body),
    )


def insert_columns(
    db: apsw.Connection, version_id: int, first: int, columns: dict[str, pa.Table]
) -> None:
    """Write one run of files, column by column; what plans need of few files in shorter runs."""
    for name, table in columns.items():
        step = _SHORT if name in _OF_FEW else max(len(table), 1)
        for start in range(0, len(table), step):
            part = table.slice(start, step)
            _insert(db, version_id, name, first + start, len(part), "arrow", encode_columns(part))


def encode_columns(table: pa.Table) -> bytes:
    """An Arrow stream of the table, whole numbers in as few bytes as they need."""
    table = table.combine_chunks()
    for index, field in enumerate(table.schema):
        if field.name in _NARROWED and len(table):
            bounds = pc.min_max(table.column(index)).as_py()
            if bounds["min"] >= -(2**31) and bounds["max"] < 2**31:
                table = table.set_column(index, field.name, table.column(index).cast(pa.int32()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_LZ4) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _columns(new: NewFiles, schema: pa.Schema | None) -> dict[str, pa.Table]:
    columns = {"core": _core(new), "path": _paths(new), "hash": _hashes(new)}
    for field in schema or ():
        parts = new.stats.get(_field_id(field))
        if parts is not None and kind_of(field.type) != "other":
            columns[f"stats:{_field_id(field)}"] = stats_table(parts, field.type)
    return columns


def _core(new: NewFiles) -> pa.Table:
    arrays = [
        lean_array(new.size, pa.int64()),
        lean_array(new.rows, pa.int64()),
        lean_array(new.partition, pa.int64()),
        lean_array(new.position, pa.int64()),
        lean_numbers(np.full(len(new.path), new.begin, np.int64)),
        lean_array(new.profile, pa.string()).dictionary_encode(),
    ]
    return pa.table(arrays, schema=CORE)


def _paths(new: NewFiles) -> pa.Table:
    return pa.table({"path": lean_array(new.path, pa.string())})


def _hashes(new: NewFiles) -> pa.Table:
    held = [None, pa.py_buffer(new.hash)]
    return pa.table(
        {"hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(new.path), held)}
    )


def stats_table(parts: list[list[Any]], dtype: pa.DataType) -> pa.Table:
    """Statistics of one column as JSON scalars become typed arrays; what does not fit is unknown."""
    types = (dtype, dtype, pa.int64(), pa.int64())
    arrays = [load_array(values, t) for values, t in zip(parts, types, strict=True)]
    return pa.table(arrays, names=list(KINDS))


def _rows(
    db: apsw.Connection, version_id: int, name: str, first: int, end: int
) -> Iterator[tuple[int, int, str, bytes]]:
    yield from db.execute(
        "SELECT first, files, encoding, body FROM segment WHERE version_id = ? AND name = ?"
        " AND first < ? AND first + files > ? ORDER BY first",
        (version_id, name, end, first),
    )


def decode_columns(encoding: str, body: bytes) -> pa.Table:
    """The reverse of `encode_columns`.

    Raises:
        CatalogRootError: A later release wrote it.
    """
    if encoding != "arrow":
        raise CatalogRootError(
            f"the ledger holds files encoded as {encoding!r}, which this release cannot read: "
            "upgrade deltacat-sources"
        )
    # A thread takes longer to begin than a small column to unpack.
    options = pa.ipc.IpcReadOptions(use_threads=len(body) > _SMALL)
    return pa.ipc.open_stream(pa.py_buffer(body), options=options).read_all()


def _records(
    db: apsw.Connection, version_id: int, first: int, end: int
) -> Iterator[tuple[int, NewFiles]]:
    for start, _, encoding, body in _rows(db, version_id, "*", first, end):
        if encoding != "msgpack":
            decode_columns(encoding, body)
        yield int(start), msgspec.msgpack.decode(body, type=NewFiles)


def _sliced(runs: Iterable[Run], first: int, end: int) -> list[Run]:
    """The runs cut to what lies from `first` on and before `end`, in order."""
    cut = []
    for run in sorted(runs, key=lambda r: r.first):
        skip = max(first - run.first, 0)
        length = min(run.first + len(run.table), end) - run.first - skip
        if length > 0:
            cut.append(Run(run.first + skip, run.table.slice(skip, length)))
    return cut


def core_runs(db: apsw.Connection, version_id: int, first: int, end: int) -> list[Run]:
    """`CORE` of the files from `first` on and before `end`; numbers may be narrower."""
    return _sliced(_runs(db, version_id, "core", first, end), first, end)


def path_runs(db: apsw.Connection, version_id: int, first: int, end: int) -> list[Run]:
    """Paths of the files from `first` on and before `end`, whole runs: cut them yourself."""
    return _runs(db, version_id, "path", first, end)


def hash_runs(db: apsw.Connection, version_id: int, first: int, end: int) -> list[Run]:
    """Hashes of the files from `first` on and before `end`."""
    return _sliced(_runs(db, version_id, "hash", first, end), first, end)


_OF_RECORD = {"core": _core, "path": _paths, "hash": _hashes}


def _runs(db: apsw.Connection, version_id: int, name: str, first: int, end: int) -> list[Run]:
    runs = [
        Run(int(f), decode_columns(e, b)) for f, _, e, b in _rows(db, version_id, name, first, end)
    ]
    runs += [Run(f, _OF_RECORD[name](new)) for f, new in _records(db, version_id, first, end)]
    return sorted(runs, key=lambda run: run.first)


def stats_runs(
    db: apsw.Connection, version_id: int, field: pa.Field, first: int, end: int
) -> list[Run]:
    """Statistics of one column, typed by it; files without any are in no run."""
    field_id = _field_id(field)
    runs = [
        Run(int(f), _typed(decode_columns(e, b), field.type))
        for f, _, e, b in _rows(db, version_id, f"stats:{field_id}", first, end)
    ]
    runs += [
        Run(f, stats_table(new.stats[field_id], field.type))
        for f, new in _records(db, version_id, first, end)
        if field_id in new.stats
    ]
    return _sliced(runs, first, end)


def _typed(table: pa.Table, dtype: pa.DataType) -> pa.Table:
    """Bounds that were written under an older type of the column; unknown where they do not fit."""
    if table.column("min").type == dtype:
        return table
    for index, name in enumerate(("min", "max")):
        try:
            bound = table.column(name).cast(dtype)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            bound = pa.nulls(len(table), dtype)
        table = table.set_column(index, name, bound)
    return table


def fold(db: apsw.Connection, version_id: int, schema: pa.Schema | None) -> None:
    """Fold what has become many: records into columns, short runs of columns into long ones."""
    count, files = db.execute(
        "SELECT count(*), coalesce(sum(files), 0) FROM segment WHERE version_id = ? AND name = '*'",
        (version_id,),
    ).fetchone()
    if count < _RECORDS and files < _RECORD_FILES:
        return
    fold_records(db, version_id, schema)
    short = db.execute(
        "SELECT first, files FROM segment WHERE version_id = ?1 AND name = 'core' AND first >"
        " (SELECT coalesce(max(first), -1) FROM segment WHERE version_id = ?1 AND name = 'core'"
        " AND files >= ?2) ORDER BY first",
        (version_id, _WHOLE),
    ).fetchall()
    if len(short) >= _RUNS:
        first, end = int(short[0][0]), int(short[-1][0]) + int(short[-1][1])
        _join(db, version_id, schema, first, end)


def fold_records(db: apsw.Connection, version_id: int, schema: pa.Schema | None) -> None:
    """Turn all records of a version into columns."""
    held = list(_records(db, version_id, 0, _ENDLESS))
    if not held:
        return
    first, records = held[0][0], [record for _, record in held]
    columns = _columns(_as_one(records), schema)
    begin = np.repeat([r.begin for r in records], [len(r.path) for r in records])
    index = columns["core"].schema.get_field_index("begin")
    columns["core"] = columns["core"].set_column(index, CORE.field(index), lean_numbers(begin))
    # They follow all columns: who adds columns folds the records first.
    db.execute("DELETE FROM segment WHERE version_id = ? AND name = '*'", (version_id,))
    insert_columns(db, version_id, first, columns)


def _as_one(records: Sequence[NewFiles]) -> NewFiles:
    """The files of all records in a row, as if the first had brought them all."""
    lists = ("path", "size", "rows", "partition", "position", "profile")
    fields = dict.fromkeys(field for record in records for field in record.stats)
    unknown: list[list[Any]] = [[None]] * len(KINDS)
    stats: dict[str, list[list[Any]]] = {field: [[] for _ in KINDS] for field in fields}
    for record in records:
        nothing = [part * len(record.path) for part in unknown]
        for field, parts in stats.items():
            for whole, more in zip(parts, record.stats.get(field, nothing), strict=True):
                whole.extend(more)
    return NewFiles(
        begin=records[0].begin,
        hash=b"".join(record.hash for record in records),
        stats=stats,
        **{n: [v for record in records for v in getattr(record, n)] for n in lists},
    )


def _join(
    db: apsw.Connection, version_id: int, schema: pa.Schema | None, first: int, end: int
) -> None:
    """Write the files from `first` on and before `end` anew, as one run per column."""
    columns = {
        "core": pa.concat_tables(
            [r.table.cast(CORE) for r in core_runs(db, version_id, first, end)]
        ),
        "path": pa.concat_tables([r.table for r in path_runs(db, version_id, first, end)]),
        "hash": pa.concat_tables([r.table for r in hash_runs(db, version_id, first, end)]),
    }
    for field in schema or ():
        if kind_of(field.type) != "other":
            runs = stats_runs(db, version_id, field, first, end)
            if runs:
                columns[f"stats:{_field_id(field)}"] = _filled(runs, field.type, first, end)
    db.execute(
        "DELETE FROM segment WHERE version_id = ? AND name <> 'partitions' AND first >= ? AND first < ?",
        (version_id, first, end),
    )
    columns["core"] = columns["core"].unify_dictionaries()
    insert_columns(db, version_id, first, columns)


def _filled(runs: Sequence[Run], dtype: pa.DataType, first: int, end: int) -> pa.Table:
    """The runs joined, unknown where there is none."""
    empty = pa.schema([("min", dtype), ("max", dtype), ("null_count", pa.int64())])
    empty = empty.append(pa.field("nan_count", pa.int64()))
    parts, at = [], first
    for run in runs:
        if run.first > at:
            parts.append(_unknown(empty, run.first - at))
        parts.append(run.table)
        at = run.first + len(run.table)
    if at < end:
        parts.append(_unknown(empty, end - at))
    return pa.concat_tables(parts).combine_chunks()


def _unknown(schema: pa.Schema, files: int) -> pa.Table:
    return pa.table([pa.nulls(files, f.type) for f in schema], schema=schema)
