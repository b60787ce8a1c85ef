"""Do calls that are not there yet say so, each by its name?"""

from __future__ import annotations

import pickle

import pytest

from io_core.errors import UnsupportedError
from planner_client import Client
from planner_client.later import LATER

CALLS = [(area, name) for area, names in LATER.items() for name in sorted(names)]
CLIENT = Client("http://127.0.0.1:9")

# Calls of later areas that the published contract names.
NAMED = {
    "catalog": "place unplace replication_status compaction_status langolier_cleanup "
    "get_retention_policy",
    "jobs": "claim start_heartbeat complete fail heartbeat wait get_progress submit_compaction "
    "submit_langolier submit_retention submit_gc_scan submit_gc_full submit_gc_outbox "
    "submit_gc_archive submit_gc_purge submit_gc_restore recover_pending_delete "
    "audit_pending_delete get_gc_stats list_gc_exempt submit_janitor submit_preprocessing_job",
    "pipelines": "create status",
    "publications": "create_crawler run update",
    "subscriptions": "get_watermark pause redrive resume run trigger update",
    "transforms": "create run trigger update",
}


def test_the_list_holds_what_the_contract_names() -> None:
    missing = {area: set(names.split()) - LATER[area] for area, names in NAMED.items()}
    assert not any(missing.values()), missing


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
