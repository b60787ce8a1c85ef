"""ReadPlan: the files that a read has to open, as a header and a table with one row per file.

The table's columns:

========================  ===========================================================================
`path`                    string; absolute, or a URI
`content_type`            string, `parquet`; `content_encoding` likewise
`content_length`          int64, bytes on disk
`record_count`            int64, rows in the file, before any merge
`delta_type`              string: add, append, upsert or delete
`stream_position`         int64; the order of deltas within a partition
`partition_id`            string; files of one id merge with each other and with no other file
`partition:<i>`           the i-th partition value, typed by its transform
`delete_columns`          string, JSON list of the columns that a delete file matches by, else null
`schema_id`               int32
`sort_scheme_id`          string, null where unknown
`residual`                bool; False where every row of the file is known to match the predicate
`deletes`                 binary, the file's dead rows (io_core.deletes); null where a merge by key
                          has to find them
`min:<c>`, `max:<c>`      of column c, in its type; null where unknown
`null_count:<c>`          int64, `nan_count:<c>` too; null where unknown
`first_row`, `end_row`    int64, added by engines that divide a Parquet file: the rows to read of it,
                          null for all; where rows merge, only beside its `deletes`
========================  ===========================================================================

Rows are in reading order: partition, stream position, entry. Statistics are there on request.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from io_core.bindings import Credential, file_access_ref
from io_core.errors import DataFileError, UnsupportedError
from io_core.lean_arrow import lean_array, lean_numpy
from io_core.literal import dump_array, kind_of, load_array
from io_core.merge_order import OrderKey, order_keys
from io_core.model import (
    ColumnStats,
    DataFile,
    ScanTask,
)
from io_core.plan_header import PartitionSummary, PlanHeader, Pruned
from io_core.plan_json import (
    constant,
    delta_starts,
    partition_values,
    task_heads,
    tasks_to_json,
)
from io_core.schema import decode_schema
from io_core.storage import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from io_core.storage import Storage

__all__ = [
    "FILE_COLUMNS",
    "PartitionSummary",
    "PlanHeader",
    "Pruned",
    "ReadPlan",
    "plan_from_ipc",
    "plan_from_wire",
    "plan_to_ipc",
    "plan_to_wire",
]

FILE_COLUMNS = pa.schema(
    [
        ("path", pa.string()),
        ("content_type", pa.string()),
        ("content_encoding", pa.string()),
        ("content_length", pa.int64()),
        ("record_count", pa.int64()),
        ("delta_type", pa.string()),
        ("stream_position", pa.int64()),
        ("partition_id", pa.string()),
        ("delete_columns", pa.string()),
        ("schema_id", pa.int32()),
        ("sort_scheme_id", pa.string()),
        ("residual", pa.bool_()),
        ("deletes", pa.binary()),
    ]
)
_HEADER_KEY = b"deltacat:plan"
_FEW_FILES = 1_000
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_PACKED = pa.ipc.IpcWriteOptions(compression="lz4")


class ReadPlan:
    """What to read: a header and a columnar table of files. Immutable, picklable, no I/O.

    Attributes:
        header: Everything but the files.
        files: One row per data file; this module's docstring lists the columns.
        storage: How the files are reached. Shows no keys, and pickles without them.
        credentials: Keys as they travel in JSON: set by planners, and taken out by clients; no part
            of a repr, a pickle or an Arrow stream.
    """

    def __init__(
        self,
        header: PlanHeader,
        files: pa.Table,
        storage: Storage = LOCAL,
        credentials: dict[str, Credential] | None = None,
    ) -> None:
        self.header = header
        self.files = files
        self.storage = storage
        self.credentials = credentials
        # Its encoded forms, as far as they hold no keys.
        self._encoded: dict[str, bytes] = {}

    def __repr__(self) -> str:
        h = self.header
        return (
            f"ReadPlan({h.namespace}.{h.table} at snapshot {h.snapshot}: "
            f"{self.files.num_rows} of {h.table_files or h.total_files} files)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReadPlan):
            return NotImplemented
        # How long the files surely stay is no part of what is read.
        one, two = (msgspec.structs.replace(p.header, expires_at=None) for p in (self, other))
        return one == two and bool(self.files.equals(other.files))

    __hash__ = None  # type: ignore[assignment]  # compares by value, and is large

    def __reduce__(self) -> tuple[object, ...]:
        storage = () if self.storage is LOCAL else (self.storage,)
        return plan_from_ipc, (plan_to_ipc(self, packed=True), *storage)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ReadPlan:
        """The plan that `save` wrote, here or elsewhere. Opens none of its files.

        Any engine reads it: `scan_deltacat("ns.table", plan=plan)`. Keys to files on S3 come from the
        planner, by `client.catalog.load_plan`.

        Raises:
            DataFileError: There is no such file, or no plan in it.
        """
        try:
            with pa.OSFile(os.fspath(path), "rb") as file:
                return plan_from_ipc(file.read())
        except (
            pa.ArrowException,
            msgspec.MsgspecError,
            KeyError,
            OSError,
            TypeError,
            ValueError,
        ) as error:
            raise DataFileError(f"{path!r} holds no plan ({error})") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file, for `load` to read; it holds no keys to any store.

        A file that is there is replaced as a whole.
        """
        target = os.path.abspath(path)
        # Written beside it first: half a plan could pass for one of fewer files.
        with tempfile.TemporaryDirectory(dir=os.path.dirname(target)) as folder:
            with open(os.path.join(folder, "plan"), "wb") as file:
                file.write(plan_to_ipc(self, packed=True))
            os.replace(file.name, target)

    def with_credentials(self, credentials: dict[str, Credential]) -> ReadPlan:
        """The same plan with keys on their way; what either is encoded as, both remember."""
        found = ReadPlan(self.header, self.files, self.storage, credentials)
        found._encoded = self._encoded
        return found

    def with_files(self, files: pa.Table) -> ReadPlan:
        """The same plan of other files: some of these, or these with other columns."""
        return ReadPlan(self.header, files, self.storage)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The table's Arrow schema at this snapshot, with field ids in its metadata."""
        if self.header.schema_serialized is None:
            raise UnsupportedError(
                f"{self!r} is of a schemaless table: its files have no columns in common"
            )
        return decode_schema(self.header.schema_serialized)

    def writer_schema(self, schema_id: int | None) -> pa.Schema | None:
        """The table's schema when a file was written; None where names are those of now."""
        return self._older_schemas.get(schema_id)

    @property
    def has_other_names(self) -> bool:
        """Whether a file may call a column by another name than the table does now."""
        older = self._older_schemas.keys()
        return bool(older) and not older.isdisjoint(self.files.column("schema_id").to_pylist())

    @functools.cached_property
    def _older_schemas(self) -> dict[int | None, pa.Schema]:
        held = self.header.schemas_serialized_by_id or {}
        return {int(number): decode_schema(text) for number, text in held.items()}

    @property
    def merge_keys(self) -> tuple[str, ...]:
        """Names of the columns that identify a row; empty where rows have no identity."""
        return tuple(self.header.merge_keys or ())

    @property
    def requires_merge(self) -> bool:
        """Whether the files must be merged by key (merge-on-read) to give the table's rows."""
        return self.header.requires_mor

    @property
    def merge_order(self) -> tuple[OrderKey, ...]:
        """What decides between rows of one key and stream position; empty where the last one wins.

        Raises:
            SchemaValidationError: A sort order of an unknown name.
        """
        return order_keys(self.header.mor_plan)

    @property
    def snapshot(self) -> int | None:
        """The place in the catalog's one sequence that this plan shows."""
        return self.header.snapshot

    @property
    def snapshot_id(self) -> str | None:
        """32 hex digits that only the planned files decide; None for no files."""
        return self.header.snapshot_id

    @property
    def packds_uri(self) -> str | None:
        """Where the training dataset is, as planners of such tell it."""
        return self.header.packds_uri

    @property
    def episode_index(self) -> dict[str, Any] | None:
        """Where its index of episodes is, and whether it is ready."""
        return self.header.episode_index

    @property
    def shard_manifest(self) -> dict[str, Any] | None:
        """Where the shards of the recipe are that was asked for; None where it has none."""
        return self.header.shard_manifest

    @property
    def preferred_root_used(self) -> bool | None:
        """Whether all paths are of the root that was preferred; None where none was."""
        return self.header.preferred_root_used

    @property
    def namespace(self) -> str:
        """Where the table is."""
        return self.header.namespace

    @property
    def table(self) -> str:
        """The table's name."""
        return self.header.table

    @property
    def table_version(self) -> str | None:
        """The version whose files these are."""
        return self.header.table_version

    @property
    def content_type(self) -> str:
        """The files' format; `mixed` where they are of several."""
        return self.header.content_type

    @property
    def returned_files(self) -> int:
        """Files of this page."""
        return self.header.returned_files

    @property
    def truncated(self) -> bool:
        """Whether this is one page, and not the last."""
        return self.header.truncated

    @property
    def next_file_offset(self) -> int | None:
        """The `offset` to plan the next page with; None on the last."""
        return self.header.next_file_offset

    @property
    def total_files(self) -> int:
        """Files that qualify, over all pages."""
        return self.header.total_files

    @property
    def total_records(self) -> int:
        """Rows in the files that qualify, before merge and row filter."""
        return self.header.total_records

    @property
    def total_bytes(self) -> int:
        """Bytes of the files that qualify."""
        return self.header.total_bytes

    @property
    def paths(self) -> list[str]:
        """Paths of this page's files, in reading order."""
        return list(self.files.column("path").to_pylist())

    def column(self, name: str) -> list[Any]:
        """One column of the table of files, as Python values."""
        return list(self.files.column(name).to_pylist())

    def groups(self) -> Iterator[ReadPlan]:
        """One plan per partition, in order; each merges by itself and can travel by itself."""
        if not self.files.num_rows:
            return
        runs = pc.run_end_encode(self.files.column("partition_id").combine_chunks())
        start = 0
        for end in runs.run_ends.to_pylist():
            yield self.with_files(self.files.slice(start, end - start))
            start = end

    @functools.cached_property
    def scan_tasks(self) -> list[ScanTask]:
        """The files as the protocol's tasks: one per delta and partition. Built when first asked for."""
        return list(_tasks(self))

    def all_files(self) -> list[DataFile]:
        """Every file of this page, as objects."""
        return [file for task in self.scan_tasks for file in task.files]

    def files_with_extension(self, *extensions: str) -> list[DataFile]:
        """Files whose path ends in one of the extensions, such as `".parquet"`; case is ignored."""
        wanted = {e.lower() for e in extensions}
        return [file for file in self.all_files() if file.extension in wanted]

    @property
    def encoded_arrow(self) -> bytes:
        """The plan as `plan_to_ipc` writes it; a planner sends the same one many times."""
        return self._remembered("arrow", plan_to_ipc)

    @property
    def encoded_tasks(self) -> bytes:
        """The tasks, with their files, as `plan_to_wire` writes them: most of it, without keys."""
        return self._remembered("tasks", _tasks_to_wire)

    def _remembered(self, form: str, encode: Callable[[ReadPlan], bytes]) -> bytes:
        found = self._encoded.get(form)
        if found is None:
            found = self._encoded[form] = encode(self)
        return found

    def partition_summaries(self) -> list[PartitionSummary]:
        """Files, rows and bytes per partition of this page."""
        return [
            PartitionSummary(
                partition_id=files["partition_id"][0].as_py(),
                partition_values=partition_values(files.slice(0, 1))[0],
                files=files.num_rows,
                records=pc.sum(files["record_count"]).as_py(),
                size_bytes=pc.sum(files["content_length"]).as_py(),
            )
            for files in (group.files for group in self.groups())
        ]

    def explain(self) -> str:
        """What pruned which part of the table, as text for people."""
        h = self.header
        lines = [f"{h.namespace}.{h.table} at snapshot {h.snapshot}"]
        lines.append(f"  in the table: {h.table_files} files, {h.table_bytes} bytes")
        for step in h.pruned:
            by = f" on {', '.join(step.columns)}" if step.columns else ""
            lines.append(f"  {step.step}{by}: -{step.files} files, -{step.size_bytes} bytes")
        merge = f", merged by {', '.join(self.merge_keys)}" if self.requires_merge else ""
        lines.append(f"  to read: {h.total_files} files, {h.total_bytes} bytes{merge}")
        return "\n".join(lines)


