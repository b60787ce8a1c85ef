"""Are keys renewed in time, once for all who wait, and shown to nobody?"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from io_core.aws import environment_keys, profile_keys
from io_core.bindings import Credential, StorageBinding, keys_for, opened_storage, wire_credential
from io_core.credentials import Credentials, Keys, shared
from io_core.errors import CredentialsError, UnsupportedError
from io_core.s3 import S3Settings, S3Store
from io_core.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from _typeshed import TraceFunction

SECRET, TOKEN = "very-secret-key", "very-secret-token"
SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
BINDING = StorageBinding(binding_id="b1", name="data", root="s3://bucket/lake")


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


class Service:
    """Gives keys that last an hour; counts, fails and waits as it is told."""

    def __init__(self, clock: Clock, lifetime_ns: int | None = HOUR_NS) -> None:
        self.clock = clock
        self.lifetime_ns = lifetime_ns
        self.calls = 0
        self.fails: Exception | None = None
        self.waits_for: Callable[[], object] = lambda: None

    def __call__(self) -> Keys:
        self.calls += 1
        number = self.calls
        self.waits_for()
        if self.fails is not None:
            raise self.fails
        end = None if self.lifetime_ns is None else self.clock() + self.lifetime_ns
        return Keys(f"id-{number}", SECRET, TOKEN, end)


def renewing(lifetime_ns: int | None = HOUR_NS) -> tuple[Credentials, Service, Clock]:
    clock = Clock()
    service = Service(clock, lifetime_ns)
    return Credentials("mine", service, clock_ns=clock), service, clock


def pickled() -> Keys:
    """A way to keys that travels."""
    return Keys("from-a-pickle", SECRET)


def broken() -> Keys:
    raise CredentialsError("gone")


def test_keys_are_asked_for_when_they_are_needed() -> None:
    credentials, service, _ = renewing()
    assert service.calls == 0
    assert credentials.current().access_key_id == "id-1"
    assert credentials.current().access_key_id == "id-1"
    assert service.calls == 1


def test_keys_without_an_end_are_never_renewed() -> None:
    credentials, service, clock = renewing(lifetime_ns=None)
    credentials.current()
    clock.now_ns += 10**6 * HOUR_NS
    credentials.current()
    assert service.calls == 1


@pytest.mark.parametrize(
    ("lifetime_ns", "left_ns", "asked"),
    [
        (HOUR_NS, 301 * SECOND_NS, 1),
        (HOUR_NS, 300 * SECOND_NS, 2),
        (HOUR_NS, -SECOND_NS, 2),
        (100 * SECOND_NS, 21 * SECOND_NS, 1),
        (100 * SECOND_NS, 20 * SECOND_NS, 2),
    ],
)
def test_keys_are_renewed_before_they_expire(lifetime_ns: int, left_ns: int, asked: int) -> None:
    credentials, service, clock = renewing(lifetime_ns)
    credentials.current()
    clock.now_ns += lifetime_ns - left_ns
    found = credentials.current()
    assert service.calls == asked
    assert found.expires_at_ns is not None
    assert found.expires_at_ns > clock.now_ns


def test_while_one_thread_renews_others_go_on_with_what_is_valid() -> None:
    credentials, service, clock = renewing()
    credentials.current()
    clock.now_ns += HOUR_NS - SECOND_NS
    others: list[str] = []

    def meanwhile() -> None:
        thread = threading.Thread(target=lambda: others.append(credentials.current().access_key_id))
        thread.start()
        thread.join()

    service.waits_for = meanwhile
    assert credentials.current().access_key_id == "id-2"
    assert others == ["id-1"]
    assert service.calls == 2


def test_of_many_threads_without_keys_one_asks_and_all_get_its_answer() -> None:
    credentials, service, _ = renewing()
    count = 16
    arrived = threading.Barrier(count)
    # The answer comes when all others had their chance to ask as well.
    released = threading.Event()
    service.waits_for = released.wait
    found: list[str] = []

    def use() -> None:
        arrived.wait()
        found.append(credentials.current().access_key_id)

    threads = [threading.Thread(target=use) for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    arrived.wait()
    released.set()
    for thread in threads:
        thread.join()
    assert found == ["id-1"] * (count - 1)
    assert service.calls == 1


def test_a_renewal_that_fails_leaves_valid_keys_in_use_and_is_tried_again_later() -> None:
    credentials, service, clock = renewing()
    credentials.current()
    clock.now_ns += HOUR_NS - 60 * SECOND_NS
    service.fails = OSError("no answer")
    assert credentials.current().access_key_id == "id-1"
    assert credentials.current().access_key_id == "id-1"
    assert service.calls == 2
    clock.now_ns += 10 * SECOND_NS
    service.fails = None
    assert credentials.current().access_key_id == "id-3"


def test_expired_keys_are_never_returned() -> None:
    credentials, service, clock = renewing()
    credentials.current()
    clock.now_ns += 2 * HOUR_NS
    service.fails = OSError("no answer")
    with pytest.raises(CredentialsError, match="no valid credentials for mine: no answer"):
        credentials.current()


def test_keys_that_come_expired_are_an_error() -> None:
    credentials, _, _ = renewing(lifetime_ns=-SECOND_NS)
    with pytest.raises(CredentialsError, match="had expired when they came"):
        credentials.current()


def test_a_mistake_in_refresh_leaves_others_able_to_ask() -> None:
    credentials, service, _ = renewing()
    service.fails = ValueError("a mistake")
    with pytest.raises(ValueError, match="a mistake"):
        credentials.current()
    service.fails = None
    assert credentials.current().access_key_id == "id-2"


def test_an_interrupt_anywhere_leaves_others_able_to_ask() -> None:
    at, interrupted = 0, True
    while interrupted:
        credentials = Credentials("c", lambda: Keys("id", "secret"))
        interrupted = interrupted_at(at, credentials.current)
        with ThreadPoolExecutor(1) as other:
            found = other.submit(credentials.current)
            assert found.result(30).access_key_id == "id"
        at += 1
    assert at > 10


def interrupted_at(line: int, call: Callable[[], object]) -> bool:
    """Call, and interrupt it before that line of `io_core.credentials`; whether it came so far."""
    left = line

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        nonlocal left
        if frame.f_globals["__name__"] != "io_core.credentials":
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_where_the_latest_way_is_over_an_earlier_one_leads_to_keys() -> None:
    credentials, _, clock = renewing()
    credentials.current()
    credentials.offer(broken)
    clock.now_ns += 2 * HOUR_NS
    assert credentials.current().access_key_id == "id-2"


def test_keys_that_last_longer_are_taken_and_others_are_not() -> None:
    credentials, service, clock = renewing()
    credentials.current()
    credentials.offer(service, Keys("sooner", SECRET, TOKEN, clock.now_ns + SECOND_NS))
    assert credentials.current().access_key_id == "id-1"
    credentials.offer(service, Keys("later", SECRET, TOKEN, clock.now_ns + 2 * HOUR_NS))
    assert credentials.current().access_key_id == "later"


def test_a_forked_child_is_not_held_up_by_its_parents_threads() -> None:
    credentials, _, _ = renewing()
    with credentials._guard, credentials._renewal:
        child = os.fork()
        if not child:
            os._exit(0 if credentials.current().access_key_id == "id-1" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_all_readers_of_a_process_share_the_keys_of_a_name() -> None:
    one = shared("the same name", pickled)
    assert shared("the same name", pickled) is one
    assert shared("another name", pickled) is not one


def test_keys_of_names_that_many_others_followed_are_let_go() -> None:
    first = shared("the first of many", pickled)
    gone = weakref.ref(first)
    assert first.current().access_key_id
    for number in range(300):
        shared(f"one of many {number}", pickled)
    assert first.current().access_key_id
    del first
    gc.collect()
    assert gone() is None


def _store(name: str) -> Storage:
    settings = S3Settings("http://127.0.0.1:9", ca_certificates="-----BEGIN CERTIFICATE-----")
    return Storage((S3Store("s3://bucket/lake", settings, name, pickled),))


def test_a_pickled_storage_holds_no_keys_and_asks_for_its_own() -> None:
    storage = _store("travels")
    store = storage.stores[0]
    shared(store.keys, pickled, Keys("here", SECRET, TOKEN))
    raw = pickle.dumps(storage)
    assert SECRET.encode() not in raw
    assert TOKEN.encode() not in raw
    again = pickle.loads(raw)
    assert again == storage
    assert again.stores[0].credentials is store.credentials


def test_what_holds_keys_does_not_pickle() -> None:
    keys = Keys("id", SECRET, TOKEN)
    for held in (keys, wire_credential(keys), Credentials("x", pickled, keys=keys)):
        with pytest.raises(TypeError, match="each process asks for its own"):
            pickle.dumps(held)


def test_no_repr_error_or_log_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    keys = Keys("id", SECRET, TOKEN, clock())
    credentials = Credentials("mine", broken, keys=keys, clock_ns=clock)
    with pytest.raises(CredentialsError) as caught:
        credentials.current()
    wire = wire_credential(keys)
    storage = opened_storage({"data": BINDING}, {"b1@1": wire}, "scope", lambda _: pickled)
    shown = [repr(x) for x in (keys, credentials, wire, storage, [wire], {"k": keys})]
    text = "".join([*shown, str(caught.value), caplog.text])
    assert SECRET not in text
    assert TOKEN not in text


def test_keys_travel_as_the_protocol_has_them() -> None:
    end_ns = 1_800_000_000 * SECOND_NS
    wire = wire_credential(Keys("id", SECRET, TOKEN, end_ns), renewable=True)
    assert (wire.type, wire.expires_at) == ("sts", "2027-01-15T08:00:00Z")
    again = keys_for(BINDING, {"b1@1": wire})
    assert (again.access_key_id, again.secret_access_key) == ("id", SECRET)
    assert (again.session_token, again.expires_at_ns) == (TOKEN, end_ns)
    assert wire_credential(Keys("id", SECRET)).type == "static"


@pytest.mark.parametrize("expires_at", [10**18, "2001-09-09T01:46:40+00:00", "2001-09-09T01:46:40"])
def test_an_end_is_understood_as_text_and_as_nanoseconds(expires_at: str | int) -> None:
    wire = Credential("sts", "id", SECRET, TOKEN, expires_at)
    assert keys_for(BINDING, {"b1@1": wire}).expires_at_ns == 10**18


def test_credentials_of_another_store_are_not_used() -> None:
    with pytest.raises(CredentialsError, match="sent no credentials for store 'data'"):
        keys_for(BINDING, {"b1@2": Credential("static", "id", SECRET)})


def test_a_kind_of_credentials_that_is_not_known_is_named() -> None:
    with pytest.raises(CredentialsError, match="of type 'magic'"):
        keys_for(BINDING, {"b1@1": Credential("magic")})


@pytest.mark.parametrize(("kind", "scheme"), [("gcs", "gs"), ("azure", "az"), ("s3", "gs")])
def test_a_store_of_another_kind_is_refused(kind: str, scheme: str) -> None:
    binding = StorageBinding("b", "data", kind, scheme, root=f"{scheme}://bucket")
    with pytest.raises(UnsupportedError, match=rf"{kind} \({scheme}://\).*s3:// and s3a://"):
        opened_storage({"data": binding}, None, "scope", lambda _: pickled)


def test_a_profile_of_the_machine_gives_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        f"[lake]\naws_access_key_id = id\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert profile_keys("lake").secret_access_key == SECRET
    wire = Credential("aws_profile", profile="lake")
    assert keys_for(BINDING, {"b1@1": wire}).access_key_id == "id"
    with pytest.raises(CredentialsError, match="profile 'sea' gives no keys"):
        profile_keys("sea")


def test_an_environment_without_keys_says_which_variables_to_set() -> None:
    with pytest.raises(CredentialsError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        environment_keys({"AWS_ACCESS_KEY_ID": "id"})
