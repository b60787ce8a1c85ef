"""Does every call of the published contract that reads or manages work as it is shown there?

Quick Start, Catalog Management, Data Operations, Catalog Read Planning, Transactions, Auth and
Configuration; embedded and over HTTP. What the contract says of writes: `test_contract_writes`.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import (
    NotFoundError,
    RequestRejectedError,
    TransactionError,
    UnsupportedError,
)
from io_core.model import DataFile, ScanTask
from io_core.plan import PartitionSummary, ReadPlan
from planner_client import Client
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planner_client.transaction import Transaction

EPISODES = pa.table(
    {
        "episode_id": [1, 2, 3, 4],
        "task": ["pick_screwdriver", "place", "pick_screwdriver", None],
        "episode_length": [16, 32, 64, 128],
    }
)


@pytest.fixture
def robotics(client: Client) -> str:
    """A namespace of the test's own with the table `episodes`."""
    name = f"robotics_{uuid.uuid4().hex[:12]}"
    client.catalog.write(EPISODES, namespace=name, table="episodes")
    return name


# --- Quick Start ----------------------------------------------------------------------------------


def test_list_catalogs(client: Client) -> None:
    (found,) = client.catalog.list_catalogs()
    assert found.is_default
    assert client.catalog.get_catalog(catalog=found.name) == found


def test_list_namespaces_and_tables(client: Client, robotics: str) -> None:
    assert robotics in [found.name for found in client.catalog.list_namespaces()]
    assert [t.name for t in client.catalog.list_tables(namespace=robotics)] == ["episodes"]


def test_describe_table(client: Client, robotics: str) -> None:
    desc = client.catalog.describe_table(namespace=robotics, table="episodes")
    assert desc.schema is not None
    assert [field.name for field in desc.schema] == EPISODES.column_names
    assert desc.total_records == 4


def test_read_with_a_predicate_a_limit_and_an_offset(client: Client, robotics: str) -> None:
    found = client.catalog.read(
        namespace=robotics,
        table="episodes",
        read_as="pandas",
        filter_predicate={"eq": ["task", "pick_screwdriver"]},
        limit=5000,
        offset=0,
    )
    assert found["episode_id"].tolist() == [1, 3]


def test_plan_and_read_the_plan(client: Client, robotics: str) -> None:
    plan = client.catalog.plan(namespace=robotics, table="episodes")
    assert isinstance(plan, ReadPlan)
    assert (len(plan.all_files()), len(plan.partition_summaries())) == (1, 1)
    assert len(client.catalog.read(plan=plan, read_as="pandas")) == 4


def test_a_schemaless_table_is_a_manifest_until_it_is_materialized(client: Client) -> None:
    from io_core import formats

    where: dict[str, Any] = {"namespace": f"n{uuid.uuid4().hex}", "table": "logs"}
    client.catalog.create_table(**where, content_type="csv", auto_create_namespace=True)
    session = client.catalog.stage(**where, mode="add", format="csv")
    entry = formats.write(pa.table({"x": [1, 2]}), f"{session.data_dir}/a.csv.gz", "csv")
    client.catalog.commit(session=session, entries=[entry])
    manifest = client.catalog.read(**where)
    assert manifest["path"].to_pylist() == [entry.path]
    assert manifest["meta_record_count"].to_pylist() == [2]
    rows = client.catalog.from_manifest_table(manifest, schema=pa.schema([("x", pa.int64())]))
    assert rows.to_pydict() == {"x": [1, 2]}


# --- Catalog Management ---------------------------------------------------------------------------


def test_namespaces_are_managed(client: Client) -> None:
    name = f"n{uuid.uuid4().hex}"
    assert not client.catalog.namespace_exists(namespace=name)
    assert client.catalog.create_namespace(namespace=name).created
    assert client.catalog.namespace_exists(namespace=name)
    assert not client.catalog.get_namespace(namespace=name).properties
    properties = {"team": "manipulation", "env": "prod"}
    client.catalog.alter_namespace(namespace=name, properties=properties)
    assert client.catalog.get_namespace(namespace=name).properties == properties
    client.catalog.drop_namespace(namespace=name, purge=True)
    assert not client.catalog.namespace_exists(namespace=name)


