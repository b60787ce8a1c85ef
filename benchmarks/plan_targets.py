"""Does planning hold what was promised of it? The bars, each beside what a run found.

A bar is an upper bound for this class of machine (two cores). Those whose table was not part of the
run are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.report import Figure, Row

__all__ = ["targets"]


class _Bar(NamedTuple):
    """An upper bound in ms; of several rows the slowest counts."""

    metric: str
    rows: tuple[str, ...]
    mode: str
    side: str
    most_ms: float
    cpu: bool


_100K, _1M = "100,000 files", "1,000,000 files"
_PLACES = ("first", "middle", "last")
_BARS = (
    _Bar(
        f"warm selective plan, {_100K}, server CPU",
        (f"partition, {_100K}", f"statistics, {_100K}", f"string, {_100K}"),
        "warm",
        "ours http",
        0.5,
        cpu=True,
    ),
    _Bar(
        f"warm selective plan, {_1M}, clustered, server CPU",
        (f"partition, {_1M}", f"statistics, {_1M}"),
        "warm",
        "ours http",
        1.0,
        cpu=True,
    ),
    _Bar(
        f"warm selective plan, {_1M}, unclustered, server CPU",
        (f"statistics, {_1M}, unclustered", f"string, {_1M}"),
        "warm",
        "ours http",
        4.0,
        cpu=True,
    ),
    _Bar(
        f"new selective plan, {_100K}, server CPU",
        (f"partition, {_100K}", f"statistics, {_100K}", f"string, {_100K}"),
        "new question",
        "ours http",
        0.5,
        cpu=True,
    ),
    _Bar(
        f"new selective plan, {_1M}, clustered, server CPU",
        (f"partition, {_1M}", f"statistics, {_1M}"),
        "new question",
        "ours http",
        1.0,
        cpu=True,
    ),
    _Bar(
        f"new selective plan, {_1M}, unclustered, server CPU",
        (f"statistics, {_1M}, unclustered", f"string, {_1M}"),
        "new question",
        "ours http",
        4.0,
        cpu=True,
    ),
    _Bar(
        f"cold open and plan, {_1M}",
        (f"partition, {_1M}", f"statistics, {_1M}"),
        "new process",
        "ours",
        150.0,
        cpu=False,
    ),
    *(
        _Bar(
            f"page of 1,000 files of {files}, {kind}, server CPU",
            tuple(f"page, {kind}, {place}, {files}" for place in _PLACES),
            "warm",
            "ours http",
            1.0,
            cpu=True,
        )
        for files in (_100K, _1M)
        for kind in ("JSON", "Arrow")
    ),
    _Bar(f"full plan of {_100K}", (f"full, {_100K}",), "warm", "ours http", 30.0, cpu=False),
)
_MOST_BYTES = 200.0


def targets(rows: Sequence[Row], figures: Sequence[Figure]) -> list[Target]:
    """The bars that these rows and figures speak of."""
    return [*_times(rows), *_sizes(figures)]


def _times(rows: Sequence[Row]) -> Iterator[Target]:
    for bar in _BARS:
        found = [row for row in rows if row.metric in bar.rows and row.mode == bar.mode]
        timings = [row.timings[bar.side] for row in found if bar.side in row.timings]
        if timings:
            slowest = max(t.cpu_ms if bar.cpu else t.wall_ms for t in timings)
            yield Target(
                bar.metric,
                _range([row.timings[row.best_peer].wall_ms for row in found if row.best_peer]),
                f"< {bar.most_ms:g} ms",
                f"{slowest:.3g} ms",
                slowest < bar.most_ms,
            )


def _range(best_ms: list[float]) -> str:
    if not best_ms:
        return ""
    low, high = f"{min(best_ms):.3g}", f"{max(best_ms):.3g}"
    return f"{low} ms" if low == high else f"{low} to {high} ms"


def _sizes(figures: Sequence[Figure]) -> Iterator[Target]:
    for figure in figures:
        peers = [size for side, size in figure.values.items() if side != "ours"]
        yield Target(
            figure.metric,
            f"{min(peers):.0f} B" if peers else "",
            f"< {_MOST_BYTES:.0f} B a file",
            f"{figure.values['ours']:.0f} B",
            figure.values["ours"] < _MOST_BYTES,
        )
