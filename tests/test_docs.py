"""Whether the documents agree with the code: endpoints, error codes, the ledger's tables, links."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from io_core import errors
from planner_client import Client
from planner_client.protocol import ENDPOINTS
from planner_client.server.store import FORMAT_VERSION, LEDGER

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
CALL = re.compile(r"^\| `(\w+)` \| `([A-Z]+) (/\S*)` \|$", re.MULTILINE)
REFUSAL = re.compile(r"^\| `(\w+)` \| (\d{3}) \|", re.MULTILINE)
# What the client raises by itself, and no planner sends.
CLIENTS_OWN = {errors.TransactionError.code}


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return CODE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What a link to a part of the page may name."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> Iterator[str]:
    for found in LINK.finditer(prose(page)):
        target = found["target"]
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = page if not path else (page.parent / path).resolve()
        if not other.exists() or (anchor and anchor not in anchors(other)):
            yield target


def refusals(path: Path) -> Iterator[tuple[str, int]]:
    """Codes that a module gives to errors it raises, with their statuses."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        code, status = given.get("code"), given.get("status")
        if isinstance(code, str):
            usual = errors.RequestRejectedError.status
            yield code, status if isinstance(status, int) else usual


def trees(root: type[errors.DeltaCATError]) -> Iterator[type[errors.DeltaCATError]]:
    yield root
    for cls in root.__subclasses__():
        yield from trees(cls)


def test_the_wire_page_lists_every_endpoint() -> None:
    listed = CALL.findall((DOCS / "protocol.md").read_text())
    assert listed == [(e.name, e.method, e.path) for e in ENDPOINTS]


def test_the_wire_page_lists_every_error_with_its_status() -> None:
    listed = {(code, int(status)) for code, status in REFUSAL.findall(prose(DOCS / "protocol.md"))}
    classes = {cls for cls in trees(errors.DeltaCATError) if cls.code not in CLIENTS_OWN}
    raised = {(cls.code, cls.status) for cls in classes}
    for path in (ROOT / "planner_client" / "server").glob("*.py"):
        raised |= set(refusals(path))
    # Another status than the usual one, which the page tells in prose.
    raised -= {("invalid_request", 415)}
    # Raised with its code in no keyword.
    raised.add(("method_not_allowed", 405))
    assert listed == raised


def test_the_ledger_page_lists_every_table_of_the_format_in_force(tmp_path: Path) -> None:
    Client(tmp_path).close()
    ledger = apsw.Connection(str(tmp_path / LEDGER), flags=apsw.SQLITE_OPEN_READONLY)
    made = {row[0] for row in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    ledger.close()
    page = prose(DOCS / "ledger.md")
    _, heading, rest = page.partition(f"## Tables, format {FORMAT_VERSION}\n")
    assert heading, "the page is of another format"
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not list(broken_links(page))


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here we are\n[a](#here-we-are) [b](page.md) [c](#there) [d](none.md)\n")
    assert list(broken_links(page)) == ["#there", "none.md"]