def test_tables_are_managed(client: Client) -> None:
    name = f"n{uuid.uuid4().hex}"
    client.catalog.create_namespace(namespace=name)
    client.catalog.create_table(
        namespace=name,
        table="episodes",
        content_type="parquet",
        table_properties={"owner": "alice", "retention_days": "90"},
    )
    assert client.catalog.table_exists(namespace=name, table="episodes")
    client.catalog.alter_table(
        namespace=name, table="episodes", table_properties={"retention_days": "180"}
    )
    desc = client.catalog.describe_table(namespace=name, table="episodes")
    assert desc.table_properties == {"owner": "alice", "retention_days": "180"}
    assert isinstance(desc.properties, dict | None)
    versions = client.catalog.list_table_versions(namespace=name, table="episodes")
    assert [found.version for found in versions] == ["1"]
    client.catalog.rename_table(namespace=name, table="episodes", new_name="episodes_v1")
    assert not client.catalog.table_exists(namespace=name, table="episodes")
    client.catalog.truncate_table(namespace=name, table="episodes_v1")
    client.catalog.drop_table(namespace=name, table="episodes_v1", purge=True)
    client.catalog.drop_namespace(namespace=name, purge=True)


def test_rollback_table(client: Client, robotics: str) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "episodes"}
    before = time.time_ns()
    client.catalog.write(EPISODES, **where)
    assert client.catalog.rollback_table(**where, as_of=before).rolled_back
    assert len(client.catalog.read(**where)) == 4


# --- Data Operations ------------------------------------------------------------------------------


def test_plan_tells_its_totals(client: Client, robotics: str) -> None:
    plan = client.catalog.plan(namespace=robotics, table="episodes")
    assert (plan.total_files, plan.total_records) == (1, 4)
    assert plan.snapshot_id is not None
    assert len(plan.snapshot_id) == 32
    assert "to read: 1 files" in plan.explain()


def test_write_data(client: Client, robotics: str) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "predictions"}
    client.catalog.write_data(**where, data=[{"episode_id": 1, "score": 0.95}])
    assert client.catalog.read(**where).to_pylist() == [{"episode_id": 1, "score": 0.95}]


@pytest.mark.parametrize(
    ("call", "options"),
    [
        ("compaction_status", {}),
        ("langolier_cleanup", {"dry_run": True}),
        ("get_retention_policy", {}),
    ],
)
def test_maintenance_is_not_there_yet(
    client: Client, robotics: str, call: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match=f"client.catalog.{call} is not there yet"):
        getattr(client.catalog, call)(namespace=robotics, table="episodes", **options)


# --- Catalog Read Planning ------------------------------------------------------------------------


def test_plan_with_a_predicate_and_a_page(client: Client, robotics: str) -> None:
    plan = client.catalog.plan(
        namespace=robotics,
        table="episodes",
        filter_predicate={
            "and": [{"eq": ["task", "pick_screwdriver"]}, {"gte": ["episode_length", 32]}]
        },
        limit=10000,
        include_stats=False,
    )
    assert [type(file) for file in plan.all_files()] == [DataFile]
    assert [type(task) for task in plan.scan_tasks] == [ScanTask]
    assert [type(one) for one in plan.partition_summaries()] == [PartitionSummary]
    assert plan.files_with_extension(".jpg", ".png") == []
    (file,) = plan.files_with_extension(".parquet")
    assert (file.content_type, file.extension, file.record_count) == ("parquet", ".parquet", 4)
    assert file.column_stats is None
    assert file.path.endswith(f"/{file.name}")
    (task,), (summary,) = plan.scan_tasks, plan.partition_summaries()
    for counted in (task, summary, plan):
        assert counted.total_records == 4
        assert counted.total_bytes == file.content_length
    assert task.file_count == summary.file_count == plan.returned_files == 1
    assert (plan.namespace, plan.table, plan.table_version) == (robotics, "episodes", "1")
    assert (plan.content_type, plan.truncated, plan.next_file_offset) == ("parquet", False, None)


