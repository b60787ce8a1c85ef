"""Which commands does `deltacat` have, and how do they end? With one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import msgspec
import typer
from typer.exceptions import Abort, TyperException

from io_core.errors import DeltaCATError, PlannerUnavailableError, RequestRejectedError
from planner_client.cli.access import tokens
from planner_client.cli.browsing import describe, history, ls
from planner_client.cli.keeping import PROGRAM, add_server_commands
from planner_client.cli.output import note
from planner_client.cli.reading import plan, read
from planner_client.cli.writing import add, rollback, write

__all__ = ["DONE", "REFUSED", "UNAVAILABLE", "app", "deltacat", "run"]

# Exit codes. 1 is what check and vacuum say where they find something.
DONE, REFUSED, UNAVAILABLE = 0, 2, 3
_INTERRUPTED, _CLOSED_PIPE = 130, 141
_STDOUT = 1

_EPILOG = (
    "The environment's DELTACAT_PLANNER names the planner, DELTACAT_TOKEN is sent to one at a URL. "
    "Exit codes: 0 done, 1 check or vacuum found something, 2 refused, 3 no planner could answer "
    "(try again), 130 interrupted."
)

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _show_version(asked: bool) -> None:  # noqa: FBT001  # as Typer calls it
    if asked:
        sys.stdout.write(f"{PROGRAM} {installed_version('deltacat-sources')}\n")
        raise typer.Exit


@app.callback()
def deltacat(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the release, and end."
        ),
    ] = False,
) -> None:
    """DeltaCAT tables: look at them, read, write and serve them."""
    del version


app.command(rich_help_panel="Look")(ls)
app.command(rich_help_panel="Look")(describe)
app.command(rich_help_panel="Look")(history)
app.command(rich_help_panel="Read")(plan)
app.command(rich_help_panel="Read")(read)
app.command(rich_help_panel="Write")(write)
app.command(rich_help_panel="Write")(add)
app.command(rich_help_panel="Write")(rollback)
app.add_typer(tokens, name="token", rich_help_panel="Access")
add_server_commands(app)


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code, and lets no error through but those of ours.

    With `--json` an error is JSON too, on standard error.
    """
    as_json = "--json" in arguments
    try:
        found = app(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        # Where only a group was named, its help has been shown, and there is nothing to say.
        told = str(error.format_message())
        return _refused("usage", told, as_json=as_json) if told else REFUSED
    except (KeyboardInterrupt, Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        return _closed_pipe()
    except SystemExit as ended:
        # Typer's way with a closed pipe; else argparse's, of the server's commands.
        return _closed_pipe() if isinstance(ended.__context__, BrokenPipeError) else _code(ended)
    except DeltaCATError as error:
        _refused(error.code, str(error), as_json=as_json)
        return UNAVAILABLE if _may_pass(error) else REFUSED
    except (ValueError, OSError) as error:
        return _refused("invalid_request", str(error), as_json=as_json)
    return found if isinstance(found, int) else DONE


def _closed_pipe() -> int:
    # What still waits to be written must not fail a second time, when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    return _CLOSED_PIPE


def _code(ended: SystemExit) -> int:
    return ended.code if isinstance(ended.code, int) else DONE


def _may_pass(error: DeltaCATError) -> bool:
    if isinstance(error, RequestRejectedError):
        return error.retryable
    return isinstance(error, PlannerUnavailableError)


def _refused(code: str, message: str, *, as_json: bool) -> int:
    line = " ".join(message.split())
    if as_json:
        told = {"error": {"code": code, "message": line}}
        sys.stderr.write(f"{msgspec.json.encode(told).decode()}\n")
    else:
        note(f"error: {line}")
    return REFUSED
