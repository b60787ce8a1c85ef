"""What do Daft's reads, merges and writes of a table cost, beside Daft's own over the same files?

Reads are of the table of `benchmarks.daft_tables`, beside `read_parquet` over the list of files,
`read_deltalake` and `read_iceberg`: in a new process (imports done, Daft's runner begun, nothing opened),
with a held handle and a frame built anew, and with a frame that is built once and asked again. The same on
Ray's runner, with held handles, where every side has small scan tasks put together
(`enable_scan_task_split_and_merge`). Answers are compared before they are timed: a peer whose answer is
wrong is named, and not timed. How many data files a question opens is counted from outside, by the
kernel. Beside the selective questions stands what Daft takes to ask them of the right files alone,
where nothing is left to plan.
Merges and writes are those of `benchmarks.daft_changes`.
"""

from __future__ import annotations

import functools
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import daft
import msgspec
from daft import col

from benchmarks import daft_changes, daft_tables, harness, scan
from benchmarks.harness import Sample, progress
from benchmarks.peers import TABLE, Fixture
from benchmarks.report import Figure, Report, Row, Target
from benchmarks.serving import serving
from docs.demo.opened import OpenedFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

__all__ = ["Size", "measure", "run"]

_OURS = ("ours", "ours http")
_PACKAGES = ("daft", "ray", "deltalake", "pyiceberg", "pyarrow", "deltacat-sources")
_SCAN = "read_parquet"
# A peer that takes longer is asked twice: its figure does not hang on a millisecond.
_SLOW_MS = 400


class Size(NamedTuple):
    """How much is measured."""

    files: int
    keyed_rows: int
    written_files: int
    rounds: int
    on_ray: bool = True


def run(*, quick: bool = False) -> Report:
    """Build the tables in a temporary directory, check and time every side, and report.

    Args:
        quick: The same files, for what peers pay grows with their number; of the rest less, and 3 rounds
            in place of 9.
    """
    return measure(Size(2_000, 1_000_000, 200, 3) if quick else Size(2_000, 4_000_000, 1_000, 9))


def measure(size: Size) -> Report:
    """The same for a size."""
    # It warns of each scan without a filter by partition.
    logging.getLogger("daft.io.iceberg").setLevel(logging.ERROR)
    found: list[Row | Figure] = []
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        fixture = daft_tables.build(root, size.files)
        with serving(fixture.catalog) as server:
            found += _reads(Fixture(root, server.url), size)
        found += daft_changes.merges(f"{root}/keyed", size.keyed_rows, size.rounds)
        found += daft_changes.writes(root, size.written_files, size.rounds)
    rows = [item for item in found if isinstance(item, Row)]
    figures = [item for item in found if isinstance(item, Figure)]
    return Report(
        name="daft",
        about=f"Daft over {size.files} files, {size.keyed_rows:,} keyed rows, "
        f"{size.written_files} files of 2,000 rows written",
        sides=list(dict.fromkeys(name for row in rows for name in row.timings)),
        machine=harness.machine(),
        versions=harness.versions(_PACKAGES),
        rows=rows,
        figures=figures,
        targets=[*_targets(rows), *_counted(figures)],
    )


# --- reads --------------------------------------------------------------------------------------


class _Side(NamedTuple):
    """One of those compared: what a long-lived program keeps, and a frame made of it."""

    # Any: every side has a handle of its own type.
    open: Callable[[Fixture], Any]
    frame: Callable[[Any], daft.DataFrame]


def _open_client(fixture: Fixture, *, served: bool) -> Any:  # Any: as above
    from planner_client import Client

    return Client(fixture.url if served else fixture.catalog)


def _frame_of_client(client: Any) -> daft.DataFrame:  # Any: as above
    from deltacat_sources.daft import read_deltacat

    return read_deltacat(TABLE, planner=client)


def _open_delta(fixture: Fixture) -> Any:  # Any: as above
    # Daft takes no open table here.
    return fixture.recall("delta")


def _open_iceberg(fixture: Fixture) -> Any:  # Any: as above
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(fixture.recall("iceberg"))


_SIDES = {
    "ours": _Side(functools.partial(_open_client, served=False), _frame_of_client),
    "ours http": _Side(functools.partial(_open_client, served=True), _frame_of_client),
    _SCAN: _Side(lambda fixture: fixture.recall("files"), daft.read_parquet),
    "read_deltalake": _Side(_open_delta, daft.read_deltalake),
    "read_iceberg": _Side(_open_iceberg, daft.read_iceberg),
}


class _Question(NamedTuple):
    """A query, and whether any rows would do."""

    ask: Callable[[daft.DataFrame, int], daft.DataFrame]
    any_rows: bool = False


