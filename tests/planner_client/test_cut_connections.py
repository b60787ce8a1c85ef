"""What is known of a write whose connection is cut, before, in and after each of its requests?

Nothing is committed twice, and no outcome is guessed: a call that returns was committed; one that
raises was not, or its error says how to ask.
"""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from io_core.errors import DeltaCATError, PlannerUnavailableError
from io_core.sink import write_files
from planner_client import Client
from planner_client.transport import HttpTransport
from tests.cutting import POINTS, Cut, cutting
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cutting import Point

ROWS = pa.table({"id": [1, 2], "v": ["a", "b"]})
NUMBERS = itertools.count()
ATTEMPTS = 4
# Where ROWS lie as a file, for as long as the module's planner runs.
FILES: dict[str, str] = {}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cut")
    FILES["rows"] = str(folder / "rows.parquet")
    pq.write_table(ROWS, FILES["rows"])
    with serving(folder / "catalog") as found:
        yield found


@pytest.fixture(scope="module")
def cut(url: str) -> Iterator[Cut]:
    with cutting(url) as found:
        yield found


@pytest.fixture
def client(cut: Cut) -> Client:
    """Goes through the proxy, and does not wait between attempts."""
    found = Client(cut.url)
    transport = found._transport
    assert isinstance(transport, HttpTransport)
    transport._sleep = lambda seconds: None
    return found


# --- what is tried --------------------------------------------------------------------------------


def write(client: Client, where: dict[str, Any]) -> None:
    client.catalog.write(ROWS, **where, mode="add")


def write_by_polars(client: Client, where: dict[str, Any]) -> None:
    client.catalog.write(pl.DataFrame(ROWS), **where, mode="add")


def write_in_transaction(client: Client, where: dict[str, Any]) -> None:
    with client.transaction():
        client.catalog.write(ROWS.slice(0, 1), **where, mode="add")
        client.catalog.write(ROWS.slice(1), **where, mode="add")


def commit_by_hand(client: Client, where: dict[str, Any]) -> None:
    with client.catalog.stage(**where, mode="add") as session:
        entries = write_files(session, ROWS, 10)
        session.heartbeat()
        session.commit(entries)


def add_files(client: Client, where: dict[str, Any]) -> None:
    client.catalog.add_files(FILES["rows"], **where, mode="add")


def update(client: Client, where: dict[str, Any]) -> None:
    client.catalog.write(pa.table({"id": [0], "v": ["new"]}), **where, update_columns="v")


def delete_keys(client: Client, where: dict[str, Any]) -> None:
    client.catalog.delete(predicate="id = 0", **where)


def replace_rows(client: Client, where: dict[str, Any]) -> None:
    client.catalog.overwrite(ROWS, predicate="id >= 0", **where)


def write_inline(client: Client, where: dict[str, Any]) -> None:
    client.catalog.write_data(**where, data=ROWS.to_pydict(), mode="add")


def abort(client: Client, where: dict[str, Any]) -> None:
    client.catalog.stage(**where, mode="add").abort()


WRITES: list[Callable[[Client, dict[str, Any]], None]] = [
    write,
    write_in_transaction,
    commit_by_hand,
    add_files,
    replace_rows,
    update,
    delete_keys,
]
# What they leave of a table that had the row 0; others add two rows to it.
LEFT: dict[Any, list[Any]] = {
    replace_rows: [1, 2],
    update: ["new"],
    delete_keys: [],
}
KEYED = {update, delete_keys}


def fresh(url: str, trial: object = None) -> dict[str, Any]:
    """A table with one row, made past the proxy."""
    where: dict[str, Any] = {"namespace": "ns", "table": f"t{next(NUMBERS)}"}
    keys = "id" if trial in KEYED else None
    Client(url).catalog.write(pa.table({"id": [0], "v": ["old"]}), **where, merge_keys=keys)
    return where


def rows(url: str, where: dict[str, Any], trial: object = None) -> list[Any]:
    column = "v" if trial is update else "id"
    found: list[Any] = Client(url).catalog.read(**where).column(column).to_pylist()
    return sorted(found)


def before_and_after(trial: object) -> tuple[list[Any], list[Any]]:
    return ["old"] if trial is update else [0], LEFT.get(trial, [0, 1, 2])


def requests_of(trial: Any, client: Client, cut: Cut, url: str) -> int:
    """How many requests a trial makes when nothing is cut."""
    where = fresh(url, trial)
    cut.at(None, 0, "before")
    trial(client, where)
    assert rows(url, where, trial) in before_and_after(trial)
    return len(cut.asked)


# --- the trials -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", [*WRITES, write_by_polars, write_inline])
@pytest.mark.parametrize("point", POINTS)
def test_a_connection_that_breaks_once_is_made_again_and_the_write_happens_once(
    client: Client, cut: Cut, url: str, trial: Any, point: Point
) -> None:
    for number in range(requests_of(trial, client, cut, url)):
        where = fresh(url, trial)
        cut.at(number, 1, point)
        trial(client, where)
        assert rows(url, where, trial) == before_and_after(trial)[1], cut.asked


@pytest.mark.parametrize("trial", WRITES)
@pytest.mark.parametrize("point", POINTS)
def test_of_a_request_that_never_gets_an_answer_it_is_found_out_what_became(
    client: Client, cut: Cut, url: str, trial: Any, point: Point
) -> None:
    for number in range(requests_of(trial, client, cut, url)):
        where = fresh(url, trial)
        cut.at(number, 10 * ATTEMPTS, point, alike=True)
        outcome = attempted(trial, client, where)
        assert_told(outcome, trial, url, where, cut)


