"""Does a file mean the same on local disk and on a real S3, for every library that opens it?"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme
from pyarrow import fs

from io_core.credentials import Keys
from io_core.errors import CredentialsError, DataFileError, UnsupportedError
from io_core.formats import CONTENT_TYPES, FileRef, file_name, read, write, write_new
from io_core.s3 import (
    S3Settings,
    S3Store,
    arrow_options,
    ca_file,
    daft_options,
    lance_options,
    object_key,
    polars_options,
)
from io_core.storage import LOCAL, Storage, engine_location
from tests.object_store.store import KEYS, joined
from tests.object_store.tls import behind_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.object_store.store import ObjectStore

    Asked = list[tuple[str, int]]
    Ends = list[tuple[int, bytes] | OSError]

ROWS = pa.table({"x": [1, 2, 3], "s": ["a", None, "c"]})
_NUMBERS = itertools.count()


def keys() -> Keys:
    return Keys(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])


class Place(NamedTuple):
    """A folder that is not there yet, and how it is reached."""

    folder: str
    storage: Storage


@pytest.fixture(params=["local", "file", "s3", "s3a"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of storage."""
    if request.param == "local":
        return Place(f"{tmp_path}/below", LOCAL)
    if request.param == "file":
        return Place(f"file://{tmp_path}/below", LOCAL)
    store: ObjectStore = request.getfixturevalue("object_store")
    root = store.bucket()
    folder = f"{root}/below".replace("s3://", f"{request.param}://")
    return Place(folder, store.storage(root))


def test_what_is_written_is_read_at_any_place(place: Place) -> None:
    path = f"{place.folder}/deep/a b%20.bin"
    with place.storage.open_output(path) as out:
        out.write(b"0123456789")
    assert place.storage.size(path) == 10
    with place.storage.open_input(path) as opened:
        assert opened.size() == 10
        opened.seek(3)
        assert opened.read(2) == b"34"
        assert opened.read_at(3, 7) == b"789"


def test_a_file_of_many_parts_is_read_where_it_is_asked_for(place: Place) -> None:
    path = f"{place.folder}/large.bin"
    block = bytes(range(256)) * 2**12
    with place.storage.open_output(path) as out:
        for _ in range(34):
            out.write(block)
    assert place.storage.size(path) == 34 * 2**20
    with place.storage.open_input(path) as opened:
        assert opened.read_at(256, 33 * 2**20) == bytes(range(256))
        assert opened.read_at(4, 2**20 - 2) == b"\xfe\xff\x00\x01"


def test_other_keys_to_a_store_cost_little_memory(object_store: ObjectStore) -> None:
    root = object_store.bucket()
    with object_store.storage(root).open_output(f"{root}/a") as out:
        out.write(b"1")
    other = Storage((S3Store(root, object_store.settings, "other keys", keys),))
    tracemalloc.start()
    assert other.size(f"{root}/a") == 1
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 4 * 2**20


def test_nothing_is_overwritten_unless_that_is_asked_for(place: Place) -> None:
    path = f"{place.folder}/a"
    for replace in (False, True):
        with place.storage.open_output(path, replace=replace) as out:
            out.write(b"1")
    with pytest.raises(FileExistsError):
        place.storage.open_output(path)


def test_a_missing_file_is_missing(place: Place) -> None:
    for use in (place.storage.open_input, place.storage.size):
        with pytest.raises(FileNotFoundError):
            use(f"{place.folder}/none")


def test_a_folder_lists_what_is_below_it_and_deleting_twice_is_no_error(place: Place) -> None:
    paths = [f"{place.folder}/{name}" for name in ("a", "b/c", "b/d/e")]
    for path in paths:
        with place.storage.open_output(path) as out:
            out.write(b"12")
    with place.storage.open_output(f"{place.folder}-beside/f") as out:
        out.write(b"1")
    found = list(place.storage.files_below(place.folder))
    names = sorted(engine_location(f.location) for f in found)
    assert names == sorted(engine_location(p) for p in paths)
    assert {f.size for f in found} == {2}
    assert all(f.changed_ns > 10**18 for f in found)
    for _ in range(2):
        place.storage.delete([f.location for f in found])
    assert list(place.storage.files_below(place.folder)) == []
    assert list(place.storage.files_below(f"{place.folder}/none")) == []


