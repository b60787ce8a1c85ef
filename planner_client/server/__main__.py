"""Serve a catalog over HTTP: python -m planner_client.server --catalog-root DIR."""

from __future__ import annotations

import argparse
import ipaddress
import sys

import uvicorn

from io_core.errors import DeltaCATError
from planner_client.server.app import build_app
from planner_client.server.planner import EmbeddedPlanner

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve until interrupted.

    Returns:
        The process's exit code: 2 where the arguments or the catalog are refused.
    """
    parser = argparse.ArgumentParser(
        prog="python -m planner_client.server",
        description="Serve a DeltaCAT catalog over HTTP.",
        epilog="Clients use it as planner_client.Client('http://HOST:PORT').",
    )
    parser.add_argument(
        "--catalog-root",
        required=True,
        metavar="DIR",
        help="the catalog's directory, on a local disk; made where it is absent or empty",
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (0: any free)")
    given = parser.parse_args(arguments)
    if not _is_loopback(given.host):
        parser.error(
            f"--host {given.host}: this planner does not authenticate its callers, "
            "so it listens on loopback addresses alone"
        )
    try:
        planner = EmbeddedPlanner(given.catalog_root)
    except DeltaCATError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    uvicorn.run(
        build_app(planner), host=given.host, port=given.port, log_level="info", access_log=False
    )
    return 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
