"""Who plans, and each at its best? The peers of the planning benchmark, over the same metadata.

A side opens a handle (what a long-lived program keeps) and plans a query with it: which files hold
rows that can match, by absolute path. Nobody opens a data file; there are none. Tuning:

* `delta actions`: `get_add_actions(flatten=True)`, which hands out the held log as Arrow, filtered by
  `pyarrow.compute`; paths are made absolute. It is the fastest way that delta-rs offers, and the
  caller has to write the pruning.
* `delta uris`: `file_uris(file_pruning_predicate=...)` in the form of tuples (SQL is no faster).
* Both: one commit per 10,000 files, then a checkpoint with statistics of all columns, and the
  commits it covers deleted; the held handle is a `DeltaTable`.
* `scan_delta`: Polars' scan over the held `DeltaTable`, resolved and pruned by `explain()`, which
  plans all that Polars plans before it opens a file; the text of the plan is part of it.
* `iceberg`: `plan_files()` of a pyiceberg `Table` that is held. Manifests cover runs of days, a
  hundred of them or 100 files each, so that whole manifests are skipped by partition; one snapshot;
  lower and upper bounds of the four columns; the catalog is SQLite.
* `scan_iceberg`: Polars' scan over that `Table`, planned by its own planner
  (`POLARS_ICEBERG_PLANNER=plugin`), whose cache of metadata files is on, resolved by `explain()`; a
  new process reads the table's metadata file without asking the catalog for it.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import os
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.tables import FILES_PER_COMMIT, PARTITION_COLUMNS, SCHEMA, STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.tables import Condition, Query, Shape

__all__ = ["MOST_ICEBERG", "PEERS", "Side", "names_in", "register_delta", "register_iceberg"]

MOST_DELTA = 1_000_000
# Its metadata takes 0.8 ms a file to write, and 0.1 ms a file and query to read.
MOST_ICEBERG = 100_000
_STEM = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Side:
    """One of those compared.

    Attributes:
        name: As the report has it.
        register: Writes the metadata of a table of files into the table's directory.
        load: Imports what the side needs, so that a new process can do it before the clock runs.
        open: Makes the handle that a long-lived program would keep, from the table's directory.
        plan: Plans a query over a table of so many files.
        found: Of a plan, the names of its files that can be told, and how many files there are.
        most: The largest table, in files, that the side is asked about.
        shuffled: Whether a table that is not clustered is another case for it.
    """

    name: str
    register: Callable[[str, pa.Table], None]
    load: Callable[[], object]
    # Any: every side has a handle and a plan of its own type.
    open: Callable[[str], Any]
    plan: Callable[[Any, Query, int], Any]
    found: Callable[[Any], tuple[frozenset[str], int]]
    most: int
    shuffled: bool = True

    def takes(self, shape: Shape) -> bool:
        """Whether the side is asked about tables of this shape."""
        return shape.files <= self.most and (shape.clustered or self.shuffled)


def names_in(paths: Sequence[str]) -> tuple[frozenset[str], int]:
    """The files' names as `make_files` gave them, and how many paths there are."""
    return frozenset(stem for path in paths for stem in _STEM.findall(path)[-1:]), len(paths)


def _found_in_text(plan: str) -> tuple[frozenset[str], int]:
    """Of Polars' text of a plan: it names the first file and counts the others."""
    first = re.search(r"SCAN \[([^,\]]+)(?:, \.\.\. (\d+) other)?", plan)
    assert first is not None, plan
    return frozenset(_STEM.findall(first.group(1))[-1:]), 1 + int(first.group(2) or 0)


# --- Delta --------------------------------------------------------------------------------------

_DELTA_TYPES = {
    "id": "long",
    "value": "double",
    "name": "string",
    "time": "timestamp",
    "day": "date",
    "bucket": "integer",
}


def register_delta(place: str, files: pa.Table) -> None:
    """Write the log of a Delta table at `place`, checkpoint it and delete the commits it covers."""
    import deltalake

    log = f"{place}/delta/_delta_log"
    os.makedirs(log)
    batches = files.to_batches(max_chunksize=FILES_PER_COMMIT)
    for version, lines in enumerate([_delta_head(), *map(_delta_adds, batches)]):
        with open(f"{log}/{version:020d}.json", "wb") as file:
            file.write(b"\n".join(msgspec.json.encode(line) for line in lines))
    deltalake.DeltaTable(f"{place}/delta").create_checkpoint()
    for version in range(len(batches)):
        os.unlink(f"{log}/{version:020d}.json")


