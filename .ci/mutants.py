"""Which mutants do Cosmic Ray's operators make of a source file? One JSON line each.

Runs in an environment of its own: `make mutation`. Left out are mutants that differ in annotations
alone, and of the replacements of one arithmetic operator all but one.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

_ARITHMETIC = {
    "Add": "Sub", "Sub": "Add", "Mul": "FloorDiv", "Div": "Mul", "FloorDiv": "Mul", "Mod": "Add",
    "Pow": "Mul", "BitAnd": "BitOr", "BitOr": "BitAnd", "BitXor": "BitAnd", "LShift": "RShift",
    "RShift": "LShift",
}  # fmt: skip


def is_wanted(operator: str) -> bool:
    """Whether an operator's mutants say something of their own."""
    found = re.fullmatch(r"core/ReplaceBinaryOperator_(\w+?)_(\w+)", operator)
    if found:
        return _ARITHMETIC.get(found[1]) == found[2]
    found = re.fullmatch(r"core/ReplaceComparisonOperator_(\w+?)_(\w+)", operator)
    if found:
        return ("Is" in found[1]) == ("Is" in found[2])
    if "/Variable" in operator:
        return False
    return not operator.startswith("core/ReplaceUnaryOperator") or "Delete" in operator


def meaning(code: str) -> str | None:
    """The code without what does nothing, annotations and their imports.

    None for no Python, and for texts that are compared by their order: names of a closed set have
    none that means something.
    """
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.AnnAssign():
                node.annotation = ast.Constant(None)
            case ast.Compare(
                ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()], comparators=[right]
            ) if isinstance(right, ast.Constant) and isinstance(right.value, str):
                return None
            case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
                node.test = ast.Constant(None)
    return ast.dump(tree)


def main(paths: list[str]) -> None:
    """Print the mutants of each file."""
    for path in paths:
        code = Path(path).read_text()
        seen = {None, meaning(code)}
        for name in sorted(filter(is_wanted, operator_names())):
            occurrence = 0
            while (mutant := mutate_code(code, get_operator(name)(), occurrence)) is not None:
                occurrence += 1
                if (says := meaning(mutant)) not in seen:
                    seen.add(says)
                    print(json.dumps({"path": path, "operator": name, "source": mutant}))


main(sys.argv[1:])