@pytest.mark.parametrize(
    ("predicate", "ids"),
    [
        ({"eq": ["task", "place"]}, [2]),
        ({"neq": ["task", "place"]}, [1, 3]),
        ({"in": ["task", ["place", "fold"]]}, [2]),
        ({"between": ["episode_length", 32, 128]}, [2, 3, 4]),
        ({"is_null": "task"}, [4]),
        ({"not": {"is_null": "task"}}, [1, 2, 3]),
        ({"or": [{"lt": ["episode_length", 20]}, {"gt": ["episode_length", 100]}]}, [1, 4]),
        ({"and": [{"lte": ["episode_length", 64]}, {"gte": ["episode_id", 2]}]}, [2, 3]),
    ],
    ids=str,
)
def test_every_operator(
    client: Client, robotics: str, predicate: dict[str, Any], ids: list[int]
) -> None:
    found = client.catalog.read(namespace=robotics, table="episodes", filter_predicate=predicate)
    assert found["episode_id"].to_pylist() == ids


def test_plan_without_files(client: Client, robotics: str) -> None:
    plan = client.catalog.plan(namespace=robotics, table="episodes", include_files=False)
    whole = client.catalog.plan(namespace=robotics, table="episodes")
    assert (plan.all_files(), plan.snapshot_id) == ([], whole.snapshot_id)
    assert (plan.packds_uri, plan.episode_index, plan.shard_manifest) == (None, None, None)


@pytest.mark.parametrize(("root", "used"), [(None, None), ("data", True), ("elsewhere", False)])
def test_a_plan_says_whether_its_paths_are_of_the_root_that_was_preferred(
    client: Client, robotics: str, root: str | None, used: bool | None
) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "episodes"}
    plain = client.catalog.plan(**where)
    # The published client has the one name, the contract the other.
    for found in (
        client.catalog.plan(**where, root=root),
        client.catalog.plan(**where, preferred_root=root),
    ):
        assert found.preferred_root_used is used
        assert (found.files, found.snapshot_id) == (plain.files, plain.snapshot_id)
    assert client.catalog.read(**where, root=root) == EPISODES


def test_a_plan_says_that_no_recipe_has_a_shard_manifest(client: Client, robotics: str) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "episodes"}
    plain = client.catalog.plan(**where)
    assert (plain.shard_manifest, plain.header.available_recipes) == (None, None)
    found = client.catalog.plan(**where, recipe_hash="abc123")
    assert (found.shard_manifest, found.header.available_recipes) == (None, [])
    assert found.files == plain.files


# --- Transactions ---------------------------------------------------------------------------------


def test_a_block_creates_writes_reads_and_commits(client: Client) -> None:
    name = f"n{uuid.uuid4().hex}"
    with client.transaction(commit_message="Create and backfill predictions") as tx:
        client.catalog.create_namespace(namespace=name)
        made = client.catalog.create_table(
            namespace=name,
            table="predictions",
            schema_def=[
                {"name": "episode_id", "type": "int64", "is_merge_key": True},
                {"name": "score", "type": "float64"},
            ],
            content_type="parquet",
            auto_create_namespace=False,
        )
        assert made.transaction_id == tx.id
        assert made.transaction_version is not None
        rows = pa.table({"episode_id": [3, 4], "score": [0.91, 0.89]})
        client.catalog.write(
            rows, namespace=name, table="predictions", mode="merge", format="parquet"
        )
        preview = client.catalog.read(namespace=name, table="predictions", read_as="pandas")
        assert preview["score"].tolist() == [0.91, 0.89]
        other = Client(client.target)
        assert not other.catalog.namespace_exists(namespace=name)
    assert tx.status == "COMMITTED"
    assert client.catalog.describe_table(namespace=name, table="predictions").total_records == 2


