"""The notebook on explain: its cells are here, run one after the other, and written with what they show.

`python docs/demo/notebook.py` writes docs/explain.ipynb.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "explain.ipynb"

# Text and code take turns.
CELLS = (
    """# What does a query open?

A table of 30 days, a file for each, and a planner that runs in this notebook.""",
    """import polars as pl

from deltacat_sources.polars import scan_deltacat, write_deltacat
from planner_client import Client

client = Client("notebook-catalog")
days = pl.DataFrame({"day": [d for d in range(1, 31) for _ in range(1000)]}).with_columns(
    id=pl.int_range(pl.len()), km=(pl.int_range(pl.len()) * 7 % 1000) / 10
)
write_deltacat(days, "demo.trips", planner=client, merge_keys=["id"], partition_by=["day"])
days.height""",
    """A query is explained before it runs: which filters went to the planner, which stayed in Polars, and how
many files and bytes each step of planning left. A notebook shows it as a picture.""",
    """trips = scan_deltacat("demo.trips", planner=client)
query = trips.filter(pl.col("day") > 20, pl.col("id") < 22_500, pl.col("km").round() == 3)
query.deltacat.explain()""",
    """`day` rules out partitions, `id` files by their statistics; `round` is said by no planner, so Polars
filters by it. What is left is read.""",
    "query.select(pl.len()).collect()",
    "The plan itself can be looked at, kept, and read by another engine on another machine.",
    """plan = query.deltacat.plan()
print(plan.explain())""",
)


# Any: notebooks are JSON.
def built() -> dict[str, Any]:
    """The notebook, its cells run in a directory of their own."""
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cells = [
            _code(source, i // 2 + 1, names) if i % 2 else _text(source, i)
            for i, source in enumerate(CELLS)
        ]
        shown = json.dumps(cells, ensure_ascii=False).replace(f"{folder}/", "")
    # Names of sessions and files are new ones every time.
    cells = json.loads(re.sub(r"[0-9a-f]{32}", "…", shown))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _text(source: str, number: int) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"text-{number}", "metadata": {}, "source": source}


def _code(source: str, number: int, names: dict[str, Any]) -> dict[str, Any]:
    *lines, last = ast.parse(source).body
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(lines, []), f"cell {number}", "exec"), names)  # noqa: S102  # ours
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)  # noqa: S307  # ours
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        data = {"text/plain": repr(value)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_()
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
        outputs.append({**result, "data": data})
    return {
        "cell_type": "code",
        "execution_count": number,
        "id": f"code-{number}",
        "metadata": {},
        "outputs": outputs,
        "source": source,
    }


def text() -> str:
    """The notebook as its file has it."""
    return json.dumps(built(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    NOTEBOOK.write_text(text())
