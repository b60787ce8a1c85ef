"""Does a catalog whose data is on S3 do all that one on local disk does, and keep its keys to itself?"""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa
import pytest
import requests

from io_core.errors import (
    CatalogRootError,
    CredentialsError,
    DataFileError,
    RequestRejectedError,
    UnsupportedError,
)
from io_core.execute import read_plan
from io_core.model import TableRef, WriteEntry
from io_core.s3 import S3Settings
from io_core.sink import Sink
from planner_client import Client
from planner_client.server.backup import backup
from planner_client.server.check import check
from planner_client.server.places import DataRoot
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from planner_client.transport import InProcessTransport
from tests.object_store.store import KEYS
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from io_core.storage import Storage
    from tests.object_store.store import ObjectStore

SECRET = KEYS["AWS_SECRET_ACCESS_KEY"]
# Any: keyword arguments of several calls.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
ROWS = pa.table({"id": [1, 2, 3], "v": ["a", "b", "c"]})
DAY_NS = 86_400 * 10**9


class Lake(NamedTuple):
    """A catalog with its data on S3, and a way around it."""

    client: Client
    root: str
    storage: Storage

    @property
    def planner(self) -> EmbeddedPlanner:
        transport = self.client._transport
        assert isinstance(transport, InProcessTransport)
        assert isinstance(transport._planner, EmbeddedPlanner)
        return transport._planner

    def stored(self) -> list[str]:
        return sorted(f.location for f in self.storage.files_below(self.root))


@pytest.fixture
def lake(tmp_path: Path, object_store: ObjectStore) -> Lake:
    root = f"{object_store.bucket()}/lake"
    client = Client(tmp_path / "catalog", data_root=root, s3=object_store.settings)
    return Lake(client, root, object_store.storage(root))


def write(lake: Lake, rows: pa.Table = ROWS, mode: Any = "auto", **how: Any) -> None:
    lake.client.catalog.write(rows, **WHERE, mode=mode, **how)


def test_data_goes_to_the_store_and_the_ledger_stays_local(lake: Lake, tmp_path: Path) -> None:
    write(lake)
    assert [p.name for p in (tmp_path / "catalog").iterdir() if p.is_dir()] == []
    plan = lake.client.catalog.plan(**WHERE)
    assert plan.paths == lake.stored()
    assert plan.paths[0].startswith(f"{lake.root}/data/")
    assert lake.client.catalog.read(**WHERE) == ROWS
    (info,) = lake.client.catalog.list_catalogs()
    assert (info.root, info.data_root) == (str(tmp_path / "catalog"), lake.root)


def test_keyed_rows_merge_by_keys_that_lie_beside_the_files(lake: Lake) -> None:
    write(lake, merge_keys=["id"])
    write(lake, pa.table({"id": [2], "v": ["B"]}), "merge")
    write(lake, pa.table({"id": [3]}), "delete")
    assert len([p for p in lake.stored() if p.endswith(".keys")]) == 3
    plan = lake.client.catalog.plan(**WHERE, delete_sets=True)
    assert None not in plan.column("deletes")
    assert sorted(map(str, read_plan(plan).to_pylist())) == [
        "{'id': 1, 'v': 'a'}",
        "{'id': 2, 'v': 'B'}",
    ]


def test_the_catalog_remembers_its_data_root(lake: Lake, tmp_path: Path) -> None:
    write(lake)
    again = Client(tmp_path / "catalog")
    assert again.catalog.read(**WHERE) == ROWS
    again.catalog.write(ROWS, **WHERE, mode="auto")
    assert again.catalog.read(**WHERE).num_rows == 6


def test_a_data_root_is_chosen_when_a_catalog_is_made_and_never_moved(
    lake: Lake, tmp_path: Path
) -> None:
    with pytest.raises(CatalogRootError, match=r"keeps its data in s3://.*, not s3://elsewhere"):
        Client(tmp_path / "catalog", data_root="s3://elsewhere")
    local = Client(tmp_path / "local")
    local.catalog.write(ROWS, **WHERE)
    with pytest.raises(CatalogRootError, match="chosen when a catalog is made"):
        Client(tmp_path / "local", data_root=lake.root)


