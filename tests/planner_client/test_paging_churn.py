"""Do the pages of one plan belong together, while commits replace the files that they list?"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests

from io_core.errors import RequestRejectedError
from io_core.execute import read_plan
from planner_client import Client
from planner_client.catalog import Catalog
from planner_client.protocol.plans import PLAN, PlanRequest
from planner_client.server.planner import EmbeddedPlanner
from planner_client.server.vacuum import vacuum
from planner_client.transport import InProcessTransport
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from io_core.plan import ReadPlan

FILES = 24
PAGE = 5
HOUR_NS = 3600 * 10**9
SCHEME = {"keys": [{"key": ["p"]}]}
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    root = tmp_path_factory.mktemp("paging") / "catalog"
    with serving(root) as url:
        yield str(root), url


@pytest.fixture(params=["embedded", "http"])
def client(request: pytest.FixtureRequest, served: tuple[str, str]) -> Client:
    return Client(served[request.param == "http"])


@pytest.fixture
def where(client: Client) -> dict[str, Any]:
    """A table of a partition and a file for each number."""
    place: dict[str, Any] = {"namespace": "ns", "table": f"t{next(_NUMBERS)}"}
    client.catalog.write(numbers(0), **place, partition_scheme=SCHEME)
    return place


def numbers(version: int) -> pa.Table:
    return pa.table({"x": list(range(FILES)), "p": list(range(FILES)), "v": [version] * FILES})


class Churn:
    """Commits that replace what a page that was handed out lists, and what later ones will."""

    def __init__(self, client: Client, where: dict[str, Any]) -> None:
        self._client = client
        self._where = where
        self._versions = itertools.count(1)

    def __call__(self) -> None:
        version = next(self._versions)
        rows = numbers(version)
        mode: Any = "replace" if version % 3 == 0 else "replace_partition"
        half = slice(0, FILES // 2) if version % 2 else slice(FILES // 2, FILES)
        chosen = rows if mode == "replace" else rows.slice(half.start, half.stop - half.start)
        self._client.catalog.write(chosen, **self._where, mode=mode)


def by_token(client: Client, where: dict[str, Any], churn: Callable[[], None]) -> list[ReadPlan]:
    """All pages, the later ones by the first one's token."""
    found = [client.catalog.plan(**where, limit=PAGE)]
    while (offset := found[-1].header.next_file_offset) is not None:
        churn()
        token = found[0].header.plan_token
        found.append(client.catalog.plan(**where, limit=PAGE, offset=offset, plan_token=token))
    return found


def by_offset(client: Client, where: dict[str, Any], churn: Callable[[], None]) -> list[ReadPlan]:
    """All pages, as clients ask for them that know of no token."""
    found = [client.catalog.plan(**where, limit=PAGE)]
    while (offset := found[-1].header.next_file_offset) is not None:
        churn()
        found.append(client.catalog.plan(**where, limit=PAGE, offset=offset))
    return found


def check_pages(pages: list[ReadPlan], version: int = 0) -> None:
    """No file skipped, none twice, all of one snapshot, all of it readable."""
    assert len(pages) == -(-FILES // PAGE)
    listed = [path for page in pages for path in page.paths]
    assert len(listed) == len(set(listed)) == FILES
    assert {page.total_files for page in pages} == {FILES}
    assert len({page.snapshot for page in pages}) == 1
    assert len({page.snapshot_id for page in pages}) == 1
    read = pa.concat_tables([read_plan(page) for page in pages])
    assert sorted(read.column("x").to_pylist()) == list(range(FILES))
    assert set(read.column("v").to_pylist()) == {version}


@pytest.mark.parametrize("ask", [by_token, by_offset])
def test_pages_under_churn_skip_no_file_and_list_none_twice(
    client: Client,
    where: dict[str, Any],
    ask: Callable[[Client, dict[str, Any], Callable[[], None]], list[ReadPlan]],
) -> None:
    other = Client(client.target)
    check_pages(ask(client, where, Churn(other, where)))


def test_pages_as_json_under_churn_skip_no_file_and_list_none_twice(
    served: tuple[str, str],
) -> None:
    root, url = served
    client = Client(root)
    where: dict[str, Any] = {"namespace": "ns", "table": f"t{next(_NUMBERS)}"}
    client.catalog.write(numbers(0), **where, partition_scheme=SCHEME)
    churn = Churn(client, where)
    address = f"{url}/v1/namespaces/ns/tables/{where['table']}/plan"
    pages: list[dict[str, Any]] = []
    for offset in range(0, FILES, PAGE):
        asked = {"max_files": str(PAGE), "file_offset": str(offset)}
        answer = requests.post(address, params=asked, timeout=30)
        assert answer.headers["content-type"].startswith("application/json")
        pages.append(answer.json())
        churn()
    assert pages[-1].get("next_file_offset") is None
    listed = [f["path"] for page in pages for task in page["scan_tasks"] for f in task["files"]]
    assert len(listed) == len(set(listed)) == FILES
    assert len({page["snapshot"] for page in pages}) == 1
    assert len({page["snapshot_id"] for page in pages}) == 1


def test_pages_that_many_clients_ask_for_while_others_commit_belong_together(
    client: Client, where: dict[str, Any]
) -> None:
    stop = threading.Event()
    churn = Churn(Client(client.target), where)
    failed: list[BaseException] = []

    def write_on() -> None:
        while not stop.is_set():
            churn()

    def page() -> None:
        try:
            for _ in range(3):
                pages = by_token(Client(client.target), where, lambda: None)
                listed = [path for each in pages for path in each.paths]
                assert len(listed) == len(set(listed)) == FILES
                assert len({each.snapshot_id for each in pages}) == 1
        except BaseException as error:  # noqa: BLE001  # a thread's failure is the test's
            failed.append(error)

    writer = threading.Thread(target=write_on)
    readers = [threading.Thread(target=page) for _ in range(3)]
    for thread in (writer, *readers):
        thread.start()
    for thread in readers:
        thread.join(timeout=120)
    stop.set()
    writer.join(timeout=120)
    assert failed == []


def test_a_page_never_splits_what_merges_and_churn_does_not_either(client: Client) -> None:
    where: dict[str, Any] = {"namespace": "ns", "table": f"t{next(_NUMBERS)}"}
    rows = pa.table({"x": [1, 2, 3], "p": [0, 1, 2]})
    for _ in range(4):
        # Four files in each partition, all of the same keys.
        client.catalog.write(rows, **where, merge_keys=["x"], partition_scheme=SCHEME)
    pages = [client.catalog.plan(**where, limit=2)]
    while (offset := pages[-1].header.next_file_offset) is not None:
        client.catalog.write(rows, **where)
        token = pages[0].header.plan_token
        pages.append(client.catalog.plan(**where, limit=2, offset=offset, plan_token=token))
    assert [len(page.paths) for page in pages] == [4, 4, 4]
    assert [len(set(page.column("partition_id"))) for page in pages] == [1, 1, 1]
    assert len({page.snapshot_id for page in pages}) == 1


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"filter_predicate": {"gt": ["x", 3]}},
        {"partition_filter": [{"partition_values": [1]}]},
        {"since": 0},
    ],
)
def test_a_token_is_refused_for_another_question(
    client: Client, where: dict[str, Any], other: dict[str, Any]
) -> None:
    token = client.catalog.plan(**where, limit=PAGE).header.plan_token
    with pytest.raises(RequestRejectedError, match="another predicate, table or filter") as caught:
        client.catalog.plan(**where, limit=PAGE, offset=PAGE, plan_token=token, **other)
    assert (caught.value.code, caught.value.status) == ("plan_token_mismatch", 400)


