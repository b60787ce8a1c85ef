"""Where do tests get data files from that cost nothing to write? Written once, linked ever after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from io_core.formats.parquet import entry_of, write

if TYPE_CHECKING:
    from pathlib import Path

    from io_core.model import WriteEntry

__all__ = ["Pool"]


class Pool:
    """Parquet files of one row each, to be linked wherever one is staged.

    Args:
        folder: Where they are.
        schema: Of their rows, with field ids.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._entries: dict[tuple[int, ...], WriteEntry] = {}

    def entry(self, row: tuple[int, ...]) -> WriteEntry:
        """A file of this row; of one number alone it is a key to delete."""
        if row not in self._entries:
            schema = pa.schema(list(self._schema)[: len(row)])
            path = str(self._folder / f"{'-'.join(map(str, row))}.parquet")
            write(pa.table([[value] for value in row], schema=schema), path)
            self._entries[row] = entry_of(path, schema)
        return self._entries[row]