def _delta_head() -> Iterator[dict[str, Any]]:
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in _DELTA_TYPES.items()
    ]
    yield {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
    yield {
        "metaData": {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": list(PARTITION_COLUMNS),
            "configuration": {"delta.dataSkippingNumIndexedCols": "-1"},
            "createdTime": 0,
        }
    }


def _delta_adds(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    for row in batch.to_pylist():
        for bound in ("min:time", "max:time"):
            row[bound] = row[bound].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        stats: dict[str, Any] = {"numRecords": row["rows"]}
        for kind, name in {
            "min": "minValues",
            "max": "maxValues",
            "null_count": "nullCount",
        }.items():
            stats[name] = {column: row[f"{kind}:{column}"] for column in STATISTICS}
        yield {
            "add": {
                "path": f"{_hive(row)}/part-00000-{row['name']}-c000.snappy.parquet",
                "partitionValues": {c: str(row[c]) for c in PARTITION_COLUMNS},
                "size": row["size_bytes"],
                "modificationTime": 0,
                "dataChange": True,
                "stats": msgspec.json.encode(stats).decode(),
            }
        }


def _hive(row: dict[str, Any]) -> str:
    return "/".join(f"{c}={row[c]}" for c in PARTITION_COLUMNS)


def _load_delta() -> object:
    import deltalake

    # What filtering a table imports when it is first done.
    import pyarrow.dataset

    return deltalake, pyarrow.dataset


def _open_delta(place: str) -> Any:  # Any: deltalake's types are not checked here
    import deltalake

    return deltalake.DeltaTable(f"{place}/delta")


def _delta_actions(table: Any, query: Query, files: int) -> pa.Table:
    actions = pa.table(table.get_add_actions(flatten=True))
    keep = pc.scalar(True)
    for condition in query.conditions(files):
        keep &= _action_can_match(condition)
    found = actions.filter(keep) if query.name != "full" else actions
    paths = found.column("path")
    root = pa.scalar(table.table_uri.rstrip("/"), paths.type)
    absolute = pc.binary_join_element_wise(root, paths, "/")
    return found.set_column(found.column_names.index("path"), "path", absolute)


def _action_can_match(condition: Condition) -> pc.Expression:
    name, value = condition.column, condition.value
    if name in PARTITION_COLUMNS:
        return pc.field(f"partition.{name}") == value
    low, high = pc.field(f"min.{name}") <= value, pc.field(f"max.{name}") >= value
    return {"=": low & high, "<=": low, ">=": high}[condition.op]


def _delta_uris(table: Any, query: Query, files: int) -> list[str]:
    conditions = query.conditions(files)
    tuples = [(c.column, c.op, c.value) for c in conditions]
    return list(table.file_uris(file_pruning_predicate=tuples or None))


# --- Iceberg ------------------------------------------------------------------------------------

_ICEBERG_TABLE = "bench.plan"
_MOST_MANIFESTS = 100


def register_iceberg(place: str, files: pa.Table) -> None:
    """Write the manifests of an Iceberg table into a SQLite catalog at `place`; one snapshot."""
    catalog = _iceberg_catalog(place, create=True)
    catalog.create_namespace("bench")
    table = catalog.create_table(_ICEBERG_TABLE, SCHEMA)
    with table.update_spec() as spec:
        for column in PARTITION_COLUMNS:
            spec.add_identity(column)
    for batch in files.to_batches(max_chunksize=max(100, files.num_rows // _MOST_MANIFESTS)):
        with table.transaction() as change, change.update_snapshot().fast_append() as append:
            for data_file in _iceberg_files(table, batch):
                append.append_data_file(data_file)
    last = table.current_snapshot().snapshot_id
    older = [s.snapshot_id for s in table.snapshots() if s.snapshot_id != last]
    table.maintenance.expire_snapshots().by_ids(older).commit()
    with open(f"{place}/iceberg/location", "w", encoding="utf-8") as file:
        file.write(catalog.load_table(_ICEBERG_TABLE).metadata_location)


def _iceberg_catalog(place: str, *, create: bool = False) -> Any:  # Any: pyiceberg is not checked
    from pyiceberg.catalog.sql import SqlCatalog

    root = f"{place}/iceberg"
    if create:
        os.makedirs(root)
    return SqlCatalog("bench", uri=f"sqlite:///{root}/catalog.db", warehouse=f"file://{root}")


def _iceberg_files(table: Any, batch: pa.RecordBatch) -> Iterator[Any]:
    from pyiceberg.conversions import to_bytes
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    schema, spec = table.schema(), table.spec().spec_id
    fields = {column: schema.find_field(column) for column in STATISTICS}

    def of_columns(row: dict[str, Any], kind: str) -> dict[int, Any]:
        return {field.field_id: row[f"{kind}:{column}"] for column, field in fields.items()}

    def bounds(row: dict[str, Any], kind: str) -> dict[int, bytes]:
        values = of_columns(row, kind)
        return {f.field_id: to_bytes(f.field_type, values[f.field_id]) for f in fields.values()}

    for row in batch.to_pylist():
        data_file = DataFile.from_args(
            _table_format_version=2,
            content=DataFileContent.DATA,
            file_path=f"{table.location()}/data/{_hive(row)}/00000-0-{row['name']}.parquet",
            file_format=FileFormat.PARQUET,
            partition=Record((row["day"] - dt.date(1970, 1, 1)).days, row["bucket"]),
            record_count=row["rows"],
            file_size_in_bytes=row["size_bytes"],
            value_counts=dict.fromkeys(of_columns(row, "min"), row["rows"]),
            null_value_counts=of_columns(row, "null_count"),
            lower_bounds=bounds(row, "min"),
            upper_bounds=bounds(row, "max"),
        )
        data_file.spec_id = spec
        yield data_file


def _load_iceberg() -> object:
    # These too are imported at the latest when the first table is loaded and planned.
    import pyiceberg.avro.decoder_fast
    import pyiceberg.catalog.noop
    import pyiceberg.catalog.sql
    import pyiceberg.io.pyarrow
    import pyiceberg.table

    return pyiceberg, importlib.import_module("sqlalchemy.dialects.sqlite")


def _open_iceberg(place: str) -> Any:  # Any: pyiceberg's types are not checked here
    return _iceberg_catalog(place).load_table(_ICEBERG_TABLE)


def _plan_iceberg(table: Any, query: Query, files: int) -> list[Any]:
    from pyiceberg import expressions

    made = {
        "=": expressions.EqualTo,
        ">=": expressions.GreaterThanOrEqual,
        "<=": expressions.LessThanOrEqual,
    }
    row_filter = expressions.AlwaysTrue()
    for c in query.conditions(files):
        value = c.value.isoformat() if isinstance(c.value, dt.date) else c.value
        row_filter = expressions.And(row_filter, made[c.op](c.column, value))
    return list(table.scan(row_filter=row_filter).plan_files())


def _found_by_iceberg(plan: list[Any]) -> tuple[frozenset[str], int]:
    return names_in([task.file.file_path for task in plan])


# --- Polars over either -------------------------------------------------------------------------


def _load_polars_delta() -> object:
    import deltalake
    import polars as pl

    return deltalake, pl


def _load_polars_iceberg() -> object:
    os.environ["POLARS_ICEBERG_PLANNER"] = "plugin"
    import polars as pl
    import polars_iceberg

    return pl, polars_iceberg, _load_iceberg()


def _open_static(place: str) -> Any:  # Any: pyiceberg's types are not checked here
    from pyiceberg.table import StaticTable

    with open(f"{place}/iceberg/location", encoding="utf-8") as file:
        return StaticTable.from_metadata(file.read())


def _explain(scan: str) -> Callable[[Any, Query, int], str]:
    def plan(table: Any, query: Query, files: int) -> str:
        import polars as pl

        made = {"=": pl.Expr.eq, ">=": pl.Expr.ge, "<=": pl.Expr.le}
        frame = getattr(pl, scan)(table)
        for c in query.conditions(files):
            frame = frame.filter(made[c.op](pl.col(c.column), c.value))
        return str(frame.explain())

    return plan


PEERS = (
    Side(
        "delta actions",
        register_delta,
        _load_delta,
        _open_delta,
        _delta_actions,
        lambda plan: names_in(plan.column("path").to_pylist()),
        MOST_DELTA,
    ),
    Side(
        "delta uris",
        register_delta,
        _load_delta,
        _open_delta,
        _delta_uris,
        names_in,
        MOST_DELTA,
    ),
    Side(
        "scan_delta",
        register_delta,
        _load_polars_delta,
        _open_delta,
        _explain("scan_delta"),
        _found_in_text,
        MOST_DELTA,
    ),
    # An Iceberg table keeps bounds per file alone: whether files follow a column is all the same.
    Side(
        "iceberg",
        register_iceberg,
        _load_iceberg,
        _open_iceberg,
        _plan_iceberg,
        _found_by_iceberg,
        MOST_ICEBERG,
        shuffled=False,
    ),
    Side(
        "scan_iceberg",
        register_iceberg,
        _load_polars_iceberg,
        _open_static,
        _explain("scan_iceberg"),
        _found_in_text,
        MOST_ICEBERG,
        shuffled=False,
    ),
)
