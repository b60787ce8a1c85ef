"""What may plans use again? Earlier answers and survivors, versions in a view, snapshots of old pages."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from io_core.merge_order import merge_plan
from io_core.plan import ReadPlan
from io_core.schema import encode_schema, fields_of, needs_alignment
from planner_client.server.catalog import find_version, schemas_by_id
from planner_client.server.pruning import Survivors

if TYPE_CHECKING:
    from io_core.merge_order import MergePlan
    from io_core.schema import SchemaField
    from planner_client.protocol.plans import PlanRequest
    from planner_client.server.catalog import Version
    from planner_client.server.store import View

__all__ = ["Known", "PlanCache"]

# How long an old client's next page is answered from the snapshot of its first one.
_PAGING_NS = 600 * 10**9
_MOST_PAGED = 10_000
_MOST_VERSIONS = 1_000
_QUICK_S = 0.003
_QUICK_FILES = 2_000
_KEPT_BYTES = 64 * 2**20
# What takes a larger part of it is not kept: the plan of a very large table would be all there is.
_LARGEST_PART = 4
# What an entry takes besides its columns.
_ENTRY_BYTES = 2_000
# And what a column does besides its values.
_COLUMN_BYTES = 1_000
# A plan's columns, and what they are encoded as, as Arrow and as JSON.
_FORMS = 3


class Known(NamedTuple):
    """A table version, and its schema as plans carry it."""

    version: Version
    fields: list[SchemaField] | None
    serialized: str | None
    merge: MergePlan | None
    older: dict[str, str] | None


class _Kept:
    """Values by key, as many as fit; the least recently used go first. Threads share it."""

    def __init__(self, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[object, ...], tuple[object, int]] = OrderedDict()
        self._limit_bytes = limit_bytes
        self.size_bytes = 0

    def get(self, key: tuple[object, ...]) -> object:
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
        return found[0]

    def put(self, key: tuple[object, ...], value: object, size: int) -> None:
        size += _ENTRY_BYTES
        with self._lock:
            _, before = self._held.pop(key, (None, 0))
            self.size_bytes -= before
            if size > self._limit_bytes // _LARGEST_PART:
                return
            self._held[key] = value, size
            self.size_bytes += size
            while self.size_bytes > self._limit_bytes:
                self.size_bytes -= self._held.popitem(last=False)[1][1]


class PlanCache:
    """Answers, survivors and snapshots by what was asked. Threads share it.

    Args:
        limit_bytes: How much answers and survivors may take, all tables together.
    """

    def __init__(self, limit_bytes: int = _KEPT_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept = _Kept(limit_bytes)
        self._versions: OrderedDict[tuple[object, ...], Known] = OrderedDict()
        self._quick: set[tuple[object, ...]] = set()
        self._paged: OrderedDict[tuple[str, bytes], tuple[int, int]] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """What is kept of answers and survivors."""
        return self._kept.size_bytes

    def version(self, view: View, request: PlanRequest) -> Known:
        """The version that a request means in a view."""
        key = (view.base, request.namespace, request.table, request.table_version)
        known = self._versions.get(key) if view.own < 0 else None
        if known is None:
            found = find_version(view, request.namespace, request.table, request.table_version)
            schema = found.schema
            known = Known(
                found,
                None if schema is None else fields_of(schema),
                None if schema is None else encode_schema(schema),
                merge_plan(schema) if found.merge_keys else None,
                _older(view, found),
            )
            with self._lock:
                if view.own < 0:
                    self._versions[key] = known
                while len(self._versions) > _MOST_VERSIONS:
                    self._versions.popitem(last=False)
        return known

    def is_quick(self, request: PlanRequest) -> bool:
        """Whether the last plan of this table and page size took next to no time."""
        return _quick_key(request) in self._quick

    def timed(self, request: PlanRequest, seconds: float, files: int) -> None:
        """Remember how long a plan took."""
        key = _quick_key(request)
        if seconds < _QUICK_S and files <= _QUICK_FILES:
            if len(self._quick) < _MOST_VERSIONS:
                self._quick.add(key)
        else:
            self._quick.discard(key)

    def survivors(self, key: tuple[object, ...]) -> Survivors | None:
        """The answer to an earlier question, if it is still here."""
        found = self._kept.get(("survivors", *key))
        return found if isinstance(found, Survivors) else None

    def keep(self, key: tuple[object, ...], left: Survivors) -> None:
        """Remember which files were left, for other pages of the same question."""
        self._kept.put(("survivors", *key), left, left.rows.nbytes + left.residual.nbytes)

    def answer(self, key: tuple[object, ...], expires_at: int | None) -> ReadPlan | None:
        """The plan that an earlier request for the same got, if it is still here."""
        found = self._kept.get(("answer", *key))
        if not isinstance(found, ReadPlan) or found.header.expires_at == expires_at:
            return found if isinstance(found, ReadPlan) else None
        header = msgspec.structs.replace(found.header, expires_at=expires_at)
        return self.keep_answer(key, ReadPlan(header, found.files))

    def keep_answer(self, key: tuple[object, ...], found: ReadPlan) -> ReadPlan:
        """Remember a plan, which also remembers its encoded forms."""
        files = found.files
        size = _FORMS * files.get_total_buffer_size() + _COLUMN_BYTES * files.num_columns
        self._kept.put(("answer", *key), found, size)
        return found

    def is_complete(self, key: tuple[int, ...]) -> bool:
        """Whether all dead rows of a snapshot were known when last asked."""
        return self._kept.get(("complete", *key)) is not None

    def note_complete(self, key: tuple[int, ...]) -> None:
        """Remember that all dead rows of a snapshot are known."""
        self._kept.put(("complete", *key), True, 0)

    def paging(self, caller: str, question: bytes, now_ns: int) -> int | None:
        """The snapshot that answered this caller's first page of the question, if lately."""
        with self._lock:
            snapshot, until_ns = self._paged.get((caller, question), (None, 0))
        return snapshot if now_ns < until_ns else None

    def paged(self, caller: str, question: bytes, snapshot: int, now_ns: int) -> None:
        """Remember which snapshot answered a page, and was not the whole."""
        with self._lock:
            self._paged[caller, question] = snapshot, now_ns + _PAGING_NS
            self._paged.move_to_end((caller, question))
            while len(self._paged) > _MOST_PAGED:
                self._paged.popitem(last=False)


def _quick_key(request: PlanRequest) -> tuple[object, ...]:
    small = request.filter_predicate is not None or not request.include_files
    return request.namespace, request.table, request.table_version, request.max_files, small


def _older(view: View, version: Version) -> dict[str, str] | None:
    """Earlier schemas by their ids, where columns are there, or of a name or type, unlike now."""
    if version.schema is None or not needs_alignment(version.schema):
        return None
    earlier = schemas_by_id(view, version.version_id)
    return {str(i): encode_schema(s) for i, s in earlier.items() if i != version.schema_id}
