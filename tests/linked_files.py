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
        # By the value's type, and each column's name and number.
        self._entries: dict[tuple[str | tuple[str, int | None], ...], WriteEntry] = {}

    def entry(
        self, row: tuple[int | None, ...], names: Sequence[str], value_type: str = ""
    ) -> WriteEntry:
        """A file of this row; of one number a key to delete.

        Args:
            row: Its numbers.
            names: What its columns are called, whatever the schema calls them.
            value_type: The type of the last column, if it has another than the schema says.
        """
        held = tuple(zip(names, row, strict=False))
        if (value_type, *held) not in self._entries:
            fields = [f.with_name(name) for f, (name, _) in zip(self._schema, held, strict=False)]
            if value_type:
                fields[-1] = fields[-1].with_type(pa.type_for_alias(value_type))
            schema = pa.schema(fields)
            name = "-".join([*(f"{n}{v}" for n, v in held), value_type])
            path = str(self._folder / f"{name}.parquet")
            write(pa.table([[value] for _, value in held], schema=schema), path)
            self._entries[value_type, *held] = entry_of(path, schema)
        return self._entries[value_type, *held]
