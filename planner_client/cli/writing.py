"""How does a table get rows, or those it had? `write`, `add`, `rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from io_core.model import WriteMode  # read by Typer at run time
from planner_client.cli.options import (
    Catalog,
    Json,
    Planner,
    Table,
    Version,
    columns_of,
    connected,
    moment,
    said_of,
    table_of,
)
from planner_client.cli.output import note, print_json, size_text, time_text

if TYPE_CHECKING:
    from io_core.model import TableRef, WriteSession

__all__ = ["add", "rollback", "write"]

_Mode = Annotated[
    WriteMode, typer.Option(help="auto: a row with the key of one that is there replaces it.")
]
_Keys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...", help="Columns that identify a row of a table that this makes."
    ),
]
_PartitionBy = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME,...", help="Columns whose values divide a table that this makes."),
]


def write(
    table: Table,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            show_default=False,
            help="Parquet, CSV, TSV, PSV, Feather, JSON with an object a line, ORC, Avro or Lance.",
        ),
    ],
    *,
    mode: _Mode = "auto",
    merge_keys: _Keys = None,
    partition_by: _PartitionBy = None,
    update_columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...", help="Change these columns alone, of the rows with the same keys."
        ),
    ] = None,
    table_version: Version = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Write the rows of files, all in one commit. Makes the table where it is absent."""
    ref = table_of(table, table_version)
    session = connected(planner, catalog, create=True).catalog.write(
        files,
        **said_of(ref),
        mode=mode,
        merge_keys=columns_of(merge_keys) or (),
        partition_by=columns_of(partition_by),
        update_columns=columns_of(update_columns),
        table_version=table_version,
    )
    _tell(session, ref, as_json=json)


def add(
    table: Table,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            show_default=False,
            help="Parquet files, directories of them, or patterns: 'data/2026-*/*.parquet'.",
        ),
    ],
    *,
    mode: _Mode = "auto",
    merge_keys: _Keys = None,
    partition_by: _PartitionBy = None,
    table_version: Version = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Make Parquet files part of a table where they lie, without copying them, all in one commit."""
    ref = table_of(table, table_version)
    session = connected(planner, catalog, create=True).catalog.add_files(
        files,
        **said_of(ref),
        mode=mode,
        merge_keys=columns_of(merge_keys),
        partition_by=columns_of(partition_by),
        table_version=table_version,
    )
    _tell(session, ref, as_json=json)


def _tell(session: WriteSession, ref: TableRef, *, as_json: bool) -> None:
    files, records = session.files_registered or 0, session.total_records or 0
    size = session.total_bytes or 0
    if not as_json:
        rows = f"{records:,} rows in {files:,} files ({size_text(size)})"
        note(f"{rows}: {ref} at snapshot {session.snapshot}")
        return
    print_json(
        {
            "table": str(ref),
            "snapshot": session.snapshot,
            "files": files,
            "records": records,
            "bytes": size,
        }
    )


def rollback(
    table: Table,
    *,
    as_of: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            show_default=False,
            help="What was committed before: a time as for read, or @41: right after snapshot 41.",
        ),
    ],
    table_version: Version = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="For the history.")
    ] = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Make a table again what it was. A commit like any other: roll it back to undo it."""
    client = connected(planner, catalog)
    ref = table_of(table, table_version)
    when = moment(client, ref, as_of)
    assert when is not None
    before = client.catalog.table_history(**said_of(ref), limit=1)
    client.catalog.rollback_table(
        **said_of(ref), as_of=when, table_version=table_version, commit_message=message
    )
    undo = before[0].snapshot if before else None
    if json:
        print_json({"table": str(ref), "as_of": when, "snapshot_before": undo})
        return
    note(f"{ref} is what it was before {time_text(when)}")
    if undo is not None:
        note(f"undo: deltacat rollback {ref} --as-of @{undo}")
