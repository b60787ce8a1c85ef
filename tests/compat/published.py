"""How does a test have a case run by a published client? Over a pipe to that client's interpreter."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from tests.serving import served

__all__ = ["Case", "PublishedClient"]

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".venv-clients"


class Case(NamedTuple):
    """One function in cases/, and where it happens."""

    theme: str
    name: str
    folder: Path
    is_guarded: bool


class Planner(NamedTuple):
    """A planner for the cases of one client, and what it knows an ADMIN by, if it asks."""

    url: str
    token: str | None


class PublishedClient:
    """A published client in an interpreter of its own, which is started when first asked.

    Args:
        environment: The client's, below `CLIENTS`.
        folder: For the planners' catalogs, and for what they and the client print.
    """

    def __init__(self, environment: str, folder: Path) -> None:
        self._python = CLIENTS / environment / "bin" / "python"
        self._folder = folder
        self._log = folder / "client.log"
        self._process: subprocess.Popen[str] | None = None
        self._planners: dict[bool, Planner] = {}
        self._serving = ExitStack()

    def failure_of(self, case: Case) -> str | None:
        """Run one case; the client's traceback, or None."""
        planner = self._planner(is_guarded=case.is_guarded)
        process = self._running()
        asked = {
            "theme": case.theme,
            "case": case.name,
            "namespace": f"{case.theme}_{case.name}",
            "folder": str(case.folder),
            "url": planner.url,
            "token": planner.token,
        }
        print(json.dumps(asked), file=_pipe(process.stdin), flush=True)
        answer = _pipe(process.stdout).readline()
        if not answer:
            self._end()
            return f"the client's interpreter ended:\n{self._log.read_text()[-4000:]}"
        failure: str | None = json.loads(answer)["failure"]
        return failure

    def close(self) -> None:
        """End the interpreter, then the planners."""
        self._end()
        self._serving.close()

    def _planner(self, *, is_guarded: bool) -> Planner:
        if is_guarded not in self._planners:
            root = self._folder / ("guarded" if is_guarded else "open")
            options = ("--auth", "on" if is_guarded else "off")
            server = self._serving.enter_context(served(root, *options))
            token = server.first_token() if is_guarded else None
            self._planners[is_guarded] = Planner(server.url, token)
        return self._planners[is_guarded]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            if not self._python.exists():
                pytest.fail(f"{self._python} does not exist; `make test` builds it")
            with self._log.open("a") as log:
                self._process = subprocess.Popen(
                    [self._python, "-m", "tests.compat.run"],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
