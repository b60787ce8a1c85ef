"""Do the blocks of a page do what it says? All of them are run, in order, as its reader would.

`python -m tests.pages PAGE...` runs pages one after the other, each in a directory of its own. Python
goes on where the block before it ended, and the shell keeps its variables. A block in a comment is
run as well, and not shown. Servers are started on free ports, and end with the page, or with the
next one. What installs something is only looked up: make's targets and the extras are there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LANGUAGES", "Block", "blocks_of", "commands_of", "is_installing", "run_pages"]

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = {"python", "bash", "text"}
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SERVERS = ("deltacat serve ", "python -m planner_client.server --")
_PORT = "8080"


class Block(NamedTuple):
    """A block of code: its language, its text, and the page's line that it begins on."""

    language: str
    code: str
    line: int


def blocks_of(text: str) -> list[Block]:
    """A page's blocks, those in comments too."""
    return [
        Block(m["language"], textwrap.dedent(m["code"]), text.count("\n", 0, m.start("code")) + 1)
        for m in _BLOCK.finditer(text)
    ]


def commands_of(code: str) -> list[str]:
    """The commands of a block of shell, one a line; comments left out."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def is_installing(command: str) -> bool:
    """Whether a command only installs or builds something, which is there.

    Raises:
        LookupError: It would, but there is no such target or extra.
    """
    match shlex.split(command, comments=True):
        case ["make", target, *_]:
            known = re.search(rf"^{re.escape(target)}:", _makefile(), re.MULTILINE) is not None
        case ["pip", "install", *requirements]:
            known = all(map(_is_ours, requirements))
        case ["git", "clone", *_] | ["cd", _]:
            known = True
        case _:
            return False
    if not known:
        raise LookupError(f"{command}: there is no such thing")
    return True


def _makefile() -> str:
    return (ROOT / "Makefile").read_text()


def _is_ours(requirement: str) -> bool:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.fullmatch(r"(?:deltacat-sources|\.)(?:\[([\w,]+)\])?", requirement)
    asked = set(filter(None, (found[1] or "").split(","))) if found else {""}
    return asked <= set(project["optional-dependencies"])


def run_pages(pages: list[str]) -> None:
    """Run pages one after the other."""
    if any("import ray" in Path(page).read_text() for page in pages):
        import ray

        # As it would start by itself at the first use, without its dashboard.
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    for page in pages:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
            _Page(page) as running,
        ):
            running.run()


class _Page:
    """One page that is being run."""

    def __init__(self, path: str) -> None:
        self.path = path
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = str(held.getsockname()[1])
        self._text = Path(path).read_text().replace(_PORT, port)
        # Any: whatever a page's Python names.
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._variables = dict(os.environ)
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if "cert.pem" in self._text:
            _certify()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_server()

    def run(self) -> None:
        """Run all blocks."""
        for block in blocks_of(self._text):
            if block.language == "python":
                code = compile("\n" * (block.line - 1) + block.code, self.path, "exec")
                exec(code, self._names)
            elif block.language == "bash":
                for piece in self._pieces(block.code):
                    self._run_shell(piece, block.line)

    def _pieces(self, code: str) -> Iterator[str]:
        """A block as a whole, or its commands where some are not to be run as they are."""
        commands = commands_of(code)
        if any(c.startswith(_SERVERS) or is_installing(c) for c in commands):
            yield from (c for c in commands if not is_installing(c))
        else:
            yield code

    def _run_shell(self, code: str, line: int) -> None:
        if code.startswith(_SERVERS):
            self._serve(code)
            return
        script = f"set -euo pipefail\n{code}\nenv -0 > .variables"
        ended = subprocess.run(["bash", "-c", script], env=self._variables, check=False)
        if ended.returncode:
            raise SystemExit(f"{self.path}, line {line}: exit code {ended.returncode}\n{code}")
        held = Path(".variables").read_text().split("\0")
        self._variables = dict(item.split("=", 1) for item in held if "=" in item)
        # What a page's shell was told, its Python knows too.
        os.environ.update({k: v for k, v in self._variables.items() if k.startswith("DELTACAT_")})

    def _serve(self, command: str) -> None:
        self._end_server()
        self._server = subprocess.Popen(
            shlex.split(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._variables,
        )
        assert self._server.stdout is not None
        said = []
        for line in self._server.stdout:
            said.append(line)
            if "running on" in line:
                return
        raise SystemExit(f"{self.path}: {command}\n{''.join(said)}")

    def _end_server(self) -> None:
        if self._server is not None:
            with self._server:
                self._server.terminate()
            self._server = None


def _certify() -> None:
    """What a page calls its certificate."""
    import trustme

    made = trustme.CA().issue_cert("localhost")
    made.private_key_pem.write_to_path("key.pem")
    for i, part in enumerate(made.cert_chain_pems):
        part.write_to_path("cert.pem", append=i > 0)


if __name__ == "__main__":
    run_pages([str(Path(page).resolve()) for page in sys.argv[1:]])
