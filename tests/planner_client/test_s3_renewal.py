"""Do keys that expire reach readers and writers in time, and only as far as they may go?"""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from io_core.aws import assumed_role
from io_core.errors import CredentialsError
from io_core.s3 import S3Settings
from planner_client import Client
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.protocol.transactions import (
    BEGIN,
    GET_TRANSACTION,
    HEARTBEAT_TRANSACTION,
    BeginTransaction,
    GetTransaction,
    HeartbeatTransaction,
)
from planner_client.protocol.writes import HEARTBEAT, STAGE, HeartbeatRequest, StageRequest
from planner_client.server import places
from planner_client.server.places import DataRoot
from planner_client.server.planner import EmbeddedPlanner
from tests.object_store.store import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from io_core.credentials import Keys
    from io_core.model import WriteSession
    from io_core.plan import ReadPlan

ROLE = "arn:aws:iam::123456789012:role/lake"


@pytest.fixture(scope="module")
def sts() -> Iterator[str]:
    """A Security Token Service on loopback."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def planner_of(root: Path, sts: str) -> EmbeddedPlanner:
    place = DataRoot(
        "s3://bucket/lake",
        S3Settings("http://127.0.0.1:9"),
        f"sts:{ROLE}",
        sts_endpoint_url=sts,
        lifetime_s=900,
    )
    planner = EmbeddedPlanner(root / "catalog", data_root=place)
    Client(root / "catalog").catalog.create_table(
        namespace="ns", table="t", schema=pa.schema([("x", pa.int64())]), auto_create_namespace=True
    )
    return planner


def planned(planner: EmbeddedPlanner) -> ReadPlan:
    found: ReadPlan = planner.call(
        PLAN, PlanRequest(namespace="ns", table="t", include_files=False)
    )
    return found


def staged(planner: EmbeddedPlanner) -> WriteSession:
    found: WriteSession = planner.call(STAGE, StageRequest(namespace="ns", table="t", mode="add"))
    return found


def only(held: dict[str, Any] | None) -> Any:
    assert held is not None
    (value,) = held.values()
    return value


def test_a_role_is_assumed_and_its_keys_expire(tmp_path: Path, sts: str) -> None:
    planner = planner_of(tmp_path, sts)
    read, session = only(planned(planner).credentials), staged(planner)
    write = only(session.credentials)
    for told in (read, write):
        assert told.type == "sts"
        assert told.session_token
        assert told.access_key_id != KEYS["AWS_ACCESS_KEY_ID"]
        left = datetime.fromisoformat(told.expires_at) - datetime.now(UTC)
        assert 800 < left.total_seconds() <= 900
    assert read.access_key_id != write.access_key_id
    assert write.renewable is True
    assert write.refresh_endpoint == f"/v1/write-sessions/{session.session_id}/heartbeat"


def test_all_callers_share_what_was_assumed_until_it_is_due(tmp_path: Path, sts: str) -> None:
    planner = planner_of(tmp_path, sts)
    first = only(planned(planner).credentials).access_key_id
    assert only(planned(planner).credentials).access_key_id == first
    session = staged(planner)
    asked = HeartbeatRequest(session_id=session.session_id, session_version=1)
    beat = planner.call(HEARTBEAT, asked)
    assert only(beat.credentials) == only(session.credentials)


def test_a_reader_renews_by_planning_no_files(tmp_path: Path, sts: str) -> None:
    planner_of(tmp_path, sts)
    client = Client(tmp_path / "catalog")
    store = client.catalog.plan(namespace="ns", table="t").storage.stores[0]
    before = store.credentials.current()
    # As if nothing were known here any more.
    store.credentials._keys = None
    after = store.credentials.current()
    assert after is not before
    assert after.session_token is not None


def test_a_writer_renews_by_keeping_its_session_open(tmp_path: Path, sts: str) -> None:
    planner_of(tmp_path, sts)
    client = Client(tmp_path / "catalog")
    session = client.stage(namespace="ns", table="t", mode="add")
    refresh = session.storage.stores[0].refresh
    assert refresh().session_token is not None
    client.abort(session=session)
    with pytest.raises(Exception, match="is ABORTED"):
        refresh()


def test_a_transactions_heartbeat_brings_keys_for_its_plans_and_sessions(
    tmp_path: Path, sts: str
) -> None:
    planner = planner_of(tmp_path, sts)
    tx = planner.call(BEGIN, BeginTransaction())
    told = tx.transaction_id, tx.transaction_version
    staged = planner.call(
        STAGE,
        StageRequest(
            namespace="ns",
            table="t",
            mode="add",
            transaction_id=told[0],
            transaction_version=told[1],
        ),
    )
    asked = HeartbeatTransaction(transaction_id=told[0], transaction_version=told[1])
    beat = planner.call(HEARTBEAT_TRANSACTION, asked)
    assert beat.refreshed_credentials == planned(planner).credentials
    assert beat.refreshed_credentials_by_session == {staged.session_id: staged.credentials}
    assert only(staged.credentials).secret_access_key not in repr(beat)
    got = planner.call(GET_TRANSACTION, GetTransaction(transaction_id=told[0]))
    assert got.refreshed_credentials is None


def test_a_clients_readers_and_writers_take_the_keys_of_a_heartbeat(
    tmp_path: Path, sts: str
) -> None:
    planner_of(tmp_path, sts)
    client = Client(tmp_path / "catalog")
    with client.transaction() as tx:
        plan = client.catalog.plan(namespace="ns", table="t")
        session = client.catalog.stage(namespace="ns", table="t", mode="add")
        held = [s.storage.stores[0].credentials for s in (plan, session)]
        for credentials in held:
            credentials._keys = None
        info = tx.heartbeat()
        assert all(credentials._keys is not None for credentials in held)
        # Keys stay where they are used.
        assert pickle.loads(pickle.dumps(info)) == info
        client.catalog.abort(session=session)


def test_a_local_catalog_has_no_keys_to_bring(tmp_path: Path) -> None:
    with Client(tmp_path / "catalog").transaction() as tx:
        info = tx.heartbeat()
    assert info.refreshed_credentials is None
    assert info.refreshed_credentials_by_session is None


def test_an_hours_old_session_of_the_process_does_not_keep_others_from_keys(
    tmp_path: Path, sts: str
) -> None:
    planner_of(tmp_path, sts)
    client = Client(tmp_path / "catalog")
    long, brief = (client.stage(namespace="ns", table="t", mode="add") for _ in range(2))
    client.abort(session=brief)
    held = long.storage.stores[0].credentials
    assert held is brief.storage.stores[0].credentials
    held._keys = None
    assert held.current().session_token is not None


def test_readers_may_only_read_and_nobody_leaves_the_data_root(
    tmp_path: Path, sts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def noted(base: Keys, role: str, *, policy: str | None = None, **how: Any) -> Keys:
        asked.append(policy)
        return assumed_role(base, role, policy=policy, **how)

    monkeypatch.setattr(places, "assumed_role", noted)
    planner = planner_of(tmp_path, sts)
    planned(planner)
    staged(planner)
    read, write = (json.loads(policy or "{}")["Statement"] for policy in asked)
    assert [s["Resource"] for s in read] == [
        "arn:aws:s3:::bucket/lake/*",
        "arn:aws:s3:::bucket",
    ]
    assert not any("Put" in a or "Delete" in a for s in read for a in s["Action"])
    assert {"s3:PutObject", "s3:DeleteObject"} <= set(write[0]["Action"])
    assert read[1]["Condition"] == {"StringLike": {"s3:prefix": ["lake/*"]}}


def test_a_role_that_cannot_be_assumed_says_so_without_keys(tmp_path: Path) -> None:
    planner = planner_of(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(CredentialsError, match=f"role {ROLE} cannot be assumed") as caught:
        planned(planner)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
