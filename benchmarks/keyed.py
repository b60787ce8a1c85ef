"""Which keyed table do merges read? One of which 10 % of the rows were upserted and 1 % deleted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import progress
from io_core.model import TableRef
from io_core.scan import Scan

if TYPE_CHECKING:
    from planner_client import Client

__all__ = ["WHERE", "make_keyed"]

WHERE: dict[str, Any] = {"namespace": "bench", "table": "keyed"}  # Any: of any call
_LONGEST_S = 600
_NUMBERS = [f"n{i}" for i in range(8)]
_TEXTS = [f"t{i}" for i in range(4)]


def _rows(ids: np.ndarray[Any, np.dtype[np.int64]], version: int) -> pa.Table:
    seed = np.random.default_rng(version)
    columns: dict[str, Any] = {"id": ids, "value": ids * 0.5 + version}
    columns |= {n: seed.integers(0, 10**6, len(ids)) for n in _NUMBERS}
    words = pa.array([f"word {i}" for i in range(1000)])
    columns |= {n: words.take(pa.array(seed.integers(0, 1000, len(ids)))) for n in _TEXTS}
    return pa.table(columns)


def make_keyed(client: Client, rows: int) -> None:
    """Write it as `WHERE` says: 16 files in no order, four commits of upserts, and one of deletes.

    Returns when the planner knows the dead rows.
    """
    seed = np.random.default_rng(3)
    if not client.catalog.namespace_exists(namespace=WHERE["namespace"]):
        client.catalog.create_namespace(namespace=WHERE["namespace"])
    progress(f"writing a keyed table of {rows:,} rows, 10 % upserted, 1 % deleted")
    ids = seed.permutation(rows).astype(np.int64)
    per_file = max(rows // 16, 1)
    client.catalog.write(_rows(ids, 0), **WHERE, merge_keys=["id"], max_rows_per_file=per_file)
    for version in range(1, 5):
        newer = seed.choice(rows, rows // 40, replace=False).astype(np.int64)
        client.catalog.write(_rows(newer, version), **WHERE, mode="merge")
    gone = pa.table({"id": seed.choice(rows, rows // 100, replace=False)})
    client.catalog.write(gone, **WHERE, mode="delete")
    # Of a table of this size, the planner looks for them in a thread.
    until = time.monotonic() + _LONGEST_S
    while not _is_known(client):
        if time.monotonic() > until:
            raise TimeoutError(f"the dead rows of {rows:,} are not known after {_LONGEST_S} s")
        time.sleep(0.2)


def _is_known(client: Client) -> bool:
    """Whether plans say which rows are dead."""
    plan = Scan(TableRef(**WHERE), client).plan()
    kinds, sets = plan.column("delta_type"), plan.column("deletes")
    return all(kind == "delete" or held is not None for kind, held in zip(kinds, sets, strict=True))
