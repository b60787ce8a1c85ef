"""How do tests send what no client of ours would? To a planner at a URL, which must outlast it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from planner_client import Client
from planner_client.server.app import build_app
from planner_client.server.planner import EmbeddedPlanner
from tests.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from io_core.model import WriteSession

__all__ = ["HUGE", "NS", "PLAN", "ROWS", "TABLE", "TABLES", "Json", "Served", "refused", "target"]

# Any, here and below: JSON.
Json = dict[str, Any]

NS = "/v1/namespaces"
TABLES = f"{NS}/ns/tables"
TABLE = f"{TABLES}/t"
PLAN = f"{TABLE}/plan"
ROWS = pa.table({"x": pa.array([1, 2], pa.int64()), "s": ["a", "b"]})
HUGE = 2**200


class Served(NamedTuple):
    """A planner, its URL and its catalog's root."""

    url: str
    root: Path

    def send(self, method: str, path: str, **sent: Any) -> requests.Response:
        return requests.request(method, self.url + path, timeout=60, **sent)

    def check_sound(self) -> None:
        """The planner still answers, and its ledger is whole."""
        assert self.send("GET", "/health").json()["status"] == "ok"
        for table in ("t", "parted"):
            plan = self.send("POST", f"{TABLES}/{table}/plan?include_column_stats=true")
            assert plan.status_code == 200, plan.text
        ledger = apsw.Connection(str(self.root / "catalog.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
        assert ledger.pragma("integrity_check") == "ok"
        ledger.close()

    def stage(self, table: str = "t", **fields: Any) -> WriteSession:
        return Client(self.url).catalog.stage(namespace="ns", table=table, **fields)

    def commit(self, session: WriteSession, entry: Json) -> requests.Response:
        """Commit one entry: a file that is there, and is what `entry` leaves out."""
        path = Path(session.data_dir) / "f.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(ROWS, path)
        body = {
            "session_version": session.session_version,
            "entries": [{"path": str(path), "record_count": ROWS.num_rows, **entry}],
        }
        path_of_call = f"/v1/write-sessions/{session.session_id}/commit"
        return self.send("POST", path_of_call, data=json.dumps(body))


@contextlib.contextmanager
def target(root: Path) -> Iterator[Served]:
    """A planner with plain tables and partitioned ones."""
    catalog = Client(root).catalog
    for table in ("t", "junk"):
        catalog.write(ROWS, namespace="ns", table=table)
    parted = {"keys": [{"key": ["x"]}]}
    for table in ("parted", "flipped"):
        catalog.write(ROWS, namespace="ns", table=table, partition_scheme=parted)
    with listening(build_app(EmbeddedPlanner(root))) as url:
        yield Served(url, root)


# Any: the error of an envelope.
def refused(answer: requests.Response, *statuses: int) -> Json:
    """The error, which is the caller's fault and says so as every other does."""
    assert answer.status_code in (statuses or (400,)), (answer.status_code, answer.text[:500])
    assert answer.headers["Content-Type"] == "application/json"
    error: Json = answer.json()["error"]
    assert set(error) == {"code", "message", "retryable", "details", "request_id"}
    assert error["code"] != "internal_server_error"
    assert "Traceback" not in answer.text
    return error
