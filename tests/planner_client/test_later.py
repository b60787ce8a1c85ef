"""Do calls that are not there yet say so, each by its name?"""

from __future__ import annotations

import pickle

import pytest

from io_core.errors import UnsupportedError
from planner_client import Client
from planner_client.later import LATER

CALLS = [(area, name) for area, names in LATER.items() for name in sorted(names)]
CLIENT = Client("http://127.0.0.1:9")


@pytest.mark.parametrize(("area", "name"), CALLS, ids=".".join)
def test_a_later_call_is_refused_by_its_name(area: str, name: str) -> None:
    call = getattr(getattr(CLIENT, area), name)
    with pytest.raises(UnsupportedError, match=f"client.{area}.{name} is not there yet"):
        call("anything", at="all")


def test_a_call_that_never_was_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="did you mean"):
        CLIENT.jobs.clam  # noqa: B018
    assert not hasattr(CLIENT.jobs, "__len__")
    assert pickle.loads(pickle.dumps(CLIENT)) == CLIENT
