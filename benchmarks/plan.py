"""How fast is a scan planned over tables of up to a million files, beside its peers?

No data file exists: every side has the same metadata, of 1,000 to 1,000,000 files (see
`benchmarks.tables`), and answers the same queries with the files that can hold a matching row: one
partition, a range of `id` (over files that follow `id`, and over files that do not), one `name`, and
no predicate; ten files answer each of the first three. Before anything is timed the answers are
compared with what looking at every file finds. Modes:

* warm: the handle is held, the query was asked before. Of `ours http` the wall clock is the client's
  and the CPU the server's, per request, over one kept connection;
* new question: the same, but no two predicates are equal, so that our planner, which remembers its
  answers, has to find each anew (the peers remember none: theirs are the warm figures);
* new process: the catalog is opened and one query planned, imports done before the clock runs;
* floor: a request that plans nothing, `/health`, answered by the same server: what HTTP and the
  frame around a plan cost by themselves;
* page: 1,000 files of the full plan, asked over HTTP as JSON and as Arrow, without compression and
  left undecoded, so that it is the server that is measured; each page is asked for once.

Memory is what a process has grown by, for each file of the table that it holds, after it planned
the three selective queries, and after the full plan besides, as it did before over a small table.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from benchmarks import harness
from benchmarks.harness import Sample, progress
from benchmarks.plan_ours import (
    EMBEDDED,
    HTTP,
    NAMESPACE,
    TABLE,
    plan_anew,
    register_ours,
    root_of,
)
from benchmarks.plan_peers import MOST_ICEBERG, PEERS, Side
from benchmarks.plan_process import SMALL_FILES, Held
from benchmarks.plan_targets import targets
from benchmarks.report import Figure, Report, Row
from benchmarks.serving import Server, serving
from benchmarks.tables import QUERIES, Query, Shape, expected, make_files
from planner_client.protocol.catalogs import HEALTH
from planner_client.protocol.plans import ARROW_STREAM, PLAN, PlanRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

__all__ = ["measure", "run"]

OURS = (EMBEDDED.name, HTTP.name)
PACKAGES = (
    "deltacat-sources",
    "deltalake",
    "polars",
    "polars-iceberg",
    "pyarrow",
    "pyiceberg",
    "apsw",
    "uvicorn",
)
QUICK = (Shape(1_000), Shape(1_000, clustered=False), Shape(10_000))
# Where a table is small it makes no difference whether its columns follow its files.
FULL = (
    *map(Shape, (1_000, 10_000, 100_000, 1_000_000)),
    *(Shape(files, clustered=False) for files in (100_000, 1_000_000)),
)
PAGE = 1_000
# Tables too small to tell anything by a new process, or by how much a process grows.
LEAST_COLD, LEAST_HELD = 10_000, 100_000
_COLD = tuple(query for query in QUERIES if query.name != "string")
_STATISTICS = next(query for query in QUERIES if query.name == "statistics")
# A sample of a short call is the mean of as many calls as take this long.
_SAMPLE_MS = 20.0
_SLOW_MS = 2_000.0


def run(*, quick: bool = False) -> Report:
    """Make the tables in a temporary directory, check and time every side, and report.

    Args:
        quick: 1,000 and 10,000 files and 3 rounds in place of up to 1,000,000 and 9.
    """
    return measure(QUICK if quick else FULL, rounds=3 if quick else 9)


def measure(shapes: Sequence[Shape], rounds: int, peers: Sequence[Side] = PEERS) -> Report:
    """Report on tables of these shapes, in so many rounds, beside these peers."""
    rows: list[Row] = []
    figures: list[Figure] = []
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as place:
            files = make_files(shape)
            case = _Case(shape, place, tuple(p for p in peers if p.takes(shape)), rounds)
            _register(place, shape, files, case.peers)
            with serving(root_of(place)) as server:
                rows += _warm(case, server, files)
                rows += _new_questions(case, server)
                rows.append(_floor(case, server))
                if shape.clustered:
                    rows += _pages(case, server)
            if shape.clustered and shape.files >= LEAST_COLD:
                rows += _cold(case)
            if shape.clustered and shape.files >= LEAST_HELD:
                figures += _memory(case)
    return Report(
        name="plan",
        about="which files a scan has to open; no data is read",
        sides=[side.name for side in (EMBEDDED, HTTP, *peers)],
        machine=harness.machine(),
        versions=harness.versions(PACKAGES),
        rows=rows,
        figures=figures,
        targets=targets(rows, figures),
        notes=_notes(shapes),
    )


@dataclass(frozen=True)
class _Case:
    """One table, made for the peers that can hold it."""

    shape: Shape
    place: str
    peers: tuple[Side, ...]
    rounds: int

    def metric(self, query: str) -> str:
        return f"{query}, {self.shape}"


def _register(place: str, shape: Shape, files: pa.Table, peers: Sequence[Side]) -> None:
    """Write the table's metadata for us and for the peers."""
    for register in dict.fromkeys((register_ours, *(side.register for side in peers))):
        began = time.perf_counter()
        register(place, files)
        progress(f"{register.__name__}, {shape}: {time.perf_counter() - began:.1f} s")


