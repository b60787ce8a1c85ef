"""How does a case run with a published client? In that client's own interpreter, one line per case.

Started as ``python -m tests.compat.run`` from the root of the repository. Each line of the input is a
JSON object: `theme` and `case`, the planner's `url` and `token`, a `namespace` and a `folder` for the
case alone. Each line of the output answers one of them, with `failure`: null, or the traceback of what
went wrong.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from deltacat_client import Client

from tests.compat.place import Place

__all__ = ["main"]

_LONGEST_CASE_S = 120


def main() -> None:
    """Answer every line of the input; whatever else is printed goes to the errors."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        faulthandler.dump_traceback_later(_LONGEST_CASE_S, exit=True)
        print(json.dumps({"failure": _failure_of(json.loads(line))}), file=answers, flush=True)
        faulthandler.cancel_dump_traceback_later()


def _failure_of(asked: dict[str, str]) -> str | None:
    case = getattr(importlib.import_module(f"tests.compat.cases.{asked['theme']}"), asked["case"])
    try:
        with Client(asked["url"], bearer_token=asked["token"]) as client:
            client.catalog.create_namespace(namespace=asked["namespace"])
            case(Place(client, asked["namespace"], Path(asked["folder"])))
    except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
        # An `assert` here is a plain one: its values stand in the frame's names.
        is_ours = isinstance(error, AssertionError)
        shown = traceback.TracebackException.from_exception(error, capture_locals=is_ours)
        return "".join(shown.format())
    return None


if __name__ == "__main__":
    main()
