"""Is a client what an adapter, a worker and a log can safely be given?"""

from __future__ import annotations

import copy
import os
import pickle
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from io_core.errors import (
    CatalogRootError,
    DeltaCATError,
    NotFoundError,
    PlannerUnavailableError,
    SchemaValidationError,
)
from io_core.model import TableRef, WriteSession
from io_core.scan import Planner, Scan
from planner_client import Client, connect
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "tok-0123456789abcdef"
URL = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("client") / "catalog") as found:
        yield found


def test_a_client_pickles_as_its_address_and_options(tmp_path: Path) -> None:
    remote = Client(
        URL, catalog="c", user_id="me", headers={"X-Team": "a"}, timeout=5, verify_ssl=False
    )
    embedded = Client(tmp_path / "catalog")
    for client in (remote, embedded):
        again = pickle.loads(pickle.dumps(client))
        assert again == client
        assert hash(again) == hash(client)
        assert repr(again) == repr(client) == f"Client({client.target!r})"
        assert copy.copy(client) == client
    assert remote != embedded
    assert remote != URL


def test_the_token_is_in_no_pickle_repr_or_error() -> None:
    client = Client(URL, bearer_token=TOKEN, timeout=1)
    with pytest.raises(PlannerUnavailableError) as caught:
        client.heartbeat(session=WriteSession("ws_1", 1, "OPEN", "ns", "t", "/nowhere"))
    shown = "".join(traceback.format_exception(caught.value))
    for text in (repr(client), str(client), shown, repr(caught.value.details)):
        assert TOKEN not in text
    assert TOKEN.encode() not in pickle.dumps(client)
    carried = Client(URL, headers={"authorization": f"Bearer {TOKEN}", "Cookie": TOKEN, "X": "1"})
    assert TOKEN.encode() not in pickle.dumps(carried)
    assert TOKEN.encode() not in pickle.dumps(Scan(TableRef("ns", "t"), client))


def test_a_client_goes_to_workers_and_works_there(tmp_path: Path, url: str) -> None:
    for client in (Client(tmp_path / "catalog"), Client(url)):
        assert isinstance(client, Planner)
        client.catalog.write(pa.table({"x": [1]}), namespace="ns", table="t")
        scan = pickle.loads(pickle.dumps(Scan(TableRef("ns", "t"), client)))
        assert scan.plan().total_records == 1


def test_a_client_of_a_relative_directory_pickles_to_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = Client("catalog")
    client.catalog.create_namespace(namespace="ns")
    pickled = pickle.dumps(client)
    monkeypatch.chdir("/")
    again: Client = pickle.loads(pickled)
    assert again.catalog.namespace_exists(namespace="ns")
    assert client.target == str(tmp_path / "catalog")


def test_a_client_that_arrives_opens_its_planner_when_asked_and_makes_no_catalog(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "catalog")
    pickled = pickle.dumps(client)
    client.close()
    (tmp_path / "catalog").rename(tmp_path / "moved")
    again: Client = pickle.loads(pickled)
    again.close()
    with pytest.raises(CatalogRootError, match="is not a catalog: no such directory"):
        again.catalog.list_namespaces()
    assert not (tmp_path / "catalog").exists()


@pytest.mark.parametrize("as_path", [str, Path, "file://{}".format])
def test_a_directory_is_named_in_any_way(tmp_path: Path, as_path: object) -> None:
    assert callable(as_path)
    client = Client(as_path(str(tmp_path / "catalog")))
    assert client.health().status == "ok"
    assert (tmp_path / "catalog" / "catalog.sqlite").exists()


@pytest.mark.parametrize("target", ["s3://bucket/catalog", "ftp://host", "postgres://x", ""])
def test_what_is_neither_a_url_nor_a_directory_is_refused(target: str) -> None:
    with pytest.raises(
        SchemaValidationError, match="is no planner: pass an http:// or https:// URL, or a dir"
    ):
        Client(target)


@pytest.mark.parametrize("target", ["localhost:8080", "planner.example.com:443/x", "10.0.0.1:80"])
def test_a_url_without_its_scheme_makes_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SchemaValidationError, match=f"write http://{target}, or ./{target} for"):
        Client(target)
    assert not list(tmp_path.iterdir())
    assert Client(f"./{target}").target == str(tmp_path / target)


def test_a_directory_may_be_named_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Client("~/lake").target == str(tmp_path / "lake")


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogRootError, match=r"/proc/lake cannot be made: .*; name a directory"):
        Client("/proc/lake")
    with pytest.raises(SchemaValidationError, match="is no planner"):
        Client(tmp_path / "lake\udcff")


def test_a_closed_client_opens_again(tmp_path: Path, url: str) -> None:
    for target in (tmp_path / "catalog", url):
        with Client(target) as client:
            client.health()
        assert client.health().status == "ok"
        client.close()
        client.close()


# --- connect --------------------------------------------------------------------------------------


def test_connect_takes_a_client_as_it_is(tmp_path: Path) -> None:
    client = Client(tmp_path / "catalog")
    assert connect(client) is client


def test_connect_takes_urls_and_catalog_directories(tmp_path: Path, url: str) -> None:
    Client(tmp_path / "catalog")
    for target in (url, tmp_path / "catalog", str(tmp_path / "catalog")):
        assert connect(target).health().status == "ok"


def test_connect_takes_the_environments_planner_when_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match=r"no planner: pass planner=.* or set DELTACAT_PLANNER"):
        connect()
    Client(tmp_path / "catalog")
    monkeypatch.setenv("DELTACAT_PLANNER", str(tmp_path / "catalog"))
    assert connect().target == str(tmp_path / "catalog")
    monkeypatch.setenv("DELTACAT_PLANNER", "")
    with pytest.raises(NotFoundError, match="no planner"):
        connect(None)


def test_connect_refuses_what_is_no_planner(tmp_path: Path) -> None:
    with pytest.raises(DeltaCATError, match="5 is no planner"):
        connect(5)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(CatalogRootError, match="no such directory"):
        connect(tmp_path / "absent")
    assert os.listdir(tmp_path) == []


def test_the_token_comes_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTACAT_TOKEN", TOKEN)
    client = Client(url)
    assert client.health().status == "ok"
    assert TOKEN not in repr(client)
    assert TOKEN.encode() not in pickle.dumps(client)
