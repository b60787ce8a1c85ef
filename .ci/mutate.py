"""Which mutants does no test notice? Reads what `mutants.py` printed; writes a diff for each survivor.

`docs/mutation.md` lists the survivors that there are and says of each why it means the same: one
that stands not there fails the run.
"""

from __future__ import annotations

import difflib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.changed_source import Checker

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("io_core", "planner_client", "deltacat_sources", "tests")
# What notices fast comes first; files' own footers take the longest, and tell no more than the laws.
_PRUNE = (
    "tests/io_core/test_prune.py",
    "tests/io_core/test_partition.py",
    "tests/io_core/test_prune_laws.py",
    "-k",
    "not all_means_every_row",
)
_MERGE = ("tests/io_core/test_merge.py", "tests/io_core/test_execute.py")
TESTS: dict[str, tuple[str, ...]] = {
    "io_core/prune.py": _PRUNE,
    "io_core/partition.py": _PRUNE,
    "io_core/buckets.py": ("tests/io_core/test_partition.py",),
    "io_core/merge.py": _MERGE,
}


# Any: what a line says of a mutant.
def change(mutant: dict[str, Any]) -> str:
    """The lines that differ."""
    before = (ROOT / mutant["path"]).read_text().splitlines()
    after = mutant["source"].splitlines()
    lines = [
        line
        for line in difflib.unified_diff(before, after, lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    return "\n".join([mutant["path"], *lines])


def main(listed: str) -> int:
    """Run the tests against every mutant."""
    mutants = [json.loads(line) for line in Path(listed).read_text().splitlines()]
    known = (ROOT / "docs/mutation.md").read_text()
    survivors: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        checker = Checker(place)
        started = time.monotonic()
        for number, mutant in enumerate(mutants, 1):
            path = mutant["path"]
            found = checker.run(path, mutant["source"], TESTS[path], timeout_s=60)
            if found.passed:
                survivors.append(change(mutant))
                print(f"{survivors[-1]}\n", flush=True)
            print(f"{number}/{len(mutants)} {time.monotonic() - started:.0f} s", file=sys.stderr)
        checker.close()
    unknown = [s for s in survivors if s not in known]
    print(f"{len(mutants)} mutants, {len(survivors)} survive, {len(unknown)} of them unexplained")
    return bool(unknown)


sys.exit(main(sys.argv[1]))