def test_an_explicit_handle_commits_or_aborts(client: Client, robotics: str) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "episodes"}
    tx = client.transaction(commit_message="Backfill")
    client.catalog.write(EPISODES, **where, mode="add", format="parquet", transaction=tx)
    assert len(client.catalog.read(**where, transaction=tx)) == 8
    assert len(client.catalog.read(**where)) == 4
    tx.commit()
    assert len(client.catalog.read(**where)) == 8
    again = client.transaction()
    client.catalog.write(EPISODES, **where, transaction=again)
    assert again.abort(reason="backfill failed").status == "ABORTED"
    assert len(client.catalog.read(**where)) == 8


def test_a_block_that_raises_aborts(client: Client) -> None:
    name = f"n{uuid.uuid4().hex}"
    tx = client.transaction()
    with pytest.raises(ZeroDivisionError):
        _spoil(client, tx, name)
    assert tx.status == "ABORTED"
    assert not client.catalog.namespace_exists(namespace=name)


def _spoil(client: Client, tx: Transaction, name: str) -> None:
    with tx:
        client.catalog.create_namespace(namespace=name)
        raise ZeroDivisionError


def test_a_historic_transaction_reads_the_past_and_writes_nothing(
    client: Client, robotics: str
) -> None:
    where: dict[str, Any] = {"namespace": robotics, "table": "episodes"}
    checkpoint_ns = time.time_ns()
    client.catalog.write(EPISODES, **where)
    with client.transaction(as_of=checkpoint_ns) as historic:
        found = client.catalog.read(**where, read_as="pandas", transaction=historic)
        assert len(found) == 4
        with pytest.raises(RequestRejectedError, match="writes nothing"):
            client.catalog.write(EPISODES, **where)
    assert len(client.catalog.read(**where)) == 8


def test_fetched_handles_stay_bound(client: Client, robotics: str) -> None:
    tx = client.transaction(commit_message="stage files")
    session = client.catalog.stage(
        namespace=robotics, table="episodes", mode="add", format="parquet", transaction=tx
    )
    fetched = client.catalog.get_write_session(session.session_id)
    assert fetched.transaction_id == tx.id
    fetched_tx = client.catalog.get_transaction(tx.id)
    assert fetched_tx.get().bound_write_sessions == [session.session_id]
    elsewhere = Client(client.target).catalog.get_transaction(tx.id)
    assert (elsewhere.id, elsewhere.catalog) == (tx.id, tx.catalog)
    tx.abort()
    with pytest.raises(NotFoundError):
        client.catalog.get_transaction("nonesuch")


def test_a_transaction_excludes_a_catalog(client: Client, robotics: str) -> None:
    with client.transaction(), pytest.raises(TransactionError, match="catalog="):
        client.catalog.describe_table(namespace=robotics, table="episodes", catalog="other")
    tx = client.transaction()
    with pytest.raises(TransactionError, match="catalog="):
        client.catalog.get_transaction(tx.id, catalog="other")
    tx.abort()


def test_a_transaction_belongs_to_its_client(client: Client, robotics: str) -> None:
    other = Client(client.target)
    with client.transaction() as tx, pytest.raises(TransactionError, match="another client"):
        other.catalog.read(namespace=robotics, table="episodes", transaction=tx)
    with pytest.raises(TransactionError, match="is no transaction"):
        client.catalog.list_namespaces(transaction="tx_1")  # type: ignore[arg-type]


def test_an_explicit_transaction_stands_above_the_block(client: Client) -> None:
    name = f"n{uuid.uuid4().hex}"
    explicit = client.transaction()
    with client.transaction():
        client.catalog.create_namespace(namespace=name, transaction=explicit)
        assert not client.catalog.namespace_exists(namespace=name)
        assert client.catalog.namespace_exists(namespace=name, transaction=explicit)
    explicit.abort()


@pytest.mark.parametrize(
    ("call", "options"),
    [
        ("write_data", {"data": [{"episode_id": 9}]}),
        ("truncate_table", {}),
        ("rollback_table", {"as_of": 1}),
    ],
)
def test_some_calls_stay_out_of_transactions(
    client: Client, robotics: str, call: str, options: dict[str, Any]
) -> None:
    with client.transaction(), pytest.raises(TransactionError, match=call):
        getattr(client.catalog, call)(namespace=robotics, table="episodes", **options)


