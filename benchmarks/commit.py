"""How fast, and how safely, is one file committed? One process, then eight at once, beside the peers.

Local disk; what of it is flushed is said in `benchmarks.commit_sides`, like the peers' tuning. Two
questions: a `commit` of a file that is written, and an `append`, which writes it too (of ours, both
calls of the planner, stage and commit). In one process the sides take turns, call by call; p50 and p99
are of all calls. Then eight processes commit 50 files each to one table at the same time, one side
after the other, over handles that were opened before; afterwards the rows of the table are counted by
key: an acknowledged one that is missing is lost, one that is there twice is duplicated, one that failed
and is there all the same is kept.
"""

from __future__ import annotations

import collections
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks import harness
from benchmarks.commit_process import WARM_UP, Outcome
from benchmarks.commit_sides import EMBEDDED, HTTP, RAW, RAW_ROWS, ROWS, SIDES, Side, root_of
from benchmarks.harness import progress
from benchmarks.report import Figure, Report, Target
from benchmarks.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["measure", "run"]

PACKAGES = ("deltacat-sources", "apsw", "deltalake", "pyiceberg", "pyarrow", "uvicorn")
OURS = (EMBEDDED.name, HTTP.name)


@dataclass(frozen=True)
class Size:
    """How much is measured: calls of one process; processes at once, and the commits of each."""

    calls: int = 200
    processes: int = 8
    commits: int = 50

    def of(self, side: Side) -> int:
        """How many commits each of several processes makes of a side."""
        return min(self.commits, side.most_at_once)


def run(*, quick: bool = False) -> Report:
    """Make tables in a temporary directory, commit to them, count, and report.

    Args:
        quick: 20 calls, and 4 processes of 5 commits, in place of 200, and 8 of 50.
    """
    return measure(Size(20, 4, 5) if quick else Size())


def measure(
    size: Size, sides: Sequence[Side] = SIDES, kinds: Sequence[str] = ("commit", "append")
) -> Report:
    """Report on these sides and kinds of calls."""
    figures: list[Figure] = []
    for kind in kinds:
        figures += _alone(kind, sides, size)
    notes = [*_NOTES, *_fewer(sides, size)]
    for kind in kinds:
        found = {side.name: _at_once(kind, side, size) for side in sides}
        figures += _crowd_figures(kind, found, size)
        notes += [
            f"{side}, {kind}: {count} failed with {text}"
            for side, crowd in found.items()
            for text, count in crowd.failures.items()
        ]
    return Report(
        name="commit",
        about=f"one file of {ROWS} rows per commit",
        sides=[side.name for side in sides],
        machine=harness.machine(),
        versions=harness.versions(PACKAGES),
        figures=figures,
        targets=_targets(figures, kinds, size),
        notes=notes,
    )


_NOTES = [
    "commit: the file is there; append: it is written too, and flushed to the disk by ours and by raw",
    "raw: SQLite, WAL, synchronous=FULL, two rows a transaction: the floor, not a product",
    "raw rows: the same with the rows, flushes and Parquet of ours: the floor of what ours keeps",
    "DuckLake is left out: DuckDB loads its extension from the network, so it is not everywhere",
]


def _fewer(sides: Sequence[Side], size: Size) -> list[str]:
    """Which sides make fewer commits than was asked of them."""
    return [
        f"{side.name}: {size.of(side)} commits of each process at once; more take it minutes"
        for side in sides
        if size.of(side) < size.commits
    ]


# --- one process --------------------------------------------------------------------------------


def _alone(kind: str, sides: Sequence[Side], size: Size) -> list[Figure]:
    progress(f"{kind}, one process")
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    with contextlib.ExitStack() as stack:
        handles = {side.name: side.open(stack.enter_context(_place(side))) for side in sides}
        # The first call warms up and is dropped.
        for turn in range(size.calls + 1):
            start = turn % len(sides)
            for side in (*sides[start:], *sides[:start]):
                taken[side.name].append(_timed(side, handles[side.name], kind, turn))
    quantiles = {name: statistics.quantiles(times[1:], n=100) for name, times in taken.items()}
    return [
        Figure(f"{kind}, p{percent}", "ms", {n: q[percent - 1] for n, q in quantiles.items()})
        for percent in (50, 99)
    ]


