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
    from collections.abc import Callable, Iterator

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


class _File(NamedTuple):
    """What a plan says of a file."""

    path: str
    content_length: int
    content_type: str


@contextlib.contextmanager
def looking_at(plan: ReadPlan) -> Iterator[None]:
    """Run a block that reads no file, and `check_files` beside it; raises what that raises."""
    if plan.files.num_rows < _FEW:
        check_files(plan)
        yield
        return
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        looked = beside.submit(check_files, plan)
        yield
        looked.result()


def check_files(plan: ReadPlan) -> None:
    """Look at each planned file once, so that an engine is never handed one that is gone.

    Engines' own errors do not name the file, let alone the plan. Looked at are a file's size, and of
    Parquet its last eight bytes; of a file that was whole before in this process, and has not changed
    since, its size alone. Of large plans not even that within five minutes of the last look, while no
    file came to its directory, or went. On S3 it is a request a file, some at a time, and none within
    five minutes of the last.

    Raises:
        DataFileError: A file is missing, has another size, or does not end as Parquet does; names
            it and the plan.
    """
    files = list(zip(*(plan.column(name) for name in _File._fields), strict=True))
    now = time.time_ns()
    if len(_WHOLE) > _MOST_REMEMBERED:
        _WHOLE.clear()
        _LISTED.clear()
    local = [_File(local_path(path), size, kind) for path, size, kind in files if not is_s3(path)]
    stored = [_File(*file) for file in files if is_s3(file[0])] if len(local) < len(files) else []
    for path, problem in itertools.chain(
        _local_problems(local, now), _stored_problems(stored, plan.storage, now)
    ):
        raise DataFileError.of(path, problem, repr(plan))


def _local_problems(files: list[_File], now: int) -> Iterator[tuple[str, str]]:
    changed = functools.cache(_changed)
    folders: list[str] = []
    if len(files) >= _FEW:
        files = [file for file in files if not _is_listed(file, changed, now)]
        folders = [os.path.dirname(file.path) for file in files]
        for folder in folders:
            changed(folder)
    # One call, in which other threads go on.
    infos = fs.LocalFileSystem().get_file_info([file.path for file in files])
    for file, info, folder in itertools.zip_longest(files, infos, folders):
        found = info.size, info.mtime_ns
        if _WHOLE.get(file.path) != found or file.content_length not in (0, found[0]):
            problem = _problem(*file)
            if problem:
                yield file.path, problem
                continue
            if found[0] is None or found[1] >= now - _SETTLED_NS:
                continue
            _WHOLE[file.path] = found
        if folder is not None and changed(folder) < now - _SETTLED_NS:
            until = now + _TRUSTED_NS
            _LISTED[file.path] = _Listed(found[0], folder, changed(folder), until)


def _changed(folder: str) -> int:
    """When a directory last changed; where that cannot be told, now."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return time.time_ns()


def _is_listed(file: _File, changed: Callable[[str], int], now: int) -> bool:
    """Whether a file was whole lately, and its directory is as it was then."""
    found = _LISTED.get(file.path)
    return (
        found is not None
        and now < found.until_ns
        and file.content_length in (0, found.size)
        and changed(found.folder) == found.changed_ns
    )


def _problem(path: str, size: int, kind: str) -> str | None:
    if kind == "lance":
        return None if os.path.isdir(path) else "is missing"
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        found = os.fstat(handle).st_size
        tail = os.pread(handle, 8, max(found - 8, 0))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        os.close(handle)
    return _problem_of(found, tail, size, kind)


def _stored_problems(files: list[_File], storage: Storage, now: int) -> Iterator[tuple[str, str]]:
    # A dataset is no object of its own.
    asked = [f for f in files if f.content_type != "lance" and not _is_trusted(f, now)]
    ends = storage.ends([file.path for file in asked])
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