@pytest.mark.parametrize(
    "call",
    ["place", "unplace", "replication_status", "compaction_status", "get_retention_policy"],
)
def test_placement_and_maintenance_raise_in_a_transaction_too(client: Client, call: str) -> None:
    with client.transaction(), pytest.raises(UnsupportedError, match=call):
        getattr(client.catalog, call)(namespace="n", table="t")


def test_every_catalog_call_takes_part(client: Client, robotics: str) -> None:
    name = f"n{uuid.uuid4().hex}"
    where: dict[str, Any] = {"namespace": robotics, "table": "episodes"}
    with client.transaction():
        client.catalog.create_namespace(namespace=name)
        client.catalog.alter_namespace(namespace=name, properties={"a": "b"})
        assert client.catalog.get_namespace(namespace=name).properties == {"a": "b"}
        assert name in [found.name for found in client.catalog.list_namespaces()]
        client.catalog.alter_table(**where, table_description="d")
        client.catalog.rename_table(**where, new_name="renamed")
        assert [t.name for t in client.catalog.list_tables(namespace=robotics)] == ["renamed"]
        assert client.catalog.table_exists(namespace=robotics, table="renamed")
        versions = client.catalog.list_table_versions(namespace=robotics, table="renamed")
        assert len(versions) == 1
        assert client.catalog.plan(namespace=robotics, table="renamed").total_files == 1
        client.catalog.drop_table(namespace=robotics, table="renamed", purge=False)
        client.catalog.drop_namespace(namespace=name, purge=False)
    assert not client.catalog.table_exists(namespace=robotics, table="renamed")


# --- Auth -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("guarded") / "catalog", "--auth", "on") as server:
        yield Client(server.url, bearer_token=server.first_token())


def test_whoami(client: Client, guarded: Client) -> None:
    assert not client.auth.whoami().auth_configured
    me = guarded.auth.whoami()
    assert me.auth_configured
    assert me.user_id


def test_grant_list_and_revoke(guarded: Client) -> None:
    guarded.auth.grant(user_id="bob@example.com", role="WRITER")
    guarded.auth.grant(
        user_id="bob@example.com",
        role="READER",
        resource_type="namespace",
        resource_name="robotics",
    )
    grants = guarded.auth.list_grants(user_id="bob@example.com")
    assert sorted((g.user_id, g.role, g.scope_type) for g in grants) == [
        ("bob@example.com", "READER", "namespace"),
        ("bob@example.com", "WRITER", "catalog"),
    ]
    guarded.auth.revoke(
        user_id="bob@example.com", resource_type="namespace", resource_name="robotics"
    )
    (left,) = guarded.auth.list_grants(user_id="bob@example.com")
    assert (left.role, left.scope_name) == ("WRITER", "*")


def test_users_and_tokens(guarded: Client) -> None:
    made = guarded.auth.create_user(user_id="eve@example.com", role="READER", issue_token=True)
    assert made.token is not None
    token = guarded.auth.issue_token(user_id="eve@example.com", label="laptop")
    eve = Client(guarded.target, bearer_token=token.token)
    assert eve.auth.whoami().user_id == "eve@example.com"
    guarded.auth.revoke_token(user_id="eve@example.com", token_id=token.token_id)
    with pytest.raises(PermissionError):
        eve.auth.whoami()


# --- Configuration --------------------------------------------------------------------------------


def test_a_client_is_configured_as_shown(targets: dict[str, str]) -> None:
    catalog = Client(targets["http"]).catalog.list_catalogs()[0].name
    with Client(
        targets["http"],
        catalog=catalog,
        bearer_token="my-token",
        user_id="robotics-trainer@example.com",
        timeout=60,
        verify_ssl=True,
        headers={"x-trace-id": "run-12345", "x-correlation-id": "pipeline-abc"},
        worker_id="cpu-worker-us-east-2-pod-7",
        worker_tags=["cpu", "us-east-2"],
    ) as client:
        assert isinstance(client.catalog.list_namespaces(), list)
        with pytest.raises(NotFoundError):
            client.catalog.list_namespaces(catalog="another")
