"""Do the benchmarks run, and do they count what they claim to count? Small sizes, ours alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import client, commit, commit_sides, daft_changes, mor, plan, polars
from benchmarks.harness import Sample, interleave
from benchmarks.mor_tables import Size as MorSize
from benchmarks.ray_fleet import DECODE_BYTES_S, OPEN_S, TASK_S, TASKS_S, Fleet, seconds
from benchmarks.report import Figure, Report, Row, Target, Timing
from benchmarks.tables import QUERIES, Shape, expected, make_files

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = [Shape(1_000), Shape(1_000, clustered=False)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ten_files_answer_each_selective_query_whatever_the_shape(shape: Shape) -> None:
    files = make_files(shape)
    found = {query.name: len(expected(files, query)) for query in QUERIES}
    assert found == {"partition": 10, "statistics": 10, "string": 10, "full": 1_000}


def test_the_same_shape_makes_the_same_files() -> None:
    assert make_files(SHAPES[1]).equals(make_files(SHAPES[1]))


def test_planning_is_measured_embedded_and_over_http_with_every_answer_checked() -> None:
    report = plan.measure(SHAPES, rounds=1, peers=())
    checked = {row.metric: row.checked for row in report.rows if row.checked}
    assert checked == {
        "partition, 1,000 files": "equal, 10 files",
        "statistics, 1,000 files": "equal, 10 files",
        "string, 1,000 files": "equal, 10 files",
        "full, 1,000 files": "equal, 1000 files",
        "statistics, 1,000 files, unclustered": "equal, 10 files",
    }
    assert {side for row in report.rows for side in row.timings} == {"ours", "ours http"}


def test_commits_of_several_processes_are_counted_by_what_is_in_the_table() -> None:
    sides = (
        commit_sides.EMBEDDED,
        commit_sides.HTTP,
        commit_sides.RAW,
        commit_sides.RAW_ROWS,
    )
    report = commit.measure(commit.Size(calls=2, processes=2, commits=2), sides, ["append"])
    counts = {f.unit: f.values for f in report.figures if f.metric == "append, 2 processes x 2"}
    everyone = ("ours", "ours http", "raw", "raw rows")
    assert counts["acknowledged"] == dict.fromkeys(everyone, 4)
    for unit in ("failed", "lost", "duplicated", "failed but kept"):
        assert counts[unit] == dict.fromkeys(everyone, 0)


def test_merged_reads_are_measured_once_they_give_what_the_tables_history_leaves() -> None:
    report = mor.measure(MorSize(8_000, rounds=1), layouts=["random"], published=False)
    assert {row.checked for row in report.rows} == {"equal, 8003 rows"}
    assert [row.metric for row in report.rows] == [
        f"{width}, {kind} keys, random"
        for kind in ("int", "text", "int + text")
        for width in ("1 column", "all columns")
    ]
    assert len(report.targets) == 2 * len(report.rows)


def test_a_simulated_fleet_takes_tasks_in_order_as_the_driver_submits_them() -> None:
    one = OPEN_S + 1.0 + TASK_S
    sizes = [int(DECODE_BYTES_S)] * 3
    assert seconds([1, 1], sizes[:2], Fleet(nodes=2, cpus=1)) == pytest.approx(one + 1 / TASKS_S)
    assert seconds([1, 1, 1], sizes, Fleet(nodes=1, cpus=2)) == pytest.approx(2 * one)


def test_a_slow_side_is_asked_in_two_rounds_alone() -> None:
    calls = {"slow": lambda: Sample(500.0, 1.0), "fast": lambda: Sample(1.0, 1.0)}
    found = interleave(calls, 5, slow_ms=100)
    assert {name: timing.calls for name, timing in found.items()} == {"slow": 2, "fast": 5}


def test_a_report_says_what_was_found_and_which_targets_are_missed() -> None:
    timings = {"ours": Timing(0.5, 0.25, 0.5, 3), "peer": Timing(10.0, 10.0, 9.0, 3)}
    report = Report(
        name="plan",
        about="a question",
        sides=["ours", "peer"],
        machine={"cores": "2"},
        versions={},
        rows=[Row.compare("partition", "warm", timings, ["ours"])],
        figures=[Figure("memory held", "B/file", {"ours": 120.0})],
        targets=[Target("memory held", "", "< 100 B a file", "120 B", holds=False)],
        notes=["something was left out"],
    )
    assert [line for line in report.render().splitlines() if line] == [
        "plan: a question",
        "metric     mode  ours           peer     ours / best peer",
        "partition  warm  0.500 / 0.250  10 / 10  0.050 (peer)",
        "ms, medians: wall clock / CPU; below 1.00 ours is faster than the fastest peer",
        "figure       unit    ours",
        "memory held  B/file  120",
        "target       best peer, this run  bar             found",
        "memory held  -                    < 100 B a file  120 B  MISSED",
        "* something was left out",
        "cores: 2",
    ]


def test_polars_is_measured_merging_and_writing_with_every_answer_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = polars.measure(polars.Size(0, 0, 4_000, 20_000, 1))
    # Each part is there when it is done, not at the end.
    merged, written = capsys.readouterr().err.split("sinking 20,000 rows")
    assert "merge: selective" in merged
    assert "sink, peak memory" in written
    merges = [row for row in report.rows if row.metric.startswith("merge: ")]
    assert [row.metric for row in report.rows if row.metric == "sink"] == ["sink"]
    assert {row.checked for row in merges} == {"equal"}
    assert all(set(row.timings) == {"ours", "ours cold", "parquet"} for row in merges)
    assert "sink, peak memory" in {target.metric for target in report.targets}


def test_reads_of_a_client_are_measured_once_they_give_what_is_there() -> None:
    cases = [client.CASES[0], client.CASES[-1]]
    assert [case.name for case in cases] == ["plain, all columns", "keyed, 1 column"]
    size = client.Size(2_000, keyed=1_000, rounds=1)
    report = client.measure(size, cases=cases, published=False)
    assert [row.metric for row in report.rows] == [case.name for case in cases]
    assert {row.checked for row in report.rows} == {"equal, 2000 rows", "equal, 990 rows"}


def test_dafts_merges_and_writes_are_measured_once_their_rows_are_right(tmp_path: Path) -> None:
    merged = list(daft_changes.merges(str(tmp_path / "keyed"), rows=2_000, rounds=1))
    assert [row.metric for row in merged] == [
        name
        for name in ("merge, all columns", "merge, sum of a column", "merge, a selective filter")
        for _ in range(2)
    ]
    figure, row = daft_changes.writes(str(tmp_path), files=3, rounds=1)
    assert isinstance(figure, Figure)
    assert isinstance(row, Row)
    assert figure.values == dict.fromkeys(row.timings, 1.0)
