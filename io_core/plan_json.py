"""How is a plan's list of files written as the protocol's JSON? Column by column.

Most files of a plan differ in path, size and rows alone: their texts are joined by Arrow, and no
object is made of a file. The objects (`ReadPlan.scan_tasks`) say the same, and are what is written
where files differ in more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from io_core.literal import dump_array
from io_core.model import UNSORTED_ID, DataFile, ScanTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.plan import ReadPlan

__all__ = [
    "OF_DELTA",
    "constant",
    "delta_starts",
    "partition_values",
    "task_heads",
    "tasks_to_json",
]

# What tells one delta, or one partition, from another.
OF_DELTA = ("partition_id", "stream_position", "delta_type", "delete_columns")
# What a file's text has besides its path, size and rows.
_SHARED = ("content_type", "content_encoding", "schema_id", "sort_scheme_id")
_NO_FILES = '"files":[]'
_PATH = b'{"path":""'
_QUOTE, _BACKSLASH, _FIRST_PLAIN = 0x22, 0x5C, 0x20


def constant(column: pa.ChunkedArray) -> tuple[Any] | None:
    """The value that a column holds over and over, in a tuple; None where it holds several."""
    if column.null_count == len(column):
        return (None,)
    first = column[0]
    if column.null_count == 0 and pc.all(pc.equal(column, first)).as_py():
        return (first.as_py(),)
    return None


def delta_starts(files: pa.Table) -> list[int]:
    """Where the files of each delta and partition begin, which stand together."""
    if not files.num_rows:
        return []
    ends = [np.array([files.num_rows])]
    ends += [
        pc.run_end_encode(column.combine_chunks()).run_ends.to_numpy()
        for column in map(files.column, OF_DELTA)
        # What is null throughout divides nothing.
        if column.null_count < len(column)
    ]
    return [0, *np.unique(np.concatenate(ends))[:-1].tolist()]


def _partition_columns(files: pa.Table) -> list[str]:
    return [name for name in files.column_names if name.startswith("partition:")]


def partition_values(files: pa.Table) -> list[list[Any] | None]:
    """The partition's values of each file, as JSON scalars; None where there are none."""
    names = _partition_columns(files)
    if not names:
        return [None] * files.num_rows
    columns = [dump_array(files.column(n).combine_chunks()) for n in names]
    return [list(values) for values in zip(*columns, strict=True)]


def task_heads(plan: ReadPlan, starts: list[int]) -> Iterator[ScanTask]:
    """One task for the files of each delta and partition, which stand together; without the files."""
    told = [*OF_DELTA, *_partition_columns(plan.files)]
    firsts = plan.files.select(told).take(pa.array(starts, pa.int64()))
    scheme = plan.header.partition_scheme
    deltas = zip(*(firsts.column(name).to_pylist() for name in OF_DELTA), strict=True)
    for values, delta in zip(partition_values(firsts), deltas, strict=True):
        partition_id, position, kind, locators = delta
        yield ScanTask(
            files=(),
            partition_values=values,
            partition_scheme_id=(scheme.id if scheme else None) or UNSORTED_ID,
            partition_id=partition_id,
            stream_id=plan.header.stream_id,
            delta_type=kind,
            stream_position=position,
            entry_params={"equality_field_locators": json.loads(locators)} if locators else None,
        )


def tasks_to_json(plan: ReadPlan, heads: Sequence[ScanTask], starts: Sequence[int]) -> bytes:
    """The plan's tasks as a JSON array.

    Args:
        plan: Whose files to write.
        heads: Its tasks, without files.
        starts: Where the files of each begin.
    """
    # Inside of a text quotes are escaped: each task has these bytes once.
    *around, end = msgspec.json.encode(heads).decode().split(_NO_FILES)
    before = [","] * plan.files.num_rows
    for start, text in zip(starts, around, strict=True):
        before[start] = f'{"]" if start else ""}{text}"files":['
    texts = _file_texts(plan, before)
    if texts is None:
        return msgspec.json.encode(plan.scan_tasks)
    # Texts that Arrow makes stand one behind the other.
    written = texts.buffers()[2] if starts else b""
    return b"".join((written, b"]" if starts else b"", end.encode()))


def _file_texts(plan: ReadPlan, before: list[str]) -> pa.Array | None:
    """Each file's JSON, and what is before it; None where they differ in more than path, size and rows."""
    files = plan.files
    shared = {name: constant(files.column(name)) for name in (*_SHARED, "deletes")}
    several = plan.header.storage_bindings or any(n.startswith("min:") for n in files.column_names)
    paths = files.column("path").combine_chunks()
    if several or None in shared.values() or _needs_escape(paths):
        return None
    values = {name: held[0] for name, held in shared.items() if held is not None}
    rest = msgspec.json.encode(DataFile("", **values)).removeprefix(_PATH).decode()
    rows, size = (
        files.column(name).combine_chunks().cast(pa.string())
        for name in ("record_count", "content_length")
    )
    between = ('{"path":"', '","record_count":', ',"content_length":', rest, "")
    opening, before_rows, before_size, closing, nothing = (pa.scalar(text) for text in between)
    return pc.binary_join_element_wise(
        *(pa.array(before, pa.string()), opening, paths, before_rows, rows, before_size),
        *(size, closing, nothing),
    )


def _needs_escape(texts: pa.Array) -> bool:
    """Whether JSON writes a character of the texts otherwise than it is."""
    _, offsets, data = texts.buffers()
    if data is None or texts.null_count:
        return bool(texts.null_count)
    ends = np.frombuffer(offsets, np.int32)[texts.offset :]
    raw = np.frombuffer(data, np.uint8)[ends[0] : ends[len(texts)]]
    return bool(((raw < _FIRST_PLAIN) | (raw == _QUOTE) | (raw == _BACKSLASH)).any())
