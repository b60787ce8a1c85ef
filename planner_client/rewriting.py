"""Which files hold rows that are to go, and what stands in their partitions instead?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from io_core import formats
from io_core.execute import execute
from io_core.formats.content import content_type_of
from io_core.model import REWRITTEN_FROM, WriteEntry
from io_core.schema import decode_schema, needs_alignment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    import pyarrow.compute as pc

    from io_core.model import DataFile
    from io_core.plan import ReadPlan
    from io_core.sink import OpenSink

__all__ = ["Rewriting"]


class Rewriting:
    """Rows of an unkeyed table on their way out. Reads the columns of the predicate of all files it is given.

    Args:
        plan: The files that may hold such rows.
        is_gone: Is true of the rows that go.
        columns: The columns that it asks for.

    Attributes:
        partitions: The ids of the partitions that hold such rows.
        rows: How many they are.
        files: How many files are written anew without them.
    """

    def __init__(self, plan: ReadPlan, is_gone: pc.Expression, columns: Sequence[str]) -> None:
        self._is_gone = is_gone
        self._gone: dict[str, int] = {}
        self.files = 0
        partitions: dict[str, None] = {}
        for one, file in _singly(plan):
            count = self._count(one, file, columns)
            if count:
                self._gone[file.path] = count
                partitions[one.files.column("partition_id")[0].as_py()] = None
        self.partitions = tuple(partitions)
        self.rows = sum(self._gone.values())

    def _count(self, one: ReadPlan, file: DataFile, columns: Sequence[str]) -> int:
        if not one.files.column("residual")[0].as_py() or not columns:
            # The planner knows that all rows are true of it, or it asks for no row's values.
            return file.record_count
        pieces = execute(one, columns=columns)
        return sum(piece.filter(self._is_gone).num_rows for piece in pieces)

    def entries(self, plan: ReadPlan, sink: OpenSink) -> list[WriteEntry]:
        """What these partitions consist of afterwards, in reading order.

        Files that keep all of their rows stay as they are. Of a partition that keeps none an entry
        without rows says so; our planner has no file of it then.

        Args:
            plan: All files of the partitions, with statistics; others are passed over.
            sink: Where files are written anew.
        """
        found: list[WriteEntry] = []
        for group in plan.groups():
            if group.files.column("partition_id")[0].as_py() not in self.partitions:
                continue
            held = [entry for part in _singly(group) for entry in self._kept(*part, sink)]
            values = group.scan_tasks[0].partition_values
            if not held and plan.header.partition_scheme is not None:
                held = [_empty(sink, values)]
            found += held
        return found

    def _kept(self, one: ReadPlan, file: DataFile, sink: OpenSink) -> list[WriteEntry]:
        gone = self._gone.get(file.path, 0)
        if gone == file.record_count:
            return []
        if not gone and _stays(one, file):
            return [_as_it_is(one, file, sink)]
        self.files += 1
        written = sink.write_batches(self._left(one))
        if one.snapshot is None:
            # Another planner, which does not know of whose rows they are.
            return written
        origin = {REWRITTEN_FROM: [file.path]}
        return [msgspec.structs.replace(entry, entry_params=origin) for entry in written]

    def _left(self, one: ReadPlan) -> Iterator[pa.Table]:
        stays = self._is_gone.is_null() | ~self._is_gone
        return (piece.filter(stays) for piece in execute(one))


def _singly(plan: ReadPlan) -> Iterator[tuple[ReadPlan, DataFile]]:
    """Each file of a plan by itself."""
    for i, file in enumerate(plan.all_files()):
        yield plan.with_files(plan.files.slice(i, 1)), file


def _stays(one: ReadPlan, file: DataFile) -> bool:
    """Whether a file reads the same after a commit that says of it that it has the table's schema."""
    is_parquet = content_type_of(file.content_type).name == "parquet"
    is_current = file.schema_id == one.header.schema_id or not needs_alignment(one.schema)
    return is_parquet and file.content_encoding == "identity" and is_current


def _as_it_is(one: ReadPlan, file: DataFile, sink: OpenSink) -> WriteEntry:
    return WriteEntry(
        path=file.path,
        record_count=file.record_count,
        content_length=file.content_length,
        column_stats=file.column_stats,
        partition_values=one.scan_tasks[0].partition_values,
        sort_scheme_id=file.sort_scheme_id,
        schema_id=sink.session.schema_id,
    )


# Any: JSON scalars, typed by the partition scheme.
def _empty(sink: OpenSink, values: list[Any] | None) -> WriteEntry:
    session = sink.session
    schema = decode_schema(session.schema_serialized or "")
    entry = formats.write_new(
        schema.empty_table(),
        session.data_dir,
        session.format,
        storage=session.storage,
        partition_values=values,
    )
    return msgspec.structs.replace(entry, schema_id=session.schema_id)
