"""Where do tests get data files from that cost nothing to write? Written once, linked ever after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from io_core.formats.parquet import entry_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence
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
        self._entries: dict[tuple[tuple[str, int | None], ...], WriteEntry] = {}

    def entry(self, row: tuple[int | None, ...], names: Sequence[str]) -> WriteEntry:
        """A file of this row, whose columns may have other names; of one number a key to delete."""
        held = tuple(zip(names, row, strict=False))
        if held not in self._entries:
            schema = pa.schema(
                [f.with_name(name) for f, (name, _) in zip(self._schema, held, strict=False)]
            )
            path = str(self._folder / f"{'-'.join(f'{n}{v}' for n, v in held)}.parquet")
            write(pa.table([[value] for _, value in held], schema=schema), path)
            self._entries[held] = entry_of(path, schema)
        return self._entries[held]
