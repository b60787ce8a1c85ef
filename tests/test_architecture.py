"""Whether the code is built as it is meant to be: floors, rooms, sizes and names."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
When = Literal["at once", "called", "types"]
PACKAGES = ("io_core", "planner_client", "deltacat_sources")

# What each part may import of ours, itself included: down only.
MAY_IMPORT = {
    "io_core": ("io_core",),
    "planner_client": ("planner_client", "io_core"),
    "planner_client.cli": ("planner_client", "io_core"),
    "planner_client.protocol": ("planner_client.protocol", "io_core"),
    "planner_client.server": ("planner_client.server", "planner_client.protocol", "io_core"),
    "deltacat_sources": ("deltacat_sources", "planner_client", "io_core"),
}
# The ways up: a client opens an embedded planner when it is made, and a transport holds it; an engine's
# frame is written by that engine's adapter, and a read comes in an engine's form by the same; the
# command line runs the server's own commands.
MAY_REACH_UP: dict[str, tuple[str, tuple[When, ...]]] = {
    "planner_client.cli.keeping": ("planner_client.server", ("called", "types")),
    "planner_client.client": ("planner_client.server", ("called", "types")),
    "planner_client.transport": ("planner_client.server", ("types",)),
    "planner_client.writing": ("deltacat_sources", ("called",)),
    "planner_client.forms": ("deltacat_sources", ("called",)),
    "planner_client.rows": ("deltacat_sources", ("called",)),
}
CLIENTS = ("planner_client", "planner_client.cli")
OURS = (*PACKAGES, "benchmarks", "tests")
ENGINES = {"polars", "daft", "ray", "torch"}
OPTIONAL = ENGINES | {
    "aiobotocore",
    "botocore",
    "fastavro",
    "httptools",
    "lance",
    "pandas",
    "prometheus_client",
    "rich",
    "s3fs",
    "typer",
    "uvicorn",
    "uvloop",
}

# Whole parts that need an extra.
EXTRA_PARTS = {"planner_client.server", "planner_client.cli"}

LONGEST_FUNCTION = 60
LONGEST_NESTED = 10
LONGEST_MODULE = 600
# Longer, each because cutting it would hide more than it shows: "module:function". Shorten, don't add.
LONG_FUNCTIONS = {
    # The protocol's parameters, each of them documented.
    "planner_client.plans:Plans.plan",
    "planner_client.reads:Reads.read",
    "planner_client.tables:Tables.create_table",
    "planner_client.writing:Writing.write",
}
VAGUE_NAMES = {"utils", "helpers", "common", "base", "support", "misc"}


class Module(NamedTuple):
    """One file of ours, parsed."""

    name: str
    path: Path
    tree: ast.Module


class Import(NamedTuple):
    """One imported module, and when ours imports it: at once, when called, or for types alone."""

    name: str
    when: When


def parse_all(*folders: str) -> list[Module]:
    paths = [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]
    return [Module(name_of(p), p, ast.parse(p.read_text(), str(p))) for p in paths]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def imports_of(node: ast.AST, when: When = "at once") -> Iterator[Import]:
    """Every module that `node` imports; `from a import b` is `a.b` where that is a module of ours."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module, f"line {child.lineno}: relative import"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(whole if whole in MODULE_NAMES else child.module, when)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_of(child, "called")
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports_of(child, "types")
        else:
            yield from imports_of(child, when)


def functions_of(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The dotted name of every function, and its length in lines."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from functions_of(child, prefix)
            continue
        name = f"{prefix}{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from functions_of(child, f"{name}.")
        else:
            yield name, (child.end_lineno or child.lineno) - child.lineno + 1
            yield from functions_of(child, f"{name}()")


def top_level_names(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every name that a module binds, and whether it is a function or class defined there."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, True
            case ast.Import() | ast.ImportFrom():
                yield from ((a.asname or a.name.partition(".")[0], False) for a in node.names)
            case ast.Assign() | ast.AnnAssign():
                names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
                yield from ((name, False) for name in names)
            case ast.If() | ast.Try():
                yield from top_level_names(node)


def declared(tree: ast.Module) -> list[str] | None:
    """The names in `__all__`; None without one."""
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name("__all__")], value) | ast.AnnAssign(
                ast.Name("__all__"), value=ast.expr() as value
            ):
                found: list[str] = ast.literal_eval(value)
                return found
    return None


