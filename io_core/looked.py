"""Is each planned file there, and whole? Looked at before an engine's own reader gets it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pyarrow import fs

from io_core.errors import DataFileError
from io_core.storage import is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.plan import ReadPlan
    from io_core.storage import Storage

__all__ = ["check_files", "looking_at"]


class _Listed(NamedTuple):
    """A file on a disk that was whole: when its directory had last changed, and how long that will do."""

    size: int
    folder: str
    changed_ns: int
    until_ns: int


# Files that were whole: on disks what tells that they are as they were, on S3 until when that is
# taken for granted. Data files never change; those that do were changed by accident.
_WHOLE: dict[str, tuple[int, int]] = {}
_LISTED: dict[str, _Listed] = {}
_MOST_REMEMBERED = 1_000_000
_TRUSTED_NS = 300 * 10**9
# Clocks of file systems are coarse: a file could change twice within one tick.
_SETTLED_NS = 2 * 10**9
# So few that a thread would take longer.
_FEW = 100
# Of a Parquet file: how long its footer is, and the format's name.
_TAIL = 8


class _File(NamedTuple):
    """What a plan says of a file."""

    path: str
    content_length: int
    content_type: str


@contextlib.contextmanager
def looking_at(plan: ReadPlan) -> Iterator[None]:
    """Run a block that reads no file, and `check_files` beside it; raises what that raises."""
    files = _not_listed(plan)
    if len(files) < _FEW:
        _look_at(files, plan)
        yield
        return
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        looked = beside.submit(_look_at, files, plan)
        yield
        looked.result()


def check_files(plan: ReadPlan) -> None:
    """Look at each planned file once, so that an engine is never handed one that is gone.

    Engines' own errors do not name the file, let alone the plan. Looked at are a file's size, and of
    Parquet its last eight bytes; of a file that was whole before in this process, and has not changed
    since, its size alone. Of large plans not even that within five minutes of the last look, while no
    file came to its directory, or went. On S3 it is two requests a file, some files at a time, and none
    within five minutes of the last.

    Raises:
        DataFileError: A file is missing, has another size, or does not end as Parquet does; names
            it and the plan.
    """
    _look_at(_not_listed(plan), plan)


def _not_listed(plan: ReadPlan) -> list[_File]:
    """The files that have to be looked at."""
    files = zip(*(plan.column(name) for name in _File._fields), strict=True)
    if plan.files.num_rows < _FEW:
        return [_File(*file) for file in files]
    now, changed = time.time_ns(), functools.cache(_changed)
    return [
        _File(path, size, kind)
        for path, size, kind in files
        if (found := _LISTED.get(path)) is None
        or now >= found.until_ns
        or size not in (0, found.size)
        or changed(found.folder) != found.changed_ns
    ]


def _look_at(files: list[_File], plan: ReadPlan) -> None:
    now = time.time_ns()
    if len(_WHOLE) > _MOST_REMEMBERED:
        _WHOLE.clear()
        _LISTED.clear()
    local = [file for file in files if not is_s3(file.path)]
    stored = [file for file in files if is_s3(file.path)]
    for path, problem in itertools.chain(
        _local_problems(local, now), _stored_problems(stored, plan.storage, now)
    ):
        raise DataFileError.of(path, problem, repr(plan))


def _local_problems(files: list[_File], now: int) -> Iterator[tuple[str, str]]:
    paths = [local_path(file.path) for file in files]
    folders = [os.path.dirname(path) for path in paths]
    # Before the files: what changes in between is looked at again.
    changed = {folder: _changed(folder) for folder in set(folders)}
    # One call, in which other threads go on.
    infos = fs.LocalFileSystem().get_file_info(paths)
    for file, path, folder, info in zip(files, paths, folders, infos, strict=True):
        found = info.size, info.mtime_ns
        if _WHOLE.get(path) != found or file.content_length not in (0, found[0]):
            problem = _problem(path, file.content_length, file.content_type)
            if problem:
                yield path, problem
                continue
            if found[0] is None or found[1] >= now - _SETTLED_NS:
                continue
            _WHOLE[path] = found
        at = changed[folder]
        if at < now - _SETTLED_NS:
            _LISTED[file.path] = _Listed(found[0], folder, at, now + _TRUSTED_NS)


def _changed(folder: str) -> int:
    """When a directory last changed; where that cannot be told, now."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return time.time_ns()


def _problem(path: str, size: int, kind: str) -> str | None:
    if kind == "lance":
        return None if os.path.isdir(path) else "is missing"
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        found = os.fstat(handle).st_size
        tail = os.pread(handle, _TAIL, max(found - _TAIL, 0))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        os.close(handle)
    return _problem_of(found, tail, size, kind)


def _stored_problems(files: list[_File], storage: Storage, now: int) -> Iterator[tuple[str, str]]:
    # A dataset is no object of its own.
    asked = [f for f in files if f.content_type != "lance" and not _is_trusted(f, now)]
    ends = storage.ends([(f.path, _TAIL if f.content_type == "parquet" else 0) for f in asked])
    for file, end in zip(asked, ends, strict=True):
        if isinstance(end, OSError):
            yield file.path, f"cannot be opened ({end.strerror or end})"
        elif problem := _problem_of(*end, file.content_length, file.content_type):
            yield file.path, problem
        _WHOLE[file.path] = file.content_length, now + _TRUSTED_NS


def _is_trusted(file: _File, now: int) -> bool:
    size, until = _WHOLE.get(file.path, (0, 0))
    return size == file.content_length and now < until


def _problem_of(found: int, tail: bytes, size: int, kind: str) -> str | None:
    if size and found != size:
        return f"has {found} bytes instead of {size}"
    whole = tail[4:] == b"PAR1" and int.from_bytes(tail[:4], "little") + 12 <= found
    return None if whole or kind != "parquet" else "is damaged (it has no Parquet footer)"