def _stats(files: pa.Table) -> list[dict[str, ColumnStats] | None]:
    held = [n for n in files.column_names if n.startswith("null_count:")]
    columns = [n.removeprefix("null_count:") for n in held]
    if not columns:
        return [None] * files.num_rows
    parts = []
    for column in columns:
        bounds = [
            dump_array(files.column(f"{kind}:{column}").combine_chunks()) for kind in ("min", "max")
        ]
        counts = [
            files.column(f"{kind}:{column}").to_pylist() for kind in ("null_count", "nan_count")
        ]
        parts.append(list(itertools.starmap(ColumnStats, zip(*bounds, *counts, strict=True))))
    return [dict(zip(columns, row, strict=True)) for row in zip(*parts, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values; most columns of a plan hold one value over and over."""
    if not len(column):
        return []
    if (same := constant(column)) is not None:
        return list(same) * len(column)
    if column.null_count == 0 and pa.types.is_integer(column.type):
        return list(itertools.chain.from_iterable(lean_numpy(c).tolist() for c in column.chunks))
    return list(column.to_pylist())


def _tasks(plan: ReadPlan) -> Iterator[ScanTask]:
    files, starts = _data_files(plan), delta_starts(plan.files)
    ends = [*starts, len(files)][1:]
    for head, start, end in zip(task_heads(plan, starts), starts, ends, strict=True):
        yield msgspec.structs.replace(head, files=tuple(files[start:end]))


def _data_files(plan: ReadPlan) -> list[DataFile]:
    """The files as objects, made column by column."""
    held = {name: _values(plan.files.column(name)) for name in FILE_COLUMNS.names}
    stores = tuple((plan.header.storage_bindings or {}).values())
    known: dict[str, Iterable[Any]] = {
        **held,
        "column_stats": _stats(plan.files),
        "file_access_ref": (file_access_ref(p, stores) if stores else None for p in held["path"]),
    }
    # What is in neither is None, as often as the others go.
    fields = (known.get(name, itertools.repeat(None)) for name in DataFile.__struct_fields__)
    # By place, which takes a third of the time that names take.
    return list(itertools.starmap(DataFile, zip(*fields, strict=False)))


def plan_to_wire(plan: ReadPlan) -> bytes:
    """The plan as the protocol's JSON."""
    header: dict[str, Any] = msgspec.to_builtins(plan.header)
    # The published clients need this and the tasks to be there.
    header["requires_mor"] = plan.requires_merge
    if plan.credentials is not None:
        header["credentials"] = plan.credentials
    # Put in by hand: an encoder would copy the tasks, which are most of it, time and again.
    opening = msgspec.json.encode(header).removesuffix(b"}")
    return b"".join((opening, b',"scan_tasks":', plan.encoded_tasks, b"}"))


def _tasks_to_wire(plan: ReadPlan) -> bytes:
    starts = delta_starts(plan.files)
    return tasks_to_json(plan, list(task_heads(plan, starts)), starts)


class _WirePlan(PlanHeader, frozen=True, omit_defaults=True):
    scan_tasks: list[ScanTask] = msgspec.field(default_factory=list)
    credentials: dict[str, Credential] | None = None


def plan_from_wire(raw: bytes) -> ReadPlan:
    """Read the protocol's JSON; the reverse of `plan_to_wire`, but for what JSON cannot carry.

    `residual` is True for every file: other planners do not say.
    """
    wire = msgspec.json.decode(raw, type=_WirePlan)
    header = msgspec.convert(
        {f: getattr(wire, f) for f in PlanHeader.__struct_fields__},
        PlanHeader,
        from_attributes=True,
    )
    pairs = [(task, file) for task in wire.scan_tasks for file in task.files]
    columns: dict[str, list[Any]] = {name: [] for name in FILE_COLUMNS.names}
    for task, file in pairs:
        locators = (task.entry_params or {}).get("equality_field_locators")
        row = (
            file.path,
            file.content_type.removeprefix("application/"),
            file.content_encoding,
            file.content_length,
            file.record_count,
            task.delta_type,
            task.stream_position,
            task.partition_id or json.dumps(task.partition_values),
            json.dumps(locators) if locators else None,
            file.schema_id,
            file.sort_scheme_id,
            True,
            file.deletes,
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    arrays = [lean_array(columns[field.name], field.type) for field in FILE_COLUMNS]
    files = pa.Table.from_arrays(arrays, schema=FILE_COLUMNS)
    if header.schema_serialized is not None:
        schema = decode_schema(header.schema_serialized)
        for name, array in _wire_columns(header, pairs, schema):
            files = files.append_column(name, array)
    return ReadPlan(header, files, credentials=wire.credentials)


def _wire_columns(
    header: PlanHeader, pairs: list[tuple[ScanTask, DataFile]], schema: pa.Schema
) -> Iterator[tuple[str, pa.Array]]:
    # Imported late: partition transforms build on predicates' literals, plans do not.
    from io_core.partition import value_type

    keys = header.partition_scheme.keys if header.partition_scheme else ()
    for i, key in enumerate(keys):
        values = [(task.partition_values or [None] * len(keys))[i] for task, _ in pairs]
        yield f"partition:{i}", load_array(values, value_type(key, schema))
    stats = [file.column_stats or {} for _, file in pairs]
    for column in sorted({c for s in stats for c in s} & set(schema.names)):
        found = [s.get(column, ColumnStats()) for s in stats]
        dtype = schema.field(column).type
        if kind_of(dtype) != "other":
            yield f"min:{column}", load_array([s.min for s in found], dtype)
            yield f"max:{column}", load_array([s.max for s in found], dtype)
        yield f"null_count:{column}", pa.array([s.null_count for s in found], pa.int64())
        yield f"nan_count:{column}", pa.array([s.nan_count for s in found], pa.int64())


def plan_to_ipc(plan: ReadPlan, *, packed: bool | None = None) -> bytes:
    """The plan as one Arrow IPC stream: the files, and the header as JSON in the schema's metadata.

    Args:
        plan: What to write.
        packed: Whether to compress it; None does where there are many files, since of few it takes
            longer than it saves.
    """
    metadata = {_HEADER_KEY: msgspec.json.encode(plan.header)}
    files = plan.files.replace_schema_metadata(metadata)
    if packed is None:
        packed = files.num_rows > _FEW_FILES
    if not packed:
        # A stream is its messages one after another, where no column is a dictionary, which none
        # of a plan is; a writer takes four times as long to say so.
        batches = (batch.serialize() for batch in files.to_batches())
        return b"".join((files.schema.serialize(), *batches, _END_OF_STREAM))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, files.schema, options=_PACKED) as writer:
        writer.write_table(files)
    return bytes(sink.getvalue())


def plan_from_ipc(raw: bytes, storage: Storage = LOCAL) -> ReadPlan:
    """The reverse of `plan_to_ipc`, which leaves out how files are reached."""
    with pa.ipc.open_stream(pa.py_buffer(raw)) as reader:
        files = reader.read_all()
    header = msgspec.json.decode((files.schema.metadata or {})[_HEADER_KEY], type=PlanHeader)
    return ReadPlan(header, files.replace_schema_metadata(None), storage)
