"""How is a planner run and looked after? `serve`, `vacuum`, `check`, `backup`: the server's own commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import typer  # noqa: TC002  # read by Typer at run time
from typer.core import TyperCommand

if TYPE_CHECKING:
    from planner_client.server.command import Command

__all__ = ["PROGRAM", "SERVER_COMMANDS", "add_server_commands"]

PROGRAM = "deltacat"
SERVER_COMMANDS = {
    "serve": "Serve catalogs over HTTP.",
    "check": "See whether a catalog is sound and its files are there.",
    "backup": "Copy a catalog as it is at one moment.",
    "vacuum": "Show which files nobody needs any more; delete them with --yes.",
    "new-admin-token": "Print a further ADMIN token, where the first was lost.",
}


def add_server_commands(app: typer.Typer) -> None:
    """Offer the server's commands too; their arguments are read by its own parsers."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    for name, text in SERVER_COMMANDS.items():
        app.command(
            name,
            cls=_Passed,
            help=text,
            context_settings=settings,
            rich_help_panel="Where the catalog is",
        )(_pass_on)


def _command(name: str) -> Command:
    # Late: who asks a planner elsewhere needs nothing of the server.
    from planner_client.server.__main__ import COMMANDS

    return COMMANDS[name]


def _pass_on(context: typer.Context) -> int:
    name = context.info_name
    assert name is not None
    return _command(name)(context.args, f"{PROGRAM} {name}")


class _Offered(NamedTuple):
    """An option that a shell may offer."""

    value: str
    help: str | None = None
    type: str = "plain"


class _Passed(TyperCommand):
    """A command that offers shells the options of the server's parser."""

    # Any: Typer's own types are private.
    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The options that begin like this."""
        name = ctx.info_name
        # Its options are public in no other way.
        actions = _command(name).parser(f"{PROGRAM} {name}")._actions  # noqa: SLF001
        return [
            _Offered(option, action.help)
            for action in actions
            for option in action.option_strings
            if option.startswith(incomplete)
        ]
