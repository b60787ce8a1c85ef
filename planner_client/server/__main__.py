"""What does `python -m planner_client.server` do? It serves catalogs over HTTP, or looks after one."""

from __future__ import annotations

import argparse
import contextlib
import gc
import ipaddress
import signal
import ssl
import sys

import uvicorn

from io_core.errors import DeltaCATError
from io_core.lean_arrow import spare_pandas
from io_core.s3 import S3Settings
from planner_client.server.app import App
from planner_client.server.auth import Guard
from planner_client.server.auth_store import FIRST_USER, AuthStore
from planner_client.server.command import PROGRAM, Command, Parser, opened, parser_of, print_json
from planner_client.server.hosting import DEFAULT_CATALOG, HostedCatalogs, check_name
from planner_client.server.limits import Limits
from planner_client.server.listening import configured
from planner_client.server.logs import set_up_logging
from planner_client.server.maintenance import COMMANDS as MAINTENANCE
from planner_client.server.places import DataRoot
from planner_client.server.planner import EmbeddedPlanner

__all__ = ["COMMANDS", "main"]

_EXAMPLES = """\
examples:
  {serve} --catalog-root /data/lake
      one catalog, for programs on this machine
  {serve} --catalog-root /data/lake --catalog lab=/data/lab
      two catalogs; clients name the second: Client(url, catalog="lab")
  {serve} --catalog-root /data/lake --host 0.0.0.0 \\
      --ssl-certfile cert.pem --ssl-keyfile key.pem
      for other machines: callers need a token, and nobody reads along

other commands, each with its own --help:
  {program} backup --catalog-root /data/lake --with-data /backups/monday
      a copy of one moment, while it is in use
  {program} check --catalog-root /data/lake
      whether the ledger is sound and the files are there
  {program} vacuum --catalog-root /data/lake --keep 7d
      show which files nobody needs any more; delete them with --yes
  {program} new-admin-token --catalog-root /data/lake
      a further ADMIN token, where the first was lost

Clients use it as planner_client.Client("http://HOST:PORT"). A page on every call is at /docs,
figures for Prometheus at /metrics. End it with Ctrl-C or SIGTERM: calls under way are finished.
"""
_LAST_PORT = 65535
_FIRST_START = """\
This catalog has no users yet, so one was made: {user}, who may do everything. Its token:

    {token}

It is shown this once. Keep it safe, and use it to make users and tokens for everybody else:
Client(URL, bearer_token=TOKEN).auth, or POST /v1/auth/users.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; `serve` where none is named.

    Returns:
        The process's exit code: 2 where the arguments or the catalog are refused.
    """
    given = sys.argv[1:] if arguments is None else arguments
    named = bool(given) and given[0] in COMMANDS
    name = given[0] if named else "serve"
    try:
        return COMMANDS[name](given[1:] if named else given, f"{PROGRAM} {name}")
    except (DeltaCATError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _run_serve(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Serve catalogs until a signal ends it.

    Raises:
        DeltaCATError: A catalog cannot be opened.
    """
    roots = _roots(parser, given)
    authenticates = _authenticates(parser, given)
    _check_certificate(parser, given)
    log = set_up_logging(given.log_format)
    data_root = _data_root(parser, given)
    default = next(iter(roots))
    planners = {
        name: EmbeddedPlanner(root, name=name, data_root=data_root if name == default else None)
        for name, root in roots.items()
    }
    guard = Guard()
    if authenticates:
        store = AuthStore(next(iter(planners.values())).root)
        guard = Guard(store, trust_user_header=given.trust_user_header)
        _show_first_token(store)
    limits = Limits(
        max_body_bytes=given.max_body_mb * 2**20,
        max_json_files=given.max_json_files,
        threads=given.threads,
        max_waiting=given.max_waiting,
    )
    app = App(HostedCatalogs(planners, guard), guard, limits=limits, log=log)
    server = uvicorn.Server(
        configured(
            app,
            host=given.host,
            port=given.port,
            ssl_certfile=given.ssl_certfile,
            ssl_keyfile=given.ssl_keyfile,
        )
    )
    # What is loaded by now stays; a large commit makes a million objects at once, and looking
    # through them again and again would take longer than reading them.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    # uvicorn ends well at a signal and then raises it again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


def _token_parser(called: str) -> argparse.ArgumentParser:
    return parser_of(
        called,
        "Print a new token of the first user, an ADMIN of everything. Whoever may write the "
        "catalog's directory may do this; the server may be running.",
    )


def _run_token(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    token = AuthStore(opened(parser, given).root).new_admin_token()
    if given.json:
        print_json({"token": token, "user_id": FIRST_USER})
    else:
        sys.stdout.write(f"{token}\n")
    return 0


def _serve_parser(called: str) -> argparse.ArgumentParser:
    program, _, _ = called.rpartition(" ")
    parser = Parser(
        prog=called or None,
        description="Serve DeltaCAT catalogs over HTTP.",
        epilog=_EXAMPLES.format(program=program, serve=called),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_catalogs(parser.add_argument_group("what to serve (at least one)"))
    _add_store(parser.add_argument_group("where the default catalog keeps its data"))
    _add_addresses(parser.add_argument_group("where to listen"))
    _add_callers(parser.add_argument_group("who may call"))
    _add_limits(parser.add_argument_group("limits"))
    parser.add_argument_group("log, on standard error").add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="a line a request, for people or for machines (default: %(default)s)",
    )
    return parser


COMMANDS = {
    "serve": Command(_serve_parser, _run_serve),
    "new-admin-token": Command(_token_parser, _run_token),
    **MAINTENANCE,
}


def _add_catalogs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--catalog-root",
        metavar="DIR",
        help=f"directory of the default catalog, which is called {DEFAULT_CATALOG!r}; on a local "
        "disk; made where it is absent or empty",
    )
    group.add_argument(
        "--catalog",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="a further catalog; may be repeated. Without --catalog-root the first is the default",
    )


def _add_store(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data-root",
        metavar="URI",
        help="s3://BUCKET/PREFIX, chosen when the catalog is made and remembered by it (default: the "
        "catalog's own directory); the ledger stays on the local disk",
    )
    group.add_argument(
        "--s3-endpoint", metavar="URL", help="where the store listens, if it is not AWS"
    )
    group.add_argument("--s3-region", metavar="NAME", help="its region (default: us-east-1)")
    group.add_argument(
        "--s3-path-style",
        choices=("on", "off"),
        help="whether buckets are named in the path (default: where there is an --s3-endpoint)",
    )
    group.add_argument(
        "--s3-ca-bundle",
        metavar="FILE",
        help="PEM file of the authorities that its certificate is checked by, beside the system's; "
        "clients get it with their plans",
    )
    group.add_argument(
        "--s3-credentials",
        metavar="SOURCE",
        default="static",
        help="where keys come from: static (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this "
        "process), profile, profile:NAME, or sts:ROLE_ARN, which gives callers keys that expire and "
        "that readers can only read with (default: %(default)s)",
    )
    group.add_argument(
        "--s3-sts-endpoint", metavar="URL", help="where roles are assumed, if not at AWS"
    )


def _add_addresses(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, this machine alone; 0.0.0.0: every network)",
    )
    group.add_argument(
        "--port", type=_port, default=8080, help="port (default: %(default)s; 0: any free one)"
    )
    group.add_argument("--ssl-certfile", metavar="FILE", help="serve HTTPS with this certificate")
    group.add_argument(
        "--ssl-keyfile",
        metavar="FILE",
        help="its private key, where the certificate's file has none",
    )


def _add_callers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--auth",
        choices=("on", "off"),
        nargs="?",
        const="on",
        help="whether callers need a token (default: on, but off for this machine alone). The first "
        "start prints the token of the first user",
    )
    group.add_argument(
        "--insecure-no-auth",
        action="store_true",
        help="let everybody who reaches --host do everything; needed to listen on a network with "
        "--auth off",
    )
    group.add_argument(
        "--trust-user-header",
        action="store_true",
        help="believe the header x-deltacat-user: only behind a proxy that authenticates callers and "
        "sets it itself",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    limits = Limits()
    for flag, default, text in (
        ("max-body-mb", limits.max_body_bytes // 2**20, "largest body of a request, in MiB"),
        ("max-json-files", limits.max_json_files, "most files in one answer to a plan as JSON"),
        ("threads", limits.threads, "calls that run at once"),
        ("max-waiting", limits.max_waiting, "calls that may wait; more are told to come again"),
    ):
        group.add_argument(
            f"--{flag}",
            type=_positive,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )


def _port(text: str) -> int:
    # A socket takes a larger one for what is left of it.
    if not text.isdigit() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write 0 to {_LAST_PORT}")
    return int(text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _roots(parser: argparse.ArgumentParser, given: argparse.Namespace) -> dict[str, str]:
    roots: dict[str, str] = {}
    if given.catalog_root is not None:
        roots[DEFAULT_CATALOG] = given.catalog_root
    for text in given.catalog:
        name, equals, root = text.partition("=")
        if not (name and equals and root):
            parser.error(f"--catalog {text}: write NAME=DIR")
        if name in roots:
            parser.error(f"--catalog {text}: there is a catalog {name!r} already")
        roots[check_name(name)] = root
    if not roots:
        parser.error("nothing to serve: pass --catalog-root DIR or --catalog NAME=DIR")
    return roots


def _data_root(parser: argparse.ArgumentParser, given: argparse.Namespace) -> DataRoot | None:
    if given.data_root is None:
        if given.s3_endpoint or given.s3_region or given.s3_path_style or given.s3_ca_bundle:
            parser.error("options of a store need --data-root")
        return None
    ca = None
    if given.s3_ca_bundle is not None:
        with open(given.s3_ca_bundle, encoding="utf-8") as file:
            ca = file.read()
    path_style = None if given.s3_path_style is None else given.s3_path_style == "on"
    found = DataRoot(
        root=given.data_root,
        settings=S3Settings(given.s3_endpoint, given.s3_region, path_style, ca),
        credentials=given.s3_credentials,
        sts_endpoint_url=given.s3_sts_endpoint,
    )
    try:
        found.check()
    except ValueError as error:
        parser.error(str(error))
    return found


def _authenticates(parser: argparse.ArgumentParser, given: argparse.Namespace) -> bool:
    local = _is_loopback(given.host)
    if given.insecure_no_auth and given.auth == "on":
        parser.error("--auth on and --insecure-no-auth contradict each other: pass one")
    authenticates = (
        not (local or given.insecure_no_auth) if given.auth is None else given.auth == "on"
    )
    if not (authenticates or local or given.insecure_no_auth):
        parser.error(
            f"--auth off on {given.host} would let everybody who reaches it do everything: pass "
            "--auth on, a loopback --host, or --insecure-no-auth if that is what you want"
        )
    if given.trust_user_header and not authenticates:
        parser.error("--trust-user-header needs --auth on: grants say what a user may do")
    return authenticates


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_certificate(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if given.ssl_certfile is None:
        if given.ssl_keyfile is not None:
            parser.error("--ssl-keyfile needs --ssl-certfile")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            given.ssl_certfile, given.ssl_keyfile
        )
    except OSError as error:
        parser.error(f"--ssl-certfile {given.ssl_certfile}: no certificate with its key: {error}")


def _show_first_token(store: AuthStore) -> None:
    token = store.bootstrap()
    if token is not None:
        sys.stdout.write(_FIRST_START.format(user=FIRST_USER, token=token))
        sys.stdout.flush()


if __name__ == "__main__":
    spare_pandas()
    raise SystemExit(main())
