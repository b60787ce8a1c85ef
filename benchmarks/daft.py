"""What do Daft's reads, merges and writes of a table cost, beside Daft's own over the same files?

Reads are of the table of `benchmarks.scan`, beside `read_parquet` over the list of files and
`read_deltalake` (`read_iceberg` refuses files without field ids, and pyiceberg registers no others):
in a new process (imports done, nothing opened), with a held handle and a frame
built anew, and with a frame that is built once and asked again. The same on Ray, with held handles.
Merges read the table of `benchmarks.keyed`, its dead rows known, beside a plain scan of the same
files. Writes take many small files, beside `write_parquet`. Answers are compared before they are timed.
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

import daft
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col

from benchmarks import harness, scan
from benchmarks.harness import Sample, progress
from benchmarks.keyed import WHERE, make_keyed
from benchmarks.peers import TABLE, Fixture
from benchmarks.report import Report, Row, Target
from benchmarks.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Size", "measure", "run"]

_OURS = ("ours", "ours http")
_PACKAGES = ("daft", "ray", "deltalake", "pyarrow", "deltacat-sources")
_SCAN = "read_parquet"


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
        quick: A tenth of the data and 3 rounds in place of 9.
    """
    return measure(Size(200, 200_000, 100, 3) if quick else Size(2_000, 4_000_000, 1_000, 9))


def measure(size: Size) -> Report:
    """The same for a size."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        fixture = scan.build(root, size.files)
        with serving(fixture.catalog) as server:
            rows += _reads(Fixture(root, server.url), size)
        rows += _merges(f"{root}/keyed", size)
        rows += _writes(root, size)
    return Report(
        name="daft",
        about=f"Daft over {size.files} files, {size.keyed_rows:,} keyed rows, "
        f"{size.written_files} files of 2,000 rows written",
        sides=list(dict.fromkeys(name for row in rows for name in row.timings)),
        machine=harness.machine(),
        versions=harness.versions(_PACKAGES),
        rows=rows,
        targets=list(_targets(rows)),
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


_SIDES = {
    "ours": _Side(functools.partial(_open_client, served=False), _frame_of_client),
    "ours http": _Side(functools.partial(_open_client, served=True), _frame_of_client),
    _SCAN: _Side(lambda fixture: fixture.recall("files"), daft.read_parquet),
    "read_deltalake": _Side(_open_delta, daft.read_deltalake),
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


def _answer(question: _Question, frame: daft.DataFrame, files: int) -> pa.Table:
    return question.ask(frame, files).to_arrow()


def _check(name: str, frames: dict[str, daft.DataFrame], files: int) -> str:
    """Compare all sides' answers; raises AssertionError where ours differs, else says how."""
    question = _QUESTIONS[name]
    answers = {side: _answer(question, frame, files) for side, frame in frames.items()}
    expected = answers[_SCAN]
    wrong = []
    for side, found in answers.items():
        same = found.num_rows == expected.num_rows and (
            question.any_rows or _digest(found) == _digest(expected)
        )
        assert same or side not in _OURS, f"{side}, {name}: {found}"
        wrong += [] if same else [side]
    return f"{expected.num_rows} rows" + (f"; WRONG: {', '.join(wrong)}" if wrong else "")


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


