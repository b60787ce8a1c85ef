"""Does our client ask a planner what the published 0.1.8 client asks, request for request?

A server that accepts the one has to accept the other. Both make the same calls (`calls.py`) of a
planner of ours, through a recorder, and every field of every request is compared: method, path, query,
body, and the headers that mean something. `DIFFERENCES` lists all that differs, with its reason.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from planner_client import Client
from tests.compat.calls import CALLS
from tests.compat.published import CLIENTS, ROOT
from tests.compat.recorder import Asked, recording
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("client 0.1.8")

PUBLISHED = CLIENTS / "compat" / "bin" / "python"
# What a server takes for granted where it is absent: said or not, the request is the same.
DEFAULTS: Mapping[str, Any] = {
    "body.fail_if_exists": True,
    "body.auto_create_namespace": False,
    "body.sort_scheme.keys.0.sort_order": "ascending",
    "query.file_offset": 0,
    "query.purge": False,
}
# Headers that mean something to a planner; how a client is called and what it accepts is its own.
HEADERS = ("authorization", "content-type", "idempotency-key", "x-deltacat-user")
# What is drawn anew in every run, and what stands for it.
DRAWN = (
    (r"ws_\w+", "<session>"),
    (r"tx_\w+", "<transaction>"),
    (r"op_\w+", "<operation>"),
    (r"^/\S*<session>/", "<folder>/"),
)

# (calls, field) -> why it differs. A call's name may be a pattern; so may a field's.
DIFFERENCES: dict[tuple[str, str], str] = {
    (
        ".*",
        "(query|body).operation_id",
    ): "every change names its operation, so that it happens once",
    (
        "read( .*)?|a transaction by its handle|a transaction's block in the past",
        "query.delete_sets",
    ): "ours, and ignored by others: this client leaves dead rows out",
    (
        "read with a predicate",
        "query.columns.0",
    ): "a hint alone: the projection is the reader's, and a table without a schema has none",
    (
        "read with a predicate",
        "query.include_column_stats",
    ): "the planner prunes, and this client's reader takes statistics from footers",
    (
        "write.*|a session.*|a commit without a session|a transaction by its handle",
        "body.write_key",
    ): "a session of its own for every write: nobody else's is taken up by chance",
    (
        "write.*|a transaction by its handle",
        "body.schema_serialized",
    ): "ours, and ignored by others: what the schema may have to grow to",
    (
        "write that creates",
        "body.create_if_missing.schema_def",
    ): "the same Arrow schema, with field ids in its metadata",
    (
        "write.*|a transaction by its handle",
        r"body.entries.0.(path|content_length)",
    ): "each client names and writes its own files",
    (
        "write.*|a transaction by its handle",
        "body.entries.0.(content_type|schema_id)",
    ): "ours, and ignored by others: what the file is, and by which schema it was written",
    (
        "write.*|a transaction by its handle",
        "body.entries.0.source_content_length",
    ): "optional: the rows' size in memory, which nothing uses",
    (
        "a session that aborts|a commit without a session|a transaction's block in the past",
        "body.reason",
    ): "the error's name, where theirs says its text alone",
    (
        "whoami|create_user|grant.*|list_grants|revoke.*|issue_token|revoke_token",
        "query.catalog",
    ): "a server of several catalogs may have users of each",
}
# (call, method and path) -> why only one of the clients makes this request.
ONE_SIDED: dict[tuple[str, str], str] = {
    (
        "a session that aborts",
        "GET /v1/write-sessions/<session>",
    ): "the session is looked at before it is aborted, which may be committed already",
    (
        "a commit without a session",
        "GET /v1/write-sessions/<session>",
    ): "the same, where the commit was refused",
}


def asked_by(python: str | Path, module: str, folder: Path) -> dict[str, list[Asked]]:
    """What a client asks in each call, of a planner that nobody else asks."""
    with serving(folder / module) as url, recording(url) as (proxy, asked):
        command = [str(python), "-m", "tests.compat.calls", module, proxy]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
    return {name: [one for one in asked if one.case == name] for name in CALLS}


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, list[Asked]], dict[str, list[Asked]]]:
    """What the published client asked, and what ours did."""
    if not PUBLISHED.exists():
        pytest.fail(f"{PUBLISHED} does not exist; `make test` builds it")
    folder = tmp_path_factory.mktemp("requests")
    theirs = asked_by(PUBLISHED, "deltacat_client", folder)
    return theirs, asked_by(sys.executable, "planner_client", folder)


def settled(text: str) -> str:
    """A text without what is drawn anew in every run."""
    for pattern, name in DRAWN:
        text = re.sub(pattern, name, text)
    return text


# Any: JSON.
def flat(name: str, value: Any) -> dict[str, Any]:
    """The leaves of a JSON value by their places; what is null or empty is not there."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(f"{name}.{key}", value[key]).items()}
    if isinstance(value, list):
        return {k: v for i, one in enumerate(value) for k, v in flat(f"{name}.{i}", one).items()}
    return {} if value is None else {name: settled(value) if isinstance(value, str) else value}


