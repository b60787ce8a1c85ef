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
* `floor`: `scan_parquet` over the files alone that our plan of the query lists, which it is told
  beforehand: what Polars takes for them, whoever plans.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

__all__ = [
    "FLOOR",
    "OURS",
    "PACKAGES",
    "SIDES",
    "Fixture",
    "Side",
    "register_delta",
    "register_iceberg",
]

PACKAGES = ("polars", "polars-iceberg", "deltalake", "pyiceberg", "pyarrow", "deltacat-sources")
TABLE = "bench.scan"
FLOOR = "floor"


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

    @property
    def options(self) -> dict[str, str] | None:
        """`storage_options` of the readers; None for local files. Keys are the environment's."""
        store = self.recall("store")
        if store is None:
            return None
        return {
            "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "aws_region": "us-east-1",
            "aws_endpoint_url": store["url"],
            "aws_allow_http": str(store["url"].startswith("http://")).lower(),
            "aws_virtual_hosted_style_request": "false",
        }

    @property
    def iceberg_options(self) -> dict[str, str]:
        """What pyiceberg calls the same."""
        options = self.options
        if options is None:
            return {}
        return {
            "s3.endpoint": options["aws_endpoint_url"],
            "s3.access-key-id": options["aws_access_key_id"],
            "s3.secret-access-key": options["aws_secret_access_key"],
            "s3.region": options["aws_region"],
            "s3.force-virtual-addressing": "False",
        }


@dataclass(frozen=True)
class Side:
    """One of those compared.

    Attributes:
        name: As the report has it.
        load: Imports what the side needs, so that a new process can do it before the clock runs.
        open: Makes the handle that a long-lived program would keep.
        frame: Makes a lazy frame of a handle.
        ours: Whether it is this project's, or the least that it could take: no peer.
    """

    name: str
    load: Callable[[], object]
    # Any: every side has a handle of its own type.
    open: Callable[[Fixture], Any]
    frame: Callable[[Any], pl.LazyFrame]
    ours: bool = False


_Options: TypeAlias = "dict[str, str] | None"


def _open_parquet(fixture: Fixture, listed: str = "files") -> tuple[list[str], pl.Schema, _Options]:
    files, options = fixture.recall(listed), fixture.options
    first = pl.scan_parquet(files[0], glob=False, storage_options=options)
    return files, first.collect_schema(), options


def _scan_parquet(handle: tuple[list[str], pl.Schema, _Options]) -> pl.LazyFrame:
    files, schema, options = handle
    return pl.scan_parquet(
        files, schema=schema, glob=False, hive_partitioning=False, storage_options=options
    )


def _load_delta() -> object:
    import deltalake

    return deltalake


def _open_delta(fixture: Fixture) -> Any:  # Any: deltalake's types are not checked here
    import deltalake

    options = fixture.options
    return deltalake.DeltaTable(fixture.recall("delta"), storage_options=options), options


def _scan_delta(handle: Any) -> pl.LazyFrame:  # Any: deltalake's types are not checked here
    table, options = handle
    return pl.scan_delta(table, storage_options=options)


def register_delta(fixture: Fixture, data_dir: str) -> None:
    """Make the files under `data_dir` a Delta table, with statistics, and checkpoint its log."""
    import deltalake

    options = fixture.options
    if options is not None:
        # One process writes, and the store need not know conditional requests.
        options |= {"aws_s3_allow_unsafe_rename": "true"}
    deltalake.convert_to_deltalake(
        data_dir,
        configuration={"delta.dataSkippingNumIndexedCols": "-1"},
        collect_stats=True,
        storage_options=options,
    )
    deltalake.DeltaTable(data_dir, storage_options=options).create_checkpoint()
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
    table = StaticTable.from_metadata(fixture.recall("iceberg"), fixture.iceberg_options)
    return table, fixture.options


def _scan_iceberg(handle: Any) -> pl.LazyFrame:  # Any: pyiceberg's types are not checked here
    table, options = handle
    return pl.scan_iceberg(table, storage_options=options)


def register_iceberg(fixture: Fixture, files: list[str], schema: pa.Schema) -> None:
    """Add the files to a new table of a SQLite catalog, in one commit."""
    from pyiceberg.catalog.sql import SqlCatalog

    store = fixture.recall("store")
    place = f"file://{fixture.root}" if store is None else store["place"]
    catalog = SqlCatalog(
        "bench",
        uri=f"sqlite:///{fixture.root}/iceberg.db",
        warehouse=f"{place}/iceberg",
        **fixture.iceberg_options,
    )
    catalog.create_namespace("bench")
    table = catalog.create_table(TABLE, schema)
    table.add_files(files, check_duplicate_files=False)
    fixture.remember("iceberg", catalog.load_table(TABLE).metadata_location)


def _load_ours() -> object:
    # The client imports the planner itself when it opens a directory.
    import deltacat_sources.polars
    import planner_client.server.shared

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
    Side("delta", _load_delta, _open_delta, _scan_delta),
    Side("iceberg", _load_iceberg, _open_iceberg, _scan_iceberg),
    Side(
        FLOOR, lambda: pl, lambda fixture: _open_parquet(fixture, FLOOR), _scan_parquet, ours=True
    ),
)
OURS = tuple(side.name for side in SIDES if side.ours)
