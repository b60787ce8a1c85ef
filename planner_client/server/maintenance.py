"""What do the commands `vacuum`, `check` and `backup` take, and what do they print?"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from planner_client.server.backup import backup
from planner_client.server.check import check
from planner_client.server.command import Command, opened, parser_of, print_json
from planner_client.server.vacuum import vacuum

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner_client.server.vacuum import Amount, VacuumReport

__all__ = ["COMMANDS"]

_UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d{1,9})([dhms]?)")
_LISTED = 100


def _vacuum_parser(called: str) -> argparse.ArgumentParser:
    parser = parser_of(
        called,
        "Delete the data files that nobody can read or commit any more: those of snapshots that are "
        "older than --keep, of tables that were dropped with purge, and those that no commit refers "
        "to. Shows what it would delete, and deletes it with --yes. Files that a scan or a "
        "transaction holds, that an open write session has staged, or that lie outside of the "
        "catalog's data directory are left alone. The catalog may be in use.",
    )
    parser.add_argument(
        "--keep",
        type=_duration_ns,
        default="7d",
        metavar="TIME",
        help="how far back time travel reaches, as 7d, 12h, 30m or 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=_duration_ns,
        default="1d",
        metavar="TIME",
        help="how long to leave files that no commit refers to, since they changed (default: "
        "%(default)s)",
    )
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--yes", action="store_true", help="delete; without it, only show")
    doing.add_argument("--dry-run", action="store_true", help="only show, which is the default")
    return parser


def _run_vacuum(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Run `vacuum`; the exit code is 1 where something could not be deleted."""
    report = vacuum(
        opened(parser, given),
        keep_ns=given.keep,
        grace_ns=given.grace,
        dry_run=not given.yes,
        say=_progress(),
    )
    if given.json:
        print_json(report)
    else:
        sys.stdout.write(_vacuumed(report))
    for text in report.failed:
        sys.stderr.write(f"not deleted: {text}\n")
    return 1 if report.failed else 0


def _vacuumed(report: VacuumReport) -> str:
    verb = "would delete" if report.dry_run else "deleted"
    lines = [
        f"{verb} {_said(report.expired)} that only expired snapshots show",
        f"{verb} {_said(report.purged)} of purged tables",
        f"{verb} {_said(report.abandoned)} that no commit refers to",
        f"left {_said(report.recent)} that no commit refers to yet, for they are recent",
        f"{report.expired_snapshots} snapshots {'would expire' if report.dry_run else 'expired'}",
        f"{report.horizon} is the oldest snapshot that can be read",
    ]
    if report.dry_run:
        lines.append("nothing was changed: add --yes to delete")
    return "".join(f"{line}\n" for line in lines)


def _check_parser(called: str) -> argparse.ArgumentParser:
    parser = parser_of(
        called,
        "Compare a catalog's ledger with itself and with the files that it says are there. Changes "
        "nothing; the catalog may be in use. Exits with 1 where something is wrong.",
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="open every file: it has to be whole, and of as many rows as were committed; and read "
        "the keys of keyed tables: known dead rows have to be those of a merge",
    )
    return parser


def _run_check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Run `check`; the exit code is 1 where something is wrong."""
    report = check(opened(parser, given), deep=given.deep, say=_progress())
    if given.json:
        print_json(report)
        return 1 if report.findings else 0
    for text in report.findings[:_LISTED]:
        sys.stdout.write(f"wrong: {text}\n")
    if len(report.findings) > _LISTED:
        sys.stdout.write(f"... and {len(report.findings) - _LISTED:,} more\n")
    if report.findings:
        return 1
    sys.stdout.write(
        f"sound: the ledger, and {report.files:,} files that its snapshots show\n"
        f"unreferenced, for vacuum: {_said(report.unreferenced)}\n"
    )
    return 0


def _backup_parser(called: str) -> argparse.ArgumentParser:
    parser = parser_of(
        called,
        "Copy a catalog as it is at one moment, while it is in use, into a new directory. The copy "
        "is a catalog: to restore, serve it, or put its files where the catalog was.",
    )
    parser.add_argument("to", metavar="TO", help="the directory to make; nothing is overwritten")
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--with-data",
        dest="data",
        action="store_const",
        const="copy",
        default="none",
        help="copy the data files too; without it, the ledger alone",
    )
    data.add_argument(
        "--link-data",
        dest="data",
        action="store_const",
        const="link",
        help="hard links of the data files instead: quick and small, but lost with the disk",
    )
    parser.add_argument(
        "--with-auth",
        action="store_true",
        help="users and the hashes of their tokens too: keep such a copy as safe as the original",
    )
    return parser


def _run_backup(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    planner = opened(parser, given)
    how = {"data": given.data, "auth": given.with_auth, "say": _progress()}
    try:
        report = backup(planner, given.to, **how)
    except OSError as error:
        sys.stderr.write(f"error: nothing was copied: {error}\n")
        return 2
    if given.json:
        print_json(report)
        return 0
    sys.stdout.write(
        f"copied snapshot {report.snapshot} and {_said(report.data)} to {report.path}\n"
    )
    if report.external:
        sys.stdout.write(
            f"not copied: {report.external:,} files outside of the catalog's directory, which it "
            "refers to where they are\n"
        )
    return 0


COMMANDS = {
    "vacuum": Command(_vacuum_parser, _run_vacuum),
    "check": Command(_check_parser, _run_check),
    "backup": Command(_backup_parser, _run_backup),
}


def _duration_ns(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or (not found[2] and int(found[1])):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 7d, 12h, 30m, 45s or 0")
    return int(found[1]) * _UNITS_S.get(found[2], 0) * 10**9


def _progress() -> Callable[[str], None]:
    """Tells a person what happens; says nothing where nobody looks."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda text: print(f"{text} ...", file=sys.stderr, flush=True)  # noqa: T201  # to people


def _said(amount: Amount) -> str:
    size, unit = float(amount.size), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    digits = 0 if unit == "bytes" else 1
    return f"{amount.files:,} files ({size:.{digits}f} {unit})"
