"""How fast is it, beside its peers? `python -m benchmarks NAME [--json FILE] [--quick]`."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

import msgspec

from benchmarks import BENCHMARKS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one benchmark, or all; print each one's table and write the same as JSON.

    Args:
        argv: The command line without the program's name; None reads it from the process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*BENCHMARKS, "all"], help="what to measure")
    parser.add_argument("--json", metavar="FILE", help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="a smaller input and fewer rounds")
    options = parser.parse_args(argv)
    names = list(BENCHMARKS) if options.name == "all" else [options.name]
    reports = []
    for name in names:
        report = importlib.import_module(BENCHMARKS[name]).run(quick=options.quick)
        print(report.render(), flush=True)
        reports.append(report)
    if options.json:
        with open(options.json, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")


if __name__ == "__main__":
    main()
