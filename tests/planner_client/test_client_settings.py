"""Is a client set to what its arguments, else the environment say, and is it patient within bounds?"""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests

from deltacat_sources.polars import scan_deltacat, write_deltacat
from io_core.errors import DeltaCATError, NotFoundError, PlannerUnavailableError
from planner_client import Client, connect
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.transport import HttpTransport
from tests.answering import answering

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:9"
HEALTHY: tuple[int, dict[str, str], bytes] = (200, {}, b'{"status": "ok", "version": "9"}')
BUSY = (503, {"Retry-After": "25"}, b"")


# --- settings -------------------------------------------------------------------------------------


def test_every_argument_is_kept() -> None:
    client = Client(
        URL,
        catalog="c",
        user_id="u",
        headers={"x-trace-id": "1"},
        verify_ssl="/etc/ssl/ca.pem",
        follow_redirects=False,
        timeout=60,
        worker_id="w-1",
        worker_tags=["gpu", "highmem"],
    )
    held = client.settings
    assert (held.target, held.catalog, held.user_id, held.timeout) == (URL, "c", "u", 60)
    assert (held.verify_ssl, held.follow_redirects) == ("/etc/ssl/ca.pem", False)
    assert (client.worker_id, held.worker_tags) == ("w-1", ("gpu", "highmem"))
    assert pickle.loads(pickle.dumps(client)).settings == held


SECRET_HEADERS = {"Authorization": "s3cret", "X-Api-Key": "s3cret", "x-trace-id": "run-12345"}


def test_secrets_stand_in_no_repr_and_no_pickle() -> None:
    client = Client(URL, bearer_token="s3cret", headers=SECRET_HEADERS)
    for part in (client, client.settings, client.catalog, client.auth, client.jobs):
        assert "s3cret" not in repr(part)
        assert b"s3cret" not in pickle.dumps(client)
    assert "run-12345" in repr(client.settings)
    received = pickle.loads(pickle.dumps(client))
    assert received.settings.headers == {"x-trace-id": "run-12345"}


def test_the_parts_of_a_client_pickle_as_it_does_and_a_transaction_says_why_not(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "c")
    for part in (client.catalog, client.auth, client.jobs):
        assert type(pickle.loads(pickle.dumps(part))) is type(part)
    received = pickle.loads(pickle.dumps(client.auth))
    assert received.whoami() == client.auth.whoami()
    with pytest.raises(TypeError, match="get_transaction"):
        pickle.dumps(client.transaction())


def test_what_is_left_out_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PLANNER": URL,
        "CATALOG": "c",
        "USER": "u",
        "TIMEOUT": "2.5",
        "VERIFY_SSL": "false",
        "WORKER_ID": "w",
        "WORKER_TAGS": "a, b",
    }.items():
        monkeypatch.setenv(f"DELTACAT_{name}", value)
    client = Client()
    held = client.settings
    assert (held.target, held.catalog, held.user_id, held.timeout) == (URL, "c", "u", 2.5)
    assert (held.verify_ssl, client.worker_id, held.worker_tags) == (False, "w", ("a", "b"))
    other = Client(
        "https://other", catalog="d", timeout=1, verify_ssl=True, worker_tags=[]
    ).settings
    assert (other.target, other.catalog, other.timeout) == ("https://other", "d", 1)
    assert (other.verify_ssl, other.worker_tags) == (True, ())


def test_a_certificates_path_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTACAT_VERIFY_SSL", "/etc/ssl/ca.pem")
    assert Client(URL).settings.verify_ssl == "/etc/ssl/ca.pem"


def test_a_client_of_nowhere_says_what_to_pass() -> None:
    with pytest.raises(NotFoundError, match="DELTACAT_PLANNER"):
        Client()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Client(URL, timeout=timeout)


def test_a_worker_has_a_name_of_its_process_by_default() -> None:
    assert Client(URL).worker_id == Client(URL).worker_id != ""


def test_who_calls_is_said_with_every_request() -> None:
    with answering(HEALTHY) as (url, seen), Client(url, user_id="me", headers={"x-t": "1"}) as one:
        one.health()
    assert (seen[0]["x-deltacat-user"], seen[0]["x-t"]) == ("me", "1")
    assert seen[0]["User-Agent"].startswith("deltacat-sources/")


# --- life -----------------------------------------------------------------------------------------


def test_a_client_lives_in_an_async_block_and_calls_run_in_a_thread(tmp_path: Path) -> None:
    threads: list[int] = []

    def spy(client: Client) -> list[str]:
        threads.append(threading.get_ident())
        return [found.name for found in client.catalog.list_namespaces()]

    async def work() -> list[str]:
        async with Client(tmp_path / "c") as client:
            with client.transaction():
                # The block around a call counts in its thread too.
                await client.run(client.catalog.create_namespace, namespace="a")
                assert await client.run(spy, client) == ["a"]
            return await client.run(spy, client)

    assert asyncio.run(work()) == ["a"]
    assert threading.get_ident() not in threads


def test_closing_closes_the_connections_of_all_calls_white_box() -> None:
    with answering(HEALTHY) as (url, _):
        client = Client(url)
        transport = client._transport
        assert isinstance(transport, HttpTransport)
        client.health()
        with transport._connected():
            # That one is in use: the call makes another.
            client.health()
        pools = [
            adapter.poolmanager.pools
            for session in transport._sessions
            for adapter in session.adapters.values()
            if isinstance(adapter, requests.adapters.HTTPAdapter)
        ]
        assert sum(len(pool) for pool in pools) == 2
        asyncio.run(client.aclose())
        assert sum(len(pool) for pool in pools) == 0
        client.health()
        client.close()


