"""Does a request take the ways that the environment, cookies and redirects ask for?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from io_core.errors import PlannerUnavailableError
from planner_client.protocol.catalogs import HEALTH, HealthRequest
from planner_client.transport import HttpTransport
from tests.answering import answering

if TYPE_CHECKING:
    from tests.answering import Answered

HEALTHY: Answered = (200, {}, b'{"status": "ok", "version": "9"}')


def asked(url: str, times: int = 1) -> HttpTransport:
    """A transport that made a call, or several."""
    transport = HttpTransport(url, headers={})
    for _ in range(times):
        assert transport.call(HEALTH, HealthRequest()).status == "ok"
    return transport


@pytest.mark.parametrize("path", ["", "/", "/planners/one", "/planners/one/", "/a%20b"])
def test_a_planner_below_a_path_is_asked_there(path: str) -> None:
    with answering(HEALTHY) as (url, seen):
        asked(url + path, times=2)
    assert [one[":path"] for one in seen] == [f"{path.rstrip('/')}/health"] * 2


def test_a_proxy_that_the_environment_names_is_asked_for_the_whole_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering(HEALTHY) as (proxy, seen):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        asked("http://planner.test:8080", times=2)
    assert [one[":path"] for one in seen] == ["http://planner.test:8080/health"] * 2


def test_no_proxy_stands_before_what_the_environment_excepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering(HEALTHY) as (url, seen):
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        asked(url)
    assert [one[":path"] for one in seen] == ["/health"]


def test_a_cookie_comes_back_to_who_set_it_and_to_nobody_else() -> None:
    status, _, body = HEALTHY
    with (
        answering((status, {"Set-Cookie": "lane=7"}, body), HEALTHY) as (url, seen),
        answering(HEALTHY) as (other, elsewhere),
    ):
        asked(url, times=3)
        asked(other)
    assert [one.get("Cookie") for one in seen] == [None, "lane=7", "lane=7"]
    assert [one.get("Cookie") for one in elsewhere] == [None]


def test_a_redirect_to_another_port_is_answered_by_that_port() -> None:
    with (
        answering(HEALTHY) as (there, arrived),
        answering((307, {"Location": f"{there}/health"}, b""), HEALTHY) as (url, seen),
    ):
        asked(url, times=2)
    # Followed once, and not remembered.
    assert (len(arrived), len(seen)) == (1, 2)


def test_redirects_without_end_are_an_error_that_says_so() -> None:
    with (
        answering((307, {"Location": "/health"}, b"")) as (url, _),
        pytest.raises(PlannerUnavailableError, match="TooManyRedirects"),
    ):
        asked(url)


def test_a_transport_that_was_closed_goes_on_with_a_new_connection() -> None:
    with answering(HEALTHY) as (url, seen):
        transport = asked(url)
        transport.close()
        assert transport.call(HEALTH, HealthRequest()).status == "ok"
    assert len(seen) == 2
