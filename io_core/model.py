"""The values that plans and writes are made of; wire model and memory model in one.

Field names are the protocol's. Everything here is frozen, compares by value and pickles.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from io_core.bindings import Credential, FileAccessRef, StorageBinding
from io_core.storage import LOCAL, Storage

__all__ = [
    "REWRITTEN_FROM",
    "UNSORTED_ID",
    "ColumnStats",
    "DataFile",
    "DeltaType",
    "OpenedSession",
    "PartitionKey",
    "PartitionScheme",
    "ScanTask",
    "SortKey",
    "SortScheme",
    "TableRef",
    "WriteEntry",
    "WriteMode",
    "WriteSession",
    "check_name",
]

DeltaType = Literal["add", "append", "upsert", "delete"]
WriteMode = Literal[
    "auto", "create", "add", "append", "replace", "replace_partition", "merge", "delete"
]

# The protocol's id for "unpartitioned" and for "explicitly unsorted" alike.
UNSORTED_ID = "deadbeef-7277-49a4-a195-fdc8ed235d42"
# The parameter of an entry, this project's own, that names the files which all of its rows are from.
REWRITTEN_FROM = "rewritten_from"

_NAME = re.compile(r"[^\x00-\x1f/\\.\x7f][^\x00-\x1f/\\\x7f]{0,254}")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can name a namespace or table, else raise ValueError.

    A name has 1 to 255 characters, no slash, backslash or control character, and does not begin
    with a dot, so that no name can climb out of a directory.

    Example:
        >>> check_name("table", "../etc")
        Traceback (most recent call last):
        ValueError: '../etc' cannot name a table: use 1 to 255 characters without slashes or ...
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a {kind}: use 1 to 255 characters without slashes or control "
            "characters, not beginning with a dot"
        )
    return name


class TableRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table by name; `table_version` None means the latest active one."""

    namespace: str
    table: str
    table_version: str | None = None

    @classmethod
    def parse(cls, text: str | TableRef, table_version: str | None = None) -> TableRef:
        """Read `"namespace.table"`; the table's name may hold further dots. A version overrides.

        Raises:
            ValueError: It is no text with a dot, or a part cannot be a name.

        Example:
            >>> TableRef.parse("robotics.episodes")
            TableRef(namespace='robotics', table='episodes', table_version=None)
        """
        if isinstance(text, TableRef):
            if table_version is None:
                return text
            return msgspec.structs.replace(text, table_version=table_version)
        is_text = isinstance(text, str)
        if not is_text or "." not in text:
            raise ValueError(f"{text!r} is no table: write it as 'namespace.table'")
        namespace, _, table = text.partition(".")
        return cls(check_name("namespace", namespace), check_name("table", table), table_version)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.table}"


class PartitionKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a partition scheme: a column and how its values become partition values."""

    key: tuple[str, ...]
    transform: str | None = None

    @property
    def column(self) -> str:
        """The column's name; only top-level columns can be keys."""
        return self.key[0]


