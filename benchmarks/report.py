"""What did a benchmark find? Timings of every side, single figures, targets, and all as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Figure", "Report", "Row", "Target", "Timing"]


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

    @classmethod
    def compare(
        cls,
        metric: str,
        mode: str,
        timings: dict[str, Timing],
        ours: Sequence[str],
        checked: str = "",
    ) -> Row:
        """A row with our sides' ratios to the fastest of the others, where there are others."""
        peers = [name for name in timings if name not in ours]
        best = min(peers, key=lambda name: timings[name].wall_ms) if peers else ""
        ratio = {
            name: timings[name].wall_ms / timings[best].wall_ms
            for name in ours
            if best and name in timings
        }
        return cls(metric, mode, timings, best, ratio, checked)


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One number of each side that is no timing of a call, in a unit of its own."""

    metric: str
    unit: str
    values: dict[str, float]


class Target(msgspec.Struct, frozen=True):
    """A bar that was set beforehand, what this run found, and whether it holds.

    `peer` is the best of the others in this run, or empty where none can do it.
    """

    metric: str
    peer: str
    bar: str
    found: str
    holds: bool


class Report(msgspec.Struct, frozen=True):
    """What one benchmark found, on which machine, with which versions."""

    name: str
    about: str
    sides: list[str]
    machine: dict[str, str]
    versions: dict[str, str]
    rows: list[Row] = []
    figures: list[Figure] = []
    targets: list[Target] = []
    notes: list[str] = []

    def render(self) -> str:
        """The report as text for people: a line per metric and mode, ms of wall clock / of CPU."""
        facts = [f"{key}: {value}" for key, value in {**self.machine, **self.versions}.items()]
        tables = (_timings(self), _memory(self), _figures(self), _targets(self))
        lines = [f"{self.name}: {self.about}", ""]
        for table, caption in tables:
            if table:
                lines += [*_columns(table), *([caption] if caption else []), ""]
        return "\n".join([*lines, *(f"* {note}" for note in self.notes), "; ".join(facts), ""])


Table = list[list[str]]


def _timings(report: Report) -> tuple[Table, str]:
    if not report.rows:
        return [], ""
    ours = list(dict.fromkeys(side for row in report.rows for side in row.ratio))
    head = ["metric", "mode", *report.sides, *(f"{side} / best peer" for side in ours)]
    body = [
        [
            row.metric,
            row.mode,
            *(_cell(row.timings.get(side)) for side in report.sides),
            *(_ratio(row, side) for side in ours),
        ]
        for row in report.rows
    ]
    caption = "ms, medians: wall clock / CPU; below 1.00 ours is faster than the fastest peer"
    return [head, *body], caption


def _cell(timing: Timing | None) -> str:
    return "-" if timing is None else f"{_short(timing.wall_ms)} / {_short(timing.cpu_ms)}"


def _ratio(row: Row, side: str) -> str:
    return f"{_short(row.ratio[side])} ({row.best_peer})" if side in row.ratio else "-"


def _short(number: float) -> str:
    """Three digits that count, and no more than three decimals; a count as it is."""
    if number == int(number):
        return str(int(number))
    return f"{number:.{3 if number < 1 else 2 if number < 10 else 1 if number < 1000 else 0}f}"


def _memory(report: Report) -> tuple[Table, str]:
    rows = [row for row in report.rows if any(t.peak_rss_mib for t in row.timings.values())]
    if not rows:
        return [], ""
    body = [
        [
            row.metric,
            *(_count(t.peak_rss_mib) if (t := row.timings.get(s)) else "-" for s in report.sides),
        ]
        for row in rows
    ]
    return [["peak RSS, MiB", *report.sides], *body], ""


def _figures(report: Report) -> tuple[Table, str]:
    if not report.figures:
        return [], ""
    named = {side: None for figure in report.figures for side in figure.values}
    sides = [s for s in report.sides if s in named] + [s for s in named if s not in report.sides]
    body = [
        [f.metric, f.unit, *(_short(f.values[s]) if s in f.values else "-" for s in sides)]
        for f in report.figures
    ]
    return [["figure", "unit", *sides], *body], ""


def _targets(report: Report) -> tuple[Table, str]:
    body = [
        [t.metric, t.peer or "-", t.bar, t.found, "holds" if t.holds else "MISSED"]
        for t in report.targets
    ]
    head = ["target", "best peer, this run", "bar", "found", ""]
    return ([head, *body] if body else []), ""


def _count(number: float | None) -> str:
    return f"{number or 0:.0f}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