def part_of(name: str) -> str:
    return max((part for part in MAY_IMPORT if is_below(name, part)), key=len)


def engine_of(name: str) -> str | None:
    """The engine whose subpackage holds the module."""
    package, _, rest = name.partition(".")
    engine = rest.partition(".")[0]
    is_folder = package == "deltacat_sources" and (ROOT / package / engine).is_dir()
    return engine if engine and is_folder else None


LIBRARY = parse_all(*PACKAGES)
EVERYTHING = LIBRARY + parse_all("benchmarks", "tests", "docs")
MODULE_NAMES = {m.name for m in EVERYTHING}
PUBLIC = [
    m
    for m in LIBRARY
    if not any(part.startswith("_") for part in m.name.split("."))
    and any(not isinstance(node, ast.Expr) for node in m.tree.body)
]


def test_imports_between_our_packages_go_down_only() -> None:
    wrong = [
        f"{module.name} imports {found.name}"
        for module in LIBRARY
        for found in imports_of(module.tree)
        if found.name.partition(".")[0] in OURS and not may_import(module.name, found)
    ]
    assert not wrong


def may_import(importer: str, found: Import) -> bool:
    part = part_of(importer)
    above, when = MAY_REACH_UP.get(importer, ("", ()))
    if above and is_below(found.name, above):
        return found.when in when
    if part.startswith("planner_client") and is_below(found.name, "planner_client.cli"):
        return part == "planner_client.cli"
    if part in CLIENTS and is_below(found.name, "planner_client.server"):
        return False
    return any(is_below(found.name, allowed) for allowed in MAY_IMPORT[part])


def test_an_engine_imports_no_other_engine() -> None:
    wrong = [
        f"{module.name} imports {found.name}"
        for module in LIBRARY
        for found in imports_of(module.tree)
        if (engine := engine_of(module.name))
        and (
            engine_of(found.name) not in {None, engine}
            or found.name.partition(".")[0] in ENGINES - {engine}
        )
    ]
    assert not wrong


def test_nothing_below_the_engines_floor_knows_an_engine() -> None:
    wrong = [
        f"{module.name} imports {found.name}"
        for module in LIBRARY
        for found in imports_of(module.tree)
        if engine_of(module.name) is None and found.name.partition(".")[0] in ENGINES
    ]
    assert not wrong


def test_importing_our_packages_imports_nothing_optional() -> None:
    names = [m.name for m in LIBRARY if is_below(m.name, "io_core")]
    names += [m.name for m in LIBRARY if part_of(m.name).startswith("planner_client")]
    names = [n for n in names if part_of(n) not in EXTRA_PARTS] + list(PACKAGES)
    code = f"import json, sys, {', '.join(names)}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert loaded & OPTIONAL == set()


def test_the_list_of_long_functions_is_exact() -> None:
    found = {
        f"{module.name}:{name}": lines
        for module in EVERYTHING
        for name, lines in functions_of(module.tree)
        if lines > LONGEST_FUNCTION
    }
    assert set(found) == LONG_FUNCTIONS, f"longer than {LONGEST_FUNCTION} lines: {found}"


def test_nested_functions_are_short() -> None:
    found = {
        f"{module.name}:{name}": lines
        for module in EVERYTHING
        for name, lines in functions_of(module.tree)
        if "()" in name and lines > LONGEST_NESTED
    }
    assert not found


def test_no_module_outgrows_its_question() -> None:
    sizes = {m.name: len(m.path.read_text().splitlines()) for m in EVERYTHING}
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_MODULE} == {}


@pytest.mark.parametrize("module", PUBLIC, ids=lambda m: m.name)
def test_a_public_module_declares_what_is_public(module: Module) -> None:
    names = declared(module.tree)
    assert names is not None, "no __all__"
    bound = dict(top_level_names(module.tree))
    defined = {n for n, here in bound.items() if here and not n.startswith("_")}
    assert set(names) <= set(bound), "__all__ names what does not exist"
    assert defined <= set(names), "public, yet not in __all__"


@pytest.mark.parametrize("module", LIBRARY, ids=lambda m: m.name)
def test_the_first_line_of_a_module_says_what_it_answers(module: Module) -> None:
    assert ast.get_docstring(module.tree)


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert not [m.name for m in EVERYTHING if VAGUE_NAMES & set(m.name.split("."))]


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_package_is_typed() -> None:
    assert not [package for package in PACKAGES if not (ROOT / package / "py.typed").is_file()]
