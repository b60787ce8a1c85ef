"""What do the tests say of a source file that was changed?

A process of its own imports the libraries once and forks a child per change, in which the changed
text stands in for the file: nothing is written, and a run costs little more than its tests.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Checker", "Outcome"]

_LIBRARIES = (
    "hypothesis",
    "pandas",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pytest",
)
# What pytest says where all tests passed, and where one failed.
_PASSED, _FAILED = 0, 1
# That it could not even say so.
_BROKEN = 70


class Outcome(NamedTuple):
    """How a run of tests ended.

    Attributes:
        passed: Whether all tests did.
        failed: Whether one did not, or the run took too long; neither where nothing could be run.
        output: The end of what pytest printed.
    """

    passed: bool
    failed: bool
    output: str


class Checker:
    """Runs tests of the code below a folder, with one module changed."""

    def __init__(self, place: Path) -> None:
        environment = os.environ | {
            "HYPOTHESIS_PROFILE": "broken",
            "PYTHONPATH": str(place),
            # None of them is needed here, and importing them takes longer than the tests.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self._place = place
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.changed_source"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place, env=environment, text=True,
        )  # fmt: skip

    def run(
        self, path: str, source: str | None, tests: Sequence[str], *, timeout_s: float = 120
    ) -> Outcome:
        """Run tests with `source` in place of the file at `path`; None changes nothing."""
        job = {"path": path, "source": source, "tests": list(tests), "timeout_s": timeout_s}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        code = answer["code"]
        return Outcome(code == _PASSED, code in (_FAILED, None), answer["output"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, whose text it holds."""

    def __init__(self, path: str, source: str) -> None:
        self._name, self._path, self._source = path[:-3].replace("/", "."), path, source

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: types.ModuleType) -> None:
        exec(compile(self._source, self._path, "exec"), module.__dict__)


def _child(job: dict[str, str | None], tests: list[str], output: int) -> None:
    import pytest

    os.dup2(output, 1)
    os.dup2(output, 2)
    if job["source"] is not None:
        sys.meta_path.insert(0, _Changed(str(job["path"]), job["source"]))
    code = pytest.main(
        ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", *tests]
    )
    sys.stdout.flush()
    os._exit(int(code))


def _answer(line: str) -> str:
    job = json.loads(line)
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            try:
                _child(job, job["tests"], output.fileno())
            finally:
                os._exit(_BROKEN)
        handle = os.pidfd_open(child)
        ended = select.select([handle], [], [], job["timeout_s"])[0]
        if not ended:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(handle)
        output.seek(0)
        code = os.waitstatus_to_exitcode(status) if ended else None
        return json.dumps({"code": code, "output": output.read()[-4000:]})


def _serve() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        print(_answer(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    _serve()
