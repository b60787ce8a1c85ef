"""Rows of Parquet files come from the pool whose pages are cheap, and the process's own stays."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from io_core.formats.pool import drawn_from, lasting_pool, opened, rows_pool

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 100_000


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> str:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"x": pa.array(range(ROWS))}), path, write_page_checksum=True)
    return path


def _read(path: str) -> pa.Table:
    with pa.OSFile(path) as stored, opened(stored) as file:
        return file.read()


def test_rows_that_are_read_lie_in_the_pool_of_rows_and_the_processes_pool_stays(path: str) -> None:
    pool, before = rows_pool(), pa.default_memory_pool().backend_name
    held = pool.bytes_allocated()
    rows = _read(path)
    assert pool.bytes_allocated() - held >= rows.nbytes >= ROWS * 8
    assert pa.default_memory_pool().backend_name == before


def test_many_threads_that_open_files_leave_the_processes_pool_as_it_was(path: str) -> None:
    before = pa.default_memory_pool().backend_name
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(_read, [path] * 40, timeout=60))
    assert {len(rows) for rows in found} == {ROWS}
    assert pa.default_memory_pool().backend_name == before


def test_what_is_kept_for_long_lies_in_the_systems_memory() -> None:
    before, held = pa.default_memory_pool().backend_name, pa.system_memory_pool().bytes_allocated()
    with drawn_from(lasting_pool):
        kept = pa.array(range(ROWS))
    assert pa.default_memory_pool().backend_name == before
    assert pa.system_memory_pool().bytes_allocated() - held >= kept.nbytes


def test_the_processes_pool_stays_whatever_fails_while_it_is_another() -> None:
    before = pa.default_memory_pool().backend_name
    with pytest.raises(pa.ArrowInvalid), drawn_from(lasting_pool):
        pa.array(["no number"], pa.int64())
    assert pa.default_memory_pool().backend_name == before


def _draw() -> None:
    with drawn_from(lasting_pool):
        pass


def test_a_child_that_is_forked_meanwhile_waits_for_nobody() -> None:
    with drawn_from(lasting_pool):
        child = multiprocessing.get_context("fork").Process(target=_draw)
        child.start()
        child.join(60)
        assert child.exitcode == 0


@pytest.mark.parametrize("chosen", ["mimalloc", "system"])
def test_a_pool_that_the_process_was_given_is_the_pool_of_rows(chosen: str) -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from io_core.formats.pool import rows_pool as p; print(p().backend_name)",
        ],
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": chosen},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.strip() == chosen


def test_what_is_no_parquet_file_is_told_and_the_pool_stays(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"no parquet, and no footer either")
    before = pa.default_memory_pool().backend_name
    with pytest.raises(pa.ArrowInvalid, match="Parquet magic bytes"):
        _read(str(bad))
    assert pa.default_memory_pool().backend_name == before
