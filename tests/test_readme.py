"""Whether what the README tells people to type works: its Python runs, its commands exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "bash", "text"}


def blocks(text: str, language: str) -> list[str]:
    return [m["code"] for m in BLOCK.finditer(text) if m["language"] == language]


def as_script(text: str) -> str:
    """The Python blocks as one script in which every line keeps its number."""
    lines = [""] * len(text.splitlines())
    for match in BLOCK.finditer(text):
        if match["language"] == "python":
            start = text.count("\n", 0, match.start("code"))
            code = match["code"].splitlines()
            lines[start : start + len(code)] = code
    return "\n".join(lines) + "\n"


def commands(text: str) -> list[list[str]]:
    """The commands of the shell blocks, in words; comments and prompts left out."""
    joined = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    split = [shlex.split(line.removeprefix("$ "), comments=True) for line in joined.splitlines()]
    return [words for words in split if words]


def is_known(command: list[str]) -> bool:
    """Whether what the command names is there: a make target, a module, an extra."""
    match command:
        case ["make", target, *_]:
            return re.search(rf"^{re.escape(target)}:", Makefile, re.MULTILINE) is not None
        case ["python", "-m", module, *_]:
            return find_spec(module) is not None
        case ["pip", "install", *requirements]:
            return all(is_ours(r) for r in requirements)
    return False


def is_ours(requirement: str) -> bool:
    found = re.fullmatch(r"(?:deltacat-sources|\.)(?:\[([\w,]+)\])?", requirement)
    return found is not None and set(filter(None, (found[1] or "").split(","))) <= EXTRAS


Makefile = (ROOT / "Makefile").read_text()
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)


def test_every_block_says_its_language() -> None:
    found = {m["language"] for m in BLOCK.finditer(README.read_text())}
    assert found <= LANGUAGES


def test_every_shell_command_exists() -> None:
    assert not [" ".join(c) for c in commands(README.read_text()) if not is_known(c)]


@pytest.mark.cluster
def test_the_python_blocks_run_in_order(tmp_path: Path) -> None:
    code = as_script(README.read_text())
    assert code.strip(), "the README shows no Python"
    script = tmp_path / "README.py"
    script.write_text(code)
    work = tmp_path / "work"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "DELTACAT_PLANNER"}
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, f"(line numbers are the README's)\n{result.stderr}"


def test_a_script_keeps_the_line_numbers_of_its_text() -> None:
    text = (
        "# Title\n\n```python\nx = 1\n```\ntext\n```bash\nmake test\n```\n```python\ny = x\n```\n"
    )
    assert as_script(text).splitlines()[3] == "x = 1"
    assert as_script(text).splitlines()[10] == "y = x"


@pytest.mark.parametrize(
    "command",
    ["rm -rf /", "make nothing", "python -m nowhere", "pip install deltacat-sources[nothing]"],
)
def test_an_unknown_command_is_noticed(command: str) -> None:
    assert not is_known(shlex.split(command))
