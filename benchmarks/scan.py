"""Which table do the engines' scans read? Parquet files that all sides share, on disk or on S3."""

from __future__ import annotations

import datetime as dt
import os
import random
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import progress
from benchmarks.peers import Fixture, register_delta, register_iceberg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.storage import Storage
    from tests.object_store.store import ObjectStore

__all__ = ["FIRST_DAY", "REGIONS", "ROWS_PER_FILE", "SCHEMA", "build", "write_files"]

ROWS_PER_FILE = 2_000
REGIONS = 20
FIRST_DAY = dt.date(2025, 1, 1)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("day", pa.date32()),
        ("region", pa.string()),
        ("value", pa.float64()),
        *((f"number_{i}", pa.int64()) for i in range(3)),
        *((f"ratio_{i}", pa.float64()) for i in range(2)),
        ("label", pa.string()),
        ("flag", pa.bool_()),
        ("at", pa.timestamp("us")),
    ]
)


def _file(index: int, day: dt.date, seed: np.random.Generator, schema: pa.Schema) -> pa.Table:
    """One file's rows: ids follow the files, a file lies in one day and one region."""
    n = ROWS_PER_FILE
    columns = [
        pa.array(np.arange(index * n, (index + 1) * n)),
        pa.repeat(pa.scalar(day), n),
        pa.repeat(f"region-{index % REGIONS:02d}", n),
        pa.array(seed.normal(100, 15, n).round(3)),
        *(pa.array(seed.integers(0, 10**k, n)) for k in (2, 4, 6)),
        *(pa.array(seed.random(n).round(4)) for _ in range(2)),
        pa.array([f"label {k}" for k in seed.integers(0, 1000, n)]),
        pa.array(seed.random(n) < 0.5),
        pa.array(1_735_689_600_000_000 + seed.integers(0, 10**12, n)).cast(pa.timestamp("us")),
    ]
    rows = pa.Table.from_arrays(columns, schema=SCHEMA)
    return rows.select(schema.names).cast(schema)


def _days(files: int) -> Iterator[dt.date]:
    """A day per file, 20 to 100 files to a day."""
    seed, day, left = random.Random(7), FIRST_DAY, 0
    for _ in range(files):
        if left == 0:
            left = seed.randint(20, 100)
            day += dt.timedelta(days=1)
        left -= 1
        yield day


def write_files(
    data_dir: str, files: int, storage: Storage, schema: pa.Schema = SCHEMA
) -> list[str]:
    """Write the table's files; `schema` may name some of the columns, and say more, such as field ids."""
    seed = np.random.default_rng(7)
    paths = []
    for index, day in enumerate(_days(files)):
        paths.append(f"{data_dir}/part-{index:05d}.parquet")
        with storage.open_output(paths[-1]) as out:
            pq.write_table(_file(index, day, seed, schema), out, compression="zstd")
    return paths


def build(
    root: str, files: int, store: ObjectStore | None = None, schema: pa.Schema = SCHEMA
) -> Fixture:
    """Write the files under our session's directory, commit them, and register them with the peers.

    Args:
        root: A directory for catalogs, and for the files where there is no store.
        files: How many.
        store: Where the files, and the peers' metadata, are instead.
        schema: The columns: `SCHEMA`, or some of it.
    """
    from io_core.formats.parquet import entry_of
    from io_core.schema import decode_schema
    from planner_client import Client

    fixture = Fixture(root)
    os.makedirs(root, exist_ok=True)
    place = None if store is None else store.bucket()
    fixture.remember("store", None if store is None else {"place": place, "url": store.url})
    client = Client(
        fixture.catalog,
        data_root=None if place is None else f"{place}/lake",
        s3=None if store is None else store.settings,
    )
    client.catalog.create_namespace(namespace="bench")
    client.catalog.create_table(namespace="bench", table="scan", schema=schema)
    session = client.stage(namespace="bench", table="scan", mode="append")
    progress(f"writing {files} files of {ROWS_PER_FILE} rows and {len(schema)} columns")
    paths = write_files(session.data_dir, files, session.storage, schema)
    progress("registering them: ours, delta, iceberg")
    assert session.schema_serialized is not None
    known = decode_schema(session.schema_serialized)
    no_nan = dict.fromkeys(("value", "ratio_0", "ratio_1"), 0)
    entries = [entry_of(path, known, nan_counts=no_nan, storage=session.storage) for path in paths]
    client.commit(session=session, entries=entries)
    _register_peers(fixture, session.data_dir, paths, schema)
    return fixture


def _register_peers(fixture: Fixture, data_dir: str, paths: list[str], schema: pa.Schema) -> None:
    fixture.remember("files", paths)
    register_delta(fixture, data_dir)
    register_iceberg(fixture, paths, schema)