def test_what_is_said_of_the_store_may_change(
    lake: Lake, tmp_path: Path, object_store: ObjectStore
) -> None:
    write(lake)
    before = lake.client.catalog.plan(**WHERE).header.storage_bindings
    settings = S3Settings(object_store.url, "us-east-1", path_style=True)
    changed = Client(tmp_path / "catalog", data_root=lake.root, s3=settings)
    after = changed.catalog.plan(**WHERE).header.storage_bindings
    (first,), (second,) = (list((held or {}).values()) for held in (before, after))
    assert first.binding_id == second.binding_id
    assert (first.binding_revision, second.binding_revision) == (1, 2)
    assert changed.catalog.read(**WHERE) == ROWS


@pytest.mark.parametrize(
    "root", ["gs://bucket/lake", "az://container/lake", "file:///lake", "/lake"]
)
def test_a_data_root_elsewhere_is_refused(tmp_path: Path, root: str) -> None:
    with pytest.raises(UnsupportedError, match="data can be kept in s3:// and s3a://"):
        Client(tmp_path / "catalog", data_root=root)


@pytest.mark.parametrize("root", ["s3://", "s3://b/../c", "s3://b/a?x=1", "s3://b//c"])
def test_a_data_root_that_is_no_place_is_refused(tmp_path: Path, root: str) -> None:
    with pytest.raises(ValueError, match="write s3://BUCKET"):
        Client(tmp_path / "catalog", data_root=root)


def test_keys_in_place_of_their_source_are_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="belong into the environment") as caught:
        Client(tmp_path / "catalog", data_root="s3://bucket", s3_credentials="AKIA:hush")
    assert "hush" not in str(caught.value)


