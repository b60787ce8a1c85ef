"""Does a test fail for every rule that the code breaks? Each is broken by itself, in a copy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broken_rules import RULES, Rule
from tests.changed_source import Checker

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("io_core", "planner_client", "deltacat_sources", "tests")
# A run that takes longer counts as noticed: none of these may.
_PATIENCE_S = 600


def test_what_each_rule_changes_stands_in_its_file_once() -> None:
    moved = [r.name for r in RULES if (ROOT / r.source).read_text().count(r.sound) != 1]
    assert not moved, "say anew in tests/broken_rules.py what breaks these"


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checker]:
    """A copy of the code and its tests, so that nothing changes under a run."""
    place = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    found = Checker(place)
    yield found
    found.close()


@pytest.mark.breaks
@pytest.mark.parametrize("tests", sorted({rule.tests for rule in RULES}), ids=lambda t: t[0])
def test_the_tests_pass_where_no_rule_is_broken(checker: Checker, tests: tuple[str, ...]) -> None:
    found = checker.run("", None, tests, timeout_s=_PATIENCE_S)
    assert found.passed, found.output


@pytest.mark.breaks
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_test_fails_where_a_rule_is_broken(checker: Checker, rule: Rule) -> None:
    sound = (ROOT / rule.source).read_text()
    found = checker.run(
        rule.source, sound.replace(rule.sound, rule.broken), rule.tests, timeout_s=_PATIENCE_S
    )
    assert found.failed, f"nobody noticed: {rule.name}\n{found.output}"
