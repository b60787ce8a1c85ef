"""A table version's files as columns in memory, brought up to date by the ledger's sequence."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from io_core.errors import CatalogRootError
from io_core.literal import kind_of, load_array
from io_core.partition import value_type
from io_core.schema import FIELD_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from io_core.model import ColumnStats, PartitionScheme

__all__ = ["ENCODING", "ColumnCache", "FileColumns", "Stats", "pack_segment"]

ENCODING = "msgpack"
_LIVE = np.iinfo(np.int64).max
_PLAIN = {
    "path": pa.string(),
    "content_type": pa.string(),
    "content_encoding": pa.string(),
    "content_length": pa.int64(),
    "record_count": pa.int64(),
    "delta_type": pa.string(),
    "stream_position": pa.int64(),
    "delete_columns": pa.string(),
    "schema_id": pa.int32(),
    "sort_scheme_id": pa.string(),
}
_KINDS = ("min", "max", "null_count", "nan_count")


def pack_segment(schema: pa.Schema, stats: Sequence[dict[str, ColumnStats] | None]) -> bytes:
    """Statistics of consecutive files as columns: field id -> min, max, null_count, nan_count."""
    body = {}
    for field in schema:
        column = [(s or {}).get(field.name) for s in stats]
        if any(c is not None for c in column):
            field_id = (field.metadata or {})[FIELD_ID].decode()
            body[field_id] = [
                [None if c is None else getattr(c, kind) for c in column] for kind in _KINDS
            ]
    return msgspec.msgpack.encode(body)


class _Segment(NamedTuple):
    """Statistics of a run of files, as the ledger keeps them."""

    files: int
    body: bytes


class Stats:
    """Statistics of files, unpacked one column at a time and kept from then on; threads share it.

    Most plans ask for few columns, and many for none.
    """

    def __init__(self, segments: tuple[_Segment, ...] = ()) -> None:
        self.segments = segments
        # Per column: how many segments are unpacked, and what they hold.
        self._unpacked: dict[str, tuple[int, pa.Table]] = {}

    def extended(self, segments: tuple[_Segment, ...]) -> Stats:
        """These statistics and those of further files; what is unpacked stays so."""
        longer = Stats(self.segments + segments)
        longer._unpacked = dict(self._unpacked)
        return longer

    def of(self, field: pa.Field) -> pa.Table | None:
        """`min:<c>`, `max:<c>`, `null_count:<c>` and `nan_count:<c>` of each file.

        None where columns of the field's type have no statistics.
        """
        if kind_of(field.type) == "other":
            return None
        done, table = self._unpacked.get(field.name, (0, None))
        if table is None or done < len(self.segments):
            added = _unpack(self.segments[done:], field)
            table = added if table is None else pa.concat_tables([table, added]).combine_chunks()
            self._unpacked[field.name] = (len(self.segments), table)
        return table


class FileColumns(NamedTuple):
    """All files that a table version ever had, in order of file id. Never changed, only replaced.

    Attributes:
        seq: The ledger's sequence up to which this is complete.
        files: A plan's columns but `partition_id`, `residual` and statistics; paths relative to
            the root.
        stats: The files' statistics.
        file_id: (files,) int64.
        begin: (files,) first snapshot that shows the file.
        end: (files,) first snapshot that no longer does; the greatest integer while it is live.
        partition: (files,) the ledger's id of the file's partition.
        hashes: (files, 4) uint64; the file's 128-bit hash in limbs of 32 bits, least first.
    """

    seq: int
    files: pa.Table
    stats: Stats
    file_id: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    partition: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]

    def live(self, snapshot: int) -> npt.NDArray[np.bool_]:
        """Which files the snapshot shows."""
        return (self.begin <= snapshot) & (snapshot < self.end)


class ColumnCache:
    """FileColumns of the tables in use; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, FileColumns] = {}

    def get(
        self,
        db: apsw.Connection,
        version_id: int,
        schema: pa.Schema,
        scheme: PartitionScheme | None,
    ) -> FileColumns:
        """The version's files, at least up to the snapshot that `db` sees."""
        (seq,) = db.execute("SELECT coalesce(max(seq), 0) FROM revision").fetchone()
        known = self._known.get(version_id)
        if known is not None and known.seq >= seq:
            return known
        with self._lock:
            known = self._known.get(version_id)
            if known is None or known.seq < seq:
                known = _extend(db, version_id, schema, scheme, known, int(seq))
                self._known[version_id] = known
        return known


