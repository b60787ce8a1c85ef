"""How does our planner take part? Embedded in the process, and over HTTP; the same calls of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from benchmarks.plan_peers import Side, names_in
from benchmarks.tables import FILES_PER_COMMIT, PARTITION_COLUMNS, SCHEMA, STATISTICS
from io_core.literal import dump_array
from io_core.schema import FIELD_ID, decode_schema

if TYPE_CHECKING:
    from benchmarks.tables import Condition, Query
    from io_core.plan import ReadPlan
    from planner_client.server.planner import EmbeddedPlanner
    from planner_client.server.store import Write

__all__ = [
    "EMBEDDED",
    "HTTP",
    "NAMESPACE",
    "TABLE",
    "plan_anew",
    "predicate_of",
    "register_ours",
    "root_of",
]

NAMESPACE, TABLE = "bench", "plan"
_WIRE = {"=": "eq", ">=": "gte", "<=": "lte"}
_MOST = 10_000_000


def root_of(place: str) -> str:
    """Our catalog's directory, for a table at `place`."""
    return f"{place}/ours"


def register_ours(place: str, files: pa.Table) -> None:
    """Make a catalog at `place` whose one table has the files, 10,000 of them a commit.

    What a commit does once it has looked at the files on the disk, which there are none of.
    """
    from planner_client import Client
    from planner_client.server.planner import EmbeddedPlanner

    keys = [{"key": [column], "transform": "identity"} for column in PARTITION_COLUMNS]
    with Client(root_of(place)) as client:
        client.catalog.create_namespace(namespace=NAMESPACE)
        client.catalog.create_table(
            namespace=NAMESPACE, table=TABLE, schema=SCHEMA, partition_scheme={"keys": keys}
        )
    planner = EmbeddedPlanner(root_of(place), create=False)
    for batch in files.to_batches(max_chunksize=FILES_PER_COMMIT):
        with planner.store.write() as write:
            _commit(planner, write, batch)
    planner.store.close()


def _commit(planner: EmbeddedPlanner, write: Write, batch: pa.RecordBatch) -> None:
    from planner_client.protocol.writes import StageRequest
    from planner_client.server.sessions import open_session
    from planner_client.server.writes import Prepared, apply

    request = StageRequest(namespace=NAMESPACE, table=TABLE, mode="add")
    kept = open_session(planner, request, write)
    folder = planner.relative(kept.session.data_dir)
    texts = _partition_texts(batch)
    partitions = list(dict.fromkeys(texts))
    place = {text: index for index, text in enumerate(partitions)}
    names = batch.column("name").to_pylist()
    prepared = Prepared(
        kept=kept,
        path=[f"{folder}/{name}.parquet" for name in names],
        size=batch.column("size_bytes").to_pylist(),
        rows=batch.column("rows").to_pylist(),
        hash=b"".join(map(bytes.fromhex, names)),
        partition=[place[text] for text in texts],
        partitions=partitions,
        kind=[0] * batch.num_rows,
        kinds=[("parquet", "identity", None, None)],
        stats=_stats(kept.session.schema_serialized, batch),
    )
    apply(planner, write, prepared)


def _partition_texts(batch: pa.RecordBatch) -> list[str | None]:
    columns = [dump_array(batch.column(column)) for column in PARTITION_COLUMNS]
    return [msgspec.json.encode(values).decode() for values in zip(*columns, strict=True)]


# Any: JSON scalars, typed by their column.
def _stats(schema: str | None, batch: pa.RecordBatch) -> dict[str, list[list[Any]]]:
    """Bounds and counts by field id; NaN is counted where a column can hold it."""
    assert schema is not None
    found: dict[str, list[list[Any]]] = {}
    for column in STATISTICS:
        field = decode_schema(schema).field(column)
        nan = 0 if pa.types.is_floating(field.type) else None
        found[(field.metadata or {})[FIELD_ID].decode()] = [
            *(
                dump_array(batch.column(f"{kind}:{column}"))
                for kind in ("min", "max", "null_count")
            ),
            [nan] * batch.num_rows,
        ]
    return found


def predicate_of(query: Query, files: int) -> dict[str, Any] | None:
    """The query in the protocol's form."""
    parts = [_wire(condition) for condition in query.conditions(files)]
    if len(parts) < 2:
        return parts[0] if parts else None
    return {"and": parts}


# Any: a date is one of the values; the client writes it as JSON.
def _wire(condition: Condition) -> dict[str, Any]:
    return {_WIRE[condition.op]: [condition.column, condition.value]}


def _load() -> object:
    # The client imports the planner itself when it opens a directory.
    import planner_client.server.planner

    return planner_client


def _open_embedded(place: str) -> Any:  # Any: imported only where this side runs
    from planner_client import Client

    return Client(root_of(place), create=False)


def _open_http(url: str) -> Any:  # Any: imported only where this side runs
    from planner_client import Client

    return Client(url)


def _plan(client: Any, query: Query, files: int) -> ReadPlan:
    plan: ReadPlan = client.catalog.plan(
        namespace=NAMESPACE, table=TABLE, filter_predicate=predicate_of(query, files)
    )
    return plan


def plan_anew(client: Any, query: Query, files: int, turn: int) -> ReadPlan:
    """Plan the query under a predicate that no earlier turn had, and that finds the same files."""
    asked = predicate_of(query, files)
    always = {"gte": ["id", -1 - turn]}
    plan: ReadPlan = client.catalog.plan(
        namespace=NAMESPACE,
        table=TABLE,
        filter_predicate=always if asked is None else {"and": [asked, always]},
    )
    return plan


def _found(plan: ReadPlan) -> tuple[frozenset[str], int]:
    return names_in(plan.files.column("path").to_pylist())


EMBEDDED = Side("ours", register_ours, _load, _open_embedded, _plan, _found, _MOST)
# Opened by the server's address in place of the table's directory.
HTTP = Side("ours http", register_ours, _load, _open_http, _plan, _found, _MOST)
