"""What does the command `deltacat` need before it can start? Its extra, and no pandas."""

from __future__ import annotations

import sys

from io_core.lean_arrow import spare_pandas

__all__ = ["main"]

_OURS = {"planner_client", "io_core", "deltacat_sources"}


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    spare_pandas()
    try:
        from planner_client.cli.app import run
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in _OURS:
            raise
        sys.stderr.write(f"error: deltacat needs {name}: pip install 'deltacat-sources[cli]'\n")
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