def test_arrow_gets_a_file_system_of_the_place(place: Place) -> None:
    path = f"{place.folder}/a.parquet"
    with place.storage.open_output(path) as out:
        pq.write_table(ROWS, out)
    files, inside = place.storage.filesystem(path)
    assert pq.read_table(inside, filesystem=files) == ROWS


@pytest.mark.parametrize("kind", list(CONTENT_TYPES))
def test_every_format_is_kept_at_any_place(place: Place, kind: str) -> None:
    path = f"{place.folder}/{file_name(kind)}"
    entry = write(ROWS, path, kind, storage=place.storage)
    file = FileRef(path, kind, entry.content_encoding, len(ROWS), "the plan", ROWS.schema)
    assert read(file, storage=place.storage).equals(ROWS)
    assert read(file, [], storage=place.storage).num_rows == len(ROWS)


@pytest.mark.parametrize("kind", [kind for kind in CONTENT_TYPES if kind != "parquet"])
def test_a_changed_bit_is_noticed_at_any_place(place: Place, kind: str) -> None:
    entry = write_new(ROWS, place.folder, kind, storage=place.storage)
    file = FileRef(entry.path, kind, entry.content_encoding, len(ROWS), "the plan", ROWS.schema)
    assert read(file, storage=place.storage).equals(ROWS)
    inside = [stored.location for stored in place.storage.files_below(entry.path)]
    part = max(inside, key=place.storage.size) if inside else entry.path
    with place.storage.open_input(part) as stored:
        body = bytearray(stored.read())
    body[len(body) // 2] ^= 1
    with place.storage.open_output(part, replace=True) as out:
        out.write(bytes(body))
    with pytest.raises(DataFileError, match=f"{re.escape(entry.path)} is damaged.*the plan"):
        read(file, storage=place.storage)


@pytest.mark.parametrize("kind", [kind for kind in CONTENT_TYPES if kind != "lance"])
def test_a_file_that_is_cut_or_gone_is_an_error_that_names_it_at_any_place(
    place: Place, kind: str
) -> None:
    path = f"{place.folder}/{file_name(kind)}"
    entry = write(ROWS, path, kind, storage=place.storage)
    file = FileRef(path, kind, entry.content_encoding, len(ROWS), "the plan", ROWS.schema)
    with place.storage.open_input(path) as whole:
        body = whole.read()
    with place.storage.open_output(path, replace=True) as out:
        out.write(body[: len(body) // 2])
    for problem in ("damaged", "missing"):
        with pytest.raises(DataFileError, match=f"{problem}.*the plan") as caught:
            read(file, storage=place.storage)
        assert path in str(caught.value)
        place.storage.delete([path])


def test_threads_share_a_storage(object_store: ObjectStore) -> None:
    root = object_store.bucket()
    storage = object_store.storage(root)
    found: list[bytes] = []

    def use(number: int) -> None:
        with storage.open_output(f"{root}/{number}") as out:
            out.write(f"{number}".encode())
        with storage.open_input(f"{root}/{number}") as opened:
            found.append(opened.read())

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [b"%d" % n for n in range(8)]


def test_a_forked_child_reaches_the_store_by_itself(object_store: ObjectStore) -> None:
    root = object_store.bucket()
    storage = object_store.storage(root)
    with storage.open_output(f"{root}/a") as out:
        out.write(b"1")
    child = os.fork()
    if not child:
        os._exit(0 if storage.size(f"{root}/a") == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_longest_root_says_whose_a_file_is() -> None:
    stores = [S3Store(r, S3Settings(), r, keys) for r in ("s3://b", "s3://b/in", "s3://b/inner")]
    storage = Storage(tuple(stores))
    assert storage.store_of("s3://b/in/a").root == "s3://b/in"
    assert storage.store_of("s3a://b/inn").root == "s3://b"
    assert storage.store_for(["s3://b/in/a", "s3a://b/in/c"]) == stores[1]
    assert storage.store_for(["/a", "file:///b"]) is None
    with pytest.raises(UnsupportedError, match="in several stores"):
        storage.store_for(["s3://b/in/a", "/a"])


@pytest.mark.parametrize("location", ["gs://b/k", "az://c/k", "abfss://c@a/k", "http://h/k"])
def test_other_stores_are_refused_before_anything_is_asked(location: str) -> None:
    for use in (LOCAL.open_input, LOCAL.open_output, LOCAL.size, LOCAL.filesystem):
        with pytest.raises(UnsupportedError, match=r"is not supported: .* s3:// and s3a://"):
            use(location)


def test_credentials_of_the_environment_are_not_used(object_store: ObjectStore) -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"]
    with pytest.raises(UnsupportedError, match="credentials of the environment are not used"):
        LOCAL.open_input(f"{object_store.bucket()}/a")


def test_wrong_keys_are_refused_without_showing_them(object_store: ObjectStore) -> None:
    root = object_store.bucket()
    wrong = S3Store(root, object_store.settings, "wrong", lambda: Keys("test:tester", "mistyped"))
    with pytest.raises(PermissionError) as caught:
        Storage((wrong,)).size(f"{root}/a")
    assert "mistyped" not in str(caught.value)


def test_keys_that_cannot_be_had_are_an_error_of_ours(object_store: ObjectStore) -> None:
    def none() -> Keys:
        raise CredentialsError("the planner is gone")

    root = object_store.bucket()
    storage = Storage((S3Store(root, object_store.settings, "none", none),))
    with pytest.raises(CredentialsError, match="the planner is gone"):
        storage.size(f"{root}/a")


def test_a_store_that_does_not_answer_is_an_oserror_that_names_the_file() -> None:
    # Port 9 of loopback: nobody listens there.
    settings = S3Settings("http://127.0.0.1:9")
    storage = Storage((S3Store("s3://b", settings, "silent", keys),))
    with pytest.raises(OSError, match="s3://b/a cannot be reached"):
        storage.size("s3://b/a")


def _in_a_forked_child(call: Callable[[Asked], Ends], asked: Asked) -> Ends:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply_async(call, (asked,)).get(60)


def test_wrong_keys_are_no_end_and_are_not_shown(object_store: ObjectStore) -> None:
    root = object_store.bucket()
    wrong = S3Store(root, object_store.settings, "wrong end", lambda: Keys("a:b", "mistyped"))
    (found,) = Storage((wrong,)).ends([(f"{root}/a", 8)])
    assert isinstance(found, OSError)
    assert "ACCESS_DENIED" in str(found)
    assert "mistyped" not in str(found)


def test_a_forked_child_tells_ends_too(object_store: ObjectStore) -> None:
    root = object_store.bucket()
    storage = object_store.storage(root)
    with storage.open_output(f"{root}/a") as out:
        out.write(b"123")
    asked = [(f"{root}/a", 0), (f"{root}/a", 2), (f"{root}/a", 8), (f"{root}/b", 8)]
    for ends in (storage.ends(asked), _in_a_forked_child(storage.ends, asked)):
        assert ends[:3] == [(3, b""), (3, b"23"), (3, b"123")]
        assert isinstance(ends[3], FileNotFoundError)


def test_requests_go_on_with_new_keys_when_the_old_ones_end(object_store: ObjectStore) -> None:
    root, asked = object_store.bucket(), []

    def brief() -> Keys:
        # Over as soon as it comes to its end: every request needs new ones.
        asked.append(1)
        found = keys()
        return Keys(found.access_key_id, found.secret_access_key, None, 2**62)

    store = S3Store(root, object_store.settings, "brief", brief)
    storage = Storage((store,))
    with storage.open_output(f"{root}/a") as out:
        out.write(b"1")
    before = len(asked)
    store.credentials._keys = None
    assert storage.size(f"{root}/a") == 1
    assert len(asked) == before + 1


def read_by_s3fs(store: S3Store, path: str) -> list[int]:
    with Storage((store,)).open_input(path) as opened:
        return list(pq.read_table(opened)["x"].to_pylist())


def read_by_arrow(store: S3Store, path: str) -> list[int]:
    files = fs.S3FileSystem(**arrow_options(store))
    return list(pq.read_table(object_key(path), filesystem=files)["x"].to_pylist())


def read_by_polars(store: S3Store, path: str) -> list[int]:
    import polars as pl

    options, provider = polars_options(store)
    frame = pl.scan_parquet(path, storage_options=options, credential_provider=provider)
    return list(frame.collect()["x"].to_list())


def read_by_daft(store: S3Store, path: str) -> list[int]:
    # In a process of its own: Daft looks for authorities once, when it first speaks to an S3. It ends at
    # once: Daft 0.7.26's threads call Python while that ends, which then aborts (docs/daft.md).
    code = (
        "import daft, os, pickle, sys; from deltacat_sources.daft.storage import io_config;"
        "store, path = pickle.load(sys.stdin.buffer);"
        "print(daft.read_parquet(path, io_config=io_config(store)).to_pydict()['x'], flush=True);"
        "os._exit(0)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, input=pickle.dumps((store, path)), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return list(json.loads(done.stdout))


def read_by_lance(store: S3Store, path: str) -> list[int]:
    import lance

    folder = f"{path}.lance"
    lance.write_dataset(ROWS, folder, storage_options=lance_options(store))
    dataset = lance.dataset(folder, storage_options=lance_options(store))
    return list(dataset.to_table()["x"].to_pylist())


READERS = [read_by_s3fs, read_by_arrow, read_by_polars, read_by_daft, read_by_lance]


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStore
) -> Iterator[tuple[str, str]]:
    """The store behind TLS, and the authority that no machine knows, as PEM."""
    authority = trustme.CA()
    with behind_tls(object_store.url, authority) as url:
        yield url, authority.cert_pem.bytes().decode()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_settings_that_are_said_once_are_obeyed_by_every_reader(
    request: pytest.FixtureRequest,
    object_store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[S3Store, str], list[int]],
    *,
    tls: bool,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    # Put back afterwards.
    monkeypatch.setenv("SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE", ""))
    monkeypatch.delenv("SSL_CERT_FILE")
    root = object_store.bucket()
    path = f"{root}/a.parquet"
    with object_store.storage(root).open_output(path) as out:
        pq.write_table(ROWS, out)
    settings = object_store.settings
    if tls:
        url, pem = request.getfixturevalue("secured")
        settings = S3Settings(url, "us-east-1", path_style=True, ca_certificates=pem)
    name = f"{read.__name__} {next(_NUMBERS)}"
    assert read(S3Store(root, settings, name, keys), path) == [1, 2, 3]


def test_an_unknown_authority_is_not_trusted(
    object_store: ObjectStore, secured: tuple[str, str]
) -> None:
    root = object_store.bucket()
    store = S3Store(root, S3Settings(secured[0]), "untrusting", keys)
    with pytest.raises(OSError, match="cannot be reached"):
        Storage((store,)).size(f"{root}/a")


def test_the_systems_own_authorities_stay_trusted_beside_the_stores(tmp_path: Path) -> None:
    pem = trustme.CA().cert_pem.bytes().decode()
    path = ca_file(S3Settings(ca_certificates=pem))
    assert path is not None
    with open(path, encoding="utf-8") as file:
        held = file.read()
    assert pem in held
    assert held.count("BEGIN CERTIFICATE") > 1
    assert ca_file(S3Settings()) is None


def test_addressing_is_said_to_every_engine() -> None:
    def said(settings: S3Settings) -> tuple[object, ...]:
        store = S3Store("s3://b", settings, "addressing", keys)
        return (
            polars_options(store)[0]["aws_virtual_hosted_style_request"],
            lance_options(store)["aws_virtual_hosted_style_request"],
            daft_options(store)["force_virtual_addressing"],
            arrow_options(store)["force_virtual_addressing"],
        )

    assert said(S3Settings()) == ("true", "true", True, True)
    assert said(S3Settings("https://minio:9000")) == ("false", "false", False, False)
    assert said(S3Settings("https://r2", path_style=False)) == ("true", "true", True, True)


@pytest.mark.parametrize("url", ["minio:9000", "ftp://minio", "https://user:pw@minio", "https://"])
def test_an_endpoint_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no S3 endpoint: write"):
        S3Settings(url).check()


def test_authorities_that_are_not_pem_are_refused() -> None:
    with pytest.raises(ValueError, match="hold no certificate"):
        S3Settings(ca_certificates="/etc/ssl/ca.pem").check()


def test_polars_gets_one_provider_for_a_store_which_travels_without_keys() -> None:
    store = S3Store("s3://b", S3Settings(), "one provider", keys)
    provider = polars_options(store)[1]
    assert polars_options(store)[1] is provider
    raw = pickle.dumps(provider)
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in raw
    assert pickle.loads(raw) is provider
    given, end = provider()
    assert (given["aws_access_key_id"], end) == ("test:tester", None)


def test_the_store_of_the_tests_ends_with_its_last_user(tmp_path: Path) -> None:
    with joined(tmp_path) as first, joined(tmp_path) as second:
        assert first == second
        storage = first.storage(first.bucket())
        assert storage.stores
