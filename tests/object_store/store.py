"""How do tests reach a real S3? One OpenStack Swift for all processes of a run, started by the first."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from io_core.credentials import Keys
from io_core.s3 import S3Settings, S3Store, s3fs_filesystem
from io_core.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KEYS", "ObjectStore", "joined"]

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = _ROOT / ".venv-store" / "bin" / "python"
_SERVE = Path(__file__).with_name("serve.py")
_NUMBERS = itertools.count()

# What a planner's environment has.
KEYS = {"AWS_ACCESS_KEY_ID": "test:tester", "AWS_SECRET_ACCESS_KEY": "testing"}


def _keys() -> Keys:
    return Keys(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])


class ObjectStore(NamedTuple):
    """An S3 on loopback, empty at first."""

    url: str

    @property
    def settings(self) -> S3Settings:
        """How it is spoken to."""
        return S3Settings(self.url)

    def bucket(self) -> str:
        """A new bucket, as `s3://name`."""
        name = f"tests-{os.getpid()}-{next(_NUMBERS)}"
        s3fs_filesystem(self._store(f"s3://{name}")).mkdir(name)
        return f"s3://{name}"

    def storage(self, root: str) -> Storage:
        """How tests themselves reach what is below a root."""
        return Storage((self._store(root),))

    def _store(self, root: str) -> S3Store:
        return S3Store(root, self.settings, f"tests {self.url}", _keys)


@contextlib.contextmanager
def joined(shared: Path) -> Iterator[ObjectStore]:
    """Join the store that the directory's processes share, or start it; it ends with its last user."""
    users, address = shared / "object-store.users", shared / "object-store.json"
    with _locked(shared / "object-store.start"), contextlib.ExitStack() as started:
        held = started.enter_context(open(users, "ab"))
        # Waits for a store that is just ending.
        fcntl.flock(held, fcntl.LOCK_SH)
        if not address.exists():
            _start(shared, users, address)
        port = json.loads(address.read_text())["port"]
        using = started.pop_all()
    with using:
        yield ObjectStore(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _start(shared: Path, users: Path, address: Path) -> None:
    if not _PYTHON.exists():
        raise FileNotFoundError(errno.ENOENT, "make test makes the store's environment", _PYTHON)
    folder = tempfile.mkdtemp(prefix="object-store-", dir=_with_attributes(shared))
    log = shared / "object-store.log"
    with log.open("wb") as out:
        command = [str(each) for each in (_PYTHON, _SERVE, folder, users, address)]
        started = subprocess.run(command, stdout=out, stderr=out, check=False)
    assert started.returncode == 0, f"the object store did not start:\n{log.read_text()}"


def _with_attributes(folder: Path) -> Path:
    """A directory for data: Swift keeps what it knows of an object in extended attributes."""
    probe = folder / "object-store.probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.swift", b"yes")
    except OSError:
        return _PYTHON.parent.parent
    return folder
