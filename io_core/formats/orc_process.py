"""Where are ORC files decoded? In a process of its own: damaged ones crash Arrow's reader.

The process starts with the first file, serves one read at a time and ends with its parent. Frames
go both ways: one byte that says what, eight of the length, and so many bytes.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Literal

import msgspec
import pyarrow as pa
from pyarrow import orc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["decoded", "schema_in"]

_BATCH, _ERROR, _END = b"B", b"E", b"."


class _Request(msgspec.Struct, frozen=True):
    """A local file, and what of it: its schema, or the rows of some columns."""

    path: str
    what: Literal["schema", "rows"]
    columns: tuple[str, ...] | None = None


# By the process that made them: a fork must not speak to its parent's.
_idle: dict[int, list[subprocess.Popen[bytes]]] = {}
_lock = threading.Lock()


def decoded(path: str, columns: tuple[str, ...] | None) -> Iterator[pa.Table]:
    """The rows of a local file, stripe by stripe; an empty piece comes first.

    Raises:
        ValueError: Damaged, even so that its decoder crashed.
    """
    yield from _served(_Request(path, "rows", columns))


def schema_in(path: str) -> pa.Schema:
    """The schema of a local file.

    Raises:
        ValueError: Damaged.
    """
    return next(iter(list(_served(_Request(path, "schema"))))).schema


def _served(request: _Request) -> Iterator[pa.Table]:
    with _lock:
        idle = _idle.setdefault(os.getpid(), [])
        process = idle.pop() if idle else _started()
    is_done = False
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        _send(process.stdin, _BATCH, msgspec.json.encode(request))
        while True:
            kind, body = _received(process.stdout)
            if kind == _BATCH:
                yield pa.ipc.open_stream(pa.py_buffer(body)).read_all()
                continue
            is_done = True
            if kind == _ERROR:
                raise ValueError(body.decode())
            return
    except (EOFError, BrokenPipeError) as error:
        ended = process.wait()
        raise ValueError(f"decoding it ended the process that did, with {ended}") from error
    finally:
        # One that was left in the middle of a file is of no use any more.
        if is_done:
            with _lock:
                idle.append(process)
        else:
            _stopped(process)


def _started() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603  # this very module, by this very Python
        # By its path: it needs no other module of ours, nor the names of its neighbours.
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    try:
        _received(process.stdout)
    except EOFError as error:
        ended = process.wait()
        _stopped(process)
        raise RuntimeError(f"the process that decodes ORC does not start: {ended}") from error
    return process


def _stopped(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@atexit.register
def _end() -> None:
    for process in _idle.pop(os.getpid(), []):
        _stopped(process)


def _send(pipe: IO[bytes], kind: bytes, body: bytes) -> None:
    pipe.write(kind + len(body).to_bytes(8, "big"))
    pipe.write(body)
    pipe.flush()


def _received(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    head = pipe.read(9)
    if len(head) < 9:
        raise EOFError("no answer")
    body = pipe.read(int.from_bytes(head[1:], "big"))
    return head[:1], body


def _pieces(request: _Request) -> Iterator[pa.Table]:
    with pa.OSFile(request.path, "rb") as stored:
        opened = orc.ORCFile(stored)
        schema = opened.schema
        asked = request.columns
        found = schema.names if asked is None else [c for c in asked if c in schema.names]
        yield schema.empty_table().select(found)
        if request.what == "schema":
            return
        if not found:
            # One column of nulls counts the rows.
            yield pa.table({"": pa.nulls(opened.nrows)})
            return
        for i in range(opened.nstripes):
            # By place: a name with dots would mean a part of a struct.
            batch = opened.read_stripe(i, columns=[schema.get_field_index(c) for c in found])
            batch.validate(full=True)
            yield pa.Table.from_batches([batch]).select(found)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Say that it is there, and answer until the parent is gone."""
    _send(answers, _END, b"")
    while True:
        try:
            _, body = _received(requests)
        except EOFError:
            return
        try:
            for piece in _pieces(msgspec.json.decode(body, type=_Request)):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, piece.schema) as writer:
                    writer.write_table(piece)
                _send(answers, _BATCH, sink.getvalue().to_pybytes())
        except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError) as error:
            _send(answers, _ERROR, str(error).encode(errors="replace"))
        else:
            _send(answers, _END, b"")


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
