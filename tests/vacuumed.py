"""What do tests of vacuum share? A clock that is told the time, and looks at a catalog and its disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from planner_client.catalog import Catalog
from planner_client.server.check import check
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import DAY_NS
from planner_client.transport import InProcessTransport

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SCHEMA",
    "WHERE",
    "Clock",
    "Place",
    "on_disk",
    "planned",
    "read",
    "replace",
    "rows",
    "sound",
]

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
SCHEMA = pa.schema([("p", pa.int64()), ("x", pa.int64())])


class Clock:
    """A time that passes when it is told to; it begins now, so that files are of its time."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        # Each look at it is later than the one before.
        self.now_ns += 1000
        return self.now_ns

    def days(self, count: float) -> None:
        self.now_ns += round(count * DAY_NS)


class Place:
    """A catalog with an empty table, partitioned by p, and its clock."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.planner = EmbeddedPlanner(root, clock_ns=self.clock)
        self.catalog = Catalog(InProcessTransport(self.planner), None)
        scheme = {"keys": [{"key": ["p"]}]}
        self.catalog.create_table(
            **WHERE, schema=SCHEMA, partition_scheme=scheme, auto_create_namespace=True
        )


def rows(*values: tuple[int, int]) -> pa.Table:
    return pa.table({"p": [p for p, _ in values], "x": [x for _, x in values]}, schema=SCHEMA)


def replace(catalog: Catalog, p: int, x: int) -> None:
    catalog.write(rows((p, x)), **WHERE, mode="replace_partition")


def on_disk(planner: EmbeddedPlanner) -> set[str]:
    return {str(p) for p in (planner.root / "data").rglob("*") if p.is_file()}


def read(catalog: Catalog, **how: Any) -> list[tuple[int, int]]:
    return sorted((r["p"], r["x"]) for r in catalog.read(**WHERE, **how).to_pylist())


def planned(catalog: Catalog, **how: Any) -> set[str]:
    return set(catalog.plan(**WHERE, **how).paths)


def sound(planner: EmbeddedPlanner) -> bool:
    return check(planner, deep=True).findings == ()
