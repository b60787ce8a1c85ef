"""How does a process of ours start Arrow without pandas, which it has no use for?"""

from __future__ import annotations

import importlib.abc
import sys

import pyarrow as pa

__all__ = ["spare_pandas"]


class _NoPandas(importlib.abc.MetaPathFinder):
    """Answers an import of pandas as if it were not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def spare_pandas() -> None:
    """Keep Arrow from importing pandas, which it does for the first array wherever pandas is.

    That would take the first commit or the first row a second or two, and the process some 60 MB
    for ever. Only for a process that is ours alone: Arrow looks once.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    pa.array([0])
    sys.meta_path.remove(finder)
