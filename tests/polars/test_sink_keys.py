"""Does a frame that is written to a keyed table leave the keys that commits look for?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from deltacat_sources.polars import scan_deltacat, sink_deltacat
from io_core.key_files import KeyedFile, codes_of, key_path
from io_core.model import TableRef
from io_core.scan import Scan
from planner_client import Client

if TYPE_CHECKING:
    from pathlib import Path

FRAME = pl.DataFrame(
    {
        "id": [3, 1, None, 2, 7],
        "name": ["x", None, "", "é" * 40, "y"],
        "at": pl.Series([0, 1, 2, 3, None]).cast(pl.Datetime("us")),
        "part": ["a", "b", "a", "b", "a"],
    }
)


@pytest.mark.parametrize("keys", [["id"], ["name"], ["at", "id"], ["part", "name"]], ids="+".join)
@pytest.mark.parametrize("rows_per_file", [1_000_000, 2])
@pytest.mark.parametrize("partition_by", [None, "part"])
def test_every_file_of_a_keyed_table_has_its_keys_beside_it(
    tmp_path: Path, keys: list[str], rows_per_file: int, partition_by: str | None
) -> None:
    client = Client(tmp_path / "catalog")
    for mode in ("auto", "merge"):
        sink_deltacat(
            FRAME.lazy(),
            "ns.t",
            planner=client,
            mode=mode,
            merge_keys=keys if mode == "auto" else None,
            partition_by=partition_by if mode == "auto" else None,
            max_rows_per_file=rows_per_file,
        )
    plan = Scan(TableRef.parse("ns.t"), client).plan()
    assert plan.files.column("deletes").null_count == 0
    paths = plan.files.column("path").to_pylist()
    assert len(paths) >= 2
    for path in paths:
        file = KeyedFile(path, None, plan.schema, tuple(keys))
        beside = codes_of(file)
        (tmp_path / "catalog" / key_path(path)).unlink()
        assert np.array_equal(codes_of(file).codes, beside.codes)
    found = scan_deltacat("ns.t", planner=client).collect()
    assert found.height == FRAME.height
    assert sorted(found.rows(), key=str) == sorted(FRAME.rows(), key=str)


def test_deletes_leave_theirs_too(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    sink_deltacat(FRAME.lazy(), "ns.t", planner=client, merge_keys="id")
    sink_deltacat(FRAME.lazy().select("id").head(3), "ns.t", planner=client, mode="delete")
    assert len(list(tmp_path.rglob("*.parquet"))) == len(list(tmp_path.rglob("*.keys"))) == 2
    assert sorted(scan_deltacat("ns.t", planner=client).collect()["id"]) == [2, 7]
