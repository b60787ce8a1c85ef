"""What does it cost to read a table whose rows have keys, beside one whose rows have none?

4,000,000 rows x 20 columns with 10 % upserts and 1 % deletes (`benchmarks.mor_tables`), keyed by an
integer, a text of 16 bytes, and both; upserts random and clustered. One column or all are read,
batch by batch:

* merge: ours, where nobody has looked for dead rows: they are found from the keys, then left out;
* delete sets: ours, where the plan carries the dead rows;
* pyarrow: the same columns and the keys of the same files, unmerged, which gives rows too many.

The published client, in its own environment, reads the same tables into one Arrow table through our
planner over HTTP. So does ours, and batch by batch too, each in new processes, so that their peak
memory is known.

Every side but pyarrow finds the same rows, and so many as the history of the table leaves. All files
are in the page cache.
"""

from __future__ import annotations

import functools
import itertools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import harness
from benchmarks.harness import progress
from benchmarks.mor_read import Found, table_of
from benchmarks.mor_tables import KEYS, LAYOUTS, SCHEMA, Answer, Size, make_tables, make_tiny
from benchmarks.report import Figure, Report, Row, Target, Timing
from benchmarks.serving import serving
from io_core.execute import execute
from planner_client import Client
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from io_core.plan import ReadPlan

__all__ = ["measure", "run"]

MERGE, SETS, SCAN = "merge", "delete sets", "pyarrow"
OURS, BATCHES, PUBLISHED = "ours", "ours, batches", "published client"
PYTHON = Path(__file__).parents[1] / ".venv-clients" / "compat" / "bin" / "python"
BARS = {("one", MERGE): 3.0, ("all", MERGE): 1.7, ("one", SETS): 1.3, ("all", SETS): 1.3}
LEAST_CPU, MOST_MEMORY = 10, 1 / 3
WIDTHS = {"one": ("value",), "all": tuple(SCHEMA.names)}


class _Case(NamedTuple):
    """One table, and how much of it is read."""

    layout: str
    kind: str
    width: str

    @property
    def name(self) -> str:
        """As reports have it."""
        columns = "1 column" if self.width == "one" else "all columns"
        return f"{columns}, {self.kind} keys, {self.layout}"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return WIDTHS[self.width]


# --- sides ------------------------------------------------------------------------------------------


def _plan(planner: EmbeddedPlanner, case: _Case, *, sets: bool) -> ReadPlan:
    table = table_of(case.layout, case.kind)
    plan = planner.call(PLAN, PlanRequest(namespace="bench", table=table, delete_sets=sets))
    assert (plan.files.column("deletes").null_count == 0) == sets, f"{table}: sets are {not sets}"
    return plan


def _ours(plan: ReadPlan, case: _Case) -> Answer:
    rows, total = 0, 0.0
    for piece in execute(plan, columns=case.columns):
        rows += len(piece)
        total += pc.sum(piece.column("value")).as_py() or 0.0
    return Answer(rows, total)


def _scan(plan: ReadPlan, case: _Case) -> Answer:
    rows, total = 0, 0.0
    columns = list(dict.fromkeys([*case.columns, *KEYS[case.kind]]))
    for path, delta in zip(plan.paths, plan.column("delta_type"), strict=True):
        if delta != "delete":
            with pq.ParquetFile(path) as file:
                found = file.read(columns=columns)
            rows += len(found)
            total += pc.sum(found.column("value")).as_py() or 0.0
    return Answer(rows, total)


# --- measuring --------------------------------------------------------------------------------------


def _same(found: Answer | Found, wanted: Answer, what: str) -> None:
    near = abs(found.total - wanted.total) <= 1e-9 * abs(wanted.total)
    same = near and found.rows == wanted.rows
    assert same, f"{what}: {found} instead of {wanted}"


def _case_row(planner: EmbeddedPlanner, case: _Case, wanted: Answer, rounds: int) -> Row:
    merged, known = _plan(planner, case, sets=False), _plan(planner, case, sets=True)
    calls: dict[str, Callable[[], Answer]] = {
        MERGE: functools.partial(_ours, merged, case),
        SETS: functools.partial(_ours, known, case),
        SCAN: functools.partial(_scan, merged, case),
    }
    for side in (MERGE, SETS):
        _same(calls[side](), wanted, f"{case.name}, {side}")
    progress(f"{case.name}: the same {wanted.rows:,} rows, merged and by delete sets")
    samplers = {name: functools.partial(harness.measure, call) for name, call in calls.items()}
    timings = harness.interleave(samplers, rounds)
    checked = f"equal, {wanted.rows} rows"
    return Row.compare(case.name, "warm", timings, [MERGE, SETS], checked)