class PartitionScheme(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a table's rows are divided into partitions, in order of its keys."""

    keys: tuple[PartitionKey, ...]
    id: str | None = None
    name: str | None = None


class SortKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column of a sort scheme."""

    key: tuple[str, ...]
    sort_order: Literal["ascending", "descending"] = "ascending"
    null_order: Literal["at_start", "at_end"] = "at_end"
    transform: str | None = None


class SortScheme(msgspec.Struct, frozen=True, omit_defaults=True):
    """How rows are ordered within each data file; physical only, never the merge order."""

    keys: tuple[SortKey, ...]
    id: str | None = None
    name: str | None = None


class ColumnStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one column of one data file; a missing part is unknown, not zero.

    `min` and `max` are bounds as JSON scalars (io_core.literal), nulls and NaN left out; of text
    and binary columns they may be truncated. Counts are rows. `nan_count` is this project's own.
    """

    # Any: a JSON scalar, typed by the column it belongs to.
    min: Any = None
    max: Any = None
    null_count: int | None = None
    nan_count: int | None = None


class DataFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One data file of a plan. Sizes are bytes on disk, counts are rows.

    `deletes` is this project's own: the file's dead rows, where the plan was asked for them.
    """

    path: str
    content_type: str = "parquet"
    content_encoding: str = "identity"
    record_count: int = 0
    content_length: int = 0
    source_content_length: int | None = None
    id: str | None = None
    schema_id: int | None = None
    sort_scheme_id: str | None = None
    column_stats: dict[str, ColumnStats] | None = None
    deletes: bytes | None = None
    file_access_ref: FileAccessRef | None = None

    @property
    def name(self) -> str:
        """The path's last part."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def extension(self) -> str:
        """The path's last suffix with its dot, in lower case; empty where there is none."""
        name = self.name
        return "." + name.rsplit(".", 1)[-1].lower() if "." in name else ""


class ScanTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """The files that one delta added to one partition."""

    files: tuple[DataFile, ...]
    # Any: JSON scalars, typed by the partition scheme.
    partition_values: list[Any] | None = None
    partition_scheme_id: str | None = None
    partition_id: str | None = None
    stream_id: str | None = None
    delta_type: DeltaType = "append"
    stream_position: int = 0
    previous_stream_position: int | None = None
    entry_params: dict[str, list[str]] | None = None
    author_name: str | None = None
    author_version: str | None = None

    @property
    def file_count(self) -> int:
        """How many files."""
        return len(self.files)

    @property
    def total_records(self) -> int:
        """Rows in them, before any merge."""
        return sum(file.record_count for file in self.files)

    @property
    def total_bytes(self) -> int:
        """Their bytes on disk."""
        return sum(file.content_length for file in self.files)


class WriteEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One staged file that a commit makes part of the table.

    `partition_values` are JSON scalars in the scheme's order; required where the table is
    partitioned. Statistics are trusted by every later read: leave out what is not known.
    """

    path: str
    record_count: int
    content_length: int | None = None
    content_encoding: str | None = None
    content_type: str | None = None
    source_content_length: int | None = None
    column_stats: dict[str, ColumnStats] | None = None
    partition_values: list[Any] | None = None
    partition_scheme_id: str | None = None
    entry_params: dict[str, list[str]] | None = None
    schema_id: int | None = None
    sort_scheme_id: str | None = None

    @property
    def records(self) -> int:
        """Its rows: `record_count`, in short."""
        return self.record_count

    @property
    def bytes(self) -> int | None:
        """Its size on disk: `content_length`, in short."""
        return self.content_length


class WriteSession(msgspec.Struct, frozen=True, omit_defaults=True):
    """A planner's answer to stage, heartbeat, commit and abort.

    `session_version` grows with each change and goes back with the next call. Times are integer
    nanoseconds since the epoch, UTC. `files_registered` and what follows are set by a commit.
    A session that was staged in a transaction names it; its commit attaches it, and it becomes
    visible with the transaction.
    """

    session_id: str
    session_version: int
    status: str
    namespace: str
    table: str
    data_dir: str
    mode: WriteMode = "auto"
    format: str = "parquet"
    table_version: str | None = None
    catalog: str | None = None
    table_exists: bool | None = None
    schema_serialized: str | None = None
    schema: list[dict[str, Any]] | None = None
    # This project's own: entries of files that have exactly this schema name it.
    schema_id: int | None = None
    merge_keys: list[str] | None = None
    partition_scheme: PartitionScheme | None = None
    sort_scheme: SortScheme | None = None
    schema_evolution_mode: str | None = None
    schema_consistency_type: str | None = None
    target_records_per_file: int | None = None
    created_at: int = 0
    expires_at: int = 0
    last_heartbeat_at: int = 0
    files_registered: int | None = None
    total_records: int | None = None
    total_bytes: int | None = None
    deltas_written: int | None = None
    committed: bool | None = None
    attached: bool | None = None
    snapshot: int | None = None
    expected_table_id: str | None = None
    transaction_id: str | None = None
    transaction_version: int | None = None
    root_id: str | None = None
    binding_id: str | None = None
    binding_revision: int | None = None
    available_storage_bindings: dict[str, StorageBinding] | None = None
    # Any: JSON, for the published clients alone.
    available_roots: dict[str, Any] | None = None
    # On their way alone: a client takes them out, and the ledger never holds any.
    credentials: dict[str, Credential] | None = None

    @property
    def storage(self) -> Storage:
        """How the files of its `data_dir` are reached."""
        return LOCAL

    def path_for(self, relative_path: str) -> str:
        """Where to put a file of this name, below `data_dir`. Touches no disk.

        Raises:
            ValueError: The name leads out of `data_dir`.

        Example:
            >>> WriteSession("s", 1, "OPEN", "ns", "t", "/data/ws").path_for("a/b.parquet")
            '/data/ws/a/b.parquet'
        """
        if not relative_path or {"", ".", ".."} & set(relative_path.split("/")):
            raise ValueError(
                f"{relative_path!r} names no file below {self.data_dir}: write it like 'part/a.parquet'"
            )
        return f"{self.data_dir.rstrip('/')}/{relative_path}"

    def entry(
        self,
        path: str,
        *,
        records: int,
        bytes: int | None = None,  # the protocol's name
        content_encoding: str | None = None,
        column_stats: dict[str, ColumnStats] | None = None,
        source_bytes: int | None = None,
        partition_values: list[Any] | None = None,
        partition_scheme_id: str | None = None,
        entry_params: dict[str, list[str]] | None = None,
    ) -> WriteEntry:
        """Describe a file for the commit. Does not look at it.

        Args:
            path: Where it is.
            records: Its rows.
            bytes: Its size; None means whatever it has when it is committed.
            content_encoding: How its bytes are encoded; None means not at all.
            column_stats: Bounds and counts by column, true ones: every later read trusts them.
            source_bytes: Its size before it was encoded.
            partition_values: JSON scalars in the order of the table's partition keys.
            partition_scheme_id: Whose these values are.
            entry_params: For deletes, the columns that rows are told by.
        """
        return WriteEntry(
            path=path,
            record_count=records,
            content_length=bytes,
            content_encoding=content_encoding,
            source_content_length=source_bytes,
            column_stats=column_stats,
            partition_values=partition_values,
            partition_scheme_id=partition_scheme_id,
            entry_params=entry_params,
        )

    # Any: as `entry` takes it.
    def entry_for(self, relative_path: str, *, records: int, **described: Any) -> WriteEntry:
        """Describe a file below `data_dir`; see `path_for` and `entry`."""
        return self.entry(self.path_for(relative_path), records=records, **described)


class OpenedSession(WriteSession, frozen=True, omit_defaults=True):
    """A write session whose files are not local: it brings how they are reached.

    It pickles without keys; a process that it arrives in asks the planner for its own.
    """

    opened: Storage = LOCAL

    @property
    def storage(self) -> Storage:
        """How the files of its `data_dir` are reached."""
        return self.opened
