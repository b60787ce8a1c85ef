"""What does a read open, and what does it find? `plan` and `read`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pyarrow as pa
import typer

from io_core.formats.json import dump_rows
from planner_client.cli.browsing import files_of, print_files
from planner_client.cli.export import CsvPieces, saved
from planner_client.cli.options import (
    AsOf,
    Catalog,
    Columns,
    Json,
    Planner,
    Table,
    Version,
    Where,
    columns_of,
    connected,
    moment,
    predicate_of,
    said_of,
    table_of,
)
from planner_client.cli.output import note, print_json, print_table, print_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.plan import ReadPlan

__all__ = ["plan", "read"]

# What fits on a screen, and what a person looks at.
_ROWS_SHOWN = 50

_Limit = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help=f"Most rows. A terminal shows {_ROWS_SHOWN} if unsaid."),
]
_Offset = Annotated[int, typer.Option(min=0, metavar="N", help="Rows to leave out first.")]
_Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a file instead: .parquet, .feather, .csv, .tsv, or .json with a row a line; text "
        "also with .gz behind.",
    ),
]


def plan(
    table: Table,
    *,
    where: Where = None,
    columns: Columns = None,
    as_of: AsOf = None,
    table_version: Version = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most files to list.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what ruled out which files instead.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Keep the plan in a file, for load_plan."
        ),
    ] = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Show which files a read would open. Opens none of them."""
    client = connected(planner, catalog)
    ref = table_of(table, table_version)
    found = client.catalog.plan(
        **said_of(ref),
        table_version=table_version,
        filter_predicate=predicate_of(where),
        columns=columns_of(columns),
        as_of=moment(client, ref, as_of),
        limit=limit,
        include_files=output is not None or not explain or json,
        delete_sets=explain and not json,
    )
    if output is not None:
        found.save(output)
    if json:
        print_json(_plain_plan(found))
    elif explain:
        print_text(found.explain())
    else:
        print_files(found)
        total = f"{found.total_files:,} files, {found.total_records:,} records, "
        note(f"{total}{size_text(found.total_bytes)}, at snapshot {found.snapshot}")


# Any: JSON.
def _plain_plan(found: ReadPlan) -> dict[str, Any]:
    header = found.header
    return {
        "table": f"{header.namespace}.{header.table}",
        "table_version": header.table_version,
        "snapshot": found.snapshot,
        "snapshot_id": found.snapshot_id,
        "table_files": header.table_files,
        "table_bytes": header.table_bytes,
        "pruned": [
            {"step": p.step, "columns": p.columns, "files": p.files, "bytes": p.size_bytes}
            for p in header.pruned
        ],
        "total_files": found.total_files,
        "total_records": found.total_records,
        "total_bytes": found.total_bytes,
        "merge_keys": list(found.merge_keys),
        "requires_merge": found.requires_merge,
        "truncated": header.truncated,
        "files": files_of(found),
    }


def read(
    table: Table,
    *,
    columns: Columns = None,
    where: Where = None,
    limit: _Limit = None,
    offset: _Offset = 0,
    as_of: AsOf = None,
    table_version: Version = None,
    output: _Output = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Read rows: as a table on a terminal, as CSV in a pipe, as JSON, or into a file."""
    client = connected(planner, catalog)
    ref = table_of(table, table_version)
    is_shown = output is None and not json and sys.stdout.isatty()
    reader = client.catalog.read(
        **said_of(ref),
        table_version=table_version,
        as_of=moment(client, ref, as_of),
        filter_predicate=predicate_of(where),
        columns=columns_of(columns),
        # One more row tells whether there are more.
        limit=_ROWS_SHOWN + 1 if is_shown and limit is None else limit,
        offset=offset,
        read_as="record_batch_reader",
    )
    schema, pieces = reader.schema, map(_table, reader)
    if output is not None:
        rows = saved(output, schema, pieces)
        print_json({"path": output, "records": rows}) if json else note(f"{rows:,} rows: {output}")
    elif json:
        _print_rows(pieces)
    elif is_shown:
        _show(pieces, schema, limit)
    else:
        writer = CsvPieces(sys.stdout.buffer, schema)
        for piece in pieces:
            writer.write(piece)


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _print_rows(pieces: Iterator[pa.Table]) -> None:
    """One JSON list of objects, written row by row."""
    encode, before = msgspec.json.Encoder().encode, b"["
    out = sys.stdout.buffer
    for piece in pieces:
        for rows in dump_rows(piece):
            for row in rows:
                out.write(before + b"\n" + encode(row))
                before = b","
    out.write(b"[]\n" if before == b"[" else b"\n]\n")


def _show(pieces: Iterator[pa.Table], schema: pa.Schema, limit: int | None) -> None:
    rows = [list(row.values()) for piece in pieces for part in dump_rows(piece) for row in part]
    print_table(schema.names, rows if limit is not None else rows[:_ROWS_SHOWN])
    if limit is None and len(rows) > _ROWS_SHOWN:
        note(f"the first {_ROWS_SHOWN} rows; there are more: --limit N, or -o FILE")