def _published_row(case: _Case, url: str, wanted: Answer, rounds: int) -> Row:
    """Both clients, each in a new process."""
    table = table_of(case.layout, case.kind)
    columns = case.columns if case.width == "one" else ()
    ours = "benchmarks.mor_read", sys.executable
    commands = {
        OURS: (*ours, [url, table, "table", *columns]),
        BATCHES: (*ours, [url, table, "batches", *columns]),
        PUBLISHED: ("benchmarks.mor_published", str(PYTHON), [url, table, *columns]),
    }

    def sample(side: str) -> harness.Sample:
        module, python, arguments = commands[side]
        found = harness.in_new_process(module, arguments, Found, python=python)
        _same(found, wanted, f"{case.name}, {side}")
        return harness.Sample(found.wall_ms, found.cpu_ms, found.peak_rss_mib)

    progress(f"{case.name}: both clients, in new processes")
    samplers = {side: functools.partial(sample, side) for side in commands}
    timings = harness.interleave(samplers, rounds, warm_up=False)
    return Row.compare(f"{case.name}: a client", "new process", timings, [OURS, BATCHES])


def _targets(rows: list[Row], cases: list[_Case]) -> Iterator[Target]:
    for row, case in zip(rows, cases, strict=False):
        base = row.timings[SCAN].cpu_ms
        for side in (MERGE, SETS):
            bar, found = BARS[case.width, side], row.timings[side].cpu_ms / base
            peer = f"{base:.0f} ms of CPU, {SCAN}"
            text = f"{found:.2f}x"
            yield Target(f"{case.name}, {side}", peer, f"<= {bar}x", text, found <= bar)


def _client_targets(row: Row) -> Iterator[Target]:
    # A whole table in memory is what nobody can have in less: batches are what ours need not keep.
    ours, theirs = row.timings[BATCHES], row.timings[PUBLISHED]
    less = theirs.cpu_ms / ours.cpu_ms
    peer = f"{theirs.cpu_ms:.0f} ms of CPU, {PUBLISHED}"
    yield Target(row.metric, peer, f">= {LEAST_CPU}x less CPU", f"{less:.1f}x", less >= LEAST_CPU)
    memory = _peak(ours) / _peak(theirs)
    peer = f"{_peak(theirs):.0f} MiB, {PUBLISHED}"
    yield Target(row.metric, peer, "<= 1/3 of its memory", f"{memory:.2f}", memory <= MOST_MEMORY)


def _peak(timing: Timing) -> float:
    return timing.peak_rss_mib or float("nan")


def measure(size: Size, *, layouts: Sequence[str] = LAYOUTS, published: bool = True) -> Report:
    """Write the tables in a temporary directory, check and time every side, and report.

    Args:
        size: How much is measured.
        layouts: Which of `LAYOUTS`.
        published: Whether to ask the published client, too.
    """
    rows: list[Row] = []
    figures: list[Figure] = []
    targets: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        client = Client(f"{root}/catalog")
        make_tiny(client)
        wanted = {one: make_tables(client, f"{root}/{one}", one, size) for one in layouts}
        client.close()
        planner = EmbeddedPlanner(f"{root}/catalog")
        cases = list(itertools.starmap(_Case, itertools.product(layouts, KEYS, WIDTHS)))
        rows += (_case_row(planner, case, wanted[case.layout], size.rounds) for case in cases)
        targets += _targets(rows, cases)
        if published:
            with serving(f"{root}/catalog") as server:
                for case in cases:
                    if case.layout == "random":
                        answer, rounds = wanted[case.layout], max(size.rounds // 3, 1)
                        rows.append(_published_row(case, server.url, answer, rounds))
                        targets += _client_targets(rows[-1])
    return Report(
        name="mor",
        about=f"{size.rows:,} rows x {len(SCHEMA)} columns, 10 % upserts, 1 % deletes, merged on read",
        sides=[MERGE, SETS, SCAN, *([OURS, BATCHES, PUBLISHED] if published else [])],
        machine=harness.machine(),
        versions=harness.versions(("deltacat-sources", "numpy", "pyarrow")),
        rows=rows,
        figures=figures,
        targets=targets,
        notes=["published client: deltacat-client 0.1.8, with its own pins"] if published else [],
    )


def run(*, quick: bool = False) -> Report:
    """Measure in full.

    Args:
        quick: 400,000 rows and 3 rounds in place of 4,000,000 and 5.
    """
    if not PYTHON.exists():
        raise RuntimeError(f"{PYTHON} does not exist: `make bench` builds it")
    return measure(Size(400_000, 3) if quick else Size(4_000_000, 5))
