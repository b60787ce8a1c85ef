"""Whether the package declares what was agreed: dependencies, bounds, extras and pins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in PROJECT["optional-dependencies"].items()
}
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pins(path: Path) -> dict[str, str]:
    """Each pinned distribution, with its version and markers."""
    found = re.findall(r"^([a-z0-9.-]+)==(\S+(?: ;[^\\]+)?)", path.read_text(), re.MULTILINE)
    return {f"{name}=={version.strip()}": name for name, version in found}


def test_the_base_needs_six_packages() -> None:
    names = {requirement.name for requirement in BASE}
    assert names == {"apsw", "fsspec", "msgspec", "numpy", "pyarrow", "requests"}


def test_torch_is_in_no_extra() -> None:
    assert not [e for e, needs in EXTRAS.items() if any(n.name.startswith("torch") for n in needs)]


@pytest.mark.parametrize("name", ["polars", "daft", "ray", "pylance", "pyarrow"])
def test_an_unstable_api_has_an_upper_bound(name: str) -> None:
    everything = BASE + [need for needs in EXTRAS.values() for need in needs]
    bounds = [n.specifier for n in everything if n.name == name and n.specifier]
    assert bounds
    assert all(any(part.operator == "<" for part in bound) for bound in bounds)


def test_the_extra_all_names_every_feature() -> None:
    (everything,) = EXTRAS["all"]
    assert everything.extras == set(EXTRAS) - {"all", "demo", "bench", "dev"}


def test_only_python_3_11_and_newer_is_served() -> None:
    assert PROJECT["requires-python"] == ">=3.11"


def test_there_is_a_lock_for_every_purpose() -> None:
    purposes = ["bench", "build", "compat-later", "compat", "demo", "dev"]
    purposes += ["mutation", "s3-store", "uv"]
    assert [path.stem for path in LOCKS] == purposes


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_every_pin_has_a_hash(path: Path) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]
    assert blocks
    assert not [b for b in blocks if "==" not in b or "--hash=sha256:" not in b]


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_no_lock_says_where_to_download_from(path: Path) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links| @ ", path.read_text())


@pytest.mark.parametrize(("smaller", "larger"), [("demo", "dev"), ("dev", "bench")])
def test_a_larger_lock_holds_a_smaller_one(smaller: str, larger: str) -> None:
    # Markers aside: a larger set may need a package on more platforms.
    small, large = (
        {pin.partition(" ;")[0] for pin in pins(ROOT / "requirements" / f"{name}.txt")}
        for name in (smaller, larger)
    )
    assert small
    assert small <= large


@pytest.mark.parametrize("extra", ["dev", "bench"])
def test_a_lock_pins_what_its_extra_asks_for(extra: str) -> None:
    found = pins(ROOT / "requirements" / f"{extra}.txt")
    names = {need.name for need in EXTRAS[extra]} - {PROJECT["name"]}
    assert names <= set(found.values())


def test_every_pin_of_a_direct_dependency_is_within_its_bounds() -> None:
    versions = {
        name: pin.partition("==")[2].partition(" ;")[0]
        for pin, name in pins(ROOT / "requirements" / "dev.txt").items()
    }
    needs = BASE + [
        n for e in ("server", "s3", "polars", "daft", "ray", "lance", "avro") for n in EXTRAS[e]
    ]
    assert not [str(n) for n in needs if not n.specifier.contains(versions[n.name])]


def test_ray_is_locked_at_the_lowest_that_its_extra_allows() -> None:
    # While there is one release of that range, one run of the suite tests both ends of it.
    (need,) = EXTRAS["ray"]
    (low,) = (s.version for s in need.specifier if s.operator == ">=")
    assert f"ray=={low}.0" in {
        pin.partition(" ;")[0] for pin in pins(ROOT / "requirements" / "dev.txt")
    }