@pytest.mark.parametrize("trial", WRITES)
@pytest.mark.parametrize("point", POINTS)
def test_where_the_planner_stays_away_the_error_says_how_to_ask(
    client: Client, cut: Cut, url: str, trial: Any, point: Point
) -> None:
    for number in range(requests_of(trial, client, cut, url)):
        where = fresh(url, trial)
        cut.at(number, 10**6, point)
        outcome = attempted(trial, client, where)
        assert isinstance(outcome, PlannerUnavailableError)
        assert_told(outcome, trial, url, where, cut)


def attempted(trial: Any, client: Client, where: dict[str, Any]) -> DeltaCATError | None:
    try:
        trial(client, where)
    except DeltaCATError as error:
        return error
    return None


def assert_told(
    outcome: DeltaCATError | None, trial: object, url: str, where: dict[str, Any], cut: Cut
) -> None:
    """What a call says of itself is so."""
    none, all_of_them = before_and_after(trial)
    found = rows(url, where, trial)
    if outcome is None:
        assert found == all_of_them, cut.asked
        return
    assert isinstance(outcome, PlannerUnavailableError)
    told = "\n".join(outcome.__notes__)
    catalog = Client(url).catalog
    known = [
        catalog.get_write_session(name).status
        for name in re.findall(r"get_write_session\('(\w+)'\)", told)
    ]
    known += [
        catalog.get_transaction(name).status
        for name in re.findall(r"get_transaction\('(\w+)'\)", told)
    ]
    assert found == (all_of_them if "COMMITTED" in known else none), (cut.asked, told)


@pytest.mark.parametrize("point", POINTS)
def test_rows_in_a_call_are_asked_for_by_their_operation(
    client: Client, cut: Cut, url: str, point: Point
) -> None:
    where = fresh(url)
    cut.at(0, 10**6, point)
    with pytest.raises(PlannerUnavailableError) as caught:
        write_inline(client, where)
    (operation,) = re.findall(r"operation_id='(\w+)'", "\n".join(caught.value.__notes__))
    again: dict[str, Any] = {**where, "data": ROWS.to_pydict(), "mode": "add"}
    for _ in range(2):
        done = Client(url).catalog.write_data(**again, operation_id=operation)
        assert done.records == 2
    assert rows(url, where) == [0, 1, 2]


def test_a_handle_asks_by_being_told_again(client: Client, cut: Cut, url: str) -> None:
    for point in POINTS:
        where = fresh(url)
        cut.at(None, 0, point)
        session = client.catalog.stage(**where, mode="add")
        entries = write_files(session, ROWS, 10)
        cut.at(0, 10**6, point)
        with pytest.raises(PlannerUnavailableError):
            session.commit(entries)
        cut.at(None, 0, point)
        assert session.commit(entries).total_records == 2
        assert rows(url, where) == [0, 1, 2]
        transaction = client.transaction()
        client.catalog.write(ROWS, **where, mode="add", transaction=transaction)
        cut.at(0, 10**6, point)
        with pytest.raises(PlannerUnavailableError):
            transaction.commit()
        cut.at(None, 0, point)
        assert transaction.commit().status == "COMMITTED"
        assert rows(url, where) == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("point", POINTS)
def test_an_abort_happens_however_its_connection_breaks(
    client: Client, cut: Cut, url: str, point: Point
) -> None:
    for number in range(requests_of(abort, client, cut, url)):
        where = fresh(url)
        cut.at(number, 1, point)
        abort(client, where)
        assert rows(url, where) == [0]


# --- Ctrl-C ---------------------------------------------------------------------------------------

STREAMING = """
import sys
import pyarrow as pa
from planner_client import Client
schema = pa.schema([("id", pa.int64())])

def batches():
    for i in range(5):
        yield pa.record_batch({"id": [i]})
    print("written", flush=True)
    sys.stdin.read()

reader = pa.RecordBatchReader.from_batches(schema, batches())
client = Client(sys.argv[1])
if sys.argv[2] == "transaction":
    with client.transaction():
        client.catalog.write(reader, namespace="ns", table="t", max_rows_per_file=1)
else:
    client.catalog.write(reader, namespace="ns", table="t", max_rows_per_file=1)
"""
STAGED = """
import sys
import pyarrow as pa
from io_core.sink import write_files
from planner_client import Client
with Client(sys.argv[1]).catalog.stage(namespace="ns", table="t", mode="add") as session:
    entries = write_files(session, pa.table({"id": [7]}), 1)
    print("written", flush=True)
    sys.stdin.read()
    session.commit(entries)
"""


@pytest.mark.parametrize(
    ("code", "how"), [(STREAMING, ""), (STREAMING, "transaction"), (STAGED, "")]
)
@pytest.mark.parametrize("embedded", [True, False])
def test_ctrl_c_aborts_and_leaves_nothing(
    tmp_path: Path, code: str, how: str, embedded: bool
) -> None:
    root = tmp_path / "catalog"
    where: dict[str, Any] = {"namespace": "ns", "table": "t"}
    Client(root).catalog.write(pa.table({"id": [0]}), **where)
    (kept,) = root.glob("data/*/*/*.parquet")
    with serving(root) as url:
        target = str(root) if embedded else url
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", code, target, how]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
            assert len(list(root.glob("data/*/*/*.parquet"))) > 1
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=120)
        assert b"KeyboardInterrupt" in said
        assert b"could not be aborted" not in said
        assert process.returncode != 0
    assert Client(root).catalog.read(**where).column("id").to_pylist() == [0]
    assert list(root.glob("data/*/*/*.parquet")) == [kept]