def _day_range(frame: daft.DataFrame, files: int) -> daft.DataFrame:
    import datetime as dt

    first = scan.FIRST_DAY + dt.timedelta(days=max(files // 60 // 2 - 1, 0))
    days = (col("day") >= first) & (col("day") <= first + dt.timedelta(days=1))
    return frame.where(days & (col("region") == "region-07"))


_QUESTIONS = {
    "point on id": _Question(
        lambda f, n: f.where(col("id") == n * scan.ROWS_PER_FILE // 2 + 77).select("id", "label")
    ),
    "two days, a region": _Question(_day_range),
    "limit(10)": _Question(lambda f, n: f.limit(10), any_rows=True),
    "count_rows": _Question(lambda f, n: f.count()),
    "count_rows of two days": _Question(lambda f, n: _day_range(f, n).count()),
    "sum of a column": _Question(lambda f, n: f.select(col("value").sum())),
    "full scan": _Question(lambda f, n: f),
}

_SELECTIVE = ("point on id", "two days, a region")
_FLOOR = "read_parquet of its files alone"


def _answer(question: _Question, frame: daft.DataFrame, files: int) -> pa.Table:
    return question.ask(frame, files).to_arrow()


def _check(name: str, frames: dict[str, daft.DataFrame], files: int) -> list[str]:
    """Sides whose answer is wrong; raises AssertionError where ours is."""
    question = _QUESTIONS[name]
    answers = {side: _answer(question, frame, files) for side, frame in frames.items()}
    expected = answers[_SCAN]
    assert expected.num_rows, f"{name} finds nothing: it would measure nothing"
    wrong = []
    for side, found in answers.items():
        same = found.num_rows == expected.num_rows and (
            question.any_rows or _digest(found) == _digest(expected)
        )
        assert same or side not in _OURS, f"{side}, {name}: {found}"
        wrong += [] if same else [side]
    progress(f"{name}: {expected.num_rows} rows" + (f"; WRONG: {wrong}" if wrong else ""))
    return wrong


def _digest(table: pa.Table) -> list[Any]:  # Any: cells
    """What does not depend on the rows' order."""
    if table.num_rows < 10_000:
        rounded = (
            [round(v, 3) if isinstance(v, float) else v for v in row.values()]
            for row in table.to_pylist()
        )
        return sorted(map(repr, rounded))
    first = table.column(0).combine_chunks().sort()
    return [first]


def _reads(fixture: Fixture, size: Size) -> Iterator[Row | Figure]:
    handles = {name: side.open(fixture) for name, side in _SIDES.items()}
    folder = Path(fixture.catalog) / "data"
    for name, question in _QUESTIONS.items():
        frames = {side: _SIDES[side].frame(handle) for side, handle in handles.items()}
        wrong = _check(name, frames, size.files)
        checked = "equal" + (f"; WRONG: {', '.join(wrong)}" if wrong else "")
        right = [side for side in _SIDES if side not in wrong]
        counts = {}
        for side in right:
            with OpenedFiles(folder) as opened:
                _answer(question, _SIDES[side].frame(handles[side]), size.files)
            counts[side] = float(len(opened.paths()))
        yield Figure(f"{name}, opened", "files", counts)
        yield from _asked(name, fixture, size, {side: handles[side] for side in right}, checked)
    if size.on_ray:
        rest = [str(size.files), fixture.root, fixture.url, str(max(size.rounds // 3, 1))]
        progress("the same on Ray")
        yield from harness.in_new_process("benchmarks.daft", ["ray", *rest], list[Row])


def _asked(
    name: str, fixture: Fixture, size: Size, handles: dict[str, object], checked: str
) -> Iterator[Row | Figure]:
    """A question, in each of the ways that a program can ask it."""
    rest = [name, str(size.files), fixture.root, fixture.url]
    new = {
        side: functools.partial(
            harness.in_new_process, "benchmarks.daft", ["read", side, *rest], Sample
        )
        for side in handles
    }
    # They are slow to begin: several where a bar stands, and one elsewhere.
    rounds = max(size.rounds // 3, 1) if name in _BARS else 1
    few = harness.interleave(new, rounds, warm_up=False)
    yield Row.compare(name, "new process", few, _OURS, checked)
    frames = {side: _SIDES[side].frame(handle) for side, handle in handles.items()}
    held = {side: _held(name, side, handle, size.files) for side, handle in handles.items()}
    reused = {side: _reused(name, frame, size.files) for side, frame in frames.items()}
    if name in _SELECTIVE:
        alone = _files_of(name, fixture, size.files)
        held[_FLOOR] = _held(name, _SCAN, alone, size.files)
        reused[_FLOOR] = _reused(name, _SIDES[_SCAN].frame(alone), size.files)
    floors = {}
    for mode, sides in (("held handle", held), ("reused frame", reused)):
        timings = harness.interleave(sides, size.rounds, slow_ms=_SLOW_MS)
        if floor := timings.pop(_FLOOR, None):
            floors[mode] = floor.wall_ms
            floors |= {f"{side}, {mode}": timings[side].wall_ms for side in _OURS}
        yield Row.compare(name, mode, timings, _OURS, checked)
    if floors:
        yield Figure(f"{name}, {_FLOOR}", "ms", floors)


def _files_of(name: str, fixture: Fixture, files: int) -> list[str]:
    """The files that hold a question's answer."""
    with OpenedFiles(Path(fixture.catalog) / "data") as opened:
        client = _open_client(fixture, served=False)
        _answer(_QUESTIONS[name], _frame_of_client(client), files)
    return [str(path) for path in opened.paths()]


def _reused(name: str, frame: daft.DataFrame, files: int) -> Callable[[], Sample]:
    return _timed(functools.partial(_answer, _QUESTIONS[name], frame, files))


def _held(name: str, side: str, handle: object, files: int) -> Callable[[], Sample]:
    def asked() -> pa.Table:
        return _answer(_QUESTIONS[name], _SIDES[side].frame(handle), files)

    return _timed(asked)


def _timed(call: Callable[[], object]) -> Callable[[], Sample]:
    return lambda: harness.measure(call)


# --- bars ---------------------------------------------------------------------------------------

# Metric -> at most this share of the peer's time, embedded and over HTTP; and the peer, else the best.
_BARS: dict[str, tuple[float, float | None, str | None]] = {
    "point on id": (0.1, 0.25, None),
    "two days, a region": (0.1, 0.25, None),
    # A full scan is to cost what the scan of the list costs.
    "full scan": (1.05, 1.05, _SCAN),
    "merge, all columns": (1.5, None, _SCAN),
    "merge, sum of a column": (2.0, None, _SCAN),
    "merge, a selective filter": (1.2, None, _SCAN),
    "write": (1.0, None, "write_parquet"),
}
# Metric -> at most so many files.
_COUNTS = {"count_rows, opened": 0, "limit(10), opened": 1, "files written": 10}


def _targets(rows: list[Row]) -> Iterator[Target]:
    for row in rows:
        embedded, served, peer = _BARS.get(row.metric, (None, None, None))
        peer = peer or row.best_peer
        for side, bar in zip(_OURS, (embedded, served), strict=True):
            if bar is None or side not in row.timings:
                continue
            found = row.timings[side].wall_ms / row.timings[peer].wall_ms
            said = f"{row.timings[peer].wall_ms:.0f} ms, {peer}"
            name = f"{row.metric}, {row.mode}, {side}"
            yield Target(name, said, f"<= {bar}x", f"{found:.2f}x", found <= bar)


def _counted(figures: list[Figure]) -> Iterator[Target]:
    for figure in figures:
        most = _COUNTS.get(figure.metric)
        for side in _OURS:
            if most is not None and side in figure.values:
                found = figure.values[side]
                yield Target(
                    f"{figure.metric}, {side}", "", f"<= {most}", f"{found:.0f}", found <= most
                )


# --- in new processes ---------------------------------------------------------------------------


def _read_child(side: str, name: str, files: str, root: str, url: str) -> None:
    # What the sides import when they are first used.
    import deltalake
    import pyiceberg.io.pyarrow
    import pyiceberg.table

    import deltacat_sources.daft
    import planner_client.server.planner

    del deltalake, deltacat_sources, planner_client, pyiceberg
    # Daft begins its runner with its first query, and imports Ray for that.
    daft.from_pydict({"one": [1]}).collect()
    fixture, chosen = Fixture(root, url), _SIDES[side]

    def answer() -> pa.Table:
        return _answer(_QUESTIONS[name], chosen.frame(chosen.open(fixture)), int(files))

    harness.print_sample(harness.measure(answer))


def _ray_child(files: str, root: str, url: str, rounds: str) -> None:
    import ray

    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    daft.set_runner_ray()
    daft.set_execution_config(enable_scan_task_split_and_merge=True)
    fixture = Fixture(root, url)
    handles = {name: side.open(fixture) for name, side in _SIDES.items()}
    rows = []
    for name in ("point on id", "two days, a region", "limit(10)", "count_rows", "full scan"):
        held = {side: _held(name, side, handles[side], int(files)) for side in _SIDES}
        timings = harness.interleave(held, int(rounds), slow_ms=20_000)
        rows.append(Row.compare(name, "held handle, on Ray", timings, _OURS))
    print(msgspec.json.encode(rows).decode(), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "read":
        _read_child(*sys.argv[2:])
    else:
        _ray_child(*sys.argv[2:])
