"""Do the published clients work with our planner, as they are? Each case is a function in cases/.

A case runs in an environment that holds a published release with the releases it was tested with:
their pins contradict ours.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.compat.published import Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compat.conftest import Open

CASES = Path(__file__).parent / "cases"

# The release that each environment holds, by the name of its requirements, and the themes that it
# has no calls for.
RELEASES = {"compat": "0.1.8", "compat-later": "0.1.67"}
LACKS = {"compat": {"later"}, "compat-later": set[str]()}

# The themes whose planner asks for a token.
GUARDED = {"auth"}
# The themes whose planner keeps its data on S3.
ON_S3 = {"stores"}


def cases(environment: str) -> Iterator[object]:
    """Every public function below cases/ that the environment's release has the calls for."""
    release = RELEASES[environment]
    # One process keeps a release, so that its interpreter and its planner start once.
    together = pytest.mark.xdist_group(f"client {release}")
    themes = {path.stem: ast.parse(path.read_text()) for path in sorted(CASES.glob("*.py"))}
    for theme in sorted(themes.keys() - LACKS[environment]):
        functions = [node.name for node in themes[theme].body if isinstance(node, ast.FunctionDef)]
        for name in functions:
            if not name.startswith("_"):
                label = f"{release}-{theme}-{name}"
                yield pytest.param(environment, theme, name, id=label, marks=together)


@pytest.mark.parametrize(
    ("environment", "theme", "name"), [case for name in RELEASES for case in cases(name)]
)
def test_with_a_published_client(
    environment: str, theme: str, name: str, published: Open, tmp_path: Path
) -> None:
    case = Case(theme, name, tmp_path, theme in GUARDED, theme in ON_S3)
    failure = published(environment).failure_of(case)
    if failure:
        pytest.fail(failure, pytrace=False)
