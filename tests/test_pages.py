"""Does every block of the README and of the pages run, and say what it is written in?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docs.demo.notebook import NOTEBOOK, text
from tests.pages import LANGUAGES, ROOT, blocks_of, commands_of, is_installing

if TYPE_CHECKING:
    from tests.object_store.store import ObjectStore

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
# Those that start a cluster, and the one that needs a store.
CLUSTER = {"README.md", "index.md", "ray.md"}
STORE = "storage.md"


def run(pages: list[Path]) -> None:
    """Run pages in one process, with the commands of this environment."""
    held = {k: v for k, v in os.environ.items() if not k.startswith("DELTACAT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{held['PATH']}"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.pages", *map(str, pages)],
        cwd=ROOT,
        env=held | {"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n(lines are the page's)\n{ended.stderr}"


def with_code(*names: str) -> list[Path]:
    """Pages that have something to run."""
    return [
        page
        for page in PAGES
        if page.name in names
        and any(block.language in {"python", "bash"} for block in blocks_of(page.read_text()))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page: Path) -> None:
    assert {block.language for block in blocks_of(page.read_text())} <= LANGUAGES


def test_the_pages_run() -> None:
    run(with_code(*({page.name for page in PAGES} - CLUSTER - {STORE})))


@pytest.mark.cluster
def test_pages_with_ray_run() -> None:
    pages = with_code(*CLUSTER)
    assert len(pages) == len(CLUSTER)
    run(pages)


def test_the_page_on_stores_runs_with_a_store(object_store: ObjectStore, tmp_path: Path) -> None:
    page = tmp_path / STORE
    text = (ROOT / "docs" / STORE).read_text()
    bucket = object_store.bucket().removesuffix("/")
    for shown, real in (
        ("https://minio.example.com:9000", object_store.url),
        ("s3://bucket", bucket),
        ("eu-1", "us-east-1"),
    ):
        assert shown in text
        text = text.replace(shown, real)
    page.write_text(text)
    run([page])


def test_the_notebook_shows_what_its_cells_give() -> None:
    assert text() == NOTEBOOK.read_text(), "run docs/demo/notebook.py"


def test_commands_are_those_of_a_shell() -> None:
    code = "# why\nmake test   # all\n\npip install \\\n    deltacat-sources[polars]\n"
    assert [is_installing(command) for command in commands_of(code)] == [True, True]
    assert not is_installing("deltacat ls")


@pytest.mark.parametrize("command", ["make nothing", "pip install deltacat-sources[nothing]"])
def test_an_unknown_target_or_extra_is_noticed(command: str) -> None:
    with pytest.raises(LookupError):
        is_installing(command)


def test_a_page_that_fails_is_noticed_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nx = 1\n```\n\n```bash\necho $((1 + 1))\n```\n")
    run([page])
    page.write_text("# Page\n\n```python\nx = 1\nassert x == 2\n```\n")
    with pytest.raises(AssertionError, match=r"page.md\", line 5"):
        run([page])
    page.write_text("# Page\n\n```bash\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"page.md, line 4: exit code 1"):
        run([page])
