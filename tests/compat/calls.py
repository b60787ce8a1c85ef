"""Which calls are compared, request for request? Each is made by either client, in its own interpreter.

`python -m tests.compat.calls deltacat_client|planner_client URL` makes them all, one after the other;
each names itself in the header `x-case`, so that a recorder in between can tell them apart.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLS", "CASE_HEADER"]

CASE_HEADER = "x-case"
ROWS = pa.table({"id": [1, 2], "name": ["x", "y"]})
FIELDS = [{"name": "id", "type": "int64"}, {"name": "name", "type": "string"}]
KEYED = [{"name": "id", "type": "int64", "is_merge_key": True}, FIELDS[1]]
PREDICATE = {"and": [{"eq": ["name", "x"]}, {"gte": ["id", 1]}]}
# What every case finds: a table of one file.
NAMESPACE, TABLE = "recorded", "t"
WHERE = {"namespace": NAMESPACE, "table": TABLE}
# Any: either client.
Call = Any


def _create_table(client: Call) -> None:
    client.catalog.create_table(
        namespace=NAMESPACE,
        table="made",
        schema_def=KEYED,
        content_types=["parquet"],
        table_description="d",
        table_properties={"owner": "alice"},
        partition_scheme={"keys": [{"key": ["name"], "transform": "identity"}]},
        sort_scheme={"keys": [{"key": ["id"], "sort_order": "ascending"}]},
        auto_create_namespace=True,
    )


def _in_a_block(client: Call) -> None:
    with client.transaction(commit_message="m"):
        client.catalog.create_namespace(namespace="in_a_block")
        client.catalog.table_exists(**WHERE)
        client.catalog.plan(**WHERE)


def _aborted(client: Call) -> None:
    transaction = client.transaction()
    client.catalog.list_tables(namespace=NAMESPACE, transaction=transaction)
    transaction.abort(reason="r")


def _staged(client: Call) -> None:
    session = client.catalog.stage(**WHERE, mode="add", format="parquet")
    session = client.catalog.get_write_session(session.session_id)
    entry = {"path": f"{session.data_dir}/none.parquet", "record_count": 2}
    client.catalog.commit(session=session, entries=[entry])


def _kept_and_aborted(client: Call) -> None:
    session = client.catalog.stage(**WHERE, mode="add", format="parquet")
    with contextlib.suppress(ZeroDivisionError), session:
        raise ZeroDivisionError


def _explicit(client: Call) -> None:
    transaction = client.transaction(commit_message="m")
    client.catalog.write(ROWS, **WHERE, mode="add", format="parquet", transaction=transaction)
    client.catalog.read(**WHERE, transaction=transaction)
    client.catalog.heartbeat_transaction(transaction)
    fetched = client.catalog.get_transaction(transaction.id)
    fetched.get()
    client.catalog.commit_transaction(transaction)


def _staged_in_a_transaction(client: Call) -> None:
    transaction = client.transaction()
    session = client.catalog.stage(
        **WHERE, mode="append", format="parquet", transaction=transaction
    )
    fetched = client.catalog.get_write_session(session.session_id)
    fetched.commit(entries=[{"path": f"{session.data_dir}/none.parquet", "record_count": 2}])
    client.catalog.abort_transaction(transaction, reason="r")


def _kept(client: Call) -> None:
    session = client.catalog.stage(**WHERE, mode="add", format="parquet")
    session = client.catalog.heartbeat_write_session(session)
    client.catalog.abort_write_session(session, reason="r")


def _in_a_block_of_all(client: Call) -> None:
    with client.transaction():
        client.catalog.create_table(
            namespace=NAMESPACE,
            table="in_a_block",
            schema_def=KEYED,
            auto_create_namespace=False,
        )
        client.catalog.alter_table(
            namespace=NAMESPACE, table="in_a_block", table_properties={"a": "b"}
        )
        client.catalog.describe_table(namespace=NAMESPACE, table="in_a_block")
        client.catalog.list_table_versions(namespace=NAMESPACE, table="in_a_block")
        client.catalog.rename_table(namespace=NAMESPACE, table="in_a_block", new_name="renamed")
        client.catalog.list_tables(namespace=NAMESPACE)
        client.catalog.drop_table(namespace=NAMESPACE, table="renamed")
        client.catalog.get_namespace(namespace=NAMESPACE)
        client.catalog.namespace_exists(namespace=NAMESPACE)
        client.catalog.list_namespaces()
        client.catalog.alter_namespace(namespace=NAMESPACE, properties={"a": "b"})
        client.catalog.create_namespace(namespace="gone")
        client.catalog.drop_namespace(namespace="gone")


def _of_the_past(client: Call) -> None:
    with client.transaction(as_of=1) as historic:
        client.catalog.read(**WHERE, transaction=historic)


CALLS: dict[str, Callable[[Call], object]] = {
    "list_catalogs": lambda c: c.catalog.list_catalogs(),
    "describe_catalog": lambda c: c.catalog.describe_catalog("default"),
    "list_namespaces": lambda c: c.catalog.list_namespaces(),
    "list_tables": lambda c: c.catalog.list_tables(namespace=NAMESPACE),
    "describe_table": lambda c: c.catalog.describe_table(**WHERE),
    "describe_table of a version": lambda c: c.catalog.describe_table(**WHERE, table_version="1"),
    "create_namespace": lambda c: c.catalog.create_namespace(
        namespace="made", properties={"a": "b"}
    ),
    "namespace_exists": lambda c: c.catalog.namespace_exists(namespace=NAMESPACE),
    "get_namespace": lambda c: c.catalog.get_namespace(namespace=NAMESPACE),
    "alter_namespace": lambda c: c.catalog.alter_namespace(
        namespace="made", properties={"team": "m"}, new_name="made2"
    ),
    "drop_namespace": lambda c: c.catalog.drop_namespace(namespace="made2", purge=True),
    "create_table": _create_table,
    "table_exists": lambda c: c.catalog.table_exists(**WHERE),
    "alter_table": lambda c: c.catalog.alter_table(
        namespace=NAMESPACE,
        table="made",
        table_properties={"a": "b"},
        table_description="e",
        schema_updates={"operations": [{"op": "add", "field": {"name": "n", "type": "int64"}}]},
    ),
    "list_table_versions": lambda c: c.catalog.list_table_versions(**WHERE),
    "rename_table": lambda c: c.catalog.rename_table(
        namespace=NAMESPACE, table="made", new_name="renamed"
    ),
    "truncate_table": lambda c: c.catalog.truncate_table(namespace=NAMESPACE, table="renamed"),
    "rollback_table": lambda c: c.catalog.rollback_table(**WHERE, as_of=2**62),
    "drop_table": lambda c: c.catalog.drop_table(namespace=NAMESPACE, table="renamed", purge=True),
    "plan": lambda c: c.catalog.plan(**WHERE),
    "plan with all it takes": lambda c: c.catalog.plan(
        **WHERE,
        table_version="1",
        as_of=2**62,
        filter_predicate=PREDICATE,
        columns=["id"],
        limit=10,
        offset=0,
        include_stats=True,
        recipe_hash="abc",
        root="elsewhere",
    ),
    "plan without files": lambda c: c.catalog.plan(**WHERE, include_files=False),
    "plan of partitions": lambda c: c.catalog.plan(**WHERE, partition_filter=["p"]),
    "read": lambda c: c.catalog.read(**WHERE),
    "read with a predicate": lambda c: c.catalog.read(
        **WHERE, filter_predicate=PREDICATE, columns=["id"]
    ),
    "read of a plan": lambda c: c.catalog.read(plan=c.catalog.plan(**WHERE)),
    "read of the past": lambda c: c.catalog.read(**WHERE, as_of=2**62),
    "read of a version": lambda c: c.catalog.read(**WHERE, table_version="1"),
    "write_data": lambda c: c.catalog.write_data(
        **WHERE, data={"id": [3], "name": ["z"]}, mode="add", content_type="parquet"
    ),
    "write": lambda c: c.catalog.write(ROWS, **WHERE, mode="add", format="parquet"),
    "write that creates": lambda c: c.catalog.write(
        ROWS, namespace=NAMESPACE, table="new", mode="auto"
    ),
    "write that replaces": lambda c: c.catalog.write(ROWS, **WHERE, mode="replace"),
    "a commit without a session": lambda c: c.catalog.commit(
        **WHERE,
        entries=[{"path": "/absent/a.parquet", "record_count": 2}],
        format="parquet",
        mode="add",
    ),
    "a session": _staged,
    "a session that is kept": _kept,
    "a session in a transaction": _staged_in_a_transaction,
    "a transaction by its handle": _explicit,
    "a transaction's block of all calls": _in_a_block_of_all,
    "a transaction's block in the past": _of_the_past,
    "a session that aborts": _kept_and_aborted,
    "a transaction's block": _in_a_block,
    "a transaction that aborts": _aborted,
    "a transaction of the past": lambda c: c.transaction(as_of=2**62).commit(),
    "whoami": lambda c: c.auth.whoami(),
    "create_user": lambda c: c.auth.create_user(
        user_id="bob",
        initial_role="WRITER",
        resource_type="namespace",
        resource_name="robotics",
        display_name="Bob",
        email="bob@example.com",
        idempotency_key="k",
    ),
    "grant": lambda c: c.auth.grant(user_id="bob", role="WRITER"),
    "grant on a namespace": lambda c: c.auth.grant(
        user_id="bob", role="READER", resource_type="namespace", resource_name="robotics"
    ),
    "list_grants": lambda c: c.auth.list_grants(user_id="bob"),
    "revoke": lambda c: c.auth.revoke(
        user_id="bob", resource_type="namespace", resource_name="robotics"
    ),
    "issue_token": lambda c: c.auth.issue_token(user_id="bob", label="l", idempotency_key="k"),
    "revoke_token": lambda c: c.auth.revoke_token(user_id="bob", token_id="t"),
}


def main(module: str, url: str) -> None:
    """Make every call; that a planner refuses one is no matter, only that it is asked."""
    client_of = importlib.import_module(module).Client
    with client_of(url, headers={CASE_HEADER: "before"}) as client:
        client.catalog.create_namespace(namespace=NAMESPACE)
        client.catalog.create_table(**WHERE, schema_def=FIELDS)
        client.catalog.write(ROWS, **WHERE, mode="add")
        catalog = client.catalog.list_catalogs()[0].name
    for name, call in CALLS.items():
        with (
            client_of(url, catalog=catalog, user_id="u", headers={CASE_HEADER: name}) as client,
            contextlib.suppress(Exception),
        ):
            call(client)


if __name__ == "__main__":
    main(*sys.argv[1:])
