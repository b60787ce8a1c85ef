"""Is a wrong argument of any call refused by an error of this project, which names it?"""

from __future__ import annotations

import inspect
import pickle
import time
import traceback
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from io_core.errors import DeltaCATError, SchemaValidationError
from planner_client import Client
from planner_client.later import LATER
from tests.answering import answering

if TYPE_CHECKING:
    from pathlib import Path

# Any: what no type checker would let a caller pass.
WRONG: list[Any] = [
    *(5, -1, 1.5, float("nan"), 2**70, True, b"x", "", "a/b", "\0", "\ud800"),
    *([], ["zz"], [5], (), {}, {1: 2}, {"a": object()}, object(), len, pa.table({"x": [1]})),
]
# Arguments that a call of each name accepts.
RIGHT: dict[str, dict[str, Any]] = {
    "abort": {"session": None},
    "add_files": {"files": "absent.parquet"},
    "alter_namespace": {"namespace": "absent"},
    "commit": {"entries": []},
    "delete": {"predicate": "x = 77"},
    "drop_namespace": {"namespace": "absent"},
    "drop_table": {"table": "absent"},
    "from_manifest_table": {"manifest_table": pa.table({"path": ["absent"]})},
    "heartbeat": {"session": None},
    "overwrite": {"data": pa.table({"x": [77]}), "predicate": "x = 77"},
    "plan_scan": {"scan": None},
    "rename_table": {"table": "absent"},
    "rollback_table": {"as_of": 1},
    "truncate_table": {"table": "absent"},
    "write": {"data": pa.table({"x": [1]})},
    "write_data": {"data": [{"x": 1}]},
}
AREAS = ("catalog", "auth")
CALLS = [
    (area, name)
    for area in AREAS
    for name, call in inspect.getmembers(getattr(Client("http://127.0.0.1:9"), area))
    if not name.startswith("_") and inspect.ismethod(call) and name not in LATER.get(area, ())
]


@pytest.mark.parametrize(("area", "name"), CALLS, ids=[f"{area}.{name}" for area, name in CALLS])
def test_a_wrong_argument_is_refused_by_an_error_of_this_project(
    targets: dict[str, str], ns: str, area: str, name: str
) -> None:
    client = Client(targets["embedded"])
    client.catalog.write(pa.table({"x": [1, 2]}), namespace=ns, table="t")
    call = getattr(getattr(client, area), name)
    parameters = {
        n: p for n, p in inspect.signature(call).parameters.items() if p.kind is not p.VAR_KEYWORD
    }
    right = {
        n: {"namespace": ns, "table": "t"}.get(n, "absent")
        for n, p in parameters.items()
        if p.default is p.empty
    }
    right |= {"namespace": ns, "table": "t"} if name == "commit" else {}
    failures = []
    for parameter in parameters:
        for value in WRONG:
            arguments = right | RIGHT.get(name, {}) | {parameter: value}
            try:
                repr(call(**arguments))
            except DeltaCATError:
                pass
            except Exception as error:  # noqa: BLE001  # any other is what is looked for
                at = traceback.extract_tb(error.__traceback__)[-1]
                failures.append(
                    f"{parameter}={value!r:.40}: {error!r} at {at.filename}:{at.lineno}"
                )
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"table": 5}, "table is 5"),
        ({"as_of": "yesterday"}, "as_of is 'yesterday'"),
        ({"as_of": datetime(2026, 1, 1)}, "got `datetime`.*; give nanoseconds since the epoch"),
        ({"table": None}, "table is None"),
        ({"columns": "x"}, r"columns is 'x': give a list, \['x'\]"),
        ({"columns": [5]}, "columns holds 5"),
        ({"include_files": "no"}, "include_files is 'no'"),
        ({"namespace": b"n"}, "namespace is b'n'"),
        ({"table": "\ud800"}, "surrogates not allowed"),
        ({"partition_filter": 7}, "partition_filter is 7: give a list"),
    ],
    ids=str,
)
def test_the_refusal_names_the_argument_and_its_value(
    client: Client, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(SchemaValidationError, match=said):
        client.catalog.plan(**{"namespace": "n", "table": "t"} | wrong)


def test_numbers_of_numpy_are_numbers(client: Client, ns: str) -> None:
    client.catalog.write(pa.table({"x": [1, 2]}), namespace=ns, table="t")
    # Any: what type checkers take for no number.
    now: Any = np.int64(time.time_ns())
    one: Any = np.int8(1)
    assert client.catalog.plan(namespace=ns, table="t", as_of=now).total_records == 2
    found = client.catalog.read(namespace=ns, table="t", limit=one, offset=one)
    assert found["x"].to_pylist() == [2]


# --- the client's own -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a URL", "a directory"])
def test_a_wrong_setting_is_refused_by_an_error_of_this_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    failures = []
    for parameter in inspect.signature(Client).parameters:
        for value in WRONG:
            target = "http://127.0.0.1:9" if where == "a URL" else tmp_path
            try:
                with Client(**{"target": target} | {parameter: value}) as client:
                    assert pickle.loads(pickle.dumps(client)) == client
            except (DeltaCATError, ValueError):
                pass
            except Exception as error:  # noqa: BLE001  # any other is what is looked for
                failures.append(f"{parameter}={value!r:.40}: {error!r}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("token", ["s3cret\n", " s3cret", "s3cret\u2028", b"s3cret", ["s3cret"]])
def test_a_token_that_cannot_travel_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(SchemaValidationError, match="bearer_token") as caught:
        Client("http://127.0.0.1:9", bearer_token=token)
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    assert "s3cret" not in shown.replace(str(__file__), "").replace('bearer_token="s3cret', "")


@pytest.mark.parametrize(
    "headers", [{"x": "s3cret\r\ny: 1"}, {"a b": "c"}, {"x": 5}, {5: "x"}, [("x", "s3cret")]]
)
def test_a_header_that_would_become_two_is_refused_and_not_shown(headers: Any) -> None:
    with pytest.raises(SchemaValidationError) as caught:
        Client("http://127.0.0.1:9", headers=headers)
    assert "s3cret" not in str(caught.value)


def test_one_tag_is_no_list_of_letters() -> None:
    with pytest.raises(
        SchemaValidationError, match=r"worker_tags is 'gpu': give a list, \['gpu'\]"
    ):
        Client("http://127.0.0.1:9", worker_tags="gpu")


def test_a_wrong_argument_is_refused_before_anything_is_sent() -> None:
    with answering((200, {}, b"{}")) as (url, seen), Client(url) as client:
        name = uuid.uuid4().hex
        with pytest.raises(SchemaValidationError):
            client.catalog.create_namespace(namespace=name, properties=["a"])  # type: ignore[arg-type]
    assert seen == []
