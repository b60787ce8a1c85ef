"""Are files' locations the same, whether their folders are kept once or with each of them?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner_client.server.runs import folded


def _located(paths: pa.Array) -> pa.Array:
    below = pc.binary_join_element_wise("/root/", paths, "")
    return pc.if_else(pc.starts_with(paths, "/"), paths, below)


_FOLDERS = ("data/a/s1/", "data/a/s2/", "data/ä b/%7/", "/elsewhere/x/", "", "data/a/")
_STRETCHES = st.tuples(st.sampled_from(_FOLDERS), st.integers(1, 200))


@given(st.lists(_STRETCHES, min_size=1, max_size=5), st.data())
def test_locations_are_what_paths_become_one_by_one(
    stretches: list[tuple[str, int]], data: st.DataObject
) -> None:
    texts = [f"{f}{'x' * (i % 3)}ü{i}.parquet" for f, count in stretches for i in range(count)]
    paths = pa.array(texts)
    run = folded(paths, _located)
    numbers = st.integers(0, len(texts) - 1)
    rows = np.array(sorted(data.draw(st.sets(numbers, min_size=1, max_size=40))))
    wanted = _located(paths).take(pa.array(rows)).to_pylist()
    assert [run.value(row) for row in rows.tolist()] == wanted
    assert pa.concat_arrays(run.take(rows)).to_pylist() == wanted
    whole = pa.concat_arrays(run.take(np.arange(len(texts))))
    assert whole.to_pylist() == _located(paths).to_pylist()


def test_a_folder_of_many_files_in_a_row_is_kept_once() -> None:
    texts = [f"data/{'t' * 30}/{session}/{i:040}" for session in "ab" for i in range(1000)]
    run = folded(pa.array(texts), _located)
    assert run.folders == tuple(f"/root/data/{'t' * 30}/{session}/" for session in "ab")
    assert run.nbytes < 50 * len(texts)


@pytest.mark.parametrize("folder", ["data/t/{}/", ""])
def test_folders_that_change_all_the_time_stay_with_their_files(folder: str) -> None:
    texts = [folder.format(i) + "x.parquet" for i in range(300)]
    run = folded(pa.array(texts), _located)
    assert run.folders == ("",)
    assert run.rest.to_pylist() == [f"/root/{text}" for text in texts]
