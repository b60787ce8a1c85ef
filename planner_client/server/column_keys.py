"""Which numbers stand for a column's bounds: of all files, of blocks of them, of each? Made when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from planner_client.server.bound_keys import Keys, number_keys
from planner_client.server.text_keys import is_text, shared_prefix, text_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from io_core.partition import Bounds

__all__ = ["PIECE", "ColumnKeys"]

# Bounds of a column are held in pieces of so many files; only the last one may be shorter.
PIECE = 64 * 1024
_BLOCKS, _WHOLE = -1, -2


class ColumnKeys:
    """Numbers for one column's bounds. Threads share it: what two of them make at once is equal.

    Args:
        pieces: The bounds of all files.
        blocks: The same of blocks of files.
        prefix: What all bounds begin with that are text, as far as one is known.
        made: Numbers of pieces that are known.
    """

    def __init__(
        self,
        pieces: Sequence[Bounds],
        blocks: Bounds,
        prefix: bytes | None,
        made: dict[int, Keys | None],
    ) -> None:
        self._pieces = pieces
        self._of_blocks = blocks
        self._prefix = prefix
        self._made = made

    @classmethod
    def of(cls, pieces: Sequence[Bounds], blocks: Bounds) -> ColumnKeys:
        """Numbers for these bounds."""
        return cls(pieces, blocks, shared_prefix(pieces) if is_text(blocks.low.type) else None, {})

    def extended(self, pieces: Sequence[Bounds], blocks: Bounds) -> ColumnKeys:
        """Numbers for these bounds, most of which are those that there were."""
        pairs = enumerate(zip(self._pieces, pieces, strict=False))
        same = {i for i, (old, new) in pairs if old is new}
        prefix = self._prefix
        if is_text(blocks.low.type):
            fresh = (piece for i, piece in enumerate(pieces) if i not in same)
            prefix = shared_prefix(fresh, prefix)
        kept = self._made if prefix == self._prefix else {}
        return ColumnKeys(pieces, blocks, prefix, {i: k for i, k in kept.items() if i in same})

    def piece(self, number: int) -> Keys | None:
        """Those of one piece; None where it has none."""
        return self._known(number)

    @property
    def blocks(self) -> Keys | None:
        """Those of the blocks; None where they have none."""
        return self._known(_BLOCKS)

    @property
    def known(self) -> bool:
        """Whether all bounds are known, and stand in the order of these numbers."""
        keys = self.blocks
        return keys is not None and keys.known

    @property
    def whole(self) -> Keys | None:
        """Those of all files together; None where there are none."""
        return self._known(_WHOLE)

    def take(self, rows: npt.NDArray[np.int64]) -> Keys | None:
        """Those of files of these numbers, in any order; None where one has none."""
        pieces = rows // PIECE
        if not len(rows) or bool((pieces == pieces[0]).all()):
            number = int(pieces[0]) if len(rows) else 0
            keys = self.piece(number)
            return None if keys is None else keys.take(rows - number * PIECE)
        found: list[Keys] = []
        low = high = np.zeros(0)
        for number in np.unique(pieces).tolist():
            keys = self.piece(number)
            if keys is None:
                return None
            inside = pieces == number
            part = keys.take(rows[inside] - number * PIECE)
            if not found:
                low, high = np.empty(len(rows), part.low.dtype), np.empty(len(rows), part.low.dtype)
            low[inside], high[inside] = part.low, part.high
            found.append(part)
        topped, known, decisive = (all(held) for held in zip(*(k[3:] for k in found), strict=True))
        return Keys(low, high, found[0].number, topped, known, decisive)

    def _known(self, number: int) -> Keys | None:
        if number not in self._made:
            self._made[number] = self._made_of(number)
        return self._made[number]

    def _made_of(self, number: int) -> Keys | None:
        if number == _WHOLE:
            keys = self.blocks
            if keys is None or not len(keys.low):
                return None
            low, high = keys.low.min().item(), keys.high.max().item()
            return keys._replace(low=low, high=high, known=False)
        # Blocks have the image of their files, which is not kept with them.
        image = self._pieces[0].image
        bounds = self._of_blocks if number == _BLOCKS else self._pieces[number]
        if is_text(bounds.low.type):
            return text_keys(bounds, self._prefix)
        keys = number_keys(bounds)
        return keys if keys is None or image is None else keys._replace(decisive=False)