# --- warm ---------------------------------------------------------------------------------------


def _warm(case: _Case, server: Server, files: pa.Table) -> Iterator[Row]:
    sides = (EMBEDDED, HTTP, *case.peers)
    handles = {side.name: side.open(case.place) for side in sides if side is not HTTP}
    handles[HTTP.name] = HTTP.open(server.url)
    # Where files do not follow a column, only queries of that column differ.
    for query in QUERIES if case.shape.clustered else (_STATISTICS,):
        wanted = expected(files, query)
        calls = {}
        for side in sides:
            call = functools.partial(side.plan, handles[side.name], query, case.shape.files)
            began = time.perf_counter()
            _check(side, call(), wanted)
            took_ms = (time.perf_counter() - began) * 1000
            clock = server.cpu_s if side is HTTP else time.process_time
            # What takes long is not called once more to find that out.
            calls[side.name] = (
                functools.partial(harness.measure, call, cpu_s=clock)
                if took_ms > _SLOW_MS
                else _sampler(call, clock)
            )
        progress(f"{case.metric(query.name)}: {len(wanted)} files, as expected of every side")
        timings = harness.interleave(calls, case.rounds, warm_up=False, slow_ms=_SLOW_MS)
        checked = f"equal, {len(wanted)} files"
        yield Row.compare(case.metric(query.name), "warm", timings, OURS, checked)


def _new_questions(case: _Case, server: Server) -> Iterator[Row]:
    turns = itertools.count()
    handles = {EMBEDDED.name: EMBEDDED.open(case.place), HTTP.name: HTTP.open(server.url)}
    clocks = {EMBEDDED.name: time.process_time, HTTP.name: server.cpu_s}
    for query in QUERIES if case.shape.clustered else (_STATISTICS,):

        def ask(side: str, query: Query = query) -> object:
            return plan_anew(handles[side], query, case.shape.files, next(turns))

        calls = {s: _sampler(functools.partial(ask, s), clocks[s]) for s in OURS}
        timings = harness.interleave(calls, case.rounds, warm_up=False, slow_ms=_SLOW_MS)
        yield Row.compare(case.metric(query.name), "new question", timings, OURS)


def _floor(case: _Case, server: Server) -> Row:
    with requests.Session() as session:

        def ask() -> object:
            response = session.get(server.url + HEALTH.path)
            response.raise_for_status()
            return response.content

        timings = harness.interleave({HTTP.name: _sampler(ask, server.cpu_s)}, case.rounds)
    return Row.compare(case.metric("no plan"), "floor", timings, OURS)


# Any: a plan of the side's own type.
def _check(side: Side, plan: Any, wanted: frozenset[str]) -> None:
    names, count = side.found(plan)
    if count != len(wanted) or not names or not names <= wanted:
        raise AssertionError(f"{side.name} finds {count} files where {len(wanted)} match")