def test_a_planner_without_keys_says_so(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Client(tmp_path / "catalog").catalog.write(ROWS, **WHERE)


def entry(path: str, **fields: Any) -> WriteEntry:
    return WriteEntry(path=path, record_count=1, **fields)


def test_a_commit_looks_at_every_file(lake: Lake) -> None:
    write(lake)
    session = lake.client.stage(**WHERE, mode="add")
    path = f"{session.data_dir}/a.parquet"
    (whole,) = lake.client.catalog.plan(**WHERE).paths
    with lake.storage.open_input(whole) as source, session.storage.open_output(path) as out:
        out.write(source.read())
    refused = [
        (entry(f"{session.data_dir}/none.parquet"), DataFileError, "is not there"),
        (entry(path, content_length=1), DataFileError, "its entry says 1"),
        (entry(whole), RequestRejectedError, "is not below the session's data_dir"),
        (entry(f"{session.data_dir}/../x"), RequestRejectedError, "not below the catalog's data"),
        (entry("s3://elsewhere/a"), RequestRejectedError, "not below the catalog's data root"),
        (entry("/etc/passwd"), RequestRejectedError, "not below the catalog's data root"),
    ]
    for wrong, kind, message in refused:
        with pytest.raises(kind, match=message):
            lake.client.commit(session=session, entries=[wrong])
    assert lake.client.catalog.read(**WHERE) == ROWS
    lake.client.commit(session=session, entries=[entry(path.replace("s3://", "s3a://"))])
    assert lake.client.catalog.plan(**WHERE).total_files == 2


def test_an_aborted_write_leaves_nothing_in_the_store(lake: Lake) -> None:
    write(lake)
    before = lake.stored()
    sink = Sink(TableRef("ns", "t"), lake.client, "add").open()
    sink.write(ROWS)
    assert len(lake.stored()) == len(before) + 1
    sink.abort("changed my mind")
    assert lake.stored() == before


def test_rows_in_a_call_are_written_and_shown(lake: Lake) -> None:
    lake.client.catalog.write_data(
        data={"id": [1], "v": ["a"]}, namespace="ns", table="inline", mode="create"
    )
    shown = lake.client.catalog.preview(namespace="ns", table="inline")
    assert shown.sample_rows == [{"id": 1, "v": "a"}]


def test_a_check_finds_what_is_missing_cut_or_damaged(lake: Lake) -> None:
    for mode in ("auto", "auto", "auto", "auto"):
        write(lake, mode=mode)
    assert check(lake.planner, deep=True).findings == ()
    missing, cut, damaged, _ = lake.client.catalog.plan(**WHERE).paths
    lake.storage.delete([missing])
    with lake.storage.open_input(cut) as opened:
        whole = opened.read()
    for path, body in ((cut, whole[:-1]), (damaged, b"\0" * len(whole))):
        with lake.storage.open_output(path, replace=True) as out:
            out.write(body)
    shallow = check(lake.planner).findings
    assert [f.partition(": ")[0] for f in shallow] == [missing, cut]
    deep = check(lake.planner, deep=True).findings
    assert [f.partition(": ")[0] for f in deep] == [missing, cut, damaged]


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * 10**9

    def __call__(self) -> int:
        return self.now_ns


def test_vacuum_deletes_what_nobody_needs_and_leaves_the_rest(
    tmp_path: Path, object_store: ObjectStore
) -> None:
    clock, root = Clock(), f"{object_store.bucket()}/lake"
    planner = EmbeddedPlanner(
        tmp_path / "catalog", data_root=DataRoot(root, object_store.settings), clock_ns=clock
    )
    client = Client(tmp_path / "catalog")
    client._transport._planner = planner  # type: ignore[attr-defined]  # a clock of ours
    lake = Lake(client, root, object_store.storage(root))
    write(lake, merge_keys=["id"])
    write(lake, mode="replace")
    client.catalog.write(ROWS, namespace="ns", table="purged", mode="create")
    client.catalog.drop_table(namespace="ns", table="purged", purge=True)
    with lake.storage.open_output(f"{root}/data/x/y/left-over.parquet") as out:
        out.write(b"1")
    with lake.storage.open_output(f"{root}/beside.parquet") as out:
        out.write(b"1")
    clock.now_ns += 3 * DAY_NS
    kept = client.catalog.plan(**WHERE).paths
    clock.now_ns += 3 * DAY_NS
    seen = vacuum(planner, keep_ns=DAY_NS, grace_ns=DAY_NS, dry_run=True)
    done = vacuum(planner, keep_ns=DAY_NS, grace_ns=DAY_NS)
    assert (seen.expired, seen.purged, seen.abandoned) == (
        done.expired,
        done.purged,
        done.abandoned,
    )
    assert (done.expired.files, done.purged.files, done.abandoned.files) == (2, 1, 1)
    assert done.failed == ()
    beside = f"{root}/beside.parquet"
    assert lake.stored() == sorted([*kept, *(f"{path}.keys" for path in kept), beside])
    assert check(planner, deep=True).findings == ()
    assert client.catalog.read(**WHERE).num_rows == 3


def test_a_backup_is_of_the_ledger_and_says_where_the_data_is(lake: Lake, tmp_path: Path) -> None:
    write(lake)
    with pytest.raises(CatalogRootError, match="copy it with the store's own means"):
        backup(lake.planner, tmp_path / "copy", data="copy")
    backup(lake.planner, tmp_path / "copy")
    assert Client(tmp_path / "copy").catalog.read(**WHERE) == ROWS


def test_transactions_read_what_they_wrote(lake: Lake) -> None:
    with lake.client.transaction():
        write(lake)
        assert lake.client.catalog.read(**WHERE) == ROWS
    assert lake.client.catalog.read(**WHERE) == ROWS


# --- what is told of keys, and to whom ------------------------------------------------------------


def test_no_key_is_in_the_ledger_a_pickle_or_a_repr(lake: Lake, tmp_path: Path) -> None:
    write(lake, merge_keys=["id"])
    session = lake.client.stage(**WHERE, mode="merge")
    plan = lake.client.catalog.plan(**WHERE)
    beat = lake.client.heartbeat(session=session)
    for held in (plan, session, beat, plan.storage, next(plan.groups())):
        assert SECRET.encode() not in pickle.dumps(held)
        assert SECRET not in repr(held)
    assert plan.credentials is None
    assert session.credentials is None
    lake.planner.close()
    with sqlite3.connect(tmp_path / "catalog" / "catalog.sqlite") as db:
        dump = "\n".join(db.iterdump())
    assert SECRET not in dump
    assert SECRET.encode().hex() not in dump.lower()


def test_a_process_that_receives_a_plan_asks_for_keys_of_its_own(lake: Lake) -> None:
    write(lake)
    plan = lake.client.catalog.plan(**WHERE)
    code = (
        "import pickle, sys; from io_core.execute import read_plan;"
        "print(read_plan(pickle.load(sys.stdin.buffer)).to_pylist())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=pickle.dumps(plan), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == str(ROWS.to_pylist())


@pytest.fixture
def guarded(tmp_path: Path, object_store: ObjectStore) -> Iterator[tuple[str, str]]:
    """A server that authenticates its callers, and the first user's token."""
    store = ("--data-root", object_store.bucket(), "--s3-endpoint", object_store.url)
    with served(tmp_path / "catalog", *store, "--auth", "on") as server:
        yield server.url, server.first_token()


def test_only_callers_who_may_read_get_keys_and_no_log_shows_them(
    guarded: tuple[str, str], tmp_path: Path
) -> None:
    url, token = guarded
    admin = Client(url, bearer_token=token)
    admin.catalog.write(ROWS, **WHERE, mode="create")
    admin.auth.create_user(user_id="r", role="READER", resource_type="table", resource_name="ns.t")
    reader = admin.auth.issue_token(user_id="r").token
    other = admin.auth.create_user(
        user_id="o",
        role="READER",
        resource_type="table",
        resource_name="ns.other",
        issue_token=True,
    )
    assert other.token is not None
    route = f"{url}/v1/namespaces/ns/tables/t/plan"

    def asked(token: str | None, accept: str = "application/json") -> requests.Response:
        headers = {"Accept": accept, **({"Authorization": f"Bearer {token}"} if token else {})}
        return requests.post(route, headers=headers, timeout=30)

    told = asked(reader)
    assert told.json()["credentials"]
    assert SECRET in told.text
    for refused in (asked(None), asked(other.token.token)):
        assert refused.status_code in (401, 403)
        assert SECRET not in refused.text
    assert SECRET.encode() not in asked(reader, "application/vnd.apache.arrow.stream").content
    assert Client(url, bearer_token=reader).catalog.read(**WHERE) == ROWS
    log = (tmp_path / "catalog-server.log").read_text()
    assert SECRET not in log


def test_plans_and_sessions_tell_of_stores_as_the_protocol_has_it(
    tmp_path: Path, object_store: ObjectStore
) -> None:
    root = object_store.bucket()
    store = ("--data-root", root, "--s3-endpoint", object_store.url, "--s3-region", "us-east-1")
    with served(tmp_path / "catalog", *store) as server:
        client = Client(server.url)
        client.catalog.write(ROWS, **WHERE, mode="create")
        base = f"{server.url}/v1/namespaces/ns/tables/t"
        plan = requests.post(f"{base}/plan", timeout=30).json()
        session = requests.post(
            f"{base}/write-sessions", json={"mode": "add", "format": "parquet"}, timeout=30
        ).json()
    (binding,) = plan["storage_bindings"].values()
    key = f"{binding['binding_id']}@{binding['binding_revision']}"
    assert binding["root"] == root
    assert binding["endpoint_url"] == object_store.url
    assert binding["path_style_access"] is True
    assert binding["credential_source"] == {"kind": "static"}
    for told in (plan["credentials"], session["credentials"]):
        assert {name: value for name, value in told[key].items() if value is not None} == {
            "type": "static",
            "access_key_id": KEYS["AWS_ACCESS_KEY_ID"],
            "secret_access_key": SECRET,
        }
    (file,) = plan["scan_tasks"][0]["files"]
    assert file["file_access_ref"] == {
        "binding_id": binding["binding_id"],
        "binding_revision": 1,
        "canonical_path": file["path"],
        "root_id": "data",
        "location_mode": "managed_relative",
    }
    assert f"{session['binding_id']}@{session['binding_revision']}" == key
    assert session["available_storage_bindings"] == plan["storage_bindings"]
    assert session["available_roots"]["data"]["root"] == root
    assert session["data_dir"].startswith(f"{root}/data/")


def test_local_catalogs_tell_of_no_store(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    client.catalog.write(ROWS, **WHERE)
    plan = client.catalog.plan(**WHERE)
    assert (
        json.loads(msgspec.json.encode(plan.header))
        .keys()
        .isdisjoint({"storage_bindings", "data_roots", "credentials"})
    )
    assert plan.all_files()[0].file_access_ref is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--s3-region", "r"], "options of a store need --data-root"),
        (["--data-root", "s3://bucket", "--s3-endpoint", "minio"], "is no S3 endpoint"),
        (["--data-root", "s3://bucket", "--s3-credentials", "hush"], "belong into the environment"),
        (["--data-root", "s3://bucket", "--s3-credentials", "sts:me"], "'me' is no role"),
        (["--data-root", "gs://b"], "data can be kept in s3:// and s3a://"),
    ],
)
def test_options_that_cannot_be_meant_end_the_server(
    tmp_path: Path, options: list[str], message: str
) -> None:
    command = [sys.executable, "-m", "planner_client.server", "--catalog-root", str(tmp_path / "c")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "hush" not in done.stderr
