"""The table whose rows tests delete, overwrite and update, in every layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from planner_client import Client

__all__ = ["LAYOUTS", "ROWS", "WHERE", "make"]

WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS = pa.table(
    {"id": list(range(10)), "p": ["a", "b"] * 5, "v": [None if i == 3 else i for i in range(10)]}
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "partitioned": {"partition_by": "p"},
    "keyed": {"merge_keys": "id"},
    "both": {"merge_keys": "id", "partition_by": "p"},
    "sorted": {"sort_scheme": {"keys": [{"key": ["v"], "sort_order": "descending"}]}},
}


def make(client: Client, layout: str = "plain", rows: pa.Table = ROWS) -> None:
    """Write the rows into a new table, five files of them."""
    client.catalog.write(rows, **WHERE, **LAYOUTS[layout], max_rows_per_file=2)
