"""How does a test have a case run by a published client? Over a pipe to that client's interpreter."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import pytest

from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Case", "PublishedClient"]

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".venv-clients"


class Case(NamedTuple):
    """One function in cases/, and where it happens."""

    theme: str
    name: str
    folder: Path
    is_guarded: bool
    is_on_s3: bool = False


class Planner(NamedTuple):
    """A planner for the cases of one client, and what it knows an ADMIN by, if it asks."""

    url: str
    token: str | None


class PublishedClient:
    """A published client in an interpreter of its own, which is started when first asked.

    Args:
        environment: The client's, below `CLIENTS`.
        folder: For the planners' catalogs, and for what they and the client print.
        store: Where data of some goes, as `--data-root` and such.
    """

    def __init__(self, environment: str, folder: Path, store: Sequence[str]) -> None:
        self._python = CLIENTS / environment / "bin" / "python"
        self._folder = folder
        self._log = folder / "client.log"
        self._process: subprocess.Popen[str] | None = None
        self._store = tuple(store)
        self._planners: dict[str, Planner] = {}
        self._serving = ExitStack()

    def failure_of(self, case: Case) -> str | None:
        """Run one case; the client's traceback, or None."""
        planner = self._planner(case)
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

    def _planner(self, case: Case) -> Planner:
        name = "guarded" if case.is_guarded else "on_s3" if case.is_on_s3 else "open"
        if name not in self._planners:
            options = ("--auth", "on" if case.is_guarded else "off")
            store = self._store if case.is_on_s3 else ()
            server = self._serving.enter_context(served(self._folder / name, *options, *store))
            token = server.first_token() if case.is_guarded else None
            self._planners[name] = Planner(server.url, token)
        return self._planners[name]

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
