"""What is there? `ls`, `describe`, `history`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from planner_client.cli.options import (
    AsOf,
    Catalog,
    Json,
    Name,
    Planner,
    Table,
    Version,
    connected,
    moment,
    said_of,
    table_of,
)
from planner_client.cli.output import (
    print_facts,
    print_json,
    print_table,
    size_text,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.model import PartitionScheme, SortScheme
    from io_core.plan import ReadPlan
    from planner_client.client import Client
    from planner_client.protocol.tables import TableDescription

__all__ = ["describe", "files_of", "history", "ls", "print_files"]

# Any, here and below: JSON.
Record = dict[str, Any]


def ls(
    name: Name = None,
    *,
    catalogs: Annotated[
        bool, typer.Option("--catalogs", help="List the planner's catalogs instead.")
    ] = False,
    as_of: AsOf = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """List namespaces; of a namespace the tables; of a table the data files."""
    client = connected(planner, catalog)
    if name is not None and "." in name:
        ref = table_of(name)
        plan = client.catalog.plan(**said_of(ref), as_of=moment(client, ref, as_of))
        print_json(files_of(plan)) if json else print_files(plan)
        return
    if as_of is not None:
        raise ValueError("--as-of goes with NAMESPACE.TABLE, whose files it lists")
    found = _listed(client, name, catalogs=catalogs)
    if json:
        print_json(found)
    elif found:
        print_table(list(found[0]), [list(record.values()) for record in found])


def _listed(client: Client, namespace: str | None, *, catalogs: bool) -> list[Record]:
    if catalogs:
        if namespace is not None:
            raise ValueError(f"--catalogs lists all of them: leave out {namespace!r}")
        return [
            {"name": c.name, "root": c.root, "data_root": c.data_root, "is_default": c.is_default}
            for c in client.catalog.list_catalogs()
        ]
    if namespace is None:
        return [
            {"name": n.name, "properties": n.properties or {}}
            for n in client.catalog.list_namespaces()
        ]
    return [
        {"name": t.name, "latest_version": t.latest_version, "description": t.description}
        for t in client.catalog.list_tables(namespace=namespace)
    ]


def files_of(plan: ReadPlan) -> list[Record]:
    """A plan's files as plain values."""
    return [
        {
            "path": file.path,
            "content_type": file.content_type,
            "records": file.record_count,
            "bytes": file.content_length,
            "partition_values": task.partition_values,
            "delta_type": task.delta_type,
        }
        for task in plan.scan_tasks
        for file in task.files
    ]


def print_files(plan: ReadPlan) -> None:
    """Print a plan's files for people."""
    rows = (
        (f["records"], size_text(f["bytes"]), f["partition_values"], f["delta_type"], f["path"])
        for f in files_of(plan)
    )
    print_table(("records", "size", "partition", "delta", "path"), rows)


def describe(
    name: Name,
    *,
    table_version: Version = None,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Show a table's schema, keys, schemes and totals; or a namespace's properties."""
    assert name is not None
    client = connected(planner, catalog)
    if "." not in name:
        found = client.catalog.get_namespace(namespace=name)
        facts: Record = {"namespace": found.name, "properties": found.properties or {}}
        print_json(facts) if json else print_facts(facts.items())
        return
    ref = table_of(name, table_version)
    said = client.catalog.describe_table(**said_of(ref), table_version=table_version)
    versions = client.catalog.list_table_versions(**said_of(ref))
    facts = _facts(said)
    facts["versions"] = [
        {"version": v.table_version, "lifecycle_state": v.lifecycle_state} for v in versions
    ]
    if json:
        print_json(facts)
        return
    columns = facts.pop("columns")
    facts |= {"versions": ", ".join(v.table_version for v in versions)}
    facts["merge_keys"] = ", ".join(facts["merge_keys"])
    facts |= {name: _scheme_text(facts[name]) for name in ("partition_scheme", "sort_scheme")}
    del facts["bytes"]
    facts["size"] = size_text(said.total_bytes or 0)
    print_facts((name.replace("_", " "), value) for name, value in facts.items())
    if columns is None:
        return
    print_table(("", "column", "type", "null"), _column_rows(columns, said.merge_keys or ()))


def _column_rows(columns: list[Record], keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for column in columns:
        name = column["name"]
        nullable = "" if column.get("nullable", True) else "never"
        yield "key" if name in keys else "", name, column["type"], nullable


def _facts(said: TableDescription) -> Record:
    return {
        "table": f"{said.namespace}.{said.table_name}",
        "table_version": said.table_version,
        "lifecycle_state": said.lifecycle_state,
        "description": said.description,
        "merge_keys": said.merge_keys or [],
        "partition_scheme": _scheme(said.partition_scheme),
        "sort_scheme": _scheme(said.sort_scheme),
        "content_types": said.content_types or [],
        "table_properties": said.table_properties or {},
        "table_version_properties": said.properties or {},
        "files": said.total_files,
        "records": said.total_records,
        "bytes": said.total_bytes,
        "partitions": said.partition_count,
        "snapshot": said.snapshot,
        "columns": None if said.schema is None else msgspec.to_builtins(said.schema),
    }


def _scheme(scheme: PartitionScheme | SortScheme | None) -> list[Record]:
    return [] if scheme is None else [msgspec.to_builtins(key) for key in scheme.keys]


def _scheme_text(keys: list[Record]) -> str:
    def said(key: Record) -> str:
        column = ".".join(key["key"])
        how = key.get("transform") or key.get("sort_order")
        return column if how in (None, "identity") else f"{how}({column})"

    return ", ".join(map(said, keys))


def history(
    table: Table,
    *,
    limit: Annotated[int, typer.Option(min=0, help="Most commits to list; 0: all.")] = 20,
    planner: Planner = None,
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """List the commits that changed a table, newest first; read one with --as-of @SNAPSHOT."""
    client = connected(planner, catalog)
    changes = client.catalog.table_history(**said_of(table_of(table)), limit=limit or None)
    if json:
        names = changes[0].__struct_fields__ if changes else ()
        found = [{name: getattr(c, name) for name in names} for c in changes]
        print_json([{**c, "time": time_text(c["committed_ns"])} for c in found])
        return
    print_table(
        ("snapshot", "time", "did", "+files", "+records", "-files", "-records", "message"),
        (
            (
                c.snapshot,
                time_text(c.committed_ns),
                ", ".join(c.kinds),
                c.files,
                c.records,
                c.removed_files,
                c.removed_records,
                c.message,
            )
            for c in changes
        ),
    )
