"""How does a benchmark reach our planner over HTTP? A server process, begun and ended here."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Server", "serving"]

_START_S = 60.0


@dataclass(frozen=True)
class Server:
    """A planner that serves: its address and its process."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """User and system time of the process so far, in seconds, threads that ended included."""
        # What clock_getcpuclockid(3) makes of a process id: to the nanosecond, where
        # /proc/<pid>/stat counts in hundredths of a second.
        return time.clock_gettime((~self.pid << 3) | 2)


@contextlib.contextmanager
def serving(root: str) -> Iterator[Server]:
    """Serve the catalog at `root` on a free port of the loopback device, while the block runs."""
    command = [sys.executable, "-m", "planner_client.server"]
    command += ["--catalog-root", root, "--port", "0"]
    # A file: a pipe that nobody reads fills, and then the server waits.
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Server(_address(server, log.fileno()), server.pid)
        finally:
            server.terminate()
            server.wait(timeout=30)


def _address(server: subprocess.Popen[bytes], log: int) -> str:
    until = time.monotonic() + _START_S
    while True:
        with open(f"/proc/self/fd/{log}", encoding="utf-8", errors="replace") as said:
            text = said.read()
        if found := re.search(r"http://[\w.]+:\d+", text):
            return found.group()
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the server did not start:\n{text}")
        time.sleep(0.02)