def _reads(fixture: Fixture, size: Size) -> Iterator[Row]:
    handles = {name: side.open(fixture) for name, side in _SIDES.items()}
    for name, question in _QUESTIONS.items():
        frames = {side: _SIDES[side].frame(handle) for side, handle in handles.items()}
        checked = _check(name, frames, size.files)
        progress(f"{name}: {checked}")
        rest = [name, str(size.files), fixture.root, fixture.url]
        new = {
            side: functools.partial(
                harness.in_new_process, "benchmarks.daft", ["read", side, *rest], Sample
            )
            for side in _SIDES
        }
        held = {side: _held(name, side, handles[side], size.files) for side in _SIDES}
        reused = {
            side: _timed(functools.partial(_answer, question, frame, size.files))
            for side, frame in frames.items()
        }
        rounds = size.rounds
        few = harness.interleave(new, max(rounds // 3, 1), warm_up=False)
        yield Row.compare(name, "new process", few, _OURS, checked)
        yield Row.compare(name, "held handle", harness.interleave(held, rounds), _OURS, checked)
        yield Row.compare(name, "reused frame", harness.interleave(reused, rounds), _OURS, checked)
    if size.on_ray:
        rest = [str(size.files), fixture.root, fixture.url, str(max(size.rounds // 3, 1))]
        progress("the same on Ray")
        yield from harness.in_new_process("benchmarks.daft", ["ray", *rest], list[Row])


def _held(name: str, side: str, handle: object, files: int) -> Callable[[], Sample]:
    def asked() -> pa.Table:
        return _answer(_QUESTIONS[name], _SIDES[side].frame(handle), files)

    return _timed(asked)


def _timed(call: Callable[[], object]) -> Callable[[], Sample]:
    return lambda: harness.measure(call)


# --- merges -------------------------------------------------------------------------------------

_MERGES: dict[str, Callable[[daft.DataFrame], daft.DataFrame]] = {
    "merge, all columns": lambda f: f,
    "merge, sum of a column": lambda f: f.select(col("value").sum()),
    "merge, a selective filter": lambda f: f.where(col("n0") == 77),
}


def _merges(root: str, size: Size) -> Iterator[Row]:
    from deltacat_sources.daft import read_deltacat
    from planner_client import Client

    client = Client(root)
    make_keyed(client, size.keyed_rows)
    table = f"{WHERE['namespace']}.{WHERE['table']}"
    plan = client.catalog.plan(**WHERE)
    kinds = plan.column("delta_type")
    paths = [path for path, kind in zip(plan.paths, kinds, strict=True) if kind != "delete"]
    wanted = client.catalog.read(**WHERE, columns=["id"])["id"].combine_chunks().sort()
    found = read_deltacat(table, planner=client).to_arrow()["id"].combine_chunks().sort()
    assert found.equals(wanted), f"merge: {len(found)} rows, not {len(wanted)}"
    for name, ask in _MERGES.items():
        reading: dict[str, Callable[[], Sample]] = {
            "ours": _timed(lambda a=ask: a(read_deltacat(table, planner=client)).to_arrow()),  # type: ignore[misc]
            _SCAN: _timed(lambda a=ask: a(daft.read_parquet(paths)).to_arrow()),  # type: ignore[misc]
        }
        progress(name)
        timings = harness.interleave(reading, size.rounds)
        yield Row.compare(name, "held handle", timings, _OURS, "beside a plain scan of the files")


# --- writes -------------------------------------------------------------------------------------


def _writes(root: str, size: Size) -> Iterator[Row]:
    from deltacat_sources.daft import write_deltacat
    from planner_client import Client

    folder, out = f"{root}/small", f"{root}/written"
    os.makedirs(folder)
    seed = np.random.default_rng(5)
    for i in range(size.written_files):
        columns = {"id": np.arange(i * 2000, i * 2000 + 2000), "value": seed.random(2000)}
        columns |= {"other": seed.random(2000), "day": np.full(2000, i % 10)}
        text = pa.array([f"name {k}" for k in seed.integers(0, 1000, 2000)])
        pq.write_table(pa.table({**columns, "text": text}), f"{folder}/{i:04}.parquet")
    paths = sorted(glob.glob(f"{folder}/*.parquet"))
    client = Client(f"{root}/sink")

    def ours() -> object:
        return write_deltacat(
            daft.read_parquet(paths),
            "bench.written",
            planner=client,
            mode="replace" if made else "auto",
        )

    def theirs() -> object:
        shutil.rmtree(out, ignore_errors=True)
        return daft.read_parquet(paths).write_parquet(out)

    made = False
    first = write_deltacat(daft.read_parquet(paths), "bench.written", planner=client)
    made = True
    assert first.total_records == size.written_files * 2000, first
    progress(f"write: {first.files_registered} files")
    timings = harness.interleave({"ours": _timed(ours), _SCAN: _timed(theirs)}, size.rounds)
    checked = f"{first.files_registered} files, beside write_parquet"
    yield Row.compare("write", "held handle", timings, _OURS, checked)


# --- bars ---------------------------------------------------------------------------------------

# Metric -> at most this share of the best peer's time: embedded, and over HTTP.
_BARS = {
    "point on id": (0.1, 0.25),
    "two days, a region": (0.1, 0.25),
    "full scan": (1.05, 1.05),
    "merge, all columns": (1.5, None),
    "merge, sum of a column": (2.0, None),
    "merge, a selective filter": (1.2, None),
    "write": (1.0, None),
}


def _targets(rows: list[Row]) -> Iterator[Target]:
    for row in rows:
        for side, bar in zip(_OURS, _BARS.get(row.metric, (None, None)), strict=True):
            if bar is None or side not in row.timings:
                continue
            # A full scan is to cost what the scan of the list costs.
            peer = _SCAN if row.metric == "full scan" else row.best_peer
            found = row.timings[side].wall_ms / row.timings[peer].wall_ms
            said = f"{row.timings[peer].wall_ms:.0f} ms, {peer}"
            name = f"{row.metric}, {row.mode}, {side}"
            yield Target(name, said, f"<= {bar}x", f"{found:.2f}x", found <= bar)


# --- in new processes ---------------------------------------------------------------------------


def _read_child(side: str, name: str, files: str, root: str, url: str) -> None:
    import deltalake

    import deltacat_sources.daft
    import planner_client.server.planner

    del deltalake, deltacat_sources, planner_client
    fixture, chosen = Fixture(root, url), _SIDES[side]

    def answer() -> pa.Table:
        return _answer(_QUESTIONS[name], chosen.frame(chosen.open(fixture)), int(files))

    harness.print_sample(harness.measure(answer))


def _ray_child(files: str, root: str, url: str, rounds: str) -> None:
    import ray

    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    daft.set_runner_ray()
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
