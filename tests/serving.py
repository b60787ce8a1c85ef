"""How do tests reach a planner? A real server on loopback, started and ended here."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

import uvicorn

from planner_client.server.listening import configured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from planner_client.server.app import App

__all__ = ["Served", "listening", "served", "serving"]

_START_S = 60.0
_END_S = 60.0


class Served(NamedTuple):
    """A server process: its URL, its handle, and the file of what it prints."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def first_token(self) -> str:
        """The token that a first start with authentication prints."""
        found = re.search(r"dct_\S+", self.log.read_text())
        assert found is not None, self.log.read_text()
        return found.group()


@contextlib.contextmanager
def serving(root: Path, *options: str) -> Iterator[str]:
    """Serve the catalog at `root` from a process of its own; the URL of the planner."""
    with served(root, *options) as server:
        yield server.url


@contextlib.contextmanager
def served(root: Path | None, *options: str, log: Path | None = None) -> Iterator[Served]:
    """The same, with the process and its log in hand; `options` are the command line's.

    Without a root `options` name the catalogs, and `log` a file.
    """
    command = [sys.executable, "-m", "planner_client.server", "--port", "0", *options]
    if root is not None:
        command += ["--catalog-root", str(root)]
        log = log or root.parent / f"{root.name}-server.log"
    assert log is not None
    urls: queue.Queue[str | None] = queue.Queue()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT) as process:
        copier = threading.Thread(target=_copy, args=(process, log, urls), daemon=True)
        copier.start()
        try:
            url = urls.get(timeout=_START_S)
            assert url is not None, log.read_text()
            yield Served(url, process, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            finally:
                copier.join(timeout=_END_S)


def _copy(process: subprocess.Popen[bytes], log: Path, urls: queue.Queue[str | None]) -> None:
    """Write down what the server prints, to its end, and tell where it listens."""
    assert process.stdout is not None
    with log.open("wb", buffering=0) as out:
        for line in process.stdout:
            out.write(line)
            found = re.search(rb"running on (https?)://[^:]+(:\d+)", line)
            if found is not None:
                urls.put("{}://127.0.0.1{}".format(*(part.decode() for part in found.groups())))
    urls.put(None)


@contextlib.contextmanager
def listening(app: App) -> Iterator[str]:
    """Serve an application on a real port, in a thread of this process; its URL."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        # From here on who connects waits for the server to start.
        held.listen()
        server = uvicorn.Server(configured(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{held.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=_END_S)
            assert not thread.is_alive(), f"the server did not end within {_END_S:g} s"
