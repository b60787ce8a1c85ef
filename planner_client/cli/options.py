"""What do the commands have in common: which planner, which table, which moment, which form?"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer

from io_core.errors import DeltaCATError, NotFoundError
from io_core.model import TableRef
from planner_client.client import Client
from planner_client.settings import PLANNER_ENVIRONMENT

__all__ = [
    "AsOf",
    "Catalog",
    "Columns",
    "Json",
    "Name",
    "Planner",
    "Table",
    "Version",
    "Where",
    "columns_of",
    "connected",
    "moment",
    "predicate_of",
    "said_of",
    "table_of",
]

_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _known_names(context: typer.Context, incomplete: str) -> list[str]:
    """Namespaces and tables that begin like this, for a shell to offer."""
    try:
        client = connected(context.params.get("planner"), context.params.get("catalog"))
        namespace, dot, _ = incomplete.partition(".")
        if dot:
            names = [
                f"{namespace}.{t.name}" for t in client.catalog.list_tables(namespace=namespace)
            ]
        else:
            names = [f"{n.name}." for n in client.catalog.list_namespaces()]
    except (DeltaCATError, ValueError, OSError):
        # A shell has no place for errors: the command itself tells what is wrong.
        return []
    return [name for name in names if name.startswith(incomplete)]


Planner = Annotated[
    str | None,
    typer.Option(
        envvar=PLANNER_ENVIRONMENT,
        metavar="URL|DIR",
        help="The planner's URL, or the catalog's directory. The environment's DELTACAT_TOKEN is "
        "sent to a URL.",
    ),
]
Catalog = Annotated[
    str | None, typer.Option(metavar="NAME", help="The catalog, where the planner has several.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Table = Annotated[
    str, typer.Argument(metavar="NAMESPACE.TABLE", autocompletion=_known_names, show_default=False)
]
Name = Annotated[
    str | None,
    typer.Argument(metavar="NAMESPACE[.TABLE]", autocompletion=_known_names, show_default=False),
]
Version = Annotated[
    str | None,
    typer.Option("--table-version", metavar="NAME", help="None: the latest active version."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME,...", help="Columns to read, in this order; all of them if unsaid."),
]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="SQL",
        help="Rows to keep: \"city = 'Oslo' AND km >= 2\", or a predicate as JSON.",
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="What was committed before: 2026-11-26T12:00, 90m (or s, h, d) ago, nanoseconds since "
        "the epoch, or @41: right after snapshot 41.",
    ),
]


def connected(planner: str | None, catalog: str | None, *, create: bool = False) -> Client:
    """The client of what `--planner` and `--catalog` say.

    Raises:
        NotFoundError: No planner was named, or a catalog that it does not have.
    """
    if not planner:
        raise NotFoundError(
            f"which planner? Pass --planner URL, or --planner DIR, or set {PLANNER_ENVIRONMENT}"
        )
    return Client(planner, catalog=catalog, create=create)


def table_of(text: str, version: str | None = None) -> TableRef:
    """The table that an argument names.

    Raises:
        ValueError: It is no name of a table.
    """
    return TableRef.parse(text, version)


# Any: keyword arguments of the client's calls.
def said_of(ref: TableRef) -> dict[str, Any]:
    """How the client's calls name a table."""
    return {"namespace": ref.namespace, "table": ref.table}


def columns_of(given: list[str] | None) -> list[str] | None:
    """Columns from `--columns a,b --columns c`.

    Raises:
        ValueError: There are none.
    """
    if given is None:
        return None
    found = [name.strip() for part in given for name in part.split(",") if name.strip()]
    if not found:
        raise ValueError("an option that takes names of columns has none: write them as a,b")
    return found


# Any: JSON.
def predicate_of(text: str | None) -> str | dict[str, Any] | None:
    """The predicate that `--where` says: SQL stays text.

    Raises:
        ValueError: It begins like JSON, and is none.
    """
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"--where {text!r} is neither SQL nor JSON: {error}") from None


def moment(client: Client, ref: TableRef, text: str | None) -> int | None:
    """The time that `--as-of` says, in nanoseconds since the epoch.

    Raises:
        ValueError: It is no time.
        NotFoundError: The table's history has no such snapshot.
    """
    if text is None:
        return None
    if text.startswith("@"):
        return _after_snapshot(client, ref, text)
    if text.isascii() and text.isdigit():
        return int(text)
    if ago := _AGO.fullmatch(text):
        return time.time_ns() - int(ago[1]) * _UNITS_S[ago[2]] * 10**9
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--as-of {text!r} is no time: write 2026-11-26T12:00, 90m, nanoseconds since the epoch, "
            "or @SNAPSHOT"
        ) from None
    # Without a zone it is the caller's own clock.
    return (found.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000


def _after_snapshot(client: Client, ref: TableRef, text: str) -> int:
    if not (text[1:].isascii() and text[1:].isdigit()):
        raise ValueError(f"--as-of {text!r}: write a snapshot's number after the @")
    for change in client.catalog.table_history(**said_of(ref)):
        if change.snapshot <= int(text[1:]):
            return change.committed_ns + 1
    raise NotFoundError(
        f"{ref} has no snapshot {text[1:]} that can be read; see: deltacat history {ref}"
    )
