"""How do tests run `deltacat`? The real command, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMMAND", "Ended", "deltacat", "environment"]

COMMAND = str(Path(sys.executable).parent / "deltacat")


class Ended(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    # Any: JSON.
    @property
    def json(self) -> Any:
        """What it printed, which has to be one JSON document and nothing else."""
        assert self.code == 0, self.err
        return msgspec.json.decode(self.out)


def environment(planner: str | None, **more: str) -> dict[str, str]:
    """The variables that a command sees; nothing of a developer's own planner."""
    held = {k: v for k, v in os.environ.items() if not k.startswith("DELTACAT_")}
    return held | ({} if planner is None else {"DELTACAT_PLANNER": planner}) | more


def deltacat(
    *arguments: str,
    planner: str | None = None,
    token: str | None = None,
    cwd: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> Ended:
    """Run the command to its end; `more` are variables of the environment."""
    given = {} if token is None else {"DELTACAT_TOKEN": token}
    ended = subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(planner, **given, **(more or {})),
        timeout=120,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
