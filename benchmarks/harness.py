"""How is something measured? Interleaved rounds, medians, new processes, and a table of it all.

The sides of a comparison take turns: one call each per round, beginning with another side every
round, so that a slow spell of the machine falls on all of them. A first round warms up and is
dropped, but for new processes, which have nothing to warm. Figures are medians; CPU is user and
system time of all threads of the process.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Report",
    "Row",
    "Sample",
    "Timing",
    "in_new_process",
    "interleave",
    "machine",
    "measure",
    "print_sample",
    "progress",
    "versions",
]


class Sample(msgspec.Struct, frozen=True):
    """One call: wall clock and CPU in milliseconds; a new process's peak memory in MiB."""

    wall_ms: float
    cpu_ms: float
    peak_rss_mib: float | None = None


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Several calls: medians, the fastest, and how many; memory where processes were new."""

    wall_ms: float
    cpu_ms: float
    best_wall_ms: float
    calls: int
    peak_rss_mib: float | None = None


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One metric of a report: every side's timing.

    `ratio` is each of our sides over the fastest peer, by wall clock: below 1 ours is faster.
    `checked` says how the sides' results were compared before anything was timed.
    """

    metric: str
    mode: str
    timings: dict[str, Timing]
    best_peer: str
    ratio: dict[str, float]
    checked: str = ""


class Report(msgspec.Struct, frozen=True):
    """What one benchmark found, on which machine, with which versions."""

    name: str
    about: str
    sides: list[str]
    machine: dict[str, str]
    versions: dict[str, str]
    rows: list[Row] = []

    def render(self) -> str:
        """The report as text for people: a line per metric and mode, ms of wall clock / of CPU."""
        ours = list(self.rows[0].ratio) if self.rows else []
        head = ["metric", "mode", *self.sides, *(f"{side} / best peer" for side in ours)]
        body = [
            [
                row.metric,
                row.mode,
                *(_cell(row.timings.get(side)) for side in self.sides),
                *(f"{row.ratio[side]:.2f} ({row.best_peer})" for side in ours),
            ]
            for row in self.rows
        ]
        facts = [f"{key}: {value}" for key, value in {**self.machine, **self.versions}.items()]
        lines = [f"{self.name}: {self.about}", "", *_columns([head, *body]), ""]
        lines.append(
            "ms, medians: wall clock / CPU; below 1.00 ours is faster than the fastest peer"
        )
        return "\n".join([*lines, *_columns(_memory(self)), "; ".join(facts), ""])


def _cell(timing: Timing | None) -> str:
    return "-" if timing is None else f"{timing.wall_ms:.1f} / {timing.cpu_ms:.1f}"


def _memory(report: Report) -> list[list[str]]:
    rows = [row for row in report.rows if any(t.peak_rss_mib for t in row.timings.values())]
    if not rows:
        return []
    body = [
        [row.metric, *(f"{row.timings[s].peak_rss_mib or 0:.0f}" for s in report.sides)]
        for row in rows
    ]
    return [["peak RSS, MiB", *report.sides], *body]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def progress(text: str) -> None:
    """Say what is being done, on standard error: the table stands alone on standard output."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def measure(call: Callable[[], object]) -> Sample:
    """Call once and time it. Garbage of earlier calls is collected first."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(wall * 1000, cpu * 1000)


def interleave(
    sides: Mapping[str, Callable[[], Sample]], rounds: int, *, warm_up: bool = True
) -> dict[str, Timing]:
    """Take one sample per side and round, in turns.

    Args:
        sides: Name -> what takes a sample.
        rounds: How many rounds count.
        warm_up: Whether one more round goes before them and is dropped.
    """
    names = list(sides)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for turn in range(-warm_up, rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            sample = sides[name]()
            if turn >= 0:
                samples[name].append(sample)
    return {name: _timing(found) for name, found in samples.items()}


def _timing(samples: Sequence[Sample]) -> Timing:
    peaks = [s.peak_rss_mib for s in samples if s.peak_rss_mib is not None]
    return Timing(
        peak_rss_mib=statistics.median(peaks) if peaks else None,
        wall_ms=statistics.median(s.wall_ms for s in samples),
        cpu_ms=statistics.median(s.cpu_ms for s in samples),
        best_wall_ms=min(s.wall_ms for s in samples),
        calls=len(samples),
    )


def in_new_process(module: str, arguments: Iterable[str]) -> Sample:
    """Run `python -m module arguments...` and read the sample that it prints (`print_sample`).

    Raises:
        RuntimeError: The process failed; the message is what it said.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Sample)


def print_sample(sample: Sample) -> None:
    """Hand a sample, and this process's peak memory, to the one that called `in_new_process`."""
    # Not getrusage: its peak begins with the size of the process that forked this one.
    with open("/proc/self/status", encoding="ascii") as file:
        peak = re.search(r"^VmHWM:\s*(\d+) kB", file.read(), re.MULTILINE)
    peak_mib = int(peak.group(1)) / 1024 if peak else None
    whole = msgspec.structs.replace(sample, peak_rss_mib=peak_mib)
    print(msgspec.json.encode(whole).decode(), flush=True)


def machine() -> dict[str, str]:
    """The machine and the interpreter, for a report's last line."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", file.read(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": found.group(1).strip() if found else platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of distributions; those that are not installed are left out."""
    installed = {
        d.metadata["Name"].lower().replace("_", "-") for d in importlib.metadata.distributions()
    }
    return {p: importlib.metadata.version(p) for p in packages if p in installed}
