"""A program that writes and reads with Daft's Ray runner, while workers of it die; prints what it saw.

`python -m tests.daft.on_ray ROOT`: in a process of its own, since a process has one runner for good.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import daft
import ray
from daft import col, lit

from deltacat_sources.daft import read_deltacat, write_deltacat
from deltacat_sources.daft.sink import written_by_workers
from io_core.errors import SchemaValidationError
from io_core.sink import OpenSink
from planner_client import Client
from planner_client.calls import new_operation
from tests.daft.queries import answer, build_keyed, expected, scanned
from tests.dying import die_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from io_core.model import WriteEntry, WriteSession

__all__ = ["main"]

ROWS = 2_000


class DyingSink(OpenSink, frozen=True):
    """A sink of which the first worker that staged a file dies before it can say so."""

    def write_batches(self, batches: Iterable[pa.Table]) -> list[WriteEntry]:
        found = super().write_batches(batches)
        die_once(_marker(self.session))
        return found


def _marker(session: WriteSession) -> Path:
    return Path(session.data_dir).parent / f"{session.session_id}.died"


def _dies_once(root: str) -> Any:  # Any: what Daft makes of a function
    marker = Path(root) / "died"

    @daft.func
    def dies_once(x: int) -> int:
        if x == 777:
            die_once(marker)
        return x

    return dies_once


def _frame(rows: int = ROWS) -> daft.DataFrame:
    found = daft.from_pydict({"id": list(range(rows)), "month": [i % 4 for i in range(rows)]})
    return found.into_partitions(8)


def _all_of(client: Client, table: str) -> bool:
    return sorted(read_deltacat(table, planner=client).to_pydict()["id"]) == list(range(ROWS))


def _tables(client: Client) -> dict[str, Any]:
    plain = write_deltacat(_frame(), "ns.plain", planner=client)
    parts = write_deltacat(_frame(), "ns.parts", planner=client, partition_by="month")
    write_deltacat(_frame(), "ns.keyed", planner=client, merge_keys=["id"])
    gone = daft.from_pydict({"id": list(range(0, ROWS, 2))})
    write_deltacat(gone, "ns.keyed", planner=client, mode="delete")
    keyed = read_deltacat("ns.keyed", planner=client)
    return {
        "plain": [plain.files_registered, plain.total_records],
        "parts": [parts.files_registered, parts.total_records],
        "keyed": [
            keyed.count_rows(),
            len(keyed.select(lit(1)).to_pydict()["literal"]),
            keyed.where(col("id") < 100).count_rows(),
            keyed.where((col("id") < 100) & (col("month") == 3)).count_rows(),
            keyed.limit(300).to_arrow().num_rows,
            keyed.sum("id").to_pydict()["id"][0],
        ],
    }


_ASKED = ("names exchanged", "some of a filter, counted", "a join of two filters")


def _wrong(client: Client) -> list[str]:
    """Queries that are not answered like those of the same rows in memory."""
    build_keyed(client)
    frame = scanned(client, "keyed")
    return [query for query in _ASKED if answer(query, frame) != expected(query, "keyed")]


def _refused(client: Client) -> bool:
    try:
        write_deltacat(daft.from_pydict({"id": ["a"]}), "ns.keyed", planner=client)
    except SchemaValidationError:
        return True
    return False


def _durable(client: Client) -> dict[str, Any]:
    """A worker that dies once its file is staged: what is committed, and what is left beside it."""
    client.catalog.create_table(
        namespace="ns", table="durable", schema=_frame().schema().to_pyarrow_schema()
    )
    session = client.stage(namespace="ns", table="durable", mode="append")
    sink = DyingSink(client, session, new_operation(), 500)
    sink.commit(written_by_workers(_frame(), sink))
    staged = list(Path(session.data_dir).rglob("*.parquet"))
    named = client.catalog.plan(namespace="ns", table="durable").paths
    died = _marker(session).exists()
    return {
        "whole": _all_of(client, "ns.durable"),
        "died": died,
        "orphans": len(staged) > len(named),
    }


def main(root: str) -> None:
    """Print it as JSON."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    daft.set_runner_ray()
    client = Client(f"{root}/catalog")
    found = _tables(client)
    found["refused"] = _refused(client)
    dying = _frame().with_column("id", _dies_once(f"{root}")(col("id")))
    written = write_deltacat(dying, "ns.dying", planner=client)
    died = Path(root) / "died"
    found["dying"] = [written.total_records, _all_of(client, "ns.dying"), died.exists()]
    died.unlink()
    read = read_deltacat("ns.plain", planner=client).with_column("id", _dies_once(root)(col("id")))
    found["read"] = [sorted(read.to_pydict()["id"]) == list(range(ROWS)), died.exists()]
    died.unlink()
    merged = read_deltacat("ns.keyed", planner=client).with_column(
        "id", _dies_once(root)(col("id"))
    )
    found["merged"] = [
        sorted(merged.to_pydict()["id"]) == list(range(1, ROWS, 2)),
        died.exists(),
    ]
    found["durable"] = _durable(client)
    found["wrong"] = _wrong(Client(f"{root}/queries"))
    sys.stdout.write(json.dumps(found) + "\n")
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