def _sampler(call: Callable[[], object], cpu_s: Callable[[], float]) -> Callable[[], Sample]:
    """What takes a sample of a call that was made before: of several where one is short."""
    times = round(_SAMPLE_MS / max(harness.measure(call).wall_ms, 0.01))
    return functools.partial(harness.measure, call, times=min(max(times, 1), 200), cpu_s=cpu_s)


# --- pages --------------------------------------------------------------------------------------


def _pages(case: _Case, server: Server) -> Iterator[Row]:
    files = case.shape.files
    offsets = {"first": 0, "middle": files // 2, "last": files - PAGE}
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        for kind, accept in {"JSON": "application/json", "Arrow": ARROW_STREAM}.items():
            session.headers["Accept"] = accept
            turns = itertools.count()
            calls = {
                place: _sampler(
                    functools.partial(_next_page, session, server, offset, turns), server.cpu_s
                )
                for place, offset in offsets.items()
                if files > PAGE or place == "first"
            }
            for place, timing in harness.interleave(calls, case.rounds).items():
                metric = case.metric(f"page, {kind}, {place}")
                yield Row.compare(metric, "warm", {HTTP.name: timing}, OURS)


def _next_page(
    session: requests.Session, server: Server, offset: int, turns: Iterator[int]
) -> bytes:
    """A page close to the offset, another one each time."""
    away = next(turns)
    return _page(session, server, offset + away if offset < PAGE else offset - away)


def _page(session: requests.Session, server: Server, offset: int) -> bytes:
    request = PlanRequest(namespace=NAMESPACE, table=TABLE, file_offset=offset, max_files=PAGE)
    encoded = PLAN.encode(request)
    response = session.post(
        server.url + encoded.path,
        params=encoded.query,
        data=encoded.body,
        headers={"Content-Type": "application/json"},
    )
    response.raise_for_status()
    return response.content


# --- new processes ------------------------------------------------------------------------------


def _cold(case: _Case) -> Iterator[Row]:
    for query in _COLD:
        calls = {
            side.name: functools.partial(
                harness.in_new_process,
                "benchmarks.plan_process",
                ["cold", side.name, case.place, str(case.shape.files), query.name],
                Sample,
            )
            for side in (EMBEDDED, *case.peers)
        }
        progress(f"{case.metric(query.name)}, in new processes")
        # They cost seconds of imports, which do not count but take their time.
        rounds = max(case.rounds // (3 if case.shape.files <= MOST_ICEBERG else 4), 1)
        timings = harness.interleave(calls, rounds, warm_up=False, slow_ms=_SLOW_MS)
        yield Row.compare(case.metric(query.name), "new process", timings, OURS)


def _memory(case: _Case) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as small:
        shape = Shape(SMALL_FILES)
        _register(small, shape, make_files(shape), case.peers)
        progress(f"memory, {case.shape}")
        held = {
            side.name: harness.in_new_process(
                "benchmarks.plan_process",
                ["memory", side.name, case.place, str(case.shape.files), small],
                Held,
            )
            for side in (EMBEDDED, *case.peers)
        }
    for queries, taken in {
        "selective": {name: h.selective_bytes for name, h in held.items()},
        "all": {name: h.full_bytes for name, h in held.items()},
    }.items():
        values = {name: size / case.shape.files for name, size in taken.items()}
        yield Figure(case.metric(f"memory held, {queries} queries"), "B/file", values)


def _notes(shapes: Sequence[Shape]) -> list[str]:
    notes = [
        "delta actions: pruned by the caller over delta-rs' log as Arrow; delta uris: by delta-rs",
        "DuckLake is left out: DuckDB loads its extension from the network, so it is not everywhere",
    ]
    if any(shape.files > MOST_ICEBERG for shape in shapes):
        notes.append(
            f"iceberg, scan_iceberg: up to {MOST_ICEBERG:,} files; more take pyiceberg minutes to write"
        )
    return notes
