"""What is a command that looks after a catalog, and how does it find the catalog's directory?

`python -m planner_client.server` and `deltacat` run the same ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec

from planner_client.server.planner import EmbeddedPlanner

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PROGRAM", "Command", "Parser", "opened", "parser_of", "print_json"]

PROGRAM = "python -m planner_client.server"
# The client's: a planner may be a directory too.
_ENVIRONMENT = "DELTACAT_PLANNER"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


class Command(NamedTuple):
    """A command: its arguments, given what it is called; and what it does with them.

    `run` returns the process's exit code.
    """

    parser: Callable[[str], argparse.ArgumentParser]
    run: Callable[[argparse.ArgumentParser, argparse.Namespace], int]

    def __call__(self, arguments: list[str], called: str = "") -> int:
        """Parse the arguments and run it; `called` is what usage and errors call it."""
        parser = self.parser(called)
        return self.run(parser, parser.parse_args(arguments))


def parser_of(called: str, description: str) -> Parser:
    """A parser with the arguments of every command on one catalog."""
    parser = Parser(prog=called or None, description=description)
    parser.add_argument(
        "--catalog-root",
        "--planner",
        metavar="DIR",
        default=os.environ.get(_ENVIRONMENT),
        help=f"the catalog's directory (default: {_ENVIRONMENT})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser


def opened(parser: argparse.ArgumentParser, given: argparse.Namespace) -> EmbeddedPlanner:
    """The planner of the catalog that was named."""
    root: str | None = given.catalog_root
    if not root:
        parser.error(f"which catalog? Pass --catalog-root DIR, or set {_ENVIRONMENT}")
    if root.startswith(("http://", "https://")):
        parser.error(
            f"{root} is a server: this needs the catalog's directory, on the server's machine, as "
            "--catalog-root DIR"
        )
    return EmbeddedPlanner(root, create=False)


def print_json(found: object) -> None:
    """Print an object as JSON, all of its fields."""
    plain = msgspec.to_builtins(found)
    sys.stdout.write(f"{msgspec.json.encode(plain).decode()}\n")