def test_a_token_is_refused_for_another_table(client: Client, where: dict[str, Any]) -> None:
    token = client.catalog.plan(**where, limit=PAGE).header.plan_token
    other: dict[str, Any] = {"namespace": "ns", "table": f"t{next(_NUMBERS)}"}
    client.catalog.write(numbers(0), **other)
    with pytest.raises(RequestRejectedError, match="another predicate, table or filter"):
        client.catalog.plan(**other, plan_token=token)


def test_a_token_says_nothing_of_pages_columns_and_statistics(
    client: Client, where: dict[str, Any]
) -> None:
    first = client.catalog.plan(**where, limit=PAGE)
    token = first.header.plan_token
    for more in ({"limit": 1}, {"columns": ["x"]}, {"include_stats": True}, {"limit": 99}):
        again = client.catalog.plan(**where, plan_token=token, **more)
        assert again.snapshot_id == first.snapshot_id


@pytest.mark.parametrize("token", ["", "no token", "AAAA", "ß"])
def test_what_is_no_token_is_refused(client: Client, where: dict[str, Any], token: str) -> None:
    with pytest.raises(RequestRejectedError, match="is no plan_token") as caught:
        client.catalog.plan(**where, plan_token=token)
    assert caught.value.status == 400


# --- when the snapshot has gone -------------------------------------------------------------------


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 2 * 10**18

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns


def test_a_page_of_a_snapshot_that_vacuum_took_is_gone(tmp_path: Path) -> None:
    clock = Clock()
    planner = EmbeddedPlanner(tmp_path / "catalog", clock_ns=clock)
    catalog = Catalog(InProcessTransport(planner), None)
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}
    catalog.write(numbers(0), **where, partition_scheme=SCHEME)
    first = catalog.plan(**where, limit=PAGE)
    token = first.header.plan_token
    for version in (1, 2):
        catalog.write(numbers(version), **where, mode="replace")
    # As long as it is leased its pages are there, whatever vacuum does.
    assert first.header.expires_at is not None
    assert first.header.expires_at > clock.now_ns
    vacuum(planner, keep_ns=0, grace_ns=0)
    second = catalog.plan(**where, limit=PAGE, offset=PAGE, plan_token=token)
    assert read_plan(second).column("v").to_pylist() == [0] * PAGE
    clock.now_ns += 3 * HOUR_NS
    vacuum(planner, keep_ns=0, grace_ns=0)
    for pin in ({"plan_token": token}, {"snapshot": first.snapshot}):
        with pytest.raises(RequestRejectedError, match="has expired") as caught:
            planner.call(PLAN, PlanRequest(**where, max_files=PAGE, file_offset=PAGE, **pin))
        assert (caught.value.code, caught.value.status) == ("snapshot_expired", 410)
    check_pages([catalog.plan(**where, limit=PAGE, offset=o) for o in range(0, FILES, PAGE)], 2)


def test_an_old_clients_next_page_is_of_its_first_ones_snapshot_for_ten_minutes(
    tmp_path: Path,
) -> None:
    clock = Clock()
    catalog = Catalog(
        InProcessTransport(EmbeddedPlanner(tmp_path / "catalog", clock_ns=clock)), None
    )
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}
    catalog.write(numbers(0), **where, partition_scheme=SCHEME)
    first = catalog.plan(**where, limit=PAGE)
    catalog.write(numbers(1), **where, mode="replace")
    clock.now_ns += 9 * 60 * 10**9
    assert catalog.plan(**where, limit=PAGE, offset=PAGE).snapshot == first.snapshot
    # A first page is of now.
    assert catalog.plan(**where, limit=PAGE, offset=0).snapshot != first.snapshot
