"""Is every location understood or refused, and every damaged file named before an engine opens it?"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from io_core.errors import DataFileError, UnsupportedError
from io_core.execute import read_plan
from io_core.looked import check_files
from io_core.plan import PlanHeader, ReadPlan
from io_core.storage import local_path, persist
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def plan(tmp_path: Path) -> ReadPlan:
    client = Client(tmp_path / "catalog")
    rows = pa.table({"x": list(range(100))})
    client.catalog.write(rows, namespace="ns", table="t", max_rows_per_file=50)
    return client.catalog.plan(namespace="ns", table="t")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/data/a.parquet", "/data/a.parquet"),
        ("file:///data/a%20b.parquet", "/data/a b.parquet"),
        ("file://localhost/a", "/a"),
        ("relative/x", "relative/x"),
    ],
)
def test_local_locations_are_paths(location: str, path: str) -> None:
    assert local_path(location) == path


@pytest.mark.parametrize(
    "location", ["s3://b/k", "gs://b/k", "az://c/k", "abfss://c@a/k", "file://host/a"]
)
def test_other_locations_are_refused_by_scheme(location: str) -> None:
    with pytest.raises(UnsupportedError, match=r"is not supported: .*local paths") as caught:
        local_path(location)
    assert location in str(caught.value)


def test_whole_files_pass(plan: ReadPlan) -> None:
    check_files(plan)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [os.unlink, cut, garble, empty, replace_by_a_directory])
def test_a_damaged_file_is_named_with_its_plan(
    plan: ReadPlan, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = plan.paths[1]
    damage(tmp_path.joinpath(path))
    for use in (check_files, read_plan):
        with pytest.raises(DataFileError) as caught:
            use(plan)
        assert path in str(caught.value)
        assert "ReadPlan(ns.t at snapshot" in str(caught.value)
        assert "as_of=" in str(caught.value)


def replace_by_another(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"x" * path.stat().st_size)
    other.rename(path)


@pytest.mark.parametrize("damage", [os.unlink, replace_by_a_directory, replace_by_another])
def test_of_many_whole_files_one_that_goes_is_noticed_at_once(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    paths = [tmp_path / f"{i}.parquet" for i in range(150)]
    pq.write_table(pa.table({"x": [1]}), paths[0])
    for path in paths[1:]:
        shutil.copyfile(paths[0], path)
    for path in (*paths, tmp_path):
        os.utime(path, ns=(0, 10**18))
    files = pa.table(
        {
            "path": [*map(str, paths)],
            "content_length": [paths[0].stat().st_size] * len(paths),
            "content_type": ["parquet"] * len(paths),
        }
    )
    plan = ReadPlan(PlanHeader("ns", "t"), files)
    check_files(plan)
    check_files(plan)
    damage(paths[77])
    with pytest.raises(DataFileError, match=r"77\.parquet"):
        check_files(plan)


def test_files_are_flushed_with_the_directory_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    persist([str(tmp_path / "a")])
    persist([])
    with pytest.raises(FileNotFoundError):
        persist([str(tmp_path / "absent")])
