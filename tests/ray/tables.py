"""Tables for the tests of Ray, and what they ought to hold."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.model import TableRef
from planner_client import Client

if TYPE_CHECKING:
    from ray.data.expressions import Expr

    from io_core.plan import ReadPlan
    from io_core.scan import Scan

__all__ = [
    "SCHEMA",
    "CountingClient",
    "ids",
    "keep",
    "rows",
    "table",
    "write",
]

SCHEMA = pa.schema(
    [("id", pa.int64()), ("part", pa.int32()), ("x", pa.float64()), ("s", pa.string())]
)
NUMBERS = itertools.count()


class CountingClient(Client):
    """A client that remembers what it was asked to plan."""

    scans: list[Scan]

    def plan_scan(self, scan: Scan) -> ReadPlan:
        self.scans.append(scan)
        return super().plan_scan(scan)

    @property
    def plans(self) -> list[Scan]:
        """The scans that asked for files."""
        return [scan for scan in self.scans if scan.include_files]


def rows(start: int, stop: int) -> pa.Table:
    ids = range(start, stop)
    return pa.table(
        {
            "id": ids,
            "part": [i % 3 for i in ids],
            "x": [math.nan if i % 7 == 0 else i / 2 for i in ids],
            "s": [None if i % 5 == 0 else f"s{i}" for i in ids],
        },
        schema=SCHEMA,
    )


def table(client: Client, data: pa.Table | None = None, **definition: Any) -> str:
    """A new table of SCHEMA with the rows of `data`, ten of them to a file."""
    name = f"t{next(NUMBERS)}"
    definition = {"schema": SCHEMA, **definition}
    client.catalog.create_table(
        namespace="ns", table=name, auto_create_namespace=True, **definition
    )
    if data is not None:
        write(client, f"ns.{name}", data)
    return f"ns.{name}"


def write(client: Client, name: str, data: pa.Table, mode: Any = "auto") -> None:
    ref = TableRef.parse(name)
    client.catalog.write(
        data, namespace=ref.namespace, table=ref.table, mode=mode, max_rows_per_file=10
    )


def ids(found: pa.Table) -> list[int]:
    return sorted(found.column("id").to_pylist())


def keep(data: pa.Table, expr: Expr) -> list[int]:
    return ids(data.filter(expr.to_pyarrow()))
