"""Who is compared, and each at its best? The sides of the scan benchmark, over the same files.

A side opens a handle (what a long-lived program keeps) and makes a lazy frame of it. Tuning:

* `parquet`: `scan_parquet` over the list of files, with the schema given, so that no footer is
  read to learn it, and with globbing and hive partitioning off.
* `delta`: the log is checkpointed, every file's entry carries statistics of all columns; the held
  handle is a `DeltaTable`.
* `iceberg`: planned by Polars' own planner, the `polars_iceberg` plugin, which
  `POLARS_ICEBERG_PLANNER=plugin` requires (an error instead of pyiceberg's slower planning); one
  commit, manifests not fragmented, bounds of all columns; the held handle is a pyiceberg `Table`;
  a new process scans the table's metadata file without asking the catalog for it.
* ours: the planner embedded in the process, and the same one over HTTP on the loopback device.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

__all__ = ["OURS", "PACKAGES", "SIDES", "Fixture", "Side", "register_delta", "register_iceberg"]

PACKAGES = ("polars", "polars-iceberg", "deltalake", "pyiceberg", "pyarrow", "deltacat-sources")
TABLE = "bench.scan"


@dataclass(frozen=True)
class Fixture:
    """Where the table is registered; a directory and a URL, so that a new process can have it.

    Attributes:
        root: Holds the catalogs of all sides.
        url: The address of our planner over HTTP.
    """

    root: str
    url: str = ""

    @property
    def catalog(self) -> str:
        """Our catalog's directory."""
        return f"{self.root}/catalog"

    def recall(self, name: str) -> Any:  # Any: JSON
        """Read what `remember` wrote."""
        with open(f"{self.root}/{name}.json", encoding="utf-8") as file:
            return json.load(file)

    def remember(self, name: str, value: object) -> None:
        """Keep a JSON value beside the catalogs."""
        with open(f"{self.root}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(value, file)


@dataclass(frozen=True)
class Side:
    """One of those compared.

    Attributes:
        name: As the report has it.
        load: Imports what the side needs, so that a new process can do it before the clock runs.
        open: Makes the handle that a long-lived program would keep.
        frame: Makes a lazy frame of a handle.
        ours: Whether it is this project's.
    """

    name: str
    load: Callable[[], object]
    # Any: every side has a handle of its own type.
    open: Callable[[Fixture], Any]
    frame: Callable[[Any], pl.LazyFrame]
    ours: bool = False


def _open_parquet(fixture: Fixture) -> tuple[list[str], dict[str, pl.DataType]]:
    files = fixture.recall("files")
    return files, pl.read_parquet_schema(files[0])


def _scan_parquet(handle: tuple[list[str], dict[str, pl.DataType]]) -> pl.LazyFrame:
    files, schema = handle
    return pl.scan_parquet(files, schema=schema, glob=False, hive_partitioning=False)


def _load_delta() -> object:
    import deltalake

    return deltalake


def _open_delta(fixture: Fixture) -> Any:  # Any: deltalake's types are not checked here
    import deltalake

    return deltalake.DeltaTable(fixture.recall("delta"))


def register_delta(fixture: Fixture, data_dir: str) -> None:
    """Make the files under `data_dir` a Delta table, with statistics, and checkpoint its log."""
    import deltalake

    deltalake.convert_to_deltalake(
        data_dir, configuration={"delta.dataSkippingNumIndexedCols": "-1"}, collect_stats=True
    )
    deltalake.DeltaTable(data_dir).create_checkpoint()
    fixture.remember("delta", data_dir)


def _load_iceberg() -> object:
    os.environ["POLARS_ICEBERG_PLANNER"] = "plugin"
    # Pyiceberg imports its file access when the first table is loaded.
    import polars_iceberg
    import pyiceberg.io.pyarrow
    import pyiceberg.table

    return polars_iceberg, pyiceberg


def _open_iceberg(fixture: Fixture) -> Any:  # Any: pyiceberg's types are not checked here
    from pyiceberg.table import StaticTable

    _load_iceberg()
    return StaticTable.from_metadata(fixture.recall("iceberg"))


def register_iceberg(fixture: Fixture, files: list[str], schema: pa.Schema) -> None:
    """Add the files to a new table of a SQLite catalog, in one commit."""
    from pyiceberg.catalog.sql import SqlCatalog

    warehouse = f"{fixture.root}/iceberg"
    os.makedirs(warehouse)
    catalog = SqlCatalog(
        "bench", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}"
    )
    catalog.create_namespace("bench")
    table = catalog.create_table(TABLE, schema)
    table.add_files(files, check_duplicate_files=False)
    fixture.remember("iceberg", catalog.load_table(TABLE).metadata_location)


def _load_ours() -> object:
    # The client imports the planner itself when it opens a directory.
    import deltacat_sources.polars
    import planner_client.server.planner

    return deltacat_sources.polars, planner_client


def _open_embedded(fixture: Fixture) -> Any:  # Any: imported only where this side runs
    from planner_client import Client

    return Client(fixture.catalog)


def _open_http(fixture: Fixture) -> Any:  # Any: imported only where this side runs
    from planner_client import Client

    return Client(fixture.url)


def _scan_ours(client: Any) -> pl.LazyFrame:  # Any: imported only where this side runs
    from deltacat_sources.polars import scan_deltacat

    return scan_deltacat(TABLE, planner=client)


SIDES = (
    Side("ours", _load_ours, _open_embedded, _scan_ours, ours=True),
    Side("ours http", _load_ours, _open_http, _scan_ours, ours=True),
    Side("parquet", lambda: pl, _open_parquet, _scan_parquet),
    Side("delta", _load_delta, _open_delta, pl.scan_delta),
    Side("iceberg", _load_iceberg, _open_iceberg, pl.scan_iceberg),
)
OURS = tuple(side.name for side in SIDES if side.ours)
