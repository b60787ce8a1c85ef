"""All of a plan but its files, and what its files add up to."""

from __future__ import annotations

from typing import Any

import msgspec

from io_core.bindings import StorageBinding
from io_core.merge_order import MergePlan
from io_core.model import PartitionScheme, SortScheme
from io_core.schema import SchemaField

__all__ = ["PartitionSummary", "PlanHeader", "Pruned"]


class Pruned(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one step of planning removed: its name, the predicate's columns that it used, how much."""

    step: str
    columns: tuple[str, ...] = ()
    files: int = 0
    size_bytes: int = 0


class PartitionSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Files of one partition of a plan, added up."""

    partition_id: str
    # Any: JSON scalars, typed by the partition scheme.
    partition_values: list[Any] | None
    files: int
    records: int
    size_bytes: int

    # By the names that plans and scan tasks have for them.
    @property
    def file_count(self) -> int:
        """The same as `files`."""
        return self.files

    @property
    def total_records(self) -> int:
        """The same as `records`."""
        return self.records

    @property
    def total_bytes(self) -> int:
        """The same as `size_bytes`."""
        return self.size_bytes


class PlanHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of a plan but its files. Field names are the protocol's.

    This project's additions: `snapshot`, the place in the catalog's one sequence that the plan
    shows; `table_files` and `table_bytes`, the size of the table there; `pruned`, what each step of
    planning removed from it; `plan_token`, which asks for other pages of this very plan; and of a
    plan of changes `since` (the snapshot after which its files were added) and `removed_files` (how
    many files that were there then are gone: not 0 where the changes are more than additions).

    `storage_bindings` are the stores of files that are not local; keys to them are no part of a
    header. `mor_plan` says by what rows of one key and stream position are sorted, the last to be kept.
    `schemas_serialized_by_id` has the schemas of older files, where a column's name, type or default is not theirs.
    `expires_at` (nanoseconds since the epoch) is how long the planned files surely stay. What training
    and placement need (`packds_uri` to `replication_status`) other planners tell.
    """

    namespace: str
    table: str
    table_version: str | None = None
    stream_id: str | None = None
    schema: list[SchemaField] | None = None
    schema_serialized: str | None = None
    schema_id: int | None = None
    schemas_serialized_by_id: dict[str, str] | None = None
    merge_keys: list[str] | None = None
    partition_scheme: PartitionScheme | None = None
    sort_scheme: SortScheme | None = None
    content_type: str = "parquet"
    requires_mor: bool = False
    mor_plan: MergePlan | None = None
    total_files: int = 0
    returned_files: int = 0
    total_records: int = 0
    total_bytes: int = 0
    truncated: bool = False
    next_file_offset: int | None = None
    snapshot_id: str | None = None
    snapshot: int | None = None
    table_files: int | None = None
    table_bytes: int | None = None
    pruned: tuple[Pruned, ...] = ()
    plan_token: str | None = None
    expires_at: int | None = None
    since: int | None = None
    removed_files: int | None = None
    transaction_id: str | None = None
    transaction_version_seen: int | None = None
    storage_bindings: dict[str, StorageBinding] | None = None
    # Any: JSON, for the published clients alone.
    data_roots: dict[str, Any] | None = None
    preferred_root_used: bool | None = None
    packds_uri: str | None = None
    # Any: JSON, as other planners tell it; here and below.
    episode_index: dict[str, Any] | None = None
    shard_manifest: dict[str, Any] | None = None
    available_recipes: list[Any] | None = None
    replication_status: dict[str, Any] | None = None
