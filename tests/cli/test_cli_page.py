"""Does the page on the command line tell of every command, and of every option but the shared ones?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from planner_client.cli.app import app, run
from planner_client.cli.keeping import SERVER_COMMANDS
from planner_client.server.__main__ import COMMANDS

_DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (_DOCS / "cli.md").read_text()
OPERATIONS = (_DOCS / "operations.md").read_text()


# Any: Typer's own types are private.
def commands() -> list[tuple[str, Any]]:
    """Every command of the command line by its whole name, and no group."""
    top: Any = typer.main.get_command(app)
    found = [(f"deltacat {name}", command) for name, command in top.commands.items()]
    for name, command in found:
        if hasattr(command, "commands"):
            found += [(f"{name} {sub}", one) for sub, one in command.commands.items()]
    return [(name, command) for name, command in found if not hasattr(command, "commands")]


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_prints_json_where_it_prints_an_answer(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run([*name.split()[1:], "--help"])
    # `serve` answers nobody here: its log is JSON with --log-format.
    option = "--log-format" if name == "deltacat serve" else "--json"
    assert option in capsys.readouterr().out


def test_the_page_tells_of_every_command_and_option() -> None:
    missing = []
    for name, command in commands():
        if not re.search(rf"{re.escape(name)}\b", PAGE):
            missing.append(name)
        options = [] if name.removeprefix("deltacat ") in SERVER_COMMANDS else command.params
        missing += [f"{name} {p.opts[0]}" for p in options if not _is_told(p.opts)]
    assert not missing


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_on_operations_tells_of_every_option_of_the_servers_commands(name: str) -> None:
    usage = COMMANDS[name].parser(name).format_usage()
    options = set(re.findall(r"--[a-z0-9-]+", usage))
    assert options
    assert {option for option in options if not _stands_in(option, OPERATIONS + PAGE)} == set()


def _stands_in(option: str, page: str) -> bool:
    return re.search(rf"{option}(?![a-z0-9-])", page) is not None


def _is_told(names: list[str]) -> bool:
    return not names[0].startswith("-") or any(name in PAGE for name in names)
