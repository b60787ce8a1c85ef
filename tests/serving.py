"""How do tests reach a planner? A real server on loopback, started and ended here."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from io_core.errors import PlannerUnavailableError
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["serving"]

_START_S = 60.0


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the catalog at `root` from a process of its own; the URL of the planner."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "planner_client.server"]
    command += ["--catalog-root", str(root), "--port", str(port)]
    log = (root.parent / f"{root.name}-server.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, server)
            yield url
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until the server answers; its start takes as long as the machine is busy."""
    until = time.monotonic() + _START_S
    while True:
        try:
            Client(url).health()
        except PlannerUnavailableError:
            if server.poll() is not None or time.monotonic() > until:
                raise
        else:
            return
