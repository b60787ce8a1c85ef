"""Which mutants does no test notice? Reads what `mutants.py` printed; writes a diff for each survivor.

`docs/mutation.md` lists the survivors that there are and says of each why it means the same: one
that stands not there fails the run. What was noticed is kept beside the list of mutants, and a later
run asks of the others alone: remove that file to ask of all.
"""

from __future__ import annotations

import difflib
import hashlib
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
PATIENCE_S = 300
# By file, runs of tests that notice: what is fast comes first, and is all that most mutants meet.
# Files' own footers take the longest, and tell no more than the laws.
_PARTITION = ("tests/io_core/test_partition.py",)
_PRUNE = ("tests/io_core/test_prune.py", "-k", "not all_means_every")
_LAWS = ("tests/io_core/test_prune_laws.py",)
TESTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "io_core/prune.py": (_PRUNE, _PARTITION, _LAWS),
    "io_core/partition.py": (_PARTITION, _PRUNE, _LAWS),
    "io_core/buckets.py": (_PARTITION, _PRUNE),
    "io_core/merge.py": (
        (
            "tests/io_core/test_merge.py",
            "tests/io_core/test_merge_order.py",
            "-k",
            "not oracles_dict",
        ),
        ("tests/io_core/test_execute.py",),
        ("tests/io_core/test_merge.py", "-k", "oracles_dict"),
    ),
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


def is_noticed(checker: Checker, path: str, source: str | None) -> bool:
    """Whether a test fails, or takes too long, with `source` in place of the file at `path`."""
    return not all(
        checker.run(path, source, tests, timeout_s=PATIENCE_S).passed for tests in TESTS[path]
    )


def main(listed: Path) -> int:
    """Run the tests against every mutant."""
    mutants = [json.loads(line) for line in listed.read_text().splitlines()]
    explained = (ROOT / "docs/mutation.md").read_text()
    kept = listed.with_name("noticed")
    noticed = set(kept.read_text().split()) if kept.exists() else set()
    survivors: list[str] = []
    with tempfile.TemporaryDirectory() as folder, kept.open("a") as log:
        place = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        checker = Checker(place)
        for path in {mutant["path"] for mutant in mutants}:
            if is_noticed(checker, path, None):
                raise SystemExit(f"the tests of {path} do not pass as it is")
        started = time.monotonic()
        for number, mutant in enumerate(mutants, 1):
            digest = hashlib.sha256(mutant["source"].encode()).hexdigest()
            if digest in noticed:
                continue
            if is_noticed(checker, mutant["path"], mutant["source"]):
                print(digest, file=log, flush=True)
            else:
                survivors.append(change(mutant))
                print(f"{survivors[-1]}\n", flush=True)
            print(f"{number}/{len(mutants)} {time.monotonic() - started:.0f} s", file=sys.stderr)
        checker.close()
    unknown = [s for s in survivors if s not in explained]
    print(f"{len(mutants)} mutants, {len(survivors)} survive, {len(unknown)} of them unexplained")
    return bool(unknown)


sys.exit(main(Path(sys.argv[1])))