def fields_of(one: Asked) -> dict[str, Any]:
    """Every field of a request by its place: its query's values read as JSON where they are."""
    query = {key: loaded(value) for key, value in one.query.items()}
    headers = {name: one.headers[name] for name in HEADERS if name in one.headers}
    found = flat("query", query) | flat("body", one.body) | flat("header", headers)
    # An empty body needs no type.
    if not one.body:
        found.pop("header.content-type", None)
    return {k: v for k, v in found.items() if DEFAULTS.get(k, ...) != v}


# Any: JSON.
def loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def line_of(one: Asked) -> str:
    return f"{one.method} {settled(one.path)}"


def is_listed(call: str, field: str) -> bool:
    return any(re.fullmatch(c, call) and re.fullmatch(f, field) for c, f in DIFFERENCES)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_asks_what_the_published_client_asks(
    recorded: tuple[dict[str, list[Asked]], dict[str, list[Asked]]], call: str
) -> None:
    theirs, ours = (
        [one for one in side[call] if (call, line_of(one)) not in ONE_SIDED] for side in recorded
    )
    assert theirs
    assert [line_of(one) for one in ours] == [line_of(one) for one in theirs]
    for one, two in zip(theirs, ours, strict=True):
        left, right = fields_of(one), fields_of(two)
        differing = {k for k in left | right if left.get(k, ...) != right.get(k, ...)}
        unlisted = {k: (left.get(k), right.get(k)) for k in differing if not is_listed(call, k)}
        assert not unlisted, f"{line_of(one)}: (theirs, ours) {unlisted}"


def test_every_listed_difference_is_one(
    recorded: tuple[dict[str, list[Asked]], dict[str, list[Asked]]],
) -> None:
    theirs, ours = recorded
    seen = set()
    for call in CALLS:
        pairs = zip(
            [one for one in theirs[call] if (call, line_of(one)) not in ONE_SIDED],
            [one for one in ours[call] if (call, line_of(one)) not in ONE_SIDED],
            strict=True,
        )
        for one, two in pairs:
            left, right = fields_of(one), fields_of(two)
            seen |= {(call, k) for k in left | right if left.get(k, ...) != right.get(k, ...)}
    unseen = [
        (c, f)
        for c, f in DIFFERENCES
        if not any(re.fullmatch(c, call) and re.fullmatch(f, k) for call, k in seen)
    ]
    assert not unseen


CALLS_OF_THE_PUBLISHED = """
import json
from deltacat_client import Client

client = Client("http://127.0.0.1:9")
areas = ("catalog", "auth", "jobs", "subscriptions", "publications", "transforms", "pipelines")
found = {area: [n for n in dir(getattr(client, area)) if not n.startswith("_")] for area in areas}
print(json.dumps(found))
"""


def test_every_call_of_the_published_client_is_there_or_refused_by_its_name() -> None:
    command = [str(PUBLISHED), "-c", CALLS_OF_THE_PUBLISHED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    client = Client("http://127.0.0.1:9")
    theirs = {(area, n) for area, names in json.loads(done.stdout).items() for n in names}
    assert len(theirs) > 100
    assert not [(a, n) for a, n in sorted(theirs) if not hasattr(getattr(client, a), n)]
