"""How does an answer reach the screen, a pipe or a program? As a table, as text, as JSON."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "note",
    "plain",
    "print_facts",
    "print_json",
    "print_table",
    "print_text",
    "size_text",
    "time_text",
]

# Wide enough for any row: what stands in a pipe is never cut.
_PIPE_WIDTH = 100_000


def _console() -> Console:
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


# Any: JSON, or structs of the client's.
def print_json(found: Any) -> None:
    """Print one JSON document. Fields that are not set are left out."""
    sys.stdout.write(f"{msgspec.json.encode(found).decode()}\n")


def print_text(text: str) -> None:
    """Print text that this project made; control characters are shown as escapes."""
    sys.stdout.write("".join(f"{_visible(line)}\n" for line in text.split("\n")))


def note(text: str) -> None:
    """Tell a person something beside the answer."""
    sys.stderr.write(f"{_visible(text)}\n")


def print_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers stand to the right, what is not there is left empty."""
    held = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, name in enumerate(names):
        numbers = all(isinstance(row[i], int | float) or row[i] is None for row in held)
        table.add_column(
            Text(_visible(name)), justify="right" if numbers else "left", overflow="fold"
        )
    for row in held:
        table.add_row(*(Text(plain(value)) for value in row))
    _print(table)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print what is known of one thing, a line each; what is not known is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, "", [], {}, ()):
            table.add_row(Text(name), Text(plain(value)))
    _print(table)


def _print(table: Table) -> None:
    console = _console()
    with console.capture() as captured:
        console.print(table)
    # Columns are filled up to their width, the last one too.
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def plain(value: Any) -> str:
    """A value as text of one line for people."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _visible(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return repr(value)
    return _visible(msgspec.json.encode(value).decode())


def time_text(ns: int) -> str:
    """A time of the planner's, in UTC to the microsecond.

    Example:
        >>> time_text(1_500_000_000)
        '1970-01-01T00:00:01.500000Z'
    """
    found = datetime.fromtimestamp(ns // 10**9, tz=UTC).replace(microsecond=ns % 10**9 // 1000)
    return found.isoformat(timespec="microseconds").replace("+00:00", "Z")


def size_text(count: int) -> str:
    """Bytes for people.

    Example:
        >>> size_text(999), size_text(1_250_000)
        ('999 B', '1.2 MB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _visible(text: str) -> str:
    """Text whose control characters, which a terminal would obey, are escapes."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
