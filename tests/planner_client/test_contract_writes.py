"""Does every call of the published contract that writes work as it is shown there?

Write Data, Transactions and Staged Writes; embedded and over HTTP. What the contract says of the rest:
`test_contract_reads`; each kind of data: `test_write_inputs`; a session's life: `test_staged_writes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import planner_client
from io_core.errors import RequestRejectedError, SchemaValidationError, TransactionError
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

SCORES = pa.table({"episode_id": [1, 2], "score": [0.95, 0.87]})
FIELDS: list[dict[str, Any]] = [
    {"name": "episode_id", "type": "int64", "is_merge_key": True},
    {"name": "score", "type": "float64"},
]


@pytest.fixture
def robotics(client: Client, ns: str) -> str:
    """A namespace of the test's own with the tables `predictions` and, with merge keys, `scores`."""
    client.catalog.create_namespace(namespace=ns)
    client.catalog.create_table(
        namespace=ns, table="predictions", schema_def=[{**f, "is_merge_key": False} for f in FIELDS]
    )
    client.catalog.create_table(namespace=ns, table="scores", schema_def=FIELDS)
    return ns


def test_the_contracts_models_come_from_the_one_import() -> None:
    for name in ("Client", "ReadPlan", "ScanTask", "DataFile", "WriteSession", "WriteEntry"):
        assert name in planner_client.__all__


# --- Write Data -----------------------------------------------------------------------------------


def test_write(client: Client, robotics: str) -> None:
    result = client.catalog.write(
        SCORES, namespace=robotics, table="predictions", mode="add", format="parquet"
    )
    assert (result.committed, result.total_records, result.files_registered) == (True, 2, 1)
    assert client.catalog.read(namespace=robotics, table="predictions") == SCORES


def test_rows_with_keys_are_merged_and_not_added(client: Client, robotics: str) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "scores"}
    # The contract's own example adds to such a table, which DeltaCAT's writers refuse too.
    with pytest.raises(SchemaValidationError, match="use mode 'merge'"):
        client.catalog.write(SCORES, **where, mode="add", format="parquet")
    client.catalog.write(SCORES, **where, mode="merge", format="parquet")
    client.catalog.write(SCORES, **where)
    assert client.catalog.read(**where).num_rows == 2


# --- Transactions ---------------------------------------------------------------------------------

MUTATIONS: dict[str, Callable[[Client, str], Any]] = {
    "create_namespace": lambda c, ns: c.catalog.create_namespace(namespace=f"{ns}_a"),
    "alter_namespace": lambda c, ns: c.catalog.alter_namespace(
        namespace=ns, properties={"env": "prod"}
    ),
    "drop_namespace": lambda c, ns: c.catalog.drop_namespace(namespace=ns, purge=False),
    "create_table": lambda c, ns: c.catalog.create_table(namespace=ns, table="made"),
    "alter_table": lambda c, ns: c.catalog.alter_table(
        namespace=ns, table="scores", table_properties={"retention_days": "180"}
    ),
    "rename_table": lambda c, ns: c.catalog.rename_table(
        namespace=ns, table="scores", new_name="scores_v1"
    ),
    "drop_table": lambda c, ns: c.catalog.drop_table(namespace=ns, table="scores", purge=False),
    "stage": lambda c, ns: c.catalog.stage(
        namespace=ns, table="scores", mode="merge", format="parquet"
    ),
    "write": lambda c, ns: c.catalog.write(SCORES, namespace=ns, table="scores"),
}


@pytest.mark.parametrize("call", MUTATIONS)
def test_the_result_of_a_mutation_tells_its_transaction(
    client: Client, robotics: str, call: str
) -> None:
    with client.transaction() as tx:
        result = MUTATIONS[call](client, robotics)
        assert (result.transaction_id, result.transaction_version) == (
            tx.id,
            tx.transaction_version,
        )


def test_a_fetched_session_of_a_transaction_is_attached_to_it(
    client: Client, robotics: str
) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "scores"}
    tx = client.transaction(commit_message="stage files")
    session = client.catalog.stage(**where, mode="merge", format="parquet", transaction=tx)
    Path(session.data_dir).mkdir(parents=True)
    pq.write_table(SCORES, session.path_for("output.parquet"))
    fetched_session = client.catalog.get_write_session(session.session_id)
    fetched_tx = client.catalog.get_transaction(tx.id)
    attached = fetched_session.commit(
        entries=[{"path": session.path_for("output.parquet"), "record_count": 2}]
    )
    assert (attached.attached, attached.committed, attached.transaction_id) == (True, False, tx.id)
    assert client.catalog.read(**where).num_rows == 0
    latest_tx = fetched_tx.get()
    assert latest_tx.transaction_version == attached.transaction_version
    tx.commit()
    assert client.catalog.read(**where).num_rows == 2


def test_a_bound_catalog_is_not_contradicted(client: Client, robotics: str) -> None:
    session = client.catalog.stage(namespace=robotics, table="scores", mode="merge")
    with pytest.raises(SchemaValidationError, match="leave catalog= out"):
        client.catalog.commit(session=session, entries=[], catalog="other")
    with pytest.raises(SchemaValidationError, match="leave catalog= out"):
        client.catalog.abort_write_session(session, catalog="other")
    tx = client.transaction()
    with pytest.raises(TransactionError, match="catalog='other'"):
        client.catalog.commit_transaction(tx, catalog="other")
    assert client.catalog.abort_transaction(tx, reason="over").status == "ABORTED"


def test_calls_of_the_published_client_are_there_by_their_names(
    client: Client, robotics: str
) -> None:
    (served,) = client.catalog.list_catalogs()
    assert client.catalog.describe_catalog(served.name) == served
    tx = client.transaction()
    assert client.catalog.heartbeat_transaction(tx).transaction_id == tx.id
    session = client.catalog.stage(namespace=robotics, table="scores", mode="merge", transaction=tx)
    kept = client.catalog.heartbeat_write_session(session)
    renewed = client.catalog.refresh_write_session_credentials(kept)
    assert client.catalog.abort_write_session(renewed, reason="r").status == "ABORTED"
    assert client.catalog.commit_transaction(tx, catalog=tx.catalog).status == "COMMITTED"


# --- Staged Writes --------------------------------------------------------------------------------


def test_files_are_staged_described_and_committed(client: Client, robotics: str) -> None:
    session = client.catalog.stage(
        namespace=robotics, table="scores", mode="merge", format="parquet"
    )
    assert (session.mode, session.format, session.merge_keys) == (
        "merge",
        "parquet",
        ["episode_id"],
    )
    path = Path(session.data_dir) / "embeddings" / "output.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(SCORES, path)
    entry = session.entry_for("embeddings/output.parquet", records=2)
    assert (entry.path, entry.records, entry.bytes) == (str(path), 2, entry.content_length)
    result = client.catalog.commit(session=session, entries=[entry])
    assert result.committed
    assert client.catalog.read(namespace=robotics, table="scores") == SCORES


def test_a_file_outside_of_the_session_is_refused(
    client: Client, robotics: str, tmp_path: Path
) -> None:
    pq.write_table(SCORES, tmp_path / "output.parquet")
    session = client.catalog.stage(namespace=robotics, table="scores", mode="merge")
    entry = {"path": str(tmp_path / "output.parquet"), "record_count": 2}
    with pytest.raises(RequestRejectedError, match=r"output\.parquet"):
        session.commit(entries=[entry])
