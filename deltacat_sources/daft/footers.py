"""Which files have a column of those that are asked for? Their footers say so.

Daft's reader (0.7.26) forgets the filter over a file that has none of the columns of the answer, and
its rows have no number then. A plan cannot tell such a file: other programs may have written it under
any of the table's schemas.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from daft.exceptions import DaftCoreException
from daft.schema import Schema

from io_core.storage import engine_location, is_s3

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from daft.io import IOConfig

__all__ = ["without_any"]

# Files never change.
_COLUMNS: dict[str, frozenset[str]] = {}
_MOST_REMEMBERED = 100_000
_REQUESTS = 16


def without_any(
    paths: Iterable[str], columns: Collection[str], io_config: IOConfig | None
) -> frozenset[str]:
    """The Parquet files that have none of the columns, or of which Daft's reader cannot say that.

    Opens each file once in a process.

    Args:
        paths: The files.
        columns: Their names.
        io_config: How Daft reaches a store.
    """
    files = list(paths)
    new = [path for path in files if path not in _COLUMNS]
    if len(_COLUMNS) + len(new) > _MOST_REMEMBERED:
        _COLUMNS.clear()
        new = files
    if new and is_s3(new[0]):
        with ThreadPoolExecutor(_REQUESTS) as pool:
            _COLUMNS.update(pool.map(lambda path: (path, _columns_of(path, io_config)), new))
    else:
        _COLUMNS.update((path, _columns_of(path, io_config)) for path in new)
    lacking = frozenset(path for path in files if _COLUMNS[path].isdisjoint(columns))
    for path in lacking:
        # Perhaps for want of a connection: asked again next time.
        del _COLUMNS[path]
    return lacking


def _columns_of(path: str, io_config: IOConfig | None) -> frozenset[str]:
    try:
        found = Schema.from_parquet(engine_location(path), io_config)
    except (DaftCoreException, FileNotFoundError):
        return frozenset()
    return frozenset(found.column_names())