# Any: a handle of the side's own type.
def _timed(side: Side, handle: Any, kind: str, key: int) -> float:
    prepared = side.prepare(handle, key) if kind == "commit" else None
    began = time.perf_counter()
    if kind == "commit":
        side.commit(handle, prepared)
    else:
        side.append(handle, key)
    return (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def _place(side: Side) -> Iterator[str]:
    """What the side opens: a directory with its empty table, or the address that serves it."""
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as place:
        side.make(place)
        if side is not HTTP:
            yield place
            return
        with serving(root_of(place)) as server:
            yield server.url


# --- several at once ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Crowd:
    """What became of all commits of all processes."""

    acknowledged: int
    failed: int
    lost: int
    duplicated: int
    kept: int
    seconds: float
    failures: dict[str, int]


def _at_once(kind: str, side: Side, size: Size) -> _Crowd:
    with _place(side) as place:
        outcomes = _outcomes(kind, side, place, size)
        keys = [key for key in side.keys(side.open(place)) if key < WARM_UP]
    rows = collections.Counter(keys)
    acknowledged = {key for outcome in outcomes for key in outcome.acknowledged}
    failures = collections.Counter[str]()
    for outcome in outcomes:
        failures.update(outcome.failures)
    seconds = max(o.ended_s for o in outcomes) - min(o.began_s for o in outcomes)
    progress(f"{kind}, {side.name}: {len(acknowledged)} in {seconds:.1f} s")
    return _Crowd(
        acknowledged=len(acknowledged),
        failed=failures.total(),
        lost=sum(rows[key] < ROWS for key in acknowledged),
        duplicated=sum(count > ROWS for count in rows.values()),
        kept=len(rows.keys() - acknowledged),
        seconds=seconds,
        failures=dict(failures),
    )


def _outcomes(kind: str, side: Side, place: str, size: Size) -> list[Outcome]:
    def command(index: int) -> list[str]:
        rest = [side.name, place, str(index * size.commits), str(size.of(side)), kind]
        return [sys.executable, "-m", "benchmarks.commit_process", *rest]

    with contextlib.ExitStack() as stack:
        pipe = subprocess.PIPE
        processes = [
            stack.enter_context(subprocess.Popen(command(i), stdin=pipe, stdout=pipe, text=True))
            for i in range(size.processes)
        ]
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{' '.join(command(0))} failed")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [
            msgspec.json.decode(process.communicate()[0], type=Outcome) for process in processes
        ]


def _crowd_figures(kind: str, found: dict[str, _Crowd], size: Size) -> Iterator[Figure]:
    metric = f"{kind}, {size.processes} processes x {size.commits}"
    counts: dict[str, dict[str, float]] = {
        "acknowledged": {n: crowd.acknowledged for n, crowd in found.items()},
        "failed": {n: crowd.failed for n, crowd in found.items()},
        "lost": {n: crowd.lost for n, crowd in found.items()},
        "duplicated": {n: crowd.duplicated for n, crowd in found.items()},
        "failed but kept": {n: crowd.kept for n, crowd in found.items()},
    }
    for unit, values in counts.items():
        yield Figure(metric, unit, values)
    rates = {name: crowd.acknowledged / crowd.seconds for name, crowd in found.items()}
    yield Figure(metric, "commits/s", rates)


# --- targets ------------------------------------------------------------------------------------


def _targets(figures: Sequence[Figure], kinds: Sequence[str], size: Size) -> list[Target]:
    found = {(figure.metric, figure.unit): figure.values for figure in figures}
    targets: list[Target] = []
    if "commit" in kinds:
        targets += _latency(found["commit, p50", "ms"])
    for kind in kinds:
        metric = f"{kind}, {size.processes} processes x {size.commits}"
        for side in OURS:
            wrong = sum(found[metric, unit][side] for unit in ("failed", "lost", "duplicated"))
            name, bar = f"{metric}, {side}", "none failed, lost, twice"
            targets.append(Target(name, "", bar, f"{wrong:.0f}", wrong == 0))
            targets += _rates(name, found[metric, "commits/s"], side)
    return targets


def _of_peers(values: dict[str, float]) -> list[float]:
    return [value for side, value in values.items() if side not in {*OURS, RAW.name, RAW_ROWS.name}]


def _latency(values: dict[str, float]) -> Iterator[Target]:
    peers = _of_peers(values)
    best = f"{min(peers):.3g} ms" if peers else ""
    http, raw = values[HTTP.name], values[RAW.name]
    yield Target("commit call p50 over HTTP", best, "< 3 ms", f"{http:.3g} ms", http < 3)
    times = http / raw
    yield Target(
        "the same over raw SQLite", f"{raw:.3g} ms (raw)", "< 10x", f"{times:.3g}x", times < 10
    )


def _rates(name: str, rates: dict[str, float], side: str) -> Iterator[Target]:
    rate, raw = rates[side], rates[RAW.name]
    if peers := _of_peers(rates):
        times = rate / max(peers)
        found = f"{rate:.3g}/s, {times:.3g}x"
        yield Target(f"{name}, to the best peer", f"{max(peers):.3g}/s", ">= 8x", found, times >= 8)
    times = rate / raw
    found = f"{rate:.3g}/s, {times:.3g}x"
    yield Target(f"{name}, to raw SQLite", f"{raw:.3g}/s (raw)", ">= 0.5x", found, times >= 0.5)
