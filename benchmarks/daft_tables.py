"""Which files do Daft's readers read? Those of `benchmarks.scan` with field ids, in every side's metadata.

Daft reads a table of Iceberg by field ids alone, and pyiceberg's `add_files` registers only files that
have none: here the files carry them, and the entries that pyiceberg makes of their footers are appended
as its own writer would. Our table and Iceberg's are divided by day; Delta would keep the day out of the
files, and has it in its statistics, as it has all columns.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks import scan
from benchmarks.harness import progress
from benchmarks.peers import TABLE, Fixture, register_delta

if TYPE_CHECKING:
    from planner_client import Client

__all__ = ["build"]

_SCHEMA = pa.schema(
    [
        field.with_metadata({"PARQUET:field_id": str(place)})
        for place, field in enumerate(scan.SCHEMA, start=1)
    ]
)


def build(root: str, files: int) -> Fixture:
    """Write the files under our session's directory, commit them, and register them with the peers."""
    from planner_client import Client

    os.makedirs(root, exist_ok=True)
    fixture = Fixture(root)
    # On local disk.
    fixture.remember("store", None)
    paths = _commit(Client(fixture.catalog), files)
    progress("registering them: delta, iceberg")
    fixture.remember("files", paths)
    register_delta(fixture, os.path.dirname(paths[0]))
    _register_iceberg(fixture, paths)
    return fixture


def _commit(client: Client, files: int) -> list[str]:
    from io_core.formats.parquet import entry_of
    from io_core.schema import decode_schema

    namespace, table = TABLE.split(".")
    client.catalog.create_table(
        namespace=namespace,
        table=table,
        schema=scan.SCHEMA,
        partition_scheme={"keys": [{"key": ["day"], "transform": "identity"}]},
        auto_create_namespace=True,
    )
    session = client.stage(namespace=namespace, table=table, mode="append")
    progress(f"writing {files} files of {scan.ROWS_PER_FILE} rows and {len(_SCHEMA)} columns")
    paths = scan.write_files(session.data_dir, files, session.storage, _SCHEMA)
    assert session.schema_serialized is not None
    schema = decode_schema(session.schema_serialized)
    no_nan = dict.fromkeys(("value", "ratio_0", "ratio_1"), 0)
    entries = []
    for path in paths:
        entry = entry_of(path, schema, nan_counts=no_nan)
        assert entry.column_stats is not None
        # A file lies in one day.
        day = [entry.column_stats["day"].min]
        entries.append(entry_of(path, schema, nan_counts=no_nan, partition_values=day))
    client.commit(session=session, entries=entries)
    return paths


def _register_iceberg(fixture: Fixture, files: list[str]) -> None:
    """Add the files to a new table of a SQLite catalog, in one commit."""
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io.pyarrow import parquet_file_to_data_file
    from pyiceberg.transforms import IdentityTransform

    warehouse = f"{fixture.root}/iceberg"
    os.makedirs(warehouse)
    catalog = SqlCatalog(
        "bench", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}"
    )
    catalog.create_namespace(TABLE.split(".")[0])
    table = catalog.create_table(TABLE, _SCHEMA)
    with table.update_spec() as spec:
        spec.add_field("day", IdentityTransform(), "day")
    with (
        table.transaction() as transaction,
        transaction.update_snapshot().fast_append() as append,
    ):
        for path in files:
            append.append_data_file(parquet_file_to_data_file(table.io, table.metadata, path))
    fixture.remember("iceberg", catalog.load_table(TABLE).metadata_location)
