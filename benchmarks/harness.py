"""How is something measured? Interleaved rounds, medians, new processes.

The sides of a comparison take turns: one call each per round, beginning with another side every
round, so that a slow spell of the machine falls on all of them. A first round warms up and is
dropped, but for new processes, which have nothing to warm. Figures are medians; CPU is user and
system time of all threads of the process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pyarrow as pa

from benchmarks.report import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Sample",
    "in_new_process",
    "interleave",
    "machine",
    "measure",
    "peak_bytes",
    "print_sample",
    "progress",
    "resident_bytes",
    "versions",
]

T = TypeVar("T")

# A new process that takes longer will not end.
_LONGEST_S = 1_800


class Sample(msgspec.Struct, frozen=True):
    """One call: wall clock and CPU in milliseconds; a new process's peak memory in MiB."""

    wall_ms: float
    cpu_ms: float
    peak_rss_mib: float | None = None


def progress(text: str) -> None:
    """Say what is being done, on standard error: the table stands alone on standard output."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def measure(
    call: Callable[[], object],
    *,
    times: int = 1,
    cpu_s: Callable[[], float] = time.process_time,
) -> Sample:
    """Call and time it. Garbage of earlier calls is collected first.

    Args:
        call: What is measured.
        times: How many calls one sample is the mean of: several, where one is too short to time.
        cpu_s: The clock of whose CPU counts; this process's by default.
    """
    gc.collect()
    cpu, wall = cpu_s(), time.perf_counter()
    for _ in range(times):
        call()
    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    return Sample(wall * 1000 / times, cpu * 1000 / times)


def interleave(
    sides: Mapping[str, Callable[[], Sample]],
    rounds: int,
    *,
    warm_up: bool = True,
    slow_ms: float = float("inf"),
) -> dict[str, Timing]:
    """Take one sample per side and round, in turns.

    Args:
        sides: Name -> what takes a sample.
        rounds: How many rounds count.
        warm_up: Whether one more round goes before them and is dropped.
        slow_ms: A side whose samples take longer than this is asked in two rounds that count.
    """
    names = list(sides)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for turn in range(-warm_up, rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            found = samples[name]
            if len(found) >= 2 and found[0].wall_ms > slow_ms:
                continue
            sample = sides[name]()
            if turn >= 0:
                found.append(sample)
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


def in_new_process(
    module: str, arguments: Iterable[str], answer: type[T], *, python: str = sys.executable
) -> T:
    """Run `python -m module arguments...` and read the last line that it prints.

    Args:
        module: Which to run.
        arguments: Of its command line.
        answer: What that line is the JSON of, such as `Sample` (`print_sample`).
        python: The interpreter.

    Raises:
        RuntimeError: The process failed; the message is what it said.
        subprocess.TimeoutExpired: It did not end within half an hour.
    """
    command = [python, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_LONGEST_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=answer)


def print_sample(sample: Sample) -> None:
    """Hand a sample, and this process's peak memory, to the one that called `in_new_process`."""
    whole = msgspec.structs.replace(sample, peak_rss_mib=peak_bytes() / 2**20)
    print(msgspec.json.encode(whole).decode(), flush=True)


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    # Not getrusage: its peak begins with the size of the process that forked this one.
    return _status("VmHWM")


def resident_bytes() -> int:
    """This process's memory, without what is garbage and what its allocators can give back."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        found = re.search(rf"^{name}:\s*(\d+) kB", file.read(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


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