# --- patience -------------------------------------------------------------------------------------


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def transport(url: str, clock: Clock, **options: Any) -> HttpTransport:
    return HttpTransport(url, headers={}, sleep=clock.sleep, clock=clock, **options)


def test_a_planner_that_stays_busy_is_asked_within_a_minute() -> None:
    clock = Clock()
    with answering(BUSY) as (url, seen), pytest.raises(DeltaCATError) as caught:
        transport(url, clock).call(HEALTH, HealthRequest())
    # 25 s twice; a third wait would end after a minute.
    assert (len(seen), clock.now) == (3, 50)
    assert caught.value.status == 503


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_planner_that_is_busy_for_now_is_asked_again(status: int) -> None:
    clock = Clock()
    with answering((status, {}, b""), HEALTHY) as (url, seen):
        assert transport(url, clock).call(HEALTH, HealthRequest()).status == "ok"
    assert len(seen) == 2


def test_a_time_to_come_back_is_waited_for() -> None:
    clock = Clock()
    busy = (503, {"Retry-After": formatdate(2**33, usegmt=True)}, b"")
    with answering(busy) as (url, seen), pytest.raises(DeltaCATError) as caught:
        transport(url, clock).call(HEALTH, HealthRequest())
    # So far away that it is not waited for at all.
    assert len(seen) == 1
    assert getattr(caught.value, "retry_after_s", 0) > 2**30


@pytest.mark.parametrize("text", ["soon", "", "-5", "1e3"])
def test_a_time_that_cannot_be_read_is_no_time(text: str) -> None:
    clock = Clock()
    with answering((503, {"Retry-After": text}, b""), HEALTHY) as (url, _):
        assert transport(url, clock).call(HEALTH, HealthRequest()).status == "ok"
    assert clock.now <= 1


def test_a_request_has_its_id_in_every_error() -> None:
    with answering((400, {}, b"{}"), (200, {}, b"garbled")) as (url, seen):
        client = Client(url)
        for _ in range(2):
            with pytest.raises(DeltaCATError) as caught:
                client.health()
            assert caught.value.request_id == seen[-1]["x-request-id"]
            assert any(seen[-1]["x-request-id"] in note for note in caught.value.__notes__)
    with pytest.raises(PlannerUnavailableError) as lost:
        transport(URL, Clock()).call(HEALTH, HealthRequest())
    assert lost.value.request_id


def test_a_redirect_is_followed_unless_it_must_not_be() -> None:
    with (
        answering(HEALTHY) as (there, seen),
        answering((307, {"Location": there}, b"")) as (url, _),
    ):
        assert Client(url, bearer_token="s3cret").health().status == "ok"
        # Whoever that is, the token was not meant for it.
        assert "Authorization" not in seen[0]
        with pytest.raises(DeltaCATError, match="redirects to"):
            Client(url, follow_redirects=False).health()
        assert len(seen) == 1


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"5", b"\xff", b'{"error": {"code": 5}}', b'{"namespace": 5}', b"[" * 100_000],
    ids=lambda body: repr(body[:9]),
)
def test_an_answer_that_is_none_is_an_error_of_this_project(status: int, body: bytes) -> None:
    with answering((status, {}, body)) as (url, _), Client(url) as client:
        for call in (client.catalog.list_namespaces, client.transaction):
            with pytest.raises(DeltaCATError) as caught:
                call()
            assert caught.value.request_id


@pytest.mark.parametrize("url", ["http://", "http://a b", "http://[::1", "http://127.0.0.1:port"])
def test_what_is_no_url_is_named_at_once(url: str) -> None:
    with pytest.raises(DeltaCATError, match=re.escape(url)):
        Client(url).health()


def test_a_call_that_a_redirect_would_turn_into_another_is_not_taken_for_made() -> None:
    made: tuple[int, dict[str, str], bytes] = (200, {}, b'{"namespace": "a", "created": true}')
    with (
        answering(made) as (there, _),
        answering((302, {"Location": there}, b"")) as (url, _),
        pytest.raises(DeltaCATError, match="cannot be made as it is"),
    ):
        Client(url).catalog.create_namespace(namespace="a")


def test_a_netrc_file_takes_no_token_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert requests.utils.get_netrc_auth("http://127.0.0.1") == ("a", "b")
    with answering(HEALTHY) as (url, seen):
        Client(url, bearer_token="t").health()
    assert seen[0]["Authorization"] == "Bearer t"


# --- engines in a block ---------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["not", "by its directory", "as the client"])
def test_engines_read_and_write_in_the_transaction_around_them(tmp_path: Path, named: str) -> None:
    import polars as pl

    client = Client(tmp_path / "c")
    client.catalog.write(pa.table({"x": [1]}), namespace="n", table="t")
    planner: Any = {"not": None, "by its directory": client.target, "as the client": client}[named]
    with client.transaction():
        write_deltacat(pl.DataFrame({"x": [2]}), "n.t", planner=planner)
        assert scan_deltacat("n.t", planner=planner).collect()["x"].to_list() == [1, 2]
        # Nobody else sees it yet.
        outside = Client(client.target)
        assert outside.catalog.read(namespace="n", table="t")["x"].to_pylist() == [1]
    assert scan_deltacat("n.t", planner=client).collect()["x"].to_list() == [1, 2]


def test_another_planner_is_none_of_the_blocks(tmp_path: Path) -> None:
    client, other = Client(tmp_path / "a"), Client(tmp_path / "b")
    with client.transaction():
        assert connect(tmp_path / "b") is not client
        assert connect(other) is other
        assert connect() is client