def _extend(
    db: apsw.Connection,
    version_id: int,
    schema: pa.Schema,
    scheme: PartitionScheme | None,
    known: FileColumns | None,
    seq: int,
) -> FileColumns:
    last = int(known.file_id[-1]) if known is not None and len(known.file_id) else 0
    added = _load(db, version_id, schema, scheme, last, seq)
    if known is None:
        return added
    ended = db.execute(
        "SELECT file_id, end_seq FROM file WHERE version_id = ? AND end_seq > ? AND file_id <= ?",
        (version_id, known.seq, last),
    ).fetchall()
    end = known.end
    if ended:
        ids, seqs = np.array(ended, np.int64).T
        end = end.copy()
        end[np.searchsorted(known.file_id, ids)] = seqs
    if not added.files.num_rows:
        return known._replace(seq=seq, end=end)
    return FileColumns(
        seq,
        pa.concat_tables([known.files, added.files]).combine_chunks(),
        known.stats.extended(added.stats.segments),
        np.concatenate([known.file_id, added.file_id]),
        np.concatenate([known.begin, added.begin]),
        np.concatenate([end, added.end]),
        np.concatenate([known.partition, added.partition]),
        np.concatenate([known.hashes, added.hashes]),
    )


def _load(
    db: apsw.Connection,
    version_id: int,
    schema: pa.Schema,
    scheme: PartitionScheme | None,
    after: int,
    seq: int,
) -> FileColumns:
    names = ["file_id", "begin_seq", "end_seq", "partition_id", "hash", *_PLAIN]
    rows = db.execute(
        f"SELECT {', '.join(names)} FROM file WHERE version_id = ? AND file_id > ? ORDER BY file_id",
        (version_id, after),
    ).fetchall()
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    file_id, begin, end, partition, hashes = columns[:5]
    ids = np.array(file_id, np.int64)
    partitions = np.array(partition, np.int64)
    arrays = [pa.array(v, t) for v, t in zip(columns[5:], _PLAIN.values(), strict=True)]
    table = pa.table(arrays, names=list(_PLAIN))
    for name, array in _partition_columns(db, version_id, schema, scheme, partitions):
        table = table.append_column(name, array)
    stats = Stats(_segments(db, version_id, after))
    if sum(segment.files for segment in stats.segments) != len(ids):
        raise CatalogRootError(f"the ledger's statistics do not cover its {len(ids)} files")
    limbs = np.frombuffer(b"".join(hashes), "<u4").reshape(-1, 4).astype(np.uint64)
    ends = np.array([_LIVE if e is None else e for e in end], np.int64)
    return FileColumns(seq, table, stats, ids, np.array(begin, np.int64), ends, partitions, limbs)


def _partition_columns(
    db: apsw.Connection,
    version_id: int,
    schema: pa.Schema,
    scheme: PartitionScheme | None,
    partitions: npt.NDArray[np.int64],
) -> list[tuple[str, pa.Array]]:
    if scheme is None:
        return []
    found = db.execute(
        "SELECT partition_id, partition_values FROM partition WHERE version_id = ? ORDER BY partition_id",
        (version_id,),
    ).fetchall()
    ids = np.array([row[0] for row in found], np.int64)
    values = [msgspec.json.decode(row[1]) for row in found]
    positions = pa.array(np.searchsorted(ids, partitions))
    return [
        (
            f"partition:{i}",
            load_array([v[i] for v in values], value_type(key, schema)).take(positions),
        )
        for i, key in enumerate(scheme.keys)
    ]


def _segments(db: apsw.Connection, version_id: int, after: int) -> tuple[_Segment, ...]:
    found = db.execute(
        "SELECT last_file_id - first_file_id + 1, encoding, body FROM segment"
        " WHERE version_id = ? AND first_file_id > ? ORDER BY first_file_id",
        (version_id, after),
    ).fetchall()
    for _, encoding, _ in found:
        if encoding != ENCODING:
            raise CatalogRootError(
                f"the ledger holds statistics encoded as {encoding!r}, which this release cannot "
                "read: upgrade deltacat-sources"
            )
    return tuple(_Segment(int(files), body) for files, _, body in found)


def _unpack(segments: tuple[_Segment, ...], field: pa.Field) -> pa.Table:
    """One column's statistics of every file, null where a segment does not say."""
    field_id = (field.metadata or {})[FIELD_ID].decode()
    # Any: the JSON scalars that `pack_segment` wrote.
    parts: list[list[Any]] = [[] for _ in _KINDS]
    for files, body in segments:
        held = msgspec.msgpack.decode(body).get(field_id) or [[None] * files] * len(_KINDS)
        for part, values in zip(parts, held, strict=True):
            part.extend(values)
    types = (field.type, field.type, pa.int64(), pa.int64())
    arrays = [load_array(values, dtype) for values, dtype in zip(parts, types, strict=True)]
    return pa.table(arrays, names=[f"{kind}:{field.name}" for kind in _KINDS])
