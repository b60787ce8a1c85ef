"""Does `python -m planner_client.server` start, serve and end as its --help says?"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import queue
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
import trustme
from urllib3.exceptions import InsecureRequestWarning

from io_core.errors import DataFileError, DeltaCATError, PlannerUnavailableError
from planner_client import Client
from planner_client.server.__main__ import main
from tests.serving import served, serving

# Any: keyword arguments of every call.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}
SCHEMA = pa.schema([("who", pa.int64()), ("n", pa.int64())])


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (
            ("--help",),
            ("what to serve", "where to listen", "who may call", "limits", "examples:", "/docs"),
        ),
        (("serve", "--help"), ("--catalog-root DIR",)),
        (("new-admin-token", "--help"), ("--catalog-root DIR",)),
    ],
)
def test_help_shows_every_option_by_purpose_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [text for text in texts if text not in shown] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to serve"),
        (("--catalog", "lab"), "write NAME=DIR"),
        (("--catalog", "a=x", "--catalog", "a=y"), "there is a catalog 'a' already"),
        (("--catalog", "a/b=x"), "'a/b' is no name for a catalog"),
        (("--catalog-root", "x", "--host", "0.0.0.0", "--auth", "off"), "--insecure-no-auth"),
        (("--catalog-root", "x", "--auth", "on", "--insecure-no-auth"), "contradict"),
        (("--catalog-root", "x", "--trust-user-header"), "needs --auth on"),
        (("--catalog-root", "x", "--ssl-keyfile", "/none"), "needs --ssl-certfile"),
        (("--catalog-root", "x", "--ssl-certfile", "/none"), "no certificate with its key"),
        (("--catalog-root", "x", "--threads", "0"), "less than 1"),
        (("--catalog-root", "/proc/none"), "error: "),
        (("new-admin-token", "--catalog-root", "/proc/none"), "error: "),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    # Arguments end the process at once, what they name is an exit code.
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(list(arguments)))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# --- several catalogs -----------------------------------------------------------------------------


def test_one_process_serves_several_catalogs(tmp_path: Path) -> None:
    with serving(tmp_path / "main", "--catalog", f"lab={tmp_path / 'lab'}") as url:
        main, lab = Client(url), Client(url, catalog="lab")
        main.catalog.create_namespace(namespace="in_main")
        lab.catalog.write(pa.table({"x": [1]}), **WHERE)
        assert [n.name for n in main.catalog.list_namespaces()] == ["in_main"]
        assert [n.name for n in lab.catalog.list_namespaces()] == ["ns"]
        assert lab.catalog.read(**WHERE).column("x").to_pylist() == [1]
        known = {c.name: c.is_default for c in main.catalog.list_catalogs()}
        assert known == {"default": True, "lab": False}
        found = main.catalog.get_catalog(catalog="lab")
        assert (found.root, found.is_default) == (str(tmp_path / "lab"), False)
        # Unknown ones are refused, and the nearest is offered.
        for path in ("/v1/namespaces?catalog=labs", "/v1/catalogs/labs"):
            error = requests.get(url + path, timeout=30).json()["error"]
            assert (error["code"], "did you mean 'lab'?" in error["message"]) == ("not_found", True)
        twice = requests.get(f"{url}/v1/catalogs/lab?catalog=default", timeout=30)
        assert twice.status_code == 400
    assert Client(tmp_path / "lab").catalog.namespace_exists(namespace="ns")


def test_without_a_root_the_first_named_catalog_is_the_default(tmp_path: Path) -> None:
    options = ("--catalog", f"b={tmp_path / 'b'}", "--catalog", f"a={tmp_path / 'a'}")
    with served(None, *options, log=tmp_path / "log") as server:
        Client(server.url).catalog.create_namespace(namespace="ns")
        known = {c.name: c.is_default for c in Client(server.url).catalog.list_catalogs()}
    assert known == {"b": True, "a": False}
    assert Client(tmp_path / "b").catalog.namespace_exists(namespace="ns")


# --- who may call ---------------------------------------------------------------------------------


def test_the_first_start_prints_the_first_token_and_later_ones_do_not(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    with served(root, "--auth", "on") as server:
        token = server.first_token()
        with pytest.raises(DeltaCATError, match="token"):
            Client(server.url).catalog.list_catalogs()
        Client(server.url, bearer_token=token).catalog.create_namespace(namespace="ns")
    with served(root, "--auth") as server:
        assert "dct_" not in server.log.read_text()
        assert Client(server.url, bearer_token=token).catalog.namespace_exists(namespace="ns")


def test_a_lost_token_is_replaced_on_the_planners_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "catalog"
    with serving(root, "--auth", "on") as url:
        assert main(["new-admin-token", "--catalog-root", str(root)]) == 0
        client = Client(url, bearer_token=capsys.readouterr().out.strip())
        assert [c.name for c in client.catalog.list_catalogs()] == ["default"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 401),
        (("--insecure-no-auth",), 200),
        (("--auth", "off", "--insecure-no-auth"), 200),
    ],
)
def test_on_a_network_callers_need_a_token_unless_told_otherwise_in_so_many_words(
    tmp_path: Path, options: tuple[str, ...], status: int
) -> None:
    with serving(tmp_path / "catalog", "--host", "0.0.0.0", *options) as url:
        assert requests.get(f"{url}/v1/catalogs", timeout=30).status_code == status
        assert requests.get(f"{url}/health", timeout=30).status_code == 200


# --- HTTPS ----------------------------------------------------------------------------------------


def test_a_catalog_is_served_over_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("authority", "cert", "key")}
    authority.cert_pem.write_to_path(files["authority"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    options = ("--ssl-certfile", files["cert"], "--ssl-keyfile", files["key"])
    with serving(tmp_path / "catalog", *options) as url:
        client = Client(url, verify_ssl=files["authority"])
        client.catalog.write(pa.table({"x": [1]}), **WHERE)
        assert client.catalog.read(**WHERE).num_rows == 1
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{url}/health", timeout=30)
        with pytest.raises(PlannerUnavailableError, match=r"not trusted; .*verify_ssl="):
            Client(url).health()
        with pytest.raises(DataFileError, match="verify_ssl is '/none'"):
            Client(url, verify_ssl="/none").health()
        with pytest.warns(InsecureRequestWarning):
            assert Client(url, verify_ssl=False).health().status == "ok"


# --- the end --------------------------------------------------------------------------------------


def append_until_refused(
    client: Client, who: int, acknowledged: queue.Queue[tuple[int, int]]
) -> None:
    with contextlib.suppress(PlannerUnavailableError):
        for n in itertools.count():
            rows = pa.table({"who": [who], "n": [n]})
            client.catalog.write(rows, **WHERE, mode="append")
            acknowledged.put((who, n))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_ends_under_load_keeps_all_it_acknowledged(
    tmp_path: Path, ending: signal.Signals
) -> None:
    root = tmp_path / "catalog"
    acknowledged: queue.Queue[tuple[int, int]] = queue.Queue()
    with served(root) as server:
        Client(server.url).catalog.create_table(**WHERE, schema=SCHEMA, auto_create_namespace=True)
        writers = [
            threading.Thread(
                target=append_until_refused, args=(Client(server.url), who, acknowledged)
            )
            for who in range(4)
        ]
        for writer in writers:
            writer.start()
        first = [acknowledged.get(timeout=60) for _ in range(20)]
        server.process.send_signal(ending)
        assert server.process.wait(timeout=60) == 0
        for writer in writers:
            writer.join()
    assert "Traceback" not in server.log.read_text()
    rows = Client(root).catalog.read(**WHERE).to_pylist()
    found = collections.Counter((row["who"], row["n"]) for row in rows)
    told = {*first, *acknowledged.queue}
    assert told <= set(found)
    assert set(found.values()) == {1}
    # What is not acknowledged was under way: one append a writer at most.
    assert len(found) - len(told) <= len(writers)


def test_an_ended_server_leaves_its_ledger_in_one_file(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    with served(root) as server:
        Client(server.url).catalog.create_namespace(namespace="ns")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
    assert [p.name for p in root.glob("catalog.sqlite*")] == ["catalog.sqlite"]


# --- the log --------------------------------------------------------------------------------------


def secretive(client: Client, url: str, token: str) -> None:
    """Calls with secrets in every place that a request has."""
    headers = {"Authorization": f"Bearer {token}", "Cookie": "c00kie", "X-Request-Id": "mine"}
    client.catalog.create_namespace(namespace="inPath", properties={"a": "inBody"})
    requests.get(f"{url}/v1/namespaces/inPath?token=inQuery", headers=headers, timeout=30)
    requests.get(f"{url}/v1/none/inPath?token=inQuery", headers=headers, timeout=30)
    requests.get(f"{url}/v1/catalogs", headers={"Authorization": "Bearer wrongToken"}, timeout=30)


SECRETS = ("inPath", "inQuery", "inBody", "c00kie", "wrongToken")


def test_a_json_log_has_a_line_a_request_with_its_id_and_no_secret(tmp_path: Path) -> None:
    with served(tmp_path / "catalog", "--auth", "on", "--log-format", "json") as server:
        token = server.first_token()
        secretive(Client(server.url, bearer_token=token), server.url, token)
    logged = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    # The first start's token is shown on standard output, before the log begins.
    assert not [secret for secret in (*SECRETS, token) if any(secret in line for line in logged)]
    lines = [json.loads(line) for line in logged]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["level"] == "info"
    calls = [line for line in lines if "endpoint" in line and line["endpoint"] != "health"]
    fields = {"time", "level", "request_id", "caller", "endpoint", "status", "ms", "bytes"}
    assert all(set(line) == fields for line in calls)
    assert [(c["endpoint"], c["status"], c["caller"]) for c in calls] == [
        ("create_namespace", 201, "admin"),
        ("get_namespace", 200, "admin"),
        ("-", 404, None),
        ("list_catalogs", 401, None),
    ]
    assert [c["request_id"] for c in calls[1:3]] == ["mine", "mine"]


def test_a_text_log_has_no_secret_either(tmp_path: Path) -> None:
    with served(tmp_path / "catalog", "--auth", "on") as server:
        token = server.first_token()
        secretive(Client(server.url, bearer_token=token), server.url, token)
    logged = [line for line in server.log.read_text().splitlines() if " INFO " in line]
    assert [line for line in logged if "create_namespace 201" in line and "caller=admin" in line]
    assert not [secret for secret in (*SECRETS, token) if any(secret in line for line in logged)]


def test_a_server_does_not_carry_pandas(tmp_path: Path) -> None:
    with served(tmp_path / "catalog", "--auth", "off") as server, Client(server.url) as client:
        rows = pa.table({"who": [1], "n": [2]}, schema=SCHEMA)
        client.catalog.create_namespace(namespace="ns")
        client.catalog.write(rows, **WHERE)
        assert client.catalog.read(**WHERE) == rows
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "/pyarrow/" in mapped
    assert "/pandas/" not in mapped
